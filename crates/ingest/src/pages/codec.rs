//! Compressing the bodies of pages that are made here. It must never choose a codec: what it does not have is said to be
//! unsupported, and the caller takes the general way.

use std::fmt;

use bytes::Bytes;
use parquet::basic::Compression;

use super::chunk::Fault;

/// Compresses one body after another, and keeps what it needs for that.
pub(super) struct Compressor {
    codec: Compression,
    state: State,
}

enum State {
    Nothing,
    Snappy(Box<snap::raw::Encoder>),
    Zstd(zstd::bulk::Compressor<'static>),
    Lz4,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Compressor {
    pub(super) fn new(codec: Compression) -> Result<Self, Fault> {
        let state = match codec {
            Compression::UNCOMPRESSED => State::Nothing,
            Compression::SNAPPY => State::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::ZSTD(level) => {
                let level = level.compression_level();
                State::Zstd(zstd::bulk::Compressor::new(level).map_err(|_| Fault::Unsupported)?)
            }
            Compression::LZ4_RAW => State::Lz4,
            _ => return Err(Fault::Unsupported),
        };
        Ok(Self { codec, state })
    }

    /// The body of a page as the codec makes it.
    pub(super) fn compress(&mut self, body: Vec<u8>) -> Result<Bytes, Fault> {
        let made = match &mut self.state {
            State::Nothing => body,
            State::Snappy(encoder) => encoder.compress_vec(&body).map_err(|_| Fault::Unsupported)?,
            State::Zstd(compressor) => compressor.compress(&body).map_err(|_| Fault::Unsupported)?,
            State::Lz4 => lz4_flex::block::compress(&body),
        };
        Ok(made.into())
    }
}
