//! From rounds to the figures that are printed, and whether they meet the aims.

use std::fmt::Write;

use crate::load::Round;

/// At least this share of the bare server's requests a second.
pub const AIM_REQUESTS: f64 = 0.90;
/// At most this multiple of the bare server's CPU time for a request.
pub const AIM_CPU: f64 = 1.15;
/// The same with the audit log on.
pub const AIM_CPU_WITH_AUDIT: f64 = 1.25;
/// At most so many MB resident before the first load.
pub const AIM_IDLE_MB: f64 = 10.0;
/// At most so many milliseconds from the start of the process to its first answer.
pub const AIM_START_MS: f64 = 20.0;

/// The rounds of one number of connections: proxy and bare server, one right after the other.
#[derive(Debug)]
pub struct Level {
    /// How many connections.
    pub connections: usize,
    /// Proxy first, whichever went first.
    pub rounds: Vec<(Round, Round)>,
}

/// The middle of several measurements, and the two ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle, or between the two in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; all zero when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let (count, last) = (values.len(), values.len().saturating_sub(1));
        Self { min: at(0), median: f64::midpoint(at(last / 2), at(count / 2)), max: at(last) }
    }
}

/// One column of the table.
type Figure = fn(&Round) -> f64;

const FIGURES: [(Figure, usize); 4] = [(requests_per_second, 0), (cpu_per_100k, 3), (p50, 0), (p99, 0)];

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn requests_per_second(round: &Round) -> f64 {
    round.requests() as f64 / round.seconds
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn cpu_per_100k(round: &Round) -> f64 {
    round.cpu_seconds / round.requests() as f64 * 1e5
}

fn p50(round: &Round) -> f64 {
    round.latency.percentile(0.50).as_secs_f64() * 1e6
}

fn p99(round: &Round) -> f64 {
    round.latency.percentile(0.99).as_secs_f64() * 1e6
}

impl Level {
    /// The proxy's figure divided by the bare server's, round by round.
    fn ratio(&self, figure: Figure) -> Spread {
        Spread::of(self.rounds.iter().map(|(proxy, bare)| figure(proxy) / figure(bare)))
    }

    fn rows(&self) -> String {
        let mut rows = String::new();
        let proxy = FIGURES.map(|(figure, _)| Spread::of(self.rounds.iter().map(|(proxy, _)| figure(proxy))).median);
        let bare = FIGURES.map(|(figure, _)| Spread::of(self.rounds.iter().map(|(_, bare)| figure(bare))).median);
        for (server, figures) in [("taskcreds", proxy), ("bare axum", bare)] {
            let _ = write!(rows, "| {} | {server} |", self.connections);
            for ((_, digits), figure) in FIGURES.iter().zip(figures) {
                let _ = write!(rows, " {figure:.digits$} |");
            }
            rows.push('\n');
        }
        let _ = write!(rows, "| {} | **ratio** |", self.connections);
        for (figure, _) in FIGURES {
            let Spread { min, median, max } = self.ratio(figure);
            let _ = write!(rows, " **{median:.2}** ({min:.2}–{max:.2}) |");
        }
        rows.push('\n');
        rows
    }
}

/// The Markdown table: medians over the rounds; the ratio is that of the two halves of each round, with its two ends.
#[must_use]
pub fn table(levels: &[Level]) -> String {
    let head = "| connections | server | requests/s | CPU s per 100,000 requests | p50 µs | p99 µs |\n\
                |--:|---|--:|--:|--:|--:|\n";
    levels.iter().fold(head.to_owned(), |table, level| table + &level.rows())
}

/// The figures of the proxy that have no counterpart.
#[derive(Debug)]
pub struct Alone {
    /// MB resident before the load.
    pub idle_mb: f64,
    /// From the start to the first answer of any kind.
    pub first_answer_ms: Spread,
}

/// Each aim that is missed, in words; `aim_cpu` is [`AIM_CPU`] or [`AIM_CPU_WITH_AUDIT`]. A figure that is no number misses its aim.
#[must_use]
pub fn missed(levels: &[Level], alone: &Alone, aim_cpu: f64) -> Vec<String> {
    let mut aims = Vec::new();
    for level in levels {
        let (requests, cpu) = (level.ratio(requests_per_second).median, level.ratio(cpu_per_100k).median);
        let at = level.connections;
        aims.push((
            requests >= AIM_REQUESTS,
            format!("{requests:.3} of the bare server's requests/s at {at} connections, at least {AIM_REQUESTS}"),
        ));
        aims.push((
            cpu <= aim_cpu,
            format!("{cpu:.3} of the bare server's CPU time at {at} connections, at most {aim_cpu}"),
        ));
    }
    let (idle, start) = (alone.idle_mb, alone.first_answer_ms.median);
    aims.push((idle <= AIM_IDLE_MB, format!("{idle:.1} MB resident when idle, at most {AIM_IDLE_MB}")));
    aims.push((start <= AIM_START_MS, format!("{start:.1} ms to the first answer, at most {AIM_START_MS}")));
    aims.into_iter().filter(|(met, _)| !met).map(|(_, aim)| aim).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::histogram::Histogram;

    fn round(requests: u64, cpu_seconds: f64) -> Round {
        let mut latency = Histogram::default();
        (0..requests).for_each(|_| latency.record(Duration::from_micros(64)));
        Round { seconds: 2.0, cpu_seconds, latency }
    }

    fn level(proxy: (u64, f64)) -> Vec<Level> {
        let rounds = vec![(round(proxy.0, proxy.1), round(1000, 1.0)), (round(1, 9.0), round(1000, 1.0))];
        let rounds = rounds.into_iter().chain([(round(proxy.0, proxy.1), round(1000, 1.0))]).collect();
        vec![Level { connections: 16, rounds }]
    }

    fn alone(idle_mb: f64, first_answer_ms: f64) -> Alone {
        Alone { idle_mb, first_answer_ms: Spread::of([first_answer_ms]) }
    }

    #[test]
    fn a_spread_has_the_middle_of_odd_and_even_rows() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([]).median, 0.0);
    }

    #[test]
    fn one_bad_round_of_three_moves_no_median() {
        let table = table(&level((950, 0.95)));
        assert!(table.contains("| 16 | taskcreds | 475 | 100.000 | 64 | 64 |"), "{table}");
        assert!(table.contains("| 16 | bare axum | 500 | 100.000 | 64 | 64 |"), "{table}");
        assert!(table.contains("| 16 | **ratio** | **0.95** (0.00–0.95) | **1.00** (1.00–9000.00) |"), "{table}");
    }

    #[test]
    fn each_aim_that_is_missed_is_told_even_by_a_figure_that_is_no_number() {
        assert_eq!(missed(&level((950, 0.95)), &alone(9.9, 19.0), AIM_CPU), [""; 0]);
        assert_eq!(missed(&level((800, 0.8)), &alone(9.9, 19.0), AIM_CPU).len(), 1);
        assert_eq!(missed(&level((950, 1.2)), &alone(9.9, 19.0), AIM_CPU).len(), 1);
        assert_eq!(missed(&level((950, 0.95)), &alone(10.1, 21.0), AIM_CPU).len(), 2);
        assert_eq!(missed(&level((950, f64::NAN)), &alone(f64::NAN, 19.0), AIM_CPU).len(), 2);
    }
}
