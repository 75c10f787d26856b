//! `taskcreds serve`: the tasks of a file, sessions from STS. The file is read again when it changes and on SIGHUP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::signals::{Request, Signals};
use super::{config_failure, say, say_listening};
use crate::app::Proxy;
use crate::aws::Base;
use crate::cli;
use crate::config::{Admin, Config, ConfigError, MadeId, NOTHING_TO_SERVE};
use crate::failure::Failure;
use crate::handover::{Handover, Inherited};
use crate::http::credentials::Endpoint;
use crate::http::operations::Registrations;
use crate::launch;
use crate::stamp::Stamp;

/// How often the file is looked at. Looking follows symbolic links, so a file that is replaced by renaming or by swapping a link, as
/// editors and Kubernetes do, is seen like one that is written. It is read when two looks in a row find the same: one that is written in
/// place is cut short for a moment, and what it lacks then would be revoked. Another inode is no sign of a whole file, as vim makes one too.
const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(
    flags: cli::Serve,
    environment: &HashMap<String, String>,
    inherited: Inherited,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    // Before the file is read, so that no change is missed.
    let seen = flags.config.as_deref().and_then(version);
    let mut config = match &flags.config {
        Some(file) => Config::load(file).map_err(|error| config_failure(&error))?,
        None => Config::default(),
    };
    let fixed = Fixed::of(&config);
    flags.listen.apply(&mut config)?;
    config.operations_listen = flags.operations_listen.or(config.operations_listen);
    if let Some(socket) = flags.admin_socket {
        let admin = config.admin.take().unwrap_or_else(|| Admin::at(PathBuf::new()));
        config.admin = Some(Admin { socket, ..admin });
    }
    flags.testing.apply(&mut config)?;
    // systemd names the folder that StateDirectory= has made.
    let given = environment.get("STATE_DIRECTORY").and_then(|list| list.split(':').next()).map(PathBuf::from);
    config.state.dir = flags.state_dir.or(config.state.dir).or(given);
    let admin_socket = config.admin.as_ref().map(|admin| admin.socket.display().to_string());
    if config.tasks.is_empty() && config.admin.is_none() {
        config.warnings.push(NOTHING_TO_SERVE.to_owned());
    }
    if !config.emulated_roles.is_empty() {
        config.warnings.push("[[emulated_role]] is for the embedded STS of dev; serve asks a real one".to_owned());
    }
    super::warn_of_another_sts(environment);
    let (made_ids, tasks) = (std::mem::take(&mut config.made_ids), config.tasks.len());
    // Before the addresses are bound, of which 169.254.170.2 may be one.
    #[cfg(target_os = "linux")]
    let network = super::network::manage(config.network.manage.as_ref(), environment)?;
    let (mut handover, sockets) = Handover::open(config.state.sessions, environment, inherited)?;
    let proxy = Proxy::start(config, Base::Chain, environment, sockets)?;
    let endpoint = Arc::clone(proxy.endpoint());
    handover.resume(&endpoint.registry, &endpoint.sessions);
    #[cfg(unix)]
    if let Some(registrations) = proxy.registrations() {
        registrations.hand_over_by(handover.keeps_at_once(Arc::clone(&endpoint.sessions)));
    }
    let addresses = proxy.addresses();
    say_listening(&addresses);
    if let Some(address) = proxy.operations_address() {
        say(format!("operations at http://{address}"));
    }
    if let Some(control) = proxy.control() {
        say(format!("control interface at {control}"));
    }
    if let Some(socket) = admin_socket {
        say(format!("admin socket at {socket}"));
    }
    say_made(&made_ids, &addresses);
    handover.ready();
    let (stopping, last_answer) = (handover.stopping(), CancellationToken::new());
    let keeping = tokio::spawn(handover.run(Arc::clone(&endpoint.sessions), last_answer.clone()));
    #[cfg(target_os = "linux")]
    let watching =
        network.map(|state| tokio::spawn(super::network::watch(state, last_answer.clone().cancelled_owned())));
    let registrations = proxy.registrations();
    let mut file = flags.config.map(|path| ConfigFile {
        path,
        read: seen,
        looked: seen,
        tasks,
        made_ids,
        fixed,
        addresses,
        endpoint,
        registrations,
    });

    let stop = CancellationToken::new();
    let running = proxy.run(stop.clone());
    tokio::pin!(running);
    let mut tick = tokio::time::interval(WATCH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut running => break,
            request = signals.request() => match request {
                Request::Reload => match &mut file {
                    Some(file) => file.reload(),
                    None => tracing::info!("there is no configuration file to read again"),
                },
                Request::Stop => {
                    tracing::info!("stopping");
                    stopping();
                    stop.cancel();
                    running.await;
                    break;
                }
            },
            _ = tick.tick() => file.iter_mut().for_each(ConfigFile::reload_if_changed),
        }
    }
    last_answer.cancel();
    #[cfg(target_os = "linux")]
    if let Some(watching) = watching {
        watching.await.map_err(|error| Failure::software("cannot look after the network", error))?;
    }
    keeping.await.map_err(|error| Failure::software("cannot keep the sessions", error))?;
    Ok(ExitCode::SUCCESS)
}

