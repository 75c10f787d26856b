//! How many STS calls the whole node may make: so many at once, and so many a second with a burst.
//!
//! Two ways in. A load that a reader waits for takes its turn in order ([`Budget::wait`]); a load that nobody waits for is
//! started only when there is room at once ([`Budget::try_start`]). So readers go first without a queue that ranks them.

use std::sync::{Arc, Mutex, PoisonError};
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
    /// When the next call would be due if calls came at exactly `per_second` (GCRA's theoretical arrival time).
    next: Mutex<Instant>,
}

impl Budget {
    /// A budget with its whole burst available.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        Self {
            in_flight: Arc::new(Semaphore::new(limits.concurrent.max(1) as usize)),
            interval: Duration::from_secs(1) / limits.per_second.max(1),
            burst: limits.burst.max(1),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Room for one call now, or nothing.
    #[must_use]
    pub fn try_start(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().ok()?;
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if *next > now + self.slack() {
            return None;
        }
        *next = (*next).max(now) + self.interval;
        Some(permit)
    }

    /// Waits for room, in the order of asking.
    pub async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.in_flight).acquire_owned().await.ok()?;
        let due = {
            let now = Instant::now();
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let due = next.checked_sub(self.slack()).unwrap_or(now);
            *next = (*next).max(now) + self.interval;
            due
        };
        sleep_until(due).await;
        Some(permit)
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
        assert_eq!(count(), 50);
        tokio::time::advance(Duration::from_secs(1)).await;
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
}
