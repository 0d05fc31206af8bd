//! The types of a table as Delta has them. What the protocol has no form for is refused when the pipeline is held
//! against its source. Must never map a type to one that cannot hold all of its values.

use std::str::FromStr;

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde_json::{Value, json};

use crate::error::{IngestError, Result};
use crate::manifest::ManifestTable;

/// What a column's name must not contain, as long as columns are found by their names.
const NOT_IN_NAMES: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// An error if a field of a table cannot be one of Delta.
pub(super) fn refuse(table: &str, field: &Field) -> Result<()> {
    let name = field.name();
    if let Some(name) = names(field).into_iter().find(|name| name.contains(NOT_IN_NAMES)) {
        return Err(IngestError::pipeline(format!(
            "table '{table}': no column of a Delta table can be called '{name}': it has a blank or one of ,;{{}}()="
        ))
        .help(
            "give it another name in `transform`, `SELECT \"...\" AS other, ...`; or write `output.format: parquet`",
        ));
    }
    match type_of(field.data_type()) {
        Ok(_) => Ok(()),
        Err(unfit) => Err(IngestError::pipeline(format!(
            "table '{table}': column '{name}' is a {unfit}, and Delta Lake has no such type"
        ))
        .help(format!("{}; or write `output.format: parquet`", remedy(&unfit, name)))),
    }
}

/// A field's name, and those of what is nested in it.
fn names(field: &Field) -> Vec<String> {
    let mut all = vec![field.name().clone()];
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().for_each(|field| all.extend(names(field))),
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => all.extend(names(inner)),
        _ => {}
    }
    all
}

/// What to do about a type that does not fit.
fn remedy(unfit: &DataType, column: &str) -> String {
    let cast = |to: &str| format!("cast it in `transform`: `CAST({column} AS {to})`");
    match unfit {
        DataType::UInt8 | DataType::UInt16 => cast("INT"),
        DataType::UInt32 => cast("BIGINT"),
        DataType::UInt64 => cast("DECIMAL(20, 0)"),
        DataType::Timestamp(..) => cast("TIMESTAMP(6)"),
        DataType::Decimal256(..) => cast("DECIMAL(38, ...)"),
        DataType::Float16 => cast("REAL"),
        DataType::Date64 => cast("DATE"),
        _ => cast("VARCHAR"),
    }
}

/// The schema of a published table.
pub(super) fn schema_of(table: &ManifestTable) -> Result<Value> {
    let field = |(role, name, data_type): &(String, String, String)| {
        let parsed = parse(data_type).ok_or_else(|| {
            IngestError::internal(format!("table '{}': the type {data_type} of '{name}' is not known", table.table))
        })?;
        let field = Field::new(name, parsed, !matches!(role.as_str(), "id" | "key"));
        refuse(&table.table, &field)?;
        field_of(&field).map_err(|unfit| IngestError::internal(format!("{unfit} has no form")))
    };
    let fields: Vec<Value> = table.columns.iter().map(field).collect::<Result<_>>()?;
    Ok(json!({"type": "struct", "fields": fields}))
}

/// An Arrow type from its text. What its nested fields are annotated with is no part of the type.
fn parse(text: &str) -> Option<DataType> {
    DataType::from_str(&without_annotations(text)).ok()
}

fn without_annotations(text: &str) -> String {
    const BEGIN: &str = ", metadata: {";
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        plain.push_str(&rest[..at]);
        rest = &rest[at + BEGIN.len()..];
        // Its texts are written as Rust writes them.
        let (mut quoted, mut escaped, mut end) = (false, false, rest.len());
        for (index, c) in rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = !quoted,
                '}' if !quoted => {
                    end = index + 1;
                    break;
                }
                _ => {}
            }
        }
        rest = &rest[end..];
    }
    plain + rest
}

fn field_of(field: &Field) -> Result<Value, DataType> {
    Ok(json!({
        "name": field.name(),
        "type": type_of(field.data_type())?,
        "nullable": field.is_nullable(),
        "metadata": {},
    }))
}

