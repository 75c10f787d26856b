//! Where the sessions are kept: with the service manager, in a file in memory, or nowhere.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::inherited::Name;
use super::memory;
use super::runtime_dir::RuntimeDir;
use super::service_manager::ServiceManager;
use crate::config::KeepSessions;
use crate::failure::{Exit, Failure};

/// Bytes with secrets in them.
pub(super) type Bytes = io::Result<Zeroizing<Vec<u8>>>;

/// What the process before may have left, and under which name.
pub(super) struct Found {
    name: Option<Name>,
    pub(super) bytes: Bytes,
}

/// Where the sessions are kept.
pub(super) enum Place {
    Nowhere,
    /// Under two names in turn: the next is stored before the last is removed, so that there is one at every moment.
    ServiceManager(Arc<ServiceManager>, Name),
    RuntimeDir(RuntimeDir),
}

impl Place {
    /// Opens the place that is configured. Nothing is removed yet, see [`Leftover`].
    ///
    /// # Errors
    /// There is no folder in memory that is this user's alone, and one is asked for.
    pub(super) fn open(
        keep: KeepSessions,
        manager: Option<&Arc<ServiceManager>>,
        environment: &HashMap<String, String>,
        memories: Vec<(Name, OwnedFd)>,
    ) -> Result<(Self, Vec<Found>, Leftover), Failure> {
        let path = RuntimeDir::path(environment);
        let mut leftover = Leftover { folder: None, manager: manager.cloned(), names: Vec::new() };
        if keep != KeepSessions::ServiceManager {
            leftover.names.extend(memories.iter().map(|(name, _)| *name));
        }
        match (keep, manager) {
            (KeepSessions::RuntimeDir, _) => {
                let unfit = |why: String| {
                    let message = format!("[state] sessions = \"runtime-dir\": {why}");
                    Failure::new(Exit::Usage, message)
                };
                let path = path.ok_or_else(|| {
                    unfit("which folder? Set RuntimeDirectory= in the unit, or XDG_RUNTIME_DIR".to_owned())
                })?;
                let folder = RuntimeDir::make(&path).map_err(|why| unfit(format!("{} {why}", path.display())))?;
                let found = folder.read().transpose().map(|bytes| Found { name: None, bytes });
                Ok((Self::RuntimeDir(folder), found.into_iter().collect(), leftover))
            }
            (KeepSessions::ServiceManager, Some(manager)) => {
                let found = memories.into_iter();
                let found = found.map(|(name, memory)| Found { name: Some(name), bytes: memory::read(memory) });
                Ok((Self::ServiceManager(Arc::clone(manager), Name::A), found.collect(), leftover))
            }
            (KeepSessions::Off, _) => {
                leftover.folder = path;
                Ok((Self::Nowhere, Vec::new(), leftover))
            }
            // Another instance may keep its sessions in the folder.
            (KeepSessions::ServiceManager, None) => Ok((Self::Nowhere, Vec::new(), leftover)),
        }
    }

    /// Learns which of what was found is gone on with. The rest is left over.
    pub(super) fn chosen(&mut self, chosen: Option<&Found>, all: &[Found], leftover: &mut Leftover) {
        let Self::ServiceManager(_, next) = self else { return };
        let chosen = chosen.and_then(|found| found.name);
        leftover.names.extend(all.iter().filter_map(|found| found.name).filter(|name| Some(*name) != chosen));
        *next = chosen.map_or(Name::A, Name::other);
    }

    /// Whether what was written last is still there. A service manager does not tell.
    pub(super) fn has_it(&self) -> bool {
        match self {
            Self::Nowhere | Self::ServiceManager(..) => true,
            Self::RuntimeDir(folder) => folder.has_file(),
        }
    }

    /// Puts bytes there in place of those before.
    ///
    /// # Errors
    /// The system's; those before are still there then.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::ServiceManager(manager, next) => {
                manager.store(*next, &memory::sealed(bytes)?)?;
                manager.remove(next.other())?;
                *next = next.other();
                Ok(())
            }
            Self::RuntimeDir(folder) => folder.write(bytes),
        }
    }

    /// Removes what is there.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn clear(&self) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::ServiceManager(manager, _) => {
                [Name::A, Name::B].into_iter().try_for_each(|name| manager.remove(name))
            }
            Self::RuntimeDir(folder) => folder.clear(),
        }
    }
}

/// What was kept and is gone on with by nobody.
pub(super) struct Leftover {
    /// The folder in which nothing is to be kept.
    folder: Option<PathBuf>,
    manager: Option<Arc<ServiceManager>>,
    names: Vec<Name>,
}

impl Leftover {
    /// Removes it. For a process that has its addresses: one that does not come to serve takes nothing from another.
    pub(super) fn remove(self) {
        if let Some(path) = self.folder
            && RuntimeDir::open(&path).is_ok_and(|folder| folder.remove())
        {
            tracing::info!("removed the sessions that were kept in {}", path.display());
        }
        let Some(manager) = self.manager else { return };
        for name in self.names {
            if let Err(error) = manager.remove(name) {
                tracing::warn!(%error, "the service manager was not told to remove {name}");
            }
        }
    }
}
