//! The adapter against the embedded STS, which verifies what a canned answer does not: the signature and the limits.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_sts::config::{BehaviorVersion, Credentials, Region};
use secrecy::{ExposeSecret, SecretString};
use taskcreds::aws::{Base, Sts};
use taskcreds_core::test_util::new_spec;
use taskcreds_core::{
    AssumeRole, FailureKind, Session, SessionDuration, SessionSpec, SessionTag, SessionTags, SourceIdentity,
};
use taskcreds_sts_emulator::{AccessKey, Emulator, Options, Role, Roles};
use tokio::net::TcpListener;

/// An emulator on a free port, and the key of a user in it.
pub(crate) struct Embedded {
    pub(crate) emulator: Emulator,
    pub(crate) endpoint: String,
    pub(crate) key: AccessKey,
}

impl Embedded {
    pub(crate) async fn start(options: Options) -> Self {
        let emulator = Emulator::new(options);
        let key = emulator.add_caller("arn:aws:iam::111122223333:user/proxy").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(emulator.clone().run(listener, std::future::pending()));
        Self { emulator, endpoint, key }
    }

    fn sts(&self) -> Sts {
        self.sts_with(&self.key.access_key_id, self.key.secret_access_key.clone())
    }

    fn sts_with(&self, access_key_id: &str, secret_access_key: impl Into<SecretString>) -> Sts {
        Sts::new(Base::Emulator {
            endpoint: self.endpoint.clone(),
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.into(),
            embedded: None,
        })
    }

    fn durations(&self) -> Vec<u32> {
        self.emulator.calls().iter().map(|call| call.duration_seconds.unwrap()).collect()
    }

    /// A client of the SDK with these credentials.
    pub(crate) fn client(&self, credentials: Credentials) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .credentials_provider(credentials);
        aws_sdk_sts::Client::from_conf(config.build())
    }
}

/// What a role session is used with.
fn credentials(session: &Session) -> Credentials {
    let token = session.session_token().expose_secret().to_owned();
    let secret = session.secret_access_key().expose_secret();
    Credentials::new(session.access_key_id(), secret, Some(token), None, "test")
}

#[tokio::test]
async fn a_session_of_the_embedded_sts_is_who_it_says_it_is_and_lasts_as_long_as_asked() {
    let embedded = Embedded::start(Options::default()).await;
    let begin = SystemTime::now();
    let spec = SessionSpec { duration: SessionDuration::new(900).unwrap(), ..new_spec("web") };
    let session = embedded.sts().assume_role(&spec).await.unwrap();

    let life = session.expiration().duration_since(begin).unwrap();
    assert!((Duration::from_secs(898)..Duration::from_secs(910)).contains(&life), "{life:?}");
    assert_eq!(session.assumed_role_arn(), "arn:aws:sts::111122223333:assumed-role/web/task-web");
    let calls = embedded.emulator.calls();
    assert_eq!(session.request_id(), Some(calls[0].request_id.as_str()));
    assert_eq!(calls[0].issued_access_key_id.as_deref(), Some(session.access_key_id()));
    assert_eq!(calls[0].caller_arn.as_deref(), Some("arn:aws:iam::111122223333:user/proxy"));

    let identity = embedded.client(credentials(&session)).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some(session.assumed_role_arn()));
    assert_eq!(identity.user_id(), Some(session.assumed_role_id()));
}

#[tokio::test]
async fn tags_and_source_identity_reach_the_embedded_sts_under_a_good_signature() {
    let embedded = Embedded::start(Options::default()).await;
    let tags = [("ecs-cluster-name", "test"), ("Team", "Größe + Maß @ 1=1"), ("empty", "")];
    let tags: Vec<_> = tags.map(|(key, value)| SessionTag::new(key, value).unwrap()).to_vec();
    let spec = SessionSpec {
        tags: SessionTags::new(tags).unwrap(),
        transitive_tags: true,
        source_identity: Some(SourceIdentity::new("task-web").unwrap()),
        region: Some(taskcreds_core::Region::new("eu-central-1").unwrap()),
        ..new_spec("web")
    };
    embedded.sts().assume_role(&spec).await.unwrap();
    let call = embedded.emulator.calls().remove(0);
    let sent: Vec<_> = call.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())).collect();
    assert_eq!(sent, [("ecs-cluster-name", "test"), ("Team", "Größe + Maß @ 1=1"), ("empty", "")]);
    assert_eq!(call.transitive_tag_keys, ["ecs-cluster-name", "Team", "empty"]);
    assert_eq!(call.source_identity.as_deref(), Some("task-web"));
}

#[tokio::test]
async fn a_wrong_key_a_wrong_secret_and_a_wrong_clock_are_told_as_the_base_credentials() {
    let embedded = Embedded::start(Options::default()).await;
    let fast = Arc::new(|| SystemTime::now() + Duration::from_secs(3600));
    let ahead = Embedded::start(Options { clock: fast, ..Options::default() }).await;
    let secret = embedded.key.secret_access_key.clone();
    for (sts, code) in [
        (embedded.sts_with("AKIAI44QH8DHBEXAMPLE", secret), "InvalidClientTokenId"),
        (embedded.sts_with(&embedded.key.access_key_id, "not-the-secret"), "SignatureDoesNotMatch"),
        (ahead.sts(), "SignatureDoesNotMatch"),
    ] {
        let error = sts.assume_role(&new_spec("web")).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_deref()), (FailureKind::BaseCredentials, Some(code)), "{error}");
    }
    assert_eq!((embedded.emulator.calls().len(), ahead.emulator.calls().len()), (2, 1));
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_refused_without_telling_who_the_proxy_is() {
    let embedded = Embedded::start(Options { roles: Roles::Listed(Vec::new()), ..Options::default() }).await;
    let error = embedded.sts().assume_role(&new_spec("web")).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (FailureKind::Refused, Some("AccessDenied")));
    assert_eq!(error.request_id, Some(embedded.emulator.calls()[0].request_id.clone()));
    assert!(error.message.contains("user/proxy") && !error.told().contains("user/proxy"), "{error}");
}

#[tokio::test]
async fn tags_that_do_not_fit_into_a_session_are_refused_by_their_code() {
    let embedded = Embedded::start(Options::default()).await;
    let tags = (0..50).map(|n| SessionTag::new(format!("key-{n}"), "v".repeat(256)).unwrap()).collect();
    let spec = SessionSpec { tags: SessionTags::new(tags).unwrap(), ..new_spec("web") };
    let error = embedded.sts().assume_role(&spec).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (FailureKind::Refused, Some("PackedPolicyTooLarge")));
    assert!(error.told().contains("tags"), "{}", error.told());
}

#[tokio::test]
async fn a_role_that_allows_an_hour_is_asked_for_two_hours_once_only() {
    let arn = new_spec("web").role_arn.as_str().to_owned();
    let roles = Roles::Listed(vec![Role { arn, ..Role::default() }]);
    let embedded = Embedded::start(Options { roles, ..Options::default() }).await;
    let sts = embedded.sts();
    let spec = SessionSpec { duration: SessionDuration::new(7200).unwrap(), ..new_spec("web") };
    let session = sts.assume_role(&spec).await.unwrap();
    let life = session.remaining(SystemTime::now());
    assert!(life <= Duration::from_secs(3600) && life > Duration::from_secs(3590), "{life:?}");
    assert_eq!(embedded.durations(), [7200, 3600]);
    sts.assume_role(&spec).await.unwrap();
    assert_eq!(embedded.durations(), [7200, 3600, 3600]);
}
