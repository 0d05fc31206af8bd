//! Whatever counter IDs come from, a pipeline gives the same promises: the same IDs as with its own entities, each once,
//! also when runs die, fail, or share a sequence with others at once. Every test here is run with each counter, against
//! a real service.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use seriatim_counter::postgres::{NextvalCounter, RowCounter};
use seriatim_counter::services::{Azurite, Postgres, PostgresOptions};
use seriatim_counter::table::TableCounter;
use seriatim_counter::{Ask, Counter, Look};
use seriatim_ingest::{RunReport, Runner, RunnerOptions, TableReport, plan};
use seriatim_pipeline::model::{IdSource, Ids, Pipeline};

use crate::cells::Cell;
use crate::crash::{Death, crash_options, live_with, shop, write_parts};
use crate::harness::{Failed, Place, audit, open_hub, options, outcome, recover, run, runtime};
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::seed;

/// The services that counters need, started once for a test.
struct Services {
    azurite: Azurite,
    postgres: Postgres,
}

impl Services {
    fn start() -> Self {
        Self {
            azurite: Azurite::start().expect("Azurite starts: scripts/test installs it, and sets SERIATIM_NODE"),
            postgres: Postgres::start(&PostgresOptions::default()).expect("scripts/test installs PostgreSQL"),
        }
    }

    fn url(&self, from: IdSource) -> String {
        match from {
            IdSource::Entity => String::new(),
            IdSource::Table => self.azurite.table("counters"),
            IdSource::Postgres | IdSource::Nextval => self.postgres.url(),
        }
    }

    fn counter(&self, from: IdSource) -> Box<dyn Counter> {
        let (url, env) = (self.url(from), |_: &str| None);
        match from {
            IdSource::Entity => panic!("entities are in the hub"),
            IdSource::Table => Box::new(TableCounter::new(&url, &env).expect("an address")),
            IdSource::Postgres => Box::new(RowCounter::new(&url, &env).expect("an address")),
            IdSource::Nextval => Box::new(NextvalCounter::new(&url, &env).expect("an address")),
        }
    }

    fn look(&self, from: IdSource, sequence: &str) -> Look {
        runtime().block_on(self.counter(from).look(sequence)).expect("it can be looked at")
    }

    /// The pipeline of the crash tests, with IDs from there, in sequences that begin with `prefix`.
    fn shop(&self, from: IdSource, prefix: &str) -> Pipeline {
        let mut pipeline = shop();
        // A counter outside knows its own next ID: a validated pipeline has not both.
        pipeline.tables[0].adopt = None;
        pipeline.ids = Ids { from, url: self.url(from), wait_seconds: 60 };
        if from != IdSource::Entity {
            for table in &mut pipeline.tables {
                let id = table.id.as_mut().expect("every table has IDs");
                id.sequence = Some(format!("{prefix}_{}", table.name));
            }
        }
        if from == IdSource::Nextval {
            let make = |table: &str| format!("CREATE SEQUENCE IF NOT EXISTS {prefix}_{table};");
            let sql: String = ["customers", "orders", "lines"].map(make).concat();
            runtime().block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&self.url(from), tokio_postgres::NoTls).await.expect("it runs");
                tokio::spawn(connection);
                client.batch_execute(&sql).await.expect("they are made");
            });
        }
        pipeline
    }
}

const OUTSIDE: [IdSource; 3] = [IdSource::Table, IdSource::Postgres, IdSource::Nextval];

/// What is published, without the manifest, which names the sequences.
fn published(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let mut tree = tree(&place.output());
    tree.retain(|path, _| !path.ends_with("manifest.json"));
    tree
}

/// A table: its name, its new rows, all its rows, and the ends of its new IDs.
type Counts = (String, u64, u64, Option<(i64, i64)>);

fn tables(report: &RunReport) -> Vec<Counts> {
    let table = |t: &seriatim_ingest::TableReport| {
        (t.table.clone(), t.rows, t.total_rows, t.ids.map(|ids| (ids.first, ids.last)))
    };
    report.tables.iter().map(table).collect()
}

