//! One task's session as a state machine: no lock, no clock, no STS, no tokio. Whoever holds a cell asks it what to do
//! ([`read`](SessionCell::read), [`due`](SessionCell::due)), does it, and tells the cell how it went
//! ([`settle`](SessionCell::settle)).
//!
//! What a cell guarantees, by the numbers of the invariants in ARCHITECTURE.md:
//! one load at a time (1); a failed load discards nothing (3); nothing within the floor of its expiry is served (4); no load
//! before `retry_at` (5); a session born within the floor is a failure (7).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Session;
use super::policy::{Freshness, MAX_BACKOFF, backoff, refresh_at};
use crate::sts::{AssumeRoleError, FailureKind};

/// One task's session: there or not, being loaded or not, failing or not.
#[derive(Debug)]
pub struct SessionCell {
    session: Option<Current>,
    loading: bool,
    failure: Option<Failure>,
    used_at: SystemTime,
    /// The last time that the cell was looked at, which is at every sweep.
    seen_at: SystemTime,
}

#[derive(Debug)]
struct Current {
    session: Arc<Session>,
    refresh_at: SystemTime,
    /// The session's expiration, and earlier where the clock was set back since the load.
    ends_at: SystemTime,
}

/// A session as it stands in a cell: what another cell needs to go on with it, in this process or the next.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The session.
    pub session: Arc<Session>,
    /// When it is to be refreshed.
    pub refresh_at: SystemTime,
    /// When it ends: its expiration, and earlier where the clock was set back since the load.
    pub ends_at: SystemTime,
}

/// What a clock may be moved back without notice: it is read by several threads.
const CLOCK_NOISE: Duration = Duration::from_secs(1);

/// The failures since the last success.
#[derive(Debug)]
struct Failure {
    error: Arc<AssumeRoleError>,
    retry_at: SystemTime,
    in_a_row: u32,
    /// STS could not be reached, and has not named the time to try again: it may be back any moment.
    is_silent: bool,
}

/// What a reader is to do.
#[derive(Debug)]
pub enum Answer {
    /// Serve this.
    Session(Arc<Session>),
    /// Start a load and ask again. The cell counts it as started.
    Load,
    /// Wait until a load settles, or until `retry_at` if that comes first; then ask again.
    Wait {
        /// When the next load may start, if none is under way.
        retry_at: Option<SystemTime>,
        /// How the last load failed.
        cause: Option<Arc<AssumeRoleError>>,
    },
    /// STS has refused; waiting does not help.
    Refused(Arc<AssumeRoleError>),
}

/// What has become of a session after a load.
#[derive(Debug)]
pub enum Settled {
    /// There is a new one.
    Fresh(Arc<Session>),
    /// The load failed, for the `in_a_row`th time since the last success. `covered`: an older session is still served.
    Failed {
        /// Why.
        error: Arc<AssumeRoleError>,
        /// How many loads have failed since the last success, this one included.
        in_a_row: u32,
        /// Whether an older session is still there to be served.
        covered: bool,
    },
}

/// How a session stands.
#[derive(Clone, Debug)]
pub struct State {
    /// How long the session that is served still lasts; `None` when there is none to serve.
    pub left: Option<Duration>,
    /// When it ends.
    pub ends_at: Option<SystemTime>,
    /// How long ago it was to be refreshed; zero when it is not due.
    pub overdue: Duration,
    /// How the last load failed, if no session has come since.
    pub failure: Option<Arc<AssumeRoleError>>,
}

impl State {
    /// Every word that [`State::word`] has.
    pub const WORDS: [&str; 4] = ["served", "served_failing", "loading", "failing"];

    /// The state in a word: `served`, `served_failing` (an older session while loads fail), `loading`, `failing`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.left, &self.failure) {
            (Some(_), None) => "served",
            (Some(_), Some(_)) => "served_failing",
            (None, None) => "loading",
            (None, Some(_)) => "failing",
        }
    }
}

