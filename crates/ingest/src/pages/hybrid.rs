//! The RLE and bit-packing hybrid of Parquet's `Encodings.md`: dictionary indices and levels. Reads untrusted bytes; it
//! must never give another number of values than it was asked for.

use super::chunk::Fault;

/// Appends `count` values of `width` bits to `out`.
pub(crate) fn decode(mut bytes: &[u8], width: u32, count: usize, out: &mut Vec<u32>) -> Result<(), Fault> {
    if width > 32 {
        return Err(Fault::damaged("values of more than 32 bits"));
    }
    let end = out.len() + count;
    out.reserve(count);
    while out.len() < end {
        let left = end - out.len();
        let header = varint(&mut bytes)?;
        if header & 1 == 0 {
            let value = repeated(&mut bytes, width)?;
            let run = usize::try_from(header >> 1).unwrap_or(usize::MAX);
            if run == 0 {
                return Err(Fault::damaged("an empty run"));
            }
            out.resize(out.len() + run.min(left), value);
        } else {
            let groups = usize::try_from(header >> 1).unwrap_or(usize::MAX);
            if groups == 0 {
                return Err(Fault::damaged("an empty run"));
            }
            let values = groups.saturating_mul(8).min(left);
            let packed = (values * width as usize).div_ceil(8);
            let Some(run) = bytes.get(..packed) else {
                return Err(Fault::damaged("a run ends before its values do"));
            };
            unpack(run, width, values, out);
            // Some writers leave out the padding of the last group.
            let whole = groups.saturating_mul(width as usize).min(bytes.len());
            bytes = &bytes[whole..];
        }
    }
    Ok(())
}

/// If all `count` values are one run of one value: that value.
pub(crate) fn constant(mut bytes: &[u8], width: u32, count: usize) -> Option<u32> {
    let header = varint(&mut bytes).ok()?;
    let run = usize::try_from(header >> 1).ok()?;
    if header & 1 == 0 && run >= count { repeated(&mut bytes, width).ok() } else { None }
}

/// One run of `count` times `value`, of one bit.
pub(crate) fn run_of_bits(count: u32, value: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(6);
    write_run(count as usize, u32::from(value), 1, &mut out);
    out
}

/// Bits as one packed run.
pub(crate) fn packed_bits(bits: &[bool]) -> Vec<u8> {
    let groups = bits.len().div_ceil(8);
    let mut out = Vec::with_capacity(groups + 6);
    write_varint((groups as u64) << 1 | 1, &mut out);
    out.extend(bits.chunks(8).map(|group| group.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit))));
    out
}

/// So many equal values are written as a run of their own: fewer are no longer when they are packed with others.
const RUN: usize = 64;

/// Appends values of at most `width` bits, 1 to 32: long runs of one value as such, what is between them packed.
pub(super) fn encode(values: &[u32], width: u32, out: &mut Vec<u8>) {
    let (mut packed, mut at) = (0, 0);
    while at < values.len() {
        let run = values[at..].iter().take_while(|&&value| value == values[at]).count();
        // Packed values come in eights, so the first ones of a run may have to fill up those before it.
        let fill = (packed..at).len().next_multiple_of(8) - (packed..at).len();
        if run >= RUN + fill {
            write_packed(&values[packed..at + fill], width, out);
            write_run(run - fill, values[at], width, out);
            packed = at + run;
        }
        at += run;
    }
    write_packed(&values[packed..], width, out);
}

