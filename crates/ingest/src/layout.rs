//! The output tables against the real schema: which column comes from where, and of what type. Finds every mistake that
//! the pipeline file alone cannot show. Must never look at a record.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use seriatim_pipeline::TextFormat;
use seriatim_pipeline::model::{History, Id, OnConflict, OnNullKey, PerGroup, Pipeline, Table, TextId};

use crate::checks::Checks;
use crate::elements::{Kind, ListLayout, column_names, find_column};
use crate::error::{IngestError, Result};
use crate::history;
use crate::keys::{KeyCodec, is_key_type};
use crate::partition::is_partition_type;
use crate::source::{NoPath, within};
use crate::text_ids::{TextIds, is_text_type};

/// All output tables.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) tables: Vec<TableLayout>,
    /// The lists whose elements are rows of tables, each after the one that it is in.
    pub(crate) lists: Vec<ListLayout>,
    /// What records must meet before any table sees them.
    pub(crate) checks: Checks,
}

/// One output table.
#[derive(Debug, Clone)]
pub(crate) struct TableLayout {
    pub(crate) name: String,
    /// The list whose elements are its rows, among the layout's; `None`: its rows are records.
    pub(crate) list: Kind,
    /// Key columns, as the records, or elements, call them: of a field of a struct, its path. Empty for a table without key.
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
    pub(crate) counts_conflicts: bool,
    pub(crate) on_null_key: OnNullKey,
    /// ID with its number within the group and its text, key, references, columns, and those of versions.
    pub(crate) schema: SchemaRef,
    /// Columns that are not in the files, but in the names of their folders.
    pub(crate) partition_by: Vec<String>,
    /// What becomes of the attributes of known keys.
    pub(crate) history: Option<History>,
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

    /// The column of the records that says since when their attributes hold.
    pub(crate) fn valid_from(&self) -> Option<&String> {
        self.history.as_ref().and_then(|history| history.valid_from.as_ref())
    }

    /// Whether the versions of a thing are rows of their own.
    pub(crate) fn keeps_versions(&self) -> bool {
        self.history.as_ref().is_some_and(History::keeps_versions)
    }

    /// Whether it matters that the records of a key agree.
    pub(crate) fn compares(&self) -> bool {
        self.is_keyed() && (self.on_conflict == OnConflict::Error || self.counts_conflicts)
    }

    /// The columns that decide whether two records of a key agree: the attributes, and the keys of what the table refers
    /// to. Each with the kind of thing that it is a column of.
    pub(crate) fn compared_columns<'a>(&'a self, layout: &'a Layout) -> Vec<(Kind, &'a String)> {
        let own = self.columns.iter().map(|column| (self.list, column));
        let referenced = self.references.iter().map(|&r| &layout.tables[r]);
        let referenced = referenced.flat_map(|target| target.key.iter().map(|column| (target.list, column)));
        let mut seen = BTreeSet::new();
        own.chain(referenced).filter(|of| seen.insert(*of)).collect()
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
            list: None,
            key: group.columns.clone(),
            codec: Some(codec),
            id: Some(Id { start: 0, ..Id::new(&group.number) }),
            group: None,
            texts: None,
            references: Vec::new(),
            columns: Vec::new(),
            on_conflict: OnConflict::First,
            counts_conflicts: false,
            on_null_key: OnNullKey::Null,
            schema: Arc::new(Schema::new(all)),
            partition_by: Vec::new(),
            history: None,
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
    /// The list whose elements are its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
}

impl Layout {
    /// Binds the pipeline's tables to the columns of the records.
    pub(crate) fn new(pipeline: &Pipeline, records: &Schema) -> Result<Self> {
        let lists = ListLayout::all(pipeline, records)?;
        let found = Found { pipeline, lists: &lists, records };
        let mut tables = Vec::with_capacity(pipeline.tables.len());
        for table in &pipeline.tables {
            tables.push(bind(&found, table)?);
        }
        Ok(Self { tables, lists, checks: Checks::new(pipeline, records)? })
    }

