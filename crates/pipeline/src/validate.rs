//! From a pipeline file as it is written to a pipeline that makes sense: names are checked against one another and
//! defaults filled in. This module must never give back a pipeline beside a problem: `None` comes with one at least.

use std::collections::{BTreeMap, HashMap};

use crate::checks::checks_of;
use crate::column_type::ColumnType;
use crate::compression;
use crate::error::{Draft, Problems, Span, listed, quoted};
use crate::existing;
use crate::groups;
use crate::history;
use crate::lists;
use crate::lookups::lookups_of;
use crate::model::{
    Compression, Csv, Format, Id, Ids, OnBadFile, OnConflict, OnNullKey, Output, Pipeline, SchemaMode, Source,
    SourceFormat, Table, Undeclared,
};
use crate::nearest::nearest;
use crate::raw::{Field, RawCsv, RawId, RawOutput, RawPipeline, RawSource, RawTable, Text, TextList};
use crate::references::{self, RawTables};
use crate::sequences;
use crate::sizes::{LEAST_FILE, parse_size};
use crate::text_ids;

/// The longest name of a pipeline or table: file systems end at 255 bytes, and ours come on top of it.
const MAX_NAME: usize = 100;

/// Where the state goes if the file does not say it.
const DEFAULT_STATE: &str = ".seriatim";

/// Checks a pipeline and makes the model of it.
pub(crate) fn validate(raw: &RawPipeline, problems: &mut Problems) -> Option<Pipeline> {
    let name = raw.name.given().filter(|name| check_name(name, "pipeline", problems));
    let source = raw.source.given().and_then(|source| source_of(source, problems));
    let checks = or_default(&raw.checks, Vec::new(), |checks| checks_of(checks, problems));
    let tables = raw.tables.given().and_then(|tables| tables_of(tables, problems));
    let output = raw.output.given().and_then(|output| output_of(output, problems));
    let transform = or_default(&raw.transform, None, |text| Some(Some(text.value.clone())));
    let lookups = or_default(&raw.lookups, Vec::new(), |lookups| lookups_of(lookups, &raw.transform, problems));
    let state = or_default(&raw.state, DEFAULT_STATE.to_owned(), |text| state_of(text, problems));
    let ids = or_default(&raw.ids, Ids::default(), |ids| sequences::ids_of(ids, problems));
    if let Some(ids) = &ids {
        sequences::check(ids, raw, problems);
        existing::check(ids, raw, problems);
    }
    // Decoding has refused every version but the one there is.
    raw.version.given()?;
    Some(Pipeline {
        name: name?.value.clone(),
        source: source?,
        transform: transform?,
        lookups: lookups?,
        checks: checks?,
        tables: tables?,
        output: output?,
        state: state?,
        ids: ids?,
    })
}

/// What `read` makes of a field, or the default if it is absent. `None` if it is broken, or `read` says so.
pub(crate) fn or_default<T, U>(field: &Field<T>, default: U, read: impl FnOnce(&T) -> Option<U>) -> Option<U> {
    match field {
        Field::Absent => Some(default),
        Field::Broken => None,
        Field::Given(value) => read(value),
    }
}

pub(crate) fn values(list: &TextList) -> Vec<String> {
    list.items.iter().map(|text| text.value.clone()).collect()
}

pub(crate) fn not_empty<'l>(list: &'l TextList, at: &str, help: &str, problems: &mut Problems) -> Option<&'l TextList> {
    if !list.items.is_empty() {
        return Some(list);
    }
    problems.push(Draft::new(list.span, format!("{} is an empty list", quoted(at))).help(help));
    None
}

