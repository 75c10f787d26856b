//! When to load, when to serve, when to try again. Every function takes what it needs, `now` and chance included, and
//! returns a value; nothing is done here.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::sts::{AssumeRoleError, FailureKind};

/// How fresh sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Freshness {
    /// A session with no more than this left is not served: rusoto asks without end below 20 s, and others would use it.
    pub floor: Duration,
    /// How long a request waits for a session that is not there yet. Clients give up at 1 s.
    pub patience: Duration,
    /// A session that nobody has read for this long is not refreshed any more, until somebody asks.
    pub idle_after: Duration,
    /// How often the sweep looks for sessions to refresh.
    pub sweep_every: Duration,
    /// How long STS is left alone after a failure at most, in all cases.
    pub longest_pause: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            floor: Duration::from_secs(30),
            patience: Duration::from_millis(700),
            idle_after: Duration::from_secs(24 * 3600),
            sweep_every: Duration::from_secs(1),
            longest_pause: MAX_BACKOFF,
        }
    }
}

impl Freshness {
    /// The same rules for sessions that last so long, which an STS for tests gives: what is counted in seconds of an hour is counted in
    /// parts of that life, so that a session of one second can be served at all. From 12 minutes on they are the rules of every other
    /// session.
    ///
    /// What keeps STS from a hot loop stays as it is: a session born within the floor is a failure, and after a failure there are 100 ms
    /// at least.
    #[must_use]
    pub fn for_sessions_of(life: Duration) -> Self {
        let usual = Self::default();
        Self {
            floor: (life / 10).min(usual.floor),
            sweep_every: (life / 10).clamp(SHORTEST_SWEEP, usual.sweep_every),
            longest_pause: (life / 4).clamp(SHORTEST_PAUSE, usual.longest_pause),
            ..usual
        }
    }
}

/// A sweep looks at every session; more often would cost more than it brings.
const SHORTEST_SWEEP: Duration = Duration::from_millis(50);
/// After a failure STS is left alone for this long, whatever else holds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The part of a session's life after which it is refreshed, at the earliest and at the latest. Spread, so that sessions
/// born together are not refreshed together; early, so that nobody sees less than 25 minutes of an hour.
const REFRESH: std::ops::Range<f64> = 0.45..0.58;

/// A number in `0.0..1.0` that is far from the last ones: a Weyl sequence with the golden ratio from a random start. Sessions born
/// together are refreshed evenly apart, where independent random numbers would bunch (64 of 2,000 in the busiest ten seconds of
/// 468, at 43 on average).
#[must_use]
pub fn spread() -> f64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(fastrand::u64(..)));
    const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / phi
    let position = NEXT.fetch_add(GOLDEN_RATIO, Ordering::Relaxed);
    (position >> 11) as f64 / (1u64 << 53) as f64
}

/// When a session loaded at `now` is to be refreshed. `chance` is in `0.0..1.0`.
pub(crate) fn refresh_at(now: SystemTime, expiration: SystemTime, chance: f64) -> SystemTime {
    let life = expiration.duration_since(now).unwrap_or_default();
    now + life.mul_f64(REFRESH.start + (REFRESH.end - REFRESH.start) * chance)
}

/// The longest time that [`backoff`] returns.
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(180);