/// Ids that nobody has given are told once, to whoever has started the command; not to the journal, which others read and which keeps them.
fn say_made(made: &[MadeId], addresses: &[SocketAddr]) {
    let is_kept = std::env::var("JOURNAL_STREAM").is_ok_and(|journal| is_journal(&journal, std::io::stdout()));
    for made in made {
        if is_kept {
            let (kind, task_arn) = (made.role_kind, &made.task_arn);
            tracing::warn!(%task_arn, "the id that was made for the {kind} is not told, as standard output is the journal: set credentials_id");
            continue;
        }
        let (name, uri) = launch::uri(addresses, &made.id);
        say(format!("{} of {}: {name}={uri}", made.role_kind, made.task_arn));
    }
}

/// Whether this is the stream that systemd has connected to its journal, by device and inode: systemd.exec(5), `$JOURNAL_STREAM`.
#[cfg(unix)]
fn is_journal(journal: &str, stream: impl std::os::fd::AsFd) -> bool {
    let is_it = |stat: rustix::fs::Stat| format!("{}:{}", stat.st_dev, stat.st_ino) == journal;
    rustix::fs::fstat(stream).is_ok_and(is_it)
}

#[cfg(not(unix))]
fn is_journal(_: &str, _: std::io::Stdout) -> bool {
    false
}

/// What a reload does not change, by the names of the file.
struct Fixed(Vec<(&'static str, String)>);

impl Fixed {
    fn of(config: &Config) -> Self {
        // Taken apart, so that a new field is not forgotten here.
        let Config {
            listen,
            link_local,
            operations_listen,
            hop_limit,
            refuse_misrouted,
            allowed_hosts,
            budget,
            max_tasks,
            admin,
            state,
            audit,
            emulated_roles: _,
            network,
            tasks: _,
            made_ids: _,
            is_blank: _,
            local_endpoints: _,
            warnings: _,
            testing,
        } = config;
        Self(vec![
            ("listen", format!("{listen:?}")),
            ("link_local", link_local.to_string()),
            ("operations_listen", format!("{operations_listen:?}")),
            ("hop_limit", hop_limit.to_string()),
            ("refuse_misrouted", refuse_misrouted.to_string()),
            ("allowed_hosts", format!("{allowed_hosts:?}")),
            ("[sts]", format!("{budget:?}")),
            ("max_tasks", max_tasks.to_string()),
            ("[admin]", format!("{admin:?}")),
            ("[state]", format!("{state:?}")),
            ("[audit]", format!("{audit:?}")),
            ("faults", format!("{:?}", testing.faults)),
            ("[network]", format!("{network:?}")),
        ])
    }

    /// The names of what is different now.
    fn different(&self, now: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&now.0);
        pairs.filter(|(before, now)| before != now).map(|((name, _), _)| *name).collect()
    }
}

/// The version of a file; `None` where there is none, or what cannot be read twice, as a pipe.
fn version(file: &Path) -> Option<Stamp> {
    if is_once_only(file) { None } else { Stamp::of(file) }
}

/// Whether this is there and no regular file, symbolic links followed.
fn is_once_only(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file())
}

