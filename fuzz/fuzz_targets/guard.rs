//! `guard::check`: what it lets through is a request for credentials by every rule of its table, read a second time here.
//!
//! The input is `METHOD TARGET`, then one `NAME:VALUE` a line.

#![no_main]

use std::sync::LazyLock;

use http::{Method, Request, header};
use libfuzzer_sys::{Corpus, fuzz_target};
use taskcreds::http::error::Version;
use taskcreds::http::guard::{AllowedHosts, check};

static HOSTS: LazyLock<AllowedHosts> = LazyLock::new(|| AllowedHosts::with(["proxy.internal".to_owned()]));

fn request(bytes: &[u8]) -> Option<http::request::Parts> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let mut request = Request::builder().method(&first[..space]).uri(&first[space + 1..]);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], &line[colon + 1..]);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

fn is_allowed(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let names = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "::1",
        "169.254.170.2",
        "169.254.170.23",
        "[fd00:ec2::23]",
        "fd00:ec2::23",
        "proxy.internal",
    ];
    names.iter().any(|name| match host.strip_prefix(name) {
        Some("") => true,
        Some(port) => port.len() > 1 && port.starts_with(':') && port[1..].bytes().all(|b| b.is_ascii_digit()),
        None => false,
    })
}

fn is_refused(name: &str) -> bool {
    let names =
        ["origin", "referer", "cookie", "via", "forwarded", "x-real-ip", "transfer-encoding", "upgrade", "expect"];
    names.contains(&name) || name.starts_with("sec-fetch-") || name.starts_with("x-forwarded-")
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(parts) = request(bytes) else { return Corpus::Reject };
    match check(&parts, &HOSTS) {
        Ok(asked) => {
            assert!(parts.method == Method::GET || parts.method == Method::HEAD);
            let values = |name| parts.headers.get_all(name).iter().map(|value| value.as_bytes()).collect::<Vec<_>>();
            let host = values(header::HOST);
            assert!(host.len() == 1 && is_allowed(std::str::from_utf8(host[0]).unwrap()));
            let length = values(header::CONTENT_LENGTH);
            assert!(length.is_empty() || length == [b"0"]);
            assert!(!parts.headers.keys().any(|name| is_refused(name.as_str())));
            let token = values(header::AUTHORIZATION);
            assert!(token.len() <= 1 && asked.token == token.first().copied().unwrap_or_default());

            assert!((1..=128).contains(&asked.id.len()));
            assert!(asked.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            assert!(parts.uri.scheme().is_none() && parts.uri.authority().is_none());
            let target = parts.uri.path_and_query().unwrap().as_str();
            let target = if target.starts_with("//") { &target[1..] } else { target };
            match asked.version {
                Version::V2 => {
                    let rest = target.strip_prefix("/v2/credentials/").unwrap().strip_prefix(asked.id).unwrap();
                    assert!(rest.is_empty() || rest.starts_with('?'));
                }
                Version::V1 => {
                    let query = target.strip_prefix("/v1/credentials?").unwrap();
                    let first = query.split('&').find(|pair| pair.starts_with("id=")).unwrap();
                    assert_eq!(&first["id=".len()..], asked.id);
                }
                Version::Creds | Version::Role | Version::RoleArn => unreachable!("paths of the local endpoints"),
            }
        }
        Err(fault) => {
            let response = fault.response();
            assert!(response.status().is_client_error() && response.headers()[header::CONNECTION] == "close");
        }
    }
    Corpus::Keep
});
