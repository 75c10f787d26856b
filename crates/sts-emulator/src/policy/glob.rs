//! `*` and `?` as IAM has them, over pieces, so that what a policy variable stands for is never a wildcard.

/// One piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// This character.
    Char(char),
    /// `*`: any characters, also none.
    Many,
    /// `?`: any one character.
    One,
}

/// A pattern without variables.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    text.chars().map(piece).collect()
}

/// What a character of a pattern means.
pub(super) fn piece(character: char) -> Piece {
    match character {
        '*' => Piece::Many,
        '?' => Piece::One,
        other => Piece::Char(other),
    }
}

/// The text of a pattern that has no wildcards.
pub(super) fn plain(pattern: &[Piece]) -> String {
    let character = |piece: &Piece| match piece {
        Piece::Char(character) => Some(*character),
        Piece::Many | Piece::One => None,
    };
    pattern.iter().filter_map(character).collect()
}

/// Whether the whole text fits the whole pattern.
pub(super) fn matches(pattern: &[Piece], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // Where the last `*` is and how much of the text it has eaten: only the last one ever needs another try.
    let (mut at, mut in_text, mut retry) = (0, 0, None);
    while let Some(&character) = text.get(in_text) {
        match pattern.get(at) {
            Some(Piece::Many) => {
                retry = Some((at, in_text));
                at += 1;
            }
            Some(Piece::One) => (at, in_text) = (at + 1, in_text + 1),
            Some(Piece::Char(wanted)) if *wanted == character => (at, in_text) = (at + 1, in_text + 1),
            _ => match &mut retry {
                Some((star, eaten)) => {
                    *eaten += 1;
                    (at, in_text) = (*star + 1, *eaten);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|piece| *piece == Piece::Many)
}

/// Whether a text that begins like this can fit the whole pattern.
pub(super) fn may_begin(pattern: &[Piece], beginning: &str) -> bool {
    (0..=pattern.len()).any(|eaten| pattern.get(..eaten).is_some_and(|eaten| matches(eaten, beginning)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, exponential.
    fn slow(pattern: &[Piece], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([Piece::Many, rest @ ..], _) => (0..=text.len()).any(|eaten| slow(rest, &text[eaten..])),
            ([Piece::One, rest @ ..], [_, text @ ..]) => slow(rest, text),
            ([Piece::Char(c), rest @ ..], [d, text @ ..]) => c == d && slow(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let characters: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches(&pieces(&pattern), &text), slow(&pieces(&pattern), &characters));
        }
    }

    proptest! {
        #[test]
        fn what_may_begin_goes_on_to_fit(pattern in "[ab*?]{0,5}", beginning in "[ab]{0,4}") {
            let pattern = pieces(&pattern);
            let rests = (0..=5).flat_map(|length| (0..1_u32 << length).map(move |bits| (length, bits)));
            let text = |(length, bits): (u32, u32)| (0..length).map(move |at| if bits >> at & 1 == 0 { 'a' } else { 'b' });
            let fits = rests.map(text).any(|rest| matches(&pattern, &(beginning.clone() + &rest.collect::<String>())));
            prop_assert_eq!(may_begin(&pattern, &beginning), fits);
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = pieces(&"a*".repeat(200));
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(199))));
        assert!(matches(&pattern, &"a".repeat(4000)));
        assert!(!may_begin(&pieces(&"a*".repeat(2000)), "b"));
    }
}
