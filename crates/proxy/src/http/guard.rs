//! What a request must be before anybody looks at the id in it. Nothing is decoded: the raw bytes are canonical or refused.
//!
//! | part | rule | else |
//! |---|---|---|
//! | target | origin form; a second leading slash is taken as none | 400 InvalidRequest |
//! | method | GET or HEAD | 405 MethodNotAllowed |
//! | body | none: no Transfer-Encoding, Content-Length absent or 0, no Upgrade, no Expect | 400 InvalidRequest |
//! | Host | exactly one; its name, without the port, is on the list | 400 InvalidRequest, 403 AccessDenied |
//! | browser headers | no Origin, Referer, Cookie, Sec-Fetch-* | 403 AccessDenied |
//! | proxy headers | no Via, Forwarded, X-Forwarded-*, X-Real-IP | 403 AccessDenied, names NO_PROXY |
//! | Authorization | at most one | 400 InvalidRequest |
//! | path | `/v2/credentials/ID`, `/v1/credentials` with `id=ID` | 400 InvalidRequest, 404 NotFound |
//!
//! Host is what gives DNS rebinding away: browsers send nothing else that would (no `Origin`, no `Sec-Fetch-*`).

use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::Connected;
use super::error::{Fault, Version};

/// A request that may be answered: which id it asks for and the token that came with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The version of the URI.
    pub version: Version,
    /// The credentials id as it stands in the request.
    pub id: &'a str,
    /// The whole value of `Authorization`; empty when there is none.
    pub token: &'a [u8],
}

/// The names that `Host` may have.
#[derive(Clone, Debug)]
pub struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// aws-c-auth and Kotlin send an IPv6 address without brackets, against RFC 3986 section 3.2.2. Browsers cannot.
    const ALWAYS: [&str; 8] =
        ["127.0.0.1", "localhost", "[::1]", "::1", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "fd00:ec2::23"];

    /// The addresses of the protocol and these.
    #[must_use]
    pub fn with(more: impl IntoIterator<Item = String>) -> Self {
        Self(Self::ALWAYS.map(str::to_owned).into_iter().chain(more).collect())
    }

    fn contains(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(name) || allowed.eq_ignore_ascii_case(host))
    }
}

/// Checks a request against the table above.
///
/// # Errors
/// The [`Fault`] of the first rule that it breaks.
pub fn check<'a>(request: &'a Parts, hosts: &AllowedHosts) -> Result<Asked<'a>, Fault> {
    let token = all_but_path(request, hosts)?;
    let (version, id) = id(request)?;
    Ok(Asked { version, id, token })
}

/// Every rule of the table but the last one, and the token of a request that keeps to them.
///
/// # Errors
/// The [`Fault`] of the first rule that it breaks.
pub(super) fn all_but_path<'a>(request: &'a Parts, hosts: &AllowedHosts) -> Result<&'a [u8], Fault> {
    if request.method == Method::CONNECT {
        return Err(Fault::Method);
    }
    if request.uri.authority().is_some() || request.uri.path() == "*" {
        return Err(Fault::Malformed("the request target must be a path: this is no proxy"));
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        return Err(Fault::Method);
    }
    no_body(&request.headers)?;
    host(&request.headers, hosts)?;
    refused_headers(&request.headers)?;
    match one(&request.headers, header::AUTHORIZATION) {
        Ok(token) => Ok(token.unwrap_or_default()),
        Err(()) => Err(Fault::Malformed("more than one Authorization header")),
    }
}

/// The way of the connection, for every endpoint of this program.
///
/// # Errors
/// It was made to loopback from elsewhere, and that is refused.
pub(crate) fn way(connected: &Connected, refuse_misrouted: bool) -> Result<(), Fault> {
    if connected.is_misrouted && refuse_misrouted {
        let rule = "this address of loopback was asked from another machine: net.ipv4.conf.*.route_localnet lets it in";
        return Err(Fault::Forbidden(rule.into()));
    }
    Ok(())
}

/// The part of the table that keeps browsers and proxies out, for an endpoint with other paths.
///
/// # Errors
/// The [`Fault`] of the first rule that it breaks.
pub fn no_browser(request: &Parts, hosts: &AllowedHosts) -> Result<(), Fault> {
    no_body(&request.headers)?;
    host(&request.headers, hosts)?;
    refused_headers(&request.headers)
}

/// The same for what test suites ask, whose requests may have a body and come of Node's `fetch`: that sends `Sec-Fetch-Mode` and nothing
/// else of a browser's, while browsers send it beside `Sec-Fetch-Site` or not at all.
///
/// # Errors
/// The [`Fault`] of the first rule that it breaks.
pub fn no_browser_but_fetch_of_node(request: &Parts, hosts: &AllowedHosts) -> Result<(), Fault> {
    host(&request.headers, hosts)?;
    let mut headers = request.headers.clone();
    headers.remove("sec-fetch-mode");
    refused_headers(&headers)
}

