//! Every error is one JSON object in one shape, with its status and its code, and a 4xx ends the connection.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::time::Duration;

use crate::http::{Answer, Connection};
use crate::tasks::{Task, new_id};
use crate::wire::Warm;

fn assert_error(answer: &Answer, status: u16, code: &str, message: &str) {
    let (said, told) = answer.error();
    assert_eq!((answer.status, said.as_str()), (status, code), "{told}");
    assert!(told.contains(message), "{told:?} and not {message:?}");
    assert!(!told.contains(['\n', '\r']) && !told.is_empty(), "one line: {told}");
    let quoted = serde_json::to_string(&told).unwrap();
    let whole = format!(
        r#"{{"code":"{code}","message":{quoted},"HTTPErrorCode":{status},"Code":"{code}","Message":{quoted}}}"#
    );
    assert_eq!(answer.body, whole);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.header("retry-after").is_none());
}

#[test]
fn every_refusal_has_its_status_and_its_code_and_ends_the_connection() {
    let warm = Warm::with(Task::with_token("web"));
    let good = warm.request();
    let path = warm.task.path();
    let id = warm.task.id.clone().unwrap();
    let to = |target: &str| good.replace(&path, target);
    let with = |header: &str| good.replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
    let token = format!("Authorization: {}\r\n", warm.task.token.clone().unwrap());
    let host = format!("Host: {}\r\n", warm.address);
    let by = |method: &str| good.replacen("GET", method, 1);
    let unknown = new_id();
    for (request, status, code, message) in [
        (to("/v2/credentials"), 400, "NoIdInRequest", "CredentialsV2Request: No Credential ID in the request"),
        (to("/v2/credentials/"), 400, "NoIdInRequest", "CredentialsV2Request: No Credential ID in the request"),
        (to("/v1/credentials"), 400, "NoIdInRequest", "CredentialsV1Request: No Credential ID in the request"),
        (to("/v1/credentials?id="), 400, "NoIdInRequest", "CredentialsV1Request: No Credential ID in the request"),
        (to(&format!("/v1/credentials?ID={id}")), 400, "NoIdInRequest", "CredentialsV1Request: No Credential ID"),
        (
            to(&format!("/v2/credentials/{unknown}")),
            400,
            "InvalidIdInRequest",
            "CredentialsV2Request: Credentials not found",
        ),
        (
            to(&format!("/v1/credentials?id={unknown}")),
            400,
            "InvalidIdInRequest",
            "CredentialsV1Request: Credentials not found",
        ),
        (to(&path.to_uppercase()), 404, "NotFound", "/v2/credentials/ID"),
        (good.replace(&token, ""), 401, "Unauthorized", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        (good.replace(&token, "Authorization:\r\n"), 401, "Unauthorized", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        (good.replace(&token, "Authorization: another\r\n"), 401, "Unauthorized", "the token is not this task's"),
        (good.replace("Authorization: ", "Authorization: Bearer "), 401, "Unauthorized", "without a scheme"),
        (with("Origin: http://example.com"), 403, "AccessDenied", "origin"),
        (with("Referer: http://example.com"), 403, "AccessDenied", "referer"),
        (with("Cookie: a=b"), 403, "AccessDenied", "cookie"),
        (with("Sec-Fetch-Site: none"), 403, "AccessDenied", "sec-fetch-site"),
        (with("X-Forwarded-For: 10.0.0.1"), 403, "AccessDenied", "NO_PROXY"),
        (with("Via: 1.1 squid"), 403, "AccessDenied", "NO_PROXY"),
        (with("Forwarded: for=10.0.0.1"), 403, "AccessDenied", "NO_PROXY"),
        (good.replace(&host, "Host: rebound.example\r\n"), 403, "AccessDenied", "Host"),
        (good.replace(&host, ""), 400, "InvalidRequest", "Host"),
        (with("Host: 127.0.0.1"), 400, "InvalidRequest", "Host"),
        (with("Authorization: another"), 400, "InvalidRequest", "Authorization"),
        (with("Content-Length: 3") + "abc", 400, "InvalidRequest", "no body"),
        (with("Transfer-Encoding: chunked") + "0\r\n\r\n", 400, "InvalidRequest", "no body"),
        (with("Upgrade: h2c"), 400, "InvalidRequest", "Upgrade"),
        (with("Expect: 100-continue"), 400, "InvalidRequest", "Expect"),
        (to(&format!("http://127.0.0.1{path}")), 400, "InvalidRequest", "no proxy"),
        (to(&format!("/v2//credentials/{id}")), 400, "InvalidRequest", "canonical"),
        (to(&format!("//{path}")), 400, "InvalidRequest", "canonical"),
        (to(&format!("{path}/")), 400, "InvalidRequest", "canonical"),
        (to(&format!("/x/..{path}")), 400, "InvalidRequest", "canonical"),
        (to(&format!("/v2/credentials/%{id}")), 400, "InvalidRequest", "canonical"),
        (to("/"), 404, "NotFound", "/v1/credentials?id=ID"),
        (to("/v2/metadata"), 404, "NotFound", "/v2/credentials/ID"),
        (by("POST"), 405, "MethodNotAllowed", "GET"),
        (by("PUT"), 405, "MethodNotAllowed", "GET"),
        (by("OPTIONS"), 405, "MethodNotAllowed", "GET"),
        (by("DELETE"), 405, "MethodNotAllowed", "GET"),
    ] {
        let mut connection = Connection::open(warm.address);
        let answer = connection.send(&request).answer();
        assert_error(&answer, status, code, message);
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"));
        assert!(connection.closed_after() < Duration::from_secs(2), "{code}: {message}");
        assert!(!answer.body.contains(&id), "no message repeats the id");
    }
}

#[test]
fn what_is_no_http_is_answered_in_json_too() {
    let warm = Warm::with(Task::new("web"));
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "a".repeat(20_000));
    let long_header = warm.request().replace("\r\n\r\n", &format!("\r\nX-Long: {}\r\n\r\n", "a".repeat(20_000)));
    let many_headers = warm.request().replace("\r\n\r\n", &format!("{}\r\n\r\n", "\r\nX-Many: a".repeat(65)));
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on\r\n\r\n";
    for bytes in [
        b"garbage\r\n\r\n".as_slice(),
        b"\x00\x01\x02\xff\xfe\r\n\r\n",
        tls,
        b"GET\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\nHost: 127.0.0.1\r\n\r\n",
        long_path.as_bytes(),
        long_header.as_bytes(),
        many_headers.as_bytes(),
    ] {
        let mut connection = Connection::open(warm.address);
        let answer = connection.send(bytes).answer();
        assert_error(&answer, 400, "InvalidRequest", "");
        assert!(connection.closed_after() < Duration::from_secs(2));
    }
}

#[test]
fn the_preface_of_http_2_is_answered_in_json_too() {
    let warm = Warm::with(Task::new("web"));
    let mut connection = Connection::open(warm.address);
    let answer = connection.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").answer();
    assert_error(&answer, 400, "InvalidRequest", "no HTTP/1.1 request");
    assert!(connection.closed_after() < Duration::from_secs(2));
}

#[test]
fn garbage_after_a_good_request_is_the_second_answer_in_json() {
    let warm = Warm::with(Task::new("web"));
    let mut connection = Connection::open(warm.address);
    let answer = connection.send(warm.request()).answer();
    assert_eq!((answer.status, &answer.body), (200, &warm.body));
    assert_error(&connection.send("garbage\r\n\r\n").answer(), 400, "InvalidRequest", "no HTTP/1.1 request");
    assert!(connection.closed_after() < Duration::from_secs(2));

    // The same in one piece.
    let mut connection = Connection::open(warm.address);
    let answer = connection.send(warm.request() + "garbage\r\n\r\n").answer();
    assert_eq!((answer.status, &answer.body), (200, &warm.body));
    assert_error(&connection.answer(), 400, "InvalidRequest", "no HTTP/1.1 request");
    assert!(connection.closed_after() < Duration::from_secs(2));
}

#[test]
fn nothing_behind_a_refused_request_is_read() {
    let warm = Warm::with(Task::new("web"));
    let mut connection = Connection::open(warm.address);
    let refused = warm.request().replace("\r\n\r\n", "\r\nContent-Length: 400\r\n\r\n");
    let answer = connection.send(refused + &warm.request()).answer();
    assert_error(&answer, 400, "InvalidRequest", "no body");
    assert!(connection.closed_after() < Duration::from_secs(2));
}
