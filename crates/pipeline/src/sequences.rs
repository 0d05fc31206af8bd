//! Where IDs come from, and the sequences that tables take them from. An address is looked at with its placeholders filled
//! in, and kept without; this module must never let a password pass that is written in the file itself, nor show what a
//! placeholder stands for.

use std::collections::HashMap;

use crate::env::expand;
use crate::error::{Draft, Problems, quoted};
use crate::model::{IdSource, Ids};
use crate::raw::{Address, Field, RawIds, RawPipeline, Text};
use crate::secrets::is_secret;
use crate::validate::{choice, or_default};

/// The longest name of a sequence: the service's own limits are higher.
const MAX_NAME: usize = 100;

const SOURCES: [(&str, IdSource); 4] = [
    ("entity", IdSource::Entity),
    ("table", IdSource::Table),
    ("postgres", IdSource::Postgres),
    ("nextval", IdSource::Nextval),
];

/// What `ids` says.
pub(crate) fn ids_of(raw: &RawIds, problems: &mut Problems) -> Option<Ids> {
    let from = choice(raw.from.given()?, "ids.from", &SOURCES, problems)?;
    let default = Ids::default();
    let wait_seconds = or_default(&raw.wait_seconds, default.wait_seconds, |number| {
        let seconds = u32::try_from(number.value).ok();
        if seconds.is_none() {
            let message = "`ids.wait_seconds` cannot be negative, or longer than a century";
            problems.push(Draft::new(number.span, message).help("write seconds, such as 600"));
        }
        seconds
    });
    let url = match (&raw.url, from) {
        (Field::Absent, IdSource::Entity) => String::new(),
        (Field::Given(url), IdSource::Entity) => {
            let message = "`ids.url` has no meaning with `from: entity`: those counters are in the state folder";
            problems.push(Draft::new(url.written.span, message).help("remove it, or choose another `from`"));
            return None;
        }
        (Field::Absent, _) => {
            let message = "`ids` has no `url`, and nobody could tell where the counter is";
            let span = raw.from.given()?.span;
            problems.push(Draft::new(span, message).help(format!("add it: `url: {}`", example(from))));
            return None;
        }
        (url, _) => address_of(url.given()?, from, problems)?,
    };
    Some(Ids { from, url, wait_seconds: wait_seconds? })
}

fn example(from: IdSource) -> &'static str {
    match from {
        IdSource::Table => "https://ACCOUNT.table.core.windows.net/TABLE",
        _ => "postgresql://USER@HOST:5432/DATABASE",
    }
}

fn address_of(url: &Address, from: IdSource, problems: &mut Problems) -> Option<String> {
    let schemes: &[&str] =
        if from == IdSource::Table { &["https://", "http://"] } else { &["postgresql://", "postgres://"] };
    if !schemes.iter().any(|scheme| url.expanded.starts_with(scheme)) {
        let message = "`ids.url` is no address of such a counter";
        problems.push(Draft::new(url.written.span, message).help(format!("write it as `{}`", example(from))));
        return None;
    }
    let written = &url.written.value;
    // What a variable holds is not in the file; what stands in for one that is not set is.
    let forms = [expand(written, &|_| Some(HIDDEN.to_string())), expand(written, &|_| None)];
    if forms.iter().flatten().any(|form| has_secret(&form.text)) {
        let message = "`ids.url` has a password or a signature in it, which everybody who reads the file would know";
        let help = "put it into the environment: `postgresql://user:${PASSWORD}@host/db`, or the whole address as \
                    `${DATABASE_URL}`";
        problems.push(Draft::new(url.written.span, message).help(help));
        return None;
    }
    Some(written.clone())
}

/// What a placeholder is taken for while secrets are looked for.
const HIDDEN: char = '\u{1a}';

fn has_secret(url: &str) -> bool {
    let is_literal = |text: &str| !text.is_empty() && !text.contains(HIDDEN);
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let password = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    password.is_some_and(is_literal) || pairs.any(|(name, value)| is_secret(name) && is_literal(value))
}

/// A sequence's name, if it is one.
pub(crate) fn name_of(text: &Text, at: &str, problems: &mut Problems) -> Option<String> {
    let name = &text.value;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.len() <= MAX_NAME && name.chars().all(is_plain) && !name.starts_with(['-', '.']) {
        return Some(name.clone());
    }
    let message = format!("{} cannot be {}", quoted(&format!("{at}.id.sequence")), quoted(&text.shown));
    let help = "use letters, digits, `_`, `-` and `.`, 100 at the most, and begin with a letter, a digit or `_`";
    problems.push(Draft::new(text.span, message).help(help));
    None
}

/// Whether the tables' sequences go with where IDs come from.
pub(crate) fn check(ids: &Ids, raw: &RawPipeline, problems: &mut Problems) {
    let pipeline = raw.name.given().map_or("", |name| name.value.as_str());
    let mut seen: HashMap<String, &Text> = HashMap::new();
    for (table, settings) in raw.tables.given().into_iter().flatten() {
        let Some(id) = settings.id.given() else { continue };
        match (&id.sequence, ids.from) {
            (Field::Given(sequence), IdSource::Entity) => {
                let message = format!(
                    "the table {} names a sequence, and its IDs come from the pipeline's own counters",
                    quoted(&table.value)
                );
                let help = "remove `sequence`, or say where it is: `ids: {from: postgres, url: ...}`";
                problems.push(Draft::new(sequence.span, message).help(help));
            }
            (Field::Absent, IdSource::Nextval) => {
                let message = format!("the table {} names no sequence to take its IDs from", quoted(&table.value));
                let column = id.column.given().map_or("customer_id", |column| column.shown.as_str());
                let help = format!("add it: `id: {{column: {column}, sequence: app.{column}_seq}}`");
                problems.push(Draft::new(table.span, message).help(help));
            }
            (Field::Broken, _) | (Field::Absent, IdSource::Entity) => {}
            (sequence, _) => {
                let own = format!("{pipeline}.{}", table.value);
                let (name, place) = sequence.given().map_or((own, table), |given| (given.value.clone(), given));
                // A run would get one block for both.
                if let Some(first) = seen.insert(name, place) {
                    let message =
                        format!("the sequence of the table {} is that of another table", quoted(&table.value));
                    let draft = Draft::new(place.span, message).also(first.span, "the other one");
                    problems.push(draft.help("give each table of a pipeline a sequence of its own"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::has_secret;

    #[test]
    fn passwords_and_signatures_are_found() {
        for (url, secret) in [
            ("postgresql://u:p@h/d", true),
            ("postgresql://u:\u{1a}@h/d", false),
            ("postgresql://u@h/d", false),
            ("postgresql://h/d?password=p", true),
            ("postgresql://h/d?sslmode=disable&Pass%77ord=p", true),
            ("postgresql://h/d?password=\u{1a}", false),
            ("\u{1a}", false),
            ("https://a.table.core.windows.net/t?sv=1&sig=s", true),
            ("https://a.table.core.windows.net/t?\u{1a}", false),
        ] {
            assert_eq!(has_secret(url), secret, "{url}");
        }
    }
}
