//! What is sent: every setting of a session spec as its parameter, and nothing for what is not set.

use taskcreds_core::test_util::new_spec;
use taskcreds_core::{
    AssumeRole, ExternalId, PolicyArn, Region, SessionDuration, SessionPolicy, SessionSpec, SessionTag, SessionTags,
    SourceIdentity,
};

use crate::canned::{BASE_KEY, Canned, Request, SUCCESS, reply};

/// The one request that is made for a spec.
async fn request(spec: &SessionSpec) -> Request {
    let canned = Canned::start([reply(200, SUCCESS)]).await;
    canned.sts().assume_role(spec).await.unwrap();
    canned.only_request()
}

fn tags(tags: &[(&str, &str)]) -> SessionTags {
    SessionTags::new(tags.iter().map(|(key, value)| SessionTag::new(*key, *value).unwrap()).collect()).unwrap()
}

/// The parameters whose names begin so, sorted.
fn beginning(request: &Request, prefix: &str) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        request.form.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(n, v)| (n.clone(), v.clone())).collect();
    all.sort();
    all
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_plain_spec_is_sent_as_role_session_name_and_duration_and_nothing_else() {
    let request = request(&new_spec("web")).await;
    assert_eq!(request.line, "POST / HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        beginning(&request, ""),
        pairs(&[
            ("Action", "AssumeRole"),
            ("DurationSeconds", "3600"),
            ("RoleArn", "arn:aws:iam::111122223333:role/web"),
            ("RoleSessionName", "task-web"),
            ("Version", "2011-06-15"),
        ])
    );
}

#[tokio::test]
async fn every_setting_of_a_spec_is_sent_as_its_parameter() {
    let policy = "{\"Version\":\"2012-10-17\",\n\t\"Statement\":[{\"Effect\":\"Deny\",\"Action\":\"s3:*\",\
                  \"Resource\":\"é&=+%\"}]}";
    let mut spec = new_spec("web");
    spec.duration = SessionDuration::new(900).unwrap();
    spec.source_identity = Some(SourceIdentity::new("task-web").unwrap());
    spec.external_id = Some(ExternalId::new("arn:aws:ecs:us-west-2:111122223333:task/test/task-web").unwrap());
    spec.policy = Some(SessionPolicy::new(policy).unwrap());
    spec.policy_arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111122223333:policy/a/b"]
        .map(|arn| PolicyArn::new(arn).unwrap())
        .to_vec();
    let request = request(&spec).await;

    assert_eq!(request.parameter("DurationSeconds"), Some("900"));
    assert_eq!(request.parameter("SourceIdentity"), Some("task-web"));
    assert_eq!(request.parameter("ExternalId"), Some("arn:aws:ecs:us-west-2:111122223333:task/test/task-web"));
    assert_eq!(request.parameter("Policy"), Some(policy));
    assert_eq!(
        beginning(&request, "PolicyArns"),
        pairs(&[
            ("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
            ("PolicyArns.member.2.arn", "arn:aws:iam::111122223333:policy/a/b"),
        ])
    );
    assert!(beginning(&request, "T").is_empty(), "{request:?}");
}

#[tokio::test]
async fn tags_are_sent_in_their_order_and_are_passed_on_only_when_that_is_on() {
    let mut spec = new_spec("web");
    spec.tags = tags(&[
        ("ecs-task-arn", "arn:aws:ecs:us-west-2:111122223333:task/test/task-web"),
        ("Team", "Größe + Maß @ 1=1"),
        ("empty", ""),
    ]);
    let sent = pairs(&[
        ("Tags.member.1.Key", "ecs-task-arn"),
        ("Tags.member.1.Value", "arn:aws:ecs:us-west-2:111122223333:task/test/task-web"),
        ("Tags.member.2.Key", "Team"),
        ("Tags.member.2.Value", "Größe + Maß @ 1=1"),
        ("Tags.member.3.Key", "empty"),
        ("Tags.member.3.Value", ""),
    ]);
    let kept = request(&spec).await;
    assert_eq!(beginning(&kept, "T"), sent);

    spec.transitive_tags = true;
    let passed_on = request(&spec).await;
    assert_eq!(beginning(&passed_on, "Tags"), sent);
    assert_eq!(
        beginning(&passed_on, "TransitiveTagKeys"),
        pairs(&[
            ("TransitiveTagKeys.member.1", "ecs-task-arn"),
            ("TransitiveTagKeys.member.2", "Team"),
            ("TransitiveTagKeys.member.3", "empty"),
        ])
    );
}

#[tokio::test]
async fn no_tags_parameter_is_sent_when_there_are_none_even_if_tags_would_be_passed_on() {
    let spec = SessionSpec { transitive_tags: true, ..new_spec("web") };
    let request = request(&spec).await;
    assert!(beginning(&request, "T").is_empty(), "{request:?}");
}

#[tokio::test]
async fn fifty_tags_are_all_sent() {
    let many: Vec<_> = (1..=50).map(|n| SessionTag::new(format!("key-{n}"), "v".repeat(256)).unwrap()).collect();
    let spec = SessionSpec { tags: SessionTags::new(many).unwrap(), ..new_spec("web") };
    let request = request(&spec).await;
    assert_eq!(beginning(&request, "Tags.member.").len(), 100);
    assert_eq!(request.parameter("Tags.member.50.Key"), Some("key-50"));
}

#[tokio::test]
async fn each_task_is_signed_for_its_own_region_or_that_of_the_adapter() {
    let canned = Canned::start([reply(200, SUCCESS)]).await;
    let sts = canned.sts();
    for region in [None, Some("eu-west-1"), Some("ap-southeast-2"), None, Some("cn-north-1")] {
        let spec = SessionSpec { region: region.map(|region| Region::new(region).unwrap()), ..new_spec("web") };
        sts.assume_role(&spec).await.unwrap();
    }
    let requests = canned.requests();
    let regions: Vec<_> = requests.iter().map(Request::region).collect();
    assert_eq!(regions, ["us-east-1", "eu-west-1", "ap-southeast-2", "us-east-1", "cn-north-1"]);
    assert!(requests.iter().all(|request| request.access_key_id() == BASE_KEY));
}

#[tokio::test]
async fn the_user_agent_names_the_proxy_and_no_task() {
    let request = request(&new_spec("web")).await;
    let agent = request.header("user-agent").unwrap();
    assert!(agent.contains("app/taskcreds"), "{agent}");
    assert!(request.header("x-amz-user-agent").unwrap().contains("app/taskcreds"));
    assert!(!agent.contains("task-web"), "{agent}");
}

#[tokio::test]
async fn making_an_adapter_opens_no_connection() {
    let canned = Canned::start([reply(200, SUCCESS)]).await;
    let sts = canned.sts();
    tokio::task::yield_now().await;
    assert!(canned.requests().is_empty());
    sts.assume_role(&new_spec("web")).await.unwrap();
    canned.only_request();
}
