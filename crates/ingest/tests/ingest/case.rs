//! A random pipeline with random data in random files. A case is a function of its seed and a few sizes, and the sizes
//! are what proptest shrinks. It must never decide what is right: that is the oracle's.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use seriatim_ingest::Paths;
use seriatim_pipeline::TextFormat;
use seriatim_pipeline::model::{
    Adopt, Check, Compression, Format, History, HistoryKind, Id, Ids, Limit, OnConflict, OnNullKey, Output, PerGroup,
    Pipeline, SchemaMode, Severity, Source, Table, TextId,
};

use crate::cells::{Cell, KINDS, Kind};
use crate::drift::narrowed;
use crate::files::{Column, Layout, write};
use crate::oracle::{Condition, Oracle, Record, SourceFile, Transform};
use crate::rng::Rng;
use crate::text::{Form, TEXT_KINDS};

/// The sizes of a case and the seed of everything else.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    pub(crate) seed: u64,
    pub(crate) tables: usize,
    pub(crate) columns: usize,
    /// Rows of each new file of each run.
    pub(crate) runs: Vec<Vec<usize>>,
    pub(crate) chunk_rows: u32,
    pub(crate) shards: u32,
    pub(crate) workers: usize,
    pub(crate) little_memory: bool,
    /// Which of [`TRANSFORMS`], if any.
    pub(crate) transform: Option<usize>,
    pub(crate) paths: Paths,
    /// Whether tables may be partitioned.
    pub(crate) partitions: bool,
}

/// Any case.
pub(crate) fn sizes() -> impl Strategy<Value = Sizes> {
    let rows = prop_oneof![2 => Just(0_usize), 3 => 1..20_usize, 5 => 20..300_usize, 1 => 1000..4000_usize];
    let first = proptest::collection::vec(rows.clone(), 1..=6);
    let later = proptest::collection::vec(proptest::collection::vec(rows, 0..=4), 0..=2);
    let chunk_rows = prop_oneof![1 => Just(1_u32), 3 => 2..64_u32, 3 => 64..2000_u32, 2 => Just(131_072_u32)];
    let transform = prop_oneof![3 => Just(None), 2 => (0..TRANSFORMS.len()).prop_map(Some)];
    let shards = proptest::sample::select(vec![1_u32, 2, 8, 64]);
    let paths = prop_oneof![3 => Just(Paths::Pages), 1 => Just(Paths::General), 1 => Just(Paths::Auto)];
    let data = (any::<u64>(), 1..=5_usize, 1..=8_usize, first, later, prop_oneof![2 => Just(false), 1 => Just(true)]);
    (data, chunk_rows, shards, 1..=8_usize, any::<bool>(), transform, paths).prop_map(
        |(
            (seed, tables, columns, first, later, partitions),
            chunk_rows,
            shards,
            workers,
            little_memory,
            transform,
            paths,
        )| {
            // Chunks of one row are for few rows: each chunk is a step of the run. With partitions, each chunk and each
            // of up to dozens of partitions is a file, if there is little memory.
            let most = if partitions { 20 } else { 120 } * chunk_rows as usize;
            let clamp = |run: Vec<usize>| run.into_iter().map(|rows| rows.min(most)).collect();
            let runs = std::iter::once(first).chain(later).map(clamp).collect();
            Sizes {
                seed,
                tables,
                columns,
                runs,
                chunk_rows,
                shards,
                workers,
                little_memory,
                transform,
                paths,
                partitions,
            }
        },
    )
}

/// SQL and what it means, once more by hand. Columns 0 and 1 of every source are `tf` and `txt`.
pub(crate) const TRANSFORMS: [(&str, Option<Kind>, Transform); 6] = [
    ("SELECT * FROM source WHERE tf > 2", None, |r| matches!(r[0], Cell::Int(tf) if tf > 2)),
    ("SELECT * FROM source WHERE tf > 1000", None, |_| false),
    ("SELECT *, tf * 2 + 1 AS computed FROM source", Some(Kind::I64), |r| {
        let computed = if let Cell::Int(tf) = r[0] { Cell::Int(tf * 2 + 1) } else { Cell::Null };
        r.push(computed);
        true
    }),
    ("SELECT *, coalesce(tf, -1) AS computed FROM source WHERE tf IS NULL OR tf <> 3", Some(Kind::I64), |r| {
        r.push(if r[0] == Cell::Null { Cell::Int(-1) } else { r[0].clone() });
        r[0] != Cell::Int(3)
    }),
    ("SELECT *, upper(txt) AS computed FROM source", Some(Kind::Text), |r| {
        let computed = if let Cell::Text(txt) = &r[1] { Cell::Text(txt.to_uppercase()) } else { Cell::Null };
        r.push(computed);
        true
    }),
    ("SELECT *, txt IS NULL AS computed FROM source WHERE txt IS NULL OR txt <> ''", Some(Kind::Bool), |r| {
        r.push(Cell::Bool(r[1] == Cell::Null));
        r[1] != Cell::Text(String::new())
    }),
];

