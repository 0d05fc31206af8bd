//! Types of objects and lists: which of them are the same, and values of one as values of another. Members of objects are
//! told by their names, whatever their order; the library's own comparisons and casts go by places where names differ, and
//! must never be used for what is nested.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::types::common;

/// Whether values of both are the same: names of members count, those of what lists and maps are made of do not.
pub(crate) fn is_same(a: &DataType, b: &DataType) -> bool {
    let same_field =
        |a: &FieldRef, b: &FieldRef| a.is_nullable() == b.is_nullable() && is_same(a.data_type(), b.data_type());
    let same_fields = |a: &Fields, b: &Fields| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_field(a, b));
    match (a, b) {
        (DataType::Struct(a), DataType::Struct(b)) => {
            same_fields(a, b) && a.iter().zip(b).all(|(a, b)| a.name() == b.name())
        }
        (DataType::List(a), DataType::List(b)) | (DataType::LargeList(a), DataType::LargeList(b)) => same_field(a, b),
        (DataType::FixedSizeList(a, size), DataType::FixedSizeList(b, other)) => size == other && same_field(a, b),
        (DataType::Map(a, sorted), DataType::Map(b, other)) if sorted == other => {
            match (a.data_type(), b.data_type()) {
                (DataType::Struct(a), DataType::Struct(b)) => same_fields(a, b),
                _ => false,
            }
        }
        _ => a.equals_datatype(b),
    }
}

/// Whether both are the same but for the order of members.
pub(crate) fn is_alike(a: &DataType, b: &DataType) -> bool {
    is_same(&in_order(a), &in_order(b))
}

/// The same with members in the order of their names.
fn in_order(kind: &DataType) -> DataType {
    let within = |field: &FieldRef| field.as_ref().clone().with_data_type(in_order(field.data_type()));
    match kind {
        DataType::Struct(fields) => {
            let mut fields: Vec<Field> = fields.iter().map(within).collect();
            fields.sort_by(|a, b| a.name().cmp(b.name()));
            DataType::Struct(fields.into())
        }
        DataType::List(field) => DataType::List(Arc::new(within(field))),
        kind => kind.clone(),
    }
}

/// Whether objects of a type lack members that those of another type have, which holds their values.
pub(crate) fn lacks(kind: &DataType, wide: &DataType) -> bool {
    match (kind, wide) {
        (DataType::Struct(own), DataType::Struct(wide)) => wide
            .iter()
            .any(|field| own.find(field.name()).is_none_or(|(_, own)| lacks(own.data_type(), field.data_type()))),
        (DataType::List(own), DataType::List(wide)) => lacks(own.data_type(), wide.data_type()),
        _ => false,
    }
}

/// The narrowest type for objects: they have the members that any of them has, in the order that all have, else in that of
/// their names.
pub(super) fn objects(kinds: &[&DataType]) -> Option<DataType> {
    let structs = kinds.iter().map(|kind| match kind {
        DataType::Struct(fields) => Some(fields),
        _ => None,
    });
    let structs: Vec<&Fields> = structs.collect::<Option<_>>()?;
    let names = |fields: &Fields| fields.iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let mut order = names(structs[0]);
    if structs.iter().any(|fields| names(fields) != order) {
        order = structs.iter().flat_map(|fields| names(fields)).collect::<BTreeSet<_>>().into_iter().collect();
    }
    let mut merged = Vec::with_capacity(order.len());
    for name in order {
        let members: Vec<&FieldRef> =
            structs.iter().flat_map(|fields| fields.iter()).filter(|f| *f.name() == name).collect();
        // One that has it twice does not say which is meant.
        if structs.iter().any(|fields| fields.iter().filter(|field| *field.name() == name).count() > 1) {
            return None;
        }
        let is_everywhere = members.len() == structs.len();
        let kind = common(members.iter().map(|field| field.data_type()))?;
        let is_nullable = !is_everywhere || members.iter().any(|field| field.is_nullable());
        merged.push(Field::new(name, kind, is_nullable));
    }
    Some(DataType::Struct(merged.into()))
}

/// The narrowest type for lists.
pub(super) fn lists(kinds: &[&DataType]) -> Option<DataType> {
    let elements = kinds.iter().map(|kind| match kind {
        DataType::List(field) => Some(field),
        _ => None,
    });
    let elements: Vec<&FieldRef> = elements.collect::<Option<_>>()?;
    let kind = common(elements.iter().map(|field| field.data_type()))?;
    let name = elements.iter().map(|field| field.name()).min()?;
    let is_nullable = elements.iter().any(|field| field.is_nullable());
    Some(DataType::List(Arc::new(Field::new(name, kind, is_nullable))))
}

