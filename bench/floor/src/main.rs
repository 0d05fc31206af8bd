//! What an ingest cannot do without, and nothing else: `floor MODE THREADS COMPRESSION COLUMNS OUT FILE...`.
//!
//! `decode` reads the columns of all files and drops them. `encode` also writes them, a file for each row group. Row
//! groups are shared out to threads; nothing is interned, numbered, checked, synced or journalled. A program that reads
//! and writes through Arrow arrays cannot be faster than this; one that copies pages can.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use arrow_array::RecordBatchReader;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;

/// Rows that are decoded at once.
const BATCH: usize = 8192;

struct Job {
    encode: bool,
    threads: usize,
    compression: Compression,
    columns: Vec<String>,
    output: PathBuf,
    files: Vec<PathBuf>,
}

/// One row group, to be read by one thread.
struct Task {
    file: usize,
    row_group: usize,
}

fn main() -> Result<(), Failure> {
    let job = job()?;
    if job.encode {
        fs::create_dir_all(&job.output)?;
    }
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let footers = job
        .files
        .iter()
        .map(|path| Ok(ArrowReaderMetadata::load(&File::open(path)?, options.clone())?))
        .collect::<Result<Vec<_>, Failure>>()?;
    let tasks: Vec<Task> = footers
        .iter()
        .enumerate()
        .flat_map(|(file, footer)| {
            (0..footer.metadata().num_row_groups()).map(move |row_group| Task { file, row_group })
        })
        .collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || -> Result<(), Failure> {
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                run(&job, &footers[task.file], task)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..job.threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })
}

fn job() -> Result<Job, Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name: &str| arguments.next().ok_or_else(|| format!("{name} is missing"));
    let mode = argument("MODE")?;
    let encode = match mode.as_str() {
        "decode" => false,
        "encode" => true,
        _ => return Err(format!("MODE is decode or encode, not {mode}").into()),
    };
    let threads = argument("THREADS")?.parse()?;
    let compression = match argument("COMPRESSION")?.as_str() {
        "none" => Compression::UNCOMPRESSED,
        "snappy" => Compression::SNAPPY,
        "zstd(1)" => Compression::ZSTD(ZstdLevel::try_new(1)?),
        other => return Err(format!("COMPRESSION is none, snappy or zstd(1), not {other}").into()),
    };
    let columns = argument("COLUMNS")?.split(',').map(str::to_owned).collect();
    let output = argument("OUT")?.into();
    Ok(Job { encode, threads, compression, columns, output, files: arguments.map(PathBuf::from).collect() })
}

fn run(job: &Job, footer: &ArrowReaderMetadata, task: &Task) -> Result<(), Failure> {
    let builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(File::open(&job.files[task.file])?, footer.clone());
    let mask = ProjectionMask::columns(builder.parquet_schema(), job.columns.iter().map(String::as_str));
    let reader = builder.with_projection(mask).with_row_groups(vec![task.row_group]).with_batch_size(BATCH).build()?;
    if job.encode {
        let path = job.output.join(format!("part-{:03}-{:05}.parquet", task.file, task.row_group));
        return encode(reader, &path, job.compression);
    }
    for batch in reader {
        std::hint::black_box(batch?);
    }
    Ok(())
}

fn encode(reader: ParquetRecordBatchReader, path: &Path, compression: Compression) -> Result<(), Failure> {
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, reader.schema(), Some(properties))?;
    for batch in reader {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(())
}
