//! The tables of a pipeline: their names, keys, IDs, references and columns, and that no table has a column twice. This
//! module must never look at what the source has.

use std::collections::HashMap;

use crate::error::{Draft, Problems, Span, quoted};
use crate::existing;
use crate::groups;
use crate::history;
use crate::lists;
use crate::model::{Id, OnConflict, OnNullKey, Table};
use crate::nearest::nearest;
use crate::raw::{Field, RawId, RawTable, Text, TextList};
use crate::references::{self, RawTables};
use crate::sequences;
use crate::text_ids;
use crate::validate::{check_name, choice, not_empty, or_default, values};

/// The tables of a pipeline.
pub(crate) fn tables_of(raw: &RawTables, problems: &mut Problems) -> Option<Vec<Table>> {
    let mut folded: HashMap<String, &Text> = HashMap::new();
    for (name, _) in raw {
        check_name(name, "table", problems);
        let Some(first) = folded.insert(name.value.to_ascii_lowercase(), name) else {
            continue;
        };
        let message = format!(
            "the tables {} and {} differ only in the case of letters, and some disks would give them one folder",
            quoted(&first.value),
            quoted(&name.value)
        );
        let draft = Draft::new(name.span, message).also(first.span, "the other one");
        problems.push(draft.help("give one of them another name"));
    }
    let graph = references::check(raw, problems);
    let mut tables = Vec::with_capacity(raw.len());
    for ((name, table), edges) in raw.iter().zip(&graph) {
        check_columns(name, table, &edges.iter().map(|(i, text)| (&raw[*i], *text)).collect::<Vec<_>>(), problems);
        tables.push(table_of(name, table, problems));
    }
    // All are checked before one that is wrong ends it.
    tables.into_iter().collect()
}

fn table_of(name: &Text, raw: &RawTable, problems: &mut Problems) -> Option<Table> {
    let at = format!("tables.{}", name.value);
    let key = or_default(&raw.key, Vec::new(), |list| {
        let help = "name a column, or remove `key` if every record is to be a row";
        not_empty(list, &format!("{at}.key"), help, problems).map(values)
    });
    if let (Field::Given(list), Field::Absent) = (&raw.key, &raw.id) {
        let message = format!("the table {} has a key and no `id`", quoted(&name.value));
        let id = quoted(&format!("id: {}_id", name.value.trim_end_matches('s')));
        let help = format!("add the name of its ID column: {id}");
        problems.push(Draft::new(name.span, message).also(list.span, "the key").help(help));
    }
    if matches!(raw.key, Field::Absent) {
        for (setting, field) in [("on_conflict", &raw.on_conflict), ("on_null_key", &raw.on_null_key)] {
            if let Field::Given(text) = field {
                problems.push(needs_key(name, setting, text.span));
            }
        }
        if matches!(raw.count_conflicts, Field::Given(_)) {
            problems.push(needs_key(name, "count_conflicts", name.span));
        }
        if has_no_columns(raw) {
            let message = format!("the table {} has no columns at all", quoted(&name.value));
            let help = "give it an `id`, a `key`, `references` or `columns`, or remove it";
            problems.push(Draft::new(name.span, message).help(help));
        }
    }
    let id = or_default(&raw.id, None, |id| id_of(id, raw, &at, problems).map(Some));
    let partition_by = or_default(&raw.partition_by, Vec::new(), |list| partitions_of(name, raw, list, problems));
    // With a history each run brings what is newest, and of a run's records the last one is.
    let usual = if matches!(raw.history, Field::Absent) { OnConflict::First } else { OnConflict::Last };
    let on_conflict = or_default(&raw.on_conflict, usual, |text| {
        let values = [("first", OnConflict::First), ("last", OnConflict::Last), ("error", OnConflict::Error)];
        choice(text, &format!("{at}.on_conflict"), &values, problems)
    });
    let on_null_key = or_default(&raw.on_null_key, OnNullKey::default(), |text| {
        let values = [("null", OnNullKey::Null), ("quarantine", OnNullKey::Quarantine), ("error", OnNullKey::Error)];
        choice(text, &format!("{at}.on_null_key"), &values, problems)
    });
    let adopt = existing::adopt_of(name, raw, &at, problems);
    let history = history::history_of(name, raw, &at, problems);
    let from = or_default(&raw.from, None, |text| lists::from_of(text, &at, problems).map(Some));
    Some(Table {
        name: name.value.clone(),
        key: key?,
        id: id?,
        references: or_default(&raw.references, Vec::new(), |list| Some(values(list)))?,
        columns: or_default(&raw.columns, Vec::new(), |list| Some(values(list)))?,
        on_conflict: on_conflict?,
        count_conflicts: or_default(&raw.count_conflicts, false, |&counts| Some(counts))?,
        on_null_key: on_null_key?,
        adopt: adopt?,
        partition_by: partition_by?,
        history: history?,
        from: from?,
    })
}

