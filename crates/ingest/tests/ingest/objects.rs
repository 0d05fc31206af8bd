//! Sources in object storage, against Azurite: the output is that of the same files on a disk, byte for byte; what is
//! read of an object is what is needed of it; an object that is not the planned one is never ingested.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::RowGroupMetaData;
use seriatim_ingest::{Paths, RunnerOptions, check, plan};
use seriatim_pipeline::model::Pipeline;
use seriatim_storage::Location;
use seriatim_testing::{Azurite, Fault, Faulty};

use crate::case::{Case, Sizes};
use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, run};
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::{Rng, scaled, seed};

/// A new container of the emulator that the tests of this process share.
pub(crate) fn container() -> Location {
    let azurite = Azurite::shared();
    at(&azurite.blob_address(), &azurite.container())
}

fn at(address: &str, container: &str) -> Location {
    Location::parse(&format!("http://{address}/devstoreaccount1/{container}"), Path::new("/")).unwrap()
}

/// Puts all files below a folder into a container, under the same paths.
pub(crate) fn upload(folder: &Path, container: &Location) {
    for entry in Location::parse("", folder).unwrap().list("data/").unwrap() {
        container.upload(&entry.name, &folder.join(&entry.name)).unwrap();
    }
}

/// The pipeline with its source in the container.
pub(crate) fn over(container: &Location, pipeline: &Pipeline) -> Pipeline {
    let mut pipeline = pipeline.clone();
    for pattern in &mut pipeline.source.files {
        *pattern = format!("{container}/{pattern}");
    }
    pipeline
}

/// What is published, but for what names source files: the ledger and the quarantine.
pub(crate) fn published(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let mut files = tree(&place.output());
    files.retain(|name, _| !name.starts_with("_seriatim") && !name.starts_with("_quarantine/"));
    files
}

/// How many bytes the columns have in all row groups of a file.
fn column_bytes(path: &Path, columns: &[&str]) -> u64 {
    let metadata = ArrowReaderMetadata::load(&File::open(path).unwrap(), ArrowReaderOptions::new()).unwrap();
    let leaves = metadata.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns);
    let wanted = leaves.filter(|leaf| columns.contains(&leaf.column_path().parts()[0].as_str()));
    wanted.map(|leaf| leaf.compressed_size() as u64).sum()
}

#[test]
fn g3_objects_give_the_bytes_that_files_give() {
    let seed = seed("g3_objects_give_the_bytes_that_files_give");
    for index in 0..scaled(6) {
        let mut rng = Rng::at(seed, &[u64::from(index)]);
        let sizes = Sizes {
            seed: rng.next(),
            tables: 3 + rng.below(3) as usize,
            columns: 4 + rng.below(5) as usize,
            runs: (0..2).map(|_| (0..3).map(|_| rng.below(1200) as usize).collect()).collect(),
            chunk_rows: rng.pick(&[50, 333, 131_072]),
            shards: 16,
            workers: 1 + rng.below(4) as usize,
            little_memory: rng.percent(30),
            paths: rng.pick(&[Paths::Auto, Paths::General, Paths::Pages]),
            partitions: rng.percent(30),
            transform: if rng.percent(50) { Some(rng.below(6) as usize) } else { None },
        };
        let case = Case::draw(&sizes);
        let memory = if sizes.little_memory { 1 } else { 1 << 30 };
        let options =
            RunnerOptions { chunk_rows: sizes.chunk_rows, paths: sizes.paths, memory, ..options(sizes.workers) };
        let (local, remote, container) = (Place::new(), Place::new(), container());
        let pipeline = over(&container, &case.pipeline);
        case.write_existing(remote.path());
        for index in 0..sizes.runs.len() {
            case.write_files(local.path(), index);
            upload(local.path(), &container);
            let expected = run(&local, &case.pipeline, &options);
            let found = run(&remote, &pipeline, &options);
            match (&expected, found) {
                (Ok(expected), Ok(found)) => {
                    let counts = |r: &seriatim_ingest::RunReport| (r.files, r.records, r.filtered, r.quarantined);
                    assert_eq!(counts(expected), counts(&found), "{sizes:?}");
                }
                (Err(_), Err(_)) => break,
                (expected, found) => panic!("{expected:?} and {found:?}: {sizes:?}"),
            }
            // Uploaded again, objects have other e-tags: what was ingested stays as it is.
            fs::rename(local.path().join("data"), local.path().join(format!("ingested-{index}"))).unwrap();
            fs::create_dir(local.path().join("data")).unwrap();
        }
        let expected = published(&local);
        assert_same_tree(&expected, &published(&remote), &format!("case {index}: {sizes:?}"));
        // A case may be one whose first run fails.
        if !expected.is_empty() {
            audit(&remote, &pipeline, 2).unwrap();
        }
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::new("key", Kind::I64),
        Column::new("name", Kind::Text),
        Column::new("amount", Kind::I64),
        Column::new("unused", Kind::I64),
    ]
}

