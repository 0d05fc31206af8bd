//! A valid pipeline, as the rest of the program sees it: every default filled in, every name checked against every
//! other. It is also what a run records, so its JSON form is stable: a field is added, never renamed. This module must
//! never read a file or the environment, and knows nothing of YAML.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::column_type::ColumnType;

/// A validated pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The pipeline's name: its sequences and its memory of files are kept under it.
    pub name: String,
    /// Where the records come from.
    pub source: Source,
    /// Row-wise SQL over `source`, if the records are to be changed or filtered first.
    pub transform: Option<String>,
    /// Small tables that the transform joins, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
    /// What every record must meet, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// The output tables, in the order of the file.
    pub tables: Vec<Table>,
    /// Where the tables go, and how.
    pub output: Output,
    /// The state folder, as written: relative paths start at the pipeline file's folder.
    pub state: String,
    /// Where the IDs come from.
    #[serde(default, skip_serializing_if = "Ids::is_entity")]
    pub ids: Ids,
}

impl Pipeline {
    /// The name of a table's sequence in the counter that IDs come from; `None` if they come from the pipeline's own
    /// entities, or the table has none.
    pub fn sequence(&self, table: &Table) -> Option<String> {
        let id = table.id.as_ref().filter(|_| !self.ids.is_entity())?;
        Some(id.sequence.clone().unwrap_or_else(|| format!("{}.{}", self.name, table.name)))
    }
}

/// A small table that the transform joins by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// What the transform calls it.
    pub name: String,
    /// Paths, folders and globs, as written; relative ones start at the pipeline file's folder. Never empty.
    pub files: Vec<String>,
    /// The columns that tell its rows apart. Never empty.
    pub key: Vec<String>,
    /// The types of the columns of text files that are declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnType>,
}

/// Where IDs come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Which kind of counter gives them.
    pub from: IdSource,
    /// The counter's address as written, placeholders and all: what they stand for may be secret, and is looked up by
    /// who connects. Empty for the pipeline's own entities.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// How many seconds a run waits for another one that holds a sequence.
    pub wait_seconds: u32,
}

impl Ids {
    /// Whether they come from the pipeline's own entities.
    pub fn is_entity(&self) -> bool {
        self.from == IdSource::Entity
    }
}

impl Default for Ids {
    /// The pipeline's own entities; ten minutes.
    fn default() -> Self {
        Self { from: IdSource::default(), url: String::new(), wait_seconds: 600 }
    }
}

/// The kinds of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdSource {
    /// The pipeline's own durable entities.
    #[default]
    Entity,
    /// A row in Azure Table Storage.
    Table,
    /// A row in PostgreSQL.
    Postgres,
    /// An existing sequence in PostgreSQL.
    Nextval,
}

/// The source of a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Paths, folders and globs, as written; relative ones start at the pipeline file's folder. Never empty.
    pub files: Vec<String>,
    /// What happens to a file that cannot be read.
    #[serde(default, skip_serializing_if = "OnBadFile::is_fail")]
    pub on_bad_file: OnBadFile,
    /// How far files may differ in their columns.
    #[serde(default, skip_serializing_if = "SchemaMode::is_strict")]
    pub schema: SchemaMode,
    /// The columns that some files call otherwise: the name there, and the name that the pipeline uses. No new name is
    /// an old one as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// The form of all files; `None`: each has the form that its name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<SourceFormat>,
    /// How comma-separated files are written.
    #[serde(default, skip_serializing_if = "Csv::is_usual")]
    pub csv: Csv,
    /// The types of the columns of text files that are declared, by the names that the pipeline uses; within objects and
    /// lists of JSON, by paths such as `items[].price`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnType>,
    /// What the other columns of text files are.
    #[serde(default, skip_serializing_if = "Undeclared::is_inferred")]
    pub undeclared: Undeclared,
}

/// The form of source files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    /// Parquet.
    Parquet,
    /// Values with a delimiter between them, a record on each line.
    Csv,
    /// JSON objects, one on each line.
    Ndjson,
}

/// How comma-separated files are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Csv {
    /// What is between two values, in ASCII; `None`: a tab in files called `*.tsv`, else a comma.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether the first line has the names of the columns.
    pub header: bool,
    /// What is around values with delimiters or line ends in them, in ASCII; `None`: nothing is.
    pub quote: Option<char>,
    /// The text, not in quotes, that stands for no value.
    pub null: String,
}