fn source_of(raw: &RawSource, problems: &mut Problems) -> Option<Source> {
    let files = raw.files.given();
    let files = files.and_then(|files| not_empty(files, "source.files", "name a file, a folder or a glob", problems));
    let on_bad_file = or_default(&raw.on_bad_file, OnBadFile::default(), |text| {
        let choices = [("fail", OnBadFile::Fail), ("quarantine", OnBadFile::Quarantine)];
        choice(text, "source.on_bad_file", &choices, problems)
    });
    let schema = or_default(&raw.schema, SchemaMode::default(), |schema| {
        let choices = [("strict", SchemaMode::Strict), ("widen", SchemaMode::Widen), ("evolve", SchemaMode::Evolve)];
        schema.mode.given().and_then(|text| choice(text, "source.schema", &choices, problems))
    });
    let rename = or_default(&raw.rename, BTreeMap::new(), |renames| renames_of(renames, problems));
    let format = or_default(&raw.format, None, |text| {
        let choices =
            [("parquet", SourceFormat::Parquet), ("csv", SourceFormat::Csv), ("ndjson", SourceFormat::Ndjson)];
        choice(text, "source.format", &choices, problems).map(Some)
    });
    let csv = or_default(&raw.csv, Csv::default(), |csv| csv_of(csv, problems));
    let columns = or_default(&raw.columns, BTreeMap::new(), |columns| columns_of(columns, "source.columns", problems));
    let undeclared = or_default(&raw.undeclared, Undeclared::default(), |text| {
        let choices = [("infer", Undeclared::Infer), ("string", Undeclared::String)];
        choice(text, "source.undeclared", &choices, problems)
    });
    if let Some(Some(format)) = format {
        check_form(raw, format, problems);
    }
    Some(Source {
        files: values(files?),
        on_bad_file: on_bad_file?,
        schema: schema?,
        rename: rename?,
        format: format?,
        csv: csv?,
        columns: columns?,
        undeclared: undeclared?,
    })
}

/// Settings that are for files of another form.
fn check_form(raw: &RawSource, format: SourceFormat, problems: &mut Problems) {
    let Field::Given(written) = &raw.format else { return };
    let mut refuse = |setting: &str, span: Option<Span>, what: &str| {
        let Some(span) = span else { return };
        let message = format!("`source.{setting}` is for {what}, and `source.format` is {}", quoted(&written.shown));
        let help = format!("remove `{setting}`, or `format` if names are to decide");
        problems.push(Draft::new(span, message).also(written.span, "the format").help(help));
    };
    let csv = raw.csv.given();
    let of_csv = csv.and_then(|csv| {
        let texts = [&csv.delimiter, &csv.quote, &csv.null].into_iter().find_map(|field| field.given());
        texts.map(|text| text.span)
    });
    if format != SourceFormat::Csv {
        refuse("csv", of_csv, "comma-separated files");
    }
    if format == SourceFormat::Parquet {
        let columns = raw.columns.given().and_then(|columns| columns.first());
        refuse("columns", columns.map(|(name, _)| name.span), "text files");
        refuse("undeclared", raw.undeclared.given().map(|text| text.span), "text files");
    }
}

fn csv_of(raw: &RawCsv, problems: &mut Problems) -> Option<Csv> {
    let usual = Csv::default();
    let delimiter =
        or_default(&raw.delimiter, usual.delimiter, |text| character(text, "delimiter", problems).map(Some));
    let quote = or_default(&raw.quote, usual.quote, |text| match text.value.as_str() {
        "" => Some(None),
        _ => character(text, "quote", problems).map(Some),
    });
    if let (Some(Some(delimiter)), Some(Some(quote)), Some(text)) = (delimiter, quote, raw.delimiter.given())
        && delimiter == quote
    {
        let message = format!("{} is the delimiter and the quote of `source.csv`", quoted(&text.shown));
        problems.push(Draft::new(text.span, message).help("they must be two characters"));
        return None;
    }
    let null = or_default(&raw.null, usual.null, |text| Some(text.value.clone()));
    Some(Csv {
        delimiter: delimiter?,
        header: or_default(&raw.header, usual.header, |&is| Some(is))?,
        quote: quote?,
        null: null?,
    })
}

/// One character that may be a delimiter or a quote.
fn character(text: &Text, setting: &str, problems: &mut Problems) -> Option<char> {
    let mut characters = text.value.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if matches!(one, ' '..='~' | '\t') => Some(one),
        _ => {
            let message = format!("`source.csv.{setting}` must be one character of ASCII");
            let help = "write it in quotes: \";\", \"|\", or \"\\t\" for a tab";
            problems.push(Draft::new(text.span, message).help(help));
            None
        }
    }
}

