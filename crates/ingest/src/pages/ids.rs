//! Columns of IDs as column chunks: `DELTA_BINARY_PACKED` of Parquet's `Encodings.md`. IDs that follow each other take
//! next to nothing, any others just the bits that they differ in; what is packed so tightly is not compressed on top.
//! Written here because every record gets several of these numbers. Must never change one.

use arrow::array::{Array, Int64Array};
use parquet::basic::{Compression, Encoding};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::builder::{ColumnBuilder, Finished};
use super::chunk::Fault;
use super::hybrid::{packed_bits, run_of_bits};

/// Rows of a page, at most: what a reader that looks for few rows has to decode at least.
const PAGE_ROWS: usize = 20_480;
/// Differences of a block, which share their least one, and of the parts of a block, which share a width.
const BLOCK: usize = 128;
const PART: usize = 32;

/// IDs of consecutive rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IdValues {
    /// Those that rows have.
    pub(crate) ids: Vec<i64>,
    /// Which rows have one; `None`: all.
    pub(crate) present: Option<Vec<bool>>,
}

impl IdValues {
    fn rows(&self) -> usize {
        self.present.as_ref().map_or(self.ids.len(), Vec::len)
    }
}

impl From<&Int64Array> for IdValues {
    fn from(ids: &Int64Array) -> Self {
        match ids.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => Self { ids: ids.values().to_vec(), present: None },
            Some(nulls) => Self { ids: ids.iter().flatten().collect(), present: Some(nulls.iter().collect()) },
        }
    }
}

/// A column chunk of IDs.
pub(crate) fn encoded_ids(values: &IdValues, target: &ColumnDescPtr) -> Result<Finished, Fault> {
    let is_optional = target.max_def_level() == 1;
    let rows = values.rows();
    if values.present.is_some() && !is_optional {
        return Err(Fault::Unsupported);
    }
    let mut builder = ColumnBuilder::new(target.clone(), Compression::UNCOMPRESSED);
    let mut rest = values.ids.as_slice();
    for from in (0..rows).step_by(PAGE_ROWS) {
        let to = (from + PAGE_ROWS).min(rows);
        let present = values.present.as_ref().map(|present| &present[from..to]);
        let count = present.map_or(to - from, |present| present.iter().filter(|&&valid| valid).count());
        let (here, later) = rest.split_at_checked(count).ok_or(Fault::Unsupported)?;
        rest = later;
        let mut body = Vec::with_capacity(here.len() * 4 + 64);
        if is_optional {
            let levels = present.map_or_else(|| run_of_bits((to - from) as u32, true), packed_bits);
            body.extend_from_slice(&(levels.len() as u32).to_le_bytes());
            body.extend_from_slice(&levels);
        }
        pack_differences(here, &mut body);
        let size = body.len();
        builder.page(body.into(), size, (to - from) as u32, Encoding::DELTA_BINARY_PACKED)?;
    }
    let (least, most) = (values.ids.iter().min().copied(), values.ids.iter().max().copied());
    let statistics = Statistics::new(least, most, None, Some((rows - values.ids.len()) as u64), false);
    builder.finish(rows as u32, Some(statistics), None)
}

/// Appends the values of one page.
fn pack_differences(values: &[i64], out: &mut Vec<u8>) {
    varint(BLOCK as u64, out);
    varint((BLOCK / PART) as u64, out);
    varint(values.len() as u64, out);
    let Some(&first) = values.first() else {
        varint(0, out);
        return;
    };
    zigzag(first, out);
    let mut before = first;
    for block in values[1..].chunks(BLOCK) {
        let mut differences = [0_i64; BLOCK];
        for (difference, &value) in differences.iter_mut().zip(block) {
            *difference = value.wrapping_sub(before);
            before = value;
        }
        let differences = &mut differences[..block.len()];
        let least = differences.iter().min().copied().unwrap_or_default();
        zigzag(least, out);
        let widths = out.len();
        out.extend_from_slice(&[0; BLOCK / PART]);
        for (index, part) in differences.chunks(PART).enumerate() {
            let mut above = [0_u64; PART];
            for (above, difference) in above.iter_mut().zip(part) {
                *above = difference.wrapping_sub(least) as u64;
            }
            let width = u64::BITS - above.iter().fold(0, |all, above| all | above).leading_zeros();
            out[widths + index] = width as u8;
            pack(&above, width, out);
        }
    }
}

/// Appends numbers of `width` bits each.
fn pack(values: &[u64; PART], width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut word, mut bits) = (0_u64, 0);
    for &value in values {
        word |= value << bits;
        bits += width;
        if bits >= u64::BITS {
            out.extend_from_slice(&word.to_le_bytes());
            bits -= u64::BITS;
            // What did not fit; nothing if the word ended with the value.
            word = value.checked_shr(width - bits).unwrap_or_default();
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..bits as usize / 8]);
}

fn zigzag(value: i64, out: &mut Vec<u8>) {
    varint(((value << 1) ^ (value >> 63)) as u64, out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use bytes::Bytes;
    use parquet::arrow::ArrowSchemaConverter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
    use parquet::file::writer::SerializedFileWriter;

    use super::*;

    /// What a reader finds in a file whose only column has these IDs.
    fn read_back(values: &IdValues, is_optional: bool) -> Int64Array {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, is_optional)]);
        let descriptor = ArrowSchemaConverter::new().convert(&schema).unwrap();
        let mut writer = SerializedFileWriter::new(Vec::new(), descriptor.root_schema_ptr(), Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let (bytes, close) = encoded_ids(values, &descriptor.column(0)).unwrap();
        group.append_column(&bytes, close).unwrap();
        group.close().unwrap();
        let file = Bytes::from(writer.into_inner().unwrap());
        let batches: Vec<_> =
            ParquetRecordBatchReader::try_new(file, 1 << 20).unwrap().map(|batch| batch.unwrap()).collect();
        if batches.is_empty() {
            Int64Array::from(Vec::<i64>::new())
        } else {
            batches[0].column(0).as_primitive::<Int64Type>().clone()
        }
    }

    #[test]
    fn readers_find_the_ids_that_were_written() {
        let ends = [i64::MIN, i64::MAX, 0, -1, 1, i64::MAX, i64::MIN];
        let some = |count: i64, step: i64| (0..count).map(|n| n.wrapping_mul(step)).collect::<Vec<_>>();
        for ids in [
            some(0, 1),
            some(1, 1),
            some(129, 1),
            some(20_481, 1),
            some(70_000, -3),
            some(5_000, 0x1234_5678_9abc),
            some(3_000, 0x7fff_ffff_ffff_ff1d),
            some(33, 0),
            ends.to_vec(),
            ends.repeat(100),
        ] {
            for is_optional in [false, true] {
                let values = IdValues { ids: ids.clone(), present: None };
                assert_eq!(read_back(&values, is_optional), Int64Array::from(ids.clone()));
            }
        }
    }

    #[test]
    fn rows_without_an_id_are_null() {
        for modulus in [2, 3, 1000, 50_000] {
            let present: Vec<bool> = (0..45_000).map(|row| row % modulus == modulus - 1).collect();
            let ids: Vec<i64> = (0..).zip(&present).filter_map(|(row, &valid)| valid.then_some(row * 7)).collect();
            let expected: Int64Array = (0..).zip(&present).map(|(row, &valid)| valid.then_some(row * 7)).collect();
            let found = read_back(&IdValues { ids, present: Some(present) }, true);
            assert_eq!(found.null_count(), expected.null_count());
            assert_eq!(found, expected);
        }
    }
}
