//! A client's connection under hyper. It adds the two things that hyper lacks.
//!
//! Deadlines that differ: a head must arrive within [`HEAD`], an answer must be taken within [`WRITE`], but between two requests
//! a connection may rest for [`IDLE`] (hyper has one deadline for the first and the last). And JSON for what is no HTTP: hyper
//! answers that itself, with an empty body, before there is a request to handle; its answer is replaced here.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{ReadBuf, ReadBufCursor};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::error;

/// How long a request's head may take from its first byte, and a new connection until its head is whole.
pub(crate) const HEAD: Duration = Duration::from_secs(5);
/// How long a client may take to accept an answer.
pub(super) const WRITE: Duration = Duration::from_secs(5);
/// How long a connection may rest between two requests. Clients keep theirs for up to 60 s.
pub(super) const IDLE: Duration = Duration::from_secs(75);

/// How much is read at once, in bytes: more than most requests have.
const READ: usize = 4096;

/// Says that a request is being answered: begun by the handler, over when the answer is out.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    now: AtomicBool,
    stalled: AtomicBool,
    /// When it began, in milliseconds since the first one of this process.
    since: AtomicU64,
}

/// Whoever is answered for longer waits for a first session, or for the disk of the audit log: an answer from memory takes microseconds.
const WAITS: u64 = 100;

