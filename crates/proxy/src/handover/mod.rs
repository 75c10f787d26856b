//! What one process leaves to the next: the sessions and the listening sockets, so that nobody notices a restart.
//!
//! What it guarantees: a session goes on only for the task that it was made for (`snapshot`), and nobody but this user and the
//! service manager could have seen or changed it (`memory`, `runtime_dir`); what cannot be read costs a warning and STS calls, never
//! the start.
//!
//! Level-triggered, like the sweep: every few seconds what there is to keep is compared with what was kept last. A load, a
//! revocation, a rotation and the end of a session are one case. A revocation over the admin socket is not answered before that.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod inherited;
mod keeper;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod place;
#[cfg(target_os = "linux")]
mod runtime_dir;
#[cfg(target_os = "linux")]
mod service_manager;
mod snapshot;
mod sockets;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use taskcreds_core::{Registry, SessionCache};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

#[cfg(not(target_os = "linux"))]
pub use self::elsewhere::Inherited;
#[cfg(not(target_os = "linux"))]
use self::elsewhere::{Found, Leftover, Place, ServiceManager};
#[cfg(target_os = "linux")]
pub use self::inherited::Inherited;
use self::keeper::{Contents, Keeper, contents};
#[cfg(target_os = "linux")]
use self::place::{Found, Leftover, Place};
#[cfg(target_os = "linux")]
use self::service_manager::ServiceManager;
use self::snapshot::Snapshot;
pub use self::sockets::Sockets;
use crate::aws::{IGNORE_ENDPOINTS, sts_endpoint};
use crate::config::KeepSessions;
use crate::failure::Failure;

/// How often is looked for what has changed: a session is kept within five seconds of its load.
const KEEP_EVERY: Duration = Duration::from_secs(4);

/// How many sessions these bytes hold, if they are what one process leaves to the next.
#[doc(hidden)] // Public for fuzz/ alone: no other public function reads bytes of one's choice.
#[must_use]
pub fn sessions_in(bytes: &[u8]) -> Option<usize> {
    Snapshot::read(bytes).ok().map(|snapshot| snapshot.len())
}

/// The way of the sessions from process to process.
pub(crate) struct Handover {
    manager: Option<Arc<ServiceManager>>,
    /// What the process before has left.
    left: Option<Snapshot>,
    /// What of it is gone on with by nobody.
    leftover: Option<Leftover>,
    keeper: Arc<Mutex<Keeper>>,
}