/// The value of a header that may be there once.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&[u8]>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|value| value.as_bytes())),
        (_, Some(_)) => Err(()),
    }
}

fn no_body(headers: &HeaderMap) -> Result<(), Fault> {
    let length = one(headers, header::CONTENT_LENGTH).map_err(|()| Fault::Malformed("more than one Content-Length"))?;
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != b"0") {
        return Err(Fault::Malformed("a request for credentials has no body"));
    }
    if headers.contains_key(header::UPGRADE) || headers.contains_key(header::EXPECT) {
        return Err(Fault::Malformed("Upgrade and Expect are not supported"));
    }
    Ok(())
}

fn host(headers: &HeaderMap, hosts: &AllowedHosts) -> Result<(), Fault> {
    let Ok(Some(host)) = one(headers, header::HOST) else {
        return Err(Fault::Malformed("a request has exactly one Host header"));
    };
    match std::str::from_utf8(host) {
        Ok(host) if hosts.contains(host) => Ok(()),
        _ => Err(Fault::Forbidden(
            "this Host is not allowed: use 127.0.0.1, localhost, [::1] or 169.254.170.2, or add it to allowed_hosts"
                .into(),
        )),
    }
}

fn refused_headers(headers: &HeaderMap) -> Result<(), Fault> {
    for name in headers.keys().map(header::HeaderName::as_str) {
        let browser = matches!(name, "origin" | "referer" | "cookie") || name.starts_with("sec-fetch-");
        let proxy = matches!(name, "via" | "forwarded" | "x-real-ip") || name.starts_with("x-forwarded-");
        if browser {
            return Err(Fault::Forbidden(format!("{name} is refused: no AWS SDK sends it, browsers do").into()));
        }
        if proxy {
            let rule = format!(
                "{name} is refused: an HTTP proxy stands between; add 127.0.0.1,localhost,169.254.170.2 to NO_PROXY"
            );
            return Err(Fault::Forbidden(rule.into()));
        }
    }
    Ok(())
}

pub(super) const NOT_CANONICAL: Fault =
    Fault::Malformed("the path is not in its canonical form: send it as it was given");

/// The raw path. Users have URIs that begin with two slashes; they are answered, not redirected: half of the clients do not follow.
pub(super) fn path(request: &Parts) -> &str {
    let raw = request.uri.path();
    if raw.starts_with("//") { raw.get(1..).unwrap_or_default() } else { raw }
}

/// The id in the path, by the last rule of the table.
pub(super) fn id(request: &Parts) -> Result<(Version, &str), Fault> {
    let path = path(request);
    if let Some(id) = path.strip_prefix("/v2/credentials/") {
        return match id {
            "" => Err(Fault::NoId(Version::V2)),
            id if is_id(id) => Ok((Version::V2, id)),
            id if is_canonical(path) && id.contains('/') && !id.ends_with('/') => Err(Fault::Path),
            _ => Err(NOT_CANONICAL),
        };
    }
    match path {
        "/v2/credentials" => Err(Fault::NoId(Version::V2)),
        "/v1/credentials" => {
            let id = request.uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("id="));
            match id {
                None | Some("") => Err(Fault::NoId(Version::V1)),
                Some(id) if is_id(id) => Ok((Version::V1, id)),
                Some(_) => Err(NOT_CANONICAL),
            }
        }
        path if is_canonical(path) => Err(Fault::Path),
        _ => Err(NOT_CANONICAL),
    }
}