#[test]
fn g2_every_counter_gives_the_ids_that_the_entities_give() {
    let seed = seed("g2_every_counter_gives_the_ids_that_the_entities_give");
    let services = Services::start();
    let of = |from: IdSource, options: &RunnerOptions| {
        let (place, pipeline) = (Place::new(), services.shop(from, "same"));
        let reports = [0..3, 3..5].map(|parts| {
            write_parts(place.path(), seed, parts);
            let planned = plan(&place.project(&pipeline), options).expect("it can be planned");
            assert_eq!(
                planned.shared.is_some(),
                from != IdSource::Entity,
                "a plan says whether others may come before"
            );
            let report = run(&place, &pipeline, options).expect("the run is done");
            let ids = |tables: &[seriatim_ingest::TableReport]| tables.iter().map(|t| t.ids).collect::<Vec<_>>();
            assert_eq!(ids(&planned.tables), ids(&report.tables), "{from:?}: a plan is exact if nobody comes before");
            tables(&report)
        });
        audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("{from:?}: {e}"));
        (published(&place), reports)
    };
    let (expected, reports) = of(IdSource::Entity, &options(2));
    for from in OUTSIDE {
        let (found, told) = of(from, &options(2));
        assert_same_tree(&expected, &found, &format!("{from:?}"));
        assert_eq!(told, reports, "{from:?}");
        for (first, second) in reports[0].iter().zip(&reports[1]) {
            let look = services.look(from, &format!("same_{}", first.0));
            let blocks = [first, second].iter().filter(|table| table.1 > 0).count();
            assert_eq!((look.next, look.open, look.ranges.len()), (second.2, None, blocks), "{from:?}");
        }
    }
    // One step after another, with one worker: the plain pipeline.
    let (found, told) = of(IdSource::Entity, &RunnerOptions { fan_out: false, ..options(1) });
    assert_same_tree(&expected, &found, &"one by one");
    assert_eq!(told, reports);
}

#[test]
fn g5_a_run_that_dies_around_its_block_ends_with_the_same_bytes() {
    let seed = seed("g5_a_run_that_dies_around_its_block_ends_with_the_same_bytes");
    let services = Services::start();
    let options = crash_options();
    let deaths = ["reserve-ids", "commit-ids"].into_iter().flat_map(|step| [Death::Before(step), Death::After(step)]);
    let deaths: Vec<Death> = deaths.chain([Death::After("publish")]).collect();
    let outcome = |from: IdSource, death: Death| {
        let (place, pipeline) = (Place::new(), services.shop(from, &format!("d{}", uuid::Uuid::new_v4().simple())));
        for (index, parts) in [0..3, 3..5].into_iter().enumerate() {
            write_parts(place.path(), seed, parts);
            let lives = if index == 1 { vec![death, Death::Never] } else { vec![Death::Never] };
            let mut died = 0;
            for life in lives {
                match live_with(&place, &pipeline, &options, life).0 {
                    Some(ended) => _ = ended.unwrap_or_else(|e| panic!("{from:?} {death:?}: {e:?}")),
                    None => died += 1,
                }
            }
            assert_eq!(died, u32::from(index == 1 && death != Death::Never), "{from:?}: it did not die at {death:?}");
        }
        audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("{from:?} {death:?}: {e}"));
        for table in &pipeline.tables {
            let sequence = table.id.as_ref().and_then(|id| id.sequence.clone());
            let look = sequence.map(|sequence| services.look(from, &sequence));
            assert!(look.is_none_or(|look| look.open.is_none()), "{from:?} {death:?}: a block is left open");
        }
        published(&place)
    };
    let expected = outcome(IdSource::Entity, Death::Never);
    for from in OUTSIDE {
        for death in &deaths {
            assert_same_tree(&expected, &outcome(from, *death), &format!("{from:?} died at {death:?}"));
        }
    }
}

