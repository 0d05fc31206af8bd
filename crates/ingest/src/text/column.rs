//! A column of a text file's records while they are still texts: of an object the columns of its members, of a list that of
//! its elements. Must never hold more than a batch, nor turn a text into a value that it is not.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, ListArray, NullBufferBuilder, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};

use super::json::Cursor;
use super::path::{Fault, Step};
use super::rows::RECORD_BYTES;
use super::values::parsed;

/// How much of a value an error shows.
const SHOWN_CHARS: usize = 60;

/// Records' values, as far as there are some: those of the last ones may be missing, which is null.
pub(super) enum Column {
    Leaf { kind: DataType, texts: StringBuilder },
    Struct { fields: Fields, members: Vec<Self>, places: HashMap<String, usize>, valid: NullBufferBuilder },
    List { field: FieldRef, element: Box<Self>, ends: Vec<i32>, valid: NullBufferBuilder, leaves: usize },
}

impl Column {
    pub(super) fn new(kind: &DataType) -> Self {
        let valid = NullBufferBuilder::new(0);
        match kind {
            DataType::Struct(fields) => Self::Struct {
                fields: fields.clone(),
                members: fields.iter().map(|field| Self::new(field.data_type())).collect(),
                places: fields.iter().enumerate().map(|(place, field)| (field.name().clone(), place)).collect(),
                valid,
            },
            DataType::List(field) => {
                let element = Box::new(Self::new(field.data_type()));
                Self::List { field: field.clone(), leaves: element.leaves(), element, ends: vec![0], valid }
            }
            kind => Self::Leaf { kind: kind.clone(), texts: StringBuilder::new() },
        }
    }

    fn leaves(&self) -> usize {
        match self {
            Self::Leaf { .. } => 1,
            Self::Struct { members, .. } => members.iter().map(Self::leaves).sum(),
            Self::List { leaves, .. } => *leaves,
        }
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf { texts, .. } => texts.len(),
            Self::Struct { valid, .. } | Self::List { valid, .. } => valid.len(),
        }
    }

    /// Adds nulls until it has so many values.
    pub(super) fn fill(&mut self, len: usize) {
        let lacking = len.saturating_sub(self.len());
        match self {
            Self::Leaf { texts, .. } => texts.append_nulls(lacking),
            Self::Struct { valid, .. } => valid.append_n_nulls(lacking),
            Self::List { valid, ends, .. } => {
                valid.append_n_nulls(lacking);
                ends.resize(valid.len() + 1, ends.last().copied().unwrap_or_default());
            }
        }
    }

    /// Adds a text as a value.
    pub(super) fn add_text(&mut self, text: &str) {
        let Self::Leaf { kind, texts } = self else { return self.fill(self.len() + 1) };
        let is_text = *kind == DataType::Utf8;
        let text = if is_text { text } else { text.trim_matches([' ', '\t']) };
        // A text may be empty; a number that is, is none.
        if text.is_empty() && !is_text {
            texts.append_null();
        } else {
            texts.append_value(text);
        }
    }

    /// Adds the value that comes. `room` is how many values in lists the record may still have.
    pub(super) fn add(&mut self, value: &mut Cursor<'_>, room: &mut usize) -> Result<(), Fault> {
        if value.null() {
            self.fill(self.len() + 1);
            return Ok(());
        }
        let first = value.first();
        match self {
            Self::Leaf { .. } if first == b'"' => self.add_text(&value.string()?),
            Self::Leaf { .. } => self.add_text(value.value()),
            Self::Struct { members, places, valid, .. } => {
                if first != b'{' {
                    return Err(Fault::new(format!("{} is no object", shown(value.value()))));
                }
                let before = valid.len();
                valid.append_non_null();
                value.enter();
                while let Some(name) = value.key()? {
                    if value.null() {
                        continue;
                    }
                    let Some(&place) = places.get(&*name) else {
                        return Err(Fault::new("it was not there before").within_member(&name));
                    };
                    members[place].fill(before);
                    members[place].add(value, room).map_err(|fault| fault.within_member(&name))?;
                }
            }
            Self::List { element, ends, valid, leaves, .. } => {
                if first != b'[' {
                    return Err(Fault::new(format!("{} is no list", shown(value.value()))));
                }
                valid.append_non_null();
                value.enter();
                while value.element() {
                    *room = room.checked_sub(*leaves).ok_or_else(|| Fault::new(TOO_MANY))?;
                    element.add(value, room).map_err(|fault| fault.within(Step::Element))?;
                }
                ends.push(element.len() as i32);
            }
        }
        Ok(())
    }

    /// The first so many values, which are all, and none are left. Else which of them is wrong, and in what.
    pub(super) fn finish(&mut self, len: usize) -> Result<ArrayRef, (usize, Fault)> {
        self.fill(len);
        let unmade = |e: arrow::error::ArrowError| (0, Fault::new(e.to_string()));
        match self {
            Self::Leaf { kind, texts } => {
                let texts: StringArray = texts.finish();
                parsed(texts.clone(), kind).map_err(|at| {
                    let value = if texts.is_empty() { "" } else { texts.value(at) };
                    (at, Fault::new(format!("{} is no {kind}", shown(value))))
                })
            }
            Self::Struct { fields, members, valid, .. } => {
                let mut arrays = Vec::with_capacity(members.len());
                for (member, field) in members.iter_mut().zip(fields.iter()) {
                    arrays.push(member.finish(len).map_err(|(at, fault)| (at, fault.within_member(field.name())))?);
                }
                let made =
                    StructArray::try_new_with_length(fields.clone(), arrays, valid.finish(), len).map_err(unmade)?;
                Ok(Arc::new(made))
            }
            Self::List { field, element, ends, valid, .. } => {
                let ends = std::mem::replace(ends, vec![0]);
                let count = ends.last().copied().unwrap_or_default() as usize;
                let elements = element.finish(count).map_err(|(at, fault)| {
                    let list = ends.partition_point(|end| *end as usize <= at).saturating_sub(1);
                    (list, fault.within(Step::Element))
                })?;
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                let made = ListArray::try_new(field.clone(), offsets, elements, valid.finish()).map_err(unmade)?;
                Ok(Arc::new(made))
            }
        }
    }
}

