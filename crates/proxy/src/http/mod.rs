//! The credentials endpoint over HTTP/1.1: binding, accepting, answering.
//!
//! hyper's http1 connection under an accept loop of our own, because `axum::serve` has no deadline for a head, no limit on
//! buffers and exits or spins on EMFILE.

pub(crate) mod client;
pub mod credentials;
pub mod error;
pub mod guard;
pub mod local_endpoints;
#[cfg(target_os = "linux")]
mod netns;
pub mod operations;
pub mod places;
pub mod readiness;
pub(crate) mod stream;
#[cfg_attr(not(target_os = "linux"), path = "way_elsewhere.rs")]
pub mod way;
pub mod wire;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use taskcreds_core::{Arrival, Asker};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use places::{Place, Places};
use stream::{Answering, Stream};
use way::Told;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;
/// What one connection may have read and not yet answered. hyper's own default took 404 MB for 1,000 unfinished requests.
pub(crate) const MAX_BUFFER: usize = 16 * 1024;
/// Headers in one request.
pub(crate) const MAX_HEADERS: usize = 64;
/// How long to leave `accept` alone when it fails for want of descriptors or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How long answers under way may take after the stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long after the stop a new connection may take to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// Where `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` is resolved to by every SDK.
pub const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
/// The same with its port: where a relative URI leads.
pub(crate) const ENDPOINT: SocketAddr = SocketAddr::new(IpAddr::V4(LINK_LOCAL), 80);
/// Its counterpart, which newer SDKs allow in `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
const LINK_LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23);

/// Whether only programs of this machine, or of its network namespace, reach an address.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || address == IpAddr::V4(LINK_LOCAL)
}

/// Where a connection comes from and which address it was made to.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    /// The other end.
    pub peer: SocketAddr,
    /// This end.
    pub arrival: Arrival,
    /// It was made to an address of loopback from elsewhere, which only a machine does that routes what must not be routed, as with
    /// `route_localnet` on (CVE-2020-8558). Told from the destination before any redirection.
    pub is_misrouted: bool,
    /// It was made to 169.254.170.2 or fd00:ec2::23, before any redirection.
    pub is_to_endpoint: bool,
    /// What the system tells beyond the addresses.
    pub way: Told,
}

impl Connected {
    /// What of it decides who gets what.
    #[must_use]
    pub fn asker(&self) -> Asker<'_> {
        Asker { address: self.peer.ip(), arrival: self.arrival, way: &self.way }
    }

    fn of(stream: &TcpStream, peer: SocketAddr, is_here: bool) -> Self {
        let local = stream.local_addr().ok().map(|address| address.ip().to_canonical());
        let destination = original_destination(stream).or(local);
        let arrival = if destination == Some(IpAddr::V4(LINK_LOCAL)) { Arrival::LinkLocal } else { Arrival::Elsewhere };
        let is_own = peer.ip().to_canonical().is_loopback() || Some(peer.ip().to_canonical()) == local;
        let way = Told::of(stream, peer, is_here);
        let is_to_endpoint = destination.is_some_and(|it| it == LINK_LOCAL || it == LINK_LOCAL_V6);
        Self {
            peer,
            arrival,
            is_to_endpoint,
            is_misrouted: destination.is_some_and(|it| it.is_loopback()) && !is_own,
            way,
        }
    }
}

/// What a listener answers with: the credentials endpoint, watched or not, the operations endpoint, the control interface.
pub trait Answer: Send + Sync + 'static {
    /// Answers one request, with `Content-Length` and `Date`; every trouble is an answer.
    ///
    /// # Errors
    /// The connection is to end otherwise than with a whole answer.
    fn exchange(
        &self,
        request: http::Request<Incoming>,
        connected: Connected,
    ) -> impl Future<Output = Result<Response<Full<Bytes>>, Cut>> + Send;

    /// Is told that bytes which are no HTTP request were answered.
    fn unparsable(&self, _: Connected) {}
}

/// The connection is to be closed after these bytes, which are no whole answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is to be cut off")]
pub struct Cut(pub Vec<u8>);

/// An answer that nobody keeps. The type stands as it is given: Go v2 and Kotlin compare the whole value, so the credentials endpoint
/// gives no parameters.
pub(crate) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The same with its `Content-Length` and `Date`. hyper would add a date that it writes anew only when the clock has passed it: where a
/// clock is set back, it would lie in the future until then.
pub(crate) fn dated(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let length = response.body().size_hint().lower();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if let Some(date) = date() {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// The present second, written once a second by each thread.
fn date() -> Option<HeaderValue> {
    thread_local! {
        static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(written, _)| *written != second) {
            *last = Some((second, HeaderValue::try_from(httpdate::fmt_http_date(now)).ok()?));
        }
        last.as_ref().map(|(_, date)| date.clone())
    })
}

