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
    /// The last time that the cell was looked at, which is once a second.
    seen_at: SystemTime,
}

#[derive(Debug)]
struct Current {
    session: Arc<Session>,
    refresh_at: SystemTime,
    /// The session's expiration, and earlier where the clock was set back since the load.
    ends_at: SystemTime,
}

/// What a clock may be moved back without notice: it is read by several threads.
const CLOCK_NOISE: Duration = Duration::from_secs(1);

/// The failures since the last success.
#[derive(Debug)]
struct Failure {
    error: Arc<AssumeRoleError>,
    retry_at: SystemTime,
    in_a_row: u32,
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
    /// How long ago it was to be refreshed; zero when it is not due.
    pub overdue: Duration,
    /// How the last load failed, if no session has come since.
    pub failure: Option<Arc<AssumeRoleError>>,
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
        let outcome = outcome.and_then(|session| match session.remaining(now) {
            left if left > fresh.floor => Ok(session),
            left => {
                let (left, floor) = (left.as_secs(), fresh.floor.as_secs());
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
                let retry_at = now + backoff(&error, in_a_row, covered, chance);
                self.failure = Some(Failure { error: Arc::clone(&error), retry_at, in_a_row });
                Settled::Failed { error, in_a_row, covered }
            }
        }
    }

    /// How things stand now.
    #[must_use]
    pub fn state(&self, now: SystemTime, fresh: &Freshness) -> State {
        let current = self.session.as_ref().filter(|_| self.servable(now, fresh).is_some());
        State {
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_util::{EPOCH, session_until};

    const FRESH: Freshness = Freshness {
        floor: Duration::from_secs(30),
        patience: Duration::from_millis(700),
        idle_after: Duration::from_secs(7200),
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn failure(kind: FailureKind) -> AssumeRoleError {
        AssumeRoleError::new(kind, "scripted", "wait")
    }

    fn loaded(life: u64) -> SessionCell {
        let mut cell = SessionCell::new(EPOCH);
        assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
        cell.settle(EPOCH, Ok(session_until(EPOCH + seconds(life))), &FRESH, 0.0);
        cell
    }

    #[test]
    fn invariant_1_a_second_reader_waits_for_the_load_of_the_first() {
        let mut cell = SessionCell::new(EPOCH);
        assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
        assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Wait { retry_at: None, cause: None }));
        assert_eq!(cell.due(EPOCH, &FRESH), None);
    }

    #[test]
    fn invariant_3_a_failed_load_never_discards_a_session_that_is_still_valid() {
        for kind in
            [FailureKind::Refused, FailureKind::Throttled, FailureKind::Unavailable, FailureKind::BaseCredentials]
        {
            let mut cell = loaded(3600);
            let now = EPOCH + seconds(1800);
            assert!(cell.start_if_due(now, &FRESH));
            let settled = cell.settle(now, Err(failure(kind)), &FRESH, 0.5);
            assert!(matches!(settled, Settled::Failed { covered: true, in_a_row: 1, .. }));
            assert!(matches!(cell.read(EPOCH + seconds(3569), &FRESH), Answer::Session(_)));
        }
    }

    #[test]
    fn invariant_4_nothing_within_the_floor_of_its_expiry_is_served() {
        let mut cell = loaded(3600);
        assert!(matches!(cell.read(EPOCH + seconds(3569), &FRESH), Answer::Session(_)));
        assert!(matches!(cell.read(EPOCH + seconds(3570), &FRESH), Answer::Load));
        assert!(matches!(cell.read(EPOCH + seconds(4000), &FRESH), Answer::Wait { .. }));
    }

    #[test]
    fn invariant_5_after_a_failure_no_load_starts_before_retry_at() {
        let mut cell = SessionCell::new(EPOCH);
        assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
        cell.settle(EPOCH, Err(failure(FailureKind::Refused)), &FRESH, 0.0);
        let early = EPOCH + Duration::from_millis(9_999);
        assert!(matches!(cell.read(early, &FRESH), Answer::Refused(_)));
        assert_eq!(cell.due(early, &FRESH), None);
        assert!(matches!(cell.read(EPOCH + seconds(10), &FRESH), Answer::Load));
    }

    #[test]
    fn a_reader_in_a_pause_after_an_outage_learns_when_the_next_load_may_start() {
        let mut cell = SessionCell::new(EPOCH);
        assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
        cell.settle(EPOCH, Err(failure(FailureKind::Unavailable)), &FRESH, 0.5);
        let Answer::Wait { retry_at: Some(at), cause: Some(_) } = cell.read(EPOCH, &FRESH) else { panic!() };
        assert_eq!(at, EPOCH + Duration::from_millis(500));
    }

    #[test]
    fn invariant_7_a_session_born_within_the_floor_is_a_failure() {
        let mut cell = SessionCell::new(EPOCH);
        assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
        let settled = cell.settle(EPOCH, Ok(session_until(EPOCH + seconds(30))), &FRESH, 0.5);
        assert!(matches!(settled, Settled::Failed { covered: false, .. }));
        assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Wait { retry_at: Some(_), .. }));
    }

    #[test]
    fn a_clock_set_back_does_not_keep_a_failure_in_force() {
        let mut cell = SessionCell::new(EPOCH + seconds(100_000));
        assert!(matches!(cell.read(EPOCH + seconds(100_000), &FRESH), Answer::Load));
        cell.settle(EPOCH + seconds(100_000), Err(failure(FailureKind::Refused)), &FRESH, 0.5);
        assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
    }

    #[test]
    fn a_clock_set_back_does_not_prolong_a_session() {
        let base = EPOCH + seconds(100_000);
        let mut cell = SessionCell::new(base);
        assert!(matches!(cell.read(base, &FRESH), Answer::Load));
        cell.settle(base, Ok(session_until(base + seconds(3_600))), &FRESH, 0.0);
        // Ten minutes later the clock is set back by six hours.
        assert_eq!(cell.due(base + seconds(600), &FRESH), None);
        let now = base + seconds(600) - seconds(21_600);
        assert!(matches!(cell.read(now, &FRESH), Answer::Session(_)));
        assert!(cell.due(now + seconds(1_020), &FRESH).is_some(), "it is refreshed at 45 % of its life");
        assert!(matches!(cell.read(now + seconds(2_969), &FRESH), Answer::Session(_)));
        assert!(matches!(cell.read(now + seconds(2_970), &FRESH), Answer::Load));
    }

    #[test]
    fn a_load_that_keeps_failing_stands_behind_those_that_became_due_before() {
        let mut cell = SessionCell::new(EPOCH);
        assert!(cell.start_if_due(EPOCH, &FRESH));
        cell.settle(EPOCH, Err(failure(FailureKind::Unavailable)), &FRESH, 0.5);
        let retry_at = EPOCH + Duration::from_millis(500);
        assert_eq!(cell.due(retry_at, &FRESH), Some(retry_at));
    }

    #[test]
    fn a_session_nobody_reads_lapses_until_somebody_asks() {
        let mut cell = loaded(43_200);
        let now = EPOCH + seconds(30_000);
        assert_eq!(cell.due(now, &FRESH), None);
        assert!(matches!(cell.read(now, &FRESH), Answer::Session(_)));
        assert_eq!(cell.due(now, &FRESH), Some(EPOCH + seconds(43_200).mul_f64(0.45)));
    }

    #[test]
    fn a_refused_task_is_loaded_again_by_its_readers_only() {
        let mut cell = SessionCell::new(EPOCH);
        assert!(cell.start_if_due(EPOCH, &FRESH));
        cell.settle(EPOCH, Err(failure(FailureKind::Refused)), &FRESH, 0.5);
        assert_eq!(cell.due(EPOCH + seconds(60), &FRESH), None);
        assert!(matches!(cell.read(EPOCH + seconds(60), &FRESH), Answer::Load));
    }

    /// What may happen to a cell.
    #[derive(Clone, Debug)]
    enum Step {
        Pass(u64),
        Read,
        Sweep,
        Succeed(u64),
        Fail(FailureKind),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let kind = prop_oneof![
            Just(FailureKind::Refused),
            Just(FailureKind::Throttled),
            Just(FailureKind::Unavailable),
            Just(FailureKind::BaseCredentials),
        ];
        let step = prop_oneof![
            (0..4_000_000u64).prop_map(Step::Pass),
            Just(Step::Read),
            Just(Step::Sweep),
            (0..7_200u64).prop_map(Step::Succeed),
            kind.prop_map(Step::Fail),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        /// The model knows three things: until when the last good session lasts, whether a load is under way, and before when
        /// none may start.
        #[test]
        fn a_cell_behaves_like_its_model(steps in steps(), chance in 0.0..1.0f64) {
            let (mut cell, mut now) = (SessionCell::new(EPOCH), EPOCH);
            let (mut good_until, mut loading, mut not_before) = (EPOCH, false, EPOCH);
            for step in steps {
                let servable = good_until > now + FRESH.floor;
                let may_load = !loading && now >= not_before;
                match step {
                    Step::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                    Step::Read => match cell.read(now, &FRESH) {
                        Answer::Session(session) => {
                            prop_assert!(servable);
                            prop_assert_eq!(session.expiration(), good_until);
                        }
                        Answer::Load => {
                            prop_assert!(!servable && may_load);
                            loading = true;
                        }
                        Answer::Wait { retry_at, .. } => {
                            prop_assert!(!servable && !may_load);
                            prop_assert_eq!(retry_at, (!loading).then_some(not_before));
                        }
                        Answer::Refused(_) => prop_assert!(!servable && !loading && now < not_before),
                    },
                    Step::Sweep => {
                        if cell.start_if_due(now, &FRESH) {
                            prop_assert!(may_load);
                            loading = true;
                        }
                    }
                    Step::Succeed(life) if loading => {
                        loading = false;
                        let fresh = life > FRESH.floor.as_secs();
                        match cell.settle(now, Ok(session_until(now + seconds(life))), &FRESH, chance) {
                            Settled::Fresh(_) => {
                                prop_assert!(fresh);
                                (good_until, not_before) = (now + seconds(life), now);
                            }
                            Settled::Failed { error, in_a_row, covered } => {
                                prop_assert!(!fresh);
                                prop_assert_eq!(covered, servable);
                                not_before = now + backoff(&error, in_a_row, covered, chance);
                            }
                        }
                    }
                    Step::Fail(kind) if loading => {
                        loading = false;
                        let Settled::Failed { error, in_a_row, covered } =
                            cell.settle(now, Err(failure(kind)), &FRESH, chance) else { panic!("a failure settled as fresh") };
                        prop_assert_eq!(covered, servable);
                        not_before = now + backoff(&error, in_a_row, covered, chance);
                    }
                    Step::Succeed(_) | Step::Fail(_) => {}
                }
            }
        }
    }
}
