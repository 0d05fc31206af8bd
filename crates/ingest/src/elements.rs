//! Elements of lists as the rows of tables: where a list is in the records, which columns its elements have, and the
//! elements of some records themselves, in the order of the records and of each list. Must never lose an element, nor make
//! one of a list that is null or empty.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat, nullif, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::error::ArrowError;
use seriatim_pipeline::ListPath;
use seriatim_pipeline::model::{Pipeline, Table};

use crate::error::{IngestError, Result};
use crate::layout::Layout;
use crate::source::{FieldPath, NoPath};

/// Whose rows a table has: elements of the list with this index among the layout's, or records.
pub(crate) type Kind = Option<usize>;

/// A list whose elements are rows of tables, or in whose elements such a list is.
#[derive(Debug, Clone)]
pub(crate) struct ListLayout {
    pub(crate) path: ListPath,
    /// The list in whose elements it is; `None`: it is in the records.
    outer: Kind,
    /// Where it is in the record, or in the element around it.
    way: FieldPath,
    element: DataType,
    /// The column of the records that it is in, with all lists around it.
    root: String,
}

impl ListLayout {
    /// The lists of a pipeline, each after the one that it is in.
    pub(crate) fn all(pipeline: &Pipeline, records: &Schema) -> Result<Vec<Self>> {
        let mut lists: Vec<Self> = Vec::new();
        for path in pipeline.lists() {
            let list = Self::new(pipeline, path, &lists, records)?;
            lists.push(list);
        }
        Ok(lists)
    }

    fn new(pipeline: &Pipeline, path: ListPath, before: &[Self], records: &Schema) -> Result<Self> {
        let outer = path.enclosing().and_then(|outer| before.iter().position(|list| list.path == outer));
        let step = path.steps().last().cloned().unwrap_or_default();
        let around = match outer.map(|outer| &before[outer]) {
            None => records.fields(),
            Some(ListLayout { element: DataType::Struct(fields), .. }) => fields,
            Some(outer) => {
                return Err(IngestError::pipeline(format!(
                    "{}: elements of '{}' are {}, and have no '{step}'",
                    user(pipeline, &path),
                    outer.path,
                    outer.element
                ))
                .help("take the path apart only as far as there are lists"));
            }
        };
        let way = FieldPath::find(around, &step).map_err(|why| no_list(pipeline, &path, &step, around, &why))?;
        let found = way.field.data_type();
        let Some(element) = element_of(found).map(|element| element.data_type().clone()) else {
            return Err(IngestError::pipeline(format!(
                "{}: '{step}' is a {found}, and no list",
                user(pipeline, &path)
            ))
            .help("lists come from Parquet files and from JSON on lines; of CSV, a list is its text"));
        };
        let root = outer.map_or_else(|| way.root.clone(), |outer| before[outer].root.clone());
        Ok(Self { path, outer, way, element, root })
    }

    /// What a plain value is called: as its list.
    fn name(&self) -> &str {
        self.way.field.name()
    }

    /// What a name means among what its elements have themselves: a field, or one within it.
    fn own(&self, name: &str) -> Result<FieldPath, NoPath> {
        match &self.element {
            DataType::Struct(fields) => FieldPath::find(fields, name),
            plain if self.name() == name => {
                let field = Field::new(name, plain.clone(), true);
                Ok(FieldPath { root: name.to_owned(), fields: Vec::new(), field })
            }
            _ => Err(NoPath::Column),
        }
    }

    /// The names of the columns that its elements have themselves.
    fn names(&self) -> Vec<&str> {
        match &self.element {
            DataType::Struct(fields) => fields.iter().map(|field| field.name().as_str()).collect(),
            _ => vec![self.name()],
        }
    }
}

/// The table that a message about a list is about.
fn user(pipeline: &Pipeline, path: &ListPath) -> String {
    let is_user = |table: &&Table| {
        let ways = std::iter::successors(table.list(), ListPath::enclosing);
        ways.into_iter().any(|way| way == *path)
    };
    pipeline.tables.iter().find(is_user).map_or_else(|| format!("'{path}'"), |table| format!("table '{}'", table.name))
}

