//! Writes the demo's Parquet files: one for each month, several at once, always the same bytes for the same
//! parameters. A file appears under its name only when it is whole. Must never write outside the folder it is given.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::ToSpan;
use jiff::civil::Date;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use super::columns::{Rows, schema};
use super::orders::Month;

/// The month of the first file.
const FIRST_MONTH: Date = Date::constant(2025, 1, 1);
/// The records of a row group: two groups in each file of the default demo, so that chunks and files differ.
const ROW_GROUP: usize = 131_072;
/// How the name of a file ends that is not whole yet.
pub(crate) const UNFINISHED: &str = "unfinished";
/// The records that are turned into columns at a time.
const BATCH: usize = 16_384;

/// What the demo's data is made from; equal parameters give equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parameters {
    /// Records, in all files together; the later file comes on top.
    pub(crate) rows: u64,
    /// Files; one for each month from January 2025 on.
    pub(crate) files: u32,
    /// The seed of all draws.
    pub(crate) seed: u64,
}

impl Parameters {
    /// The names of the files, in order.
    pub(crate) fn file_names(self) -> Vec<String> {
        (0..self.files).map(file_name).collect()
    }

    /// The name of the file for the month after: a fortieth of the records, to be ingested by a later run.
    pub(crate) fn later_name(self) -> String {
        file_name(self.files)
    }

    /// The records of file `index`: the same number in each, the remainder in the first ones.
    fn rows_of(self, index: u32) -> u64 {
        if index == self.files {
            return (self.rows / 40).max(1);
        }
        let files = u64::from(self.files);
        self.rows / files + u64::from(u64::from(index) < self.rows % files)
    }
}

fn file_name(index: u32) -> String {
    let month = month(index);
    format!("sales-{:04}-{:02}.parquet", month.year(), month.month())
}

fn month(index: u32) -> Date {
    // The command line ends at a thousand files, long before the calendar does.
    FIRST_MONTH.saturating_add(i64::from(index).months())
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {file}: {cause}")]
pub(crate) struct WriteError {
    file: String,
    cause: Cause,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Writes the files into `folder` and the later one into `later`, on `workers` threads, and returns the bytes of each
/// in order, the later one last.
pub(crate) fn write(
    folder: &Path,
    later: &Path,
    parameters: Parameters,
    workers: usize,
) -> Result<Vec<u64>, WriteError> {
    let catalog = Catalog::new(parameters.seed, parameters.rows);
    let next = AtomicU32::new(0);
    let written = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, parameters.files as usize + 1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index > parameters.files {
                        break;
                    }
                    let folder = if index == parameters.files { later } else { folder };
                    let outcome = write_file(folder, &catalog, parameters, index);
                    if outcome.is_err() {
                        // The others finish the file they are at and begin no other.
                        next.store(parameters.files + 1, Ordering::Relaxed);
                    }
                    written.lock().unwrap_or_else(PoisonError::into_inner).insert(index, outcome);
                }
            });
        }
    });
    written.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

fn write_file(folder: &Path, catalog: &Catalog, parameters: Parameters, index: u32) -> Result<u64, WriteError> {
    let path = folder.join(file_name(index));
    let rows = parameters.rows_of(index);
    let orders = Month::new(catalog, parameters.seed, u64::from(index) + 1, month(index), rows);
    write_month(&path, orders).map_err(|cause| WriteError { file: path.display().to_string(), cause })
}

fn write_month(path: &Path, mut orders: Month<'_>) -> Result<u64, Cause> {
    let unfinished = path.with_extension(UNFINISHED);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    let file = BufWriter::new(File::create(&unfinished)?);
    let mut writer = ArrowWriter::try_new(file, schema(), Some(properties))?;
    let mut rows = Rows::new();
    while orders.next_order(|order, line| rows.push(order, line)) {
        if rows.len() >= BATCH {
            writer.write(&rows.take()?)?;
        }
    }
    writer.write(&rows.take()?)?;
    writer.close()?;
    fs::rename(&unfinished, path)?;
    Ok(fs::metadata(path)?.len())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs::{self, File};

    use arrow::array::{Array, AsArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::{Parameters, write};

    #[test]
    fn bytes_do_not_depend_on_the_number_of_threads() {
        let parameters = Parameters { rows: 20_003, files: 4, seed: 5 };
        let (one, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = write(one.path(), one.path(), parameters, 1).unwrap();
        assert_eq!(write(many.path(), many.path(), parameters, 3).unwrap(), bytes);
        let names: Vec<String> = parameters.file_names().into_iter().chain([parameters.later_name()]).collect();
        assert_eq!(names.last().unwrap(), "sales-2025-05.parquet");
        for (name, bytes) in names.iter().zip(bytes) {
            let read = |folder: &tempfile::TempDir| fs::read(folder.path().join(name)).unwrap();
            assert!(read(&one) == read(&many), "{name}");
            assert_eq!(read(&one).len() as u64, bytes, "{name}");
        }
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 5, "nothing else is left");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let parameters = Parameters { rows: 100, files: 2, seed: 5 };
        let error = write(folder.path(), &folder.path().join("absent"), parameters, 2).unwrap_err();
        assert!(error.to_string().contains("absent/sales-2025-03.parquet: No such file"), "{error}");
    }

    #[test]
    fn records_agree_on_what_they_share() {
        let parameters = Parameters { rows: 10_000, files: 3, seed: 9 };
        let (folder, later) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(folder.path(), later.path(), parameters, 2).unwrap();
        let (mut rows, mut guests) = (0, 0);
        let mut names: HashMap<String, String> = HashMap::new();
        let mut orders: HashMap<String, Option<String>> = HashMap::new();
        for name in parameters.file_names() {
            let file = File::open(folder.path().join(name)).unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
                let (order, email, person) = (column("order_no"), column("customer_email"), column("customer_name"));
                rows += batch.num_rows();
                for row in 0..batch.num_rows() {
                    let mail = (!email.is_null(row)).then(|| email.value(row).to_owned());
                    guests += usize::from(mail.is_none());
                    let known = orders.entry(order.value(row).to_owned()).or_insert_with(|| mail.clone());
                    assert_eq!(*known, mail, "one order, one customer");
                    if let Some(mail) = mail {
                        assert_eq!(
                            names.entry(mail).or_insert_with(|| person.value(row).to_owned()),
                            person.value(row)
                        );
                    }
                }
            }
        }
        assert_eq!(rows, 10_000);
        assert!(guests > 100 && guests < 1_000, "{guests}");
        assert!(names.len() > 300, "{}", names.len());
        assert!(orders.len() > 3_000, "{}", orders.len());
    }
}