/// Conditions and what they mean, once more by hand, on the same two columns.
const CONDITIONS: [(&str, Condition); 4] = [
    ("tf < 9", |r| if let Cell::Int(tf) = r[0] { Some(tf < 9) } else { None }),
    ("tf IS NOT NULL AND tf <> 4", |r| Some(matches!(r[0], Cell::Int(tf) if tf != 4))),
    ("length(txt) < 3 OR tf % 2 = 0", |r| {
        let short = if let Cell::Text(txt) = &r[1] { Some(txt.chars().count() < 3) } else { None };
        let even = if let Cell::Int(tf) = r[0] { Some(tf % 2 == 0) } else { None };
        if short == Some(true) || even == Some(true) { Some(true) } else { short.and(even) }
    }),
    ("1 = 1 -- always", |_| Some(true)),
];

/// How the values of a source column are spread.
#[derive(Debug, Clone)]
struct Spread {
    distinct: u64,
    /// As many records in a row have the same value; 1: the values are strewn.
    run_length: u64,
    null_percent: u64,
    /// The value is a function of these columns instead: such an attribute never conflicts.
    derived_from: Vec<usize>,
}

/// A case, drawn.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) sizes: Sizes,
    pub(crate) pipeline: Pipeline,
    pub(crate) columns: Vec<Column>,
    spreads: Vec<Spread>,
    transform: Option<usize>,
    /// Which of [`CONDITIONS`] the pipeline's checks are.
    conditions: Vec<usize>,
    /// The tables that exist already: place, IDs and keys.
    existing: Vec<(usize, Vec<(i64, Record)>)>,
    /// How files differ in their columns, if they do.
    drift: Option<Drift>,
    /// The form of the files, if they are text files.
    form: Option<Form>,
    /// Whether Parquet files have one row group, as the copies of text files do.
    is_plain: bool,
    /// Columns that are null in all of a file, so that it may as well lack them.
    blank: BTreeSet<(u64, usize)>,
}

/// How the files of a case differ from the first one, in columns that the pipeline uses.
#[derive(Debug, Clone)]
struct Drift {
    used: Vec<usize>,
    /// Columns that some files call otherwise.
    renamed: Vec<usize>,
    /// Whether some files have a column that others have not, and nobody uses.
    extra: bool,
}

const NAMES: [&str; 20] = [
    "b.parquet",
    "a.parquet",
    "a/x.parquet",
    "a b.parquet",
    "a-1.parquet",
    "part-10.parquet",
    "part-2.parquet",
    "Z.parquet",
    "ä.parquet",
    "e\u{301}.parquet",
    "日本.parquet",
    "a/a.parquet",
    "00.parquet",
    "0.parquet",
    "b/part-0.parquet",
    "B.parquet",
    "a.b.parquet",
    "c~.parquet",
    "a/\u{e9}.parquet",
    "zz.parquet",
];

impl Case {
    pub(crate) fn draw(sizes: &Sizes) -> Self {
        let mut case = Self::draw_flat(sizes);
        case.draw_lists(&mut Rng::at(sizes.seed, &[14]));
        case.draw_counts(&mut Rng::at(sizes.seed, &[16]));
        case
    }

    /// A case without lists.
    fn draw_flat(sizes: &Sizes) -> Self {
        Self::draw_of(&KINDS, sizes, &mut Rng::at(sizes.seed, &[1]))
    }

    /// Lets some tables count conflicts. Not of floats, nor of keys that may be null in part: what is the same there is
    /// nothing that a test should settle.
    fn draw_counts(&mut self, rng: &mut Rng) {
        let plain = |name: &String| !matches!(self.kind(name), Some(Kind::F32 | Kind::F64));
        let tables = &self.pipeline.tables;
        let fits = |table: &Table| {
            let targets = table.references.iter().filter_map(|name| tables.iter().find(|other| other.name == *name));
            let mut keys = targets.map(|target| &target.key);
            table.is_keyed() && table.columns.iter().all(plain) && keys.all(|key| key.len() == 1 && plain(&key[0]))
        };
        let counts: Vec<bool> = tables.iter().map(|table| rng.percent(40) && fits(table)).collect();
        for (table, counts) in self.pipeline.tables.iter_mut().zip(counts) {
            table.count_conflicts = counts;
        }
    }