/// The state folder is lost when a run is published and its blocks are still open in the counter: who recovers gives them
/// for good, and nobody waits for a run that no longer exists.
#[test]
fn g1_g2_blocks_that_are_open_when_the_state_is_lost_are_given_for_good() {
    let seed = seed("g1_g2_blocks_that_are_open_when_the_state_is_lost_are_given_for_good");
    let services = Services::start();
    let outcome = |from: IdSource, lost: bool| {
        let (place, pipeline) = (Place::new(), services.shop(from, "lost"));
        write_parts(place.path(), seed, 0..3);
        run(&place, &pipeline, &options(2)).expect("the first run is done");
        write_parts(place.path(), seed, 3..5);
        if lost {
            let (ended, _) = live_with(&place, &pipeline, &options(2), Death::Before("commit-ids"));
            assert!(ended.is_none(), "{from:?}: it dies before its blocks are committed: {ended:?}");
            // An existing sequence moves at once, and knows no block.
            let open = services.look(from, "lost_lines").open;
            assert_eq!(open.is_some(), from != IdSource::Nextval, "{from:?}: the block is open");
            fs::remove_dir_all(place.state()).expect("the state folder can be removed");
            recover(&place, &pipeline).unwrap_or_else(|e| panic!("{from:?}: {e:?}"));
        } else {
            run(&place, &pipeline, &options(2)).expect("the second run is done");
        }
        write_parts(place.path(), seed, 5..6);
        run(&place, &pipeline, &options(2)).unwrap_or_else(|e| panic!("{from:?}: {e:?}"));
        audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("{from:?}: {e}"));
        if lost {
            let look = services.look(from, "lost_lines");
            assert_eq!((look.open, look.ranges.len()), (None, 3), "{from:?}");
            // Also of tables that had nothing new in the run after.
            for table in ["customers", "orders"] {
                assert_eq!(services.look(from, &format!("lost_{table}")).open, None, "{from:?}: {table}");
            }
        }
        published(&place)
    };
    let expected = outcome(IdSource::Entity, false);
    for from in OUTSIDE {
        assert_same_tree(&expected, &outcome(from, true), &format!("{from:?}"));
    }
}

/// A run fails after it has reserved: its block is given back, and the next run takes the same IDs. Of a PostgreSQL
/// sequence they are gone, and the IDs go on behind the gap.
#[test]
fn g2_a_run_that_fails_gives_its_block_back() {
    let seed = seed("g2_a_run_that_fails_gives_its_block_back");
    let services = Services::start();
    for from in [IdSource::Entity, IdSource::Table, IdSource::Postgres, IdSource::Nextval] {
        let (place, pipeline) = (Place::new(), services.shop(from, "fails"));
        write_parts(place.path(), seed, 0..2);
        // Nothing can be staged where a file is in the way.
        let in_the_way = place.output().join("_seriatim/staging");
        fs::create_dir_all(place.output().join("_seriatim")).expect("a folder");
        fs::write(&in_the_way, "not a folder").expect("a file");
        let failed = run(&place, &pipeline, &options(2)).expect_err("it cannot write");
        assert!(failed.message.contains("staging"), "{failed:?}");
        if from != IdSource::Entity {
            let look = services.look(from, "fails_lines");
            assert_eq!((look.open, look.ranges.len()), (None, 0), "{from:?}: {failed:?}");
        }
        fs::remove_file(&in_the_way).expect("it is there");
        let report = run(&place, &pipeline, &options(2)).expect("nothing is in the way");
        let first = report.tables[2].ids.expect("there are lines").first;
        let rows = report.tables[2].rows as i64;
        assert_eq!(first, if from == IdSource::Nextval { 1 + rows } else { 1 }, "{from:?}");
        assert_eq!(report.tables[2].total_rows, report.tables[2].rows, "{from:?}: rows are counted, not places");
        audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("{from:?}: {e}"));
    }
}

/// Sixteen pipelines, each with a hub of its own, share one sequence at once.
#[test]
fn g1_sixteen_pipelines_that_share_a_sequence_never_give_an_id_twice() {
    let seed = seed("g1_sixteen_pipelines_that_share_a_sequence_never_give_an_id_twice");
    let services = Services::start();
    for from in OUTSIDE {
        let shared = services.shop(from, "all");
        let places: Vec<Place> = (0..16).map(|_| Place::new()).collect();
        let mut lines = 0;
        for round in 0..2 {
            for (index, place) in places.iter().enumerate() {
                let part = (round * 16 + index) as u64;
                write_parts(place.path(), seed, part..part + 1);
            }
            lines += together(&places, &shared);
        }
        let mut ids: Vec<Cell> = Vec::new();
        for place in &places {
            audit(place, &shared, 1).unwrap_or_else(|e| panic!("{from:?}: {e}"));
            ids.extend(read_table(&place.output().join("lines")).rows.into_iter().map(|row| row[0].clone()));
        }
        ids.sort();
        let all: Vec<Cell> = (1..=lines).map(|id| Cell::Int(id.into())).collect();
        assert_eq!(ids, all, "{from:?}: each ID once, and none left out");
    }
}

