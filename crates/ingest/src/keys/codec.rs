//! Between key columns and canonical keys, both ways. A key of one column that fits into 64 bits is that number
//! (signed types sign-extended, floats by bits with one zero and one NaN); one string or binary column is its bytes;
//! everything else is each column in turn, fixed-width values in little-endian bytes, the others with their length
//! before them, so that no two keys look the same. A key with a null in any column has no canonical form; but what makes a
//! group may be null, and then each column has a byte before it that says whether there is a value.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, FixedSizeBinaryBuilder, LargeBinaryBuilder,
    LargeStringBuilder, PrimitiveArray, StringBuilder,
};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type, i256,
};

use super::interner::{KeyRef, Keys};
use crate::error::{IngestError, Result};

/// The canonical form of the keys of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyCodec {
    types: Vec<DataType>,
    fixed: bool,
    /// Whether a null is a value like any other.
    nulls: bool,
}

/// The keys of the rows of a batch.
#[derive(Debug)]
pub(crate) enum RowKeys {
    /// Keys that fit into 64 bits; where `nulls` says null the value has no meaning.
    Fixed(Vec<u64>, Option<NullBuffer>),
    /// All others.
    Bytes {
        /// The end of each row's key in `data`.
        ends: Vec<u64>,
        /// The bytes of all rows' keys.
        data: Vec<u8>,
        /// Which rows have a null in their key.
        nulls: Option<NullBuffer>,
    },
    /// One UTF-8 column, as it is.
    Text(arrow::array::StringArray),
}

impl RowKeys {
    /// How many rows have a null in their key.
    pub(crate) fn nulls(&self) -> usize {
        match self {
            Self::Fixed(_, nulls) | Self::Bytes { nulls, .. } => nulls.as_ref().map_or(0, NullBuffer::null_count),
            Self::Text(array) => array.null_count(),
        }
    }

    /// The key of a row; `None` if it is null.
    pub(crate) fn get(&self, row: usize) -> Option<KeyRef<'_>> {
        match self {
            Self::Fixed(keys, nulls) => {
                nulls.as_ref().is_none_or(|n| n.is_valid(row)).then(|| KeyRef::Fixed(keys[row]))
            }
            Self::Bytes { ends, data, nulls } => nulls.as_ref().is_none_or(|n| n.is_valid(row)).then(|| {
                let from = if row == 0 { 0 } else { ends[row - 1] as usize };
                KeyRef::Bytes(&data[from..ends[row] as usize])
            }),
            Self::Text(array) => array.is_valid(row).then(|| KeyRef::Bytes(array.value(row).as_bytes())),
        }
    }
}

/// Whether values of this type fit into 64 bits.
fn is_fixed(data_type: &DataType) -> bool {
    use DataType::{
        Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Float16, Float32, Float64, Int8, Int16, Int32,
        Int64, Time32, Time64, Timestamp, UInt8, UInt16, UInt32, UInt64,
    };
    match data_type {
        Decimal128(precision, _) => *precision <= 18,
        Boolean
        | Int8
        | Int16
        | Int32
        | Int64
        | UInt8
        | UInt16
        | UInt32
        | UInt64
        | Float16
        | Float32
        | Float64
        | Date32
        | Date64
        | Time32(_)
        | Time64(_)
        | Timestamp(_, _)
        | Decimal32(_, _)
        | Decimal64(_, _) => true,
        _ => false,
    }
}

/// Whether values of this type can be part of a key, or be compared by `on_conflict: error`.
pub(crate) fn is_key_type(data_type: &DataType) -> bool {
    use DataType::{Binary, Decimal128, Decimal256, FixedSizeBinary, LargeBinary, LargeUtf8, Utf8};
    is_fixed(data_type)
        || matches!(
            data_type,
            Utf8 | LargeUtf8 | Binary | LargeBinary | FixedSizeBinary(_) | Decimal128(_, _) | Decimal256(_, _)
        )
}

impl KeyCodec {
    /// The codec of keys with columns of these types.
    pub(crate) fn new(types: Vec<DataType>) -> Result<Self> {
        if let Some(other) = types.iter().find(|t| !is_key_type(t)) {
            return Err(IngestError::pipeline(format!("a column of type {other} cannot be part of a key"))
                .help("use columns of numbers, strings, binaries, dates, times, timestamps or booleans"));
        }
        let fixed = types.len() == 1 && is_fixed(&types[0]);
        Ok(Self { types, fixed, nulls: false })
    }

    /// The codec of groups with columns of these types: a null equals a null.
    pub(crate) fn with_nulls(types: Vec<DataType>) -> Result<Self> {
        Ok(Self { fixed: false, nulls: true, ..Self::new(types)? })
    }