impl Csv {
    /// Whether it is the default.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Csv {
    /// A header, double quotes, and nothing for no value.
    fn default() -> Self {
        Self { delimiter: None, header: true, quote: Some('"'), null: String::new() }
    }
}

/// The type of a text file's column that is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undeclared {
    /// The type that all its values in new files look like, as long as none is published.
    #[default]
    Infer,
    /// Text.
    String,
}

impl Undeclared {
    /// Whether it is the default.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub fn is_inferred(&self) -> bool {
        *self == Self::Infer
    }
}

/// How far the source files may differ in the columns that the pipeline uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaMode {
    /// Each file has all of them, with the same types.
    #[default]
    Strict,
    /// Each file has all of them; where types differ, all are read as the narrowest type that loses nothing.
    Widen,
    /// The same, and a column that a file lacks is null there.
    Evolve,
}

impl SchemaMode {
    /// Whether it is the default.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub fn is_strict(&self) -> bool {
        *self == Self::Strict
    }
}

/// What happens to a source file that is damaged, truncated, or no Parquet at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadFile {
    /// The run fails and names the file.
    #[default]
    Fail,
    /// The file is set aside: none of its records takes an ID, and all other files are ingested.
    Quarantine,
}

impl OnBadFile {
    /// Whether it is the default.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

/// A condition that records must meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, which reports and the quarantine give.
    pub name: String,
    /// SQL over the record's columns. A record fails if it is false; where it is unknown, because something is null, the
    /// record passes.
    #[serde(rename = "where")]
    pub condition: String,
    /// What happens to a record that fails.
    pub severity: Severity,
    /// How many of a run's records may fail; more, and the run fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Limit>,
}

/// What happens to a record that fails a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is set aside with its reason, and takes no ID.
    #[default]
    Quarantine,
    /// It is counted, and goes on as any other.
    Warn,
    /// The run fails.
    Fail,
}

/// How many records are not too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So many.
    Records(u64),
    /// A part of all records that a run looks at.
    Share {
        /// In millionths of them.
        per_million: u32,
    },
}

impl Limit {
    /// Whether so many of `records` are more.
    pub fn is_exceeded(self, failed: u64, records: u64) -> bool {
        match self {
            Self::Records(most) => failed > most,
            Self::Share { per_million } => {
                u128::from(failed) * 1_000_000 > u128::from(records) * u128::from(per_million)
            }
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(most) => write!(f, "{most}"),
            Self::Share { per_million } => {
                let (whole, rest) = (per_million / 10_000, per_million % 10_000);
                let digits = format!("{rest:04}");
                match digits.trim_end_matches('0') {
                    "" => write!(f, "{whole}%"),
                    digits => write!(f, "{whole}.{digits}%"),
                }
            }
        }
    }
}

/// One output table: one kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The table's name, also the name of its folder in the output. Letters, digits, `_`, `-`.
    pub name: String,
    /// The columns of the natural key, in order. Empty: the table has no key, and every record (or element) is a row of it.
    pub key: Vec<String>,
    /// The ID column; `None` only where `key` is empty.
    pub id: Option<Id>,
    /// The tables whose IDs this table carries, in order.
    pub references: Vec<String>,
    /// The other columns of the table, in order.
    pub columns: Vec<String>,
    /// Which attributes win where records with one key differ. Has no meaning without a key.
    pub on_conflict: OnConflict,
    /// Whether keys whose records differ are counted, where they do not end the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub count_conflicts: bool,
    /// What happens to a record whose key is null (that is: has a null in any of its columns). Has no meaning
    /// without a key.
    pub on_null_key: OnNullKey,
    /// An existing table that the first run takes keys and IDs from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
    /// The columns, of the key or others, by whose values the rows are in folders of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
    /// What becomes of a thing's attributes when a later run brings others. `None`: it keeps those of its first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// The list whose elements are the rows, as [`crate::ListPath`] reads it; `None`: the rows are records, or of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Table {
    /// Whether the table has a natural key.
    pub fn is_keyed(&self) -> bool {
        !self.key.is_empty()
    }
}

/// The ID column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    /// The name of the column.
    pub column: String,
    /// The first ID ever given. While `after` stands beside it, what holds if nothing is found there.
    pub start: i64,
    /// The distance from an ID to the next; never 0, may be negative.
    pub step: i64,
    /// The sequence in the counter that IDs come from, if it has another name than `<pipeline>.<table>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// The numbers within groups beside it, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<PerGroup>,
    /// The text beside the number, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextId>,
    /// Where the first ID is found when the first run is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

