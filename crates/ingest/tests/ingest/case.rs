//! A random pipeline with random data in random files. A case is a function of its seed and a few sizes, and the sizes
//! are what proptest shrinks. It must never decide what is right: that is the oracle's.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use seriatim_ingest::Paths;
use seriatim_pipeline::model::{
    Compression, Format, History, HistoryKind, Id, Ids, OnConflict, OnNullKey, Output, PerGroup, Pipeline, SchemaMode,
    Severity, Source, Table,
};

use crate::cells::{Cell, KINDS, Kind};
use crate::draws::{
    SINCE, Spread, draw_checks, draw_columns, draw_existing, draw_groups, draw_histories, draw_partitions, draw_tables,
    draw_texts, is_delta, settle_conflicts,
};
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
pub(crate) const CONDITIONS: [(&str, Condition); 4] = [
    ("tf < 9", |r| if let Cell::Int(tf) = r[0] { Some(tf < 9) } else { None }),
    ("tf IS NOT NULL AND tf <> 4", |r| Some(matches!(r[0], Cell::Int(tf) if tf != 4))),
    ("length(txt) < 3 OR tf % 2 = 0", |r| {
        let short = if let Cell::Text(txt) = &r[1] { Some(txt.chars().count() < 3) } else { None };
        let even = if let Cell::Int(tf) = r[0] { Some(tf % 2 == 0) } else { None };
        if short == Some(true) || even == Some(true) { Some(true) } else { short.and(even) }
    }),
    ("1 = 1 -- always", |_| Some(true)),
];

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