fn record(n: u64) -> Vec<Cell> {
    let mixed = i128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
    vec![Cell::Int(mixed % 50_000), Cell::Text(format!("name {}", mixed % 50_000)), Cell::Int(mixed), Cell::Int(mixed)]
}

fn things_and_lines() -> Pipeline {
    pipeline(vec![keyed("things", &["key"], &[], &["name"]), keyed("lines", &[], &["things"], &["amount"])])
}

#[test]
fn of_an_object_is_read_what_is_needed_of_it() {
    let (place, container) = (Place::new(), container());
    for file in 0..2 {
        let records: Vec<_> = (file * 300_000..(file + 1) * 300_000).map(record).collect();
        let layout = Layout { row_group: 100_000, ..Layout::default() };
        write(&place.path().join(format!("data/{file}.parquet")), &columns(), &records, &layout);
    }
    upload(place.path(), &container);
    let files = [0, 1].map(|file| place.path().join(format!("data/{file}.parquet")));
    let most: u64 = files.iter().map(|file| column_bytes(file, &["key", "name", "amount"])).sum();
    let all: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    let before = container.traffic();
    for paths in [Paths::Auto, Paths::General] {
        let remote = Place::new();
        let options = RunnerOptions { paths, chunk_rows: 60_000, ..options(4) };
        let before = container.traffic();
        run(&remote, &over(&container, &things_and_lines()), &options).unwrap();
        let read = container.traffic().bytes_read - before.bytes_read;
        assert!(read * 100 <= most * 105, "{paths:?}: {read} bytes were read where {most} are needed");
        assert!(read * 10 < all * 9, "the test would not see it if all {all} bytes were read");
    }
    // A check reads footers alone, a plan the keys.
    let before_check = container.traffic();
    assert!(before_check.bytes_read > before.bytes_read);
    let project = place.project(&over(&container, &things_and_lines()));
    assert_eq!(check(&project).unwrap().records, 600_000);
    let checked = container.traffic().bytes_read;
    assert!(checked - before_check.bytes_read <= 2 * (64 << 10));
    let report = plan(&project, &options(2)).unwrap();
    assert_eq!((report.records, report.tables[0].rows), (600_000, 50_000));
    let keys: u64 = files.iter().map(|file| column_bytes(file, &["key"])).sum();
    assert!((container.traffic().bytes_read - checked) * 100 <= keys * 105 + 100 * 2 * (64 << 10));
    assert!(!place.state().exists(), "neither writes anything");
}

/// Three small files in a container, one of them in a folder.
fn small() -> (Place, Location) {
    let (place, container) = (Place::new(), container());
    for (n, name) in (0..).zip(["b.parquet", "a.parquet", "c/d.parquet"]) {
        let records: Vec<_> = (n * 100..n * 100 + 100).map(record).collect();
        write(&place.path().join("data").join(name), &columns(), &records, &Layout::default());
    }
    upload(place.path(), &container);
    (place, container)
}

fn run_over(place: &Place, patterns: &[String]) -> Result<u64, Failed> {
    let mut pipeline = things_and_lines();
    pipeline.source.files = patterns.to_vec();
    run(place, &pipeline, &options(2)).map(|report| report.files)
}

#[test]
fn g3_patterns_mean_for_objects_what_they_mean_for_files() {
    let (place, container) = small();
    for hidden in ["data/_skip/x.parquet", "data/.x.parquet", "data/c/_y.parquet"] {
        container.write(hidden, "not a Parquet file").unwrap();
    }
    container.write("data/readme.txt", "neither").unwrap();
    container.write("database/x.parquet", "another folder").unwrap();
    let pattern = |text: &str| format!("{container}/{text}");
    for (patterns, files) in [
        (vec!["data"], vec![1, 0, 2]),
        (vec!["data/"], vec![1, 0, 2]),
        (vec!["data/*.parquet"], vec![1, 0]),
        (vec!["data/**/*.parquet"], vec![1, 0, 2]),
        (vec!["data/?/d.parquet", "data/[ab].parquet"], vec![1, 0, 2]),
        (vec!["data/b.parquet", "data/./a.parquet", "data//a.parquet"], vec![1, 0]),
        (vec!["data/*.parquet", "data/nothing-*.parquet"], vec![1, 0]),
    ] {
        let patterns: Vec<String> = patterns.into_iter().map(pattern).collect();
        let fresh = Place::new();
        run_over(&fresh, &patterns).unwrap();
        assert_eq!(order(&fresh), files, "{patterns:?}");
    }
    // Local files and objects together: their names alone say which comes first.
    run_over(&place, &[pattern("data/a.parquet"), "data/b.parquet".to_owned()]).unwrap();
    assert_eq!(order(&place), [0, 1]);
}

