//! What a good pipeline file means: short and long forms, defaults, the environment, overrides, and files on disk.

mod common;

use std::fs;
use std::path::Path;

use common::{SALES, SMALL, env, read, with_tables};
use seriatim_pipeline::model::{
    After, Compression, Csv, Format, History, HistoryKind, Id, OnBadFile, OnConflict, OnNullKey, Pipeline, SchemaMode,
    SourceFormat, Undeclared,
};
use seriatim_pipeline::{MAX_FILE_BYTES, OutputColumn, Overrides, load, parse};

fn good(text: &str) -> Pipeline {
    read(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn set(args: &[&str]) -> Result<Pipeline, String> {
    let overrides = Overrides::from_args(args).map_err(|e| e.to_string())?;
    parse(SALES, "p.yaml", &overrides, &env).map_err(|e| e.to_string())
}

#[test]
fn reads_every_setting() {
    let sales = good(SALES);
    assert_eq!(sales.name, "sales");
    assert_eq!(sales.source.files, ["data/part-*.parquet"]);
    assert!(sales.transform.as_deref().is_some_and(|sql| sql.contains("WHERE quantity > 0")));
    let names: Vec<_> = sales.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["customers", "orders", "products", "order_lines"]);
    let orders = sales.table("orders").expect("it is in the file");
    assert_eq!(orders.id, Some(Id { start: 1000, ..Id::new("order_id") }));
    assert_eq!(orders.references, ["customers"]);
    assert_eq!(orders.columns, ["order_date"]);
    let products = sales.table("products").expect("it is in the file");
    assert_eq!(products.key, ["supplier", "article"]);
    assert_eq!((products.on_conflict, products.on_null_key), (OnConflict::Last, OnNullKey::Quarantine));
    assert!(!sales.table("order_lines").expect("it is in the file").is_keyed());
    assert_eq!(sales.output.path, "out");
    assert_eq!(sales.output.compression, Compression::Zstd(3));
}

#[test]
fn fills_in_defaults() {
    let small = good(SMALL);
    assert_eq!(small.source.files, ["a.parquet", "more/*.parquet"]);
    assert_eq!(small.source.on_bad_file, OnBadFile::Fail);
    assert_eq!(small.transform, None);
    assert_eq!(small.state, ".seriatim");
    assert_eq!((small.output.format, small.output.compression), (Format::Parquet, Compression::Zstd(1)));
    assert!(!small.output.recompress);
    let table = &small.tables[0];
    assert_eq!((&table.id, table.key.len(), table.references.len()), (&None, 0, 0));
    let keyed = good(&with_tables("  t: {key: k, id: i}\n"));
    assert_eq!(keyed.tables[0].id, Some(Id::new("i")));
    assert_eq!((keyed.tables[0].on_conflict, keyed.tables[0].on_null_key), (OnConflict::First, OnNullKey::Null));
}

#[test]
fn an_id_may_have_a_text() {
    let text = |id: &str| {
        let pipeline = good(&with_tables(&format!("  t: {{key: k, id: {{column: i, {id}}}, columns: c}}\n")));
        pipeline.tables[0].id.clone().and_then(|id| id.text).map(|text| (text.column, text.format))
    };
    let some = |column: &str, format: &str| Some((column.to_owned(), format.to_owned()));
    assert_eq!(text("format: \"ORD-{:06}\", text: code"), some("code", "ORD-{:06}"));
    assert_eq!(text("format: \"{c}/{k}/{}\""), some("i_text", "{c}/{k}/{}"));
    assert_eq!(text("start: 7"), None);
    let pipeline = good(&with_tables("  t: {key: k, id: {column: i, format: \"{}\"}, columns: c}\n"));
    let columns = pipeline.output_columns(&pipeline.tables[0]);
    assert_eq!(columns.iter().map(OutputColumn::name).collect::<Vec<_>>(), ["i", "i_text", "k", "c"]);
}

#[test]
fn rows_may_be_numbered_within_groups() {
    let group = |id: &str| {
        let text = with_tables(&format!("  t: {{key: k, id: {{column: i, start: -5, {id}}}, columns: c}}\n"));
        good(&text).tables[0].id.clone().and_then(|id| id.group).map(|group| (group.columns, group.number))
    };
    let some = |columns: &[&str], number: &str| {
        Some((columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>(), number.to_owned()))
    };
    assert_eq!(group("per: [c, k], number: n"), some(&["c", "k"], "n"));
    assert_eq!(group("per: c"), some(&["c"], "i_in_group"));
    assert_eq!(group("step: 2"), None);
    // Numbers within groups have no sign, whatever the IDs have.
    assert_eq!(group("per: c, format: \"{c}-{}\""), some(&["c"], "i_in_group"));
    let pipeline = good(&with_tables("  t: {key: k, id: {column: i, per: k, format: \"{}\"}, columns: c}\n"));
    let columns = pipeline.output_columns(&pipeline.tables[0]);
    let names: Vec<_> = columns.iter().map(OutputColumn::name).collect();
    assert_eq!(names, ["i", "i_in_group", "i_text", "k", "c"]);
}

#[test]
fn ids_may_begin_after_what_exists() {
    let id = |start: &str| {
        let text = with_tables(&format!("  t: {{key: k, id: {{column: i, start: {start}}}}}\n"));
        good(&text).tables[0].id.clone().map(|id| (id.start, id.after))
    };
    let after = |files: &[&str], column: &str| {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        Some((1, Some(After { files, column: column.to_owned() })))
    };
    assert_eq!(id("{after: a/*.parquet}"), after(&["a/*.parquet"], "i"));
    assert_eq!(id("{after: [a, b], column: n}"), after(&["a", "b"], "n"));
    assert_eq!(id("7"), Some((7, None)));
}

#[test]
fn a_table_may_be_taken_over() {
    let adopt = |adopt: &str| {
        let text = with_tables(&format!("  t: {{key: [k, l], id: {{column: i, start: 5}}, adopt: {adopt}}}\n"));
        good(&text).tables[0].adopt.clone().map(|adopt| (adopt.files, adopt.key, adopt.id, adopt.start))
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let whole = |files: &[&str], key: &[&str], id: &str| Some((owned(files), owned(key), id.to_owned(), Some(5)));
    assert_eq!(adopt("a/*.parquet"), whole(&["a/*.parquet"], &["k", "l"], "i"));
    assert_eq!(adopt("[a, b]"), whole(&["a", "b"], &["k", "l"], "i"));
    assert_eq!(adopt("{files: a, key: {l: m}, id: n}"), whole(&["a"], &["k", "m"], "n"));
    let text = with_tables("  t: {key: k, id: i, adopt: {files: a}}\n");
    assert_eq!(good(&text).tables[0].adopt.as_ref().map(|adopt| adopt.start), Some(None));
}

#[test]
fn a_table_may_count_conflicts() {
    let text = |settings: &str| with_tables(&format!("  t: {{id: i, columns: [a], {settings}}}\n"));
    assert!(good(&text("key: k, count_conflicts: true")).tables[0].count_conflicts);
    assert!(!good(&text("key: k")).tables[0].count_conflicts);
    let refused = read(&text("count_conflicts: true")).unwrap_err();
    assert!(refused.to_string().contains("has `count_conflicts` and no key"), "{refused}");
}

#[test]
fn a_table_may_have_a_history() {
    let table = |settings: &str| {
        let text = with_tables(&format!("  t: {{key: k, id: i, columns: [a], {settings}}}\n"));
        good(&text).tables.remove(0)
    };
    assert_eq!(
        (table("on_null_key: error").history, table("on_null_key: error").on_conflict),
        (None, OnConflict::First)
    );
    let short = table("history: scd1");
    let kind = |kind, valid_from: Option<&str>| Some(History { kind, valid_from: valid_from.map(str::to_owned) });
    assert_eq!((short.history, short.on_conflict), (kind(HistoryKind::Scd1, None), OnConflict::Last));
    let long = table("on_conflict: first, history: {type: scd2, valid_from: since}");
    assert_eq!((&long.history, long.on_conflict), (&kind(HistoryKind::Scd2, Some("since")), OnConflict::First));
    let pipeline = good(&with_tables("  t: {key: k, id: i, columns: [a], history: {type: scd2, valid_from: since}}\n"));
    let columns = pipeline.output_columns(&pipeline.tables[0]);
    let names: Vec<&str> = columns.iter().map(OutputColumn::name).collect();
    assert_eq!(names, ["i", "k", "a", "valid_from", "valid_to", "is_current"]);
}

#[test]
fn bad_files_can_be_set_aside() {
    let text = SALES.replacen("source:\n", "source:\n  on_bad_file: quarantine\n", 1);
    assert_eq!(good(&text).source.on_bad_file, OnBadFile::Quarantine);
    assert_eq!(set(&["source.on_bad_file=quarantine"]).expect("a setting").source.on_bad_file, OnBadFile::Quarantine);
}

#[test]
fn files_may_differ() {
    let source = |text: &str| good(&SALES.replacen("source:\n", &format!("source:\n{text}"), 1)).source;
    assert!(good(SALES).source.schema.is_strict() && good(SALES).source.rename.is_empty());
    assert_eq!(source("  schema: widen\n").schema, SchemaMode::Widen);
    assert_eq!(source("  schema: {mode: evolve}\n").schema, SchemaMode::Evolve);
    assert_eq!(set(&["source.schema=evolve"]).expect("a setting").source.schema, SchemaMode::Evolve);
    let rename = source("  rename: {cust_mail: email, e mail: email}\n").rename;
    let pairs: Vec<_> = rename.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
    assert_eq!(pairs, [("cust_mail", "email"), ("e mail", "email")]);
}

#[test]
fn text_files_and_how_they_are_written() {
    let source = |text: &str| good(&SALES.replacen("source:\n", &format!("source:\n{text}"), 1)).source;
    let usual = good(SALES).source;
    assert_eq!((usual.format, usual.csv.is_usual(), usual.columns.len()), (None, true, 0));
    assert!(usual.undeclared.is_inferred());
    assert_eq!(source("  format: ndjson\n").format, Some(SourceFormat::Ndjson));
    let csv = source("  csv: {delimiter: \"\\t\", header: false, quote: \"'\", null: \"NULL\"}\n").csv;
    assert_eq!(csv, Csv { delimiter: Some('\t'), header: false, quote: Some('\''), null: "NULL".to_owned() });
    assert_eq!(source("  csv: {quote: \"\", null: \"\"}\n").csv, Csv { quote: None, ..Csv::default() });
    let columns = source("  columns: {price: \"decimal(10, 2)\", order date: date}\n").columns;
    let columns: Vec<(&str, String)> = columns.iter().map(|(name, kind)| (name.as_str(), kind.to_string())).collect();
    assert_eq!(columns, [("order date", "date".to_owned()), ("price", "decimal(10,2)".to_owned())]);
    assert_eq!(source("  undeclared: string\n").undeclared, Undeclared::String);
}

#[test]
fn tables_of_the_elements_of_lists() {
    let pipeline = good(&with_tables(
        "  orders: {key: no, id: order_id}\n  parts:\n    from: orders[].items[].parts[]\n    id: part_id\n    \
         references: [orders, items, products]\n  items: {from: \" orders[].items[] \", key: [no, line], id: item_id}\n  \
         products: {from: \"orders[]\", key: sku, id: product_id, references: orders}\n  tags: {from: \"tags[]\", id: t}\n",
    ));
    let from: Vec<_> = pipeline.tables.iter().map(|table| table.from.as_deref()).collect();
    assert_eq!(
        from,
        [None, Some("orders[].items[].parts[]"), Some("orders[].items[]"), Some("orders[]"), Some("tags[]")]
    );
    // Each after the one that it is in, also one that no table is of.
    let lists: Vec<String> = pipeline.lists().iter().map(ToString::to_string).collect();
    assert_eq!(lists, ["orders[]", "orders[].items[]", "orders[].items[].parts[]", "tags[]"]);
    assert_eq!(good(SMALL).lists(), []);
}

#[test]
fn null_on_null_key_is_the_word_null() {
    for null in ["null", "\"null\"", "~", "NULL", ""] {
        let text = with_tables(&format!("  t: {{key: k, id: i, on_null_key: {null}}}\n"));
        assert_eq!(good(&text).tables[0].on_null_key, OnNullKey::Null, "{null:?}");
    }
}

#[test]
fn whole_numbers_of_all_kinds() {
    for (text, start) in [("-5", -5), ("+5", 5), ("0x10", 16), ("0o17", 15), ("9223372036854775807", i64::MAX)] {
        let text = with_tables(&format!("  t: {{id: {{column: i, start: {text}, step: -1}}}}\n"));
        assert_eq!(good(&text).tables[0].id.as_ref().map(|id| (id.start, id.step)), Some((start, -1)), "{text}");
    }
}

#[test]
fn lookups_are_read_with_their_names_and_can_be_set() {
    let text = "version: 1\nname: n\nsource: {files: f}\ntransform: SELECT 1\noutput: {path: o}\ntables:\n  t: {id: i}\n\
                lookups:\n  countries: {files: c.csv, key: code}\n  parts: {files: [a, b], key: [x, y], columns: {x: string}}\n";
    let pipeline = read(text).expect("it is right");
    let [countries, parts] = pipeline.lookups.as_slice() else { panic!("{:?}", pipeline.lookups) };
    assert_eq!((countries.name.as_str(), countries.files.as_slice()), ("countries", &["c.csv".to_owned()][..]));
    assert_eq!((countries.key.as_slice(), parts.key.len()), (&["code".to_owned()][..], 2));
    assert_eq!(parts.columns["x"].to_string(), "string");
    let set = |path: &str| {
        let overrides = Overrides::from_args([format!("{path}=d.csv")]).expect("an override");
        parse(text, "p.yaml", &overrides, &env)
    };
    assert_eq!(set("lookups.countries.files").expect("it is right").lookups[0].files, ["d.csv"]);
    let wrong = set("lookups.countrys.files").expect_err("there is none").to_string();
    assert!(wrong.contains("the pipeline has no look-up `countrys`") && wrong.contains("`countries`"), "{wrong}");
}

#[test]
fn output_columns_come_in_the_order_of_the_design() {
    let sales = good(SALES);
    let orders = sales.table("orders").expect("it is in the file");
    assert_eq!(
        sales.output_columns(orders),
        [
            OutputColumn::Id { name: "order_id".to_owned() },
            OutputColumn::Key { name: "order_no".to_owned() },
            OutputColumn::Reference { name: "customer_id".to_owned(), table: "customers".to_owned() },
            OutputColumn::Column { name: "order_date".to_owned() },
        ]
    );
    let lines = sales.table("order_lines").expect("it is in the file");
    let columns = sales.output_columns(lines);
    let names: Vec<_> = columns.iter().map(OutputColumn::name).collect();
    assert_eq!(names, ["line_id", "order_id", "customer_id", "product_id", "quantity", "price"]);
}

#[test]
fn the_environment_fills_in_values() {
    let text = SALES
        .replace("start: 1000", "start: \"${ANSWER}\"")
        .replace("name: sales", "name: run-${ANSWER}")
        .replace("[title]", "[\"${ANSWER}\", '$${ANSWER}']");
    let pipeline = good(&text);
    assert_eq!(pipeline.name, "run-42");
    assert_eq!(pipeline.tables[1].id.as_ref().map(|id| id.start), Some(42));
    assert_eq!(pipeline.tables[2].columns, ["42", "${ANSWER}"]);
}

/// A variable holds a line break and YAML; were it put into the text before parsing, it would become keys and lists.
#[test]
fn the_environment_cannot_change_the_structure() {
    let text = SALES.replace("${OUT:-out}", "${INJECTION}");
    let pipeline = good(&text);
    assert_eq!(pipeline.name, "sales");
    assert_eq!(pipeline.output.path, "x\nname: evil\n- [");
}

#[test]
fn placeholders_in_keys_and_comments_are_left_alone() {
    let text = format!("# ${{NOT_SET}}\n{SMALL}");
    assert_eq!(good(&text), good(SMALL));
    let errors = common::errors(&with_tables("  ${ANSWER}: {id: i}\n"));
    assert!(errors.contains("`${ANSWER}` is no name for a table"), "{errors}");
}

#[test]
fn aliases_and_byte_order_marks_are_read() {
    let text = with_tables("  a: &a {columns: &c [x, y]}\n  b: *a\n  c: {columns: *c}\n");
    let pipeline = good(&format!("\u{feff}{text}"));
    assert!(pipeline.tables.iter().all(|table| table.columns == ["x", "y"]));
}

#[test]
fn windows_line_ends_count_as_one_line() {
    let text = SALES.replace("name: sales", "nme: sales").replace('\n', "\r\n");
    assert!(common::errors(&text).contains("p.yaml:3:1: the key `nme` is unknown"), "{}", common::errors(&text));
}

#[test]
fn overrides_replace_and_add() {
    let pipeline = set(&[
        "source.files=*.parquet",
        "output.path=first",
        "output.path=elsewhere: here",
        "tables.customers.id.start=7",
        "tables.orders.references=[]",
        "tables.products.key=[supplier, \"x\"]",
        "tables.customers.on_null_key=error",
        "state=${ANSWER}",
        "name=2024",
    ])
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(pipeline.source.files, ["*.parquet"]);
    assert_eq!(pipeline.output.path, "elsewhere: here");
    assert_eq!(pipeline.tables[0].id, Some(Id { start: 7, ..Id::new("customer_id") }));
    assert_eq!(pipeline.tables[0].on_null_key, OnNullKey::Error);
    assert!(pipeline.tables[1].references.is_empty());
    assert_eq!(pipeline.tables[2].key, ["supplier", "x"]);
    assert_eq!((pipeline.state.as_str(), pipeline.name.as_str()), ("42", "2024"));
}

/// The one who overrides a value need not set the variable that the file asks for.
#[test]
fn an_overridden_placeholder_is_not_asked_for() {
    let text = SALES.replace("${OUT:-out}", "${NOT_SET}");
    let overrides: Overrides = [("output.path".to_owned(), "o".to_owned())].into_iter().collect();
    let pipeline = parse(&text, "p.yaml", &overrides, &env).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(pipeline.output.path, "o");
}

#[test]
fn mistakes_in_overrides_are_told() {
    let cases: &[&[&str]] = &[
        &["output.path"],
        &["ouput.path=x"],
        &["source.fils=x"],
        &["tables.custmers.key=x"],
        &["tables.zzz.key=x"],
        &["tables.orders.id.strat=5"],
        &["name.first=x"],
        &["=x"],
        &["tables.orders.id.start=x"],
        &["tables.orders.key="],
        &["source.files=[a"],
        &["source.files={a: b}"],
        &["tables.orders.references=[custmers]", "output.format=csv"],
    ];
    let all: Vec<_> =
        cases.iter().map(|args| format!("# {args:?}\n{}\n", set(args).expect_err("it is a mistake"))).collect();
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(all.join("\n")) });
}

