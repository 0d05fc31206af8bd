//! The careful clerk: what an ingest must give, as one loop over the records in order with one hash map per table. It
//! is written for being obviously right. It must never share code with the ingest, and never read or write a file.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use seriatim_pipeline::model::{HistoryKind, OnConflict, OnNullKey, Pipeline, Severity, Table};

use crate::cells::Cell;

/// One source record: a cell for each source column.
pub(crate) type Record = Vec<Cell>;

/// What a transform does to one record, written by hand: `false` drops it.
pub(crate) type Transform = fn(&mut Record) -> bool;

/// What a check says of one record, written by hand; `None` where the answer is unknown.
pub(crate) type Condition = fn(&Record) -> Option<bool>;

/// A source file: its path as the pipeline reaches it, and its records.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) records: Vec<Record>,
}

/// What one run did to one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableFacts {
    pub(crate) rows: u64,
    pub(crate) known_keys: u64,
    /// Known keys that get other attributes.
    pub(crate) updated: u64,
    pub(crate) null_keys: u64,
    /// Keys whose records differ, if that is counted.
    pub(crate) conflicts: Option<u64>,
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFacts {
    pub(crate) files: u64,
    pub(crate) records: u64,
    pub(crate) filtered: u64,
    pub(crate) quarantined: u64,
    /// For each check the records that fail, and the first of them.
    pub(crate) failed: Vec<(u64, Option<(String, u64)>)>,
    pub(crate) tables: Vec<TableFacts>,
}

/// A record in quarantine: where it came from, and the table whose key it lacks, or `check` and the name of the check that
/// it fails.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quarantined {
    pub(crate) file: String,
    /// The position of the record in its file, from 0.
    pub(crate) row: u64,
    pub(crate) why: String,
    /// The record, as the source has it.
    pub(crate) record: Record,
}

/// Everything that all runs together have published.
#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    pipeline: Pipeline,
    columns: Vec<String>,
    /// How many of the columns are the source's own; the transform adds the others behind them.
    source_columns: usize,
    transform: Transform,
    conditions: Vec<Condition>,
    ingested: BTreeSet<String>,
    tables: Vec<TableState>,
    pub(crate) quarantine: Vec<Quarantined>,
}

/// A record, or an element in it with the names of its fields.
#[derive(Debug, Clone, Copy)]
struct Thing<'r> {
    record: &'r Record,
    element: Option<(&'static [&'static str], &'r Cell)>,
}

/// The fields of the elements of the lists in random cases; plain values have the list's name.
fn list_of(list: &str) -> &'static [&'static str] {
    match list {
        "items" => &["n", "word", "txt"],
        "words" => &["words"],
        other => panic!("no case has a list '{other}'"),
    }
}

#[derive(Debug, Clone, Default)]
struct TableState {
    /// Natural key -> position of its row.
    positions: HashMap<Vec<Cell>, usize>,
    rows: Vec<Row>,
    /// Rows that earlier runs have published.
    published: usize,
    /// Keys that have had an ID before the first run, and no row here.
    adopted: HashMap<Vec<Cell>, i64>,
    /// What the first record of each of them says in this run.
    said: HashMap<Vec<Cell>, Vec<Cell>>,
    /// What the record that counts says of each known key in this run, if the table has a history: since when, and what.
    news: HashMap<usize, (Cell, Vec<Cell>)>,
    /// What the first record of each key says in this run, and the keys of which another one says something else, or what
    /// is published does.
    first_said: HashMap<Vec<Cell>, Vec<Cell>>,
    conflicts: HashSet<Vec<Cell>>,
    /// Where the table's own IDs begin, if not where the pipeline says.
    start: Option<i64>,
}

#[derive(Debug, Clone)]
struct Row {
    id: Option<i64>,
    key: Vec<Cell>,
    attributes: Vec<Cell>,
    /// Since when they hold; without meaning in a table without versions.
    since: Cell,
    /// Earlier versions: since when, until when, and what.
    earlier: Vec<(Cell, Cell, Vec<Cell>)>,
}

impl Oracle {
    /// An oracle for a pipeline whose source has these columns, and whose transform adds others behind them.
    pub(crate) fn new(pipeline: &Pipeline, source: &[String], added: &[String], transform: Transform) -> Self {
        Self {
            pipeline: pipeline.clone(),
            columns: [source, added].concat(),
            source_columns: source.len(),
            transform,
            conditions: Vec::new(),
            ingested: BTreeSet::new(),
            tables: vec![TableState::default(); pipeline.tables.len()],
            quarantine: Vec::new(),
        }
    }

