//! What tests call over HTTP, on a listener of its own on loopback: the journal, the faults, and sessions to be rotated or ended.
//!
//! | request | does |
//! |---|---|
//! | `GET /journal?task=&role=&place=&action=&status=&code=&accessKeyId=&fault=&since=` | the entries that fit |
//! | the same with `&count=N&timeout=10s` | waits for so many: 200 when they are there, 408 with those that are when time is over, 503 when the proxy ends |
//! | `DELETE /journal` | forgets them |
//! | `GET /faults` | how they stand |
//! | `POST /faults`, `PUT /faults` with `{"faults":["web:status=503,times=2"]}` | adds them; sets these and no others |
//! | `DELETE /faults?target=` | clears those of a target, or all |
//! | `GET /tasks` | the tasks and their sessions |
//! | `GET /readyz` | what the operations endpoint says there: 503 while a fault goes on |
//! | `POST /tasks/NAME/rotate`, `POST /tasks/NAME/expire` | a new session now; the same, and those before end at STS |
//!
//! Browsers and proxies are refused as everywhere. Nothing secret is told.

pub mod client;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::http::guard::{self, AllowedHosts};
use crate::http::readiness::Readiness;
use crate::http::{Answer, Connected, Cut, dated, response};
use crate::testbed::fault::{name_of, parse_all};
use crate::testbed::journal::LONGEST_WAIT;
use crate::testbed::{Entry, FaultView, Filter, Refusal, Testbed};

/// More than 256 faults of the longest text have.
const MAX_BODY: usize = 512 * 1024;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a wait is where nobody says.
const USUAL_WAIT: Duration = Duration::from_secs(10);

/// The control interface.
pub struct Control {
    /// What it looks at and turns.
    pub testbed: Arc<Testbed>,
    /// What `/readyz` answers.
    pub readiness: Arc<Readiness>,
    /// The names that `Host` may have.
    pub hosts: AllowedHosts,
    /// Whether connections are refused that were made to loopback from elsewhere.
    pub refuse_misrouted: bool,
    /// Ends what waits.
    pub stop: CancellationToken,
}

/// Faults to be set.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFaults {
    /// In their words.
    pub faults: Vec<String>,
}

/// Faults as they stand.
#[derive(Debug, Serialize, Deserialize)]
pub struct FaultList {
    /// In their order.
    pub faults: Vec<FaultView>,
}

/// Entries of the journal.
#[derive(Debug, Serialize, Deserialize)]
pub struct JournalPage {
    /// Those that fit, the oldest first.
    pub entries: Vec<Entry>,
    /// The number of the last entry of all.
    pub last: u64,
    /// Why none fits, where that can be told: a name that nothing has yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Why something was not done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// In a word.
    pub code: String,
    /// What to do.
    pub message: String,
    /// All that is wrong.
    pub faults: Vec<String>,
}

type Reply = Result<(StatusCode, Value), (StatusCode, Refused)>;

impl Answer for Control {
    async fn exchange(&self, request: Request<Incoming>, connected: Connected) -> Result<Response<Full<Bytes>>, Cut> {
        let (request, body) = request.into_parts();
        if let Err(fault) = guard::way(&connected, self.refuse_misrouted) {
            return Ok(dated(fault.response()));
        }
        let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
        let answer = match body {
            Ok(Ok(body)) => self.respond(&request, &body.to_bytes()).await,
            _ => answer(Err(invalid(vec![format!("the body is longer than {MAX_BODY} bytes or has not come")]))),
        };
        Ok(dated(answer))
    }
}

impl Control {
    async fn respond(&self, request: &Parts, body: &[u8]) -> Response<Full<Bytes>> {
        if let Err(fault) = guard::no_browser_but_fetch_of_node(request, &self.hosts) {
            return fault.response();
        }
        if request.uri.path() == "/readyz" && request.method == Method::GET {
            return self.readiness.answer().await;
        }
        answer(self.reply(request, body).await)
    }

