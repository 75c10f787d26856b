//! An HTTP client that hides nothing: bytes go out as they are given, and the answer is taken apart and no more.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::secrets;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status line.
    pub(crate) line: String,
    /// The status.
    pub(crate) status: u16,
    /// The headers in their order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// A header's value; `None` unless it is there exactly once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(given, _)| given == name);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("the body of a {} is no JSON", self.status))
    }

    /// The error's code and message.
    pub(crate) fn error(&self) -> (String, String) {
        let json = self.json();
        (json["code"].as_str().unwrap().to_owned(), json["message"].as_str().unwrap().to_owned())
    }

    /// Takes an answer from the beginning of the bytes, if a whole one is there; and how long it was.
    pub(crate) fn parse(bytes: &[u8], has_body: bool) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).expect("the head of an answer is text");
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").expect("NAME: VALUE"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Self { line, status, headers, body: String::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        let length: usize = if has_body { length.expect("every answer tells its length once") } else { 0 };
        let body = bytes.get(end + 4..end + 4 + length)?;
        answer.body = String::from_utf8(body.to_vec()).expect("a body is text");
        if status == 200 && has_body && answer.header("content-type") == Some("application/json") {
            secrets::remember_session(&answer.json());
        }
        Some((answer, end + 4 + length))
    }
}

/// A connection to the proxy.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Connects from this address of loopback.
    pub(crate) fn open_from(from: [u8; 4], address: SocketAddr) -> Self {
        Self::over(connect_from(from, address, PATIENCE).unwrap())
    }

    /// Over what somebody else has connected.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.read_answer(true)
    }

    /// The next answer, which has no body whatever its length says.
    pub(crate) fn answer_to_head(&mut self) -> Answer {
        self.read_answer(false)
    }

    fn read_answer(&mut self, has_body: bool) -> Answer {
        loop {
            if let Some((answer, length)) = Answer::parse(&self.read, has_body) {
                self.read.drain(..length);
                return answer;
            }
            let more = self.read_more().unwrap_or_else(|error| panic!("no whole answer: {error}"));
            assert!(more > 0, "the connection ended after {} bytes without a whole answer", self.read.len());
        }
    }

    fn read_more(&mut self) -> std::io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let more = self.stream.read(&mut buffer)?;
        self.read.extend_from_slice(&buffer[..more]);
        Ok(more)
    }

    /// Whether the connection stays open for so long and nothing comes.
    pub(crate) fn is_open_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let nothing = self.read_more();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A read that has timed out is `WouldBlock` on Linux.
        nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Waits for the other side to end the connection; how long that took. Nothing may come before.
    pub(crate) fn closed_after(&mut self) -> Duration {
        let start = Instant::now();
        match self.read_more() {
            Ok(0) => {}
            Ok(_) => panic!("{} bytes came that nobody has asked for", self.read.len()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection is still open after {} s: {error}", PATIENCE.as_secs()),
        }
        start.elapsed()
    }
}

/// A connection from this address of loopback; an error where the other side does not take it.
pub(crate) fn connect_from(from: [u8; 4], to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect_timeout(&to.into(), patience)?;
    Ok(socket.into())
}

/// The head of a GET, as an SDK sends it.
pub(crate) fn request(address: SocketAddr, path: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n{token}\r\n")
}

/// One GET on a connection of its own. Asked again, as SDKs do, while the first load takes longer than the proxy waits for it, which it
/// does on a busy machine.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    let ask = || Connection::open(address).send(request(address, path, None)).answer();
    let is_cold = |answer: &Answer| answer.status == 503 && answer.body.contains("the first load is under way");
    (0..3).map(|_| ask()).find(|answer| !is_cold(answer)).unwrap_or_else(ask)
}

/// One GET with a token.
pub(crate) fn get_with_token(address: SocketAddr, path: &str, token: &str) -> Answer {
    Connection::open(address).send(request(address, path, Some(token))).answer()
}

/// A GET that may fail; whatever it brings is remembered as a secret.
pub(crate) fn try_get(address: SocketAddr, path: &str, token: Option<&str>) {
    let ask = || -> std::io::Result<()> {
        let patience = Duration::from_millis(300);
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(request(address, path, token).as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut read = Vec::new();
        stream.read_to_end(&mut read)?;
        Answer::parse(&read, true);
        Ok(())
    };
    // An endpoint that does not answer gives nothing away either.
    let _ = ask();
}

/// The answer on a connection of the asynchronous kind, for a thousand at once.
pub(crate) async fn answer_on(stream: &mut tokio::net::TcpStream) -> std::io::Result<Answer> {
    use tokio::io::AsyncReadExt;
    let mut read = Vec::new();
    loop {
        if let Some((answer, _)) = Answer::parse(&read, true) {
            return Ok(answer);
        }
        if tokio::time::timeout(PATIENCE, stream.read_buf(&mut read)).await?? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
