//! ARNs are compared in six parts, each for itself: a wildcard never reaches over one of the first five colons.

use super::glob::{self, Piece};

/// The partition and the account of an ARN.
pub(super) fn place(arn: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = arn.split(':').skip(1);
    (parts.next(), parts.nth(2))
}

/// Whether an ARN fits a pattern. Nothing is said of a pattern of fewer than six parts, like `arn:aws:ecs:*` or `*`: independent
/// evaluators disagree about it, and who writes one is told by the lint.
pub(super) fn matches(pattern: &[Piece], arn: &str) -> Option<bool> {
    let pattern = split(pattern)?;
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    Some(parts.len() == 6 && pattern.iter().zip(&parts).all(|(pattern, part)| glob::matches(pattern, part)))
}

/// The same for the first five parts only: partition, service, region and account. A pattern of fewer parts is taken as text.
pub(super) fn matches_but_for_the_resource(pattern: &[Piece], arn: &str) -> bool {
    let Some(pattern) = split(pattern) else {
        let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
        return glob::may_begin(pattern, arn.strip_suffix(resource).unwrap_or(arn));
    };
    pattern.iter().take(5).zip(arn.splitn(6, ':')).all(|(pattern, part)| glob::matches(pattern, part))
}

/// The six parts of a pattern; the last keeps its colons.
fn split(pattern: &[Piece]) -> Option<Vec<&[Piece]>> {
    let parts: Vec<_> = pattern.splitn(6, |piece| *piece == Piece::Char(':')).collect();
    (parts.len() == 6).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_six_parts_are_compared_one_by_one() {
        let task = "arn:aws:ecs:us-west-2:111122223333:task/prod/0123";
        for (pattern, arn, fits) in [
            ("arn:aws:ecs:us-west-2:111122223333:*", task, true),
            ("arn:aws:ecs:us-west-2:111122223333:*", "arn:aws:ecs:us-west-2:111122223333:task-definition/f:3", true),
            ("arn:aws:ecs:us-west-2:111122223333:task/*", task, true),
            ("arn:*:ecs:*:111122223333:task/prod/*", task, true),
            ("arn:aws:ecs:us-west-?:111122223333:task/*", task, true),
            ("arn:aws:ecs:us-*:*:*", task, true),
            // A wildcard that would have to reach over a colon.
            ("arn:aws:ecs:*:task/prod/0123", task, false),
            ("arn:aws:*:111122223333:*:*", task, false),
            ("arn:aws:ecs:*", task, false),
            ("arn:aws:ecs:us-west-2:*", task, false),
            ("*", task, false),
            ("arn:aws:ecs:us-west-2:111122223333:task/dev/*", task, false),
            ("arn:aws:ecs:us-west-2:111122223333:Task/*", task, false),
            (
                "arn:aws:ecs:us-west-2:111122223333:task-definition/f:*",
                "arn:aws:ecs:us-west-2:111122223333:task-definition/f:3",
                true,
            ),
            ("arn:aws:ecs:us-west-2:111122223333:*", "no-arn", false),
        ] {
            let is_short = pattern.split(':').count() < 6;
            assert_eq!(matches(&glob::pieces(pattern), arn), (!is_short).then_some(fits), "{pattern} {arn}");
        }
    }

    #[test]
    fn the_resource_can_be_left_out() {
        let arn = "arn:aws:ecs:us-west-2:111122223333:task/prod/0123";
        assert!(matches_but_for_the_resource(&glob::pieces("arn:aws:ecs:us-west-2:111122223333:task/dev/*"), arn));
        assert!(!matches_but_for_the_resource(&glob::pieces("arn:aws:ecs:us-west-2:444455556666:*"), arn));
        for (pattern, fits) in
            [("*", true), ("*dev*", true), ("arn:aws:ecs*", true), ("arn:aws:ec2*", false), ("arn", false)]
        {
            assert_eq!(matches_but_for_the_resource(&glob::pieces(pattern), arn), fits, "{pattern}");
        }
    }
}
