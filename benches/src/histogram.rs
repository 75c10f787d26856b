//! Durations counted in buckets that are at most 1.6 % wide.

use std::time::Duration;

/// Each power of two of nanoseconds is cut into this many buckets.
const PER_OCTAVE: u64 = 64;
const OCTAVE_BITS: u32 = PER_OCTAVE.ilog2();
const BUCKETS: usize = 64 << OCTAVE_BITS;

/// How often which duration was seen.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS] }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.buckets.get_mut(bucket(nanoseconds)) {
            *count += 1;
        }
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration that `share` (0.0 to 1.0) of those counted do not exceed; zero when there are none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank between 0 and the count, and counts are far below 2^52"
    )]
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(middle(index as u64));
            }
        }
        Duration::ZERO
    }
}

/// Values below [`PER_OCTAVE`] have buckets of their own; above, the leading bits say which.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(OCTAVE_BITS + 1);
    let index = u64::from(shift) * PER_OCTAVE + (value >> shift);
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn middle(index: u64) -> u64 {
    let shift = (index / PER_OCTAVE).saturating_sub(1);
    ((index - shift * PER_OCTAVE) << shift) + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_within_one_in_sixty() {
        for value in (0..64_u32).flat_map(|bit| [1_u64 << bit, (1_u64 << bit) / 3 * 4, (1_u64 << bit) - 1]) {
            let back = middle(bucket(value) as u64);
            assert!(back.abs_diff(value) <= value / 60, "{value} came back as {back}");
            assert!(bucket(value) < BUCKETS, "{value}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        assert_eq!(one.percentile(0.5), Duration::ZERO);
        (1..=50).for_each(|us| one.record(Duration::from_micros(us)));
        (51..=100).for_each(|us| two.record(Duration::from_micros(us)));
        one.add(&two);
        assert_eq!(one.count(), 100);
        for (share, us) in [(0.01, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = one.percentile(share).as_secs_f64() * 1e6;
            assert!((found - us).abs() <= us / 60.0, "{share}: {found}");
        }
    }
}
