//! The narrowest type that holds the values of several types as they are. Must never give one that loses anything of a
//! value, nor one that depends on the order of the types.

use arrow::datatypes::DataType::{
    self, Binary, Date32, Decimal128, Decimal256, FixedSizeBinary, Float16, Float32, Float64, Int8, Int16, Int32,
    Int64, Null, Time32, Time64, Timestamp, UInt8, UInt16, UInt32, UInt64,
};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, TimeUnit};

/// Narrow ones first.
const INTEGERS: [DataType; 8] = [UInt8, UInt16, UInt32, UInt64, Int8, Int16, Int32, Int64];
const FLOATS: [DataType; 3] = [Float16, Float32, Float64];

/// Whether values of two types are alike: in structs, fields of the same names.
pub(crate) fn is_same(one: &DataType, other: &DataType) -> bool {
    one.equals_datatype(other) && has_same_names(one, other)
}

/// Whether structs have the same names, in types that are alike but for names. What the elements of a list, or the entries of
/// a map, are called differs from writer to writer, and nobody sees it.
fn has_same_names(one: &DataType, other: &DataType) -> bool {
    use DataType::{FixedSizeList, LargeList, List, Map, Struct};
    match (one, other) {
        (List(a), List(b)) | (LargeList(a), LargeList(b)) | (FixedSizeList(a, _), FixedSizeList(b, _)) => {
            has_same_names(a.data_type(), b.data_type())
        }
        (Map(a, _), Map(b, _)) => match (a.data_type(), b.data_type()) {
            (Struct(a), Struct(b)) => a.iter().zip(b).all(|(a, b)| has_same_names(a.data_type(), b.data_type())),
            _ => true,
        },
        (Struct(a), Struct(b)) => {
            a.iter().zip(b).all(|(a, b)| a.name() == b.name() && has_same_names(a.data_type(), b.data_type()))
        }
        _ => true,
    }
}

/// The narrowest type that holds all values of these types; `None` if there is none, or no type at all.
pub(crate) fn common<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Option<DataType> {
    let mut kinds: Vec<&DataType> = Vec::new();
    for kind in types {
        if !kinds.iter().any(|known| is_same(known, kind)) {
            kinds.push(kind);
        }
    }
    // Of a column that is null throughout, some writers know no type.
    if kinds.len() > 1 {
        kinds.retain(|kind| **kind != Null);
    }
    match kinds.as_slice() {
        [] => None,
        [one] => Some((*one).clone()),
        many => number(many).or_else(|| time(many)).or_else(|| bytes(many)),
    }
}

fn number(kinds: &[&DataType]) -> Option<DataType> {
    let holds_all = |wide: &&DataType| kinds.iter().all(|kind| holds(wide, kind));
    INTEGERS.iter().chain(&FLOATS).find(holds_all).cloned().or_else(|| decimal(kinds))
}

/// How many bits the values of whole numbers take, without the sign, and whether there is one.
fn integer(kind: &DataType) -> Option<(u32, bool)> {
    Some(match kind {
        UInt8 => (8, false),
        UInt16 => (16, false),
        UInt32 => (32, false),
        UInt64 => (64, false),
        Int8 => (7, true),
        Int16 => (15, true),
        Int32 => (31, true),
        Int64 => (63, true),
        _ => return None,
    })
}

/// How many bits of a whole number a float holds.
fn mantissa(kind: &DataType) -> Option<u32> {
    Some(match kind {
        Float16 => 11,
        Float32 => 24,
        Float64 => 53,
        _ => return None,
    })
}

/// Whether a type of whole numbers or floats holds each value of another one.
fn holds(wide: &DataType, narrow: &DataType) -> bool {
    match (integer(wide), mantissa(wide), integer(narrow), mantissa(narrow)) {
        (Some((room, signed)), _, Some((bits, negative)), _) => bits <= room && (signed || !negative),
        (_, Some(room), Some((bits, _)), _) | (_, Some(room), _, Some(bits)) => bits <= room,
        _ => false,
    }
}

/// A decimal for decimals and whole numbers; not for these alone, of which nobody expects one.
fn decimal(kinds: &[&DataType]) -> Option<DataType> {
    if !kinds.iter().any(|kind| matches!(kind, Decimal128(..) | Decimal256(..))) {
        return None;
    }
    let (mut whole, mut scale) = (0, 0);
    for kind in kinds {
        let (digits, after) = match kind {
            Decimal128(precision, scale) | Decimal256(precision, scale) => {
                (i32::from(*precision) - i32::from(*scale), *scale)
            }
            kind => match integer(kind)?.0 {
                7 | 8 => (3, 0),
                15 | 16 => (5, 0),
                31 | 32 => (10, 0),
                63 => (19, 0),
                _ => (20, 0),
            },
        };
        (whole, scale) = (whole.max(digits), scale.max(after));
    }
    let precision = u8::try_from(whole + i32::from(scale)).ok()?;
    if precision <= DECIMAL128_MAX_PRECISION {
        return Some(Decimal128(precision, scale));
    }
    (precision <= DECIMAL256_MAX_PRECISION).then_some(Decimal256(precision, scale))
}

