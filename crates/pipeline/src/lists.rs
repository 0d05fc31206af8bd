//! Paths to lists (`items[]`, `order.items[]`, `orders[].items[]`), whose elements are the rows of tables, and which tables
//! such a table may refer to. This module must never look at the data: whether there is such a list is for those to say
//! who have opened the files.

use std::fmt;

use crate::error::{Draft, Problems, quoted};
use crate::model::{Pipeline, Table};
use crate::raw::{RawTable, Text};

/// What stands at the end of each step of a path.
const BRACKETS: &str = "[]";

/// Lists within lists, at most: deeper ones are nobody's data, and a path has to be read by people.
const MOST_STEPS: usize = 8;

/// The way to a list: in the record, or in the elements of a list before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListPath {
    steps: Vec<String>,
}

impl ListPath {
    /// Reads a path as it is written; `Err` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut steps: Vec<String> = text.split(BRACKETS).map(str::to_owned).collect();
        if steps.len() < 2 || steps.pop().is_some_and(|rest| !rest.is_empty()) {
            return Err("does not end in `[]`, so it names no elements of a list");
        }
        for (index, step) in steps.iter_mut().enumerate() {
            if index > 0 {
                match step.strip_prefix('.') {
                    Some(rest) => *step = rest.to_owned(),
                    None if step.is_empty() => return Err("has a list right within a list, without a name between"),
                    None => return Err("has no dot between `[]` and the name after it"),
                }
            }
            if step.trim().is_empty() || step.starts_with('.') || step.ends_with('.') {
                return Err("has no name before `[]`");
            }
            if step.contains(['[', ']']) {
                return Err("has brackets with something in them, or without their other half");
            }
        }
        if steps.len() > MOST_STEPS {
            return Err("has more than eight lists within each other");
        }
        Ok(Self { steps })
    }

    /// For each list on the way its own way from what it is in: a field, or fields within each other with dots between.
    /// The last is the list itself. Never empty.
    pub fn steps(&self) -> &[String] {
        &self.steps
    }

    /// The list in whose elements this one is; `None` if it is in the record.
    pub fn enclosing(&self) -> Option<Self> {
        let (_, outer) = self.steps.split_last()?;
        (!outer.is_empty()).then(|| Self { steps: outer.to_vec() })
    }

    /// Whether elements of this list are in the elements of `other`, or are these.
    fn is_within(&self, other: &Self) -> bool {
        self.steps.starts_with(&other.steps)
    }
}

impl fmt::Display for ListPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "{}{step}{BRACKETS}", if index > 0 { "." } else { "" })?;
        }
        Ok(())
    }
}

impl Table {
    /// The list whose elements are the table's rows; `None` if they are records.
    pub fn list(&self) -> Option<ListPath> {
        self.from.as_deref().and_then(|from| ListPath::parse(from).ok())
    }
}

impl Pipeline {
    /// The lists whose elements are rows of tables, each after the one that it is in.
    pub fn lists(&self) -> Vec<ListPath> {
        let mut lists: Vec<ListPath> = Vec::new();
        for list in self.tables.iter().filter_map(Table::list) {
            let outer = std::iter::successors(list.enclosing(), ListPath::enclosing);
            let mut way: Vec<ListPath> = outer.collect();
            way.reverse();
            way.push(list);
            for list in way {
                if !lists.contains(&list) {
                    lists.push(list);
                }
            }
        }
        lists
    }
}

/// The path in `from`, as it is kept.
pub(crate) fn from_of(text: &Text, at: &str, problems: &mut Problems) -> Option<String> {
    match ListPath::parse(text.value.trim()) {
        Ok(path) => Some(path.to_string()),
        Err(wrong) => {
            let message = format!("{} is {}, which {wrong}", quoted(&format!("{at}.from")), quoted(&text.shown));
            problems.push(Draft::new(text.span, message).help(
                "write the list's column and `[]`: `items[]`; fields of a struct come before it with dots: `order.items[]`; \
                 a list in the elements of another one is `orders[].items[]`",
            ));
            None
        }
    }
}

/// What is wrong if rows of one table refer to those of another that are of other things: a row can only refer to what
/// it is in, its own element or its record.
pub(crate) fn refuse_reference(
    (name, table): (&Text, &RawTable),
    reference: &Text,
    (other, target): (&Text, &RawTable),
) -> Option<Draft> {
    let path = |table: &RawTable| table.from.given().and_then(|text| ListPath::parse(text.value.trim()).ok());
    let to = path(target)?;
    // What is broken was told already.
    if table.from.given().is_some() && path(table).is_none() {
        return None;
    }
    let from = path(table);
    if from.as_ref().is_some_and(|from| from.is_within(&to)) {
        return None;
    }
    let (name, shown, to) = (quoted(&name.value), quoted(&reference.shown), quoted(&to.to_string()));
    let why = match &from {
        None => format!("a record may have any number of elements in {to}"),
        Some(from) => format!("an element of {} is in no element of {to}", quoted(&from.to_string())),
    };
    let message = format!("the table {name} refers to {shown}, whose rows are elements of {to}: {why}");
    let draft = Draft::new(reference.span, message).also(other.span, "rows are elements");
    Some(draft.help(match &from {
        None => format!("let {shown} refer to {name} instead, or give {name} the same `from`"),
        Some(_) => {
            "remove the reference: a row refers to its record, its own element, or one that this is in".to_owned()
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::ListPath;

    #[test]
    fn a_path_is_read_as_it_is_written() {
        for (text, steps) in [
            ("items[]", &["items"][..]),
            ("order.items[]", &["order.items"]),
            ("orders[].items[]", &["orders", "items"]),
            ("a b[].c.d[].e[]", &["a b", "c.d", "e"]),
        ] {
            let path = ListPath::parse(text).unwrap();
            assert_eq!(path.steps(), steps);
            assert_eq!(path.to_string(), text);
            let outer = path.enclosing().map(|outer| outer.steps().len()).unwrap_or_default();
            assert_eq!(outer, steps.len() - 1);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "[]",
            "items",
            "items[0]",
            "items[].",
            "items[]x[]",
            "a[][]",
            ".a[]",
            "a.[]",
            "a[].",
            "a[]. []",
            "]a[]",
        ] {
            assert!(ListPath::parse(text).is_err(), "{text}");
        }
        assert!(ListPath::parse(&["a[]"; 8].join(".")).is_ok());
        assert!(ListPath::parse(&["a[]"; 9].join(".")).is_err());
    }
}
