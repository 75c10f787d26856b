//! The way of a request: guard → registry → session → answer. A straight line.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use taskcreds_core::{Arrival, Registry, SessionCache};

use super::error::Fault;
use super::guard::{self, AllowedHosts};
use super::wire;

/// The credentials endpoint: everything that an answer is made of.
pub struct Endpoint {
    /// The registered tasks.
    pub registry: Arc<Registry>,
    /// Their sessions.
    pub sessions: Arc<SessionCache>,
    /// The names that `Host` may have.
    pub hosts: AllowedHosts,
}

impl Endpoint {
    /// Answers one request; within [`Freshness::patience`](taskcreds_core::Freshness::patience) plus what the machine needs.
    ///
    /// # Errors
    /// None: every trouble is an answer.
    pub async fn answer(&self, request: Parts, arrival: Arrival) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(self.credentials(&request, arrival).await.unwrap_or_else(|fault| fault.response()))
    }

    async fn credentials(&self, request: &Parts, arrival: Arrival) -> Result<Response<Full<Bytes>>, Fault> {
        let asked = guard::check(request, &self.hosts)?;
        let version = asked.version;
        let task = self
            .registry
            .authenticate(asked.id, asked.token, arrival)
            .map_err(|refusal| Fault::Refused(version, refusal))?;
        // From here to the return nothing is awaited after the lease was looked at: see invariant 6.
        let session = self.sessions.get(&task).await.map_err(|error| Fault::Session(version, error))?;
        Ok(ok(session.body(wire::credentials)))
    }
}

fn ok(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    // No parameters: Go v2 and Kotlin compare the whole value.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
