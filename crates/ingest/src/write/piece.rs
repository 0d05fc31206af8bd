//! What a span leaves of a table whose file it shares with other spans. An artifact: in memory, or spilled, or made
//! again by writing the span once more.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::sink::piece_properties;
use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::source::contain;

/// Rows of one table, in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Piece(pub(super) Vec<RecordBatch>);

impl Artifact for Piece {
    fn bytes(&self) -> u64 {
        self.0.iter().map(|batch| batch.get_array_memory_size() as u64).sum()
    }

    /// As Parquet, which has a form for every type that a table can have.
    fn encode(&self, out: &mut Encoder) {
        let write = || -> parquet::errors::Result<Vec<u8>> {
            let Some(first) = self.0.first() else { return Ok(Vec::new()) };
            let mut writer = ArrowWriter::try_new(Vec::new(), first.schema(), Some(piece_properties()))?;
            self.0.iter().try_for_each(|batch| writer.write(batch))?;
            writer.into_inner()
        };
        // What could not be written is not read back, and made again.
        out.bytes(&write().unwrap_or_default());
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let bytes = Bytes::from(from.bytes()?);
        let read = contain(|| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| e.to_string())?;
            let reader = builder.with_batch_size(1 << 16).build().map_err(|e| e.to_string())?;
            reader.collect::<Result<Vec<_>, _>>().map_err(|e: arrow::error::ArrowError| e.to_string())
        });
        read.ok().map(Self)
    }
}
