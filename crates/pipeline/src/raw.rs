//! A pipeline file as it is written: the shape of the tree is right, and nothing else is settled. The JSON Schema is
//! made from these types, so their descriptions are what an editor shows. This module must never check what one
//! setting means for another.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::error::Span;
use crate::schema;

/// A text and its place.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) value: String,
    /// The value as messages may show it: what stands in the file, where the value came from the environment.
    pub(crate) shown: String,
    pub(crate) span: Span,
}

/// An address, which may have something secret in it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// As it is written, placeholders and all.
    pub(crate) written: Text,
    /// With what they stand for.
    pub(crate) expanded: String,
}

/// A whole number and its place.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    pub(crate) value: i64,
    pub(crate) span: Span,
}

/// One text, or a list of them, and its place.
#[derive(Debug, Clone)]
pub(crate) struct TextList {
    pub(crate) items: Vec<Text>,
    pub(crate) span: Span,
}

/// The value of a key. What is broken was complained about already, and must not be taken for absent.
#[derive(Debug, Clone, Default)]
pub(crate) enum Field<T> {
    #[default]
    Absent,
    Broken,
    Given(T),
}

impl<T> Field<T> {
    pub(crate) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Broken => None,
        }
    }
}

impl<T> From<Option<T>> for Field<T> {
    /// `None` is broken: whoever reads a value that is there has complained if nothing came out.
    fn from(read: Option<T>) -> Self {
        read.map_or(Self::Broken, Self::Given)
    }
}

/// The schema of a field is that of its value.
impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A Seriatim pipeline: which records to read, which tables of distinct things to make of them, and where to put the
/// tables. Any value may use `${NAME}` or `${NAME:-default}` to read the environment; `$${` stands for a literal `${`.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Pipeline", deny_unknown_fields)]
#[schemars(extend("required" = ["version", "name", "source", "tables", "output"]))]
pub(crate) struct RawPipeline {
    /// The version of the pipeline language: 1.
    #[schemars(schema_with = "schema::version")]
    pub(crate) version: Field<Number>,
    /// The pipeline's name. Its sequences and its memory of ingested files are kept under it, so a new name starts
    /// anew.
    #[schemars(schema_with = "schema::name")]
    pub(crate) name: Field<Text>,
    /// Where the records come from.
    pub(crate) source: Field<RawSource>,
    /// Row-wise SQL over the table `source`, to change or filter the records first.
    #[schemars(schema_with = "schema::text")]
    pub(crate) transform: Field<Text>,
    /// Small tables that `transform` joins by their keys, each with the name that the SQL calls it by.
    #[schemars(schema_with = "schema::lookups")]
    pub(crate) lookups: Field<Vec<(Text, RawLookup)>>,
    /// What every record must meet.
    pub(crate) checks: Field<Vec<RawCheck>>,
    /// The output tables: one for each kind of thing.
    #[schemars(schema_with = "schema::tables")]
    pub(crate) tables: Field<Vec<(Text, RawTable)>>,
    /// Where the tables go.
    pub(crate) output: Field<RawOutput>,
    /// The folder for what is remembered from run to run. A relative path starts at the pipeline file's folder.
    #[schemars(schema_with = "schema::text", extend("default" = ".seriatim"))]
    pub(crate) state: Field<Text>,
    /// Where the IDs come from: the pipeline's own counters, which is the default, or one that others use as well.
    pub(crate) ids: Field<RawIds>,
}

