//! The output is a function of the pipeline and the files: neither the number of workers, nor the shards, nor the
//! memory, nor the machine's mood can be seen in it.

use seriatim_ingest::{Paths, RunnerOptions};

use crate::case::{Case, Sizes};
use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Place, audit, keyed, options, pipeline, run, unfit_for_partitions};
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::{Rng, scaled, seed};

fn some_sizes(rng: &mut Rng) -> Sizes {
    Sizes {
        seed: rng.next(),
        tables: 3 + rng.below(3) as usize,
        columns: 4 + rng.below(5) as usize,
        runs: (0..2).map(|_| (0..3).map(|_| rng.below(1500) as usize).collect()).collect(),
        chunk_rows: rng.pick(&[50, 333, 131_072]),
        shards: 16,
        workers: 1,
        little_memory: false,
        paths: rng.pick(&[Paths::Auto, Paths::General, Paths::Pages]),
        transform: if rng.percent(30) { Some(3) } else { None },
        partitions: rng.percent(50),
    }
}

/// The outputs of all runs of a case. A run that must fail does so with any options.
fn outputs(case: &Case, options: &RunnerOptions) -> std::collections::BTreeMap<String, Vec<u8>> {
    let place = Place::new();
    for index in 0..case.sizes.runs.len() {
        case.write_files(place.path(), index);
        if run(&place, &case.pipeline, options).is_err() {
            break;
        }
    }
    tree(&place.output())
}

#[test]
fn g3_workers_shards_and_memory_do_not_change_bytes() {
    let seed = seed("g3_workers_shards_and_memory_do_not_change_bytes");
    for index in 0..scaled(4) {
        let mut rng = Rng::at(seed, &[u64::from(index)]);
        let sizes = some_sizes(&mut rng);
        let case = Case::draw(&sizes);
        let base = RunnerOptions { chunk_rows: sizes.chunk_rows, paths: sizes.paths, ..options(1) };
        let expected = outputs(&case, &base);
        for (workers, shards, memory) in
            [(1, 16, 1), (2, 1, 1 << 30), (2, 2, 1), (8, 8, 1 << 30), (8, 64, 1), (8, 64, 100_000)]
        {
            let found = outputs(&case, &RunnerOptions { workers, shards, memory, ..base.clone() });
            let what = format!("case {index}: {workers} workers, {shards} shards, {memory} bytes of memory: {sizes:?}");
            assert_same_tree(&expected, &found, &what);
        }
    }
}

#[test]
fn g3_chunks_change_files_and_never_rows() {
    let seed = seed("g3_chunks_change_files_and_never_rows");
    for index in 0..scaled(3) {
        let mut rng = Rng::at(seed, &[u64::from(index)]);
        let mut sizes = some_sizes(&mut rng);
        sizes.runs = vec![vec![200, 0, 150]];
        let case = Case::draw(&sizes);
        let oracle = case.oracle();
        for chunk_rows in [1, 3, 64, 131_072] {
            let place = Place::new();
            let files = case.write_files(place.path(), 0);
            let mut fresh = oracle.clone();
            let options = RunnerOptions { chunk_rows, ..options(2) };
            let found = run(&place, &case.pipeline, &options);
            if fresh.run(&files).is_err() || unfit_for_partitions(&case.pipeline, &fresh).is_some() {
                found.expect_err("the oracle fails too");
                continue;
            }
            found.expect("the run is done");
            crate::harness::compare(&place, &case.pipeline, &fresh)
                .unwrap_or_else(|e| panic!("case {index}, chunks of {chunk_rows}: {e}\n{sizes:?}"));
        }
    }
}

/// New keys are at hand while all keys are in memory, and are read again where they are not.
#[test]
fn g3_g4_keys_that_left_memory_are_written_and_kept_like_those_that_stayed() {
    let columns = [
        Column::new("number", Kind::I64),
        Column::new("small", Kind::I32),
        Column::new("text", Kind::Text),
        Column::new("n", Kind::I64),
    ];
    let tables = ["number", "small", "text"].map(|key| keyed(&format!("by_{key}"), &[key], &[], &["n"]));
    let lines = keyed("lines", &[], &["by_number", "by_small", "by_text"], &["n"]);
    let pipeline = pipeline(tables.into_iter().chain([lines]).collect());
    // A third of each file's keys are those of the file before it.
    let record = |n: u32| {
        let key = i128::from(n.wrapping_mul(2_654_435_761) % 1_000_003);
        vec![Cell::Int(key * 7_000_000_007), Cell::Int(key - 500_000), Cell::Text(format!("ä{key}")), Cell::Int(key)]
    };
    let outputs = |options: &RunnerOptions| {
        let place = Place::new();
        for file in 0..3_u32 {
            let records: Vec<_> = (file * 2000..file * 2000 + 3000).map(record).collect();
            let layout = Layout { row_group: 100_000, ..Layout::default() };
            write(&place.path().join(format!("data/{file}.parquet")), &columns, &records, &layout);
            run(&place, &pipeline, options).expect("the run is done");
        }
        audit(&place, &pipeline, 2).expect("the audit passes");
        assert_eq!(read_table(&place.output().join("by_text")).rows.len(), 7000);
        tree(&place.output())
    };
    for paths in [Paths::Auto, Paths::Pages] {
        let at_hand = RunnerOptions { chunk_rows: 1000, paths, ..options(2) };
        let read_again = RunnerOptions { memory: 1, ..at_hand.clone() };
        assert_same_tree(&outputs(&at_hand), &outputs(&read_again), &format!("{paths:?}"));
    }
}
