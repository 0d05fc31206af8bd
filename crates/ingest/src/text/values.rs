//! Texts as values of a type. A text that is no such value, or more than the type holds, is an error; it never becomes
//! another value, nor none.

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};

/// The texts of a column as values of a type; else the place of the first one that is no such value.
pub(super) fn parsed(texts: StringArray, to: &DataType) -> Result<ArrayRef, usize> {
    if *to == DataType::Utf8 {
        return Ok(std::sync::Arc::new(texts));
    }
    let is_lossy = |text: &&str| loses(text, to);
    if let Some(row) = texts.iter().position(|text| text.as_ref().is_some_and(is_lossy)) {
        return Err(row);
    }
    let read = cast_with_options(&texts, to, &CastOptions::default()).map_err(|_| 0_usize)?;
    match (0..texts.len()).find(|&row| read.is_null(row) && texts.is_valid(row)) {
        Some(row) => Err(row),
        None => Ok(read),
    }
}

/// Whether a text, if it is a value of this type at all, is more than the type holds. What reads it would round.
fn loses(text: &str, to: &DataType) -> bool {
    let digits_after_point = || {
        let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
        let end = fraction.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(fraction.len());
        fraction[..end].trim_end_matches('0').len()
    };
    let unit_digits = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    match to {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            // An exponent moves the point.
            text.contains(['e', 'E']) || digits_after_point() > usize::try_from(*scale).unwrap_or(0)
        }
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => {
            digits_after_point() > unit_digits(unit)
        }
        // The time of a timestamp would be dropped.
        DataType::Date32 => text.contains(['T', ' ', ':']),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn read(text: &str, to: &DataType) -> Option<String> {
        let array = parsed(StringArray::from(vec![text]), to).ok()?;
        assert_eq!(array.data_type(), to);
        array_value_to_string(&array, 0).ok()
    }

    #[test]
    fn a_value_or_an_error() {
        let (micro, utc) = (TimeUnit::Microsecond, || Some("UTC".into()));
        for (text, to, expected) in [
            ("-128", DataType::Int8, Some("-128")),
            ("128", DataType::Int8, None),
            ("1.0", DataType::Int64, None),
            ("12x", DataType::Int64, None),
            ("18446744073709551615", DataType::UInt64, Some("18446744073709551615")),
            ("-1", DataType::UInt8, None),
            ("2.5", DataType::Float32, Some("2.5")),
            ("x", DataType::Float64, None),
            ("12.50", DataType::Decimal128(10, 2), Some("12.50")),
            ("12.500", DataType::Decimal128(10, 2), Some("12.50")),
            ("12.505", DataType::Decimal128(10, 2), None),
            ("1e2", DataType::Decimal128(10, 2), None),
            ("123456789.00", DataType::Decimal128(10, 2), None),
            ("true", DataType::Boolean, Some("true")),
            ("maybe", DataType::Boolean, None),
            ("2026-11-26", DataType::Date32, Some("2026-11-26")),
            ("2026-11-26T10:00:00", DataType::Date32, None),
            ("26.11.2026", DataType::Date32, None),
            ("10:30:00.5", DataType::Time64(micro), Some("10:30:00.500")),
            ("2026-11-26 10:00:00", DataType::Timestamp(micro, None), Some("2026-11-26T10:00:00")),
            ("2026-11-26", DataType::Timestamp(micro, None), Some("2026-11-26T00:00:00")),
            ("9999-12-31T00:00:00", DataType::Timestamp(micro, None), Some("9999-12-31T00:00:00")),
            ("2026-11-26T10:00:00.1234567", DataType::Timestamp(micro, None), None),
            ("2026-11-26T10:00:00+02:00", DataType::Timestamp(micro, utc()), Some("2026-11-26T08:00:00Z")),
            ("soon", DataType::Timestamp(micro, None), None),
            ("anything", DataType::Utf8, Some("anything")),
        ] {
            assert_eq!(read(text, &to).as_deref(), expected, "{text:?} as {to}");
        }
    }
}