/// Where the records come from.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Source", deny_unknown_fields)]
#[schemars(extend("required" = ["files"]))]
pub(crate) struct RawSource {
    /// Files of records: a path, a folder, a glob (also with `{a,b}`), or a list of them. Relative paths start at the pipeline file's folder.
    #[schemars(schema_with = "schema::texts")]
    pub(crate) files: Field<TextList>,
    /// What happens to a file that is damaged, truncated, or no Parquet at all: the run fails, or the file is set aside,
    /// and all others are ingested.
    #[schemars(schema_with = "schema::on_bad_file", extend("default" = "fail"))]
    pub(crate) on_bad_file: Field<Text>,
    /// How far files may differ in the columns that the pipeline uses: `strict`, `widen` or `evolve`.
    pub(crate) schema: Field<RawSchema>,
    /// Columns that some files call otherwise: the name there, and the name that the pipeline uses. A file that has the
    /// old name and not the new one is read as if it had the new one.
    #[schemars(schema_with = "schema::renames")]
    pub(crate) rename: Field<Vec<(Text, Text)>>,
    /// The form of the files: `parquet`, `csv`, or `ndjson` (a JSON object on each line). Without it, names decide:
    /// `*.csv` and `*.tsv`, `*.ndjson` and `*.jsonl`, each also with `.gz` or `.zst` after it; all others are Parquet.
    #[schemars(schema_with = "schema::source_format")]
    pub(crate) format: Field<Text>,
    /// How comma-separated files are written.
    pub(crate) csv: Field<RawCsv>,
    /// The types of columns of text files, by the names that the pipeline uses: `string`, `int8` to `int64`, `uint8` to
    /// `uint64`, `float32`, `float64`, `decimal(DIGITS,AFTER_POINT)`, `boolean`, `date`, `time`, `timestamp`,
    /// `timestamptz`; timestamps also with `(ms)`, `(us)` or `(ns)`, of which `(us)` is the default. In JSON, paths say what
    /// is meant within objects and lists: `page.path`, `items[].price`, `tags[]`.
    #[schemars(schema_with = "schema::column_types")]
    pub(crate) columns: Field<Vec<(Text, Text)>>,
    /// The type of a text file's column that is neither declared nor published: `infer`, the one that all its values in
    /// the new files look like, or `string`.
    #[schemars(schema_with = "schema::undeclared", extend("default" = "infer"))]
    pub(crate) undeclared: Field<Text>,
}

/// How comma-separated files are written.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Csv", deny_unknown_fields)]
#[schemars(extend("required" = []))]
pub(crate) struct RawCsv {
    /// The character between two values. Without it: a tab in files called `*.tsv`, else a comma.
    #[schemars(schema_with = "schema::character")]
    pub(crate) delimiter: Field<Text>,
    /// Whether the first line has the names of the columns. Without one they are called `column_1`, `column_2`, ...
    #[schemars(schema_with = "schema::truth_value", extend("default" = true))]
    pub(crate) header: Field<bool>,
    /// The character around values that have delimiters or line ends in them; two of it stand for one within. Nothing:
    /// there are no such values.
    #[schemars(schema_with = "schema::maybe_character", extend("default" = "\""))]
    pub(crate) quote: Field<Text>,
    /// The text that stands for no value; in quotes it is a value. Without it: nothing at all.
    #[schemars(schema_with = "schema::any_text")]
    pub(crate) null: Field<Text>,
}

/// How far files may differ, in its long form. The short form is the mode alone.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "SourceSchema", deny_unknown_fields, transform = schema::or_mode)]
#[schemars(extend("required" = ["mode"]))]
pub(crate) struct RawSchema {
    /// `strict`: each file has all columns that the pipeline uses, with the same types. `widen`: where types differ, all
    /// are read as the narrowest type that loses nothing (int32 and int64 as int64). `evolve`: the same, and a column
    /// that a file lacks is null there.
    #[schemars(schema_with = "schema::schema_mode", extend("default" = "strict"))]
    pub(crate) mode: Field<Text>,
}

/// A small table that `transform` joins: `LEFT JOIN countries AS c ON source.country = c.code`. Each process reads it once for a
/// run and keeps it in memory, 64 MiB at most.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Lookup", deny_unknown_fields)]
#[schemars(extend("required" = ["files", "key"]))]
pub(crate) struct RawLookup {
    /// Its files: Parquet, or by their names CSV (`*.csv`, `*.tsv`) and JSON on lines (`*.ndjson`, `*.jsonl`). A path, a
    /// folder, a glob, or a list of them. Relative paths start at the pipeline file's folder.
    #[schemars(schema_with = "schema::texts")]
    pub(crate) files: Field<TextList>,
    /// The column, or the columns, whose values tell its rows apart. None may be null, and none there twice.
    #[schemars(schema_with = "schema::names")]
    pub(crate) key: Field<TextList>,
    /// The types of columns of text files, as in `source.columns`. Others have the type that all their values look like.
    #[schemars(schema_with = "schema::column_types")]
    pub(crate) columns: Field<Vec<(Text, Text)>>,
}