    async fn reply(&self, request: &Parts, body: &[u8]) -> Reply {
        let query = request.uri.query().unwrap_or_default();
        let parts: Vec<_> = request.uri.path().trim_start_matches('/').split('/').collect();
        match (&request.method, parts.as_slice()) {
            (&Method::GET, ["journal"]) => self.journal(query).await,
            (&Method::DELETE, ["journal"]) => {
                self.testbed.journal.clear();
                Ok((StatusCode::OK, json!({ "last": self.testbed.journal.last() })))
            }
            (&Method::GET, ["faults"]) => Ok(self.faults()),
            (&Method::PUT, ["faults"]) => self.set(body, true),
            (&Method::POST, ["faults"]) => self.set(body, false),
            (&Method::DELETE, ["faults"]) => {
                let mut pairs = form_urlencoded::parse(query.as_bytes());
                let target = pairs.find(|(name, _)| name == "target").map(|(_, target)| target);
                // A name that is mistyped clears nothing, and whoever asks would believe that it has.
                if let Some(target) = target.as_deref().filter(|target| !self.testbed.faults.has(target)) {
                    let known = match target.strip_prefix("sts/") {
                        Some(role) => self.testbed.know_role(role),
                        None if target == "sts" => Ok(()),
                        None => self.testbed.called_by(target).map(drop),
                    };
                    known.map_err(|refusal| told(&refusal))?;
                }
                self.testbed.faults.clear(target.as_deref());
                Ok(self.faults())
            }
            (&Method::GET, ["tasks"]) => Ok(self.tasks()),
            (&Method::POST, ["tasks", name, what @ ("rotate" | "expire")]) => self.turn(name, what).await,
            (_, ["journal" | "faults" | "tasks" | "readyz"] | ["tasks", _, "rotate" | "expire"]) => Err(refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "GET or DELETE, or POST or PUT to change something",
            )),
            _ => Err(refused(
                StatusCode::NOT_FOUND,
                "NotFound",
                "there are /journal, /faults, /tasks, /tasks/NAME/rotate, /tasks/NAME/expire and /readyz",
            )),
        }
    }

    async fn journal(&self, query: &str) -> Reply {
        let (filter, others) = Filter::parse(query).map_err(invalid)?;
        let (mut count, mut patience, mut wrong) = (None, None, Vec::new());
        for (name, value) in others {
            match &*name {
                "count" => match value.parse() {
                    Ok(number) => count = Some(number),
                    Err(_) => wrong.push("count is a whole number".to_owned()),
                },
                "timeout" => match humantime::parse_duration(&value) {
                    Ok(time) if time <= LONGEST_WAIT => patience = Some(time),
                    _ => wrong.push("timeout is a time of at most 10min, as 10s or 500ms".to_owned()),
                },
                other => wrong.push(format!(
                    "{other} is unknown; there are task, role, place, action, status, code, accessKeyId, fault, since, count and timeout"
                )),
            }
        }
        if !wrong.is_empty() {
            return Err(invalid(wrong));
        }
        let journal = &self.testbed.journal;
        // Tasks and roles may come while somebody waits for them; no action does.
        if journal.entries(&filter).is_empty() {
            filter.know_action().map_err(|refusal| told(&refusal))?;
        }
        let entries = match count {
            None => journal.entries(&filter),
            Some(count) => {
                let waiting = journal.wait(&filter, count, patience.unwrap_or(USUAL_WAIT));
                let there = self.stop.run_until_cancelled(waiting).await;
                there.unwrap_or_else(|| journal.entries(&filter))
            }
        };
        let mut hint = None;
        if entries.is_empty() {
            // Nothing of a name that there is not would be taken for nothing of one that there is.
            let is_waited_for = count.is_some_and(|count| count > 0);
            let may_come =
                |refusal: &Refusal| is_waited_for || matches!(refusal, Refusal::NoSuchRole { may_come: true, .. });
            match self.testbed.know_names(&filter) {
                Err(refusal) if may_come(&refusal) => hint = Some(refusal.to_string()),
                known => known.map_err(|refusal| told(&refusal))?,
            }
        }
        let is_there = count.is_none_or(|count| entries.len() >= count);
        if !is_there && self.stop.is_cancelled() {
            let message = "the proxy ends, and so many entries were not there yet";
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "ProxyEnds", message));
        }
        let page = JournalPage { entries, last: journal.last(), hint };
        Ok((if is_there { StatusCode::OK } else { StatusCode::REQUEST_TIMEOUT }, json!(page)))
    }

    fn faults(&self) -> (StatusCode, Value) {
        (StatusCode::OK, json!(FaultList { faults: self.testbed.faults.list() }))
    }

    fn set(&self, body: &[u8], in_place: bool) -> Reply {
        let SetFaults { faults } = serde_json::from_slice(body).map_err(|error| {
            invalid(vec![format!(r#"the body is {{"faults": ["web:status=503,times=2"]}}: {error}"#)])
        })?;
        let faults = parse_all(&faults).map_err(|wrong| invalid(wrong.0))?;
        self.testbed.set(faults, in_place).map_err(|refusal| told(&refusal))?;
        Ok(self.faults())
    }

    fn tasks(&self) -> (StatusCode, Value) {
        let tasks = self.testbed.tasks().into_iter().map(|(task, session)| {
            json!({
                "task": name_of(&task),
                "role": task.spec().role_arn.name(),
                "taskArn": task.arn().as_str(),
                "roleArn": task.spec().role_arn.as_str(),
                "accessKeyId": session.as_ref().map(|session| session.access_key_id()),
                "expiration": session.map(|session| humantime::format_rfc3339_seconds(session.expiration()).to_string()),
            })
        });
        (StatusCode::OK, json!({ "tasks": tasks.collect::<Vec<_>>() }))
    }

    async fn turn(&self, name: &str, what: &str) -> Reply {
        let mut turned = Vec::new();
        for task in self.testbed.called_by(name).map_err(|refusal| told(&refusal))? {
            let session =
                if what == "rotate" { self.testbed.rotate(&task).await } else { self.testbed.expire(&task).await };
            let session = session.map_err(|refusal| told(&refusal))?;
            turned.push(json!({ "task": name_of(&task), "accessKeyId": session.access_key_id() }));
        }
        Ok((StatusCode::OK, json!({ "tasks": turned })))
    }
}

fn answer(reply: Reply) -> Response<Full<Bytes>> {
    let (status, body) = reply.unwrap_or_else(|(status, refused)| (status, json!(refused)));
    response(status, "application/json", body.to_string())
}

fn refused(status: StatusCode, code: &str, message: &str) -> (StatusCode, Refused) {
    let (code, message) = (code.to_owned(), message.to_owned());
    (status, Refused { code, faults: vec![message.clone()], message })
}

fn invalid(faults: Vec<String>) -> (StatusCode, Refused) {
    let message = faults.join("; ");
    (StatusCode::BAD_REQUEST, Refused { code: "InvalidRequest".to_owned(), message, faults })
}

fn told(refusal: &Refusal) -> (StatusCode, Refused) {
    let (status, code) = match refusal {
        Refusal::NoSuchTask { .. } => (StatusCode::NOT_FOUND, "NoSuchTask"),
        Refusal::NoSuchRole { .. } => (StatusCode::NOT_FOUND, "NoSuchRole"),
        Refusal::NoSuchAction { .. } => (StatusCode::NOT_FOUND, "NoSuchAction"),
        Refusal::NotAllowed => (StatusCode::FORBIDDEN, "FaultsNotAllowed"),
        Refusal::NoEmulator(_) => (StatusCode::FORBIDDEN, "NoEmbeddedSts"),
        Refusal::TooMany(_) => (StatusCode::CONFLICT, "TooManyFaults"),
        Refusal::NoSession(_) => (StatusCode::BAD_GATEWAY, "NoSession"),
    };
    refused(status, code, &refusal.to_string())
}
