//! The proxy and an embedded STS inside a Rust test: no process, no AWS account, gone when dropped.
//!
//! ```
//! use std::time::Duration;
//! use taskcreds::fixture::{Filter, Fixture, Settings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fixture = Fixture::start(Settings { session_seconds: Some(30), ..Settings::default() })?;
//! let web = fixture.register("web", "arn:aws:iam::111122223333:role/web")?;
//! fixture.fault("web:status=503,times=2")?;
//!
//! // What the program under test is given: every AWS SDK finds its credentials by these variables, if those that it would take first go.
//! let mut program = std::process::Command::new("true");
//! web.removed.iter().for_each(|name| drop(program.env_remove(name)));
//! program.envs(web.environment.iter().map(|(name, value)| (name, value)));
//! assert!(program.get_envs().any(|(name, _)| name == "AWS_CONTAINER_CREDENTIALS_FULL_URI"));
//!
//! // It would see a new session from here on, and `ExpiredToken` for those before.
//! let access_key_id = fixture.expire("web")?;
//! assert!(access_key_id.starts_with("ASIA"));
//! let made = fixture.wait(&Filter::of_task("web").of_sts(), 2, Duration::from_secs(10))?;
//! assert!(made.iter().all(|call| call.status == Some(200)));
//! # Ok(())
//! # }
//! ```
//!
//! All of it runs on one thread of its own, so that it works in tests with a runtime and in those without. What waits blocks the thread
//! of its caller: in a test on a current-thread runtime, call it where nothing else of the test needs to go on.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use taskcreds_core::{Registration, RoleArn, Task};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::app::Proxy;
use crate::cli::{Emulated, SessionTagging};
use crate::commands::{self, embedded, own_task};
use crate::config::{Config, Testing};
use crate::failure::Failure;
use crate::handover::Sockets;
use crate::http::credentials::Endpoint;
use crate::launch::{self, Launch, Surroundings};
use crate::testbed::Testbed;
use crate::testbed::fault::parse_all;
pub use crate::testbed::{Entry, FaultView, Filter};

/// How a fixture is to be.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How many seconds every session lasts, from 1 on; none: an hour. Below about 300, SDKs ask again for every call.
    pub session_seconds: Option<u32>,
    /// The roles of the embedded STS, as `--emulated-roles` takes them: a folder of JSON files, each as `aws iam get-role` prints it. Their
    /// trust policies decide who may assume them; the proxy calls as `arn:aws:iam::111122223333:user/taskcreds`. None: every role.
    pub emulated_roles: Option<PathBuf>,
}

/// What a fixture does not do, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FixtureError(String);

/// A registered task: what a program needs to be it.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The variables by which every AWS SDK finds its credentials, the embedded STS and the control interface: those of `exec`. The token
    /// is in a file too, which goes with the fixture.
    pub environment: Vec<(&'static str, String)>,
    /// The variables that SDKs would take before these, or that lead them past the embedded STS: to be removed from what a program inherits.
    pub removed: Vec<&'static str>,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub uri: String,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    pub token: String,
    /// The task.
    pub task_arn: String,
}

/// A running proxy with an embedded STS. Dropped, it is gone: its thread, its tasks, its ports.
pub struct Fixture {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    parts: Parts,
    /// With the tokens.
    folder: TempDir,
}

struct Parts {
    runtime: Handle,
    endpoint: Arc<Endpoint>,
    testbed: Arc<Testbed>,
    addresses: Vec<SocketAddr>,
    sts: String,
    control: String,
}

