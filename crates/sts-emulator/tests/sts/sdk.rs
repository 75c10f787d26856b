//! What an application with the real SDK sees.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_sts::operation::RequestId;
use aws_sdk_sts::types::Tag;
use taskcreds_sts_emulator::{InvalidCallerArn, Role, Roles};

use crate::harness::{ROLE, Sts, USER, credentials, refusal};

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build().unwrap()
}

fn listed(arn: &str, max_session_duration: u32) -> Roles {
    Roles::Listed(vec![Role { arn: arn.to_owned(), max_session_duration, ..Role::default() }])
}

#[tokio::test]
async fn a_role_is_assumed_and_the_session_knows_who_it_is() {
    let sts = Sts::start(Roles::Any).await;
    let role = "arn:aws:iam::444455556666:role/service/deploy";
    let call = sts.client(sts.caller(USER)).assume_role().role_arn(role).role_session_name("task-1");
    let output = call.duration_seconds(900).source_identity("alice").send().await.unwrap();

    let user = output.assumed_role_user().unwrap();
    assert_eq!(user.arn(), "arn:aws:sts::444455556666:assumed-role/deploy/task-1");
    assert!(user.assumed_role_id().starts_with("AROA") && user.assumed_role_id().ends_with(":task-1"));
    let issued = output.credentials().unwrap();
    assert_eq!(issued.access_key_id().len(), 20);
    assert!(issued.access_key_id().starts_with("ASIA"));
    assert_eq!(issued.secret_access_key().len(), 40);
    assert_eq!(output.session_token_size(), i32::try_from(issued.session_token().len()).ok());
    assert!(output.session_token_utilization().is_some_and(|percent| (1..100).contains(&percent)));
    let expires = sts.now() + Duration::from_secs(900);
    assert_eq!(std::time::SystemTime::try_from(*issued.expiration()).unwrap(), expires);
    assert_eq!(output.source_identity(), Some("alice"));

    let identity = sts.client(credentials(output.credentials())).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some(user.arn()));
    assert_eq!(identity.user_id(), Some(user.assumed_role_id()));
    assert_eq!(identity.account(), Some("444455556666"));

    let [assumed, identified] = &sts.emulator.calls()[..] else { panic!("two calls were made") };
    assert_eq!(assumed.outcome, "Success");
    assert_eq!(assumed.action.as_deref(), Some("AssumeRole"));
    assert_eq!(assumed.caller_arn.as_deref(), Some(USER));
    assert_eq!(assumed.role_arn.as_deref(), Some(role));
    assert_eq!(assumed.role_session_name.as_deref(), Some("task-1"));
    assert_eq!(assumed.duration_seconds, Some(900));
    assert_eq!(assumed.source_identity.as_deref(), Some("alice"));
    assert_eq!(assumed.issued_access_key_id.as_deref(), Some(issued.access_key_id()));
    assert_eq!(Some(assumed.request_id.as_str()), output.request_id());
    assert!(assumed.user_agent.as_deref().is_some_and(|agent| agent.contains("aws-sdk-rust")));
    assert_eq!(assumed.at, sts.now());
    assert_eq!(identified.action.as_deref(), Some("GetCallerIdentity"));
    assert_eq!(identified.caller_arn.as_deref(), Some(user.arn()));
}

#[tokio::test]
async fn added_users_and_roles_know_who_they_are_in_every_partition() {
    let sts = Sts::start(Roles::Any).await;
    for (caller, arn, id) in [
        (USER, USER, "AIDA"),
        ("arn:aws-cn:iam::111122223333:user/path/me", "arn:aws-cn:iam::111122223333:user/path/me", "AIDA"),
        (
            "arn:aws-us-gov:iam::111122223333:role/path/proxy",
            "arn:aws-us-gov:sts::111122223333:assumed-role/proxy/emulator",
            "AROA",
        ),
    ] {
        let identity = sts.client(sts.caller(caller)).get_caller_identity().send().await.unwrap();
        assert_eq!(identity.arn(), Some(arn));
        assert_eq!(identity.account(), Some("111122223333"));
        assert!(identity.user_id().is_some_and(|user_id| user_id.starts_with(id)), "{identity:?}");
    }
}

