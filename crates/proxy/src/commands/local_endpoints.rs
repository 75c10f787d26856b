//! `dev --local-endpoints`: what becomes of the variables of amazon-ecs-local-container-endpoints, where it listens, and what it says.
//!
//! Each variable that it reads is understood or refused with what to use instead, all refusals at once: one that were not heeded
//! would leave its user with another role, or none, than they think.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::say;
use crate::config::DEFAULT_PORT;
use crate::failure::{Exit, Failure};
use crate::http::local_endpoints::LocalEndpoints;
use crate::http::{ENDPOINT, LINK_LOCAL};

/// The one of its variables that is understood.
const PORT: &str = "ECS_LOCAL_METADATA_PORT";
/// Its other variables, and two that its example has and it never reads. What it reads beside these is the AWS SDK's, as here.
const REFUSED: [(&str, &str); 11] = [
    (
        "IAM_ENDPOINT",
        "names are looked up among the roles that are listed, never in IAM: list them with --role NAME=ARN",
    ),
    (
        "IAM_CUSTOM_ENDPOINT",
        "names are looked up among the roles that are listed, never in IAM: list them with --role NAME=ARN",
    ),
    ("STS_ENDPOINT", "sessions come from the embedded STS; for another one set AWS_ENDPOINT_URL_STS and give --aws"),
    (
        "STS_CUSTOM_ENDPOINT",
        "sessions come from the embedded STS; for another one set AWS_ENDPOINT_URL_STS and give --aws",
    ),
    (
        "SHARED_TOKEN_EXPIRATION",
        "every session tells when it ends, and your own credentials are not handed out: leave it out",
    ),
    ("CLUSTER_ARN", METADATA),
    (
        "TASK_ARN",
        "task metadata is not served; for the ARN that roles are assumed with write a [[task]] and give --config",
    ),
    ("TASK_DEFINITION_FAMILY", "give the definition itself: --task-definition FILE"),
    ("TASK_DEFINITION_REVISION", "give the definition itself: --task-definition FILE"),
    ("CONTAINER_METADATA_PATH", METADATA),
    ("TASK_METADATA_PATH", METADATA),
];
const METADATA: &str = "task metadata is not served: leave it out";

/// Its settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    port: Option<u16>,
}

impl Settings {
    /// Reads the variables; one that is set to nothing is not set.
    pub(super) fn read(environment: &HashMap<String, String>) -> Result<Self, Failure> {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let mut refused: Vec<String> = REFUSED
            .iter()
            .filter(|(name, _)| set(name).is_some())
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        let port = match set(PORT).map(|port| port.parse::<u16>()) {
            None => None,
            Some(Ok(port @ 1..)) => Some(port),
            Some(_) => {
                refused.push(format!("{PORT}: must be a port, 1 to 65535"));
                None
            }
        };
        if refused.is_empty() {
            return Ok(Self { port });
        }
        Err(Failure::new(Exit::Usage, format!("--local-endpoints does not take\n{}", refused.join("\n"))))
    }

    /// Where to listen if nothing else says: on loopback, and at 169.254.170.2 where it is an address of this machine. Never on
    /// all addresses, as the other one does.
    pub(super) fn listen(&self) -> Vec<SocketAddr> {
        let mut listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.unwrap_or(DEFAULT_PORT)))];
        // To bind an address, and no port of anybody's, tells whether it is there.
        if UdpSocket::bind((LINK_LOCAL, 0)).is_ok() {
            listen.push(SocketAddr::from((LINK_LOCAL, self.port.unwrap_or(ENDPOINT.port()))));
        }
        listen
    }

    /// Tells what is not heeded because `--listen` or the file says where.
    pub(super) fn warn_of_another_place(&self) {
        if self.port.is_some() {
            tracing::warn!("{PORT} is not heeded: --listen or the configuration file says where to listen");
        }
    }
}

/// What is at which path, and how a container gets there.
pub(super) fn say_paths(local: &LocalEndpoints, addresses: &[SocketAddr]) {
    say("\n# Local endpoints:");
    let paths: Vec<_> = local.paths().collect();
    let width = paths.iter().map(|(path, _)| path.len()).max().unwrap_or_default();
    for (path, role) in &paths {
        say(format!("#   {path:width$}  {role}"));
    }
    if paths.iter().all(|(path, _)| path != "/creds") {
        say("#   /creds is of no role: start with --creds-role NAME");
    }
    if addresses.contains(&ENDPOINT) {
        say(
            "# In a container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and one of these paths. At 169.254.170.2 whoever asks is answered.",
        );
    } else {
        say(
            "# AWS_CONTAINER_CREDENTIALS_RELATIVE_URI leads to 169.254.170.2:80, where this does not listen: add the address before",
        );
        say("# the start (ip address add 169.254.170.2/32 dev lo), or redirect it here.");
        say("# On loopback a path is asked with its role's token.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Settings, String> {
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::read(&set).map_err(|failure| failure.message)
    }

    #[test]
    fn every_variable_is_understood_or_refused_with_the_others() {
        let unset = Settings { port: None };
        assert_eq!(read(&[]).unwrap(), unset);
        assert_eq!(read(&[("ECS_LOCAL_METADATA_PORT", "51679")]).unwrap(), Settings { port: Some(51_679) });
        assert_eq!(
            read(&[("IAM_ENDPOINT", ""), ("ECS_LOCAL_METADATA_PORT", ""), ("DOCKER_HOST", "x")]).unwrap(),
            unset
        );
        let all: Vec<_> = REFUSED.iter().map(|(name, _)| (*name, "x")).chain([(PORT, "0")]).collect();
        let told = read(&all).unwrap_err();
        for (name, _) in &all {
            assert!(told.lines().any(|line| line.starts_with(&format!("{name}: "))), "{name} is not in\n{told}");
        }
        for port in ["-1", "65536", "http"] {
            assert!(read(&[(PORT, port)]).is_err(), "{port}");
        }
    }

    #[test]
    fn it_listens_on_loopback_and_on_the_address_of_the_protocol_alone() {
        for settings in [Settings { port: None }, Settings { port: Some(8080) }] {
            let listen = settings.listen();
            assert!(listen.iter().all(|address| crate::http::is_local(address.ip())), "{listen:?}");
            assert_eq!(listen[0].port(), settings.port.unwrap_or(51_679));
        }
    }
}
