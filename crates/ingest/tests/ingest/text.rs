//! Text files. Symptom: exports come as CSV or as JSON on lines, and what turns them into Parquet guesses types from the
//! first thousand lines, drops what does not fit, or begins anew after a crash. What is proved here: text files give what
//! the same records give as Parquet, a value is what is declared, published or inferred from all values, or an error with
//! its place, and a run that dies ends with the same bytes. (The random cases are in `guarantees`.)

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::write::GzEncoder;
use seriatim_ingest::{RunStatus, check, plan, who};
use seriatim_pipeline::model::{Csv, OnBadFile, OnNullKey, Pipeline, SchemaMode, Source, SourceFormat, Undeclared};

use crate::cells::{Cell, Kind};
use crate::crash::{Death, crash_options, live_with};
use crate::files::{Column, Layout, write as write_parquet};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, quarantined, run};
use crate::objects::{container, over, upload};
use crate::oracle::Record;
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::{Rng, scaled, seed};

/// The kinds whose values text files can say.
pub(crate) const TEXT_KINDS: [Kind; 16] = [
    Kind::Bool,
    Kind::I8,
    Kind::I16,
    Kind::I32,
    Kind::I64,
    Kind::U8,
    Kind::U16,
    Kind::U32,
    Kind::U64,
    Kind::Text,
    Kind::Text,
    Kind::Decimal(7, 2),
    Kind::Decimal(18, 4),
    Kind::Decimal(38, 10),
    Kind::BigDecimal(50, 5),
    Kind::TimeUs,
];

/// How text files are written.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    Csv { dialect: Csv, line_end: &'static str, mark: bool, ending: &'static str },
    Ndjson { ending: &'static str },
}

impl Form {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        if rng.percent(40) {
            return Self::Ndjson { ending: rng.pick(&["ndjson", "jsonl", "ndjson.gz", "jsonl.zst"]) };
        }
        let dialect = Csv {
            delimiter: rng.pick(&[None, Some(';'), Some('|'), Some('\t')]),
            header: true,
            quote: rng.pick(&[Some('"'), Some('\'')]),
            null: rng.pick(&["", "NULL", "\\N"]).to_owned(),
        };
        Self::Csv {
            dialect,
            line_end: rng.pick(&["\n", "\r\n", "\n\n"]),
            mark: rng.percent(20),
            ending: rng.pick(&["csv", "csv.gz", "csv.zst"]),
        }
    }

    pub(crate) fn ending(&self) -> &'static str {
        match self {
            Self::Csv { ending, .. } | Self::Ndjson { ending } => ending,
        }
    }

    /// Tells a source how its files are written.
    pub(crate) fn declare(&self, source: &mut Source, columns: &[Column]) {
        if let Self::Csv { dialect, .. } = self {
            source.csv = dialect.clone();
        }
        let declared = |column: &Column| {
            let text = match column.kind {
                Kind::Bool => "boolean".to_owned(),
                Kind::Text => "string".to_owned(),
                Kind::TimeUs => "time".to_owned(),
                Kind::Decimal(digits, after) | Kind::BigDecimal(digits, after) => format!("decimal({digits},{after})"),
                other => format!("{other:?}")
                    .to_lowercase()
                    .replace('u', "uint")
                    .replace('i', "int")
                    .replace("uintnt", "uint"),
            };
            (column.name.clone(), text.parse().unwrap_or_else(|_| panic!("{text} is a type")))
        };
        source.columns = columns.iter().map(declared).collect();
    }

    pub(crate) fn write(&self, path: &Path, columns: &[Column], records: &[Record], rng: &mut Rng) {
        let text = match self {
            Self::Csv { dialect, line_end, mark, .. } => csv(dialect, line_end, *mark, columns, records, rng),
            Self::Ndjson { .. } => ndjson(columns, records, rng),
        };
        put(path, text.as_bytes());
    }
}

/// Writes a file, packed as its name says.
fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("folders can be made");
    let name = path.to_string_lossy();
    let packed = if name.ends_with(".gz") {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("it is packed");
        encoder.finish().expect("it is packed")
    } else if name.ends_with(".zst") {
        zstd::encode_all(bytes, 1).expect("it is packed")
    } else {
        bytes.to_vec()
    };
    fs::write(path, packed).expect("the file can be written");
}