fn no_list(pipeline: &Pipeline, path: &ListPath, step: &str, around: &Fields, why: &NoPath) -> IngestError {
    if let Some((what, help)) = why.words() {
        return IngestError::pipeline(format!("{}: there is no list '{step}': {what}", user(pipeline, path)))
            .help(help);
    }
    let place = match path.enclosing() {
        Some(outer) => format!("the elements of '{outer}'"),
        None if pipeline.transform.is_some() => "the transform's result".to_owned(),
        None => "the source".to_owned(),
    };
    let lists: Vec<&str> = around
        .iter()
        .filter(|field| element_of(field.data_type()).is_some())
        .map(|field| field.name().as_str())
        .collect();
    let error = IngestError::pipeline(format!("{}: there is no list '{step}' in {place}", user(pipeline, path)));
    error.help(match seriatim_pipeline::nearest(step, lists.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None if lists.is_empty() => "there is no list at all".to_owned(),
        None => format!("there are the lists: {}", lists.join(", ")),
    })
}

/// The elements of a list, as a field.
pub(crate) fn element_of(list: &DataType) -> Option<&FieldRef> {
    match list {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => Some(field),
        _ => None,
    }
}

/// Where a column is that a table names: in the elements of this list, or in the records.
fn home(lists: &[ListLayout], mut kind: Kind, name: &str) -> Kind {
    while let Some(list) = kind {
        if lists[list].own(name).is_ok() {
            return kind;
        }
        kind = lists[list].outer;
    }
    None
}

/// A column that a table of this kind names, as the element has it, or what the element is in, or the record; called as
/// the table calls it. If nobody has it, why the one does not where the name leads furthest.
pub(crate) fn find_column(lists: &[ListLayout], mut kind: Kind, records: &Schema, name: &str) -> Result<Field, NoPath> {
    let mut reason = NoPath::Column;
    loop {
        let found = match kind {
            Some(list) => lists[list].own(name),
            None => FieldPath::find(records.fields(), name),
        };
        match found {
            Ok(path) => return Ok(path.field),
            Err(why) if why.reach() > reason.reach() => reason = why,
            Err(_) => {}
        }
        let Some(list) = kind else { return Err(reason) };
        kind = lists[list].outer;
    }
}

/// The names of all columns that a table of this kind may name, those of the element first.
pub(crate) fn column_names<'a>(lists: &'a [ListLayout], mut kind: Kind, records: &'a Schema) -> Vec<&'a str> {
    let mut names = Vec::new();
    while let Some(list) = kind {
        names.extend(lists[list].names());
        kind = lists[list].outer;
    }
    names.extend(records.fields().iter().map(|field| field.name().as_str()));
    names
}

impl Layout {
    /// The columns of the records that columns of things of a kind are made of, and the things themselves.
    pub(crate) fn inputs<'a>(&'a self, kind: Kind, names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
        let mut inputs: Vec<&str> = kind.map(|list| self.lists[list].root.as_str()).into_iter().collect();
        for name in names {
            if home(&self.lists, kind, name).is_none() && !inputs.contains(&name.as_str()) {
                inputs.push(name);
            }
        }
        inputs
    }

    /// The column of the records that a list is in.
    pub(crate) fn root_of(&self, list: usize) -> &str {
        &self.lists[list].root
    }

    /// The columns of the records that lists are in.
    pub(crate) fn list_columns(&self) -> impl Iterator<Item = &str> {
        self.lists.iter().map(|list| list.root.as_str())
    }
}

/// Some records, and the elements of their lists: what the rows of tables are made of.
#[derive(Debug)]
pub(crate) struct Things<'a> {
    lists: &'a [ListLayout],
    records: RecordBatch,
    /// By list; of a list whose column was not read, nothing.
    elements: Vec<Option<Elements>>,
}

