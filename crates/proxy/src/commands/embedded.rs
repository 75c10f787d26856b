//! The embedded STS, started beside the proxy, and the demo role that it knows.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use taskcreds_core::{
    CredentialsId, NewTask, RoleArn, RoleKind, SessionDuration, SessionSpec, SessionTags, TaskArn, TaskNames, Token,
    TokenRule,
};
use taskcreds_sts_emulator::{Emulator, Options};
use tokio_util::sync::CancellationToken;

use crate::aws::Base;
use crate::failure::{Exit, Failure};
use crate::launch::Emulated;

/// The role of who names none. The account is the one that AWS's own documentation uses.
const DEMO_ROLE: &str = "arn:aws:iam::111122223333:role/demo";
const DEFAULT_REGION: &str = "us-east-1";

/// A running embedded STS.
pub(super) struct Embedded {
    pub(super) base: Base,
    pub(super) emulated: Emulated,
}

/// Starts an STS on a port of loopback that the system chooses; it ends with `stop`.
pub(super) async fn start(account: &str, region: String, stop: CancellationToken) -> Result<Embedded, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Unavailable, format!("cannot start the embedded STS on 127.0.0.1: {error}"))
    };
    let emulator = Emulator::new(Options::default());
    let key = emulator.add_caller(&format!("arn:aws:iam::{account}:user/taskcreds")).map_err(|error| cannot(&error))?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| cannot(&error))?;
    let address = listener.local_addr().map_err(|error| cannot(&error))?;
    tokio::spawn(emulator.run(listener, stop.cancelled_owned()));
    let endpoint = format!("http://{address}");
    let base = Base::Emulator {
        endpoint: endpoint.clone(),
        access_key_id: key.access_key_id,
        secret_access_key: key.secret_access_key.into(),
    };
    Ok(Embedded { base, emulated: Emulated { endpoint, region } })
}

/// The region that is set, or the one that fits nobody worse than another.
pub(super) fn region(environment: &HashMap<String, String>) -> String {
    let set = |name: &str| environment.get(name).filter(|region| taskcreds_core::Region::new(region.as_str()).is_ok());
    set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")).map_or_else(|| DEFAULT_REGION.to_owned(), Clone::clone)
}

/// The demo role.
pub(super) fn demo_role() -> Result<RoleArn, Failure> {
    RoleArn::new(DEMO_ROLE).map_err(|invalid| Failure::software("the demo role", invalid))
}

/// A task that exists only for this run: a random id, a random token, an ARN in the cluster `dev`.
pub(super) fn new_task(family: &str, role_arn: RoleArn, region: &str) -> Result<(NewTask, Token), Failure> {
    let invalid = |invalid| Failure::software("a task of this run", invalid);
    let partition = role_arn.as_str().split(':').nth(1).unwrap_or("aws");
    let task_id = uuid::Uuid::new_v4().simple();
    let arn = format!("arn:{partition}:ecs:{region}:{}:task/dev/{task_id}", role_arn.account());
    let arn = TaskArn::new(arn).map_err(invalid)?;
    let names = TaskNames { family: Some(family.to_owned()), service: None };
    let (tags, _) = names.tags(&arn).map_err(invalid)?;
    let token = Token::random();
    let spec = SessionSpec {
        role_arn,
        session_name: arn.task_id().clone(),
        tags: SessionTags::new(tags).map_err(invalid)?,
        transitive_tags: false,
        source_identity: None,
        external_id: None,
        policy: None,
        policy_arns: Vec::new(),
        duration: SessionDuration::HOUR,
        region: None,
        fallback_region: arn.region().clone(),
    };
    let task = NewTask {
        arn,
        role_kind: RoleKind::Task,
        spec,
        id: CredentialsId::random(),
        tokens: vec![token.clone()],
        token_rule: TokenRule::Loopback,
    };
    Ok((task, token))
}

/// A folder that only this user can read, gone when the command ends.
pub(super) fn private_folder() -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("taskcreds-")
        .tempdir()
        .map_err(|error| Failure::software("cannot make a private folder for the token", error))
}
