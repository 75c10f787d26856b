//! The load: keep-alive connections that each send a request, read the whole answer, check it, and send the next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::histogram::Histogram;

/// How long a round runs before it is measured: connections are open, caches and branch predictors warm.
const WARM_UP: Duration = Duration::from_millis(300);
/// How much longer than planned a round may take before it is given up.
const SLACK: Duration = Duration::from_secs(15);

/// What is sent and what has to come back: status 200, an answer of this length, this body.
#[derive(Debug)]
pub struct Exchange {
    request: Vec<u8>,
    answer: Answer,
}

impl Exchange {
    /// The answer must be a 200 of the server that is to be loaded, or of one that answers the same.
    ///
    /// # Errors
    /// The answer is no 200.
    pub fn new(request: Vec<u8>, answer: Answer) -> io::Result<Self> {
        match answer.status() {
            "HTTP/1.1 200" => Ok(Self { request, answer }),
            other => Err(io::Error::other(format!("answered {other}: {}", String::from_utf8_lossy(answer.body())))),
        }
    }

    async fn once(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
        stream.write_all(&self.request).await?;
        // `Date` has one length whatever the time, and nothing else differs.
        stream.read_exact(buffer).await?;
        if buffer.starts_with(self.answer.status().as_bytes()) && buffer.ends_with(self.answer.body()) {
            return Ok(());
        }
        let first = buffer.get(..buffer.len().min(200)).unwrap_or_default();
        Err(io::Error::other(format!("a wrong answer under load: {}", String::from_utf8_lossy(first))))
    }
}

/// What one round has measured.
#[derive(Clone, Debug)]
pub struct Round {
    /// How long it was measured.
    pub seconds: f64,
    /// CPU time that the server has used meanwhile.
    pub cpu_seconds: f64,
    /// From the first byte sent to the last byte read.
    pub latency: Histogram,
}

impl Round {
    /// Answers that came while it was measured.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.latency.count()
    }
}

/// The phases of a round.
const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

/// Loads a server for this long. `cpu` tells the CPU seconds that the server has used up to now.
///
/// # Errors
/// The first error of any connection, a wrong answer, or a server that has stopped answering.
pub async fn round(
    address: SocketAddr,
    exchange: &Arc<Exchange>,
    connections: usize,
    length: Duration,
    cpu: impl Fn() -> io::Result<f64>,
) -> io::Result<Round> {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let mut running = JoinSet::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        running.spawn(connection(stream, Arc::clone(exchange), Arc::clone(&phase)));
    }
    let measuring = async {
        tokio::time::sleep(WARM_UP).await;
        let (cpu_before, begun) = (cpu()?, Instant::now());
        phase.store(MEASURING, Ordering::Relaxed);
        tokio::time::sleep(length).await;
        phase.store(OVER, Ordering::Relaxed);
        let seconds = begun.elapsed().as_secs_f64();
        let cpu_seconds = cpu()? - cpu_before;
        let mut latency = Histogram::default();
        while let Some(ended) = running.join_next().await {
            latency.add(&ended.map_err(io::Error::other)??);
        }
        Ok(Round { seconds, cpu_seconds, latency })
    };
    match tokio::time::timeout(WARM_UP + length + SLACK, measuring).await {
        Ok(measured) => measured,
        Err(_) => Err(io::Error::other(format!("{address} has stopped answering"))),
    }
}

/// An answer counts when it came while the round was measured, whenever its request was sent: what is lost at the end was won at
/// the beginning.
async fn connection(mut stream: TcpStream, exchange: Arc<Exchange>, phase: Arc<AtomicU8>) -> io::Result<Histogram> {
    let mut latency = Histogram::default();
    let mut buffer = vec![0; exchange.answer.bytes().len()];
    loop {
        let sent = Instant::now();
        exchange.once(&mut stream, &mut buffer).await?;
        match phase.load(Ordering::Relaxed) {
            WARMING => {}
            MEASURING => latency.record(sent.elapsed()),
            _ => return Ok(latency),
        }
    }
}
