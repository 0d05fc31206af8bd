//! Look-ups: whether their names can stand in SQL beside `source`, and whether there is a transform that could join them.
//! This module must never look for their files, nor at the SQL.

use std::collections::{BTreeMap, HashMap};

use crate::error::{Draft, Problems, quoted};
use crate::model::Lookup;
use crate::raw::{Field, RawLookup, Text};
use crate::validate::{check_name, columns_of, not_empty, or_default, values};

/// What the SQL calls the records.
const SOURCE: &str = "source";

/// The look-ups of a pipeline.
pub(crate) fn lookups_of(
    raw: &[(Text, RawLookup)],
    transform: &Field<Text>,
    problems: &mut Problems,
) -> Option<Vec<Lookup>> {
    let mut good = true;
    let mut names: HashMap<String, &Text> = HashMap::new();
    for (name, _) in raw {
        good &= check_name(name, "look-up", problems);
        if name.value.eq_ignore_ascii_case(SOURCE) {
            let draft = Draft::new(name.span, "a look-up cannot be called `source`: the records are");
            problems.push(draft.help("give it another name"));
            good = false;
        }
        if let Some(first) = names.insert(name.value.to_ascii_lowercase(), name) {
            let message = format!(
                "the look-ups {} and {} differ only in the case of letters",
                quoted(&first.value),
                quoted(&name.value)
            );
            let draft = Draft::new(name.span, message).also(first.span, "the other one");
            problems.push(draft.help("give one of them another name: SQL would not tell them apart"));
            good = false;
        }
    }
    if let (Field::Absent, Some((name, _))) = (transform, raw.first()) {
        let message = format!("nothing joins the look-up {}: there is no `transform`", quoted(&name.value));
        let help = format!(
            "add one, such as `transform: SELECT * FROM source LEFT JOIN {0} ON source.country = {0}.code`, or remove `lookups`",
            name.value
        );
        problems.push(Draft::new(name.span, message).help(help));
        good = false;
    }
    // All are looked at before one that is wrong ends it.
    let lookups: Vec<Option<Lookup>> = raw.iter().map(|(name, lookup)| lookup_of(name, lookup, problems)).collect();
    lookups.into_iter().collect::<Option<_>>().filter(|_| good)
}

fn lookup_of(name: &Text, raw: &RawLookup, problems: &mut Problems) -> Option<Lookup> {
    let at = format!("lookups.{}", name.value);
    let files = raw.files.given();
    let files =
        files.and_then(|files| not_empty(files, &format!("{at}.files"), "name a file, a folder or a glob", problems));
    let key = raw.key.given();
    let key =
        key.and_then(|key| not_empty(key, &format!("{at}.key"), "name the columns that tell rows apart", problems));
    let mut good = true;
    for (place, column) in key.iter().flat_map(|key| key.items.iter().enumerate()) {
        let before = key.iter().flat_map(|key| &key.items[..place]);
        if let Some(first) = before.into_iter().find(|first| first.value == column.value) {
            let message = format!("{} has {} twice", quoted(&format!("{at}.key")), quoted(&column.shown));
            problems.push(Draft::new(column.span, message).also(first.span, "first").help("remove one of them"));
            good = false;
        }
    }
    let columns = or_default(&raw.columns, BTreeMap::default(), |columns| {
        columns_of(columns, &format!("{at}.columns"), problems)
    });
    let lookup = Lookup { name: name.value.clone(), files: values(files?), key: values(key?), columns: columns? };
    good.then_some(lookup)
}
