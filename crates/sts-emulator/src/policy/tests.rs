//! What the tests of the rooms below share: a task, its role, ECS and a proxy.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::Tag;

pub(super) const TASK: &str = "arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef";

pub(super) fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

/// What this proxy asks for a task.
pub(super) fn task_call() -> AssumeRoleCall {
    AssumeRoleCall {
        role_arn: "arn:aws:iam::111122223333:role/web".to_owned(),
        role_tags: Some(vec![tag("stage", "live")]),
        session_name: "0123456789abcdef".to_owned(),
        tags: vec![tag("ecs-cluster-name", "prod"), tag("ecs-task-arn", TASK)],
        transitive_tag_keys: Vec::new(),
        inherited_tags: Vec::new(),
        source_identity: None,
        external_id: None,
        region: Some("us-west-2".to_owned()),
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_581_000),
        more: Vec::new(),
    }
}

pub(super) fn ecs() -> TrustCaller {
    TrustCaller::EcsTasks { task_arn: TASK.to_owned() }
}

pub(super) fn proxy() -> TrustCaller {
    TrustCaller::Iam(IamCaller {
        arn: "arn:aws:sts::111122223333:assumed-role/taskcreds-proxy/session".to_owned(),
        principal_arn: "arn:aws:iam::111122223333:role/taskcreds-proxy".to_owned(),
        session_is_known: true,
        path_is_known: true,
        account: "111122223333".to_owned(),
        user_id: None,
        tags: None,
        source_identity: None,
        token_issued: None,
    })
}

fn truth() -> impl Strategy<Value = Truth> {
    prop_oneof![Just(Truth::Yes), Just(Truth::No), Just(Truth::Unknown)]
}

/// Every way in which what is unknown could turn out.
fn worlds(truth: Truth) -> &'static [bool] {
    match truth {
        Truth::Yes => &[true],
        Truth::No => &[false],
        Truth::Unknown => &[false, true],
    }
}

fn summary(outcomes: &[bool]) -> Truth {
    match (outcomes.contains(&true), outcomes.contains(&false)) {
        (true, true) => Truth::Unknown,
        (holds, _) => Truth::of(holds),
    }
}

proptest! {
    /// It is known exactly where all worlds agree.
    #[test]
    fn three_values_are_joined_as_two_would_be_in_every_world(a in truth(), b in truth()) {
        let both = |join: fn(bool, bool) -> bool| {
            let pairs = worlds(a).iter().flat_map(|a| worlds(b).iter().map(move |b| join(*a, *b)));
            summary(&pairs.collect::<Vec<_>>())
        };
        prop_assert_eq!(a.and(b), both(|a, b| a && b));
        prop_assert_eq!(a.or(b), both(|a, b| a || b));
        prop_assert_eq!(a.not(), summary(&worlds(a).iter().map(|a| !a).collect::<Vec<_>>()));
    }

    #[test]
    fn any_text_is_a_policy_or_has_faults(text in any::<String>()) {
        if let Err(Malformed(faults)) = text.parse::<TrustPolicy>() {
            prop_assert!(!faults.is_empty());
        }
    }
}
