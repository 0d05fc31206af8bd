//! Files that others have made, if `SERIATIM_TEST_CORPUS` names a folder of them: the public collections of files that
//! readers stumble over (apache/parquet-testing, apache/arrow-testing) are not part of this repository. Each is read
//! with all of its columns, both ways, and with its first column as a key; what became of it is printed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use seriatim_ingest::{Paths, RunStatus, check, plan};
use seriatim_pipeline::model::{OnBadFile, Pipeline};

use super::{LIMIT, WAYS, by};
use crate::harness::{Place, audit, keyed, pipeline, run};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The columns of a file, and what is said if it has none that can be read.
fn columns(place: &Place) -> Result<Vec<String>, String> {
    let mut bare = pipeline(vec![keyed("lines", &[], &[], &[])]);
    bare.source.on_bad_file = OnBadFile::Fail;
    let report = check(&place.project(&bare)).map_err(|e| e.message)?;
    Ok(report.unused_columns)
}

fn read(place: &Place, pipeline: &Pipeline, paths: Paths) -> Result<u64, String> {
    let begun = Instant::now();
    let report = plan(&place.project(pipeline), &by(paths)).map_err(|e| format!("error: {}", e.message))?;
    assert!(begun.elapsed() < LIMIT, "it took {:?}", begun.elapsed());
    report.aside.first().map_or(Ok(report.records), |aside| Err(format!("aside: {}", aside.what)))
}

#[test]
fn files_that_others_have_made_are_read_whole_or_refused() {
    let Some(folder) = std::env::var_os("SERIATIM_TEST_CORPUS") else { return };
    let mut all = Vec::new();
    files(Path::new(&folder), &mut all);
    all.sort();
    let (mut whole, mut refused) = (0, 0);
    for path in all {
        let name = path.strip_prefix(&folder).expect("below").display().to_string();
        let place = Place::new();
        std::fs::create_dir_all(place.path().join("data")).expect("a folder can be made");
        std::fs::copy(&path, place.path().join("data/b.parquet")).expect("a file can be copied");
        let said = columns(&place).and_then(|columns| {
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            let mut everything = pipeline(vec![keyed("lines", &[], &[], &columns)]);
            everything.source.on_bad_file = OnBadFile::Quarantine;
            let found = WAYS.map(|paths| read(&place, &everything, paths));
            assert_eq!(found[0], found[1], "{name}");
            let rows = found[0].clone()?;
            for &key in columns.iter().take(8) {
                let mut things =
                    pipeline(vec![keyed("things", &[key], &[], &[]), keyed("lines", &[], &["things"], &[])]);
                things.source.on_bad_file = OnBadFile::Quarantine;
                // What cannot be a key is an error of the pipeline.
                for paths in WAYS {
                    if let Ok(as_key) = read(&place, &things, paths) {
                        assert_eq!(as_key, rows, "{name}, key {key}");
                    }
                }
            }
            match run(&place, &everything, &by(WAYS[0])) {
                Ok(report) => {
                    assert_eq!((report.status, report.records), (RunStatus::Done, rows), "{name}");
                    assert_eq!(report.tables[0].rows, rows, "{name}");
                    audit(&place, &everything, 2).unwrap_or_else(|e| panic!("{name}: {e}"));
                    Ok(rows)
                }
                Err(failed) => Err(format!("run: {}", failed.message)),
            }
        });
        match said {
            Ok(rows) => {
                whole += 1;
                println!("{name}: {rows} rows");
            }
            Err(text) => {
                refused += 1;
                println!("{name}: {text}");
            }
        }
    }
    println!("{whole} files were read whole, {refused} refused");
}