    /// Whether keys fit into 64 bits.
    pub(crate) fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// The type of a key that is one column.
    pub(crate) fn single_type(&self) -> Option<&DataType> {
        if let [single] = self.types.as_slice() { Some(single) } else { None }
    }

    /// The canonical keys of rows, from their key columns.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> RowKeys {
        debug_assert!(columns.iter().map(Array::data_type).eq(self.types.iter()));
        if self.nulls {
            return encode_with_nulls(columns);
        }
        if let [column] = columns {
            if self.fixed {
                return RowKeys::Fixed(fixed_values(column), column.logical_nulls());
            }
            if let Some(text) = column.as_string_opt::<i32>() {
                return RowKeys::Text(text.clone());
            }
        }
        let nulls = columns.iter().fold(None, |all, c| NullBuffer::union(all.as_ref(), c.logical_nulls().as_ref()));
        let parts: Vec<Part> = columns.iter().map(Part::new).collect();
        let single = parts.len() == 1;
        let rows = columns.first().map_or(0, Array::len);
        let (mut ends, mut data) = (Vec::with_capacity(rows), Vec::new());
        for row in 0..rows {
            if nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                for part in &parts {
                    part.append(row, single, &mut data);
                }
            }
            ends.push(data.len() as u64);
        }
        RowKeys::Bytes { ends, data, nulls }
    }

    /// The key columns of canonical keys.
    pub(crate) fn decode(&self, keys: &Keys) -> Result<Vec<ArrayRef>> {
        match keys {
            Keys::Fixed(values) => Ok(vec![fixed_array(&self.types[0], values)]),
            Keys::Bytes { .. } => {
                if self.nulls {
                    return self.decode_with_nulls(keys);
                }
                let single = self.types.len() == 1;
                let mut columns: Vec<Column> = self.types.iter().map(Column::new).collect();
                for index in 0..keys.len() {
                    let KeyRef::Bytes(mut rest) = keys.get(index) else { return Err(damaged()) };
                    for column in &mut columns {
                        column.take(&mut rest, single).ok_or_else(damaged)?;
                    }
                }
                Ok(columns.into_iter().map(Column::finish).collect())
            }
        }
    }

    fn decode_with_nulls(&self, keys: &Keys) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<Column> = self.types.iter().map(Column::new).collect();
        let mut nulls: Vec<Vec<bool>> = self.types.iter().map(|_| Vec::with_capacity(keys.len())).collect();
        for index in 0..keys.len() {
            let KeyRef::Bytes(mut rest) = keys.get(index) else { return Err(damaged()) };
            for (column, nulls) in columns.iter_mut().zip(&mut nulls) {
                let is_null = take(&mut rest, 1).ok_or_else(damaged)? == [0];
                nulls.push(is_null);
                if is_null {
                    column.take(&mut vec![0; column.width()].as_slice(), false)
                } else {
                    column.take(&mut rest, false)
                }
                .ok_or_else(damaged)?;
            }
        }
        let finished = columns.into_iter().zip(nulls).map(|(column, nulls)| {
            let values = column.finish();
            nullif(&values, &BooleanArray::from(nulls)).map_err(|e| IngestError::internal(e.to_string()))
        });
        finished.collect()
    }

    /// A key as a person would write it, for messages.
    pub(crate) fn display(&self, key: KeyRef<'_>) -> String {
        let mut keys = Keys::new(self.fixed);
        keys.push(key);
        let Ok(columns) = self.decode(&keys) else { return "(damaged key)".to_owned() };
        let values: Vec<String> = columns
            .iter()
            .map(|c| arrow::util::display::array_value_to_string(c, 0).unwrap_or_else(|_| "?".to_owned()))
            .collect();
        if let [value] = values.as_slice() { format!("'{value}'") } else { format!("({})", values.join(", ")) }
    }
}

/// The groups of rows: for each column whether there is a value, and the value.
fn encode_with_nulls(columns: &[ArrayRef]) -> RowKeys {
    let parts: Vec<(Part, Option<NullBuffer>)> = columns.iter().map(|c| (Part::new(c), c.logical_nulls())).collect();
    let rows = columns.first().map_or(0, Array::len);
    let (mut ends, mut data) = (Vec::with_capacity(rows), Vec::new());
    for row in 0..rows {
        for (part, nulls) in &parts {
            let valid = nulls.as_ref().is_none_or(|n| n.is_valid(row));
            data.push(u8::from(valid));
            if valid {
                part.append(row, false, &mut data);
            }
        }
        ends.push(data.len() as u64);
    }
    RowKeys::Bytes { ends, data, nulls: None }
}