/// The declared types of columns.
pub(crate) fn columns_of(
    raw: &[(Text, Text)],
    at: &str,
    problems: &mut Problems,
) -> Option<BTreeMap<String, ColumnType>> {
    let mut columns = BTreeMap::new();
    let mut is_right = true;
    for (name, written) in raw {
        if let Ok(kind) = written.value.parse() {
            columns.insert(name.value.clone(), kind);
            continue;
        }
        is_right = false;
        let at = format!("{at}.{}", name.shown);
        let near = nearest(&written.value, TYPES.iter().copied())
            .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        let help = format!("{near}it is one of {}", listed(TYPES.iter().copied()));
        problems
            .push(Draft::new(written.span, format!("{} cannot be {}", quoted(&at), quoted(&written.shown))).help(help));
    }
    is_right.then_some(columns)
}

/// The types of columns, in words.
const TYPES: &[&str] = &[
    "string",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "decimal(10,2)",
    "boolean",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "timestamp(ms)",
    "timestamptz(ns)",
];

/// Old names of columns and their new ones. A new name that is itself an old one would make it matter which comes first.
fn renames_of(raw: &[(Text, Text)], problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let mut is_right = true;
    for (old, new) in raw {
        let Some((other, _)) = raw.iter().find(|(other, _)| other.value == new.value) else { continue };
        is_right = false;
        let draft = if old.value == new.value {
            let message = format!("`source.rename` gives the column {} its own name", quoted(&old.shown));
            Draft::new(new.span, message).help("write the name in the files, then the one that the pipeline uses")
        } else {
            let message = format!("`source.rename` has {} as a new name and as an old one", quoted(&new.shown));
            Draft::new(new.span, message)
                .also(other.span, "the old name")
                .help("a file's column is renamed once: give each old name the name that the pipeline uses")
        };
        problems.push(draft);
    }
    let pairs = raw.iter().map(|(old, new)| (old.value.clone(), new.value.clone()));
    is_right.then(|| pairs.collect())
}

/// The state folder. What has to outlive the machine is kept beside the output.
fn state_of(text: &Text, problems: &mut Problems) -> Option<String> {
    if !text.value.contains("://") {
        return Some(text.value.clone());
    }
    let message = format!("{} is a URL: `state` is a folder on a local disk", quoted(&text.shown));
    let help =
        "name a folder; if it may be lost, `seriatim run --recover` makes it anew from what is kept beside the output";
    problems.push(Draft::new(text.span, message).help(help));
    None
}

/// Whether a name is one that a folder can have on every disk.
pub(crate) fn check_name(name: &Text, what: &str, problems: &mut Problems) -> bool {
    let shown = quoted(&name.shown);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let (message, help) = if name.value.starts_with(['_', '.']) {
        (
            format!("the name {shown} of a {what} begins with `_` or `.`: such names are Seriatim's own"),
            "begin it with a letter or a digit",
        )
    } else if name.value.is_empty() || name.value.starts_with('-') || !name.value.chars().all(is_plain) {
        (
            format!("{shown} is no name for a {what}"),
            "use the letters a to z and A to Z, digits, `_` and `-`, and begin with a letter or a digit",
        )
    } else if name.value.len() > MAX_NAME {
        (format!("the name {shown} of a {what} is too long"), "use 100 characters at the most")
    } else {
        return true;
    };
    problems.push(Draft::new(name.span, message).help(help));
    false
}

