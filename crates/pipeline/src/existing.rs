//! What is there already: the files after whose largest ID a table begins, and the table that a key map is taken from. This
//! module must never look for those files.

use crate::error::{Draft, Problems, listed, quoted};
use crate::model::{Adopt, After, IdSource, Ids};
use crate::nearest::nearest;
use crate::raw::{Field, RawAdopt, RawAfter, RawId, RawPipeline, RawStart, RawTable, Text, TextList};
use crate::validate::{not_empty, or_default, values};

/// Where IDs begin: a number, or after the largest one in some files.
pub(crate) fn start_of(raw: &RawId, at: &str, problems: &mut Problems) -> Option<(Option<i64>, Option<After>)> {
    or_default(&raw.start, (None, None), |start| match start {
        RawStart::Number(number) => Some((Some(number.value), None)),
        RawStart::After(after) => after_of(after, raw, at, problems).map(|after| (None, Some(after))),
    })
}

fn after_of(raw: &RawAfter, id: &RawId, at: &str, problems: &mut Problems) -> Option<After> {
    let setting = format!("{at}.id.start.after");
    let files = raw.after.given().and_then(|files| files_of(files, &setting, problems));
    let column = or_default(&raw.column, None, |text| Some(Some(text.value.clone())))?;
    let column = column.or_else(|| id.column.given().map(|column| column.value.clone()))?;
    Some(After { files: files?, column })
}

fn files_of(files: &TextList, setting: &str, problems: &mut Problems) -> Option<Vec<String>> {
    not_empty(files, setting, "name a file, a folder or a glob", problems).map(values)
}

/// The table that a key map is taken from.
#[expect(clippy::option_option, reason = "broken, absent, and given are three things")]
pub(crate) fn adopt_of(name: &Text, table: &RawTable, at: &str, problems: &mut Problems) -> Option<Option<Adopt>> {
    or_default(&table.adopt, None, |adopt| adopted(name, table, adopt, at, problems).map(Some))
}

fn adopted(name: &Text, table: &RawTable, raw: &RawAdopt, at: &str, problems: &mut Problems) -> Option<Adopt> {
    let files = raw.files.given().and_then(|files| files_of(files, &format!("{at}.adopt.files"), problems));
    if matches!(table.key, Field::Absent) {
        let message = format!("the table {} adopts IDs and has no key that they could belong to", quoted(&name.value));
        let draft = Draft::new(raw.span, message).also(name.span, "has no `key`");
        problems.push(draft.help("give the table a `key`, or remove `adopt`"));
        return None;
    }
    let key: Vec<String> = table.key.given().map(values)?;
    let renamed = renamed(raw, &key, at, problems)?;
    let id = or_default(&raw.id, None, |text| Some(Some(text.value.clone())))?;
    let id = id.or_else(|| Some(table.id.given()?.column.given()?.value.clone()))?;
    let start = match table.id.given().and_then(|id| id.start.given()) {
        Some(RawStart::Number(number)) => Some(number.value),
        Some(RawStart::After(_)) | None => None,
    };
    Some(Adopt { files: files?, key: renamed, id, start })
}

/// What the columns of the key are called there, in the order of the key.
fn renamed(raw: &RawAdopt, key: &[String], at: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let pairs = or_default(&raw.key, Vec::new(), |pairs| Some(pairs.clone()))?;
    let mut good = true;
    for (column, _) in pairs.iter().filter(|(column, _)| !key.contains(&column.value)) {
        let message = format!(
            "{} renames {}, which is no column of the key",
            quoted(&format!("{at}.adopt.key")),
            quoted(&column.shown)
        );
        let help = match nearest(&column.value, key.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => format!("the key is {}", listed(key.iter().map(String::as_str))),
        };
        problems.push(Draft::new(column.span, message).help(help));
        good = false;
    }
    let there = |own: &String| {
        let pair = pairs.iter().find(|(column, _)| column.value == *own);
        pair.map_or_else(|| own.clone(), |(_, there)| there.value.clone())
    };
    good.then(|| key.iter().map(there).collect())
}

/// A counter outside knows its own next ID, so nothing else may say where IDs begin.
pub(crate) fn check(ids: &Ids, raw: &RawPipeline, problems: &mut Problems) {
    if ids.from == IdSource::Entity {
        return;
    }
    for (table, settings) in raw.tables.given().into_iter().flatten() {
        let start = settings.id.given().and_then(|id| id.start.given());
        let after = start.and_then(|start| if let RawStart::After(after) = start { Some(after.span) } else { None });
        let adopt = settings.adopt.given().map(|adopt| adopt.span);
        for (span, what) in [(after, "`start: {after: ...}`"), (adopt, "`adopt`")] {
            let Some(span) = span else { continue };
            let message = format!(
                "the table {} has {what}, and its IDs come from a counter outside, which knows its own next one",
                quoted(&table.value)
            );
            let help = format!("remove {what}, or let the pipeline's own counters give the IDs: remove `ids`");
            problems.push(Draft::new(span, message).help(help));
        }
    }
}