/// A type as Delta writes it; the type that it has no form for, if there is one in it.
fn type_of(data_type: &DataType) -> Result<Value, DataType> {
    let name = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 => "byte",
        DataType::Int16 => "short",
        DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary",
        DataType::Date32 => "date",
        // Readers take milliseconds for the microseconds that they are; nanoseconds would lose something.
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Millisecond, Some(_)) => "timestamp",
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Millisecond, None) => NTZ,
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s)
            if *p <= 38 && u8::try_from(*s).is_ok_and(|s| s <= *p) =>
        {
            return Ok(format!("decimal({p},{s})").into());
        }
        DataType::Dictionary(_, values) => return type_of(values),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            return Ok(json!({
                "type": "array",
                "elementType": type_of(element.data_type())?,
                "containsNull": element.is_nullable(),
            }));
        }
        DataType::Struct(fields) => {
            let fields: Vec<Value> = fields.iter().map(|field| field_of(field)).collect::<Result<_, _>>()?;
            return Ok(json!({"type": "struct", "fields": fields}));
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return Err(data_type.clone()) };
            let [key, value] = fields.as_ref() else { return Err(data_type.clone()) };
            return Ok(json!({
                "type": "map",
                "keyType": type_of(key.data_type())?,
                "valueType": type_of(value.data_type())?,
                "valueContainsNull": value.is_nullable(),
            }));
        }
        other => return Err(other.clone()),
    };
    Ok(name.into())
}

/// A timestamp that is of no time zone: it needs a feature of the protocol.
const NTZ: &str = "timestamp_ntz";

/// Whether a timestamp without time zone is anywhere in a schema.
pub(super) fn uses_timestamp_ntz(schema: &Value) -> bool {
    match schema {
        Value::String(text) => text == NTZ,
        Value::Array(values) => values.iter().any(uses_timestamp_ntz),
        Value::Object(entries) => entries.iter().any(|(key, value)| key != "name" && uses_timestamp_ntz(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;

    /// The manifest has types as texts; each must be found in its text again.
    #[test]
    fn a_type_is_found_in_its_text_again() {
        let annotated = |name: &str, data_type| {
            let metadata = HashMap::from([("PARQUET:field_id".to_owned(), "a \"}\" b".to_owned())]);
            Field::new(name, data_type, false).with_metadata(metadata)
        };
        let list = DataType::List(Arc::new(annotated("element", DataType::Int32)));
        let entries = vec![annotated("key", DataType::Utf8), annotated("value", list.clone())];
        let map = DataType::Map(Arc::new(annotated("key_value", DataType::Struct(entries.into()))), false);
        let all = DataType::Struct(vec![annotated("it's", map), annotated("b", DataType::Decimal128(9, 2))].into());
        let kinds = [
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Millisecond, None),
            DataType::FixedSizeBinary(5),
            DataType::Date32,
            list,
            all,
        ];
        for kind in kinds {
            let found = parse(&kind.to_string()).unwrap_or_else(|| panic!("{kind} is read"));
            assert_eq!(type_of(&found), type_of(&kind), "{kind}");
            assert!(type_of(&kind).is_ok(), "{kind} has a form");
        }
    }

    #[test]
    fn a_type_that_could_lose_something_has_no_form() {
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let nested = DataType::List(Arc::new(Field::new_list_field(nanoseconds.clone(), true)));
        assert_eq!(type_of(&nested), Err(nanoseconds), "the type that is to blame is told");
        for unfit in [DataType::UInt64, DataType::Decimal256(50, 5), DataType::Time64(TimeUnit::Microsecond)] {
            assert_eq!(type_of(&unfit), Err(unfit.clone()));
        }
    }

    #[test]
    fn a_timestamp_without_zone_is_found_wherever_it_is() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let list = |inner: &DataType| DataType::List(Arc::new(Field::new_list_field(inner.clone(), true)));
        let schema =
            |kind: DataType| json!({"fields": [field_of(&Field::new("timestamp_ntz", kind, true)).expect("a form")]});
        assert!(uses_timestamp_ntz(&schema(list(&stamp))));
        assert!(!uses_timestamp_ntz(&schema(list(&DataType::Utf8))), "a name is no type");
    }
}