    /// Gives some cases lists, with tables of their elements.
    fn draw_lists(&mut self, rng: &mut Rng) {
        if !rng.percent(50) {
            return;
        }
        for (name, kind) in [("items", Kind::Items), ("words", Kind::Words)] {
            self.columns.push(Column::new(name, kind));
            self.spreads.push(Spread {
                distinct: rng.pick(&[1, 5, 200, 1 << 40]),
                run_length: rng.pick(&[1, 1, 3]),
                null_percent: rng.pick(&[0, 5, 60]),
                derived_from: Vec::new(),
            });
        }
        let tables = &mut self.pipeline.tables;
        let fails = tables.iter().any(|table| table.on_null_key == OnNullKey::Error);
        let around: Vec<String> =
            tables.iter().filter(|table| table.is_keyed()).map(|table| table.name.clone()).collect();
        let around = |rng: &mut Rng| around.iter().filter(|_| rng.percent(40)).cloned().collect::<Vec<_>>();
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let table = |rng: &mut Rng, name: &str, from: &str, key: &[&str], columns: &[&str]| Table {
            name: name.to_owned(),
            key: owned(key),
            id: Some(Id { step: rng.pick(&[1, 1, -3]), ..Id::new(format!("id_{name}")) }),
            references: around(rng),
            columns: owned(columns),
            on_conflict: rng.pick(&[OnConflict::First, OnConflict::Last]),
            count_conflicts: false,
            on_null_key: if !fails && rng.percent(15) { OnNullKey::Quarantine } else { OnNullKey::Null },
            adopt: None,
            partition_by: Vec::new(),
            history: None,
            from: Some(from.to_owned()),
        };
        // Of the element, of the record, and of both, where names are the same.
        let (key, columns): (&[&str], &[&str]) = rng.pick(&[
            (&["n"][..], &["word", "tf"][..]),
            (&["word", "n"], &["txt"]),
            (&["tf", "n"], &["txt", "word"]),
            (&["txt"], &["n", "tf"]),
        ]);
        let mut things = table(rng, "things", "items[]", key, columns);
        if rng.percent(40)
            && let Some(id) = &mut things.id
        {
            let group = PerGroup { columns: owned(&columns[..1]), number: "in_group".to_owned() };
            id.group = Some(group);
        }
        if self.sizes.partitions && rng.percent(60) {
            things.partition_by = vec![columns[columns.len() - 1].to_owned()];
        } else if things.id.as_ref().is_some_and(|id| id.group.is_none()) && rng.percent(50) {
            let dated = self.columns.iter().any(|column| column.name == SINCE);
            let kind = if dated { HistoryKind::Scd2 } else { HistoryKind::Scd1 };
            things.history = Some(History { kind, valid_from: dated.then(|| SINCE.to_owned()) });
        }
        let mut lines = table(rng, "lines", "items[]", &[], &["word", "txt", "n", "tf"]);
        lines.references.push("things".to_owned());
        if rng.percent(30) {
            lines.id = None;
        }
        let words = table(rng, "words", "words[]", &["words"], &["tf", "txt"]);
        let mut uses = table(rng, "uses", "words[]", &[], &[]);
        uses.references.push("words".to_owned());
        let mut more = vec![things, lines, words, uses];
        rng.shuffle(&mut more);
        tables.extend(more);
    }

