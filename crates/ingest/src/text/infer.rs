//! The type of a column of texts, when nobody has declared it: the one that all of its values look like. It is found from
//! every value of every new file, so that neither an order nor a sample matters. What could be read back as another text
//! (a number with a zero before it, or too large for its type) stays a text.

use std::ops::{BitOr, BitOrAssign};

use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Date32Type, TimeUnit};

/// What the values of a column look like: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Looks(u16);

impl Looks {
    const INTEGER: Self = Self(1);
    /// An integer that a float does not hold.
    const LARGE: Self = Self(2);
    const FLOAT: Self = Self(4);
    const BOOLEAN: Self = Self(8);
    const DATE: Self = Self(16);
    const LOCAL: Self = Self(32);
    const MOMENT: Self = Self(64);
    /// A time with more than six digits after the second.
    const FINE: Self = Self(128);
    /// A day that nanoseconds of 64 bits do not reach.
    const FAR: Self = Self(256);
    pub(super) const TEXT: Self = Self(512);
    pub(super) const OBJECT: Self = Self(1024);
    pub(super) const LIST: Self = Self(2048);

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is nothing but these.
    fn is_within(self, all: Self) -> bool {
        self.0 != 0 && self.0 & !all.0 == 0
    }

    /// Whether nothing can make it anything but a text.
    pub(super) fn is_text(self) -> bool {
        self.has(Self::TEXT)
    }

    /// Whether each value is an object.
    pub(super) fn are_objects(self) -> bool {
        self.is_within(Self::OBJECT)
    }

    /// Whether each value is a list.
    pub(super) fn are_lists(self) -> bool {
        self.is_within(Self::LIST)
    }

    /// Looks at a value.
    pub(super) fn of(text: &str) -> Self {
        let Some(first) = text.bytes().next() else { return Self::default() };
        match first {
            b't' | b'T' | b'f' | b'F' => boolean(text),
            b'-' => number(text),
            b'0'..=b'9' => match number(text) {
                Self::TEXT => time(text),
                number => number,
            },
            _ => Self::TEXT,
        }
    }