impl Fixture {
    /// Starts one, without any task.
    ///
    /// # Errors
    /// The machine's: no port of loopback, no thread, no folder for the tokens. Everything that is wrong with the roles.
    pub fn start(settings: Settings) -> Result<Self, FixtureError> {
        let folder = launch::private_folder().map_err(FixtureError::failed)?;
        let (stop, (tell, told)) = (CancellationToken::new(), sync_channel(1));
        let stopping = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(FixtureError::of)?;
        let thread = std::thread::Builder::new().name("taskcreds-fixture".to_owned()).spawn(move || {
            runtime.block_on(async {
                match begin(&settings, stopping.clone()).await {
                    Err(error) => drop(tell.send(Err(error))),
                    Ok((proxy, parts)) => {
                        drop(tell.send(Ok(parts)));
                        proxy.run(stopping).await;
                    }
                }
            });
        });
        let thread = Some(thread.map_err(FixtureError::of)?);
        let parts = told.recv().map_err(FixtureError::of)??;
        Ok(Self { stop, thread, parts, folder })
    }

    /// Registers a task with this role, which any number of tasks may have. Its first session is there when this returns, unless a fault or
    /// the role's trust policy keeps it from coming.
    ///
    /// # Errors
    /// That is no role ARN, or the token's file cannot be written.
    pub fn register(&self, name: &str, role_arn: &str) -> Result<Registered, FixtureError> {
        let Parts { endpoint, addresses, sts, control, .. } = &self.parts;
        let role_arn = RoleArn::new(role_arn).map_err(FixtureError::of)?;
        let mut new =
            own_task::for_this_run(name, role_arn, None, SessionTagging::Required).map_err(FixtureError::failed)?;
        let (id, token) = (new.id.clone(), own_task::token_of(&mut new));
        let task = endpoint.registry.register(Registration::configured(new)).map_err(FixtureError::of)?;
        let (sessions, first) = (Arc::clone(&endpoint.sessions), Arc::clone(&task));
        self.run(async move { drop(sessions.get(&first).await) })?;
        let surroundings = Surroundings {
            region: Some(own_task::DEFAULT_REGION.to_owned()),
            embedded_sts: Some(sts.clone()),
            control: Some(control.clone()),
        };
        let (shown, file) = (token.expose().to_owned(), task.arn().task_id().as_str());
        let launch = Launch::new(addresses, &id, token, self.folder.path(), file, surroundings);
        let launch = launch.map_err(FixtureError::failed)?;
        Ok(Registered {
            environment: launch.set(&commands::environment()),
            removed: launch.removed(),
            uri: launch::uri(addresses, &id).1,
            token: shown,
            task_arn: task.arn().as_str().to_owned(),
        })
    }

    /// Adds a fault, as `web:status=503,times=2`; docs/emulator.md has the words.
    ///
    /// # Errors
    /// Everything that is wrong with it, or no task is called that.
    pub fn fault(&self, fault: &str) -> Result<(), FixtureError> {
        let faults = parse_all(&[fault.to_owned()]).map_err(FixtureError::of)?;
        self.parts.testbed.set(faults, false).map_err(FixtureError::of)
    }