    fn draw_of(kinds: &[Kind], sizes: &Sizes, rng: &mut Rng) -> Self {
        let (columns, mut spreads) = draw_columns(rng, kinds, sizes);
        let mut tables = draw_tables(rng, sizes, &columns);
        settle_conflicts(rng, &mut tables, &columns, &mut spreads);
        draw_texts(&mut Rng::at(sizes.seed, &[5]), &mut tables, &columns);
        draw_groups(&mut Rng::at(sizes.seed, &[8]), &mut tables);
        draw_partitions(sizes, &mut tables, &columns, &spreads);
        let (mut columns, mut spreads) = (columns, spreads);
        draw_histories(&mut Rng::at(sizes.seed, &[15]), &mut tables, &mut columns, &mut spreads);
        rng.shuffle(&mut tables);
        let transform = sizes.transform;
        let (checks, conditions) = draw_checks(&mut Rng::at(sizes.seed, &[9]));
        let existing = draw_existing(&mut Rng::at(sizes.seed, &[6]), &mut tables, &columns, &spreads, sizes.seed);
        // Drawn apart, so that everything else is as it is without.
        let format = if is_delta(sizes) { Format::Delta } else { Format::Parquet };
        let compression = rng.pick(&[
            Compression::None,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Gzip(1),
            Compression::Zstd(1),
        ]);
        let pipeline = Pipeline {
            name: "case".to_owned(),
            source: Source {
                files: vec!["data/*.parquet".to_owned(), "data/*/*.parquet".to_owned()],
                ..Source::default()
            },
            transform: transform.map(|t| TRANSFORMS[t].0.to_owned()),
            lookups: Vec::new(),
            checks,
            tables,
            output: Output {
                path: "out".to_owned(),
                format,
                compression,
                recompress: rng.percent(20),
                target_file_size: None,
            },
            state: "state".to_owned(),
            ids: Ids::default(),
        };
        let (drift, form, blank) = (None, None, BTreeSet::new());
        Self {
            sizes: sizes.clone(),
            pipeline,
            columns,
            spreads,
            transform,
            conditions,
            existing,
            drift,
            form,
            is_plain: false,
            blank,
        }
    }

    /// The same, with files that differ.
    pub(crate) fn draw_drifted(sizes: &Sizes) -> Self {
        let mut case = Self::draw_flat(sizes);
        let mut rng = Rng::at(sizes.seed, &[12]);
        let names: Vec<&String> = case.pipeline.tables.iter().flat_map(|t| t.key.iter().chain(&t.columns)).collect();
        let reads = |at: usize| names.contains(&&case.columns[at].name) || (at < 2 && case.transform.is_some());
        let used: Vec<usize> = (0..case.columns.len()).filter(|&at| reads(at)).collect();
        let by_key = case.pipeline.tables.iter().any(|t| t.on_null_key == OnNullKey::Quarantine);
        let quarantines = by_key || case.pipeline.checks.iter().any(|c| c.severity == Severity::Quarantine);
        let renamed: Vec<usize> = used.iter().copied().filter(|_| rng.percent(20)).collect();
        let files: usize = sizes.runs.iter().map(Vec::len).sum();
        let evolves = rng.percent(60);
        if evolves {
            for file in 1..files as u64 {
                case.blank.extend(used.iter().filter(|_| rng.percent(15)).map(|&at| (file, at)));
            }
        }
        case.pipeline.source.schema = if evolves { SchemaMode::Evolve } else { SchemaMode::Widen };
        let rename = |&at: &usize| (format!("was {}", case.columns[at].name), case.columns[at].name.clone());
        case.pipeline.source.rename = renamed.iter().map(rename).collect();
        // A record in quarantine would show it.
        case.drift = Some(Drift { used, renamed, extra: !quarantines && rng.percent(40) });
        case
    }

    /// A case whose files are text files.
    pub(crate) fn draw_text(sizes: &Sizes) -> Self {
        let mut rng = Rng::at(sizes.seed, &[1]);
        let mut case = Self::draw_of(&TEXT_KINDS, sizes, &mut rng);
        let form = Form::random(&mut rng);
        for pattern in &mut case.pipeline.source.files {
            *pattern = pattern.replace("parquet", form.ending());
        }
        form.declare(&mut case.pipeline.source, &case.columns);
        case.form = Some(form);
        case
    }

    /// The same records in Parquet files that do not differ.
    pub(crate) fn twin(&self) -> Self {
        let mut twin = Self { drift: None, form: None, is_plain: self.form.is_some(), ..self.clone() };
        let files = vec!["data/*.parquet".to_owned(), "data/*/*.parquet".to_owned()];
        twin.pipeline.source = Source { files, ..Source::default() };
        twin
    }

