//! Whether all of a column chunk can be worked on as pages: every checksum, every value, every index. For who has to
//! know before he relies on a file; what is decoded is thrown away.

use arrow::datatypes::DataType;
use parquet::basic::Encoding;

use super::chunk::{ColumnBytes, Fault, Next};
use super::values::Values;

/// Decodes all values of a column that is read as `data_type`.
pub(crate) fn check_whole(column: &ColumnBytes, data_type: &DataType) -> Result<(), Fault> {
    column.raw_pages()?;
    let none = Values::new(column.column().column_descr()).ok_or(Fault::Unsupported)?;
    let is_text = |values: &Values| *data_type != DataType::Utf8 || values.is_text();
    let not_text = || Fault::damaged("a text is not valid UTF-8");
    let (mut dictionary, mut indices) = (None, Vec::new());
    let mut pages = column.pages()?;
    while let Some(next) = pages.next(|_| true)? {
        match next {
            Next::Dictionary(bytes, count) => {
                let mut values = none.clone();
                values.extend_plain(&bytes, count)?;
                if !is_text(&values) {
                    return Err(not_text());
                }
                dictionary = Some(values);
            }
            Next::Page(page) if page.is_dictionary() => {
                indices.clear();
                page.indices(dictionary.as_ref().map_or(0, Values::len), &mut indices)?;
            }
            Next::Page(page) if page.encoding == Encoding::PLAIN => {
                let mut values = none.clone();
                values.extend_plain(&page.values, page.present)?;
                if !is_text(&values) {
                    return Err(not_text());
                }
            }
            // Of an encoding that only the general way reads.
            Next::Page(_) => return Err(Fault::Unsupported),
            Next::Skipped => {}
        }
    }
    Ok(())
}
