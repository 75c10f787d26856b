//! What is to go wrong with an answer, as data; and the answers that come of it.
//!
//! A fault is asked for by an `AssumeRole` that is signed and valid, and by nothing else: what an application does with its session is its
//! own affair. Where nobody has asked for faults, nothing is read twice and nothing waits.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::error::Error;

/// What is to go wrong with one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How much later than usual the answer begins.
    pub delay: Duration,
    /// What is wrong with it beside that.
    pub effect: Option<Effect>,
    /// What the record of the call says of it, where it was met.
    pub told: String,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A status other than 200; where they are left out, with a code and a message that go with it.
    Status {
        /// 400 to 599.
        status: u16,
        /// The error code.
        code: Option<String>,
        /// The message.
        message: Option<String>,
    },
    /// There is none, and the connection stays open.
    Hang,
    /// There is none, and the connection is closed.
    Drop,
    /// It ends in the middle of what its length announces.
    Truncated,
    /// It is not of the format that it says.
    Malformed,
    /// It lacks this field.
    Missing(String),
    /// This field holds something of another type.
    WrongType(String),
    /// Its session has ended already.
    Expired,
    /// Its session ends after so many seconds.
    Short(u32),
    /// The clock of whoever answers is so many seconds fast, or slow if less than 0.
    Skew(i64),
    /// There are too many requests.
    Throttling,
    /// The caller may not do that.
    AccessDenied,
}

impl Effect {
    /// Whether it changes a good answer, and does nothing to another one.
    #[must_use]
    pub fn is_of_good_answers(&self) -> bool {
        match self {
            Self::Truncated
            | Self::Malformed
            | Self::Missing(_)
            | Self::WrongType(_)
            | Self::Expired
            | Self::Short(_) => true,
            // By another clock a signature is not good either.
            Self::Skew(_) => false,
            Self::Status { .. } | Self::Hang | Self::Drop | Self::Throttling | Self::AccessDenied => false,
        }
    }
}

impl Fault {
    /// Whether it is met by a good answer alone.
    pub(crate) fn is_of_good_answers(&self) -> bool {
        self.effect.as_ref().is_some_and(Effect::is_of_good_answers)
    }

    /// `time` by the clock of this answer.
    pub(crate) fn clock(&self, time: SystemTime) -> SystemTime {
        let Some(Effect::Skew(seconds)) = self.effect else { return time };
        let size = Duration::from_secs(seconds.unsigned_abs());
        let skewed = if seconds < 0 { time.checked_sub(size) } else { time.checked_add(size) };
        skewed.filter(|time| *time >= SystemTime::UNIX_EPOCH).unwrap_or(time)
    }

    /// The refusal that stands in for an answer.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn refuse(&self, caller: &str, role: &str) -> Result<(), Error> {
        match &self.effect {
            Some(Effect::Status { status, code, message }) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let code = code.clone().unwrap_or_else(|| usual_code(status).to_owned());
                let message = message.clone().unwrap_or_else(|| format!("This is what was asked for: {}.", self.told));
                Err(Error::AskedFor { status, code, message })
            }
            Some(Effect::Throttling) => Err(Error::AskedFor {
                status: StatusCode::BAD_REQUEST,
                code: "Throttling".to_owned(),
                message: "Rate exceeded".to_owned(),
            }),
            Some(Effect::AccessDenied) => Err(Error::AccessDenied(format!(
                "User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}"
            ))),
            Some(Effect::Hang | Effect::Drop) => Err(Error::Unanswered),
            _ => Ok(()),
        }
    }

    /// When a session ends that was granted at `now` until `expires`.
    pub(crate) fn expires(&self, now: SystemTime, expires: SystemTime) -> SystemTime {
        match self.effect {
            Some(Effect::Expired) => now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
            Some(Effect::Short(seconds)) => expires.min(after(now, seconds)),
            _ => expires,
        }
    }

    /// The XML of a good answer, made wrong.
    pub(crate) fn spoil(&self, document: String) -> String {
        match &self.effect {
            Some(Effect::Malformed) => "<AssumeRoleResponse><AssumeRoleResult>&".to_owned(),
            Some(Effect::Missing(field)) => replaced(&document, field, ""),
            Some(Effect::WrongType(field)) => {
                let wrong = format!("<{field}><Value>17</Value></{field}>");
                let wrong = if field == "Expiration" { "<Expiration>soon</Expiration>" } else { &wrong };
                replaced(&document, field, wrong)
            }
            _ => document,
        }
    }
}