/// A condition that every record must meet, after `transform` and before anything is numbered.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Check", deny_unknown_fields)]
#[schemars(extend("required" = ["name", "where"]))]
pub(crate) struct RawCheck {
    /// The check's name, which reports and the quarantine give.
    #[schemars(schema_with = "schema::name")]
    pub(crate) name: Field<Text>,
    /// SQL over the record's columns, as in a `WHERE`. A record fails if it is false. Where it is unknown, because something
    /// is null, the record passes, as in SQL's own `CHECK`.
    #[schemars(rename = "where", schema_with = "schema::text")]
    pub(crate) condition: Field<Text>,
    /// What happens to a record that fails: it goes to quarantine and takes no ID, or it is only counted, or the run fails.
    #[schemars(schema_with = "schema::severity", extend("default" = "quarantine"))]
    pub(crate) severity: Field<Text>,
    /// How many records of a run may fail: a number, or a percentage such as `0.5%`. With more the run fails, and nothing
    /// of it is published.
    #[schemars(schema_with = "schema::limit")]
    pub(crate) at_most: Field<Text>,
}

/// An output table: one kind of thing. Its columns are its ID, its key, its references and its columns, in this order.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Table", deny_unknown_fields)]
#[schemars(extend(
    "required" = [],
    "minProperties" = 1,
    "dependentRequired" = {"key": ["id"], "on_conflict": ["key"], "count_conflicts": ["key"], "on_null_key": ["key"], "adopt": ["key"], "history": ["key"]},
))]
pub(crate) struct RawTable {
    /// The list whose elements are the rows, instead of the records: `items[]`; `order.items[]` in a struct;
    /// `orders[].items[]` in the elements of another list. Columns are looked for in the element first, then in what it
    /// is in, and in the record. A plain value's column has the list's name.
    #[schemars(schema_with = "schema::list_path")]
    pub(crate) from: Field<Text>,
    /// The natural key: the column, or the columns, whose values tell one thing from another. Without a key every
    /// record is a row. A field of a struct is written as `customer.email`, and the table's column is called `email`.
    #[schemars(schema_with = "schema::names")]
    pub(crate) key: Field<TextList>,
    /// The column of the sequential ID. A table with a key needs one.
    pub(crate) id: Field<RawId>,
    /// The tables that a row refers to: their ID columns are added to this table. They must have a key.
    #[schemars(schema_with = "schema::maybe_names")]
    pub(crate) references: Field<TextList>,
    /// The other columns. A field of a struct is written as in `key`.
    #[schemars(schema_with = "schema::maybe_names")]
    pub(crate) columns: Field<TextList>,
    /// Whose columns a thing gets if its records differ: those of its first record, of its last record in the run in
    /// which it is new, or none, and the run fails. With `history`, it is the records of each run that are compared, and
    /// `last` is the default.
    #[schemars(schema_with = "schema::on_conflict", extend("default" = "first"))]
    pub(crate) on_conflict: Field<Text>,
    /// Whether reports say how many keys have records that differ in columns, or in the keys of what they refer to: from
    /// other records of the run, or, without `history`, from what was published of the key. It costs time: what is
    /// counted is read of every record. With `on_conflict: error` there is nothing to count.
    #[schemars(schema_with = "schema::truth_value", extend("default" = false))]
    pub(crate) count_conflicts: Field<bool>,
    /// What happens to a record whose key is null: it makes no row here and its reference is null, or the record goes
    /// to quarantine, or the run fails.
    #[schemars(schema_with = "schema::on_null_key", extend("default" = "null"))]
    pub(crate) on_null_key: Field<Text>,
    /// Columns of the table, of its key or others, by whose values its rows are in folders of their own, as Hive has
    /// them: `country=DE/part-....parquet`. The files do not hold these columns. Texts, whole numbers, dates and truth
    /// values; at most 10,000 partitions in a run.
    #[schemars(schema_with = "schema::maybe_names")]
    pub(crate) partition_by: Field<TextList>,
    /// An existing table, whose keys keep the IDs that they have there: the first run reads it, and only new keys get new
    /// IDs and rows. Files alone, if its columns have this table's names.
    pub(crate) adopt: Field<RawAdopt>,
    /// What happens when a later run brings other columns or references of a known key. Without it a thing keeps those of
    /// its first run. `scd1`: the new ones take the place of the old ones. `scd2`: the old row is closed, and a row with
    /// the new ones follows it, under the same ID.
    pub(crate) history: Field<RawHistory>,
}

