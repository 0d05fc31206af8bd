//! The types that leave a transform. Dictionaries, run-end encoding and views are ways to hold
//! values, not kinds of values: they are made plain on the way in and on the way out, so that an
//! expression never looks at a dictionary entry that no row uses, and writers and key code meet few
//! types. Nothing here changes a value.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

/// Metadata under this prefix says what the bytes mean (a UUID, JSON); other metadata belongs to the
/// file that a column came from, such as its field number there, and must not be copied to another.
const MEANINGFUL_METADATA: &str = "ARROW:extension:";

/// The plain type that holds the same values.
pub(crate) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::List(item) | DataType::ListView(item) => DataType::List(plain_item(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(plain_item(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_item(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_item).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_item(entries), *sorted),
        other => other.clone(),
    }
}

fn plain_item(field: &FieldRef) -> FieldRef {
    let data_type = plain(field.data_type());
    if data_type == *field.data_type() {
        Arc::clone(field)
    } else {
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    }
}

/// The field with a plain type and only the metadata that belongs to the values.
pub(crate) fn plain_field(field: &Field) -> Field {
    Field::new(field.name(), plain(field.data_type()), field.is_nullable() || *field.data_type() == DataType::Null)
        .with_metadata(meaningful(field.metadata()))
}

/// The schema as SQL sees it.
pub(crate) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|it| plain_field(it)).collect();
    Arc::new(Schema::new(fields))
}

fn meaningful(metadata: &HashMap<String, String>) -> HashMap<String, String> {
    metadata
        .iter()
        .filter(|(key, _)| key.starts_with(MEANINGFUL_METADATA))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Why a result of this type cannot be stored, with what to write instead; `None` if it can.
pub(crate) fn unstorable(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Null => Some("say which type it has, for example CAST(NULL AS BIGINT)"),
        DataType::Interval(_) => Some("add it to a date or timestamp, or CAST it AS VARCHAR"),
        DataType::Duration(_) => Some("turn it into a number: date_part('epoch', later) - date_part('epoch', earlier)"),
        DataType::Union(..) => Some("take one member out of it with union_extract"),
        _ => None,
    }
}
