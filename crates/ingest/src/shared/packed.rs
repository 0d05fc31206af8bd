//! Small forms of what goes through the work location: ascending numbers as differences, and origins of keys in half of
//! their room where they fit. Must give back exactly what went in.

use crate::artifacts::{Decoder, Encoder};
use crate::resolve::KNOWN;

/// Appends ascending numbers, as differences of seven bits to a byte.
pub(super) fn ascending(numbers: &[u32], out: &mut Encoder) {
    let mut bytes = Vec::with_capacity(numbers.len() * 2);
    let mut before = 0;
    for &number in numbers {
        let mut rest = number - before;
        before = number;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    out.bytes(&bytes);
}

/// Calls `visit` with each of them; `None` if the bytes are not of that form.
pub(super) fn each_ascending(from: &mut Decoder<'_>, mut visit: impl FnMut(u32) -> Option<()>) -> Option<()> {
    let (mut sum, mut open, mut shift) = (0_u32, 0_u32, 0);
    for &byte in from.slice()? {
        open |= u32::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            sum = sum.checked_add(open)?;
            visit(sum)?;
            (open, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(())
}

/// Appends packed origins: 32 bits each, and a bit for which are known, where all of them fit.
pub(super) fn origins(origins: &[u64], out: &mut Encoder) {
    if origins.iter().any(|&origin| origin & !KNOWN > u64::from(u32::MAX)) {
        out.u64(1);
        out.u64s(origins);
        return;
    }
    out.u64(0);
    out.u32s(&origins.iter().map(|&origin| origin as u32).collect::<Vec<_>>());
    let known = |of: &[u64]| (0..).zip(of).map(|(bit, &origin)| (origin >> 63) << bit).sum();
    let words: Vec<u64> = origins.chunks(64).map(known).collect();
    out.u64s(if words.iter().all(|&word| word == 0) { &[] } else { &words });
}

/// Reads them back; `None` if the bytes are not of that form.
pub(super) fn read_origins(from: &mut Decoder<'_>) -> Option<Vec<u64>> {
    if from.u64()? == 1 {
        return from.u64s();
    }
    let (values, known) = (from.u32s()?, from.u64s()?);
    if !known.is_empty() && known.len() != values.len().div_ceil(64) {
        return None;
    }
    let bit = |index: usize| known.get(index / 64).map_or(0, |word| word >> (index % 64) & 1);
    Some(values.into_iter().enumerate().map(|(index, value)| u64::from(value) | bit(index) << 63).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g5_numbers_come_back_as_they_were() {
        for numbers in [vec![], vec![0], vec![0, 1, 127, 128, 16_383, 16_384, u32::MAX - 1], vec![u32::MAX]] {
            let mut out = Encoder::default();
            ascending(&numbers, &mut out);
            let (bytes, mut found) = (out.finish(), Vec::new());
            each_ascending(&mut Decoder::new(&bytes).unwrap(), |number| {
                found.push(number);
                Some(())
            })
            .unwrap();
            assert_eq!(found, numbers);
        }
    }

    #[test]
    fn g4_origins_come_back_as_they_were() {
        let many: Vec<u64> = (0..200).map(|n| if n % 3 == 0 { KNOWN | n } else { n }).collect();
        for given in [vec![], vec![7], many, vec![3, KNOWN | 1 << 40, KNOWN | u64::from(u32::MAX), 5]] {
            let mut out = Encoder::default();
            origins(&given, &mut out);
            let bytes = out.finish();
            assert_eq!(read_origins(&mut Decoder::new(&bytes).unwrap()).unwrap(), given);
        }
    }
}