    /// How the faults stand.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultView> {
        self.parts.testbed.faults.list()
    }

    /// Clears all faults.
    pub fn clear_faults(&self) {
        self.parts.testbed.faults.clear(None);
    }

    /// Has a new session of a task loaded and waits for it; the one before stays good. Returns its access key id.
    ///
    /// # Errors
    /// No task is called that, or a fault keeps the session from coming.
    pub fn rotate(&self, name: &str) -> Result<String, FixtureError> {
        self.turn(name, false)
    }

    /// The same, and ends the sessions before: whoever calls with one is told `ExpiredToken`.
    ///
    /// # Errors
    /// The same.
    pub fn expire(&self, name: &str) -> Result<String, FixtureError> {
        self.turn(name, true)
    }

    /// The entries of the journal that fit, the oldest first.
    #[must_use]
    pub fn journal(&self, filter: &Filter) -> Vec<Entry> {
        self.parts.testbed.journal.entries(filter)
    }

    /// The number of the last entry, for [`Filter::since`].
    #[must_use]
    pub fn last(&self) -> u64 {
        self.parts.testbed.journal.last()
    }

    /// Waits until so many entries fit, and returns them.
    ///
    /// # Errors
    /// They were not there in time: how many were.
    pub fn wait(&self, filter: &Filter, count: usize, patience: Duration) -> Result<Vec<Entry>, FixtureError> {
        let (journal, asked) = (Arc::clone(&self.parts.testbed.journal), filter.clone());
        let entries = self.run(async move { journal.wait(&asked, count, patience).await })?;
        if entries.len() < count {
            let known = if entries.is_empty() { self.parts.testbed.know_names(filter) } else { Ok(()) };
            let hint = known.err().map(|refusal| format!(": {refusal}")).unwrap_or_default();
            let there = entries.len();
            return Err(FixtureError(format!("{there} of {count} entries were there after {patience:?}{hint}")));
        }
        Ok(entries)
    }

    /// The embedded STS, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn sts(&self) -> &str {
        &self.parts.sts
    }

    /// The control interface, `http://127.0.0.1:PORT`: what `TASKCREDS_CONTROL` is to a child.
    #[must_use]
    pub fn control(&self) -> &str {
        &self.parts.control
    }

    fn turn(&self, name: &str, expire: bool) -> Result<String, FixtureError> {
        let testbed = Arc::clone(&self.parts.testbed);
        let mut tasks: Vec<Arc<Task>> = testbed.called_by(name).map_err(FixtureError::of)?;
        let Some(task) = tasks.pop().filter(|_| tasks.is_empty()) else {
            return Err(FixtureError(format!("several tasks are called {name}: say the task id")));
        };
        let turned =
            self.run(async move { if expire { testbed.expire(&task).await } else { testbed.rotate(&task).await } })?;
        turned.map(|session| session.access_key_id().to_owned()).map_err(FixtureError::of)
    }

    /// Runs something on the fixture's thread and waits for it on this one.
    fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T, FixtureError> {
        let (tell, told) = sync_channel(1);
        self.parts.runtime.spawn(async move { drop(tell.send(future.await)) });
        told.recv().map_err(FixtureError::of)
    }
}

impl FixtureError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }

    fn failed(failure: Failure) -> Self {
        Self(failure.message)
    }
}