/// The history of a table, in its long form. The short form is its type alone.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "History", deny_unknown_fields, transform = schema::or_history)]
#[schemars(extend("required" = ["type"]))]
pub(crate) struct RawHistory {
    /// `scd1`: a known key's row gets the new columns and references. `scd2`: each of them makes a version, a row of its own;
    /// the columns `valid_from`, `valid_to` (null for the last version) and `is_current` tell versions apart.
    #[schemars(rename = "type", schema_with = "schema::history")]
    pub(crate) kind: Field<Text>,
    /// With scd2: the column of the records that says since when a version holds, which later versions must be after.
    /// Without it, a version holds since the run was accepted, a timestamp in UTC.
    #[schemars(schema_with = "schema::text")]
    pub(crate) valid_from: Field<Text>,
    #[schemars(skip)]
    pub(crate) span: Span,
}

/// An existing table that keys and IDs are taken from, in its long form. The short form is its files alone.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Adopt", deny_unknown_fields, transform = schema::or_files)]
#[schemars(extend("required" = ["files"]))]
pub(crate) struct RawAdopt {
    /// Parquet files: a path, a folder, a glob, or a list of them.
    #[schemars(schema_with = "schema::texts")]
    pub(crate) files: Field<TextList>,
    /// What columns of the key are called there, where they have other names.
    #[schemars(schema_with = "schema::renamed")]
    pub(crate) key: Field<Vec<(Text, Text)>>,
    /// What the ID column is called there, if it has another name.
    #[schemars(schema_with = "schema::text")]
    pub(crate) id: Field<Text>,
    #[schemars(skip)]
    pub(crate) span: Span,
}

/// The ID column of a table, in its long form. The short form is the column's name alone.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Id", deny_unknown_fields, transform = schema::or_column_name)]
#[schemars(extend("required" = ["column"]))]
pub(crate) struct RawId {
    /// The name of the column.
    #[schemars(schema_with = "schema::text")]
    pub(crate) column: Field<Text>,
    /// The first ID, or `{after: FILES}`: the one after the largest ID in files that exist. The first run looks there, and
    /// what it finds holds for ever.
    #[schemars(schema_with = "schema::start", extend("default" = 1))]
    pub(crate) start: Field<RawStart>,
    /// The distance from an ID to the next. It may be negative, and cannot be 0.
    #[schemars(schema_with = "schema::step", extend("default" = 1))]
    pub(crate) step: Field<Number>,
    /// The sequence in the counter that IDs come from, if it has another name than `<pipeline>.<table>`: to share it, or
    /// because it exists. It needs `ids.from`.
    #[schemars(schema_with = "schema::sequence")]
    pub(crate) sequence: Field<Text>,
    /// Columns of the key or of `columns` whose values make a group: beside the ID, which stays unique over all, each row
    /// gets a number that counts 1, 2, 3, ... within its group. Nulls make a group like any other value.
    #[schemars(schema_with = "schema::names")]
    pub(crate) per: Field<TextList>,
    /// The name of the column of numbers within groups. It needs `per`, and is `<column>_in_group` if it is left out.
    #[schemars(schema_with = "schema::text")]
    pub(crate) number: Field<Text>,
    /// A text beside the number, in a column right after it: `ORD-{:06}` is the number with zeros up to six digits, `{}`
    /// the number alone (with `per`, the one within the group), `{country}` what the row has in a column of the key or of `columns`; `{{` and `}}` are braces.
    #[schemars(schema_with = "schema::text")]
    pub(crate) format: Field<Text>,
    /// The name of the text's column. It needs `format`, and is `<column>_text` if it is left out.
    #[schemars(schema_with = "schema::text")]
    pub(crate) text: Field<Text>,
}

/// Where a table's IDs begin.
#[derive(Debug)]
pub(crate) enum RawStart {
    Number(Number),
    After(RawAfter),
}

