//! A column as numbers: each distinct value gets one, in the order of first appearance, so that everything after this
//! compares integers and no type matters any more. Must never give one number to two values, nor two to one.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::error::Result;
use crate::keys::{Interner, KeyCodec, KeyRef};

/// The number that stands for null.
pub(super) const NULL: u32 = 0;

/// A column of the sample.
#[derive(Debug, Clone)]
pub(super) struct Coded {
    /// Its name.
    pub(super) name: String,
    /// Its type.
    pub(super) kind: DataType,
    /// Each record's value: `NULL`, or a number from 1 to `distinct`.
    pub(super) codes: Vec<u32>,
    /// How many distinct values it has, null not counted.
    pub(super) distinct: u32,
    /// How many records have none.
    pub(super) nulls: u32,
    /// Whether its values are texts that look like codes: none has a blank, most have a digit and a letter. The letters of
    /// moments (`2026-01-31T12:00:05Z`) do not count.
    pub(super) looks_like_code: bool,
}

impl Coded {
    /// How many records have a value.
    pub(super) fn filled(&self) -> u32 {
        self.codes.len() as u32 - self.nulls
    }

    /// How many records have a value that an earlier one has had.
    pub(super) fn repeats(&self) -> u32 {
        self.filled() - self.distinct
    }

    /// Whether all records have the same value, or none.
    pub(super) fn is_constant(&self) -> bool {
        self.distinct + u32::from(self.nulls > 0) <= 1
    }

    /// Whether every record has a value of its own. One record says nothing about that.
    pub(super) fn is_unique(&self) -> bool {
        self.nulls == 0 && self.codes.len() > 1 && self.distinct as usize == self.codes.len()
    }

    /// Whether it is a whole number.
    pub(super) fn is_integer(&self) -> bool {
        self.kind.is_integer()
    }

    /// Whether its type is one that people tell things apart by. Amounts and moments are equal by chance too often, and
    /// floats are not even equal to themselves.
    pub(super) fn can_be_key(&self) -> bool {
        use DataType::{Binary, FixedSizeBinary, LargeBinary, LargeUtf8, Utf8};
        self.is_integer() || matches!(self.kind, Utf8 | LargeUtf8 | Binary | LargeBinary | FixedSizeBinary(_))
    }

    /// The chance that two records, taken by chance, agree in this column.
    pub(super) fn agreement(&self) -> f64 {
        let mut counts = vec![0_u64; self.distinct as usize + 1];
        for &code in &self.codes {
            counts[code as usize] += 1;
        }
        let records = self.codes.len().max(1) as f64;
        counts.iter().map(|&count| (count as f64 / records).powi(2)).sum()
    }
}

/// Gives the values of a column, which may come in several pieces, their numbers.
pub(super) fn code(name: &str, kind: &DataType, pieces: &[ArrayRef]) -> Result<Coded> {
    let keys_of = KeyCodec::new(vec![kind.clone()])?;
    let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8);
    let mut interner: Option<Interner> = None;
    let mut codes = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    let (mut nulls, mut blanks, mut mixed) = (0, false, 0_u32);
    for piece in pieces {
        let keys = keys_of.encode(std::slice::from_ref(piece));
        for row in 0..piece.len() {
            let Some(key) = keys.get(row) else {
                nulls += 1;
                codes.push(NULL);
                continue;
            };
            let interner = interner.get_or_insert_with(|| Interner::new(matches!(key, KeyRef::Fixed(_))));
            let (number, is_new) = interner.intern(key);
            codes.push(number + 1);
            if let (true, true, KeyRef::Bytes(bytes)) = (is_text, is_new, key) {
                blanks |= bytes.is_empty() || bytes.iter().any(u8::is_ascii_whitespace);
                let is_letter = |byte: &u8| byte.is_ascii_alphabetic() && !b"TZtz".contains(byte);
                mixed += u32::from(bytes.iter().any(u8::is_ascii_digit) && bytes.iter().any(is_letter));
            }
        }
    }
    let distinct = interner.map_or(0, |interner| interner.len() as u32);
    let looks_like_code = is_text && !blanks && mixed > distinct / 2;
    Ok(Coded { name: name.to_owned(), kind: kind.clone(), codes, distinct, nulls, looks_like_code })
}
