//! Text files as sources: comma-separated values, and JSON objects on lines. Each is turned into a Parquet copy in the
//! run's work folder, and everything after that sees Parquet; to people and to later runs it stays the file that it is. A
//! copy is a function of the file, the pipeline and the plan's types, so one that is missing is made again. Must never
//! change a value, nor hold a file in memory.

mod column;
mod convert;
mod csv;
mod infer;
mod json;
mod path;
mod rows;
mod shape;
mod survey;
mod values;

pub(crate) use survey::take_up;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, TimeUnit};
use flate2::bufread::MultiGzDecoder;
use seriatim_pipeline::model::{Compression, Pipeline, Source, SourceFormat};
use seriatim_pipeline::{ColumnType, Precision};
use xxhash_rust::xxh3::xxh3_128;

use self::csv::{Csv, Dialect};
use self::json::Json;
use self::path::steps;
use self::rows::{Reader, Wrong};
use self::shape::{Shapes, leaves, put};
use crate::drift::SourceTypes;
use crate::error::{BadFile, IngestError, Result};
use crate::files::{create_aside, make_folder, remove_folder};
use crate::plan::Plan;
use crate::source::{Object, SourceFile, changed, open_planned, stamp};

/// What a text file is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    kind: Kind,
    packing: Packing,
    /// Whether its name says that there are tabs between values.
    tabs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Csv,
    Ndjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Form {
    /// Whether there is something between its values that files differ in.
    pub(crate) fn has_delimiters(self) -> bool {
        self.kind == Kind::Csv
    }
}

/// The form of a file with this name; `None` for Parquet.
pub(crate) fn form_of(name: &str, format: Option<SourceFormat>) -> Option<Form> {
    let lower = name.to_ascii_lowercase();
    let (stem, packing) = match (lower.strip_suffix(".gz"), lower.strip_suffix(".zst")) {
        (Some(stem), _) => (stem, Packing::Gzip),
        (_, Some(stem)) => (stem, Packing::Zstd),
        _ => (lower.as_str(), Packing::None),
    };
    let ends = |endings: [&str; 2]| endings.iter().any(|ending| stem.ends_with(ending));
    let kind = match format {
        Some(SourceFormat::Csv) => Kind::Csv,
        Some(SourceFormat::Ndjson) => Kind::Ndjson,
        None if ends([".csv", ".tsv"]) => Kind::Csv,
        None if ends([".ndjson", ".jsonl"]) => Kind::Ndjson,
        Some(SourceFormat::Parquet) | None => return None,
    };
    let tabs = Path::new(stem).extension().is_some_and(|ending| ending == "tsv");
    Some(Form { kind, packing, tabs })
}

/// How the names of the files end that are meant by a folder.
pub(crate) fn endings(format: Option<SourceFormat>) -> &'static [&'static str] {
    match format {
        None | Some(SourceFormat::Parquet) => &["parquet"],
        Some(SourceFormat::Csv) => &["csv", "csv.gz", "csv.zst", "tsv", "tsv.gz", "tsv.zst"],
        Some(SourceFormat::Ndjson) => &["ndjson", "ndjson.gz", "ndjson.zst", "jsonl", "jsonl.gz", "jsonl.zst"],
    }
}

/// How a declared type is read.
fn declared(kind: ColumnType) -> DataType {
    let unit = |precision| match precision {
        Precision::Milli => TimeUnit::Millisecond,
        Precision::Micro => TimeUnit::Microsecond,
        Precision::Nano => TimeUnit::Nanosecond,
    };
    match kind {
        ColumnType::String => DataType::Utf8,
        ColumnType::Int(8) => DataType::Int8,
        ColumnType::Int(16) => DataType::Int16,
        ColumnType::Int(32) => DataType::Int32,
        ColumnType::Int(_) => DataType::Int64,
        ColumnType::UInt(8) => DataType::UInt8,
        ColumnType::UInt(16) => DataType::UInt16,
        ColumnType::UInt(32) => DataType::UInt32,
        ColumnType::UInt(_) => DataType::UInt64,
        ColumnType::Float(32) => DataType::Float32,
        ColumnType::Float(_) => DataType::Float64,
        // As Parquet gives them back.
        ColumnType::Decimal(digits @ ..=38, after) => DataType::Decimal128(digits, after as i8),
        ColumnType::Decimal(digits, after) => DataType::Decimal256(digits, after as i8),
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp(precision) => DataType::Timestamp(unit(precision), None),
        ColumnType::TimestampTz(precision) => DataType::Timestamp(unit(precision), Some("UTC".into())),
    }
}