impl SessionCell {
    /// An empty cell. It counts as used now, so that it is loaded ahead of its first reader.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self { session: None, loading: false, failure: None, used_at: now, seen_at: now }
    }

    /// What a reader gets now.
    pub fn read(&mut self, now: SystemTime, fresh: &Freshness) -> Answer {
        self.observe(now);
        self.used_at = now;
        if let Some(session) = self.servable(now, fresh) {
            return Answer::Session(Arc::clone(session));
        }
        if self.loading {
            let cause = self.failure.as_ref().map(|failure| Arc::clone(&failure.error));
            return Answer::Wait { retry_at: None, cause };
        }
        match self.pause(now) {
            Some(Failure { error, .. }) if error.kind == FailureKind::Refused => Answer::Refused(Arc::clone(error)),
            Some(Failure { error, retry_at, .. }) => {
                Answer::Wait { retry_at: Some(*retry_at), cause: Some(Arc::clone(error)) }
            }
            None => {
                self.loading = true;
                Answer::Load
            }
        }
    }

    /// Since when a load is due that no reader waits for; `None` when none is.
    #[must_use]
    pub fn due(&mut self, now: SystemTime, fresh: &Freshness) -> Option<SystemTime> {
        self.observe(now);
        let idle = now.duration_since(self.used_at).is_ok_and(|idle| idle >= fresh.idle_after);
        if self.loading || idle || self.pause(now).is_some() {
            return None;
        }
        let since = match (&self.session, &self.failure) {
            (Some(current), _) => (current.refresh_at <= now).then_some(current.refresh_at),
            // Nobody waits for it and STS has said no: the next reader asks again, the sweep does not.
            (None, Some(failure)) if failure.error.kind == FailureKind::Refused => None,
            (None, _) => Some(self.used_at),
        };
        // A load that keeps failing is due since its last pause, and so stands behind all that became due before.
        since.map(|since| self.failure.as_ref().map_or(since, |failure| since.max(failure.retry_at)))
    }

    /// Marks a load as started, if one is due.
    pub fn start_if_due(&mut self, now: SystemTime, fresh: &Freshness) -> bool {
        let due = self.due(now, fresh).is_some();
        self.loading |= due;
        due
    }

    /// Takes the outcome of the load. `chance`, in `0.0..1.0`, spreads the next one.
    pub fn settle(
        &mut self,
        now: SystemTime,
        outcome: Result<Session, AssumeRoleError>,
        fresh: &Freshness,
        chance: f64,
    ) -> Settled {
        self.observe(now);
        self.loading = false;
        let is_silent = |error: &AssumeRoleError| error.kind == FailureKind::Unavailable && error.retry_after.is_none();
        let is_silent = outcome.as_ref().is_err_and(is_silent);
        let outcome = outcome.and_then(|session| match session.remaining(now) {
            left if left > fresh.floor => Ok(session),
            left => {
                let (left, floor) = (left.as_secs(), fresh.floor.as_secs_f64());
                let message =
                    format!("STS answered a session with {left} s left; none with {floor} s or less is served");
                let remedy = "compare the clocks of this machine and of STS";
                Err(AssumeRoleError::new(FailureKind::Unavailable, message, remedy))
            }
        });
        match outcome {
            Ok(session) => {
                let refresh_at = refresh_at(now, session.expiration(), chance);
                let session = Arc::new(session);
                let ends_at = session.expiration();
                self.session = Some(Current { session: Arc::clone(&session), refresh_at, ends_at });
                self.failure = None;
                Settled::Fresh(session)
            }
            Err(error) => {
                let error = Arc::new(error);
                let in_a_row = self.failure.as_ref().map_or(0, |failure| failure.in_a_row).saturating_add(1);
                let covered = self.servable(now, fresh).is_some();
                let retry_at = now + backoff(&error, in_a_row, covered, chance, fresh.longest_pause);
                self.failure = Some(Failure { error: Arc::clone(&error), retry_at, in_a_row, is_silent });
                Settled::Failed { error, in_a_row, covered }
            }
        }
    }

    /// The session that is served, if there is one.
    #[must_use]
    pub fn kept(&self, now: SystemTime, fresh: &Freshness) -> Option<Kept> {
        self.servable(now, fresh)?;
        let Current { session, refresh_at, ends_at } = self.session.as_ref()?;
        Some(Kept { session: Arc::clone(session), refresh_at: *refresh_at, ends_at: *ends_at })
    }

    /// Goes on with a session that was kept. Returns whether it is served from now on: not when there is one already, nor when it
    /// ends within the floor.
    pub fn resume(&mut self, now: SystemTime, kept: Kept, fresh: &Freshness) -> bool {
        self.observe(now);
        if self.servable(now, fresh).is_some() {
            return false;
        }
        let Kept { session, refresh_at, ends_at } = kept;
        let before = self.session.take();
        let ends_at = ends_at.min(session.expiration());
        self.session = Some(Current { session, refresh_at, ends_at });
        let is_served = self.servable(now, fresh).is_some();
        if !is_served {
            self.session = before;
        }
        is_served
    }

    /// Makes a load due now, whatever keeps it from being so: a session that is fresh, a pause after a failure, a refusal.
    pub fn refresh_now(&mut self, now: SystemTime) {
        self.used_at = now;
        self.failure = None;
        if let Some(current) = &mut self.session {
            current.refresh_at = current.refresh_at.min(now);
        }
    }

    /// How things stand now.
    #[must_use]
    pub fn state(&self, now: SystemTime, fresh: &Freshness) -> State {
        let current = self.session.as_ref().filter(|_| self.servable(now, fresh).is_some());
        State {
            ends_at: current.map(|current| current.ends_at),
            left: current.map(|current| current.ends_at.duration_since(now).unwrap_or_default()),
            overdue: current.and_then(|current| now.duration_since(current.refresh_at).ok()).unwrap_or_default(),
            failure: self.failure.as_ref().map(|failure| Arc::clone(&failure.error)),
        }
    }

    /// Lets a load that failed for want of STS be tried again at once, because STS is back. A refusal stays one.
    pub fn retry_now(&mut self, now: SystemTime) {
        if let Some(failure) = self.failure.as_mut().filter(|failure| failure.error.kind != FailureKind::Refused) {
            failure.retry_at = now;
        }
    }

    /// Until when no load starts because STS could not be reached; `None` when that is not so, or STS has named the time itself.
    #[must_use]
    pub fn silent_until(&self, now: SystemTime) -> Option<SystemTime> {
        let failure = self.pause(now).filter(|failure| failure.is_silent && !self.loading)?;
        Some(failure.retry_at)
    }

    fn servable(&self, now: SystemTime, fresh: &Freshness) -> Option<&Arc<Session>> {
        let lasts = |current: &&Current| current.ends_at.duration_since(now).is_ok_and(|left| left > fresh.floor);
        self.session.as_ref().filter(lasts).map(|current| &current.session)
    }

    /// Notices a clock that was set back: the session ends so much earlier by it, and is refreshed so much earlier. Were it not
    /// for this, a session would be served for as long after its true end as the clock is wrong.
    fn observe(&mut self, now: SystemTime) {
        if let Ok(back) = self.seen_at.duration_since(now)
            && back > CLOCK_NOISE
            && let Some(current) = &mut self.session
        {
            current.ends_at = current.ends_at.checked_sub(back).unwrap_or(SystemTime::UNIX_EPOCH);
            current.refresh_at = current.refresh_at.checked_sub(back).unwrap_or(SystemTime::UNIX_EPOCH);
        }
        self.seen_at = now;
    }

    /// The failure that keeps the next load from starting now. A `retry_at` further off than any backoff is long means that the
    /// wall clock was set back since: then it counts as past.
    fn pause(&self, now: SystemTime) -> Option<&Failure> {
        self.failure.as_ref().filter(|failure| {
            let wait = failure.retry_at.duration_since(now);
            wait.is_ok_and(|wait| !wait.is_zero() && wait <= MAX_BACKOFF)
        })
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
