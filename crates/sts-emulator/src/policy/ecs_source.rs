//! The `aws:SourceArn` of ECS. AWS does not say which one it is, only that a policy must not be narrower than all clusters (Amazon ECS
//! Developer Guide, "Amazon ECS task IAM role": `arn:aws:ecs:REGION:ACCOUNT:*`). The evaluator and the lint ask here what that is.

use super::glob::Piece;

/// What a pattern is held against, beside [`is_for_all_clusters`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EcsSource {
    /// The task's. Only what stands before its resource is known of what ECS sends.
    pub(super) task: String,
    /// The one of a task whose cluster and id nobody can have written into a policy, and that a pattern for all clusters fits.
    pub(super) any: String,
}

/// Whether a pattern is for all clusters: its resource is `*` or `task/*`. A pattern of fewer than six parts, which only text can be,
/// may also end in anything that reaches over what is left: `arn:aws:ecs:us-*`.
pub(super) fn is_for_all_clusters(pattern: &[Piece]) -> bool {
    let parts: Vec<_> = pattern.splitn(6, |piece| *piece == Piece::Char(':')).collect();
    let Some([before @ .., Piece::Many]) = parts.last() else { return false };
    let is_plain = |piece: &Piece| matches!(piece, Piece::Char(character) if *character != '/');
    before.is_empty()
        || before.iter().copied().eq("task/".chars().map(Piece::Char))
        || parts.len() < 6 && before.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::super::glob::pieces;
    use super::*;

    #[test]
    fn only_what_reaches_over_every_resource_is_for_all_clusters() {
        for (pattern, holds) in [
            ("arn:aws:ecs:us-west-2:111122223333:*", true),
            ("arn:aws:ecs:us-west-2:111122223333:task/*", true),
            ("arn:aws:ecs:*", true),
            ("arn:aws:ecs:us-*", true),
            ("arn:aws:ecs:*:task/*", true),
            ("*", true),
            ("arn:aws:ecs:us-west-2:111122223333:", false),
            ("arn:aws:ecs:us-west-2:111122223333:t*", false),
            ("arn:aws:ecs:us-west-2:111122223333:task/*/*", false),
            ("arn:aws:ecs:us-west-2:111122223333:task/?", false),
            ("arn:aws:ecs:us-west-2:111122223333:task/prod/*", false),
            ("arn:aws:ecs:*/*", false),
            ("*prod*", false),
            ("", false),
        ] {
            assert_eq!(is_for_all_clusters(&pieces(pattern)), holds, "{pattern}");
        }
    }
}
