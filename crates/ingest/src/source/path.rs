//! Names of columns, and of fields within columns that are structs: `customer.email` is the field `email` of the struct
//! `customer`. A column that is called so itself comes first. Must never look at more than a schema, but for taking a
//! field's values out of its column.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use crate::error::{IngestError, Result};

/// Where a name leads to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldPath {
    /// The column.
    pub(crate) root: String,
    /// The fields within it, from the outside in; none if the name is the column's.
    pub(crate) fields: Vec<String>,
    /// What is found there, called as a table's column is: by the last part of the path. A struct that is null has nothing
    /// in it, so it may be null.
    pub(crate) field: Field,
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NoPath {
    /// No column is called like it, or like its beginning.
    Column,
    /// A struct has no such field.
    Field {
        /// The struct, by its path.
        within: String,
        /// What it has no field for.
        wanted: String,
        /// The fields that it has.
        fields: Vec<String>,
    },
    /// What is there is no struct.
    Struct {
        /// Its path.
        within: String,
        /// What it is.
        data_type: DataType,
    },
}

impl FieldPath {
    /// Finds what `name` means among `columns`.
    pub(crate) fn find(columns: &Fields, name: &str) -> Result<Self, NoPath> {
        if let Some((_, column)) = columns.find(name) {
            return Ok(Self { root: name.to_owned(), fields: Vec::new(), field: column.as_ref().clone() });
        }
        let mut fields = Vec::new();
        let found = walk(columns, name, "", &mut fields)?;
        let own = fields.last().map_or(name, String::as_str);
        let field = Field::new(own, found.data_type().clone(), true);
        let root = fields.remove(0);
        Ok(Self { root, fields, field })
    }

    /// Takes its values out of those of its column.
    pub(crate) fn take(&self, column: &ArrayRef) -> Result<ArrayRef> {
        let mut values = column.clone();
        for name in &self.fields {
            let whole = values.as_struct_opt();
            let inner = whole.and_then(|whole| Some((whole.column_by_name(name)?.clone(), whole.nulls())));
            let (inner, nulls) = inner.ok_or_else(|| IngestError::internal(format!("there is no field '{name}'")))?;
            values = match nulls.filter(|nulls| nulls.null_count() > 0 && *inner.data_type() != DataType::Null) {
                None => inner,
                // What lies under a null is nothing.
                Some(nulls) => nullif(&inner, &BooleanArray::new(!nulls.inner(), None))
                    .map_err(|e| IngestError::internal(e.to_string()))?,
            };
        }
        Ok(values)
    }
}

/// Goes along a path, of which it notes the parts. Names may have dots in them themselves: the longest that fits counts.
fn walk<'f>(within: &'f Fields, rest: &str, before: &str, parts: &mut Vec<String>) -> Result<&'f FieldRef, NoPath> {
    let mut reason = None;
    let ends = rest.match_indices('.').map(|(at, _)| at).rev();
    for end in std::iter::once(rest.len()).chain(ends) {
        let (name, after) = (&rest[..end], rest.get(end + 1..));
        let Some((_, field)) = within.find(name) else { continue };
        parts.push(name.to_owned());
        let path = join(before, name);
        let outcome = match (after, field.data_type()) {
            (None, _) => return Ok(field),
            (Some(after), DataType::Struct(inner)) => match walk(inner, after, &path, parts) {
                Ok(found) => return Ok(found),
                Err(why) => why,
            },
            (Some(_), other) => NoPath::Struct { within: path, data_type: other.clone() },
        };
        parts.pop();
        // Of several ways that lead nowhere, the one that leads furthest is meant.
        if reason.as_ref().is_none_or(|known: &NoPath| known.reach() < outcome.reach()) {
            reason = Some(outcome);
        }
    }
    Err(reason.unwrap_or_else(|| match before {
        "" => NoPath::Column,
        _ => NoPath::Field {
            within: before.to_owned(),
            wanted: rest.to_owned(),
            fields: within.iter().map(|field| field.name().clone()).collect(),
        },
    }))
}

fn join(before: &str, name: &str) -> String {
    if before.is_empty() { name.to_owned() } else { format!("{before}.{name}") }
}

impl NoPath {
    /// How far the name leads.
    pub(crate) fn reach(&self) -> usize {
        match self {
            Self::Column => 0,
            Self::Field { within, .. } | Self::Struct { within, .. } => within.len(),
        }
    }

