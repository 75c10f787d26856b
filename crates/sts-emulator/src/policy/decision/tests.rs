//! Whole policies: whom they let in, as ECS and as a proxy, and what they say to the others.

use proptest::prelude::*;

use super::super::context::IamCaller;
use super::super::tests::{TASK, ecs, proxy, tag, task_call};
use super::*;

const ECS: &str = r#"{"Sid":"Ecs","Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole",
    "Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:*"},"StringEquals":{"aws:SourceAccount":"111122223333"}}}"#;
const PROXY: &str = r#"{"Sid":"Proxy","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/taskcreds-proxy"},
    "Action":["sts:AssumeRole","sts:TagSession"],
    "Condition":{"StringLike":{"aws:RequestTag/ecs-task-arn":"arn:aws:ecs:us-west-2:111122223333:task/prod/*"},
                 "StringEquals":{"aws:RequestTag/ecs-cluster-name":"prod"}}}"#;

fn policy(statements: &[&str]) -> TrustPolicy {
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(",")).parse().unwrap()
}

fn as_ecs(statements: &[&str]) -> Decision {
    evaluate(&policy(statements), &ecs(), &AssumeRoleCall { tags: Vec::new(), ..task_call() }, true)
}

fn as_proxy(statements: &[&str]) -> Decision {
    evaluate(&policy(statements), &proxy(), &task_call(), true)
}

fn effects(decision: &Decision) -> Vec<(&str, Effect)> {
    decision.verdicts.iter().map(|verdict| (verdict.action, verdict.effect)).collect()
}

