//! What is true: tasks, leases, sessions.
//!
//! This crate holds the decisions of the credential proxy and none of its surroundings: no HTTP, no AWS SDK, no files,
//! no environment and no clock of its own. Its borders are the traits [`Clock`], [`AssumeRole`] and [`Way`].
//!
//! The way of a request: [`Registry::authenticate`] → [`Task`] → [`SessionCache::get`] → [`Session`].
//! The way of a refresh: [`SessionCache::sweep`] → [`SessionCell`](session::cell::SessionCell) → [`AssumeRole`].

#![forbid(unsafe_code)]

mod budget;
mod clock;
mod grammar;
mod lease;
mod network;
mod origin;
mod registry;
mod role;
pub mod session;
mod sts;
mod task;
mod task_arn;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;

pub use budget::{Budget, BudgetLimits};
pub use clock::{Clock, SystemClock};
pub use grammar::Invalid;
pub use lease::{Lease, LeaseId};
pub use network::Network;
pub use origin::{Origin, Way};
pub use registry::{Arrival, Asker, NewTask, Reconciled, Refusal, RegisterError, Registry};
pub use role::{
    ExternalId, PolicyArn, Region, RoleArn, SessionDuration, SessionName, SessionPolicy, SessionSpec, SessionTag,
    SessionTags, SourceIdentity,
};
pub use session::cache::{OnLoad, SessionCache, SessionError};
pub use session::cell::{Kept, Settled, State};
pub use session::policy::{Freshness, spread};
pub use session::{NewSession, Session};
pub use sts::{AssumeRole, AssumeRoleError, FailureKind, Pending};
pub use task::{CredentialsId, IdDigest, Registration, RoleKind, Source, Task, Token, TokenDigest, TokenRule};
pub use task_arn::{TaskArn, TaskNames};
