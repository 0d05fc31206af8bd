//! The heads of values that are encoded as differences: how many numbers they say they are. Decoders make room for that
//! many before they have seen one. Must never decode a value.

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::Page;
use parquet::schema::types::ColumnDescriptor;

use super::chunk::Fault;
use super::thrift::Compact;

/// Refuses a page whose values say that they are more than the page has.
pub(super) fn check(page: &Page, column: &ColumnDescriptor) -> Result<(), Fault> {
    let most = u64::from(page.num_values());
    match page.encoding() {
        _ if !page.is_data_page() => Ok(()),
        Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY => {
            numbers(&values(page, column)?, most).map(|_| ())
        }
        Encoding::DELTA_BYTE_ARRAY => {
            let values = values(page, column)?;
            let prefixes = numbers(&values, most)?;
            numbers(values.get(prefixes..).ok_or_else(short)?, most).map(|_| ())
        }
        _ => Ok(()),
    }
}

fn short() -> Fault {
    Fault::damaged("a page ends before its values do")
}

/// The page's body after its levels.
fn values(page: &Page, column: &ColumnDescriptor) -> Result<Bytes, Fault> {
    match page {
        Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
            let mut rest = buf.clone();
            let levels = [(column.max_rep_level(), rep_level_encoding), (column.max_def_level(), def_level_encoding)];
            for (most, encoding) in levels.into_iter().filter(|(most, _)| *most > 0) {
                let length = if *encoding == Encoding::RLE {
                    let length = rest.first_chunk::<4>().ok_or_else(short)?;
                    u64::from(u32::from_le_bytes(*length)) + 4
                } else {
                    // As many bits as the largest level needs, packed.
                    let bits = u64::from(16 - (most as u16).leading_zeros());
                    (u64::from(*num_values) * bits).div_ceil(8)
                };
                let length = usize::try_from(length).ok().filter(|&length| length <= rest.len()).ok_or_else(short)?;
                rest = rest.slice(length..);
            }
            Ok(rest)
        }
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
            if levels > buf.len() { Err(short()) } else { Ok(buf.slice(levels..)) }
        }
        Page::DictionaryPage { .. } => Ok(Bytes::new()),
    }
}

/// Numbers that are packed as differences, `most` of them; where they end.
fn numbers(bytes: &[u8], most: u64) -> Result<usize, Fault> {
    // A page of nulls may leave them out.
    if bytes.is_empty() {
        return Ok(0);
    }
    let mut reader = Compact::new(bytes);
    let mut head = || Some((reader.varint()?, reader.varint()?, reader.varint()?, reader.zigzag()?));
    let (block, parts, count, _) = head().ok_or_else(short)?;
    if count > most {
        return Err(Fault::damaged(format!("{count} differences in a page of {most} values")));
    }
    let sound = parts > 0 && block % 128 == 0 && block % parts == 0 && (block / parts).is_multiple_of(32);
    if !sound || block == 0 || block > 1 << 30 {
        return Err(Fault::damaged(format!("differences in blocks of {block} values in {parts} parts")));
    }
    let size = block / parts;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        left = self::block(&mut reader, parts, size, left).ok_or_else(short)?;
    }
    Ok(reader.position())
}

/// Goes past a block; how many numbers are left after it.
fn block(reader: &mut Compact<'_>, parts: u64, size: u64, mut left: u64) -> Option<u64> {
    reader.zigzag()?;
    let parts = usize::try_from(parts).ok().filter(|&parts| parts <= reader.left())?;
    let mut packed = 0_u64;
    for _ in 0..parts {
        let width = u64::from(reader.byte()?);
        // The widths of parts that nobody needs may be anything.
        if left > 0 {
            packed = packed.checked_add(width.checked_mul(size)? / 8)?;
        }
        left = left.saturating_sub(size);
    }
    // The last part may end where its numbers do.
    let packed = usize::try_from(packed).ok()?;
    reader.advance(packed.min(reader.left()))?;
    (left == 0 || reader.left() > 0).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers 1 to 5: blocks of 128 in 4 parts, 5 values, the first one is 1, a least difference of 1, widths of 0.
    const ONE_TO_FIVE: [u8; 10] = [0x80, 0x01, 0x04, 0x05, 0x02, 0x02, 0, 0, 0, 0];

    #[test]
    fn numbers_end_where_they_end() {
        assert_eq!(numbers(&ONE_TO_FIVE, 5), Ok(10));
        assert_eq!(numbers(&[ONE_TO_FIVE.as_slice(), b"more"].concat(), 5), Ok(10));
        assert_eq!(numbers(&[], 5), Ok(0));
        for length in 1..10 {
            assert!(numbers(&ONE_TO_FIVE[..length], 5).is_err(), "{length}");
        }
    }

    /// Symptom: the process is gone, with a message of the allocator. Cause: a decoder made room for as many lengths as a
    /// page of a few bytes declared.
    #[test]
    fn more_numbers_than_the_page_has_values_are_refused() {
        assert!(numbers(&ONE_TO_FIVE, 4).is_err());
        let mut many = ONE_TO_FIVE.to_vec();
        many.splice(3..4, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(numbers(&many, u64::from(u32::MAX)).is_err());
    }

    #[test]
    fn blocks_that_cannot_be_are_refused() {
        for (block, parts) in [(0_u8, 4_u8), (0x7f, 4), (0x80, 0), (0x80, 3), (0x80, 127)] {
            let bytes = [block, u8::from(block == 0x80), parts, 5, 2, 2, 0, 0, 0, 0];
            assert!(numbers(&bytes, 5).is_err(), "{block} {parts}");
        }
    }
}
