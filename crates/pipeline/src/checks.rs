//! Conditions that records must meet: their names, how bad it is if they do not, and how many may fail. This module must
//! never look at a condition itself: it is SQL, and what it says is for those to find out who know the columns.

use std::collections::HashMap;

use crate::error::{Draft, Problems, quoted};
use crate::model::{Check, Limit, Severity};
use crate::raw::{Field, RawCheck, Text};
use crate::validate::{check_name, choice, or_default};

/// The values of `severity`, the default first.
const SEVERITIES: [(&str, Severity); 3] =
    [("quarantine", Severity::Quarantine), ("warn", Severity::Warn), ("fail", Severity::Fail)];

/// How many records a share is counted in: `0.0001%` is one of them.
const MILLION: u32 = 1_000_000;

/// The checks of a pipeline.
pub(crate) fn checks_of(raw: &[RawCheck], problems: &mut Problems) -> Option<Vec<Check>> {
    let mut names: HashMap<String, &Text> = HashMap::new();
    for name in raw.iter().filter_map(|check| check.name.given()) {
        check_name(name, "check", problems);
        if let Some(first) = names.insert(name.value.to_ascii_lowercase(), name) {
            let message = format!("the check {} is there twice", quoted(&name.shown));
            let draft = Draft::new(name.span, message).label("again").also(first.span, "first");
            problems.push(draft.help("give one of them another name: reports tell checks apart by it"));
        }
    }
    // All are looked at before one that is wrong ends it.
    let checks: Vec<Option<Check>> = raw.iter().enumerate().map(|(at, check)| check_of(check, at, problems)).collect();
    checks.into_iter().collect()
}

fn check_of(raw: &RawCheck, at: usize, problems: &mut Problems) -> Option<Check> {
    let at = format!("checks[{at}]");
    let severity = or_default(&raw.severity, Severity::default(), |text| {
        choice(text, &format!("{at}.severity"), &SEVERITIES, problems)
    });
    let at_most = or_default(&raw.at_most, None, |text| limit_of(text, &at, problems).map(Some));
    if let (Some(Severity::Fail), Field::Given(limit)) = (severity, &raw.at_most) {
        let message = format!(
            "{} has no meaning with `severity: fail`: one record is too many",
            quoted(&format!("{at}.at_most"))
        );
        problems.push(
            Draft::new(limit.span, message)
                .help("remove it, or choose `warn` or `quarantine`, and the run fails beyond it"),
        );
        return None;
    }
    Some(Check {
        name: raw.name.given()?.value.clone(),
        condition: raw.condition.given()?.value.clone(),
        severity: severity?,
        at_most: at_most?,
    })
}

/// A number of records, or a percentage of them.
fn limit_of(text: &Text, at: &str, problems: &mut Problems) -> Option<Limit> {
    let value = text.value.trim();
    let limit = match value.strip_suffix('%') {
        Some(percent) => per_million(percent.trim_end()).map(|per_million| Limit::Share { per_million }),
        None => value.parse().ok().map(Limit::Records),
    };
    if limit.is_none() {
        let message = format!("{} cannot be {}", quoted(&format!("{at}.at_most")), quoted(&text.shown));
        let help = "write a number of records, such as 100, or a percentage of a run's records, from `0%` to `100%`, with \
                    four digits after the point at most";
        problems.push(Draft::new(text.span, message).help(help));
    }
    limit
}

/// A percentage, in millionths.
fn per_million(percent: &str) -> Option<u32> {
    let (whole, digits) = percent.split_once('.').unwrap_or((percent, "0"));
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if !is_number(whole) || !is_number(digits) || digits.len() > 4 || whole.len() > 3 {
        return None;
    }
    let value = whole.parse::<u32>().ok()? * (MILLION / 100) + format!("{digits:0<4}").parse::<u32>().ok()?;
    (value <= MILLION).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::{SEVERITIES, per_million};
    use crate::schema;

    #[test]
    fn percentages() {
        let cases =
            [("1", Some(10_000)), ("0.5", Some(5_000)), ("100", Some(1_000_000)), ("0.0001", Some(1)), ("0", Some(0))];
        for (text, value) in cases {
            assert_eq!(per_million(text), value, "{text}");
        }
        for text in ["", ".", "1.", ".5", "100.0001", "101", "-1", "1e2", "0.00001", "+1", " 1"] {
            assert_eq!(per_million(text), None, "{text}");
        }
    }

    /// The schema and the parser each have their list of values.
    #[test]
    fn the_schema_knows_every_severity() {
        assert_eq!(SEVERITIES.map(|(name, _)| name).to_vec(), schema::SEVERITIES);
        for (name, severity) in SEVERITIES {
            assert_eq!(serde_json::json!(severity), serde_json::json!(name));
        }
    }
}
