//! Gives the tree its shape: which keys there are, of which type their values are, with placeholders filled in from the
//! environment. This module must never fail at the first mistake: it tells it, marks the value as broken, and goes on.

mod values;

use self::values::example;
use crate::error::{Draft, Problems, Span, quoted};
use crate::raw::{
    Address, Field, RawAdopt, RawAfter, RawCheck, RawCsv, RawHistory, RawId, RawIds, RawLookup, RawOutput, RawPipeline,
    RawSchema, RawSource, RawStart, RawTable, Text,
};
use crate::yaml::{Entry, Kind, Node};

/// The version of the pipeline language that this program reads.
const VERSION: i64 = 1;

/// More tables than this are refused: checks that compare names with names would take too long.
const MAX_TABLES: usize = 1000;

/// More checks than this are refused: each one is evaluated for every record.
const MAX_CHECKS: usize = 1000;

/// More look-ups than this are refused: each process holds all of them in memory.
const MAX_LOOKUPS: usize = 100;

const EXAMPLE_OF_LOOKUPS: &str = "write each one as `countries: {files: countries.csv, key: code}`, indented below";

/// Decodes the tree of a file. `None` if nothing more can be said about it, or if there is nothing in it.
pub(crate) fn decode(
    root: &Node,
    problems: &mut Problems,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<RawPipeline> {
    if matches!(&root.kind, Kind::Scalar(scalar) if scalar.is_null()) {
        return None;
    }
    Decoder { problems, env }.pipeline(root)
}

struct Decoder<'a> {
    problems: &'a mut Problems,
    env: &'a dyn Fn(&str) -> Option<String>,
}

/// A map whose keys have been checked.
struct Fields<'n> {
    entries: &'n [Entry],
    /// Keys that are not there, but seem to be meant by keys that are unknown: they count as broken, so that one
    /// letter too few is not told a second time as a key that is missing.
    meant: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value of a key, with the place of the key.
    fn get(&self, key: &str) -> Option<(&'n Node, Span)> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| (&entry.value, entry.key_span))
    }

    /// What `read` makes of the value of a key.
    fn read<T>(&self, key: &str, read: impl FnOnce(&'n Node, Span) -> Option<T>) -> Field<T> {
        match self.get(key) {
            Some((node, span)) => Field::from(read(node, span)),
            None if self.meant.contains(&key) => Field::Broken,
            None => Field::Absent,
        }
    }
}

