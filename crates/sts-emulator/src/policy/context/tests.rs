//! Which keys each caller brings.

use super::super::tests::{ecs, proxy, tag, task_call};
use super::*;

fn absent(context: &Context, keys: &[&str]) -> bool {
    keys.iter().all(|key| context.get(key).is_none())
}

#[test]
fn ecs_and_a_proxy_have_different_keys() {
    let call = task_call();
    let (of_ecs, of_proxy) =
        (Context::new(&AssumeRoleCall { tags: Vec::new(), ..call.clone() }, &ecs()), Context::new(&call, &proxy()));
    let one = |value: &str| Some(Value::One(value.to_owned()));
    for (key, with_ecs, with_proxy) in [
        ("aws:SourceAccount", one("111122223333"), None),
        ("aws:PrincipalIsAWSService", one("true"), one("false")),
        ("aws:PrincipalServiceName", one("ecs-tasks.amazonaws.com"), None),
        ("aws:PrincipalArn", None, one("arn:aws:iam::111122223333:role/taskcreds-proxy")),
        ("aws:PrincipalAccount", None, one("111122223333")),
        ("aws:PrincipalType", None, one("AssumedRole")),
        ("aws:RequestTag/ECS-CLUSTER-NAME", None, one("prod")),
        ("sts:RoleSessionName", one("0123456789abcdef"), one("0123456789abcdef")),
        ("aws:username", None, None),
        ("aws:MultiFactorAuthPresent", None, Some(UNKNOWN.clone())),
        ("aws:ResourceTag/stage", one("live"), one("live")),
        ("aws:ResourceAccount", one("111122223333"), one("111122223333")),
        ("aws:SecureTransport", one("true"), one("true")),
        ("aws:CurrentTime", one("2026-11-25T04:30:00Z"), one("2026-11-25T04:30:00Z")),
        ("aws:EpochTime", one("1795581000"), one("1795581000")),
        ("aws:RequestedRegion", one("us-west-2"), one("us-west-2")),
        ("sts:DurationSeconds", None, None),
    ] {
        assert_eq!(of_ecs.get(key).cloned(), with_ecs, "{key} as ECS");
        assert_eq!(of_proxy.get(key).cloned(), with_proxy, "{key} as a proxy");
    }
    assert!(matches!(of_ecs.get("AWS:sourcearn"), Some(Value::EcsSource(_))));
    assert!(absent(&of_ecs, &["aws:TagKeys", "aws:PrincipalTag/team", "aws:userid", "aws:TokenIssueTime"]));
    assert!(absent(&of_proxy, &["aws:SourceArn", "sts:ExternalId", "sts:TransitiveTagKeys"]));
    for key in [
        "aws:SourceIdentity",
        "aws:TokenIssueTime",
        "ec2:SourceInstanceARN",
        "aws:Ec2InstanceSourceVPC",
        "ec2:RoleDelivery",
        "ssm:SourceInstanceArn",
        "codebuild:ProjectArn",
        "identitystore:UserId",
        "saml:sub",
        "oidc.eks.us-west-2.amazonaws.com/id/0123:sub",
    ] {
        assert_eq!(of_proxy.get(key), Some(UNKNOWN), "{key}: nobody has said where the proxy's session comes from");
    }
    assert_eq!(of_proxy.get("aws:SourceIp"), Some(UNKNOWN));
    assert_eq!(of_proxy.get("aws:PrincipalTag/team"), Some(UNKNOWN), "nobody has said which tags the proxy has");
}

