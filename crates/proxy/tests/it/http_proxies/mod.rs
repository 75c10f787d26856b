//! Requests that come through an HTTP proxy, by real ones: one that says so gets nothing, and one that does not changes nothing.

mod fronts;
mod smuggling;

use std::net::SocketAddr;
use std::slice;

use crate::http::{Answer, Connection, get, get_with_token};
use crate::rig::{self, Process};
use crate::sts::Sts;
use crate::tasks::{Config, Task};
use crate::{python, rust_sdk, sdk, secrets, skip};
use fronts::Front;

fn serve(sts: &Sts, task: &Task) -> Process {
    rig::serve(Config::new(slice::from_ref(task))).envs(sts.environment()).spawn()
}

fn is_refused(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 403, "{what}: {}", answer.line);
    assert!(secrets::found_in(&format!("{answer:?}"), &[]).is_empty(), "{what}");
    if !answer.body.is_empty() {
        let (code, message) = answer.error();
        assert_eq!(code, "AccessDenied", "{what}");
        assert!(message.contains("add 127.0.0.1,localhost,169.254.170.2 to NO_PROXY"), "{what}: {message}");
    }
}

/// What a caller may try, as (method, the target's beginning, version, headers).
const WAYS: [(&str, &str, &str, &str); 9] = [
    ("GET", "", "1.1", ""),
    ("HEAD", "", "1.1", ""),
    ("GET", "", "1.0", ""),
    ("GET", "/", "1.1", ""),
    // A hop drops what Connection names: what it adds itself must not be among it.
    ("GET", "", "1.1", "Connection: Via, X-Forwarded-For, X-Real-IP, Forwarded\r\n"),
    ("GET", "", "1.1", "Connection: close, X-Forwarded-For\r\nX-Forwarded-For: 127.0.0.1\r\n"),
    ("GET", "", "1.1", "X-Forwarded-For:\r\nVia:\r\n"),
    ("GET", "", "1.1", "Max-Forwards: 0\r\n"),
    ("GET", "", "1.1", "Content-Length: 0\r\n"),
];

/// Every way, each on a connection of its own, to this target at this front.
fn ask(front: &Front, name: &str, target: &str, host: SocketAddr, token: &str) {
    for (method, begin, version, headers) in WAYS {
        // Two slashes only where the target is a path.
        let begin = if target.starts_with('/') { begin } else { "" };
        let head = format!("{method} {begin}{target} HTTP/{version}\r\nHost: {host}\r\nAuthorization: {token}\r\n");
        let mut connection = Connection::open(front.address);
        connection.send(format!("{head}{headers}\r\n"));
        let answer = if method == "HEAD" { connection.answer_to_head() } else { connection.answer() };
        is_refused(&answer, &format!("{name}: {method} {version} {headers}"));
    }
}

#[test]
fn through_a_proxy_that_says_so_nobody_gets_credentials_and_the_refusal_names_no_proxy() {
    let (sts, task) = (Sts::new(), Task::with_token("web"));
    let proxy = serve(&sts, &task);
    let (address, path, token) = (proxy.address(), task.path(), task.token.clone().unwrap());
    assert_eq!(get_with_token(address, &path, &token).status, 200);
    let absolute = format!("http://{address}{path}");
    for (name, front, target) in [
        ("haproxy", Front::haproxy(address, "option forwardfor"), &path),
        ("haproxy, forwarded", Front::haproxy(address, "http-request set-header Forwarded for=%[src]"), &path),
        ("nginx", Front::nginx(address, "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"), &path),
        ("nginx, real ip", Front::nginx(address, "proxy_set_header X-Real-IP $remote_addr;"), &path),
        ("tinyproxy", Front::tinyproxy(address), &absolute),
        ("tinyproxy, reverse", Front::tinyproxy(address), &path),
    ] {
        let Some(front) = skip::unless(name, front) else { continue };
        ask(&front, name, target, address, &token);
    }
}

const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

#[test]
fn through_tinyproxy_boto3_has_no_credentials_and_its_user_reads_why() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let proxy = serve(&sts, &task);
    assert_eq!(get(proxy.address(), &task.path()).status, 200);
    let Some(venv) = skip::unless("boto3 through tinyproxy", python::venv()) else { return };
    let Some(front) = skip::unless("boto3 through tinyproxy", Front::tinyproxy(proxy.address())) else { return };
    let variables = |uri: String| {
        [
            (FULL, uri),
            ("HTTP_PROXY", format!("http://{}", front.address)),
            ("http_proxy", format!("http://{}", front.address)),
            ("AWS_ENDPOINT_URL_STS", sts.endpoint.clone()),
            ("AWS_DEFAULT_REGION", "us-west-2".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    };
    let through = variables(format!("http://{}{}", front.address, task.path()));
    let told = sdk::identity("boto3", &venv, &through, None).unwrap_err();
    assert!(told.contains("to NO_PROXY"), "{told}");
    // boto3 asks for container credentials past HTTP_PROXY, whatever it says: the proxy sees the call to STS and nothing else.
    let past = front.log().matches("/v2/credentials/").count();
    let direct = variables(format!("http://{}{}", proxy.address(), task.path()));
    assert_eq!(sdk::identity("boto3", &venv, &direct, None).as_ref(), Ok(&task.identity()));
    assert_eq!(front.log().matches("/v2/credentials/").count(), past);
    assert!(front.log().contains(&format!("POST {}/", sts.endpoint)), "{}", front.log());
}

#[test]
fn with_http_proxy_set_the_rust_sdk_has_no_credentials_until_it_goes_past_the_proxy() {
    let (sts, task) = (Sts::new(), Task::with_token("web"));
    let proxy = serve(&sts, &task);
    let Some(front) = skip::unless("HTTP_PROXY", Front::tinyproxy(proxy.address())) else { return };
    let variables = |no_proxy: &str| {
        [
            (FULL, format!("http://{}{}", proxy.address(), task.path())),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", task.token.clone().unwrap()),
            ("HTTP_PROXY", format!("http://{}", front.address)),
            ("NO_PROXY", no_proxy.to_owned()),
            ("AWS_ENDPOINT_URL_STS", sts.endpoint.clone()),
            ("AWS_REGION", "us-west-2".to_owned()),
        ]
    };
    let told = rust_sdk::identity(&variables(""), None);
    // It tells the status and drops the body, so its user reads the log of the proxy.
    assert!(told.starts_with("nobody: ") && told.contains("StatusCode(403)"), "{told}");
    assert!(front.log().contains(&format!("GET http://{}/v2/credentials/", proxy.address())), "{}", front.log());
    // What the refusal says helps.
    assert_eq!(rust_sdk::identity(&variables("127.0.0.1,localhost,169.254.170.2"), None), task.identity());
}
