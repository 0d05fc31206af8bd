//! Source files that somebody has damaged, or made to do harm: truncated anywhere, with any byte changed, with headers
//! and footers that lie. Whatever is in such a file, the outcome is one error that names it, or a file that is set
//! aside, or all rows that it declares: never a panic, an abort, a hang, or fewer rows than there are. The files are
//! made here, byte by byte, by a writer that can be told to lie.

mod aside;
mod corpus;
mod flips;
mod legacy;
mod lies;
mod made;

use std::time::{Duration, Instant};

use seriatim_ingest::{AsideFile, Paths, RunnerOptions, plan};
use seriatim_pipeline::model::{OnBadFile, Pipeline};

use crate::harness::{Place, keyed, options, pipeline};

/// Both ways of reading.
const WAYS: [Paths; 2] = [Paths::Pages, Paths::General];

/// No small file takes longer; most take a thousandth of it. A busy machine may.
const LIMIT: Duration = Duration::from_secs(5);

fn by(paths: Paths) -> RunnerOptions {
    RunnerOptions { paths, ..options(1) }
}

/// Things and lines of them: a key, a copied column, a reference.
fn things(on_bad_file: OnBadFile) -> Pipeline {
    let mut pipeline = pipeline(vec![keyed("things", &["key"], &[], &["n"]), keyed("lines", &[], &["things"], &["n"])]);
    pipeline.source.on_bad_file = on_bad_file;
    pipeline
}

/// What a plan makes of a file that may be bad: the records that it reads of it, or why it is set aside. Everything that
/// a run would read is read.
fn look(place: &Place, content: &[u8], paths: Paths) -> Result<u64, AsideFile> {
    look_with(place, content, paths, &things(OnBadFile::Quarantine)).unwrap_or_else(|e| panic!("{e}"))
}

/// The same; the outer error is one of the pipeline, which the file does not fit.
fn look_with(
    place: &Place,
    content: &[u8],
    paths: Paths,
    pipeline: &Pipeline,
) -> Result<Result<u64, AsideFile>, String> {
    std::fs::create_dir_all(place.path().join("data")).expect("a folder can be made");
    std::fs::write(place.path().join("data/b.parquet"), content).expect("the file can be written");
    let begun = Instant::now();
    let planned = plan(&place.project(pipeline), &by(paths));
    assert!(begun.elapsed() < LIMIT, "it took {:?}", begun.elapsed());
    let mut report = planned.map_err(|e| e.message)?;
    let files = report.files.iter().map(|file| file.rows).sum::<u64>();
    assert_eq!(files, report.records);
    Ok(match report.aside.pop() {
        None => Ok(report.records),
        Some(aside) => {
            assert_eq!(aside.what.file, "data/b.parquet");
            assert!(!aside.what.reason.is_empty());
            Err(aside)
        }
    })
}
