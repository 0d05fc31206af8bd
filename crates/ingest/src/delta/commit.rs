//! One commit of a log: what a run adds to a table, as the actions of the Delta protocol. A function of the manifest, so
//! that the same runs give the same log: it holds no time. Must never write anything.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::schema::{schema_of, uses_timestamp_ntz};
use crate::error::Result;
use crate::manifest::{Manifest, ManifestFile, ManifestTable};

/// What a path in a log does not have as it is: it is one of a URL, and the names of folders have a `%` of their own.
const IN_PATHS: &AsciiSet = &CONTROLS.add(b'%').add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'`');

/// The application that a pipeline is in the log of a table: its transactions are numbered by runs.
pub(super) fn app_id(pipeline: &str, table: &str) -> String {
    format!("seriatim/{pipeline}/{table}")
}

/// The commit of a run; the `first` one makes the table. `replaced` are the files that others take the place of, by their
/// names in the table's folder.
pub(super) fn commit(
    manifest: &Manifest,
    table: &ManifestTable,
    run: u64,
    first: bool,
    replaced: &[String],
) -> Result<Vec<u8>> {
    // What takes the place of files is no addition alone.
    let (operation, mode) = if replaced.is_empty() { ("WRITE", "Append") } else { ("MERGE", "Update") };
    let mut actions = vec![json!({"commitInfo": {
        "operation": operation,
        "operationParameters": {"mode": mode, "run": run.to_string()},
        "isBlindAppend": replaced.is_empty(),
        "engineInfo": "seriatim",
    }})];
    if first {
        let schema = schema_of(table)?;
        actions.push(protocol(&schema));
        actions.push(json!({"metaData": {
            "id": table_id(manifest, table),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema.to_string(),
            "partitionColumns": table.partition_by,
            "configuration": {},
        }}));
    }
    actions.push(json!({"txn": {"appId": app_id(&manifest.pipeline, &table.table), "version": run}}));
    actions.extend(replaced.iter().map(|path| remove(path)));
    actions.extend(table.files.iter().filter(|file| file.written_by() == run).map(|file| add(table, file)));
    Ok(actions.iter().flat_map(|action| format!("{action}\n").into_bytes()).collect())
}

/// The oldest protocol that has what the table needs.
fn protocol(schema: &Value) -> Value {
    if uses_timestamp_ntz(schema) {
        let features = json!(["timestampNtz"]);
        return json!({"protocol": {
            "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features,
        }});
    }
    json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
}

/// A UUID that tells this table from others: it follows from the rows that the first run published, wherever they came from.
fn table_id(manifest: &Manifest, table: &ManifestTable) -> String {
    let mut hasher = Xxh3::new();
    hasher.update(app_id(&manifest.pipeline, &table.table).as_bytes());
    let first = manifest.runs.first().map_or(0, |run| run.number);
    let rows = manifest.tables.iter().flat_map(|table| &table.files).filter(|file| file.run == first);
    rows.for_each(|file| hasher.update(file.xxh3.as_bytes()));
    uuid::Builder::from_custom_bytes(hasher.digest128().to_be_bytes()).into_uuid().to_string()
}

fn add(table: &ManifestTable, file: &ManifestFile) -> Value {
    let path = file.path.strip_prefix(&format!("{}/", table.table)).unwrap_or(&file.path);
    json!({"add": {
        "path": utf8_percent_encode(path, IN_PATHS).to_string(),
        "partitionValues": partition_values(table, file),
        "size": file.bytes,
        // When a file was made says nothing about it, and would make another log of the same runs.
        "modificationTime": 0,
        "dataChange": true,
        "stats": stats(table, file).to_string(),
    }})
}

/// A file that is no part of the table any more. The log says of what partition and size it was.
fn remove(path: &str) -> Value {
    json!({"remove": {
        "path": utf8_percent_encode(path, IN_PATHS).to_string(),
        "deletionTimestamp": 0,
        "dataChange": true,
    }})
}

/// The values of a file's partition, as texts; they are not in the file.
fn partition_values(table: &ManifestTable, file: &ManifestFile) -> Value {
    let value = |value: &Option<String>| value.clone().map_or(Value::Null, Value::String);
    let values = table.partition_by.iter().cloned().zip(file.partition.iter().map(value));
    Value::Object(values.collect())
}

/// What a reader can leave a file out by.
fn stats(table: &ManifestTable, file: &ManifestFile) -> Value {
    let mut stats = Map::new();
    stats.insert("numRecords".to_owned(), file.rows.into());
    if let (Some(id), Some((first, last))) = (&table.id, file.ids) {
        let of_id = |value: Value| Value::Object(Map::from_iter([(id.column.clone(), value)]));
        stats.insert("minValues".to_owned(), of_id(first.min(last).into()));
        stats.insert("maxValues".to_owned(), of_id(first.max(last).into()));
        stats.insert("nullCount".to_owned(), of_id(0.into()));
    }
    Value::Object(stats)
}
