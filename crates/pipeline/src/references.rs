//! References between tables: whether the tables are there, can be referred to, and do not refer to one another in a
//! circle. This module must never repeat what was said about the tables themselves.

use std::collections::HashMap;

use crate::error::{Draft, Problems, quoted};
use crate::lists::refuse_reference;
use crate::nearest::nearest;
use crate::raw::{Field, RawTable, Text};

/// The tables as they stand in the file.
pub(crate) type RawTables = [(Text, RawTable)];

/// Checks all references. Gives, for each table, which tables it refers to: indexes in `tables`, with the text of the
/// reference; those that are wrong are left out.
pub(crate) fn check<'t>(tables: &'t RawTables, problems: &mut Problems) -> Vec<Vec<(usize, &'t Text)>> {
    let by_name: HashMap<&str, usize> =
        tables.iter().enumerate().map(|(i, (name, _))| (name.value.as_str(), i)).collect();
    let mut graph = Vec::with_capacity(tables.len());
    for (own, (_, table)) in tables.iter().enumerate() {
        let mut edges: Vec<(usize, &Text)> = Vec::new();
        for reference in table.references.given().into_iter().flat_map(|list| &list.items) {
            match check_one(own, reference, &edges, tables, &by_name, problems) {
                Ok(target) => edges.push((target, reference)),
                Err(Some(draft)) => problems.push(*draft),
                Err(None) => problems.push(Draft::new(reference.span, "a reference to a table that is not there")),
            }
        }
        graph.push(edges);
    }
    report_cycles(tables, &graph, problems);
    graph
}

/// The table that is referred to, or what is wrong. `Err(None)` spares the search for the nearest name where nobody
/// will see it.
fn check_one(
    own: usize,
    reference: &Text,
    earlier: &[(usize, &Text)],
    tables: &RawTables,
    by_name: &HashMap<&str, usize>,
    problems: &Problems,
) -> Result<usize, Option<Box<Draft>>> {
    let fail = |draft: Draft| Err(Some(Box::new(draft)));
    let (name, shown) = (&tables[own].0, quoted(&reference.shown));
    let Some(&target) = by_name.get(reference.value.as_str()) else {
        if problems.is_full() {
            return Err(None);
        }
        let names = || tables.iter().map(|(name, _)| name.value.as_str()).filter(|other| *other != name.value);
        let help = match nearest(&reference.value, names()) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => "name a table of this pipeline".to_owned(),
        };
        let message = format!("the table {} refers to {shown}, and there is no such table", quoted(&name.value));
        return fail(Draft::new(reference.span, message).label("no such table").help(help));
    };
    if target == own {
        let message = format!("the table {shown} refers to itself");
        return fail(
            Draft::new(reference.span, message).help("remove the reference: a row has the table's own ID anyway"),
        );
    }
    if let Some((_, first)) = earlier.iter().find(|(i, _)| *i == target) {
        let message = format!("the table {} refers to {shown} twice", quoted(&name.value));
        let draft = Draft::new(reference.span, message).label("again").also(first.span, "first");
        return fail(draft.help("remove one of them"));
    }
    let (other, table) = &tables[target];
    if matches!(table.key, Field::Absent) {
        let message = format!(
            "the table {} refers to {shown}, which has no key: only a row with a key can be found again",
            quoted(&name.value)
        );
        let draft = Draft::new(reference.span, message).also(other.span, "has no `key`");
        return fail(draft.help(format!("give {} a `key`, or remove the reference", quoted(&other.value))));
    }
    if let Some(draft) = refuse_reference((name, &tables[own].1), reference, (other, table)) {
        return fail(draft);
    }
    Ok(target)
}

/// Tells of circles: at least one where there is any, and never one twice.
fn report_cycles(tables: &RawTables, graph: &[Vec<(usize, &Text)>], problems: &mut Problems) {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        /// On the way from the first table to the current one, at this depth.
        OnWay(usize),
        Done,
    }
    let mut states = vec![State::New; graph.len()];
    for first in 0..graph.len() {
        if states[first] != State::New {
            continue;
        }
        // The way: a table, and which of its references comes next.
        let mut way = vec![(first, 0)];
        states[first] = State::OnWay(0);
        while let Some((table, next)) = way.last_mut() {
            let Some((target, _)) = graph[*table].get(*next) else {
                states[*table] = State::Done;
                way.pop();
                continue;
            };
            *next += 1;
            match states[*target] {
                State::New => {
                    states[*target] = State::OnWay(way.len());
                    way.push((*target, 0));
                }
                State::OnWay(depth) => problems.push(cycle(tables, graph, &way[depth..])),
                State::Done => {}
            }
        }
    }
}

/// The message for a circle: the tables on the way, of each the number of the reference after the one it took.
fn cycle(tables: &RawTables, graph: &[Vec<(usize, &Text)>], way: &[(usize, usize)]) -> Draft {
    const SHOWN: usize = 12;
    let names = way.iter().map(|(table, _)| quoted(&tables[*table].0.value).trim_matches('`').to_owned());
    let mut names: Vec<_> = names.collect();
    let first = names[0].clone();
    if names.len() > SHOWN {
        names.truncate(SHOWN);
        names.push("...".to_owned());
    }
    names.push(first);
    let shown = names.join(" -> ");
    let places: Vec<_> = way.iter().map(|(table, next)| graph[*table][next - 1].1.span).collect();
    let mut draft = Draft::new(places[0], format!("the references make a circle: {shown}"));
    for place in &places[1..] {
        draft = draft.also(*place, "on the circle");
    }
    draft.help("remove one of these references: a table is numbered after those that it refers to")
}
