//! One request and the answer that belongs to it, as bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a single exchange may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any answer of the proxy.
const LONGEST: usize = 64 * 1024;

/// A whole HTTP/1.1 answer with a Content-Length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    bytes: Vec<u8>,
    head: usize,
}

impl Answer {
    /// The answer that these bytes begin with; `None` while some of it is missing.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
            return if bytes.len() < LONGEST { Ok(None) } else { Err(io::Error::other("no end of the answer's head")) };
        };
        let mut answer = Self { bytes: bytes.to_vec(), head };
        let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let length = length.ok_or_else(|| io::Error::other("an answer without a Content-Length"))?;
        if length > LONGEST {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        if bytes.len() < head + length {
            return Ok(None);
        }
        answer.bytes.truncate(head + length);
        Ok(Some(answer))
    }

    /// Reads one answer from a stream.
    ///
    /// # Errors
    /// The stream's, or what is wrong with the bytes.
    pub fn read(mut from: impl Read) -> io::Result<Self> {
        let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let read = from.read(&mut part)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(part.get(..read).unwrap_or_default());
            if let Some(answer) = Self::parse(&bytes)? {
                return Ok(answer);
            }
        }
    }

    /// Sends a request on a connection of its own.
    ///
    /// # Errors
    /// Those of the connection, or what is wrong with the answer.
    pub fn fetch(address: SocketAddr, request: &[u8]) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        Self::read(stream)
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.head..).unwrap_or_default()
    }

    /// The status line's first two words, `HTTP/1.1 200`.
    #[must_use]
    pub fn status(&self) -> &str {
        self.lines().next().and_then(|line| line.get(..12)).unwrap_or_default()
    }

    /// The headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines().skip(1).filter_map(|line| line.split_once(": "))
    }

    /// Everything but the value of `Date`, which is another one every second.
    #[must_use]
    pub fn without_date(&self) -> (&str, Vec<(&str, &str)>, &[u8]) {
        let headers = self.headers().map(|(name, value)| match name {
            "date" => (name, ""),
            _ => (name, value),
        });
        (self.status(), headers.collect(), self.body())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        let head = self.bytes.get(..self.head).unwrap_or_default();
        std::str::from_utf8(head).unwrap_or_default().split("\r\n")
    }
}

/// A request for credentials, as an SDK sends it.
#[must_use]
pub fn request(id: &str, token: &str) -> Vec<u8> {
    format!(
        "GET /v2/credentials/{id} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {token}\r\naccept: application/json\r\n\
         user-agent: taskcreds-benches\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\ndate: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\nhi";

    #[test]
    fn an_answer_is_whole_when_its_last_byte_is_there() {
        for end in 0..OK.len() {
            assert_eq!(Answer::parse(&OK[..end]).unwrap(), None);
        }
        let answer = Answer::parse(&[OK, b"HTTP/1.1"].concat()).unwrap().unwrap();
        assert_eq!((answer.bytes(), answer.status(), answer.body()), (OK, "HTTP/1.1 200", &b"hi"[..]));
        assert_eq!(answer.without_date().1, [("content-type", "text/plain"), ("content-length", "2"), ("date", "")]);
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