/// A 64-bit hash of each row over `columns`, nulls included: equal rows have equal hashes, in every version.
pub(crate) fn row_hashes(columns: &[ArrayRef], rows: usize) -> Vec<u64> {
    let parts: Vec<(Part, Option<NullBuffer>)> = columns.iter().map(|c| (Part::new(c), c.logical_nulls())).collect();
    let mut buffer = Vec::new();
    let hash_row = |row: usize| {
        buffer.clear();
        for (part, nulls) in &parts {
            let valid = nulls.as_ref().is_none_or(|n| n.is_valid(row));
            buffer.push(u8::from(valid));
            if valid {
                part.append(row, false, &mut buffer);
            }
        }
        super::hash_bytes(&buffer)
    };
    (0..rows).map(hash_row).collect()
}

fn damaged() -> IngestError {
    IngestError::internal("a canonical key does not have the form of its table")
}

/// One column on its way into keys.
enum Part {
    Fixed(Vec<u64>),
    Wide128(PrimitiveArray<Decimal128Type>),
    Wide256(PrimitiveArray<Decimal256Type>),
    Text(arrow::array::StringArray),
    LargeText(arrow::array::LargeStringArray),
    Binary(arrow::array::BinaryArray),
    LargeBinary(arrow::array::LargeBinaryArray),
    FixedBinary(arrow::array::FixedSizeBinaryArray),
}

impl Part {
    fn new(column: &ArrayRef) -> Self {
        match column.data_type() {
            t if is_fixed(t) => Self::Fixed(fixed_values(column)),
            DataType::Decimal128(_, _) => Self::Wide128(column.as_primitive().clone()),
            DataType::Decimal256(_, _) => Self::Wide256(column.as_primitive().clone()),
            DataType::Utf8 => Self::Text(column.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeText(column.as_string().clone()),
            DataType::Binary => Self::Binary(column.as_binary().clone()),
            DataType::LargeBinary => Self::LargeBinary(column.as_binary().clone()),
            DataType::FixedSizeBinary(_) => Self::FixedBinary(column.as_fixed_size_binary().clone()),
            other => unreachable!("type {other} is refused before any row is read"),
        }
    }

    fn append(&self, row: usize, single: bool, out: &mut Vec<u8>) {
        let bytes: &[u8] = match self {
            Self::Fixed(values) => return out.extend_from_slice(&values[row].to_le_bytes()),
            Self::Wide128(values) => return out.extend_from_slice(&values.value(row).to_le_bytes()),
            Self::Wide256(values) => return out.extend_from_slice(&values.value(row).to_le_bytes()),
            Self::FixedBinary(values) => return out.extend_from_slice(values.value(row)),
            Self::Text(values) => values.value(row).as_bytes(),
            Self::LargeText(values) => values.value(row).as_bytes(),
            Self::Binary(values) => values.value(row),
            Self::LargeBinary(values) => values.value(row),
        };
        if !single {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        }
        out.extend_from_slice(bytes);
    }
}

/// One column on its way out of keys.
enum Column {
    Fixed(DataType, Vec<u64>),
    Wide128(DataType, Vec<i128>),
    Wide256(DataType, Vec<i256>),
    Text(StringBuilder),
    LargeText(LargeStringBuilder),
    Binary(BinaryBuilder),
    LargeBinary(LargeBinaryBuilder),
    FixedBinary(usize, FixedSizeBinaryBuilder),
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            t if is_fixed(t) => Self::Fixed(t.clone(), Vec::new()),
            DataType::Decimal128(_, _) => Self::Wide128(data_type.clone(), Vec::new()),
            DataType::Decimal256(_, _) => Self::Wide256(data_type.clone(), Vec::new()),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::LargeUtf8 => Self::LargeText(LargeStringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::LargeBinary => Self::LargeBinary(LargeBinaryBuilder::new()),
            DataType::FixedSizeBinary(width) => Self::FixedBinary(*width as usize, FixedSizeBinaryBuilder::new(*width)),
            other => unreachable!("type {other} is refused before any row is read"),
        }
    }

    /// How many bytes stand for the value that takes a null's place.
    fn width(&self) -> usize {
        match self {
            Self::Fixed(..) | Self::Text(_) | Self::LargeText(_) | Self::Binary(_) | Self::LargeBinary(_) => 8,
            Self::Wide128(..) => 16,
            Self::Wide256(..) => 32,
            Self::FixedBinary(width, _) => *width,
        }
    }

