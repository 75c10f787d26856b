//! Clients that hold connections and do not go on, after slowhttptest: its -H, -B and -X, which open a new one when one has ended.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::http::request;
use crate::rig::until;
use crate::tasks::Task;

/// How a client is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its head never ends: a header a second.
    Head,
    /// The body that its head has told never ends: a byte a second.
    Body,
    /// It asks for a good session so many times at once and takes the answers through a small window, 32 bytes a second. Ten answers the
    /// system takes in its stead; a hundred are more than that, and the proxy has to wait.
    Read(usize),
}

/// Who is slow.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) kind: Kind,
    pub(crate) count: u32,
    /// Its addresses of loopback, 127.0.0.FIRST to 127.0.0.LAST.
    pub(crate) from: (u8, u8),
    /// Each opens its next connection so long after its last one, or when that has ended if this is later.
    pub(crate) again: Duration,
}

/// A crowd at work, on a thread of its own, until it is dropped.
pub(crate) struct Slow {
    opened: Arc<AtomicU32>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Slow {
    /// Returns once each of them has opened a connection.
    pub(crate) fn start(crowd: Crowd, to: SocketAddr, task: &Task) -> Self {
        let opened = Arc::<AtomicU32>::default();
        let (stop, stopped) = oneshot::channel();
        let (counter, request) = (Arc::clone(&opened), Arc::<str>::from(request(to, &task.path(), None)));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (first, last) = crowd.from;
                for (number, last) in (0..crowd.count).zip((first..=last).cycle()) {
                    // Not all in one moment, but evenly: what is measured is what they hold, not a flood of connections.
                    let begin = Instant::now() + crowd.again * number / crowd.count;
                    let from = Ipv4Addr::new(127, 0, 0, last);
                    tokio::spawn(client(crowd, begin, from, to, Arc::clone(&request), Arc::clone(&counter)));
                }
                let _ = stopped.await;
            });
        });
        let slow = Self { opened, stop: Some(stop), thread: Some(thread) };
        until("every slow client has a connection", || slow.opened() >= crowd.count);
        slow
    }

    /// How many connections they have opened so far.
    pub(crate) fn opened(&self) -> u32 {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

async fn client(
    crowd: Crowd,
    begin: Instant,
    from: Ipv4Addr,
    to: SocketAddr,
    request: Arc<str>,
    opened: Arc<AtomicU32>,
) {
    sleep_until(begin).await;
    loop {
        let start = Instant::now();
        // One that finds no place tries again like the others; what is held to a promise is the honest client.
        if let Ok(stream) = open(crowd.kind, from, to).await {
            opened.fetch_add(1, Ordering::Relaxed);
            let _ = hold(crowd.kind, stream, &request).await;
        }
        sleep_until(start + crowd.again).await;
    }
}

async fn open(kind: Kind, from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Kind::Read(_) = kind {
        // Segments as on a network, too: on loopback alone they are so large that the system takes every answer at once.
        socket.set_tcp_mss(536)?;
        socket.set_recv_buffer_size(1024)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

/// Until the other side ends it.
async fn hold(kind: Kind, mut stream: TcpStream, request: &str) -> std::io::Result<()> {
    const SECOND: Duration = Duration::from_secs(1);
    if let Kind::Read(times) = kind {
        let all = request.repeat(times);
        let _ = timeout(SECOND, stream.write_all(all.as_bytes())).await;
        // The other side gives up after 5 s, which is seen only behind all that it has sent before.
        for _ in 0..6 {
            sleep(SECOND).await;
            if timeout(SECOND, stream.read(&mut [0; 32])).await.unwrap_or(Ok(1))? == 0 {
                break;
            }
        }
        return Ok(());
    }
    let (head, more): (_, &[u8]) = match kind {
        Kind::Body => {
            let head = request.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 8192\r\n\r\n");
            (head, b"x")
        }
        Kind::Head | Kind::Read(_) => (request.trim_end().to_owned() + "\r\n", b"X-Slow: x\r\n"),
    };
    stream.write_all(head.as_bytes()).await?;
    loop {
        match timeout(SECOND, stream.read(&mut [0; 1024])).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => drop(read?),
            Err(_) => stream.write_all(more).await?,
        }
    }
}