/// Begins after the largest ID in files that exist; after the smallest, if `step` is negative.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "After", deny_unknown_fields)]
#[schemars(extend("required" = ["after"]))]
pub(crate) struct RawAfter {
    /// Parquet files: a path, a folder, a glob, or a list of them.
    #[schemars(schema_with = "schema::texts")]
    pub(crate) after: Field<TextList>,
    /// The column of IDs in them, if it has another name than this table's.
    #[schemars(schema_with = "schema::text")]
    pub(crate) column: Field<Text>,
    #[schemars(skip)]
    pub(crate) span: Span,
}

/// Where the IDs come from.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Ids", deny_unknown_fields)]
#[schemars(extend("required" = ["from"]))]
pub(crate) struct RawIds {
    /// `entity`: the pipeline's own durable counters. `table`: rows in Azure Table Storage. `postgres`: rows in a
    /// PostgreSQL database, which an application can take IDs from as well. `nextval`: existing PostgreSQL sequences;
    /// the IDs of a run that fails are gaps in them.
    #[schemars(schema_with = "schema::id_source", extend("default" = "entity"))]
    pub(crate) from: Field<Text>,
    /// The counter's address: `https://ACCOUNT.table.core.windows.net/TABLE`, or `postgresql://USER@HOST/DATABASE`.
    /// Passwords and signatures come from the environment: `${NAME}`.
    #[schemars(schema_with = "schema::text")]
    pub(crate) url: Field<Address>,
    /// How many seconds a run waits for another one that holds a sequence.
    #[schemars(schema_with = "schema::wait_seconds", extend("default" = 600))]
    pub(crate) wait_seconds: Field<Number>,
}

/// Where the tables go, and how.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename = "Output", deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(crate) struct RawOutput {
    /// The output folder: each table is a folder in it. A relative path starts at the pipeline file's folder; object
    /// storage is an address such as `az://container/folder`.
    #[schemars(schema_with = "schema::text")]
    pub(crate) path: Field<Text>,
    /// The file format: Parquet files alone, or as tables of Delta Lake.
    #[schemars(schema_with = "schema::format", extend("default" = "parquet"))]
    pub(crate) format: Field<Text>,
    /// How pages are compressed: `none`, `snappy`, `lz4`, `gzip(0)` to `gzip(9)`, `brotli(0)` to `brotli(11)`,
    /// `zstd(1)` to `zstd(22)`.
    #[schemars(schema_with = "schema::compression", extend("default" = "zstd(1)"))]
    pub(crate) compression: Field<Text>,
    /// Whether columns that could be copied from the source as they are, with the source's compression, are compressed
    /// anew all the same.
    #[schemars(schema_with = "schema::truth_value", extend("default" = false))]
    pub(crate) recompress: Field<bool>,
    /// How large a file should be, about: `128 MiB`, `1GB`, or a number of bytes, at least 1 MiB. Rows are counted by
    /// what their columns take in the source. Without it a file has 262,144 rows, about.
    #[schemars(schema_with = "schema::size")]
    pub(crate) target_file_size: Field<Text>,
}

impl RawPipeline {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] =
        &["version", "name", "source", "transform", "lookups", "checks", "tables", "output", "state", "ids"];
}

impl RawSource {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] =
        &["files", "on_bad_file", "schema", "rename", "format", "csv", "columns", "undeclared"];
}

impl RawCsv {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["delimiter", "header", "quote", "null"];
}

impl RawSchema {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["mode"];
}

impl RawLookup {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["files", "key", "columns"];
}

impl RawCheck {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["name", "where", "severity", "at_most"];
}

impl RawTable {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &[
        "key",
        "id",
        "references",
        "columns",
        "on_conflict",
        "count_conflicts",
        "on_null_key",
        "adopt",
        "partition_by",
        "history",
        "from",
    ];
}

impl RawHistory {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["type", "valid_from"];
}

impl RawId {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["column", "start", "step", "sequence", "per", "number", "format", "text"];
}

impl RawAdopt {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["files", "key", "id"];
}

impl RawAfter {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["after", "column"];
}

impl RawIds {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["from", "url", "wait_seconds"];
}

impl RawOutput {
    /// The keys of this level, as they are written.
    pub(crate) const KEYS: &[&str] = &["path", "format", "compression", "recompress", "target_file_size"];
}
