//! Text IDs: a row's number, and values of the row, as the text that the pipeline's format says. The text follows from the
//! row alone, so whoever has the row can say what it must be. This module must never see more than one row for a text.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use seriatim_pipeline::model::TextId;
use seriatim_pipeline::{Piece, TextFormat};

use crate::error::{IngestError, Result};

/// How the text IDs of a table are made.
#[derive(Debug, Clone)]
pub(crate) struct TextIds {
    format: TextFormat,
    columns: Vec<String>,
}

/// Whether values of this type can be in a text ID: they have one form that everybody would write.
pub(crate) fn is_text_type(data_type: &DataType) -> bool {
    use DataType::{
        Boolean, Date32, Decimal32, Decimal64, Decimal128, Decimal256, LargeUtf8, Time32, Time64, Timestamp, Utf8,
        Utf8View,
    };
    data_type.is_integer()
        || matches!(
            data_type,
            Boolean
                | Date32
                | Utf8
                | LargeUtf8
                | Utf8View
                | Decimal32(_, _)
                | Decimal64(_, _)
                | Decimal128(_, _)
                | Decimal256(_, _)
                | Time32(_)
                | Time64(_)
                | Timestamp(_, _)
        )
}

impl TextIds {
    /// As a validated pipeline, or a manifest, says it.
    pub(crate) fn new(text: &TextId) -> Result<Self> {
        let format = TextFormat::parse(&text.format).map_err(|error| {
            IngestError::pipeline(format!("the format of '{}' {}", text.column, error.message)).help(error.help)
        })?;
        let mut columns: Vec<String> = Vec::new();
        for column in format.columns() {
            if !columns.iter().any(|known| known == column) {
                columns.push(column.to_owned());
            }
        }
        Ok(Self { format, columns })
    }

    /// The columns whose values are in the texts, once each.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The texts of rows, from their numbers and from their values in [`Self::columns`]. A value that is null is no text.
    pub(crate) fn of(&self, numbers: &[i64], values: &[ArrayRef]) -> Result<StringArray> {
        let options = FormatOptions::new().with_null("");
        let values: Vec<Source<'_>> = values.iter().map(|v| Source::new(v, &options)).collect::<Result<_>>()?;
        let source = |name: &String| self.columns.iter().position(|column| column == name).map(|at| &values[at]);
        let mut text = String::new();
        let mut ends: Vec<i32> = Vec::with_capacity(numbers.len() + 1);
        ends.push(0);
        for (row, number) in numbers.iter().enumerate() {
            for piece in self.format.pieces() {
                match piece {
                    Piece::Literal(literal) => text.push_str(literal),
                    Piece::Number(width) => {
                        let width = usize::from(*width);
                        write!(text, "{number:0width$}").map_err(|e| IngestError::internal(e.to_string()))?;
                    }
                    Piece::Value(name) => {
                        let source =
                            source(name).ok_or_else(|| IngestError::internal("a value of a text is missing"))?;
                        source.write(row, &mut text)?;
                    }
                }
            }
            ends.push(i32::try_from(text.len()).map_err(|_| too_long())?);
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        StringArray::try_new(offsets, text.into_bytes().into(), None).map_err(|e| IngestError::internal(e.to_string()))
    }
}

fn too_long() -> IngestError {
    IngestError::input("the text IDs of one chunk are longer than 2 GiB together")
        .help("take the column with the long values out of the `format`")
}

/// Where values come from; text goes the short way.
enum Source<'a> {
    Text(&'a StringArray),
    Other(ArrayFormatter<'a>),
}

impl<'a> Source<'a> {
    fn new(values: &'a ArrayRef, options: &FormatOptions<'a>) -> Result<Self> {
        if let Some(text) = values.as_string_opt::<i32>() {
            return Ok(Self::Text(text));
        }
        let formatter = ArrayFormatter::try_new(values, options);
        formatter.map(Self::Other).map_err(|e| IngestError::internal(e.to_string()))
    }

    fn write(&self, row: usize, out: &mut String) -> Result<()> {
        match self {
            Self::Text(text) if text.is_null(row) => Ok(()),
            Self::Text(text) => {
                out.push_str(text.value(row));
                Ok(())
            }
            Self::Other(formatter) => {
                formatter.value(row).write(out).map_err(|e| IngestError::input(format!("a value of a text ID: {e}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Int16Array, TimestampMicrosecondArray, UInt64Array,
    };

    use super::*;

    fn texts(format: &str, numbers: &[i64], values: &[ArrayRef]) -> Vec<String> {
        let ids = TextIds::new(&TextId { column: "code".to_owned(), format: format.to_owned() }).unwrap();
        ids.of(numbers, values).unwrap().iter().map(|text| text.expect("never null").to_owned()).collect()
    }

    #[test]
    fn numbers_have_their_zeros_and_grow_beyond_them() {
        assert_eq!(texts("ORD-{:06}", &[1, 999_999, 1_000_000], &[]), ["ORD-000001", "ORD-999999", "ORD-1000000"]);
        assert_eq!(texts("{}", &[i64::MIN, -1], &[]), ["-9223372036854775808", "-1"]);
        assert_eq!(texts("{{{:04}}}", &[-1], &[]), ["{-001}"]);
    }

    #[test]
    fn values_are_written_as_everybody_would_write_them_and_nulls_are_empty() {
        let one = |array: ArrayRef| texts("{v}/{}", &[7, 8], &[array]);
        assert_eq!(one(Arc::new(Int16Array::from(vec![Some(-3), None]))), ["-3/7", "/8"]);
        assert_eq!(one(Arc::new(UInt64Array::from(vec![u64::MAX, 0]))), ["18446744073709551615/7", "0/8"]);
        assert_eq!(one(Arc::new(Date32Array::from(vec![Some(20_119), None]))), ["2025-01-31/7", "/8"]);
        assert_eq!(one(Arc::new(BooleanArray::from(vec![true, false]))), ["true/7", "false/8"]);
        assert_eq!(one(Arc::new(StringArray::from(vec![Some("ä"), None]))), ["ä/7", "/8"]);
        let decimal = Decimal128Array::from(vec![150, -5]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(one(Arc::new(decimal)), ["1.50/7", "-0.05/8"]);
        let times = TimestampMicrosecondArray::from(vec![1_738_319_400_000_000, 0]);
        assert_eq!(one(Arc::new(times)), ["2025-01-31T10:30:00/7", "1970-01-01T00:00:00/8"]);
    }
}
