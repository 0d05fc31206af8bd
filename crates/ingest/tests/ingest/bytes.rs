//! The output is a function of the pipeline and the files: neither the number of workers, nor the shards, nor the
//! memory, nor the machine's mood can be seen in it.

use seriatim_ingest::{Paths, RunnerOptions};

use crate::case::{Case, Sizes};
use crate::harness::{Place, options, run};
use crate::outputs::{assert_same_tree, tree};
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
            if fresh.run(&files).is_err() {
                found.expect_err("the oracle fails too");
                continue;
            }
            found.expect("the run is done");
            crate::harness::compare(&place, &case.pipeline, &fresh)
                .unwrap_or_else(|e| panic!("case {index}, chunks of {chunk_rows}: {e}\n{sizes:?}"));
        }
    }
}
