//! The types that a text file's columns may be declared to have, as they are written. This module must never know how a
//! value of a type is read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A regular expression for what [`ColumnType`] reads, for the JSON Schema.
pub(crate) const PATTERN: &str = concat!(
    r"^(string|u?int(8|16|32|64)|float(32|64)|boolean|date|time|timestamp(tz)?(\((ms|us|ns)\))?",
    r"|decimal\([0-9]{1,2}, *[0-9]{1,2}\))$"
);

/// The most digits of a decimal.
const DIGITS: u8 = 76;

/// The type of a column of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// Any text.
    String,
    /// A whole number with so many bits.
    Int(u8),
    /// A whole number that is not negative, with so many bits.
    UInt(u8),
    /// A floating-point number with so many bits.
    Float(u8),
    /// An exact number: how many digits it has, and how many of these are after the point.
    Decimal(u8, u8),
    /// `true` or `false`.
    Boolean,
    /// A day.
    Date,
    /// A time of day, to the microsecond.
    Time,
    /// A day and a time, wherever one is.
    Timestamp(Precision),
    /// A moment, the same everywhere: a day and a time with a time zone, UTC if none is written.
    TimestampTz(Precision),
}

/// How fine a timestamp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Milliseconds.
    Milli,
    /// Microseconds.
    Micro,
    /// Nanoseconds.
    Nano,
}

/// A text that is no type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoType;

impl fmt::Display for NoType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no type of a column")
    }
}

impl std::error::Error for NoType {}

impl FromStr for ColumnType {
    type Err = NoType;

    fn from_str(text: &str) -> Result<Self, NoType> {
        if let Some(digits) = text.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')) {
            let (digits, after) = digits.split_once(',').ok_or(NoType)?;
            let number = |text: &str| match text.as_bytes() {
                [b'0'..=b'9'] | [b'0'..=b'9', b'0'..=b'9'] => text.parse::<u8>().ok(),
                _ => None,
            };
            let pair = number(digits).zip(number(after.trim_start_matches(' ')));
            let fits = |(digits, after): &(u8, u8)| (1..=DIGITS).contains(digits) && after <= digits;
            return pair.filter(fits).map(|(digits, after)| Self::Decimal(digits, after)).ok_or(NoType);
        }
        let (name, precision) = match text.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
            Some((name @ ("timestamp" | "timestamptz"), "ms")) => (name, Precision::Milli),
            Some((name @ ("timestamp" | "timestamptz"), "us")) => (name, Precision::Micro),
            Some((name @ ("timestamp" | "timestamptz"), "ns")) => (name, Precision::Nano),
            Some(_) => return Err(NoType),
            None => (text, Precision::Micro),
        };
        Ok(match name {
            "string" => Self::String,
            "int8" => Self::Int(8),
            "int16" => Self::Int(16),
            "int32" => Self::Int(32),
            "int64" => Self::Int(64),
            "uint8" => Self::UInt(8),
            "uint16" => Self::UInt(16),
            "uint32" => Self::UInt(32),
            "uint64" => Self::UInt(64),
            "float32" => Self::Float(32),
            "float64" => Self::Float(64),
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp(precision),
            "timestamptz" => Self::TimestampTz(precision),
            _ => return Err(NoType),
        })
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |precision: &Precision| match precision {
            Precision::Milli => "(ms)",
            Precision::Micro => "",
            Precision::Nano => "(ns)",
        };
        match self {
            Self::String => f.write_str("string"),
            Self::Int(bits) => write!(f, "int{bits}"),
            Self::UInt(bits) => write!(f, "uint{bits}"),
            Self::Float(bits) => write!(f, "float{bits}"),
            Self::Decimal(digits, after) => write!(f, "decimal({digits},{after})"),
            Self::Boolean => f.write_str("boolean"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::Timestamp(precision) => write!(f, "timestamp{}", unit(precision)),
            Self::TimestampTz(precision) => write!(f, "timestamptz{}", unit(precision)),
        }
    }
}

impl TryFrom<String> for ColumnType {
    type Error = NoType;

    fn try_from(text: String) -> Result<Self, NoType> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(kind: ColumnType) -> Self {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::ColumnType;

    #[test]
    fn types_are_read_as_they_are_written() {
        for text in [
            "string",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "float32",
            "float64",
            "boolean",
            "date",
            "time",
            "timestamp",
            "timestamp(ms)",
            "timestamptz(ns)",
            "decimal(10,2)",
            "decimal(76,0)",
        ] {
            assert_eq!(text.parse::<ColumnType>().map(|kind| kind.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("decimal(10, 2)".parse(), Ok(ColumnType::Decimal(10, 2)));
        for text in [
            "",
            "int",
            "int128",
            "String",
            "decimal",
            "decimal(0,0)",
            "decimal(77,2)",
            "decimal(5,6)",
            "decimal(5,-1)",
            "time(ms)",
            "timestamp(s)",
            "timestamp()",
        ] {
            assert!(text.parse::<ColumnType>().is_err(), "{text}");
        }
    }
}