    /// Every column of the records that some table or check uses, once each.
    pub(crate) fn used_columns(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let tables = self.tables.iter();
        let all = tables.flat_map(|t| self.inputs(t.list, t.key.iter().chain(&t.columns).chain(t.valid_from())));
        all.chain(self.checks.columns().map(String::as_str)).filter(|c| seen.insert(*c)).collect()
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
        if table.keeps_versions() {
            roles.extend(history::ROLES.map(str::to_owned));
        }
        let columns = table.schema.fields().iter().zip(roles);
        TableSignature {
            table: table.name.clone(),
            start: table.id.as_ref().map(|id| id.start),
            step: table.id.as_ref().map(|id| id.step),
            columns: columns.map(|(f, role)| (role, f.name().clone(), f.data_type().to_string())).collect(),
            partition_by: table.partition_by.clone(),
            from: table.list.map(|list| self.lists[list].path.to_string()),
        }
    }
}

/// What a pipeline's tables are bound to.
struct Found<'a> {
    pipeline: &'a Pipeline,
    lists: &'a [ListLayout],
    records: &'a Schema,
}

impl Found<'_> {
    /// The list whose elements are a table's rows.
    fn kind(&self, table: &Table) -> Kind {
        let path = table.list()?;
        self.lists.iter().position(|list| list.path == path)
    }

    /// What a name of a table means, as the table calls it; or why it leads nowhere.
    fn path(&self, table: &Table, column: &str) -> Result<Field, NoPath> {
        find_column(self.lists, self.kind(table), self.records, column)
    }

    /// The same, if it leads somewhere.
    fn column(&self, table: &Table, column: &str) -> Option<Field> {
        self.path(table, column).ok()
    }

    /// What a table calls a column that is found.
    fn own_name(&self, table: &Table, column: &str) -> String {
        self.column(table, column).map_or_else(|| column.to_owned(), |field| field.name().clone())
    }
}

fn bind(found: &Found<'_>, table: &Table) -> Result<TableLayout> {
    let pipeline = found.pipeline;
    let mut fields = Vec::new();
    fields.extend(table.id.iter().map(|id| Field::new(&id.column, DataType::Int64, false)));
    let group = table.id.as_ref().and_then(|id| id.group.as_ref());
    fields.extend(group.map(|group| Field::new(&group.number, DataType::Int64, false)));
    let text = table.id.as_ref().and_then(|id| id.text.as_ref());
    fields.extend(text.map(|text| Field::new(&text.column, DataType::Utf8, false)));
    let mut key_types = Vec::new();
    for column in &table.key {
        let field = find(found, table, column, "key")?;
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
        fields.push(find(found, table, column, "column")?.with_nullable(true));
    }
    if let Some(history) = table.history.as_ref().filter(|history| history.keeps_versions()) {
        let since = history.valid_from.as_ref();
        let since = since.map(|column| find(found, table, column, "column")).transpose()?;
        fields.extend(history::fields(&table.name, since.as_ref())?);
    }
    refuse_twice(table, &fields)?;
    let codec = if key_types.is_empty() { None } else { Some(KeyCodec::new(key_types)?) };
    let layout = TableLayout {
        name: table.name.clone(),
        list: found.kind(table),
        key: table.key.clone(),
        codec,
        // Where they begin is settled: nothing that is kept has to say from which files.
        id: table.id.clone().map(|id| own_names(Id { after: None, ..id }, found, table)).transpose()?,
        group: group.map(|group| bind_group(found, table, group)).transpose()?,
        texts: text.map(TextIds::new).transpose()?,
        references,
        columns: table.columns.clone(),
        on_conflict: table.on_conflict,
        counts_conflicts: table.count_conflicts,
        on_null_key: table.on_null_key,
        schema: Arc::new(Schema::new(fields)),
        partition_by: table.partition_by.iter().map(|column| found.own_name(table, column)).collect(),
        history: table.history.clone(),
    };
    history::check_comparable(&layout)?;
    check_partitions(&layout)?;
    check_comparable(found, table)?;
    check_texts(found, table, &layout)?;
    Ok(layout)
}

