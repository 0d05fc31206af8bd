//! From a pipeline file as it is written to a pipeline that makes sense: names are checked against one another and
//! defaults filled in. This module must never give back a pipeline beside a problem: `None` comes with one at least.

use std::collections::BTreeMap;

use crate::checks::checks_of;
use crate::column_type::ColumnType;
use crate::compression;
use crate::error::{Draft, Problems, Span, listed, quoted};
use crate::existing;
use crate::lookups::lookups_of;
use crate::model::{
    Compression, Csv, Format, Ids, OnBadFile, Output, Pipeline, SchemaMode, Source, SourceFormat, Undeclared,
};
use crate::nearest::nearest;
use crate::raw::{Field, RawCsv, RawOutput, RawPipeline, RawSource, Text, TextList};
use crate::sequences;
use crate::sizes::{LEAST_FILE, parse_size};
use crate::tables::tables_of;

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

#[cfg(test)]
mod tests {
    use crate::schema;

    /// The schema and the parser each have their list of values.
    #[test]
    fn the_schema_knows_every_choice() {
        let names = |json: serde_json::Value| json.as_str().expect("an enum is written as a text").to_owned();
        let conflicts =
            [crate::model::OnConflict::First, crate::model::OnConflict::Last, crate::model::OnConflict::Error];
        let kinds = [crate::model::HistoryKind::Scd1, crate::model::HistoryKind::Scd2];
        let nulls =
            [crate::model::OnNullKey::Null, crate::model::OnNullKey::Quarantine, crate::model::OnNullKey::Error];
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
