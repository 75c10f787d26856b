//! What one case happens in: an STS, the real binary, and what stands between them.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use taskcreds_sts_emulator::{AccessKey, Emulator, Options, Role, Roles};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::aws::{self, Sessions};
use crate::clients::{Client, Installed, Knows, Reply, Running};
use crate::front::{Front, Mode};

/// The role of the task.
pub const ARN: &str = "arn:aws:sts::111122223333:assumed-role/web/0123456789abcdef0123456789abcdef";
const ROLE: &str = "arn:aws:iam::111122223333:role/web";
const TASK: &str = "arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef0123456789abcdef";
/// Who asks when this suite itself does.
const OWN_AGENT: &str = "conformance";

/// What is there for all cases of a client.
pub struct Surroundings {
    runtime: Runtime,
    /// How many requests the instance metadata service has had.
    pub metadata_requests: Arc<AtomicUsize>,
    binary: PathBuf,
    installed: Installed,
}

impl Surroundings {
    /// In a network namespace of its own, where loopback has the addresses.
    ///
    /// # Errors
    /// The system's.
    pub fn new(binary: &Path, installed: Installed) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let metadata_requests = aws::instance_metadata(runtime.handle())?;
        Ok(Self { runtime, metadata_requests, binary: binary.to_owned(), installed })
    }
}

/// How a case differs from the ordinary.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Where the proxy listens.
    pub listen: &'static str,
    /// The task demands a token.
    pub token: bool,
    /// At 169.254.170.2 too.
    pub always: bool,
    /// STS refuses the role.
    pub denied: bool,
    /// What stands before STS.
    pub sts: Mode,
    /// Seconds after which STS ends a session.
    pub left: u32,
    /// The task is registered by [`World::registers_at_first`] instead of being there from the start.
    pub is_unregistered: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0",
            token: false,
            always: false,
            denied: false,
            sts: Mode::Open,
            left: 3600,
            is_unregistered: false,
        }
    }
}

/// One case.
pub struct World<'a> {
    around: &'a Surroundings,
    folder: TempDir,
    emulator: Emulator,
    key: AccessKey,
    sts: SocketAddr,
    sessions: Sessions,
    s3: SocketAddr,
    before_sts: Front,
    proxy: Option<Proxy>,
    /// Where the proxy listens.
    pub address: SocketAddr,
    id: String,
    /// The token of the task.
    pub token: String,
    setup: Setup,
}

struct Proxy(Child);

