//! What the tests of this crate share: the sample files, and reading a text without overrides.

#![allow(dead_code, unreachable_pub)] // Each test program uses a part of it.

use proptest::test_runner::{Config, FileFailurePersistence};
use seriatim_pipeline::model::Pipeline;
use seriatim_pipeline::{Overrides, PipelineErrors, parse};

/// A pipeline that uses everything.
pub const SALES: &str = include_str!("../data/sales.yaml");

/// A pipeline that uses as little as possible.
pub const SMALL: &str = include_str!("../data/small.yaml");

/// The environment of the tests.
pub fn env(name: &str) -> Option<String> {
    match name {
        "ANSWER" => Some("42".to_owned()),
        "INJECTION" => Some("x\nname: evil\n- [".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// Reads a text as the file `p.yaml`.
pub fn read(text: &str) -> Result<Pipeline, PipelineErrors> {
    parse(text, "p.yaml", &Overrides::none(), &env)
}

/// What is wrong with a text, as a log shows it.
pub fn errors(text: &str) -> String {
    match read(text) {
        Ok(pipeline) => panic!("this was read without an error: {pipeline:?}"),
        Err(errors) => errors.to_string(),
    }
}

/// A good pipeline with these tables, given as lines that are indented by two.
pub fn with_tables(tables: &str) -> String {
    format!("version: 1\nname: n\nsource: {{files: f}}\noutput: {{path: o}}\ntables:\n{tables}")
}

/// Random tests with this many cases, unless `PROPTEST_CASES` says otherwise. A failing case is kept beside the test.
pub fn config(cases: u32) -> Config {
    let default = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    let persistence = FileFailurePersistence::WithSource("regressions");
    Config { cases, failure_persistence: Some(Box::new(persistence)), ..default }
}
