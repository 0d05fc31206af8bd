//! The source: which files there are, what their footers say, and the records of a chunk. Must never write, and never
//! take a file for the one that was planned without having looked.

mod braces;
mod budget;
mod column;
mod coverage;
mod footer;
mod groups;
mod list;
mod mirror;
mod nested;
mod object;
mod path;
mod read;
mod shape;
mod types;
mod view;

pub(crate) use column::{SourceColumn, byte_ranges};
pub(crate) use footer::{
    FileFacts, bad_file, changed, content_hash, file_facts, hash_of, open_planned, read_footer, stamp,
};
pub(crate) use list::{Found, Listing, list};
pub(crate) use mirror::{Mirrors, Opened};
pub(crate) use nested::{is_alike, is_same, lacks, text_of, type_of};
pub(crate) use object::Object;
pub(crate) use path::{FieldPath, NoPath, within};
pub(crate) use read::{Records, contain, damaged, read_chunk};
pub(crate) use types::common;
pub(crate) use view::{FileColumn, name_in_source};

use serde::{Deserialize, Serialize};

use crate::error::BadFile;

/// A source file as it was when it was planned. `name` is how the pipeline reaches it, and its identity in later runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceFile {
    /// Relative to the pipeline's folder where the pipeline's own path is; of an object, its URL.
    pub(crate) name: String,
    /// Size in bytes.
    pub(crate) bytes: u64,
    /// Time of the last change, nanoseconds since 1970: a file with the same size and time is taken for the same.
    /// 0 for an object.
    pub(crate) modified: i128,
    /// XXH3, 128 bits, of the whole content, in hexadecimal: decides where the time alone has changed.
    /// Of an object its e-tag, which decides alone: to hash it, all of it would have to be read.
    pub(crate) hash: String,
    /// Records, by its footer; 0 if that cannot be read.
    pub(crate) rows: u64,
    /// Why it is set aside, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bad: Option<BadFile>,
}

impl SourceFile {
    /// Whether both are the same content under one name, as far as is known without reading it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_hash = self.hash == other.hash && !self.hash.is_empty();
        self.name == other.name && self.bytes == other.bytes && (same_hash || self.modified == other.modified)
    }

    /// Whether it is an object of a storage service.
    pub(crate) fn is_object(&self) -> bool {
        seriatim_storage::Location::is_url(&self.name)
    }
}