/// The columns that a table is partitioned by: some of its key and its columns, but not all that it has.
fn partitions_of(name: &Text, raw: &RawTable, list: &TextList, problems: &mut Problems) -> Option<Vec<String>> {
    if matches!(raw.key, Field::Broken) || matches!(raw.columns, Field::Broken) {
        return None;
    }
    let own = [&raw.key, &raw.columns].into_iter().filter_map(Field::given).flat_map(|list| &list.items);
    let own: Vec<&str> = own.map(|text| text.value.as_str()).collect();
    let mut good = true;
    for (place, text) in list.items.iter().enumerate() {
        let shown = quoted(&text.shown);
        if list.items[..place].iter().any(|other| other.value == text.value) {
            let message = format!("the table {} is partitioned by {shown} twice", quoted(&name.value));
            problems.push(Draft::new(text.span, message).help("remove one of them"));
            good = false;
        } else if !own.contains(&text.value.as_str()) {
            let message =
                format!("{shown} is neither in the key nor in the columns of the table {}", quoted(&name.value));
            let help = match nearest(&text.value, own.iter().copied()) {
                Some(near) => format!("did you mean {}?", quoted(near)),
                None => "add it to `columns`, or partition by another column".to_owned(),
            };
            problems.push(Draft::new(text.span, message).label("no column").help(help));
            good = false;
        }
    }
    let others = matches!(raw.id, Field::Given(_)) || raw.references.given().is_some_and(|list| !list.items.is_empty());
    let all = own.iter().all(|column| list.items.iter().any(|text| text.value == *column));
    if good && all && !others && !list.items.is_empty() {
        let message = format!("the table {} is partitioned by all of its columns", quoted(&name.value));
        let help = "its files would have nothing in them: give it an `id`, or another column";
        problems.push(Draft::new(list.span, message).help(help));
        good = false;
    }
    good.then(|| values(list))
}

fn has_no_columns(raw: &RawTable) -> bool {
    let none = |field: &Field<TextList>| match field {
        Field::Absent => true,
        Field::Broken => false,
        Field::Given(list) => list.items.is_empty(),
    };
    matches!(raw.id, Field::Absent) && none(&raw.key) && none(&raw.references) && none(&raw.columns)
}

fn needs_key(name: &Text, setting: &str, span: Span) -> Draft {
    let why = match setting {
        "on_conflict" | "count_conflicts" => "every record is a row of its own, and none can differ from another",
        _ => "there is no key that could be null",
    };
    let message = format!("the table {} has `{setting}` and no key: {why}", quoted(&name.value));
    Draft::new(span, message)
        .also(name.span, "has no `key`")
        .help(format!("remove `{setting}`, or give the table a `key`"))
}

fn id_of(raw: &RawId, table: &RawTable, at: &str, problems: &mut Problems) -> Option<Id> {
    let start = existing::start_of(raw, at, problems);
    let step = or_default(&raw.step, 1, |number| {
        if number.value != 0 {
            return Some(number.value);
        }
        let message = format!("{} is 0, and every ID would be the same", quoted(&format!("{at}.id.step")));
        problems.push(Draft::new(number.span, message).help("leave it out for 1, 2, 3, ..., or use another number"));
        None
    });
    let sequence = or_default(&raw.sequence, None, |text| sequences::name_of(text, at, problems).map(Some));
    let group = groups::group_of(raw, table, at, problems);
    let first = start.as_ref().map(|(number, _)| number.unwrap_or(1));
    let text = text_ids::text_of(raw, table, at, first.zip(step), problems);
    let column = raw.column.given()?.value.clone();
    Some(Id { column, start: first?, step: step?, sequence: sequence?, group: group?, text: text?, after: start?.1 })
}

