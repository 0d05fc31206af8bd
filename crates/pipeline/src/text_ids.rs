//! Text IDs: whether the format makes sense, and whether the values in it are columns of the table. This module must never
//! repeat what was said about those columns.

use crate::error::{Draft, Problems, listed, quoted};
use crate::model::TextId;
use crate::nearest::nearest;
use crate::raw::{Field, RawId, RawTable, Text};
use crate::text_format::TextFormat;
use crate::validate::or_default;

/// What follows the name of an ID column in the name of its text column.
const SUFFIX: &str = "_text";

/// The text ID beside the number, if there is one; `start` and `step` say which numbers there will be.
#[expect(clippy::option_option, reason = "broken, absent, and given are three things")]
pub(crate) fn text_of(
    raw: &RawId,
    table: &RawTable,
    at: &str,
    numbers: Option<(i64, i64)>,
    problems: &mut Problems,
) -> Option<Option<TextId>> {
    if let (Field::Given(text), Field::Absent) = (&raw.text, &raw.format) {
        let message = format!("{} names a column, and there is no `format` for it", quoted(&format!("{at}.id.text")));
        problems.push(Draft::new(text.span, message).help("add one: `format: \"ORD-{:06}\"`"));
        return None;
    }
    let Some(given) = raw.format.given() else { return or_default(&raw.format, None, |_| None) };
    let setting = quoted(&format!("{at}.id.format"));
    let format = match TextFormat::parse(&given.value) {
        Ok(format) => format,
        Err(error) => {
            let message = format!("{setting} {}", error.message);
            problems.push(Draft::new(given.span, message).help(error.help));
            return None;
        }
    };
    let counts_all = matches!(raw.per, Field::Absent);
    if counts_all && format.confuses_signs() && numbers.is_some_and(|(start, step)| start < 0 || step < 0) {
        let message = format!("{setting} has `-` before the number, and numbers below zero begin with it, too");
        problems.push(Draft::new(given.span, message).help("put another character between the value and the number"));
        return None;
    }
    let mut good = true;
    for column in format.columns() {
        good &= is_column(column, table, |known| {
            let message =
                format!("{setting} has {}, which is no column of the table", quoted(&format!("{{{column}}}")));
            let help = match nearest(column, known.iter().copied()) {
                Some(near) => format!("did you mean `{{{near}}}`?"),
                None if column.contains(':') => "only the number can have zeros before it: `{:06}`".to_owned(),
                None if known.is_empty() => "write `{}` for the number; the table has no key and no columns".to_owned(),
                None => format!("write `{{}}` for the number; the columns are {}", listed(known.iter().copied())),
            };
            problems.push(Draft::new(given.span, message).help(help));
        });
    }
    let column = raw.column.given()?.value.clone();
    let name = or_default(&raw.text, format!("{column}{SUFFIX}"), |text| Some(text.value.clone()))?;
    good.then(|| Some(TextId { column: name, format: given.value.clone() }))
}

/// The column of the text as messages tell of it, if there is one.
pub(crate) fn column_of(raw: &RawId) -> Option<Text> {
    let format = raw.format.given()?;
    match &raw.text {
        Field::Given(text) => Some(text.clone()),
        Field::Broken => None,
        Field::Absent => {
            let column = raw.column.given()?;
            let named = |column: &str| format!("{column}{SUFFIX}");
            Some(Text { value: named(&column.value), shown: named(&column.shown), span: format.span })
        }
    }
}

/// Whether a name in a setting is that of a column of the key or of the table's own; complains if not.
pub(crate) fn refuse_unknown(setting: &str, name: &Text, table: &RawTable, problems: &mut Problems) -> bool {
    is_column(&name.value, table, |known| {
        let message = format!("{} has {}, which is no column of the table", quoted(setting), quoted(&name.shown));
        let help = match nearest(&name.value, known.iter().copied()) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None if known.is_empty() => "the table has no key and no columns".to_owned(),
            None => format!("the columns are {}", listed(known.iter().copied())),
        };
        problems.push(Draft::new(name.span, message).help(help));
    })
}

/// Whether a name is that of a column of the key or of the table's own, as far as these can be told; if not, calls `refuse`
/// with those there are.
fn is_column(name: &str, table: &RawTable, refuse: impl FnOnce(&[&str])) -> bool {
    if matches!(table.key, Field::Broken) || matches!(table.columns, Field::Broken) {
        return true;
    }
    let lists = [&table.key, &table.columns].into_iter().filter_map(|list| list.given());
    let known: Vec<&str> = lists.flat_map(|list| &list.items).map(|text| text.value.as_str()).collect();
    let found = known.contains(&name);
    if !found {
        refuse(&known);
    }
    found
}