/// The alphabet of every credentials id; anything else cannot be one and is not looked up.
fn is_id(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_canonical(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b))
        && !path.contains("//")
        && path.split('/').all(|segment| segment != "." && segment != "..")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const ID: &str = "4b9a3c2e-7d11-4f7e-9a55-0c1d2e3f4a5b";

    fn outcome(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(Version, String, Vec<u8>), Fault> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let hosts = AllowedHosts::with(["proxy.internal".to_owned()]);
        check(&parts, &hosts).map(|asked| (asked.version, asked.id.to_owned(), asked.token.to_vec()))
    }

    fn get(target: &str) -> Result<(Version, String, Vec<u8>), Fault> {
        outcome("GET", target, &[("host", "127.0.0.1:51679")])
    }

    fn with(name: &str, value: &str) -> Result<(Version, String, Vec<u8>), Fault> {
        outcome("GET", &format!("/v2/credentials/{ID}"), &[("host", "localhost"), (name, value)])
    }

    #[test]
    fn the_canonical_paths_are_taken() {
        let v2 = Ok((Version::V2, ID.to_owned(), vec![]));
        let v1 = Ok((Version::V1, ID.to_owned(), vec![]));
        assert_eq!(get(&format!("/v2/credentials/{ID}")), v2);
        assert_eq!(get(&format!("//v2/credentials/{ID}")), v2);
        assert_eq!(get(&format!("/v2/credentials/{ID}?x=y")), v2);
        assert_eq!(get(&format!("/v1/credentials?id={ID}")), v1);
        assert_eq!(get(&format!("/v1/credentials?a=b&id={ID}&id=other")), v1);
        assert_eq!(outcome("HEAD", &format!("/v2/credentials/{ID}"), &[("host", "localhost")]), v2);
    }

    #[test]
    fn paths_off_the_canonical_form_are_refused_and_others_not_found() {
        for path in ["/v2/credentials", "/v2/credentials/", "//v2/credentials/"] {
            assert_eq!(get(path), Err(Fault::NoId(Version::V2)), "{path}");
        }
        for path in ["/v1/credentials", "/v1/credentials?ID=x", "/v1/credentials?id=", "/v1/credentials?id=&id=x"] {
            assert_eq!(get(path), Err(Fault::NoId(Version::V1)), "{path}");
        }
        for path in [
            "/v2/credentials/a%2fb",
            "/v2/credentials/a%00",
            "/v2/credentials/a%0d%0ab",
            "/v2/credentials/a/",
            "/v2/credentials/a.b",
            "///v2/credentials/a",
            "/v2//credentials/a",
            "/v2/./credentials/a",
            "/v2/credentials/../credentials/a",
            "/v2/credentials/a;b",
            "/v2/credentials/%34",
            "/%76%32/credentials/a",
            "/v1/credentials?id=a%2f",
            "/v1/credentials?id=é",
        ] {
            assert!(matches!(get(path), Err(Fault::Malformed(_))), "{path}: {:?}", get(path));
        }
        assert!(matches!(get(&format!("/v2/credentials/{}", "a".repeat(129))), Err(Fault::Malformed(_))));
        for path in ["/", "/v3/credentials/a", "/V2/credentials/a", "/v2/credentials/a/b", "/latest/meta-data"] {
            assert_eq!(get(path), Err(Fault::Path), "{path}");
        }
    }

    #[test]
    fn only_listed_hosts_are_answered_whatever_their_port() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "LocalHost:1",
            "[::1]",
            "[::1]:51679",
            "::1",
            "::1:51679",
            "fd00:ec2::23",
            "169.254.170.2",
            "169.254.170.23:80",
            "[fd00:ec2::23]",
            "proxy.internal:8080",
        ] {
            assert!(outcome("GET", &format!("/v2/credentials/{ID}"), &[("host", host)]).is_ok(), "{host}");
        }
        for host in [
            "",
            "0.0.0.0",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost:",
            "a@localhost",
            "::1:80:80",
            "::2",
            "::",
            "127.0.0.1:80:80",
        ] {
            let refused = outcome("GET", &format!("/v2/credentials/{ID}"), &[("host", host)]);
            assert!(matches!(refused, Err(Fault::Forbidden(_))), "{host}");
        }
        for hosts in [&[][..], &[("host", "localhost"), ("host", "localhost")]] {
            let refused = outcome("GET", &format!("/v2/credentials/{ID}"), hosts);
            assert!(matches!(refused, Err(Fault::Malformed(_))));
        }
    }

    #[test]
    fn headers_of_browsers_and_proxies_are_refused_and_unknown_ones_ignored() {
        for name in ["Origin", "Referer", "Cookie", "Sec-Fetch-Site", "Sec-Fetch-Mode"] {
            assert!(matches!(with(name, "x"), Err(Fault::Forbidden(_))), "{name}");
        }
        for name in ["Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"] {
            let Err(Fault::Forbidden(rule)) = with(name, "x") else { panic!("{name}") };
            assert!(rule.contains("NO_PROXY"), "{rule}");
        }
        for name in ["Amz-Sdk-Request", "User-Agent", "Accept-Encoding", "X-Whatever"] {
            assert!(with(name, "x").is_ok(), "{name}");
        }
    }

    #[test]
    fn bodies_upgrades_other_methods_and_other_targets_are_refused() {
        assert!(with("Content-Length", "0").is_ok());
        for (name, value) in [
            ("Content-Length", "1"),
            ("Content-Length", "00"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("Expect", "100-continue"),
        ] {
            assert!(matches!(with(name, value), Err(Fault::Malformed(_))), "{name}: {value}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PRI"] {
            assert_eq!(outcome(method, &format!("/v2/credentials/{ID}"), &[("host", "localhost")]), Err(Fault::Method));
        }
        let absolute = format!("http://127.0.0.1/v2/credentials/{ID}");
        assert!(matches!(outcome("GET", &absolute, &[("host", "127.0.0.1")]), Err(Fault::Malformed(_))));
        assert_eq!(outcome("CONNECT", "127.0.0.1:80", &[("host", "127.0.0.1")]), Err(Fault::Method));
    }

    #[test]
    fn the_token_is_the_whole_authorization_value_and_comes_once() {
        assert_eq!(with("Authorization", "Bearer a b").unwrap().2, b"Bearer a b");
        assert_eq!(with("Authorization", "").unwrap().2, b"");
        let twice = [("host", "localhost"), ("authorization", "a"), ("authorization", "b")];
        assert!(matches!(outcome("GET", &format!("/v2/credentials/{ID}"), &twice), Err(Fault::Malformed(_))));
    }
}