impl Handover {
    /// Opens the place where sessions are kept and reads what the process before has left there.
    ///
    /// # Errors
    /// There is no folder in memory that is this user's alone, and one is asked for.
    pub(crate) fn open(
        keep: KeepSessions,
        environment: &HashMap<String, String>,
        inherited: Inherited,
    ) -> Result<(Self, Sockets), Failure> {
        let Inherited { sockets, memories } = inherited;
        let manager = ServiceManager::of(environment).unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET names no socket: the service manager is told nothing");
            None
        });
        let manager = manager.map(Arc::new);
        let sts = sts_of(environment);
        let (mut place, found, mut leftover) = Place::open(keep, manager.as_ref(), environment, memories)?;
        let read = found.iter().filter_map(|found| Some((found, read(found, sts.as_deref())?)));
        let newest = read.max_by_key(|(_, snapshot)| snapshot.generation);
        place.chosen(newest.as_ref().map(|(found, _)| *found), &found, &mut leftover);
        let left = newest.map(|(_, snapshot)| snapshot);
        let generation = left.as_ref().map_or(0, |left| left.generation);
        // Where nothing was found, nothing is kept; what cannot be read is to be replaced.
        let kept = found.is_empty().then(Contents::new);
        let keeper = Arc::new(Mutex::new(Keeper { place, sts, kept, generation, is_failing: false }));
        Ok((Self { manager, left, leftover: Some(leftover), keeper }, sockets))
    }

    /// Goes on with the sessions that the process before has left, as far as their tasks are registered, and removes what is not gone on
    /// with. Once the addresses are bound and before anybody is answered.
    pub(crate) fn resume(&mut self, registry: &Registry, sessions: &SessionCache) {
        if let Some(leftover) = self.leftover.take() {
            leftover.remove();
        }
        let Some(mut left) = self.left.take() else { return };
        let (all, now) = (left.len(), SystemTime::now());
        let tasks = registry.tasks();
        let resumed = tasks.iter().filter(|task| left.take(task, now).is_some_and(|kept| sessions.resume(task, kept)));
        let resumed = resumed.count();
        // What was not taken over is to be kept no longer.
        locked(&self.keeper).kept = (resumed == all).then(|| contents(&sessions.kept()));
        tracing::info!(resumed, dropped = all - resumed, "sessions of the process before");
    }

    /// Tells the service manager that the program listens.
    pub(crate) fn ready(&self) {
        if let Some(manager) = &self.manager {
            manager.ready();
        }
    }

    /// What tells the service manager that the program is about to end.
    pub(crate) fn stopping(&self) -> impl FnOnce() + use<> {
        let manager = self.manager.clone();
        move || {
            if let Some(manager) = manager {
                manager.stopping();
            }
        }
    }

    /// What keeps the sessions as they are now before it returns, for whoever is about to answer that one has ended. Blocks. An error is
    /// the system's; a session that has ended may still be kept then.
    #[cfg(unix)]
    pub(crate) fn keeps_at_once(&self, sessions: Arc<SessionCache>) -> impl Fn() -> std::io::Result<()> + use<> {
        let keeper = Arc::clone(&self.keeper);
        move || locked(&keeper).keep_or_clear(&sessions)
    }

    /// Keeps the sessions for the next process, until the last answer is given.
    pub(crate) async fn run(self, sessions: Arc<SessionCache>, last_answer: CancellationToken) {
        if matches!(locked(&self.keeper).place, Place::Nowhere) {
            return;
        }
        let keep = || {
            let (keeper, sessions) = (Arc::clone(&self.keeper), Arc::clone(&sessions));
            // Off the threads that answer requests. What fails is logged there, and tried again.
            tokio::task::spawn_blocking(move || locked(&keeper).keep(&sessions))
        };
        let mut tick = tokio::time::interval(KEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while last_answer.run_until_cancelled(tick.tick()).await.is_some() {
            let _ = keep().await;
        }
        let _ = keep().await;
    }
}

// Whole at every point where it could panic.
fn locked(keeper: &Mutex<Keeper>) -> MutexGuard<'_, Keeper> {
    keeper.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What leads to another STS than AWS's; none where nothing does. Two that differ are two, though they may lead to the same.
fn sts_of(environment: &HashMap<String, String>) -> Option<String> {
    let (_, endpoint) = sts_endpoint(environment)?;
    // Whether the SDK ignores it is for the SDK to say.
    let ignored = environment.get(IGNORE_ENDPOINTS).filter(|value| !value.is_empty());
    let ignored = ignored.map(|ignored| format!(" (ignored: {ignored})"));
    Some(endpoint.to_owned() + &ignored.unwrap_or_default())
}

/// What was left by a process that has asked this STS, or one warning.
fn read(found: &Found, sts: Option<&str>) -> Option<Snapshot> {
    let why = match &found.bytes {
        Ok(bytes) => match Snapshot::read(bytes) {
            Ok(snapshot) if snapshot.sts.as_deref() == sts => return Some(snapshot),
            Ok(snapshot) => {
                let name = |sts: Option<&str>| sts.unwrap_or("AWS itself").to_owned();
                format!("they are from {}, and this process asks {}", name(snapshot.sts.as_deref()), name(sts))
            }
            Err(why) => why.to_string(),
        },
        Err(error) => error.to_string(),
    };
    tracing::warn!("the sessions of the process before are not gone on with, and are loaded anew: {why}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sts_is_told_by_what_leads_to_it() {
        let sts = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            sts_of(&variables.collect())
        };
        let (of_all, of_sts) = (("AWS_ENDPOINT_URL", "http://all"), ("AWS_ENDPOINT_URL_STS", "http://sts"));
        assert_eq!(sts(&[]), None);
        assert_eq!(sts(&[("AWS_ENDPOINT_URL_STS", "")]), None);
        assert_eq!(sts(&[of_all]).as_deref(), Some("http://all"));
        assert_eq!(sts(&[of_all, of_sts]).as_deref(), Some("http://sts"));
        let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        assert_ne!(sts(&[of_sts, ignored]), sts(&[of_sts]));
        assert_eq!(sts(&[ignored]), None);
    }
}
