//! The JSON Schema is what an editor knows of a pipeline file. It must agree with the parser: complete the same keys,
//! accept what it accepts, and underline what it refuses, as far as a schema can say it.

mod common;

use common::{SALES, SMALL, read, with_tables};
use serde_json::{Value, json};
use seriatim_pipeline::json_schema;

fn refused(text: &str) -> Option<String> {
    // As YAML 1.2 has it, where `n` is a letter and not a truth value.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: Value = serde_saphyr::from_str_with_options(text, options).expect("it is YAML");
    let validator = jsonschema::validator_for(&json_schema()).expect("it is a JSON Schema");
    validator.validate(&value).err().map(|error| format!("{error} at {}", error.instance_path()))
}

#[test]
fn it_is_a_valid_schema_with_a_description_for_every_key() {
    fn walk(value: &Value, path: &str, described: &mut usize) {
        let Value::Object(object) = value else { return };
        if let Some(Value::Object(properties)) = object.get("properties") {
            assert_eq!(object.get("additionalProperties"), Some(&json!(false)), "{path}");
            for (key, property) in properties {
                assert!(property.get("description").is_some(), "{path}/{key} has no description");
                *described += 1;
            }
        }
        for (key, inside) in object {
            match inside {
                Value::Array(items) => items.iter().for_each(|item| walk(item, &format!("{path}/{key}"), described)),
                other => walk(other, &format!("{path}/{key}"), described),
            }
        }
    }
    let schema = json_schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let mut described = 0;
    walk(&schema, "", &mut described);
    assert_eq!(described, 10 + 3 + 8 + 1 + 4 + 4 + 11 + 2 + 8 + 2 + 3 + 5 + 3);
}

#[test]
fn the_schema_as_editors_get_it() {
    let schema = serde_json::to_string_pretty(&json_schema()).expect("JSON can be written");
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(schema) });
}

#[test]
fn both_accept_what_is_good() {
    let flow = with_tables("  t: {key: [k], id: {column: i, start: 5, step: -2}, on_null_key: \"null\"}\n");
    let existing = with_tables(
        "  t: {key: [k], id: {column: i, start: {after: [a], column: n}}, adopt: {files: a, key: {k: l}, id: n}}\n  \
         u: {key: k, id: {column: j, format: \"{k}-{}\", text: t}, adopt: [a, b]}\n  v: {key: k, id: l, adopt: a}\n  \
         w: {key: k, id: m, columns: [c], history: scd1}\n  x: {key: k, id: o, columns: [c], history: {type: \"${H:-scd2}\", valid_from: d}}\n",
    );
    let placeholders = SALES
        .replace("start: 1000", "start: \"${ANSWER}\"")
        .replace("version: 1", "version: ${ONE:-1}")
        .replace("name: sales", "name: ${NAME:-n}")
        .replace("on_conflict: last", "on_conflict: ${WHICH:-last}")
        .replace("format: parquet", "format: ${F:-parquet}")
        .replace("zstd(3)", "${C:-none}");
    let levels = ["none", "uncompressed", "lz4", "gzip", "gzip(9)", "brotli(11)", "zstd", "zstd(22)"]
        .map(|compression| SALES.replace("zstd(3)", compression));
    let drift = SALES.replace(
        "source:\n",
        "source:\n  schema: {mode: \"${MODE:-evolve}\"}\n  rename: {mail: email, e mail: email}\n",
    );
    let short = SALES.replace("source:\n", "source:\n  schema: ${MODE:-widen}\n  rename: {}\n");
    let csv = "  csv: {delimiter: \"\\t\", header: false, quote: \"\", \"null\": \"\"}\n";
    let columns = "  columns: {a: int8, b b: \"decimal(10, 2)\", c: timestamptz(ms), d: \"${TYPE:-date}\"}\n  undeclared: string\n";
    let texts = SALES.replace("source:\n", &format!("source:\n  format: csv\n{csv}{columns}"));
    for text in [SALES, SMALL, &flow, &existing, &placeholders, &drift, &short, &texts]
        .into_iter()
        .chain(levels.iter().map(String::as_str))
    {
        assert!(read(text).is_ok(), "{}", common::errors(text));
        assert_eq!(refused(text), None, "{text}");
    }
}