    /// What is wrong, as the end of a sentence about `name`, and what to do; `None` if there is no column that it begins
    /// with.
    pub(crate) fn words(&self) -> Option<(String, String)> {
        match self {
            Self::Column => None,
            Self::Field { within, wanted, fields } => {
                let near = seriatim_pipeline::nearest(wanted, fields.iter().map(String::as_str));
                let help = match near {
                    Some(near) => format!("did you mean '{within}.{near}'?"),
                    None => format!("its fields are: {}", fields.join(", ")),
                };
                Some((format!("the struct '{within}' has no field '{wanted}'"), help))
            }
            Self::Struct { within, data_type } => {
                let (what, help) = match data_type {
                    DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => (
                        "a list, of which a record has many values".to_owned(),
                        format!("write one record for each element, or take '{within}' as it is into `columns`"),
                    ),
                    DataType::Map(..) => {
                        let entry = within.replace('.', "_");
                        let help = format!("take the entry out in `transform`: {within}['...'] AS {entry}");
                        ("a map, and has no fields".to_owned(), help)
                    }
                    other => (format!("a {other}, and has no fields"), format!("write '{within}' alone")),
                };
                Some((format!("'{within}' is {what}"), help))
            }
        }
    }
}

/// The paths of what lies within a struct, as deep as it goes, called as a pipeline would.
pub(crate) fn within(name: &str, data_type: &DataType) -> Vec<(String, DataType)> {
    let DataType::Struct(fields) = data_type else { return vec![(name.to_owned(), data_type.clone())] };
    fields.iter().flat_map(|field| within(&join(name, field.name()), field.data_type())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, StructArray};
    use arrow::buffer::NullBuffer;

    use super::*;

    fn columns() -> Fields {
        let of = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(fields.into()), true);
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let list = Field::new_list("tags", Field::new("element", DataType::Utf8, true), true);
        vec![
            of("customer", vec![text("email"), text("a.b"), of("home", vec![text("city"), list])]),
            text("customer.email"),
            of("customer.home", vec![text("street")]),
            text("plain"),
        ]
        .into()
    }

    fn found(name: &str) -> (String, Vec<String>, String) {
        let path = FieldPath::find(&columns(), name).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        (path.root, path.fields, path.field.name().clone())
    }

    #[test]
    fn a_column_of_that_name_comes_first_and_else_the_longest_name_that_leads_somewhere() {
        let at = |root: &str, fields: &[&str], own: &str| {
            (root.to_owned(), fields.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>(), own.to_owned())
        };
        assert_eq!(found("plain"), at("plain", &[], "plain"));
        assert_eq!(found("customer.email"), at("customer.email", &[], "customer.email"));
        assert_eq!(found("customer.a.b"), at("customer", &["a.b"], "a.b"));
        assert_eq!(found("customer.home.street"), at("customer.home", &["street"], "street"));
        assert_eq!(found("customer.home.city"), at("customer", &["home", "city"], "city"));
    }

    #[test]
    fn what_leads_nowhere_says_where_it_ends() {
        let words = |name: &str| {
            let (what, help) = FieldPath::find(&columns(), name).unwrap_err().words().unwrap();
            format!("{what}; {help}")
        };
        assert_eq!(FieldPath::find(&columns(), "client.email"), Err(NoPath::Column));
        assert_eq!(
            words("customer.emial"),
            "the struct 'customer' has no field 'emial'; did you mean 'customer.email'?"
        );
        assert_eq!(words("customer.x.y"), "the struct 'customer' has no field 'x.y'; its fields are: email, a.b, home");
        assert!(words("customer.home.tags.first").contains("'customer.home.tags' is a list"), "a list is called one");
        assert_eq!(words("plain.x"), "'plain' is a Utf8, and has no fields; write 'plain' alone");
    }

    #[test]
    fn under_a_null_struct_every_field_is_null() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let fields: Fields = vec![Field::new("n", DataType::Int32, true)].into();
        let nulls = NullBuffer::from(vec![true, true, false]);
        let whole: ArrayRef = Arc::new(StructArray::new(fields.clone(), vec![numbers], Some(nulls)));
        let columns: Fields = vec![Field::new("s", DataType::Struct(fields), true)].into();
        let path = FieldPath::find(&columns, "s.n").unwrap();
        let taken = path.take(&whole.slice(1, 2)).unwrap();
        assert_eq!(taken.null_count(), 2);
        assert_eq!(path.take(&whole).unwrap().as_primitive::<arrow::datatypes::Int32Type>().value(0), 1);
    }
}