/// The configuration file while the proxy runs.
struct ConfigFile {
    path: PathBuf,
    /// The version that was read last, good or not.
    read: Option<Stamp>,
    /// The version that the last look has found.
    looked: Option<Stamp>,
    /// How many roles of tasks the last good version has.
    tasks: usize,
    made_ids: Vec<MadeId>,
    fixed: Fixed,
    addresses: Vec<SocketAddr>,
    endpoint: Arc<Endpoint>,
    registrations: Option<Arc<Registrations>>,
}

impl ConfigFile {
    fn reload_if_changed(&mut self) {
        let now = version(&self.path);
        let before = std::mem::replace(&mut self.looked, now);
        if now.is_none() {
            // It may be gone for a moment only, while an editor replaces it.
            if self.read.take().is_some() {
                tracing::warn!("{} is gone; what it said last stays in force", self.path.display());
            }
        } else if now != self.read && now == before {
            self.reload();
        }
    }

    /// Takes the file's tasks over, or keeps the last good ones and says everything that is wrong.
    fn reload(&mut self) {
        let path = self.path.display();
        if is_once_only(&self.path) {
            tracing::warn!("{path} is no regular file and is read once, at the start; what it said stays in force");
            return;
        }
        self.read = version(&self.path);
        let loaded = Config::load(&self.path);
        if version(&self.path) != self.read {
            tracing::info!("{path} has changed while it was read; it is read again when it stays as it is");
            return;
        }
        let outcome = loaded.and_then(|config| self.take_over(config));
        self.endpoint.metrics.reloaded(outcome.is_ok());
        if let Err(error) = outcome {
            for fault in &error.faults {
                tracing::error!("the configuration was not reloaded, the last good one stays in force: {fault}");
            }
        }
    }

    fn take_over(&mut self, mut config: Config) -> Result<(), ConfigError> {
        if config.is_blank && self.tasks > 0 {
            let message =
                "says nothing, which would end all of its tasks; to end them write task = [] or stop the proxy";
            return Err(ConfigError::of(&self.path, &message));
        }
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let new_ids = config.keep_made_ids(&self.made_ids);
        let made_ids = std::mem::take(&mut config.made_ids);
        let different = self.fixed.different(&Fixed::of(&config));
        if !different.is_empty() {
            tracing::warn!(
                "{} waits for the next start: a reload takes over tasks and [defaults]",
                different.join(", ")
            );
        }
        // The file's tasks are checked against each other already; those of the admin socket give way.
        let tasks = config.tasks.len();
        let outcome =
            self.endpoint.registry.reconcile(config.tasks).map_err(|error| ConfigError::of(&self.path, &error))?;
        (self.made_ids, self.tasks) = (made_ids, tasks);
        for task in &outcome.displaced {
            tracing::warn!(
                id = %task.id(), task_arn = %task.arn(),
                "a registration of the admin socket has ended: the configuration file names the same task and role, or the same id"
            );
        }
        if let (false, Some(registrations)) = (outcome.displaced.is_empty(), &self.registrations) {
            registrations.displaced();
        }
        for task in &outcome.added {
            self.endpoint.sessions.prefetch(task);
        }
        say_made(&new_ids, &self.addresses);
        if outcome.new_tokens > 0 {
            tracing::warn!(
                tasks = outcome.new_tokens,
                "tokens have changed; the one before stays valid beside the new one until the next change or a restart"
            );
        }
        let lost = outcome.ended.saturating_sub(outcome.displaced.len());
        if lost > 0 {
            tracing::warn!(
                "the sessions of {lost} role{} of tasks have ended: the configuration file has changed them, or has them no more",
                if lost == 1 { "" } else { "s" }
            );
        }
        let (added, kept, ended) = (outcome.added.len(), outcome.kept, outcome.ended);
        tracing::info!(added, kept, ended, "configuration reloaded");
        Ok(())
    }
}