#[tokio::test]
async fn only_users_and_roles_can_be_callers() {
    let sts = Sts::start(Roles::Any).await;
    let arn = "arn:aws:iam::111122223333:root".to_owned();
    assert_eq!(sts.emulator.add_caller(&arn), Err(InvalidCallerArn { arn }));
}

#[tokio::test]
async fn a_role_that_is_not_listed_is_denied() {
    let sts = Sts::start(listed(ROLE, 3600)).await;
    let client = sts.client(sts.caller(USER));
    let other = "arn:aws:iam::111122223333:role/other";
    let result = client.assume_role().role_arn(other).role_session_name("task").send().await;
    let message = format!(
        "User: {USER} is not authorized to perform: sts:AssumeRole on resource: {other} (the emulator has no role of this ARN; it has {ROLE})"
    );
    assert_eq!(refusal(result), ("AccessDenied".to_owned(), message));
    client.assume_role().role_arn(ROLE).role_session_name("task").send().await.unwrap();
}

#[tokio::test]
async fn no_session_is_longer_than_its_role_allows() {
    let sts = Sts::start(listed(ROLE, 7200)).await;
    let client = sts.client(sts.caller(USER));
    let assume = |seconds| client.assume_role().role_arn(ROLE).role_session_name("task").duration_seconds(seconds);
    assume(7200).send().await.unwrap();
    let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
    assert_eq!(refusal(assume(7201).send().await), ("ValidationError".to_owned(), message.to_owned()));
}

#[tokio::test]
async fn a_session_gets_at_most_one_hour_of_another_role() {
    let sts = Sts::start(listed(ROLE, 43_200)).await;
    let chained = sts.client(sts.session(43_200).await);
    let placed = sts.client(sts.caller("arn:aws:iam::111122223333:role/proxy"));
    let user = sts.client(sts.caller(USER));
    let assume = |client: &aws_sdk_sts::Client, seconds| {
        client.assume_role().role_arn(ROLE).role_session_name("next").duration_seconds(seconds)
    };
    let message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
    for client in [&chained, &placed] {
        assume(client, 3600).send().await.unwrap();
        assert_eq!(refusal(assume(client, 3601).send().await), ("ValidationError".to_owned(), message.to_owned()));
    }
    assume(&user, 43_200).send().await.unwrap();
    // ECS is a service and no session, so its tasks get as long a session as the role allows.
    let key = sts.emulator.add_ecs_caller("arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef").unwrap();
    let ecs = Credentials::new(key.access_key_id, key.secret_access_key, None, None, "test");
    assume(&sts.client(ecs), 43_200).send().await.unwrap();
}

#[tokio::test]
async fn an_expired_session_is_told_so() {
    let sts = Sts::start(Roles::Any).await;
    let client = sts.client(sts.session(900).await);
    sts.advance(899);
    client.get_caller_identity().send().await.unwrap();
    sts.advance(1);
    let message = "The security token included in the request is expired";
    let expected = ("ExpiredToken".to_owned(), message.to_owned());
    assert_eq!(refusal(client.get_caller_identity().send().await), expected);
    let assume = client.assume_role().role_arn(ROLE).role_session_name("next");
    assert_eq!(refusal(assume.send().await), expected);
    assert_eq!(sts.emulator.calls().last().unwrap().outcome, "ExpiredToken");
}