/// The end of a session of so many seconds. `now` has lost its fraction, which must not be taken from the session: it lasts for as long as
/// was asked for, and for less than a second more.
pub(crate) fn after(now: SystemTime, seconds: u32) -> SystemTime {
    now + Duration::from_secs(u64::from(seconds) + 1)
}

fn usual_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "AccessDenied",
        408 => "RequestTimeout",
        429 => "TooManyRequestsException",
        503 => "ServiceUnavailable",
        400..500 => "ValidationError",
        _ => "InternalFailure",
    }
}

/// A document with something else in place of an element, which holds text alone.
fn replaced(document: &str, element: &str, instead: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let parts = document.split_once(&open).and_then(|(before, rest)| Some((before, rest.split_once(&close)?.1)));
    parts.map_or_else(|| document.to_owned(), |(before, after)| [before, instead, after].concat())
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer: this is what was asked for")]
pub(crate) struct NoAnswer;

/// The body of an answer: whole, or cut off.
pub(crate) type Delivered = Either<Full<Bytes>, CutOff>;

/// Delivers an answer as its fault has it.
pub(crate) async fn deliver(
    fault: Option<&Fault>,
    answer: Response<Full<Bytes>>,
    stopping: &mut watch::Receiver<()>,
) -> Result<Response<Delivered>, NoAnswer> {
    match fault.and_then(|fault| fault.effect.as_ref()) {
        Some(Effect::Drop) => Err(NoAnswer),
        Some(Effect::Hang) => {
            // A client that goes away ends it before: hyper notices.
            let _ = stopping.changed().await;
            Err(NoAnswer)
        }
        Some(Effect::Truncated) => {
            let (mut head, body) = answer.into_parts();
            let length = body.size_hint().lower();
            head.headers.insert(CONTENT_LENGTH, length.into());
            Ok(Response::from_parts(head, Either::Right(CutOff { body, left: length / 2, is_out: false })))
        }
        _ => Ok(answer.map(Either::Left)),
    }
}

/// Waits for as long as a fault delays its answer.
pub(crate) async fn wait(fault: Option<&Fault>) {
    if let Some(fault) = fault.filter(|fault| !fault.delay.is_zero()) {
        sleep(fault.delay).await;
    }
}

/// A body that ends before its time.
pub(crate) struct CutOff {
    body: Full<Bytes>,
    left: u64,
    is_out: bool,
}

impl Body for CutOff {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let half = usize::try_from(std::mem::take(&mut self.left)).unwrap_or(usize::MAX);
        if half > 0 {
            let frame = Pin::new(&mut self.body).poll_frame(cx);
            return frame.map(|frame| {
                frame.map(|frame| frame.map(|frame| frame.map_data(|all| all.slice(..half.min(all.len())))))
            });
        }
        if !std::mem::replace(&mut self.is_out, true) {
            // hyper sends what it has when there is nothing more for now; at an early end it would throw it away.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(effect: Effect) -> Fault {
        Fault { delay: Duration::ZERO, effect: Some(effect), told: "sts:x".to_owned() }
    }

    #[test]
    fn a_session_lasts_as_long_as_was_asked_for_and_less_than_a_second_more() {
        let (now, hour) = (SystemTime::UNIX_EPOCH + Duration::from_secs(100), Duration::from_secs(3600));
        assert_eq!(fault(Effect::Short(1)).expires(now, now + hour), now + Duration::from_secs(2));
        assert_eq!(fault(Effect::Short(7200)).expires(now, now + hour), now + hour, "never longer");
        assert!(fault(Effect::Expired).expires(now, now + hour) < now);
    }

    #[test]
    fn an_element_is_taken_out_or_replaced_and_the_rest_stays() {
        let document = "<a><Expiration>2026</Expiration><AccessKeyId>A</AccessKeyId></a>".to_owned();
        let spoiled = |effect| fault(effect).spoil(document.clone());
        assert_eq!(spoiled(Effect::Missing("AccessKeyId".to_owned())), "<a><Expiration>2026</Expiration></a>");
        assert_eq!(
            spoiled(Effect::WrongType("Expiration".to_owned())),
            "<a><Expiration>soon</Expiration><AccessKeyId>A</AccessKeyId></a>"
        );
        assert_eq!(spoiled(Effect::Missing("None".to_owned())), document);
    }

    #[test]
    fn a_clock_is_fast_or_slow_and_never_before_1970() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(fault(Effect::Skew(10)).clock(now), now + Duration::from_secs(10));
        assert_eq!(fault(Effect::Skew(-10)).clock(now), now - Duration::from_secs(10));
        for far in [-101, i64::MIN, i64::MAX] {
            assert!(fault(Effect::Skew(far)).clock(now) >= SystemTime::UNIX_EPOCH, "{far}");
        }
    }
}
