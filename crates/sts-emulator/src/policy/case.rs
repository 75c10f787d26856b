//! Text compared without case: a text equals itself whatever its letters, so each letter is lowered for itself. Of letters that are one
//! in upper case only, like `σ` and `ς`, or `ß` and `ss`, nothing is known: AWS does not say how it compares them.

use super::glob::Piece;

/// Letter by letter, as it does not depend on what stands beside it (`str::to_lowercase` makes the last `Σ` of a word `ς`).
pub(super) fn lower(text: impl IntoIterator<Item = char>) -> String {
    text.into_iter().flat_map(char::to_lowercase).collect()
}

/// The same for a pattern.
pub(super) fn lower_pieces(pattern: &[Piece]) -> Vec<Piece> {
    let fold = |piece: &Piece| match *piece {
        Piece::Char(character) => lower([character]).chars().map(Piece::Char).collect(),
        other => vec![other],
    };
    pattern.iter().flat_map(fold).collect()
}

/// Whether two texts are one without case; none where nobody says.
pub(super) fn same(one: &str, other: &str) -> Option<bool> {
    let widest = |text: &str| text.to_lowercase().to_uppercase().to_lowercase();
    if lower(one.chars()) == lower(other.chars()) {
        Some(true)
    } else if widest(one) == widest(other) {
        None
    } else {
        Some(false)
    }
}
