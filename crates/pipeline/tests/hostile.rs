//! Whatever is in a pipeline file, reading it ends soon, in little memory, with a pipeline or with errors: never with a
//! panic, and never with a value of the environment in them. Proptest prints the failing input and keeps it beside this
//! file; `SERIATIM_TEST_SCALE` multiplies the number of cases, `SERIATIM_TEST_SEED` sets the seed.

mod common;

use std::fmt::Write as _;

use common::{SALES, SMALL, errors, read, with_tables};
use proptest::prelude::*;
use proptest::sample::Index;
use seriatim_pipeline::{Overrides, PipelineErrors, parse};

fn lines(numbers: std::ops::Range<usize>, line: impl Fn(usize) -> String) -> String {
    numbers.map(line).fold(String::new(), |text, line| text + &line + "\n")
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let text = format!("version: {}1{}\n", open.repeat(10_000), close.repeat(10_000));
        assert!(errors(&text).contains("nested more than 32 deep"), "{}", errors(&text));
    }
    let block = lines(0..1_000, |depth| format!("{}a:", " ".repeat(depth)));
    assert!(errors(&block).contains("nested more than 32 deep"), "{}", errors(&block));
}

/// Each list holds the one before ten times: written out, it would be ten billion texts.
#[test]
fn alias_bombs_are_refused() {
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} [{aliases}]");
    }
    assert!(errors(&text).contains("anchors and aliases of this file repeat more than 4 MiB"), "{}", errors(&text));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 100_000].join(", "));
    assert!(errors(&long).contains("repeat more than 4 MiB"));
}

#[test]
fn an_alias_of_itself_is_refused() {
    assert!(errors("a: &a [*a]\n").contains("this YAML alias repeats what it is a part of"));
}

#[test]
fn too_many_tables_are_refused() {
    let tables = lines(0..1_001, |i| format!("  t{i}: {{id: i}}"));
    assert!(errors(&with_tables(&tables)).contains("the pipeline has 1001 tables, and 1000 is the most"));
}

#[test]
fn too_many_problems_are_counted() {
    let keys = lines(0..50_000, |i| format!("key{i}: 1"));
    let errors = read(&format!("{SMALL}{keys}")).expect_err("the keys are unknown");
    assert_eq!((errors.problems().len(), errors.beyond()), (100, 49_900));
    assert!(errors.to_string().ends_with("... and 49900 more"));
}

/// A change to a text: at a place, some characters are taken away and something is put in.
#[derive(Debug, Clone)]
struct Mutation {
    at: Index,
    removed: usize,
    inserted: String,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let token = prop::sample::select(vec![
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "!t ",
        "|",
        ">-\n",
        "\"",
        "'",
        "#",
        "%",
        "---\n",
        "? ",
        "<<: ",
        "${",
        "${A}",
        "${SECRET}",
        "$${",
        "null",
        "0",
        "-1",
        "é",
        "\u{feff}",
        "\0",
        "\r",
        "key",
        "id",
        "references",
        "orders",
        "customers",
        "_x",
    ]);
    let inserted = prop_oneof![
        3 => token.prop_map(str::to_owned),
        1 => "\\PC{0,3}",
        1 => Just(String::new()),
    ];
    (any::<Index>(), 0..8_usize, inserted).prop_map(|(at, removed, inserted)| Mutation { at, removed, inserted })
}

fn mutate(text: &str, mutations: &[Mutation]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for Mutation { at, removed, inserted } in mutations {
        let start = at.index(chars.len() + 1);
        let end = (start + removed).min(chars.len());
        chars.splice(start..end, inserted.chars());
    }
    chars.into_iter().collect()
}

/// Reads a text; what is wrong must have places that exist, and must be printable.
fn survive(text: &str) {
    if let Err(errors) = read(text) {
        can_be_shown(&errors, text);
    }
}

fn can_be_shown(errors: &PipelineErrors, text: &str) {
    assert!(!errors.problems().is_empty());
    let lines = text.matches('\n').count() + 1;
    for problem in errors.problems() {
        assert!(problem.position().is_none_or(|(line, _)| (1..=lines).contains(&line)), "{problem:?}");
        assert!(!problem.message().chars().any(|c| c.is_control() && c != '\n'), "{problem:?}");
    }
    assert!(!errors.to_string().is_empty());
    let fancy = errors.fancy(false, 80);
    assert!(!fancy.contains("Failed to read contents"), "{fancy}");
    for shown in [fancy, errors.to_string()] {
        assert!(!shown.contains("hunter2"), "a value of the environment is shown: {shown}");
    }
}

