//! Where the adapter's own credentials come from: the SDK's default chain, in processes whose environment is known.

use aws_sdk_sts::config::Credentials;
use taskcreds_sts_emulator::Options;

use crate::canned::{Answer, Canned, Request, SUCCESS, SUCCESS_KEY, SUCCESS_TOKEN, reply};
use crate::child::Child;
use crate::embedded::Embedded;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "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";
const TOKEN: &str = "a-session-token-of-the-proxy";

async fn willing() -> Canned {
    Canned::start([reply(200, SUCCESS)]).await
}

/// The one request that came of a child whose one call succeeded.
async fn request_of(child: Child, canned: &Canned) -> Request {
    assert_eq!(child.run().await, [format!("ok {SUCCESS_KEY}")]);
    canned.only_request()
}

/// A shell script that says what the SDK wants of a `credential_process`, and the profile that names it.
fn with_process(child: Child, script: &str) -> Child {
    let path = child.path("credentials.sh");
    let profile = format!("[profile work]\nregion = eu-south-1\ncredential_process = /bin/sh {path}\n");
    child.file("credentials.sh", script).file(".aws/config", &profile).with("AWS_PROFILE", "work")
}

fn process_answer() -> String {
    format!("{{\"Version\":1,\"AccessKeyId\":\"{KEY}\",\"SecretAccessKey\":\"{SECRET}\",\"SessionToken\":\"{TOKEN}\"}}")
}

#[tokio::test]
async fn without_any_credentials_nothing_is_asked_of_sts_and_the_base_credentials_are_told() {
    let canned = willing().await;
    let outcomes = Child::new(&canned.endpoint()).calls(2).run().await;
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        assert!(outcome.starts_with("BaseCredentials "), "{outcome}");
        assert!(
            outcome.contains("told: the proxy has no valid AWS credentials of its own; give the proxy"),
            "{outcome}"
        );
    }
    assert!(canned.requests().is_empty());
}

#[tokio::test]
async fn a_profile_that_is_missing_and_a_process_that_fails_are_told_as_base_credentials_without_secrets() {
    let canned = willing().await;
    let child = || Child::new(&canned.endpoint());
    let cut = process_answer().replace('}', "");
    for (what, child) in [
        ("a profile nobody wrote", child().with("AWS_PROFILE", "nobody-wrote-it")),
        ("a file that is no profile", child().file(".aws/credentials", "[default\naws_access_key_id: x")),
        ("half a key", child().with("AWS_ACCESS_KEY_ID", KEY)),
        ("a process that fails", with_process(child(), &format!("echo '{}'\nexit 1", process_answer()))),
        ("a process that says half", with_process(child(), &format!("echo '{cut}'"))),
        ("a process that says nothing", with_process(child(), "true")),
        ("a token file that is missing", web_identity(child(), "no-such-file")),
    ] {
        let outcome = child.run().await.remove(0);
        assert!(outcome.starts_with("BaseCredentials "), "{what}: {outcome}");
        assert!(!outcome.contains(SECRET) && !outcome.contains(TOKEN), "{what}: {outcome}");
    }
    assert!(canned.requests().is_empty());
}

#[tokio::test]
async fn a_login_of_the_console_that_is_missing_is_told_with_the_command_that_makes_it() {
    let canned = willing().await;
    let profile = "[default]\nregion = eu-south-1\nlogin_session = arn:aws:iam::111122223333:user/me\n";
    let outcome = Child::new(&canned.endpoint()).file(".aws/config", profile).run().await.remove(0);
    assert!(outcome.starts_with("BaseCredentials ") && outcome.contains("run `aws login`"), "{outcome}");
}

#[tokio::test]
async fn what_a_failing_process_says_is_for_the_log_and_not_for_the_caller() {
    let canned = willing().await;
    let child = with_process(Child::new(&canned.endpoint()), "echo 'Log in to corp-sso first.' >&2\nexit 1");
    let outcome = child.run().await.remove(0);
    let (logged, told) = outcome.split_once(" | told: ").unwrap();
    assert!(logged.starts_with("BaseCredentials ") && logged.contains("corp-sso"), "{logged}");
    assert!(!told.contains("corp-sso"), "{told}");
}

#[tokio::test]
async fn keys_of_the_environment_sign_the_request_with_their_session_token() {
    let canned = willing().await;
    let child = Child::new(&canned.endpoint()).with_keys(KEY, SECRET).with("AWS_SESSION_TOKEN", TOKEN);
    let request = request_of(child, &canned).await;
    assert_eq!((request.access_key_id(), request.header("x-amz-security-token")), (KEY, Some(TOKEN)));
    assert_eq!(request.parameter("RoleSessionName"), Some("task-web"));
}

