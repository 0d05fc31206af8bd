//! The Thrift compact protocol, as far as Parquet's headers and footers need it. Reads untrusted bytes, so it must never
//! allocate by what they declare, recurse without end, or take longer than they are long. What it accepts, every other
//! reader takes in the same way: a field has the type that the format gives it, and is there once.

/// How deep structures may be nested; the format's own are nested eight times at most.
const DEPTH: u32 = 24;

// The wire types of the compact protocol.
const STOP: u8 = 0;
pub(crate) const TRUE: u8 = 1;
pub(crate) const FALSE: u8 = 2;
pub(crate) const BYTE: u8 = 3;
const I16: u8 = 4;
pub(crate) const I32: u8 = 5;
pub(crate) const I64: u8 = 6;
pub(crate) const DOUBLE: u8 = 7;
pub(crate) const BINARY: u8 = 8;
pub(crate) const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub(crate) const STRUCT: u8 = 12;

/// A reader of the compact protocol; `None` is the end of the bytes, or bytes that cannot be.
#[derive(Debug)]
pub(crate) struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The fields of a structure that were there already.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    last: i16,
    fields: u64,
}

impl<'a> Compact<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// How many are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The number and the wire type of a structure's next field; `Some(None)` at its end. Of the fields with numbers up to
    /// 63, none comes twice: readers differ in which one they believe.
    #[expect(clippy::option_option, reason = "bytes that are no field, and the end of all fields, are two things")]
    pub(crate) fn field(&mut self, before: &mut Seen) -> Option<Option<(i16, u8)>> {
        let byte = self.byte()?;
        let wire = byte & 0x0f;
        if wire == STOP {
            return Some(None);
        }
        let step = i16::from(byte >> 4);
        let id = if step == 0 { i16::try_from(self.zigzag()?).ok()? } else { before.last.checked_add(step)? };
        if (0..64).contains(&id) {
            let bit = 1 << id;
            if before.fields & bit != 0 {
                return None;
            }
            before.fields |= bit;
        }
        before.last = id;
        Some(Some((id, wire)))
    }

    /// Calls `field` with the number and the wire type of each field of a structure, until its end.
    pub(crate) fn fields(&mut self, mut field: impl FnMut(&mut Self, i16, u8) -> Option<()>) -> Option<()> {
        let mut seen = Seen::default();
        while let Some((id, wire)) = self.field(&mut seen)? {
            field(self, id, wire)?;
        }
        Some(())
    }

    /// The head of a list: the type of its elements and how many there are. There are not more than bytes are left, and
    /// elements take at least one each, so that to go through a list takes no longer than it is long.
    pub(crate) fn list(&mut self) -> Option<(u8, usize)> {
        let head = self.byte()?;
        let (wire, short) = (head & 0x0f, usize::from(head >> 4));
        let count = if short == 15 { usize::try_from(self.varint()?).ok()? } else { short };
        // Readers disagree on how many bytes the booleans of a list take, and the format has no such lists here.
        let possible = count <= self.left() && !(count > 0 && matches!(wire, STOP | TRUE | FALSE));
        possible.then_some((wire, count))
    }

    /// Goes past a value of this type.
    pub(crate) fn skip(&mut self, wire: u8) -> Option<()> {
        self.skip_within(wire, DEPTH)
    }

    fn skip_within(&mut self, wire: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match wire {
            TRUE | FALSE => {}
            BYTE => self.advance(1)?,
            I16 | I32 | I64 => {
                self.varint()?;
            }
            DOUBLE => self.advance(8)?,
            BINARY => {
                self.binary()?;
            }
            LIST | SET => {
                let (element, count) = self.list()?;
                for _ in 0..count {
                    self.skip_within(element, depth)?;
                }
            }
            MAP => {
                let count = usize::try_from(self.varint()?).ok().filter(|&count| count <= self.left())?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                let (key, value) = (kinds >> 4, kinds & 0x0f);
                if count > 0 && [key, value].iter().any(|kind| matches!(*kind, STOP | TRUE | FALSE)) {
                    return None;
                }
                for _ in 0..count {
                    self.skip_within(key, depth)?;
                    self.skip_within(value, depth)?;
                }
            }
            STRUCT => self.fields(|reader, _, wire| reader.skip_within(wire, depth))?,
            _ => return None,
        }
        Some(())
    }

    /// A byte string, where it lies.
    pub(crate) fn binary(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let from = self.at;
        self.advance(length)?;
        Some(&self.bytes[from..self.at])
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(crate) fn advance(&mut self, bytes: usize) -> Option<()> {
        let end = self.at.checked_add(bytes)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn int(&mut self) -> Option<i32> {
        i32::try_from(self.zigzag()?).ok()
    }

    /// A size or a count: never negative.
    pub(crate) fn unsigned(&mut self) -> Option<u32> {
        u32::try_from(self.int()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: a file of a few bytes keeps a reader busy for hours. Cause: it skips the booleans of a list without
    /// reading a byte for each, however many are declared.
    #[test]
    fn a_list_is_not_longer_than_its_bytes() {
        // 2,147,483,647 booleans, strings, structures in a few bytes.
        for element in [TRUE, FALSE, BYTE, BINARY, STRUCT, LIST] {
            let bytes = [0xf0 | element, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0, 0];
            assert_eq!(Compact::new(&bytes).skip(LIST), None, "{element}");
            assert_eq!(Compact::new(&bytes).skip(SET), None, "{element}");
        }
        let map = [0xff, 0xff, 0xff, 0xff, 0x07, 0x11, 0, 0];
        assert_eq!(Compact::new(&map).skip(MAP), None);
        assert_eq!(Compact::new(&[0x00]).skip(LIST), Some(()), "an empty list");
        assert_eq!(Compact::new(&[0x35, 2, 4, 6]).skip(LIST), Some(()), "three numbers");
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let lists = [0x19; 4000];
        assert_eq!(Compact::new(&lists).skip(LIST), None);
        let structures = [0x1c; 4000];
        assert_eq!(Compact::new(&structures).skip(STRUCT), None);
    }

    #[test]
    fn a_field_is_there_once() {
        let read = |bytes: &[u8]| Compact::new(bytes).fields(|reader, _, wire| reader.skip(wire));
        assert_eq!(read(&[0x15, 2, 0x15, 4, 0]), Some(()), "fields 1 and 2");
        assert_eq!(read(&[0x15, 2, 0x05, 2, 4, 0]), None, "field 1 and field 1 again");
        assert_eq!(read(&[0x05, 0x80, 0x80, 0x08, 2, 0]), None, "a field of number 65,536");
    }
}
