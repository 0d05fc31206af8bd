//! Pieces on their way from the workers that wrote spans to the one that assembles a file from them. One that is lost or
//! damaged is written again, with its span.

use super::Shared;
use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::error::Result;
use crate::write::Piece;

fn object(table: u32, span: u32) -> String {
    format!("piece-{table}-{span}")
}

/// Leaves the rows of a table that a span has for a file that several spans share.
pub(crate) fn keep_piece(shared: &Shared, table: u32, span: u32, piece: &Piece) -> Result<()> {
    let mut out = Encoder::default();
    piece.encode(&mut out);
    shared.work.put(&object(table, span), out.finish())
}

/// Finds them again.
pub(crate) fn find_piece(shared: &Shared, table: u32, span: u32) -> Result<Option<Piece>> {
    let bytes = shared.work.get(&object(table, span))?;
    Ok(bytes.and_then(|bytes| Piece::decode(&mut Decoder::new(&bytes)?)))
}