fn bind_group(found: &Found<'_>, table: &Table, group: &PerGroup) -> Result<Box<GroupLayout>> {
    let mut fields = Vec::new();
    for column in &group.columns {
        let field = find(found, table, column, "column")?;
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

/// What a name in the pipeline means among the columns of the records, or elements: the column, or the field of a struct,
/// as the table calls it.
fn find(found: &Found<'_>, table: &Table, column: &str, role: &str) -> Result<Field> {
    let why = match found.path(table, column) {
        Ok(field) => return Ok(field),
        Err(why) => why,
    };
    if let Some((what, help)) = why.words() {
        let text = format!("table '{}': there is no {role} '{column}': {what}", table.name);
        return Err(IngestError::pipeline(text).help(help));
    }
    let around = if found.pipeline.transform.is_some() { "the transform's result" } else { "the source" };
    let place = match table.list() {
        None => around.to_owned(),
        Some(list) => format!("the elements of '{list}' or {around}"),
    };
    let error = IngestError::pipeline(format!("table '{}': there is no {role} '{column}' in {place}", table.name));
    let names = column_names(found.lists, found.kind(table), found.records);
    Err(error.help(match seriatim_pipeline::nearest(column, names.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are: {}", names.join(", ")),
    }))
}

/// An ID that names columns as its table calls them.
fn own_names(id: Id, found: &Found<'_>, table: &Table) -> Result<Id> {
    let name = |column: &String| found.own_name(table, column);
    let group = id.group.map(|group| PerGroup { columns: group.columns.iter().map(name).collect(), ..group });
    let text = |text: TextId| {
        let format = TextFormat::parse(&text.format).map_err(|e| IngestError::internal(e.message))?;
        Ok::<TextId, IngestError>(TextId {
            format: format.renamed(|column| found.own_name(table, column)).unwrap_or(text.format),
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
fn check_texts(found: &Found<'_>, table: &Table, layout: &TableLayout) -> Result<()> {
    for column in layout.texts.iter().flat_map(TextIds::columns) {
        if let Some(data_type) = found.column(table, column).map(|field| field.data_type().clone())
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

/// Who asks whether records agree compares attributes, so it must be possible.
fn check_comparable(found: &Found<'_>, table: &Table) -> Result<()> {
    let (setting, instead) = match table.on_conflict {
        _ if !table.is_keyed() => return Ok(()),
        OnConflict::Error => ("on_conflict: error", "use on_conflict: first or last"),
        _ if table.count_conflicts => ("count_conflicts", "leave the setting out"),
        _ => return Ok(()),
    };
    let referenced = table.references.iter().filter_map(|name| found.pipeline.table(name));
    let referenced = referenced.flat_map(|target| target.key.iter().map(move |column| (target, column)));
    for (of, column) in table.columns.iter().map(|column| (table, column)).chain(referenced) {
        if let Some(data_type) = found.column(of, column).map(|field| field.data_type().clone())
            && !is_key_type(&data_type)
        {
            return Err(IngestError::pipeline(format!(
                "table '{}': {setting} cannot compare '{column}', a {data_type}",
                table.name
            ))
            .help(format!("take the column out of this table, or {instead}")));
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
        .help(if published.iter().any(|old| old.table == table && old.from.is_some()) {
            "write the files again with elements of the type that it was, or start anew with another `state` and \
             `output.path`"
                .to_owned()
        } else {
            format!(
                "cast it in `transform` to what it was: `SELECT * REPLACE (CAST({column} AS ...) AS {column}) FROM \
                 source`; or start anew with another `state` and `output.path`"
            )
        }));
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
        if old.from != new.from {
            let words = |from: &Option<String>| match from {
                None => "records".to_owned(),
                Some(from) => format!("elements of '{from}'"),
            };
            return Some(format!(
                "the rows of table '{}' are {} in published files, and {} in the pipeline",
                old.table,
                words(&old.from),
                words(&new.from)
            ));
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
