//! How many STS calls the whole node may make: so many at once, and so many a second with a burst.
//!
//! Two ways in. A load that a reader waits for takes its turn in order ([`Budget::wait`]); a load that nobody waits for is
//! started only when there is room at once and nobody in the line ([`Budget::try_start`]). So readers go first without a queue
//! that ranks them.
//!
//! A slot is taken by who starts a call with it, never ahead: whoever leaves the line before its turn has cost the others nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// The limits of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetLimits {
    /// Calls a second in the long run.
    pub per_second: u32,
    /// Calls that may be made at once after a quiet time.
    pub burst: u32,
    /// Calls in flight at the same time.
    pub concurrent: u32,
}

impl Default for BudgetLimits {
    /// 10 calls a second, burst 50, 50 in flight: far below STS's 600 a second for an account, which other callers share.
    fn default() -> Self {
        Self { per_second: 10, burst: 50, concurrent: 50 }
    }
}

/// The node-wide budget of STS calls.
#[derive(Debug)]
pub struct Budget {
    in_flight: Arc<Semaphore>,
    /// Held by the first in the line until its call may start; the semaphore is fair, and its queue is the line.
    turn: Semaphore,
    interval: Duration,
    burst: u32,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    /// When the next call would be due if calls came at exactly `per_second` (GCRA's theoretical arrival time).
    next: Instant,
    /// When the pause ends, or the last one ended: STS has asked for fewer calls. `next` is so far off that nothing starts before.
    resume: Instant,
    /// How many pauses have followed each other without a call that STS took.
    pauses: u32,
}

/// The longest pause after throttling.
const MAX_PAUSE: Duration = Duration::from_secs(60);