fn write_run(count: usize, value: u32, width: u32, out: &mut Vec<u8>) {
    write_varint((count as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

fn write_packed(values: &[u32], width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    write_varint((groups as u64) << 1 | 1, out);
    out.reserve(groups * width as usize + 8);
    let (mut word, mut bits) = (0_u64, 0);
    for &value in values.iter().chain(std::iter::repeat_n(&0, groups * 8 - values.len())) {
        word |= u64::from(value) << bits;
        bits += width;
        if bits >= 32 {
            out.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            bits -= 32;
        }
    }
    // Eight values of any width end with a byte.
    out.extend_from_slice(&word.to_le_bytes()[..bits as usize / 8]);
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Fault::damaged("a run's length cannot be read"))
}

fn repeated(bytes: &mut &[u8], width: u32) -> Result<u32, Fault> {
    let size = width.div_ceil(8) as usize;
    let Some((value, rest)) = bytes.split_at_checked(size) else {
        return Err(Fault::damaged("a run has no value"));
    };
    *bytes = rest;
    let mut whole = [0; 4];
    whole[..size].copy_from_slice(value);
    Ok(u32::from_le_bytes(whole))
}

/// Unpacks `values` numbers; `bytes` is just as long as they are.
fn unpack(bytes: &[u8], width: u32, values: usize, out: &mut Vec<u32>) {
    if width == 0 {
        out.resize(out.len() + values, 0);
        return;
    }
    let mask = if width == 32 { u64::from(u32::MAX) } else { (1 << width) - 1 };
    let step = width as usize;
    // As long as eight bytes can be read at once, a value is one load, one shift, one mask.
    let safe = if bytes.len() >= 8 { ((bytes.len() - 8) * 8 / step).min(values) } else { 0 };
    let mut bit = 0;
    out.extend((0..safe).map(|_| {
        let at = bit / 8;
        let word = bytes[at..at + 8].first_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk));
        let value = (word >> (bit % 8)) & mask;
        bit += step;
        value as u32
    }));
    let tail = bit / 8;
    let mut padded = [0; 64];
    let rest = &bytes[tail..];
    padded[..rest.len()].copy_from_slice(rest);
    out.extend((safe..values).map(|_| {
        let at = bit / 8 - tail;
        let word = padded[at..at + 8].first_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk));
        let value = (word >> (bit % 8)) & mask;
        bit += step;
        value as u32
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(values: &[u32], width: u32) -> Vec<u8> {
        let mut bytes = vec![0_u8; (values.len().div_ceil(8) * 8 * width as usize).div_ceil(8)];
        for (index, &value) in values.iter().enumerate() {
            for bit in 0..width as usize {
                let at = index * width as usize + bit;
                bytes[at / 8] |= ((value >> bit & 1) as u8) << (at % 8);
            }
        }
        bytes
    }

    #[test]
    fn every_width_comes_back() {
        for width in 0..=32_u32 {
            for count in [1_usize, 7, 8, 9, 63, 64, 65, 500] {
                let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
                let values: Vec<u32> = (0..count as u32).map(|n| n.wrapping_mul(2_654_435_761) & mask).collect();
                let mut bytes = vec![((count.div_ceil(8) << 1) | 1) as u8];
                if count.div_ceil(8) >= 64 {
                    continue;
                }
                bytes.extend(pack(&values, width));
                let mut out = Vec::new();
                decode(&bytes, width, count, &mut out).unwrap();
                assert_eq!(out, values, "width {width}, {count} values");
            }
        }
    }

    #[test]
    fn runs_and_packed_values_alternate() {
        // Five times 3, then eight packed values, then a run that is longer than needed.
        let mut bytes = vec![5 << 1, 3, 1 << 1 | 1];
        bytes.extend(pack(&[0, 1, 2, 3, 4, 5, 6, 7], 3));
        bytes.extend([60 << 1, 6]);
        let mut out = Vec::new();
        decode(&bytes, 3, 15, &mut out).unwrap();
        assert_eq!(out, [3, 3, 3, 3, 3, 0, 1, 2, 3, 4, 5, 6, 7, 6, 6]);
        assert_eq!(constant(&run_of_bits(1000, true), 1, 1000), Some(1));
        assert_eq!(constant(&bytes, 3, 15), None);
    }

    #[test]
    fn what_is_encoded_comes_back() {
        for width in 1..=32_u32 {
            let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
            let mut values: Vec<u32> = Vec::new();
            for part in 0..40_u32 {
                // Runs of all lengths around those that are worth one, and values between them.
                values.resize(values.len() + (part * 7 % 90) as usize, part & mask);
                values.extend((0..part % 11).map(|n| (n * part).wrapping_mul(2_654_435_761) & mask));
            }
            for count in (0..values.len()).step_by(37) {
                let mut bytes = Vec::new();
                encode(&values[..count], width, &mut bytes);
                let mut out = Vec::new();
                decode(&bytes, width, count, &mut out).unwrap();
                assert_eq!(out, values[..count], "width {width}, {count} values");
            }
        }
        let mut run = Vec::new();
        encode(&vec![5; 100_000], 9, &mut run);
        assert!(run.len() < 8, "a run of one value is short: {run:?}");
    }

    #[test]
    fn too_few_bytes_are_an_error() {
        for bytes in [&[][..], &[0x80], &[4], &[3, 1], &[0, 1], &[1]] {
            assert!(decode(bytes, 9, 8, &mut Vec::new()).is_err(), "{bytes:?}");
        }
    }
}
