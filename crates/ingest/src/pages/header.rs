//! Page headers: the Thrift compact protocol, as far as a `PageHeader` of `parquet.thrift` needs it. Reads untrusted
//! bytes, so it must never allocate by what they declare, nor recurse without end.

use super::chunk::Fault;

/// How deep structures may be nested in a header; those that the format knows are nested twice.
const DEPTH: u32 = 16;

/// What kind of page a header is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageKind {
    /// A data page, version 1: levels and values are compressed together.
    Data { values: u32, encoding: i32, definition_levels: i32, repetition_levels: i32 },
    /// A data page, version 2: levels come first and are not compressed.
    DataV2 {
        values: u32,
        nulls: u32,
        rows: u32,
        encoding: i32,
        definition_bytes: u32,
        repetition_bytes: u32,
        compressed: bool,
    },
    /// A dictionary page.
    Dictionary { values: u32, encoding: i32 },
    /// Any other: readers skip it.
    Other,
}

/// A page's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub(crate) kind: PageKind,
    /// Bytes of the body before compression, and in the file.
    pub(crate) uncompressed: u32,
    pub(crate) compressed: u32,
    /// CRC-32 of the body as it is in the file.
    pub(crate) crc: Option<u32>,
}

/// Reads the header at the start of `bytes`; also how long it is.
pub(crate) fn read_header(bytes: &[u8]) -> Result<(PageHeader, usize), Fault> {
    let mut reader = Compact { bytes, at: 0 };
    let header = reader.page_header().ok_or_else(|| Fault::damaged("a page header cannot be read"))?;
    Ok((header, reader.at))
}

