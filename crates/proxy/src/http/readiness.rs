//! `/readyz`, wherever it is asked: whether the proxy is able to serve, and why not.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::operations::Registrations;
use super::response;
use crate::aws::Sts;
use crate::metrics::Metrics;
use crate::testbed::Testbed;

/// Everything that decides it.
pub struct Readiness {
    /// Resolves the base credentials.
    pub sts: Arc<Sts>,
    /// Whether the last reload was taken.
    pub metrics: Arc<Metrics>,
    /// What the admin socket changes, where there is one.
    pub registrations: Option<Arc<Registrations>>,
    /// What is made to fail on purpose, where somebody has asked for that.
    pub testbed: Option<Arc<Testbed>>,
}

#[derive(Serialize)]
struct Told {
    ready: bool,
    reasons: Vec<Reason>,
}

/// Why the proxy is not ready.
#[derive(Serialize)]
struct Reason {
    check: &'static str,
    message: String,
}

impl Readiness {
    /// 200, or 503 with the reasons as JSON.
    pub(crate) async fn answer(&self) -> Response<Full<Bytes>> {
        let reasons = self.reasons().await;
        let told = Told { ready: reasons.is_empty(), reasons };
        let status = if told.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        response(status, "application/json", serde_json::to_vec(&told).unwrap_or_default())
    }

    /// Able to serve: the base credentials resolve, the last reload was taken, the store is whole, nothing is made to fail on purpose.
    async fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if let Err(error) = self.sts.check_base_credentials().await {
            reasons.push(Reason { check: "base_credentials", message: error.to_string() });
        }
        if !self.metrics.last_reload_was_taken() {
            let message =
                "the configuration file has faults and the last good one is in force; the log has them".to_owned();
            reasons.push(Reason { check: "config", message });
        }
        if let Some(message) = self.registrations.as_ref().and_then(|registrations| registrations.trouble()) {
            reasons.push(Reason { check: "store", message });
        }
        let faults = self.testbed.as_ref().map(|testbed| testbed.faults.in_force()).unwrap_or_default();
        if !faults.is_empty() {
            reasons.push(Reason { check: "faults", message: format!("set on purpose: {}", faults.join("; ")) });
        }
        reasons
    }
}
