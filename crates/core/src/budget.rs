//! How many STS calls the whole node may make: so many at once, and so many a second with a burst.
//!
//! Two ways in. A load that a reader waits for takes its turn in order ([`Budget::wait`]); a load that nobody waits for is
//! started only when there is room at once ([`Budget::try_start`]). So readers go first without a queue that ranks them.

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
    interval: Duration,
    burst: u32,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    /// When the next call would be due if calls came at exactly `per_second` (GCRA's theoretical arrival time).
    next: Instant,
    /// Before this nothing starts: STS has asked for fewer calls.
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
            interval: Duration::from_secs(1) / limits.per_second.max(1),
            burst: limits.burst.max(1),
            pace: Mutex::new(Pace { next: now, resume: now, pauses: 0 }),
        }
    }

    /// Room for one call now, or nothing.
    #[must_use]
    pub fn try_start(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().ok()?;
        let now = Instant::now();
        let mut pace = self.pace();
        if pace.next > now + self.slack() || pace.resume > now {
            return None;
        }
        pace.next = pace.next.max(now) + self.interval;
        Some(permit)
    }

    /// Waits for room, in the order of asking.
    pub async fn wait(&self) -> OwnedSemaphorePermit {
        // The semaphore is never closed; if it were, nobody would ever get a turn.
        let Ok(permit) = Arc::clone(&self.in_flight).acquire_owned().await else { return std::future::pending().await };
        let mut due = {
            let now = Instant::now();
            let mut pace = self.pace();
            let due = pace.next.checked_sub(self.slack()).unwrap_or(now);
            pace.next = pace.next.max(now) + self.interval;
            due.max(pace.resume)
        };
        loop {
            sleep_until(due).await;
            // A pause may have begun meanwhile.
            due = self.pace().resume;
            if due <= Instant::now() {
                return permit;
            }
        }
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
    use super::*;

    const LIMITS: BudgetLimits = BudgetLimits { per_second: 10, burst: 50, concurrent: 1000 };

    #[tokio::test(start_paused = true)]
    async fn after_its_burst_the_budget_gives_ten_calls_a_second() {
        let budget = Budget::new(LIMITS);
        let count = || std::iter::from_fn(|| budget.try_start()).count();
        assert_eq!(budget.available(), 50);
        assert_eq!(count(), 50);
        assert_eq!(budget.available(), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(budget.available(), 10);
        assert_eq!(count(), 10);
        tokio::time::advance(Duration::from_secs(3600)).await;
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
        tokio::time::advance(Duration::from_secs(1)).await;
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
            tokio::time::advance(paused).await;
        }
        budget.taken();
        assert_eq!(pause(Some(Duration::from_secs(7))), Duration::from_secs(7));
    }
}
