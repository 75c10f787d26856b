//! Starts the binary, captures what it says, ends it, and looks for every known secret in what it has said.
//!
//! There is no other way to start it, so no test can forget to look. All logs are at `trace`. Every process gets an environment
//! of its own, in which nothing leads to AWS or to the instance metadata service.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::signal::unix::SignalKind;

use crate::http;
use crate::netns::Netns;
use crate::secrets::{self, Kind};
use crate::tasks::Config;

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The runtime on which emulators, gates and asynchronous clients run.
pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    &RUNTIME
}

/// Whoever runs the tests may ignore signals, as a shell has what it starts in the background do, and so would every program that is started
/// here. What is caught here is at its default there.
static HEEDED: LazyLock<()> = LazyLock::new(|| {
    let signals = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
    for signal in signals.into_iter().filter(|signal| has_signal(std::process::id(), "SigIgn", *signal)) {
        let _runtime = runtime().enter();
        drop(tokio::signal::unix::signal(SignalKind::from_raw(signal.as_raw())).unwrap());
    }
});

/// Whether a signal is in a mask of a process, as `SigIgn` (proc_pid_status(5)).
pub(crate) fn has_signal(process: u32, mask: &str, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask)?.strip_prefix(':')).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

/// A moment, for a loop that waits for what cannot be awaited and has a deadline.
pub(crate) fn pause() {
    runtime().block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
}

/// Waits until something is true.
pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        pause();
    }
}

/// A clean environment: the PATH, an empty home, and nothing that leads to AWS.
pub(crate) fn clean(mut command: Command, home: &Path) -> Command {
    command.env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs([("HOME", home), ("TMPDIR", home)]);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// A command line of the binary, to be started.
pub(crate) struct Start {
    command: Command,
    home: TempDir,
    /// Kept for as long as the process may read it.
    config: Option<Config>,
    by_design: &'static [Kind],
    asks: Vec<(String, Option<String>)>,
}

/// `taskcreds serve` with this configuration, on a port that the system chooses. Its standard output is checked like a log, but
/// for the lines that tell an id it has made.
pub(crate) fn serve(config: Config) -> Start {
    let mut start = Start::new("serve", &[]).arg("--config").arg(config.file()).arg("--listen").arg("127.0.0.1:0");
    start.asks = config.tasks.iter().filter(|task| task.id.is_some()).map(|t| (t.path(), t.token.clone())).collect();
    start.config = Some(config);
    start
}

/// `taskcreds dev`, whose standard output tells ids and tokens by design.
pub(crate) fn dev() -> Start {
    Start::new("dev", &[Kind::CredentialsId, Kind::Token])
}

/// The same with this configuration.
pub(crate) fn dev_with(config: Config) -> Start {
    let start = dev().arg("--config").arg(config.file());
    Start { config: Some(config), ..start }
}

/// `taskcreds exec`, whose standard output is its command's, which may print what it was given.
pub(crate) fn exec() -> Start {
    Start::new("exec", &[Kind::CredentialsId, Kind::Token])
}

/// `taskcreds task`, whose standard output tells ids and tokens by design.
pub(crate) fn task() -> Start {
    Start::new("task", &[Kind::CredentialsId, Kind::Token])
}

/// Any other command.
pub(crate) fn taskcreds(command: &str) -> Start {
    Start::new(command, &[])
}

/// A script of the documentation, in this folder; what it says may hold ids and tokens.
pub(crate) fn shell(script: &str, folder: &Path) -> Start {
    let home = tempfile::tempdir().unwrap();
    let mut command = clean(Command::new("sh"), home.path());
    command.args(["-euc", script]).current_dir(folder);
    Start { command, home, config: None, by_design: &[Kind::CredentialsId, Kind::Token], asks: Vec::new() }
}

/// Held by a test that binds the port of the ECS agent, which documentation and defaults have too.
pub(crate) static PORT_51679: Mutex<()> = Mutex::new(());

/// The binary under test: this build's, or the one that `TASKCREDS_TEST_BINARY` names.
pub(crate) fn binary() -> OsString {
    std::env::var_os("TASKCREDS_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_taskcreds").into())
}

impl Start {
    fn new(subcommand: &str, by_design: &'static [Kind]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = clean(Command::new(binary()), home.path());
        command.args(["--log-level", "trace", subcommand]);
        Self { command, home, config: None, by_design, asks: Vec::new() }
    }

    /// An argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Arguments, separated by spaces.
    pub(crate) fn args(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split(' '));
        self
    }

    /// Variables.
    pub(crate) fn envs(mut self, variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// A variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The home folder of the process, which is also its folder for temporary files.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// In a namespace.
    pub(crate) fn inside(self, netns: &Netns) -> Self {
        let inside = netns.command(self.command.get_program());
        self.under(inside)
    }

    /// Started by another program, which becomes this one and which the command line names already.
    pub(crate) fn under(mut self, outer: Command) -> Self {
        let mut outer = clean(outer, self.home.path());
        outer.args(self.command.get_args());
        if let Some(folder) = self.command.get_current_dir() {
            outer.current_dir(folder);
        }
        outer.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = outer;
        self
    }

    /// As this user, in this group alone; needs root.
    pub(crate) fn user(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// With these descriptors under these names, at 3 and up, as a service manager passes them (sd_listen_fds(3)).
    pub(crate) fn passing(self, named: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]).arg(self.command.get_program());
        let (names, descriptors): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        let count = descriptors.len().to_string();
        let mut start = self.under(shell).env("LISTEN_FDS", count).env("LISTEN_FDNAMES", names.join(":"));
        let mappings = descriptors.into_iter().zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        start.command.fd_mappings(mappings.collect()).unwrap();
        start
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Process {
        LazyLock::force(&HEEDED);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the binary starts");
        let stdout = Capture::of(child.stdout.take().unwrap());
        let stderr = Capture::of(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Process {
            child,
            stdin,
            stdout,
            stderr,
            _folders: (self.home, self.config),
            by_design: self.by_design,
            asks: self.asks,
            ended: None,
        }
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(self) -> Ended {
        let mut process = self.spawn();
        drop(process.stdin.take());
        process.wait()
    }
}

/// How a process has ended, and what it said.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    status: ExitStatus,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error: the log.
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit status.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", self.status))
    }
}

