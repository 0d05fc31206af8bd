//! A pipeline that is written as YAML, in any of its forms, is read back as it was. Proptest prints the failing
//! pipeline and keeps it beside this file; `PROPTEST_RNG_SEED` sets the seed.

mod common;

use std::fmt::Write as _;

use common::read;
use proptest::prelude::*;
use seriatim_pipeline::json_schema;
use seriatim_pipeline::model::{
    Check, Compression, Csv, Format, History, HistoryKind, Id, Ids, Limit, Lookup, OnBadFile, OnConflict, OnNullKey,
    Output, Pipeline, SchemaMode, Severity, Source, SourceFormat, Table, Undeclared,
};

/// A text for a path, a column or SQL: with everything that YAML or a placeholder could trip over.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[ -~]{0,6}[!-~][ -~]{0,6}", "\\PC{0,4}[a-z0-9]\\PC{0,4}", "[$]{1,3}[{][A-Z:}-]{0,5}"]
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9_-]{0,12}"
}

fn id() -> impl Strategy<Value = (i64, i64)> {
    (any::<i64>(), any::<i64>().prop_filter("a step is not 0", |step| *step != 0))
}

/// What is drawn for a table; names are made unique, and references and columns fitted, afterwards.
type Draw = (String, usize, Option<(i64, i64)>, Vec<bool>, Vec<String>, usize, usize);

fn draw() -> impl Strategy<Value = Draw> {
    (
        name(),
        0..3_usize,
        prop::option::of(id()),
        prop::collection::vec(any::<bool>(), 0..5),
        prop::collection::vec(text(), 0..4),
        0..3_usize,
        0..3_usize,
    )
}

/// Makes a valid table: references go to earlier tables with a key only, and numbers keep column names apart.
fn table(i: usize, draw: Draw, earlier: &[Table]) -> Table {
    let (name, key, id, references, columns, conflict, null) = draw;
    let keyed = key > 0;
    let id = if keyed { Some(id.unwrap_or((1, 1))) } else { id };
    let columns: Vec<_> = columns.into_iter().enumerate().map(|(c, column)| format!("{column} c{c}")).collect();
    let nothing = columns.is_empty() && id.is_none();
    let has_columns = !columns.is_empty();
    let from = [None, None, None, Some("a b[]"), Some("a b[].c.d[]")][conflict + null];
    Table {
        name: format!("{name}-{i}"),
        key: (0..key).map(|k| format!("k {k}")).collect(),
        id: id.map(|(start, step)| Id { start, step, ..Id::new(format!("id of {i}")) }),
        references: earlier
            .iter()
            .zip(references)
            .filter(|(table, chosen)| *chosen && table.is_keyed())
            .filter(|(table, _)| table.from.as_deref().is_none_or(|to| from.is_some_and(|own| own.starts_with(to))))
            .map(|(table, _)| table.name.clone())
            .collect(),
        partition_by: if keyed { columns.iter().take(conflict).cloned().collect() } else { Vec::new() },
        columns: if nothing { vec!["null".to_owned()] } else { columns },
        count_conflicts: keyed && null == 1,
        on_conflict: if keyed {
            [OnConflict::First, OnConflict::Last, OnConflict::Error][conflict]
        } else {
            OnConflict::First
        },
        on_null_key: if keyed {
            [OnNullKey::Null, OnNullKey::Quarantine, OnNullKey::Error][null]
        } else {
            OnNullKey::Null
        },
        adopt: None,
        history: if keyed && conflict == 0 && has_columns {
            [None, Some(HistoryKind::Scd1), Some(HistoryKind::Scd2)][null].map(|kind| History {
                kind,
                valid_from: (kind == HistoryKind::Scd2 && i.is_multiple_of(2)).then(|| "since when".to_owned()),
            })
        } else {
            None
        },
        from: from.map(str::to_owned),
    }
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        Just(Compression::Snappy),
        Just(Compression::Lz4),
        (0..=9_u32).prop_map(Compression::Gzip),
        (0..=11_u32).prop_map(Compression::Brotli),
        (1..=22_i32).prop_map(Compression::Zstd),
    ]
}

