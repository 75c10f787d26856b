//! An STS in this process: the emulator on a port of loopback.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_sts::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sts::types::Credentials as Session;
use taskcreds_sts_emulator::{AccessKey, Call, Emulator, Options, Roles};

use crate::netns::Netns;
use crate::rig::runtime;
use crate::secrets::{self, Kind};
use crate::tasks::ACCOUNT;

/// A running emulator, and the key of the one caller that it knows. Gone when dropped.
pub(crate) struct Sts {
    emulator: Emulator,
    /// The proxy's own credentials.
    pub(crate) key: AccessKey,
    /// `http://127.0.0.1:PORT`
    pub(crate) endpoint: String,
    /// Seconds that its clock is fast, or slow if less than 0.
    fast: Arc<AtomicI64>,
    running: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Sts {
    /// One in which every role can be assumed.
    pub(crate) fn new() -> Self {
        Self::with(Roles::Any)
    }

    /// One at this address of a namespace.
    pub(crate) fn inside(netns: &Netns, address: &str) -> Self {
        let listener = netns.enter(|| std::net::TcpListener::bind((address, 0)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let _runtime = runtime().enter();
        Self::on(Roles::Any, tokio::net::TcpListener::from_std(listener).unwrap())
    }

    /// One with these roles.
    pub(crate) fn with(roles: Roles) -> Self {
        Self::on(roles, runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap())
    }

    fn on(roles: Roles, listener: tokio::net::TcpListener) -> Self {
        let fast = Arc::new(AtomicI64::new(0));
        let by = Arc::clone(&fast);
        let clock = move || match by.load(Ordering::SeqCst) {
            fast @ 0.. => SystemTime::now() + Duration::from_secs(fast.unsigned_abs()),
            slow => SystemTime::now() - Duration::from_secs(slow.unsigned_abs()),
        };
        let emulator = Emulator::new(Options { roles, clock: Arc::new(clock), ..Options::default() });
        let key = emulator.add_caller(&format!("arn:aws:iam::{ACCOUNT}:user/proxy")).unwrap();
        secrets::remember(Kind::BaseSecret, &key.secret_access_key);
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let running = runtime().spawn(emulator.clone().run(listener, std::future::pending()));
        Self { emulator, key, endpoint, fast, running }
    }

    /// The key of one more caller.
    pub(crate) fn another_key(&self) -> AccessKey {
        let key = self.emulator.add_caller(&format!("arn:aws:iam::{ACCOUNT}:user/another")).unwrap();
        secrets::remember(Kind::BaseSecret, &key.secret_access_key);
        key
    }

    /// A session of this role, which the proxy may hold as its own credentials.
    pub(crate) fn session(&self, role: &str) -> Session {
        let key = &self.key;
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::from_static("us-west-2"))
            .credentials_provider(Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "test"))
            .build();
        let call = aws_sdk_sts::Client::from_conf(config).assume_role();
        let call = call.role_arn(format!("arn:aws:iam::{ACCOUNT}:role/{role}")).role_session_name("proxy");
        let session = runtime().block_on(call.duration_seconds(900).send()).unwrap().credentials.unwrap();
        secrets::remember(Kind::BaseSecret, session.secret_access_key());
        secrets::remember(Kind::SessionToken, session.session_token());
        session
    }

    /// The same, ended: whoever calls with it is told `ExpiredToken`. For that the clock is turned from 14 minutes slow to 14 minutes
    /// fast; at 15, signatures would not be good any more.
    pub(crate) fn ended_session(&self, role: &str) -> Session {
        self.fast.store(-14 * 60, Ordering::SeqCst);
        let session = self.session(role);
        self.fast.store(14 * 60, Ordering::SeqCst);
        session
    }

    /// From now on its sessions end so much earlier than they tell, because its clock is slow; at 15 minutes, signatures would not be
    /// good any more.
    pub(crate) fn is_slow_by(&self, time: Duration) {
        self.fast.store(-i64::try_from(time.as_secs()).unwrap(), Ordering::SeqCst);
    }

    /// What a proxy needs to ask this STS.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        self.environment_at(&self.endpoint)
    }

    /// The same, with something between the proxy and this STS.
    pub(crate) fn environment_at(&self, endpoint: &str) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_STS", endpoint.to_owned()),
            ("AWS_ACCESS_KEY_ID", self.key.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.key.secret_access_key.clone()),
            ("AWS_REGION", "us-west-2".to_owned()),
        ]
    }

    /// The AssumeRole calls so far, granted and refused.
    pub(crate) fn assume_role_calls(&self) -> Vec<Call> {
        let calls = self.emulator.calls().into_iter();
        calls.filter(|call| call.action.as_deref() == Some("AssumeRole")).collect()
    }
}

impl Drop for Sts {
    fn drop(&mut self) {
        self.running.abort();
    }
}