/// A running process. However a test ends, the process ends with it, and what it said is checked.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Capture,
    stderr: Capture,
    _folders: (TempDir, Option<Config>),
    by_design: &'static [Kind],
    asks: Vec<(String, Option<String>)>,
    ended: Option<Ended>,
}

impl Process {
    /// The address of its first line, `listening on http://ADDRESS`.
    pub(crate) fn address(&self) -> SocketAddr {
        let said = self.stdout.wait_for("\n", PATIENCE);
        let address = said.lines().next().and_then(|line| line.strip_prefix("listening on http://"));
        let address = address.and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("does not listen: {}", self.stderr.text()))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Waits until it has written this to its standard output, and returns all of that.
    pub(crate) fn says(&self, text: &str) -> String {
        let said = self.stdout.wait_for(text, PATIENCE);
        assert!(said.contains(text), "never said {text:?}; it logged: {}", self.stderr.text());
        said
    }

    /// Waits until it has logged this, and returns the whole log.
    pub(crate) fn logs(&self, text: &str) -> String {
        let said = self.stderr.wait_for(text, PATIENCE);
        assert!(said.contains(text), "never logged {text:?}: {said}");
        said
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("its standard input is open"), "{line}").unwrap();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it, which it cannot see coming.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(mut self) -> Ended {
        self.check(false)
    }

    /// Asks it to end, and waits.
    pub(crate) fn end(mut self) -> Ended {
        self.check(true)
    }

    fn check(&mut self, asked_to_end: bool) -> Ended {
        if asked_to_end && matches!(self.child.try_wait(), Ok(None)) {
            self.learn();
            self.signal(Signal::TERM);
        }
        let status = self.status();
        let ended = Ended { status, stdout: self.stdout.rest(), stderr: self.stderr.rest() };
        self.ended = Some(ended.clone());
        let logged = secrets::found_in(&ended.stderr, &[]);
        assert!(logged.is_empty(), "the log holds secrets: {logged:?}");
        let said = secrets::found_in(&without_made_ids(&ended.stdout), self.by_design);
        assert!(said.is_empty(), "the standard output holds secrets: {said:?}");
        ended
    }

    /// Learns the secrets of the sessions that nobody has fetched, and the ids that it has made.
    fn learn(&self) {
        let said = self.stdout.text();
        let address = said.lines().next().and_then(|line| line.strip_prefix("listening on http://"));
        let made = said.lines().filter_map(made_id).map(|id| (format!("/v2/credentials/{id}"), None));
        for (path, token) in self.asks.iter().cloned().chain(made) {
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                http::try_get(address, &path, token.as_deref());
            }
        }
    }

    fn status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() < deadline => pause(),
                None => {
                    self.child.kill().unwrap();
                    self.child.wait().unwrap();
                    panic!("did not end within {} s: {}", PATIENCE.as_secs(), self.stderr.text());
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if std::thread::panicking() {
            // Asked first: `exec` passes it on to its command, which would be left behind.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(2);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                pause();
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else {
            self.check(true);
        }
    }
}

/// The id in a line by which `serve` tells the one it has made.
fn made_id(line: &str) -> Option<&str> {
    let (_, uri) = line.split_once(": AWS_CONTAINER_CREDENTIALS_")?;
    let (_, id) = uri.split_once("/v2/credentials/")?;
    secrets::remember(Kind::CredentialsId, id);
    Some(id)
}

/// Without the first line for each id that was made, so that a second one is found.
fn without_made_ids(stdout: &str) -> String {
    let mut told = std::collections::BTreeSet::new();
    stdout.lines().filter(|line| made_id(line).is_none_or(|id| !told.insert(id))).collect::<Vec<_>>().join("\n")
}

/// What comes out of a pipe, kept by a thread.
struct Capture(Arc<(Mutex<Captured>, Condvar)>);

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Captured::default()), Condvar::new()));
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut captured = writer.0.lock().unwrap();
                captured.bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
                captured.ended = read == 0;
                writer.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Self(shared)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap().bytes).into_owned()
    }

    /// Waits for a text, the end of the pipe or the deadline; returns what is there then.
    fn wait_for(&self, text: &str, patience: Duration) -> String {
        let wanted = text.as_bytes();
        let there = |captured: &Captured| captured.bytes.windows(wanted.len()).any(|window| window == wanted);
        let captured = self.0.0.lock().unwrap();
        let waiting = |captured: &mut Captured| !captured.ended && !there(captured);
        drop(self.0.1.wait_timeout_while(captured, patience, waiting).unwrap());
        self.text()
    }

    /// All, when the process has ended. A grandchild may hold the pipe open, so not for ever.
    fn rest(&self) -> String {
        let captured = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(captured, Duration::from_secs(5), |captured| !captured.ended).unwrap());
        self.text()
    }
}

#[test]
#[should_panic(expected = "the log holds secrets: [Token]")]
fn a_process_that_logs_a_secret_fails_its_test() {
    let token = format!("/no/such/{}", uuid::Uuid::new_v4());
    secrets::remember(Kind::Token, &token);
    // The program names the file that it cannot read.
    taskcreds("check").arg("--config").arg(token).run();
}
