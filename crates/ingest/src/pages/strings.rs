//! Byte strings where they lie in decompressed pages: nothing is copied. Reads untrusted bytes; must never give a
//! string that reaches beyond its page.

use bytes::Bytes;

use super::chunk::Fault;
use super::values::short;

/// Byte strings of some pages, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strings {
    pages: Vec<Page>,
    count: usize,
}

#[derive(Debug, Clone)]
struct Page {
    bytes: Bytes,
    /// Where each string begins, and how long it is.
    places: Vec<(u32, u32)>,
}

impl Strings {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Appends the first `count` values of a plain page or dictionary: of one `width`, or each with its length before it.
    pub(crate) fn extend_plain(&mut self, bytes: Bytes, count: usize, width: Option<usize>) -> Result<(), Fault> {
        // Places within a page are 32-bit numbers, and so is the size that its header declares.
        if u32::try_from(bytes.len()).is_err() {
            return Err(Fault::Unsupported);
        }
        let places = match width {
            Some(width) => {
                let whole = count.checked_mul(width).is_some_and(|size| size <= bytes.len());
                let place = |index: usize| ((index * width) as u32, width as u32);
                if whole { (0..count).map(place).collect() } else { return Err(short()) }
            }
            None => prefixed(&bytes, count)?,
        };
        self.count += places.len();
        self.pages.push(Page { bytes, places });
        Ok(())
    }

    /// Whether each of them is valid UTF-8.
    pub(crate) fn is_text(&self) -> bool {
        // Lengths of short strings look like ASCII, too.
        let is_ascii = self.pages.iter().all(|page| page.bytes.is_ascii());
        is_ascii || self.iter().all(|string| simdutf8::basic::from_utf8(string).is_ok())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.pages.iter().flat_map(|page| {
            let bytes = page.bytes.as_ref();
            page.places.iter().map(move |&(at, length)| &bytes[at as usize..at as usize + length as usize])
        })
    }
}

fn prefixed(bytes: &[u8], count: usize) -> Result<Vec<(u32, u32)>, Fault> {
    // At most what is there, whatever was declared.
    if count > bytes.len() / 4 {
        return Err(short());
    }
    let mut places = Vec::with_capacity(count);
    let mut at = 0;
    for _ in 0..count {
        let length = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or_else(short)?;
        let length = u32::from_le_bytes(*length);
        at += 4;
        places.push((at as u32, length));
        at += length as usize;
        if at > bytes.len() {
            return Err(short());
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(strings: &[&str]) -> Bytes {
        strings.iter().flat_map(|s| [&(s.len() as u32).to_le_bytes(), s.as_bytes()].concat()).collect()
    }

    #[test]
    fn strings_of_several_pages_come_in_order() {
        let mut strings = Strings::default();
        strings.extend_plain(page(&["one", "", "three"]), 3, None).unwrap();
        strings.extend_plain(page(&["four", "not counted"]), 1, None).unwrap();
        strings.extend_plain(Bytes::from_static(b"aabb"), 2, Some(2)).unwrap();
        let expected: [&[u8]; 6] = [b"one", b"", b"three", b"four", b"aa", b"bb"];
        assert_eq!(strings.iter().collect::<Vec<_>>(), expected);
        assert_eq!(strings.len(), 6);
        assert!(strings.is_text());
        strings.extend_plain(Bytes::from_static(b"\xc3\xa9"), 1, Some(2)).unwrap();
        assert!(strings.is_text());
        strings.extend_plain(Bytes::from_static(b"\xc3\xa9"), 2, Some(1)).unwrap();
        assert!(!strings.is_text());
    }

    #[test]
    fn more_strings_than_there_are_bytes_are_an_error() {
        for (bytes, count, width) in [
            (page(&["ab"]), 2, None),
            (page(&["ab"]).slice(..5), 1, None),
            (Bytes::from_static(&[255, 255, 255, 255, 1]), 1, None),
            (Bytes::from_static(b"abc"), 2, Some(2)),
            (Bytes::from_static(b"abc"), usize::MAX, Some(2)),
            (Bytes::new(), usize::MAX, None),
        ] {
            assert!(Strings::default().extend_plain(bytes, count, width).is_err());
        }
    }
}
