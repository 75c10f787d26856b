//! The unix socket: bound with mode 0600, one request a connection, each within its deadlines, each answered in JSON.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use rustix::fs::Mode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::api::{Api, Reply, refused};
use super::error::AdminError;
use super::peer::Peer;
use super::registrations::Registrations;
use super::{DEADLINE, MAX_BODY};
use crate::config::{Admin, Rule};
use crate::failure::{Exit, Failure};
use crate::http::stream::{Answering, Stream};
use crate::http::{self as endpoint, error};

/// Connections at a time of root, and of the proxy's own user.
const MOST_CONNECTIONS: usize = 64;
/// Connections at a time of a user with a rule, and of all users without one. One more is closed.
const MOST_OF_A_USER: usize = 8;
/// How often the store is asked to take what it has refused.
const SETTLE_EVERY: Duration = Duration::from_secs(5);
/// How much of a body that is too long is read.
const MOST_READ: usize = 16 * MAX_BODY;

/// The bound socket.
pub struct AdminSocket {
    listener: UnixListener,
    rules: Arc<[Rule]>,
    own_uid: u32,
    /// The file that this process has made, to be removed at the end: its path and inode.
    made: Option<(PathBuf, u64)>,
}

impl AdminSocket {
    /// Binds the socket. From its birth only this user and root can connect; then the group of the configuration, if it names one.
    ///
    /// # Errors
    /// The place is not safe or is taken.
    pub fn bind(admin: &Admin) -> Result<Self, Failure> {
        let path = &admin.socket;
        let cannot = |why: String| {
            let path = path.display();
            Failure::new(
                Exit::Unavailable,
                format!("cannot make the admin socket {path}: {why} (--admin-socket names another place)"),
            )
        };
        check_folder(path).map_err(&cannot)?;
        remove_stale(path).map_err(&cannot)?;
        // The mask holds for the whole process, but nothing is made that needs more in the meantime.
        let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(|error| cannot(error.to_string()))?;
        if let Some(gid) = admin.gid {
            let open = || {
                std::os::unix::fs::chown(path, None, Some(gid))?;
                std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o660))
            };
            open().map_err(|error: io::Error| cannot(format!("it cannot be given to group {gid}: {error}")))?;
        }
        let inode = std::fs::symlink_metadata(path).map_err(|error| cannot(error.to_string()))?.ino();
        let own_uid = rustix::process::geteuid().as_raw();
        Ok(Self { listener, rules: admin.rules.clone().into(), own_uid, made: Some((path.clone(), inode)) })
    }

    /// Takes a socket that somebody else has bound, and who may connect with it.
    ///
    /// # Errors
    /// The system's.
    pub fn adopt(listener: std::os::unix::net::UnixListener, rules: Vec<Rule>) -> Result<Self, Failure> {
        let adopted = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        let listener =
            adopted.map_err(|error| Failure::software("cannot use the admin socket that was passed", error))?;
        tracing::info!("the admin socket was passed, which takes the place of a configured one");
        Ok(Self { listener, rules: rules.into(), own_uid: rustix::process::geteuid().as_raw(), made: None })
    }

    pub(super) fn own_uid(&self) -> u32 {
        self.own_uid
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Answers requests until told to stop; then finishes what is under way, for at most five seconds.
    pub async fn run(self, api: Arc<Api>, stop: CancellationToken) {
        let (connections, counts) = (TaskTracker::new(), Arc::new(Counts::default()));
        connections.spawn(settle(Arc::clone(&api.registrations), stop.clone()));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let error = match accepted {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) => {
                        let peer = Peer::new(peer.uid(), self.own_uid, &self.rules);
                        if let Some(place) = counts.take(&peer) {
                            let api = Arc::clone(&api);
                            connections.spawn(async move {
                                match peer {
                                    Ok(peer) => connection(stream, api, peer).await,
                                    Err(error) => turn_away(stream, &error).await,
                                }
                                drop(place);
                            });
                        }
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !endpoint::is_the_clients(&error) {
                tracing::warn!(%error, "cannot accept a connection of the admin socket");
                tokio::time::sleep(endpoint::ACCEPT_PAUSE).await;
            }
        }
        connections.close();
        let _ = tokio::time::timeout(endpoint::GRACE, connections.wait()).await;
    }
}

/// How many connections each user has. A user with a rule has a few, all those without one together as many, so that none of them keeps
/// root and the proxy's own user out.
#[derive(Default)]
struct Counts(Mutex<HashMap<Option<u32>, usize>>);

/// One connection's place, given back when it is dropped.
struct Place {
    counts: Arc<Counts>,
    of: Option<u32>,
}

