//! What Prometheus reads: counters kept while the program works, gauges made when they are asked for.
//!
//! Names after Prometheus' conventions (base units, `_total` for counters). No label holds an id, an ARN or a secret.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use taskcreds_core::{FailureKind, SessionCache, Settled};

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: Vec<(StatusCode, Counter)>,
    sts_calls: Family<Outcome, Counter>,
    sts_seconds: Histogram,
    reloads: Family<Outcome, Counter>,
    reload_ok: Gauge,
    audit: crate::audit::log::Counts,
    sessions: Family<SessionState, Gauge>,
    nearest_expiry: Gauge,
    refresh_lag: Gauge,
    budget: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionState {
    state: &'static str,
}

/// Every status that the credentials endpoint answers with.
const STATUSES: [StatusCode; 8] = [
    StatusCode::OK,
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// Seconds: a call to STS takes 20 to 200 ms; the adapter's timeouts end it within seconds.
const STS_SECONDS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0];

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("taskcreds");
        let by_status = Family::<Status, Counter>::default();
        let requests = STATUSES.map(|code| (code, by_status.get_or_create_owned(&Status { code: code.as_u16() })));
        registry.register("requests", "Answers of the credentials endpoint", by_status);
        let sts_calls = Family::<Outcome, Counter>::default();
        for outcome in FailureKind::ALL.map(FailureKind::word).into_iter().chain(["loaded"]) {
            drop(sts_calls.get_or_create(&Outcome { outcome }));
        }
        registry.register("sts_calls", "Loads by what came of them", sts_calls.clone());
        let sts_seconds = Histogram::new(STS_SECONDS);
        registry.register("sts_call_duration_seconds", "How long STS took", sts_seconds.clone());
        let reloads = Family::<Outcome, Counter>::default();
        for outcome in ["taken", "refused"] {
            drop(reloads.get_or_create(&Outcome { outcome }));
        }
        registry.register("config_reloads", "Reloads of the configuration", reloads.clone());
        let records = Family::<Outcome, Counter>::default();
        let audit = crate::audit::log::Counts {
            written: records.get_or_create_owned(&Outcome { outcome: "written" }),
            lost: records.get_or_create_owned(&Outcome { outcome: "lost" }),
        };
        registry.register("audit_records", "Records of the audit log", records);
        let (reload_ok, nearest_expiry) = (Gauge::default(), Gauge::default());
        let (refresh_lag, budget) = (Gauge::default(), Gauge::default());
        let sessions = Family::<SessionState, Gauge>::default();
        reload_ok.set(1);
        registry.register("config_last_reload_successful", "Whether the last reload was taken", reload_ok.clone());
        registry.register("sessions", "Tasks by the state of their session", sessions.clone());
        registry.register(
            "session_nearest_expiry_seconds",
            "Seconds until the first of the sessions that are served ends; -1 when none is served",
            nearest_expiry.clone(),
        );
        registry.register("refresh_lag_seconds", "Seconds that the most overdue refresh is late", refresh_lag.clone());
        registry.register("sts_budget_calls", "STS calls that the node could make now", budget.clone());
        let requests = requests.into();
        Self {
            registry,
            requests,
            sts_calls,
            sts_seconds,
            reloads,
            reload_ok,
            audit,
            sessions,
            nearest_expiry,
            refresh_lag,
            budget,
        }
    }

    /// Counts an answer of the credentials endpoint.
    pub fn answered(&self, status: StatusCode) {
        if let Some((_, counter)) = self.requests.iter().find(|(code, _)| *code == status) {
            counter.inc();
        }
    }

    /// Counts a load.
    pub fn loaded(&self, settled: &Settled, took: Duration) {
        let outcome = match settled {
            Settled::Fresh(_) => "loaded",
            Settled::Failed { error, .. } => error.kind.word(),
        };
        self.sts_calls.get_or_create(&Outcome { outcome }).inc();
        self.sts_seconds.observe(took.as_secs_f64());
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, is_taken: bool) {
        let outcome = if is_taken { "taken" } else { "refused" };
        self.reloads.get_or_create(&Outcome { outcome }).inc();
        self.reload_ok.set(is_taken.into());
    }

    /// What the audit log counts its records with.
    #[must_use]
    pub fn audit(&self) -> &crate::audit::log::Counts {
        &self.audit
    }

    /// Whether the last reload was taken.
    #[must_use]
    pub fn last_reload_was_taken(&self) -> bool {
        self.reload_ok.get() == 1
    }

    /// All of it, in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self, sessions: &SessionCache) -> String {
        self.look_at(sessions);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn look_at(&self, cache: &SessionCache) {
        let states = cache.states();
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        for state in taskcreds_core::State::WORDS {
            let count = states.iter().filter(|(_, it)| it.word() == state).count();
            self.sessions.get_or_create(&SessionState { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.nearest_expiry.set(states.iter().filter_map(|(_, it)| it.left).min().map_or(-1, seconds));
        self.refresh_lag.set(states.iter().map(|(_, it)| it.overdue).max().map_or(0, seconds));
        self.budget.set(cache.budget().into());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