/// The text files of a run, and their copies.
#[derive(Debug)]
pub(crate) struct Texts {
    /// Where the copies are.
    folder: PathBuf,
    /// Whether nobody needs them when this is gone.
    is_scratch: bool,
    /// Where relative names start.
    base: PathBuf,
    source: Source,
    compression: Compression,
    /// What each column is, by the name that the pipeline uses.
    columns: Shapes,
    /// One thread makes a copy, the others that want the same wait for it.
    making: Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>,
}

impl Drop for Texts {
    fn drop(&mut self) {
        if self.is_scratch {
            let _ = remove_folder(&self.folder);
        }
    }
}

impl Texts {
    fn new(pipeline: &Pipeline, base: &Path, folder: PathBuf, is_scratch: bool) -> Self {
        Self {
            folder,
            is_scratch,
            base: base.to_owned(),
            source: pipeline.source.clone(),
            compression: pipeline.output.compression,
            columns: Shapes::new(),
            making: Mutex::default(),
        }
    }

    /// Those of a run that was planned before; `None` if it has no text files.
    pub(crate) fn of(plan: &Plan, folder: PathBuf) -> Result<Option<Self>> {
        if !plan.files.iter().any(|file| form_of(&file.name, plan.pipeline.source.format).is_some()) {
            return Ok(None);
        }
        let mut texts = Self::new(&plan.pipeline, &plan.folder, folder, false);
        for (path, text) in &plan.texts {
            let kind = text.parse().map_err(|e| IngestError::state(format!("the plan's type of '{path}': {e}")))?;
            if !put(&mut texts.columns, &steps(path), &kind) {
                return Err(IngestError::state(format!("the plan has two types of '{path}'")));
            }
        }
        Ok(Some(texts))
    }

    /// The types, as the plan keeps them.
    pub(crate) fn kept_types(&self) -> SourceTypes {
        leaves(&self.columns).into_iter().map(|(path, kind)| (path, kind.to_string())).collect()
    }

    /// The form of a file, if it is a text file.
    pub(crate) fn form(&self, name: &str) -> Option<Form> {
        form_of(name, self.source.format)
    }

    /// The copy of a planned file, of which the file must still be the one that was planned; its rows are the records.
    pub(crate) fn open(&self, planned: &SourceFile, form: Form) -> Result<File> {
        let local = (!planned.is_object()).then(|| self.base.join(&planned.name));
        if let Some(path) = &local {
            open_planned(planned, path)?;
        }
        let path = self.path_of(planned, "parquet");
        let lock = self.making.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default().clone();
        let _one = lock.lock().unwrap_or_else(PoisonError::into_inner);
        match File::open(&path) {
            Ok(copy) => return Ok(copy),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(IngestError::io("open", &path, &e)),
        }
        let before = local.as_ref().map(|path| stamp(path)).transpose()?;
        let reader = self.reader(planned, form)?;
        self.convert(planned, reader, &path)?;
        // What was written to while it was read may be a piece of one file and a piece of another.
        if before != local.as_ref().map(|path| stamp(path)).transpose()? {
            std::fs::remove_file(&path).map_err(|e| IngestError::io("remove", &path, &e))?;
            return Err(changed(&planned.name, "while it was read"));
        }
        if planned.is_object() {
            // It takes room, and is only needed to make the copy.
            let _ = std::fs::remove_file(self.path_of(planned, "object"));
        }
        File::open(&path).map_err(|e| IngestError::io("open", &path, &e))
    }

