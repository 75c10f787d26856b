//! The client of the admin socket: one request, one answer.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::net::UnixStream;

use super::error::Refusal;
use crate::failure::{Exit, Failure};
use crate::http::client::exchange;

/// Longer than the other side takes for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks, and returns the JSON of an answer that is no refusal.
///
/// # Errors
/// Nobody answers at this socket, or the answer is a refusal; its exit status is in the README.
pub async fn ask(socket: &Path, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Bytes, Failure> {
    let connect = async {
        let stream = UnixStream::connect(socket).await?;
        check_server(socket, &stream)?;
        Ok(stream)
    };
    let answered = exchange(connect, "localhost", method, path, body, PATIENCE).await;
    let (status, answer) = answered.map_err(|error| unreachable(socket, &error))?;
    if status.is_success() { Ok(answer) } else { Err(refusal(status, &answer)) }
}

/// Whoever could have made the socket there is trusted: root, this user, and the owner of its folder. Somebody else's socket in a folder
/// like /tmp would be told ids and tokens.
fn check_server(socket: &Path, stream: &UnixStream) -> io::Result<()> {
    let folder = crate::folder::of(socket);
    let (server, owner) = (stream.peer_cred()?.uid(), std::fs::metadata(folder)?.uid());
    if [0, owner, rustix::process::geteuid().as_raw()].contains(&server) {
        return Ok(());
    }
    let why = format!(
        "user {server} listens there, in a folder of user {owner}: this is not the proxy that the folder is for"
    );
    Err(io::Error::other(why))
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let (exit, why) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            (Exit::Unavailable, "is taskcreds serving with --admin-socket there? (--socket)")
        }
        io::ErrorKind::PermissionDenied => {
            (Exit::NoPermission, "only the user that runs taskcreds, root and the group of [admin] may use it")
        }
        _ => (Exit::Unavailable, "see the log of taskcreds"),
    };
    Failure::new(exit, format!("no answer at the admin socket {}: {error}; {why}", socket.display()))
}

fn refusal(status: StatusCode, answer: &[u8]) -> Failure {
    let Ok(Refusal { code, message, faults }) = serde_json::from_slice(answer) else {
        return Failure::new(Exit::Unavailable, format!("what answers there is no admin socket: it said {status}"));
    };
    let exit = match status {
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => Exit::Unhealthy,
        StatusCode::FORBIDDEN => Exit::NoPermission,
        StatusCode::REQUEST_TIMEOUT => Exit::TemporaryFailure,
        status if status.is_client_error() => Exit::Usage,
        _ => Exit::Software,
    };
    let message = if faults.len() > 1 { faults.join("\n") } else { message };
    Failure::new(exit, format!("{message} ({code})"))
}