/// An Allow of everything to this principal.
fn allow(principal: &str) -> String {
    format!(r#"{{"Effect":"Allow","Principal":{principal},"Action":"sts:*"}}"#)
}

fn caller(change: impl FnOnce(&mut IamCaller)) -> TrustCaller {
    let TrustCaller::Iam(mut caller) = proxy() else { panic!("a proxy is an IAM principal") };
    change(&mut caller);
    TrustCaller::Iam(caller)
}

#[test]
fn each_caller_is_let_in_by_its_own_statement_and_not_by_the_others() {
    assert!(as_ecs(&[ECS]).allows() && as_proxy(&[PROXY]).allows());
    assert!(as_ecs(&[ECS, PROXY]).allows() && as_proxy(&[ECS, PROXY]).allows());
    assert_eq!(
        effects(&as_proxy(&[ECS])),
        [("sts:AssumeRole", Effect::ImplicitDeny), ("sts:TagSession", Effect::ImplicitDeny)]
    );
    let decision = as_proxy(&[ECS]);
    assert_eq!(
        decision.denial().unwrap().reason,
        "Statement[0] \"Ecs\" does not trust arn:aws:sts::111122223333:assumed-role/taskcreds-proxy/session: it trusts ecs-tasks.amazonaws.com"
    );
    assert!(!as_ecs(&[PROXY]).allows());
    // Trusted by principal, the proxy still has no SourceArn.
    let both = ECS.replace(
        r#"{"Service":"ecs-tasks.amazonaws.com"}"#,
        r#"{"Service":"ecs-tasks.amazonaws.com","AWS":"111122223333"}"#,
    );
    assert!(as_ecs(&[&both]).allows());
    let reason = as_proxy(&[&both]).denial().unwrap().reason.clone();
    assert!(
        reason.starts_with("Statement[0] \"Ecs\" does not apply: ArnLike aws:SourceArn: the request does not have it"),
        "{reason}"
    );
    assert!(reason.contains("only the call of an AWS service has it"), "{reason}");
}

#[test]
fn a_source_arn_of_a_cluster_is_denied_as_ecs_with_the_reason() {
    for narrow in ["task/prod/*", "task/prod/0123456789abcdef", "cluster/prod"] {
        let decision = as_ecs(&[&ECS.replace("111122223333:*", &format!("111122223333:{narrow}"))]);
        let verdict = decision.denial().unwrap();
        assert_eq!(
            (verdict.effect, verdict.statement.as_deref()),
            (Effect::ImplicitDeny, Some("Statement[0] \"Ecs\""))
        );
        assert!(verdict.reason.contains("ECS supports aws:SourceArn only for all clusters"), "{}", verdict.reason);
        assert!(verdict.reason.contains("unable to assume the role"), "{}", verdict.reason);
    }
    // What cannot be told may be what a Deny is about.
    let deny = r#"{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:task/prod/*"}}}"#;
    assert_eq!(as_ecs(&[ECS, deny]).denial().unwrap().effect, Effect::ExplicitDeny);
    assert!(as_proxy(&[PROXY, deny]).allows(), "the proxy does not have the key");
}

#[test]
fn deny_wins_over_allow_wherever_it_stands() {
    let deny = r#"{"Sid":"NotUs","Effect":"Deny","Principal":{"AWS":"111122223333"},"Action":"sts:TagSession","Condition":{"StringNotEquals":{"aws:RequestTag/team":"blue"}}}"#;
    for statements in [[PROXY, deny], [deny, PROXY]] {
        let decision = as_proxy(&statements);
        assert_eq!(effects(&decision), [("sts:AssumeRole", Effect::Allow), ("sts:TagSession", Effect::ExplicitDeny)]);
        let reason = &decision.denial().unwrap().reason;
        assert!(
            reason.ends_with(
                "denies it: StringNotEquals aws:RequestTag/team: the request does not have it, the policy has \"blue\""
            ),
            "{reason}"
        );
    }
    let call = AssumeRoleCall {
        tags: vec![tag("Team", "blue"), tag("ecs-cluster-name", "prod"), tag("ecs-task-arn", TASK)],
        ..task_call()
    };
    assert!(evaluate(&policy(&[PROXY, deny]), &proxy(), &call, true).allows());
    let unknown = r#"{"Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}}"#;
    let reason = as_proxy(&[PROXY, unknown]).denial().unwrap().reason.clone();
    assert!(reason.contains("the request may have it"), "{reason}");
}

#[test]
fn every_action_is_decided_for_itself() {
    let assume_only = PROXY.replace(r#"["sts:AssumeRole","sts:TagSession"]"#, r#""sts:AssumeRole""#);
    let decision = as_proxy(&[&assume_only]);
    assert_eq!(effects(&decision), [("sts:AssumeRole", Effect::Allow), ("sts:TagSession", Effect::ImplicitDeny)]);
    assert_eq!(
        decision.denial().unwrap().reason,
        "Statement[0] \"Proxy\" does not allow sts:TagSession: only sts:AssumeRole"
    );
    // Without tags nothing else is asked, and the condition on them fails.
    let plain = AssumeRoleCall { tags: Vec::new(), ..task_call() };
    assert_eq!(
        effects(&evaluate(&policy(&[PROXY]), &proxy(), &plain, true)),
        [("sts:AssumeRole", Effect::ImplicitDeny)]
    );
    let identity = AssumeRoleCall { source_identity: Some("task".to_owned()), ..task_call() };
    let decision = evaluate(&policy(&[PROXY]), &proxy(), &identity, true);
    assert_eq!(decision.denial().map(|verdict| verdict.action), Some("sts:SetSourceIdentity"));
    let inherits = caller(|caller| caller.source_identity = Some("alice".to_owned()));
    let decision = evaluate(&policy(&[PROXY]), &inherits, &task_call(), true);
    assert_eq!(decision.denial().map(|verdict| verdict.action), Some("sts:SetSourceIdentity"), "inherited");
    let inherited = AssumeRoleCall { tags: Vec::new(), inherited_tags: vec![tag("a", "b")], ..task_call() };
    let decision = evaluate(
        &policy(&[r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}"#]),
        &proxy(),
        &inherited,
        true,
    );
    assert_eq!(decision.denial().map(|verdict| verdict.action), Some("sts:TagSession"), "inherited");
}

#[test]
fn actions_are_compared_without_case_and_with_wildcards() {
    for (action, holds) in [
        (r#""Action":"STS:assumeROLE""#, true),
        (r#""Action":"sts:Assume*""#, true),
        (r#""Action":"sts:AssumeRol?""#, true),
        (r#""Action":"sts:AssumeRoleWithSAML""#, false),
        (r#""NotAction":"sts:TagSession""#, true),
        (r#""NotAction":"sts:assumerole""#, false),
    ] {
        let statement = format!(r#"{{"Effect":"Allow","Principal":"*",{action}}}"#);
        assert_eq!(as_ecs(&[&statement]).allows(), holds, "{action}");
    }
}

#[test]
fn a_caller_is_meant_by_each_of_its_names_and_by_no_other() {
    for (principal, ecs, proxy) in [
        (r#""*""#, true, true),
        (r#"{"AWS":"*"}"#, true, true),
        (r#"{"Service":"*"}"#, false, false),
        (r#"{"Service":"ecs-tasks.amazonaws.com"}"#, true, false),
        (r#"{"Service":"ecs.amazonaws.com"}"#, false, false),
        (r#"{"Service":["ec2.amazonaws.com","ecs-tasks.amazonaws.com"]}"#, true, false),
        (r#"{"AWS":"111122223333"}"#, false, true),
        (r#"{"AWS":"arn:aws:iam::111122223333:root"}"#, false, true),
        (r#"{"AWS":"444455556666"}"#, false, false),
        (r#"{"AWS":"arn:aws:iam::111122223333:role/taskcreds-proxy"}"#, false, true),
        (r#"{"AWS":"arn:aws:iam::111122223333:role/Taskcreds-Proxy"}"#, false, false),
        (r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/taskcreds-proxy/session"}"#, false, true),
        (r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/taskcreds-proxy/other"}"#, false, false),
        (r#"{"AWS":"arn:aws:iam::111122223333:user/taskcreds-proxy"}"#, false, false),
        (r#"{"AWS":"arn:aws:sts::111122223333:federated-user/taskcreds-proxy"}"#, false, false),
        (r#"{"AWS":"AROA1234567890EXAMPLE"}"#, false, false),
        (r#"{"Federated":"cognito-identity.amazonaws.com"}"#, false, false),
        (r#"{"Service":"ecs-tasks.amazonaws.com","AWS":"111122223333"}"#, true, true),
    ] {
        let statement = allow(principal);
        assert_eq!((as_ecs(&[&statement]).allows(), as_proxy(&[&statement]).allows()), (ecs, proxy), "{principal}");
    }
}

#[test]
fn a_session_that_is_not_known_is_not_meant_by_name_and_a_path_belongs_to_the_role() {
    let session = allow(r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/taskcreds-proxy/session"}"#);
    let unknown = caller(|caller| caller.session_is_known = false);
    let decision = evaluate(&policy(&[&session]), &unknown, &task_call(), true);
    assert!(decision.denial().unwrap().reason.contains("one session by name"), "{decision:?}");
    let with_path =
        caller(|caller| caller.principal_arn = "arn:aws:iam::111122223333:role/infra/taskcreds-proxy".to_owned());
    let role = allow(r#"{"AWS":"arn:aws:iam::111122223333:role/taskcreds-proxy"}"#);
    assert!(!evaluate(&policy(&[&role]), &with_path, &task_call(), true).allows());
}

/// What may be denied is not allowed: a session by name where any session is asked about, a role of which the path is not told.
#[test]
fn a_deny_of_somebody_that_the_caller_may_be_is_one_of_the_caller() {
    let allow = allow(r#""*""#);
    let deny = |arn: &str| format!(r#"{{"Effect":"Deny","Principal":{{"AWS":"{arn}"}},"Action":"sts:AssumeRole"}}"#);
    let of = |arn: &str| TrustCaller::Iam(IamCaller::of(arn).unwrap());
    let (role, session) = (
        "arn:aws:iam::111122223333:role/taskcreds-proxy",
        "arn:aws:sts::111122223333:assumed-role/taskcreds-proxy/i-0abc",
    );
    for (caller, denied, allows) in [
        (role, session, false),
        (role, "arn:aws:sts::111122223333:assumed-role/other/i-0abc", true),
        (session, session, false),
        (session, "arn:aws:sts::111122223333:assumed-role/taskcreds-proxy/i-0def", true),
        (session, "arn:aws:iam::111122223333:role/infra/taskcreds-proxy", false),
        (role, "arn:aws:iam::111122223333:role/infra/taskcreds-proxy", true),
        (session, "arn:aws:iam::111122223333:role/infra/other", true),
        (session, "arn:aws:iam::444455556666:role/infra/taskcreds-proxy", true),
    ] {
        let decision = evaluate(&policy(&[&allow, &deny(denied)]), &of(caller), &task_call(), true);
        assert_eq!(decision.allows(), allows, "{caller} {denied}");
    }
    // Nor is it let in by the path that it may not have.
    let not_infra = r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:*",
        "Condition":{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/infra/*"}}}"#;
    assert!(!evaluate(&policy(&[not_infra]), &of(session), &task_call(), true).allows());
    assert!(evaluate(&policy(&[not_infra]), &of(role), &task_call(), true).allows());
}

/// What stands in a Deny of everybody, beside an Allow of everybody, keeps the caller out.
fn keeps_out(operator: &str, key: &str, value: &str, caller: &TrustCaller, call: &AssumeRoleCall) -> bool {
    let deny = format!(
        r#"{{"Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{{"{operator}":{{"{key}":"{value}"}}}}}}"#
    );
    let decision = evaluate(&policy(&[&allow(r#""*""#), &deny]), caller, call, true);
    decision.denial().is_some_and(|verdict| verdict.effect == Effect::ExplicitDeny)
}

#[test]
fn a_deny_by_a_key_of_several_values_without_a_set_operator_denies() {
    let call = AssumeRoleCall { tags: vec![tag("admin", "1")], ..task_call() };
    for (operator, denied) in [
        ("StringEquals", true),
        ("StringNotEquals", true),
        ("ForAnyValue:StringEquals", true),
        ("ForAnyValue:StringNotEquals", false),
    ] {
        assert_eq!(keeps_out(operator, "aws:TagKeys", "admin", &proxy(), &call), denied, "{operator}");
    }
    let allow =
        r#"{"Effect":"Allow","Principal":"*","Action":"sts:*","Condition":{"StringEquals":{"aws:TagKeys":"admin"}}}"#;
    assert!(!evaluate(&policy(&[allow]), &proxy(), &call, true).allows());
}

#[test]
fn a_deny_by_the_network_denies() {
    for (operator, key) in [
        ("StringEquals", "aws:SourceVpce"),
        ("ArnLike", "aws:SourceVpcArn"),
        ("StringEquals", "aws:VpceAccount"),
        ("StringEquals", "aws:VpceOrgID"),
        ("ForAnyValue:StringLike", "aws:VpceOrgPaths"),
    ] {
        for caller in [ecs(), proxy()] {
            assert!(
                keeps_out(operator, key, "arn:aws:ec2:us-west-2:111122223333:vpc/a", &caller, &task_call()),
                "{key}"
            );
        }
    }
}

/// A user may call with the credentials of GetSessionToken, and a role's session may have come from an instance or an identity provider.
#[test]
fn a_deny_by_what_nobody_knows_of_the_callers_credentials_denies() {
    let of = |arn: &str| TrustCaller::Iam(IamCaller::of(arn).unwrap());
    let (user, role) = ("arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/taskcreds-proxy");
    for (operator, key, value, as_user, as_role) in [
        ("Bool", "aws:MultiFactorAuthPresent", "false", true, true),
        ("Null", "aws:MultiFactorAuthPresent", "true", true, true),
        ("BoolIfExists", "aws:MultiFactorAuthPresent", "false", true, true),
        ("NumericGreaterThan", "aws:MultiFactorAuthAge", "3600", true, true),
        ("DateLessThan", "aws:TokenIssueTime", "2099-01-01T00:00:00Z", true, true),
        ("ArnLike", "aws:SignInSessionArn", "arn:aws:signin:*:*:*", true, true),
        ("ArnLike", "ssm:SourceInstanceArn", "arn:aws:*:*:*:*", false, true),
        ("StringLike", "token.actions.githubusercontent.com:sub", "repo:*", false, true),
    ] {
        assert_eq!(keeps_out(operator, key, value, &of(user), &task_call()), as_user, "{operator} {key} of a user");
        assert_eq!(keeps_out(operator, key, value, &of(role), &task_call()), as_role, "{operator} {key} of a role");
    }
    let allow = r#"{"Effect":"Allow","Principal":"*","Action":"sts:*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"false"}}}"#;
    for caller in [of(user), of(role)] {
        assert!(!evaluate(&policy(&[allow]), &caller, &task_call(), true).allows());
    }
}

#[test]
fn a_pattern_that_is_no_whole_arn_lets_nobody_in_and_may_keep_out() {
    for (effect, operator, key, allows) in [
        ("Allow", "ArnLike", "aws:PrincipalArn", false),
        ("Allow", "ArnNotLike", "aws:PrincipalArn", false),
        ("Deny", "ArnLike", "aws:PrincipalArn", false),
        ("Deny", "ArnNotLike", "aws:PrincipalArn", false),
        ("Deny", "StringLike", "sts:ExternalId", true),
    ] {
        let statement = format!(
            r#"{{"Effect":"{effect}","Principal":"*","Action":"sts:*","Condition":{{"{operator}":{{"{key}":"*"}}}}}}"#
        );
        let other = allow(r#""*""#);
        let texts = if effect == "Allow" { vec![statement.as_str()] } else { vec![other.as_str(), statement.as_str()] };
        assert_eq!(as_proxy(&texts).allows(), allows, "{statement}");
    }
}

#[test]
fn nobody_gets_a_role_of_another_partition_and_a_task_none_of_another_account() {
    let everybody = policy(&[&allow(r#""*""#)]);
    let of = |arn: &str| TrustCaller::Iam(IamCaller::of(arn).unwrap());
    for (role, as_ecs, as_proxy) in [
        ("arn:aws:iam::111122223333:role/web", None, None),
        ("arn:aws:iam::444455556666:role/web", Some("of another account than the task"), None),
        (
            "arn:aws-cn:iam::111122223333:role/web",
            Some("of another partition than the task, aws-cn and not aws"),
            Some("of another partition than the caller, aws-cn and not aws"),
        ),
    ] {
        let call = AssumeRoleCall { role_arn: role.to_owned(), tags: Vec::new(), ..task_call() };
        for (caller, why) in [
            (ecs(), as_ecs),
            (proxy(), as_proxy),
            (of("arn:aws:iam::111122223333:user/me"), as_proxy),
            (of("arn:aws:sts::111122223333:assumed-role/taskcreds-proxy/session"), as_proxy),
        ] {
            let decision = evaluate(&everybody, &caller, &call, true);
            assert_eq!(decision.allows(), why.is_none(), "{role} {caller:?}");
            let reason = decision.denial().map_or("", |verdict| verdict.reason.as_str());
            assert!(reason.contains(why.unwrap_or_default()), "{role}: {reason}");
            assert_eq!(decision.allows(), !reason.contains("another"), "{role}: {reason}");
        }
    }
    // An account of another partition is another account, whatever its number.
    let root = allow(r#"{"AWS":"arn:aws-cn:iam::111122223333:root"}"#);
    assert!(!as_proxy(&[&root]).allows());
}

#[test]
fn a_deny_of_the_account_or_the_role_is_one_of_their_sessions() {
    for principal in
        [r#"{"AWS":"111122223333"}"#, r#"{"AWS":"arn:aws:iam::111122223333:role/taskcreds-proxy"}"#, r#""*""#]
    {
        let deny = format!(r#"{{"Effect":"Deny","Principal":{principal},"Action":"sts:AssumeRole"}}"#);
        assert_eq!(as_proxy(&[PROXY, &deny]).denial().unwrap().effect, Effect::ExplicitDeny, "{principal}");
    }
}

#[test]
fn the_callers_own_policies_count_for_an_account_and_across_accounts() {
    let foreign = caller(|caller| {
        caller.account = "444455556666".to_owned();
        caller.arn = "arn:aws:sts::444455556666:assumed-role/proxy/session".to_owned();
        caller.principal_arn = "arn:aws:iam::444455556666:role/proxy".to_owned();
    });
    for (principal, caller, needed) in [
        (r#"{"AWS":"111122223333"}"#, proxy(), true),
        (r#"{"AWS":"arn:aws:iam::111122223333:root"}"#, proxy(), true),
        (r#"{"AWS":"arn:aws:iam::111122223333:role/taskcreds-proxy"}"#, proxy(), false),
        (r#"{"AWS":["111122223333","arn:aws:iam::111122223333:role/taskcreds-proxy"]}"#, proxy(), false),
        (r#""*""#, proxy(), false),
        (r#"{"AWS":"arn:aws:iam::444455556666:role/proxy"}"#, foreign.clone(), true),
        (r#""*""#, foreign, true),
        (r#""*""#, ecs(), false),
    ] {
        let policy = policy(&[&allow(principal)]);
        for identity_allows in [true, false] {
            let decision = evaluate(&policy, &caller, &task_call(), identity_allows);
            assert_eq!(decision.allows(), identity_allows || !needed, "{principal}");
            assert_eq!(decision.verdicts[0].needs_identity_policy, needed, "{principal}");
            assert_eq!(decision.verdicts[0].reason.contains("own policies"), needed, "{principal}");
        }
    }
}

#[test]
fn the_nearest_statement_is_named_first_and_all_are_told() {
    let decision = as_proxy(&[
        ECS,
        &PROXY.replace("\"prod\"", "\"dev\""),
        r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:SetSourceIdentity"}"#,
    ]);
    let verdict = decision.denial().unwrap();
    assert_eq!(
        verdict.reason,
        r#"Statement[1] "Proxy" does not apply: StringEquals aws:RequestTag/ecs-cluster-name: the request has "prod", the policy has "dev""#
    );
    assert_eq!(verdict.statement.as_deref(), Some("Statement[1] \"Proxy\""));
    let others: Vec<_> = verdict.others.iter().map(|other| other.split(':').next().unwrap()).collect();
    assert_eq!(others, ["Statement[2] does not allow sts", "Statement[0] \"Ecs\" does not trust arn"]);
    let deny = r#"{"Effect":"Deny","Principal":{"AWS":"444455556666"},"Action":"sts:AssumeRole"}"#;
    assert_eq!(as_proxy(&[deny]).denial().unwrap().reason, "no statement allows anything");
}

fn statement() -> impl Strategy<Value = (bool, String)> {
    let principal = prop::sample::select(vec![
        r#""*""#,
        r#"{"AWS":"111122223333"}"#,
        r#"{"AWS":"444455556666"}"#,
        r#"{"Service":"ecs-tasks.amazonaws.com"}"#,
        r#"{"AWS":"arn:aws:iam::111122223333:role/taskcreds-proxy"}"#,
    ]);
    let action = prop::sample::select(vec!["sts:*", "sts:AssumeRole", "sts:TagSession"]);
    let operator =
        prop::sample::select(vec!["StringLike", "StringNotLike", "ArnLike", "ArnNotLike", "StringLikeIfExists"]);
    let key = prop::sample::select(vec![
        "aws:SourceArn",
        "aws:SourceIp",
        "sts:RoleSessionName",
        "aws:RequestTag/ecs-task-arn",
        "sts:ExternalId",
        "aws:SourceAccount",
        "aws:PrincipalArn",
        "aws:ResourceTag/stage",
        "sts:DurationSeconds",
        "s3:prefix",
    ]);
    let value = prop::sample::select(vec![
        "*",
        "111122223333",
        "arn:aws:iam::111122223333:role/*",
        "arn:aws:ecs:us-west-2:111122223333:*",
        "arn:aws:ecs:us-west-2:111122223333:task/prod/*",
        "0123*",
        "${aws:username}",
    ]);
    (any::<bool>(), principal, action, operator, key, value).prop_map(|(allows, principal, action, operator, key, value)| {
        let effect = if allows { "Allow" } else { "Deny" };
        let statement = format!(
            r#"{{"Effect":"{effect}","Principal":{principal},"Action":"{action}","Condition":{{"{operator}":{{"{key}":"{value}"}}}}}}"#
        );
        (allows, statement)
    })
}

/// A value that a key could be given, to suit one policy or the other.
fn given() -> impl Strategy<Value = (String, String)> {
    let key = prop::sample::select(vec![
        "aws:SourceArn",
        "AWS:sourceaccount",
        "sts:ExternalId",
        "sts:RoleSessionName",
        "sts:SourceIdentity",
        "sts:DurationSeconds",
        "aws:RequestTag/ecs-task-arn",
        "aws:requesttag/more",
        "aws:TagKeys",
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "aws:PrincipalServiceName",
        "aws:username",
        "aws:ResourceAccount",
        "aws:ResourceTag/stage",
        "aws:CurrentTime",
        "aws:RequestedRegion",
        "aws:SourcIp",
        "s3:prefix",
    ]);
    let value = prop::sample::select(vec![
        TASK,
        "arn:aws:ecs:us-west-2:111122223333:task/dev/0123",
        "arn:aws:iam::111122223333:role/other",
        "111122223333",
        "ecs-tasks.amazonaws.com",
        "live",
        "900",
    ]);
    (key, value).prop_map(|(key, value)| (key.to_owned(), value.to_owned()))
}

proptest! {
    /// Whatever the policy, and whatever is said of them: keys that the call and the caller tell are what these tell.
    #[test]
    fn what_the_call_tells_is_not_to_be_given(
        statements in prop::collection::vec(statement(), 1..4),
        more in prop::collection::vec(given(), 1..4),
    ) {
        let policy = policy(&statements.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>());
        for (caller, tags) in [(ecs(), Vec::new()), (proxy(), task_call().tags)] {
            let call = AssumeRoleCall { tags, ..task_call() };
            prop_assert!(more.iter().all(|(key, _)| call.why_not_given(key, &caller).is_some()), "{:?}", more);
            let with = AssumeRoleCall { more: more.clone(), ..call.clone() };
            let [before, after] = [&call, &with].map(|call| evaluate(&policy, &caller, call, true));
            prop_assert_eq!(before, after);
        }
    }

    /// Whatever the policy: what is not known lets nobody in who would be kept out by some value of it.
    #[test]
    fn what_is_not_known_grants_nothing_that_a_value_takes_away(
        statements in prop::collection::vec(statement(), 1..4),
        address in prop::sample::select(vec!["0123", "0999", "arn:aws:ecs:us-west-2:111122223333:task/prod/x", "203.0.113.9"]),
    ) {
        let policy = policy(&statements.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>());
        for (caller, tags) in [(ecs(), Vec::new()), (proxy(), task_call().tags)] {
            let call = AssumeRoleCall { tags, ..task_call() };
            let more = vec![("aws:SourceIp".to_owned(), address.to_owned())];
            let known = AssumeRoleCall { more, ..call.clone() };
            let [before, after] = [&call, &known].map(|call| evaluate(&policy, &caller, call, true).allows());
            prop_assert!(after || !before);
        }
    }

    /// Whatever the policy: a further Deny lets nobody in, a further Allow keeps nobody out, and the order does not matter.
    #[test]
    fn a_further_statement_works_in_one_direction_only(
        statements in prop::collection::vec(statement(), 1..5),
        (more_allows, more) in statement(),
    ) {
        let mut texts: Vec<&str> = statements.iter().map(|(_, text)| text.as_str()).collect();
        for decide in [as_ecs as fn(&[&str]) -> Decision, as_proxy] {
            let before = decide(&texts).allows();
            let after = decide(&[&texts[..], &[more.as_str()]].concat()).allows();
            let as_it_should = if more_allows { after >= before } else { after <= before };
            prop_assert!(as_it_should);
        }
        let effects_in_order = effects(&as_proxy(&texts)).into_iter().map(|(_, effect)| effect).collect::<Vec<_>>();
        texts.reverse();
        let reversed = effects(&as_proxy(&texts)).into_iter().map(|(_, effect)| effect).collect::<Vec<_>>();
        prop_assert_eq!(effects_in_order, reversed);
    }
}