    /// The same with the meaning of the pipeline's checks.
    pub(crate) fn with_conditions(self, conditions: Vec<Condition>) -> Self {
        Self { conditions, ..self }
    }

    /// Lets the keys of a table keep the IDs that they have already; its own come after the last of these.
    pub(crate) fn adopt(&mut self, index: usize, adopted: HashMap<Vec<Cell>, i64>) {
        let step = self.pipeline.tables[index].id.as_ref().expect("it has IDs").step;
        let last = if step > 0 { adopted.values().max() } else { adopted.values().min() };
        self.tables[index].start = last.map(|last| last + step);
        self.tables[index].adopted = adopted;
    }

    /// How many keys of a table have had an ID before the first run.
    pub(crate) fn adopted(&self, index: usize) -> u64 {
        self.tables[index].adopted.len() as u64
    }

    /// One run over all files that there are. `Err` says why the run must fail, and then nothing has changed.
    /// `Ok(None)`: there was nothing to do.
    pub(crate) fn run(&mut self, files: &[SourceFile]) -> Result<Option<RunFacts>, String> {
        let mut new: Vec<&SourceFile> = files.iter().filter(|file| !self.ingested.contains(&file.path)).collect();
        if new.is_empty() {
            return Ok(None);
        }
        new.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        let mut next = self.clone();
        let facts = next.ingest(&new)?;
        *self = next;
        Ok(Some(facts))
    }

    fn ingest(&mut self, files: &[&SourceFile]) -> Result<RunFacts, String> {
        let mut facts = RunFacts {
            files: files.len() as u64,
            records: 0,
            filtered: 0,
            quarantined: 0,
            failed: vec![(0, None); self.conditions.len()],
            tables: vec![TableFacts::default(); self.tables.len()],
        };
        let mut met = vec![BTreeSet::new(); self.tables.len()];
        for table in &mut self.tables {
            table.published = table.rows.len();
            table.said.clear();
            table.news.clear();
            table.first_said.clear();
            table.conflicts.clear();
        }
        for file in files {
            self.ingested.insert(file.path.clone());
            for (row, source) in file.records.iter().enumerate() {
                let mut record = source.clone();
                facts.records += 1;
                if !(self.transform)(&mut record) {
                    facts.filtered += 1;
                    continue;
                }
                let failing = self.check(&record, (&file.path, row as u64), &mut facts);
                let why = if failing.is_some() { failing } else { self.quarantining_table(&record)? };
                if let Some(why) = why {
                    facts.quarantined += 1;
                    let (file, record) = (file.path.clone(), source.clone());
                    self.quarantine.push(Quarantined { file, row: row as u64, why, record });
                    continue;
                }
                self.take(&record, &mut facts, &mut met)?;
            }
        }
        self.judge(&facts)?;
        for (index, settings) in self.pipeline.tables.clone().iter().enumerate() {
            facts.tables[index].updated = self.tables[index].bring_news(settings)?;
        }
        for (index, table) in self.tables.iter().enumerate() {
            facts.tables[index].rows = (table.rows.len() - table.published) as u64;
            let known = met[index].iter().filter(|at| **at < table.published).count();
            facts.tables[index].known_keys = (known + table.said.len()) as u64;
            let counts = self.pipeline.tables[index].count_conflicts;
            facts.tables[index].conflicts = counts.then_some(table.conflicts.len() as u64);
        }
        Ok(facts)
    }

    /// Counts the checks that a record fails; why it goes to quarantine, if one says so.
    fn check(&self, record: &Record, (file, row): (&str, u64), facts: &mut RunFacts) -> Option<String> {
        let mut why = None;
        for ((check, condition), failed) in self.pipeline.checks.iter().zip(&self.conditions).zip(&mut facts.failed) {
            if condition(record) == Some(false) {
                failed.0 += 1;
                failed.1.get_or_insert((file.to_owned(), row));
                if check.severity == Severity::Quarantine {
                    why.get_or_insert(format!("check {}", check.name));
                }
            }
        }
        why
    }

    /// Whether so many may fail.
    fn judge(&self, facts: &RunFacts) -> Result<(), String> {
        let all = facts.records - facts.filtered;
        for (check, (failed, _)) in self.pipeline.checks.iter().zip(&facts.failed) {
            let too_many = match check.severity {
                Severity::Fail => *failed > 0,
                _ => check.at_most.is_some_and(|most| most.is_exceeded(*failed, all)),
            };
            if too_many {
                return Err(format!("check {}", check.name));
            }
        }
        Ok(())
    }