fn output_of(raw: &RawOutput, problems: &mut Problems) -> Option<Output> {
    let format = or_default(&raw.format, Format::default(), |text| {
        let formats = [("parquet", Format::Parquet), ("delta", Format::Delta)];
        choice(text, "output.format", &formats, problems)
    });
    let compression =
        or_default(&raw.compression, Compression::default(), |text| match compression::parse(&text.value) {
            Ok(compression) => Some(compression),
            Err(error) => {
                let message = format!("the compression {} {}", quoted(&text.shown), error.message);
                problems.push(Draft::new(text.span, message).help(error.help));
                None
            }
        });
    let recompress = or_default(&raw.recompress, false, |&recompress| Some(recompress));
    let target_file_size = or_default(&raw.target_file_size, None, |text| size_of(text, problems).map(Some));
    Some(Output {
        path: raw.path.given()?.value.clone(),
        format: format?,
        compression: compression?,
        recompress: recompress?,
        target_file_size: target_file_size?,
    })
}

/// The size that files should have.
fn size_of(text: &Text, problems: &mut Problems) -> Option<u64> {
    let (message, help) = match parse_size(&text.value) {
        Ok(bytes) if bytes >= LEAST_FILE => return Some(bytes),
        Ok(_) => {
            ("is less than 1 MiB, which would make a crowd of small files", "write 128 MiB, for example".to_owned())
        }
        Err(help) => ("is no size", help),
    };
    problems.push(Draft::new(text.span, format!("{} {message}", quoted(&text.shown))).help(help));
    None
}

/// One of a few values.
pub(crate) fn choice<T: Copy>(text: &Text, at: &str, values: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    if let Some((_, value)) = values.iter().find(|(name, _)| *name == text.value) {
        return Some(*value);
    }
    let names = || values.iter().map(|(name, _)| *name);
    let help = match nearest(&text.value, names()) {
        _ if values.len() == 1 => format!("it can only be {}", listed(names())),
        Some(near) => format!("did you mean `{near}`? it is one of {}", listed(names())),
        None => format!("it is one of {}", listed(names())),
    };
    let message = format!("{} cannot be {}", quoted(at), quoted(&text.shown));
    problems.push(Draft::new(text.span, message).help(help));
    None
}

fn tables_of(raw: &RawTables, problems: &mut Problems) -> Option<Vec<Table>> {
    let mut folded: HashMap<String, &Text> = HashMap::new();
    for (name, _) in raw {
        check_name(name, "table", problems);
        let Some(first) = folded.insert(name.value.to_ascii_lowercase(), name) else {
            continue;
        };
        let message = format!(
            "the tables {} and {} differ only in the case of letters, and some disks would give them one folder",
            quoted(&first.value),
            quoted(&name.value)
        );
        let draft = Draft::new(name.span, message).also(first.span, "the other one");
        problems.push(draft.help("give one of them another name"));
    }
    let graph = references::check(raw, problems);
    let mut tables = Vec::with_capacity(raw.len());
    for ((name, table), edges) in raw.iter().zip(&graph) {
        check_columns(name, table, &edges.iter().map(|(i, text)| (&raw[*i], *text)).collect::<Vec<_>>(), problems);
        tables.push(table_of(name, table, problems));
    }
    // All are checked before one that is wrong ends it.
    tables.into_iter().collect()
}

