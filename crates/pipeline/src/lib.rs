//! The pipeline file of Seriatim: reading, checking, and its JSON Schema.
//!
//! A pipeline file goes through four steps, each in a module of its own: [`load()`] reads the text, `yaml` makes a tree
//! that knows where everything stands, `decode` gives the tree its shape (with `overrides` and `env` applied), and
//! `validate` checks every name against every other and fills in the defaults. What comes out is a
//! [`model::Pipeline`]; what goes wrong comes out as [`PipelineErrors`], all of it at once.
//!
//! This crate must never look at the data: whether a column exists is for those to say who have opened the files.

mod checks;
mod column_type;
mod columns;
mod compression;
mod decode;
mod env;
mod error;
mod existing;
mod groups;
mod history;
mod lists;
mod load;
mod lookups;
pub mod model;
mod nearest;
mod overrides;
mod raw;
mod references;
mod schema;
mod secrets;
mod sequences;
mod sizes;
mod tables;
mod text_format;
mod text_ids;
mod validate;
mod yaml;

pub use column_type::{ColumnType, NoType, Precision};
pub use columns::OutputColumn;
pub use env::fill_in;
pub use error::{PipelineErrors, Problem};
pub use lists::ListPath;
pub use load::{Loaded, MAX_FILE_BYTES, load, parse};
pub use nearest::nearest;
pub use overrides::Overrides;
pub use schema::json_schema;
pub use sizes::parse_size;
pub use text_format::{FormatError, Piece, TextFormat};
