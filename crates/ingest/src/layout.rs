//! The output tables against the real schema: which column comes from where, and of what type. Finds every mistake that
//! the pipeline file alone cannot show. Must never look at a record.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use seriatim_pipeline::TextFormat;
use seriatim_pipeline::model::{Id, OnConflict, OnNullKey, PerGroup, Pipeline, Table, TextId};

use crate::checks::Checks;
use crate::error::{IngestError, Result};
use crate::keys::{KeyCodec, is_key_type};
use crate::partition::is_partition_type;
use crate::source::{FieldPath, within};
use crate::text_ids::{TextIds, is_text_type};

/// All output tables.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) tables: Vec<TableLayout>,
    /// What records must meet before any table sees them.
    pub(crate) checks: Checks,
}

/// One output table.
#[derive(Debug, Clone)]
pub(crate) struct TableLayout {
    pub(crate) name: String,
    /// Key columns, as the records call them: of a field of a struct, its path. Empty for a table without key.
    pub(crate) key: Vec<String>,
    /// The canonical form of its keys; `None` for a table without key.
    pub(crate) codec: Option<KeyCodec>,
    /// Its ID, which names columns as the table calls them.
    pub(crate) id: Option<Id>,
    /// What makes the groups within which its rows are numbered.
    pub(crate) group: Option<Box<GroupLayout>>,
    /// The texts of its IDs.
    pub(crate) texts: Option<TextIds>,
    /// Indices of the tables that it refers to.
    pub(crate) references: Vec<usize>,
    /// Its other columns, as the records call them.
    pub(crate) columns: Vec<String>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) on_null_key: OnNullKey,
    /// ID with its number within the group and its text, key, references, columns.
    pub(crate) schema: SchemaRef,
    /// Columns that are not in the files, but in the names of their folders.
    pub(crate) partition_by: Vec<String>,
}

impl TableLayout {
    pub(crate) fn is_partitioned(&self) -> bool {
        !self.partition_by.is_empty()
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.codec.is_some()
    }

    /// How many columns come before those of the key.
    pub(crate) fn id_width(&self) -> usize {
        self.id.as_ref().map_or(0, Id::width)
    }

    /// The key's columns, as the table calls them.
    pub(crate) fn key_fields(&self) -> &[FieldRef] {
        &self.schema.fields()[self.id_width()..][..self.key.len()]
    }

    /// What the records call the columns of its key and its other columns, each with what the table makes of it.
    pub(crate) fn own_columns(&self) -> impl Iterator<Item = (&String, &FieldRef)> {
        let others = self.schema.fields()[self.id_width() + self.key.len() + self.references.len()..].iter();
        self.key.iter().chain(&self.columns).zip(self.key_fields().iter().chain(others))
    }

    /// The record's columns that decide whether two records of a key agree: the attributes, and the keys of what the
    /// table refers to.
    pub(crate) fn compared_columns(&self, layout: &Layout) -> Vec<String> {
        let referenced = self.references.iter().flat_map(|&r| layout.tables[r].key.iter());
        let mut seen = BTreeSet::new();
        self.columns.iter().chain(referenced).filter(|c| seen.insert(c.as_str())).cloned().collect()
    }
}

/// The groups of a table, as they are kept: like keys, whose place is the last number given.
#[derive(Debug, Clone)]
pub(crate) struct GroupLayout(TableLayout);

impl GroupLayout {
    fn new(table: &str, group: &PerGroup, fields: Vec<Field>) -> Result<Self> {
        let codec = KeyCodec::with_nulls(fields.iter().map(|field| field.data_type().clone()).collect())?;
        let mut all = vec![Field::new(&group.number, DataType::Int64, false)];
        all.extend(fields);
        Ok(Self(TableLayout {
            name: table.to_owned(),
            key: group.columns.clone(),
            codec: Some(codec),
            id: Some(Id { start: 0, ..Id::new(&group.number) }),
            group: None,
            texts: None,
            references: Vec::new(),
            columns: Vec::new(),
            on_conflict: OnConflict::First,
            on_null_key: OnNullKey::Null,
            schema: Arc::new(Schema::new(all)),
            partition_by: Vec::new(),
        }))
    }

    /// The columns whose values make a group.
    pub(crate) fn grouped_by(&self) -> &[String] {
        &self.0.key
    }

    /// The canonical form of groups.
    pub(crate) fn codec(&self) -> Result<&KeyCodec> {
        self.0.codec.as_ref().ok_or_else(|| IngestError::internal("groups have no form"))
    }

    /// The table that they are kept as.
    pub(crate) fn table(&self) -> &TableLayout {
        &self.0
    }
}

/// What must stay as it is from run to run, because published files have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableSignature {
    pub(crate) table: String,
    pub(crate) start: Option<i64>,
    pub(crate) step: Option<i64>,
    /// Role, name and type of each column.
    pub(crate) columns: Vec<(String, String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partition_by: Vec<String>,
}