impl Id {
    /// 1, 2, 3, ... in a column of this name.
    pub fn new(column: impl Into<String>) -> Self {
        Self { column: column.into(), start: 1, step: 1, sequence: None, group: None, text: None, after: None }
    }

    /// How many columns the ID has.
    pub fn width(&self) -> usize {
        1 + usize::from(self.group.is_some()) + usize::from(self.text.is_some())
    }
}

/// Numbers within groups: 1, 2, 3, ... for things whose values in some columns are the same, in the order of their IDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerGroup {
    /// The columns, of the key or of the table's own, whose values make a group. Never empty.
    pub columns: Vec<String>,
    /// The name of the column of the numbers.
    pub number: String,
}

/// A text ID: the number as people write it; with groups, the number within its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextId {
    /// The name of the column.
    pub column: String,
    /// How the text is made, as [`crate::TextFormat`] reads it.
    pub format: String,
}

/// Files after whose largest ID a table's own begin; the smallest one, if the step is negative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// Paths, folders and globs, as written. Never empty.
    pub files: Vec<String>,
    /// The column of IDs in them.
    pub column: String,
}

/// A table that exists: its keys keep their IDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopt {
    /// Paths, folders and globs, as written. Never empty.
    pub files: Vec<String>,
    /// What the columns of the key are called there, in the order of the key.
    pub key: Vec<String>,
    /// The column of IDs in them.
    pub id: String,
    /// The first new ID, if the pipeline says it; otherwise it comes after the last one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
}

/// What becomes of the attributes of a thing when a later run brings others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Whether they are replaced, or kept as versions.
    #[serde(rename = "type")]
    pub kind: HistoryKind,
    /// The column of the records that says since when their attributes hold; `None`: since the run was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
}

impl History {
    /// The column that says since when a version holds.
    pub const VALID_FROM: &str = "valid_from";
    /// The column that says until when; null while it does.
    pub const VALID_TO: &str = "valid_to";
    /// The column that says whether a version is the last one.
    pub const IS_CURRENT: &str = "is_current";

    /// Whether versions are kept.
    pub fn keeps_versions(&self) -> bool {
        self.kind == HistoryKind::Scd2
    }
}

/// The kinds of history, by the names that slowly changing dimensions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// The new attributes take the place of the old ones.
    Scd1,
    /// The row with the old attributes is closed, and a row with the new ones follows it.
    Scd2,
}

/// Which attributes a thing gets if its records differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Those of the first record.
    #[default]
    First,
    /// Those of the last record of the run in which the thing appears first; with a history, of each run.
    Last,
    /// The run fails and names the key and both records.
    Error,
}

/// What happens to a record without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNullKey {
    /// It makes no row in this table, and refers to none: its reference is null.
    #[default]
    Null,
    /// The whole record goes to quarantine and takes no ID anywhere.
    Quarantine,
    /// The run fails and names the record.
    Error,
}

/// Where the tables go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The output folder, as written; a relative path starts at the pipeline file's folder.
    pub path: String,
    /// The file format.
    pub format: Format,
    /// How pages are compressed.
    pub compression: Compression,
    /// Whether columns that could be copied from the source as they are, with the source's compression, are compressed
    /// anew all the same.
    #[serde(default)]
    pub recompress: bool,
    /// How many bytes a file should have, about; `None`: files are cut by rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_file_size: Option<u64>,
}

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Parquet files and a manifest.
    #[default]
    Parquet,
    /// The same, and each table's folder is a Delta Lake table.
    Delta,
}

/// The compression of Parquet pages, with the level where the codec has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Uncompressed.
    None,
    /// Snappy.
    Snappy,
    /// LZ4, raw blocks.
    Lz4,
    /// Gzip, level 0 to 9.
    Gzip(u32),
    /// Brotli, level 0 to 11.
    Brotli(u32),
    /// Zstandard, level 1 to 22.
    Zstd(i32),
}

impl Default for Compression {
    /// `zstd(1)`: on such data nearly as fast as snappy, and a third smaller.
    fn default() -> Self {
        Self::Zstd(1)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Snappy => f.write_str("snappy"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Gzip(level) => write!(f, "gzip({level})"),
            Self::Brotli(level) => write!(f, "brotli({level})"),
            Self::Zstd(level) => write!(f, "zstd({level})"),
        }
    }
}
