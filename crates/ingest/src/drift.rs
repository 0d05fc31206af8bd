//! The columns that the files of a run have together, though one may differ from another: of which types they are read,
//! and what is to be told of it. All of it follows from the files, the pipeline, and what was published before; it must
//! never follow from anything else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::{Pipeline, SchemaMode};

use crate::committed::Committed;
use crate::error::{IngestError, Result};
use crate::layout::TableSignature;
use crate::lookups::Lookups;
use crate::plan::{Bound, FileMemory, bind};
use crate::sequence::is_zero;
use crate::source::{FileFacts, Records, common, is_alike, is_same, lacks, name_in_source, text_of, type_of};
use crate::text::form_of;

/// The types of the source's columns, as texts by name.
pub(crate) type SourceTypes = BTreeMap<String, String>;

/// Which column of the source a column of the tables is, if it is one.
type Origin<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What earlier runs have left for a plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The files that they have looked at.
    pub(crate) files: FileMemory,
    /// The columns that they have published.
    layout: Vec<TableSignature>,
    /// The types that the source's columns had then.
    types: SourceTypes,
}

impl Known {
    pub(crate) fn new(files: FileMemory, committed: &Committed) -> Self {
        Self { files, layout: committed.layout.clone(), types: committed.source.clone() }
    }

    /// The same without its files.
    pub(crate) fn without_files(self) -> Self {
        Self { files: FileMemory::new(), ..self }
    }

    /// The types that columns of text files have, because they are published.
    pub(crate) fn text_types(&self, pipeline: &Pipeline) -> BTreeMap<String, DataType> {
        // Without a transform, columns of the tables are columns of the source.
        let is_plain = pipeline.transform.is_none();
        self.published(pipeline, is_plain.then_some(&|column: &str| Some(column.to_owned())))
    }

    /// The types that columns of the source must hold, because they are published; `origin` says which of these a column
    /// of the tables is.
    fn published(&self, pipeline: &Pipeline, origin: Option<Origin<'_>>) -> BTreeMap<String, DataType> {
        if !self.types.is_empty() {
            return self.types.iter().filter_map(|(name, text)| Some((name.clone(), type_of(text)?))).collect();
        }
        // Runs that took their files as they were have kept no types.
        let Some(origin) = origin else { return BTreeMap::new() };
        let tables = self.layout.iter().filter(|table| table.from.is_none());
        let columns = tables.flat_map(|table| table.columns.iter().map(|column| (&table.table, column)));
        let own = columns.filter(|(_, (role, ..))| role == "key" || role == "column");
        let own = own.filter(|(table, (_, name, _))| !is_field(pipeline, table, name));
        let read = |text: &String| text.parse().ok().filter(|kind: &DataType| kind.to_string() == *text);
        own.filter_map(|(_, (_, name, text))| Some((origin(name)?, read(text)?))).collect()
    }
}

/// Whether a column of a table is a field of a struct, and none of the source's columns.
fn is_field(pipeline: &Pipeline, table: &str, column: &str) -> bool {
    let of = pipeline.tables.iter().find(|of| of.name == table);
    let mut names = of.into_iter().flat_map(|of| of.key.iter().chain(&of.columns));
    let is_path = |name: &String| name.strip_suffix(column).is_some_and(|before| before.ends_with('.'));
    names.clone().all(|name| name != column) && names.any(is_path)
}

/// What the files of a run differ in, as the run's plan keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drift {
    /// Differences, in the order of the files that bring them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) differences: Vec<Difference>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) more: u64,
    /// The types that the source's columns have once the run is published.
    #[serde(default, skip_serializing_if = "SourceTypes::is_empty")]
    pub(crate) types: SourceTypes,
    /// Those that they had when this was planned.
    #[serde(default, skip_serializing_if = "SourceTypes::is_empty")]
    pub(crate) before: SourceTypes,
    /// The first file that brings more than a column's published type holds, by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    wider: BTreeMap<String, String>,
}

