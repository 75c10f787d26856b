//! The bare server: axum as its documentation shows it, with an answer from memory.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpListener;

use crate::answer::Answer;

#[derive(Clone)]
struct Memory {
    headers: HeaderMap,
    body: Bytes,
}

/// Answers every request for credentials with these headers and this body.
///
/// # Errors
/// A header that cannot be sent, or the listener's.
pub async fn serve(listener: TcpListener, answer: &Answer) -> io::Result<()> {
    let mut headers = HeaderMap::new();
    // The server sets these itself.
    for (name, value) in answer.headers().filter(|(name, _)| !matches!(*name, "content-length" | "date")) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
        headers.append(name, HeaderValue::from_str(value).map_err(io::Error::other)?);
    }
    let memory = Memory { headers, body: Bytes::copy_from_slice(answer.body()) };
    let router = Router::new().route("/v2/credentials/{id}", get(from_memory)).with_state(memory);
    // As the proxy does. A socket that cannot have it is reset already.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).await
}

async fn from_memory(State(memory): State<Memory>) -> Response {
    let mut response = Response::new(Body::from(memory.body));
    *response.headers_mut() = memory.headers;
    response
}
