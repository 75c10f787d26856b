//! The sessions as they are now, put where the next process finds them.
//!
//! What it guarantees: once [`Keeper::keep_or_clear`] has returned without an error, no session is kept that had ended before the call.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use taskcreds_core::{Kept, LeaseId, SessionCache, Task};

#[cfg(not(target_os = "linux"))]
use super::elsewhere::Place;
#[cfg(target_os = "linux")]
use super::place::Place;
use super::snapshot;

/// Which sessions there are, told apart by what every load sets anew.
pub(super) type Contents = HashMap<LeaseId, (SystemTime, SystemTime)>;

/// What keeps the sessions. Its calls block, for milliseconds, and longer while the service manager does not listen.
pub(super) struct Keeper {
    pub(super) place: Place,
    /// Which STS they are from, see [`super::sts_of`].
    pub(super) sts: Option<String>,
    /// What was kept last; `None` when that is not known.
    pub(super) kept: Option<Contents>,
    pub(super) generation: u64,
    pub(super) is_failing: bool,
}

impl Keeper {
    /// Keeps the sessions as they are now, if they are not what was kept last, or that is gone.
    ///
    /// # Errors
    /// The system's; those before are still kept then.
    pub(super) fn keep(&mut self, sessions: &SessionCache) -> io::Result<()> {
        if matches!(self.place, Place::Nowhere) {
            return Ok(());
        }
        let kept = sessions.kept();
        let contents = contents(&kept);
        if self.kept.as_ref() == Some(&contents) && (contents.is_empty() || self.place.has_it()) {
            return Ok(());
        }
        let now = SystemTime::now();
        // Higher than any before, whatever was done to the clock.
        let generation = snapshot::since_1970(now).max(self.generation.saturating_add(1));
        let bytes = snapshot::write(&kept, generation, now, self.sts.as_deref())?;
        match self.place.write(&bytes) {
            Ok(()) => {
                (self.kept, self.generation, self.is_failing) = (Some(contents), generation, false);
                tracing::debug!(sessions = kept.len(), "kept for the next process");
                Ok(())
            }
            Err(error) => {
                self.kept = None;
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "the sessions cannot be kept for the next process; trying again until it goes");
                }
                Err(error)
            }
        }
    }

    /// The same; where that fails nothing is kept any more.
    ///
    /// # Errors
    /// The system's; what was kept before may still be there.
    #[cfg(unix)]
    pub(super) fn keep_or_clear(&mut self, sessions: &SessionCache) -> io::Result<()> {
        self.keep(sessions).or_else(|_| self.place.clear())
    }
}

pub(super) fn contents(kept: &[(Arc<Task>, Kept)]) -> Contents {
    kept.iter().map(|(task, kept)| (task.lease().id(), (kept.refresh_at, kept.ends_at))).collect()
}
