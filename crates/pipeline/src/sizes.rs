//! Sizes as people write them: a number, perhaps with a fraction, and a unit. This module must never take a size for
//! another one: what is not plain is refused.

/// A regular expression for what [`parse_size`] accepts, for the JSON Schema.
pub(crate) const PATTERN: &str = r"^\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kKmMgGtT]([iI]?[bB])?|[bB])?\s*$";

/// The least size that a file can be aimed at: smaller ones are a crowd.
pub(crate) const LEAST_FILE: u64 = 1 << 20;

/// Reads a size in bytes: a number, perhaps with a fraction, and a unit. `KB`, `MB`, `GB`, `TB` are powers of 1000; `KiB`,
/// `MiB`, `GiB`, `TiB`, and the bare letters `K`, `M`, `G`, `T`, are powers of 1024. Case makes no difference. The error
/// says how sizes are written.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || "write a size such as 512MiB, 2GB or 1073741824".to_owned();
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1_u64,
        "k" | "kib" => 1 << 10,
        "kb" => 1_000,
        "m" | "mib" => 1 << 20,
        "mb" => 1_000_000,
        "g" | "gib" => 1 << 30,
        "gb" => 1_000_000_000,
        "t" | "tib" => 1 << 40,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let bytes = number * factor as f64;
    if bytes < 1.0 || bytes >= u64::MAX as f64 {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("512mib", 512 << 20),
            ("2GB", 2_000_000_000),
            ("1.5 GiB", 3 << 29),
            ("64k", 64 << 10),
            ("1073741824", 1 << 30),
            ("10b", 10),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GB", "0", "-1GB", "2 bananas", "1e9", "99999999999TB", "0.1", "1.2.3"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