impl Decoder<'_> {
    fn pipeline(&mut self, root: &Node) -> Option<RawPipeline> {
        // Another version may have other keys, so nothing else is worth a word if the version is wrong.
        let entries: &[Entry] = match &root.kind {
            Kind::Map(entries) => entries,
            Kind::Scalar(_) | Kind::List(_) => &[],
        };
        let version = Fields { entries, meant: Vec::new() }.read("version", |node, _| self.number(node, "version"));
        if let Some(number) = version.given().filter(|number| number.value != VERSION) {
            self.problems.push(wrong_version(number.span, number.value));
            return None;
        }
        let required = ["version", "name", "source", "tables", "output"];
        let fields = self.map(root, "", root.span, RawPipeline::KEYS, &required)?;
        Some(RawPipeline {
            version,
            name: fields.read("name", |node, _| self.text(node, "name")),
            source: fields.read("source", |node, key| self.source(node, key)),
            transform: fields.read("transform", |node, _| self.text(node, "transform")),
            lookups: fields.read("lookups", |node, key| self.lookups(node, key)),
            checks: fields.read("checks", |node, _| self.checks(node)),
            tables: fields.read("tables", |node, key| self.tables(node, key)),
            output: fields.read("output", |node, key| self.output(node, key)),
            state: fields.read("state", |node, _| self.text(node, "state")),
            ids: fields.read("ids", |node, key| self.ids(node, key)),
        })
    }

    fn ids(&mut self, node: &Node, key: Span) -> Option<RawIds> {
        let fields = self.map(node, "ids", key, RawIds::KEYS, &["from"])?;
        Some(RawIds {
            from: fields.read("from", |node, _| self.text(node, "ids.from")),
            url: fields.read("url", |node, _| self.address(node, "ids.url")),
            wait_seconds: fields.read("wait_seconds", |node, _| self.number(node, "ids.wait_seconds")),
        })
    }

    /// An address that is kept as it is written: what its placeholders stand for may be secret.
    fn address(&mut self, node: &Node, at: &str) -> Option<Address> {
        let Text { value, span, .. } = self.text(node, at)?;
        let written = self.scalar(node, at, "a text")?.text.clone();
        Some(Address { written: Text { shown: written.clone(), value: written, span }, expanded: value })
    }

    fn source(&mut self, node: &Node, key: Span) -> Option<RawSource> {
        let fields = self.map(node, "source", key, RawSource::KEYS, &["files"])?;
        Some(RawSource {
            files: fields.read("files", |node, _| self.text_list(node, "source.files")),
            on_bad_file: fields.read("on_bad_file", |node, _| self.text(node, "source.on_bad_file")),
            schema: fields.read("schema", |node, key| self.schema(node, key)),
            rename: fields.read("rename", |node, key| self.text_map(node, "source.rename", key)),
            format: fields.read("format", |node, _| self.text(node, "source.format")),
            csv: fields.read("csv", |node, key| self.csv(node, key)),
            columns: fields.read("columns", |node, key| self.text_map(node, "source.columns", key)),
            undeclared: fields.read("undeclared", |node, _| self.text(node, "source.undeclared")),
        })
    }

    fn csv(&mut self, node: &Node, key: Span) -> Option<RawCsv> {
        let fields = self.map(node, "source.csv", key, RawCsv::KEYS, &[])?;
        Some(RawCsv {
            delimiter: fields.read("delimiter", |node, _| self.any_text(node, "source.csv.delimiter")),
            header: fields.read("header", |node, _| self.truth_value(node, "source.csv.header")),
            quote: fields.read("quote", |node, _| self.any_text(node, "source.csv.quote")),
            null: fields.read("null", |node, _| self.any_text(node, "source.csv.null")),
        })
    }

    fn schema(&mut self, node: &Node, key: Span) -> Option<RawSchema> {
        let at = "source.schema";
        match &node.kind {
            Kind::Scalar(scalar) if !scalar.is_null() => Some(RawSchema { mode: Field::from(self.text(node, at)) }),
            _ => {
                let fields = self.map(node, at, key, RawSchema::KEYS, &["mode"])?;
                Some(RawSchema { mode: fields.read("mode", |node, _| self.text(node, &format!("{at}.mode"))) })
            }
        }
    }

    /// A map of texts to texts. `key` is the place of the key whose value it is.
    fn text_map(&mut self, node: &Node, at: &str, key: Span) -> Option<Vec<(Text, Text)>> {
        let entries = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Scalar(scalar) if scalar.is_null() => {
                let help = "give it entries, indented below, or remove it";
                self.problems.push(Draft::new(key, format!("{} is empty", quoted(at))).help(help));
                return None;
            }
            Kind::Scalar(_) | Kind::List(_) => {
                self.wrong_type(node, at, "a map", "write one `name: value` for each column, indented below");
                return None;
            }
        };
        let read = |entry: &Entry| {
            let name = Text { value: entry.key.clone(), shown: entry.key.clone(), span: entry.key_span };
            Some((name, self.text(&entry.value, &format!("{at}.{}", entry.key))?))
        };
        // All are read before one that is broken breaks the map.
        let read: Vec<_> = entries.iter().map(read).collect();
        read.into_iter().collect()
    }

    fn output(&mut self, node: &Node, key: Span) -> Option<RawOutput> {
        let fields = self.map(node, "output", key, RawOutput::KEYS, &["path"])?;
        Some(RawOutput {
            path: fields.read("path", |node, _| self.text(node, "output.path")),
            format: fields.read("format", |node, _| self.text(node, "output.format")),
            compression: fields.read("compression", |node, _| self.text(node, "output.compression")),
            recompress: fields.read("recompress", |node, _| self.truth_value(node, "output.recompress")),
            target_file_size: fields.read("target_file_size", |node, _| self.size(node, "output.target_file_size")),
        })
    }

    fn lookups(&mut self, node: &Node, key: Span) -> Option<Vec<(Text, RawLookup)>> {
        let entries = match &node.kind {
            Kind::Map(entries) if !entries.is_empty() => entries,
            Kind::Scalar(scalar) if !scalar.is_null() => {
                self.wrong_type(node, "lookups", "a map of look-ups", EXAMPLE_OF_LOOKUPS);
                return None;
            }
            Kind::List(_) => {
                self.wrong_type(node, "lookups", "a map of look-ups", EXAMPLE_OF_LOOKUPS);
                return None;
            }
            Kind::Map(_) | Kind::Scalar(_) => {
                let help = "name a look-up, indented below, or remove it";
                self.problems.push(Draft::new(key, "`lookups` is empty".to_owned()).help(help));
                return None;
            }
        };
        if entries.len() > MAX_LOOKUPS {
            let message = format!("the pipeline has {} look-ups, and {MAX_LOOKUPS} is the most", entries.len());
            self.problems.push(Draft::new(node.span, message).help("join what belongs together into one file"));
            return None;
        }
        let read = |entry: &Entry| {
            let name = Text { value: entry.key.clone(), shown: entry.key.clone(), span: entry.key_span };
            Some((name, self.lookup(&entry.value, &format!("lookups.{}", entry.key), entry.key_span)?))
        };
        // All are read before one that is broken breaks the map.
        let read: Vec<_> = entries.iter().map(read).collect();
        read.into_iter().collect()
    }

    fn lookup(&mut self, node: &Node, at: &str, key: Span) -> Option<RawLookup> {
        let fields = self.map(node, at, key, RawLookup::KEYS, &["files", "key"])?;
        Some(RawLookup {
            files: fields.read("files", |node, _| self.text_list(node, &format!("{at}.files"))),
            key: fields.read("key", |node, _| self.text_list(node, &format!("{at}.key"))),
            columns: fields.read("columns", |node, key| self.text_map(node, &format!("{at}.columns"), key)),
        })
    }

    fn checks(&mut self, node: &Node) -> Option<Vec<RawCheck>> {
        let Kind::List(nodes) = &node.kind else {
            let help = "write each check as `- {name: positive_price, where: \"price >= 0\"}`";
            self.wrong_type(node, "checks", "a list of checks", help);
            return None;
        };
        if nodes.len() > MAX_CHECKS {
            let message = format!("the pipeline has {} checks, and {MAX_CHECKS} is the most", nodes.len());
            self.problems.push(Draft::new(node.span, message).help("join some of them with AND"));
            return None;
        }
        // All are read before one that is broken breaks the list.
        let checks: Vec<_> = nodes.iter().enumerate().map(|(at, node)| self.check(node, at)).collect();
        checks.into_iter().collect()
    }

    fn check(&mut self, node: &Node, at: usize) -> Option<RawCheck> {
        let at = format!("checks[{at}]");
        let fields = self.map(node, &at, node.span, RawCheck::KEYS, &["name", "where"])?;
        Some(RawCheck {
            name: fields.read("name", |node, _| self.text(node, &format!("{at}.name"))),
            condition: fields.read("where", |node, _| self.text(node, &format!("{at}.where"))),
            severity: fields.read("severity", |node, _| self.text(node, &format!("{at}.severity"))),
            at_most: fields.read("at_most", |node, _| self.amount(node, &format!("{at}.at_most"))),
        })
    }

    /// A number, or a text with a number and a unit.
    fn amount(&mut self, node: &Node, at: &str) -> Option<Text> {
        let scalar = self.scalar(node, at, "a number or a text")?;
        let (value, substituted) = self.expand(scalar, node.span)?;
        let shown = if substituted { scalar.text.clone() } else { value.clone() };
        Some(Text { value, shown, span: node.span })
    }

    fn tables(&mut self, node: &Node, key: Span) -> Option<Vec<(Text, RawTable)>> {
        let entries = match &node.kind {
            Kind::Map(entries) if !entries.is_empty() => entries,
            Kind::Map(_) => {
                self.problems.push(no_tables(node.span));
                return None;
            }
            Kind::Scalar(scalar) if scalar.is_null() => {
                self.problems.push(no_tables(key));
                return None;
            }
            Kind::Scalar(_) | Kind::List(_) => {
                let help = "write each table as its name, a colon, and its settings indented below";
                self.wrong_type(node, "tables", "a map of tables", help);
                return None;
            }
        };
        if entries.len() > MAX_TABLES {
            let message = format!("the pipeline has {} tables, and {MAX_TABLES} is the most", entries.len());
            self.problems.push(Draft::new(key, message).help("make several pipelines of it"));
            return None;
        }
        let mut tables = Vec::with_capacity(entries.len());
        for entry in entries {
            let name = Text { value: entry.key.clone(), shown: entry.key.clone(), span: entry.key_span };
            let table = self.table(&entry.value, &entry.key, entry.key_span);
            tables.push((name, table));
        }
        Some(tables)
    }

    /// A table; one that is no map at all has every field broken, so that nothing more is said about it.
    fn table(&mut self, node: &Node, name: &str, key: Span) -> RawTable {
        let at = format!("tables.{name}");
        let Some(fields) = self.map(node, &at, key, RawTable::KEYS, &[]) else {
            return RawTable {
                from: Field::Broken,
                key: Field::Broken,
                id: Field::Broken,
                references: Field::Broken,
                columns: Field::Broken,
                on_conflict: Field::Broken,
                count_conflicts: Field::Broken,
                on_null_key: Field::Broken,
                adopt: Field::Broken,
                partition_by: Field::Broken,
                history: Field::Broken,
            };
        };
        RawTable {
            from: fields.read("from", |node, _| self.text(node, &format!("{at}.from"))),
            key: fields.read("key", |node, _| self.text_list(node, &format!("{at}.key"))),
            id: fields.read("id", |node, key| self.id(node, &format!("{at}.id"), key)),
            references: fields.read("references", |node, _| self.text_list(node, &format!("{at}.references"))),
            columns: fields.read("columns", |node, _| self.text_list(node, &format!("{at}.columns"))),
            on_conflict: fields.read("on_conflict", |node, _| self.text(node, &format!("{at}.on_conflict"))),
            count_conflicts: fields
                .read("count_conflicts", |node, _| self.truth_value(node, &format!("{at}.count_conflicts"))),
            partition_by: fields.read("partition_by", |node, _| self.text_list(node, &format!("{at}.partition_by"))),
            on_null_key: fields.read("on_null_key", |node, _| match &node.kind {
                // Without quotes this value is no text to YAML; here it is one like the others.
                Kind::Scalar(scalar) if scalar.is_null() => {
                    Some(Text { value: "null".to_owned(), shown: "null".to_owned(), span: node.span })
                }
                _ => self.text(node, &format!("{at}.on_null_key")),
            }),
            adopt: fields.read("adopt", |node, key| self.adopt(node, &format!("{at}.adopt"), key)),
            history: fields.read("history", |node, key| self.history(node, &format!("{at}.history"), key)),
        }
    }

    /// The history of a table: its type, or a map.
    fn history(&mut self, node: &Node, at: &str, key: Span) -> Option<RawHistory> {
        if matches!(&node.kind, Kind::Scalar(scalar) if !scalar.is_null()) {
            let kind = Field::from(self.text(node, at));
            return Some(RawHistory { kind, valid_from: Field::Absent, span: key });
        }
        let fields = self.map(node, at, key, RawHistory::KEYS, &["type"])?;
        Some(RawHistory {
            kind: fields.read("type", |node, _| self.text(node, &format!("{at}.type"))),
            valid_from: fields.read("valid_from", |node, _| self.text(node, &format!("{at}.valid_from"))),
            span: key,
        })
    }

    fn id(&mut self, node: &Node, at: &str, key: Span) -> Option<RawId> {
        match &node.kind {
            Kind::Scalar(scalar) if !scalar.is_null() => {
                let column = Field::from(self.text(node, at));
                Some(RawId { column, ..RawId::default() })
            }
            Kind::List(_) => {
                let help = "write the name of one column, or `{column: name, start: 1, step: 1}`";
                self.wrong_type(node, at, "the name of a column or a map", help);
                None
            }
            Kind::Scalar(_) | Kind::Map(_) => {
                let fields = self.map(node, at, key, RawId::KEYS, &["column"])?;
                Some(RawId {
                    column: fields.read("column", |node, _| self.text(node, &format!("{at}.column"))),
                    start: fields.read("start", |node, span| self.start(node, &format!("{at}.start"), span)),
                    step: fields.read("step", |node, _| self.number(node, &format!("{at}.step"))),
                    sequence: fields.read("sequence", |node, _| self.text(node, &format!("{at}.sequence"))),
                    per: fields.read("per", |node, _| self.text_list(node, &format!("{at}.per"))),
                    number: fields.read("number", |node, _| self.text(node, &format!("{at}.number"))),
                    format: fields.read("format", |node, _| self.text(node, &format!("{at}.format"))),
                    text: fields.read("text", |node, _| self.text(node, &format!("{at}.text"))),
                })
            }
        }
    }

    /// Where IDs begin: a number, or a map.
    fn start(&mut self, node: &Node, at: &str, key: Span) -> Option<RawStart> {
        let Kind::Map(_) = &node.kind else { return self.number(node, at).map(RawStart::Number) };
        let fields = self.map(node, at, key, RawAfter::KEYS, &["after"])?;
        Some(RawStart::After(RawAfter {
            after: fields.read("after", |node, _| self.text_list(node, &format!("{at}.after"))),
            column: fields.read("column", |node, _| self.text(node, &format!("{at}.column"))),
            span: key,
        }))
    }

    /// A table that exists: its files, or a map.
    fn adopt(&mut self, node: &Node, at: &str, key: Span) -> Option<RawAdopt> {
        let is_short = match &node.kind {
            Kind::Scalar(scalar) => !scalar.is_null(),
            Kind::List(_) => true,
            Kind::Map(_) => false,
        };
        if is_short {
            let files = Field::from(self.text_list(node, at));
            return Some(RawAdopt { files, key: Field::Absent, id: Field::Absent, span: key });
        }
        let fields = self.map(node, at, key, RawAdopt::KEYS, &["files"])?;
        Some(RawAdopt {
            files: fields.read("files", |node, _| self.text_list(node, &format!("{at}.files"))),
            key: fields.read("key", |node, _| self.renamed(node, &format!("{at}.key"))),
            id: fields.read("id", |node, _| self.text(node, &format!("{at}.id"))),
            span: key,
        })
    }

    /// Names, each with another one.
    fn renamed(&mut self, node: &Node, at: &str) -> Option<Vec<(Text, Text)>> {
        let Kind::Map(entries) = &node.kind else {
            let help = "write each column of the key, a colon, and its name there: `{email: mail}`";
            self.wrong_type(node, at, "a map of names", help);
            return None;
        };
        let pair = |entry: &Entry| {
            let own = Text { value: entry.key.clone(), shown: entry.key.clone(), span: entry.key_span };
            Some((own, self.text(&entry.value, &format!("{at}.{}", entry.key))?))
        };
        let pairs: Vec<_> = entries.iter().map(pair).collect();
        pairs.into_iter().collect()
    }
}

fn wrong_version(span: Span, version: i64) -> Draft {
    let help = if version > VERSION { "use a newer Seriatim for this pipeline" } else { "write `version: 1`" };
    let message = format!("the pipeline is written for version {version}, and this program reads version {VERSION}");
    Draft::new(span, message).help(help)
}

fn no_tables(span: Span) -> Draft {
    Draft::new(span, "the pipeline has no tables").help(format!("add one: `{}`", example("tables")))
}