impl Layout {
    /// Binds the pipeline's tables to the columns of the records.
    pub(crate) fn new(pipeline: &Pipeline, records: &Schema) -> Result<Self> {
        let mut tables = Vec::with_capacity(pipeline.tables.len());
        for table in &pipeline.tables {
            tables.push(bind(pipeline, table, records)?);
        }
        Ok(Self { tables, checks: Checks::new(pipeline, records)? })
    }

    /// Every column of the records that some table or check uses, once each.
    pub(crate) fn used_columns(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let all = self.tables.iter().flat_map(|t| t.key.iter().chain(&t.columns));
        all.chain(self.checks.columns()).map(String::as_str).filter(|c| seen.insert(*c)).collect()
    }

    /// Role, name and type of the columns of each table.
    pub(crate) fn signatures(&self) -> Vec<TableSignature> {
        self.tables.iter().map(|table| self.signature(table)).collect()
    }

    fn signature(&self, table: &TableLayout) -> TableSignature {
        let mut roles = Vec::new();
        roles.extend(table.id.iter().map(|_| "id".to_owned()));
        let group = table.id.as_ref().and_then(|id| id.group.as_ref());
        roles.extend(group.map(|group| format!("number per {}", group.columns.join(", "))));
        let text = table.id.as_ref().and_then(|id| id.text.as_ref());
        roles.extend(text.map(|text| format!("text `{}`", text.format)));
        roles.extend(table.key.iter().map(|_| "key".to_owned()));
        roles.extend(table.references.iter().map(|&r| format!("reference to {}", self.tables[r].name)));
        roles.extend(table.columns.iter().map(|_| "column".to_owned()));
        let columns = table.schema.fields().iter().zip(roles);
        TableSignature {
            table: table.name.clone(),
            start: table.id.as_ref().map(|id| id.start),
            step: table.id.as_ref().map(|id| id.step),
            columns: columns.map(|(f, role)| (role, f.name().clone(), f.data_type().to_string())).collect(),
            partition_by: table.partition_by.clone(),
        }
    }
}

fn bind(pipeline: &Pipeline, table: &Table, records: &Schema) -> Result<TableLayout> {
    let mut fields = Vec::new();
    fields.extend(table.id.iter().map(|id| Field::new(&id.column, DataType::Int64, false)));
    let group = table.id.as_ref().and_then(|id| id.group.as_ref());
    fields.extend(group.map(|group| Field::new(&group.number, DataType::Int64, false)));
    let text = table.id.as_ref().and_then(|id| id.text.as_ref());
    fields.extend(text.map(|text| Field::new(&text.column, DataType::Utf8, false)));
    let mut key_types = Vec::new();
    for column in &table.key {
        let field = find(pipeline, table, records, column, "key")?;
        if !is_key_type(field.data_type()) {
            return Err(no_key_type(table, column, &field));
        }
        key_types.push(field.data_type().clone());
        fields.push(field.with_nullable(false));
    }
    let mut references = Vec::new();
    for name in &table.references {
        let position = pipeline.tables.iter().position(|t| t.name == *name);
        let target = position.and_then(|p| pipeline.tables[p].id.as_ref().map(|id| (p, id)));
        let (position, id) = target.ok_or_else(|| {
            IngestError::pipeline(format!("table '{}' refers to '{name}', which has no IDs", table.name))
        })?;
        references.push(position);
        fields.push(Field::new(&id.column, DataType::Int64, true));
    }
    for column in &table.columns {
        let field = find(pipeline, table, records, column, "column")?;
        fields.push(field.with_nullable(true));
    }
    refuse_twice(table, &fields)?;
    let codec = if key_types.is_empty() { None } else { Some(KeyCodec::new(key_types)?) };
    let layout = TableLayout {
        name: table.name.clone(),
        key: table.key.clone(),
        codec,
        // Where they begin is settled: nothing that is kept has to say from which files.
        id: table.id.clone().map(|id| own_names(Id { after: None, ..id }, records)).transpose()?,
        group: group.map(|group| bind_group(pipeline, table, group, records)).transpose()?,
        texts: text.map(TextIds::new).transpose()?,
        references,
        columns: table.columns.clone(),
        on_conflict: table.on_conflict,
        on_null_key: table.on_null_key,
        schema: Arc::new(Schema::new(fields)),
        partition_by: table.partition_by.iter().map(|column| own_name(records, column)).collect(),
    };
    check_partitions(&layout)?;
    check_comparable(pipeline, &layout, records)?;
    check_texts(&layout, records)?;
    Ok(layout)
}

