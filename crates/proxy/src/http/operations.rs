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
use taskcreds_core::SessionCache;

use super::error::Fault;
use super::guard::{self, AllowedHosts};
use super::readiness::Readiness;
use super::{Answer, Connected, Cut, dated, response};
#[cfg(unix)]
pub use crate::admin::registrations::Registrations;
use crate::metrics::Metrics;

/// The operations endpoint: everything that its answers are made of.
pub struct Operations {
    /// The sessions.
    pub sessions: Arc<SessionCache>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` answers.
    pub readiness: Arc<Readiness>,
    /// The names that `Host` may have.
    pub hosts: AllowedHosts,
    /// Whether connections are refused that were made to loopback from elsewhere.
    pub refuse_misrouted: bool,
}

/// There is no admin socket on this system.
#[cfg(not(unix))]
pub enum Registrations {}

#[cfg(not(unix))]
impl Registrations {
    pub(super) fn trouble(&self) -> Option<String> {
        match *self {}
    }

    /// Nothing is there to be displaced.
    pub fn displaced(&self) {
        match *self {}
    }
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
            "/readyz" => self.readiness.answer().await,
            "/metrics" => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response(StatusCode::OK, kind, self.metrics.text(&self.sessions))
            }
            _ => Fault::Path.response(),
        }
    }
}
