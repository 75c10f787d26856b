//! A proxy that takes its own credentials from itself would wait for itself for ever: that is told before it starts.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use taskcreds_core::{IdDigest, Registry};

use crate::http::{LINK_LOCAL, is_local};
use crate::launch::{FULL, RELATIVE};

/// Why the environment would have the proxy ask itself for its own credentials; `None` when it would not.
///
/// It would when `_FULL_URI` names an address it listens on, when `_RELATIVE_URI` is set and it listens on 169.254.170.2:80, and
/// when either holds one of its own credentials ids.
#[must_use]
pub fn points_at_itself(
    environment: &HashMap<String, String>,
    listening: &[SocketAddr],
    registry: &Registry,
) -> Option<String> {
    let set = |name| environment.get(name).filter(|value| !value.is_empty());
    let own_id = |uri: &str| {
        let last = uri.rsplit(['/', '=']).next().unwrap_or_default();
        registry.knows(IdDigest::of(last))
    };
    let (name, itself) = if let Some(uri) = set(RELATIVE) {
        let here = listening.iter().any(|address| answers(*address, IpAddr::V4(LINK_LOCAL), 80));
        (RELATIVE, here || own_id(uri))
    } else if let Some(uri) = set(FULL) {
        let here = host_and_port(uri).is_some_and(|(hosts, port)| {
            hosts.iter().any(|host| listening.iter().any(|address| answers(*address, *host, port)))
        });
        (FULL, here || own_id(uri))
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
}