/// Coarse ones first.
const UNITS: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

/// Timestamps of one time zone, or of none and then dates too, in the finest unit; times of day likewise.
fn time(kinds: &[&DataType]) -> Option<DataType> {
    let (mut zones, mut times, mut finest) = (Vec::new(), false, 0);
    for kind in kinds {
        let unit = match kind {
            Timestamp(unit, zone) => {
                zones.push(zone);
                unit
            }
            Time32(unit) | Time64(unit) => {
                times = true;
                unit
            }
            // A date is a day wherever one is, and no moment.
            Date32 => {
                zones.push(&None);
                &TimeUnit::Second
            }
            _ => return None,
        };
        finest = finest.max(UNITS.iter().position(|known| known == unit)?);
    }
    let unit = UNITS[finest];
    match zones.as_slice() {
        [] if finest <= 1 => Some(Time32(unit)),
        [] => Some(Time64(unit)),
        [zone, rest @ ..] if !times && rest.iter().all(|other| other == zone) => Some(Timestamp(unit, (*zone).clone())),
        _ => None,
    }
}

fn bytes(kinds: &[&DataType]) -> Option<DataType> {
    kinds.iter().all(|kind| matches!(kind, Binary | FixedSizeBinary(_))).then_some(Binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(types: &[DataType]) -> Option<DataType> {
        let found = common(types);
        let backwards = common(types.iter().rev());
        assert_eq!(found, backwards, "the order of {types:?} matters");
        if let Some(wide) = &found {
            let again = common(types.iter().chain([wide]));
            assert_eq!(again.as_ref(), Some(wide), "{types:?} and their common type have another one");
        }
        found
    }

    #[test]
    fn the_narrowest_type_that_loses_nothing() {
        use TimeUnit::{Microsecond, Millisecond, Nanosecond};
        let utc = || Some("UTC".into());
        for (types, expected) in [
            (vec![Int32, Int64, Int8], Int64),
            (vec![UInt8, UInt32], UInt32),
            (vec![UInt8, Int8], Int16),
            (vec![UInt32, Int8], Int64),
            (vec![Float32, Float64], Float64),
            (vec![Int16, Float32], Float32),
            (vec![Int32, Float32], Float64),
            (vec![UInt32, Int32, Float32], Float64),
            (vec![Decimal128(7, 2), Decimal128(9, 2)], Decimal128(9, 2)),
            (vec![Decimal128(7, 2), Decimal128(7, 4)], Decimal128(9, 4)),
            (vec![Decimal128(38, 2), Decimal128(7, 4)], Decimal256(40, 4)),
            (vec![Int64, Decimal128(7, 2)], Decimal128(21, 2)),
            (vec![Timestamp(Millisecond, None), Timestamp(Nanosecond, None)], Timestamp(Nanosecond, None)),
            (vec![Timestamp(Millisecond, utc()), Timestamp(Microsecond, utc())], Timestamp(Microsecond, utc())),
            (vec![Date32, Timestamp(Microsecond, None)], Timestamp(Microsecond, None)),
            (vec![Time32(Millisecond), Time64(Microsecond)], Time64(Microsecond)),
            (vec![FixedSizeBinary(4), FixedSizeBinary(8)], Binary),
            (vec![Null, DataType::Utf8], DataType::Utf8),
            (vec![Null, Int8, Null, Int16], Int16),
            (vec![Null], Null),
        ] {
            assert_eq!(of(&types), Some(expected), "{types:?}");
        }
    }

    #[test]
    fn what_has_nothing_in_common() {
        let utc = Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        for types in [
            vec![],
            vec![DataType::Utf8, Int64],
            vec![DataType::Utf8, Binary],
            vec![DataType::Boolean, Int8],
            vec![UInt64, Int8],
            vec![Int64, Float64],
            vec![Decimal128(7, 2), Float64],
            vec![Decimal256(76, 0), Decimal128(7, 2)],
            vec![utc.clone(), Timestamp(TimeUnit::Millisecond, None)],
            vec![utc, Date32],
            vec![Date32, Int32],
            vec![Timestamp(TimeUnit::Millisecond, None), Time32(TimeUnit::Millisecond)],
        ] {
            assert_eq!(of(&types), None, "{types:?}");
        }
    }
}
