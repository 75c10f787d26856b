//! The proxy put together: registry, sessions, listeners. What every command that serves credentials runs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use taskcreds_core::{AssumeRole, Budget, BudgetLimits, Freshness, NewTask, Registry, SessionCache, SystemClock, Task};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{DEFAULT_PORT, MAX_TASKS};
use crate::failure::{Exit, Failure};
use crate::http::credentials::Endpoint;
use crate::http::guard::AllowedHosts;

/// Bound sockets of the credentials endpoint.
#[derive(Debug)]
pub struct Listeners(Vec<(SocketAddr, TcpListener)>);

impl Listeners {
    /// Binds these addresses; with none, 127.0.0.1 and, where the machine has it, ::1 on [`DEFAULT_PORT`].
    ///
    /// # Errors
    /// The address that cannot be bound and why.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, Failure> {
        if addresses.is_empty() {
            return Self::bind_loopback(DEFAULT_PORT);
        }
        addresses.iter().map(|address| bind(*address)).collect::<Result<_, _>>().map(Self)
    }

    fn bind_loopback(port: u16) -> Result<Self, Failure> {
        let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        match crate::http::bind(v6) {
            Ok(listener) => Ok(Self(vec![v4, (v6, listener)])),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(cannot_bind(v6, &error)),
            // No IPv6 on this machine, and nobody has asked for it.
            Err(_) => Ok(Self(vec![v4])),
        }
    }

    /// The addresses with the ports that the system has chosen.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).collect()
    }
}

fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), Failure> {
    let listener = crate::http::bind(address).map_err(|error| cannot_bind(address, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_bind(address, &error))?;
    Ok((address, listener))
}

fn cannot_bind(address: SocketAddr, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse if address.port() == DEFAULT_PORT => {
            "is taken, likely by an ECS agent (this is its port) or by another taskcreds; stop it or choose another address with --listen"
        }
        io::ErrorKind::AddrInUse if address.port() == 80 => {
            "is taken, likely by a web server on all addresses; move it or choose another address with --listen"
        }
        io::ErrorKind::AddrInUse => "is taken by another program; stop it or choose another address with --listen",
        io::ErrorKind::AddrNotAvailable => {
            "is no address of this machine; add it to an interface first (ip address add)"
        }
        io::ErrorKind::PermissionDenied => {
            "may not be bound by this user; ports below 1024 need CAP_NET_BIND_SERVICE (setcap, or AmbientCapabilities= in a unit)"
        }
        _ => "cannot be bound",
    };
    Failure::new(Exit::Unavailable, format!("cannot listen on {address}: it {why} ({error})"))
}

/// Registry and sessions, before they listen.
pub struct Proxy {
    registry: Arc<Registry>,
    sessions: Arc<SessionCache>,
    hosts: AllowedHosts,
}

impl Proxy {
    /// A proxy for these tasks.
    ///
    /// # Errors
    /// A task that contradicts another one.
    pub fn new(
        tasks: Vec<NewTask>,
        sts: Arc<dyn AssumeRole>,
        budget: BudgetLimits,
        hosts: AllowedHosts,
    ) -> Result<Self, Failure> {
        let registry = Arc::new(Registry::new(MAX_TASKS));
        for task in tasks {
            registry.register(task).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        }
        let sessions = SessionCache::new(
            sts,
            Arc::new(SystemClock),
            Budget::new(budget),
            Freshness::default(),
            taskcreds_core::spread,
            MAX_TASKS as u64,
        );
        Ok(Self { registry, sessions, hosts })
    }

    /// The registered tasks.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<SessionCache> {
        &self.sessions
    }

    /// All registered tasks, in no order.
    #[must_use]
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.registry.tasks()
    }

    /// Listens first, then loads the sessions of all tasks and keeps them fresh; until told to stop. Returns when what was under
    /// way is finished.
    pub async fn run(self, listeners: Listeners, stop: CancellationToken) {
        let Self { registry, sessions, hosts } = self;
        let own = listeners.addresses().into_iter().map(|address| match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        let hosts = hosts.and(own);
        let endpoint = Arc::new(Endpoint { registry, sessions, hosts });
        let parts = TaskTracker::new();
        for (_, listener) in listeners.0 {
            parts.spawn(crate::http::run(listener, Arc::clone(&endpoint), stop.clone()));
        }
        for task in endpoint.registry.tasks() {
            endpoint.sessions.prefetch(&task);
        }
        parts.spawn(Arc::clone(&endpoint.sessions).run(stop));
        parts.close();
        parts.wait().await;
    }
}