fn bind_group(pipeline: &Pipeline, table: &Table, group: &PerGroup, records: &Schema) -> Result<Box<GroupLayout>> {
    let mut fields = Vec::new();
    for column in &group.columns {
        let field = find(pipeline, table, records, column, "column")?;
        if !is_key_type(field.data_type()) {
            return Err(IngestError::pipeline(format!(
                "table '{}': '{column}' is a {}, whose values make no groups",
                table.name,
                field.data_type()
            ))
            .help("use columns of numbers, strings, binaries, dates, times, timestamps or booleans in `per`"));
        }
        fields.push(field.with_nullable(true));
    }
    GroupLayout::new(&table.name, group, fields).map(Box::new)
}

/// What a name in the pipeline means among the columns of the records: the column, or the field of a struct, as the table
/// calls it.
fn find(pipeline: &Pipeline, table: &Table, records: &Schema, column: &str, role: &str) -> Result<Field> {
    let why = match FieldPath::find(records.fields(), column) {
        Ok(path) => return Ok(path.field),
        Err(why) => why,
    };
    if let Some((what, help)) = why.words() {
        let text = format!("table '{}': there is no {role} '{column}': {what}", table.name);
        return Err(IngestError::pipeline(text).help(help));
    }
    let place = if pipeline.transform.is_some() { "the transform's result" } else { "the source" };
    let error = IngestError::pipeline(format!("table '{}': there is no {role} '{column}' in {place}", table.name));
    let names: Vec<&str> = records.fields().iter().map(|f| f.name().as_str()).collect();
    Err(error.help(match seriatim_pipeline::nearest(column, names.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are: {}", names.join(", ")),
    }))
}

/// The type of a column of the records, or of a field of a struct.
fn type_of(records: &Schema, column: &str) -> Option<DataType> {
    FieldPath::find(records.fields(), column).ok().map(|path| path.field.data_type().clone())
}

/// What a table calls a column of the records that is found.
fn own_name(records: &Schema, column: &str) -> String {
    FieldPath::find(records.fields(), column).map_or_else(|_| column.to_owned(), |path| path.field.name().clone())
}

/// An ID that names columns as its table calls them.
fn own_names(id: Id, records: &Schema) -> Result<Id> {
    let name = |column: &String| own_name(records, column);
    let group = id.group.map(|group| PerGroup { columns: group.columns.iter().map(name).collect(), ..group });
    let text = |text: TextId| {
        let format = TextFormat::parse(&text.format).map_err(|e| IngestError::internal(e.message))?;
        Ok::<TextId, IngestError>(TextId {
            format: format.renamed(|column| own_name(records, column)).unwrap_or(text.format),
            ..text
        })
    };
    Ok(Id { group, text: id.text.map(text).transpose()?, ..id })
}

fn no_key_type(table: &Table, column: &str, field: &Field) -> IngestError {
    let error = IngestError::pipeline(format!(
        "table '{}': the key column '{column}' is a {}, which cannot be part of a key",
        table.name,
        field.data_type()
    ));
    if !matches!(field.data_type(), DataType::Struct(_)) {
        return error.help("use columns of numbers, strings, binaries, dates, times, timestamps or booleans");
    }
    let fields: Vec<String> =
        within(column, field.data_type()).into_iter().filter(|(_, t)| is_key_type(t)).map(|(path, _)| path).collect();
    error.help(match fields.as_slice() {
        [] => "nothing in it can be part of a key: use another column".to_owned(),
        [only] => format!("write the field that is meant: '{only}'"),
        many => format!("write the field that is meant, or several: {}", many.join(", ")),
    })
}

/// Fields of structs are called by the last part of their paths, so a table may have two columns of one name, which nobody
/// can tell from the pipeline file alone.
fn refuse_twice(table: &Table, fields: &[Field]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match fields.iter().find(|field| !seen.insert(field.name().to_lowercase())) {
        None => Ok(()),
        Some(twice) => Err(IngestError::pipeline(format!(
            "table '{}' would have two columns called '{}'",
            table.name,
            twice.name()
        ))
        .help(
            "a field of a struct is called by the last part of its path: give one of them another name in `transform`",
        )),
    }
}

/// Values in text IDs must have one form as text.
fn check_texts(table: &TableLayout, records: &Schema) -> Result<()> {
    for column in table.texts.iter().flat_map(TextIds::columns) {
        if let Some(data_type) = type_of(records, column)
            && !is_text_type(&data_type)
        {
            return Err(IngestError::pipeline(format!(
                "table '{}': the format of its text ID has '{column}', a {data_type}, which has no one form as text",
                table.name
            ))
            .help("make a text of it in `transform`, or take it out of the `format`"));
        }
    }
    Ok(())
}

