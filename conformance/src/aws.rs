//! What the clients find besides the proxy: an S3 that knows sessions, and an instance metadata service that nobody should ask.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// What S3 knows of sessions.
#[derive(Default)]
pub struct Known {
    /// Those that it takes, by access key id and session token, and when they end.
    pub ends: HashMap<(String, String), SystemTime>,
    /// The access key ids of those that have signed a call.
    pub signed: BTreeSet<String>,
}

/// The sessions that S3 takes.
pub type Sessions = Arc<Mutex<Known>>;

type Answering = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;
type Answer = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// An S3 with one empty bucket. It takes a request with a session that it knows and that has not ended, and looks at no signature: what is shown
/// is which credentials a client has.
///
/// # Errors
/// The system's.
pub fn s3(runtime: &Handle, sessions: Sessions) -> io::Result<SocketAddr> {
    let answer = move |request| -> Answering { Box::pin(list(request, Arc::clone(&sessions))) };
    serve(runtime, (Ipv4Addr::LOCALHOST, 0).into(), Arc::new(answer))
}

async fn list(request: Request<Incoming>, sessions: Sessions) -> Response<Full<Bytes>> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = header("authorization").split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
    let session = (key.unwrap_or_default().to_owned(), header("x-amz-security-token").to_owned());
    let ends = || sessions.lock().unwrap_or_else(PoisonError::into_inner).ends.get(&session).copied();
    // The suite learns of a session a moment after its client.
    for _ in 0..50 {
        if key.is_none() || ends().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    match ends() {
        None => return refusal("InvalidAccessKeyId", "no such session"),
        Some(end) if end <= SystemTime::now() => return refusal("ExpiredToken", "the session has ended"),
        Some(_) => sessions.lock().unwrap_or_else(PoisonError::into_inner).signed.insert(session.0),
    };
    let (path, query) = (request.uri().path().trim_matches('/'), request.uri().query().unwrap_or_default());
    if path.split_once('/').is_some_and(|(_, key)| !key.is_empty()) {
        return xml(StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>");
    }
    xml(
        StatusCode::OK,
        match path {
            "" => {
                "<ListAllMyBucketsResult><Owner><ID>o</ID></Owner><Buckets><Bucket><Name>conformance</Name>\
             <CreationDate>2026-11-21T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"
            }
            _ if query.contains("location") => "<LocationConstraint>us-west-2</LocationConstraint>",
            _ => {
                "<ListBucketResult><Name>conformance</Name><Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>\
             <IsTruncated>false</IsTruncated></ListBucketResult>"
            }
        },
    )
}

/// An instance metadata service with the credentials of an instance role, which a task's program must not take.
///
/// # Errors
/// The system's.
pub fn instance_metadata(runtime: &Handle) -> io::Result<Arc<AtomicUsize>> {
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let answer = move |request: Request<Incoming>| -> Answering {
        count.fetch_add(1, Ordering::SeqCst);
        let body = match request.uri().path() {
            "/latest/api/token" => "a-token",
            path if path.ends_with("/security-credentials/") => "instance-role",
            path if path.ends_with("/instance-role") => {
                "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ASIAINSTANCEINSTANCE\",\"SecretAccessKey\":\"of-the-instance\",\
                 \"Token\":\"of-the-instance\",\"LastUpdated\":\"2026-11-21T00:00:00Z\",\"Expiration\":\"2036-11-21T00:00:00Z\"}"
            }
            _ => "",
        };
        let status = if body.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
        Box::pin(std::future::ready(xml(status, body)))
    };
    serve(runtime, (Ipv4Addr::new(169, 254, 169, 254), 80).into(), Arc::new(answer))?;
    Ok(asked)
}

fn refusal(code: &str, message: &str) -> Response<Full<Bytes>> {
    xml(StatusCode::FORBIDDEN, format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

fn xml(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
    response
}

/// Answers for as long as the process lives.
fn serve(runtime: &Handle, address: SocketAddr, answer: Answer) -> io::Result<SocketAddr> {
    let listener = runtime.block_on(TcpListener::bind(address))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            let service = service_fn(move |request: Request<Incoming>| {
                let answering = answer(request);
                async move { Ok::<_, Infallible>(answering.await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}