/// The values in lists that a record may have, where an object counts as all the members that any has.
pub(super) const RECORD_VALUES: usize = RECORD_BYTES;
const TOO_MANY: &str = "the record has more than 67,108,864 values in lists, where an object counts as all the members that \
                        any object there has";

/// A value, as errors show it.
fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("'{}…'", &value[..end]),
        None => format!("'{value}'"),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::{Just, Strategy, any};
    use serde_json::{Value, json};

    use super::super::json::Count;
    use super::super::shape::{Found, Shape, Shapes, complete, fields};
    use super::*;

    /// What the records are, and their values.
    fn read(records: &[String]) -> Result<(Shape, ArrayRef), Fault> {
        let (mut found, mut count, mut columns) = (Found::default(), Count::default(), Shapes::new());
        for record in records {
            found.look_into(&mut Cursor::new(record), |_| None, 0, &mut count)?;
        }
        complete(&mut columns, &found.members, true);
        let mut column = Column::new(&DataType::Struct(fields(&columns)));
        let mut room = RECORD_VALUES;
        for record in records {
            column.add(&mut Cursor::new(record), &mut room)?;
        }
        Ok((Shape::Struct(columns), column.finish(records.len()).map_err(|(_, fault)| fault)?))
    }

    /// What a value must be, where the values have this shape.
    fn expected(value: &Value, shape: &Shape) -> Value {
        match (shape, value) {
            (_, Value::Null) => Value::Null,
            (Shape::Struct(members), value) => {
                members.iter().map(|(name, shape)| (name.clone(), expected(&value[name], shape))).collect()
            }
            (Shape::List(element), value) => {
                value.as_array().into_iter().flatten().map(|value| expected(value, element)).collect()
            }
            (Shape::Leaf(DataType::Utf8), Value::String(text)) => json!(text),
            (Shape::Leaf(DataType::Utf8), value) => json!(value.to_string()),
            (Shape::Leaf(DataType::Float64), value) => json!(value.as_f64()),
            (Shape::Leaf(_), value) => value.clone(),
        }
    }

    fn found(array: &dyn Array, at: usize) -> Value {
        if array.is_null(at) {
            return Value::Null;
        }
        match array.data_type() {
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                columns.map(|(column, field)| (field.name().clone(), found(column, at))).collect()
            }
            DataType::List(_) => {
                let elements = array.as_list::<i32>().value(at);
                (0..elements.len()).map(|at| found(&elements, at)).collect()
            }
            DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(at)),
            DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(at)),
            DataType::Boolean => json!(array.as_boolean().value(at)),
            _ => json!(array.as_string::<i32>().value(at)),
        }
    }

    fn types(records: &[&str]) -> Vec<String> {
        let (shape, array) = read(&records.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("they are read");
        assert_eq!(*array.data_type(), shape.data_type());
        let DataType::Struct(fields) = array.data_type() else { panic!("records are structs") };
        fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
    }

    #[test]
    fn what_columns_are() {
        let deep = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
        let lists = "List(".repeat(31);
        for (records, expected) in [
            (&["{\"a\":{\"c\":1,\"b\":\"x\"}}", "{\"a\":null}", "{}"][..], "a Struct(\"b\": Utf8, \"c\": Int64)"),
            (&["{\"a\":[1,null]}", "{\"a\":[2.5]}", "{\"a\":[]}"], "a List(Float64, field: 'element')"),
            (
                &["{\"a\":[{\"b\":[true]},{}]}"],
                "a List(Struct(\"b\": List(Boolean, field: 'element')), field: 'element')",
            ),
            (&["{\"a\":[]}"], "a List(Utf8, field: 'element')"),
            (&["{\"a\":null}"], "a Utf8"),
            // Of several kinds, or of no member.
            (&["{\"a\":{\"b\":1}}", "{\"a\":1}"], "a Utf8"),
            (&["{\"a\":{\"b\":1}}", "{\"a\":[]}"], "a Utf8"),
            (&["{\"a\":{}}"], "a Utf8"),
            (&["{\"a\":[1,\"x\"]}"], "a List(Utf8, field: 'element')"),
            (&["{\"a\":[1,[2]]}"], "a List(Utf8, field: 'element')"),
            (&[&deep(31)], &format!("a {lists}Int64{}", ", field: 'element')".repeat(31))),
            (&[&deep(100_000)], &format!("a {lists}Utf8{}", ", field: 'element')".repeat(31))),
            (&[&deep(32)], &format!("a {lists}Utf8{}", ", field: 'element')".repeat(31))),
        ] {
            assert_eq!(types(records), [expected], "{records:?}");
            let backwards: Vec<&str> = records.iter().rev().copied().collect();
            assert_eq!(types(&backwards), [expected], "the order of {records:?} matters");
        }
    }

    #[test]
    fn nothing_missing_and_empty_are_three_things() {
        let records =
            ["{\"a\":{\"b\":1},\"l\":[1]}", "{\"a\":{},\"l\":[]}", "{\"a\":null,\"l\":null}", "{}", "{\"l\":[null]}"];
        let (_, array) = read(&records.map(str::to_owned)).expect("they are read");
        let values: Vec<String> = (0..5).map(|at| found(&array, at).to_string()).collect();
        let (none, empty) = ("{\"a\":null,\"l\":null}", "{\"a\":{\"b\":null},\"l\":[]}");
        assert_eq!(values, [records[0], empty, none, none, "{\"a\":null,\"l\":[null]}"]);
    }

    #[test]
    fn a_fault_has_a_path() {
        for (records, path, text) in [
            (&["{\"a\":1,\"a\":2}"][..], Some("a"), "twice"),
            (&["{\"a.b\":[{\"c\":{\"d\":1}},{\"c\":{\"d\":1,\"d\":null}}]}"], Some("a\\.b[].c.d"), "twice"),
            (&["{\"a\":[{\"b\":\"\\ud800\"}]}"], Some("a[].b"), "no JSON"),
            (&["{\"\\ud800\":1}"], None, "no JSON"),
        ] {
            let fault = read(&records.iter().map(ToString::to_string).collect::<Vec<_>>()).expect_err("it is wrong");
            assert_eq!(fault.path().as_deref(), path, "{records:?}");
            assert!(fault.text.contains(text), "{fault:?}");
        }
        let element = DataType::Struct(vec![arrow::datatypes::Field::new("n", DataType::Int8, true)].into());
        let list = DataType::List(Arc::new(arrow::datatypes::Field::new("element", element, true)));
        let add = |column: &mut Column, text: &str| column.add(&mut Cursor::new(text), &mut 100);
        let mut column = Column::new(&list);
        for good in ["[{\"n\":1},{\"n\":2}]", "[]", "null", "[{},{\"n\":300}]"] {
            add(&mut column, good).expect("it is a list");
        }
        let (at, fault) = column.finish(4).expect_err("300 is no Int8");
        assert_eq!((at, fault.path().as_deref(), fault.text.as_str()), (3, Some("[].n"), "'300' is no Int8"));
        for (bad, path, text) in [
            ("7", None, "'7' is no list"),
            ("[{},7]", Some("[]"), "'7' is no object"),
            ("[{\"n\":1,\"m\":1}]", Some("[].m"), "it was not there before"),
        ] {
            let fault = add(&mut Column::new(&list), bad).expect_err(bad);
            assert_eq!((fault.path().as_deref(), fault.text.as_str()), (path, text));
        }
        let many = format!("[{}]", vec!["{}"; 101].join(","));
        assert!(
            add(&mut Column::new(&list), &many)
                .is_err_and(|fault| fault.text.contains("too many") || fault.text == TOO_MANY)
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = proptest::prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1000_i32..1000).prop_map(|n| json!(f64::from(n) / 8.0)),
            "[\\[\\]{}:,\\\\\" a-zé\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            proptest::prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                btree_map("[ab.\"]{0,2}", inner, 0..4).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest::proptest! {
        /// Whatever JSON there is, the values are found again.
        #[test]
        fn values_are_found_again(records in vec(btree_map("[abc]", value(), 0..4), 0..6), pretty: bool) {
            let values: Vec<Value> = records.into_iter().map(|record| record.into_iter().collect()).collect();
            // Blanks are no part of a value, but of the text of one that is kept as text.
            let blank = if pretty { " " } else { "" };
            let texts: Vec<String> = values.iter().map(|value| format!("{blank}{value}{blank}")).collect();
            let (shape, array) = read(&texts).map_err(|fault| proptest::test_runner::TestCaseError::fail(fault.text))?;
            for (at, value) in values.iter().enumerate() {
                proptest::prop_assert_eq!(found(&array, at), expected(value, &shape));
            }
        }
    }
}