/// Which of the small files were ingested, in order.
fn order(place: &Place) -> Vec<u64> {
    let rows = read_table(&place.output().join("lines")).rows;
    let first = |n: u64| record(n * 100)[2].clone();
    let starts = rows.iter().filter_map(|row| (0..3).find(|n| row.last() == Some(&first(*n))));
    starts.collect()
}

#[test]
fn g5_an_object_that_was_ingested_is_not_ingested_again() {
    let (place, container) = small();
    let patterns = [format!("{container}/data")];
    assert_eq!(run_over(&place, &patterns).map_err(|e| e.message), Ok(3));
    assert_eq!(run_over(&place, &patterns).map_err(|e| e.message), Ok(0));
    // Another object under an old name.
    let records: Vec<_> = (0..100).map(record).collect();
    write(&place.path().join("data/a.parquet"), &columns(), &records, &Layout::default());
    container.upload("data/a.parquet", &place.path().join("data/a.parquet")).unwrap();
    let failed = run_over(&place, &patterns).unwrap_err();
    assert!(failed.message.contains("/data/a.parquet has changed since it was ingested"), "{failed:?}");
    assert_eq!(read_table(&place.output().join("lines")).rows.len(), 300);
}

/// Runs over an object that is exchanged, or removed, when its columns are asked for.
fn exchanged_while_read(exchange: impl Fn(&Location) + Send + Sync + 'static) -> (Failed, Place) {
    let (place, direct) = small();
    let azurite = Azurite::shared();
    let name = direct.to_string().rsplit('/').next().unwrap().to_owned();
    let done = std::sync::Once::new();
    let connection = Faulty::before(&azurite.blob_address(), move |request| {
        // Footers are asked for as one range that ends with the file; the plan is made then.
        let asks =
            request.method == "GET" && request.header("range").is_some_and(|range| range.starts_with("bytes=4-"));
        if asks {
            done.call_once(|| exchange(&direct));
        }
        Fault::None
    });
    let failed = run_over(&place, &[format!("{}/data", at(connection.address(), &name))]).unwrap_err();
    (failed, place)
}

#[test]
fn g5_an_object_that_changes_or_goes_after_it_was_planned_is_an_error_that_names_it() {
    let (failed, place) = exchanged_while_read(|container| {
        for name in ["data/a.parquet", "data/b.parquet", "data/c/d.parquet"] {
            let bytes = container.read(name).unwrap().unwrap().0;
            // The same bytes even: that they are the same is not known.
            container.write(name, bytes).unwrap();
        }
    });
    assert!(failed.message.contains(".parquet has changed since this run was planned"), "{failed:?}");
    assert_eq!(tree(&place.output()).keys().filter(|name| name.ends_with(".parquet")).count(), 0);
    let (failed, _) = exchanged_while_read(|container| {
        container.delete_all(&["data/a.parquet", "data/b.parquet", "data/c/d.parquet"]).unwrap();
    });
    assert!(failed.message.contains(".parquet was planned and is gone"), "{failed:?}");
}

#[test]
fn what_is_wrong_with_an_address_is_told() {
    let (place, container) = small();
    let azurite = Azurite::shared();
    let of = |pattern: String| run_over(&place, &[pattern]).unwrap_err();
    let failed = of(format!("{container}/data/never.parquet"));
    assert!(failed.message.contains("there is no object") && failed.message.contains("never.parquet"), "{failed:?}");
    let failed = of(format!("{container}/never-*.parquet"));
    assert!(failed.message.contains("no file matches"), "{failed:?}");
    let failed = of(format!("{}/nowhere/*.parquet", azurite.blob_endpoint()));
    assert!(failed.message.contains("ContainerNotFound"), "{failed:?}");
    let failed = of("ftp://somewhere/x".to_owned());
    assert!(failed.message.contains("ftp://somewhere/x") && failed.exit_code == 2, "{failed:?}");
    let failed = of("https://a.blob.core.windows.net/c/x?sv=1&sig=canary".to_owned());
    assert!(!format!("{failed:?}").contains("canary") && failed.help.contains("AZURE_STORAGE_SAS_TOKEN"), "{failed:?}");
    assert!(!tree(&place.state()).values().any(|bytes| bytes.windows(6).any(|w| w == b"canary")), "it is kept nowhere");
    container.write("data/x.parquet", "this is no Parquet").unwrap();
    let failed = of(format!("{container}/data"));
    assert!(failed.message.contains("/data/x.parquet is not a Parquet file"), "{failed:?}");
    container.write("data/x.parquet", "").unwrap();
    let failed = of(format!("{container}/data"));
    assert!(failed.message.contains("/data/x.parquet is empty"), "{failed:?}");
    let whole = fs::read(place.path().join("data/a.parquet")).unwrap();
    container.write("data/x.parquet", whole[..whole.len() - 10].to_vec()).unwrap();
    let failed = of(format!("{container}/data"));
    assert!(failed.message.contains("/data/x.parquet is a damaged or truncated"), "{failed:?}");
}
