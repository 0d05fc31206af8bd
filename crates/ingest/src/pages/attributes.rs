//! Column chunks made from picked values without going through arrays: values that were a dictionary's entries stay
//! indices into a dictionary of those that are used, all others are written plain. Statistics and page indices are there
//! as in any other column chunk. What is not of the target's own physical type is unsupported. It must never change a
//! value.

use std::borrow::Cow;
use std::ops::Range;

use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::ColumnIndexBuilder;
use parquet::schema::types::ColumnDescPtr;

use super::builder::{ColumnBuilder, Finished};
use super::chunk::{Fault, is_flat};
use super::codec::Compressor;
use super::hybrid;
use super::order::{Extremes, Order};
use super::picked::{Form, Picked};
use super::values::Values;

/// Rows of a page, at most: what a reader that looks for few rows has to decode at least.
const PAGE_ROWS: usize = 20_480;
/// Bytes of a page of long values, about, and of a dictionary, at most.
const PAGE_BYTES: usize = 1 << 20;

/// Some of the picked rows as a column chunk.
pub(crate) fn encoded_values(
    picked: &Picked,
    rows: Range<usize>,
    target: &ColumnDescPtr,
    codec: Compression,
) -> Result<Finished, Fault> {
    let (valid, range) = picked.part(rows.clone());
    let is_optional = target.max_def_level() == 1;
    if !is_flat(target) || (range.len() < rows.len() && !is_optional) {
        return Err(Fault::Unsupported);
    }
    let column = Column::new(&picked.form, range, target)?;
    let mut compressor = Compressor::new(codec)?;
    let mut builder = ColumnBuilder::new(target.clone(), codec);
    if let Column::Coded { entries, .. } = &column {
        let mut body = Vec::with_capacity(entries.plain_size(0..entries.len()));
        entries.write_plain(0..entries.len(), &mut body);
        let size = body.len();
        builder.dictionary(compressor.compress(body)?, size, entries.len() as u32, Encoding::PLAIN)?;
    }
    let mut index = ColumnIndexBuilder::new(target.physical_type());
    let (mut all, mut at, mut from) = (None, 0, 0);
    let step = column.page_rows(rows.len());
    while from < rows.len() {
        let to = (from + step).min(rows.len());
        let present = valid.map(|valid| &valid[from..to]);
        let count = present.map_or(to - from, |present| present.iter().filter(|&&valid| valid).count());
        let here = at..at + count;
        let mut body = Vec::with_capacity(column.size(here.clone()) + 64);
        if is_optional {
            let levels = present.map_or_else(|| hybrid::run_of_bits((to - from) as u32, true), hybrid::packed_bits);
            body.extend_from_slice(&(levels.len() as u32).to_le_bytes());
            body.extend_from_slice(&levels);
        }
        let encoding = column.write(here.clone(), &mut body);
        let size = body.len();
        builder.page(compressor.compress(body)?, size, (to - from) as u32, encoding)?;
        let extremes = column.extremes(here)?;
        let (least, most) = extremes.map(|extremes| column.values().bounds(extremes)).unwrap_or_default();
        index.append(extremes.is_none(), least, most, (to - from - count) as i64);
        all = column.values().both(column.order(), all, extremes);
        (at, from) = (at + count, to);
    }
    builder.index(index.build()?);
    let statistics = column.values().statistics(all, (rows.len() - at) as u64);
    builder.finish(rows.len() as u32, Some(statistics), column.unencoded())
}

/// The values of a column chunk, the way they are written.
enum Column<'a> {
    /// As indices into entries that ascend, so that indices compare as what they stand for.
    Coded { order: Order, entries: Values, codes: Vec<u32> },
    /// One after another.
    Plain { order: Order, values: Cow<'a, Values>, range: Range<usize> },
}