#[test]
fn both_refuse_what_is_bad() {
    let changes = [
        ("version: 1\n", ""),
        ("name: sales\n", ""),
        ("  files: data", "  fils: data"),
        ("tables:", "tabels:"),
        ("  path:", "  pth:"),
        ("transform:", "transfrom:"),
        ("state:", "stat:"),
        ("    key: email", "    kei: email"),
        ("    id: customer_id", "    ids: customer_id"),
        ("    columns: [name", "    colums: [name"),
        ("    references: customers", "    reference: customers"),
        ("    on_conflict: first", "    onconflict: first"),
        ("    on_null_key: null", "    null_key: null"),
        ("start: 1000", "begin: 1000"),
        ("column: order_id, ", ""),
        ("  format:", "  fmt:"),
        ("  compression:", "  codec:"),
        ("version: 1", "version: 2"),
        ("version: 1", "version: \"1\""),
        ("name: sales", "name: my sales"),
        ("name: sales", "name: 5"),
        ("name: sales", "name: [sales]"),
        ("  order_lines:", "  _order_lines:"),
        ("data/part-*.parquet", "[]"),
        ("data/part-*.parquet", "{a: b}"),
        ("key: order_no", "key: []"),
        ("key: [supplier, article]", "key: [article, article]"),
        ("[orders, customers, products]", "[orders, orders]"),
        ("[quantity, price]", "[quantity, null]"),
        ("start: 1000", "start: 1.5"),
        ("start: 1000", "start: one"),
        ("step: 1", "step: 0"),
        ("on_conflict: first", "on_conflict: best"),
        ("on_null_key: null", "on_null_key: drop"),
        ("transform:", "lookups: {}\ntransform:"),
        ("transform:", "lookups: {a: {files: f}}\ntransform:"),
        ("transform:", "lookups: {a: {files: f, key: []}}\ntransform:"),
        ("transform:", "lookups: {a b: {files: f, key: k}}\ntransform:"),
        ("transform:", "lookups: {a: {files: f, key: k, rows: 5}}\ntransform:"),
        ("source:\n", "source:\n  on_bad_file: skip\n"),
        ("source:\n", "source:\n  bad_file: quarantine\n"),
        ("source:\n", "source:\n  schema: wide\n"),
        ("source:\n", "source:\n  schema: {mode: wide}\n"),
        ("source:\n", "source:\n  schema: {}\n"),
        ("source:\n", "source:\n  schema: [widen]\n"),
        ("source:\n", "source:\n  rename: [a, b]\n"),
        ("source:\n", "source:\n  rename: {a: 5}\n"),
        ("source:\n", "source:\n  rename: {a: [b]}\n"),
        ("source:\n", "source:\n  format: xml\n"),
        ("source:\n", "source:\n  csv: {separator: \";\"}\n"),
        ("source:\n", "source:\n  csv: {delimiter: \"\"}\n"),
        ("source:\n", "source:\n  csv: {delimiter: \"ab\"}\n"),
        ("source:\n", "source:\n  csv: {quote: \"é\"}\n"),
        ("source:\n", "source:\n  csv: {header: maybe}\n"),
        ("source:\n", "source:\n  columns: {a: text}\n"),
        ("source:\n", "source:\n  columns: {a: decimal}\n"),
        ("source:\n", "source:\n  undeclared: guess\n"),
        ("format: parquet", "format: csv"),
        ("tables:", "checks: {a: b}\ntables:"),
        ("tables:", "checks: [{name: a}]\ntables:"),
        ("tables:", "checks: [{name: a, where: b, severity: error}]\ntables:"),
        ("tables:", "checks: [{name: a, where: b, at_most: 1.5}]\ntables:"),
        ("tables:", "checks: [{name: a, where: b, at_most: -1}]\ntables:"),
        ("tables:", "checks: [{name: a, where: b, at_most: 1 %%}]\ntables:"),
        ("tables:", "checks: [{name: a/b, where: b}]\ntables:"),
        ("tables:", "checks: [{name: a, where: b, when: c}]\ntables:"),
        ("zstd(3)", "zstd(23)"),
        ("zstd(3)", "brotli(12)"),
        ("zstd(3)", "snappy(1)"),
        ("    key: order_no\n", "    on_conflict: last\n"),
        ("    id: customer_id\n", ""),
        ("state: .seriatim", "state: \" \""),
        ("state: .seriatim", "state:"),
    ];
    for (from, to) in changes {
        assert!(SALES.contains(from), "the sample has no {from:?}");
        let text = SALES.replacen(from, to, 1);
        assert!(read(&text).is_err(), "the parser accepts {to:?} for {from:?}");
        assert!(refused(&text).is_some(), "the schema accepts {to:?} for {from:?}");
    }
    for tables in ["  {}\n", "  t: {}\n", "  t: 5\n", "  a/b: {id: i}\n"] {
        let text = with_tables(tables);
        assert!(read(&text).is_err() && refused(&text).is_some(), "{text}");
    }
}