    /// The columns of a file and its records, as it has them.
    fn in_file(&self, drift: &Drift, file: u64, records: &[Record]) -> (Vec<Column>, Vec<Record>) {
        let mut rng = Rng::at(self.sizes.seed, &[13, file]);
        let mut columns = Vec::new();
        let mut values: Vec<Vec<Cell>> = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            let mut column = column.clone();
            let mut cells: Vec<Cell> = records.iter().map(|record| record[at].clone()).collect();
            // The first file has all columns as they are read.
            if file > 0 && drift.used.contains(&at) {
                if self.blank.contains(&(file, at)) {
                    continue;
                }
                if rng.percent(50)
                    && let Some((kind, narrow)) = narrowed(column.kind, &cells, &mut rng)
                {
                    (column.kind, cells) = (kind, narrow);
                }
                if drift.renamed.contains(&at) && rng.percent(50) {
                    column.name = format!("was {}", column.name);
                }
            }
            columns.push(column);
            values.push(cells);
        }
        if drift.extra && rng.percent(40) {
            columns.push(Column::new("extra", rng.pick(&[Kind::I64, Kind::Text])));
            values.push(vec![Cell::Null; records.len()]);
        }
        if rng.percent(30) {
            columns.rotate_left(1);
            values.rotate_left(1);
        }
        let record = |row: usize| values.iter().map(|cells| cells[row].clone()).collect();
        (columns, (0..records.len()).map(record).collect())
    }

    /// The oracle of this case, before any run.
    pub(crate) fn oracle(&self) -> Oracle {
        let mut oracle = self.oracle_of_records();
        for (index, rows) in &self.existing {
            let adopted = rows.iter().map(|(id, key)| (key.iter().map(Cell::as_key).collect(), *id));
            oracle.adopt(*index, adopted.collect());
        }
        oracle
    }

    fn oracle_of_records(&self) -> Oracle {
        let names: Vec<String> = self.columns.iter().map(|c| c.name.clone()).collect();
        let (_, computed, by_hand) = self.transform.map_or(("", None, (|_| true) as Transform), |t| TRANSFORMS[t]);
        let added: Vec<String> = computed.iter().map(|_| "computed".to_owned()).collect();
        let conditions = self.conditions.iter().map(|&at| CONDITIONS[at].1).collect();
        Oracle::new(&self.pipeline, &names, &added, by_hand).with_conditions(conditions)
    }

    /// Writes the tables that exist already, in two files each.
    pub(crate) fn write_existing(&self, folder: &Path) {
        for (index, rows) in &self.existing {
            let table = &self.pipeline.tables[*index];
            let mut columns = vec![Column::new("old id", Kind::I64)];
            columns.extend(table.key.iter().zip(0..).map(|(name, at)| Column {
                name: format!("k{at}"),
                kind: self.kind(name).expect("a column of the source"),
            }));
            let records: Vec<Record> =
                rows.iter().map(|(id, key)| [&[Cell::Int((*id).into())], key.as_slice()].concat()).collect();
            let (first, second) = records.split_at(records.len() / 3);
            for (part, records) in [first, second].into_iter().enumerate() {
                let layout = Layout::random(&mut Rng::at(self.sizes.seed, &[7, *index as u64, part as u64]));
                write(&folder.join(format!("existing/{}/{part}.parquet", table.name)), &columns, records, &layout);
            }
        }
    }

    /// The kind of a column of the source or of the transform's result.
    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        let source = self.columns.iter().find(|c| c.name == name && !c.kind.is_list()).map(|c| c.kind);
        source.or_else(|| self.transform.and_then(|t| TRANSFORMS[t].1).filter(|_| name == "computed"))
    }

    /// Writes the files that are new in run `run` (from 0) below `folder` and returns them.
    pub(crate) fn write_files(&self, folder: &Path, run: usize) -> Vec<SourceFile> {
        if run == 0 {
            self.write_existing(folder);
        }
        let mut rng = Rng::at(self.sizes.seed, &[2]);
        let mut names = NAMES;
        rng.shuffle(&mut names);
        let before: usize = self.sizes.runs[..run].iter().map(Vec::len).sum();
        let write_one = |(index, rows): (usize, &usize)| {
            let index = before + index;
            let ending = self.form.as_ref().map_or("parquet", Form::ending);
            let path = format!("data/{}", names[index].replace("parquet", ending));
            let records: Vec<Record> = (0..*rows).map(|row| self.record(index as u64, row as u64)).collect();
            let layout = Layout::random(&mut Rng::at(self.sizes.seed, &[3, index as u64]));
            // Where row groups begin, chunks do.
            let layout = if self.is_plain { Layout::default() } else { layout };
            if let Some(form) = &self.form {
                let mut rng = Rng::at(self.sizes.seed, &[7, index as u64]);
                form.write(&folder.join(&path), &self.columns, &records, &mut rng);
            } else if let Some(drift) = &self.drift {
                let (columns, own) = self.in_file(drift, index as u64, &records);
                write(&folder.join(&path), &columns, &own, &layout);
            } else {
                write(&folder.join(&path), &self.columns, &records, &layout);
            }
            SourceFile { path, records }
        };
        self.sizes.runs[run].iter().enumerate().map(write_one).collect()
    }

    fn record(&self, file: u64, row: u64) -> Record {
        let mut record = Vec::new();
        for (at, (column, spread)) in self.columns.iter().zip(&self.spreads).enumerate() {
            let mut rng = Rng::at(self.sizes.seed, &[4, at as u64, file, row]);
            let is_blank = self.blank.contains(&(file, at));
            if column.name == SINCE {
                // Files of later runs come after those of earlier ones.
                record.push(Cell::Int(i128::from(file)));
                continue;
            }
            if is_blank || (spread.derived_from.is_empty() && rng.percent(spread.null_percent)) {
                record.push(Cell::Null);
                continue;
            }
            let index = if !spread.derived_from.is_empty() {
                fingerprint(spread.derived_from.iter().map(|from| &record[*from]))
            } else if spread.run_length > 1 {
                file * 1_000_003 + row / spread.run_length
            } else {
                rng.next()
            };
            let index = index % spread.distinct;
            record.push(match at {
                0 => Cell::Int(i128::from(index % 10)),
                _ => column.kind.value(self.sizes.seed ^ at as u64, index),
            });
        }
        record
    }
}