impl<'a> Column<'a> {
    fn new(form: &'a Form, range: Range<usize>, target: &ColumnDescPtr) -> Result<Self, Fault> {
        let (dictionary, indices) = match form {
            Form::Plain(values) => {
                return Ok(Self::Plain { order: Order::of(target, values)?, values: Cow::Borrowed(values), range });
            }
            Form::Coded { dictionary, indices } => (dictionary, &indices[range]),
        };
        let order = Order::of(target, dictionary)?;
        let mut used = vec![false; dictionary.len()];
        for &index in indices {
            used[index as usize] = true;
        }
        let mut used: Vec<u32> = (0..).zip(&used).filter_map(|(entry, &used)| used.then_some(entry)).collect();
        let mut entries = dictionary.none();
        // A dictionary that few rows share makes the column longer.
        if used.len() * 2 <= indices.len() {
            used.sort_unstable_by(|&left, &right| dictionary.compare(order, left as usize, right as usize));
            entries.pick(dictionary, used.iter().copied())?;
            if entries.plain_size(0..entries.len()) <= PAGE_BYTES {
                let mut codes = vec![0; dictionary.len()];
                for (code, &entry) in (0..).zip(&used) {
                    codes[entry as usize] = code;
                }
                let codes = indices.iter().map(|&index| codes[index as usize]).collect();
                return Ok(Self::Coded { order, entries, codes });
            }
        }
        let mut values = dictionary.none();
        values.pick(dictionary, indices.iter().copied())?;
        let range = 0..values.len();
        Ok(Self::Plain { order, values: Cow::Owned(values), range })
    }

    fn order(&self) -> Order {
        match self {
            Self::Coded { order, .. } | Self::Plain { order, .. } => *order,
        }
    }

    /// What extremes are places in.
    fn values(&self) -> &Values {
        match self {
            Self::Coded { entries, .. } => entries,
            Self::Plain { values, .. } => values,
        }
    }

    /// How many rows a page takes, of so many rows.
    fn page_rows(&self, rows: usize) -> usize {
        let Self::Plain { values, range, .. } = self else { return PAGE_ROWS };
        let pages = values.plain_size(range.clone()).div_ceil(PAGE_BYTES).max(1);
        rows.div_ceil(pages).clamp(1, PAGE_ROWS)
    }

    /// About how many bytes these values take.
    fn size(&self, here: Range<usize>) -> usize {
        match self {
            Self::Coded { entries, .. } => here.len() * width(entries) as usize / 8,
            Self::Plain { values, range, .. } => values.plain_size(range.start + here.start..range.start + here.end),
        }
    }

    fn write(&self, here: Range<usize>, out: &mut Vec<u8>) -> Encoding {
        match self {
            Self::Coded { entries, codes, .. } => {
                let width = width(entries);
                out.push(width as u8);
                hybrid::encode(&codes[here], width, out);
                Encoding::RLE_DICTIONARY
            }
            Self::Plain { values, range, .. } => {
                values.write_plain(range.start + here.start..range.start + here.end, out);
                Encoding::PLAIN
            }
        }
    }

    fn extremes(&self, here: Range<usize>) -> Result<Extremes, Fault> {
        match self {
            Self::Coded { order, entries, codes } => {
                let codes = &codes[here];
                let both = codes.iter().min().zip(codes.iter().max());
                let Some((&least, &most)) = both else { return Ok(None) };
                // Ends only: what is between them is between them.
                let least = entries.extremes(*order, least as usize..least as usize + 1)?;
                let most = entries.extremes(*order, most as usize..most as usize + 1)?;
                Ok(entries.both(*order, least, most))
            }
            Self::Plain { order, values, range } => {
                values.extremes(*order, range.start + here.start..range.start + here.end)
            }
        }
    }

    /// The bytes of all byte strings, as the footer tells them.
    fn unencoded(&self) -> Option<i64> {
        let Values::Bytes { offsets, .. } = self.values() else { return None };
        let length = |at: usize| i64::from(offsets[at + 1] - offsets[at]);
        Some(match self {
            Self::Coded { codes, .. } => codes.iter().map(|&code| length(code as usize)).sum(),
            Self::Plain { range, .. } => range.clone().map(length).sum(),
        })
    }
}

