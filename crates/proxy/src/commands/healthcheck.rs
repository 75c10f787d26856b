//! `taskcreds healthcheck`: does a proxy answer at this address?
//!
//! It asks the credentials endpoint for credentials without an id, which a living proxy refuses in a way that nothing else does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use super::say;
use crate::cli;
use crate::failure::{Exit, Failure};

const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(flags: &cli::Healthcheck) -> Result<ExitCode, Failure> {
    let address = flags.address;
    let unhealthy = |why: String| Failure::new(Exit::Unhealthy, format!("no healthy proxy at {address}: {why}"));
    let answer =
        ask(address).map_err(|error| unhealthy(format!("{error}; is taskcreds serving there? (--address)")))?;
    if is_ours(&answer) {
        say(format!("a taskcreds proxy answers at {address}"));
        Ok(ExitCode::SUCCESS)
    } else {
        let first = answer.lines().next().unwrap_or("nothing").to_owned();
        Err(unhealthy(format!("what answers there is no credentials endpoint (it said {first:?})")))
    }
}

/// Whether a proxy answers at an address.
#[cfg(target_os = "linux")]
pub(super) fn is_healthy(address: SocketAddr) -> std::io::Result<bool> {
    ask(address).map(|answer| is_ours(&answer))
}

fn is_ours(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""code":"NoIdInRequest""#)
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /v2/credentials HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(16 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
