//! The way of a request: guard → registry → session → answer. A straight line.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use taskcreds_core::{IdDigest, Refusal, Registry, Session, SessionCache, SessionError, Task, Way};

use super::error::{Fault, Version};
use super::guard::{self, AllowedHosts};
use super::local_endpoints::LocalEndpoints;
use super::wire;
use super::{Answer, Connected, Cut, dated};
use crate::audit::Audit;
use crate::audit::record::Answered;
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
    /// Records the answers, where it is asked for.
    pub audit: Option<Arc<Audit>>,
    /// Whether connections are refused that were made to loopback from elsewhere.
    pub refuse_misrouted: bool,
    /// Paths that name a listed role, of `dev` where it is asked for them.
    pub local: Option<LocalEndpoints>,
    /// By which interfaces 169.254.170.2 and fd00:ec2::23 may be asked, beside `lo`. Empty: by any.
    pub interfaces: Vec<String>,
}

/// What has come out of a request on its way: for the record.
#[derive(Default)]
pub(crate) struct Seen {
    version: Option<Version>,
    id: Option<IdDigest>,
    /// The task that was asked for, by whoever may not have it.
    refused: Option<Arc<Task>>,
    pub(crate) task: Option<Arc<Task>>,
    pub(crate) session: Option<Arc<Session>>,
}

impl Answer for Endpoint {
    async fn exchange(&self, request: Request<Incoming>, connected: Connected) -> Result<Response<Full<Bytes>>, Cut> {
        // Nobody looks at the body of a request for credentials.
        let (request, _) = request.into_parts();
        Ok(dated(self.answer(request, connected).await))
    }

    fn unparsable(&self, connected: Connected) {
        if let Some(audit) = &self.audit {
            audit.unparsable(SystemTime::now(), connected.peer);
        }
        self.metrics.answered(StatusCode::BAD_REQUEST);
    }
}

impl Endpoint {
    /// Answers one request, within [`Freshness::patience`](taskcreds_core::Freshness::patience) plus what the machine needs.
    pub async fn answer(&self, request: Parts, connected: Connected) -> Response<Full<Bytes>> {
        let (outcome, _) = self.outcome(&request, connected).await;
        self.respond(outcome)
    }

    /// What comes of a request, recorded; and what was seen on the way.
    pub(crate) async fn outcome(
        &self,
        request: &Parts,
        connected: Connected,
    ) -> (Result<Response<Full<Bytes>>, Fault>, Seen) {
        let mut seen = Seen::default();
        let answer = AssertUnwindSafe(self.credentials(request, connected, &mut seen)).catch_unwind().await;
        let mut answer = answer.unwrap_or_else(|_| Err(defect()));
        if let Some(audit) = &self.audit
            && !audit.answered(&record(request, connected, &seen, answer.as_ref().err())).await
            && let Ok(_) = &answer
        {
            answer = Err(Fault::Unrecorded(seen.version.unwrap_or(Version::V2)));
        }
        // Recording may have taken a moment, in which the task was revoked: see invariant 6.
        if answer.is_ok() && seen.task.as_ref().is_some_and(|task| !task.lease().stands()) {
            answer = Err(Fault::Session(seen.version.unwrap_or(Version::V2), SessionError::Revoked));
        }
        (answer, seen)
    }

    /// Records and counts an answer that was asked for in place of the one that would have been given (a fault).
    pub(crate) async fn stood_in(
        &self,
        request: &Parts,
        connected: Connected,
        seen: &Seen,
        status: StatusCode,
        code: &str,
    ) {
        if let Some(audit) = &self.audit {
            let answered = Answered {
                status: status.as_u16(),
                code: Some(code),
                reason: Some("Fault"),
                ..record(request, connected, seen, None)
            };
            audit.answered(&answered).await;
        }
        self.metrics.answered(status);
    }

    /// The answer that an outcome is, counted.
    pub(crate) fn respond(&self, outcome: Result<Response<Full<Bytes>>, Fault>) -> Response<Full<Bytes>> {
        let response = outcome.unwrap_or_else(|fault| fault.response());
        self.metrics.answered(response.status());
        response
    }

    fn is_by_door(&self, way: &impl Way) -> bool {
        way.is_by("lo") || self.interfaces.iter().any(|interface| way.is_by(interface))
    }

    async fn credentials(
        &self,
        request: &Parts,
        connected: Connected,
        seen: &mut Seen,
    ) -> Result<Response<Full<Bytes>>, Fault> {
        let (task, version) = self.task(request, connected, seen)?;
        let session = self.sessions.get(&task).await.map_err(|error| Fault::Session(version, error))?;
        let body = session.body(wire::credentials);
        seen.session = Some(session);
        Ok(super::response(StatusCode::OK, "application/json", body))
    }

