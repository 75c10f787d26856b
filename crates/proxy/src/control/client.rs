//! The client of the control interface: one request, one answer.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;

use super::Refused;
use crate::failure::{Exit, Failure};
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
    let body =
        body.map(serde_json::to_vec).transpose().map_err(|error| Failure::software("cannot write JSON", error))?;
    let address = control.strip_prefix("http://").unwrap_or(control).trim_end_matches('/');
    let patience = LONGEST_WAIT + Duration::from_secs(20);
    let (status, answer) = tokio::time::timeout(patience, exchange(address, method, path, body.unwrap_or_default()))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| {
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

async fn exchange(address: &str, method: Method, path: &str, body: Vec<u8>) -> io::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok((status, body))
    };
    // The connection is driven beside the request and ends with it.
    tokio::pin!(connection, asking);
    let mut is_over = false;
    loop {
        tokio::select! {
            answer = &mut asking => return answer,
            _ = &mut connection, if !is_over => is_over = true,
        }
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
        _ => Exit::Usage,
    };
    Failure::new(exit, format!("{} ({code})", faults.join("\n")))
}
