//! A mistake in a pipeline file must lead a person to the place and to the remedy. The messages are part of what users
//! see, so they are written out here: each mistake that a person makes, and what the program says to it.

mod common;

use common::{SALES, errors, read, with_tables};

/// A snapshot without the code that made it, which would be the longer part.
macro_rules! shows {
    ($text:expr) => {
        insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!($text) })
    };
}

fn replaced(from: &str, to: &str) -> String {
    assert!(SALES.contains(from), "the sample has no {from:?}");
    SALES.replacen(from, to, 1)
}

/// Every `(what, text)` with its messages, as one snapshot.
fn all(cases: &[(&str, String)]) -> String {
    assert!(cases.iter().all(|(_, text)| !errors(text).contains("hunter2")), "a value of the environment is shown");
    cases.iter().map(|(what, text)| format!("# {what}\n{}\n", errors(text))).collect::<Vec<_>>().join("\n")
}

#[test]
fn not_yaml() {
    shows!(all(&[
        ("empty", String::new()),
        ("only a comment", "# nothing\n".to_owned()),
        ("only null", "null\n".to_owned()),
        ("a text", "hello\n".to_owned()),
        ("a list", "- version: 1\n".to_owned()),
        ("tab", "version: 1\n\tname: x\n".to_owned()),
        ("tab in a map", "source:\n\tfiles: x\n".to_owned()),
        ("open list", "version: 1\nsource: {files: [a, b\n".to_owned()),
        ("open quote", "version: 1\nname: \"x\n".to_owned()),
        ("colon in a text", "transform: SELECT a: b\n".to_owned()),
        ("bad indentation", "source:\n    files: a\n  more: b\n".to_owned()),
        ("glob taken for an alias", replaced("data/part-*.parquet", "*.parquet")),
        ("star alone", replaced("data/part-*.parquet", "*")),
        ("backslash", replaced("data/part-*.parquet", r#""C:\data""#)),
        ("placeholder in a flow list", replaced("[title]", "[${ANSWER}]")),
        ("two documents", "version: 1\n---\nname: x\n".to_owned()),
        ("tag", replaced("name: sales", "name: !mine sales")),
        ("list as key", "[a, b]: c\n".to_owned()),
        ("control characters", "\u{1b}[31m: 1\nversion: 1\n".to_owned()),
    ]));
}

#[test]
fn keys() {
    shows!(all(&[
        ("top level", replaced("transform:", "tranform:")),
        ("source", replaced("  files:", "  file:")),
        ("table", replaced("    columns: [name", "    colums: [name")),
        ("id", replaced("start: 1000", "begin: 1000")),
        ("output", replaced("compression:", "compresion:")),
        ("nothing near", replaced("state:", "parallelism:")),
        ("several at once", replaced("state:", "stat:").replace("    key: email", "    keys: email")),
        ("merge key", with_tables("  a: &a {key: k, id: i}\n  b: {<<: *a}\n")),
        ("duplicate", replaced("state: .seriatim", "state: a\nname: other")),
        ("duplicate table", with_tables("  a: {id: i}\n  a: {id: j}\n")),
        ("number as key", replaced("state:", "1:")),
    ]));
}

#[test]
fn source() {
    let with = |text: &str| replaced("source:\n", &format!("source:\n{text}\n"));
    shows!(all(&[
        ("a mode that is none", with("  schema: widne")),
        ("a mode that is none, in the long form", with("  schema: {mode: loose}")),
        ("no mode", with("  schema: {}")),
        ("a schema that is a list", with("  schema: [widen]")),
        ("renames that are a list", with("  rename: [a, b]")),
        ("renames that are nothing", with("  rename:")),
        ("a new name that is a list", with("  rename: {mail: [email]}")),
        ("a name that becomes itself", with("  rename: {email: email}")),
        ("a new name that is an old one", with("  rename: {a: b, b: c}")),
        ("an old name twice", with("  rename: {a: b, a: c}")),
        ("a format that is none", with("  format: cvs")),
        ("settings for another format", with("  format: parquet\n  csv: {delimiter: \";\"}\n  columns: {a: int8}")),
        ("CSV in JSON", with("  format: ndjson\n  csv: {null: x}")),
        ("a delimiter that is two", with("  csv: {delimiter: \"||\"}")),
        ("a delimiter that is a line end", with("  csv: {delimiter: \"\\n\"}")),
        ("a delimiter that is nothing", with("  csv: {delimiter: \"\"}")),
        ("a delimiter that is the quote", with("  csv: {delimiter: \"|\", quote: \"|\"}")),
        ("a key that is none", with("  csv: {separator: \";\"}")),
        ("a null without quotes", with("  csv: {null: 0}")),
        ("a type that is none", with("  columns: {a: integer, b: int46}")),
        ("a decimal that is none", with("  columns: {a: \"decimal(2,10)\"}")),
        ("a type that is a list", with("  columns: {a: [string]}")),
        ("what is undeclared", with("  undeclared: strings")),
    ]));
}

#[test]
fn missing() {
    shows!(all(&[
        ("version", replaced("version: 1\n", "")),
        ("name", replaced("name: sales\n", "")),
        ("everything", "state: s\n".to_owned()),
        ("files", "version: 1\nname: n\nsource: {}\noutput: {}\ntables: {t: {id: {start: 1}}}\n".to_owned()),
        ("blank sections", "version: 1\nname: n\nsource:\noutput:\ntables:\n".to_owned()),
        ("no tables", "version: 1\nname: n\nsource: {files: f}\noutput: {path: o}\ntables: {}\n".to_owned()),
        ("blank table", with_tables("  t:\n")),
        ("blank values", with_tables("  t: {key: , id: , columns: }\n")),
    ]));
}

#[test]
fn version() {
    shows!(all(&[
        ("newer, so that its other keys are no mistake", replaced("version: 1", "version: 2\nnovelty: yes")),
        ("older", replaced("version: 1", "version: 0")),
        ("text", replaced("version: 1", "version: \"1\"")),
        ("fraction", replaced("version: 1", "version: 1.0")),
        ("placeholder", replaced("version: 1", "version: ${ANSWER}")),
    ]));
}

#[test]
fn types() {
    shows!(all(&[
        ("number as a name", replaced("name: sales", "name: 2024")),
        ("truth value as a name", replaced("name: sales", "name: true")),
        ("list as a name", replaced("name: sales", "name: [sales]")),
        ("null in a list", replaced("[name, city, country_code]", "[name, null, ~]")),
        ("list in a list", replaced("[name, city, country_code]", "[[name], city]")),
        ("map as a list", replaced("[name, city, country_code]", "{name: text}")),
        ("list as an id", replaced("id: customer_id", "id: [a, b]")),
        ("text as the source", replaced("source:\n  files: data/part-*.parquet", "source: data")),
        ("list of tables", "version: 1\nname: n\nsource: {files: f}\noutput: {path: o}\ntables: [a]\n".to_owned()),
        ("table as a text", with_tables("  t: email\n")),
        ("start as a text", replaced("start: 1000", "start: \"1000\"")),
        ("start as a word", replaced("start: 1000", "start: one")),
        ("start as a fraction", replaced("start: 1000", "start: 1.5")),
        ("start too large", replaced("start: 1000", "start: 9223372036854775808")),
        ("start as a list", replaced("start: 1000", "start: [1]")),
        ("step 0", replaced("step: 1", "step: 0")),
        ("blank transform", with_tables("  t: {id: i}\ntransform: \" \"\n"),),
        ("empty transform", with_tables("  t: {id: i}\ntransform:\n")),
        ("no files", replaced("data/part-*.parquet", "[]")),
        ("empty file name", replaced("data/part-*.parquet", "[\"\"]")),
        ("format", replaced("format: parquet", "format: iceberg")),
        ("format, nearly", replaced("format: parquet", "format: Parket")),
    ]));
}

#[test]
fn files_and_partitions() {
    let sized = |size: &str| replaced("  compression:", &format!("  target_file_size: {size}\n  compression:"));
    let parted = |by: &str| {
        replaced(
            "    columns: [name, city, country_code]",
            &format!("    columns: [name, city, country_code]\n    partition_by: {by}"),
        )
    };
    shows!(all(&[
        ("no size", sized("large")),
        ("a unit that there is not", sized("128 MiBytes")),
        ("too small", sized("100 KiB")),
        ("nothing", sized("0")),
        ("a list", sized("[1]")),
        ("not of the table", parted("country")),
        ("its ID", parted("customer_id")),
        ("twice", parted("[city, city]")),
        ("nothing is left", with_tables("  t: {columns: [a, b], partition_by: [b, a]}\n")),
        ("no list", parted("{a: b}")),
    ]));
}

#[test]
fn histories() {
    let with = |history: &str| replaced("    key: email", &format!("    key: email\n    history: {history}"));
    let table = |settings: &str| with_tables(&format!("  t: {{{settings}}}\n"));
    shows!(all(&[
        ("no such type", with("scd3")),
        ("a list", with("[scd1]")),
        ("nothing", with("")),
        ("no type", with("{valid_from: since}")),
        ("an unknown key", with("{type: scd2, valid_form: since}")),
        ("since when, without versions", with("{type: scd1, valid_from: since}")),
        ("since when, in the key", with("{type: scd2, valid_from: email}")),
        ("no key", table("id: i, columns: [a], history: scd1")),
        ("nothing that changes", table("key: k, id: i, history: scd2")),
        ("an existing table", table("key: k, id: i, columns: [a], adopt: old.parquet, history: scd1")),
        ("a partition that changes", table("key: k, id: i, columns: [a], partition_by: a, history: scd2")),
        ("a group that changes", table("key: k, id: {column: i, per: a}, columns: [a], history: scd2")),
        ("a text that changes", table("key: k, id: {column: i, format: \"{a}-{}\"}, columns: [a], history: scd1")),
        ("a column that versions have", table("key: k, id: i, columns: [Valid_To], history: scd2")),
    ]));
}

#[test]
fn lists() {
    let with = |tables: &str| {
        with_tables(&format!(
            "  orders: {{key: no, id: order_id}}\n  products: {{from: \"items[]\", key: sku, id: product_id}}\n{tables}"
        ))
    };
    let from = |from: &str| with(&format!("  lines: {{from: {from}, columns: [sku]}}\n"));
    shows!(all(&[
        ("no brackets", from("items")),
        ("a place in the list", from("\"items[0]\"")),
        ("nothing before them", from("\"[]\"")),
        ("no dot after them", from("\"items[]sku[]\"")),
        ("a list right within a list", from("\"items[][]\"")),
        ("several", from("[\"items[]\", \"tags[]\"]")),
        ("nothing of its own", with("  lines: {from: \"items[]\"}\n")),
        ("a record that refers to elements", with("  invoices: {references: [products]}\n")),
        (
            "an element that refers to those of another list",
            with("  tags: {from: \"tags[]\", references: [products]}\n")
        ),
        (
            "an outer element that refers to inner ones",
            with(
                "  parts: {from: \"items[].parts[]\", key: part, id: p}\n  lines: {from: \"items[]\", references: [parts]}\n"
            ),
        ),
    ]));
}

#[test]
fn compression() {
    let cases = ["zsdt", "snappy(1)", "zstd(0)", "zstd(x)", "gzip(10)", "brotli(12)", "zstd(1", "deflate"];
    let mut cases: Vec<_> = cases.iter().map(|text| (*text, replaced("zstd(3)", &format!("\"{text}\"")))).collect();
    for (what, value) in [("no truth value", "maybe"), ("a truth value in quotes", "\"true\""), ("a list", "[true]")] {
        cases.push((what, replaced("  compression:", &format!("  recompress: {value}\n  compression:"))));
    }
    shows!(all(&cases));
}

#[test]
fn checks() {
    let with = |checks: &str| replaced("tables:\n", &format!("checks:{checks}\ntables:\n"));
    shows!(all(&[
        ("a map", with(" {positive: quantity > 0}")),
        ("texts", with(" [quantity > 0]")),
        ("nothing", with("")),
        ("neither name nor condition", with("\n  - {severity: warn}")),
        ("a name twice", with("\n  - {name: a, where: b}\n  - {name: A, where: c}")),
        ("no name for a check", with("\n  - {name: a b, where: c}")),
        ("a key that is not there", with("\n  - {name: a, were: quantity > 0}")),
        ("another severity", with("\n  - {name: a, where: b, severity: quarantines}")),
        ("a limit that is none", with("\n  - {name: a, where: b, at_most: few}")),
        ("more than all", with("\n  - {name: a, where: b, at_most: 101%}")),
        ("too exact", with("\n  - {name: a, where: b, at_most: 0.00001%}")),
        ("below none", with("\n  - {name: a, where: b, at_most: -1}")),
        ("a limit where one is too many", with("\n  - {name: a, where: b, severity: fail, at_most: 5}")),
    ]));
}

#[test]
fn lookups() {
    let with = |lookups: &str| replaced("transform:", &format!("lookups:\n{lookups}transform:"));
    let bare = |lookups: &str| format!("{}lookups:\n{lookups}", with_tables("  t: {id: i}\n"));
    shows!(all(&[
        ("no files", with("  countries: {key: code}\n")),
        ("no key", with("  countries: {files: c.csv}\n")),
        ("an unknown key", with("  countries: {files: c.csv, keys: code}\n")),
        ("an empty list of files", with("  countries: {files: [], key: code}\n")),
        ("an empty key", with("  countries: {files: c.csv, key: []}\n")),
        ("a key twice", with("  countries: {files: c.csv, key: [a, b, a]}\n")),
        ("a type that is none", with("  countries: {files: c.csv, key: a, columns: {a: strng}}\n")),
        ("the name of the source", with("  Source: {files: c.csv, key: a}\n")),
        ("no name", with("  my countries: {files: c.csv, key: a}\n")),
        ("one name in two cases", with("  a: {files: c.csv, key: a}\n  A: {files: c.csv, key: a}\n")),
        ("no transform", bare("  countries: {files: c.csv, key: a}\n")),
        ("nothing", bare("")),
        ("a list", with("  - {files: c.csv, key: a}\n")),
        ("a text", with("  c.csv\n")),
    ]));
}

#[test]
fn ids() {
    let with = |ids: &str| SALES.replacen("state: .seriatim", &format!("state: .seriatim\nids: {ids}"), 1);
    let postgres = "{from: postgres, url: \"postgresql://u@h/d\"}";
    shows!(all(&[
        ("unknown source", with("{from: postgre, url: x}")),
        ("nothing said", with("{}")),
        ("no address", with("{from: table}")),
        ("an address without use", with("{from: entity, url: \"postgresql://h/d\"}")),
        ("another service's address", with("{from: table, url: \"postgresql://u@h/d\"}")),
        ("a password in the file", with("{from: postgres, url: \"postgresql://u:pw@h/d\"}")),
        ("a password that stands in for one", with("{from: postgres, url: \"postgresql://u:${NONE:-pw}@h/d\"}")),
        ("a signature in the file", with("{from: table, url: \"https://a.table.core.windows.net/t?sig=abc\"}")),
        ("a secret of another form", with("{from: postgres, url: \"${SECRET}\"}")),
        ("a variable that is not set", with("{from: postgres, url: \"postgresql://u:${NONE}@h/d\"}")),
        ("a negative wait", with("{from: postgres, url: \"postgresql://u@h/d\", wait_seconds: -1}")),
        ("no sequence", with("{from: nextval, url: \"postgresql://u@h/d\"}")),
        ("a sequence without a counter", replaced("start: 1000", "sequence: s, start: 1000")),
        ("no name of a sequence", with(postgres).replacen("start: 1000", "sequence: \"a b\", start: 1000", 1)),
        (
            "another table's sequence",
            with(postgres).replacen("start: 1000", "sequence: sales.customers, start: 1000", 1),
        ),
    ]));
}

#[test]
fn text_ids() {
    let with =
        |id: &str| with_tables(&format!("  orders: {{key: number, id: {{column: i, {id}}}, columns: [year, land]}}\n"));
    shows!(all(&[
        ("no number", with("format: \"ORD-{year}\"")),
        ("two numbers", with("format: \"{}-{:06}\"")),
        ("no closing brace", with("format: \"ORD-{:06\"")),
        ("no opening brace", with("format: \"ORD-}{}\"")),
        ("no way to write a number", with("format: \"{:6}\"")),
        ("an unknown column", with("format: \"{yaer}-{}\"")),
        ("an unknown column, and nothing near", with("format: \"{warehouse}-{}\"")),
        ("a padded value", with("format: \"{year:04}-{}\"")),
        ("a value right before", with("format: \"{year}{:06}\"")),
        ("a value right after", with("format: \"{}{year}\"")),
        ("values on both sides", with("format: \"{year}-{:06}-{land}\"")),
        ("signs", with("start: -5, format: \"{year}-{:06}\"")),
        ("text without a format", with("text: code")),
        ("a name that is there", with("format: \"{}\", text: land")),
        ("a default name that is there", with("format: \"{}\"").replace("land", "I_text")),
        ("no text", with("format: [a]")),
        ("in a table without columns", with_tables("  t: {id: {column: i, format: \"{a}-{}\"}}\n")),
    ]));
}

#[test]
fn numbers_within_groups() {
    let with = |id: &str, more: &str| {
        with_tables(&format!("  orders: {{key: no, id: {{column: i, {id}}}, columns: [year, land]{more}}}\n"))
    };
    shows!(all(&[
        ("no columns", with("per: []", "")),
        ("an unknown column", with("per: [yaer, land]", "")),
        ("an unknown column, and nothing near", with("per: warehouse", "")),
        ("a column twice", with("per: [land, year, land]", "")),
        ("a number without groups", with("number: n", "")),
        ("a name that is there", with("per: land, number: land", "")),
        ("a default name that is there", with("per: land", "").replace("year", "I_in_group")),
        ("the name of the text", with("per: land, number: t, format: \"{}\", text: t", "")),
        ("of a table that is adopted", with("per: land", ", adopt: a")),
        ("in a table without columns", with_tables("  t: {id: {column: i, per: a}}\n")),
    ]));
}

#[test]
fn existing() {
    let with = |settings: &str| with_tables(&format!("  orders: {{key: [shop, number], {settings}}}\n"));
    let outside = |settings: &str| format!("{}ids: {{from: postgres, url: \"postgresql://u@h/d\"}}\n", with(settings));
    shows!(all(&[
        ("start as a map without files", with("id: {column: i, start: {column: n}}")),
        ("start with a wrong key", with("id: {column: i, start: {afte: a}}")),
        ("start after nothing", with("id: {column: i, start: {after: []}}")),
        ("start after a map", with("id: {column: i, start: {after: {a: b}}}")),
        ("start after, with a counter outside", outside("id: {column: i, start: {after: a}}")),
        ("adopting nothing", with("id: i, adopt: []")),
        ("adopting without files", with("id: i, adopt: {id: n}")),
        ("adopting what is empty", with("id: i, adopt: ")),
        ("a key of another form", with("id: i, adopt: {files: a, key: mail}")),
        ("a column that is not of the key", with("id: i, adopt: {files: a, key: {nubmer: no, warehouse: w}}")),
        ("adopting without a key", with_tables("  t: {id: i, adopt: a}\n")),
        ("adopting with a counter outside", outside("id: i, adopt: a")),
    ]));
}

#[test]
fn names() {
    let long = "n".repeat(101);
    shows!(all(&[
        ("space", replaced("name: sales", "name: my sales")),
        ("letters beyond ASCII", replaced("name: sales", "name: Verkäufe")),
        ("slash", with_tables("  a/b: {id: i}\n")),
        ("parent folder", with_tables("  ..: {id: i}\n")),
        ("hidden", with_tables("  .hidden: {id: i}\n")),
        ("reserved", with_tables("  _quarantine: {id: i}\n  _seriatim: {id: i}\n")),
        ("option", with_tables("  -a: {id: i}\n")),
        ("empty", with_tables("  \"\": {id: i}\n")),
        ("long", with_tables(&format!("  {long}: {{id: i}}\n"))),
        ("letter case", with_tables("  Orders: {id: i}\n  orders: {id: j}\n")),
    ]));
}

#[test]
fn tables() {
    shows!(all(&[
        ("nothing in it", with_tables("  t: {columns: [], references: []}\n")),
        ("no settings", with_tables("  t: {}\n")),
        ("empty key", with_tables("  t: {key: [], id: i}\n")),
        ("key without an id", with_tables("  customers: {key: email}\n")),
        ("on_conflict", replaced("on_conflict: first", "on_conflict: frist")),
        ("on_bad_file", replaced("source:\n", "source:\n  on_bad_file: skip\n")),
        ("on_null_key", replaced("on_null_key: null", "on_null_key: quarantined")),
        (
            "on_conflict and on_null_key without a key",
            with_tables("  t: {id: i, on_conflict: last, on_null_key: null}\n")
        ),
    ]));
}

#[test]
fn columns() {
    shows!(all(&[
        ("key twice", with_tables("  t: {key: [a, b, a], id: i}\n")),
        ("column twice", with_tables("  t: {id: i, columns: [a, b, a]}\n")),
        ("key in columns", with_tables("  t: {key: a, id: i, columns: [b, a]}\n")),
        ("id in columns", with_tables("  t: {id: a, columns: [a]}\n")),
        ("id in key", with_tables("  t: {key: a, id: a}\n")),
        ("letter case", with_tables("  t: {id: i, columns: [Straße, STRASSE, Ä, ä]}\n")),
        ("reference and column", with_tables("  c: {key: k, id: c_id}\n  o: {references: c, columns: C_ID}\n")),
        ("reference and id", with_tables("  c: {key: k, id: id}\n  o: {key: n, id: id, references: c}\n")),
        ("two references", with_tables("  a: {key: k, id: id}\n  b: {key: k, id: id}\n  c: {references: [a, b]}\n",)),
    ]));
}

#[test]
fn references() {
    shows!(all(&[
        ("unknown", replaced("references: customers", "references: custmers")),
        ("nothing near", replaced("references: customers", "references: warehouses")),
        ("itself", with_tables("  t: {key: k, id: i, references: t}\n")),
        ("no key", with_tables("  a: {id: i}\n  b: {id: j, references: a}\n")),
        ("twice", with_tables("  a: {key: k, id: i}\n  b: {id: j, references: [a, a]}\n")),
        ("circle of two", with_tables("  a: {key: k, id: i, references: b}\n  b: {key: k, id: j, references: a}\n",)),
        (
            "circle of three, and a way to it",
            with_tables(
                "  z: {references: b}\n  a: {key: k, id: i, references: [b]}\n  \
             b: {key: k, id: j, references: [c]}\n  c: {key: k, id: l, references: [a]}\n",
            )
        ),
        ("to a table that is broken itself", with_tables("  a: {key: 1}\n  b: {id: i, references: a}\n")),
    ]));
}

#[test]
fn environment() {
    shows!(all(&[
        ("not set", replaced("files: data/part-*.parquet", "files: \"data/${YEAR}/${MONTH:-01}/${DAY}\"")),
        ("in a block", replaced("quantity > 0", "quantity > ${LEAST}")),
        ("malformed", replaced("${OUT:-out}", "${OUT-out}/${/}")),
        ("empty", replaced("${OUT:-out}", "${EMPTY}")),
        (
            "a secret is not shown",
            replaced("name: sales", "name: a/${SECRET}")
                .replace("zstd(3)", "${SECRET}")
                .replace("on_conflict: last", "on_conflict: ${SECRET}")
                .replace("references: customers", "references: ${SECRET}")
                .replace("columns: order_date", "columns: [\"${SECRET}\", \"${SECRET}\"]")
        ),
    ]));
}

#[test]
fn everything_at_once_in_the_order_of_the_file() {
    let text = "version: 1\nname: a b\nsoruce: {files: x}\ntables:\n  t:\n    key: k\n    colums: [a]\n  \
                u: {references: [tt]}\noutput: {path: o, format: csv}\n";
    shows!(errors(text));
}

#[test]
fn on_a_terminal() {
    let text =
        replaced("references: customers", "references: custmers").replace("columns: [title]", "columns: [Article]");
    let errors = read(&text).expect_err("two names are wrong");
    shows!(errors.fancy(false, 100));
}

#[test]
fn problems_can_be_read_by_a_program() {
    let errors = read(&replaced("state:", "stat:")).expect_err("a key is wrong");
    let [problem] = errors.problems() else { panic!("one problem was expected: {errors}") };
    assert_eq!(problem.place(), "p.yaml");
    assert_eq!(problem.position(), Some((39, 1)));
    assert_eq!(problem.message(), "the key `stat` is unknown at the top level");
    assert_eq!(problem.remedy(), Some("did you mean `state`?"));
}

#[test]
fn a_state_folder_that_is_a_url_is_refused_with_the_way_to_do_without() {
    let text = errors(&replaced("state: .seriatim", "state: az://container/state"));
    assert!(text.contains("`state` is a folder on a local disk") && text.contains("seriatim run --recover"), "{text}");
}

/// Symptom: a password that somebody had written into `ids.url` was in the lines of the file that the error shows, and so
/// in the log of whoever ran the program; also where the error was about the line before. Cause: the file is shown as it is.
/// Mend: what stands where an address has its secrets is shown as stars, of the same length.
#[test]
fn a_secret_that_is_written_in_the_file_is_not_repeated() {
    let with = |ids: &str| SALES.replacen("state: .seriatim", &format!("state: .seriatim\nids: {ids}"), 1);
    for url in [
        "postgresql://u:canary@h/d",
        "postgresql://u:${NONE:-canary}@h/d",
        "postgresql://h/d?sslmode=disable&Pass%77ord=canary",
        "mysql://u:canary@h/d",
        "u:canary@h",
        "https://a.table.core.windows.net/t?sv=1&SIG=canary",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=canary",
    ] {
        for text in [
            with(&format!("{{from: postgres, url: \"{url}\"}}")),
            with(&format!("{{from: postgres, url: \"{url}\", wait: 1}}")),
            with(&format!("\"{url}\"")),
            replaced("compression: zstd(3)", &format!("compression: \"{url}\"")),
            replaced("state:", &format!("stat:\n# {url}\n\"{url}\":")),
            replaced("on_conflict: first", &format!("on_conflict: \"{url}\"")),
        ] {
            let errors = read(&text).expect_err(&text);
            for shown in [errors.to_string(), errors.fancy(false, 80), errors.fancy(true, 200)] {
                assert!(!shown.contains("canary"), "{url}:\n{shown}");
            }
        }
    }
}
