//! The admin interface: which requests there are, what they ask and what they answer. `GET /openapi.json` tells it from this code.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use taskcreds_core::{AssumeRoleError, CredentialsId, RoleKind, SessionCache, Source, State, Task, TaskArn};
use zeroize::Zeroizing;

use super::error::AdminError;
#[cfg(test)]
use super::error::Refusal;
#[cfg(test)]
use super::messages::Register;
use super::messages::{Revoked, RoleView, TaskList, TaskView, Which};
use super::peer::Peer;
use super::registrations::{Changed, Registrations, Told};
use crate::config::Fault;
use crate::config::request;
use crate::launch;

/// What the answers are made of.
pub struct Api {
    /// What the socket changes.
    pub registrations: Arc<Registrations>,
    /// The sessions, for how they stand.
    pub sessions: Arc<SessionCache>,
    /// Where the credentials endpoint listens, for `fullUri`.
    pub addresses: Vec<SocketAddr>,
}

/// An answer: status and JSON.
pub type Reply = (StatusCode, Bytes);

/// Every request that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Register,
    List,
    Revoke,
    Rotate,
    Refresh,
    Describe,
}

const ROUTES: [(&str, &str, Operation); 6] = [
    ("POST", "/v1/tasks", Operation::Register),
    ("GET", "/v1/tasks", Operation::List),
    ("POST", "/v1/tasks/revoke", Operation::Revoke),
    ("POST", "/v1/tasks/rotate", Operation::Rotate),
    ("POST", "/v1/tasks/refresh", Operation::Refresh),
    ("GET", "/openapi.json", Operation::Describe),
];

#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "taskcreds admin interface",
        description = "HTTP and JSON over a unix socket. Who asks is told by the kernel; [[admin.allow]] in the configuration says what it may do."
    ),
    paths(register, list, revoke, rotate, refresh, describe)
)]
struct Document;

/// The OpenAPI document. A test makes it from the descriptions of the operations below and holds this file to it, so that no program but
/// the test carries what makes it.
const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

impl Api {
    /// Answers a request. Blocks on the disk.
    #[must_use]
    pub fn answer(&self, peer: &Peer, method: &Method, path: &str, query: &str, body: &[u8]) -> Reply {
        self.outcome(peer, method, path, query, body).unwrap_or_else(|error| {
            if error.parts().0 == StatusCode::FORBIDDEN {
                tracing::warn!(uid = peer.uid, "refused over the admin socket: {error}");
            }
            refused(&error)
        })
    }

    fn outcome(&self, peer: &Peer, method: &Method, path: &str, query: &str, body: &[u8]) -> Result<Reply, AdminError> {
        let here: Vec<_> = ROUTES.iter().filter(|(_, known, _)| *known == path).collect();
        if here.is_empty() {
            return Err(AdminError::Path);
        }
        let Some((.., operation)) = here.into_iter().find(|(known, ..)| method.as_str() == *known) else {
            return Err(AdminError::Method);
        };
        match operation {
            Operation::Register => register(self, peer, body),
            Operation::List => list(self, peer, query),
            Operation::Revoke => revoke(self, peer, body),
            Operation::Rotate => rotate(self, peer, body),
            Operation::Refresh => refresh(self, peer, body),
            Operation::Describe => Ok(describe()),
        }
    }

    fn changed(&self, peer: &Peer, changed: &[Changed], warnings: Vec<String>) -> TaskView {
        let tasks: Vec<_> = changed.iter().map(|one| (&one.task, Some(&one.told))).collect();
        let mut view = self.view(peer, &tasks);
        view.created = Some(changed.iter().any(|one| one.is_new));
        view.warnings = warnings;
        view
    }

    /// The registrations of one task.
    fn view(&self, peer: &Peer, roles: &[(&Arc<Task>, Option<&Told>)]) -> TaskView {
        let mut view = TaskView::default();
        for (task, told) in roles {
            view.task_arn = task.arn().to_string();
            (view.source, view.uid) = match task.registration().source {
                Source::Configuration => ("configuration".to_owned(), None),
                Source::Admin { uid } => ("admin".to_owned(), Some(uid)),
            };
            let role = self.role(peer, task, *told);
            match task.role_kind() {
                RoleKind::Task => view.role = Some(role),
                RoleKind::Execution => view.execution = Some(role),
            }
        }
        view
    }