/// Runs the pipeline in all places at once; the lines that were written.
fn together(places: &[Place], pipeline: &Pipeline) -> u64 {
    runtime().block_on(async {
        let runs = places.iter().map(|place| async {
            let hub = open_hub(&place.state());
            let runner = Runner::start(hub.clone(), options(1), &place.state()).expect("a runner");
            let report = outcome(runner.run(&place.project(pipeline)).await).expect("every run ends well");
            runner.stop().await;
            hub.close().await.expect("the hub closes");
            report.tables[2].rows
        });
        futures::future::join_all(runs).await.into_iter().sum()
    })
}

/// Runs a pipeline that waits for a second only.
fn impatient(place: &Place, pipeline: &Pipeline) -> Result<RunReport, Failed> {
    let mut pipeline = pipeline.clone();
    pipeline.ids.wait_seconds = 1;
    run(place, &pipeline, &options(2))
}

#[test]
fn a_counter_that_is_held_or_away_is_a_clear_error_and_costs_no_id() {
    let seed = seed("a_counter_that_is_held_or_away_is_a_clear_error_and_costs_no_id");
    let services = Services::start();
    for from in [IdSource::Table, IdSource::Postgres] {
        let (place, pipeline) = (Place::new(), services.shop(from, "away"));
        write_parts(place.path(), seed, 0..2);
        let (counter, runtime) = (services.counter(from), runtime());
        let ask = Ask { sequence: "away_lines".to_owned(), run: "other-7~vm~1".to_owned(), count: 5, from: 0 };
        runtime.block_on(counter.reserve(&ask, Duration::ZERO)).expect("it is free");
        let failed = impatient(&place, &pipeline).expect_err("another run holds it");
        assert!(failed.message.contains("'away_lines' is held by run 'other-7~vm~1' since"), "{failed:?}");
        assert!(failed.help.contains("seriatim cancel"), "{failed:?}");
        assert_eq!(failed.exit_code, 1);

        let mut elsewhere = pipeline.clone();
        // Nobody listens on the port of discarded bytes.
        let port = match from {
            IdSource::Table => services.azurite.port(),
            _ => services.postgres.port(),
        };
        elsewhere.ids.url = pipeline.ids.url.replace(&port.to_string(), "9");
        let failed = impatient(&place, &elsewhere).expect_err("nobody is there");
        let named = if from == IdSource::Table { "the table 'counters'" } else { "127.0.0.1:9" };
        assert!(failed.message.contains(named), "{failed:?}");
        assert!(failed.help.contains("the next run of this pipeline does it"), "{failed:?}");
        assert!(!format!("{failed:?}").contains(services.postgres.password()), "{failed:?}");

        runtime.block_on(counter.release("away_lines", &ask.run)).expect("it is open");
        let report = impatient(&place, &pipeline).expect("nothing is in the way");
        assert_eq!(report.tables[2].ids.expect("there are lines").first, 1, "{from:?}");
        audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("{from:?}: {e}"));
    }
}