impl Drift {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The file to blame for the type of a column of the records, if there is one.
    pub(crate) fn wider(&self, records: &Records, column: &str) -> Option<&str> {
        self.wider.get(records.pass_through(column)?).map(String::as_str)
    }
}

/// Differences that are kept and told one by one, at most: a footer may have any number of columns.
const MOST: usize = 100;

/// Something that some source files have otherwise than others, told once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The first file that has it so.
    pub file: String,
    /// How many of the run's new files have it so.
    pub files: u64,
    /// The column, as the pipeline calls it.
    pub column: String,
    /// What is different.
    #[serde(flatten)]
    pub what: Differs,
}

/// What a file has otherwise than others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "difference", rename_all = "snake_case")]
pub enum Differs {
    /// The column has another type than it is read as.
    Type {
        /// Its type in the file.
        found: String,
        /// The type that holds the values of all files.
        read_as: String,
    },
    /// The file has no such column, which the pipeline uses: it is null.
    Missing,
    /// The file has such a column and not every file has, and the pipeline does not use it.
    Extra,
    /// The file has it under another name.
    Renamed {
        /// That name.
        from: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, files, column, what } = self;
        write!(f, "{file}: ")?;
        match what {
            Differs::Type { found, read_as } => write!(f, "column '{column}' is {found}, read as {read_as}")?,
            Differs::Missing => write!(f, "has no column '{column}': null")?,
            Differs::Extra if *files == 1 => {
                write!(f, "has a column '{column}' that no other file has, and no table uses")?;
            }
            Differs::Extra => write!(f, "has a column '{column}' that not every file has, and no table uses")?,
            Differs::Renamed { from } => write!(f, "'{from}' is read as '{column}'")?,
        }
        match files {
            0 | 1 => Ok(()),
            2 => f.write_str(" (and in 1 more file)"),
            n => write!(f, " (and in {} more files)", n - 1),
        }
    }
}

/// The files of a run, bound to the pipeline.
#[derive(Debug)]
pub(crate) struct Together {
    pub(crate) bound: Bound,
    /// The columns that a record in quarantine shows, in the order of names.
    pub(crate) columns: Vec<String>,
    pub(crate) drift: Drift,
}

/// Binds the pipeline to the columns that the files have together. Types are kept for later runs if these may have files
/// that say nothing of their own, or something else.
pub(crate) fn bind_files(
    pipeline: &Pipeline,
    files: &[FileFacts],
    known: &Known,
    lookups: &Arc<Lookups>,
) -> Result<Together> {
    let has_texts = files.iter().any(|file| form_of(&file.file.name, pipeline.source.format).is_some());
    let views: Vec<View<'_>> = files.iter().map(|file| View::new(file, pipeline)).collect::<Result<_>>()?;
    let mode = pipeline.source.schema;
    let mut merged = Merged::new(&views, mode, &known.published(pipeline, None));
    if mode != SchemaMode::Strict
        && known.types.is_empty()
        && let Ok(records) = Records::new(&merged.schema(), pipeline, lookups)
    {
        let origin = |column: &str| records.pass_through(column).map(str::to_owned);
        merged = Merged::new(&views, mode, &known.published(pipeline, Some(&origin)));
    }
    let bound = bind(pipeline, &merged.schema(), lookups)?;
    let used = bound.records.source_columns(&bound.layout.used_columns());
    for column in &used {
        merged.check(column, &views, mode)?;
    }
    let used: BTreeSet<&str> = used.iter().map(String::as_str).collect();
    let mut columns: Vec<String> =
        merged.columns.iter().filter(|c| c.is_shown(mode, files.len())).map(|c| c.field.name().clone()).collect();
    columns.sort_unstable();
    let mut drift = Drift { before: known.types.clone(), types: known.types.clone(), ..Drift::default() };
    if mode != SchemaMode::Strict || has_texts {
        // Without what the transform names there is none, also where no table needs what comes of it.
        let named = bound.records.named_columns();
        let is_kept = |name: &String| used.contains(name.as_str()) || named.contains(name);
        drift.types.extend(merged.columns.iter().filter(|c| is_kept(c.field.name())).filter_map(kept));
    }
    if mode != SchemaMode::Strict {
        drift.wider = merged.wider(&views);
    }
    let told = differences(&merged, &views, mode, &used);
    drift.more = told.len().saturating_sub(MOST) as u64;
    drift.differences = told.into_iter().take(MOST).collect();
    Ok(Together { bound, columns, drift })
}

