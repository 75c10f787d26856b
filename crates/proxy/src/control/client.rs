//! The client of the control interface: one request, one answer.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::net::TcpStream;

use super::Refused;
use crate::failure::{Exit, Failure};
use crate::http::client::exchange;
use crate::testbed::journal::LONGEST_WAIT;

/// Asks, and returns the status and the JSON of an answer that is no refusal. `control` is `http://ADDRESS:PORT`.
///
/// # Errors
/// Nobody answers there, or the answer is a refusal.
pub async fn ask(
    control: &str,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<(StatusCode, Bytes), Failure> {
    let address = control.strip_prefix("http://").unwrap_or(control).trim_end_matches('/');
    let patience = LONGEST_WAIT + Duration::from_secs(20);
    let answered = exchange(TcpStream::connect(address), address, method, path, body, patience).await;
    let (status, answer) = answered.map_err(|error| {
        let why = format!(
            "no answer at the control interface {address}: {error}; is taskcreds running with --control there?"
        );
        Failure::new(Exit::Unavailable, why)
    })?;
    if status.is_success() || status == StatusCode::REQUEST_TIMEOUT {
        Ok((status, answer))
    } else {
        Err(refusal(status, &answer))
    }
}

fn refusal(status: StatusCode, answer: &[u8]) -> Failure {
    let Ok(Refused { code, faults, .. }) = serde_json::from_slice(answer) else {
        return Failure::new(
            Exit::Unavailable,
            format!("what answers there is no control interface: it said {status}"),
        );
    };
    let exit = match status {
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => Exit::Unhealthy,
        StatusCode::FORBIDDEN => Exit::NoPermission,
        StatusCode::BAD_GATEWAY => Exit::TemporaryFailure,
        StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
        _ => Exit::Usage,
    };
    Failure::new(exit, format!("{} ({code})", faults.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_ends_is_one_that_does_not_answer() {
        let body = br#"{"code":"ProxyEnds","message":"it ends","faults":["it ends"]}"#;
        let failure = refusal(StatusCode::SERVICE_UNAVAILABLE, body);
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Unavailable, "it ends (ProxyEnds)"));
    }
}