fn table_of(name: &Text, raw: &RawTable, problems: &mut Problems) -> Option<Table> {
    let at = format!("tables.{}", name.value);
    let key = or_default(&raw.key, Vec::new(), |list| {
        let help = "name a column, or remove `key` if every record is to be a row";
        not_empty(list, &format!("{at}.key"), help, problems).map(values)
    });
    if let (Field::Given(list), Field::Absent) = (&raw.key, &raw.id) {
        let message = format!("the table {} has a key and no `id`", quoted(&name.value));
        let id = quoted(&format!("id: {}_id", name.value.trim_end_matches('s')));
        let help = format!("add the name of its ID column: {id}");
        problems.push(Draft::new(name.span, message).also(list.span, "the key").help(help));
    }
    if matches!(raw.key, Field::Absent) {
        for (setting, field) in [("on_conflict", &raw.on_conflict), ("on_null_key", &raw.on_null_key)] {
            if let Field::Given(text) = field {
                problems.push(needs_key(name, setting, text.span));
            }
        }
        if matches!(raw.count_conflicts, Field::Given(_)) {
            problems.push(needs_key(name, "count_conflicts", name.span));
        }
        if has_no_columns(raw) {
            let message = format!("the table {} has no columns at all", quoted(&name.value));
            let help = "give it an `id`, a `key`, `references` or `columns`, or remove it";
            problems.push(Draft::new(name.span, message).help(help));
        }
    }
    let id = or_default(&raw.id, None, |id| id_of(id, raw, &at, problems).map(Some));
    let partition_by = or_default(&raw.partition_by, Vec::new(), |list| partitions_of(name, raw, list, problems));
    // With a history each run brings what is newest, and of a run's records the last one is.
    let usual = if matches!(raw.history, Field::Absent) { OnConflict::First } else { OnConflict::Last };
    let on_conflict = or_default(&raw.on_conflict, usual, |text| {
        let values = [("first", OnConflict::First), ("last", OnConflict::Last), ("error", OnConflict::Error)];
        choice(text, &format!("{at}.on_conflict"), &values, problems)
    });
    let on_null_key = or_default(&raw.on_null_key, OnNullKey::default(), |text| {
        let values = [("null", OnNullKey::Null), ("quarantine", OnNullKey::Quarantine), ("error", OnNullKey::Error)];
        choice(text, &format!("{at}.on_null_key"), &values, problems)
    });
    let adopt = existing::adopt_of(name, raw, &at, problems);
    let history = history::history_of(name, raw, &at, problems);
    let from = or_default(&raw.from, None, |text| lists::from_of(text, &at, problems).map(Some));
    Some(Table {
        name: name.value.clone(),
        key: key?,
        id: id?,
        references: or_default(&raw.references, Vec::new(), |list| Some(values(list)))?,
        columns: or_default(&raw.columns, Vec::new(), |list| Some(values(list)))?,
        on_conflict: on_conflict?,
        count_conflicts: or_default(&raw.count_conflicts, false, |&counts| Some(counts))?,
        on_null_key: on_null_key?,
        adopt: adopt?,
        partition_by: partition_by?,
        history: history?,
        from: from?,
    })
}

/// The columns that a table is partitioned by: some of its key and its columns, but not all that it has.
fn partitions_of(name: &Text, raw: &RawTable, list: &TextList, problems: &mut Problems) -> Option<Vec<String>> {
    if matches!(raw.key, Field::Broken) || matches!(raw.columns, Field::Broken) {
        return None;
    }
    let own = [&raw.key, &raw.columns].into_iter().filter_map(Field::given).flat_map(|list| &list.items);
    let own: Vec<&str> = own.map(|text| text.value.as_str()).collect();
    let mut good = true;
    for (place, text) in list.items.iter().enumerate() {
        let shown = quoted(&text.shown);
        if list.items[..place].iter().any(|other| other.value == text.value) {
            let message = format!("the table {} is partitioned by {shown} twice", quoted(&name.value));
            problems.push(Draft::new(text.span, message).help("remove one of them"));
            good = false;
        } else if !own.contains(&text.value.as_str()) {
            let message =
                format!("{shown} is neither in the key nor in the columns of the table {}", quoted(&name.value));
            let help = match nearest(&text.value, own.iter().copied()) {
                Some(near) => format!("did you mean {}?", quoted(near)),
                None => "add it to `columns`, or partition by another column".to_owned(),
            };
            problems.push(Draft::new(text.span, message).label("no column").help(help));
            good = false;
        }
    }
    let others = matches!(raw.id, Field::Given(_)) || raw.references.given().is_some_and(|list| !list.items.is_empty());
    let all = own.iter().all(|column| list.items.iter().any(|text| text.value == *column));
    if good && all && !others && !list.items.is_empty() {
        let message = format!("the table {} is partitioned by all of its columns", quoted(&name.value));
        let help = "its files would have nothing in them: give it an `id`, or another column";
        problems.push(Draft::new(list.span, message).help(help));
        good = false;
    }
    good.then(|| values(list))
}

fn has_no_columns(raw: &RawTable) -> bool {
    let none = |field: &Field<TextList>| match field {
        Field::Absent => true,
        Field::Broken => false,
        Field::Given(list) => list.items.is_empty(),
    };
    matches!(raw.id, Field::Absent) && none(&raw.key) && none(&raw.references) && none(&raw.columns)
}

