//! An emulator on a free port with a clock that is moved by hand, and two ways to call it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::{BehaviorVersion, Region};
use aws_sdk_sts::error::ProvideErrorMetadata;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use taskcreds_sts_emulator::{Emulator, Options, Roles};
use tokio::net::TcpListener;

pub(crate) const USER: &str = "arn:aws:iam::111122223333:user/me";
pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/app";

pub(crate) struct Sts {
    pub(crate) emulator: Emulator,
    pub(crate) address: SocketAddr,
    /// Seconds by which the clock of the emulator is ahead of where it began.
    ahead: Arc<AtomicU64>,
    begin: SystemTime,
}

impl Sts {
    /// The clock begins ten minutes ago and stands still. Signatures made by the system's clock are good until it has
    /// been moved by twenty-five minutes.
    pub(crate) async fn start(roles: Roles) -> Self {
        Self::start_with(Options { roles, ..Options::default() }).await
    }

    /// The same with other options, but for the clock.
    pub(crate) async fn start_with(options: Options) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970.as_secs() - 600);
        let ahead = Arc::new(AtomicU64::new(0));
        let clock = {
            let ahead = Arc::clone(&ahead);
            Arc::new(move || begin + Duration::from_secs(ahead.load(Ordering::SeqCst)))
        };
        let emulator = Emulator::new(Options { clock, ..options });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(emulator.clone().run(listener, std::future::pending()));
        Self { emulator, address, ahead, begin }
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.begin + Duration::from_secs(self.ahead.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The credentials of a new caller.
    pub(crate) fn caller(&self, arn: &str) -> Credentials {
        let key = self.emulator.add_caller(arn).unwrap();
        Credentials::new(key.access_key_id, key.secret_access_key, None, None, "test")
    }

    pub(crate) fn client(&self, credentials: Credentials) -> Client {
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-central-1"))
            .endpoint_url(format!("http://{}", self.address))
            .credentials_provider(credentials)
            .build();
        Client::from_conf(config)
    }

    /// A session of `ROLE`, assumed by the user.
    pub(crate) async fn session(&self, duration: i32) -> Credentials {
        let client = self.client(self.caller(USER));
        let call = client.assume_role().role_arn(ROLE).role_session_name("task").duration_seconds(duration);
        credentials(call.send().await.unwrap().credentials.as_ref())
    }

    /// Sends a form, signed with these credentials.
    pub(crate) async fn post(&self, credentials: &Credentials, form: &[(&str, &str)]) -> Reply {
        let body = encode(form);
        self.exchange(self.signed(credentials, &body), body).await
    }

    /// The head of a `POST /` with the headers of its signature, up to and including the empty line.
    pub(crate) fn signed(&self, credentials: &Credentials, body: &str) -> String {
        let host = self.address.to_string();
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("sts")
            .time(self.now())
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let headers = [("host", host.as_str())].into_iter();
        let request = SignableRequest::new("POST", "/", headers, SignableBody::Bytes(body.as_bytes())).unwrap();
        let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
        let headers: String = instructions.headers().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
    }

    /// Writes a request as it is and reads the reply to the end.
    pub(crate) async fn exchange(&self, head: String, body: impl Into<Vec<u8>>) -> Reply {
        let (address, body) = (self.address, body.into());
        let reply = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            reply
        });
        Reply::parse(&reply.await.unwrap())
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// The text of the first element of this name.
    pub(crate) fn element(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0)
    }

    pub(crate) fn code(&self) -> &str {
        self.element("Code").unwrap_or("Success")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub(crate) fn encode(form: &[(&str, &str)]) -> String {
    let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    form.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect::<Vec<_>>().join("&")
}

pub(crate) fn credentials(issued: Option<&aws_sdk_sts::types::Credentials>) -> Credentials {
    let issued = issued.unwrap();
    let token = Some(issued.session_token().to_owned());
    Credentials::new(issued.access_key_id(), issued.secret_access_key(), token, None, "test")
}

/// The code and the message of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, impl ProvideErrorMetadata>) -> (String, String) {
    let error = result.err().unwrap();
    (error.code().unwrap().to_owned(), error.message().unwrap().to_owned())
}
