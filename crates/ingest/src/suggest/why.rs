//! Why each table is one, in words and counts: what the pipeline file's comments say, and what is printed. Must never
//! claim more than the sample shows.

use super::SuggestedTable;
use super::coded::Coded;
use super::names::Named;
use super::sample::Sample;
use super::tables::{Design, Thing};

/// Names that a sentence lists, at most.
const LISTED: usize = 8;
/// Evidence below this many bits is worth a warning.
const WEAK: f64 = 10.0;

/// The tables of a design, with reasons.
pub(super) fn explain(sample: &Sample, design: &Design, named: &Named) -> Vec<SuggestedTable> {
    let explain = Explain { sample, columns: &sample.columns, design, named };
    (0..design.tables.len()).map(|index| explain.table(index)).collect()
}

struct Explain<'a> {
    sample: &'a Sample,
    columns: &'a [Coded],
    design: &'a Design,
    named: &'a Named,
}

impl Explain<'_> {
    fn table(&self, index: usize) -> SuggestedTable {
        let thing = &self.design.tables[index];
        let name = |&column: &usize| self.columns[column].name.clone();
        let is_records = index + 1 == self.design.tables.len();
        let (mut why, beware) = if is_records { self.records(thing) } else { self.thing(thing) };
        why.extend(self.passed_over(thing));
        SuggestedTable {
            name: self.named.tables[index].clone(),
            key: thing.key.iter().map(name).collect(),
            id: self.named.ids[index].clone(),
            references: thing.references.iter().map(|&table| self.named.tables[table].clone()).collect(),
            columns: thing.columns.iter().map(name).collect(),
            why,
            beware,
            null_keys: !is_records && thing.key.iter().any(|&key| self.columns[key].nulls > 0),
        }
    }

    fn names(&self, columns: &[usize]) -> String {
        let shown: Vec<String> = columns.iter().take(LISTED).map(|&column| shown(&self.columns[column].name)).collect();
        let more = columns.len().saturating_sub(LISTED);
        match (shown.as_slice(), more) {
            ([], _) => String::new(),
            ([one], 0) => one.clone(),
            ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
            (shown, more) => format!("{} and {} more", shown.join(", "), grouped(more as u64)),
        }
    }

    /// A table of things.
    fn thing(&self, thing: &Thing) -> (Vec<String>, Vec<String>) {
        let key = thing.key[0];
        let column = &self.columns[key];
        let name = shown(&column.name);
        let keys_below: Vec<usize> = thing.references.iter().map(|&table| self.design.tables[table].key[0]).collect();
        let determined: Vec<usize> = thing.columns.iter().chain(&keys_below).copied().collect();
        let mut why = vec![format!(
            "{name} has {} in {}, and each value always comes with the same {}: {} could have contradicted that, and \
             none did.",
            counted(column.distinct.into(), "value"),
            counted(column.filled().into(), "record"),
            self.names(&determined),
            counted(column.repeats().into(), "repeat"),
        )];
        for (&table, &other) in thing.references.iter().zip(&keys_below) {
            let (table, other) = (&self.named.tables[table], shown(&self.columns[other].name));
            why.push(format!("It refers to {table}, because each {name} has one {other}."));
        }
        let twins: Vec<usize> = thing.columns.iter().copied().filter(|&c| self.is_twin(key, c)).collect();
        if !twins.is_empty() {
            why.push(format!("{} would do as the key as well: one value goes with one {name}.", self.names(&twins)));
        }
        (why, self.beware(key, &determined))
    }

    fn is_twin(&self, key: usize, column: usize) -> bool {
        let dependencies = &self.design.dependencies;
        dependencies.get(key, column).is_some() && dependencies.get(column, key).is_some()
    }

    fn beware(&self, key: usize, determined: &[usize]) -> Vec<String> {
        let (column, name) = (&self.columns[key], shown(&self.columns[key].name));
        let mut beware = Vec::new();
        let evidence = |&other: &usize| self.design.dependencies.get(key, other);
        let weak: Vec<usize> =
            determined.iter().copied().filter(|other| evidence(other).is_some_and(|found| found.bits < WEAK)).collect();
        if !weak.is_empty() {
            let repeats = counted(column.repeats().into(), "repeat");
            beware.push(format!("{repeats} of {name} can be chance for {}: look at it twice.", self.names(&weak)));
        }
        if column.nulls > 0 {
            let records = counted(column.nulls.into(), "record");
            let lost: Vec<usize> = determined
                .iter()
                .copied()
                .filter(|other| evidence(other).is_some_and(|found| found.lost > 0))
                .collect();
            let mut kept = String::new();
            if !lost.is_empty() {
                let names = self.names(&lost);
                kept = format!(
                    "; what they say in {names} is kept nowhere, unless `columns` of another table names it, too"
                );
            }
            beware.push(format!("{records} without {name} make no row here and refer to none{kept}."));
        }
        beware
    }

    /// The table of the records.
    fn records(&self, thing: &Thing) -> (Vec<String>, Vec<String>) {
        let records = counted(self.sample.looked_at, "record");
        let (mut why, mut beware) = (Vec::new(), Vec::new());
        match thing.key.as_slice() {
            [] => why.push("No key: every record is a row.".to_owned()),
            [key] => {
                let name = shown(&self.columns[*key].name);
                why.push(format!("{name} is different in each of {records}: it is the key of the record itself."));
                beware.push(format!("A record whose {name} was there before makes no row: remove `key` to keep all."));
            }
            several => {
                let names = self.names(several);
                why.push(format!("{names} together are different in each of {records}: the key of the record itself."));
                beware.push("A record whose key was there before makes no row: remove `key` to keep all.".to_owned());
            }
        }
        if !thing.columns.is_empty() {
            let names = self.names(&thing.columns);
            why.push(match (thing.references.is_empty(), thing.key.is_empty()) {
                (true, true) => {
                    "It has all columns, because none determines enough of others to be a table.".to_owned()
                }
                (false, true) => format!("No key determines {names}: the record itself has them."),
                (_, false) => format!("Nothing else determines {names}."),
            });
        }
        let also: Vec<usize> = thing.columns.iter().copied().filter(|&c| self.is_unique_by_chance(c)).collect();
        if !also.is_empty() && thing.key.is_empty() {
            let names = self.names(&also);
            beware.push(format!(
                "{names} is different in every record that was looked at. If it is bound to be, make it the `key`: then a \
                 record that is delivered twice is one row."
            ));
        }
        (why, beware)
    }

    fn is_unique_by_chance(&self, column: usize) -> bool {
        self.columns[column].is_unique() && self.columns[column].can_be_key()
    }

    /// Columns of a table that determine others and are no table of their own.
    fn passed_over(&self, thing: &Thing) -> Vec<String> {
        let here = self.design.passed_over.iter().filter(|(column, _)| thing.columns.contains(column));
        here.map(|(column, determined)| {
            let (name, values) =
                (shown(&self.columns[*column].name), counted(self.columns[*column].distinct.into(), "value"));
            format!("{name} ({values}) determines {}, which is too little for a table.", self.names(determined))
        })
        .collect()
    }
}

/// A name without what could end a comment, or move a cursor.
pub(super) fn shown(name: &str) -> String {
    let escaped = |c: char| -> String { if c.is_control() { c.escape_default().collect() } else { c.into() } };
    name.chars().map(escaped).collect()
}

/// `2000000` as `2,000,000`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`: a count and its noun.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}
