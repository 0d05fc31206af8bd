//! What a span leaves of a table whose file it shares with other spans. An artifact: in memory, or spilled, or made
//! again by writing the span once more.

use std::fmt;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::sink::piece_properties;
use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::source::contain;

/// Names the rows that a span leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PieceOf {
    pub(crate) table: u32,
    pub(crate) span: u32,
    /// Of a table that is partitioned: which of its partitions, those of this bucket.
    pub(crate) bucket: Option<u32>,
    /// Whether it is of known keys: what records say of those in a bucket of published files; without a bucket, which
    /// buckets there are.
    pub(crate) is_known: bool,
}

impl fmt::Display for PieceOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_known { "known" } else { "piece" };
        write!(f, "{kind}-{}-{}", self.table, self.span)?;
        self.bucket.map_or(Ok(()), |bucket| write!(f, "-{bucket}"))
    }
}

/// Rows of one table, in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Piece(pub(super) Vec<RecordBatch>);

impl Artifact for Piece {
    fn bytes(&self) -> u64 {
        self.0.iter().map(|batch| batch.get_array_memory_size() as u64).sum()
    }

    /// As Parquet, which has a form for every type that a table can have. Batch by batch: what is written from them
    /// depends on where they end.
    fn encode(&self, out: &mut Encoder) {
        let write = |batch: &RecordBatch| -> parquet::errors::Result<Vec<u8>> {
            let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(piece_properties()))?;
            writer.write(batch)?;
            writer.into_inner()
        };
        out.u64(self.0.len() as u64);
        for batch in &self.0 {
            out.u64(batch.num_rows() as u64);
            // What could not be written is not read back, and made again.
            out.bytes(&write(batch).unwrap_or_default());
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let mut batches = Vec::new();
        for _ in 0..from.u64()? {
            let rows = from.u64()? as usize;
            let bytes = Bytes::from(from.bytes()?);
            let read = contain(|| {
                let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| e.to_string())?;
                let mut reader = builder.with_batch_size(rows.max(1)).build().map_err(|e| e.to_string())?;
                let batch = reader.next().ok_or("no rows")?.map_err(|e| e.to_string())?;
                if batch.num_rows() == rows { Ok(batch) } else { Err("rows are missing".to_owned()) }
            });
            batches.push(read.ok()?);
        }
        Some(Self(batches))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    /// Symptom: with little memory a run gave files with other bytes. Cause: rows came back from disk in batches of
    /// another size, and pages end where batches do.
    #[test]
    fn g5_rows_come_back_in_the_batches_in_which_they_left() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]));
        let batch = |rows: i64| {
            let ids = Int64Array::from_iter_values(0..rows);
            let names: StringArray = (0..rows).map(|n| (n % 3 > 0).then(|| format!("name {n}"))).collect();
            RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(names)]).unwrap()
        };
        let piece = Piece(vec![batch(1000), batch(1), batch(140_000)]);
        let mut out = Encoder::default();
        piece.encode(&mut out);
        let bytes = out.finish();
        assert_eq!(Piece::decode(&mut Decoder::new(&bytes).unwrap()), Some(piece));
    }
}
