//! Requests written by hand: what a wire carries that no SDK would send.

use taskcreds_sts_emulator::{Emulator, Options, Roles};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::harness::{ROLE, Sts, USER};

const IDENTITY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The names of all elements, in order.
fn elements(xml: &str) -> Vec<&str> {
    let opened = xml.split('<').filter_map(|part| part.split(['>', ' ']).next());
    opened.filter(|name| !name.is_empty() && !name.starts_with('/')).collect()
}

#[tokio::test]
async fn the_answer_has_the_elements_of_aws_in_their_order() {
    let sts = Sts::start(Roles::Any).await;
    let form = [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", ROLE),
        ("RoleSessionName", "task"),
        ("SourceIdentity", "alice"),
    ];
    let reply = sts.post(&sts.caller(USER), &form).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/xml"));
    assert_eq!(reply.header("x-amzn-requestid"), reply.element("RequestId"));
    let namespace = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">";
    assert!(reply.body.starts_with(namespace), "{}", reply.body);
    assert_eq!(
        elements(&reply.body),
        [
            "AssumeRoleResponse",
            "AssumeRoleResult",
            "AssumedRoleUser",
            "AssumedRoleId",
            "Arn",
            "Credentials",
            "AccessKeyId",
            "SecretAccessKey",
            "SessionToken",
            "Expiration",
            "PackedPolicySize",
            "SourceIdentity",
            "SessionTokenUtilization",
            "SessionTokenSize",
            "ResponseMetadata",
            "RequestId",
        ]
    );
}

#[tokio::test]
async fn a_body_that_was_changed_after_signing_is_refused() {
    let sts = Sts::start(Roles::Any).await;
    let (user, session) = (sts.caller(USER), sts.session(900).await);
    for credentials in [&user, &session] {
        let body = format!("{IDENTITY}&Comment=good");
        let head = sts.signed(credentials, &body);
        assert_eq!(sts.exchange(head.clone(), body.as_str()).await.status, 200);
        let reply = sts.exchange(head, body.replace("good", "evil")).await;
        assert_eq!((reply.status, reply.code()), (403, "SignatureDoesNotMatch"));
        assert!(reply.body.contains("<Type>Sender</Type>"), "{}", reply.body);
    }
}

#[tokio::test]
async fn headers_that_are_not_signed_do_no_harm() {
    let sts = Sts::start(Roles::Any).await;
    let more = "User-Agent: \u{fc}\r\nX-Anything: 1\r\nX-Anything: 2\r\nExpect: 100-continue\r\n";
    let head = sts.signed(&sts.caller(USER), IDENTITY).replace("Connection:", &format!("{more}Connection:"));
    let reply = sts.exchange(head, IDENTITY).await;
    // "100 Continue" is a reply of its own, before this one.
    assert!(reply.head.starts_with("http/1.1 100"), "{}", reply.head);
    assert!(reply.body.contains("200 OK") && reply.body.contains(USER), "{}", reply.body);
}

#[tokio::test]
async fn requests_without_a_readable_signature_are_refused() {
    let sts = Sts::start(Roles::Any).await;
    let signed = sts.signed(&sts.caller(USER), IDENTITY);
    let other = signed.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    let without: String = signed.split_inclusive("\r\n").filter(|line| !line.starts_with("authorization")).collect();
    for (head, status, code) in [
        (without.clone(), 403, "MissingAuthenticationToken"),
        (without.replace("Connection:", "Authorization: garbage\r\nConnection:"), 400, "IncompleteSignature"),
        (other, 400, "IncompleteSignature"),
        (signed.replace("Host: 127", "Host: 128"), 403, "SignatureDoesNotMatch"),
    ] {
        let reply = sts.exchange(head, IDENTITY).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.body);
    }
}

#[tokio::test]
async fn signatures_older_than_fifteen_minutes_are_refused() {
    let sts = Sts::start(Roles::Any).await;
    let head = sts.signed(&sts.caller(USER), IDENTITY);
    sts.advance(900);
    assert_eq!(sts.exchange(head.clone(), IDENTITY).await.status, 200);
    sts.advance(1);
    let reply = sts.exchange(head, IDENTITY).await;
    assert_eq!((reply.status, reply.code()), (403, "SignatureDoesNotMatch"));
    assert!(reply.element("Message").unwrap().starts_with("Signature expired: "), "{}", reply.body);
}

#[tokio::test]
async fn only_a_form_posted_to_the_root_is_read() {
    let sts = Sts::start(Roles::Any).await;
    let signed = sts.signed(&sts.caller(USER), IDENTITY);
    for (target, status, code) in [
        ("POST /sts", 404, "NotFound"),
        ("POST /%2e%2e/", 404, "NotFound"),
        ("GET /", 405, "MethodNotAllowed"),
        ("OPTIONS *", 404, "NotFound"),
        ("POST /?Action=GetCallerIdentity", 400, "MalformedInput"),
    ] {
        let reply = sts.exchange(signed.replace("POST /", target), IDENTITY).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{target}");
    }
    assert_eq!(sts.exchange(signed.replace("POST / ", "POST /? "), IDENTITY).await.status, 200);
}

#[tokio::test]
async fn a_body_of_64_kib_is_read_and_a_longer_one_is_not() {
    let sts = Sts::start(Roles::Any).await;
    let user = sts.caller(USER);
    let body = |length: usize| format!("{IDENTITY}&X={}", "x".repeat(length - IDENTITY.len() - "&X=".len()));
    for (length, status, code) in [
        (64 * 1024, 200, "Success"),
        (64 * 1024 + 1, 413, "RequestEntityTooLarge"),
        (1024 * 1024, 413, "RequestEntityTooLarge"),
    ] {
        let body = body(length);
        let reply = sts.exchange(sts.signed(&user, &body), body).await;
        assert_eq!((reply.status, reply.code()), (status, code));
    }
}

#[tokio::test]
async fn bodies_that_are_no_forms_get_xml() {
    let sts = Sts::start(Roles::Any).await;
    let user = sts.caller(USER);
    for (body, code) in [
        ("", "MissingAction"),
        ("{\"Action\":\"AssumeRole\"}", "MissingAction"),
        ("Action=%", "MalformedInput"),
        ("Action=a&Action=b", "MalformedInput"),
        ("Action=<&>", "InvalidAction"),
    ] {
        let reply = sts.exchange(sts.signed(&user, body), body).await;
        assert_eq!((reply.status, reply.code()), (400, code));
        assert_eq!(reply.header("x-amzn-requestid"), reply.element("RequestId"));
    }
    let calls = sts.emulator.calls();
    assert_eq!(calls.len(), 5);
    assert_eq!(calls[4].action.as_deref(), Some("<"));
}

#[tokio::test]
async fn run_returns_after_the_shutdown_although_a_connection_is_open() {
    let emulator = Emulator::new(Options::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(emulator.run(listener, async { drop(stopped.await) }));
    let _idle = tokio::net::TcpStream::connect(address).await.unwrap();
    drop(stop);
    running.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