#[tokio::test]
async fn the_shared_credentials_file_signs_the_request() {
    let canned = willing().await;
    let file = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    let child = Child::new(&canned.endpoint()).file(".aws/credentials", &file);
    let request = request_of(child, &canned).await;
    assert_eq!((request.access_key_id(), request.header("x-amz-security-token")), (KEY, None));
}

#[tokio::test]
async fn a_credential_process_signs_the_requests_and_is_run_once_for_many() {
    let canned = willing().await;
    let child = Child::new(&canned.endpoint()).calls(3).region("eu-west-1");
    let runs = child.path("runs");
    let child = with_process(child, &format!("echo run >> {runs}\necho '{}'", process_answer()));
    assert_eq!(child.run().await, vec![format!("ok {SUCCESS_KEY}"); 3]);
    for request in canned.requests() {
        assert_eq!((request.access_key_id(), request.header("x-amz-security-token")), (KEY, Some(TOKEN)));
    }
    assert_eq!(canned.requests().len(), 3);
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
}

#[tokio::test]
async fn a_container_provider_signs_the_request() {
    let answer = format!(
        "{{\"AccessKeyId\":\"{KEY}\",\"SecretAccessKey\":\"{SECRET}\",\"Token\":\"{TOKEN}\",\
         \"Expiration\":\"2099-01-01T00:00:00Z\"}}"
    );
    let container = Canned::start([reply(200, &answer)]).await;
    let canned = willing().await;
    let child = Child::new(&canned.endpoint())
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/creds", container.endpoint()))
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer of-the-container");
    let request = request_of(child, &canned).await;
    assert_eq!((request.access_key_id(), request.header("x-amz-security-token")), (KEY, Some(TOKEN)));
    let asked = container.only_request();
    assert_eq!(
        (asked.line.as_str(), asked.header("authorization")),
        ("GET /creds HTTP/1.1", Some("Bearer of-the-container"))
    );
}

fn web_identity(child: Child, token_file: &str) -> Child {
    let path = child.path(token_file);
    child
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", path)
        .with("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/proxy")
        .with("AWS_ROLE_SESSION_NAME", "proxy")
}

/// An STS that answers AssumeRoleWithWebIdentity as told, and AssumeRole with a session.
async fn federating(answer: Answer) -> Canned {
    Canned::scripted(move |request, _| match request.parameter("Action").unwrap() {
        "AssumeRoleWithWebIdentity" => answer.clone(),
        _ => reply(200, SUCCESS),
    })
    .await
}

#[tokio::test]
async fn a_web_identity_is_exchanged_at_the_same_endpoint_and_its_session_signs_the_request() {
    let session = SUCCESS
        .replace("<AssumeRoleRe", "<AssumeRoleWithWebIdentityRe")
        .replace("</AssumeRoleRe", "</AssumeRoleWithWebIdentityRe")
        .replace(SUCCESS_KEY, "ASIAPROXYPROXYPROXY1")
        .replace("2026-11-21T17:11:28Z", "2099-01-01T00:00:00Z");
    let canned = federating(reply(200, &session)).await;
    let child = Child::new(&canned.endpoint()).file("token", "the-web-identity-token");
    let child = web_identity(child, "token");
    assert_eq!(child.run().await, [format!("ok {SUCCESS_KEY}")]);

    let [exchange, request] = canned.requests().try_into().unwrap();
    assert_eq!(exchange.parameter("Action"), Some("AssumeRoleWithWebIdentity"));
    assert_eq!(exchange.parameter("WebIdentityToken"), Some("the-web-identity-token"));
    assert_eq!(exchange.header("authorization"), None);
    assert_eq!(request.access_key_id(), "ASIAPROXYPROXYPROXY1");
    assert_eq!(request.header("x-amz-security-token"), Some(SUCCESS_TOKEN));
}

#[tokio::test]
async fn a_web_identity_that_sts_refuses_is_told_as_the_base_credentials() {
    let refusal = crate::canned::refusal("InvalidIdentityToken", "No OpenIDConnect provider found in your account");
    let canned = federating(reply(400, &refusal)).await;
    let child = Child::new(&canned.endpoint()).file("token", "the-web-identity-token");
    let outcome = web_identity(child, "token").run().await.remove(0);
    assert!(outcome.starts_with("BaseCredentials ") && !outcome.contains("the-web-identity-token"), "{outcome}");
    assert!(canned.requests().iter().all(|request| request.parameter("Action") != Some("AssumeRole")));
}

