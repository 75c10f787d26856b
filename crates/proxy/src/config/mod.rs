//! The configuration file, parsed at the border, every fault told at once. A command's flags and variables come before it.

mod admin;
mod audit;
mod emulated_role;
mod file;
mod network;
mod pattern;
pub mod request;
mod section;
mod state;
mod task;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use taskcreds_core::{BudgetLimits, CredentialsId, NewTask, RoleKind, TaskArn};
use taskcreds_sts_emulator::Role;

use crate::http::local_endpoints::LocalEndpoints;

pub use admin::{Admin, Rule};
pub use network::{Manage, Network, interface_name};
pub use pattern::Pattern;
pub use section::Fault;
use section::{Faults, Section};
pub use state::{KeepSessions, State};
use task::{Settings, Tasks};

use crate::testbed::{self, InvalidFault};

/// The port of the ECS agent's credentials endpoint.
pub const DEFAULT_PORT: u16 = 51_679;
/// How many registrations one proxy holds, unless `max_tasks` says otherwise.
pub const MAX_TASKS: usize = 4_096;
/// The most that `max_tasks` may say.
const MOST_TASKS: u32 = 100_000;

/// What is said of a configuration that serves nobody.
pub const NOTHING_TO_SERVE: &str = "there is neither a [[task]] nor an admin socket: there is nothing to serve";

/// What the program runs with.
#[derive(Debug)]
pub struct Config {
    /// Where the credentials endpoint listens. Empty: 127.0.0.1 and, where the machine has it, ::1 on [`DEFAULT_PORT`].
    pub listen: Vec<SocketAddr>,
    /// Whether 169.254.170.2 is added to `lo` and its port 80 listened on, beside `listen`: for a network namespace that containers share.
    pub link_local: bool,
    /// Where `/healthz`, `/readyz` and `/metrics` are; nowhere by default.
    pub operations_listen: Option<SocketAddr>,
    /// How many hops answers go: 1 for this machine and its neighbours, one more for each router between.
    pub hop_limit: u8,
    /// Whether connections are refused that were made to loopback from elsewhere.
    pub refuse_misrouted: bool,
    /// Names that `Host` may have beside the protocol's own.
    pub allowed_hosts: Vec<String>,
    /// How many STS calls the node may make.
    pub budget: BudgetLimits,
    /// How many registrations there may be, those of the admin socket included.
    pub max_tasks: usize,
    /// The admin socket; none by default.
    pub admin: Option<Admin>,
    /// What outlives the process.
    pub state: State,
    /// Where answers and calls to STS are recorded; nowhere by default.
    pub audit: Option<crate::audit::Settings>,
    /// The roles of the embedded STS; none: every role that is asked for.
    pub emulated_roles: Vec<Role>,
    /// How containers reach the proxy.
    pub network: Network,
    /// The tasks of the file.
    pub tasks: Vec<NewTask>,
    /// Ids that the file does not give and that were made here.
    pub made_ids: Vec<MadeId>,
    /// Whether the file says nothing, as one that was just cut to be written anew.
    pub is_blank: bool,
    /// Paths that name a role: never the file's to turn on, only a flag's of `dev`.
    pub local_endpoints: Option<LocalEndpoints>,
    /// What works but deserves attention.
    pub warnings: Vec<String>,
    /// What test suites ask for.
    pub testing: Testing,
}

/// What test suites ask for: by default nothing.
#[derive(Debug, Default)]
pub struct Testing {
    /// Where the control interface is.
    pub control: Option<SocketAddr>,
    /// What is to go wrong from the start.
    pub faults: Vec<testbed::Fault>,
    /// Whether something may go wrong although sessions come from real STS.
    pub allow_faults: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            link_local: false,
            operations_listen: None,
            hop_limit: 1,
            refuse_misrouted: true,
            allowed_hosts: Vec::new(),
            budget: BudgetLimits::default(),
            max_tasks: MAX_TASKS,
            admin: None,
            state: State::default(),
            audit: None,
            emulated_roles: Vec::new(),
            network: Network::default(),
            tasks: Vec::new(),
            made_ids: Vec::new(),
            is_blank: false,
            local_endpoints: None,
            warnings: Vec::new(),
            testing: Testing::default(),
        }
    }
}