/// Values that are the names of folders have one text each.
fn check_partitions(table: &TableLayout) -> Result<()> {
    let mut columns = table.schema.fields().iter().filter(|field| table.partition_by.contains(field.name()));
    match columns.find(|field| !is_partition_type(field.data_type())) {
        None => Ok(()),
        Some(field) => Err(IngestError::pipeline(format!(
            "table '{}': '{}' is a {}, by which a table cannot be partitioned",
            table.name,
            field.name(),
            field.data_type()
        ))
        .help(
            "partition by texts, whole numbers, dates or truth values; `transform` can make one: `CAST(... AS DATE)`",
        )),
    }
}

/// `on_conflict: error` compares attributes, so it must be able to.
fn check_comparable(pipeline: &Pipeline, table: &TableLayout, records: &Schema) -> Result<()> {
    if table.on_conflict != OnConflict::Error || !table.is_keyed() {
        return Ok(());
    }
    let referenced = table.references.iter().flat_map(|&r| pipeline.tables[r].key.iter());
    for column in table.columns.iter().chain(referenced) {
        if let Some(data_type) = type_of(records, column)
            && !is_key_type(&data_type)
        {
            return Err(IngestError::pipeline(format!(
                "table '{}': on_conflict: error cannot compare '{column}', a {data_type}",
                table.name
            ))
            .help("take the column out of this table, or use on_conflict: first or last"));
        }
    }
    Ok(())
}

/// An error if what was published and what the pipeline now says are not the same tables. `file` is the one that a column
/// has its type from.
pub(crate) fn refuse_layout_change<'a>(
    published: &[TableSignature],
    now: &Layout,
    file: impl Fn(&str) -> &'a str,
) -> Result<()> {
    let now = now.signatures();
    if published.is_empty() {
        return Ok(());
    }
    if let Some((table, column, before, after)) = other_type(published, &now) {
        let file = file(column);
        return Err(IngestError::input(format!(
            "table '{table}': column '{column}' is {before} in published files, and {after} as {file} has it"
        ))
        .help(format!(
            "cast it in `transform` to what it was: `SELECT * REPLACE (CAST({column} AS ...) AS {column}) FROM source`; \
             or start anew with another `state` and `output.path`"
        )));
    }
    match layout_change(published, &now) {
        None => Ok(()),
        Some(change) => {
            Err(IngestError::pipeline(change)
                .help("change it back, or start anew with another `state` and `output.path`"))
        }
    }
}

/// The first column that has another type and is otherwise what it was: table, column, what it was, what it is. Files bring
/// types, so that is no change of the pipeline.
fn other_type<'a>(
    published: &'a [TableSignature],
    now: &'a [TableSignature],
) -> Option<(&'a str, &'a str, &'a str, &'a str)> {
    let pairs = published.iter().filter_map(|old| Some((old, now.iter().find(|new| new.table == old.table)?)));
    pairs.into_iter().find_map(|(old, new)| {
        let same = |((role, name, _), (new_role, new_name, _)): &(&_, &_)| (role, name) == (new_role, new_name);
        let columns = || old.columns.iter().zip(&new.columns);
        if old.columns.len() != new.columns.len() || !columns().all(|pair| same(&pair)) {
            return None;
        }
        let ((_, name, before), (_, _, after)) = columns().find(|((_, _, before), (_, _, after))| before != after)?;
        Some((old.table.as_str(), name.as_str(), before.as_str(), after.as_str()))
    })
}

/// The first difference between what was published and what the pipeline now says.
fn layout_change(published: &[TableSignature], now: &[TableSignature]) -> Option<String> {
    for old in published {
        let Some(new) = now.iter().find(|n| n.table == old.table) else {
            return Some(format!("table '{}' is no longer in the pipeline", old.table));
        };
        if (old.start, old.step) != (new.start, new.step) {
            return Some(format!("table '{}': the id's start or step is not what it was", old.table));
        }
        if old.partition_by != new.partition_by {
            let words = |columns: &[String]| match columns {
                [] => "not partitioned".to_owned(),
                columns => format!("partitioned by {}", columns.join(", ")),
            };
            return Some(format!(
                "table '{}' is {} in published files, and {} in the pipeline",
                old.table,
                words(&old.partition_by),
                words(&new.partition_by)
            ));
        }
        for (old_column, new_column) in old.columns.iter().zip(&new.columns) {
            if old_column != new_column {
                let (role, name, kind) = old_column;
                let (new_role, new_name, new_kind) = new_column;
                return Some(format!(
                    "table '{}': where published files have the {role} '{name}' ({kind}), the pipeline now has the \
                     {new_role} '{new_name}' ({new_kind})",
                    old.table
                ));
            }
        }
        if old.columns.len() != new.columns.len() {
            return Some(format!(
                "table '{}' has {} columns in published files and {} in the pipeline",
                old.table,
                old.columns.len(),
                new.columns.len()
            ));
        }
    }
    let added = now.iter().find(|n| !published.iter().any(|o| o.table == n.table))?;
    Some(format!("table '{}' is new, and records that were ingested would be missing from it", added.table))
}