    /// Takes this column's part off the front of a key; `None` if the key is too short or not UTF-8.
    fn take(&mut self, rest: &mut &[u8], single: bool) -> Option<()> {
        match self {
            Self::Fixed(_, values) => values.push(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
            Self::Wide128(_, values) => values.push(i128::from_le_bytes(take(rest, 16)?.try_into().ok()?)),
            Self::Wide256(_, values) => values.push(i256::from_le_bytes(take(rest, 32)?.try_into().ok()?)),
            Self::FixedBinary(width, builder) => builder.append_value(take(rest, *width)?).ok()?,
            Self::Text(builder) => builder.append_value(std::str::from_utf8(take_sized(rest, single)?).ok()?),
            Self::LargeText(builder) => builder.append_value(std::str::from_utf8(take_sized(rest, single)?).ok()?),
            Self::Binary(builder) => builder.append_value(take_sized(rest, single)?),
            Self::LargeBinary(builder) => builder.append_value(take_sized(rest, single)?),
        }
        Some(())
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Fixed(data_type, values) => fixed_array(&data_type, &values),
            Self::Wide128(data_type, values) => {
                Arc::new(PrimitiveArray::<Decimal128Type>::from_iter_values(values).with_data_type(data_type))
            }
            Self::Wide256(data_type, values) => {
                Arc::new(PrimitiveArray::<Decimal256Type>::from_iter_values(values).with_data_type(data_type))
            }
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::LargeText(mut builder) => Arc::new(builder.finish()),
            Self::Binary(mut builder) => Arc::new(builder.finish()),
            Self::LargeBinary(mut builder) => Arc::new(builder.finish()),
            Self::FixedBinary(_, mut builder) => Arc::new(builder.finish()),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (front, back) = rest.split_at_checked(bytes)?;
    *rest = back;
    Some(front)
}

fn take_sized<'a>(rest: &mut &'a [u8], single: bool) -> Option<&'a [u8]> {
    let bytes = if single { rest.len() } else { u64::from_le_bytes(take(rest, 8)?.try_into().ok()?) as usize };
    take(rest, bytes)
}

/// Calls `$go!(ArrowType, to_u64, from_u64)` for a fixed type.
macro_rules! by_fixed_type {
    ($data_type:expr, $go:ident) => {
        match $data_type {
            DataType::Int8 => $go!(Int8Type, |v: i8| i64::from(v) as u64, |u: u64| u as i8),
            DataType::Int16 => $go!(Int16Type, |v: i16| i64::from(v) as u64, |u: u64| u as i16),
            DataType::Int32 => $go!(Int32Type, |v: i32| i64::from(v) as u64, |u: u64| u as i32),
            DataType::Int64 => $go!(Int64Type, |v: i64| v as u64, |u: u64| u as i64),
            DataType::UInt8 => $go!(UInt8Type, |v: u8| u64::from(v), |u: u64| u as u8),
            DataType::UInt16 => $go!(UInt16Type, |v: u16| u64::from(v), |u: u64| u as u16),
            DataType::UInt32 => $go!(UInt32Type, |v: u32| u64::from(v), |u: u64| u as u32),
            DataType::UInt64 => $go!(UInt64Type, |v: u64| v, |u: u64| u),
            DataType::Float16 => $go!(
                Float16Type,
                |v: half::f16| { if v.is_nan() { 0x7e00 } else { u64::from((v + half::f16::ZERO).to_bits()) } },
                |u: u64| half::f16::from_bits(u as u16)
            ),
            DataType::Float32 => $go!(
                Float32Type,
                |v: f32| if v.is_nan() { u64::from(f32::NAN.to_bits()) } else { u64::from((v + 0.0).to_bits()) },
                |u: u64| f32::from_bits(u as u32)
            ),
            DataType::Float64 => $go!(
                Float64Type,
                |v: f64| if v.is_nan() { f64::NAN.to_bits() } else { (v + 0.0).to_bits() },
                |u: u64| f64::from_bits(u)
            ),
            DataType::Date32 => $go!(Date32Type, |v: i32| i64::from(v) as u64, |u: u64| u as i32),
            DataType::Date64 => $go!(Date64Type, |v: i64| v as u64, |u: u64| u as i64),
            DataType::Time32(TimeUnit::Second) => {
                $go!(Time32SecondType, |v: i32| i64::from(v) as u64, |u: u64| u as i32)
            }
            DataType::Time32(_) => $go!(Time32MillisecondType, |v: i32| i64::from(v) as u64, |u: u64| u as i32),
            DataType::Time64(TimeUnit::Microsecond) => {
                $go!(Time64MicrosecondType, |v: i64| v as u64, |u: u64| u as i64)
            }
            DataType::Time64(_) => $go!(Time64NanosecondType, |v: i64| v as u64, |u: u64| u as i64),
            DataType::Timestamp(TimeUnit::Second, _) => {
                $go!(TimestampSecondType, |v: i64| v as u64, |u: u64| u as i64)
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                $go!(TimestampMillisecondType, |v: i64| v as u64, |u: u64| u as i64)
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                $go!(TimestampMicrosecondType, |v: i64| v as u64, |u: u64| u as i64)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                $go!(TimestampNanosecondType, |v: i64| v as u64, |u: u64| u as i64)
            }
            DataType::Decimal32(_, _) => $go!(Decimal32Type, |v: i32| i64::from(v) as u64, |u: u64| u as i32),
            DataType::Decimal64(_, _) => $go!(Decimal64Type, |v: i64| v as u64, |u: u64| u as i64),
            // A precision of at most 18 digits fits into 63 bits.
            DataType::Decimal128(_, _) => {
                $go!(Decimal128Type, |v: i128| v as i64 as u64, |u: u64| i128::from(u as i64))
            }
            other => unreachable!("type {other} is not a fixed key type"),
        }
    };
}

