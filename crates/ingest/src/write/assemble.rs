//! Assembling one file from the pieces that several spans left. A piece that is not there, or not whole, is written
//! again: pieces are artifacts.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::Int64Type;

use super::piece::{Piece, PieceOf};
use super::span::{first_place, open_file, referenced_ids, schema, write_all_rows};
use super::{FileOf, Staged, finish, groups, has_rows, is_reordered, quarantine_index, write_span};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::number::{Reserved, ordinal_of};

/// Assembles the file of a group.
pub(crate) fn assemble(run: &RunContext, reserved: &Reserved, table: u32, group: u32) -> Result<Staged> {
    let group_spans = groups(run, reserved, table)?[group as usize];
    let first = first_place(run, reserved, table, group_spans.from)?;
    let mut sink = open_file(run, reserved, FileOf::plain(table, group))?;
    if is_reordered(run, table) {
        // The last record of a thing may come in any later span than its first.
        let mut batches = Vec::new();
        for span in group_spans.from..run.plan.spans.len() as u32 {
            for batch in piece(run, reserved, PieceOf { table, span, bucket: None, is_known: false })?
                .iter()
                .flat_map(|piece| &piece.0)
            {
                batches.push(of_group(run, table, first, group_spans.rows, batch)?);
            }
        }
        sink.write(&in_order(run, table, first, group_spans.rows, &batches)?)?;
    } else if table < quarantine_index(run) && !run.table(table).is_keyed() {
        // Every record is a row, so there is nothing to pick: the chunks are as near as pieces would be.
        let mut of_part = None;
        for span in group_spans.from..group_spans.to {
            let part = run.part_of_span(span);
            let ids = match of_part.take() {
                Some((known, ids)) if known == part => ids,
                _ => referenced_ids(run, reserved, table, part)?,
            };
            for chunk in run.span_chunks(span) {
                write_all_rows(run, reserved, &mut sink, table, chunk, &ids)?;
            }
            of_part = Some((part, ids));
        }
    } else {
        for span in group_spans.from..group_spans.to {
            for batch in piece(run, reserved, PieceOf { table, span, bucket: None, is_known: false })?
                .iter()
                .flat_map(|piece| &piece.0)
            {
                sink.write(batch)?;
            }
            run.drop_piece(PieceOf { table, span, bucket: None, is_known: false });
        }
    }
    let staged = finish(run, reserved, FileOf::plain(table, group), first, sink)?;
    if staged.rows != group_spans.rows {
        return Err(IngestError::internal(format!(
            "{} rows were assembled where {} were counted",
            staged.rows, group_spans.rows
        )));
    }
    Ok(staged)
}

/// The rows that a span left for a table.
pub(super) fn piece(run: &RunContext, reserved: &Reserved, of: PieceOf) -> Result<Option<Arc<Piece>>> {
    if !has_rows(run, reserved, of.table, of.span)? {
        return Ok(None);
    }
    if let Some(piece) = run.piece(of)? {
        return Ok(Some(piece));
    }
    write_span(run, reserved, of.span)?;
    run.piece(of)?.map(Some).ok_or_else(|| IngestError::internal("a span left no rows where it has some"))
}

/// The rows of a piece that belong to the group with the places from `first` on.
fn of_group(run: &RunContext, table: u32, first: u64, rows: u64, batch: &RecordBatch) -> Result<RecordBatch> {
    let id = run.table(table).id.as_ref().ok_or_else(|| IngestError::internal("a keyed table has an ID"))?;
    let places = first..first + rows;
    let ids = batch.column(0).as_primitive::<Int64Type>().values();
    let keep: BooleanArray =
        ids.iter().map(|&value| Some(ordinal_of(id, value).is_some_and(|place| places.contains(&place)))).collect();
    filter_record_batch(batch, &keep).map_err(|e| IngestError::internal(e.to_string()))
}

/// The rows with the places from `first` on, each at its place.
fn in_order(run: &RunContext, table: u32, first: u64, rows: u64, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let wrong = |e: arrow::error::ArrowError| IngestError::internal(e.to_string());
    let all = concat_batches(&schema(run, table), batches).map_err(wrong)?;
    let id = run.table(table).id.as_ref().ok_or_else(|| IngestError::internal("a keyed table has an ID"))?;
    let mut positions = vec![u64::MAX; rows as usize];
    for (row, &value) in all.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
        let place = ordinal_of(id, value).and_then(|place| place.checked_sub(first));
        if let Some(slot) = place.and_then(|place| positions.get_mut(place as usize)) {
            *slot = row as u64;
        }
    }
    if positions.contains(&u64::MAX) {
        return Err(IngestError::internal(format!("table '{}': an ID has no row", run.table(table).name)));
    }
    take_record_batch(&all, &UInt64Array::from(positions)).map_err(wrong)
}
