//! What the operator's machinery asks, on a loopback listener of its own: is it alive, is it ready, how is it doing.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the program runs |
//! | `/readyz` | 200, or 503 with the reasons as JSON |
//! | `/metrics` | OpenMetrics text |

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Serialize;
use taskcreds_core::SessionCache;

use super::error::Fault;
use super::guard::{self, AllowedHosts};
use super::{Answer, Connected, Cut, dated, response};
#[cfg(unix)]
pub use crate::admin::registrations::Registrations;
use crate::aws::Sts;
use crate::metrics::Metrics;
use crate::testbed::Testbed;

/// The operations endpoint: everything that its answers are made of.
pub struct Operations {
    /// Resolves the base credentials.
    pub sts: Arc<Sts>,
    /// The sessions.
    pub sessions: Arc<SessionCache>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What the admin socket changes, where there is one.
    pub registrations: Option<Arc<Registrations>>,
    /// The names that `Host` may have.
    pub hosts: AllowedHosts,
    /// Whether connections are refused that were made to loopback from elsewhere.
    pub refuse_misrouted: bool,
    /// What is made to fail on purpose, where somebody has asked for that.
    pub testbed: Option<Arc<Testbed>>,
}

/// There is no admin socket on this system.
#[cfg(not(unix))]
pub enum Registrations {}

#[cfg(not(unix))]
impl Registrations {
    fn trouble(&self) -> Option<String> {
        match *self {}
    }

    /// Nothing is there to be displaced.
    pub fn displaced(&self) {
        match *self {}
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<Reason>,
}

/// Why the proxy is not ready.
#[derive(Serialize)]
struct Reason {
    check: &'static str,
    message: String,
}

impl Answer for Operations {
    async fn exchange(&self, request: Request<Incoming>, connected: Connected) -> Result<Response<Full<Bytes>>, Cut> {
        let (request, _) = request.into_parts();
        Ok(dated(self.answer(&request, &connected).await))
    }
}

impl Operations {
    async fn answer(&self, request: &Parts, connected: &Connected) -> Response<Full<Bytes>> {
        let checked = guard::way(connected, self.refuse_misrouted);
        if let Err(fault) = checked.and_then(|()| guard::no_browser(request, &self.hosts)) {
            return fault.response();
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return Fault::Method.response();
        }
        match request.uri.path() {
            "/healthz" => response(StatusCode::OK, "text/plain; charset=utf-8", "alive\n"),
            "/readyz" => {
                let readiness = self.readiness().await;
                let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                response(status, "application/json", serde_json::to_vec(&readiness).unwrap_or_default())
            }
            "/metrics" => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response(StatusCode::OK, kind, self.metrics.text(&self.sessions))
            }
            _ => Fault::Path.response(),
        }
    }

    /// Able to serve: the base credentials resolve, the last reload was taken, the store is whole, nothing is made to fail on purpose.
    async fn readiness(&self) -> Readiness {
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
        Readiness { ready: reasons.is_empty(), reasons }
    }
}
