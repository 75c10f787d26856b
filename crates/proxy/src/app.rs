//! The proxy put together: registry, sessions, listeners. What every command that serves credentials runs.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use taskcreds_core::{AssumeRole, Budget, BudgetLimits, Freshness, Registration, Registry, SessionCache, SystemClock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(unix)]
use crate::admin::{api::Api, socket::AdminSocket};
use crate::audit::Audit;
use crate::aws::{Base, Sts, points_at_itself};
#[cfg(unix)]
use crate::config::State;
use crate::config::{Config, DEFAULT_PORT, Testing};
use crate::control::Control;
use crate::failure::{Exit, Failure};
use crate::handover::Sockets;
use crate::http::ENDPOINT;
use crate::http::credentials::Endpoint;
use crate::http::guard::AllowedHosts;
use crate::http::operations::{Operations, Registrations};
use crate::http::places::Places;
use crate::http::readiness::Readiness;
use crate::link_local;
use crate::metrics::Metrics;
use crate::testbed::watched::Watched;
use crate::testbed::{Refusal, Testbed};

/// The flag that names the addresses of the credentials endpoint.
const LISTEN: &str = "--listen";

/// Bound sockets of the credentials endpoint. They are closed before an address that was added for them goes.
struct Listeners {
    bound: Vec<(SocketAddr, TcpListener)>,
    added: Option<link_local::Added>,
}

impl Listeners {
    /// Binds these addresses, for which those that were passed are taken where there are any; and 169.254.170.2:80 beside them where it is
    /// asked for.
    fn open(
        addresses: &[SocketAddr],
        link_local: bool,
        passed: Option<Vec<(SocketAddr, TcpListener)>>,
    ) -> Result<Self, Failure> {
        let mut listeners = Self { bound: Vec::new(), added: None };
        // First, so that the others may be on that address too.
        let is_passed = passed.iter().flatten().any(|(address, _)| *address == ENDPOINT);
        if link_local && is_passed {
            listeners.added = link_local::add()?;
        } else if link_local {
            let (listener, added) = link_local::listen()?;
            listeners.bound.push((ENDPOINT, listener));
            listeners.added = added;
        }
        let others = match passed {
            Some(passed) => passed,
            None if addresses.is_empty() => bind_loopback()?,
            None => {
                let others = addresses.iter().filter(|address| !link_local || **address != ENDPOINT);
                others.map(|address| bind(*address, LISTEN)).collect::<Result<_, _>>()?
            }
        };
        listeners.bound.splice(0..0, others);
        Ok(listeners)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|(address, _)| *address).collect()
    }
}

/// 127.0.0.1 and, where the machine has it, ::1 on [`DEFAULT_PORT`].
fn bind_loopback() -> Result<Vec<(SocketAddr, TcpListener)>, Failure> {
    let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)), LISTEN)?;
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, DEFAULT_PORT));
    match crate::http::bind(v6) {
        Ok(listener) => Ok(vec![v4, (v6, listener)]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(cannot_bind(v6, LISTEN, &error)),
        // No IPv6 on this machine, and nobody has asked for it.
        Err(_) => Ok(vec![v4]),
    }
}

fn bind(address: SocketAddr, flag: &str) -> Result<(SocketAddr, TcpListener), Failure> {
    let listener = crate::http::bind(address).map_err(|error| cannot_bind(address, flag, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_bind(address, flag, &error))?;
    Ok((address, listener))
}

fn cannot_bind(address: SocketAddr, flag: &str, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse if address.port() == DEFAULT_PORT => {
            "is taken, likely by an ECS agent (this is its port) or by another taskcreds; stop it"
        }
        io::ErrorKind::AddrInUse if address.port() == 80 => {
            "is taken, likely by a web server on all addresses; move it"
        }
        io::ErrorKind::AddrInUse => "is taken by another program; stop it",
        io::ErrorKind::AddrNotAvailable => {
            "is no address of this machine; add it to an interface first (ip address add; for 169.254.170.2 and the containers of this machine \
             `taskcreds network up`, in a pod or a compose network --link-local)"
        }
        io::ErrorKind::PermissionDenied => {
            "may not be bound by this user; ports below 1024 need CAP_NET_BIND_SERVICE (setcap, or AmbientCapabilities= in a unit)"
        }
        _ => "cannot be bound",
    };
    Failure::new(Exit::Unavailable, format!("cannot listen on {address}: it {why} ({flag} names another; {error})"))
}

