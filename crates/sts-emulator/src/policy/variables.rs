//! Policy variables: `${aws:username}`, `${aws:PrincipalTag/team, 'nobody'}`, `${*}`, `${?}` and `${$}`.
//!
//! They are variables only in a policy of version 2012-10-17, and only in String and ARN operators (IAM User Guide, "IAM policy
//! elements: Variables and tags"). A variable without a value makes the comparison unknown, unless it has a default.

use super::context::{Context, Value};
use super::glob::{Piece, piece};

/// The key of a variable that has no value here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unresolved(pub(super) String);

/// The pieces of a policy's value, its variables replaced if it has any; `*` and `?` are wildcards if `wildcards` says so.
pub(super) fn expand(
    text: &str,
    wildcards: bool,
    has_variables: bool,
    context: &Context,
) -> Result<Vec<Piece>, Unresolved> {
    let mut pieces = Vec::new();
    let plain = |text: &str, pieces: &mut Vec<Piece>| {
        pieces.extend(text.chars().map(|c| if wildcards { piece(c) } else { Piece::Char(c) }));
    };
    let mut rest = text;
    while let Some((before, variable, after)) = has_variables.then(|| next(rest)).flatten() {
        plain(before, &mut pieces);
        let value = resolve(variable, context).ok_or_else(|| Unresolved(key(variable).to_owned()))?;
        pieces.extend(value.chars().map(Piece::Char));
        rest = after;
    }
    plain(rest, &mut pieces);
    Ok(pieces)
}

/// The variables of a text, for the lint.
pub(super) fn of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, variable, after) = next(rest)?;
        rest = after;
        Some(variable)
    })
}

fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (variable, after) = rest.split_once('}')?;
    Some((before, variable, after))
}

fn key(variable: &str) -> &str {
    variable.split_once(',').map_or(variable, |(key, _)| key).trim()
}

fn resolve(variable: &str, context: &Context) -> Option<String> {
    if matches!(variable, "*" | "?" | "$") {
        return Some(variable.to_owned());
    }
    match (context.get(key(variable)), variable.split_once(',')) {
        (Some(Value::One(value)), _) => Some(value.clone()),
        (None, Some((_, default))) => default.trim().strip_prefix('\'')?.strip_suffix('\'').map(str::to_owned),
        // Several values, or one that is not known: whichever was meant, it is not this.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::of([
            ("aws:username", Value::One("a*b".to_owned())),
            ("aws:TagKeys", Value::Many(vec!["x".to_owned()])),
            ("aws:SourceIp", Value::Unknown("the address is not known here")),
        ])
    }

    fn text(pieces: &[Piece]) -> String {
        let spell = |piece: &Piece| match piece {
            Piece::Char(c) => c.to_string(),
            Piece::Many => "<many>".to_owned(),
            Piece::One => "<one>".to_owned(),
        };
        pieces.iter().map(spell).collect()
    }

    #[test]
    fn variables_are_replaced_and_their_values_are_no_wildcards() {
        for (value, expanded) in [
            ("x-${aws:username}-*", "x-a*b-<many>"),
            ("${AWS:UserName}", "a*b"),
            ("${*}${?}${$}*?$", "*?$<many><one>$"),
            ("${aws:PrincipalTag/team, 'nobody'}", "nobody"),
            ("${aws:username, 'nobody'}", "a*b"),
            ("${unclosed", "${unclosed"),
            ("plain", "plain"),
        ] {
            assert_eq!(text(&expand(value, true, true, &context()).unwrap()), expanded, "{value}");
        }
    }

    #[test]
    fn what_has_no_single_value_here_is_not_resolved() {
        for variable in ["aws:PrincipalTag/team", "aws:TagKeys", "aws:SourceIp", "aws:TagKeys, 'x'"] {
            let unresolved = expand(&format!("${{{variable}}}"), true, true, &context()).unwrap_err();
            assert_eq!(unresolved.0, key(variable));
        }
    }

    #[test]
    fn an_older_policy_has_no_variables() {
        assert_eq!(text(&expand("${aws:username}?", true, false, &context()).unwrap()), "${aws:username}<one>");
        assert_eq!(text(&expand("${aws:username}?", false, false, &context()).unwrap()), "${aws:username}?");
    }
}
