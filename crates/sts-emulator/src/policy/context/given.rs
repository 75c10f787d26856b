//! Keys whose values are given by hand: those alone that nobody here can know. What the call and its caller tell is not overruled, or a
//! verdict would be about a call that nobody makes.

use std::collections::BTreeMap;

use super::super::keys::{has_several_values, near};
use super::{Context, Value, is_of_a_provider};

impl Context {
    /// Takes values in place of what is not known, and of nothing else. Of a key that has one value and is given several nothing is known.
    pub(super) fn give(&mut self, more: &[(String, String)]) {
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in more.iter().filter(|(key, _)| self.is_open(key)) {
            given.entry(key.to_lowercase()).or_default().push(value.clone());
        }
        for (key, values) in given {
            match (has_several_values(&key), &values[..]) {
                (Some(true), _) => self.set(&key, Value::Many(values)),
                (_, [value]) => self.one(&key, value),
                _ => {}
            }
        }
    }

    /// Whether nobody here knows the value of a key. What a session's ARN does not tell of its role's, the role's ARN does; and a tag has a
    /// name.
    fn is_open(&self, key: &str) -> bool {
        let can_be = !key.ends_with('/') && !key.eq_ignore_ascii_case("aws:PrincipalArn");
        can_be && matches!(self.get(key), Some(Value::Unknown(_)))
    }

    /// See [`super::AssumeRoleCall::why_not_given`].
    pub(super) fn why_not_given(&self, key: &str) -> Option<String> {
        if self.is_open(key) {
            return None;
        }
        let absent = self.get(key).is_none();
        let why = self.why_absent(key).filter(|_| absent).or_else(|| told_by(key));
        let why = why.or_else(|| has_several_values(key).map(|_| "this caller does not bring it"));
        Some(why.map_or_else(|| no_such_key(key), str::to_owned))
    }
}

/// What tells the value of a key that is known here, or that is known to be absent.
fn told_by(key: &str) -> Option<&'static str> {
    Some(match key.to_lowercase().as_str() {
        "aws:sourcearn" | "aws:sourceaccount" => "the task's ARN tells it",
        "aws:principalarn" | "aws:principalaccount" | "aws:principaltype" | "aws:username" => {
            "the caller's ARN tells it"
        }
        "aws:principalisawsservice" | "aws:principalservicename" | "aws:viaawsservice" => "it follows from who calls",
        "aws:resourceaccount" => "the role's ARN tells it",
        "aws:requestedregion" => "it is the region whose STS is asked",
        "aws:currenttime" | "aws:epochtime" => "it is the time of the call",
        "aws:securetransport" => "it is always true",
        "aws:tagkeys" | "sts:transitivetagkeys" => "the session tags tell it",
        "sts:externalid" => "the external id of the call tells it",
        "sts:sourceidentity" => "the source identity of the call tells it",
        "sts:rolesessionname" => "it is the name of the session",
        key if key.starts_with("aws:requesttag/") => "the session tags tell it",
        key if key.starts_with("aws:resourcetag/") || key.starts_with("iam:resourcetag/") => "the role's tags tell it",
        _ => return None,
    })
}

fn no_such_key(key: &str) -> String {
    match near(key) {
        Some(near) => format!("AssumeRole has no such key; {near} is meant?"),
        None if is_of_a_provider(&key.to_lowercase()) => {
            "only a session that began at an identity provider brings it".to_owned()
        }
        None => "AssumeRole has no such key".to_owned(),
    }
}