/// The proxy, bound and ready to run.
pub struct Proxy {
    endpoint: Arc<Endpoint>,
    listeners: Listeners,
    operations: Option<(SocketAddr, TcpListener, Arc<Operations>)>,
    registrations: Option<Arc<Registrations>>,
    testbed: Option<Arc<Testbed>>,
    control: Option<(SocketAddr, TcpListener)>,
    readiness: Arc<Readiness>,
    #[cfg(unix)]
    admin: Option<(AdminSocket, Arc<Api>)>,
}

impl Proxy {
    /// Registers the tasks and binds the addresses of a configuration; sockets that were passed take their place.
    ///
    /// # Errors
    /// A task that contradicts another one, an address that cannot be bound, an environment that has the proxy ask itself for its
    /// own credentials. Nothing is left bound then.
    pub fn start(
        config: Config,
        base: Base,
        environment: &HashMap<String, String>,
        mut passed: Sockets,
    ) -> Result<Self, Failure> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let registry = Arc::new(Registry::new(config.max_tasks));
        for task in config.tasks {
            registry
                .register(Registration::configured(task))
                .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        }
        let listeners = Listeners::open(&config.listen, config.link_local, passed.take_endpoint()?)?;
        for (address, listener) in &listeners.bound {
            crate::http::limit_hops(listener, config.hop_limit)
                .map_err(|error| Failure::software(&format!("cannot limit the hops of {address}"), error))?;
        }
        if matches!(base, Base::Chain)
            && let Some(reason) = points_at_itself(environment, &listeners.addresses(), &registry)
        {
            return Err(Failure::new(Exit::Usage, reason));
        }
        let embedded = base.embedded().cloned();
        let short = embedded.as_ref().and_then(|embedded| embedded.session_seconds).map(u64::from);
        let freshness =
            short.map_or_else(Freshness::default, |life| Freshness::for_sessions_of(Duration::from_secs(life)));
        // The embedded STS need not be spared, and short sessions take more calls.
        let budget = short.map_or(config.budget, |_| BudgetLimits { per_second: 1000, burst: 1000, ..config.budget });
        let (sts, metrics) = (Arc::new(Sts::new(base)), Arc::new(Metrics::new()));
        let audit = config.audit.as_ref().map(|settings| Audit::open(settings, metrics.audit())).transpose()?;
        let (counts, minted) = (Arc::clone(&metrics), audit.clone());
        let sessions = SessionCache::new(
            Arc::clone(&sts) as Arc<dyn AssumeRole>,
            Arc::new(SystemClock),
            Budget::new(budget),
            freshness,
            taskcreds_core::spread,
            Box::new(move |task, settled, took| {
                counts.loaded(settled, took);
                if let Some(audit) = &minted {
                    audit.minted(SystemTime::now(), task, settled, took);
                }
            }),
        );
        #[cfg(unix)]
        let admin = {
            let state = config.state.dir.as_deref().unwrap_or(Path::new(State::DIR));
            let (registry, sessions) = (Arc::clone(&registry), Arc::clone(&sessions));
            crate::admin::start(
                config.admin.as_ref(),
                passed.admin.take(),
                state,
                registry,
                sessions,
                listeners.addresses(),
            )?
        };
        #[cfg(unix)]
        let registrations = admin.as_ref().map(|(_, api)| Arc::clone(&api.registrations));
        #[cfg(not(unix))]
        let registrations = None;
        let own = listeners.addresses().into_iter().map(|address| match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        let hosts = AllowedHosts::with(own.chain(config.allowed_hosts));
        let Testing { control, faults, allow_faults } = config.testing;
        let is_watched = control.is_some() || !faults.is_empty();
        let emulator = embedded.map(|embedded| embedded.emulator);
        let testbed =
            is_watched.then(|| Testbed::new(Arc::clone(&registry), Arc::clone(&sessions), emulator, allow_faults));
        if let Some(testbed) = &testbed {
            testbed.begin_with(faults).map_err(|refusal| {
                let hint = if matches!(refusal, Refusal::NotAllowed) { " (--fault, faults)" } else { "" };
                Failure::new(Exit::Usage, format!("{refusal}{hint}"))
            })?;
        }
        let control = control.map(|address| bind(address, "--control")).transpose()?;
        let operations = match passed.take_operations()? {
            Some(bound) => Some(bound),
            None => config.operations_listen.map(|address| bind(address, "--operations-listen")).transpose()?,
        };
        let readiness = Readiness {
            sts,
            metrics: Arc::clone(&metrics),
            registrations: registrations.clone(),
            testbed: testbed.clone(),
        };
        let readiness = Arc::new(readiness);
        let operations = operations.map(|(address, listener)| {
            let (sessions, metrics) = (Arc::clone(&sessions), Arc::clone(&metrics));
            let (readiness, hosts, refuse_misrouted) = (Arc::clone(&readiness), hosts.clone(), config.refuse_misrouted);
            let operations = Operations { sessions, metrics, readiness, hosts, refuse_misrouted };
            (address, listener, Arc::new(operations))
        });
        let endpoint = Arc::new(Endpoint {
            registry,
            sessions,
            hosts,
            metrics,
            audit,
            refuse_misrouted: config.refuse_misrouted,
            local: config.local_endpoints,
            interfaces: config.network.interfaces,
        });
        Ok(Self {
            endpoint,
            listeners,
            operations,
            registrations,
            testbed,
            control,
            readiness,
            #[cfg(unix)]
            admin,
        })
    }