    /// The task that a request opens.
    pub(crate) fn task(
        &self,
        request: &Parts,
        connected: Connected,
        seen: &mut Seen,
    ) -> Result<(Arc<Task>, Version), Fault> {
        guard::way(&connected, self.refuse_misrouted)?;
        if connected.is_to_endpoint && !self.interfaces.is_empty() && !self.is_by_door(&connected.way) {
            return Err(Fault::Forbidden("this address is not asked by this interface ([network] interfaces)".into()));
        }
        let asked = match &self.local {
            None => guard::check(request, &self.hosts)?,
            Some(local) => local.check(request, &self.hosts).inspect_err(|fault| {
                // A role that is not listed: for the record.
                if let Fault::Refused(version, _) = fault {
                    seen.version = Some(*version);
                }
            })?,
        };
        let version = asked.version;
        seen.version = Some(version);
        match self.registry.authenticate(asked.id, asked.token, connected.asker()) {
            Ok(task) => Ok((Arc::clone(seen.task.insert(task)), version)),
            Err(refusal) => {
                // For the record alone, and only where there is one.
                if self.audit.is_some() {
                    let id = IdDigest::of(asked.id);
                    (seen.id, seen.refused) = (Some(id), self.registry.with_id(id));
                }
                Err(Fault::Refused(version, refusal))
            }
        }
    }
}

fn record<'a>(request: &'a Parts, connected: Connected, seen: &'a Seen, fault: Option<&Fault>) -> Answered<'a> {
    let (status, code) = match fault {
        None => (StatusCode::OK, None),
        Some(fault) => {
            let (status, code) = fault.status_and_code();
            (status, Some(code))
        }
    };
    Answered {
        time: SystemTime::now(),
        status: status.as_u16(),
        code,
        peer: connected.peer,
        path: seen.version.map(Version::path),
        user_agent: request.headers.get(header::USER_AGENT).map(|agent| agent.as_bytes()),
        reason: match fault {
            Some(Fault::Refused(_, Refusal::WrongSource)) => Some("WrongSource"),
            _ => None,
        },
        id: seen.task.as_ref().map(|task| task.id()).or(seen.id),
        task: seen.task.as_deref().or(seen.refused.as_deref()),
        session: seen.session.as_deref(),
    }
}

/// A handler has panicked. What it shares with others stays usable: locks are taken for whole changes only.
fn defect() -> Fault {
    let request_id = uuid::Uuid::new_v4();
    tracing::error!(%request_id, "a request ended in a panic");
    Fault::Internal(request_id)
}

#[cfg(all(test, unix))]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use taskcreds_core::test_util::{TestSts, new_task, session_until};
    use taskcreds_core::{Budget, BudgetLimits, Freshness, Registration, SystemClock};

    use super::*;
    use crate::audit::Settings;
    use crate::audit::log::{Counts, Place, Rotation};
    use crate::audit::tests::full_pipe;
    use crate::http::way::Told;

    /// The disk takes its time over a record, and meanwhile the task is revoked.
    #[tokio::test]
    async fn invariant_6_a_task_that_is_revoked_while_its_record_is_written_gets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.log");
        let mut reader = full_pipe(&file);
        let rotation = Rotation { bytes: 1 << 20, age: Duration::from_secs(3600), keep: 1 };
        let json = Some(Place::File(file));
        let settings = Settings { json, ecs: None, rotation, required: true, container_instance_arn: None };
        let audit = Audit::open(&settings, &Counts::default()).unwrap();
        let registry = Arc::new(Registry::new(1));
        let new = new_task("web");
        let path = format!("/v2/credentials/{}", new.id.expose());
        let task = registry.register(Registration::configured(new)).unwrap();
        let until = SystemTime::now() + Duration::from_secs(3600);
        let sts = TestSts::new(move |_, _| (Duration::ZERO, Ok(session_until(until))));
        let (clock, budget) = (Arc::new(SystemClock), Budget::new(BudgetLimits::default()));
        let sessions = SessionCache::new(sts, clock, budget, Freshness::default(), || 0.5, Box::new(|_, _, _| {}));
        sessions.get(&task).await.unwrap();
        let endpoint = Arc::new(Endpoint {
            registry: Arc::clone(&registry),
            sessions,
            hosts: AllowedHosts::with([]),
            metrics: Arc::default(),
            audit: Some(Arc::clone(&audit)),
            refuse_misrouted: true,
            local: None,
            interfaces: Vec::new(),
        });
        let request = Request::get(path).header("host", "127.0.0.1").body(()).unwrap().into_parts().0;
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 4711));
        let connected = Connected {
            peer,
            arrival: taskcreds_core::Arrival::Elsewhere,
            is_misrouted: false,
            is_to_endpoint: false,
            way: Told::NOTHING,
        };
        let answering = tokio::spawn(async move { endpoint.answer(request, connected).await.status() });
        tokio::time::sleep(Duration::from_millis(50)).await;
        registry.revoke(task.id()).unwrap();
        let drained = tokio::task::spawn_blocking(move || {
            let mut sink = vec![0; 1 << 20];
            while !String::from_utf8_lossy(&sink).contains("accessKeyId") {
                sink.clear();
                sink.resize(1 << 20, 0);
                let _ = std::io::Read::read(&mut reader, &mut sink).unwrap();
            }
        });
        assert_eq!(answering.await.unwrap(), StatusCode::BAD_REQUEST);
        drained.await.unwrap();
        audit.close();
    }
}
