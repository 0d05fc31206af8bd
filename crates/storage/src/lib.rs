//! Files and objects at one place, whichever kind of place it is: a local folder, Azure Blob Storage and ADLS
//! (`az://`, `abfss://`, `https://ACCOUNT.blob.core.windows.net/`), S3 (`s3://`), Google Cloud Storage (`gs://`).
//!
//! A [`Location`] is such a place. All calls block; those to a service run on two threads of this crate's own, which
//! start with the first one: who uses local places only has none. Requests are repeated with growing pauses while the
//! service is away, for [`Environment::timeout`] in all. Credentials come from the variables that each cloud's own
//! tools read, see [`Environment`].
//!
//! This crate must never show a credential: not in errors, `Debug`, `Display` or logs; and it must never give bytes
//! of an object that is not the one that was asked for.

mod clouds;
mod environment;
mod error;
mod local;
mod location;
mod place;
mod ranges;
mod remote;
mod runtime;
mod upload;

pub use environment::Environment;
pub use error::{Error, ErrorKind, Result};
pub use location::{Created, Entry, Location, Replaced, Traffic, Version};
