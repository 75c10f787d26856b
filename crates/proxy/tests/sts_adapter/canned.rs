//! An HTTP server on loopback that answers what it is told and keeps every request.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use taskcreds::aws::{Base, Sts};
use tokio::net::{TcpListener, TcpStream};

/// The sample of AWS's API reference, with the elements that came in 2026.
pub(crate) const SUCCESS: &str = include_str!("../replies/assume_role.xml");
pub(crate) const SUCCESS_KEY: &str = "ASIAIOSFODNN7EXAMPLE";
pub(crate) const SUCCESS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(crate) const SUCCESS_TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWs\
    KWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQ\
    DYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8\
    fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
/// The `x-amzn-requestid` of every [`reply`].
pub(crate) const REQUEST_ID: &str = "c6104cbe-af31-11e0-8154-cbc7ccf896c7";
/// The access key of [`Canned::sts`].
pub(crate) const BASE_KEY: &str = "AKIAI44QH8DHBEXAMPLE";

/// What a connection gets for its one request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// These bytes, then the end.
    Whole(Vec<u8>),
    /// These bytes, then nothing for as long as the client stays.
    Stalled(Vec<u8>),
}

/// An answer as STS sends it.
pub(crate) fn reply(status: u16, body: &str) -> Answer {
    reply_with(status, "", body)
}

/// An answer as STS sends it, with more header lines, each ended by `\r\n`.
pub(crate) fn reply_with(status: u16, headers: &str, body: &str) -> Answer {
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: text/xml\r\nx-amzn-requestid: {REQUEST_ID}\r\n\
         Content-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    Answer::Whole(format!("{head}{body}").into_bytes())
}

/// The body of a refusal.
pub(crate) fn refusal(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
    )
}

/// One request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The method and the target.
    pub(crate) line: String,
    headers: HashMap<String, String>,
    /// The parameters of the form in the body, decoded.
    pub(crate) form: HashMap<String, String>,
}

impl Request {
    /// The request, once all of it is there.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers: HashMap<_, _> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        (body.len() >= length).then(|| Self { line, headers, form: decode(body) })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.form.get(name).map(String::as_str)
    }

    /// Whose key signed it.
    pub(crate) fn access_key_id(&self) -> &str {
        self.scope(0)
    }

    /// The region that it was signed for.
    pub(crate) fn region(&self) -> &str {
        self.scope(2)
    }

    /// A part of `Credential=KEY/DATE/REGION/sts/aws4_request`.
    fn scope(&self, part: usize) -> &str {
        let authorization = self.header("authorization").unwrap();
        let (_, scope) = authorization.split_once("Credential=").unwrap();
        scope.split(['/', ',']).nth(part).unwrap()
    }
}

fn decode(form: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    form.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value))).collect()
}

type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// The server; it ends with the runtime of its test.
pub(crate) struct Canned {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Canned {
    /// Answers the first request with the first answer and so on; the last one is for all that follow.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Vec<_> = answers.into_iter().collect();
        Self::scripted(move |_, number| answers[number.min(answers.len()) - 1].clone()).await
    }

    /// The script is given the request and its number, from 1 on.
    pub(crate) async fn scripted(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let canned = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let (requests, script): (_, Arc<Script>) = (Arc::clone(&canned.requests), Arc::new(script));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&requests), Arc::clone(&script)));
            }
        });
        canned
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// An adapter that asks this server.
    pub(crate) fn sts(&self) -> Sts {
        sts(self.address)
    }

    /// What has come, the oldest first.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The one request that has come.
    pub(crate) fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

/// An adapter that asks whoever listens there.
pub(crate) fn sts(address: SocketAddr) -> Sts {
    Sts::new(Base::Emulator {
        endpoint: format!("http://{address}"),
        access_key_id: BASE_KEY.to_owned(),
        secret_access_key: "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY".into(),
        embedded: None,
    })
}

async fn serve(stream: TcpStream, requests: Arc<Mutex<Vec<Request>>>, script: Arc<Script>) {
    let mut bytes = Vec::new();
    let request = loop {
        match Request::parse(&bytes) {
            Some(request) => break request,
            None if read(&stream, &mut bytes).await => {}
            None => return,
        }
    };
    let number = {
        let mut requests = requests.lock().unwrap();
        requests.push(request.clone());
        requests.len()
    };
    match script(&request, number) {
        Answer::Whole(bytes) => write(&stream, &bytes).await,
        Answer::Stalled(bytes) => {
            write(&stream, &bytes).await;
            while read(&stream, &mut Vec::new()).await {}
        }
    }
}

/// Whether there was more to read.
async fn read(stream: &TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 8192];
    loop {
        stream.readable().await.unwrap();
        match stream.try_read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return false,
            Ok(length) => {
                bytes.extend_from_slice(&chunk[..length]);
                return true;
            }
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.writable().await.unwrap();
        match stream.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(length) => bytes = &bytes[length..],
            Err(_) => return,
        }
    }
}
