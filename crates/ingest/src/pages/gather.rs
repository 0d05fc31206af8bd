//! Some rows of a column chunk. Pages without such rows are not decompressed, and values that nobody wants are not
//! made.

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use parquet::basic::Encoding;

use super::chunk::{ColumnBytes, DecodedPage, Fault, Next, Presence};
use super::values::Values;

/// The values of these rows of the row group, which ascend, as an array of `data_type`.
pub(crate) fn gather(column: &ColumnBytes, rows: &[u32], data_type: &DataType) -> Result<ArrayRef, Fault> {
    let mut values = Values::new(column.column().column_descr()).ok_or(Fault::Unsupported)?;
    let mut dictionary = None;
    let mut valid: Vec<bool> = Vec::new();
    let mut indices = Vec::new();
    each_page(column, rows, Dictionary::Read, |step, rows| {
        let page = match step {
            Step::Dictionary(bytes, count) => {
                let mut found = Values::new(column.column().column_descr()).ok_or(Fault::Unsupported)?;
                found.extend_plain(bytes, count)?;
                dictionary = Some(found);
                return Ok(());
            }
            Step::Page(page) => page,
        };
        let wanted = places(page, rows, &mut valid);
        if page.is_dictionary() {
            let dictionary = dictionary.as_ref().ok_or_else(|| Fault::damaged("a dictionary is missing"))?;
            indices.clear();
            page.indices(dictionary.len(), &mut indices)?;
            values.pick(dictionary, wanted.iter().map(|&at| indices[at as usize]))
        } else if page.encoding == Encoding::PLAIN {
            values.pick_plain(&page.values, &wanted)
        } else {
            Err(Fault::Unsupported)
        }
    })?;
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    if let Some(nulls) = &nulls {
        values.spread(nulls);
    }
    values.into_array(nulls, data_type)
}

/// The dictionary indices of these rows, which ascend; `u32::MAX` where a row has no value. Only for a column chunk
/// that is dictionary-encoded throughout, with `entries` entries.
pub(crate) fn gather_indices(column: &ColumnBytes, rows: &[u32], entries: usize) -> Result<Vec<u32>, Fault> {
    let mut valid: Vec<bool> = Vec::new();
    let (mut indices, mut found) = (Vec::new(), Vec::with_capacity(rows.len()));
    each_page(column, rows, Dictionary::Skip, |step, rows| {
        let page = match step {
            Step::Dictionary(..) => return Ok(()),
            Step::Page(page) if page.is_dictionary() => page,
            Step::Page(_) => return Err(Fault::Unsupported),
        };
        indices.clear();
        page.indices(entries, &mut indices)?;
        if page.presence == Presence::All {
            found.extend(rows.iter().map(|row| indices[(row - page.rows.start) as usize]));
            return Ok(());
        }
        valid.clear();
        let wanted = places(page, rows, &mut valid);
        let mut wanted = wanted.iter().map(|&at| indices[at as usize]);
        found.extend(valid.iter().map(|&valid| if valid { wanted.next().unwrap_or(u32::MAX) } else { u32::MAX }));
        Ok(())
    })?;
    Ok(found)
}

/// Whether a dictionary's values are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dictionary {
    Read,
    Skip,
}

enum Step<'a> {
    Dictionary(&'a [u8], usize),
    Page(&'a DecodedPage),
}

/// Calls `f` with the dictionary, and with every page that has some of `rows`, and those.
fn each_page(
    column: &ColumnBytes,
    mut rows: &[u32],
    dictionary: Dictionary,
    mut f: impl FnMut(Step<'_>, &[u32]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    debug_assert!(rows.is_sorted());
    let mut pages = column.pages()?;
    if dictionary == Dictionary::Skip {
        pages.skip_dictionary()?;
    }
    while !rows.is_empty() {
        match pages.next(|page| rows.first().is_some_and(|&row| row < page.end))? {
            Some(Next::Dictionary(bytes, count)) => f(Step::Dictionary(&bytes, count), &[])?,
            Some(Next::Page(page)) => {
                let (here, later) = rows.split_at(rows.partition_point(|&row| row < page.rows.end));
                f(Step::Page(&page), here)?;
                rows = later;
            }
            Some(Next::Skipped) => {}
            None => return Err(Fault::damaged("a column ends before a row that it should have")),
        }
    }
    Ok(())
}

/// Where the values of `rows` stand among the values of a page; appends to `valid` whether each row has one.
fn places(page: &DecodedPage, rows: &[u32], valid: &mut Vec<bool>) -> Vec<u32> {
    let first = page.rows.start;
    match &page.presence {
        Presence::All => {
            valid.resize(valid.len() + rows.len(), true);
            rows.iter().map(|&row| row - first).collect()
        }
        Presence::Some(bits) => {
            let (mut at, mut before) = (0, 0);
            let mut places = Vec::with_capacity(rows.len());
            for &row in rows {
                let row = (row - first) as usize;
                before += bits[at..row].iter().sum::<u32>();
                at = row;
                valid.push(bits[row] == 1);
                if bits[row] == 1 {
                    places.push(before);
                }
            }
            places
        }
    }
}