/// Values as values of another type; else the first one that has no place in that type, if it is known.
pub(super) fn converted(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, Option<usize>> {
    match (values.data_type(), to) {
        (from, to) if is_same(from, to) => Ok(values.clone()),
        (DataType::Null, to) => Ok(new_null_array(to, values.len())),
        (DataType::Struct(own), DataType::Struct(fields)) => {
            let places: BTreeMap<&str, usize> =
                own.iter().zip(0..).map(|(field, at)| (field.name().as_str(), at)).collect();
            let object = values.as_struct();
            let member = |field: &FieldRef| match places.get(field.name().as_str()) {
                Some(&at) => converted(object.column(at), field.data_type()),
                None => Ok(new_null_array(field.data_type(), values.len())),
            };
            let members = fields.iter().map(member).collect::<Result<Vec<_>, _>>()?;
            let made = StructArray::try_new_with_length(fields.clone(), members, object.nulls().cloned(), values.len());
            made.map(|made| Arc::new(made) as ArrayRef).map_err(|_| None)
        }
        (DataType::List(_), DataType::List(field)) => {
            let list = values.as_list::<i32>();
            let elements = converted(list.values(), field.data_type()).map_err(|at| {
                let at = at?;
                Some(list.offsets().partition_point(|offset| *offset as usize <= at).saturating_sub(1))
            })?;
            let made = ListArray::try_new(field.clone(), list.offsets().clone(), elements, list.nulls().cloned());
            made.map(|made| Arc::new(made) as ArrayRef).map_err(|_| None)
        }
        (from, to) if from.is_nested() || to.is_nested() => Err(None),
        (_, to) => {
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(values, to, &strict).map_err(|_| {
                let lenient = cast_with_options(values, to, &CastOptions::default()).ok()?;
                (0..values.len()).find(|&row| values.is_valid(row) && lenient.is_null(row))
            })
        }
    }
}

/// A type as text, of which [`type_of`] makes the same again, whatever the names within it. Other than the library's, which
/// it is where names are plain.
pub(crate) fn text_of(kind: &DataType) -> String {
    named(kind, &|name| {
        let mut text = String::new();
        for c in name.chars() {
            if c == '%' || c.escape_debug().count() != 1 {
                let _ = write!(text, "%{:x};", u32::from(c));
            } else {
                text.push(c);
            }
        }
        // There must be something in quotes.
        if text.is_empty() { "%".to_owned() } else { text }
    })
    .to_string()
}

/// The type of which a text was made.
pub(crate) fn type_of(text: &str) -> Option<DataType> {
    let kind: DataType = text.parse().ok()?;
    Some(named(&kind, &|name| {
        let mut parts = name.split('%');
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let escaped = part.split_once(';');
            let code = escaped.and_then(|(code, _)| char::from_u32(u32::from_str_radix(code, 16).ok()?));
            plain.extend(code);
            plain.push_str(escaped.map_or(part, |(_, rest)| rest));
        }
        plain
    }))
}

/// The same type with other names.
fn named(kind: &DataType, name: &dyn Fn(&str) -> String) -> DataType {
    let within = |field: &FieldRef| field.as_ref().clone().with_data_type(named(field.data_type(), name));
    match kind {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| within(field).with_name(name(field.name()))).collect())
        }
        DataType::List(field) => DataType::List(Arc::new(within(field))),
        kind => kind.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::DataType::{Int32, Int64, Utf8};
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn object(members: &[(&str, DataType)]) -> DataType {
        DataType::Struct(members.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect())
    }

    fn list(name: &str, kind: DataType) -> DataType {
        DataType::List(Arc::new(Field::new(name, kind, true)))
    }

    #[test]
    fn names_count() {
        let (ab, ba) = (object(&[("a", Int32), ("b", Int32)]), object(&[("b", Int32), ("a", Int32)]));
        assert!(!is_same(&ab, &ba) && is_alike(&ab, &ba));
        assert!(!is_alike(&ab, &object(&[("a", Int32), ("c", Int32)])));
        assert!(is_same(&list("item", ab.clone()), &list("element", ab.clone())));
        assert!(!is_same(&list("item", ab), &list("item", ba)));
    }

    #[test]
    fn values_keep_their_names() {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(Int32Array::from(vec![3, 4]))];
        let fields: Fields = vec![Field::new("a", Int32, true), Field::new("b", Int32, true)].into();
        let values: ArrayRef = Arc::new(StructArray::new(fields, columns, Some(NullBuffer::from(vec![true, false]))));
        let to = object(&[("b", Int64), ("a", Int32), ("c", Utf8)]);
        let made = converted(&values, &to).expect("all have a place");
        assert_eq!(*made.data_type(), to);
        assert_eq!(array_value_to_string(&made, 0).expect("a value"), "{b: 3, a: 1, c: }");
        assert!(made.is_null(1));
    }

    #[test]
    fn a_value_without_place_is_told_by_its_row() {
        let field: FieldRef = Field::new("element", Int64, true).into();
        let elements: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, i64::MAX]));
        let offsets = OffsetBuffer::from_lengths([2, 0, 1, 1]);
        let values: ArrayRef = Arc::new(ListArray::new(field, offsets, elements, None));
        assert_eq!(converted(&values, &list("element", Int32)).expect_err("it does not fit"), Some(3));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        assert_eq!(converted(&texts, &list("element", Utf8)).expect_err("a text is no list"), None);
    }

    #[test]
    fn types_are_kept_as_texts() {
        for name in ["a", "", "%", "a\"b", "a\\", "a\nb", "straße", "a'b", "%41;", "a, b: Int64", "\u{301}x", "x.y[]"]
        {
            let kind = list("element", object(&[(name, list("element", Int64)), ("z", object(&[(name, Utf8)]))]));
            assert_eq!(type_of(&text_of(&kind)), Some(kind), "{name:?}");
        }
        let plain = object(&[("a", list("item", Int64))]);
        assert_eq!(text_of(&plain), plain.to_string());
    }
}
