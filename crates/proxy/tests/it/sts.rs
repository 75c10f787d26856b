//! An STS in this process: the emulator on a port of loopback.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use taskcreds_sts_emulator::{AccessKey, Call, Emulator, Options, Roles};

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
    running: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Sts {
    /// One in which every role can be assumed.
    pub(crate) fn new() -> Self {
        Self::with(Roles::Any)
    }

    /// One with these roles.
    pub(crate) fn with(roles: Roles) -> Self {
        let emulator = Emulator::new(Options { roles, ..Options::default() });
        let key = emulator.add_caller(&format!("arn:aws:iam::{ACCOUNT}:user/proxy")).unwrap();
        secrets::remember(Kind::BaseSecret, &key.secret_access_key);
        let listener = runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let running = runtime().spawn(emulator.clone().run(listener, std::future::pending()));
        Self { emulator, key, endpoint, running }
    }

    /// The key of one more caller.
    pub(crate) fn another_key(&self) -> AccessKey {
        let key = self.emulator.add_caller(&format!("arn:aws:iam::{ACCOUNT}:user/another")).unwrap();
        secrets::remember(Kind::BaseSecret, &key.secret_access_key);
        key
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