/// A number that equal keys have in common.
fn fingerprint<'a>(cells: impl Iterator<Item = &'a Cell>) -> u64 {
    let text = format!("{:?}", cells.map(Cell::as_key).collect::<Vec<_>>());
    text.bytes().fold(1, |hash, byte| Rng::new(hash ^ u64::from(byte)).next())
}

/// Whether the output of a case is Delta Lake.
fn is_delta(sizes: &Sizes) -> bool {
    Rng::at(sizes.seed, &[11]).percent(40)
}

/// What Delta has no form for becomes something else.
fn fit_for_delta(column: &mut Column) {
    column.name = column.name.replace(' ', "_");
    column.kind = match column.kind {
        Kind::U8 => Kind::I8,
        Kind::U16 => Kind::I16,
        Kind::U32 => Kind::I32,
        Kind::U64 | Kind::TimeMs | Kind::TimeUs | Kind::TimeNs => Kind::I64,
        Kind::BigDecimal(..) => Kind::Decimal(38, 10),
        Kind::StampNs => Kind::StampUs,
        kind => kind,
    };
}

fn draw_columns(rng: &mut Rng, kinds: &[Kind], sizes: &Sizes) -> (Vec<Column>, Vec<Spread>) {
    const PREFIXES: [&str; 6] = ["c", "C", "c ", "c-", "ç", "select"];
    let total: usize = sizes.runs.iter().flatten().sum();
    let mut columns = vec![Column::new("tf", Kind::I64), Column::new("txt", Kind::Text)];
    for index in 0..sizes.columns {
        columns.push(Column { name: format!("{}{index}", rng.pick(&PREFIXES)), kind: rng.pick(kinds) });
    }
    if is_delta(sizes) {
        columns.iter_mut().for_each(fit_for_delta);
    }
    let spreads = columns.iter().map(|_| Spread {
        distinct: rng.pick(&[1, 2, 5, 30, 200, (total as u64).max(1), 1 << 40]),
        run_length: rng.pick(&[1, 1, 1, 3, 40]),
        null_percent: rng.pick(&[0, 0, 0, 5, 50, 100]),
        derived_from: Vec::new(),
    });
    let mut spreads: Vec<Spread> = spreads.collect();
    spreads[0].null_percent = spreads[0].null_percent.min(5);
    (columns, spreads)
}

/// Checks, and which of the conditions each of them is. Errors end a case early, so few are strict.
fn draw_checks(rng: &mut Rng) -> (Vec<Check>, Vec<usize>) {
    let count = rng.pick(&[0_usize, 0, 0, 1, 2, 3]);
    let draw = |index: usize| {
        let at = rng.below(CONDITIONS.len() as u64) as usize;
        let severity = rng.pick(&[Severity::Quarantine, Severity::Quarantine, Severity::Quarantine, Severity::Warn]);
        let severity = if rng.percent(5) { Severity::Fail } else { severity };
        let most =
            rng.pick(&[Limit::Records(50), Limit::Share { per_million: 150_000 }, Limit::Share { per_million: 0 }]);
        let at_most = (severity != Severity::Fail && rng.percent(15)).then_some(most);
        (Check { name: format!("c{index}"), condition: CONDITIONS[at].0.to_owned(), severity, at_most }, at)
    };
    (0..count).map(draw).unzip()
}

