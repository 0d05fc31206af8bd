//! Some rows of a column chunk. Pages without such rows are not decompressed, and values that nobody wants are not
//! made.

use arrow::datatypes::DataType;
use parquet::basic::Encoding;

use super::chunk::{ColumnBytes, DecodedPage, Fault, Next, Presence};
use super::picked::{Form, Picked};
use super::values::Values;

/// The values of these rows of the row group, which ascend, for a column that is read as `data_type`.
pub(crate) fn gather(column: &ColumnBytes, rows: &[u32], data_type: &DataType) -> Result<Picked, Fault> {
    let none = Values::new(column.column().column_descr()).ok_or(Fault::Unsupported)?;
    let mut found = Found { none, dictionary: None, indices: Vec::new(), plain: None, of_page: Vec::new() };
    let mut valid: Vec<bool> = Vec::with_capacity(rows.len());
    each_page(column, rows, Dictionary::Read, |step, rows| match step {
        Step::Dictionary(bytes, count) => found.dictionary(bytes, count),
        Step::Page(page) => {
            let wanted = places(page, rows, &mut valid);
            found.page(page, &wanted)
        }
    })?;
    let picked = Picked::new(valid, found.form());
    if *data_type == DataType::Utf8 && !picked.is_text() {
        return Err(Fault::damaged("a text is not valid UTF-8"));
    }
    Ok(picked)
}

/// What was found up to now.
struct Found {
    none: Values,
    dictionary: Option<Values>,
    /// The values as entries of the dictionary, as long as all are.
    indices: Vec<u32>,
    /// The values one by one, from the first page on that is not of the dictionary.
    plain: Option<Values>,
    /// Room for the indices of a page.
    of_page: Vec<u32>,
}

impl Found {
    fn dictionary(&mut self, bytes: &[u8], count: usize) -> Result<(), Fault> {
        let mut found = self.none.none();
        found.extend_plain(bytes, count)?;
        self.dictionary = Some(found);
        Ok(())
    }

    fn page(&mut self, page: &DecodedPage, wanted: &[u32]) -> Result<(), Fault> {
        if page.is_dictionary() {
            let dictionary = self.dictionary.as_ref().ok_or_else(|| Fault::damaged("a dictionary is missing"))?;
            self.of_page.clear();
            page.indices(dictionary.len(), &mut self.of_page)?;
            let indices = wanted.iter().map(|&at| self.of_page[at as usize]);
            match &mut self.plain {
                None => self.indices.extend(indices),
                Some(values) => values.pick(dictionary, indices)?,
            }
            return Ok(());
        }
        if page.encoding != Encoding::PLAIN {
            return Err(Fault::Unsupported);
        }
        if let Some(values) = &mut self.plain {
            return values.pick_plain(&page.values, wanted);
        }
        let mut values = self.none.none();
        if let Some(dictionary) = &self.dictionary {
            values.pick(dictionary, std::mem::take(&mut self.indices).into_iter())?;
        }
        values.pick_plain(&page.values, wanted)?;
        self.plain = Some(values);
        Ok(())
    }

    fn form(self) -> Form {
        match (self.plain, self.dictionary) {
            (Some(values), _) => Form::Plain(values),
            (None, Some(dictionary)) => Form::Coded { dictionary, indices: self.indices },
            (None, None) => Form::Plain(self.none),
        }
    }
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