impl Counts {
    fn take(self: &Arc<Self>, peer: &Result<Peer, AdminError>) -> Option<Place> {
        let (of, most) = match peer {
            Ok(peer) if peer.is_privileged() => (Some(peer.uid), MOST_CONNECTIONS),
            Ok(peer) => (Some(peer.uid), MOST_OF_A_USER),
            Err(_) => (None, MOST_OF_A_USER),
        };
        let mut counts = self.counts();
        let count = counts.entry(of).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { counts: Arc::clone(self), of })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Option<u32>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.counts();
        if let Some(count) = counts.get_mut(&self.of) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Answers who has no rule, whatever is asked, and does not wait for the whole of it.
async fn turn_away(mut stream: UnixStream, error: &AdminError) {
    tracing::warn!("refused over the admin socket: {error}");
    let (status, body) = refused(error);
    let answer = error::raw(status, &body, SystemTime::now());
    let exchange = async {
        // A socket that is closed with nothing read would reset the connection under the answer.
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(&answer).await;
    };
    // Who does not read it is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(1), exchange).await;
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Some((path, inode)) = &self.made
            && std::fs::symlink_metadata(path).is_ok_and(|now| now.ino() == *inode)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Has the store try again, now and then, what it has not taken; and once more at the end.
async fn settle(registrations: Arc<Registrations>, stop: CancellationToken) {
    let mut is_over = false;
    while !is_over {
        is_over = stop.run_until_cancelled(tokio::time::sleep(SETTLE_EVERY)).await.is_none();
        let registrations = Arc::clone(&registrations);
        // It has nobody to tell but the log.
        let _ = tokio::task::spawn_blocking(move || registrations.settle()).await;
    }
}

/// Who can write to the folder can put another socket in this one's place.
fn check_folder(path: &Path) -> Result<(), String> {
    let folder = crate::folder::of(path);
    if !folder.exists() {
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o755).create(folder).map_err(|error| format!("its folder {}: {error}", folder.display()))?;
    }
    let metadata = std::fs::metadata(folder).map_err(|error| error.to_string())?;
    let user = rustix::process::geteuid().as_raw();
    let is_sticky = metadata.mode() & 0o1000 != 0;
    if metadata.mode() & 0o022 != 0 && !is_sticky {
        return Err(format!("others may write to its folder {}: chmod go-w that", folder.display()));
    }
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(format!("its folder {} belongs to user {}", folder.display(), metadata.uid()));
    }
    Ok(())
}

/// A socket that nobody listens on is what a killed process has left behind.
fn remove_stale(path: &Path) -> Result<(), String> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(metadata) if !metadata.file_type().is_socket() => Err("there is something else in its place".to_owned()),
        // Without blocking: somebody else's socket may be full for ever.
        Ok(_) => match connect_at_once(path) {
            Ok(()) => Err("another program listens on it".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err("another program listens on it".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        },
    }
}

fn connect_at_once(path: &Path) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&socket2::SockAddr::unix(path)?)
}

async fn connection(stream: UnixStream, api: Arc<Api>, peer: Peer) {
    let answering = Arc::<Answering>::default();
    let stream = Stream::new(stream, Arc::clone(&answering));
    let peer = Arc::new(peer);
    let service = service_fn(|request: Request<Incoming>| {
        answering.begin();
        let (api, peer) = (Arc::clone(&api), Arc::clone(&peer));
        async move { Ok::<_, Infallible>(response(answer(request, api, peer).await)) }
    });
    let mut connection = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(endpoint::MAX_BUFFER)
        .max_headers(endpoint::MAX_HEADERS)
        .serve_connection(stream, service);
    if let Err(error) = (&mut connection).await {
        tracing::debug!(%error, "connection of the admin socket ended");
        let now = SystemTime::now();
        let instead = if error.is_parse() {
            error::unparsable(now)
        } else {
            let why = if error.is_incomplete_message() { AdminError::Incomplete } else { AdminError::TooSlow };
            let (status, body) = refused(&why);
            error::raw(status, &body, now)
        };
        // An answer that has begun cannot be taken back; the client that did not read it is gone.
        if !answering.is_now() {
            connection.into_parts().io.answer_instead(instead).await;
        }
    }
}

async fn answer(request: Request<Incoming>, api: Arc<Api>, peer: Arc<Peer>) -> Reply {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(DEADLINE, whole(body)).await {
        Ok(Some(Some(body))) => body,
        Ok(Some(None)) => return refused(&AdminError::TooLarge),
        Ok(None) => return refused(&AdminError::Incomplete),
        Err(_) => return refused(&AdminError::TooSlow),
    };
    let changing = tokio::task::spawn_blocking(move || {
        let query = head.uri.query().unwrap_or_default();
        api.answer(&peer, &head.method, head.uri.path(), query, &body)
    });
    changing.await.unwrap_or_else(|_| refused(&AdminError::Internal))
}

/// The whole body, or `None` within if it is too long; `None` if it has not come. A client that sends too much reads no answer before it has
/// sent all, so some of what is too much is read and forgotten.
async fn whole(mut body: Incoming) -> Option<Option<Zeroizing<Vec<u8>>>> {
    // Never grown, so that no half of a token stays behind in memory.
    let (mut read, mut length) = (Zeroizing::new(Vec::with_capacity(MAX_BODY)), 0);
    while let Some(frame) = body.frame().await {
        let Ok(more) = frame.ok()?.into_data() else { continue };
        length += more.len();
        if length <= MAX_BODY {
            read.extend_from_slice(&more);
        } else if length > MOST_READ {
            break;
        }
    }
    Some((length <= MAX_BODY).then_some(read))
}

fn response((status, body): Reply) -> Response<Full<Bytes>> {
    let mut response = endpoint::response(status, "application/json", body);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    endpoint::dated(response)
}