/// The type of a column, for later runs; `None` if it cannot be written so that it is read back.
fn kept(column: &Column<'_>) -> Option<(String, String)> {
    let text = text_of(column.field.data_type());
    is_same(&type_of(&text)?, column.field.data_type()).then(|| (column.field.name().clone(), text))
}

/// Whether objects lack members that they must have.
fn is_lacking(kind: &DataType, wide: &DataType, mode: SchemaMode) -> bool {
    mode != SchemaMode::Evolve && lacks(kind, wide)
}

/// The columns of one file, as the source calls them.
#[derive(Debug)]
struct View<'a> {
    file: &'a str,
    fields: Vec<(&'a str, &'a FieldRef)>,
    places: HashMap<&'a str, usize>,
}

impl<'a> View<'a> {
    fn new(facts: &'a FileFacts, pipeline: &'a Pipeline) -> Result<Self> {
        let renames = &pipeline.source.rename;
        let all = facts.schema().fields().iter();
        let fields: Vec<_> = all.map(|field| (name_in_source(field.name(), renames), field)).collect();
        let mut places = HashMap::with_capacity(fields.len());
        for (place, (name, field)) in fields.iter().enumerate() {
            let Some(first) = places.insert(*name, place) else { continue };
            let other: &FieldRef = fields[first].1;
            if other.name() != field.name() {
                return Err(IngestError::input(format!(
                    "{} has the columns '{}' and '{}', and by `source.rename` both are '{name}'",
                    facts.file.name,
                    other.name(),
                    field.name()
                ))
                .help("write the file again with one of them, or take the name out of `source.rename`"));
            }
        }
        Ok(Self { file: &facts.file.name, fields, places })
    }

    fn field(&self, name: &str) -> Option<&'a FieldRef> {
        self.places.get(name).map(|&place| self.fields[place].1)
    }

    fn data_type(&self, name: &str) -> Option<&'a DataType> {
        self.field(name).map(|field| field.data_type())
    }
}

/// A column of the source.
#[derive(Debug)]
struct Column<'a> {
    /// As it is read.
    field: FieldRef,
    published: Option<DataType>,
    /// The types that files have, in the order in which they come.
    types: Vec<&'a DataType>,
    /// How many files have it.
    files: usize,
    /// Whether no type holds the values of all files.
    is_torn: bool,
}

impl<'a> Column<'a> {
    fn new(published: Option<&DataType>, field: FieldRef) -> Self {
        Self { field, published: published.cloned(), types: Vec::new(), files: 0, is_torn: false }
    }

    fn add(&mut self, data_type: &'a DataType) {
        self.files += 1;
        if !self.types.iter().any(|known| is_same(known, data_type)) {
            self.types.push(data_type);
        }
    }

    /// Settles the type, once all files have been looked at.
    fn settle(&mut self, mode: SchemaMode) {
        let wide = common(self.types.iter().copied().chain(&self.published));
        // What is published has its members in an order.
        let published =
            |wide: DataType| self.published.clone().filter(|published| is_alike(published, &wide)).unwrap_or(wide);
        let is_lacking = |wide: &DataType| self.types.iter().any(|kind| is_lacking(kind, wide, mode));
        match wide.map(published) {
            // Like a column, a member may be missing only where that is asked for.
            Some(wide) if is_lacking(&wide) => {
                self.is_torn = true;
                self.field = self.field.as_ref().clone().with_data_type(wide).into();
            }
            Some(wide) if is_same(&wide, self.field.data_type()) => {}
            Some(wide) => self.field = self.field.as_ref().clone().with_data_type(wide).into(),
            None => self.is_torn = true,
        }
    }

