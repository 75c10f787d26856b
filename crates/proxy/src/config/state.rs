//! `[state]`: what outlives the process.

use std::path::{Path, PathBuf};

use super::section::{Faults, Section};

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The folder of the store; by default systemd's `STATE_DIRECTORY`, else [`State::DIR`].
    pub dir: Option<PathBuf>,
    /// Where the sessions are kept for the next process.
    pub sessions: KeepSessions,
}

impl State {
    /// The folder of the store where nobody names another one.
    pub const DIR: &str = "/var/lib/taskcreds";
}

/// Where the sessions are kept for the next process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepSessions {
    /// In the service manager's file descriptor store, where there is one: in memory only.
    #[default]
    ServiceManager,
    /// In a file that only this user can read, on tmpfs.
    RuntimeDir,
    /// Nowhere.
    Off,
}

impl KeepSessions {
    /// As the file has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ServiceManager => "service-manager",
            Self::RuntimeDir => "runtime-dir",
            Self::Off => "off",
        }
    }
}

pub(super) fn state(section: Option<Section<'_>>, base: &Path, faults: &mut Faults<'_>) -> State {
    let Some(mut section) = section else { return State::default() };
    let dir = section.string("dir", faults).map(|path| base.join(path.value));
    let sessions = section.string("sessions", faults).and_then(|word| {
        word.parse(faults, |word| match word.as_str() {
            "service-manager" => Ok(KeepSessions::ServiceManager),
            "runtime-dir" => Ok(KeepSessions::RuntimeDir),
            "off" => Ok(KeepSessions::Off),
            _ => Err("must be \"service-manager\", \"runtime-dir\" or \"off\""),
        })
    });
    section.finish(faults);
    State { dir, sessions: sessions.unwrap_or_default() }
}
