//! `taskcreds task`: the client of the admin socket.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{say, say_table};
use crate::admin::client::ask;
use crate::admin::messages::{Register, RoleView, TaskList, TaskView, Which};
use crate::cli::{self, TaskAction, TaskAdd};
use crate::failure::{Exit, Failure};
use crate::http::ENDPOINT;
use crate::launch::{FULL, RELATIVE};

/// How an answer is shown to a person.
type Show = fn(&Bytes) -> Result<(), Failure>;

pub(super) async fn run(flags: cli::Task) -> Result<ExitCode, Failure> {
    let cli::Task { action, socket, json } = flags;
    let post = async |path, body: &Which| ask(&socket, Method::POST, path, Some(body)).await;
    let which = |name: cli::TaskName, role_kind| Which { task_arn: name.arn(), role_kind, credentials_id: None };
    let get = async |path: &str| ask(&socket, Method::GET, path, None::<&()>).await;
    let (answer, show): (Bytes, Show) = match action {
        TaskAction::Add(add) => (register(&socket, *add).await?, say_opened),
        TaskAction::Rm(role) => (post("/v1/tasks/revoke", &which(role.name, role.role_kind)).await?, |_| Ok(())),
        TaskAction::Ls => (get("/v1/tasks").await?, say_list),
        TaskAction::Show(name) => {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("taskArn", &name.arn()).finish();
            let list: TaskList = parse(&get(&format!("/v1/tasks?{query}")).await?)?;
            // A task that is named is there, or the answer was a refusal.
            let task = list.tasks.into_iter().next().unwrap_or_default();
            let task = serde_json::to_vec(&task).map_err(|error| Failure::software("cannot write JSON", error))?;
            (task.into(), say_task)
        }
        TaskAction::Rotate(role) => {
            (post("/v1/tasks/rotate", &which(role.name, Some(role.role_kind))).await?, say_opened)
        }
        TaskAction::Refresh(role) => (post("/v1/tasks/refresh", &which(role.name, role.role_kind)).await?, |_| Ok(())),
    };
    if json {
        say(String::from_utf8_lossy(&answer));
    } else {
        show(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn register(socket: &Path, add: TaskAdd) -> Result<Bytes, Failure> {
    let answer = match add.request.as_deref() {
        Some(file) => ask(socket, Method::POST, "/v1/tasks", Some(&read(file)?)).await?,
        None => ask(socket, Method::POST, "/v1/tasks", Some(&request(add))).await?,
    };
    for warning in parse::<TaskView>(&answer)?.warnings {
        tracing::warn!("{warning}");
    }
    Ok(answer)
}

/// The request of a file, sent as it is: the proxy tells all its faults.
fn read(file: &Path) -> Result<Box<RawValue>, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|all| text = all)
    };
    read.map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", file.display())))?;
    RawValue::from_string(text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: not JSON: {error}", file.display())))
}

fn request(add: TaskAdd) -> Register {
    Register {
        task_arn: add.task_arn.unwrap_or_default(),
        role_arn: add.role_arn,
        execution_role_arn: add.execution_role_arn,
        credentials_id: None,
        execution_credentials_id: None,
        with_token: add.with_token.then_some(true),
        token: None,
        previous_token: None,
        token_required: add.token_required,
        sources: (!add.sources.is_empty()).then_some(add.sources),
        session_name: add.session_name,
        family: add.family,
        service: add.service,
        duration_seconds: add.duration_seconds,
        region: add.region,
        source_identity: add.source_identity,
        external_id: add.external_id,
        policy: add.policy,
        policy_arns: (!add.policy_arns.is_empty()).then_some(add.policy_arns),
        tags: (!add.tags.is_empty()).then(|| BTreeMap::from_iter(add.tags)),
        transitive_tags: add.transitive_tags.then_some(true),
        session_tags: add.session_tags,
    }
}

fn parse<T: DeserializeOwned>(answer: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| {
        Failure::new(Exit::Unavailable, format!("the answer is not that of this version's admin interface: {error}"))
    })
}

/// What opens a task: lines for the environment of its containers. The execution role's are comments, because both roles have the same
/// variables, and so is the URI that this proxy's address makes second choice.
fn say_opened(answer: &Bytes) -> Result<(), Failure> {
    let task: TaskView = parse(answer)?;
    for (kind, role) in roles(&task) {
        say(format!("# {kind} {} of {}", role.role_arn, task.task_arn));
        let mark = if kind == "execution role" && task.role.is_some() { "# " } else { "" };
        if let (Some(relative), Some(full)) = (&role.relative_uri, &role.full_uri) {
            let lines = [format!("{FULL}={full}"), format!("{RELATIVE}={relative}")];
            let is_relative = full.starts_with(&format!("http://{ENDPOINT}/"));
            let [first, second] = if is_relative { [&lines[1], &lines[0]] } else { [&lines[0], &lines[1]] };
            say(format!("{mark}{first}"));
            say(format!("# or {second}"));
        }
        if let Some(token) = &role.token {
            say(format!("{mark}AWS_CONTAINER_AUTHORIZATION_TOKEN={token}"));
        }
    }
    Ok(())
}

fn roles(task: &TaskView) -> impl Iterator<Item = (&'static str, &RoleView)> {
    task.role.iter().map(|role| ("task role", role)).chain(task.execution.iter().map(|role| ("execution role", role)))
}

fn say_task(answer: &Bytes) -> Result<(), Failure> {
    let task: TaskView = parse(answer)?;
    let by = task.uid.map(|uid| format!(" (uid {uid})")).unwrap_or_default();
    say(format!("{}, registered by {}{by}", task.task_arn, task.source));
    for (kind, role) in roles(&task) {
        say(format!("{kind} {}", role.role_arn));
        for (name, value) in [
            ("session name", Some(role.session_name.as_str())),
            ("id (digest)", Some(role.id_digest.as_str())),
            ("state", Some(role.state.as_str())),
            ("expiration", role.expiration.as_deref()),
            ("last failure", role.failure.as_deref()),
        ] {
            if let Some(value) = value {
                say(format!("  {name}: {value}"));
            }
        }
    }
    Ok(())
}

fn say_list(answer: &Bytes) -> Result<(), Failure> {
    let list: TaskList = parse(answer)?;
    let mut rows = vec![["TASK ARN", "KIND", "ROLE ARN", "STATE", "EXPIRATION", "LAST FAILURE"].map(str::to_owned)];
    for task in &list.tasks {
        for (kind, role) in roles(task) {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let kind = kind.trim_end_matches(" role").to_owned();
            let (expiration, failure) = (text(&role.expiration), text(&role.failure));
            rows.push([task.task_arn.clone(), kind, role.role_arn.clone(), role.state.clone(), expiration, failure]);
        }
    }
    say_table(&rows);
    Ok(())
}