/// The elements of a list in all things that have one.
#[derive(Debug)]
struct Elements {
    values: ArrayRef,
    /// For each the thing that it is in, ascending.
    parents: Vec<u32>,
}

impl<'a> Things<'a> {
    /// Takes all lists apart whose columns are there.
    pub(crate) fn new(layout: &'a Layout, records: RecordBatch) -> Result<Self> {
        let lists = layout.lists.as_slice();
        let mut things = Self { lists, records, elements: Vec::with_capacity(lists.len()) };
        for list in lists {
            let elements =
                things.list(list)?.map(|list| Elements::of(&list)).transpose().map_err(|e| unfit(list, &e))?;
            things.elements.push(elements);
        }
        Ok(things)
    }

    /// The column that is a list, in what it is in.
    fn list(&self, list: &ListLayout) -> Result<Option<ArrayRef>> {
        match list.outer {
            None => self.records.column_by_name(&list.way.root).map(|column| list.way.take(column)).transpose(),
            Some(outer) => self.elements[outer].as_ref().map(|outer| field(&outer.values, &list.way)).transpose(),
        }
    }

    fn elements(&self, list: usize) -> Result<&Elements> {
        let elements = self.elements.get(list).and_then(Option::as_ref);
        elements.ok_or_else(|| IngestError::internal("a list was not read"))
    }

    /// How many things of a kind there are.
    pub(crate) fn count(&self, kind: Kind) -> Result<usize> {
        match kind {
            None => Ok(self.records.num_rows()),
            Some(list) => self.elements(list).map(|elements| elements.parents.len()),
        }
    }

    /// How many elements each list has.
    pub(crate) fn counts(&self) -> Result<Vec<u32>> {
        // There are no more than 32 bits count, or they could not have been listed.
        (0..self.lists.len()).map(|list| self.count(Some(list)).map(|count| count as u32)).collect()
    }

    /// For each thing of a kind, of these or of all, what it is in, of the kind `outer`.
    pub(crate) fn within(&self, mut kind: Kind, outer: Kind, things: Option<&[u32]>) -> Result<Vec<u32>> {
        let mut found = things.map(<[u32]>::to_vec);
        while kind != outer {
            let list = kind.ok_or_else(|| IngestError::internal("a thing is in none of a kind"))?;
            let parents = &self.elements(list)?.parents;
            found = Some(match found {
                None => parents.clone(),
                Some(inner) => inner.into_iter().map(|at| parents[at as usize]).collect(),
            });
            kind = self.lists[list].outer;
        }
        match found {
            Some(found) => Ok(found),
            None => Ok((0..self.count(outer)? as u32).collect()),
        }
    }

    /// What things of a kind have in a column; of these things, or of all.
    pub(crate) fn column(&self, kind: Kind, name: &str, things: Option<&[u32]>) -> Result<ArrayRef> {
        let home = home(self.lists, kind, name);
        let column = match home {
            None => self.records.column_by_name(name).cloned(),
            Some(list) => Some(self.own_column(list, name)?),
        };
        let column = column.ok_or_else(|| IngestError::internal(format!("column '{name}' was not read")))?;
        if home == kind && things.is_none() {
            return Ok(column);
        }
        let picked = self.within(kind, home, things)?;
        take(&column, &UInt32Array::from(picked), None).map_err(|e| match kind {
            Some(list) => unfit(&self.lists[list], &e),
            None => IngestError::internal(e.to_string()),
        })
    }

    /// The same of several columns.
    pub(crate) fn columns(&self, kind: Kind, names: &[String]) -> Result<Vec<ArrayRef>> {
        names.iter().map(|name| self.column(kind, name, None)).collect()
    }

    /// A column that elements have themselves.
    fn own_column(&self, list: usize, name: &str) -> Result<ArrayRef> {
        let values = &self.elements(list)?.values;
        match &self.lists[list].element {
            DataType::Struct(_) => {
                let path = self.lists[list].own(name);
                field(values, &path.map_err(|_| IngestError::internal(format!("elements have no '{name}'")))?)
            }
            _ => Ok(values.clone()),
        }
    }