/// A credentials id that was made for a task whose configuration gives none: to be shown once, to whoever started the command.
#[derive(Debug, Clone)]
pub struct MadeId {
    /// The task.
    pub task_arn: TaskArn,
    /// Which of its roles.
    pub role_kind: RoleKind,
    /// The id.
    pub id: CredentialsId,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// Every fault of the file at once. A file that everybody could have written is refused: they could name any role.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let shown = file.display().to_string();
        let read = file::read(file).map_err(|fault| ConfigError::unreadable(file, &fault))?;
        let mut config = Self::parse(&shown, &read.text, file.parent().unwrap_or(Path::new(".")))?;
        let holds_secrets =
            config.tasks.len() > config.made_ids.len() || config.tasks.iter().any(|task| !task.tokens.is_empty());
        config.warnings.extend(read.warnings(&shown, holds_secrets.then_some("credentials ids or tokens")));
        Ok(config)
    }

    /// Parses a configuration; `base` is the folder that relative paths in it start from.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn parse(file: &str, text: &str, base: &Path) -> Result<Self, ConfigError> {
        let mut faults = Faults { file, text, found: Vec::new() };
        let faults = &mut faults;
        let says_nothing = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
        let mut config = Self { is_blank: text.lines().all(says_nothing), ..Self::default() };
        if let Some(mut root) = section::parse(text, faults) {
            config.listen = listen_addresses(&mut root, faults);
            config.link_local = root.boolean("link_local", faults).unwrap_or(false);
            config.operations_listen = root
                .string("operations_listen", faults)
                .and_then(|address| address.parse(faults, |text| loopback_address(&text)));
            if let Some(hops) = root.number("hop_limit", 1..=255, faults).and_then(|hops| u8::try_from(hops).ok()) {
                config.hop_limit = hops;
            }
            config.refuse_misrouted = root.boolean("refuse_misrouted", faults).unwrap_or(true);
            config.allowed_hosts = root.parsed_strings("allowed_hosts", faults, allowed_host);
            if let Some(mut sts) = root.section("sts", faults) {
                let defaults = BudgetLimits::default();
                config.budget = BudgetLimits {
                    per_second: sts.number("calls_per_second", 1..=600, faults).unwrap_or(defaults.per_second),
                    burst: sts.number("burst", 1..=10_000, faults).unwrap_or(defaults.burst),
                    concurrent: defaults.concurrent,
                };
                sts.finish(faults);
            }
            if let Some(most) = root.number("max_tasks", 1..=MOST_TASKS, faults) {
                config.max_tasks = most as usize;
            }
            config.admin = admin::admin(root.section("admin", faults), base, &mut config.warnings, faults);
            config.state = state::state(root.section("state", faults), base, faults);
            config.audit = audit::audit(root.section("audit", faults), base, faults);
            for text in root.strings("faults", faults).unwrap_or_default() {
                match text.value.parse() {
                    Ok(fault) => config.testing.faults.push(fault),
                    Err(InvalidFault(all)) => all.iter().for_each(|why| faults.add(text.span, text.path.clone(), why)),
                }
            }
            config.network = network::network(root.section("network", faults), faults);
            let defaults = root.section("defaults", faults).map(|mut section| {
                let settings = Settings::read(&mut section, faults);
                section.finish(faults);
                settings
            });
            let defaults = defaults.unwrap_or_default();
            let mut tasks = Tasks::default();
            for section in root.sections("task", faults) {
                tasks.read(section, &defaults, base, faults);
            }
            for section in root.sections("emulated_role", faults) {
                config.emulated_roles.extend(emulated_role::read(section, base, faults));
            }
            root.finish(faults);
            (config.tasks, config.made_ids) = (tasks.tasks, tasks.made);
            config.warnings.extend(tasks.warnings);
        }
        if config.tasks.len() > config.max_tasks {
            let message = format!("{} roles of tasks, and at most {} are held", config.tasks.len(), config.max_tasks);
            faults.found.push((text.len(), Fault { place: file.to_owned(), path: "task".to_owned(), message }));
        }
        let found = faults.in_order();
        if found.is_empty() { Ok(config) } else { Err(ConfigError { faults: found, is_denied: false }) }
    }

    /// Gives each task whose id was made when the file was read the id that it had before. Returns the ids that are new.
    pub fn keep_made_ids(&mut self, before: &[MadeId]) -> Vec<MadeId> {
        let before: HashMap<_, _> = before.iter().map(|made| ((&made.task_arn, made.role_kind), &made.id)).collect();
        let mut tasks: HashMap<_, _> =
            self.tasks.iter_mut().map(|task| ((&task.arn, task.role_kind), &mut task.id)).collect();
        let mut new = Vec::new();
        for made in &mut self.made_ids {
            let key = (&made.task_arn, made.role_kind);
            match (before.get(&key), tasks.get_mut(&key)) {
                (Some(old), Some(id)) => {
                    made.id = (*old).clone();
                    **id = (*old).clone();
                }
                _ => new.push(made.clone()),
            }
        }
        new
    }
}

