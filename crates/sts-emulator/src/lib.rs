//! An AWS STS over real HTTP, for laptops without an AWS account and for test suites.
//!
//! What it guarantees: a request is answered as AWS STS would answer it, as far as that is known, or refused; it is
//! never waved through. Signatures are verified, the limits of the API are enforced, sessions really expire, and a role
//! with a trust policy is assumed only by whom it trusts, see [`Role`] and [`policy`]. A role without one trusts everybody;
//! policies of callers are not evaluated.
//!
//! The operations are `AssumeRole` and `GetCallerIdentity` of the query protocol, version 2011-06-15, over `POST /`
//! (source: AWS STS API Reference). Refused as what the emulator cannot verify: MFA (`SerialNumber`, `TokenCode`) and
//! `ProvidedContexts`. All keys are made up by the emulator and open nothing but the emulator.
//!
//! ```
//! use taskcreds_sts_emulator::{Emulator, Options};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let emulator = Emulator::new(Options::default());
//! let key = emulator.add_caller("arn:aws:iam::111122223333:user/me")?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let endpoint_url = format!("http://{}", listener.local_addr()?);
//! let running = tokio::spawn(emulator.clone().run(listener, async { /* until told to stop */ }));
//! // An SDK with `endpoint_url` and `key` can call it now; then:
//! assert!(emulator.calls().is_empty());
//! # drop((endpoint_url, key));
//! # running.await??;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod assume_role;
mod calls;
mod error;
mod exchange;
mod faults;
mod form;
pub mod policy;
mod principal;
mod query;
mod random;
mod server;
mod sessions;
mod sigv4;
mod validation;
mod xml;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use tokio::net::TcpListener;

pub use calls::Call;
pub use faults::{Effect, Fault};
pub use policy::TrustPolicy;
pub use sessions::{AccessKey, Tag};

/// An STS in this process. A cheap handle: all clones are the same STS, with the same keys, sessions and calls.
#[derive(Clone)]
pub struct Emulator {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    keys: Mutex<sessions::Keys>,
    calls: Mutex<calls::Calls>,
    plan: OnceLock<Plan>,
    observer: OnceLock<Box<Observer>>,
}

/// What is to go wrong.
struct Plan {
    next: Box<Next>,
    is_met: Box<IsMet>,
}

/// Tells it of the next `AssumeRole` of a role ARN.
type Next = dyn Fn(&str) -> Option<Fault> + Send + Sync;
/// Whether there is a good answer's fault to be met still.
type IsMet = dyn Fn(&Fault) -> bool + Send + Sync;
/// Is told of every call.
type Observer = dyn Fn(&Call) + Send + Sync;

/// How an [`Emulator`] behaves.
#[derive(Clone)]
pub struct Options {
    /// The time by which signatures are judged and sessions expire. Default: the system's.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// The roles there are. Default: [`Roles::Any`].
    pub roles: Roles,
    /// Whether the callers' own policies allow them what a trust policy leaves to those: a role that trusts a whole account,
    /// or a caller of another one. Default: true.
    pub identity_allows: bool,
    /// Seconds after which every session ends at the latest (and less than one more), whatever was asked for. What may be asked for stays
    /// as AWS has it: 900 seconds and more. Default: none, so that a session lasts as long as was asked for.
    pub session_seconds: Option<u32>,
}

/// The roles that can be assumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roles {
    /// Every role ARN names a role, which trusts every caller and allows sessions of up to 43,200 seconds.
    ///
    /// A role made in AWS allows 3,600 seconds unless told otherwise. Here a role is taken to be set up the way it is
    /// used; list the roles to have their limits enforced.
    Any,
    /// Only these roles exist. For others the answer is `AccessDenied`, as AWS answers for a role that does not exist.
    Listed(Vec<Role>),
}

/// A role. Without a trust policy it trusts every caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The ARN, with the path if the role has one: `arn:aws:iam::111122223333:role/path/name`. Compared as text.
    pub arn: String,
    /// Seconds that a session may last, `MaxSessionDuration` of IAM: 3,600 (IAM's default) to 43,200.
    pub max_session_duration: u32,
    /// Who may assume it; none trusts every caller.
    pub trust_policy: Option<TrustPolicy>,
    /// Its tags: `aws:ResourceTag/…` of whoever assumes it, and `aws:PrincipalTag/…` of its sessions.
    pub tags: Vec<Tag>,
}

/// The ARN given to [`Emulator::add_ecs_caller`] is not one of a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{arn}` is not the ARN of a task: give one like arn:aws:ecs:us-west-2:111122223333:task/CLUSTER/ID")]
pub struct InvalidTaskArn {
    /// The ARN that was given.
    pub arn: String,
}

/// The ARN given to [`Emulator::add_caller`] is not one of a user or a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{arn}` is not the ARN of an IAM user or role: give one like arn:aws:iam::111122223333:user/NAME or \
     arn:aws:iam::111122223333:role/NAME"
)]
pub struct InvalidCallerArn {
    /// The ARN that was given.
    pub arn: String,
}