    fn role(&self, peer: &Peer, task: &Task, told: Option<&Told>) -> RoleView {
        let state = self.sessions.state(task);
        // The whole text may tell of the proxy's own credentials: for who may do everything.
        let words =
            |failure: &Arc<AssumeRoleError>| if peer.is_privileged() { failure.to_string() } else { failure.told() };
        let failure = state.as_ref().and_then(|state| state.failure.as_ref()).map(words);
        let path = told.map(|told| format!("/v2/credentials/{}", told.id.expose()));
        let address = launch::loopback(&self.addresses).or(self.addresses.first());
        RoleView {
            role_arn: task.spec().role_arn.to_string(),
            session_name: task.spec().session_name.to_string(),
            id_digest: task.id().to_string(),
            state: state.as_ref().map_or("loading", State::word).to_owned(),
            expiration: state
                .and_then(|state| state.ends_at)
                .map(|at| humantime::format_rfc3339_seconds(at).to_string()),
            failure,
            credentials_id: told.map(|told| told.id.expose().to_owned()),
            full_uri: path.as_ref().zip(address).map(|(path, address)| format!("http://{address}{path}")),
            relative_uri: path,
            token: told.and_then(|told| told.token.as_ref()).map(|token| token.expose().to_owned()),
        }
    }
}

/// Registers a task.
///
/// Its task role, its execution role, or both: all or nothing. Asked for again with the same settings, it answers the same ids
/// and changes nothing; after a restart of the proxy only to who sends the ids, because they are kept as digests.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/tasks", request_body = Register,
    responses(
        (status = 201, body = TaskView, description = "registered"),
        (status = 200, body = TaskView, description = "registered before, as asked for"),
        (status = 400, body = Refusal), (status = 403, body = Refusal), (status = 409, body = Refusal), (status = 500, body = Refusal),
    )
))]
fn register(api: &Api, peer: &Peer, body: &[u8]) -> Result<Reply, AdminError> {
    let mut request = request::parse(body).map_err(AdminError::Invalid)?;
    let warnings = std::mem::take(&mut request.warnings);
    let changed = api.registrations.register(peer, request)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    for one in changed.iter().filter(|one| one.is_new) {
        told(peer, &one.task, "registered");
    }
    let view = api.changed(peer, &changed, warnings);
    let status = if view.created == Some(true) { StatusCode::CREATED } else { StatusCode::OK };
    Ok(reply(status, &view))
}

/// Lists the tasks that the caller may see, or shows one.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/tasks", params(("taskArn" = Option<String>, Query, description = "This task only.")),
    responses((status = 200, body = TaskList), (status = 400, body = Refusal), (status = 403, body = Refusal), (status = 404, body = Refusal))
))]
fn list(api: &Api, peer: &Peer, query: &str) -> Result<Reply, AdminError> {
    let mut wanted = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "taskArn" => wanted = Some(task_arn(&value)?),
            _ => return Err(invalid("", "unknown query parameter; there is taskArn")),
        }
    }
    let mut tasks = api.registrations.list(peer);
    tasks.retain(|task| wanted.as_ref().is_none_or(|arn| task.arn() == arn));
    if let (Some(arn), true) = (wanted, tasks.is_empty()) {
        return Err(AdminError::NotFound(arn.into()));
    }
    tasks.sort_by(|one, other| (one.arn(), one.role_kind()).cmp(&(other.arn(), other.role_kind())));
    let views = tasks.chunk_by(|one, other| one.arn() == other.arn()).map(|roles| {
        let roles: Vec<_> = roles.iter().map(|task| (task, None)).collect();
        api.view(peer, &roles)
    });
    Ok(reply(StatusCode::OK, &TaskList { tasks: views.collect() }))
}

/// Revokes a task, or one of its roles.
///
/// Once this has answered, no answer of the credentials endpoint with its session begins. What readers hold stays valid at AWS until it
/// expires.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/tasks/revoke", request_body = Which,
    responses(
        (status = 200, body = Revoked), (status = 400, body = Refusal), (status = 403, body = Refusal), (status = 404, body = Refusal),
        (status = 409, body = Refusal), (status = 500, body = Refusal),
    )
))]
fn revoke(api: &Api, peer: &Peer, body: &[u8]) -> Result<Reply, AdminError> {
    let which = which(body, false)?;
    api.registrations.revoke(peer, &which.arn, which.kind)?;
    let role_kind = which.kind.map_or("both", RoleKind::word);
    tracing::info!(uid = peer.uid, task_arn = %which.arn, role_kind, "revoked over the admin socket");
    Ok(reply(StatusCode::OK, &Revoked { task_arn: which.arn.to_string() }))
}

/// Gives a role of a task another id, and another token where it has one.
///
/// The old id is worth nothing once this has answered. The session stays, so it costs no call to STS.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/tasks/rotate", request_body = Which,
    responses(
        (status = 200, body = TaskView), (status = 400, body = Refusal), (status = 403, body = Refusal), (status = 404, body = Refusal),
        (status = 409, body = Refusal), (status = 500, body = Refusal),
    )
))]
fn rotate(api: &Api, peer: &Peer, body: &[u8]) -> Result<Reply, AdminError> {
    let which = which(body, true)?;
    let changed = api.registrations.rotate(peer, &which.arn, which.kind.unwrap_or(RoleKind::Task), which.id)?;
    told(peer, &changed.task, "rotated");
    let mut view = api.changed(peer, &[changed], Vec::new());
    view.created = None;
    Ok(reply(StatusCode::OK, &view))
}