// The wire types of the compact protocol.
const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// A reader of the compact protocol; `None` is the end of the bytes, or bytes that cannot be.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Compact<'_> {
    fn page_header(&mut self) -> Option<PageHeader> {
        let (mut kind, mut page_type) = (None, None);
        let (mut uncompressed, mut compressed, mut crc) = (None, None, None);
        self.fields(|reader, id, wire| {
            match (id, wire) {
                (1, I32) => page_type = Some(reader.int()?),
                (2, I32) => uncompressed = Some(reader.unsigned()?),
                (3, I32) => compressed = Some(reader.unsigned()?),
                (4, I32) => crc = Some(reader.int()? as u32),
                (5, STRUCT) => kind = Some(reader.data()?),
                (7, STRUCT) => kind = Some(reader.dictionary()?),
                (8, STRUCT) => kind = Some(reader.data_v2()?),
                _ => reader.skip(wire, DEPTH)?,
            }
            Some(())
        })?;
        // A header of a kind that its type does not announce is of no known page.
        let kind = match (page_type?, kind) {
            (0, Some(kind @ PageKind::Data { .. }))
            | (2, Some(kind @ PageKind::Dictionary { .. }))
            | (3, Some(kind @ PageKind::DataV2 { .. })) => kind,
            (0 | 2 | 3, _) => return None,
            _ => PageKind::Other,
        };
        Some(PageHeader { kind, uncompressed: uncompressed?, compressed: compressed?, crc })
    }

    fn data(&mut self) -> Option<PageKind> {
        let (mut values, mut encoding, mut definition_levels, mut repetition_levels) = (None, None, None, None);
        self.fields(|reader, id, wire| {
            match (id, wire) {
                (1, I32) => values = Some(reader.unsigned()?),
                (2, I32) => encoding = Some(reader.int()?),
                (3, I32) => definition_levels = Some(reader.int()?),
                (4, I32) => repetition_levels = Some(reader.int()?),
                _ => reader.skip(wire, DEPTH)?,
            }
            Some(())
        })?;
        Some(PageKind::Data {
            values: values?,
            encoding: encoding?,
            definition_levels: definition_levels?,
            repetition_levels: repetition_levels?,
        })
    }

    fn dictionary(&mut self) -> Option<PageKind> {
        let (mut values, mut encoding) = (None, None);
        self.fields(|reader, id, wire| {
            match (id, wire) {
                (1, I32) => values = Some(reader.unsigned()?),
                (2, I32) => encoding = Some(reader.int()?),
                _ => reader.skip(wire, DEPTH)?,
            }
            Some(())
        })?;
        Some(PageKind::Dictionary { values: values?, encoding: encoding? })
    }

    fn data_v2(&mut self) -> Option<PageKind> {
        let (mut values, mut nulls, mut rows, mut encoding) = (None, None, None, None);
        let (mut definition_bytes, mut repetition_bytes, mut compressed) = (None, None, true);
        self.fields(|reader, id, wire| {
            match (id, wire) {
                (1, I32) => values = Some(reader.unsigned()?),
                (2, I32) => nulls = Some(reader.unsigned()?),
                (3, I32) => rows = Some(reader.unsigned()?),
                (4, I32) => encoding = Some(reader.int()?),
                (5, I32) => definition_bytes = Some(reader.unsigned()?),
                (6, I32) => repetition_bytes = Some(reader.unsigned()?),
                (7, TRUE | FALSE) => compressed = wire == TRUE,
                _ => reader.skip(wire, DEPTH)?,
            }
            Some(())
        })?;
        Some(PageKind::DataV2 {
            values: values?,
            nulls: nulls?,
            rows: rows?,
            encoding: encoding?,
            definition_bytes: definition_bytes?,
            repetition_bytes: repetition_bytes?,
            compressed,
        })
    }

    /// Calls `field` with the number and the wire type of each field of a structure, until its end.
    fn fields(&mut self, mut field: impl FnMut(&mut Self, i32, u8) -> Option<()>) -> Option<()> {
        let mut id = 0_i32;
        loop {
            let byte = self.byte()?;
            let wire = byte & 0x0f;
            if wire == STOP {
                return Some(());
            }
            let step = i32::from(byte >> 4);
            id = if step == 0 { i32::try_from(self.zigzag()?).ok()? } else { id.checked_add(step)? };
            field(self, id, wire)?;
        }
    }

    fn skip(&mut self, wire: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match wire {
            TRUE | FALSE => {}
            BYTE => self.advance(1)?,
            I16 | I32 | I64 => {
                self.varint()?;
            }
            DOUBLE => self.advance(8)?,
            BINARY => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.advance(length)?;
            }
            LIST | SET => {
                let head = self.byte()?;
                let short = u64::from(head >> 4);
                let count = if short == 15 { self.varint()? } else { short };
                for _ in 0..count {
                    self.skip_element(head & 0x0f, depth)?;
                }
            }
            MAP => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                for _ in 0..count {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 0x0f, depth)?;
                }
            }
            STRUCT => self.fields(|reader, _, wire| reader.skip(wire, depth))?,
            _ => return None,
        }
        Some(())
    }

    /// In collections a boolean takes a byte.
    fn skip_element(&mut self, wire: u8, depth: u32) -> Option<()> {
        if wire == TRUE || wire == FALSE { self.advance(1) } else { self.skip(wire, depth) }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn advance(&mut self, bytes: usize) -> Option<()> {
        let end = self.at.checked_add(bytes)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }

    fn varint(&mut self) -> Option<u64> {
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

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn int(&mut self) -> Option<i32> {
        i32::try_from(self.zigzag()?).ok()
    }

    /// A size or a count: never negative.
    fn unsigned(&mut self) -> Option<u32> {
        u32::try_from(self.int()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dictionary page header as parquet-format writes it: type 2, sizes 100 and 60, crc -2, 7 values, encoding 0.
    const DICTIONARY: [u8; 19] = [
        0x15, 0x04, 0x15, 0xc8, 0x01, 0x15, 0x78, 0x15, 0x03, 0x3c, 0x15, 0x0e, 0x15, 0x00, 0x12, 0x00, 0x00, 0xff,
        0xff,
    ];

    #[test]
    fn a_header_is_read_to_its_end_and_not_further() {
        let (header, length) = read_header(&DICTIONARY).unwrap();
        assert_eq!(header.kind, PageKind::Dictionary { values: 7, encoding: 0 });
        assert_eq!((header.uncompressed, header.compressed, header.crc), (100, 60, Some(0xffff_fffe)));
        assert_eq!(length, 17);
    }

    #[test]
    fn no_bytes_make_it_panic_or_hang() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut bytes = DICTIONARY;
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if state.is_multiple_of(3) {
                    *byte = (state >> 32) as u8;
                }
            }
            let _ = read_header(&bytes);
        }
        for length in 0..17 {
            assert!(read_header(&DICTIONARY[..length]).is_err());
        }
    }
}