impl Proxy {
    /// As a service manager ends it: what it has begun is finished, its audit records are written.
    fn stop(mut self) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(id) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        }
        self.0.wait().map(drop)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'a> World<'a> {
    /// Starts STS and the proxy.
    ///
    /// # Errors
    /// The system's, or what the proxy has said instead of starting.
    pub fn new(around: &'a Surroundings, setup: Setup) -> io::Result<Self> {
        let runtime = around.runtime.handle();
        let roles = if setup.denied {
            Roles::Listed(vec![Role { arn: "arn:aws:iam::111122223333:role/other".to_owned(), ..Role::default() }])
        } else {
            Roles::Any
        };
        let emulator = Emulator::new(Options { session_seconds: Some(setup.left), roles, ..Options::default() });
        let key = emulator.add_caller("arn:aws:iam::111122223333:user/proxy").map_err(io::Error::other)?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let sts = listener.local_addr()?;
        runtime.spawn(emulator.clone().run(listener, std::future::pending()));
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let before_sts = Front::before(runtime, anywhere, sts, setup.sts, "")?;
        let (id, token) = (uuid::Uuid::new_v4().to_string(), format!("tok-{}", uuid::Uuid::new_v4().simple()));
        let (folder, sessions) = (tempfile::tempdir()?, Sessions::default());
        let s3 = aws::s3(runtime, Arc::clone(&sessions))?;
        let (proxy, address) = (None, anywhere);
        let mut world =
            Self { around, folder, emulator, key, sts, sessions, s3, before_sts, proxy, address, id, token, setup };
        world.write_config()?;
        world.address = world.start(setup.listen)?;
        world.wait_until_warm()?;
        Ok(world)
    }

    /// Waits until the first load has ended, where one is under way and does end.
    fn wait_until_warm(&self) -> io::Result<()> {
        if self.setup.sts != Mode::Open || self.setup.is_unregistered {
            return Ok(());
        }
        let begun = Instant::now();
        while self.learn()?.status == 503 {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(io::Error::other("no first session within 30 s"));
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_config(&self) -> io::Result<()> {
        let token = if self.setup.token {
            format!(
                "token = \"{}\"\ntoken_required = \"{}\"\n",
                self.token,
                if self.setup.always { "always" } else { "loopback" }
            )
        } else {
            String::new()
        };
        let task = format!(
            "[[task]]\ntask_arn = \"{TASK}\"\nrole_arn = \"{ROLE}\"\ncredentials_id = \"{}\"\nduration_seconds = {}\n{token}",
            self.id,
            self.setup.left.max(900),
        );
        let task = if self.setup.is_unregistered { "" } else { &task };
        let config = format!("[audit]\nfile = {:?}\n{task}", self.path("audit/audit.log"));
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(self.path("taskcreds.toml"))?.write_all(config.as_bytes())
    }

    fn start(&mut self, listen: &str) -> io::Result<SocketAddr> {
        let mut command = Command::new(&self.around.binary);
        command.args(["serve", "--listen", listen, "--config"]).arg(self.path("taskcreds.toml"));
        command.arg("--admin-socket").arg(self.path("admin.sock")).arg("--state-dir").arg(self.path("state"));
        command.env_clear().envs([
            ("AWS_ENDPOINT_URL_STS", format!("http://{}", self.before_sts.address)),
            ("AWS_ACCESS_KEY_ID", self.key.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.key.secret_access_key.clone()),
            ("AWS_REGION", "us-west-2".to_owned()),
            ("HOME", self.folder.path().display().to_string()),
        ]);
        let log = std::fs::File::options().append(true).create(true).open(self.path("proxy.log"))?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let output = child.stdout.take();
        self.proxy = Some(Proxy(child));
        for line in BufReader::new(output.ok_or(io::ErrorKind::BrokenPipe)?).lines() {
            let line = line?;
            if let Some((_, address)) = line.split_once("listening on ") {
                return address.trim().trim_start_matches("http://").parse().map_err(io::Error::other);
            }
        }
        Err(io::Error::other(std::fs::read_to_string(self.path("proxy.log"))?))
    }

    /// Ends the proxy and starts another one in its place.
    ///
    /// # Errors
    /// The system's.
    pub fn restart(&mut self) -> io::Result<()> {
        self.proxy.take().map_or(Ok(()), Proxy::stop)?;
        self.start(&self.address.to_string())?;
        self.wait_until_warm()
    }

    /// Registers the task when the first connection comes to what stands before the proxy, so that its first load begins then.
    pub fn registers_at_first(&self, front: &Front) {
        let mut command = Command::new(&self.around.binary);
        command.args(["task", "add", "--request", "-", "--socket"]).arg(self.path("admin.sock"));
        let request = serde_json::json!({
            "taskArn": TASK, "roleArn": ROLE, "credentialsId": self.id, "durationSeconds": self.setup.left.max(900)
        });
        front.at_first(move || {
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            // If it fails, the client is told that there is no such task, and the case fails.
            if let Ok(mut child) = command.spawn() {
                let _ = child.stdin.take().map(|mut input| input.write_all(request.to_string().as_bytes()));
                let _ = child.wait();
            }
        });
    }

    /// Has the session loaded anew and waits for it.
    ///
    /// # Errors
    /// What the command says, or that no other session comes.
    pub fn rotate(&self) -> io::Result<()> {
        let before = self.learn()?.key;
        let mut command = Command::new(&self.around.binary);
        command.args(["task", "refresh", "--task-arn", TASK, "--socket"]).arg(self.path("admin.sock"));
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let begun = Instant::now();
        while self.learn()?.key == before {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(io::Error::other("no other session within 30 s"));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Something before the proxy, where this client looks for it.
    ///
    /// # Errors
    /// The system's.
    pub fn before_proxy(&self, client: &Client, header: &'static str) -> io::Result<Front> {
        let listen = match client.knows {
            Knows::Both => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            Knows::Relative | Knows::FullWithTokenFile => SocketAddr::from((Ipv4Addr::new(169, 254, 170, 2), 80)),
        };
        Front::before(self.around.runtime.handle(), listen, self.address, Mode::Open, header)
    }

    /// The path of the task's credentials, version 2.
    #[must_use]
    pub fn v2(&self) -> String {
        format!("/v2/credentials/{}", self.id)
    }

    /// The same, version 1.
    #[must_use]
    pub fn v1(&self) -> String {
        format!("/v1/credentials?id={}", self.id)
    }

    /// Starts a client with these variables beside those of the surroundings.
    ///
    /// # Errors
    /// The system's.
    pub fn client(&self, client: &'static Client, variables: &[(&str, String)]) -> io::Result<Asking> {
        let home = tempfile::tempdir_in(self.folder.path())?;
        let sts = format!("http://{}", self.sts);
        let mut all: Vec<_> = [
            ("AWS_REGION", "us-west-2".to_owned()),
            ("AWS_DEFAULT_REGION", "us-west-2".to_owned()),
            ("AWS_ENDPOINT_URL_STS", sts.clone()),
            ("CONFORMANCE_STS", sts),
            ("CONFORMANCE_S3", format!("http://{}", self.s3)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let running = self.around.installed.start(client, home.path(), &all)?;
        Ok(Asking { running, knows_sessions: !client.says_who, _home: home })
    }

    /// The answers to clients so far, the oldest first: status and access key id.
    ///
    /// # Errors
    /// The audit log cannot be read.
    pub fn answers(&self) -> io::Result<Vec<Answered>> {
        // A record is written beside its answer.
        let (mut last, begun) = (self.records()?, Instant::now());
        while begun.elapsed() < Duration::from_secs(1) {
            std::thread::park_timeout(Duration::from_millis(60));
            let now = self.records()?;
            if !now.is_empty() && now.len() == last.len() {
                break;
            }
            last = now;
        }
        Ok(last)
    }

    fn records(&self) -> io::Result<Vec<Answered>> {
        let mut all = Vec::new();
        for name in ["audit/audit.log", "audit/audit-refused.log"] {
            let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
            for line in text.lines() {
                let record: Value = serde_json::from_str(line)?;
                let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                if text("event") == "answer" && text("userAgent") != OWN_AGENT {
                    let status = record.get("status").and_then(Value::as_u64).unwrap_or_default();
                    all.push(Answered { time: text("time"), status, key: text("accessKeyId") });
                }
            }
        }
        all.sort_by(|a, b| a.time.cmp(&b.time));
        Ok(all)
    }

    /// The access key ids of the sessions that have signed a call which STS or S3 has taken.
    #[must_use]
    pub fn signed(&self) -> BTreeSet<String> {
        let of_s3 = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).signed.clone();
        let calls = self.emulator.calls().into_iter();
        let taken = calls.filter(|call| call.outcome == "Success" && call.caller_arn.as_deref() == Some(ARN));
        of_s3.into_iter().chain(taken.filter_map(|call| call.caller_access_key_id)).collect()
    }

    /// What a user reads, without what is a secret of the task.
    #[must_use]
    pub fn without_secrets(&self, text: &str) -> String {
        text.replace(&self.id, "…").replace(&self.token, "…")
    }

    /// Fetches the credentials, for the S3 that has to know them.
    fn learn(&self) -> io::Result<Learnt> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let token = if self.setup.token { format!("Authorization: {}\r\n", self.token) } else { String::new() };
        let head = format!("Host: localhost\r\nUser-Agent: {OWN_AGENT}\r\n{token}Connection: close\r\n");
        write!(stream, "GET {} HTTP/1.1\r\n{head}\r\n", self.v2())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let body: Value = serde_json::from_str(body)?;
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let key = text("AccessKeyId");
        if let (Some(key), Some(token), Some(end)) = (key.clone(), text("Token"), text("Expiration")) {
            let end = humantime::parse_rfc3339(&end).map_err(io::Error::other)?;
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).ends.insert((key, token), end);
        }
        Ok(Learnt { status, key })
    }
}

/// What the suite itself was answered.
struct Learnt {
    status: u16,
    key: Option<String>,
}

/// One answer of the credentials endpoint to a client.
#[derive(Clone, Debug)]
pub struct Answered {
    time: String,
    /// The HTTP status.
    pub status: u64,
    /// The access key id of the session.
    pub key: String,
}

/// A client in a case.
pub struct Asking {
    running: Running,
    knows_sessions: bool,
    _home: TempDir,
}

impl Asking {
    /// Has it make one call; if it is not the task then, it is nobody.
    pub fn ask(&mut self, world: &World<'_>) -> Reply {
        let done = AtomicBool::new(!self.knows_sessions);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = world.learn();
                    std::thread::park_timeout(Duration::from_millis(50));
                }
            });
            let mut reply = self.running.ask();
            done.store(true, Ordering::Relaxed);
            if let Ok(Some(arn)) = &reply.outcome
                && arn != ARN
            {
                reply.outcome = Err(format!("is {arn}"));
            }
            reply
        })
    }
}
