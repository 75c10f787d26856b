//! Where the sessions are kept: with the service manager, in a file in memory, or nowhere.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
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
    RuntimeDir(Arc<RuntimeDir>),
}

impl Place {
    /// Opens the place that is configured, and clears the others of what was kept there before.
    ///
    /// # Errors
    /// There is no folder in memory that is this user's alone, and one is asked for.
    pub(super) fn open(
        keep: KeepSessions,
        manager: Option<&Arc<ServiceManager>>,
        environment: &HashMap<String, String>,
        memories: Vec<(Name, OwnedFd)>,
    ) -> Result<(Self, Vec<Found>), Failure> {
        let path = RuntimeDir::path(environment);
        if keep != KeepSessions::RuntimeDir
            && let Some(path) = &path
            && RuntimeDir::open(path).is_ok_and(|folder| folder.remove())
        {
            tracing::info!("removed the sessions that were kept in {}", path.display());
        }
        if let (Some(manager), false) = (manager, keep == KeepSessions::ServiceManager) {
            for (name, _) in &memories {
                remove(manager, *name);
            }
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
                Ok((Self::RuntimeDir(Arc::new(folder)), found.into_iter().collect()))
            }
            (KeepSessions::ServiceManager, Some(manager)) => {
                let found = memories.into_iter();
                let found = found.map(|(name, memory)| Found { name: Some(name), bytes: memory::read(memory) });
                Ok((Self::ServiceManager(Arc::clone(manager), Name::A), found.collect()))
            }
            _ => Ok((Self::Nowhere, Vec::new())),
        }
    }

    /// Learns which of what was found is gone on with. The rest is removed.
    pub(super) fn chosen(&mut self, chosen: Option<&Found>, all: &[Found]) {
        let Self::ServiceManager(manager, next) = self else { return };
        let chosen = chosen.and_then(|found| found.name);
        for name in all.iter().filter_map(|found| found.name).filter(|name| Some(*name) != chosen) {
            remove(manager, name);
        }
        *next = chosen.map_or(Name::A, Name::other);
    }

    /// Puts bytes there in place of those before.
    ///
    /// # Errors
    /// The system's; those before are still there then.
    pub(super) async fn write(&mut self, bytes: impl FnOnce() -> Bytes + Send + 'static) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::ServiceManager(manager, next) => {
                let (manager, name) = (Arc::clone(manager), *next);
                blocking(move || {
                    manager.store(name, &memory::sealed(&bytes()?)?)?;
                    manager.remove(name.other())
                })
                .await?;
                *next = name.other();
                Ok(())
            }
            Self::RuntimeDir(folder) => {
                let folder = Arc::clone(folder);
                blocking(move || folder.write(&bytes()?)).await
            }
        }
    }
}

/// Off the threads that answer requests: it takes milliseconds, and longer while the service manager does not listen.
async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("the work was broken off")))
}

fn remove(manager: &ServiceManager, name: Name) {
    if let Err(error) = manager.remove(name) {
        tracing::warn!(%error, "the service manager was not told to remove {name}");
    }
}