/// Binds one address of the endpoint.
///
/// # Errors
/// The system's: the address is taken, not this machine's, or its port is privileged.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(listen(socket(address)?, address)?)
}

/// The same for an IPv4 address that this machine may not have yet.
///
/// # Errors
/// The system's: the port is taken, or privileged.
#[cfg(target_os = "linux")]
pub(crate) fn bind_before(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.set_freebind_v4(true)?;
    listen(socket, address)
}

fn socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // On Unix this allows a restart while old connections linger; on Windows it would allow a second listener.
    socket.set_reuse_address(cfg!(unix))?;
    // Inherited by every accepted connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(socket: socket2::Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Has answers go over this many routers at most, less one: with 1 this machine and its neighbours get them, and nobody behind a router.
///
/// # Errors
/// The system's.
pub fn limit_hops(listener: &TcpListener, hops: u8) -> io::Result<()> {
    let socket = socket2::SockRef::from(listener);
    // Inherited by every accepted connection.
    match listener.local_addr()? {
        SocketAddr::V4(_) => socket.set_ttl_v4(hops.into()),
        SocketAddr::V6(_) => socket.set_unicast_hops_v6(hops.into()),
    }
}

/// Answers requests on one listener until told to stop; then finishes what is under way, for at most five seconds.
pub async fn run(listener: TcpListener, endpoint: Arc<impl Answer>, places: Arc<Places>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let is_here = way::is_here(&listener);
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_failing = false;
                let answering = Arc::<Answering>::default();
                // Without one every other connection of this source is being answered: it has enough for now.
                let Some(place) = places.take(peer.ip(), Arc::clone(&answering), &stop) else { continue };
                let connected = Connected::of(&stream, peer, is_here);
                connections.spawn(connection(stream, connected, answering, Arc::clone(&endpoint), place));
                places.settle().await;
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "cannot accept connections; trying again until it goes");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!("gave up on connections that were still open {} s after the stop", GRACE.as_secs());
    }
}

async fn connection(
    stream: TcpStream,
    connected: Connected,
    answering: Arc<Answering>,
    endpoint: Arc<impl Answer>,
    place: Place,
) {
    let stream = Stream::new(stream, Arc::clone(&answering));
    let (has_begun, begun) = (AtomicBool::new(false), Notify::new());
    let service = service_fn(|request: http::Request<Incoming>| {
        if !has_begun.load(Ordering::Relaxed) {
            has_begun.store(true, Ordering::Relaxed);
            begun.notify_one();
        }
        answering.begin();
        endpoint.exchange(request, connected)
    });
    let mut connection = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(stream, service);
    let outcome = tokio::select! {
        biased;
        outcome = &mut connection => outcome,
        () = place.end.cancelled() => {
            if place.gives_way() {
                return;
            }
            // hyper closes a connection on which nothing was read yet; one that was just accepted has its first request on the way, and
            // whoever sent it would have been answered by the next process.
            let first = tokio::time::timeout(FIRST_REQUEST, begun.notified());
            tokio::select! {
                biased;
                outcome = &mut connection => outcome,
                _ = first => {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                    (&mut connection).await
                }
            }
        }
    };
    if let Err(error) = outcome {
        // hyper's text names the kind of trouble, never what was sent.
        tracing::debug!(%error, "connection ended");
        if let Some(Cut(bytes)) = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref()) {
            connection.into_parts().io.answer_instead(bytes.clone()).await;
        } else if error.is_parse() {
            endpoint.unparsable(connected);
            let mut stream = connection.into_parts().io;
            tokio::select! {
                biased;
                () = stream.refuse() => {}
                () = place.end.cancelled() => {}
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn original_destination(stream: &TcpStream) -> Option<IpAddr> {
    // Fails where connection tracking is not at work, and then nothing was redirected.
    let original = socket2::SockRef::from(stream).original_dst_v4().ok()?;
    original.as_socket_ipv4().map(|address| IpAddr::V4(*address.ip()))
}

#[cfg(not(target_os = "linux"))]
fn original_destination(_: &TcpStream) -> Option<IpAddr> {
    None
}

/// Errors of one connection that is gone already (accept(2): these are to be treated like EAGAIN).
pub(crate) fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | WouldBlock)
}
