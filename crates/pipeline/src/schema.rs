//! The JSON Schema of the pipeline file, for editors: they complete keys, show what they are for, and underline most
//! mistakes while they are made. It must never refuse what the parser accepts; what a schema cannot say (a reference to
//! a table that is not there), it leaves to the parser.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::column_type;
use crate::compression;
use crate::raw::{RawAfter, RawLookup, RawPipeline, RawTable};
use crate::sizes;

/// The names that pipelines and tables may have, as a regular expression.
pub(crate) const NAME_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$";

/// The values of `on_conflict`, the default first.
pub(crate) const ON_CONFLICT: &[&str] = &["first", "last", "error"];

/// The values of `history`.
pub(crate) const HISTORY: &[&str] = &["scd1", "scd2"];

/// The values of `on_null_key`, the default first.
pub(crate) const ON_NULL_KEY: &[&str] = &["null", "quarantine", "error"];

/// The values of `source.on_bad_file`, the default first.
pub(crate) const ON_BAD_FILE: &[&str] = &["fail", "quarantine"];

/// The values of `severity` of a check, the default first.
pub(crate) const SEVERITIES: &[&str] = &["quarantine", "warn", "fail"];

/// The values of `source.schema`, the default first.
pub(crate) const SCHEMA_MODES: &[&str] = &["strict", "widen", "evolve"];

/// The values of `source.format`.
pub(crate) const SOURCE_FORMATS: &[&str] = &["parquet", "csv", "ndjson"];

/// The values of `source.undeclared`, the default first.
pub(crate) const UNDECLARED: &[&str] = &["infer", "string"];

/// The values of `output.format`, the default first.
pub(crate) const FORMATS: &[&str] = &["parquet", "delta"];

/// The values of `ids.from`, the default first.
pub(crate) const ID_SOURCES: &[&str] = &["entity", "table", "postgres", "nextval"];

/// The names that sequences may have, as a regular expression.
pub(crate) const SEQUENCE_PATTERN: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$";

/// The JSON Schema (draft 2020-12) of the pipeline file.
pub fn json_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<RawPipeline>();
    schema.insert("title".to_owned(), json!("Seriatim pipeline"));
    RecursiveTransform(unwrap_description).transform(&mut schema);
    schema.to_value()
}

/// Joins the lines of a description: they end where the source code's lines end, which means nothing to its reader.
fn unwrap_description(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}

/// A text that the environment may decide: no rule applies to it before it is filled in.
fn placeholder() -> Value {
    json!({"type": "string", "pattern": r"\$\{"})
}

/// `schema`, or a text with a placeholder.
fn or_placeholder(schema: &Value) -> Schema {
    json_schema!({"anyOf": [schema, placeholder()]})
}

pub(crate) fn version(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"const": 1}))
}

pub(crate) fn name(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "string", "pattern": NAME_PATTERN}))
}

pub(crate) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": r"\S"})
}

/// The first ID, or files after whose IDs it comes.
pub(crate) fn start(generator: &mut SchemaGenerator) -> Schema {
    let integer = json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX});
    json_schema!({"anyOf": [integer, placeholder(), generator.subschema_for::<RawAfter>()]})
}

/// Names, each with another one.
pub(crate) fn renamed(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": "string", "pattern": r"\S"},
    })
}

pub(crate) fn step(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX, "not": {"const": 0}}))
}

/// The way to a list.
pub(crate) fn list_path(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "string", "pattern": r"\[\]\s*$"}))
}

/// One text or several; the same twice is of no consequence.
pub(crate) fn texts(_: &mut SchemaGenerator) -> Schema {
    text_list(1, false)
}

/// One name or several.
pub(crate) fn names(_: &mut SchemaGenerator) -> Schema {
    text_list(1, true)
}

/// One name, several, or an empty list.
pub(crate) fn maybe_names(_: &mut SchemaGenerator) -> Schema {
    text_list(0, true)
}

fn text_list(least: usize, unique: bool) -> Schema {
    let text = json!({"type": "string", "pattern": r"\S"});
    let list = json!({"type": "array", "items": text, "minItems": least, "uniqueItems": unique});
    json_schema!({"anyOf": [text, list]})
}

pub(crate) fn tables(generator: &mut SchemaGenerator) -> Schema {
    let table = generator.subschema_for::<RawTable>();
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": table,
    })
}