fn draw_tables(rng: &mut Rng, sizes: &Sizes, columns: &[Column]) -> Vec<Table> {
    let mut names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    if sizes.transform.is_some_and(|t| TRANSFORMS[t].1.is_some()) {
        names.push("computed".to_owned());
    }
    // Errors end a case early, so few cases have a table that fails; and a pipeline has either kind of strictness,
    // since what a record with two lacking keys deserves is then plain.
    let strict = rng.pick(&[OnNullKey::Quarantine, OnNullKey::Quarantine, OnNullKey::Quarantine, OnNullKey::Error]);
    let mut tables: Vec<Table> = Vec::new();
    for index in 0..sizes.tables {
        let mut free = names.clone();
        rng.shuffle(&mut free);
        let keyed = rng.percent(75);
        let key_columns = if keyed { 1 + rng.below(free.len().min(3) as u64) as usize } else { 0 };
        let key = free.split_off(free.len() - key_columns);
        let columns: Vec<String> = free.split_off(rng.below(free.len() as u64 + 1) as usize);
        let id = Id {
            start: rng.pick(&[1, 1, 0, 1000, -5]),
            step: rng.pick(&[1, 1, 1, 10, -1]),
            ..Id::new(format!("id_{index}"))
        };
        let references: Vec<String> =
            tables.iter().filter(|t| t.is_keyed() && rng.percent(50)).map(|t| t.name.clone()).collect();
        // A table without key may go without ID, but not without any column.
        let id =
            if keyed || rng.percent(60) || (columns.is_empty() && references.is_empty()) { Some(id) } else { None };
        tables.push(Table {
            name: format!("t{index}"),
            key,
            id,
            references,
            columns,
            on_conflict: if rng.percent(50) { OnConflict::First } else { OnConflict::Last },
            count_conflicts: false,
            on_null_key: if rng.percent(25) { strict } else { OnNullKey::Null },
            adopt: None,
            partition_by: Vec::new(),
            history: None,
            from: None,
        });
    }
    tables
}

/// Gives some tables text IDs, with values in them that have one form as text.
fn draw_texts(rng: &mut Rng, tables: &mut [Table], columns: &[Column]) {
    let is_plain = |name: &&String| {
        let kind = columns.iter().find(|column| column.name == **name).map(|column| column.kind);
        kind.is_some_and(|kind| matches!(kind, Kind::Bool | Kind::Text) || is_number(kind))
    };
    for table in tables.iter_mut() {
        let known: Vec<String> = table.key.iter().chain(&table.columns).filter(is_plain).cloned().collect();
        let Some(id) = table.id.as_mut().filter(|_| rng.percent(40)) else { continue };
        let number = rng.pick(&["{}", "{:03}", "{:012}"]);
        let mut values: String = String::new();
        for _ in 0..rng.below(3) {
            if !known.is_empty() {
                _ = write!(values, "{{{}}}{}", rng.pick(&known), rng.pick(&["", "/", "-"]));
            }
        }
        let before = rng.percent(50);
        let format = if before { format!("{values}_{number}x") } else { format!("x1{number}:{values}") };
        let column = format!("{}_text", id.column);
        id.text = Some(TextId { column, format });
    }
}

/// Lets some tables exist already: with keys that records may have, and IDs with gaps, in any order.
fn draw_existing(
    rng: &mut Rng,
    tables: &mut [Table],
    columns: &[Column],
    spreads: &[Spread],
    seed: u64,
) -> Vec<(usize, Vec<(i64, Record)>)> {
    let mut existing = Vec::new();
    for (index, table) in tables.iter_mut().enumerate() {
        let at = |name: &String| columns.iter().position(|column| column.name == *name).filter(|at| *at > 0);
        let Some(key) = table.key.iter().map(at).collect::<Option<Vec<usize>>>() else { continue };
        let (Some(id), false, true) = (&mut table.id, key.is_empty(), rng.percent(25)) else { continue };
        if id.group.is_some() || table.history.is_some() {
            continue;
        }
        let mut rows: Vec<(i64, Record)> = Vec::new();
        let (mut drawn, mut next) = (std::collections::HashSet::new(), rng.pick(&[1, 100, -7]));
        for _ in 0..rng.pick(&[0, 1, 10, 200]) {
            let value = |at: &usize| columns[*at].kind.value(seed ^ *at as u64, rng.below(spreads[*at].distinct));
            let cells: Record = key.iter().map(value).collect();
            if !cells.contains(&Cell::Null) && drawn.insert(cells.iter().map(Cell::as_key).collect::<Vec<_>>()) {
                rows.push((next, cells));
                next += id.step * rng.pick(&[1, 1, 2, 9]);
            }
        }
        rng.shuffle(&mut rows);
        table.adopt = Some(Adopt {
            files: vec![format!("existing/{}/*.parquet", table.name)],
            key: (0..key.len()).map(|at| format!("k{at}")).collect(),
            id: "old id".to_owned(),
            start: None,
        });
        id.start = 1;
        existing.push((index, rows));
    }
    existing
}

