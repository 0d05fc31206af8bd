//! The keys of a chunk from the pages of its key column: what a dictionary holds is looked at once, however many rows
//! have it. Only for a key of one column that comes from the source as it is.

use parquet::basic::Encoding;
use seriatim_pipeline::model::OnConflict;

use super::rows::{Form, Source};
use crate::context::RunContext;
use crate::error::Result;
use crate::keys::KeyCodec;
use crate::layout::TableLayout;
use crate::pages::{ColumnBytes, Fault, Next, Presence, Values};
use crate::source::{SourceColumn, contain};

/// The keys of each row group of a chunk; `None` if the pages are not of a kind that can be used.
pub(super) fn key_groups(run: &RunContext, chunk: u32, table: &TableLayout) -> Result<Option<Vec<Source>>> {
    let ([key], OnConflict::First, Some(codec)) = (table.key.as_slice(), table.on_conflict, &table.codec) else {
        return Ok(None);
    };
    let Some(column) = run.source_column(chunk, key)?.filter(SourceColumn::is_readable) else { return Ok(None) };
    let mut groups = Vec::with_capacity(column.groups());
    let mut record = 0;
    for group in 0..column.groups() {
        match contain(|| Ok(column.read(group).and_then(|bytes| group_keys(&bytes, codec, record)))) {
            Ok(Ok(keys)) => groups.push(keys),
            Ok(Err(Fault::Unsupported)) => return Ok(None),
            Ok(Err(Fault::Damaged(text))) | Err(text) => return Err(run.damaged(chunk, &text)),
        }
        record += column.group_rows(group);
    }
    Ok(Some(groups))
}

fn group_keys(column: &ColumnBytes, codec: &KeyCodec, first_record: u32) -> std::result::Result<Source, Fault> {
    let mut values = Values::new(column.column().column_descr()).ok_or(Fault::Unsupported)?;
    let mut entries = 0;
    let (mut rows, mut indices) = (Vec::with_capacity(column.rows() as usize), Vec::new());
    let (mut nulls, mut plain) = (0, false);
    let mut pages = column.pages()?;
    while let Some(next) = pages.next(|_| true)? {
        let page = match next {
            Next::Dictionary(dictionary) => {
                entries = dictionary.len();
                values = dictionary;
                continue;
            }
            Next::Page(page) => page,
            Next::Skipped => continue,
        };
        nulls += (page.rows.end - page.rows.start) - page.present as u32;
        let from = values.len() as u32;
        let added: &[u32] = if page.is_dictionary() {
            if page.presence == Presence::All {
                page.indices(entries, &mut rows)?;
                continue;
            }
            indices.clear();
            page.indices(entries, &mut indices)?;
            &indices
        } else if page.encoding == Encoding::PLAIN {
            plain = true;
            values.extend_plain(&page.values, page.present)?;
            indices.clear();
            indices.extend(from..values.len() as u32);
            &indices
        } else {
            return Err(Fault::Unsupported);
        };
        match &page.presence {
            Presence::All => rows.extend_from_slice(added),
            Presence::Some(bits) => {
                let mut added = added.iter().copied();
                rows.extend(bits.iter().map(|&bit| if bit == 1 { added.next().unwrap_or(u32::MAX) } else { u32::MAX }));
            }
        }
    }
    let mut first = vec![u32::MAX; values.len()];
    // Backwards, so that the first record is the one that stays.
    for (row, &key) in rows.iter().enumerate().rev() {
        if let Some(first) = first.get_mut(key as usize) {
            *first = first_record + row as u32;
        }
    }
    let array = values.into_array(None, codec.single_type().ok_or(Fault::Unsupported)?)?;
    let keys = codec.encode(&[array]);
    let form = Form::Group { rows: column.rows(), nulls, keys: plain.then_some(rows) };
    Ok(Source { keys, count: first.len(), first: Some(first), attributes: Vec::new(), form })
}
