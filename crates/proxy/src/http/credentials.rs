//! The way of a request: guard → registry → session → answer. A straight line.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use taskcreds_core::{Arrival, Registry, SessionCache};

use super::Answer;
use super::error::Fault;
use super::guard::{self, AllowedHosts};
use super::wire;
use crate::metrics::Metrics;

/// The credentials endpoint: everything that an answer is made of.
pub struct Endpoint {
    /// The registered tasks.
    pub registry: Arc<Registry>,
    /// Their sessions.
    pub sessions: Arc<SessionCache>,
    /// The names that `Host` may have.
    pub hosts: AllowedHosts,
    /// Counts the answers.
    pub metrics: Arc<Metrics>,
}

impl Answer for Endpoint {
    /// Within [`Freshness::patience`](taskcreds_core::Freshness::patience) plus what the machine needs.
    async fn answer(&self, request: Parts, arrival: Arrival) -> Response<Full<Bytes>> {
        let answer = AssertUnwindSafe(self.credentials(&request, arrival)).catch_unwind().await;
        let response = answer.unwrap_or_else(|_| Err(defect())).unwrap_or_else(|fault| fault.response());
        self.metrics.answered(response.status());
        response
    }
}

impl Endpoint {
    async fn credentials(&self, request: &Parts, arrival: Arrival) -> Result<Response<Full<Bytes>>, Fault> {
        let asked = guard::check(request, &self.hosts)?;
        let version = asked.version;
        let task = self
            .registry
            .authenticate(asked.id, asked.token, arrival)
            .map_err(|refusal| Fault::Refused(version, refusal))?;
        // From here to the return nothing is awaited after the lease was looked at: see invariant 6.
        let session = self.sessions.get(&task).await.map_err(|error| Fault::Session(version, error))?;
        Ok(super::response(StatusCode::OK, "application/json", session.body(wire::credentials)))
    }
}

/// A handler has panicked. What it shares with others stays usable: locks are taken for whole changes only.
fn defect() -> Fault {
    let request_id = uuid::Uuid::new_v4();
    tracing::error!(%request_id, "a request ended in a panic");
    Fault::Internal(request_id)
}
