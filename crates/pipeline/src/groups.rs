//! Numbers within groups: whether the columns that make a group are columns of the table. This module must never repeat what
//! was said about those columns.

use crate::error::{Draft, Problems, quoted};
use crate::model::PerGroup;
use crate::raw::{Field, RawId, RawTable, Text};
use crate::text_ids::refuse_unknown;
use crate::validate::{not_empty, or_default};

/// What follows the name of an ID column in the name of the column of numbers within groups.
const SUFFIX: &str = "_in_group";

/// The numbers within groups beside the ID, if there are any.
#[expect(clippy::option_option, reason = "broken, absent, and given are three things")]
pub(crate) fn group_of(raw: &RawId, table: &RawTable, at: &str, problems: &mut Problems) -> Option<Option<PerGroup>> {
    if let (Field::Given(number), Field::Absent) = (&raw.number, &raw.per) {
        let message =
            format!("{} names a column, and there are no groups to number in", quoted(&format!("{at}.id.number")));
        problems.push(Draft::new(number.span, message).help("say what makes a group: `per: [country, year]`"));
        return None;
    }
    let Some(given) = raw.per.given() else { return or_default(&raw.per, None, |_| None) };
    let setting = format!("{at}.id.per");
    let per = not_empty(given, &setting, "name the columns whose values make a group", problems)?;
    let mut good = true;
    for (index, column) in per.items.iter().enumerate() {
        if let Some(first) = per.items[..index].iter().find(|first| first.value == column.value) {
            let message = format!("{} has {} twice", quoted(&setting), quoted(&column.shown));
            problems.push(Draft::new(column.span, message).also(first.span, "first").help("remove one of them"));
            good = false;
        } else {
            good &= refuse_unknown(&setting, column, table, problems);
        }
    }
    if let Some(adopt) = table.adopt.given() {
        let message = format!(
            "{} numbers within groups, and nobody knows the numbers of a table that is adopted",
            quoted(&setting)
        );
        let draft = Draft::new(given.span, message).also(adopt.span, "adopts a table");
        problems.push(draft.help("remove `per` or `adopt`"));
        good = false;
    }
    let column = raw.column.given()?.value.clone();
    let number = or_default(&raw.number, format!("{column}{SUFFIX}"), |text| Some(text.value.clone()))?;
    let columns = per.items.iter().map(|text| text.value.clone()).collect();
    good.then_some(Some(PerGroup { columns, number }))
}

/// The column of the numbers as messages tell of it, if there is one.
pub(crate) fn column_of(raw: &RawId) -> Option<Text> {
    let per = raw.per.given()?;
    match &raw.number {
        Field::Given(text) => Some(text.clone()),
        Field::Broken => None,
        Field::Absent => {
            let column = raw.column.given()?;
            let named = |column: &str| format!("{column}{SUFFIX}");
            Some(Text { value: named(&column.value), shown: named(&column.shown), span: per.span })
        }
    }
}