/// Numbers the rows of some tables within groups.
fn draw_groups(rng: &mut Rng, tables: &mut [Table]) {
    for table in tables.iter_mut() {
        let mut columns: Vec<String> = table.key.iter().chain(&table.columns).cloned().collect();
        let Some(id) = table.id.as_mut().filter(|_| !columns.is_empty() && rng.percent(30)) else { continue };
        rng.shuffle(&mut columns);
        columns.truncate(1 + rng.below(2) as usize);
        id.group = Some(PerGroup { columns, number: format!("{}_in_group", id.column) });
    }
}

/// The column that says since when a record holds, in cases that need one.
const SINCE: &str = "since";

/// Lets known keys of some tables get what later runs say.
fn draw_histories(rng: &mut Rng, tables: &mut [Table], columns: &mut Vec<Column>, spreads: &mut Vec<Spread>) {
    for table in tables.iter_mut().filter(|table| table.is_keyed()) {
        let id = table.id.as_ref().expect("it has a key");
        let group = id.group.iter().flat_map(|group| group.columns.clone());
        let text = id.text.iter().flat_map(|text| {
            let format = TextFormat::parse(&text.format).expect("a format");
            format.columns().map(str::to_owned).collect::<Vec<_>>()
        });
        let mut fixed = group.chain(text).chain(table.partition_by.clone());
        let is_fit = fixed.all(|name| table.key.contains(&name));
        if !is_fit || table.columns.len() + table.references.len() == 0 || !rng.percent(50) {
            continue;
        }
        let kind = rng.pick(&[HistoryKind::Scd1, HistoryKind::Scd2, HistoryKind::Scd2]);
        let valid_from = (kind == HistoryKind::Scd2).then(|| SINCE.to_owned());
        table.history = Some(History { kind, valid_from });
    }
    if tables.iter().any(|table| table.history.as_ref().is_some_and(|history| history.valid_from.is_some())) {
        columns.push(Column::new(SINCE, Kind::I64));
        spreads.push(Spread { distinct: 1, run_length: 1, null_percent: 0, derived_from: Vec::new() });
    }
}

fn is_number(kind: Kind) -> bool {
    use Kind::{I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(kind, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// Partitions some tables, by columns of few values: each partition is a file.
fn draw_partitions(sizes: &Sizes, tables: &mut [Table], columns: &[Column], spreads: &[Spread]) {
    let mut rng = Rng::at(sizes.seed, &[10]);
    let few = |name: &String| {
        let at = columns.iter().position(|column| &column.name == name);
        let is_few = |at: usize| (at == 0 || spreads[at].distinct <= 30) && spreads[at].derived_from.is_empty();
        at.is_some_and(|at| is_few(at) && matches!(columns[at].kind, Kind::Bool | Kind::I64 | Kind::I16 | Kind::Text))
    };
    for table in tables.iter_mut().filter(|_| sizes.partitions) {
        let mut free: Vec<String> = table.key.iter().chain(&table.columns).filter(|name| few(name)).cloned().collect();
        rng.shuffle(&mut free);
        free.truncate(rng.below(3) as usize);
        let others = table.key.len() + table.columns.len() + table.references.len() > free.len();
        if rng.percent(60) && (table.id.is_some() || others) {
            table.partition_by = free;
        }
    }
}

/// Makes some tables strict about attributes, and lets their attributes follow from their keys, most of the time.
fn settle_conflicts(rng: &mut Rng, tables: &mut [Table], columns: &[Column], spreads: &mut [Spread]) {
    let at = |name: &String| columns.iter().position(|c| &c.name == name);
    let keys: Vec<String> = tables.iter().flat_map(|t| t.key.clone()).collect();
    for table in tables.iter_mut().filter(|t| t.is_keyed()) {
        if !rng.percent(20) {
            continue;
        }
        let Some(from) = table.key.iter().map(at).collect::<Option<Vec<usize>>>() else { continue };
        let last = from.iter().copied().max().expect("a key has columns");
        table.on_conflict = OnConflict::Error;
        table.references.clear();
        // Floats are left out: whether two zeros conflict is nothing that a test should settle.
        table.columns.retain(|name| {
            at(name).is_some_and(|i| i > last && i > 1 && !columns[i].kind.is_float() && !keys.contains(name))
        });
        if rng.percent(85) {
            for column in &table.columns {
                spreads[at(column).expect("kept only if it exists")].derived_from.clone_from(&from);
            }
        }
    }
}