    /// Where what is made of a file lies: under another name if the file, or how it is read, is another.
    fn path_of(&self, planned: &SourceFile, ending: &str) -> PathBuf {
        let Source { csv, rename, .. } = &self.source;
        let file = (&planned.name, planned.bytes, planned.modified, &planned.hash);
        let key = format!("{file:?} {csv:?} {rename:?} {:?} {:?}", self.columns, self.compression);
        // Of an object, the types are not known yet when it is brought.
        let key = if ending == "object" { format!("{file:?}") } else { key };
        self.folder.join(format!("{:032x}.{ending}", xxh3_128(key.as_bytes())))
    }

    /// Begins to read a file.
    fn reader(&self, planned: &SourceFile, form: Form) -> Result<Reader<Box<dyn BufRead>>> {
        let file = if planned.is_object() {
            self.bring(planned)?
        } else {
            open_planned(planned, &self.base.join(&planned.name))?
        };
        let begun = || {
            let input = unpacked(file, form.packing)?;
            Ok(match form.kind {
                Kind::Csv => Reader::Csv(Csv::new(input, self.dialect(form))?),
                Kind::Ndjson => Reader::Json(Json::new(input)?),
            })
        };
        begun().map_err(|wrong| told(planned, wrong))
    }

    fn dialect(&self, form: Form) -> Dialect {
        let csv = &self.source.csv;
        let usual = if form.tabs { '\t' } else { ',' };
        // Both are ASCII, as the pipeline was checked.
        Dialect {
            delimiter: csv.delimiter.unwrap_or(usual) as u8,
            quote: csv.quote.map(|quote| quote as u8),
            header: csv.header,
        }
    }

    /// An object as a file: it is read from the beginning to the end, and that twice.
    fn bring(&self, planned: &SourceFile) -> Result<File> {
        let path = self.path_of(planned, "object");
        if let Ok(there) = File::open(&path) {
            return Ok(there);
        }
        make_folder(&self.folder)?;
        let object = Object::planned(planned)?;
        let (aside, file) = create_aside(&path)?;
        if object.bytes > 0 {
            let all = 0..object.bytes;
            let keep = |place, bytes: bytes::Bytes| {
                file.write_all_at(&bytes, place).map_err(|e| seriatim_storage::Error::io("write", &aside, &e))
            };
            let fetched = object.place.fetch("", std::slice::from_ref(&all), Some(&object.version), keep);
            fetched.map_err(|e| object.refused(&planned.name, e))?;
        }
        std::fs::rename(&aside, &path).map_err(|e| IngestError::io("rename", &aside, &e))?;
        File::open(&path).map_err(|e| IngestError::io("open", &path, &e))
    }
}

/// What is in a file, without its compression.
fn unpacked(file: File, packing: Packing) -> std::io::Result<Box<dyn BufRead>> {
    let raw = BufReader::with_capacity(1 << 17, file);
    Ok(match packing {
        Packing::None => Box::new(raw),
        Packing::Gzip => Box::new(BufReader::with_capacity(1 << 17, MultiGzDecoder::new(raw))),
        Packing::Zstd => Box::new(BufReader::with_capacity(1 << 17, zstd::stream::read::Decoder::with_buffer(raw)?)),
    })
}

/// The delimiter that the first line of a file seems to have, if that is another one than its form says. `None` also for
/// what cannot be read: whoever reads the file tells that.
pub(crate) fn delimiter_of(file: File, form: Form) -> Option<char> {
    /// Of a header, so much is enough.
    const HEADER: u64 = 1 << 16;
    let usual = if form.tabs { '\t' } else { ',' };
    if !form.has_delimiters() {
        return None;
    }
    let mut line = Vec::new();
    unpacked(file, form.packing).ok()?.take(HEADER).read_until(b'\n', &mut line).ok()?;
    let line = String::from_utf8_lossy(&line);
    let count = |delimiter: char| line.matches(delimiter).count();
    let other = [',', ';', '\t', '|'].into_iter().rev().max_by_key(|&delimiter| count(delimiter))?;
    (other != usual && count(other) > count(usual)).then_some(other)
}