#[tokio::test]
async fn a_key_works_only_with_its_own_secret_and_token() {
    let sts = Sts::start(Roles::Any).await;
    let (user, one, two) = (sts.caller(USER), sts.session(900).await, sts.session(900).await);
    let make = |key: &Credentials, secret: &Credentials, token: Option<&str>| {
        let token = token.map(str::to_owned);
        Credentials::new(key.access_key_id(), secret.secret_access_key(), token, None, "test")
    };
    let unknown = Credentials::new("ASIAAAAAAAAAAAAAAAAA", "secret", None, None, "test");
    for (credentials, code) in [
        (make(&user, &one, None), "SignatureDoesNotMatch"),
        (make(&one, &two, one.session_token()), "SignatureDoesNotMatch"),
        (make(&one, &one, two.session_token()), "InvalidClientTokenId"),
        (make(&one, &one, None), "InvalidClientTokenId"),
        (make(&user, &user, one.session_token()), "InvalidClientTokenId"),
        (unknown, "InvalidClientTokenId"),
    ] {
        let result = sts.client(credentials).get_caller_identity().send().await;
        assert_eq!(refusal(result).0, code);
        assert_eq!(sts.emulator.calls().last().unwrap().caller_arn, None);
    }
}

#[tokio::test]
async fn transitive_tags_and_the_source_identity_follow_the_chain_and_cannot_be_changed() {
    let sts = Sts::start(Roles::Any).await;
    let assume = |client: &aws_sdk_sts::Client| client.assume_role().role_arn(ROLE).role_session_name("next");
    let first = assume(&sts.client(sts.caller(USER)))
        .tags(tag("Team", "blue"))
        .tags(tag("Stage", "test"))
        .transitive_tag_keys("team")
        .source_identity("alice");
    let first = sts.client(credentials(first.send().await.unwrap().credentials()));

    let (code, message) = refusal(assume(&first).tags(tag("TEAM", "red")).send().await);
    assert_eq!(code, "InvalidParameterValue");
    assert!(message.contains("conflicts with a transitive tag key from the calling session"), "{message}");
    let (code, message) = refusal(assume(&first).source_identity("bob").send().await);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("ValidationError", "The source identity is already set for this assume role session",)
    );

    let second = assume(&first).tags(tag("Stage", "prod")).source_identity("alice").send().await.unwrap();
    assert_eq!(second.source_identity(), Some("alice"));
    let second = sts.client(credentials(second.credentials()));
    let third = assume(&second).send().await.unwrap();
    assert_eq!(third.source_identity(), Some("alice"));

    let call = sts.emulator.calls().pop().unwrap();
    let incoming: Vec<_> = call.incoming_transitive_tags.iter().map(|tag| (&*tag.key, &*tag.value)).collect();
    assert_eq!(incoming, [("Team", "blue")]);
    assert_eq!(call.source_identity, None);
}

#[tokio::test]
async fn tags_and_policies_make_the_token_longer_until_there_is_no_room() {
    let sts = Sts::start(Roles::Any).await;
    let client = sts.client(sts.caller(USER));
    let assume = || client.assume_role().role_arn(ROLE).role_session_name("task");
    let bare = assume().send().await.unwrap();
    let tagged = assume().tags(tag("Team", &"b".repeat(200))).send().await.unwrap();
    assert!(tagged.session_token_size() > bare.session_token_size());
    let padded = assume().minimum_session_token_size(4095).send().await.unwrap();
    assert_eq!(padded.session_token_size(), Some(4096));
    assert_eq!(padded.session_token_utilization(), Some(100));

    let tags = |count| (0..count).map(|number| tag(&format!("T{number}"), &"b".repeat(250))).collect();
    assume().set_tags(Some(tags(9))).send().await.unwrap();
    let result = assume().set_tags(Some(tags(10))).send().await;
    let error = result.err().unwrap().into_service_error();
    assert!(error.is_packed_policy_too_large_exception(), "{error:?}");
    let call = sts.emulator.calls().pop().unwrap();
    assert_eq!((&*call.outcome, call.tags.len()), ("PackedPolicyTooLarge", 10));
}