fn check() -> impl Strategy<Value = (String, Severity, Option<Limit>)> {
    let limit = prop_oneof![
        any::<u64>().prop_map(Limit::Records),
        (0..=1_000_000_u32).prop_map(|per_million| Limit::Share { per_million }),
    ];
    let severity = prop::sample::select(vec![Severity::Quarantine, Severity::Warn, Severity::Fail]);
    (text(), severity, prop::option::of(limit))
        .prop_map(|(condition, severity, limit)| (condition, severity, limit.filter(|_| severity != Severity::Fail)))
}

fn pipeline() -> impl Strategy<Value = Pipeline> {
    let files = prop::collection::vec(text(), 1..4);
    let draws = prop::collection::vec(draw(), 1..6);
    let output = (
        text(),
        compression(),
        any::<bool>(),
        prop::sample::select(vec![Format::Parquet, Format::Delta]),
        prop::option::of((1_u64 << 20)..(1 << 40)),
    );
    let sql = (prop::option::of(text()), prop::collection::vec(check(), 0..3), prop::collection::vec(text(), 0..3));
    let modes = prop::sample::select(vec![SchemaMode::Strict, SchemaMode::Widen, SchemaMode::Evolve]);
    let rename = prop::collection::btree_map("old_[a-z]{1,3}", "new_[a-z]{1,3}", 0..3);
    let types = ["string", "int16", "decimal(9,2)", "timestamptz(ms)"].map(|text| text.parse().expect("a type"));
    let columns = prop::collection::btree_map("[a-z ]{1,4}[a-z]", prop::sample::select(types.to_vec()), 0..3);
    let marks = (prop::sample::select(vec![None, Some(';'), Some('\t')]), prop::sample::select(vec![None, Some('"')]));
    let csv = (marks, any::<bool>(), "[A-Z]{0,3}").prop_map(|((delimiter, quote), header, null)| Csv {
        delimiter,
        header,
        quote,
        null,
    });
    let undeclared = prop::sample::select(vec![Undeclared::Infer, Undeclared::String]);
    let format = prop::sample::select(vec![None, Some(SourceFormat::Csv)]);
    let texts = (columns, csv, undeclared, format);
    let source = (files, prop::sample::select(vec![OnBadFile::Fail, OnBadFile::Quarantine]), modes, rename, texts);
    (name(), source, sql, draws, output, text()).prop_map(
        |(
            name,
            (files, on_bad_file, schema, rename, texts),
            (transform, checks, lookups),
            draws,
            (path, compression, recompress, format, target_file_size),
            state,
        )| {
            let checks = checks.into_iter().enumerate().map(|(i, (condition, severity, at_most))| {
                let name = format!("check-{i}");
                Check { name, condition, severity, at_most }
            });
            let (columns, csv, undeclared, form) = texts;
            let columns_of_lookups = columns.clone();
            // Something has to join them.
            let lookups = lookups.into_iter().enumerate().filter(|_| transform.is_some());
            let lookups = lookups.map(|(i, file)| Lookup {
                name: format!("lookup-{i}"),
                files: vec![file.clone()],
                key: vec![file, format!("k {i}")],
                columns: columns_of_lookups.clone(),
            });
            let lookups = lookups.collect();
            let mut tables = Vec::new();
            for (i, draw) in draws.into_iter().enumerate() {
                tables.push(table(i, draw, &tables));
            }
            let source = Source { files, on_bad_file, schema, rename, format: form, csv, columns, undeclared };
            let output = Output { path, format, compression, recompress, target_file_size };
            let checks = checks.collect();
            Pipeline { name, source, transform, lookups, checks, tables, output, state, ids: Ids::default() }
        },
    )
}

/// Writes a pipeline, now in short forms and now in long ones, as the bits of `forms` say.
struct Writer {
    text: String,
    forms: u64,
}

