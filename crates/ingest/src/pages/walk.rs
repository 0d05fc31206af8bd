//! What the page headers of a column chunk declare, held against its bytes and against what the footer says, before
//! anything is decompressed: where each page is, how large it says it becomes, how many values it says it has. It knows
//! only headers; must never allocate by what they declare.

use std::ops::Range;

use parquet::basic::{Compression, Type as Physical};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescriptor;

use super::chunk::Fault;
use super::header::{PageHeader, PageKind};

/// A page as it is in the file.
#[derive(Debug, Clone)]
pub(crate) struct RawPage {
    pub(crate) header: PageHeader,
    /// Where the page begins, header included, and where its body is, in the chunk.
    pub(crate) start: usize,
    pub(crate) body: Range<usize>,
}

/// What a page may become where its codec has no bound: larger ones are believed as far as [`RATIO`] goes.
const PAGE_BYTES: u64 = 64 << 20;
/// How many times its size such a page may become beyond that.
const RATIO: u64 = 1024;
/// What a codec may add to any size: a header, a block of zeros.
const SLACK: u64 = 4096;

/// How large `compressed` bytes can become.
pub(crate) fn most_uncompressed(codec: Compression, compressed: u64) -> u64 {
    let times = |ratio: u64| compressed.saturating_mul(ratio).saturating_add(SLACK);
    match codec {
        // A copy of up to 64 bytes takes three, or two for 11.
        Compression::SNAPPY => times(24),
        // Each further byte of a match's length stands for 255.
        Compression::LZ4 | Compression::LZ4_RAW => times(256),
        // 258 bytes in two bits.
        Compression::GZIP(_) => times(1040),
        // These can say "the same, a thousand times" in a few bytes, as often as they like.
        _ => PAGE_BYTES.max(compressed.saturating_mul(RATIO)),
    }
}

/// Goes through the headers of the pages of a column chunk.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    column: &'a ColumnChunkMetaData,
    rows: u64,
    pages: Vec<RawPage>,
    values: u64,
    /// Rows of data pages that tell them; `None`: some page does not.
    told: Option<u64>,
}

impl<'a> Walk<'a> {
    /// For the chunk of a row group of `rows` rows.
    pub(super) fn new(column: &'a ColumnChunkMetaData, rows: u64) -> Self {
        Self { column, rows, pages: Vec::new(), values: 0, told: Some(0) }
    }

    /// Where the next page begins.
    pub(super) fn at(&self) -> usize {
        self.pages.last().map_or(0, |page| page.body.end)
    }

    /// Takes the next page, whose header is so long; `length` is the chunk's.
    pub(super) fn page(&mut self, header: PageHeader, header_length: usize, length: usize) -> Result<(), Fault> {
        let start = self.at();
        let body = start + header_length;
        let end = body.checked_add(header.compressed as usize).filter(|&end| end <= length);
        let end = end.ok_or_else(|| Fault::damaged("a page reaches beyond the end of its column chunk"))?;
        self.check_size(&header)?;
        self.check_kind(&header)?;
        self.pages.push(RawPage { header, start, body: body..end });
        Ok(())
    }

    /// The pages, which must have as many values as the footer declares.
    pub(super) fn finish(self) -> Result<Vec<RawPage>, Fault> {
        let declared = self.column.num_values();
        if i64::try_from(self.values) != Ok(declared) {
            let text =
                format!("the pages of a column have {} values where the footer declares {declared}", self.values);
            return Err(Fault::damaged(text));
        }
        match self.told {
            Some(told) if told != self.rows && self.values > 0 => Err(Fault::damaged(format!(
                "the pages of a column have {told} rows where its row group has {}",
                self.rows
            ))),
            _ => Ok(self.pages),
        }
    }

    fn check_size(&self, header: &PageHeader) -> Result<(), Fault> {
        let is_compressed = match header.kind {
            PageKind::Other => return Ok(()),
            PageKind::DataV2 { compressed, .. } => compressed,
            PageKind::Data { .. } | PageKind::Dictionary { .. } => true,
        };
        let codec = self.column.compression();
        if !is_compressed || codec == Compression::UNCOMPRESSED {
            return Ok(());
        }
        let (declared, compressed) = (u64::from(header.uncompressed), u64::from(header.compressed));
        // What stands before the values is not compressed.
        if declared > most_uncompressed(codec, compressed) {
            return Err(Fault::damaged(format!(
                "a page of {compressed} bytes declares that it becomes {declared}: more than its compression can make"
            )));
        }
        Ok(())
    }

