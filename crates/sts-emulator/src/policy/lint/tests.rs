//! A policy for each trap, and the same one mended.

use proptest::prelude::*;

use super::*;
use crate::policy::context::{Context, Value};
use crate::policy::tests as calls;
use crate::policy::{AssumeRoleCall, IamCaller, TrustCaller, Truth, evaluate};

fn policy(statements: &str) -> TrustPolicy {
    let document = if statements.starts_with('{') {
        format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
    } else {
        statements.replacen('!', "", 1)
    };
    document.parse().unwrap()
}

fn codes(statements: &str) -> Vec<&'static str> {
    lint(&policy(statements)).iter().map(|finding| finding.code).collect()
}

fn ecs(condition: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Principal":{{"Service":"ecs-tasks.amazonaws.com"}},"Action":"sts:AssumeRole","Condition":{condition}}}"#
    )
}

fn proxy(condition: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::111122223333:role/proxy"}},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{condition}}}"#
    )
}

fn account(more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    format!(r#"{{"StringEquals":{{"aws:SourceAccount":"111122223333"}}{more}}}"#)
}

#[test]
fn sound_policies_have_no_findings() {
    for statements in [
        ecs(&account(r#""ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:*"}"#)),
        ecs(&account("")),
        ecs(r#"{"ArnLike":{"aws:SourceArn":["arn:aws:ecs:*:111122223333:task/*"]}}"#),
        ecs(&account(r#""ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:${aws:SourceAccount}:*"}"#)),
        proxy("{}"),
        proxy(
            r#"{"StringLike":{"aws:RequestTag/ecs-task-arn":"arn:aws:ecs:us-west-2:111122223333:task/prod/*"},"StringEquals":{"sts:ExternalId":"${aws:username}"}}"#,
        ),
        proxy(r#"{"ForAllValues:StringLike":{"aws:TagKeys":"ecs-*"},"Null":{"aws:TagKeys":"false"}}"#),
        format!("{},{}", ecs(&account("")), proxy("{}")),
        r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}"#.to_owned(),
    ] {
        assert_eq!(codes(&statements), Vec::<&str>::new(), "{statements}");
    }
}

#[test]
fn every_trap_is_found() {
    let long = "x".repeat(2000);
    for (statements, found) in [
        (ecs("{}"), &["confused-deputy"][..]),
        (ecs(r#"{"StringNotEquals":{"aws:SourceAccount":"444455556666"}}"#), &["confused-deputy"]),
        (ecs(r#"{"StringEqualsIfExists":{"aws:SourceAccount":"111122223333"}}"#), &["confused-deputy"]),
        (ecs(r#"{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:*:*:*"}}"#), &["confused-deputy"]),
        (r#"{"Effect":"Allow","Principal":{"Service":"ssm.amazonaws.com"},"Action":"sts:AssumeRole"}"#.to_owned(), &["confused-deputy"]),
        (ecs(r#"{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:task/prod/*"}}"#), &["source-arn-of-a-cluster"]),
        (ecs(r#"{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:cluster/prod"}}"#), &["source-arn-of-a-cluster"]),
        (ecs(&account(r#""ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:task/*/*"}"#)), &["source-arn-of-a-cluster"]),
        (ecs(&account(r#""StringLike":{"aws:SourceArn":"*/prod/*"}"#)), &["source-arn-of-a-cluster"]),
        (ecs(&account(r#""ArnNotLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:task/dev/*"}"#)), &["source-arn-of-a-cluster"]),
        (ecs(&account(r#""ArnLike":{"aws:SourceArn":"arn:aws:ecs:*"}"#)), &["short-arn"]),
        (ecs(&account(r#""StringLike":{"aws:RequestTag/ecs-cluster-name":"prod"}"#)), &["tags-of-ecs"]),
        (ecs(&account(r#""StringLike":{"sts:ExternalId":"prod"}"#)), &["tags-of-ecs"]),
        (proxy(r#"{"StringEquals":{"aws:SourceAccount":"111122223333"}}"#), &["source-of-an-iam-principal"]),
        (proxy(r#"{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:*"}}"#), &["source-of-an-iam-principal"]),
        (proxy(r#"{"NumericLessThan":{"sts:DurationSeconds":3600}}"#), &["duration-seconds"]),
        (proxy(r#"{"StringEquals":{"aws:RequestTag/ecs-task-arn":"arn:aws:ecs:us-west-2:111122223333:task/prod/*"}}"#), &["wildcard-as-text"]),
        (proxy(r#"{"StringEquals":{"aws:PrincipalArm":"x"}}"#), &["unknown-key"]),
        (proxy(r#"{"StringEquals":{"aws:RequestTag/":"x"}}"#), &["unknown-key"]),
        (proxy(r#"{"StringEquals":{"s3:prefix":"x"}}"#), &["foreign-key"]),
        (proxy(r#"{"StringEquals":{"aws:TagKeys":"ecs-task-arn"}}"#), &["no-set-operator"]),
        (proxy(r#"{"ForAnyValue:StringEquals":{"sts:ExternalId":"x"}}"#), &["set-operator"]),
        (proxy(r#"{"ForAllValues:StringLike":{"aws:TagKeys":"ecs-*"}}"#), &["for-all-values"]),
        (proxy(r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#), &["mfa"]),
        (proxy(&format!(r#"{{"StringEquals":{{"sts:ExternalId":"{long}"}}}}"#)), &["long"]),
        (format!(r#"!{{"Statement":[{}]}}"#, proxy(r#"{"StringEquals":{"sts:ExternalId":"${aws:username}"}}"#)), &["variables-without-version"]),
        (r#"{"Effect":"Allow","Principal":"*","Action":["sts:AssumeRole","sts:TagSession"]}"#.to_owned(), &["everybody"]),
        (r#"{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole","Condition":{"StringNotEquals":{"aws:PrincipalOrgID":"o-1"}}}"#.to_owned(), &["everybody"]),
        (r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}}"#.to_owned(), &[]),
        (r#"{"Effect":"Allow","Principal":{"AWS":"AROA1234567890EXAMPLE"},"Action":"sts:AssumeRole"}"#.to_owned(), &["deleted-principal"]),
        (r#"{"Effect":"Allow","Principal":{"Service":"*"},"Action":"sts:AssumeRole"}"#.to_owned(), &["service-wildcard"]),
        (r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}"#.to_owned(), &["account"]),
        (r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/proxy"},"Action":"sts:AssumeRole"}"#.to_owned(), &["no-tag-session"]),
        (r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/proxy"},"Action":"sts:*"}"#.to_owned(), &["action-wildcard"]),
    ] {
        assert_eq!(codes(&statements), found, "{statements}");
    }
}

fn everybody(condition: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Principal":"*","Action":["sts:AssumeRole","sts:TagSession"],"Condition":{condition}}}"#
    )
}

/// A key that is asked for holds nobody: its values must name an account or an organization.
#[test]
fn whom_a_condition_lets_in_is_told_from_its_values() {
    const OPEN: &[&str] = &["confused-deputy"];
    const ALL: &[&str] = &["everybody"];
    const HELD: &[&str] = &[];
    for (condition, found) in [
        (r#"{"StringLike":{"aws:SourceAccount":"*"}}"#, OPEN),
        (r#"{"StringLike":{"aws:SourceAccount":"1*"}}"#, OPEN),
        (r#"{"StringLike":{"aws:SourceAccount":"11112222333?"}}"#, OPEN),
        (r#"{"StringLike":{"aws:SourceAccount":["111122223333","*"]}}"#, OPEN),
        (r#"{"StringLike":{"aws:SourceAccount":"${aws:SourceAccount}"}}"#, OPEN),
        (r#"{"StringEquals":{"aws:SourceAccount":"${aws:SourceAccount}"}}"#, OPEN),
        (r#"{"NumericGreaterThan":{"aws:SourceAccount":"1"}}"#, OPEN),
        (r#"{"StringLike":{"aws:SourceArn":"*"}}"#, OPEN),
        (r#"{"StringLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:1111*"}}"#, OPEN),
        (r#"{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:${aws:SourceAccount}:*"}}"#, OPEN),
        (r#"{"StringLike":{"aws:SourceOrgID":"o-*"}}"#, OPEN),
        (r#"{"ForAnyValue:StringLike":{"aws:SourceOrgPaths":"*"}}"#, OPEN),
        (r#"{"StringLike":{"aws:SourceAccount":"111122223333"}}"#, HELD),
        (r#"{"StringEquals":{"aws:SourceAccount":["111122223333","444455556666"]}}"#, HELD),
        (r#"{"NumericEquals":{"aws:SourceAccount":111122223333}}"#, HELD),
        (r#"{"StringEquals":{"aws:SourceAccount":"${aws:ResourceAccount}"}}"#, HELD),
        (r#"{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:${aws:ResourceAccount}:*"}}"#, HELD),
        (r#"{"StringLike":{"aws:SourceArn":"arn:aws:ecs:*:111122223333:*"}}"#, HELD),
        (r#"{"StringEquals":{"aws:SourceOrgID":"${aws:ResourceOrgID}"}}"#, HELD),
        (r#"{"ForAnyValue:StringLike":{"aws:SourceOrgPaths":"o-a1b2c3d4e5/*"}}"#, HELD),
        (r#"{"StringLike":{"aws:SourceAccount":"*"},"StringEquals":{"aws:SourceOrgID":"o-a1b2c3d4e5"}}"#, HELD),
    ] {
        assert_eq!(codes(&ecs(condition)), found, "{condition}");
    }
    for (condition, found) in [
        (r#"{"StringLike":{"aws:PrincipalArn":"*"}}"#, ALL),
        (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/taskcreds-proxy"}}"#, ALL),
        (r#"{"ArnLike":{"aws:PrincipalArn":["arn:aws:iam::111122223333:role/a","arn:aws:iam::*:role/b"]}}"#, ALL),
        (r#"{"StringEquals":{"aws:PrincipalArn":"${aws:PrincipalArn}"}}"#, ALL),
        (r#"{"StringLike":{"aws:PrincipalOrgID":"o-*"}}"#, ALL),
        (r#"{"StringLike":{"aws:PrincipalAccount":"*"}}"#, ALL),
        (r#"{"StringLike":{"aws:userid":"*:session"}}"#, ALL),
        // In an account of one's own, one can be called anything.
        (r#"{"StringEquals":{"aws:username":"alice"}}"#, ALL),
        (r#"{"StringEquals":{"aws:SourceIdentity":"alice"}}"#, ALL),
        (r#"{"StringEquals":{"aws:PrincipalTag/team":"blue"}}"#, ALL),
        (r#"{"Bool":{"aws:PrincipalIsAWSService":"false"}}"#, ALL),
        (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/*"}}"#, HELD),
        (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::${aws:ResourceAccount}:role/proxy"}}"#, HELD),
        (r#"{"StringLike":{"aws:userid":"AROA1234567890EXAMPLE:*"}}"#, HELD),
        (r#"{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-a1b2c3d4e5/r-ab12/*"}}"#, HELD),
        // A service by a condition works for anybody too.
        (r#"{"StringEquals":{"aws:PrincipalServiceName":"ecs-tasks.amazonaws.com"}}"#, OPEN),
        (r#"{"StringLike":{"aws:PrincipalServiceName":"*.amazonaws.com"}}"#, OPEN),
        (r#"{"ForAnyValue:StringEquals":{"aws:PrincipalServiceNamesList":"ssm.amazonaws.com"}}"#, OPEN),
        (r#"{"Bool":{"aws:PrincipalIsAWSService":"true"}}"#, OPEN),
        (r#"{"StringEquals":{"aws:PrincipalServiceName":"ec2.amazonaws.com"}}"#, HELD),
        (
            r#"{"Bool":{"aws:PrincipalIsAWSService":"true"},"StringEquals":{"aws:PrincipalServiceName":"ec2.amazonaws.com"}}"#,
            HELD,
        ),
    ] {
        assert_eq!(codes(&everybody(condition)), found, "{condition}");
    }
    let held =
        r#"{"StringEquals":{"aws:PrincipalServiceName":"ecs-tasks.amazonaws.com","aws:SourceAccount":"111122223333"}}"#;
    assert_eq!(codes(&everybody(held)), ["source-of-an-iam-principal"]);
}

proptest! {
    /// Whatever the conditions: where no trap is found, nobody of another account is let in, be it a task or a role.
    #[test]
    fn without_a_trap_nobody_from_outside_is_let_in(
        conditions in prop::collection::btree_map(
            prop::sample::select(vec![
                "StringEquals", "StringLike", "ArnLike", "StringEqualsIgnoreCase", "NumericEquals", "StringNotEquals", "StringNotLike",
                "StringLikeIfExists", "ArnNotLike", "ForAnyValue:StringLike", "ForAllValues:StringLike", "NumericGreaterThan", "Null",
            ]),
            prop::collection::btree_map(
                prop::sample::select(vec![
                    "aws:SourceAccount", "aws:SourceArn", "aws:PrincipalArn", "aws:PrincipalAccount", "aws:username", "aws:PrincipalTag/team",
                    "aws:PrincipalServiceName", "aws:PrincipalIsAWSService", "aws:ResourceAccount", "sts:RoleSessionName",
                ]),
                prop::collection::vec(
                    prop::sample::select(vec![
                        "*", "1*", "4*", "?*?", "111122223333", "${aws:ResourceAccount}", "${aws:SourceAccount}", "${*}",
                        "${aws:PrincipalAccount}", "${aws:SourceArn}", "arn:aws:ecs:*:*:*", "arn:aws:ecs:us-west-2:111122223333:*",
                        "arn:aws:ecs:us-west-2:${aws:SourceAccount}:*", "arn:aws:ecs:us-west-2:4*", "arn:aws:iam::111122223333:role/*",
                        "arn:aws:iam::*:role/taskcreds-proxy", "arn:aws:iam::${aws:PrincipalAccount}:role/*", "*.amazonaws.com",
                        "ecs-tasks.amazonaws.com", "true", "1",
                    ]),
                    1..3,
                ),
                1..3,
            ),
            0..3,
        ),
        by_name in any::<bool>(),
    ) {
        let principal = if by_name { r#"{"Service":"ecs-tasks.amazonaws.com"}"# } else { r#""*""# };
        let conditions = serde_json::to_string(&conditions).unwrap();
        let statement = format!(r#"{{"Effect":"Allow","Principal":{principal},"Action":"sts:AssumeRole","Condition":{conditions}}}"#);
        // What IAM would not take.
        let Ok(policy) = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#).parse::<TrustPolicy>() else { return Ok(()) };
        let traps: Vec<_> = lint(&policy).iter().map(|finding| finding.code).collect();
        let call = AssumeRoleCall { tags: Vec::new(), ..calls::task_call() };
        let task = TrustCaller::EcsTasks { task_arn: calls::TASK.replace("111122223333", "444455556666") };
        let role = TrustCaller::Iam(IamCaller::of("arn:aws:iam::444455556666:role/taskcreds-proxy").unwrap());
        for (caller, trap) in [(task, "confused-deputy"), (role, "everybody")] {
            let context = Context::new(&call, &caller);
            let is_meant = policy.statements[0].principals[0].means(&caller).is_some();
            // A value that is not known is the caller's to choose.
            let holds = |condition: &Condition| {
                let checked = condition.check(&context, policy.has_variables);
                checked.holds == Truth::Yes || checked.holds == Truth::Unknown && checked.request_values.is_none()
            };
            if is_meant && policy.statements[0].conditions.iter().all(holds) {
                prop_assert!(traps.iter().any(|found| [trap, "everybody"].contains(found)), "{} {:?}", statement, traps);
            }
        }
    }
}

#[test]
fn what_only_an_iam_principal_has_is_not_demanded_of_a_service() {
    for key in ["aws:PrincipalOrgID", "aws:PrincipalAccount", "aws:PrincipalArn", "aws:PrincipalTag/team", "aws:userid"]
    {
        let demand = |operator: &str| codes(&ecs(&account(&format!(r#""{operator}":{{"{key}":"o-1"}}"#))));
        assert_eq!(demand("StringLike"), ["principal-of-a-service"], "{key}");
        assert_eq!(demand("StringLikeIfExists"), [""; 0], "{key}");
        assert_eq!(codes(&proxy(&format!(r#"{{"StringEquals":{{"{key}":"o-1"}}}}"#))), [""; 0], "{key}");
    }
    assert_eq!(codes(&ecs(&account(r#""Bool":{"aws:PrincipalIsAWSService":"true"}"#))), [""; 0]);
    let service = r#""StringLike":{"aws:PrincipalServiceName":"ecs-tasks.amazonaws.com"}"#;
    assert_eq!(codes(&ecs(&account(service))), [""; 0]);
}

#[test]
fn a_misspelt_key_is_found_with_the_one_that_was_meant() {
    let found = lint(&policy(&proxy(r#"{"StringEquals":{"aws:PrincipalArm":"x"}}"#)));
    assert!(found[0].message.contains("no such key (aws:PrincipalArn is meant?)"), "{found:?}");
}

#[test]
fn a_source_arn_as_text_is_found_with_the_operator_that_was_meant() {
    let text = r#"{"StringEquals":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:*","aws:SourceAccount":"111122223333"}}"#;
    let found = lint(&policy(&ecs(text)));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, "wildcard-as-text");
    assert!(found[0].message.contains("write ArnLike"), "{found:?}");
}

/// What a request can have follows from the evaluator: calls with all there is to pass, by callers of each kind.
#[test]
fn every_key_that_a_request_can_have_is_known_with_as_many_values() {
    let call = AssumeRoleCall {
        transitive_tag_keys: vec!["ecs-task-arn".to_owned()],
        inherited_tags: vec![calls::tag("team", "a")],
        source_identity: Some("task".to_owned()),
        external_id: Some("prod".to_owned()),
        ..calls::task_call()
    };
    let TrustCaller::Iam(session) = calls::proxy() else { panic!("a proxy is an IAM principal") };
    let known = IamCaller {
        user_id: Some("AROA1234567890EXAMPLE:session".to_owned()),
        tags: Some(vec![calls::tag("team", "a")]),
        source_identity: Some("alice".to_owned()),
        token_issued: Some(call.at),
        ..session.clone()
    };
    let user = IamCaller::of("arn:aws:iam::111122223333:user/me").unwrap();
    for caller in [calls::ecs(), TrustCaller::Iam(session), TrustCaller::Iam(known), TrustCaller::Iam(user)] {
        for (key, value) in Context::new(&call, &caller).entries() {
            let several = has_several_values(key);
            assert!(several.is_some(), "{key} is not known");
            match value {
                Value::One(_) | Value::EcsSource(_) => assert_eq!(several, Some(false), "{key} has one value"),
                Value::Many(_) => assert_eq!(several, Some(true), "{key} has several values"),
                Value::Unknown(_) => {}
            }
        }
    }
    for key in ["aws:Ec2InstanceSourceVPC", "lambda:SourceFunctionArn", "aws:VpceAccount", "aws:VpceOrgID"] {
        assert_eq!(codes(&proxy(&format!(r#"{{"StringEquals":{{"{key}":"x"}}}}"#))), [""; 0], "{key}");
    }
    let paths = |operator: &str| codes(&proxy(&format!(r#"{{"{operator}":{{"aws:VpceOrgPaths":"o-1/*"}}}}"#)));
    assert_eq!(paths("ForAnyValue:StringLike"), [""; 0]);
    assert_eq!(paths("StringLike"), ["no-set-operator"]);
}

proptest! {
    /// Whatever the pattern: what is called a trap does not let ECS in, and a whole ARN that is called none does.
    #[test]
    fn a_source_arn_lets_ecs_in_where_it_is_no_trap(
        operator in prop::sample::select(vec!["ArnLike", "StringLike"]),
        head in prop::sample::select(vec!["arn:aws:ecs:us-west-2:111122223333:", "arn:aws:ecs:*:${aws:SourceAccount}:", "arn:aws:ecs:", "arn:*:*:", ""]),
        resource in prop::collection::vec(prop::sample::select(vec!["task", "/", "*", "?", "prod", "0123456789abcdef", ":"]), 0..5),
    ) {
        let statement = ecs(&account(&format!(r#""{operator}":{{"aws:SourceArn":"{head}{}"}}"#, resource.concat())));
        let call = AssumeRoleCall { tags: Vec::new(), ..calls::task_call() };
        let allows = evaluate(&policy(&statement), &calls::ecs(), &call, true).allows();
        let traps = codes(&statement);
        if head.ends_with("3:") || head.ends_with("}:") {
            prop_assert_eq!(traps.contains(&"source-arn-of-a-cluster"), !allows, "{}", statement);
        } else if allows {
            prop_assert_eq!(traps, [""; 0], "{}", statement);
        }
    }
}

#[test]
fn a_short_arn_does_what_its_finding_says() {
    let call = AssumeRoleCall { tags: Vec::new(), ..calls::task_call() };
    let allows = |statements: &str| evaluate(&policy(statements), &calls::ecs(), &call, true).allows();
    let open = ecs(&account(""));
    assert!(allows(&open));
    for operator in ["ArnLike", "ArnNotLike"] {
        let short = ecs(&account(&format!(r#""{operator}":{{"aws:SourceArn":"arn:aws:ecs:*"}}"#)));
        let denied = short.replace("Allow", "Deny");
        assert!(!allows(&short) && !allows(&format!("{open},{denied}")), "{operator}");
        let found = lint(&policy(&short));
        assert!(found[0].message.ends_with("it grants nothing here, and a Deny by it denies"), "{found:?}");
    }
}

#[test]
fn a_key_of_several_values_without_a_set_operator_does_what_its_finding_says() {
    let call = AssumeRoleCall { tags: vec![calls::tag("admin", "1")], ..calls::task_call() };
    let allows = |statements: &str| evaluate(&policy(statements), &calls::proxy(), &call, true).allows();
    let open = r#"{"Effect":"Allow","Principal":"*","Action":"sts:*"}"#;
    for operator in ["StringEquals", "StringNotEquals"] {
        let condition = format!(r#""Condition":{{"{operator}":{{"aws:TagKeys":"admin"}}}}"#);
        let with = open.replace(r#""sts:*""#, &format!(r#""sts:*",{condition}"#));
        assert!(!allows(&with) && !allows(&format!("{open},{}", with.replace("Allow", "Deny"))), "{operator}");
        let found = lint(&policy(&with));
        let found = found.iter().find(|finding| finding.code == "no-set-operator").unwrap();
        assert!(found.message.ends_with("without, it grants nothing here, and a Deny by it denies"), "{found:?}");
    }
}

#[test]
fn conditions_on_one_of_two_actions_are_found_either_way_round() {
    let one = |sid: &str, action: &str, condition: &str| {
        format!(
            r#"{{"Sid":"{sid}","Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::111122223333:role/proxy"}},"Action":"{action}","Condition":{condition}}}"#
        )
    };
    let condition = r#"{"StringEquals":{"aws:RequestTag/ecs-cluster-name":"prod"}}"#;
    let found = |a: &str, b: &str, action: &str| {
        lint(&policy(&format!("{},{}", one("A", "sts:AssumeRole", a), one("B", action, b))))
    };
    for (a, b, action, place) in [
        (condition, "{}", "sts:TagSession", "Statement[1] \"B\""),
        ("{}", condition, "sts:TagSession", "Statement[0] \"A\""),
    ] {
        let findings = found(a, b, action);
        assert!(matches!(&findings[..], [Finding { code: "conditions-on-one-action", .. }]), "{findings:?}");
        assert_eq!(findings[0].place, place);
    }
    assert_eq!(found(condition, condition, "sts:TagSession"), []);
    assert_eq!(found("{}", "{}", "sts:TagSession"), []);
    let codes: Vec<_> = found(condition, "{}", "sts:SetSourceIdentity").iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["conditions-on-one-action", "no-tag-session"]);
}

/// The statements of a policy in which a call that passes no session tags goes by the conditions of those that do.
#[test]
fn a_way_past_the_conditions_on_session_tags_is_found() {
    const ROLE: &str = "arn:aws:iam::111122223333:role/proxy";
    const BOTH: &str = r#"["sts:AssumeRole","sts:TagSession"]"#;
    const ASSUME: &str = r#""sts:AssumeRole""#;
    const TAG: &str = r#""sts:TagSession""#;
    const CLUSTER: &str = r#"{"StringEquals":{"aws:RequestTag/ecs-cluster-name":"prod"}}"#;
    const ID: &str = r#"{"StringEquals":{"sts:ExternalId":"x1"}}"#;
    const KEYS: &str = r#"{"ForAllValues:StringLike":{"aws:TagKeys":"ecs-*"},"Null":{"aws:TagKeys":"false"}}"#;
    let one = |principal: &str, action: &str, condition: &str| {
        format!(r#"{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":{action},"Condition":{condition}}}"#)
    };
    let (account, root, session) =
        ("111122223333", "arn:aws:iam::111122223333:root", "arn:aws:sts::111122223333:assumed-role/proxy/host");
    for (statements, place) in [
        ([one(ROLE, BOTH, CLUSTER), one(ROLE, ASSUME, "{}")], Some(1)),
        ([one(ROLE, BOTH, CLUSTER), one(account, ASSUME, "{}")], Some(1)),
        ([one(ROLE, BOTH, CLUSTER), one(root, ASSUME, "{}")], Some(1)),
        ([one(account, BOTH, CLUSTER), one(ROLE, ASSUME, "{}")], Some(1)),
        ([one(ROLE, BOTH, CLUSTER), one(session, ASSUME, "{}")], Some(1)),
        ([one(ROLE, BOTH, CLUSTER), one(ROLE, ASSUME, ID)], Some(1)),
        ([one(ROLE, ASSUME, ID), one(ROLE, TAG, r#"{"Bool":{"aws:SecureTransport":"true"}}"#)], Some(0)),
        ([one(ROLE, ASSUME, ID), one(ROLE, TAG, CLUSTER)], Some(0)),
        ([one(ROLE, ASSUME, "{}"), one(ROLE, TAG, KEYS)], Some(0)),
        ([one(ROLE, ASSUME, CLUSTER), one(account, TAG, "{}")], Some(1)),
        // Whoever has to pass the tag needs the other action too.
        ([one(ROLE, ASSUME, CLUSTER), one(ROLE, TAG, ID)], None),
        ([one(ROLE, ASSUME, KEYS), one(ROLE, TAG, CLUSTER)], None),
        // Which tags may be passed, if any are.
        ([one(ROLE, ASSUME, "{}"), one(ROLE, TAG, r#"{"StringEqualsIfExists":{"aws:RequestTag/team":"a"}}"#)], None),
        // Two ways, each a whole one.
        ([one(ROLE, BOTH, CLUSTER), one(ROLE, BOTH, ID)], None),
        // Two callers.
        ([one(ROLE, BOTH, CLUSTER), one("arn:aws:iam::111122223333:role/other", ASSUME, "{}")], None),
        ([one(ROLE, BOTH, CLUSTER), one("444455556666", ASSUME, "{}")], None),
        ([one(ROLE, BOTH, CLUSTER), one("arn:aws:sts::111122223333:assumed-role/other/host", ASSUME, "{}")], None),
        ([one(ROLE, BOTH, CLUSTER), ecs(r#"{"StringEquals":{"aws:SourceAccount":"111122223333"}}"#)], None),
    ] {
        let findings = lint(&policy(&statements.join(",")));
        let traps: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Trap).collect();
        let found: Vec<_> = traps.iter().map(|trap| (trap.code, trap.place.as_str())).collect();
        let place = place.map(|place| format!("Statement[{place}]"));
        let expected: Vec<_> = place.iter().map(|place| ("conditions-on-one-action", place.as_str())).collect();
        assert_eq!(found, expected, "{statements:?}");
    }
    // Without tags it is denied after all.
    let deny = r#"{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole","Condition":{"Null":{"aws:RequestTag/ecs-cluster-name":"true"}}}"#;
    let statements = [one(ROLE, BOTH, CLUSTER), one(ROLE, ASSUME, "{}"), deny.to_owned()];
    assert!(!codes(&statements.join(",")).contains(&"conditions-on-one-action"));
}

proptest! {
    /// Where the conditions of a statement stand in the way of a call without tags and another lets it in, that is found.
    #[test]
    fn no_call_without_tags_goes_by_unseen(
        first in prop::sample::select(vec!["{}", r#"{"StringEquals":{"sts:ExternalId":"x1"}}"#, r#"{"StringEquals":{"aws:RequestTag/ecs-cluster-name":"prod"}}"#]),
        second in prop::sample::select(vec!["{}", r#"{"StringEquals":{"sts:ExternalId":"x1"}}"#, r#"{"StringEquals":{"aws:RequestTag/ecs-cluster-name":"prod"}}"#]),
        other_is_both in any::<bool>(),
        external_id in prop::option::of(Just("x1".to_owned())),
    ) {
        let principal = r#""Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/taskcreds-proxy"}"#;
        let both = r#"["sts:AssumeRole","sts:TagSession"]"#;
        let action = if other_is_both { both } else { r#""sts:TagSession""# };
        let plain = format!(r#"{{{principal},"Action":"sts:AssumeRole","Condition":{first}}}"#);
        let other = format!(r#"{{{principal},"Action":{action},"Condition":{second}}}"#);
        let whole = format!(r#"{{{principal},"Action":{both},"Condition":{second}}}"#);
        let untagged = AssumeRoleCall { tags: Vec::new(), external_id, ..calls::task_call() };
        let allows = |statements: &str| evaluate(&policy(statements), &calls::proxy(), &untagged, true).allows();
        let statements = format!("{plain},{other}");
        if allows(&statements) && !allows(&whole) {
            prop_assert!(codes(&statements).contains(&"conditions-on-one-action"), "{}", statements);
        }
    }
}

#[test]
fn traps_come_before_notes_and_say_where() {
    let findings = lint(&policy(&format!(
        "{},{}",
        r#"{"Sid":"All","Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}"#,
        ecs("{}")
    )));
    let found: Vec<_> =
        findings.iter().map(|finding| (finding.level.word(), finding.code, finding.place.as_str())).collect();
    assert_eq!(found, [("trap", "confused-deputy", "Statement[1]"), ("note", "account", "Statement[0] \"All\"")]);
}
