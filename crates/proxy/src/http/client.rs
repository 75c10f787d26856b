//! The client of the admin socket and of the control interface: one request over a connection of its own, one answer.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

/// Connects and asks, with a body as JSON; returns the status and what was answered, whatever it says. All of it within `patience`.
///
/// # Errors
/// The system's, or what is wrong with the answer as HTTP; `TimedOut`.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    connect: impl Future<Output = io::Result<S>>,
    host: &str,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
    patience: Duration,
) -> io::Result<(StatusCode, Bytes)> {
    let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let exchange = async {
        let stream = connect.await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        asked(stream, request).await.map_err(io::Error::other)
    };
    tokio::time::timeout(patience, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn asked<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asking = async {
        let response = sender.send_request(request).await?;
        Ok((response.status(), response.into_body().collect().await?.to_bytes()))
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