fn milliseconds() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    u64::try_from(FIRST.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Answering {
    /// A request has come.
    pub(crate) fn begin(&self) {
        self.since.store(milliseconds(), Ordering::Relaxed);
        self.now.store(true, Ordering::Relaxed);
    }

    /// Whether a request is being answered.
    pub(crate) fn is_now(&self) -> bool {
        self.now.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered whose client takes what it is given: who does not is as slow as who sends half a head.
    pub(super) fn goes_on(&self) -> bool {
        self.is_now() && !self.stalled.load(Ordering::Relaxed)
    }

    /// Whether the answer is waited for and not just made.
    pub(super) fn waits(&self) -> bool {
        self.is_now() && milliseconds().saturating_sub(self.since.load(Ordering::Relaxed)) >= WAITS
    }

    /// The client does not take what it is given, for now.
    pub(super) fn stall(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        self.now.store(false, Ordering::Relaxed);
        self.stalled.store(false, Ordering::Relaxed);
    }
}

/// A connection with deadlines.
pub(crate) struct Stream<S> {
    inner: TokioIo<S>,
    answering: Arc<Answering>,
    waiting: Waiting,
    timer: Pin<Box<Sleep>>,
    /// Whether anything was written since the last flush. hyper flushes while the handler is still at work, too.
    wrote: bool,
    /// What is left to write of the answer that stands in for hyper's own.
    instead: Option<Vec<u8>>,
    /// The last bytes that were read.
    last: [u8; 3],
}

/// What the connection waits for, and until when.
#[derive(Clone, Copy)]
enum Waiting {
    /// The next request.
    Request(Instant),
    /// The rest of a head.
    Head(Instant),
    /// The client, to take an answer.
    Client(Instant),
}

impl Waiting {
    fn until(self) -> Instant {
        match self {
            Self::Request(until) | Self::Head(until) | Self::Client(until) => until,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Wraps a new connection, whose first head is due.
    #[must_use]
    pub(crate) fn new(stream: S, answering: Arc<Answering>) -> Self {
        let due = Instant::now() + HEAD;
        let timer = Box::pin(tokio::time::sleep_until(due));
        let (inner, waiting) = (TokioIo::new(stream), Waiting::Head(due));
        Self { inner, answering, waiting, timer, wrote: false, instead: None, last: [0; 3] }
    }

    fn is_answering(&self) -> bool {
        self.answering.is_now()
    }

    /// Remembers the end of what was read.
    fn note(&mut self, read: &[u8]) {
        for byte in read.iter().skip(read.len().saturating_sub(self.last.len())) {
            self.last.rotate_left(1);
            self.last[2] = *byte;
        }
    }

    /// Whether what was read ends where a head ends. If not, a part of the next one came with the request that is being answered.
    fn is_between_heads(&self) -> bool {
        self.last.ends_with(b"\n\n") || self.last == *b"\n\r\n"
    }

    /// Fails once the present deadline has passed. The timer is moved only when it would come too late, so a busy connection does
    /// not touch it.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let until = self.waiting.until();
        loop {
            if self.timer.deadline() > until {
                self.timer.as_mut().reset(until);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(until);
        }
    }

    /// Pending until the client reads on or is given up.
    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !matches!(self.waiting, Waiting::Client(_)) {
            self.waiting = Waiting::Client(Instant::now() + WRITE);
            self.answering.stall();
        }
        self.overdue(cx)
    }

    /// Writes what stands in for hyper's own answer.
    fn write_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.instead.as_deref().filter(|rest| !rest.is_empty()) {
            match hyper::rt::Write::poll_write(Pin::new(&mut self.inner), cx, rest) {
                Poll::Ready(written) => {
                    let written = written?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    if let Some(instead) = &mut self.instead {
                        instead.drain(..written);
                    }
                }
                Poll::Pending => return self.stalled(cx).map(Err),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Answers bytes that are no HTTP, if hyper has not: to the preface of HTTP/2 it says nothing.
    pub(super) async fn refuse(&mut self) {
        self.answer_instead(error::unparsable(std::time::SystemTime::now())).await;
    }

    /// Answers in place of hyper, if it has not.
    pub(crate) async fn answer_instead(&mut self, answer: Vec<u8>) {
        self.instead.get_or_insert(answer);
        // The client may be gone, or not listen; then nobody misses the answer.
        let _ = std::future::poll_fn(|cx| self.write_instead(cx)).await;
    }

    /// Takes over a write that no handler has asked for. Returns whether it did.
    fn take_over(&mut self) -> bool {
        if self.is_answering() {
            return false;
        }
        self.instead.get_or_insert_with(|| error::unparsable(std::time::SystemTime::now()));
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Read for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        // Not straight into hyper's buffer: only it can look there.
        let mut bytes = [MaybeUninit::uninit(); READ];
        let mut piece = ReadBuf::uninit(bytes.get_mut(..buf.remaining().min(READ)).unwrap_or_default());
        match Pin::new(&mut stream.inner).poll_read(cx, piece.unfilled()) {
            Poll::Ready(read) => {
                stream.note(piece.filled());
                buf.put_slice(piece.filled());
                if let Waiting::Request(_) = stream.waiting {
                    stream.waiting = Waiting::Head(Instant::now() + HEAD);
                }
                Poll::Ready(read)
            }
            // The handler has a deadline of its own.
            Poll::Pending if stream.is_answering() => Poll::Pending,
            Poll::Pending => stream.overdue(cx).map(Err),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Write for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &mut *self;
        if stream.take_over() {
            return Poll::Ready(Ok(buf.len()));
        }
        match Pin::new(&mut stream.inner).poll_write(cx, buf) {
            Poll::Pending => stream.stalled(cx).map(Err),
            written => {
                stream.wrote = true;
                written
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self;
        if stream.take_over() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        match Pin::new(&mut stream.inner).poll_write_vectored(cx, bufs) {
            Poll::Pending => stream.stalled(cx).map(Err),
            written => {
                stream.wrote = true;
                written
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        ready!(stream.write_instead(cx))?;
        // hyper has written all that it had: the answer is out and the connection rests.
        if std::mem::take(&mut stream.wrote) {
            stream.answering.end();
            let now = Instant::now();
            stream.waiting =
                if stream.is_between_heads() { Waiting::Request(now + IDLE) } else { Waiting::Head(now + HEAD) };
        }
        Pin::new(&mut stream.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        ready!(stream.write_instead(cx))?;
        Pin::new(&mut stream.inner).poll_shutdown(cx)
    }
}