/// How long to leave STS alone after the `failures`th failure in a row. `chance` is in `0.0..1.0`; `covered` says whether a
/// session is still there to be served meanwhile.
/// `longest` is the limit of all of it.
pub(crate) fn backoff(
    error: &AssumeRoleError,
    failures: u32,
    covered: bool,
    chance: f64,
    longest: Duration,
) -> Duration {
    let between =
        |from: u64, to: u64| Duration::from_secs(from).mul_f64(1.0 + (to as f64 / from as f64 - 1.0) * chance);
    let own = match error.kind {
        // IAM is eventually consistent and policies get repaired: look again, but slowly, and slower while readers are served.
        FailureKind::Refused if covered => between(60, 180),
        FailureKind::Refused => between(10, 30),
        // Full jitter over a ceiling that doubles (1, 2, 4 … 30 s), never quite zero.
        FailureKind::Throttled | FailureKind::Unavailable | FailureKind::BaseCredentials => {
            let ceiling = Duration::from_secs(1 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(30));
            ceiling.mul_f64(chance).max(SHORTEST_PAUSE)
        }
    };
    own.max(error.retry_after.unwrap_or_default()).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::EPOCH;

    #[test]
    fn a_one_hour_session_is_refreshed_while_more_than_25_minutes_are_left() {
        let expiration = EPOCH + Duration::from_secs(3600);
        assert_eq!(refresh_at(EPOCH, expiration, 0.0), EPOCH + Duration::from_secs(1620));
        let latest = refresh_at(EPOCH, expiration, 0.999_999);
        assert!(expiration.duration_since(latest).unwrap() > Duration::from_secs(25 * 60));
    }

    #[test]
    fn backoff_grows_with_failures_and_is_never_zero_nor_longer_than_its_cap() {
        for kind in [FailureKind::Throttled, FailureKind::Unavailable, FailureKind::BaseCredentials] {
            let error = AssumeRoleError::new(kind, "x", "y");
            for failures in [0, 1, 2, 5, 6, 100, u32::MAX] {
                for chance in [0.0, 0.5, 0.999_999] {
                    let wait = backoff(&error, failures, false, chance, MAX_BACKOFF);
                    assert!(wait >= Duration::from_millis(100) && wait <= Duration::from_secs(30), "{wait:?}");
                }
            }
            assert!(backoff(&error, 1, false, 0.9, MAX_BACKOFF) < backoff(&error, 4, false, 0.9, MAX_BACKOFF));
        }
    }

    #[test]
    fn a_refusal_is_looked_at_again_after_10_to_30_seconds_and_slower_while_readers_are_served() {
        let error = AssumeRoleError::new(FailureKind::Refused, "x", "y");
        assert_eq!(backoff(&error, 9, false, 0.0, MAX_BACKOFF), Duration::from_secs(10));
        assert!(backoff(&error, 9, false, 0.999_999, MAX_BACKOFF) <= Duration::from_secs(30));
        assert_eq!(backoff(&error, 9, true, 0.0, MAX_BACKOFF), Duration::from_secs(60));
    }

    #[test]
    fn retry_after_is_honoured_up_to_the_cap() {
        let after = |seconds| AssumeRoleError {
            retry_after: Some(Duration::from_secs(seconds)),
            ..AssumeRoleError::new(FailureKind::Throttled, "x", "y")
        };
        assert_eq!(backoff(&after(20), 1, false, 0.5, MAX_BACKOFF), Duration::from_secs(20));
        assert_eq!(backoff(&after(86_400), 1, false, 0.5, MAX_BACKOFF), MAX_BACKOFF);
    }

    #[test]
    fn short_sessions_have_the_same_rules_in_parts_of_their_life_and_long_ones_the_usual_ones() {
        let of = |seconds| Freshness::for_sessions_of(Duration::from_secs(seconds));
        assert_eq!(of(720), Freshness::default());
        assert_eq!(of(43_200), Freshness::default());
        for seconds in 1..720 {
            let (short, life) = (of(seconds), Duration::from_secs(seconds));
            let latest = refresh_at(EPOCH, EPOCH + life, 0.999_999).duration_since(EPOCH).unwrap();
            assert!(latest + short.sweep_every < life - short.floor, "{seconds} s: it is refreshed before its floor");
            assert!(short.longest_pause >= SHORTEST_PAUSE && short.floor > Duration::ZERO);
        }
    }

    #[test]
    fn a_pause_between_loads_of_short_sessions_is_a_part_of_their_life_and_never_less_than_a_tenth_of_a_second() {
        for kind in FailureKind::ALL {
            let error = AssumeRoleError::new(kind, "x", "y");
            for failures in [0, 1, 5, u32::MAX] {
                for chance in [0.0, 0.5, 0.999_999] {
                    let longest = Freshness::for_sessions_of(Duration::from_secs(1)).longest_pause;
                    let wait = backoff(&error, failures, false, chance, longest);
                    assert!(wait >= SHORTEST_PAUSE && wait <= Duration::from_millis(250), "{wait:?}");
                }
            }
        }
    }
}