/// A user may call with the credentials of GetSessionToken, a role's session may come from anywhere. Who is known in detail has what it has.
#[test]
fn what_temporary_credentials_bring_is_known_of_a_known_caller_only() {
    let keys = ["aws:MultiFactorAuthPresent", "aws:MultiFactorAuthAge", "aws:TokenIssueTime", "aws:SignInSessionArn"];
    let of = |caller: &IamCaller| Context::new(&task_call(), &TrustCaller::Iam(caller.clone()));
    let user = IamCaller::of("arn:aws:iam::111122223333:user/alice").unwrap();
    let role = IamCaller::of("arn:aws:iam::111122223333:role/taskcreds-proxy").unwrap();
    for key in keys {
        assert_eq!(of(&user).get(key), Some(UNKNOWN), "{key} of a user");
        assert_eq!(of(&role).get(key), Some(UNKNOWN), "{key} of a session");
    }
    assert!(absent(&of(&user), &["ec2:SourceInstanceArn", "saml:sub", "aws:SourceIdentity"]));
    let known = |caller: &IamCaller| IamCaller { tags: Some(Vec::new()), ..caller.clone() };
    assert!(absent(&of(&known(&user)), &keys));
    let session = IamCaller { token_issued: Some(task_call().at), ..known(&role) };
    assert!(absent(
        &of(&session),
        &["aws:MultiFactorAuthAge", "aws:SignInSessionArn", "saml:sub", "ssm:SourceInstanceArn"]
    ));
    let one = |value: &str| Value::One(value.to_owned());
    assert_eq!(of(&session).get("aws:MultiFactorAuthPresent"), Some(&one("false")));
    assert_eq!(of(&session).get("aws:TokenIssueTime"), Some(&one("2026-11-25T04:30:00Z")));
}

#[test]
fn the_tags_of_a_role_are_unknown_where_there_is_its_policy_alone() {
    let context = |call: &AssumeRoleCall| Context::new(call, &proxy());
    let alone = AssumeRoleCall { role_tags: None, ..task_call() };
    for key in ["aws:ResourceTag/stage", "iam:resourcetag/any"] {
        assert_eq!(context(&alone).get(key), Some(ROLE_UNKNOWN), "{key}");
    }
    assert!(absent(&context(&task_call()), &["aws:ResourceTag/other", "iam:ResourceTag/other"]));
    let told = AssumeRoleCall { more: vec![("aws:ResourceTag/stage".to_owned(), "test".to_owned())], ..alone };
    assert_eq!(context(&told).get("aws:resourcetag/stage"), Some(&Value::One("test".to_owned())));
}

#[test]
fn a_caller_is_told_from_its_arn() {
    let session = "arn:aws:sts::111122223333:assumed-role/proxy/host-1";
    for (arn, calls_as, principal, known) in [
        (
            "arn:aws:iam::111122223333:user/a/me",
            "arn:aws:iam::111122223333:user/a/me",
            "arn:aws:iam::111122223333:user/a/me",
            false,
        ),
        (
            "arn:aws-cn:iam::111122223333:role/a/proxy",
            "arn:aws-cn:sts::111122223333:assumed-role/proxy/*",
            "arn:aws-cn:iam::111122223333:role/a/proxy",
            false,
        ),
        (session, session, "arn:aws:iam::111122223333:role/proxy", true),
    ] {
        let caller = IamCaller::of(arn).unwrap();
        assert_eq!((&*caller.arn, &*caller.principal_arn, caller.session_is_known), (calls_as, principal, known));
        assert_eq!(
            (&*caller.account, caller.is_session()),
            ("111122223333", arn != principal || arn.contains(":role/"))
        );
    }
    for arn in [
        "",
        "proxy",
        "arn:aws:iam::111122223333:root",
        "arn:aws:sts::111122223333:assumed-role/proxy",
        "arn:aws:sts::1:assumed-role/proxy/x1",
        "arn:aws:sts::111122223333:assumed-role/proxy/*",
    ] {
        assert_eq!(IamCaller::of(arn), None, "{arn}");
    }
}

#[test]
fn actions_follow_from_what_is_passed_and_inherited() {
    let plain = AssumeRoleCall { tags: Vec::new(), ..task_call() };
    let with = |call: &AssumeRoleCall, caller: &TrustCaller| call.actions(caller);
    assert_eq!(with(&plain, &proxy()), ["sts:AssumeRole"]);
    assert_eq!(with(&task_call(), &proxy()), ["sts:AssumeRole", "sts:TagSession"]);
    let inherits = AssumeRoleCall { inherited_tags: vec![tag("team", "a")], ..plain.clone() };
    assert_eq!(with(&inherits, &proxy()), ["sts:AssumeRole", "sts:TagSession"]);
    let identity = AssumeRoleCall { source_identity: Some("task".to_owned()), ..plain.clone() };
    assert_eq!(with(&identity, &proxy()), ["sts:AssumeRole", "sts:SetSourceIdentity"]);
    let TrustCaller::Iam(mut caller) = proxy() else { panic!("a proxy is an IAM principal") };
    caller.source_identity = Some("alice".to_owned());
    assert_eq!(with(&plain, &TrustCaller::Iam(caller)), ["sts:AssumeRole", "sts:SetSourceIdentity"]);
}

