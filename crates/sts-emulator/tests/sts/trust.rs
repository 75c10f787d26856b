//! Roles with trust policies, over real HTTP and with the real SDK: who gets in, and what the others are told.

use aws_sdk_sts::Client;
use aws_sdk_sts::types::Tag;
use taskcreds_sts_emulator::{InvalidTaskArn, Options, Role, Roles};

use crate::harness::{ROLE, Sts, USER, credentials, refusal};

const TASK: &str = "arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef";

fn role(arn: &str, statements: &str) -> Role {
    let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    Role { arn: arn.to_owned(), trust_policy: Some(policy.parse().unwrap()), ..Role::default() }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build().unwrap()
}

async fn assume(client: &Client, tags: &[(&str, &str)], external_id: Option<&str>) -> Result<(), (String, String)> {
    let tags = tags.iter().map(|(key, value)| tag(key, value)).collect();
    let call = client.assume_role().role_arn(ROLE).role_session_name("task").set_tags(Some(tags));
    let outcome = call.set_external_id(external_id.map(str::to_owned)).send().await;
    if outcome.is_ok() { Ok(()) } else { Err(refusal(outcome)) }
}

#[tokio::test]
async fn the_trust_policy_decides_and_a_refusal_says_what_decided() {
    let statement = r#"{"Sid":"Me","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/me"},"Action":["sts:AssumeRole","sts:TagSession"],
        "Condition":{"StringEquals":{"sts:ExternalId":"open"},"StringEqualsIfExists":{"aws:RequestTag/Team":"blue","aws:RequestedRegion":"eu-central-1"}}}"#;
    let sts = Sts::start(Roles::Listed(vec![role(ROLE, statement)])).await;
    let (me, other) = (sts.client(sts.caller(USER)), sts.client(sts.caller("arn:aws:iam::111122223333:user/other")));
    assert_eq!(assume(&me, &[], Some("open")).await, Ok(()));
    assert_eq!(assume(&me, &[("team", "blue")], Some("open")).await, Ok(()));
    for (client, caller, tags, external_id, why) in [
        (
            &me,
            USER,
            &[][..],
            None,
            "Statement[0] \"Me\" does not apply: StringEquals sts:ExternalId: the request does not have it, the policy has \"open\"",
        ),
        (
            &me,
            USER,
            &[],
            Some("shut"),
            "StringEquals sts:ExternalId: the request has \"shut\", the policy has \"open\"",
        ),
        (
            &me,
            USER,
            &[("Team", "red")],
            Some("open"),
            "StringEqualsIfExists aws:RequestTag/Team: the request has \"red\", the policy has \"blue\"",
        ),
        (
            &other,
            "arn:aws:iam::111122223333:user/other",
            &[],
            Some("open"),
            "does not trust arn:aws:iam::111122223333:user/other: it trusts arn:aws:iam::111122223333:user/me",
        ),
    ] {
        let (code, message) = assume(client, tags, external_id).await.unwrap_err();
        assert_eq!(code, "AccessDenied");
        let sentence =
            format!("User: {caller} is not authorized to perform: sts:AssumeRole on resource: {ROLE} (the emulator, ");
        assert!(message.starts_with(&sentence) && message.contains(why), "{message}");
        assert_eq!(sts.emulator.calls().last().unwrap().outcome, "AccessDenied");
    }
}

#[tokio::test]
async fn tags_and_source_identity_need_their_own_actions() {
    let statement = r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}"#;
    let sts = Sts::start(Roles::Listed(vec![role(ROLE, statement)])).await;
    let me = sts.client(sts.caller(USER));
    assert_eq!(assume(&me, &[], None).await, Ok(()));
    let (_, message) = assume(&me, &[("team", "blue")], None).await.unwrap_err();
    assert!(
        message.starts_with(&format!("User: {USER} is not authorized to perform: sts:TagSession on resource: {ROLE}")),
        "{message}"
    );
    let call = me.assume_role().role_arn(ROLE).role_session_name("task").source_identity("alice");
    let (_, message) = refusal(call.send().await);
    assert!(message.contains("is not authorized to perform: sts:SetSourceIdentity on resource"), "{message}");
}

