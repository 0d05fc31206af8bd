//! What a footer declares, held against the file: places, sizes and counts that cannot be are refused before a byte of
//! data is read or room is made for it. Must never read the file.

use std::ops::Range;

use parquet::basic::Type as Physical;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use crate::error::BadFile;
use crate::pages::most_uncompressed;
use crate::resolve::MOST_RECORDS;

/// Rows that a byte of a file may stand for, at most: a column that is the same all over takes some hundred bytes for a
/// million rows.
const ROWS_PER_BYTE: u64 = 65_536;
/// Rows that need no such bytes.
const FREE_ROWS: u64 = 1 << 20;
/// Values that a byte of a repeated column may stand for, and those that need none.
const VALUES_PER_BYTE: u64 = 4096;
const FREE_VALUES: u64 = 16 << 20;
/// Fixed values up to this width are never too many; of wider ones a row takes room even where it is null.
const WIDTH: u64 = 64;
const WIDE_PER_BYTE: u64 = 1024;
const FREE_WIDE: u64 = 256 << 20;
/// What any codec makes of a byte, at the very most, in a whole column chunk.
const RATIO: u64 = 32_768;

/// Refuses a footer that declares what cannot be in a file of `bytes` bytes, whose footer begins at `end`. Gives the
/// number of rows.
pub(super) fn check_budget(name: &str, metadata: &ParquetMetaData, bytes: u64, end: u64) -> Result<u64, BadFile> {
    let whole = |text: String| BadFile::new(name, text);
    let declared = metadata.file_metadata().num_rows();
    let mut rows = 0_u64;
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let of_group = u64::try_from(group.num_rows())
            .map_err(|_| BadFile { row_group: Some(index as u64), ..whole("a negative number of rows".to_owned()) })?;
        rows = rows.saturating_add(of_group);
    }
    if u64::try_from(declared) != Ok(rows) {
        return Err(whole(format!("the footer declares {declared} rows, its row groups have {rows}")));
    }
    if rows > FREE_ROWS.saturating_add(bytes.saturating_mul(ROWS_PER_BYTE)) {
        return Err(whole(format!("it declares {rows} rows in {bytes} bytes")));
    }
    if rows > MOST_RECORDS {
        return Err(whole(format!("it has {rows} rows, more than one run can have ({MOST_RECORDS})")));
    }
    let mut places = Vec::new();
    for (index, group) in metadata.row_groups().iter().enumerate() {
        for (leaf, column) in group.columns().iter().enumerate() {
            let wrong = |text: String| whole(text).at(index, &column.column_path().string());
            let place = check_place(column, end).map_err(wrong)?;
            check_counts(group, column).map_err(wrong)?;
            check_sizes(group, column).map_err(wrong)?;
            if !place.is_empty() {
                places.push((place, index, leaf));
            }
        }
    }
    places.sort_unstable_by_key(|(place, group, leaf)| (place.start, *group, *leaf));
    for pair in places.windows(2) {
        let [(before, group, leaf), (place, index, column)] = pair else { continue };
        if place.start < before.end {
            let path = |group: usize, leaf: usize| metadata.row_group(group).column(leaf).column_path().string();
            let other = path(*group, *leaf);
            let text = format!("it lies on bytes that column '{other}' of row group {group} has as well");
            return Err(whole(text).at(*index, &path(*index, *column)));
        }
    }
    Ok(rows)
}

/// Where a column chunk is: between the file's first four bytes and its footer.
fn check_place(column: &ColumnChunkMetaData, end: u64) -> Result<Range<u64>, String> {
    if let Some(other) = column.file_path() {
        return Err(format!("its data is in another file, {}, which is not supported", shown(other)));
    }
    let data = column.data_page_offset();
    let first = column.dictionary_page_offset().unwrap_or(data);
    let length = column.compressed_size();
    let place = u64::try_from(first).ok().zip(u64::try_from(length).ok());
    let place = place.and_then(|(start, length)| Some(start..start.checked_add(length)?));
    let place = place.ok_or_else(|| format!("its place is byte {first}, its size {length}"))?;
    if place.is_empty() && column.num_values() == 0 {
        return Ok(place);
    }
    if place.start < 4 || place.end > end {
        return Err(format!("its place is bytes {} to {}; data lies in bytes 4 to {end}", place.start, place.end));
    }
    // Without values there may be a dictionary and no data page, whose place is 0 then.
    if column.num_values() == 0 {
        return Ok(place);
    }
    match u64::try_from(data) {
        Ok(data) if place.contains(&data) => Ok(place),
        _ => {
            Err(format!("its first data page is at byte {data}, outside of its bytes {} to {}", place.start, place.end))
        }
    }
}

/// A name in a file, as far as a message needs it.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

fn check_counts(group: &RowGroupMetaData, column: &ColumnChunkMetaData) -> Result<(), String> {
    let (rows, values) = (group.num_rows(), column.num_values());
    let repeated = column.column_descr().max_rep_level() > 0;
    if values < 0 || (!repeated && values != rows) || (repeated && values < rows) {
        return Err(format!("it declares {values} values in {rows} rows"));
    }
    let bytes = u64::try_from(column.compressed_size()).unwrap_or(0);
    if repeated && values as u64 > FREE_VALUES.saturating_add(bytes.saturating_mul(VALUES_PER_BYTE)) {
        return Err(format!("it declares {values} values in {bytes} bytes"));
    }
    Ok(())
}

fn check_sizes(group: &RowGroupMetaData, column: &ColumnChunkMetaData) -> Result<(), String> {
    let declared = u64::try_from(column.uncompressed_size())
        .map_err(|_| format!("its size before compression is {}", column.uncompressed_size()))?;
    // Footers count the headers of pages as well, which are not compressed.
    let bytes = u64::try_from(column.compressed_size()).unwrap_or(0);
    let most = most_uncompressed(column.compression(), bytes).max(bytes.saturating_mul(RATIO));
    if declared > most {
        return Err(format!("it declares that {bytes} bytes become {declared}"));
    }
    let descriptor = column.column_descr();
    if descriptor.physical_type() == Physical::FIXED_LEN_BYTE_ARRAY {
        let width = u64::try_from(descriptor.type_length()).unwrap_or(0);
        let room = width.saturating_mul(u64::try_from(group.num_rows()).unwrap_or(0));
        if width > WIDTH && room > FREE_WIDE.saturating_add(declared.saturating_mul(WIDE_PER_BYTE)) {
            return Err(format!("its values are {width} bytes each, in {bytes} bytes"));
        }
    }
    Ok(())
}