/// A value that is no text, as text.
fn plain(kind: Kind, cell: &Cell) -> String {
    match (kind, cell) {
        (Kind::TimeUs, Cell::Int(us)) => {
            let (seconds, us) = (us / 1_000_000, us % 1_000_000);
            format!("{:02}:{:02}:{:02}.{us:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
        (Kind::Decimal(_, after), Cell::Int(value)) => with_point(&value.to_string(), after),
        (Kind::BigDecimal(_, after), Cell::Text(value)) => with_point(value, after),
        (_, Cell::Int(value)) => value.to_string(),
        (_, Cell::Bool(value)) => value.to_string(),
        (_, Cell::Text(value)) => value.clone(),
        other => panic!("no text file has {other:?}"),
    }
}

fn with_point(digits: &str, after: i8) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let digits = format!("{digits:0>width$}", width = after as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - after as usize);
    format!("{sign}{whole}.{fraction}")
}

fn csv(dialect: &Csv, line_end: &str, mark: bool, columns: &[Column], records: &[Record], rng: &mut Rng) -> String {
    let (delimiter, quote) = (dialect.delimiter.unwrap_or(','), dialect.quote.expect("there is one"));
    let quoted = |value: &str| format!("{quote}{}{quote}", value.replace(quote, &format!("{quote}{quote}")));
    let mut order: Vec<usize> = (0..columns.len()).collect();
    rng.shuffle(&mut order);
    let mut text = if mark { "\u{feff}".to_owned() } else { String::new() };
    let header: Vec<String> = order.iter().map(|&at| quoted(&columns[at].name)).collect();
    text.push_str(&header.join(&delimiter.to_string()));
    text.push_str(line_end);
    for record in records {
        let mut values: Vec<String> = Vec::new();
        for &at in &order {
            let cell = &record[at];
            values.push(if *cell == Cell::Null {
                dialect.null.clone()
            } else {
                let value = plain(columns[at].kind, cell);
                let special = |c: char| c == delimiter || c == quote || c == '\n' || c == '\r';
                let must = value.is_empty() || value == dialect.null || value.contains(special);
                if must || rng.percent(20) { quoted(&value) } else { value }
            });
        }
        // Trailing values that are none may be left out, as long as something of the line is left.
        let last_null = |values: &[String]| values.len() > 2 && values.last() == Some(&dialect.null);
        while last_null(&values) && rng.percent(30) {
            values.pop();
        }
        text.push_str(&values.join(&delimiter.to_string()));
        text.push_str(line_end);
    }
    if rng.percent(30) {
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
    }
    text
}

fn ndjson(columns: &[Column], records: &[Record], rng: &mut Rng) -> String {
    let mut text = String::new();
    for record in records {
        let mut members: Vec<String> = Vec::new();
        for (column, cell) in columns.iter().zip(record) {
            let name = serde_json::json!(column.name);
            let value = match cell {
                Cell::Null if rng.percent(50) => continue,
                Cell::Null => "null".to_owned(),
                cell => {
                    let value = plain(column.kind, cell);
                    let is_text = matches!(column.kind, Kind::Text | Kind::TimeUs) || rng.percent(10);
                    if is_text { serde_json::json!(value).to_string() } else { value }
                }
            };
            members.push(format!("{name}{}:{value}", if rng.percent(10) { " " } else { "" }));
        }
        rng.shuffle(&mut members);
        let _ = writeln!(text, "{{{}}}", members.join(", "));
        if rng.percent(5) {
            text.push_str(" \r\n");
        }
    }
    text
}

fn int(value: i64) -> Cell {
    Cell::Int(value.into())
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

fn f64(value: f64) -> Cell {
    Cell::F64(value.to_bits())
}

/// Puts `data/<name>`.
fn file(place: &Place, name: &str, content: impl AsRef<[u8]>) {
    put(&place.path().join("data").join(name), content.as_ref());
}

/// Things by `key`, with `qty`, from all files.
fn things() -> Pipeline {
    let mut pipeline = pipeline(vec![keyed("things", &["key"], &[], &["qty"])]);
    pipeline.source.files = vec!["data/*".to_owned()];
    pipeline
}

fn declare(pipeline: &mut Pipeline, name: &str, kind: &str) {
    pipeline.source.columns.insert(name.to_owned(), kind.parse().expect("a type"));
}

fn rows(place: &Place) -> Vec<Vec<Cell>> {
    read_table(&place.output().join("things")).rows
}

fn go(place: &Place, pipeline: &Pipeline) {
    run(place, pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    audit(place, pipeline, 2).expect("the audit passes");
}

fn refused(place: &Place, pipeline: &Pipeline, words: &[&str]) -> Failed {
    let before = tree(&place.output());
    let failed = run(place, pipeline, &options(2)).expect_err("the run must fail");
    for word in words {
        assert!(failed.message.contains(word), "{word}: {failed:?}");
    }
    assert!(!failed.help.is_empty(), "{failed:?}");
    assert_same_tree(&before, &tree(&place.output()), &"a failed run publishes nothing");
    failed
}

#[test]
fn columns_are_what_all_their_values_are() {
    let place = Place::new();
    // The file that decides comes last.
    file(&place, "a.csv", "key,qty,at,zip,flag\n1,1,2026-01-01,10115,true\n2,,,,\n");
    file(&place, "b.csv", "zip,key,qty,flag,at\n01067,3,2.5,FALSE,2026-01-02T10:00:00\n");
    let mut pipeline = things();
    pipeline.tables[0].columns = ["qty", "at", "zip", "flag"].map(str::to_owned).to_vec();
    go(&place, &pipeline);
    let read = read_table(&place.output().join("things"));
    let day = 86_400_000_000_i64;
    let first = 20_454 * day;
    assert_eq!(
        read.rows,
        [
            vec![int(1), int(1), f64(1.0), int(first), text("10115"), Cell::Bool(true)],
            vec![int(2), int(2), Cell::Null, Cell::Null, Cell::Null, Cell::Null],
            vec![int(3), int(3), f64(2.5), int(first + day + day / 24 * 10), text("01067"), Cell::Bool(false)],
        ]
    );
    let report = check(&place.project(&pipeline)).expect("it fits");
    let types: Vec<&str> = report.tables[0].columns.iter().map(|(_, kind, _)| kind.as_str()).collect();
    assert_eq!(types, ["Int64", "Int64", "Float64", "Timestamp(µs)", "Utf8", "Boolean"]);
    // Nothing is inferred if nothing is to be.
    pipeline.source.undeclared = Undeclared::String;
    let other = Place::new();
    file(&other, "a.csv", "key,qty,at,zip,flag\n1,1,2026-01-01,10115,true\n");
    go(&other, &pipeline);
    assert_eq!(rows(&other), [vec![int(1), text("1"), text("1"), text("2026-01-01"), text("10115"), text("true")]]);
}

#[test]
fn published_types_hold_for_later_files() {
    for transform in [None, Some("SELECT key, qty FROM source")] {
        let place = Place::new();
        let mut pipeline = things();
        pipeline.transform = transform.map(str::to_owned);
        file(&place, "a.csv", "key,qty\nx,1.5\n");
        go(&place, &pipeline);
        // Alone, it would be integers, and keys that are numbers.
        file(&place, "b.csv", "key,qty\n7,2\n");
        go(&place, &pipeline);
        assert_eq!(rows(&place), [vec![int(1), text("x"), f64(1.5)], vec![int(2), text("7"), f64(2.0)]]);
        // An empty one as well.
        file(&place, "c.csv", "key,qty\n");
        go(&place, &pipeline);
        file(&place, "d.csv", "key,qty\ny,\nz,many\n");
        refused(&place, &pipeline, &["data/d.csv", "column 'qty'", "row 1 (line 3)", "'many'", "Float64"]);
        pipeline.source.on_bad_file = OnBadFile::Quarantine;
        let report = run(&place, &pipeline, &options(2)).expect("the file is set aside");
        assert_eq!(report.aside.len(), 1);
        assert_eq!(report.aside[0].what.column.as_deref(), Some("qty"));
        assert_eq!(rows(&place).len(), 2);
        // Mended, it goes in.
        file(&place, "d.csv", "key,qty\ny,\nz,3e2\n");
        go(&place, &pipeline);
        assert_eq!(rows(&place)[2..], [vec![int(3), text("y"), Cell::Null], vec![int(4), text("z"), f64(300.0)]]);
    }
}

/// What is set aside leaves no trace: the others' types are what they would be without it.
#[test]
fn a_bad_file_has_no_part_in_the_types() {
    let place = Place::new();
    file(&place, "a.csv", "key,qty,n\nx,1,2\n");
    file(&place, "b.csv", "key,qty,n\ny,one,many\n");
    file(&place, "c.csv", "key,qty,n\nz,3\"\n\"");
    let mut pipeline = things();
    pipeline.tables[0].columns.push("n".to_owned());
    pipeline.source.on_bad_file = OnBadFile::Quarantine;
    declare(&mut pipeline, "n", "int8");
    let preview = plan(&place.project(&pipeline), &options(2)).expect("a plan");
    let report = run(&place, &pipeline, &options(2)).expect("the run is done");
    for aside in [&preview.aside, &report.aside] {
        let names: Vec<&str> = aside.iter().map(|file| file.what.file.as_str()).collect();
        assert_eq!(names, ["data/b.csv", "data/c.csv"]);
    }
    assert_eq!(rows(&place), [vec![int(1), text("x"), int(1), int(2)]]);
    assert_eq!(read_table(&place.output().join("things")).types[2], "INT64 None -1");
}

#[test]
fn whatever_a_file_is_written_with() {
    for (name, content, csv) in [
        ("a.csv", "key,qty\nx,1\ny,\n", Csv::default()),
        ("a.csv", "\u{feff}key,qty\r\nx,1\r\ny\r\n\r\n", Csv::default()),
        ("a.csv.gz", "qty,key\n1,x\n,\"y\"", Csv::default()),
        ("a.csv.zst", "key,qty\rx,1\ry,", Csv::default()),
        ("a.tsv", "key\tqty\nx\t1\ny\t\n", Csv::default()),
        (
            "a.csv",
            "key|qty\n'x'|1\ny|-\n",
            Csv { delimiter: Some('|'), quote: Some('\''), null: "-".to_owned(), ..Csv::default() },
        ),
        ("a.ndjson", "{\"key\":\"x\",\"qty\":1}\n{\"key\":\"y\"}\n", Csv::default()),
        ("a.jsonl.gz", "\n{\"qty\":null,\"key\":\"x\"} \r\n{\"key\":\"y\",\"qty\":1}", Csv::default()),
    ] {
        let place = Place::new();
        file(&place, name, content);
        let mut pipeline = things();
        pipeline.source.csv = csv;
        go(&place, &pipeline);
        let qty = |cells: [Cell; 2]| {
            cells
                .into_iter()
                .zip(["x", "y"])
                .zip(1..)
                .map(|((qty, key), id)| vec![int(id), text(key), qty])
                .collect::<Vec<_>>()
        };
        let expected = if name == "a.jsonl.gz" { qty([Cell::Null, int(1)]) } else { qty([int(1), Cell::Null]) };
        assert_eq!(rows(&place), expected, "{name}: {content:?}");
    }
}

#[test]
fn a_format_counts_more_than_a_name() {
    let place = Place::new();
    file(&place, "orders.txt", "x;1\ny;2\n");
    let mut pipeline = things();
    pipeline.source.format = Some(SourceFormat::Csv);
    pipeline.source.csv = Csv { delimiter: Some(';'), header: false, ..Csv::default() };
    pipeline.source.rename =
        [("column_1".to_owned(), "key".to_owned()), ("column_2".to_owned(), "qty".to_owned())].into();
    go(&place, &pipeline);
    assert_eq!(rows(&place), [vec![int(1), text("x"), int(1)], vec![int(2), text("y"), int(2)]]);
    // Without it the name means Parquet, and the advice says what else it may be.
    let other = Place::new();
    file(&other, "orders.txt", "x;1\n");
    assert!(refused(&other, &things(), &["orders.txt", "not a Parquet file"]).help.contains("source.format"));
}

#[test]
fn what_is_no_such_file_is_named() {
    for (name, content, words) in [
        ("a.csv", "", &["data/a.csv", "empty"][..]),
        ("a.csv", "key,key\n", &["data/a.csv", "'key' twice"]),
        ("a.csv", "key,qty\nx,1\ny,2,3\n", &["row 1 (line 3)", "3 values"]),
        ("a.csv", "key,qty\nx,\"1\n", &["row 0 (line 2)", "quoted value"]),
        ("a.csv", "key,other\nx,1\n", &["'qty'"]),
        ("a.csv.gz.csv.zst", "", &[]),
        ("a.ndjson", "{\"key\":\"x\"}\n{\"key\"\n", &["data/a.ndjson", "row 1 (line 2)", "no JSON"]),
        ("a.ndjson", "[]\n", &["no JSON object"]),
        ("a.ndjson", "", &["'key'"]),
        ("a.ndjson", "{}\n{}\n", &["'key'"]),
    ] {
        let place = Place::new();
        if words.is_empty() {
            // Not packed at all.
            fs::create_dir_all(place.path().join("data")).expect("a folder");
            fs::write(place.path().join("data/a.csv.zst"), "key,qty\n").expect("it can be written");
            refused(&place, &things(), &["data/a.csv.zst", "decompressed"]);
            fs::write(place.path().join("data/a.csv.zst"), "").expect("it can be written");
            continue;
        }
        file(&place, name, content);
        refused(&place, &things(), words);
    }
    let place = Place::new();
    file(&place, "a.csv", b"key,qty\nx\xff,1\n");
    refused(&place, &things(), &["data/a.csv", "column 'key'", "row 0 (line 2)", "UTF-8"]);
}

#[test]
fn json_lacks_nothing() {
    let place = Place::new();
    file(&place, "a.ndjson", "{\"key\":\"x\"}\n");
    file(&place, "b.ndjson", "{\"key\":\"y\",\"qty\":1.5}\n{\"key\":null,\"qty\":2}\n");
    file(&place, "c.ndjson", "");
    let mut pipeline = things();
    pipeline.tables[0].on_null_key = OnNullKey::Quarantine;
    go(&place, &pipeline);
    assert_eq!(rows(&place), [vec![int(1), text("x"), Cell::Null], vec![int(2), text("y"), f64(1.5)]]);
    let kept = quarantined(&place, &["qty".to_owned(), "key".to_owned()]);
    assert_eq!(
        (kept[0].file.as_str(), kept[0].row, kept[0].record.clone()),
        ("data/b.ndjson", 1, vec![f64(2.0), Cell::Null])
    );
    // A later file without a key that is published lacks nothing either.
    file(&place, "d.ndjson", "{\"key\":\"z\"}\n");
    go(&place, &pipeline);
    assert_eq!(rows(&place)[2][1..], [text("z"), Cell::Null]);
}

#[test]
fn text_and_parquet_files_go_together() {
    let place = Place::new();
    let columns = [Column::new("key", Kind::Text), Column::new("qty", Kind::I32)];
    write_parquet(&place.path().join("data/a.parquet"), &columns, &[vec![text("x"), int(1)]], &Layout::default());
    file(&place, "b.csv", "mail,qty\ny,2\n");
    file(&place, "c.jsonl", "{\"mail\":\"z\",\"qty\":3}\n");
    file(&place, "d.csv", "key\nw\n");
    let mut pipeline = things();
    pipeline.source.schema = SchemaMode::Evolve;
    pipeline.source.rename = [("mail".to_owned(), "key".to_owned())].into();
    go(&place, &pipeline);
    let expected = [("x", int(1)), ("y", int(2)), ("z", int(3)), ("w", Cell::Null)];
    let expected: Vec<Vec<Cell>> = (1..).zip(expected).map(|(id, (key, qty))| vec![int(id), text(key), qty]).collect();
    assert_eq!(rows(&place), expected);
    let found = who(&place.project(&pipeline), "things", 2).expect("it is published");
    assert_eq!((found.source_file.as_deref(), found.source_row), (Some("data/b.csv"), Some(0)));
    assert_eq!(
        found.source_values,
        [("key".to_owned(), Some("y".to_owned())), ("qty".to_owned(), Some("2".to_owned()))]
    );
    // Nothing but the run's own folder had copies.
    assert!(fs::read_dir(place.state().join("work")).is_ok_and(|mut left| left.next().is_none()), "a copy is left");
    let report = run(&place, &pipeline, &options(2)).expect("there is nothing to do");
    assert_eq!((report.status, report.files_known), (RunStatus::NothingToDo, 4));
    file(&place, "b.csv", "mail,qty\ny,9\n");
    refused(&place, &pipeline, &["data/b.csv", "has changed"]);
}

#[test]
fn text_objects_are_text_files() {
    let (local, remote, container) = (Place::new(), Place::new(), container());
    file(&local, "a.csv", "key,qty\nx,1\ny,2\n");
    file(&local, "b.ndjson.gz", "{\"key\":\"z\",\"qty\":3.5}\n");
    upload(local.path(), &container);
    go(&local, &things());
    go(&remote, &over(&container, &things()));
    assert_eq!(rows(&local), rows(&remote));
    assert_eq!(rows(&remote).len(), 3);
    let bad = Place::new();
    container.write("data/c.csv", "key,qty\nx,1,2\n").expect("it is written");
    refused(&bad, &over(&container, &things()), &["data/c.csv", "row 0 (line 2)"]);
}

fn write_text_parts(place: &Place, seed: u64, parts: std::ops::Range<u64>) {
    crate::crash::write_existing(place.path(), "\n");
    for part in parts {
        let mut rng = Rng::at(seed, &[part]);
        let mut lines = "customer;order;amount\n".to_owned();
        for _ in 0..150 {
            let order = if rng.percent(2) { String::new() } else { rng.below(200).to_string() };
            let _ = writeln!(lines, "\"c{}\n\";{order};{}", rng.below(70), rng.below(1000));
        }
        file(place, &format!("part-{part}.csv"), lines);
    }
}

/// Dies, and finds its copies gone at times: what is made again is the same.
#[test]
fn g5_a_run_over_text_files_that_dies_ends_with_the_same_bytes() {
    let seed = seed("g5_a_run_over_text_files_that_dies_ends_with_the_same_bytes");
    let mut pipeline = crate::crash::shop();
    pipeline.source.files = vec!["data/*.csv".to_owned()];
    pipeline.source.csv.delimiter = Some(';');
    let options = crash_options();
    let live = |place: &Place, death| live_with(place, &pipeline, &options, death);
    let undisturbed = Place::new();
    let mut steps = Vec::new();
    for parts in [0..3, 3..5] {
        write_text_parts(&undisturbed, seed, parts);
        let (ended, count) = live(&undisturbed, Death::Never);
        ended.expect("it never dies").expect("the run is done");
        steps.push(count);
    }
    let expected = tree(&undisturbed.output());
    for round in 0..scaled(25) {
        let mut rng = Rng::at(seed, &[99, u64::from(round)]);
        let place = Place::new();
        let mut died = Vec::new();
        for (index, parts) in [0..3, 3..5].into_iter().enumerate() {
            write_text_parts(&place, seed, parts);
            for _ in 0..2 {
                let death = Death::At { step: 1 + rng.below(steps[index]), committed: rng.percent(50) };
                died.push(death);
                let is_over = live(&place, death).0.is_some();
                if rng.percent(50) {
                    remove_copies(&place);
                }
                if is_over {
                    break;
                }
            }
            if let Some(ended) = live(&place, Death::Never).0 {
                ended.unwrap_or_else(|e| panic!("died at {died:?}: {e:?}"));
            }
        }
        assert_same_tree(&expected, &tree(&place.output()), &format!("died at {died:?}"));
        audit(&place, &pipeline, 2).expect("the audit passes");
    }
}

fn remove_copies(place: &Place) {
    let Ok(runs) = fs::read_dir(place.state().join("work")) else { return };
    for run in runs.flatten() {
        let _ = fs::remove_dir_all(run.path().join("spill/texts"));
    }
}