/// The emulator knows its callers: a user's key is a long-term one, and its own sessions began here.
#[tokio::test]
async fn what_a_callers_credentials_bring_is_known() {
    let first = "arn:aws:iam::111122223333:role/first";
    let all = r#"{"Effect":"Allow","Principal":"*","Action":"sts:*"}"#;
    for (condition, user, session) in [
        (r#"{"Bool":{"aws:MultiFactorAuthPresent":"false"}}"#, true, false),
        (r#"{"DateLessThan":{"aws:TokenIssueTime":"2099-01-01T00:00:00Z"}}"#, true, false),
        (r#"{"DateGreaterThan":{"aws:TokenIssueTime":"2099-01-01T00:00:00Z"}}"#, true, true),
        (r#"{"Null":{"aws:TokenIssueTime":"true"}}"#, false, true),
        (r#"{"NumericGreaterThan":{"aws:MultiFactorAuthAge":"60"}}"#, true, true),
        (r#"{"ArnLike":{"ssm:SourceInstanceArn":"arn:aws:*:*:*:*"}}"#, true, true),
    ] {
        let deny = format!(r#"{all},{{"Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{condition}}}"#);
        let sts = Sts::start(Roles::Listed(vec![role(first, all), role(ROLE, &deny)])).await;
        let me = sts.client(sts.caller(USER));
        assert_eq!(assume(&me, &[], None).await.is_ok(), user, "{condition} of a user");
        let began = me.assume_role().role_arn(first).role_session_name("first").send().await.unwrap();
        let chained = sts.client(credentials(began.credentials()));
        assert_eq!(assume(&chained, &[], None).await.is_ok(), session, "{condition} of a session");
    }
}

#[tokio::test]
async fn what_a_chain_inherits_must_be_allowed_again() {
    let first = "arn:aws:iam::111122223333:role/path/first";
    let all = r#"{"Effect":"Allow","Principal":"*","Action":"sts:*"}"#;
    let second = format!(
        r#"{{"Effect":"Allow","Principal":{{"AWS":"{first}"}},"Action":"sts:AssumeRole",
            "Condition":{{"StringEquals":{{"aws:PrincipalTag/Stage":"live","aws:PrincipalTag/Team":"blue","aws:PrincipalType":"AssumedRole"}}}}}}"#
    );
    let tags = vec![taskcreds_sts_emulator::Tag { key: "stage".to_owned(), value: "live".to_owned() }];
    let roles = vec![Role { tags, ..role(first, all) }, role(ROLE, &second)];
    let sts = Sts::start(Roles::Listed(roles)).await;
    let begin = |transitive: bool| {
        let call = sts
            .client(sts.caller(USER))
            .assume_role()
            .role_arn(first)
            .role_session_name("first")
            .tags(tag("team", "blue"));
        if transitive { call.transitive_tag_keys("team") } else { call }
    };
    // The role's tags and the session's are both the principal's; its ARN is the role's, with the path.
    let plain = sts.client(credentials(begin(false).send().await.unwrap().credentials()));
    assert_eq!(assume(&plain, &[], None).await, Ok(()));
    let transitive = sts.client(credentials(begin(true).send().await.unwrap().credentials()));
    let (_, message) = assume(&transitive, &[], None).await.unwrap_err();
    assert!(message.contains("sts:TagSession"), "{message}");
    let identity = begin(false).source_identity("alice").send().await.unwrap();
    let (_, message) = assume(&sts.client(credentials(identity.credentials())), &[], None).await.unwrap_err();
    assert!(message.contains("sts:SetSourceIdentity"), "{message}");
    // A user without that tag.
    let (_, message) = assume(&sts.client(sts.caller(USER)), &[], None).await.unwrap_err();
    assert!(message.contains("does not trust"), "{message}");
}

#[tokio::test]
async fn ecs_calls_as_a_service_with_the_source_of_its_task() {
    let ecs = |arn: &str| {
        format!(
            r#"{{"Effect":"Allow","Principal":{{"Service":"ecs-tasks.amazonaws.com"}},"Action":"sts:AssumeRole","Condition":{{
                "ArnLike":{{"aws:SourceArn":"{arn}"}},"StringEquals":{{"aws:SourceAccount":"111122223333"}}}}}}"#
        )
    };
    for (arn, granted) in
        [("arn:aws:ecs:us-west-2:111122223333:*", true), ("arn:aws:ecs:us-west-2:111122223333:task/prod/*", false)]
    {
        let sts = Sts::start(Roles::Listed(vec![role(ROLE, &ecs(arn))])).await;
        let key = sts.emulator.add_ecs_caller(TASK).unwrap();
        let client = sts.client(aws_credential_types::Credentials::new(
            key.access_key_id,
            key.secret_access_key,
            None,
            None,
            "test",
        ));
        let outcome = assume(&client, &[], None).await;
        assert_eq!(outcome.is_ok(), granted, "{outcome:?}");
        if let Err((code, message)) = outcome {
            assert_eq!(code, "AccessDenied");
            assert!(message.starts_with("User: ecs-tasks.amazonaws.com is not authorized"), "{message}");
            assert!(message.contains("ECS supports aws:SourceArn only for all clusters"), "{message}");
        }
        let (_, message) = assume(&sts.client(sts.caller(USER)), &[], None).await.unwrap_err();
        assert!(message.contains("it trusts ecs-tasks.amazonaws.com"), "{message}");
    }
    let sts = Sts::start(Roles::Any).await;
    for arn in ["arn:aws:ecs:us-west-2:111122223333:cluster/prod", "arn:aws:iam::111122223333:role/task/x", ""] {
        assert_eq!(sts.emulator.add_ecs_caller(arn), Err(InvalidTaskArn { arn: arn.to_owned() }));
    }
}

/// Whatever its policy: also without one, as which it trusts everybody.
#[tokio::test]
async fn nobody_is_given_a_listed_role_of_another_partition() {
    let everybody = role(ROLE, r#"{"Effect":"Allow","Principal":"*","Action":"sts:*"}"#);
    for role in [everybody, Role { arn: ROLE.to_owned(), ..Role::default() }] {
        let sts = Sts::start(Roles::Listed(vec![role])).await;
        assert_eq!(assume(&sts.client(sts.caller(USER)), &[], None).await, Ok(()));
        let cn = sts.client(sts.caller("arn:aws-cn:iam::111122223333:user/me"));
        let (code, message) = assume(&cn, &[], None).await.unwrap_err();
        assert_eq!(code, "AccessDenied");
        assert!(message.contains("another partition than the caller, aws and not aws-cn"), "{message}");
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_before_the_duration_is_looked_at() {
    let sts = Sts::start(Roles::Listed(vec![role(
        ROLE,
        r#"{"Effect":"Allow","Principal":{"AWS":"444455556666"},"Action":"sts:*"}"#,
    )]))
    .await;
    let call =
        sts.client(sts.caller(USER)).assume_role().role_arn(ROLE).role_session_name("task").duration_seconds(43_200);
    assert_eq!(refusal(call.send().await).0, "AccessDenied");
}

#[tokio::test]
async fn the_callers_own_policies_can_be_said_not_to_allow_it() {
    let statement = r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}"#;
    for identity_allows in [true, false] {
        let roles = Roles::Listed(vec![role(ROLE, statement)]);
        let sts = Sts::start_with(Options { roles, identity_allows, ..Options::default() }).await;
        let outcome = assume(&sts.client(sts.caller(USER)), &[], None).await;
        assert_eq!(outcome.is_ok(), identity_allows, "{outcome:?}");
    }
}