    /// What a record is to a table: itself, or the elements of its list.
    fn things<'r>(&self, table: &Table, record: &'r Record) -> Vec<Thing<'r>> {
        let Some(list) = table.from.as_deref().and_then(|from| from.strip_suffix("[]")) else {
            return vec![Thing { record, element: None }];
        };
        match &record[self.column(list)] {
            Cell::List(elements) => {
                elements.iter().map(|e| Thing { record, element: Some((list_of(list), e)) }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What a thing has in a column: of the element itself, or of its record.
    fn value(&self, thing: Thing<'_>, name: &str) -> Cell {
        let Some((fields, element)) = thing.element else { return thing.record[self.column(name)].clone() };
        match (fields.iter().position(|field| *field == name), element) {
            (Some(at), Cell::Struct(cells)) => cells[at].clone(),
            (Some(_), Cell::Text(_)) => element.clone(),
            (Some(_), _) => Cell::Null,
            (None, _) => thing.record[self.column(name)].clone(),
        }
    }

    fn quarantining_table(&self, record: &Record) -> Result<Option<String>, String> {
        let lacks = |table: &&Table| {
            table.is_keyed() && self.things(table, record).into_iter().any(|thing| self.key(table, thing).is_none())
        };
        let lacking: Vec<&Table> = self.pipeline.tables.iter().filter(lacks).collect();
        if let Some(table) = lacking.iter().find(|t| t.on_null_key == OnNullKey::Error) {
            return Err(format!("null key in table {}", table.name));
        }
        Ok(lacking.iter().find(|t| t.on_null_key == OnNullKey::Quarantine).map(|t| t.name.clone()))
    }

    /// Gives the record, or its elements, their places in every table: first the positions, so that references find them.
    fn take(&mut self, record: &Record, facts: &mut RunFacts, met: &mut [BTreeSet<usize>]) -> Result<(), String> {
        let mut positions: Vec<Vec<Option<usize>>> = Vec::new();
        for (index, table) in self.pipeline.tables.clone().iter().enumerate() {
            let mut rows = self.tables[index].rows.len();
            let mut of_table = Vec::new();
            for thing in self.things(table, record) {
                if self.adopted_id(index, thing).is_some() {
                    of_table.push(None);
                    continue;
                }
                let position = if table.is_keyed() {
                    self.key(table, thing).map(|key| *self.tables[index].positions.entry(key).or_insert(rows))
                } else {
                    Some(rows)
                };
                match position {
                    Some(position) => {
                        met[index].insert(position);
                        rows = rows.max(position + 1);
                    }
                    None => facts.tables[index].null_keys += 1,
                }
                of_table.push(position);
            }
            positions.push(of_table);
        }
        let mut ids: HashMap<String, Vec<Cell>> = HashMap::new();
        for (index, table) in self.pipeline.tables.iter().enumerate() {
            let id = |(thing, position): (Thing<'_>, &Option<usize>)| {
                let own = || position.and_then(|p| self.tables[index].id_at(table, p));
                self.adopted_id(index, thing).or_else(own).map_or(Cell::Null, |id| Cell::Int(id.into()))
            };
            let of_table = self.things(table, record).into_iter().zip(&positions[index]).map(id).collect();
            ids.insert(table.name.clone(), of_table);
        }
        for (index, table) in self.pipeline.tables.clone().iter().enumerate() {
            for (at, thing) in self.things(table, record).into_iter().enumerate() {
                // A row refers to its own element, or to its record.
                let referred = |name: &String| {
                    let target = self.pipeline.tables.iter().find(|t| t.name == *name).expect("it is there");
                    ids[name][if target.from == table.from { at } else { 0 }].clone()
                };
                let columns = table.columns.iter().map(|name| self.value(thing, name));
                let attributes: Vec<Cell> = table.references.iter().map(referred).chain(columns).collect();
                let known = positions[index][at].filter(|&at| at < self.tables[index].published);
                if let Some(key) = self.key(table, thing).filter(|key| !key.is_empty()) {
                    self.tables[index].compare(table, key, &attributes, known);
                }
                if self.adopted_id(index, thing).is_some() {
                    let key = self.key(table, thing).expect("it is adopted");
                    self.tables[index].say(table, key, attributes)?;
                    continue;
                }
                let Some(position) = positions[index][at] else { continue };
                let key = table.key.iter().map(|name| self.value(thing, name)).collect();
                let id = self.tables[index].id_at(table, position);
                let since = table.history.as_ref().and_then(|history| history.valid_from.as_ref());
                let since = since.map_or(Cell::Null, |name| self.value(thing, name));
                let row = Row { id, key, attributes, since, earlier: Vec::new() };
                self.tables[index].put(table, row, position)?;
            }
        }
        Ok(())
    }

    /// The ID that the thing's key has had before the first run.
    fn adopted_id(&self, index: usize, thing: Thing<'_>) -> Option<i64> {
        let key = self.key(&self.pipeline.tables[index], thing).filter(|key| !key.is_empty())?;
        self.tables[index].adopted.get(&key).copied()
    }

    /// The thing's key for a table, in the form in which keys are compared; `None` if any column of it is null.
    fn key(&self, table: &Table, thing: Thing<'_>) -> Option<Vec<Cell>> {
        let cells: Vec<Cell> = table.key.iter().map(|name| self.value(thing, name).as_key()).collect();
        if cells.contains(&Cell::Null) { None } else { Some(cells) }
    }

    /// The names of the source's columns.
    pub(crate) fn source_columns(&self) -> Vec<String> {
        self.columns[..self.source_columns].to_vec()
    }

    fn column(&self, name: &str) -> usize {
        self.columns.iter().position(|c| c == name).expect("the pipeline names columns that exist")
    }

    /// The names of a table's columns, in order: ID, key, references' IDs, columns.
    pub(crate) fn header(&self, table: &Table) -> Vec<String> {
        let id = table.id.iter().map(|id| id.column.clone());
        let number = table.id.iter().filter_map(|id| id.group.as_ref()).map(|group| group.number.clone());
        let text = table.id.iter().filter_map(|id| id.text.as_ref()).map(|text| text.column.clone());
        let references = table.references.iter().map(|name| {
            let target = self.pipeline.tables.iter().find(|t| &t.name == name).expect("a reference leads to a table");
            target.id.as_ref().expect("a keyed table has an ID").column.clone()
        });
        let versions = has_versions(table).then_some(["valid_from", "valid_to", "is_current"]);
        id.chain(number)
            .chain(text)
            .chain(table.key.iter().cloned())
            .chain(references)
            .chain(table.columns.iter().cloned())
            .chain(versions.into_iter().flatten().map(str::to_owned))
            .collect()
    }

    /// The rows of the table at `index`, in order, with the columns of [`Oracle::header`]. Float keys are in the form
    /// in which they are compared.
    pub(crate) fn rows(&self, index: usize) -> Vec<Vec<Cell>> {
        let table = &self.pipeline.tables[index];
        let mut last: HashMap<Vec<Cell>, i64> = HashMap::new();
        let mut numbers = Vec::new();
        for row in &self.tables[index].rows {
            let group = table.id.as_ref().and_then(|id| id.group.as_ref());
            numbers.push(group.map(|group| {
                let of = group.columns.iter().map(|name| value(table, row, name).as_key()).collect();
                let last = last.entry(of).or_insert(0);
                *last += 1;
                *last
            }));
        }
        let row = |(row, number): (&Row, Option<i64>)| {
            let id = row.id.iter().map(|id| Cell::Int((*id).into()));
            let text = table.id.iter().filter_map(|id| id.text.as_ref());
            let counted = number.or(row.id);
            let number = number.map(|number| Cell::Int(number.into()));
            let text = text.map(|text| Cell::Text(text_id(table, row, counted, &text.format)));
            let key = row.key.iter().map(Cell::as_key);
            let own: Vec<Cell> = id.chain(number).chain(text).chain(key).collect();
            let last = (row.since.clone(), Cell::Null, row.attributes.clone());
            let versions = row.earlier.iter().chain([&last]).map(|(since, until, attributes)| {
                let times = [since.clone(), until.clone(), Cell::Bool(*until == Cell::Null)];
                let times = has_versions(table).then_some(times);
                own.iter().chain(attributes).cloned().chain(times.into_iter().flatten()).collect()
            });
            versions.collect::<Vec<Vec<Cell>>>()
        };
        self.tables[index].rows.iter().zip(numbers).flat_map(row).collect()
    }

    pub(crate) fn row_count(&self, index: usize) -> u64 {
        self.tables[index].rows.iter().map(|row| 1 + row.earlier.len() as u64).sum()
    }

    /// The first and the last ID that the latest run gave in a table.
    pub(crate) fn latest_ids(&self, index: usize) -> Option<(i64, i64)> {
        let table = &self.tables[index];
        let new = &table.rows[table.published..];
        Some((new.first()?.id?, new.last()?.id?))
    }
}

/// Whether the versions of a thing are rows of their own.
fn has_versions(table: &Table) -> bool {
    table.history.as_ref().is_some_and(|history| history.kind == HistoryKind::Scd2)
}

impl TableState {
    /// Gives known keys what this run says of them; how many of them have something else now.
    fn bring_news(&mut self, table: &Table) -> Result<u64, String> {
        let mut updated = 0;
        for (position, (since, attributes)) in std::mem::take(&mut self.news) {
            let row = &mut self.rows[position];
            let same = |one: &[Cell], other: &[Cell]| one.iter().map(Cell::as_key).eq(other.iter().map(Cell::as_key));
            if same(&row.attributes, &attributes) {
                continue;
            }
            updated += 1;
            let before = std::mem::replace(&mut row.attributes, attributes);
            if has_versions(table) {
                if since <= row.since {
                    return Err(format!("a change in table {} that is not later", table.name));
                }
                row.earlier.push((std::mem::replace(&mut row.since, since.clone()), since, before));
            }
        }
        Ok(updated)
    }

    fn id_at(&self, table: &Table, position: usize) -> Option<i64> {
        table.id.as_ref().map(|id| self.start.unwrap_or(id.start) + id.step * position as i64)
    }

    /// Compares what a record says of its key with the run's first record of it, and with what is published at `known`.
    fn compare(&mut self, table: &Table, key: Vec<Cell>, attributes: &[Cell], known: Option<usize>) {
        let said = self.first_said.entry(key.clone()).or_insert_with(|| attributes.to_vec());
        let published = known.filter(|_| table.history.is_none()).map(|at| &self.rows[at].attributes);
        if said != attributes || published.is_some_and(|published| published != attributes) {
            self.conflicts.insert(key);
        }
    }

    /// Takes what a record says of a key that makes no row here.
    fn say(&mut self, table: &Table, key: Vec<Cell>, attributes: Vec<Cell>) -> Result<(), String> {
        match self.said.get(&key) {
            Some(said) if table.on_conflict == OnConflict::Error && *said != attributes => {
                Err(format!("conflict in table {}", table.name))
            }
            Some(_) => Ok(()),
            None => {
                self.said.insert(key, attributes);
                Ok(())
            }
        }
    }

    fn put(&mut self, table: &Table, row: Row, position: usize) -> Result<(), String> {
        if position == self.rows.len() {
            self.rows.push(row);
            return Ok(());
        }
        if table.history.is_some() && position < self.published {
            let news = (row.since, row.attributes);
            match (self.news.get(&position), table.on_conflict) {
                (Some((_, said)), OnConflict::Error) if *said != news.1 => {
                    return Err(format!("conflict in table {}", table.name));
                }
                (Some(_), OnConflict::First | OnConflict::Error) => {}
                (None, _) | (_, OnConflict::Last) => _ = self.news.insert(position, news),
            }
            return Ok(());
        }
        match table.on_conflict {
            OnConflict::Last if position >= self.published => {
                self.rows[position].attributes = row.attributes;
                self.rows[position].since = row.since;
            }
            OnConflict::Error if self.rows[position].attributes != row.attributes => {
                return Err(format!("conflict in table {}", table.name));
            }
            OnConflict::First | OnConflict::Last | OnConflict::Error => {}
        }
        Ok(())
    }
}

/// The text ID of a row: each `{...}` of the format in turn.
fn text_id(table: &Table, row: &Row, number: Option<i64>, format: &str) -> String {
    let (mut text, mut rest) = (String::new(), format);
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}').expect("a brace is closed");
        text.push_str(before);
        match inside.strip_prefix(":0") {
            Some(width) => {
                let id = number.expect("a text has a number");
                let (sign, digits) = (if id < 0 { "-" } else { "" }, id.unsigned_abs().to_string());
                let width: usize = width.parse().expect("a width");
                let zeros = width.saturating_sub(sign.len() + digits.len());
                _ = write!(text, "{sign}{}{digits}", "0".repeat(zeros));
            }
            None if inside.is_empty() => text.push_str(&number.expect("a text has a number").to_string()),
            None => text.push_str(&as_text(value(table, row, inside))),
        }
        rest = after;
    }
    text + rest
}

/// What a row has in a column of its key or of its own.
fn value<'a>(table: &Table, row: &'a Row, name: &str) -> &'a Cell {
    if let Some(at) = table.key.iter().position(|key| key == name) {
        return &row.key[at];
    }
    let at = table.columns.iter().position(|column| column == name).expect("a format names columns of the table");
    &row.attributes[table.references.len() + at]
}

/// Only numbers, truth values and texts are in the formats of random cases.
fn as_text(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Bool(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::Text(text) => text.clone(),
        other => panic!("{other:?} in a text ID"),
    }
}