#[test]
fn tags_of_a_chain_come_before_those_of_the_role_and_a_given_key_is_one_that_was_not_known() {
    let call = AssumeRoleCall {
        inherited_tags: vec![tag("Stage", "test")],
        more: vec![("aws:SourceIp".to_owned(), "203.0.113.1".to_owned())],
        ..task_call()
    };
    let context = Context::new(&call, &proxy());
    assert_eq!(context.get("aws:ResourceTag/stage"), Some(&Value::One("test".to_owned())));
    assert_eq!(context.get("aws:SourceIp"), Some(&Value::One("203.0.113.1".to_owned())));
}

#[test]
fn a_key_is_given_only_where_nobody_here_knows_it_and_else_it_is_told_why_not() {
    let ecs_call = AssumeRoleCall { tags: Vec::new(), ..task_call() };
    let proxy_call = AssumeRoleCall { role_tags: None, ..task_call() };
    for (key, of_ecs, of_proxy) in [
        ("aws:SourceArn", Some("the task's ARN tells it"), Some("only the call of an AWS service has it")),
        ("AWS:SOURCEACCOUNT", Some("the task's ARN tells it"), Some("only the call of an AWS service has it")),
        ("sts:DurationSeconds", Some("AssumeRole never has it"), Some("AssumeRole never has it")),
        ("sts:ExternalId", Some("ECS sends no external id"), Some("the external id of the call tells it")),
        ("aws:RequestTag/a", Some("ECS passes no session tags"), Some("the session tags tell it")),
        ("aws:TagKeys", Some("ECS passes no session tags"), Some("the session tags tell it")),
        ("aws:PrincipalArn", Some("an AWS service is no IAM principal"), Some("the caller's ARN tells it")),
        ("aws:PrincipalOrgID", Some("an AWS service is no IAM principal"), None),
        ("aws:PrincipalTag/team", Some("an AWS service is no IAM principal"), None),
        ("aws:userid", Some("an AWS service is no IAM principal"), None),
        ("aws:username", Some("an AWS service is no IAM principal"), Some("the caller's ARN tells it")),
        ("aws:SourceOrgID", None, Some("only the call of an AWS service has it")),
        ("aws:ResourceTag/other", Some("the role's tags tell it"), None),
        ("aws:CurrentTime", Some("it is the time of the call"), Some("it is the time of the call")),
        ("aws:SourceIp", None, None),
        ("aws:MultiFactorAuthPresent", Some("this caller does not bring it"), None),
        ("saml:sub", Some("only a session that began at an identity provider brings it"), None),
        (
            "aws:SourcIp",
            Some("AssumeRole has no such key; aws:SourceIp is meant?"),
            Some("AssumeRole has no such key; aws:SourceIp is meant?"),
        ),
        (
            "aws:PrincipalTag/",
            Some("an AWS service is no IAM principal"),
            Some("AssumeRole has no such key; aws:PrincipalTag/TAG is meant?"),
        ),
        ("s3:prefix", Some("AssumeRole has no such key"), Some("AssumeRole has no such key")),
    ] {
        assert_eq!(ecs_call.why_not_given(key, &ecs()).as_deref(), of_ecs, "{key} of ECS");
        assert_eq!(proxy_call.why_not_given(key, &proxy()).as_deref(), of_proxy, "{key} of a proxy");
    }
    // A session's ARN does not tell its role's path, and the role's ARN does.
    let session = TrustCaller::Iam(IamCaller::of("arn:aws:sts::111122223333:assumed-role/proxy/host-1").unwrap());
    assert!(task_call().why_not_given("aws:PrincipalArn", &session).is_some());
}

#[test]
fn of_a_key_with_one_value_that_is_given_several_nothing_is_known() {
    let more = ["203.0.113.1", "203.0.113.2"].map(|value| ("aws:SourceIp".to_owned(), value.to_owned())).to_vec();
    assert_eq!(Context::new(&AssumeRoleCall { more, ..task_call() }, &proxy()).get("aws:SourceIp"), Some(UNKNOWN));
}