fn fixed_values(column: &ArrayRef) -> Vec<u64> {
    if let Some(booleans) = column.as_boolean_opt() {
        return booleans.values().iter().map(u64::from).collect();
    }
    macro_rules! go {
        ($type:ty, $to:expr, $from:expr) => {
            column.as_primitive::<$type>().values().iter().map(|&v| ($to)(v)).collect()
        };
    }
    by_fixed_type!(column.data_type(), go)
}

fn fixed_array(data_type: &DataType, values: &[u64]) -> ArrayRef {
    fn build<T: ArrowPrimitiveType>(data_type: &DataType, values: impl Iterator<Item = T::Native>) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_iter_values(values).with_data_type(data_type.clone()))
    }
    if *data_type == DataType::Boolean {
        return Arc::new(values.iter().map(|&v| Some(v != 0)).collect::<BooleanArray>());
    }
    macro_rules! go {
        ($type:ty, $to:expr, $from:expr) => {
            build::<$type>(data_type, values.iter().map(|&v| ($from)(v)))
        };
    }
    by_fixed_type!(data_type, go)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, StringArray};

    fn codec(columns: &[ArrayRef]) -> KeyCodec {
        KeyCodec::new(columns.iter().map(|c| c.data_type().clone()).collect()).unwrap()
    }

    fn round_trip(columns: &[ArrayRef]) {
        let codec = codec(columns);
        let rows = codec.encode(columns);
        let mut keys = Keys::new(codec.is_fixed());
        for row in 0..columns[0].len() {
            keys.push(rows.get(row).expect("no nulls here"));
        }
        assert_eq!(codec.decode(&keys).unwrap(), columns);
    }

    #[test]
    fn g4_keys_come_back_as_they_were() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["", "a", "grüße", "a\0b"]));
        let number: ArrayRef = Arc::new(Int32Array::from(vec![-1, 0, i32::MAX, i32::MIN]));
        let decimal: ArrayRef = Arc::new(
            PrimitiveArray::<Decimal128Type>::from_iter_values([-5, 0, 10_i128.pow(30), 1])
                .with_data_type(DataType::Decimal128(38, 2)),
        );
        round_trip(std::slice::from_ref(&text));
        round_trip(std::slice::from_ref(&number));
        round_trip(std::slice::from_ref(&decimal));
        round_trip(&[text, number, decimal]);
    }

    #[test]
    fn g1_composite_keys_do_not_run_into_each_other() {
        let left: ArrayRef = Arc::new(StringArray::from(vec!["ab", "a"]));
        let right: ArrayRef = Arc::new(StringArray::from(vec!["c", "bc"]));
        let rows = codec(&[left.clone(), right.clone()]).encode(&[left, right]);
        assert_ne!(rows.get(0), rows.get(1));
    }

    #[test]
    fn zeros_are_one_key_and_so_are_nans() {
        let column: ArrayRef =
            Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, f64::from_bits(f64::NAN.to_bits() | 1)]));
        let rows = codec(std::slice::from_ref(&column)).encode(std::slice::from_ref(&column));
        assert_eq!(rows.get(0), rows.get(1));
        assert_eq!(rows.get(2), rows.get(3));
        assert_ne!(rows.get(0), rows.get(2));
    }

    #[test]
    fn a_null_in_any_column_makes_the_key_null() {
        let left: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let right: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(1)]));
        let rows = codec(&[left.clone(), right.clone()]).encode(&[left, right]);
        assert_eq!((rows.get(0), rows.get(1)), (None, None));
    }
}
