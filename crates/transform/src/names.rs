//! Names as people write them: an unquoted name may differ in case from the column it means, as long
//! as only one column can be meant; a quoted one is taken to the letter. A name that means nothing is
//! an error that offers the nearest one that exists. Guessing between two candidates never happens.

use datafusion_sql::sqlparser::ast::Ident;
use datafusion_sql::sqlparser::tokenizer::Word;

use crate::error::{ErrorKind, SqlError};

/// How many existing names an error lists when none is near.
const LISTED: usize = 12;

/// Gives `ident` the exact spelling of the candidate that it means.
pub(crate) fn resolve(ident: &mut Ident, what: &str, candidates: &[String], place: &str) -> Result<(), SqlError> {
    if candidates.contains(&ident.value) {
        return Ok(());
    }
    let near = same_but_case(&ident.value, candidates);
    match (ident.quote_style, near.as_slice()) {
        (None, [only]) => {
            ident.value = (*only).clone();
            Ok(())
        }
        (None, [first, second, ..]) => Err(SqlError::new(
            ErrorKind::UnknownName,
            format!("`{}` is ambiguous: it could be {what} `{first}` or `{second}`", ident.value),
        )
        .help(format!("write the one that is meant in double quotes: \"{first}\""))
        .at(ident.span)),
        _ => Err(unknown(ident, what, candidates, place)),
    }
}

/// Whether a word of the SQL is a name that may mean this one.
pub(crate) fn may_mean(word: &Word, name: &str) -> bool {
    word.value == name || word.quote_style.is_none() && word.value.to_lowercase() == name.to_lowercase()
}

/// The error for a name that no candidate fits.
pub(crate) fn unknown(ident: &Ident, what: &str, candidates: &[String], place: &str) -> SqlError {
    let error =
        SqlError::new(ErrorKind::UnknownName, format!("unknown {what} `{}`{place}", ident.value)).at(ident.span);
    match nearest(&ident.value, candidates.iter().map(String::as_str)) {
        Some(name) => error.help(format!("did you mean `{name}`?")),
        None => error.help(list(what, candidates)),
    }
}

fn list(what: &str, candidates: &[String]) -> String {
    let names: Vec<String> = candidates.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    let more = candidates.len().saturating_sub(LISTED);
    match (names.is_empty(), more) {
        (true, _) => format!("there is no {what} here"),
        (false, 0) => format!("there is: {}", names.join(", ")),
        (false, more) => format!("there is: {} and {more} more", names.join(", ")),
    }
}

fn same_but_case<'a>(name: &str, candidates: &'a [String]) -> Vec<&'a String> {
    let lower = name.to_lowercase();
    candidates.iter().filter(|candidate| candidate.to_lowercase() == lower).collect()
}

/// The candidate nearest to `name`, if one is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let allowed = 1 + name.chars().count() / 4;
    candidates
        .map(|candidate| (strsim::osa_distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