    /// The URL of the control interface, where there is one.
    #[must_use]
    pub fn control(&self) -> Option<String> {
        self.control.as_ref().map(|(address, _)| format!("http://{address}"))
    }

    /// What test suites look at and turn, where somebody has asked for it.
    #[must_use]
    pub fn testbed(&self) -> Option<&Arc<Testbed>> {
        self.testbed.as_ref()
    }

    /// The address of the operations endpoint, where there is one.
    #[must_use]
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().map(|(address, ..)| *address)
    }

    /// The addresses with the ports that the system has chosen.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// What the admin socket changes, where there is one.
    #[must_use]
    pub fn registrations(&self) -> Option<Arc<Registrations>> {
        self.registrations.clone()
    }

    /// The credentials endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Listens first, then loads the sessions of all tasks and keeps them fresh; until told to stop. Returns when what was under
    /// way is finished.
    pub async fn run(self, stop: CancellationToken) {
        let (parts, places) = (TaskTracker::new(), Places::of_this_process());
        #[cfg(unix)]
        if let Some((socket, api)) = self.admin {
            parts.spawn(socket.run(api, stop.clone()));
        }
        // The address goes when this returns: after the last answer, which would not arrive without it.
        let Self { endpoint, listeners, operations, testbed, control, readiness, .. } = self;
        let Listeners { bound, added: _added } = listeners;
        if let Some((_, listener, operations)) = operations {
            parts.spawn(crate::http::run(listener, operations, Places::few(), stop.clone()));
        }
        if let (Some((_, listener)), Some(testbed)) = (control, &testbed) {
            let (testbed, hosts) = (Arc::clone(testbed), endpoint.hosts.clone());
            let refuse_misrouted = endpoint.refuse_misrouted;
            let control = Control { testbed, readiness, hosts, refuse_misrouted, stop: stop.clone() };
            parts.spawn(crate::http::run(listener, Arc::new(control), Places::few(), stop.clone()));
        }
        for (_, listener) in bound {
            let (endpoint, places) = (Arc::clone(&endpoint), Arc::clone(&places));
            match &testbed {
                None => parts.spawn(crate::http::run(listener, endpoint, places, stop.clone())),
                Some(testbed) => {
                    let watched = Watched { endpoint, testbed: Arc::clone(testbed), stop: stop.clone() };
                    parts.spawn(crate::http::run(listener, Arc::new(watched), places, stop.clone()))
                }
            };
        }
        for task in endpoint.registry.tasks() {
            endpoint.sessions.prefetch(&task);
        }
        parts.spawn(Arc::clone(&endpoint.sessions).run(stop));
        parts.close();
        parts.wait().await;
        if let Some(audit) = endpoint.audit.clone() {
            // Off the runtime, which may have other tasks on this thread.
            let closed = tokio::task::spawn_blocking(move || audit.close()).await;
            if closed.is_err() {
                tracing::error!("the audit log was not closed");
            }
        }
    }
}
