//! A proxy that takes its own credentials from itself would wait for itself for ever, and one that takes itself for STS never has a
//! session: that is told before it starts.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use taskcreds_core::{IdDigest, Registry};

use crate::http::{ENDPOINT, is_local};
use crate::launch::{FULL, RELATIVE};

/// Why the environment would have the proxy ask itself for its own credentials or as STS; `None` when it would not.
///
/// It would when the endpoint of STS or `_FULL_URI` names an address it listens on, when `_RELATIVE_URI` is set and it listens on
/// 169.254.170.2:80, and when either URI holds one of its own credentials ids.
#[must_use]
pub fn points_at_itself(
    environment: &HashMap<String, String>,
    listening: &[SocketAddr],
    registry: &Registry,
) -> Option<String> {
    let set = |name| environment.get(name).filter(|value| !value.is_empty());
    let own_id = |uri: &str| {
        let last = uri.rsplit(['/', '=']).next().unwrap_or_default();
        registry.with_id(IdDigest::of(last)).is_some()
    };
    let here = |uri: &str| {
        host_and_port(uri).is_some_and(|(hosts, port)| {
            hosts.iter().any(|host| listening.iter().any(|address| answers(*address, *host, port)))
        })
    };
    // As the SDK reads them, unless all are to be ignored.
    let ignored = set(IGNORE_ENDPOINTS).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if let Some((name, uri)) = sts_endpoint(environment).filter(|_| !ignored)
        && here(uri)
    {
        return Some(format!(
            "{name} in the proxy's own environment points at the proxy itself, which is not STS. Remove the variable from the \
             proxy's environment, or have it name STS"
        ));
    }
    let (name, itself) = if let Some(uri) = set(RELATIVE) {
        let here = listening.iter().any(|address| answers(*address, ENDPOINT.ip(), ENDPOINT.port()));
        (RELATIVE, here || own_id(uri))
    } else if let Some(uri) = set(FULL) {
        (FULL, here(uri) || own_id(uri))
    } else {
        return None;
    };
    itself.then(|| {
        format!(
            "{name} in the proxy's own environment points at the proxy itself: it would ask itself for its own credentials. \
             Remove the variable from the proxy's environment; it belongs into the tasks'"
        )
    })
}

/// The variable that leads to another STS than AWS's, and where it leads: the first that is set counts.
pub(crate) fn sts_endpoint(environment: &HashMap<String, String>) -> Option<(&'static str, &str)> {
    ENDPOINTS
        .into_iter()
        .find_map(|name| Some((name, environment.get(name).filter(|value| !value.is_empty())?.as_str())))
}

const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"];
/// Whether the variables for endpoints count for nothing.
pub(crate) const IGNORE_ENDPOINTS: &str = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";

fn answers(listening: SocketAddr, host: IpAddr, port: u16) -> bool {
    listening.port() == port && (listening.ip() == host || (listening.ip().is_unspecified() && is_local(host)))
}

/// The addresses and the port that a URI leads to; no name but `localhost` is looked up.
fn host_and_port(uri: &str) -> Option<(Vec<IpAddr>, u16)> {
    let uri: http::Uri = uri.parse().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let hosts = if host.eq_ignore_ascii_case("localhost") {
        vec![IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]
    } else {
        vec![host.parse().ok()?]
    };
    Some((hosts, port))
}

#[cfg(test)]
mod tests {
    use taskcreds_core::test_util::new_task;

    use super::*;

    #[test]
    fn an_environment_that_points_at_the_proxy_itself_is_told() {
        let registry = Registry::new(1);
        let task = new_task("web");
        let id = task.id.expose().to_owned();
        registry.register(taskcreds_core::Registration::configured(task)).unwrap();
        let told = |name: &str, value: &str, listening: &[&str]| {
            let environment = HashMap::from([(name.to_owned(), value.to_owned())]);
            let listening: Vec<SocketAddr> = listening.iter().map(|address| address.parse().unwrap()).collect();
            points_at_itself(&environment, &listening, &registry).is_some()
        };
        let here = ["127.0.0.1:51679", "[::1]:51679"];
        assert!(told(FULL, "http://127.0.0.1:51679/v2/credentials/x", &here));
        assert!(told(FULL, "http://localhost:51679/x", &here));
        assert!(told(FULL, "http://[::1]:51679/x", &here));
        assert!(told(FULL, "http://127.0.0.1:80/x", &["0.0.0.0:80"]));
        assert!(told(FULL, &format!("http://127.0.0.1:1/v2/credentials/{id}"), &here));
        assert!(told(RELATIVE, "/v2/credentials/x", &["169.254.170.2:80"]));
        assert!(told(RELATIVE, &format!("/v2/credentials/{id}"), &here));
        assert!(told(RELATIVE, &format!("/v1/credentials?id={id}"), &here));

        // The proxy itself runs as a task of a real ECS agent.
        assert!(!told(RELATIVE, "/v2/credentials/x", &here));
        assert!(!told(FULL, "http://127.0.0.1:9999/x", &here));
        assert!(!told(FULL, "http://169.254.170.23/v1/credentials", &here));
        assert!(!told(FULL, "", &here));
        assert!(!told("OTHER", "http://127.0.0.1:51679/x", &here));
    }

    #[test]
    fn an_endpoint_of_sts_that_is_the_proxy_itself_is_told_as_the_sdk_would_use_it() {
        let registry = Registry::new(1);
        let here = ["127.0.0.1:51679".parse().unwrap()];
        let told = |variables: &[(&str, &str)]| {
            let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            points_at_itself(&environment, &here, &registry)
        };
        let (own, other) = ("http://localhost:51679", "https://sts.us-west-2.amazonaws.com");
        for name in ENDPOINTS {
            let reason = told(&[(name, own)]).unwrap();
            assert!(reason.starts_with(&format!("{name} ")) && reason.contains("itself"), "{reason}");
            assert_eq!(told(&[(name, other)]), None);
            assert_eq!(told(&[(name, "")]), None);
            assert_eq!(told(&[(name, own), (IGNORE_ENDPOINTS, "True")]), None);
            assert!(told(&[(name, own), (IGNORE_ENDPOINTS, "false")]).is_some());
            // The one does not hide the other.
            assert!(told(&[(name, other), (FULL, "http://127.0.0.1:51679/x")]).is_some());
        }
        // That for STS alone goes first.
        assert_eq!(told(&[(ENDPOINTS[0], other), (ENDPOINTS[1], own)]), None);
        assert!(told(&[(ENDPOINTS[0], own), (ENDPOINTS[1], other)]).is_some());
    }
}
