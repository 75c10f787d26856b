//! How long a server takes from the start of its process to an answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::process::Process;
use crate::proxy::Proxy;

/// How long a start may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that is answered without a session: no path of the endpoint's.
pub const ANY: &[u8] = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";

/// Starts the proxy, asks until an answer is `enough`, and ends it; as often as told. One more start goes before and is not counted:
/// it brings the program into memory.
///
/// # Errors
/// A start that does not come to that answer.
pub fn times(
    proxy: &Proxy,
    starts: usize,
    request: &[u8],
    enough: impl Fn(&Answer) -> bool,
) -> io::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(starts);
    for number in 0..=starts {
        let took = time(proxy, request, &enough)?;
        if number > 0 {
            times.push(took);
        }
    }
    Ok(times)
}

fn time(proxy: &Proxy, request: &[u8], enough: impl Fn(&Answer) -> bool) -> io::Result<Duration> {
    let address = free_address()?;
    let mut command = proxy.command(address)?;
    let begun = Instant::now();
    let mut process = Process::start(&mut command)?;
    let mut last = None;
    while begun.elapsed() < PATIENCE {
        // Refused until it listens. No pause: the pause would be in the figure.
        match Answer::fetch(address, request) {
            Ok(answer) if enough(&answer) => return Ok(begun.elapsed()),
            Ok(answer) => last = Some(String::from_utf8_lossy(answer.bytes()).into_owned()),
            Err(_) => {}
        }
        if let Some(status) = process.ended()? {
            return Err(io::Error::other(format!("the proxy has ended with {status} instead of starting")));
        }
    }
    Err(io::Error::other(format!("no such answer within {} s of the start; the last: {last:?}", PATIENCE.as_secs())))
}

/// An address that nobody listens on. Its port is below those that the system gives to connections: one of them, trying to reach its
/// own port, would reach itself.
fn free_address() -> io::Result<SocketAddr> {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap_or_default();
    let mut addresses = (first..first + 2_000).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).ok_or_else(|| io::Error::other("no free port"))
}