fn needs_key(name: &Text, setting: &str, span: Span) -> Draft {
    let why = match setting {
        "on_conflict" | "count_conflicts" => "every record is a row of its own, and none can differ from another",
        _ => "there is no key that could be null",
    };
    let message = format!("the table {} has `{setting}` and no key: {why}", quoted(&name.value));
    Draft::new(span, message)
        .also(name.span, "has no `key`")
        .help(format!("remove `{setting}`, or give the table a `key`"))
}

fn id_of(raw: &RawId, table: &RawTable, at: &str, problems: &mut Problems) -> Option<Id> {
    let start = existing::start_of(raw, at, problems);
    let step = or_default(&raw.step, 1, |number| {
        if number.value != 0 {
            return Some(number.value);
        }
        let message = format!("{} is 0, and every ID would be the same", quoted(&format!("{at}.id.step")));
        problems.push(Draft::new(number.span, message).help("leave it out for 1, 2, 3, ..., or use another number"));
        None
    });
    let sequence = or_default(&raw.sequence, None, |text| sequences::name_of(text, at, problems).map(Some));
    let group = groups::group_of(raw, table, at, problems);
    let first = start.as_ref().map(|(number, _)| number.unwrap_or(1));
    let text = text_ids::text_of(raw, table, at, first.zip(step), problems);
    let column = raw.column.given()?.value.clone();
    Some(Id { column, start: first?, step: step?, sequence: sequence?, group: group?, text: text?, after: start?.1 })
}

/// Why a table has a column.
#[derive(Clone, Copy)]
enum Origin<'t> {
    Id,
    /// The number within its group.
    Number,
    /// Its text.
    Text,
    Key,
    Reference(&'t str),
    Column,
    /// What tells versions apart.
    Version,
}

impl Origin<'_> {
    fn words(self) -> String {
        match self {
            Self::Id => "as its ID".to_owned(),
            Self::Number => "as the number within its group".to_owned(),
            Self::Text => "as the text of its ID".to_owned(),
            Self::Key => "in its key".to_owned(),
            Self::Reference(table) => format!("as its reference to {}", quoted(table)),
            Self::Column => "in its columns".to_owned(),
            Self::Version => "to tell its versions apart".to_owned(),
        }
    }
}