/// The bits of an index into these entries.
fn width(entries: &Values) -> u32 {
    let last = (entries.len() as u32).saturating_sub(1);
    (u32::BITS - last.leading_zeros()).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
        Int8Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
        new_null_array,
    };
    use arrow::compute::{concat, take};
    use arrow::datatypes::{Field, Schema};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
    use parquet::basic::ZstdLevel;
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;

    use super::super::chunk::ColumnBytes;
    use super::super::gather::gather;
    use super::*;

    /// One column as a file of the Arrow writer, with dictionary pages or without.
    fn file_of(array: &ArrayRef, dictionary: bool) -> Bytes {
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(dictionary)
            .set_data_page_row_count_limit(1000)
            .set_write_batch_size(500)
            .build();
        let batch = arrow::array::RecordBatch::try_from_iter_with_nullable([("c", array.clone(), true)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        Bytes::from(writer.into_inner().unwrap())
    }

    fn read(file: &Bytes) -> (Arc<ParquetMetaData>, ArrayRef) {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
        let metadata = builder.metadata().clone();
        let arrays: Vec<ArrayRef> = builder.build().unwrap().map(|batch| batch.unwrap().column(0).clone()).collect();
        (metadata, concat(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap())
    }

    /// What was picked of a file's only column.
    fn picked_from(file: &Bytes, rows: &[u32], array: &ArrayRef) -> Picked {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.parquet");
        std::fs::write(&path, file).unwrap();
        let (metadata, _) = read(file);
        let column = metadata.row_group(0).column(0);
        let count = metadata.row_group(0).num_rows() as u32;
        let bytes = ColumnBytes::read(&std::fs::File::open(path).unwrap(), column, count).unwrap();
        gather(&bytes, rows, array.data_type()).unwrap()
    }

    /// Writes rows of what was picked as a file of one row group.
    fn written(picked: &Picked, rows: Range<usize>, array: &ArrayRef, codec: Compression) -> Result<Bytes, Fault> {
        let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
        let descriptor = parquet::arrow::ArrowSchemaConverter::new().convert(&schema).unwrap();
        let (bytes, close) = encoded_values(picked, rows, &descriptor.column(0), codec)?;
        let mut writer = SerializedFileWriter::new(Vec::new(), descriptor.root_schema_ptr(), Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        group.append_column(&bytes, close).unwrap();
        group.close().unwrap();
        Ok(Bytes::from(writer.into_inner().unwrap()))
    }

    /// Arrays of every supported type, with few values and with many, with and without nulls.
    fn arrays() -> Vec<ArrayRef> {
        const ROWS: i64 = 5000;
        let mut all: Vec<ArrayRef> = Vec::new();
        for distinct in [1, 7, 800, ROWS] {
            for nulls in [0, 3, 50] {
                let numbers: Vec<Option<i64>> = (0..ROWS)
                    .map(|row| (nulls == 0 || row % nulls != 1).then_some(row.wrapping_mul(0x9e37_79b9) % distinct - 3))
                    .collect();
                let wide = |n: i64| n.wrapping_mul(0x0123_4567_89ab_cdef);
                let small = || numbers.iter().map(|n| n.map(|n| n as i32));
                let text = |n: i64| format!("{n} {}", "ü".repeat((n.unsigned_abs() % 9) as usize));
                let texts: Vec<Option<String>> = numbers.iter().map(|n| n.map(text)).collect();
                all.push(Arc::new(numbers.iter().map(|n| n.map(wide)).collect::<Int64Array>()));
                all.push(Arc::new(numbers.iter().map(|n| n.map(|n| wide(n) as u64)).collect::<UInt64Array>()));
                all.push(Arc::new(small().collect::<Int32Array>()));
                all.push(Arc::new(small().map(|n| n.map(|n| n as u32)).collect::<UInt32Array>()));
                all.push(Arc::new(small().map(|n| n.map(|n| n as i8)).collect::<Int8Array>()));
                all.push(Arc::new(small().collect::<Date32Array>()));
                all.push(Arc::new(numbers.iter().map(|n| n.map(wide)).collect::<TimestampMicrosecondArray>()));
                let money = |precision, scale| {
                    let values: Decimal128Array = numbers.iter().map(|n| n.map(i128::from)).collect();
                    values.with_precision_and_scale(precision, scale).unwrap()
                };
                all.push(Arc::new(money(9, 2)));
                all.push(Arc::new(money(18, 4)));
                all.push(Arc::new(small().map(|n| n.map(|n| n as f32 / 3.0)).collect::<Float32Array>()));
                all.push(Arc::new(small().map(|n| n.map(|n| f64::from(n) / 3.0)).collect::<Float64Array>()));
                all.push(Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>()));
                all.push(Arc::new(texts.iter().map(|t| t.as_ref().map(String::as_bytes)).collect::<BinaryArray>()));
                let fixed = numbers.iter().map(|n| n.map(|n| wide(n).to_be_bytes()));
                all.push(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 8).unwrap()));
            }
        }
        all.push(new_null_array(&arrow::datatypes::DataType::Utf8, 5000));
        all
    }

    #[test]
    fn readers_find_the_values_and_the_statistics_that_the_arrow_writer_would_have_written() {
        let rows: Vec<u32> = (0..5000).filter(|row| row % 5 != 2).collect();
        let part = 100..3100;
        let expected_rows = UInt32Array::from(rows[part.clone()].to_vec());
        let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
        let mut codecs =
            [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd, Compression::LZ4_RAW].into_iter().cycle();
        for array in arrays() {
            for dictionary in [true, false] {
                let what = format!("{}, dictionary {dictionary}", array.data_type());
                let picked = picked_from(&file_of(&array, dictionary), &rows, &array);
                let all = picked.clone().into_array(array.data_type()).unwrap();
                assert_eq!(&all, &take(&array, &UInt32Array::from(rows.clone()), None).unwrap(), "{what}");
                let expected = take(&array, &expected_rows, None).unwrap();
                let file = written(&picked, part.clone(), &array, codecs.next().unwrap()).unwrap();
                let (metadata, found) = read(&file);
                assert_eq!(&found, &expected, "{what}");
                let (usual, _) = read(&file_of(&expected, dictionary));
                let (ours, theirs) = (metadata.row_group(0).column(0), usual.row_group(0).column(0));
                let (ours_said, theirs_said) = (ours.statistics().unwrap(), theirs.statistics().unwrap());
                assert_eq!(ours_said.min_bytes_opt(), theirs_said.min_bytes_opt(), "{what}");
                assert_eq!(ours_said.max_bytes_opt(), theirs_said.max_bytes_opt(), "{what}");
                assert_eq!(ours_said.null_count_opt(), theirs_said.null_count_opt(), "{what}");
                assert_eq!(ours.unencoded_byte_array_data_bytes(), theirs.unencoded_byte_array_data_bytes(), "{what}");
                let index = &metadata.column_index().unwrap()[0][0];
                assert_eq!(index.num_pages(), 1, "{what}");
                assert_eq!(index.is_null_page(0), expected.null_count() == expected.len(), "{what}");
                assert_eq!(index.null_count(0), Some(expected.null_count() as i64), "{what}");
            }
        }
    }

    #[test]
    fn pages_hold_no_more_rows_and_bytes_than_they_should() {
        let long: ArrayRef = Arc::new(StringArray::from_iter_values((0..60_000).map(|n| format!("{n:060}"))));
        let short: ArrayRef = Arc::new(Int32Array::from_iter_values((0..60_000).map(|n| n % 100)));
        let rows: Vec<u32> = (0..60_000).collect();
        for (array, most) in [(long, 17_000), (short, PAGE_ROWS as i64)] {
            let picked = picked_from(&file_of(&array, true), &rows, &array);
            let (metadata, found) = read(&written(&picked, 0..60_000, &array, Compression::SNAPPY).unwrap());
            assert_eq!(&found, &array);
            let pages = metadata.offset_index().unwrap()[0][0].page_locations();
            let starts: Vec<i64> = pages.iter().map(|page| page.first_row_index).chain([60_000]).collect();
            assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= most), "{starts:?}");
        }
    }

    #[test]
    fn what_has_no_place_in_the_order_is_left_to_others() {
        let rows: Vec<u32> = (0..6).collect();
        let nan: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.0, 1.0, 1.0, 1.0]));
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(65); 6]));
        for array in [nan, long] {
            for dictionary in [true, false] {
                let picked = picked_from(&file_of(&array, dictionary), &rows, &array);
                assert_eq!(written(&picked, 0..6, &array, Compression::SNAPPY).unwrap_err(), Fault::Unsupported);
            }
        }
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, 0.0, -0.0, 0.0, 0.0]));
        let picked = picked_from(&file_of(&zeros, true), &rows, &zeros);
        let (metadata, _) = read(&written(&picked, 2..3, &zeros, Compression::SNAPPY).unwrap());
        let said = metadata.row_group(0).column(0).statistics().unwrap().clone();
        assert_eq!(said.min_bytes_opt().unwrap(), (-0.0_f64).to_le_bytes());
        assert_eq!(said.max_bytes_opt().unwrap(), 0.0_f64.to_le_bytes());
    }
}