impl Emulator {
    /// An STS that knows no caller yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            shared: Arc::new(Shared {
                options,
                keys: Mutex::default(),
                calls: Mutex::default(),
                plan: OnceLock::new(),
                observer: OnceLock::new(),
            }),
        }
    }

    /// Has each `AssumeRole` that is signed and valid ask `next` what is to go wrong with it, given its role ARN. Where that
    /// [changes a good answer](Effect::is_of_good_answers), `is_met` is asked once there is one, and tells whether it still is to be. To be
    /// set once; what is set first stays.
    pub fn set_faults(
        &self,
        next: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static,
        is_met: impl Fn(&Fault) -> bool + Send + Sync + 'static,
    ) {
        let _ = self.shared.plan.set(Plan { next: Box::new(next), is_met: Box::new(is_met) });
    }

    /// The roles there are.
    #[must_use]
    pub fn roles(&self) -> &Roles {
        &self.shared.options.roles
    }

    /// Has `observer` told of every call, before it is answered. To be set once; what is set first stays.
    pub fn on_call(&self, observer: impl Fn(&Call) + Send + Sync + 'static) {
        let _ = self.shared.observer.set(Box::new(observer));
    }

    /// Ends the sessions of an assumed role, `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION-NAME`, but for the one with this access key
    /// id; whoever calls with them is told `ExpiredToken`. Returns how many had not ended before.
    #[must_use]
    pub fn expire(&self, assumed_role_arn: &str, but: Option<&str>) -> usize {
        // In whole seconds, as a session's end is compared with: else it would go on for the rest of this second.
        let now = exchange::now(self);
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner).expire(assumed_role_arn, but, now)
    }

    /// A new long-term key for an IAM user or an IAM role; a principal may have any number of keys. They never expire.
    ///
    /// A user calls as itself. A role has no long-term keys in AWS: its key stands for the credentials of a place where
    /// the role already is, like an instance of ECS Anywhere. It calls as `assumed-role/NAME/emulator`, and what it
    /// assumes is role chaining: an hour at most.
    ///
    /// # Errors
    ///
    /// [`InvalidCallerArn`] if the ARN is not `arn:PARTITION:iam::ACCOUNT:user/NAME` or `…:role/NAME`, with or without
    /// a path, where the account has 12 digits and the partition begins with `aws`.
    pub fn add_caller(&self, principal_arn: &str) -> Result<AccessKey, InvalidCallerArn> {
        let arn = principal::IamArn::parse(principal_arn);
        let arn = arn.ok_or_else(|| InvalidCallerArn { arn: principal_arn.to_owned() })?;
        let tags = self.shared.options.roles.find(principal_arn).map(|role| role.tags.clone()).unwrap_or_default();
        Ok(self.add(sessions::Caller::added(&arn, principal_arn, tags)))
    }

    /// A new key whose calls are those of Amazon ECS for one of its tasks: of the service principal
    /// `ecs-tasks.amazonaws.com`, with `aws:SourceArn` and `aws:SourceAccount`. It never expires and makes no role chain.
    ///
    /// # Errors
    ///
    /// [`InvalidTaskArn`] if the ARN is not `arn:PARTITION:ecs:REGION:ACCOUNT:task/…`, where the account has 12 digits.
    pub fn add_ecs_caller(&self, task_arn: &str) -> Result<AccessKey, InvalidTaskArn> {
        let caller = sessions::Caller::ecs(task_arn).ok_or_else(|| InvalidTaskArn { arn: task_arn.to_owned() })?;
        Ok(self.add(caller))
    }

    fn add(&self, caller: sessions::Caller) -> AccessKey {
        let key = self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner).add_caller(caller);
        AccessKey { access_key_id: key.access_key_id.clone(), secret_access_key: key.secret.clone() }
    }

    /// Answers on `listener` until `shutdown` is ready, then closes it, gives requests under way up to two seconds, and
    /// returns. No task is left behind, not even if the returned future is dropped.
    ///
    /// # Errors
    ///
    /// When the listener fails for good. Running out of file descriptors is waited out.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        server::run(self, listener, shutdown).await
    }

    /// The last 10,000 requests, the oldest first: every one that was HTTP, also those that were refused.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).all()
    }
}

impl Roles {
    /// The role of this ARN, if it is listed.
    pub(crate) fn find(&self, arn: &str) -> Option<&Role> {
        match self {
            Self::Any => None,
            Self::Listed(roles) => roles.iter().find(|role| role.arn == arn),
        }
    }
}

impl Default for Role {
    /// As IAM makes a role whose maker says nothing: sessions of an hour, no tags. It has no ARN yet.
    fn default() -> Self {
        Self { arn: String::new(), max_session_duration: 3600, trust_policy: None, tags: Vec::new() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Arc::new(SystemTime::now), roles: Roles::Any, identity_allows: true, session_seconds: None }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
