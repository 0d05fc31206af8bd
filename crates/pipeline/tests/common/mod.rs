//! What the tests of this crate share: the sample files, and reading a text without overrides.

#![allow(dead_code, unreachable_pub)] // Each test program uses a part of it.

use std::hash::BuildHasher as _;

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed};
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

/// Random tests with this many cases, times `SERIATIM_TEST_SCALE`, unless `PROPTEST_CASES` says otherwise, with the seed of
/// `SERIATIM_TEST_SEED`. A failing case is printed, and kept beside the test.
pub fn config(cases: u32) -> Config {
    let default = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { scaled(cases) };
    let persistence = FileFailurePersistence::WithSource("regressions");
    Config { cases, rng_seed: seed(), failure_persistence: Some(Box::new(persistence)), ..default }
}

fn scaled(cases: u32) -> u32 {
    let scale: f64 = std::env::var("SERIATIM_TEST_SCALE").map_or(1.0, |text| text.parse().expect("a number"));
    ((f64::from(cases) * scale) as u32).max(1)
}

/// The seed of this process, printed so that it can be given again.
fn seed() -> RngSeed {
    let given = std::env::var("SERIATIM_TEST_SEED").ok().map(|text| text.parse().expect("a whole number"));
    let seed = given.unwrap_or_else(|| std::hash::RandomState::new().hash_one(0));
    println!("SERIATIM_TEST_SEED={seed} replays this test");
    RngSeed::Fixed(seed)
}