/// A pipeline that begins with its own entities may move to a counter that is new; from a shared one there is no way back,
/// because others may have taken IDs there.
#[test]
fn g1_a_pipeline_that_changes_its_counter_never_gives_an_id_twice() {
    let seed = seed("g1_a_pipeline_that_changes_its_counter_never_gives_an_id_twice");
    let services = Services::start();
    let place = Place::new();
    write_parts(place.path(), seed, 0..2);
    let before = run(&place, &services.shop(IdSource::Entity, ""), &options(2)).expect("the run is done");
    // A counter that is not as far: what it gives is given already.
    let used = services.shop(IdSource::Postgres, "used");
    let ask = Ask { sequence: "used_lines".to_owned(), run: "x".to_owned(), count: 1, from: 0 };
    let counter = services.counter(IdSource::Postgres);
    runtime().block_on(async {
        counter.reserve(&ask, Duration::ZERO).await.expect("it is free");
        counter.commit("used_lines", "x").await.expect("it is reserved");
    });
    write_parts(place.path(), seed, 2..4);
    let failed = run(&place, &used, &options(2)).expect_err("it is behind");
    assert!(failed.message.contains("stands at place 1"), "{failed:?}");

    let moved = services.shop(IdSource::Table, "moved");
    let after = run(&place, &moved, &options(2)).expect("the counter is new");
    let (last, first) = (before.tables[2].ids.expect("lines").last, after.tables[2].ids.expect("lines").first);
    assert_eq!(first, last + 1, "the counter goes on where the entities were");
    audit(&place, &moved, 2).expect("the audit passes");

    // The first table that has IDs of the new counter: one that had nothing new has taken none there.
    let took = |table: &&TableReport| table.ids.is_some_and(|ids| ids.count > 0);
    let first_moved = &after.tables.iter().find(took).expect("there are new things").table;
    write_parts(place.path(), seed, 4..5);
    for back in [services.shop(IdSource::Entity, ""), services.shop(IdSource::Postgres, "new")] {
        let failed = run(&place, &back, &options(2)).expect_err("others may have taken some");
        assert!(failed.message.contains(&format!("came from table moved_{first_moved}")), "{failed:?}");
        assert_eq!(failed.exit_code, 2);
    }
    run(&place, &moved, &options(2)).expect("it goes on as before");
}

/// An existing sequence counts in its own way, and a place of it must be the same ID on both sides.
#[test]
fn a_sequence_that_counts_otherwise_is_refused_with_what_to_write() {
    let services = Services::start();
    let (place, mut pipeline) = (Place::new(), services.shop(IdSource::Nextval, "tens"));
    write_parts(place.path(), 1, 0..1);
    pipeline.tables[2].id.as_mut().expect("it has IDs").step = 10;
    let failed = run(&place, &pipeline, &options(2)).expect_err("the sequence counts by ones");
    assert!(failed.message.contains("starts at 1 and counts by 1"), "{failed:?}");
    assert!(failed.help.contains("{column: lines_id, sequence: tens_lines, start: 1, step: 1}"), "{failed:?}");
    assert_eq!(failed.exit_code, 2);
}

/// Runs at once of one pipeline take turns by its critical section, and the counter is asked once for each.
#[test]
fn g6_runs_of_one_pipeline_at_once_take_blocks_in_turn() {
    let seed = seed("g6_runs_of_one_pipeline_at_once_take_blocks_in_turn");
    let services = Services::start();
    for from in [IdSource::Entity, IdSource::Table, IdSource::Postgres, IdSource::Nextval] {
        let (place, pipeline) = (Place::new(), services.shop(from, "turns"));
        write_parts(place.path(), seed, 0..8);
        let one_file = |part: u32| {
            let mut pipeline = pipeline.clone();
            pipeline.source.files = vec![format!("data/part-{part}.parquet")];
            pipeline
        };
        runtime().block_on(async {
            let hub = open_hub(&place.state());
            let runner = Arc::new(Runner::start(hub.clone(), options(2), &place.state()).expect("a runner"));
            let runs = (0..8).map(|part| {
                let (runner, project) = (runner.clone(), place.project(&one_file(part)));
                async move { outcome(runner.run(&project).await).expect("every run ends well") }
            });
            futures::future::join_all(runs).await;
            Arc::into_inner(runner).expect("all runs have ended").stop().await;
            hub.close().await.expect("the hub closes");
        });
        audit(&place, &pipeline, 2).unwrap_or_else(|e| panic!("{from:?}: {e}"));
        let ids: Vec<Cell> = read_table(&place.output().join("lines")).rows.iter().map(|row| row[0].clone()).collect();
        let all: Vec<Cell> = (1..=ids.len()).map(|id| Cell::Int(id as i128)).collect();
        assert_eq!(ids, all, "{from:?}");
    }
}
