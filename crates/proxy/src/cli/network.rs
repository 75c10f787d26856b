//! `taskcreds network` on the command line.

use std::path::PathBuf;

use clap::builder::{FalseyValueParser, PathBufValueParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};

use crate::config::DEFAULT_PORT;
use crate::network::request::{Interface, Request, namespace_path};
use crate::network::rules::Backend;
use crate::network::{Mode, STATE};

/// `taskcreds network`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  taskcreds network up --bridge docker0\n  taskcreds network up --mode awsvpc --netns web\n  \
                        taskcreds network status\n  taskcreds network down\n\n\
                        Exit status: 1 status: something is missing, or nothing is set up; 64 flags that contradict each other; 69 an interface, a\n\
                        namespace, nft or iptables is not there, or a table or chain of our name is somebody else's; 70 the system refuses;\n\
                        77 no CAP_NET_ADMIN."
)]
pub struct Network {
    /// What to do.
    #[command(subcommand)]
    pub action: NetworkAction,
    /// Where what was found is kept, so that it can be put back.
    #[arg(long, global = true, env = "TASKCREDS_NETWORK_STATE", value_name = "FILE", default_value = STATE)]
    pub state: PathBuf,
}

/// What `taskcreds network` does.
#[derive(Debug, Subcommand)]
pub enum NetworkAction {
    /// Set up the modes that are named and leave the others as they are. Twice is once.
    Up(NetworkUp),
    /// Take it all away and put back what was found.
    Down {
        /// Only what was made for this task's namespace.
        #[arg(long, value_name = "NAME|PATH", value_parser = PathBufValueParser::new().try_map(namespace_path))]
        netns: Option<PathBuf>,
    },
    /// Tell what is there and what is missing.
    Status,
}

/// `taskcreds network up`
#[derive(Debug, Args)]
pub struct NetworkUp {
    /// How containers are connected; several by commas. [default: what the other flags need, or what the ECS agent's variables
    /// ECS_ENABLE_TASK_IAM_ROLE and ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST say, or bridge]
    #[arg(long, env = "TASKCREDS_NETWORK_MODE", value_enum, value_delimiter = ',')]
    pub mode: Vec<Mode>,
    /// A bridge of containers; any number of times. [default: docker0]
    #[arg(long = "bridge", env = "TASKCREDS_NETWORK_BRIDGES", value_delimiter = ',', value_name = "NAME")]
    pub bridges: Vec<Interface>,
    /// The namespace of a task, for awsvpc mode; any number of times.
    #[arg(long, value_name = "NAME|PATH", value_parser = PathBufValueParser::new().try_map(namespace_path))]
    pub netns: Vec<PathBuf>,
    /// Redirect to 127.0.0.1, as the ECS agent does, instead of having the proxy listen on 169.254.170.2:80.
    #[arg(long, env = "TASKCREDS_NETWORK_NAT", value_parser = FalseyValueParser::new())]
    pub nat: bool,
    /// The port of 127.0.0.1 for --nat.
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT, requires = "nat", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Offer fd00:ec2::23 too.
    #[arg(long, env = "TASKCREDS_NETWORK_IPV6", value_parser = FalseyValueParser::new())]
    pub ipv6: bool,
    /// Keep containers from the instance metadata service, IPv4 and IPv6. [default for bridge and awsvpc; in awsvpc mode
    /// ECS_AWSVPC_BLOCK_IMDS says it too]
    #[arg(long)]
    pub block_imds: bool,
    /// Do not.
    #[arg(long, conflicts_with = "block_imds")]
    pub no_block_imds: bool,
    /// What holds the rules. [default: nft where it is there, else iptables]
    #[arg(long, env = "TASKCREDS_NETWORK_BACKEND", value_name = "nft|iptables|auto", value_parser = backend)]
    pub backend: Option<Choice>,
    /// A bridge need not be there yet: its rules wait for it. For a unit that is started before Docker.
    #[arg(long)]
    pub early: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub print: bool,
    /// Stay, and put back what others wipe, as a firewall that is loaded anew.
    #[arg(long, conflicts_with = "print")]
    pub watch: bool,
}

impl From<NetworkUp> for Request {
    fn from(up: NetworkUp) -> Self {
        Self {
            modes: up.mode,
            bridges: up.bridges,
            namespaces: up.netns,
            nat: up.nat.then_some(up.port),
            ipv6: up.ipv6,
            block_imds: match (up.block_imds, up.no_block_imds) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            backend: up.backend.and_then(|choice| choice.0),
            early: up.early,
        }
    }
}

/// What holds the rules; `None`: what is there.
#[derive(Clone, Copy, Debug)]
pub struct Choice(pub Option<Backend>);

fn backend(text: &str) -> Result<Choice, String> {
    match text {
        "auto" => Ok(Choice(None)),
        text => Backend::from_str(text, false)
            .map(|backend| Choice(Some(backend)))
            .map_err(|_| "must be nft, iptables or auto".to_owned()),
    }
}