/// Has a new session loaded now, as soon as the node's budget of STS calls has room. The one that is served stays until then.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/tasks/refresh", request_body = Which,
    responses((status = 202, body = TaskView), (status = 400, body = Refusal), (status = 403, body = Refusal), (status = 404, body = Refusal))
))]
fn refresh(api: &Api, peer: &Peer, body: &[u8]) -> Result<Reply, AdminError> {
    let which = which(body, false)?;
    let tasks = api.registrations.refresh(peer, &which.arn, which.kind)?;
    let roles: Vec<_> = tasks.iter().map(|task| (task, None)).collect();
    Ok(reply(StatusCode::ACCEPTED, &api.view(peer, &roles)))
}

/// This document.
#[cfg_attr(test, utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object))))]
fn describe() -> Reply {
    (StatusCode::OK, Bytes::from_static(DOCUMENT.as_bytes()))
}

/// Who has changed what, for the log.
fn told(peer: &Peer, task: &Task, what: &str) {
    let (uid, id, task_arn, role_kind) = (peer.uid, task.id(), task.arn(), task.role_kind().word());
    tracing::info!(uid, %id, %task_arn, role_kind, role_arn = %task.spec().role_arn, "{what} over the admin socket");
}

/// A [`Which`] that holds.
struct Asked {
    arn: TaskArn,
    kind: Option<RoleKind>,
    id: Option<CredentialsId>,
}

fn which(body: &[u8], with_id: bool) -> Result<Asked, AdminError> {
    // The library's messages name keys and places; a value only where it is of the wrong type, and none of these is a secret but the id.
    let which: Which = serde_json::from_slice(body)
        .map_err(|error| invalid("", &format!("must be an object with taskArn, and if need be roleKind (\"task\" or \"execution\"); what is at line {} column {} is missing, unknown or of another type", error.line(), error.column())))?;
    if which.credentials_id.is_some() && !with_id {
        return Err(invalid("credentialsId", "has no meaning here; a task is named by its taskArn"));
    }
    let id = which.credentials_id.map(CredentialsId::new).transpose();
    let id = id.map_err(|error| invalid("credentialsId", &error.to_string()))?;
    Ok(Asked { arn: task_arn(&which.task_arn)?, kind: which.role_kind.map(RoleKind::from), id })
}

fn task_arn(text: &str) -> Result<TaskArn, AdminError> {
    TaskArn::new(text).map_err(|error| invalid("taskArn", &error.to_string()))
}

fn invalid(path: &str, message: &str) -> AdminError {
    let (place, path, message) = ("request".to_owned(), path.to_owned(), message.to_owned());
    AdminError::Invalid(vec![Fault { place, path, message }])
}

/// The answer to a request that is refused.
#[must_use]
pub fn refused(error: &AdminError) -> Reply {
    if let AdminError::Store(_) | AdminError::NotRecorded(..) | AdminError::StillKept(..) = error {
        tracing::error!("{error}");
    }
    reply(error.parts().0, &error.refusal())
}

/// What may hold an id or a token is wiped from memory with the last of the answer.
fn reply(status: StatusCode, body: &impl Serialize) -> Reply {
    let json = Zeroizing::new(serde_json::to_vec(body).unwrap_or_default());
    (status, Bytes::from_owner(json))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use utoipa::OpenApi;

    use super::*;

    fn document() -> String {
        Document::openapi().to_pretty_json().unwrap()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap().iter();
        let told: BTreeSet<_> = paths
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let there: BTreeSet<_> =
            ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
        assert_eq!(told, there);
    }

    /// `TASKCREDS_BLESS=1 cargo test -p taskcreds --lib openapi` writes it anew.
    #[test]
    fn docs_openapi_json_is_the_document() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let now = document() + "\n";
        if std::env::var_os("TASKCREDS_BLESS").is_some() {
            std::fs::write(&file, &now).unwrap();
        }
        assert!(
            std::fs::read_to_string(&file).unwrap() == now,
            "docs/openapi.json is not what the code says; see this test"
        );
    }

    #[test]
    fn a_request_for_a_task_names_the_key_that_is_wrong_and_never_its_value() {
        for (body, told) in [
            (r#"{"taskArn":"hidden"}"#, "taskArn: task ARN must have the form"),
            (
                r#"{"taskArn":"arn:aws:ecs:us-west-2:111122223333:task/prod/t1","credentialsId":"hidden"}"#,
                "credentialsId: credentials id must be",
            ),
            (r#"{"taskArn":1,"credentialsId":"hidden"}"#, "must be an object with taskArn"),
            (r#"{"hidden":1}"#, "must be an object with taskArn"),
            ("hidden", "must be an object with taskArn"),
        ] {
            let error = which(body.as_bytes(), true).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("hidden"), "{error}");
        }
    }
}