#[tokio::test]
async fn the_region_is_that_of_the_task_then_that_of_the_process_then_that_of_the_task_arn() {
    let canned = willing().await;
    let plain = || Child::new(&canned.endpoint()).with_keys(KEY, SECRET).without("AWS_REGION");
    let profile = "[default]\nregion = eu-south-1\n";
    for (child, region) in [
        (plain(), "us-west-2"),
        (plain().with("AWS_REGION", "eu-north-1"), "eu-north-1"),
        (plain().with("AWS_DEFAULT_REGION", "eu-north-1"), "eu-north-1"),
        (plain().file(".aws/config", profile), "eu-south-1"),
        (plain().with("AWS_REGION", "eu-north-1").region("ap-south-1"), "ap-south-1"),
        (plain().region("ap-south-1"), "ap-south-1"),
    ] {
        assert_eq!(child.run().await, [format!("ok {SUCCESS_KEY}")]);
        assert_eq!(canned.requests().last().unwrap().region(), region);
    }
}

#[tokio::test]
async fn a_proxy_that_is_a_role_session_itself_falls_back_to_an_hour() {
    let embedded = Embedded::start(Options::default()).await;
    let own = Credentials::new(&embedded.key.access_key_id, &embedded.key.secret_access_key, None, None, "test");
    let call = embedded.client(own).assume_role().role_arn("arn:aws:iam::111122223333:role/proxy");
    let session = call.role_session_name("host").send().await.unwrap().credentials.unwrap();

    let child = Child::new(&embedded.endpoint)
        .with_keys(session.access_key_id(), session.secret_access_key())
        .with("AWS_SESSION_TOKEN", session.session_token());
    let outcomes = child.seconds(7200).calls(2).run().await;
    assert!(outcomes.len() == 2 && outcomes.iter().all(|outcome| outcome.starts_with("ok ")), "{outcomes:?}");
    let calls = embedded.emulator.calls();
    let asked: Vec<_> = calls[1..].iter().map(|call| call.duration_seconds.unwrap()).collect();
    assert_eq!(asked, [7200, 3600, 3600]);
    assert_eq!(calls[1].outcome, "ValidationError");
}

#[tokio::test]
async fn a_retry_setting_of_the_environment_makes_no_second_request() {
    let canned = Canned::start([reply(503, &crate::canned::refusal("SlowDown", "Please."))]).await;
    let child = Child::new(&canned.endpoint()).with_keys(KEY, SECRET);
    let child = child.with("AWS_MAX_ATTEMPTS", "5").with("AWS_RETRY_MODE", "standard");
    let outcome = child.run().await.remove(0);
    assert!(outcome.starts_with("Throttled "), "{outcome}");
    canned.only_request();
}

/// The environment of somebody who uses AWS, all of which would lead elsewhere.
fn with_aws_settings(child: Child, elsewhere: &str) -> Child {
    let config = "[default]\nregion = eu-south-1\nuse_fips_endpoint = true\nendpoint_url = http://127.0.0.1:9\n";
    child
        .with_keys(KEY, SECRET)
        .with("AWS_SESSION_TOKEN", TOKEN)
        .with("AWS_ENDPOINT_URL", elsewhere)
        .with("AWS_USE_FIPS_ENDPOINT", "true")
        .with("AWS_USE_DUALSTACK_ENDPOINT", "true")
        .file(".aws/config", config)
}

#[tokio::test]
async fn the_embedded_sts_is_asked_whatever_aws_settings_are_in_the_environment() {
    let (elsewhere, canned) = (willing().await, willing().await);
    let child = Child::new(&elsewhere.endpoint()).embedded(&canned.endpoint());
    let request = request_of(with_aws_settings(child, &elsewhere.endpoint()), &canned).await;
    assert_eq!((request.access_key_id(), request.region()), (crate::canned::BASE_KEY, "us-east-1"));
    assert_eq!(request.header("x-amz-security-token"), None);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn the_embedded_sts_is_asked_directly_even_where_the_environment_names_an_http_proxy() {
    let (http_proxy, canned) = (willing().await, willing().await);
    let child = Child::new(&canned.endpoint())
        .embedded(&canned.endpoint())
        .with("HTTP_PROXY", http_proxy.endpoint())
        .with("http_proxy", http_proxy.endpoint());
    assert_eq!(child.run().await, [format!("ok {SUCCESS_KEY}")]);
    assert!(http_proxy.requests().is_empty(), "{:?}", http_proxy.requests());
    canned.only_request();
}