/// Why a table has a column.
#[derive(Clone, Copy)]
enum Origin<'t> {
    Id,
    /// The number within its group.
    Number,
    /// Its text.
    Text,
    Key,
    Reference(&'t str),
    Column,
    /// What tells versions apart.
    Version,
}

impl Origin<'_> {
    fn words(self) -> String {
        match self {
            Self::Id => "as its ID".to_owned(),
            Self::Number => "as the number within its group".to_owned(),
            Self::Text => "as the text of its ID".to_owned(),
            Self::Key => "in its key".to_owned(),
            Self::Reference(table) => format!("as its reference to {}", quoted(table)),
            Self::Column => "in its columns".to_owned(),
            Self::Version => "to tell its versions apart".to_owned(),
        }
    }
}

/// Whether the output columns of a table are all different. Letter case does not make a difference, because readers
/// such as DuckDB and Spark fold it.
fn check_columns(name: &Text, table: &RawTable, references: &[(&(Text, RawTable), &Text)], problems: &mut Problems) {
    let id = |raw: &Field<RawId>| raw.given().and_then(|id| id.column.given()).cloned();
    let items = |raw: &Field<TextList>| raw.given().map(|list| list.items.clone()).unwrap_or_default();
    let mut columns: Vec<(Text, Origin<'_>)> = Vec::new();
    columns.extend(id(&table.id).map(|column| (column, Origin::Id)));
    columns.extend(table.id.given().and_then(groups::column_of).map(|column| (column, Origin::Number)));
    columns.extend(table.id.given().and_then(text_ids::column_of).map(|column| (column, Origin::Text)));
    columns.extend(items(&table.key).into_iter().map(|column| (column, Origin::Key)));
    for ((other, target), reference) in references {
        // The column is named there, and comes in here.
        let here = |column: Text| Text { span: reference.span, ..column };
        columns.extend(id(&target.id).map(|column| (here(column), Origin::Reference(&other.value))));
    }
    columns.extend(items(&table.columns).into_iter().map(|column| (column, Origin::Column)));
    columns.extend(history::columns_of(table).into_iter().map(|column| (column, Origin::Version)));
    let mut seen: HashMap<String, &(Text, Origin<'_>)> = HashMap::new();
    for column in &columns {
        let folded = column.0.value.to_lowercase();
        match seen.get(&folded) {
            Some(first) => problems.push(twice(name, first, column)),
            None => {
                seen.insert(folded, column);
            }
        }
    }
}

fn twice(table: &Text, first: &(Text, Origin<'_>), second: &(Text, Origin<'_>)) -> Draft {
    let (a, b) = (quoted(&first.0.shown), quoted(&second.0.shown));
    let table = quoted(&table.value);
    let (a_words, b_words) = (first.1.words(), second.1.words());
    let message = if first.0.value != second.0.value {
        format!(
            "the table {table} has {a} {a_words} and {b} {b_words}: readers that fold letter case take them for one column"
        )
    } else if a_words == b_words {
        format!("the table {table} has the column {b} twice {b_words}")
    } else {
        format!("the table {table} has the column {b} twice: {a_words} and {b_words}")
    };
    let help = match (first.1, second.1) {
        (Origin::Key, Origin::Column) if first.0.value == second.0.value => {
            "remove it from `columns`: the key's columns are in the table anyway".to_owned()
        }
        (Origin::Reference(other), Origin::Column) => {
            format!("remove it from `columns`: the reference adds it; or give the ID of {} another name", quoted(other))
        }
        (_, Origin::Reference(other)) => format!("give the ID of {} another name", quoted(other)),
        (Origin::Number, _) | (_, Origin::Number) => {
            "give the numbers another name: `number: ...` beside `per`".to_owned()
        }
        (Origin::Text, _) | (_, Origin::Text) => {
            "give the text another name: `text: ...` beside its `format`".to_owned()
        }
        (_, Origin::Version) => "scd2 adds this column: rename the other one in `transform`".to_owned(),
        (Origin::Id, _) => "give the ID another name".to_owned(),
        _ => "remove one of them, or rename one in `transform`".to_owned(),
    };
    Draft::new(second.0.span, message).label("again").also(first.0.span, "first").help(help)
}