impl Writer {
    fn choose(&mut self) -> bool {
        self.forms = self.forms.rotate_right(1);
        self.forms & 1 == 1
    }

    /// A text as YAML; JSON's escapes are YAML's too.
    fn scalar(text: &str) -> String {
        serde_json::json!(text.replace("${", "$${")).to_string()
    }

    fn list(&mut self, indent: &str, texts: &[String]) -> String {
        let items: Vec<_> = texts.iter().map(|text| Self::scalar(text)).collect();
        match items.as_slice() {
            [one] if self.choose() => format!(" {one}\n"),
            items if items.is_empty() || self.choose() => format!(" [{}]\n", items.join(", ")),
            items => items.iter().fold(String::from("\n"), |text, item| format!("{text}{indent}- {item}\n")),
        }
    }

    fn table(&mut self, table: &Table) {
        let _ = writeln!(self.text, "  {}:", Self::scalar(&table.name));
        for (key, texts) in [("key", &table.key), ("references", &table.references), ("columns", &table.columns)] {
            let optional = key != "key" && self.choose();
            if !texts.is_empty() || optional {
                let list = self.list("      ", texts);
                let _ = write!(self.text, "    {key}:{list}");
            }
        }
        if let Some(from) = &table.from {
            let _ = writeln!(self.text, "    from: {}", Self::scalar(from));
        }
        if !table.partition_by.is_empty() || self.choose() {
            let list = self.list("      ", &table.partition_by);
            let _ = write!(self.text, "    partition_by:{list}");
        }
        if let Some(Id { column, start, step, .. }) = &table.id {
            let column = Self::scalar(column);
            let _ = if (*start, *step) == (1, 1) && self.choose() {
                writeln!(self.text, "    id: {column}")
            } else {
                writeln!(self.text, "    id: {{column: {column}, start: {start}, step: {step}}}")
            };
        }
        if table.is_keyed() {
            // Serde writes the values as the file has them; `null` goes without quotes.
            let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let _ = writeln!(self.text, "    on_conflict: {}", word(serde_json::json!(table.on_conflict)));
            if table.count_conflicts || self.choose() {
                let _ = writeln!(self.text, "    count_conflicts: {}", table.count_conflicts);
            }
            let _ = writeln!(self.text, "    on_null_key: {}", word(serde_json::json!(table.on_null_key)));
            match &table.history {
                Some(History { kind: HistoryKind::Scd1, .. }) => self.text.push_str("    history: scd1\n"),
                Some(History { valid_from: None, .. }) => self.text.push_str("    history: {type: scd2}\n"),
                Some(History { valid_from: Some(from), .. }) => {
                    let _ = writeln!(self.text, "    history: {{type: scd2, valid_from: {}}}", Self::scalar(from));
                }
                None => {}
            }
        }
    }