    /// Where an element is in its record, for people: `orders[0].items[2]`.
    pub(crate) fn place(&self, list: usize, element: u32) -> Result<String> {
        let (mut steps, mut kind, mut at) = (Vec::new(), Some(list), element);
        while let Some(list) = kind {
            let parents = &self.elements(list)?.parents;
            let parent = *parents.get(at as usize).ok_or_else(|| IngestError::internal("there is no such element"))?;
            let first = parents.partition_point(|&other| other < parent);
            let step = self.lists[list].path.steps().last().map_or("", String::as_str);
            steps.push(format!("{step}[{}]", at as usize - first));
            (kind, at) = (self.lists[list].outer, parent);
        }
        steps.reverse();
        Ok(steps.join("."))
    }
}

/// Values that are more than one array can hold.
fn unfit(list: &ListLayout, error: &ArrowError) -> IngestError {
    IngestError::input(format!(
        "the elements of '{}' in one chunk of a file cannot be held together: {error}",
        list.path
    ))
    .help("write the files again with fewer records in a row group")
}

/// What is at a path in elements, none of which is null itself.
fn field(elements: &ArrayRef, path: &FieldPath) -> Result<ArrayRef> {
    let column = elements.as_struct_opt().and_then(|structs| structs.column_by_name(&path.root));
    path.take(column.ok_or_else(|| IngestError::internal(format!("there is no field '{}'", path.root)))?)
}

/// A column of structs with these nulls.
fn null_with(column: &ArrayRef, nulls: Option<&NullBuffer>) -> std::result::Result<ArrayRef, ArrowError> {
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) if *column.data_type() != DataType::Null => {
            nullif(column, &BooleanArray::new(!nulls.inner(), None))
        }
        _ => Ok(column.clone()),
    }
}

/// Structs none of which is null, with fields that are null instead: they are asked for again and again.
fn without_nulls(values: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
    let Some(structs) = values.as_struct_opt().filter(|structs| structs.null_count() > 0) else {
        return Ok(values.clone());
    };
    let columns = structs.columns().iter().map(|column| null_with(column, structs.nulls()));
    let columns: Vec<ArrayRef> = columns.collect::<std::result::Result<_, _>>()?;
    let fields: Fields = structs.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
}

impl Elements {
    fn of(list: &ArrayRef) -> std::result::Result<Self, ArrowError> {
        let nulls = list.nulls();
        match list.data_type() {
            DataType::List(_) => {
                let list = list.as_list::<i32>();
                let ends = list.value_offsets();
                Self::in_ranges(list.values(), list.len(), nulls, |at| ends[at] as usize..ends[at + 1] as usize)
            }
            DataType::LargeList(_) => {
                let list = list.as_list::<i64>();
                let ends = list.value_offsets();
                Self::in_ranges(list.values(), list.len(), nulls, |at| ends[at] as usize..ends[at + 1] as usize)
            }
            DataType::FixedSizeList(_, size) => {
                let (list, size) = (list.as_fixed_size_list(), *size as usize);
                Self::in_ranges(list.values(), list.len(), nulls, |at| at * size..(at + 1) * size)
            }
            DataType::Map(_, _) => {
                let map = list.as_map();
                let (ends, entries) = (map.value_offsets(), Arc::new(map.entries().clone()) as ArrayRef);
                Self::in_ranges(&entries, map.len(), nulls, |at| ends[at] as usize..ends[at + 1] as usize)
            }
            other => Err(ArrowError::CastError(format!("a {other} is no list"))),
        }
    }