impl Budget {
    /// A budget with its whole burst available.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        let now = Instant::now();
        Self {
            in_flight: Arc::new(Semaphore::new(limits.concurrent.max(1) as usize)),
            turn: Semaphore::new(1),
            interval: Duration::from_secs(1) / limits.per_second.max(1),
            burst: limits.burst.max(1),
            pace: Mutex::new(Pace { next: now, resume: now, pauses: 0 }),
        }
    }

    /// Room for one call now, or nothing; nothing while others wait.
    #[must_use]
    pub fn try_start(&self) -> Option<OwnedSemaphorePermit> {
        let _turn = self.turn.try_acquire().ok()?;
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().ok()?;
        self.take_slot().ok()?;
        Some(permit)
    }

    /// Waits for room, in the order of asking. Dropped before it returns, it has taken nothing.
    pub async fn wait(&self) -> OwnedSemaphorePermit {
        // The semaphores are never closed; if they were, nobody would ever get a turn.
        let Ok(_turn) = self.turn.acquire().await else { return std::future::pending().await };
        let Ok(permit) = Arc::clone(&self.in_flight).acquire_owned().await else { return std::future::pending().await };
        // A pause may begin meanwhile, so that the slot is due later than it was. There is no await between taking it and returning.
        while let Err(due) = self.take_slot() {
            sleep_until(due).await;
        }
        permit
    }

    /// Takes the slot of one call that starts now, or tells when it will be due.
    fn take_slot(&self) -> Result<(), Instant> {
        let now = Instant::now();
        let mut pace = self.pace();
        let due = now + pace.next.saturating_duration_since(now + self.slack());
        if due > now {
            return Err(due);
        }
        pace.next = pace.next.max(now) + self.interval;
        Ok(())
    }

    /// How many calls could start now, one after the other; none during a pause.
    #[must_use]
    pub fn available(&self) -> u32 {
        let now = Instant::now();
        let pace = self.pace();
        if pace.resume > now {
            return 0;
        }
        let ahead = (now + self.slack()).checked_duration_since(pace.next);
        let calls = ahead.map_or(0, |ahead| ahead.as_nanos() / self.interval.as_nanos() + 1);
        u32::try_from(calls).unwrap_or(u32::MAX).min(self.burst)
    }

    /// STS has asked for fewer calls: the node pauses, then goes on without a burst. A pause is as long as STS asks for, else
    /// 1 s, doubled each time it follows another; at most a minute. Throttling told during a pause is the same throttling.
    pub fn throttled(&self, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut pace = self.pace();
        if pace.resume > now {
            return;
        }
        let pause = retry_after.unwrap_or(Duration::from_secs(1 << pace.pauses.min(6)));
        pace.pauses = pace.pauses.saturating_add(1);
        pace.resume = now + pause.min(MAX_PAUSE);
        pace.next = pace.next.max(pace.resume + self.slack());
    }

    /// STS has taken a call: the next pause is a short one again.
    pub fn taken(&self) {
        self.pace().pauses = 0;
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the calls may run ahead of the long-run rate.
    fn slack(&self) -> Duration {
        self.interval * (self.burst - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const LIMITS: BudgetLimits = BudgetLimits { per_second: 10, burst: 50, concurrent: 1000 };

    #[tokio::test(start_paused = true)]
    async fn after_its_burst_the_budget_gives_ten_calls_a_second() {
        let budget = Budget::new(LIMITS);
        let count = || std::iter::from_fn(|| budget.try_start()).count();
        assert_eq!(budget.available(), 50);
        assert_eq!(count(), 50);
        assert_eq!(budget.available(), 0);
        advance(Duration::from_secs(1)).await;
        assert_eq!(budget.available(), 10);
        assert_eq!(count(), 10);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(count(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_a_turn_at_the_same_rate_and_before_those_that_do_not_wait() {
        let budget = Budget::new(LIMITS);
        let start = Instant::now();
        for _ in 0..80 {
            drop(budget.wait().await);
        }
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert!(budget.try_start().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_are_in_flight_than_allowed() {
        let budget = Budget::new(BudgetLimits { concurrent: 2, ..LIMITS });
        let held = [budget.try_start().unwrap(), budget.try_start().unwrap()];
        assert!(budget.try_start().is_none());
        drop(held);
        assert!(budget.try_start().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_pauses_the_node_for_readers_and_sweep_alike_and_takes_the_burst_away() {
        let budget = Budget::new(LIMITS);
        let start = Instant::now();
        budget.throttled(None);
        budget.throttled(None);
        assert!(budget.try_start().is_none());
        drop(budget.wait().await);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        assert!(budget.try_start().is_none(), "the burst is gone");
        advance(Duration::from_secs(1)).await;
        assert_eq!(std::iter::from_fn(|| budget.try_start()).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_until_sts_takes_a_call_and_follow_what_sts_asks_for() {
        let budget = Budget::new(LIMITS);
        let pause = |retry_after| {
            budget.throttled(retry_after);
            let until = budget.pace().resume;
            until - Instant::now()
        };
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let paused = pause(None);
            assert_eq!(paused, Duration::from_secs(seconds));
            advance(paused).await;
        }
        budget.taken();
        assert_eq!(pause(Some(Duration::from_secs(7))), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_the_line_before_its_turn_has_cost_the_others_nothing() {
        let budget = Budget::new(LIMITS);
        while budget.try_start().is_some() {}
        let start = Instant::now();
        for _ in 0..400 {
            assert!(timeout(Duration::ZERO, budget.wait()).await.is_err());
        }
        drop(budget.wait().await);
        assert_eq!(start.elapsed(), Duration::from_millis(100));
        // Nor does it where it was the next one, and others stand behind it.
        let mut leaves = Box::pin(budget.wait());
        assert!(timeout(Duration::from_millis(50), &mut leaves).await.is_err());
        let mut stays = Box::pin(budget.wait());
        assert!(timeout(Duration::from_millis(49), &mut stays).await.is_err());
        drop(leaves);
        drop(stays.await);
        assert_eq!(start.elapsed(), Duration::from_millis(200));
        advance(Duration::from_secs(1)).await;
        assert_eq!(std::iter::from_fn(|| budget.try_start()).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_nobody_waits_for_passes_nobody_in_the_line() {
        for concurrent in [1, 1000] {
            let budget = Budget::new(BudgetLimits { concurrent, ..LIMITS });
            while budget.try_start().is_some() {}
            let mut waits = Box::pin(budget.wait());
            assert!(timeout(Duration::ZERO, &mut waits).await.is_err());
            // It is its turn, which it has not noticed yet.
            advance(Duration::from_millis(150)).await;
            assert!(budget.try_start().is_none(), "{concurrent} at once");
            drop(waits.await);
            advance(Duration::from_millis(100)).await;
            assert!(budget.try_start().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_in_the_line_when_throttling_begins_go_on_at_the_long_run_rate() {
        let budget = Budget::new(LIMITS);
        while budget.try_start().is_some() {}
        let start = Instant::now();
        let line = async {
            for _ in 0..5 {
                drop(budget.wait().await);
            }
        };
        tokio::join!(line, async { budget.throttled(Some(Duration::from_secs(7))) });
        assert_eq!(start.elapsed(), Duration::from_millis(7_400));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Somebody joins the line and leaves it after so many milliseconds at the latest.
        Wait(u64),
        TryStart,
        Throttled(u64),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..2_000u64).prop_map(Step::Wait),
            2 => Just(Step::Wait(u64::from(u32::MAX))),
            2 => Just(Step::TryStart),
            4 => (0..300u64).prop_map(Step::Pass),
            1 => (1..3_000u64).prop_map(Step::Throttled),
        ];
        proptest::collection::vec(step, 0..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        /// Whoever comes and leaves: in no stretch of time do more calls start than the burst and what the rate adds, none starts in a pause,
        /// those that wait start in the order of asking, and who stays gets its turn.
        #[test]
        fn rate_burst_pauses_and_order_hold_whoever_comes_and_leaves(
            steps in steps(), per_second in 1..40u32, burst in 1..8u32, concurrent in 1..4u32,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let budget = Arc::new(Budget::new(BudgetLimits { per_second, burst, concurrent }));
                let starts = Arc::new(Mutex::new(Vec::new()));
                let mut line = tokio::task::JoinSet::new();
                let (mut pauses, mut staying) = (Vec::new(), 0);
                for (number, step) in steps.into_iter().enumerate() {
                    match step {
                        Step::Wait(milliseconds) => {
                            staying += usize::from(milliseconds > 10_000);
                            let (budget, starts) = (Arc::clone(&budget), Arc::clone(&starts));
                            let patience = Duration::from_millis(milliseconds);
                            line.spawn(async move {
                                let Ok(room) = timeout(patience, budget.wait()).await else { return false };
                                starts.lock().unwrap().push((Instant::now(), Some(number)));
                                sleep(Duration::from_millis(30)).await;
                                drop(room);
                                patience > Duration::from_secs(10)
                            });
                        }
                        Step::TryStart => {
                            if let Some(room) = budget.try_start() {
                                starts.lock().unwrap().push((Instant::now(), None));
                                line.spawn(async move {
                                    sleep(Duration::from_millis(30)).await;
                                    drop(room);
                                    false
                                });
                            }
                        }
                        Step::Throttled(milliseconds) => {
                            budget.throttled(Some(Duration::from_millis(milliseconds)));
                            pauses.push((Instant::now(), budget.pace().resume));
                        }
                        Step::Pass(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
                    }
                    // Whoever has joined stands in the line before the next step.
                    for _ in 0..4 {
                        tokio::task::yield_now().await;
                    }
                }
                let mut stayed = 0;
                while let Some(got) = line.join_next().await {
                    stayed += usize::from(got.unwrap());
                }
                prop_assert_eq!(stayed, staying);
                let starts = starts.lock().unwrap();
                let order: Vec<_> = starts.iter().filter_map(|(_, number)| *number).collect();
                prop_assert!(order.is_sorted(), "{:?}", order);
                for (first, (from, _)) in starts.iter().enumerate() {
                    for (last, (until, _)) in starts.iter().enumerate().skip(first) {
                        let added = (*until - *from).as_secs_f64() * f64::from(per_second);
                        let calls = (last - first + 1) as f64;
                        prop_assert!(calls <= f64::from(burst) + added + 1e-6, "{} calls, {} added", calls, added);
                    }
                    prop_assert!(!pauses.iter().any(|(begun, ended)| (begun..ended).contains(&from) && begun != from));
                }
                Ok(())
            })?;
        }
    }
}
