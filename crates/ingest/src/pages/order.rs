//! The order of values as Parquet's statistics have it, and what statistics say of values. A type whose order is not
//! plain to see has none here. It must never say of values what is not so.

use std::cmp::Ordering;
use std::ops::Range;

use parquet::basic::{SortOrder, Type as Physical};
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use super::chunk::Fault;
use super::values::Values;

/// Bytes of a value in statistics, at most: a longer one would have to be cut.
const LONGEST: usize = 64;

/// How the values of a column compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As numbers with a sign.
    Signed,
    /// As numbers without one, or byte by byte.
    Unsigned,
}

/// Where the least and the greatest of some values are.
pub(super) type Extremes = Option<(usize, usize)>;

impl Order {
    /// The order of a column, for these values of it; unsupported if they are not of the column's type.
    pub(super) fn of(column: &ColumnDescriptor, values: &Values) -> Result<Self, Fault> {
        let is_signed = match column.sort_order() {
            SortOrder::SIGNED => true,
            SortOrder::UNSIGNED => false,
            SortOrder::UNDEFINED => return Err(Fault::Unsupported),
        };
        let fits = match (column.physical_type(), values) {
            (Physical::INT32, Values::I32(_)) | (Physical::INT64, Values::I64(_)) => true,
            (Physical::FLOAT, Values::F32(_)) | (Physical::DOUBLE, Values::F64(_)) => is_signed,
            (Physical::BYTE_ARRAY, Values::Bytes { .. }) => !is_signed,
            (Physical::FIXED_LEN_BYTE_ARRAY, Values::Fixed { width, .. }) => {
                !is_signed && usize::try_from(column.type_length()) == Ok(*width)
            }
            _ => false,
        };
        match (fits, is_signed) {
            (false, _) => Err(Fault::Unsupported),
            (true, true) => Ok(Self::Signed),
            (true, false) => Ok(Self::Unsigned),
        }
    }
}

impl Values {
    /// How two of the values compare. Numbers that are none must not be among them.
    pub(super) fn compare(&self, order: Order, left: usize, right: usize) -> Ordering {
        match (self, order) {
            (Self::I32(values), Order::Signed) => values[left].cmp(&values[right]),
            (Self::I32(values), Order::Unsigned) => (values[left] as u32).cmp(&(values[right] as u32)),
            (Self::I64(values), Order::Signed) => values[left].cmp(&values[right]),
            (Self::I64(values), Order::Unsigned) => (values[left] as u64).cmp(&(values[right] as u64)),
            (Self::F32(values), _) => values[left].total_cmp(&values[right]),
            (Self::F64(values), _) => values[left].total_cmp(&values[right]),
            (Self::Bytes { .. } | Self::Fixed { .. }, _) => self.byte_string(left).cmp(self.byte_string(right)),
        }
    }

    /// Where the least and the greatest of these values are. Unsupported if one of them has no place in the order, or
    /// if one that is found is too long.
    pub(super) fn extremes(&self, order: Order, range: Range<usize>) -> Result<Extremes, Fault> {
        let is_ordered = match self {
            Self::F32(values) => !values[range.clone()].iter().any(|value| value.is_nan()),
            Self::F64(values) => !values[range.clone()].iter().any(|value| value.is_nan()),
            _ => true,
        };
        let least = range.clone().min_by(|&left, &right| self.compare(order, left, right));
        let most = range.max_by(|&left, &right| self.compare(order, left, right));
        let found = least.zip(most);
        let is_short =
            |at| !matches!(self, Self::Bytes { .. } | Self::Fixed { .. }) || self.byte_string(at).len() <= LONGEST;
        let is_fit = is_ordered && found.is_none_or(|(least, most)| is_short(least) && is_short(most));
        if is_fit { Ok(found) } else { Err(Fault::Unsupported) }
    }

    /// The same of two ranges together.
    pub(super) fn both(&self, order: Order, one: Extremes, other: Extremes) -> Extremes {
        let (Some((least, most)), Some((other_least, other_most))) = (one, other) else { return one.or(other) };
        let less = self.compare(order, other_least, least).is_lt();
        let more = self.compare(order, other_most, most).is_gt();
        Some((if less { other_least } else { least }, if more { other_most } else { most }))
    }

    /// The bytes of a least and a greatest value, as page indices have them.
    pub(super) fn bounds(&self, (least, most): (usize, usize)) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::I32(values) => (values[least].to_le_bytes().into(), values[most].to_le_bytes().into()),
            Self::I64(values) => (values[least].to_le_bytes().into(), values[most].to_le_bytes().into()),
            Self::F32(values) => {
                (below_zero32(values[least]).to_le_bytes().into(), above_zero32(values[most]).to_le_bytes().into())
            }
            Self::F64(values) => {
                (below_zero64(values[least]).to_le_bytes().into(), above_zero64(values[most]).to_le_bytes().into())
            }
            Self::Bytes { .. } | Self::Fixed { .. } => (self.byte_string(least).into(), self.byte_string(most).into()),
        }
    }

    /// What the footer says of a column chunk with these extremes.
    pub(super) fn statistics(&self, extremes: Extremes, nulls: u64) -> Statistics {
        let (least, most) = extremes.unzip();
        let nulls = Some(nulls);
        match self {
            Self::I32(values) => {
                Statistics::int32(least.map(|at| values[at]), most.map(|at| values[at]), None, nulls, false)
            }
            Self::I64(values) => {
                Statistics::int64(least.map(|at| values[at]), most.map(|at| values[at]), None, nulls, false)
            }
            Self::F32(values) => {
                let (least, most) = (least.map(|at| below_zero32(values[at])), most.map(|at| above_zero32(values[at])));
                Statistics::float(least, most, None, nulls, false)
            }
            Self::F64(values) => {
                let (least, most) = (least.map(|at| below_zero64(values[at])), most.map(|at| above_zero64(values[at])));
                Statistics::double(least, most, None, nulls, false)
            }
            Self::Bytes { .. } => {
                let value = |at| ByteArray::from(self.byte_string(at).to_vec());
                Statistics::byte_array(least.map(value), most.map(value), None, nulls, false)
            }
            Self::Fixed { .. } => {
                let value = |at| FixedLenByteArray::from(self.byte_string(at).to_vec());
                Statistics::fixed_len_byte_array(least.map(value), most.map(value), None, nulls, false)
            }
        }
    }
}

// Zero has two forms that are equal; a bound has to hold for both.

fn below_zero32(value: f32) -> f32 {
    if value == 0.0 { -0.0 } else { value }
}

fn above_zero32(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { value }
}

fn below_zero64(value: f64) -> f64 {
    if value == 0.0 { -0.0 } else { value }
}

fn above_zero64(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}