    /// Those of the lists that are not null, each with its range of all values.
    fn in_ranges(
        values: &ArrayRef,
        lists: usize,
        nulls: Option<&NullBuffer>,
        range: impl Fn(usize) -> Range<usize>,
    ) -> std::result::Result<Self, ArrowError> {
        let mut parents: Vec<u32> = Vec::with_capacity(values.len());
        let mut ranges: Vec<Range<usize>> = Vec::new();
        // A list that is null may have values all the same, which are nobody's.
        for at in (0..lists).filter(|&at| nulls.is_none_or(|nulls| nulls.is_valid(at))) {
            let range = range(at);
            if range.is_empty() {
                continue;
            }
            if parents.len() + range.len() > u32::MAX as usize {
                return Err(ArrowError::OffsetOverflowError(parents.len() + range.len()));
            }
            parents.extend(std::iter::repeat_n(at as u32, range.len()));
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        let slice = |range: &Range<usize>| values.slice(range.start, range.len());
        let values = match ranges.as_slice() {
            [] => values.slice(0, 0),
            [one] => slice(one),
            many => {
                let pieces: Vec<ArrayRef> = many.iter().map(slice).collect();
                concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())?
            }
        };
        Ok(Self { values: without_nulls(&values)?, parents })
    }
}

/// For each record the first of these things, none of which is in two records; `u32::MAX` where there is none.
pub(crate) fn first_in_each(records: usize, things: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
    let mut first = vec![u32::MAX; records];
    for (thing, record) in things {
        let slot = &mut first[record as usize];
        *slot = thing.min(*slot);
    }
    first
}

#[cfg(test)]
mod tests {
    use arrow::array::{FixedSizeListArray, Int64Array, LargeListArray, ListArray};
    use arrow::buffer::{BooleanBuffer, OffsetBuffer};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn numbers(elements: &Elements) -> Vec<(u32, Option<i64>)> {
        let values = elements.values.as_primitive::<Int64Type>();
        elements.parents.iter().copied().zip(values.iter()).collect()
    }

    #[test]
    fn lists_of_every_form_have_the_same_elements() {
        let lists = [Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(4), Some(5)])];
        let expected = [(0, Some(1)), (0, None), (3, Some(4)), (3, Some(5))];
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists.clone()));
        assert_eq!(numbers(&Elements::of(&list).unwrap()), expected);
        let large: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(lists.clone()));
        assert_eq!(numbers(&Elements::of(&large).unwrap()), expected);
        // A slice begins anywhere among the values.
        assert_eq!(numbers(&Elements::of(&list.slice(2, 2)).unwrap()), [(1, Some(4)), (1, Some(5))]);
        let fixed = lists.into_iter().map(|list| list.filter(|list| !list.is_empty()));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(fixed, 2));
        assert_eq!(numbers(&Elements::of(&fixed).unwrap()), expected);
        assert_eq!(numbers(&Elements::of(&fixed.slice(3, 1)).unwrap()), [(0, Some(4)), (0, Some(5))]);
    }

    #[test]
    fn values_of_a_list_that_is_null_are_no_elements() {
        let field = Arc::new(Field::new("item", DataType::Int64, true));
        let nulls = NullBuffer::new(BooleanBuffer::from(vec![true, false, true]));
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let list = ListArray::new(field, OffsetBuffer::new(vec![0, 1, 3, 4].into()), values, Some(nulls));
        assert_eq!(numbers(&Elements::of(&(Arc::new(list) as ArrayRef)).unwrap()), [(0, Some(1)), (2, Some(4))]);
    }

    #[test]
    fn a_field_is_null_where_its_struct_is() {
        let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), None]));
        let fields = Fields::from(vec![Field::new("n", DataType::Int64, true)]);
        let path = FieldPath::find(&fields, "n").unwrap();
        let nulls = NullBuffer::new(BooleanBuffer::from(vec![true, false, true]));
        let structs: ArrayRef = Arc::new(StructArray::new(fields, vec![inner], Some(nulls)));
        let found = field(&without_nulls(&structs).unwrap(), &path).unwrap();
        assert_eq!(found.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None, None]);
        assert!(field(&found, &path).is_err());
    }
}
