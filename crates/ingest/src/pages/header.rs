//! Page headers: `PageHeader` of `parquet.thrift`. Reads untrusted bytes; must never take for a header what another reader
//! would read in another way.

use super::chunk::Fault;
use super::thrift::{Compact, FALSE, I32, STRUCT, TRUE};

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
    let mut reader = Compact::new(bytes);
    let header = reader.page_header().ok_or_else(|| Fault::damaged("a page header cannot be read"))?;
    Ok((header, reader.position()))
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
                (5, STRUCT) if kind.is_none() => kind = Some(reader.data()?),
                (7, STRUCT) if kind.is_none() => kind = Some(reader.dictionary()?),
                (8, STRUCT) if kind.is_none() => kind = Some(reader.data_v2()?),
                // Of another type than the format gives it, or of two kinds at once.
                (6, STRUCT) => reader.skip(wire)?,
                (1..=8, _) => return None,
                _ => reader.skip(wire)?,
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
                (1..=4, _) => return None,
                _ => reader.skip(wire)?,
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
                (1 | 2, _) | (3, 3..) => return None,
                _ => reader.skip(wire)?,
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
                (1..=7, _) => return None,
                _ => reader.skip(wire)?,
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
