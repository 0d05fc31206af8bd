//! Reads what a run has published, as any reader would: the folders, the files by name, Parquet. Must never use the
//! ingest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::cells::{Cell, cells_of};

/// One output table: what a reader of its files in the order of their names sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) header: Vec<String>,
    /// Parquet's physical and logical type of each column.
    pub(crate) types: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
    pub(crate) files: usize,
    /// The folder of each row's file in the table's folder; empty for one that lies there itself.
    pub(crate) folders: Vec<String>,
}

/// Reads a table's folder; nothing there is an empty table.
pub(crate) fn read_table(folder: &Path) -> Read {
    let mut read = Read::default();
    for path in parquet_files(folder) {
        read_file(&path, &mut read);
        let partition = path.parent().and_then(|parent| parent.strip_prefix(folder).ok()).expect("below the folder");
        read.folders.resize(read.rows.len(), partition.to_string_lossy().into_owned());
    }
    read
}

/// Reads each file of a folder for itself: the files of different runs may have different columns.
pub(crate) fn read_files(folder: &Path) -> Vec<Read> {
    let read_one = |path: PathBuf| {
        let mut read = Read::default();
        read_file(&path, &mut read);
        read
    };
    parquet_files(folder).into_iter().map(read_one).collect()
}

/// The rows that a file declares.
pub(crate) fn rows_of(path: &Path) -> u64 {
    let file = File::open(path).expect("the file is there");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("an output file is finished Parquet");
    builder.metadata().file_metadata().num_rows() as u64
}

/// A table's files, in the order of their names, those of its partitions among them.
pub(crate) fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let (mut paths, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = open.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for path in entries.map(|entry| entry.expect("a folder can be read").path()) {
            let is_partition = path.is_dir() && path.to_string_lossy().contains('=');
            if is_partition {
                open.push(path);
            } else if !path.ends_with("_delta_log") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    for path in &paths {
        let is_ours = path.extension().is_some_and(|e| e == "parquet");
        assert!(is_ours, "a table's folder holds only its files: {}", path.display());
    }
    paths
}

fn read_file(path: &Path, read: &mut Read) {
    let file = File::open(path).expect("the file is there");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap_or_else(|e| panic!("an output file is finished Parquet: {}: {e}", path.display()));
    let columns = builder.parquet_schema().columns().to_vec();
    let types = columns
        .iter()
        .map(|c| format!("{:?} {:?} {}", c.physical_type(), c.logical_type_ref(), c.type_length()))
        .collect();
    let header: Vec<String> = builder.schema().fields().iter().map(|f| f.name().clone()).collect();
    if read.files > 0 {
        assert_eq!(read.header, header, "all files of a table have the same columns: {}", path.display());
        assert_eq!(read.types, types, "all files of a table have the same types: {}", path.display());
    }
    read.files += 1;
    read.header = header;
    read.types = types;
    let declared = builder.metadata().file_metadata().num_rows() as usize;
    let before = read.rows.len();
    for batch in builder.build().expect("a reader of the file") {
        append(&batch.unwrap_or_else(|e| panic!("{}: {e}", path.display())), &mut read.rows);
    }
    assert_eq!(read.rows.len() - before, declared, "rows declared in {}", path.display());
}

fn append(batch: &RecordBatch, rows: &mut Vec<Vec<Cell>>) {
    let mut columns: Vec<_> = batch.columns().iter().map(|array: &ArrayRef| cells_of(array).into_iter()).collect();
    for _ in 0..batch.num_rows() {
        rows.push(columns.iter_mut().map(|c| c.next().expect("equal columns")).collect());
    }
}

/// Every file below `folder`, by its relative path, with its content; folders end in a slash and have none. The facts
/// that are kept beside an output name runs and times, so they are left out.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = everything(folder);
    found.retain(|name, _| !name.starts_with(FACTS));
    found
}

/// Where the facts are.
pub(crate) const FACTS: &str = "_seriatim/state/";

/// The same with the facts.
pub(crate) fn everything(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry.expect("a folder can be read").path();
            let name = path.strip_prefix(folder).expect("below the folder").to_string_lossy().into_owned();
            if path.is_dir() {
                found.insert(format!("{name}/"), Vec::new());
                open.push(path);
            } else {
                found.insert(name, fs::read(&path).expect("the file is there"));
            }
        }
    }
    found
}

/// Panics with the first difference between two trees.
pub(crate) fn assert_same_tree(
    expected: &BTreeMap<String, Vec<u8>>,
    found: &BTreeMap<String, Vec<u8>>,
    what: &dyn std::fmt::Display,
) {
    let names = |tree: &BTreeMap<String, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(expected), names(found), "{what}: the same files");
    for (name, content) in expected {
        let other = &found[name];
        if content != other {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(3000)]).into_owned();
            let is_text = content.first() == Some(&b'{');
            let detail = if is_text { format!("\n{}\n{}", shown(content), shown(other)) } else { String::new() };
            panic!("{what}: {name} differs: {} bytes and {} bytes{detail}", content.len(), other.len());
        }
    }
}
