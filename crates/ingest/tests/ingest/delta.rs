//! Delta Lake: a table's log names what is published and nothing else, each run is one version of a table at most, and
//! whatever dies, the log ends as it would have. (That readers of Delta understand it is `tests/test_delta.py`'s.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use seriatim_pipeline::model::{Format, Pipeline};

use crate::cells::Cell;
use crate::crash::{Death, crash_options, disturbed_with, live_with, shop, undisturbed_with, write_parts};
use crate::harness::{Place, audit, partition_name, run};
use crate::outputs::{assert_same_tree, parquet_files, rows_of, tree};
use crate::rng::{Rng, scaled, seed};

/// The steps around which the logs are written.
const STEPS: [&str; 4] = ["publish", "committed", "follow-manifest", "clean-up"];

fn delta_shop() -> Pipeline {
    let mut pipeline = shop();
    pipeline.output.format = Format::Delta;
    pipeline
}

/// The commits of a table's log, action by action.
fn commits(table: &Path) -> Vec<Vec<Value>> {
    let Ok(entries) = fs::read_dir(table.join("_delta_log")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    paths.sort();
    let read = |(version, path): (usize, &std::path::PathBuf)| {
        assert!(path.ends_with(format!("{version:020}.json")), "{} is no version {version}", path.display());
        let text = fs::read_to_string(path).expect("a commit can be read");
        text.lines().map(|line| serde_json::from_str(line).expect("an action is JSON")).collect()
    };
    paths.iter().enumerate().map(read).collect()
}

/// Compares the logs of all tables with the files that are there.
pub(crate) fn compare_logs(place: &Place, pipeline: &Pipeline) -> Result<(), String> {
    for table in &pipeline.tables {
        let folder = place.output().join(&table.name);
        let (mut runs, mut named) = (Vec::new(), BTreeMap::new());
        for (version, actions) in commits(&folder).into_iter().enumerate() {
            let of = |name: &'static str| actions.iter().filter_map(move |action| action.get(name));
            let is_first = of("metaData").count() == 1 && of("protocol").count() == 1;
            if is_first != (version == 0) {
                return Err(format!("{}: version {version} makes the table: {is_first}", table.name));
            }
            runs.extend(of("txn").map(|txn| txn["version"].as_u64().expect("a number")));
            if runs.len() != version + 1 {
                return Err(format!("{}: version {version} is not of one run", table.name));
            }
            for remove in of("remove") {
                let path = remove["path"].as_str().expect("a path").replace("%25", "%");
                if named.remove(&path).is_none() {
                    return Err(format!("{}: {path} is removed and was not there", table.name));
                }
            }
            for add in of("add") {
                let stats: Value = serde_json::from_str(add["stats"].as_str().expect("a text")).expect("JSON");
                // Paths are those of URLs, and the names of folders have a `%` of their own.
                let path = add["path"].as_str().expect("a path").replace("%25", "%");
                let value = |column: &String| match &add["partitionValues"][column] {
                    Value::Null => partition_name(column, &Cell::Null),
                    value => partition_name(column, &Cell::Text(value.as_str().expect("a text").to_owned())),
                };
                let folder: Vec<String> = table.partition_by.iter().map(value).collect();
                let named_so =
                    [folder, vec![path.rsplit('/').next().unwrap_or_default().to_owned()]].concat().join("/");
                if path != named_so {
                    return Err(format!("{}: {path} has the partition of {named_so}", table.name));
                }
                if named.insert(path.clone(), stats["numRecords"].as_u64()).is_some() {
                    return Err(format!("{}: {path} is there twice", table.name));
                }
            }
        }
        if runs.is_empty() || !runs.is_sorted() || runs.iter().collect::<BTreeSet<_>>().len() != runs.len() {
            return Err(format!("{}: versions of the runs {runs:?}", table.name));
        }
        let there: BTreeMap<String, Option<u64>> = parquet_files(&folder)
            .iter()
            .map(|path| {
                let name = path.strip_prefix(&folder).expect("below the folder");
                (name.to_string_lossy().into_owned(), Some(rows_of(path)))
            })
            .collect();
        if named != there {
            return Err(format!("{}: the log has {named:?}, the folder {there:?}", table.name));
        }
    }
    Ok(())
}

#[test]
fn g5_g8_a_run_that_dies_around_its_logs_ends_with_the_same_versions() {
    let seed = seed("g5_g8_a_run_that_dies_around_its_logs_ends_with_the_same_versions");
    let (options, pipeline) = (crash_options(), delta_shop());
    let (expected, steps) = undisturbed_with(&pipeline, seed, &options);
    let mut cases = Vec::new();
    for (in_run, steps) in steps.into_iter().enumerate() {
        let around = STEPS.iter().flat_map(|step| [Death::Before(step), Death::After(step)]);
        cases.extend(around.map(|death| (in_run, vec![death])));
        let mut rng = Rng::at(seed, &[in_run as u64]);
        for _ in 0..scaled(6) {
            let death = |rng: &mut Rng| Death::At { step: 1 + rng.below(steps), committed: rng.percent(50) };
            cases.push((in_run, vec![death(&mut rng), Death::After("follow-manifest")]));
        }
    }
    for (in_run, deaths) in cases {
        let found = disturbed_with(&pipeline, seed, &options, in_run, &deaths);
        assert_same_tree(&expected, &found, &format!("died in run {in_run} at {deaths:?}"));
    }
}

/// A process dies when its run is published and its logs are not; its state folder is lost, too.
#[test]
fn g8_what_a_lost_run_has_not_committed_the_next_run_does() {
    let (options, pipeline) = (crash_options(), delta_shop());
    let place = Place::new();
    write_parts(place.path(), 1, 0..3);
    let (ended, _) = live_with(&place, &pipeline, &options, Death::Before("follow-manifest"));
    assert!(ended.is_none(), "it dies");
    assert!(commits(&place.output().join("orders")).is_empty(), "nothing is committed yet");
    fs::remove_dir_all(place.state()).expect("the state folder can be removed");
    crate::harness::recover(&place, &pipeline).expect("it is recovered");
    write_parts(place.path(), 1, 3..5);
    run(&place, &pipeline, &options).expect("the next run is done");
    assert_eq!(commits(&place.output().join("orders")).len(), 2, "both runs, each a version");
    compare_logs(&place, &pipeline).expect("the logs are right");
    audit(&place, &pipeline, 2).expect("the audit passes");
}

#[test]
fn a_table_without_rows_is_one_that_readers_can_open() {
    let mut pipeline = delta_shop();
    pipeline.transform = Some("SELECT * FROM source WHERE amount < 0".to_owned());
    let place = Place::new();
    write_parts(place.path(), 1, 0..1);
    run(&place, &pipeline, &crash_options()).expect("the run is done");
    compare_logs(&place, &pipeline).expect("the logs are right");
    audit(&place, &pipeline, 2).expect("the audit passes");
    let before = tree(&place.output());
    run(&place, &pipeline, &crash_options()).expect("nothing to do");
    assert_same_tree(&before, &tree(&place.output()), &"nothing to do");
}
