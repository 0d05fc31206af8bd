//! Plain values: what dictionaries and plain pages hold, and how they become Arrow arrays of the types that the general
//! reader gives. A type that is not handled here is not supported; it must never come out as something else.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, PrimitiveArray, StringArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use parquet::basic::Type as Physical;
use parquet::schema::types::ColumnDescriptor;

use super::chunk::{Fault, is_flat};

/// Values of one physical type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Byte strings: where each begins, and where the last ends, in `data`.
    Bytes {
        offsets: Vec<i32>,
        data: Vec<u8>,
    },
    /// Byte strings of one width.
    Fixed {
        width: usize,
        data: Vec<u8>,
    },
}

/// Whether the values of a column can be read here as arrays of `data_type`.
pub(crate) fn is_supported(descriptor: &ColumnDescriptor, data_type: &DataType) -> bool {
    use DataType::{
        Binary, Date32, Decimal128, FixedSizeBinary, Float32, Float64, Int8, Int16, Int32, Int64, Time32, Time64,
        Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8,
    };
    if !is_flat(descriptor) {
        return false;
    }
    match descriptor.physical_type() {
        Physical::INT32 => matches!(
            data_type,
            Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Date32 | Time32(TimeUnit::Millisecond) | Decimal128(_, _)
        ),
        Physical::INT64 => match data_type {
            Int64 | UInt64 | Decimal128(_, _) => true,
            Time64(unit) => matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond),
            Timestamp(unit, _) => !matches!(unit, TimeUnit::Second),
            _ => false,
        },
        Physical::FLOAT => *data_type == Float32,
        Physical::DOUBLE => *data_type == Float64,
        Physical::BYTE_ARRAY => matches!(data_type, Utf8 | Binary),
        Physical::FIXED_LEN_BYTE_ARRAY => matches!(data_type, FixedSizeBinary(_)),
        Physical::BOOLEAN | Physical::INT96 => false,
    }
}

impl Values {
    /// No values, of a column's physical type; `None` if that is not supported.
    pub(crate) fn new(descriptor: &ColumnDescriptor) -> Option<Self> {
        Some(match descriptor.physical_type() {
            Physical::INT32 => Self::I32(Vec::new()),
            Physical::INT64 => Self::I64(Vec::new()),
            Physical::FLOAT => Self::F32(Vec::new()),
            Physical::DOUBLE => Self::F64(Vec::new()),
            Physical::BYTE_ARRAY => Self::Bytes { offsets: vec![0], data: Vec::new() },
            Physical::FIXED_LEN_BYTE_ARRAY => Self::Fixed {
                width: usize::try_from(descriptor.type_length()).ok().filter(|&w| w > 0)?,
                data: Vec::new(),
            },
            Physical::BOOLEAN | Physical::INT96 => return None,
        })
    }