    /// The type for all of them.
    pub(super) fn data_type(self) -> DataType {
        let unit = if self.has(Self::FINE) { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
        if self.has(Self::FINE) && self.has(Self::FAR) {
            DataType::Utf8
        } else if self.is_within(Self::INTEGER | Self::LARGE) {
            DataType::Int64
        } else if self.is_within(Self::INTEGER | Self::FLOAT) {
            DataType::Float64
        } else if self.is_within(Self::BOOLEAN) {
            DataType::Boolean
        } else if self.is_within(Self::DATE | Self::FAR) {
            DataType::Date32
        } else if self.is_within(Self::MOMENT | Self::FINE | Self::FAR) {
            DataType::Timestamp(unit, Some("UTC".into()))
        } else if self.is_within(Self::LOCAL | Self::DATE | Self::FINE | Self::FAR) {
            DataType::Timestamp(unit, None)
        } else {
            DataType::Utf8
        }
    }
}

impl BitOr for Looks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Looks {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

fn boolean(text: &str) -> Looks {
    let is_one = ["true", "True", "TRUE", "false", "False", "FALSE"].contains(&text);
    if is_one { Looks::BOOLEAN } else { Looks::TEXT }
}

/// A number as JSON writes it.
fn number(text: &str) -> Looks {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(unsigned);
    if whole == 0 || (whole > 1 && unsigned.starts_with('0')) {
        return Looks::TEXT;
    }
    let mut rest = &unsigned[whole..];
    if rest.is_empty() {
        // Of zero there is one.
        return match text.parse::<i64>() {
            Ok(0) if text.starts_with('-') => Looks::TEXT,
            Ok(number) if number.unsigned_abs() <= 1 << 53 => Looks::INTEGER,
            Ok(_) => Looks::INTEGER | Looks::LARGE,
            Err(_) => Looks::TEXT,
        };
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if count == 0 {
            return Looks::TEXT;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let count = digits(exponent);
        if count == 0 {
            return Looks::TEXT;
        }
        rest = &exponent[count..];
    }
    // More digits than a float has are no float.
    let significant = unsigned.bytes().filter(u8::is_ascii_digit).count();
    let is_finite = text.parse::<f64>().is_ok_and(f64::is_finite);
    if rest.is_empty() && significant <= 17 && is_finite { Looks::FLOAT } else { Looks::TEXT }
}

/// `2026-11-26`, with a time after it or not: `2026-11-26T10:00:00.5`, with a zone after that or not.
fn time(text: &str) -> Looks {
    let bytes = text.as_bytes();
    let shape = |from: usize, shape: &[u8]| {
        bytes.len() >= from + shape.len()
            && bytes[from..]
                .iter()
                .zip(shape)
                .all(|(byte, is)| if *is == b'0' { byte.is_ascii_digit() } else { byte == is })
    };
    // What is not ASCII has none of these shapes, so that it can be cut anywhere.
    if !text.is_ascii() || !shape(0, b"0000-00-00") || Date32Type::parse(&text[..10]).is_none() {
        return Looks::TEXT;
    }
    let mut looks = if ("1678".."2262").contains(&&text[..4]) { Looks::default() } else { Looks::FAR };
    if bytes.len() == 10 {
        return looks | Looks::DATE;
    }
    let is_below = |at: usize, limit: &str| &text[at..at + 2] < limit;
    let has_time = matches!(bytes[10], b'T' | b' ') && shape(11, b"00:00:00");
    if !has_time || !is_below(11, "24") || !is_below(14, "60") || !is_below(17, "60") {
        return Looks::TEXT;
    }
    let mut at = 19;
    if bytes.get(at) == Some(&b'.') {
        let count = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        match count {
            0 | 10.. => return Looks::TEXT,
            1..=6 => {}
            _ => looks |= Looks::FINE,
        }
        at += 1 + count;
    }
    let has_offset = || {
        let is_one = shape(at, b"+00:00") || shape(at, b"-00:00");
        is_one && bytes.len() == at + 6 && is_below(at + 1, "24") && is_below(at + 4, "60")
    };
    match &text[at..] {
        "" => looks | Looks::LOCAL,
        "Z" => looks | Looks::MOMENT,
        _ if has_offset() => looks | Looks::MOMENT,
        _ => Looks::TEXT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> DataType {
        let all =
            |values: &mut dyn Iterator<Item = &&str>| values.fold(Looks::default(), |all, text| all | Looks::of(text));
        assert_eq!(all(&mut values.iter()), all(&mut values.iter().rev()), "the order matters");
        all(&mut values.iter()).data_type()
    }

    #[test]
    fn what_a_column_looks_like() {
        let stamp = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
        let (micro, nano) = (TimeUnit::Microsecond, TimeUnit::Nanosecond);
        for (values, expected) in [
            (&["1", "-20", "0", "9223372036854775807"][..], DataType::Int64),
            (&["1", "2.50"], DataType::Float64),
            (&["1e3", "-0.5", "1.5E-7"], DataType::Float64),
            (&["true", "FALSE"], DataType::Boolean),
            (&["2026-11-26", "9999-12-31"], DataType::Date32),
            (&["2026-11-26", "2026-11-26T10:00:00"], stamp(micro, None)),
            (&["2026-11-26 10:00:00.5", "0001-01-01 00:00:00"], stamp(micro, None)),
            (&["2026-11-26T10:00:00.1234567"], stamp(nano, None)),
            (&["2026-11-26T10:00:00Z", "2026-11-26T10:00:00+02:00"], stamp(micro, Some("UTC"))),
            (&["", "7"], DataType::Int64),
        ] {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_stays_a_text() {
        for values in [
            &[][..],
            &[""],
            &["007"],
            &["+1"],
            &["-0"],
            &["1."],
            &[".5"],
            &["1e"],
            &[" 1"],
            &["1,5"],
            &["0x10"],
            &["NaN"],
            &["99999999999999999999"],
            &["1e999"],
            &["0.12345678901234567890"],
            // A float would round it.
            &["9007199254740993", "0.5"],
            &["1", "x"],
            &["1", "true"],
            &["yes"],
            &["2026-02-30"],
            &["2026-1-1"],
            &["2026-11-26T25:00:00"],
            &["2026-11-26T10:00:00", "2026-11-26T10:00:00Z"],
            &["2026-11-26", "2026-11-26T10:00:00Z"],
            &["2026-11-26T10:00:00.123456789", "9999-12-31"],
            &["2026-11-26T10:00:00+99:00"],
            &["2026-11-26é"],
            &["2026", " 2026"],
        ] {
            assert_eq!(of(values), DataType::Utf8, "{values:?}");
        }
    }
}
