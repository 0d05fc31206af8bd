//! Parquet below the level of values: column chunks as pages, dictionaries as they are stored, chunks copied without
//! being decoded. The fast way through a column is here; whatever this module does not support is said to be so, and
//! the caller takes the general way, through Arrow. It knows files and columns; it must never know a table or a key.
//!
//! The format is that of <https://github.com/apache/parquet-format>: `parquet.thrift`, `Encodings.md`.

mod attributes;
mod builder;
mod chunk;
mod codec;
mod copy;
mod delta;
mod gather;
mod guard;
mod header;
mod hybrid;
mod ids;
mod order;
mod picked;
mod strings;
mod thrift;
mod values;
mod walk;
mod whole;

pub(crate) use attributes::encoded_values;
pub(crate) use builder::Finished;
pub(crate) use chunk::{ColumnBytes, DecodedPage, Fault, Next, Pages, Presence};
pub(crate) use copy::{copied, exchanged, is_copyable};
pub(crate) use gather::{gather, gather_indices};
pub(crate) use guard::guarded;
pub(crate) use ids::{IdValues, encoded_ids};
pub(crate) use picked::Picked;
pub(crate) use strings::Strings;
pub(crate) use thrift::{BINARY, BYTE, Compact, DOUBLE, FALSE, I32, I64, LIST, STRUCT, Seen, TRUE};
pub(crate) use values::{Values, is_supported};
pub(crate) use walk::most_uncompressed;
pub(crate) use whole::check_whole;
