//! Pieces on their way from the workers that wrote spans to the one that assembles a file from them. One that is lost or
//! damaged is written again, with its span.

use super::Shared;
use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::error::Result;
use crate::write::{Piece, PieceOf};

/// Leaves the rows of a table that a span has for a file that several spans share.
pub(crate) fn keep_piece(shared: &Shared, of: PieceOf, piece: &Piece) -> Result<()> {
    let mut out = Encoder::default();
    piece.encode(&mut out);
    shared.work.put(&of.to_string(), out.finish())
}

/// Finds them again.
pub(crate) fn find_piece(shared: &Shared, of: PieceOf) -> Result<Option<Piece>> {
    let bytes = shared.work.get(&of.to_string())?;
    Ok(bytes.and_then(|bytes| Piece::decode(&mut Decoder::new(&bytes)?)))
}