/// Values of pipeline files, and what may be taken for one.
const SCALARS: &[&str] = &[
    "null",
    "~",
    "true",
    "1",
    "0",
    "-1",
    "1.5",
    ".inf",
    "0x10",
    "1_000",
    "9223372036854775807",
    "9223372036854775808",
    "\"\"",
    "''",
    "\" \"",
    "a",
    "email",
    "customers",
    "orders",
    "Orders",
    "order_lines",
    "_x",
    "..",
    "a/b",
    "first",
    "last",
    "error",
    "quarantine",
    "parquet",
    "delta",
    "128 MiB",
    "zstd(3)",
    "zstd(99)",
    "lz4",
    "table",
    "postgres",
    "nextval",
    "entity",
    "${SECRET}",
    "\"${SECRET}\"",
    "${EMPTY}",
    "${NONE:-a}",
    "\"${NONE}\"",
    "postgresql://u:${SECRET}@h/d",
    "https://a.table.core.windows.net/t?sig=${SECRET}",
    "2024-01-01",
    "\"\\u0000\"",
    "!!str 1",
    "!!int a",
    "&a b",
    "*a",
    "Straße",
    "STRASSE",
];

/// Keys of pipeline files, and what is none.
const KEYS: &[&str] = &[
    "version",
    "name",
    "source",
    "files",
    "transform",
    "lookups",
    "tables",
    "output",
    "path",
    "format",
    "compression",
    "recompress",
    "target_file_size",
    "partition_by",
    "state",
    "ids",
    "from",
    "url",
    "wait_seconds",
    "key",
    "id",
    "columns",
    "references",
    "on_conflict",
    "on_null_key",
    "column",
    "start",
    "step",
    "sequence",
    "customers",
    "orders",
    "kye",
    "1",
    "\"\"",
    "<<",
    "[a]",
    "${SECRET}",
    "checks",
    "where",
    "severity",
    "at_most",
    "adopt",
    "after",
    "per",
    "number",
    "text",
    "history",
    "valid_from",
    "scd2",
];

/// A value in YAML's short form, built of the words of pipeline files: whatever it is, it is in the wrong place somewhere.
fn value() -> impl Strategy<Value = String> {
    let (scalar, key) = (prop::sample::select(SCALARS), prop::sample::select(KEYS));
    scalar.prop_map(str::to_owned).prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|pairs| {
                let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
        ]
    })
}

/// A file whose form is right, with other values at some of its keys.
fn with_values(text: &str, changes: &[(Index, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (at, value) in changes {
        let line = &mut lines[at.index(text.lines().count())];
        if let Some((key, _)) = line.split_once(':') {
            *line = format!("{key}: {value}");
        }
    }
    lines.join("\n") + "\n"
}

proptest! {
    // A minute on one core of 2026, all four together.
    #![proptest_config(common::config(250_000))]

    #[test]
    fn mutated_files_never_panic(mutations in prop::collection::vec(mutation(), 1..6), small in any::<bool>()) {
        survive(&mutate(if small { SMALL } else { SALES }, &mutations));
    }

    #[test]
    fn wrong_values_never_panic(
        changes in prop::collection::vec((any::<Index>(), value()), 1..5),
        small in any::<bool>(),
    ) {
        survive(&with_values(if small { SMALL } else { SALES }, &changes));
    }

    #[test]
    fn wrong_overrides_never_panic(
        path in prop_oneof![
            prop::sample::select(vec![
                "name", "version", "source.files", "tables", "tables.orders", "tables.orders.id", "tables.orders.id.start",
                "tables.orders.columns", "tables.nobody.id", "output", "output.path", "state", "ids", "ids.url", "", ".",
            ]).prop_map(str::to_owned),
            "[a-z.]{0,20}",
        ],
        value in prop_oneof![value(), "\\PC{0,20}", "[\\[{\"].{0,20}"],
    ) {
        let overrides: Overrides = [(path, value)].into_iter().collect();
        if let Err(errors) = parse(SALES, "p.yaml", &overrides, &common::env) {
            can_be_shown(&errors, SALES);
        }
    }

    #[test]
    fn random_texts_never_panic(text in "(\\PC|[\n\t:\\-\\[\\]{}&*!|>'\"#%$ ]){0,80}") {
        survive(&text);
    }
}
