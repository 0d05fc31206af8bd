//! The nearest name: what a person may have meant who wrote a name that does not exist. This module must never suggest
//! something for the sake of suggesting: a far-fetched guess is worse than none.

/// How alike two names must be, by Jaro-Winkler, to be suggested although too many letters differ: it catches names
/// that begin alike, such as `email_address` for `email`.
const ALIKE: f64 = 0.87;

/// The candidate that is most like `name`, or `None` if none of them is near. Letter case makes no difference; where
/// two candidates are equally near, the first one wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let mut best: Option<(&'a str, usize, f64)> = None;
    for candidate in candidates {
        let folded = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&wanted, &folded);
        let likeness = strsim::jaro_winkler(&wanted, &folded);
        // A third of the letters may differ: two in `colum_s`, none in `id`.
        let allowed = wanted.chars().count().max(folded.chars().count()) / 3;
        if distance > allowed && likeness < ALIKE {
            continue;
        }
        let nearer = best.is_none_or(|(_, d, l)| distance < d || (distance == d && likeness > l));
        if nearer {
            best = Some((candidate, distance, likeness));
        }
    }
    best.map(|(candidate, ..)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["key", "id", "columns", "references", "on_conflict", "on_null_key"];
        for (written, meant) in [
            ("colums", "columns"),
            ("Columns", "columns"),
            ("reference", "references"),
            ("on_confilct", "on_conflict"),
            ("onconflict", "on_conflict"),
            ("keys", "key"),
            ("ID", "id"),
        ] {
            assert_eq!(nearest(written, keys), Some(meant), "{written}");
        }
        assert_eq!(nearest("email_address", ["name", "email"]), Some("email"));
    }

    #[test]
    fn stays_silent_when_nothing_is_near() {
        assert_eq!(nearest("parallelism", ["key", "id", "columns"]), None);
        assert_eq!(nearest("", ["id"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
