//! The history of a table's attributes: whether a table can have one. This module must never know how versions are
//! written.

use crate::error::{Draft, Problems, Span, quoted};
use crate::model::{History, HistoryKind};
use crate::raw::{Field, RawHistory, RawTable, Text, TextList};
use crate::text_format::TextFormat;
use crate::validate::{choice, or_default};

/// The columns that tell the versions of a thing apart.
pub(crate) const COLUMNS: [&str; 3] = [History::VALID_FROM, History::VALID_TO, History::IS_CURRENT];

/// The history of a table, if it has one.
#[expect(clippy::option_option, reason = "broken, absent, and given are three things")]
pub(crate) fn history_of(name: &Text, table: &RawTable, at: &str, problems: &mut Problems) -> Option<Option<History>> {
    or_default(&table.history, None, |history| read(name, table, history, at, problems).map(Some))
}

fn read(name: &Text, table: &RawTable, raw: &RawHistory, at: &str, problems: &mut Problems) -> Option<History> {
    let kinds = [("scd1", HistoryKind::Scd1), ("scd2", HistoryKind::Scd2)];
    let kind = raw.kind.given().and_then(|text| choice(text, &format!("{at}.history"), &kinds, problems));
    let fits = fits(name, table, raw.span, problems);
    let valid_from = or_default(&raw.valid_from, None, |text| valid_from(text, kind?, table, at, problems).map(Some));
    fits.then_some(History { kind: kind?, valid_from: valid_from? })
}

/// Whether a table has what changes, and nothing that would have to change with it.
fn fits(name: &Text, table: &RawTable, span: Span, problems: &mut Problems) -> bool {
    let shown = quoted(&name.value);
    let mut good = true;
    let mut refuse = |message: String, other: Option<(Span, &'static str)>, help: &str| {
        let draft = Draft::new(span, message).help(help);
        problems.push(other.into_iter().fold(draft, |draft, (span, label)| draft.also(span, label)));
        good = false;
    };
    if matches!(table.key, Field::Absent) {
        let message = format!("the table {shown} has `history` and no key: nothing in it is met again");
        refuse(message, Some((name.span, "has no `key`")), "give the table a `key`, or remove `history`");
        return false;
    }
    if is_empty(&table.columns) && is_empty(&table.references) {
        let message = format!("the table {shown} has `history`, and nothing beside its key that could change");
        refuse(message, None, "give it `columns` or `references`, or remove `history`");
    }
    if let Some(adopt) = table.adopt.given() {
        let message = format!("the table {shown} has `history` and adopts keys, whose rows are in files of others");
        refuse(message, Some((adopt.span, "adopts a table")), "remove `history` or `adopt`");
    }
    if let Some(key) = table.key.given() {
        let not_of_key = |list: &TextList| list.items.iter().find(|text| !has(key, &text.value)).cloned();
        if let Some(column) = table.partition_by.given().and_then(not_of_key) {
            let message = format!(
                "the table {shown} has `history` and is partitioned by {}, which may change",
                quoted(&column.shown)
            );
            let help = "partition by columns of the key: a row does not move from one folder to another";
            refuse(message, Some((column.span, "not in the key")), help);
        }
        let id = table.id.given();
        if let Some(column) = id.and_then(|id| id.per.given()).and_then(not_of_key) {
            let message = format!(
                "the table {shown} has `history` and is numbered within groups of {}, which may change",
                quoted(&column.shown)
            );
            let help = "number within groups of columns of the key: a number does not move from one group to another";
            refuse(message, Some((column.span, "not in the key")), help);
        }
        if let Some(format) = id.and_then(|id| id.format.given())
            && let Ok(parsed) = TextFormat::parse(&format.value)
            && let Some(column) = parsed.columns().find(|column| !has(key, column))
        {
            let message =
                format!("the table {shown} has `history` and {} in its text ID, which may change", quoted(column));
            let help = "put columns of the key into the text, so that it stays what it is";
            refuse(message, Some((format.span, "the text ID")), help);
        }
    }
    good
}

fn has(list: &TextList, column: &str) -> bool {
    list.items.iter().any(|text| text.value == column)
}

fn is_empty(field: &Field<TextList>) -> bool {
    match field {
        Field::Absent => true,
        Field::Broken => false,
        Field::Given(list) => list.items.is_empty(),
    }
}

/// The column that says since when a record holds.
fn valid_from(text: &Text, kind: HistoryKind, table: &RawTable, at: &str, problems: &mut Problems) -> Option<String> {
    let setting = quoted(&format!("{at}.history.valid_from"));
    if kind == HistoryKind::Scd1 {
        let message = format!("{setting} is for scd2: scd1 keeps no versions");
        problems.push(Draft::new(text.span, message).help("remove it, or write `type: scd2`"));
        return None;
    }
    if table.key.given().is_some_and(|key| has(key, &text.value)) {
        let message = format!("{setting} is {}, a column of the key", quoted(&text.shown));
        let help = "each of its values is another thing: name a column that changes with the record";
        problems.push(Draft::new(text.span, message).help(help));
        return None;
    }
    Some(text.value.clone())
}

/// The columns of versions as messages tell of them.
pub(crate) fn columns_of(table: &RawTable) -> Vec<Text> {
    let Some(history) = table.history.given() else { return Vec::new() };
    if history.kind.given().is_none_or(|kind| kind.value != "scd2") {
        return Vec::new();
    }
    let column = |name: &str| Text { value: name.to_owned(), shown: name.to_owned(), span: history.span };
    COLUMNS.iter().map(|name| column(name)).collect()
}
