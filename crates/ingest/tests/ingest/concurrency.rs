//! G6: runs that share sequences take turns where they must, and everything else overlaps. Whatever the turns were,
//! the outcome is one that a single clerk could have reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use seriatim_ingest::{RunReport, RunStatus, Runner, RunnerOptions};
use seriatim_pipeline::model::Pipeline;

use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Place, audit, compare, keyed, open_hub, options, outcome, pipeline, runtime};
use crate::oracle::{Oracle, Record, SourceFile};
use crate::rng::{Rng, seed};

const RUNS: usize = 16;

fn columns() -> [Column; 3] {
    [Column::new("customer", Kind::Text), Column::new("order", Kind::I64), Column::new("amount", Kind::I64)]
}

fn shop() -> Pipeline {
    pipeline(vec![
        keyed("customers", &["customer"], &[], &[]),
        keyed("orders", &["order"], &["customers"], &[]),
        keyed("lines", &[], &["orders", "customers"], &["amount"]),
    ])
}

/// `data/part-NN.parquet`: customers that all files share, orders that neighbours share.
fn write_part(place: &Place, seed: u64, part: usize) -> SourceFile {
    let mut rng = Rng::at(seed, &[part as u64]);
    let record = |rng: &mut Rng| {
        let customer = if rng.percent(3) { Cell::Null } else { Cell::Text(format!("c{}", rng.below(50))) };
        let order = Cell::Int(part as i128 * 20 + i128::from(rng.below(40)));
        vec![customer, order, Cell::Int(i128::from(rng.below(1000)))]
    };
    let records: Vec<Record> = (0..300).map(|_| record(&mut rng)).collect();
    let path = format!("data/part-{part:02}.parquet");
    write(&place.path().join(&path), &columns(), &records, &Layout { row_group: 100, ..Layout::default() });
    SourceFile { path, records }
}

fn small_chunks() -> RunnerOptions {
    RunnerOptions { chunk_rows: 64, shards: 4, ..options(4) }
}

/// Runs all of `pipelines` at once on one hub.
fn run_together(place: &Place, pipelines: Vec<Pipeline>) -> Vec<RunReport> {
    runtime().block_on(async {
        let hub = open_hub(&place.state());
        let runner = Arc::new(Runner::start(hub.clone(), small_chunks(), &place.state()).expect("a runner"));
        let start = |pipeline: Pipeline| {
            let (runner, project) = (runner.clone(), place.project(&pipeline));
            tokio::spawn(async move { runner.run(&project).await })
        };
        let tasks: Vec<_> = pipelines.into_iter().map(start).collect();
        let mut reports = Vec::new();
        for task in tasks {
            reports.push(outcome(task.await.expect("a run does not panic")).expect("every run ends well"));
        }
        Arc::into_inner(runner).expect("all runs have ended").stop().await;
        hub.close().await.expect("the hub closes");
        reports
    })
}

fn oracle() -> Oracle {
    let names: Vec<String> = columns().iter().map(|c| c.name.clone()).collect();
    Oracle::new(&shop(), &names, &[], |_| true)
}

#[test]
fn g6_runs_of_different_files_at_once_give_dense_ids_in_the_order_of_their_turns() {
    let seed = seed("g6_runs_of_different_files_at_once_give_dense_ids_in_the_order_of_their_turns");
    let place = Place::new();
    let files: BTreeMap<String, SourceFile> =
        (0..RUNS).map(|part| write_part(&place, seed, part)).map(|f| (f.path.clone(), f)).collect();
    let one_file = |path: &String| {
        let mut pipeline = shop();
        pipeline.source.files = vec![path.clone()];
        pipeline
    };

    let paths: Vec<String> = files.keys().cloned().collect();
    let reports = run_together(&place, paths.iter().map(one_file).collect());

    // Each run's number is its turn: one clerk who takes the files in that order ends with the same tables.
    let mut turns: Vec<(u64, &String)> =
        reports.iter().zip(&paths).map(|(r, path)| (r.number.expect("published"), path)).collect();
    turns.sort();
    assert_eq!(turns.iter().map(|t| t.0).collect::<Vec<_>>(), (1..=RUNS as u64).collect::<Vec<_>>());
    let mut oracle = oracle();
    for (_, path) in turns {
        oracle.run(std::slice::from_ref(&files[path])).expect("no error").expect("something to do");
    }
    compare(&place, &shop(), &oracle).expect("the tables of one clerk");
    audit(&place, &shop(), 2).expect("the audit passes");
}

#[test]
fn g6_runs_of_the_same_files_at_once_ingest_each_file_once() {
    let seed = seed("g6_runs_of_the_same_files_at_once_ingest_each_file_once");
    let place = Place::new();
    let mut files: Vec<SourceFile> = (0..4).map(|part| write_part(&place, seed, part)).collect();
    let mut oracle = oracle();
    for round in 0..3 {
        let reports = run_together(&place, vec![shop(); RUNS]);
        let records: u64 = files.iter().map(|f| f.records.len() as u64).sum();
        let total: u64 =
            reports.iter().filter(|r| r.status == RunStatus::Done).map(|r| r.tables[2].rows).max().unwrap_or(0);
        assert!(total <= records, "no record is ingested twice");
        oracle.run(&files).expect("no error").expect("something to do");
        compare(&place, &shop(), &oracle).unwrap_or_else(|e| panic!("round {round}: {e}"));
        files.push(write_part(&place, seed, 10 + round));
    }
    audit(&place, &shop(), 2).expect("the audit passes");
}

#[test]
fn g6_runs_of_overlapping_files_at_once_ingest_each_file_once() {
    let seed = seed("g6_runs_of_overlapping_files_at_once_ingest_each_file_once");
    let place = Place::new();
    let files: Vec<SourceFile> = (0..8).map(|part| write_part(&place, seed, part)).collect();
    let two_files = |part: usize| {
        let mut pipeline = shop();
        pipeline.source.files = vec![files[part].path.clone(), files[(part + 1) % 8].path.clone()];
        pipeline
    };
    run_together(&place, (0..8).map(two_files).collect());
    audit(&place, &shop(), 2).expect("the audit passes");
    let rows = |table: &str| crate::outputs::read_table(&place.output().join(table)).rows;
    let lines = rows("lines");
    assert_eq!(lines.len(), 8 * 300, "every record once");
    for table in ["customers", "orders", "lines"] {
        let ids: Vec<Cell> = rows(table).iter().map(|row| row[0].clone()).collect();
        let dense: Vec<Cell> = (1..=ids.len()).map(|id| Cell::Int(id as i128)).collect();
        assert_eq!(ids, dense, "{table}");
    }
}
