//! For tests: a clock that follows tokio's paused time, and an STS that answers as it is told.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what a test is for")]

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::Clock;
use crate::registry::NewTask;
use crate::role::{RoleArn, SessionSpec};
use crate::session::{NewSession, Session};
use crate::sts::{AssumeRole, AssumeRoleError, Pending};
use crate::task::{CredentialsId, RoleKind, TokenRule};
use crate::task_arn::TaskArn;

/// When tests begin.
pub const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

/// Wall time that follows tokio's time, so that one `advance` moves timers and decisions; it can be set beside that.
#[derive(Debug)]
pub struct TestClock {
    start: Instant,
    stepped_seconds: AtomicI64,
}

impl TestClock {
    /// A clock that shows [`EPOCH`] now.
    #[must_use]
    pub fn start() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), stepped_seconds: AtomicI64::new(0) })
    }

    /// Sets the clock forward or back, as NTP or an operator would.
    pub fn step(&self, seconds: i64) {
        self.stepped_seconds.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        let now = EPOCH + self.start.elapsed();
        let step = self.stepped_seconds.load(Ordering::SeqCst);
        let size = Duration::from_secs(step.unsigned_abs());
        if step < 0 { now - size } else { now + size }
    }
}

type Script = dyn FnMut(&SessionSpec, usize) -> (Duration, Result<Session, AssumeRoleError>) + Send;

/// An STS that answers what its script says: after how long, and what.
pub struct TestSts {
    calls: AtomicUsize,
    script: Mutex<Box<Script>>,
}

impl TestSts {
    /// The script is given the spec and the number of the call, from 1 on.
    pub fn new(
        script: impl FnMut(&SessionSpec, usize) -> (Duration, Result<Session, AssumeRoleError>) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), script: Mutex::new(Box::new(script)) })
    }

    /// How many calls have come.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl AssumeRole for TestSts {
    fn assume_role<'a>(&'a self, spec: &'a SessionSpec) -> Pending<'a> {
        Box::pin(async move {
            let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            let (delay, outcome) = self.script.lock().unwrap_or_else(PoisonError::into_inner)(spec, number);
            tokio::time::sleep(delay).await;
            outcome
        })
    }
}

/// A spec for `arn:aws:iam::111122223333:role/NAME`.
#[must_use]
pub fn new_spec(name: &str) -> SessionSpec {
    let arn = task_arn(name);
    SessionSpec::new(RoleArn::new(format!("arn:aws:iam::111122223333:role/{name}")).unwrap(), &arn)
}

/// A task with the role of the same name, a random id and no token.
#[must_use]
pub fn new_task(name: &str) -> NewTask {
    NewTask {
        arn: task_arn(name),
        role_kind: RoleKind::Task,
        spec: new_spec(name),
        id: CredentialsId::random(),
        tokens: Vec::new(),
        token_rule: TokenRule::default(),
        origins: Vec::new(),
    }
}

fn task_arn(name: &str) -> TaskArn {
    TaskArn::new(format!("arn:aws:ecs:us-west-2:111122223333:task/test/task-{name}")).unwrap()
}

/// Parts of a session that lasts until `expiration`.
#[must_use]
pub fn new_session(expiration: SystemTime) -> NewSession {
    NewSession {
        role_arn: RoleArn::new("arn:aws:iam::111122223333:role/web").unwrap(),
        access_key_id: "ASIATESTTESTTESTTEST".to_owned(),
        secret_access_key: "test-secret-access-key-0123456789-abcdef".into(),
        session_token: "test-session-token".into(),
        expiration,
        assumed_role_arn: "arn:aws:sts::111122223333:assumed-role/web/task-web".to_owned(),
        assumed_role_id: "AROATESTTESTTESTTEST:task-web".to_owned(),
        request_id: None,
    }
}

/// A session that lasts until `expiration`.
#[must_use]
pub fn session_until(expiration: SystemTime) -> Session {
    Session::new(new_session(expiration)).unwrap()
}