#[test]
fn load_knows_the_folder_that_paths_start_at() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("sales.yaml");
    fs::write(&path, SALES).expect("the folder is writable");
    let loaded = load(&path, &Overrides::none(), &env).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.pipeline, good(SALES));
    assert_eq!((loaded.path.as_path(), loaded.folder.as_path()), (path.as_path(), folder.path()));
    let relative = load(Path::new("tests/data/small.yaml"), &Overrides::none(), &env);
    let folder = relative.unwrap_or_else(|errors| panic!("{errors}")).folder;
    assert!(folder.is_absolute() && folder.ends_with("tests/data"), "{folder:?}");
}

#[test]
fn load_says_why_a_file_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let message = |name: &str, bytes: Option<&[u8]>| {
        let path = folder.path().join(name);
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).expect("the folder is writable");
        }
        let errors = load(&path, &Overrides::none(), &env).expect_err(name).to_string();
        errors.replace(&folder.path().display().to_string(), "FOLDER")
    };
    let missing = message("missing.yaml", None);
    assert!(missing.starts_with("FOLDER/missing.yaml: the pipeline file cannot be read: "), "{missing}");
    assert!(missing.contains("help: give the path of a pipeline file"), "{missing}");
    assert!(message("", None).contains("cannot be read"), "a folder is no file");
    let binary = message("data.parquet", Some(b"PAR1\xff\xfe"));
    assert!(binary.contains("not text in UTF-8: its byte 4 "), "{binary}");
    let large = message("large.yaml", Some(&vec![b'#'; MAX_FILE_BYTES + 1]));
    assert!(large.contains("larger than 1 MiB"), "{large}");
    assert!(message("empty.yaml", Some(b"")).contains("the pipeline file is empty"));
}

/// An address keeps its placeholders: the model is kept in journals and plans, and what they stand for may be secret.
#[test]
fn an_address_is_kept_as_it_is_written() {
    let text = SALES.replacen(
        "state: .seriatim",
        "state: .seriatim\nids: {from: postgres, url: \"postgresql://u:${SECRET}@h/d\", wait_seconds: 5}",
        1,
    );
    let pipeline = good(&text);
    assert_eq!(pipeline.ids.url, "postgresql://u:${SECRET}@h/d");
    assert_eq!(pipeline.ids.wait_seconds, 5);
    assert!(!serde_json::json!(pipeline).to_string().contains("hunter2"));
    let table = &pipeline.tables[0];
    assert_eq!(pipeline.sequence(table), Some(format!("sales.{}", table.name)));
    assert_eq!(good(SALES).sequence(table), None, "the pipeline's own entities have no such sequence");
}