/// Whether the output columns of a table are all different. Letter case does not make a difference, because readers
/// such as DuckDB and Spark fold it.
fn check_columns(name: &Text, table: &RawTable, references: &[(&(Text, RawTable), &Text)], problems: &mut Problems) {
    let id = |raw: &Field<RawId>| raw.given().and_then(|id| id.column.given()).cloned();
    let items = |raw: &Field<TextList>| raw.given().map(|list| list.items.clone()).unwrap_or_default();
    let mut columns: Vec<(Text, Origin<'_>)> = Vec::new();
    columns.extend(id(&table.id).map(|column| (column, Origin::Id)));
    columns.extend(table.id.given().and_then(groups::column_of).map(|column| (column, Origin::Number)));
    columns.extend(table.id.given().and_then(text_ids::column_of).map(|column| (column, Origin::Text)));
    columns.extend(items(&table.key).into_iter().map(|column| (column, Origin::Key)));
    for ((other, target), reference) in references {
        // The column is named there, and comes in here.
        let here = |column: Text| Text { span: reference.span, ..column };
        columns.extend(id(&target.id).map(|column| (here(column), Origin::Reference(&other.value))));
    }
    columns.extend(items(&table.columns).into_iter().map(|column| (column, Origin::Column)));
    columns.extend(history::columns_of(table).into_iter().map(|column| (column, Origin::Version)));
    let mut seen: HashMap<String, &(Text, Origin<'_>)> = HashMap::new();
    for column in &columns {
        let folded = column.0.value.to_lowercase();
        match seen.get(&folded) {
            Some(first) => problems.push(twice(name, first, column)),
            None => {
                seen.insert(folded, column);
            }
        }
    }
}

fn twice(table: &Text, first: &(Text, Origin<'_>), second: &(Text, Origin<'_>)) -> Draft {
    let (a, b) = (quoted(&first.0.shown), quoted(&second.0.shown));
    let table = quoted(&table.value);
    let (a_words, b_words) = (first.1.words(), second.1.words());
    let message = if first.0.value != second.0.value {
        format!(
            "the table {table} has {a} {a_words} and {b} {b_words}: readers that fold letter case take them for one column"
        )
    } else if a_words == b_words {
        format!("the table {table} has the column {b} twice {b_words}")
    } else {
        format!("the table {table} has the column {b} twice: {a_words} and {b_words}")
    };
    let help = match (first.1, second.1) {
        (Origin::Key, Origin::Column) if first.0.value == second.0.value => {
            "remove it from `columns`: the key's columns are in the table anyway".to_owned()
        }
        (Origin::Reference(other), Origin::Column) => {
            format!("remove it from `columns`: the reference adds it; or give the ID of {} another name", quoted(other))
        }
        (_, Origin::Reference(other)) => format!("give the ID of {} another name", quoted(other)),
        (Origin::Number, _) | (_, Origin::Number) => {
            "give the numbers another name: `number: ...` beside `per`".to_owned()
        }
        (Origin::Text, _) | (_, Origin::Text) => {
            "give the text another name: `text: ...` beside its `format`".to_owned()
        }
        (_, Origin::Version) => "scd2 adds this column: rename the other one in `transform`".to_owned(),
        (Origin::Id, _) => "give the ID another name".to_owned(),
        _ => "remove one of them, or rename one in `transform`".to_owned(),
    };
    Draft::new(second.0.span, message).label("again").also(first.0.span, "first").help(help)
}

#[cfg(test)]
mod tests {
    use crate::schema;

    /// The schema and the parser each have their list of values.
    #[test]
    fn the_schema_knows_every_choice() {
        let names = |json: serde_json::Value| json.as_str().expect("an enum is written as a text").to_owned();
        let conflicts = [super::OnConflict::First, super::OnConflict::Last, super::OnConflict::Error];
        let kinds = [crate::model::HistoryKind::Scd1, crate::model::HistoryKind::Scd2];
        let nulls = [super::OnNullKey::Null, super::OnNullKey::Quarantine, super::OnNullKey::Error];
        let written = |values: &[&str]| values.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(kinds.map(|v| names(serde_json::json!(v))).to_vec(), written(schema::HISTORY));
        assert_eq!(conflicts.map(|v| names(serde_json::json!(v))).to_vec(), written(schema::ON_CONFLICT));
        assert_eq!(nulls.map(|v| names(serde_json::json!(v))).to_vec(), written(schema::ON_NULL_KEY));
        let sources = ["Entity", "Table", "Postgres", "Nextval"].map(str::to_ascii_lowercase);
        assert_eq!(sources.to_vec(), written(schema::ID_SOURCES));
        let forms = [super::SourceFormat::Parquet, super::SourceFormat::Csv, super::SourceFormat::Ndjson];
        assert_eq!(forms.map(|v| names(serde_json::json!(v))).to_vec(), written(schema::SOURCE_FORMATS));
        let undeclared = [super::Undeclared::Infer, super::Undeclared::String];
        assert_eq!(undeclared.map(|v| names(serde_json::json!(v))).to_vec(), written(schema::UNDECLARED));
        let modes = [super::SchemaMode::Strict, super::SchemaMode::Widen, super::SchemaMode::Evolve];
        assert_eq!(modes.map(|v| names(serde_json::json!(v))).to_vec(), written(schema::SCHEMA_MODES));
        let bad_files = [super::OnBadFile::Fail, super::OnBadFile::Quarantine];
        assert_eq!(bad_files.map(|v| names(serde_json::json!(v))).to_vec(), written(schema::ON_BAD_FILE));
        assert_eq!(
            [super::Format::Parquet, super::Format::Delta].map(|v| names(serde_json::json!(v))).to_vec(),
            written(schema::FORMATS)
        );
    }
}
