//! The credentials endpoint with a journal and faults around it.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use taskcreds_core::Task;
use taskcreds_sts_emulator::Effect;
use tokio_util::sync::CancellationToken;

use super::fault::{Fault, Wrong};
use super::journal::GET_CREDENTIALS;
use super::spoil::{skewed, spoil};
use super::{Entry, Testbed};
use crate::http::credentials::{Endpoint, Seen};
use crate::http::{Answer, Connected, Cut, dated, error, response};

/// What answers in place of the [`Endpoint`], whose answers it notes and, where that is asked for, spoils.
pub(crate) struct Watched {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) testbed: Arc<Testbed>,
    /// Ends what hangs.
    pub(crate) stop: CancellationToken,
}

/// What is served: an answer, the session in it, and whether it meets the fault.
struct Served {
    answer: Response<Full<Bytes>>,
    seen: Seen,
    is_met: bool,
}

impl Answer for Watched {
    async fn exchange(&self, request: Request<Incoming>, connected: Connected) -> Result<Response<Full<Bytes>>, Cut> {
        let (request, _) = request.into_parts();
        let seen = self.seen(&request, connected);
        let fault = seen.task.as_ref().and_then(|task| Some((task, self.testbed.faults.next_of_task(task)?)));
        match fault {
            None => Ok(dated(self.serve(&request, connected, None).await.answer)),
            Some((task, fault)) => self.fail(&request, connected, task, &seen, &fault).await,
        }
    }

    fn unparsable(&self, connected: Connected) {
        self.endpoint.unparsable(connected);
    }
}

impl Watched {
    /// What a request opens, by all rules of the endpoint: without a task, it meets no fault.
    fn seen(&self, request: &Parts, connected: Connected) -> Seen {
        let mut seen = Seen::default();
        // The endpoint tells the caller why, and records it.
        let _ = self.endpoint.task(request, connected, &mut seen);
        seen
    }

    /// Answers as the endpoint does, and notes it; with the fault, unless that is one of good answers and this is none.
    async fn serve(&self, request: &Parts, connected: Connected, fault: Option<&Fault>) -> Served {
        let (outcome, seen) = self.endpoint.outcome(request, connected).await;
        let code = outcome.as_ref().err().map(|fault| fault.status_and_code().1);
        let answer = self.endpoint.respond(outcome);
        let session = seen.session.as_ref().filter(|_| answer.status() == StatusCode::OK);
        let access_key_id = session.map(|session| session.access_key_id().to_owned());
        let is_met = |fault: &&Fault| {
            !fault.is_of_good_answers() || (session.is_some() && self.testbed.faults.is_met(&fault.to_string()))
        };
        let met = fault.filter(is_met);
        self.note(seen.task.as_deref(), Some(answer.status()), code, access_key_id, met);
        let is_met = met.is_some();
        Served { answer, seen, is_met }
    }

    async fn fail(
        &self,
        request: &Parts,
        connected: Connected,
        task: &Arc<Task>,
        seen: &Seen,
        fault: &Fault,
    ) -> Result<Response<Full<Bytes>>, Cut> {
        // From before the delay: who clears the fault meanwhile has cleared it.
        let mut changes = self.testbed.faults.changes();
        let _ = self.stop.run_until_cancelled(tokio::time::sleep(fault.delay)).await;
        let serve = async || self.serve(request, connected, Some(fault)).await;
        let effect = match &fault.wrong {
            None => return Ok(dated(serve().await.answer)),
            Some(Wrong::Rotate) => {
                if let Err(error) = self.testbed.rotate(task).await {
                    tracing::warn!("{fault}: {error}");
                    self.testbed.faults.was_not_met(fault);
                    return Ok(dated(self.serve(request, connected, None).await.answer));
                }
                return Ok(dated(serve().await.answer));
            }
            Some(Wrong::Expire) => {
                let Served { answer, seen, is_met } = serve().await;
                if let Some(session) = seen.session.filter(|_| is_met) {
                    self.testbed.end(task, &session);
                }
                return Ok(dated(answer));
            }
            Some(Wrong::Answer(effect)) => effect,
        };
        if matches!(effect, Effect::Hang | Effect::Drop) {
            self.note(Some(task), None, None, None, Some(fault));
            if *effect == Effect::Hang {
                let _ = self.stop.run_until_cancelled(changes.changed()).await;
            }
            return Err(Cut(Vec::new()));
        }
        if let Some((status, code, message)) = refusal(fault, effect) {
            self.note(Some(task), Some(status), Some(&code), None, Some(fault));
            self.endpoint.stood_in(request, connected, seen, status, &code).await;
            return Ok(dated(response(status, "application/json", error::body(status, &code, &message))));
        }
        let Served { answer, is_met, .. } = serve().await;
        if !is_met {
            return Ok(dated(answer));
        }
        let now = SystemTime::now();
        let Ok(body) = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        if *effect == Effect::Truncated {
            let mut whole = error::raw(StatusCode::OK, &body, now);
            whole.truncate(whole.len() - body.len() / 2);
            return Err(Cut(whole));
        }
        let mut answer = dated(response(StatusCode::OK, "application/json", spoil(&body, effect, now)));
        if let Effect::Skew(seconds) = effect
            && let Some(time) = skewed(now, *seconds)
            && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(time))
        {
            answer.headers_mut().insert(header::DATE, date);
        }
        Ok(answer)
    }

    fn note(
        &self,
        task: Option<&Task>,
        status: Option<StatusCode>,
        code: Option<&str>,
        access_key_id: Option<String>,
        fault: Option<&Fault>,
    ) {
        self.testbed.journal.push(Entry {
            place: "credentials".to_owned(),
            action: Some(GET_CREDENTIALS.to_owned()),
            status: status.map(|status| status.as_u16()),
            code: code.map(str::to_owned),
            access_key_id,
            fault: fault.map(ToString::to_string),
            ..Testbed::entry_of(task)
        });
    }
}

/// The status, the code and the message that stand in for an answer.
fn refusal(fault: &Fault, effect: &Effect) -> Option<(StatusCode, String, String)> {
    let asked = || format!("this is what was asked for: {fault}");
    match effect {
        Effect::Status { status, code, message } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let code = code.clone().unwrap_or_else(|| usual_code(status).to_owned());
            Some((status, code, message.clone().unwrap_or_else(asked)))
        }
        // The credentials endpoint never does that by itself: several SDKs take it for "no credentials here".
        Effect::Throttling => Some((StatusCode::TOO_MANY_REQUESTS, "ThrottlingException".to_owned(), asked())),
        Effect::AccessDenied => Some((StatusCode::FORBIDDEN, "AssumeRoleDenied".to_owned(), asked())),
        _ => None,
    }
}

/// The code that the credentials endpoint has for a status.
fn usual_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "Unauthorized",
        403 => "AssumeRoleDenied",
        404 => "NotFound",
        429 => "ThrottlingException",
        503 => "CredentialsUninitialized",
        400..500 => "InvalidRequest",
        _ => "InternalServerError",
    }
}