    /// Whether a record in quarantine shows it.
    fn is_shown(&self, mode: SchemaMode, files: usize) -> bool {
        match mode {
            SchemaMode::Strict => self.files == files && self.types.len() == 1,
            SchemaMode::Widen => self.files == files && !self.is_torn,
            SchemaMode::Evolve => !self.is_torn,
        }
    }
}

/// The columns of all files.
#[derive(Debug)]
struct Merged<'a> {
    columns: Vec<Column<'a>>,
    places: HashMap<String, usize>,
}

impl<'a> Merged<'a> {
    /// Where each file must have them, the columns of the first; else those of all files, each where it comes first, and
    /// at the end those that are published.
    fn new(views: &[View<'a>], mode: SchemaMode, published: &BTreeMap<String, DataType>) -> Self {
        let mut merged = Self { columns: Vec::new(), places: HashMap::new() };
        for (index, view) in views.iter().enumerate() {
            for (name, field) in &view.fields {
                let place = match merged.places.get(*name) {
                    Some(&place) => place,
                    None if index > 0 && mode != SchemaMode::Evolve => continue,
                    None => merged.begin(name, field, published),
                };
                merged.columns[place].add(field.data_type());
            }
        }
        if mode == SchemaMode::Evolve {
            for (name, data_type) in
                published.iter().filter(|(name, _)| !merged.places.contains_key(*name)).collect::<Vec<_>>()
            {
                merged.begin(name, &Field::new(name, data_type.clone(), true).into(), published);
            }
        }
        if mode != SchemaMode::Strict {
            merged.columns.iter_mut().for_each(|column| column.settle(mode));
        }
        merged
    }

    fn begin(&mut self, name: &str, field: &FieldRef, published: &BTreeMap<String, DataType>) -> usize {
        let field = field.as_ref().clone().with_name(name).into();
        self.places.insert(name.to_owned(), self.columns.len());
        self.columns.push(Column::new(published.get(name), field));
        self.columns.len() - 1
    }

    fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>())
    }

    fn column(&self, name: &str) -> Option<&Column<'a>> {
        self.places.get(name).map(|&place| &self.columns[place])
    }

    /// An error if some file does not have a column that the pipeline uses as it must.
    fn check(&self, name: &str, views: &[View<'_>], mode: SchemaMode) -> Result<()> {
        let column =
            self.column(name).ok_or_else(|| IngestError::internal(format!("column '{name}' is of no file")))?;
        if mode != SchemaMode::Evolve
            && let Some(without) = views.iter().find(|view| view.field(name).is_none())
        {
            let with = views.iter().find(|view| view.field(name).is_some()).map_or("the pipeline", |view| view.file);
            return Err(IngestError::input(format!(
                "{} has no column '{name}', which {with} has and the pipeline uses",
                without.file
            ))
            .help(
                "take the file out of `source.files`, or write it again with that column; with `source.schema: evolve` \
                 it is null there",
            ));
        }
        if mode == SchemaMode::Strict && column.types.len() > 1 {
            return Err(torn(name, &column.types, None, views, mode).help(
                "write one of the files again with the other's type; with `source.schema: widen` both are read as a type \
                 that holds the values of both, if there is one",
            ));
        }
        if column.is_torn {
            let all = || column.types.iter().copied().chain(&column.published);
            let help = if mode == SchemaMode::Widen && common(all()).is_some() {
                "write one of the files again with the other's type; with `source.schema: evolve` a member that an object \
                 lacks is null"
            } else {
                "no type holds the values of both: write one of the files again with the other's type"
            };
            return Err(torn(name, &column.types, column.published.as_ref(), views, mode).help(help));
        }
        Ok(())
    }

    /// The first file that brings more than the published type of a column holds, for each such column.
    fn wider(&self, views: &[View<'_>]) -> BTreeMap<String, String> {
        let wider = |column: &Column<'_>| {
            let (name, published) = (column.field.name(), column.published.as_ref()?);
            let is_wider = |view: &&View<'_>| {
                let together = |found| common([found, published]);
                view.data_type(name)
                    .is_some_and(|found| !together(found).is_some_and(|kind| is_alike(&kind, published)))
            };
            Some((name.clone(), views.iter().find(is_wider)?.file.to_owned()))
        };
        self.columns.iter().filter_map(wider).collect()
    }
}