async fn begin(settings: &Settings, stop: CancellationToken) -> Result<(Proxy, Parts), FixtureError> {
    let emulated = Emulated { emulated_roles: settings.emulated_roles.clone(), emulated_caller: None };
    let roles = embedded::roles(&emulated, Vec::new()).map_err(FixtureError::failed)?;
    let user = embedded::user("aws", own_task::DEMO_ACCOUNT);
    let (base, sts) = embedded::start(&user, None, &emulated, roles, settings.session_seconds, stop)
        .await
        .map_err(FixtureError::failed)?;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let testing = Testing { control: Some(here), ..Testing::default() };
    let config = Config { listen: vec![here], testing, ..Config::default() };
    let proxy = Proxy::start(config, base, &HashMap::new(), Sockets::default()).map_err(FixtureError::failed)?;
    let missing = || FixtureError("the proxy has no control interface".to_owned());
    let parts = Parts {
        runtime: Handle::current(),
        endpoint: Arc::clone(proxy.endpoint()),
        testbed: Arc::clone(proxy.testbed().ok_or_else(missing)?),
        addresses: proxy.addresses(),
        sts,
        control: proxy.control().ok_or_else(missing)?,
    };
    Ok((proxy, parts))
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of it has been told where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    const WEB: &str = "arn:aws:iam::111122223333:role/web";

    /// One question of an SDK: the status, and the access key id of a session.
    fn ask(task: &Registered) -> (u16, Option<String>) {
        let (address, path) = task.uri.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let token = &task.token;
        let head =
            format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body["AccessKeyId"].as_str().map(str::to_owned))
    }

    #[test]
    fn a_fixture_fails_as_asked_rotates_and_tells_what_was_asked() {
        let fixture = Fixture::start(Settings { session_seconds: Some(30), ..Settings::default() }).unwrap();
        let (web, db) = (fixture.register("web", WEB).unwrap(), fixture.register("db", WEB).unwrap());
        fixture.fault("web:status=503,times=2").unwrap();
        let statuses: Vec<_> = (0..3).map(|_| ask(&web).0).collect();
        assert_eq!((statuses, ask(&db).0), (vec![503, 503, 200], 200));
        assert_eq!(fixture.faults()[0].left, Some(0));
        let before = ask(&web).1;
        let after = fixture.rotate("web").unwrap();
        assert_eq!(ask(&web).1.as_deref(), Some(&*after));
        assert_ne!(before.as_deref(), Some(&*after));
        let of_web = Filter::of_task("web").of_credentials();
        assert_eq!(fixture.journal(&of_web.clone().with_status(503)).len(), 2);
        let last = fixture.last();
        assert!(fixture.wait(&of_web.since(last), 1, Duration::from_millis(10)).is_err());
        for wrong in ["web:statu=1", "nobody:hang"] {
            assert!(fixture.fault(wrong).is_err(), "{wrong}");
        }
        assert!(fixture.rotate("nobody").is_err() && fixture.register("x", "no arn").is_err());
    }

    #[test]
    fn a_program_is_given_what_exec_gives_and_the_token_file_goes_with_the_fixture() {
        let fixture = Fixture::start(Settings::default()).unwrap();
        let web = fixture.register("web", WEB).unwrap();
        let given = |name: &str| web.environment.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str());
        let file = PathBuf::from(given("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), web.token);
        assert_eq!(given("AWS_CONTAINER_CREDENTIALS_FULL_URI"), Some(web.uri.as_str()));
        for name in ["NO_PROXY", "no_proxy"] {
            assert!(given(name).unwrap().contains("127.0.0.1"), "{name}");
        }
        for name in ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] {
            assert!(web.removed.contains(&name), "{name}");
        }
        drop(fixture);
        assert!(!file.exists());
    }

    #[test]
    fn roles_are_given_by_a_folder_and_their_trust_policies_decide() {
        let folder = tempfile::tempdir().unwrap();
        for (name, account) in [("web", "111122223333"), ("db", "444455556666")] {
            let role = serde_json::json!({ "Role": {
                "RoleName": name,
                "Arn": format!("arn:aws:iam::111122223333:role/{name}"),
                "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [{
                    "Effect": "Allow",
                    "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
                    "Action": ["sts:AssumeRole", "sts:TagSession"],
                }] },
            } });
            std::fs::write(folder.path().join(format!("{name}.json")), role.to_string()).unwrap();
        }
        let settings = Settings { emulated_roles: Some(folder.path().to_owned()), ..Settings::default() };
        let fixture = Fixture::start(settings).unwrap();
        // Before any task has it, and only if it is listed.
        fixture.fault("sts/web:delay=1ms").unwrap();
        assert!(fixture.fault("sts/wbe:delay=1ms").unwrap_err().to_string().contains("there are db, web"));
        let statuses = ["web", "db"].map(|name| {
            let role = format!("arn:aws:iam::111122223333:role/{name}");
            ask(&fixture.register(name, &role).unwrap()).0
        });
        assert_eq!(statuses, [200, 403]);
        let anything = Fixture::start(Settings::default()).unwrap();
        anything.fault("sts/later:delay=1ms").unwrap();
        assert!(Fixture::start(Settings { emulated_roles: Some("/nowhere".into()), ..Settings::default() }).is_err());
    }

    #[tokio::test]
    async fn it_is_gone_when_it_is_dropped_also_in_a_test_with_a_runtime() {
        let fixture = Fixture::start(Settings::default()).unwrap();
        let web = fixture.register("web", WEB).unwrap();
        fixture.fault("web:hang").unwrap();
        let places = [web.uri.as_str(), fixture.sts(), fixture.control()]
            .map(|url| url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned());
        assert!(places.iter().all(|place| TcpStream::connect(place).is_ok()));
        drop(fixture);
        assert!(places.iter().all(|place| TcpStream::connect(place).is_err()), "a port is still taken");
    }
}