/// How a type is declared that was found in text files.
pub(crate) fn as_declared(kind: &DataType) -> Option<ColumnType> {
    let stamps = [Precision::Milli, Precision::Micro, Precision::Nano];
    let found = [ColumnType::String, ColumnType::Int(64), ColumnType::Float(64), ColumnType::Boolean, ColumnType::Date];
    let stamped = stamps.into_iter().flat_map(|unit| [ColumnType::Timestamp(unit), ColumnType::TimestampTz(unit)]);
    found.into_iter().chain(stamped).find(|column| declared(*column) == *kind)
}

/// What is wrong with a file, as an error.
fn told(planned: &SourceFile, wrong: Wrong) -> IngestError {
    match wrong {
        Wrong::Unread(error) => IngestError::io("read", Path::new(&planned.name), &error),
        Wrong::File { column, text } => {
            IngestError::bad_file(BadFile { column, ..BadFile::new(&planned.name, text) }).help(
                "mend the file, or tell the pipeline how it is written: `source.csv`, and `source.columns` for types; then \
                 run again",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_forms() {
        let form = |name, format| form_of(name, format).map(|form| (form.kind, form.packing, form.tabs));
        for (name, expected) in [
            ("d/a.parquet", None),
            ("a.txt", None),
            ("a.csv", Some((Kind::Csv, Packing::None, false))),
            ("A.CSV.GZ", Some((Kind::Csv, Packing::Gzip, false))),
            ("a.tsv.zst", Some((Kind::Csv, Packing::Zstd, true))),
            ("a.jsonl", Some((Kind::Ndjson, Packing::None, false))),
            ("a.csv.ndjson.gz", Some((Kind::Ndjson, Packing::Gzip, false))),
            ("a.parquet.gz", None),
        ] {
            assert_eq!(form(name, None), expected, "{name}");
        }
        assert_eq!(form("a.csv", Some(SourceFormat::Parquet)), None);
        assert_eq!(form("a.txt", Some(SourceFormat::Csv)), Some((Kind::Csv, Packing::None, false)));
        assert_eq!(form("a.csv.gz", Some(SourceFormat::Ndjson)), Some((Kind::Ndjson, Packing::Gzip, false)));
    }

    #[test]
    fn a_header_tells_the_delimiter() {
        let found = |name: &str, text: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("it can be written");
            delimiter_of(File::open(&path).expect("it is there"), form_of(name, None).expect("a text file"))
        };
        for (name, text, expected) in [
            ("a.csv", "a,b;c,d\n", None),
            ("a.csv", "a;b\n1,5;2,5\n", Some(';')),
            ("a.csv", "a\tb,c\td", Some('\t')),
            ("a.csv", "a|b|c\n", Some('|')),
            ("a.csv", "a", None),
            ("a.csv", "", None),
            ("a.csv", "a,b;c\n", None),
            ("a.tsv", "a\tb\n", None),
            ("a.tsv", "a,b\n", Some(',')),
            ("a.ndjson", "{\"a;b;c\": 1}\n", None),
        ] {
            assert_eq!(found(name, text), expected, "{name}: {text:?}");
        }
    }

    #[test]
    fn what_is_found_can_be_declared() {
        let stamp = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
        for (kind, text) in [
            (DataType::Utf8, "string"),
            (DataType::Int64, "int64"),
            (DataType::Float64, "float64"),
            (DataType::Boolean, "boolean"),
            (DataType::Date32, "date"),
            (stamp(TimeUnit::Microsecond, None), "timestamp(us)"),
            (stamp(TimeUnit::Nanosecond, Some("UTC")), "timestamptz(ns)"),
        ] {
            assert_eq!(as_declared(&kind), text.parse().ok(), "{kind}");
        }
        assert_eq!(as_declared(&DataType::Binary), None);
    }

    #[test]
    fn declared_types_are_kept_as_texts() {
        for text in [
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
            "boolean",
            "date",
            "time",
            "timestamp",
            "timestamp(ms)",
            "timestamptz",
            "timestamptz(ns)",
            "decimal(10,2)",
            "decimal(50,5)",
        ] {
            let kind = declared(text.parse().expect("a type"));
            assert_eq!(kind.to_string().parse::<DataType>().ok().as_ref(), Some(&kind), "{text}");
        }
    }
}