    fn check_kind(&mut self, header: &PageHeader) -> Result<(), Fault> {
        match header.kind {
            PageKind::Other => Ok(()),
            PageKind::Dictionary { values, encoding } => self.check_dictionary(header, values, encoding),
            PageKind::Data { values, encoding, .. } => {
                self.check_encoding(encoding)?;
                if self.column.column_descr().max_def_level() == 0 {
                    self.check_plain(header, encoding, values, 0)?;
                }
                if self.column.column_descr().max_rep_level() == 0 {
                    self.told = self.told.map(|told| told + u64::from(values));
                } else {
                    self.told = None;
                }
                self.add_values(values)
            }
            PageKind::DataV2 { values, nulls, rows, encoding, definition_bytes, repetition_bytes, .. } => {
                self.check_encoding(encoding)?;
                let levels = u64::from(definition_bytes) + u64::from(repetition_bytes);
                if levels > u64::from(header.compressed).min(u64::from(header.uncompressed)) {
                    return Err(Fault::damaged("the levels of a page are longer than the page"));
                }
                if nulls > values || rows > values {
                    return Err(Fault::damaged(format!("a page has {nulls} nulls and {rows} rows in {values} values")));
                }
                self.check_plain(header, encoding, values - nulls, levels)?;
                self.told = self.told.map(|told| told + u64::from(rows));
                self.add_values(values)
            }
        }
    }

    /// The encoding of a data page is one of the format's, and there is a dictionary if it needs one.
    fn check_encoding(&self, encoding: i32) -> Result<(), Fault> {
        let is_dictionary = |page: &RawPage| matches!(page.header.kind, PageKind::Dictionary { .. });
        match encoding {
            0 | 3..=7 | 9 => Ok(()),
            2 | 8 if self.pages.iter().any(is_dictionary) => Ok(()),
            2 | 8 => Err(Fault::damaged("a page needs a dictionary, and there is none")),
            _ => Err(Fault::damaged(format!("a page has the encoding {encoding}, which is none of the format's"))),
        }
    }

    /// Plain values of a known number have room in their page, after so many bytes of levels.
    fn check_plain(&self, header: &PageHeader, encoding: i32, values: u32, levels: u64) -> Result<(), Fault> {
        let needed = u64::from(values).saturating_mul(least_bytes(self.column.column_descr())).saturating_add(levels);
        let size = self.size(header);
        if encoding == 0 && needed > u64::from(size) {
            return Err(Fault::damaged(format!("a page declares {values} values in {size} bytes")));
        }
        Ok(())
    }

    /// What a page's body takes before compression.
    fn size(&self, header: &PageHeader) -> u32 {
        let is_plain = matches!(header.kind, PageKind::DataV2 { compressed: false, .. });
        if is_plain || self.column.compression() == Compression::UNCOMPRESSED {
            header.compressed
        } else {
            header.uncompressed
        }
    }

    fn check_dictionary(&self, header: &PageHeader, values: u32, encoding: i32) -> Result<(), Fault> {
        if !matches!(encoding, 0 | 2) {
            return Err(Fault::damaged(format!("a dictionary has the encoding {encoding}, which is not plain")));
        }
        if self.pages.iter().any(|page| page.header.kind != PageKind::Other) {
            return Err(Fault::damaged("a dictionary is not the first page of its column chunk"));
        }
        let needed = u64::from(values).saturating_mul(least_bytes(self.column.column_descr()));
        let size = self.size(header);
        if needed > u64::from(size) {
            return Err(Fault::damaged(format!("a dictionary declares {values} values in {size} bytes")));
        }
        Ok(())
    }

    fn add_values(&mut self, values: u32) -> Result<(), Fault> {
        self.values += u64::from(values);
        let declared = self.column.num_values();
        if i64::try_from(self.values).is_ok_and(|found| found <= declared) {
            return Ok(());
        }
        let found = self.values;
        Err(Fault::damaged(format!("the pages of a column have {found} values where the footer declares {declared}")))
    }
}

/// What a plain value takes at least.
fn least_bytes(column: &ColumnDescriptor) -> u64 {
    match column.physical_type() {
        Physical::BOOLEAN => 0,
        Physical::INT32 | Physical::FLOAT | Physical::BYTE_ARRAY => 4,
        Physical::INT64 | Physical::DOUBLE => 8,
        Physical::INT96 => 12,
        Physical::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.type_length()).unwrap_or(0),
    }
}