pub(crate) fn lookups(generator: &mut SchemaGenerator) -> Schema {
    let lookup = generator.subschema_for::<RawLookup>();
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": lookup,
    })
}

pub(crate) fn id_source(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": ID_SOURCES}))
}

pub(crate) fn wait_seconds(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}))
}

pub(crate) fn sequence(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "string", "pattern": SEQUENCE_PATTERN}))
}

pub(crate) fn on_conflict(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": ON_CONFLICT}))
}

pub(crate) fn history(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": HISTORY}))
}

pub(crate) fn on_bad_file(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": ON_BAD_FILE}))
}

pub(crate) fn schema_mode(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": SCHEMA_MODES}))
}

pub(crate) fn source_format(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": SOURCE_FORMATS}))
}

pub(crate) fn undeclared(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": UNDECLARED}))
}

/// A text that may be blank.
pub(crate) fn any_text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

pub(crate) fn character(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "string", "pattern": r"^[ -~\t]$"}))
}

pub(crate) fn maybe_character(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "string", "pattern": r"^[ -~\t]?$"}))
}

/// A map of types of columns.
pub(crate) fn column_types(_: &mut SchemaGenerator) -> Schema {
    let kind = or_placeholder(&json!({"type": "string", "pattern": column_type::PATTERN}));
    json_schema!({"type": "object", "additionalProperties": kind})
}

/// A map of texts.
pub(crate) fn renames(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"type": "string", "pattern": r"\S"}})
}

pub(crate) fn on_null_key(_: &mut SchemaGenerator) -> Schema {
    // Without quotes, `null` is YAML's null and not a text; it means the same.
    let values: Vec<Value> = ON_NULL_KEY.iter().map(|value| json!(value)).chain([Value::Null]).collect();
    or_placeholder(&json!({"enum": values}))
}

pub(crate) fn severity(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": SEVERITIES}))
}

/// A number of records, or a percentage.
pub(crate) fn limit(_: &mut SchemaGenerator) -> Schema {
    let percentage = json!({"type": "string", "pattern": r"^\s*[0-9]{1,3}(\.[0-9]{1,4})?\s*%\s*$|^\s*[0-9]+\s*$"});
    json_schema!({"anyOf": [{"type": "integer", "minimum": 0}, percentage, placeholder()]})
}

pub(crate) fn format(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"enum": FORMATS}))
}

pub(crate) fn compression(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "string", "pattern": compression::PATTERN}))
}

pub(crate) fn size(_: &mut SchemaGenerator) -> Schema {
    let pattern = sizes::PATTERN;
    let least = sizes::LEAST_FILE;
    or_placeholder(&json!({"anyOf": [{"type": "string", "pattern": pattern}, {"type": "integer", "minimum": least}]}))
}

pub(crate) fn truth_value(_: &mut SchemaGenerator) -> Schema {
    or_placeholder(&json!({"type": "boolean"}))
}

/// Makes the schema of an object into that of an object or a column's name.
pub(crate) fn or_column_name(schema: &mut Schema) {
    or_short(schema, vec![json!({"type": "string", "pattern": r"\S"})]);
}

/// Makes the schema of an object into that of an object or files.
pub(crate) fn or_files(schema: &mut Schema) {
    let text = json!({"type": "string", "pattern": r"\S"});
    or_short(schema, vec![text.clone(), json!({"type": "array", "items": text, "minItems": 1})]);
}

/// Makes the schema of an object into that of an object or a mode.
pub(crate) fn or_mode(schema: &mut Schema) {
    or_short(schema, vec![json!({"anyOf": [{"enum": SCHEMA_MODES}, placeholder()]})]);
}

/// Makes the schema of an object into that of an object or a type of history.
pub(crate) fn or_history(schema: &mut Schema) {
    or_short(schema, vec![json!({"anyOf": [{"enum": HISTORY}, placeholder()]})]);
}

/// Adds short forms to the schema of an object.
fn or_short(schema: &mut Schema, mut short: Vec<Value>) {
    let mut object = std::mem::take(schema);
    let description = object.remove("description");
    short.push(object.to_value());
    *schema = json_schema!({"anyOf": short});
    if let Some(description) = description {
        schema.insert("description".to_owned(), description);
    }
}