/// Files that have a column as types that do not go together.
fn torn(
    name: &str,
    types: &[&DataType],
    published: Option<&DataType>,
    views: &[View<'_>],
    mode: SchemaMode,
) -> IngestError {
    let apart = |a: &DataType, b: &DataType| match common([a, b]) {
        Some(wide) => is_lacking(a, &wide, mode) || is_lacking(b, &wide, mode),
        None => true,
    };
    let file = |data_type: &DataType| {
        let has = |view: &&View<'_>| view.data_type(name).is_some_and(|found| is_same(found, data_type));
        views.iter().find(has).map_or("a file", |view| view.file)
    };
    let pairs =
        || types.iter().enumerate().flat_map(|(at, second)| types[..at].iter().map(move |first| (first, second)));
    let pair = pairs().find(|(first, second)| apart(first, second)).or_else(|| pairs().next());
    let is_from_before = |published: &DataType| types.iter().find(|found| apart(found, published)).copied();
    let text = match (pair, published) {
        (pair, Some(published)) if pair.is_none_or(|(first, second)| !apart(first, second)) => {
            let found = is_from_before(published).or(types.first().copied()).unwrap_or(published);
            format!("column '{name}' is a {published} in what is published and a {found} in {}", file(found))
        }
        (Some((first, second)), _) => {
            format!("column '{name}' is a {first} in {} and a {second} in {}", file(first), file(second))
        }
        (None, _) => format!("column '{name}' has no type"),
    };
    IngestError::input(text)
}

/// What is to be told, in the order of the files that bring it.
fn differences(merged: &Merged<'_>, views: &[View<'_>], mode: SchemaMode, used: &BTreeSet<&str>) -> Vec<Difference> {
    let mut told: Vec<Difference> = Vec::new();
    let mut places: HashMap<(String, Differs), usize> = HashMap::new();
    let mut tell = |file: &str, column: &str, what: Differs| {
        let place = *places.entry((column.to_owned(), what.clone())).or_insert_with(|| {
            told.push(Difference { file: file.to_owned(), files: 0, column: column.to_owned(), what });
            told.len() - 1
        });
        told[place].files += 1;
    };
    for view in views {
        for (name, field) in &view.fields {
            if name != field.name() {
                tell(view.file, name, Differs::Renamed { from: field.name().clone() });
            }
        }
        if mode == SchemaMode::Strict {
            continue;
        }
        for name in used {
            let Some(column) = merged.column(name) else { continue };
            let read_as = column.field.data_type();
            match view.data_type(name) {
                None => tell(view.file, name, Differs::Missing),
                Some(found) if !is_same(found, read_as) => {
                    tell(view.file, name, Differs::Type { found: found.to_string(), read_as: read_as.to_string() });
                }
                Some(_) => {}
            }
        }
        for (name, _) in &view.fields {
            // What is not among these is not in the first file.
            let is_everywhere = merged.column(name).is_some_and(|column| column.files == views.len());
            if !used.contains(name) && !is_everywhere {
                tell(view.file, name, Differs::Extra);
            }
        }
    }
    told
}