    /// No values, of the same type.
    pub(super) fn none(&self) -> Self {
        match self {
            Self::I32(_) => Self::I32(Vec::new()),
            Self::I64(_) => Self::I64(Vec::new()),
            Self::F32(_) => Self::F32(Vec::new()),
            Self::F64(_) => Self::F64(Vec::new()),
            Self::Bytes { .. } => Self::Bytes { offsets: vec![0], data: Vec::new() },
            Self::Fixed { width, .. } => Self::Fixed { width: *width, data: Vec::new() },
        }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::I32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Bytes { offsets, .. } => offsets.len() - 1,
            Self::Fixed { width, data } => data.len() / width,
        }
    }

    /// Appends the first `count` values of a plain page or dictionary.
    pub(crate) fn extend_plain(&mut self, bytes: &[u8], count: usize) -> Result<(), Fault> {
        fn words<const N: usize>(bytes: &[u8], count: usize) -> Result<&[[u8; N]], Fault> {
            bytes.as_chunks::<N>().0.get(..count).ok_or_else(short)
        }
        match self {
            Self::I32(values) => values.extend(words(bytes, count)?.iter().map(|b| i32::from_le_bytes(*b))),
            Self::I64(values) => values.extend(words(bytes, count)?.iter().map(|b| i64::from_le_bytes(*b))),
            Self::F32(values) => values.extend(words(bytes, count)?.iter().map(|b| f32::from_le_bytes(*b))),
            Self::F64(values) => values.extend(words(bytes, count)?.iter().map(|b| f64::from_le_bytes(*b))),
            Self::Bytes { offsets, data } => {
                // At most what is there, whatever was declared.
                let most = count.min(bytes.len() / 4);
                offsets.reserve(most);
                data.reserve(bytes.len() - most * 4);
                let mut rest = bytes;
                for _ in 0..count.min(bytes.len()) {
                    data.extend_from_slice(byte_string(&mut rest)?);
                    offsets.push(i32::try_from(data.len()).map_err(|_| Fault::Unsupported)?);
                }
                if count > bytes.len() {
                    return Err(short());
                }
            }
            Self::Fixed { width, data } => {
                let length = count.checked_mul(*width).ok_or_else(short)?;
                data.extend_from_slice(bytes.get(..length).ok_or_else(short)?);
            }
        }
        Ok(())
    }

    /// Appends those of the values of a plain page that `wanted` names, in ascending order.
    pub(super) fn pick_plain(&mut self, bytes: &[u8], wanted: &[u32]) -> Result<(), Fault> {
        fn word<const N: usize>(bytes: &[u8], index: u32) -> Result<[u8; N], Fault> {
            let at = index as usize * N;
            bytes.get(at..at + N).and_then(|b| b.first_chunk::<N>()).copied().ok_or_else(short)
        }
        match self {
            Self::I32(values) => {
                for &index in wanted {
                    values.push(i32::from_le_bytes(word(bytes, index)?));
                }
            }
            Self::I64(values) => {
                for &index in wanted {
                    values.push(i64::from_le_bytes(word(bytes, index)?));
                }
            }
            Self::F32(values) => {
                for &index in wanted {
                    values.push(f32::from_le_bytes(word(bytes, index)?));
                }
            }
            Self::F64(values) => {
                for &index in wanted {
                    values.push(f64::from_le_bytes(word(bytes, index)?));
                }
            }
            Self::Bytes { offsets, data } => {
                let (mut rest, mut at) = (bytes, 0);
                for &index in wanted {
                    while at < index {
                        byte_string(&mut rest)?;
                        at += 1;
                    }
                    data.extend_from_slice(byte_string(&mut rest)?);
                    offsets.push(i32::try_from(data.len()).map_err(|_| Fault::Unsupported)?);
                    at += 1;
                }
            }
            Self::Fixed { width, data } => {
                for &index in wanted {
                    let at = index as usize * *width;
                    data.extend_from_slice(bytes.get(at..at + *width).ok_or_else(short)?);
                }
            }
        }
        Ok(())
    }

    /// Appends values of a dictionary by their indices, which it must have.
    pub(super) fn pick(&mut self, dictionary: &Self, indices: impl Iterator<Item = u32>) -> Result<(), Fault> {
        match (self, dictionary) {
            (Self::I32(values), Self::I32(from)) => values.extend(indices.map(|i| from[i as usize])),
            (Self::I64(values), Self::I64(from)) => values.extend(indices.map(|i| from[i as usize])),
            (Self::F32(values), Self::F32(from)) => values.extend(indices.map(|i| from[i as usize])),
            (Self::F64(values), Self::F64(from)) => values.extend(indices.map(|i| from[i as usize])),
            (Self::Bytes { offsets, data }, Self::Bytes { offsets: from, data: source }) => {
                for i in indices {
                    let i = i as usize;
                    data.extend_from_slice(&source[from[i] as usize..from[i + 1] as usize]);
                    offsets.push(i32::try_from(data.len()).map_err(|_| Fault::Unsupported)?);
                }
            }
            (Self::Fixed { width, data }, Self::Fixed { data: source, .. }) => {
                for i in indices {
                    let at = i as usize * *width;
                    data.extend_from_slice(&source[at..at + *width]);
                }
            }
            _ => return Err(Fault::Unsupported),
        }
        Ok(())
    }

    /// One of the byte strings.
    pub(super) fn byte_string(&self, at: usize) -> &[u8] {
        match self {
            Self::Bytes { offsets, data } => &data[offsets[at] as usize..offsets[at + 1] as usize],
            Self::Fixed { width, data } => &data[at * width..(at + 1) * width],
            Self::I32(_) | Self::I64(_) | Self::F32(_) | Self::F64(_) => &[],
        }
    }

    /// Whether every byte string is text.
    pub(super) fn is_text(&self) -> bool {
        let Self::Bytes { offsets, data } = self else { return false };
        // Where one ends, a letter must.
        let ends = |&offset: &i32| data.get(offset as usize).is_none_or(|byte| byte & 0xc0 != 0x80);
        simdutf8::basic::from_utf8(data).is_ok() && offsets.iter().all(ends)
    }

    /// How many bytes some of the values take in a plain page.
    pub(super) fn plain_size(&self, range: Range<usize>) -> usize {
        match self {
            Self::I32(_) | Self::F32(_) => range.len() * 4,
            Self::I64(_) | Self::F64(_) => range.len() * 8,
            Self::Bytes { offsets, .. } => (offsets[range.end] - offsets[range.start]) as usize + range.len() * 4,
            Self::Fixed { width, .. } => range.len() * width,
        }
    }

    /// Appends some of the values as a plain page has them.
    pub(super) fn write_plain(&self, range: Range<usize>, out: &mut Vec<u8>) {
        match self {
            Self::I32(values) => out.extend(values[range].iter().flat_map(|value| value.to_le_bytes())),
            Self::I64(values) => out.extend(values[range].iter().flat_map(|value| value.to_le_bytes())),
            Self::F32(values) => out.extend(values[range].iter().flat_map(|value| value.to_le_bytes())),
            Self::F64(values) => out.extend(values[range].iter().flat_map(|value| value.to_le_bytes())),
            Self::Bytes { .. } => {
                for at in range {
                    let value = self.byte_string(at);
                    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                    out.extend_from_slice(value);
                }
            }
            Self::Fixed { width, data } => out.extend_from_slice(&data[range.start * width..range.end * width]),
        }
    }

    /// Spreads the values over the rows that have one; the other rows get whatever is cheap.
    pub(super) fn spread(&mut self, nulls: &NullBuffer) {
        fn over<T: Copy + Default>(values: &mut Vec<T>, nulls: &NullBuffer) {
            let mut next = values.iter().copied();
            *values =
                nulls.iter().map(|valid| if valid { next.next().unwrap_or_default() } else { T::default() }).collect();
        }
        match self {
            Self::I32(values) => over(values, nulls),
            Self::I64(values) => over(values, nulls),
            Self::F32(values) => over(values, nulls),
            Self::F64(values) => over(values, nulls),
            Self::Bytes { offsets, .. } => {
                let mut at = 0;
                let mut spread = Vec::with_capacity(nulls.len() + 1);
                spread.push(0);
                for valid in nulls {
                    at += usize::from(valid);
                    spread.push(offsets[at]);
                }
                *offsets = spread;
            }
            Self::Fixed { width, data } => {
                let mut rest = data.as_slice();
                let mut spread = Vec::with_capacity(nulls.len() * *width);
                for valid in nulls {
                    if valid {
                        let (value, after) = rest.split_at(*width);
                        spread.extend_from_slice(value);
                        rest = after;
                    } else {
                        spread.resize(spread.len() + *width, 0);
                    }
                }
                *data = spread;
            }
        }
    }

    /// The values as an array; where `nulls` says null there must be a value all the same.
    pub(crate) fn into_array(self, nulls: Option<NullBuffer>, data_type: &DataType) -> Result<ArrayRef, Fault> {
        fn primitive<T: ArrowPrimitiveType>(
            values: Vec<T::Native>,
            nulls: Option<NullBuffer>,
            data_type: &DataType,
        ) -> ArrayRef {
            Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls).with_data_type(data_type.clone()))
        }
        macro_rules! narrow {
            ($array:ident, $values:expr, $to:ty) => {
                Arc::new($array::new($values.into_iter().map(|v| v as $to).collect(), nulls)) as ArrayRef
            };
        }
        let wrong = |e: arrow::error::ArrowError| Fault::damaged(e.to_string());
        Ok(match (self, data_type) {
            (Self::I32(values), DataType::Int32) => Arc::new(Int32Array::new(values.into(), nulls)),
            (Self::I32(values), DataType::Date32) => Arc::new(Date32Array::new(values.into(), nulls)),
            (Self::I32(values), DataType::Int8) => narrow!(Int8Array, values, i8),
            (Self::I32(values), DataType::Int16) => narrow!(Int16Array, values, i16),
            (Self::I32(values), DataType::UInt8) => narrow!(UInt8Array, values, u8),
            (Self::I32(values), DataType::UInt16) => narrow!(UInt16Array, values, u16),
            (Self::I32(values), DataType::UInt32) => narrow!(UInt32Array, values, u32),
            (Self::I32(values), DataType::Time32(TimeUnit::Millisecond)) => {
                primitive::<Time32MillisecondType>(values, nulls, data_type)
            }
            (Self::I32(values), DataType::Decimal128(_, _)) => {
                decimal(values.into_iter().map(i128::from), nulls, data_type)
            }
            (Self::I64(values), DataType::Int64) => Arc::new(Int64Array::new(values.into(), nulls)),
            (Self::I64(values), DataType::UInt64) => narrow!(UInt64Array, values, u64),
            (Self::I64(values), DataType::Time64(TimeUnit::Microsecond)) => {
                primitive::<Time64MicrosecondType>(values, nulls, data_type)
            }
            (Self::I64(values), DataType::Time64(TimeUnit::Nanosecond)) => {
                primitive::<Time64NanosecondType>(values, nulls, data_type)
            }
            (Self::I64(values), DataType::Timestamp(TimeUnit::Millisecond, _)) => {
                primitive::<TimestampMillisecondType>(values, nulls, data_type)
            }
            (Self::I64(values), DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                primitive::<TimestampMicrosecondType>(values, nulls, data_type)
            }
            (Self::I64(values), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
                primitive::<TimestampNanosecondType>(values, nulls, data_type)
            }
            (Self::I64(values), DataType::Decimal128(_, _)) => {
                decimal(values.into_iter().map(i128::from), nulls, data_type)
            }
            (Self::F32(values), DataType::Float32) => Arc::new(Float32Array::new(values.into(), nulls)),
            (Self::F64(values), DataType::Float64) => Arc::new(Float64Array::new(values.into(), nulls)),
            (Self::Bytes { offsets, data }, DataType::Utf8) => {
                let offsets = OffsetBuffer::new(offsets.into());
                Arc::new(StringArray::try_new(offsets, Buffer::from_vec(data), nulls).map_err(wrong)?)
            }
            (Self::Bytes { offsets, data }, DataType::Binary) => {
                let offsets = OffsetBuffer::new(offsets.into());
                Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(data), nulls).map_err(wrong)?)
            }
            (Self::Fixed { width, data }, DataType::FixedSizeBinary(size)) if *size as usize == width => {
                Arc::new(FixedSizeBinaryArray::try_new(*size, Buffer::from_vec(data), nulls).map_err(wrong)?)
            }
            _ => return Err(Fault::Unsupported),
        })
    }
}

fn decimal(values: impl Iterator<Item = i128>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
    let array = Decimal128Array::new(values.collect(), nulls).with_data_type(data_type.clone());
    debug_assert_eq!(array.data_type(), data_type);
    Arc::new(array)
}

pub(super) fn short() -> Fault {
    Fault::damaged("a page ends before its values do")
}

/// Takes a byte string, with its length before it, off the front.
fn byte_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (value, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    *rest = after;
    Ok(value)
}
