//! Each action is decided for itself, so a condition that stands at one of them does not hold the other.

use super::super::condition::Condition;
use super::super::document::{ASSUME_ROLE, SET_SOURCE_IDENTITY, Statement, TAG_SESSION, TrustPolicy};
use super::super::keys::begins;
use super::super::operator::Base;
use super::{Findings, demands};

/// What a call needs beside sts:AssumeRole if it passes something, what that is, and the keys that only such a call has.
const EXTRA: [(&str, &str, &[&str]); 2] = [
    (TAG_SESSION, "session tags", &["aws:RequestTag/", "aws:TagKeys", "sts:TransitiveTagKeys"]),
    (SET_SOURCE_IDENTITY, "a source identity", &["sts:SourceIdentity"]),
];

pub(super) fn conditions_on_one_action(policy: &TrustPolicy, findings: &mut Findings) {
    let allowing = || policy.statements.iter().filter(|statement| statement.allows);
    for (extra, what, keys) in EXTRA {
        // A Deny may keep out whoever passes nothing.
        let denied = policy.statements.iter().filter(|statement| !statement.allows && statement.is_about(ASSUME_ROLE));
        if denied.flat_map(|statement| &statement.conditions).any(|condition| is_of(condition, keys)) {
            continue;
        }
        for plain in allowing().filter(|one| one.is_about(ASSUME_ROLE) && !one.is_about(extra)) {
            for other in allowing().filter(|other| other.is_about(extra) && meet(plain, other)) {
                if passes_by(plain, other, keys) {
                    findings.place.clone_from(&plain.name);
                    findings.trap(
                        "conditions-on-one-action",
                        format!(
                            "allows {ASSUME_ROLE} without the conditions under which {} allows {extra}: each action is decided for itself, \
                             and a call without {what} needs {ASSUME_ROLE} alone. Put both actions into one statement",
                            other.name
                        ),
                    );
                } else if !other.is_about(ASSUME_ROLE) && other.conditions.is_empty() && !plain.conditions.is_empty() {
                    findings.place.clone_from(&other.name);
                    findings.trap(
                        "conditions-on-one-action",
                        format!(
                            "allows {extra} without the conditions under which {} allows {ASSUME_ROLE}: each action is decided for itself. \
                             Put both actions into one statement",
                            plain.name
                        ),
                    );
                }
            }
        }
    }
}

/// Whether somebody may be meant by both.
fn meet(one: &Statement, other: &Statement) -> bool {
    one.principals
        .iter()
        .any(|principal| other.principals.iter().any(|other| principal.covers(other) || other.covers(principal)))
}

/// Whether a call that passes nothing is let in by `plain`, and would not be under the conditions of `other`.
fn passes_by(plain: &Statement, other: &Statement, keys: &[&str]) -> bool {
    let is_passed = |condition: &Condition| is_of(condition, keys) && wants_to_be_there(condition);
    let stands_in_its_way = |condition: &&Condition| !is_of(condition, keys) || wants_to_be_there(condition);
    let has = |wanted: &Condition| plain.conditions.iter().any(|condition| is_same(condition, wanted));
    !plain.conditions.iter().any(is_passed) && other.conditions.iter().filter(stands_in_its_way).any(|one| !has(one))
}

fn is_of(condition: &Condition, keys: &[&str]) -> bool {
    keys.iter().any(|key| match key.strip_suffix('/') {
        Some(_) => begins(&condition.key, key),
        None => condition.key.eq_ignore_ascii_case(key),
    })
}

/// Whether a condition does not hold where its key is absent.
fn wants_to_be_there(condition: &Condition) -> bool {
    let is_false = |value: &String| value.eq_ignore_ascii_case("false");
    demands(condition, &condition.key) || condition.operator.base == Base::Null && condition.values.iter().all(is_false)
}

fn is_same(one: &Condition, other: &Condition) -> bool {
    one.operator == other.operator && one.key.eq_ignore_ascii_case(&other.key) && one.values == other.values
}
