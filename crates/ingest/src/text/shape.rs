//! What the columns of text files are: values of a type, objects with members, lists of elements. It is found from the
//! files, and kept as the types of what is neither, by their paths. Must never depend on the order of files or records.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};

use super::infer::Looks;
use super::path::{Step, element, escaped, member, steps};

/// A path may have so many steps: what is deeper is its text. Parquet takes two levels for a list, and footers may have 100.
pub(super) const DEPTH: usize = 32;

/// Columns, or the members of an object, by name.
pub(super) type Shapes = BTreeMap<String, Shape>;

/// A column, or what is within one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Leaf(DataType),
    Struct(Shapes),
    List(Box<Self>),
}

impl Shape {
    /// The shape of values of a type.
    fn new(kind: &DataType) -> Self {
        match kind {
            DataType::Struct(fields) => {
                Self::Struct(fields.iter().map(|field| (field.name().clone(), Self::new(field.data_type()))).collect())
            }
            DataType::List(field) => Self::List(Box::new(Self::new(field.data_type()))),
            kind => Self::Leaf(kind.clone()),
        }
    }

    /// One that has a leaf after these steps, and nothing else.
    fn leading(steps: &[Step], kind: &DataType) -> Self {
        match steps.split_first() {
            None => Self::Leaf(kind.clone()),
            Some((Step::Element, rest)) => Self::List(Box::new(Self::leading(rest, kind))),
            Some((Step::Name(name), rest)) => Self::Struct([(name.clone(), Self::leading(rest, kind))].into()),
        }
    }

    fn put(&mut self, steps: &[Step], kind: &DataType) -> bool {
        match (self, steps.split_first()) {
            (Self::Leaf(known), None) => known == kind,
            (Self::List(inner), Some((Step::Element, rest))) => inner.put(rest, kind),
            (Self::Struct(members), Some(_)) => put(members, steps, kind),
            _ => false,
        }
    }

    /// The type of its values. Members are in the order of their names.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Leaf(kind) => kind.clone(),
            Self::List(inner) => DataType::List(Arc::new(Field::new("element", inner.data_type(), true))),
            Self::Struct(members) => DataType::Struct(fields(members)),
        }
    }

    fn leaves(&self, path: String, into: &mut BTreeMap<String, DataType>) {
        match self {
            Self::Leaf(kind) => drop(into.insert(path, kind.clone())),
            Self::List(inner) => inner.leaves(element(&path), into),
            Self::Struct(members) => {
                for (name, shape) in members {
                    shape.leaves(member(&path, name), into);
                }
            }
        }
    }

    /// Completes it by what was found: what is settled stays.
    fn complete(&mut self, found: &Found, infers: bool) {
        match self {
            Self::Leaf(_) => {}
            Self::List(inner) => found.element.iter().for_each(|element| inner.complete(element, infers)),
            Self::Struct(members) => complete(members, &found.members, infers),
        }
    }

    /// Of what is after a step, if that is settled.
    pub(super) fn after(&self, name: Option<&str>) -> Option<&Self> {
        match (self, name) {
            (Self::Struct(members), Some(name)) => members.get(name),
            (Self::List(inner), None) => Some(inner),
            _ => None,
        }
    }
}

/// Adds the type at a path, as steps of which the first is a name; `false`, and nothing is added, if something else is there.
pub(super) fn put(columns: &mut Shapes, steps: &[Step], kind: &DataType) -> bool {
    let Some((Step::Name(name), rest)) = steps.split_first() else { return false };
    match columns.entry(name.clone()) {
        Entry::Vacant(entry) => drop(entry.insert(Shape::leading(rest, kind))),
        Entry::Occupied(entry) => return entry.into_mut().put(rest, kind),
    }
    true
}

/// Adds what is published, as far as nothing else is there.
pub(super) fn put_published(columns: &mut Shapes, published: &BTreeMap<String, DataType>) {
    let mut leaves = BTreeMap::new();
    for (name, kind) in published {
        Shape::new(kind).leaves(escaped(name), &mut leaves);
    }
    for (path, kind) in leaves {
        put(columns, &steps(&path), &kind);
    }
}

/// Completes columns by what was found.
pub(super) fn complete(columns: &mut Shapes, found: &BTreeMap<String, Found>, infers: bool) {
    for (name, found) in found {
        match columns.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut().complete(found, infers),
            Entry::Vacant(entry) => drop(entry.insert(found.shape(infers))),
        }
    }
}

/// The columns as fields of a schema.
pub(super) fn fields(columns: &Shapes) -> Fields {
    columns.iter().map(|(name, shape)| Field::new(name, shape.data_type(), true)).collect()
}

/// The types of all that is neither an object nor a list, by path.
pub(super) fn leaves(columns: &Shapes) -> BTreeMap<String, DataType> {
    let mut leaves = BTreeMap::new();
    for (name, shape) in columns {
        shape.leaves(escaped(name), &mut leaves);
    }
    leaves
}

/// What the values at one place look like, in one file or in several.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) looks: Looks,
    pub(super) members: BTreeMap<String, Self>,
    pub(super) element: Option<Box<Self>>,
    /// The last object that had it, of those of its file.
    pub(super) object: u64,
}

impl Found {
    /// Adds what another file has at this place.
    pub(super) fn add(&mut self, other: &Self) {
        self.looks |= other.looks;
        for (name, found) in &other.members {
            self.members.entry(name.clone()).or_default().add(found);
        }
        if let Some(element) = &other.element {
            self.element.get_or_insert_default().add(element);
        }
    }

    fn shape(&self, infers: bool) -> Shape {
        match &self.element {
            _ if self.looks.are_objects() && !self.members.is_empty() => {
                let mut members = Shapes::new();
                complete(&mut members, &self.members, infers);
                Shape::Struct(members)
            }
            Some(element) if self.looks.are_lists() => Shape::List(Box::new(element.shape(infers))),
            _ if infers => Shape::Leaf(self.looks.data_type()),
            _ => Shape::Leaf(DataType::Utf8),
        }
    }
}