/// The text of another file that decides who gets which role.
///
/// # Errors
/// It cannot be read, or others could have written it.
pub fn read_trusted(file: &Path) -> Result<String, ConfigError> {
    file::read(file).map(|read| read.text).map_err(|fault| ConfigError::unreadable(file, &fault))
}

impl ConfigError {
    /// One fault of a file as a whole.
    pub fn of(file: &Path, error: &dyn std::fmt::Display) -> Self {
        let fault = Fault { place: file.display().to_string(), path: String::new(), message: error.to_string() };
        Self { faults: vec![fault], is_denied: false }
    }

    fn unreadable(file: &Path, error: &file::Unreadable) -> Self {
        Self { is_denied: error.is_denied, ..Self::of(file, error) }
    }
}

/// Everything that is wrong with a configuration, one fault a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// The system does not let this user read the file.
    pub is_denied: bool,
}

/// Parses `127.0.0.1:51679`, `[::1]:0`.
///
/// # Errors
/// What is wrong. `0.0.0.0` and `[::]` are refused: every neighbour would reach the credentials of every task.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "must be ADDRESS:PORT, as 127.0.0.1:51679 or [::1]:51679".to_owned())?;
    if address.ip().to_canonical().is_unspecified() {
        return Err("would be reached by every neighbour: name the address of one interface".to_owned());
    }
    Ok(address)
}

/// The addresses of `listen`, each of them once.
fn listen_addresses(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for text in root.strings("listen", faults).unwrap_or_default() {
        let (span, path) = (text.span, text.path.clone());
        match text.parse(faults, |text| listen_address(&text)) {
            Some(address) if is_among(&all, address) => {
                faults.add(span, path, format!("{address} is there already; name an address once"));
            }
            address => all.extend(address),
        }
    }
    all
}

/// An address that is there a second time.
#[must_use]
pub fn named_twice(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let mut rest = addresses;
    while let [address, others @ ..] = rest {
        if is_among(others, *address) {
            return Some(*address);
        }
        rest = others;
    }
    None
}

/// Port 0 is another one each time.
fn is_among(addresses: &[SocketAddr], address: SocketAddr) -> bool {
    address.port() != 0 && addresses.contains(&address)
}

/// Parses an address of loopback.
///
/// # Errors
/// What is wrong.
pub fn loopback_address(text: &str) -> Result<SocketAddr, String> {
    match listen_address(text) {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        _ => Err("must be ADDRESS:PORT with an address of loopback, as 127.0.0.1:51680".to_owned()),
    }
}

fn allowed_host(text: &str) -> Result<String, String> {
    let name = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if matches!(name.parse::<std::net::IpAddr>(), Ok(address) if address.is_unspecified()) {
        return Err("0.0.0.0 and [::] are never an allowed Host: browsers reach loopback by them".to_owned());
    }
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    let bracketed = name.len() != text.len();
    if !plain || (name.contains(':') && !bracketed) {
        return Err("must be a host name or an address without a port, an IPv6 address in brackets".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