    fn texts(&mut self, source: &Source) {
        if source.format.is_some() {
            self.text.push_str("  format: csv\n");
        }
        if !source.csv.is_usual() || self.choose() {
            let Csv { delimiter, header, quote, null: nothing } = &source.csv;
            let quote = quote.map(String::from).unwrap_or_default();
            let delimiter =
                delimiter.map_or_else(String::new, |one| format!("delimiter: {}, ", serde_json::json!(one)));
            let (quote, nothing) = (serde_json::json!(quote), serde_json::json!(nothing));
            let _ = writeln!(self.text, "  csv: {{{delimiter}header: {header}, quote: {quote}, \"null\": {nothing}}}");
        }
        if !source.columns.is_empty() || self.choose() {
            let _ = writeln!(self.text, "  columns: {}", serde_json::json!(source.columns));
        }
        if !source.undeclared.is_inferred() || self.choose() {
            let undeclared = serde_json::json!(source.undeclared);
            let _ = writeln!(self.text, "  undeclared: {undeclared}");
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline) {
        let _ = writeln!(self.text, "version: 1\nname: {}", Self::scalar(&pipeline.name));
        let files = self.list("    ", &pipeline.source.files);
        let _ = write!(self.text, "source:\n  files:{files}");
        let on_bad_file = serde_json::json!(pipeline.source.on_bad_file);
        if on_bad_file != "fail" || self.choose() {
            let _ = writeln!(self.text, "  on_bad_file: {}", on_bad_file.as_str().unwrap_or_default());
        }
        let schema = serde_json::json!(pipeline.source.schema);
        let schema = schema.as_str().unwrap_or_default();
        if schema != "strict" || self.choose() {
            let _ = if self.choose() {
                writeln!(self.text, "  schema: {schema}")
            } else {
                writeln!(self.text, "  schema: {{mode: {schema}}}")
            };
        }
        if !pipeline.source.rename.is_empty() || self.choose() {
            let _ = writeln!(self.text, "  rename: {}", serde_json::json!(pipeline.source.rename));
        }
        self.texts(&pipeline.source);
        if let Some(sql) = &pipeline.transform {
            let _ = writeln!(self.text, "transform: {}", Self::scalar(sql));
        }
        for (at, lookup) in pipeline.lookups.iter().enumerate() {
            let text = if at == 0 { "lookups:\n" } else { "" };
            let (files, key) = (self.list("      ", &lookup.files), self.list("      ", &lookup.key));
            let _ = write!(self.text, "{text}  {}:\n    files:{files}    key:{key}", lookup.name);
            if !lookup.columns.is_empty() {
                let _ = writeln!(self.text, "    columns: {}", serde_json::json!(lookup.columns));
            }
        }
        for (at, check) in pipeline.checks.iter().enumerate() {
            let Check { name, condition, severity, at_most } = check;
            let severity = serde_json::json!(severity);
            let text = if at == 0 { "checks:\n" } else { "" };
            let _ = write!(self.text, "{text}  - {{name: {name}, where: {}", Self::scalar(condition));
            if severity != "quarantine" || self.choose() {
                let _ = write!(self.text, ", severity: {severity}");
            }
            let _ = match at_most {
                None => writeln!(self.text, "}}"),
                Some(limit) if self.choose() => writeln!(self.text, ", at_most: \"{limit}\"}}"),
                Some(limit) => writeln!(self.text, ", at_most: {limit}}}"),
            };
        }
        self.text.push_str("tables:\n");
        for table in &pipeline.tables {
            self.table(table);
        }
        let path = Self::scalar(&pipeline.output.path);
        let (compression, recompress) = (pipeline.output.compression, pipeline.output.recompress);
        let format = if pipeline.output.format == Format::Delta { ", format: delta" } else { "" };
        let size =
            pipeline.output.target_file_size.map(|bytes| format!(", target_file_size: {bytes}")).unwrap_or_default();
        let _ = writeln!(
            self.text,
            "output: {{path: {path}, compression: {compression}, recompress: {recompress}{format}{size}}}"
        );
        let _ = writeln!(self.text, "state: {}", Self::scalar(&pipeline.state));
    }
}

proptest! {
    #![proptest_config(common::config(256))]

    #[test]
    fn a_pipeline_is_read_back_as_it_was(pipeline in pipeline(), forms in any::<u64>()) {
        let mut writer = Writer { text: String::new(), forms };
        writer.pipeline(&pipeline);
        match read(&writer.text) {
            Ok(back) => prop_assert_eq!(back, pipeline),
            Err(errors) => prop_assert!(false, "{}\n{}", errors, writer.text),
        }
        // The JSON Schema must never refuse what the parser accepts.
        let value: serde_json::Value = serde_saphyr::from_str(&writer.text).expect("it is YAML");
        let validator = jsonschema::validator_for(&json_schema()).expect("it is a JSON Schema");
        if let Err(error) = validator.validate(&value) {
            prop_assert!(false, "{} at {}\n{}", error, error.instance_path(), writer.text);
        }
    }
}
