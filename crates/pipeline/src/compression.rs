//! How `output.compression` is written: a codec, and in parentheses its level where it has one. This module must never
//! guess a level: one out of range is refused, not bent.

use crate::model::Compression;
use crate::nearest::nearest;

/// The codecs as they are written, with the range of their levels.
const CODECS: [(&str, Option<(i64, i64)>); 7] = [
    ("none", None),
    ("uncompressed", None),
    ("snappy", None),
    ("lz4", None),
    ("gzip", Some((0, 9))),
    ("brotli", Some((0, 11))),
    ("zstd", Some((1, 22))),
];

/// The levels that a codec has if none is written: those of the Parquet library, because they are what other writers
/// of Parquet use too.
const GZIP_LEVEL: u32 = 6;
const BROTLI_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// A regular expression for what [`parse`] accepts, for the JSON Schema.
pub(crate) const PATTERN: &str = concat!(
    r"^(none|uncompressed|snappy|lz4|gzip(\([0-9]\))?",
    r"|brotli(\(([0-9]|1[01])\))?|zstd(\(([1-9]|1[0-9]|2[0-2])\))?)$"
);

/// Why a text is no compression, and the remedy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoCompression {
    pub(crate) message: &'static str,
    pub(crate) help: String,
}

/// Reads a compression.
pub(crate) fn parse(text: &str) -> Result<Compression, NoCompression> {
    let (codec, level) = match text.split_once('(') {
        None => (text, None),
        Some((codec, rest)) => match rest.strip_suffix(')') {
            Some(level) => (codec, Some(level)),
            None => return Err(unknown(codec)),
        },
    };
    let Some((name, range)) = CODECS.into_iter().find(|(name, _)| *name == codec) else {
        return Err(unknown(codec));
    };
    let level = match (level, range) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(NoCompression {
                message: "has a level, but this codec has none",
                help: format!("write `{name}`"),
            });
        }
        (Some(level), Some((lowest, highest))) => {
            let valid = level.parse::<i64>().ok().filter(|n| (lowest..=highest).contains(n) && n.to_string() == level);
            let help = || format!("`{name}` has levels {lowest} to {highest}: write `{name}` or `{name}({lowest})`");
            Some(valid.ok_or_else(|| NoCompression { message: "has a level that does not exist", help: help() })?)
        }
    };
    Ok(match name {
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "gzip" => Compression::Gzip(level.map_or(GZIP_LEVEL, |n| n as u32)),
        "brotli" => Compression::Brotli(level.map_or(BROTLI_LEVEL, |n| n as u32)),
        "zstd" => Compression::Zstd(level.map_or(ZSTD_LEVEL, |n| n as i32)),
        _ => Compression::None,
    })
}

fn unknown(codec: &str) -> NoCompression {
    let mut help = match nearest(codec, CODECS.into_iter().map(|(name, _)| name)) {
        Some(near) => format!("did you mean `{near}`? "),
        None => String::new(),
    };
    help.push_str("it is one of `none`, `snappy`, `lz4`, `gzip(0)` to `gzip(9)`, `brotli(0)` to `brotli(11)`, ");
    help.push_str("`zstd(1)` to `zstd(22)`");
    NoCompression { message: "is no compression", help }
}

#[cfg(test)]
mod tests {
    use super::{Compression, parse};

    #[test]
    fn reads_every_codec_and_level() {
        for (text, compression) in [
            ("none", Compression::None),
            ("uncompressed", Compression::None),
            ("snappy", Compression::Snappy),
            ("lz4", Compression::Lz4),
            ("gzip", Compression::Gzip(6)),
            ("brotli", Compression::Brotli(1)),
            ("zstd", Compression::Zstd(1)),
        ] {
            assert_eq!(parse(text), Ok(compression), "{text}");
        }
        let levels = (0..=9)
            .map(Compression::Gzip)
            .chain((0..=11).map(Compression::Brotli))
            .chain((1..=22).map(Compression::Zstd));
        for compression in levels {
            assert_eq!(parse(&compression.to_string()), Ok(compression));
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "(",
            "zstd(",
            "zstd)",
            "zstd()",
            "zstd(0)",
            "zstd(23)",
            "zstd(1",
            "zstd(01)",
            "zstd(+1)",
            "zstd(-1)",
            "gzip(10)",
            "brotli(12)",
            "snappy(1)",
            "none(0)",
            "ZSTD",
            " zstd",
            "zstd(1) ",
            "zstd (1)",
            "lzo",
            "zstd(99999999999999999999)",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
