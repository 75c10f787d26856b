//! What stands in front of a server: it lets through, waits, keeps silent, or answers requests itself.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// What happens to a new connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// It is passed on.
    Open,
    /// It is passed on after this time.
    Slow(Duration),
    /// It is taken and nothing comes back.
    Silent,
}

struct Shared {
    upstream: SocketAddr,
    mode: Mode,
    header: &'static str,
    answer: Mutex<Answer>,
    first: Mutex<Option<Action>>,
}

/// What the next requests are answered in place of the server.
#[derive(Default)]
struct Answer {
    bytes: String,
    left: usize,
    given: usize,
}

impl Answer {
    fn next(&mut self) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        self.given += 1;
        Some(self.bytes.clone())
    }
}

type Action = Box<dyn FnOnce() + Send>;

/// A listener on loopback in front of another one.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    running: tokio::task::JoinHandle<()>,
}

impl Front {
    /// Begins to listen. `header` is added to the first request of each connection: nothing, or a line with its end.
    ///
    /// # Errors
    /// The system's.
    pub fn before(
        runtime: &Handle,
        listen: SocketAddr,
        upstream: SocketAddr,
        mode: Mode,
        header: &'static str,
    ) -> io::Result<Self> {
        let listener = runtime.block_on(TcpListener::bind(listen))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { upstream, mode, header, answer: Mutex::default(), first: Mutex::default() });
        let of_connections = Arc::clone(&shared);
        let running = runtime.spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&of_connections);
                all.spawn(async move { pass(stream, &shared).await });
            }
        });
        Ok(Self { address, shared, running })
    }

    /// Does this when the first connection comes, before anything of it is passed on.
    pub fn at_first(&self, action: impl FnOnce() + Send + 'static) {
        *lock(&self.shared.first) = Some(Box::new(action));
    }

    /// Answers the next requests itself, so many times, with this status, an error as the proxy writes them, and these headers.
    pub fn answer(&self, times: usize, status: u16, code: &str, message: &str, headers: &str) {
        let body = format!(
            "{{\"code\":\"{code}\",\"message\":\"{message}\",\"HTTPErrorCode\":{status},\"Code\":\"{code}\",\"Message\":\"{message}\"}}"
        );
        let bytes = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        *lock(&self.shared.answer) = Answer { bytes, left: times, given: 0 };
    }

    /// How many of those requests have come.
    #[must_use]
    pub fn answered(&self) -> usize {
        lock(&self.shared.answer).given
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let first = lock(&shared.first).take();
    if let Some(action) = first {
        tokio::task::spawn_blocking(action).await.map_err(io::Error::other)?;
    }
    match shared.mode {
        Mode::Open => {}
        Mode::Slow(time) => tokio::time::sleep(time).await,
        Mode::Silent => std::future::pending().await,
    }
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let answer = lock(&shared.answer).next();
    if let Some(answer) = answer {
        stream.write_all(answer.as_bytes()).await?;
        return stream.shutdown().await;
    }
    let mut upstream = TcpStream::connect(shared.upstream).await?;
    let line = head.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (first, rest) = head.split_at(line);
    upstream.write_all(&[first, shared.header.as_bytes(), rest].concat()).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut upstream).await?;
    Ok(())
}
