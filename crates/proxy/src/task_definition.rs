//! An ECS task definition, and what RunTask overrides of it: the family, the two roles, the containers and their environment.
//!
//! Taken as `register-task-definition --cli-input-json` has it, or within `{"taskDefinition": {…}}` as `describe-task-definition`
//! prints it. All faults of both documents are told at once, each with its path and never with a value, which may be a secret.
//! Whatever else a definition holds is not looked at. `null` and an empty role, as a CLI skeleton has them, are as good as absent.
//!
//! Sources: Amazon ECS API Reference, RegisterTaskDefinition, TaskDefinition, ContainerDefinition, TaskOverride, ContainerOverride.

use std::collections::HashSet;
use std::fmt::Display;

use serde_json::{Map, Value};
use taskcreds_core::{RoleArn, RoleKind};

use crate::config::Fault;

/// A task definition as a task of it would run, its overrides applied.
#[derive(Debug, PartialEq, Eq)]
pub struct TaskDefinition {
    /// The family: 1 to 255 letters, digits, hyphens and underscores.
    pub family: String,
    /// The revision, where it is registered.
    pub revision: Option<u64>,
    /// Where it is registered, if it is.
    pub registered: Option<Registered>,
    /// What its containers may assume.
    pub task_role: Option<RoleArn>,
    /// What the agent uses on its behalf, where that was asked for.
    pub execution_role: Option<RoleArn>,
    /// At least one, in the order of the definition; the names differ.
    pub containers: Vec<Container>,
    /// What is taken but deserves attention.
    pub warnings: Vec<String>,
}

/// What the ARN of a definition tells beyond family and revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// The region.
    pub region: String,
    /// The 12 digits of the account.
    pub account: String,
}

/// One container of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its variables, each name once.
    pub environment: Vec<(String, String)>,
    /// The names of variables whose values are in Secrets Manager or Parameter Store.
    pub secrets: Vec<String>,
    /// Where files with variables are.
    pub environment_files: Vec<String>,
}

/// A document and the name that its faults are told with.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// The file's name, or what else it is called.
    pub name: &'a str,
    /// JSON.
    pub text: &'a str,
}

/// Which account roles are of that are given by name alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account<'a> {
    /// This one, whatever the definition says.
    pub given: Option<&'a str>,
    /// This one, where the definition does not tell its own.
    pub fallback: Option<&'a str>,
}

/// Reads a definition and what overrides it. Roles of other kinds than these are left alone.
///
/// # Errors
/// Every fault of both at once.
pub fn parse(
    definition: Document<'_>,
    overrides: Option<Document<'_>>,
    account: Account<'_>,
    kinds: &[RoleKind],
) -> Result<TaskDefinition, Vec<Fault>> {
    let mut faults = Faults { place: definition.name, found: Vec::new() };
    let read = read_definition(definition.text, &mut faults);
    let mut warnings = Vec::new();
    faults.place = overrides.map_or(definition.name, |overrides| overrides.name);
    let names = read.as_ref().map(|read| read.containers.iter().map(|container| container.name.as_str()).collect());
    let over = overrides.map(|over| read_overrides(over, names, &mut warnings, &mut faults)).unwrap_or_default();

    let registered = read.as_ref().and_then(|read| read.registered.clone());
    let known = account.given.or(registered.as_ref().map(|place| place.account.as_str())).or(account.fallback);
    let partition = registered.as_ref().map_or("aws", |place| place.partition.as_str());
    let mut role = |kind: RoleKind, over: Option<Placed>, own: Option<Placed>| {
        if !kinds.contains(&kind) {
            return None;
        }
        // A role that is overridden is not looked at: RunTask does not use it.
        let (place, role) = over.map(|over| (faults.place, over)).or(own.map(|own| (definition.name, own)))?;
        faults.place = place;
        let arn = role_arn(&role.text, known, partition).map_err(|why| faults.add(&role.path, why)).ok();
        faults.place = overrides.map_or(definition.name, |overrides| overrides.name);
        arn
    };
    let (task, execution) = read.as_ref().map(|read| (read.task.clone(), read.execution.clone())).unwrap_or_default();
    let task_role = role(RoleKind::Task, over.task, task);
    let execution_role = role(RoleKind::Execution, over.execution, execution);
    match read {
        Some(Read { family: Some(family), revision, registered, mut containers, .. }) if faults.found.is_empty() => {
            for (name, container) in over.containers {
                let found = containers.iter_mut().find(|own| own.name == name);
                found.into_iter().for_each(|own| own.take_over(container.clone()));
            }
            Ok(TaskDefinition { family, revision, registered, task_role, execution_role, containers, warnings })
        }
        _ => Err(faults.found),
    }
}

/// A role's ARN, or its name, with its path or without, in an account.
fn role_arn(text: &str, account: Option<&str>, partition: &str) -> Result<RoleArn, String> {
    if text.starts_with("arn:") {
        return RoleArn::new(text).map_err(|invalid| invalid.to_string());
    }
    let Some(account) = account else {
        let why = "is the name of a role, and nothing tells of which account: give --account, or the role's ARN here";
        return Err(why.to_owned());
    };
    let name = text.trim_start_matches('/');
    RoleArn::new(format!("arn:{partition}:iam::{account}:role/{name}")).map_err(|invalid| invalid.to_string())
}

impl Container {
    /// What an override has comes first; the rest stays. Its files stand in place of the definition's.
    fn take_over(&mut self, over: Override) {
        for (name, value) in over.environment {
            put(&mut self.environment, name, value);
        }
        if let Some(files) = over.environment_files {
            self.environment_files = files;
        }
    }
}

fn put(environment: &mut Vec<(String, String)>, name: String, value: String) {
    environment.retain(|(there, _)| *there != name);
    environment.push((name, value));
}

/// What stands in a definition, its roles not yet looked at.
struct Read {
    family: Option<String>,
    revision: Option<u64>,
    registered: Option<Registered>,
    task: Option<Placed>,
    execution: Option<Placed>,
    containers: Vec<Container>,
}

/// What stands in overrides.
#[derive(Default)]
struct Overrides {
    task: Option<Placed>,
    execution: Option<Placed>,
    containers: Vec<(String, Override)>,
}

#[derive(Clone, Default)]
struct Override {
    environment: Vec<(String, String)>,
    environment_files: Option<Vec<String>>,
}

#[derive(Clone)]
struct Placed {
    path: String,
    text: String,
}

fn read_definition(text: &str, faults: &mut Faults<'_>) -> Option<Read> {
    const FORM: &str = "must be a task definition, an object with family and containerDefinitions, as register-task-definition \
                        takes it or describe-task-definition prints it";
    let json = faults.json(text)?;
    let root = Object::of(&json, String::new(), faults, FORM)?;
    let root = match json.get("taskDefinition") {
        Some(described) => Object::of(described, "taskDefinition".to_owned(), faults, FORM)?,
        None => root,
    };
    if root.map.contains_key("ContainerDefinitions") || root.map.contains_key("container_definitions") {
        faults.add(&root.path, format!("{FORM}; CloudFormation and Terraform have another form"));
        return None;
    }
    let family = match root.string("family", faults) {
        Some(family) if is_name(&family.text) => Some(family.text),
        Some(family) => faults.none(&family.path, NAME),
        None if root.has("family") => None,
        None => faults.none(&root.at("family"), "is missing"),
    };
    let arn = root.string("taskDefinitionArn", faults).and_then(|arn| {
        let read = definition_arn(&arn.text);
        let form = "must be as arn:aws:ecs:us-west-2:111122223333:task-definition/FAMILY:REVISION";
        read.or_else(|| faults.none(&arn.path, form))
    });
    let revision = match root.map.get("revision").filter(|value| !value.is_null()) {
        None => arn.as_ref().map(|(_, revision)| *revision),
        Some(value) => value.as_u64().or_else(|| faults.none(&root.at("revision"), "must be a whole number")),
    };
    let mut containers = Vec::new();
    match root.list("containerDefinitions", faults) {
        Some(list) if !list.is_empty() => {
            let mut names = HashSet::new();
            for item in list {
                let Some(item) = Object::of(item.0, item.1, faults, "must be an object") else { continue };
                let container = read_container(&item, faults);
                if let Some(container) = &container
                    && !names.insert(container.name.clone())
                {
                    faults.add(&item.at("name"), "is the name of another container too");
                }
                containers.extend(container);
            }
        }
        Some(_) => faults.add(&root.at("containerDefinitions"), "is empty"),
        None if root.has("containerDefinitions") => {}
        None => faults.add(&root.at("containerDefinitions"), "is missing"),
    }
    let (task, execution) = (root.role("taskRoleArn", faults), root.role("executionRoleArn", faults));
    Some(Read { family, revision, registered: arn.map(|(place, _)| place), task, execution, containers })
}

fn read_container(item: &Object<'_>, faults: &mut Faults<'_>) -> Option<Container> {
    let name = item.string("name", faults);
    let environment = read_environment(item, faults);
    let mut names = |key: &'static str, of: &'static str| -> Vec<String> {
        let list = item.list(key, faults).unwrap_or_default();
        let items = list.into_iter().filter_map(|(value, path)| Object::of(value, path, faults, "must be an object"));
        let items: Vec<_> = items.collect();
        items.iter().filter_map(|item| item.needed(of, faults)).map(|placed| placed.text).collect()
    };
    let (secrets, environment_files) = (names("secrets", "name"), names("environmentFiles", "value"));
    let name = match name {
        Some(name) if is_name(&name.text) => name.text,
        Some(name) => return faults.none(&name.path, NAME),
        None if item.has("name") => return None,
        None => return faults.none(&item.at("name"), "is missing"),
    };
    Some(Container { name, environment, secrets, environment_files })
}

/// The variables of a container or of an override of it; of two with one name the last one counts.
fn read_environment(item: &Object<'_>, faults: &mut Faults<'_>) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    for (value, path) in item.list("environment", faults).unwrap_or_default() {
        let Some(pair) = Object::of(value, path, faults, "must be an object with name and value") else { continue };
        let (name, value) = (pair.needed("name", faults), pair.string("value", faults));
        let Some(name) = name else { continue };
        if name.text.is_empty() || name.text.contains(['=', '\0']) {
            faults.add(&name.path, "must be the name of a variable: not empty, and without = and NUL");
            continue;
        }
        if value.as_ref().is_some_and(|value| value.text.contains('\0')) {
            faults.add(&pair.at("value"), "must be without NUL");
            continue;
        }
        put(&mut environment, name.text, value.map(|value| value.text).unwrap_or_default());
    }
    environment
}

fn read_overrides(
    document: Document<'_>,
    names: Option<Vec<&str>>,
    warnings: &mut Vec<String>,
    faults: &mut Faults<'_>,
) -> Overrides {
    const FORM: &str =
        "must be an object with taskRoleArn, executionRoleArn or containerOverrides, as run-task takes it";
    /// What RunTask knows and has no meaning here.
    const OTHERS: [&str; 4] = ["cpu", "memory", "ephemeralStorage", "inferenceAcceleratorOverrides"];
    const OWN: [&str; 3] = ["taskRoleArn", "executionRoleArn", "containerOverrides"];
    let Some(json) = faults.json(document.text) else { return Overrides::default() };
    let Some(root) = Object::of(&json, String::new(), faults, FORM) else { return Overrides::default() };
    for unknown in root.map.keys().filter(|key| !OWN.contains(&key.as_str()) && !OTHERS.contains(&key.as_str())) {
        warnings.push(format!("{}: {unknown}: RunTask has no such override, and it changes nothing", document.name));
    }
    let (task, execution) = (root.role("taskRoleArn", faults), root.role("executionRoleArn", faults));
    let mut containers = Vec::new();
    for (value, path) in root.list("containerOverrides", faults).unwrap_or_default() {
        let Some(item) = Object::of(value, path, faults, "must be an object with a name") else { continue };
        let name = item.needed("name", faults);
        let environment = read_environment(&item, faults);
        let files = item.list("environmentFiles", faults).map(|files| {
            let files =
                files.into_iter().filter_map(|(value, path)| Object::of(value, path, faults, "must be an object"));
            let files: Vec<_> = files.collect();
            files.iter().filter_map(|file| file.needed("value", faults)).map(|placed| placed.text).collect()
        });
        let Some(name) = name else { continue };
        match &names {
            Some(names) if !names.contains(&name.text.as_str()) => {
                let known = names.join(", ");
                faults.add(&name.path, format!("is no container of the definition, which has {known}"));
            }
            _ => containers.push((name.text, Override { environment, environment_files: files })),
        }
    }
    Overrides { task, execution, containers }
}

const NAME: &str = "must be 1 to 255 letters, digits, hyphens and underscores";

fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Takes `arn:aws:ecs:REGION:ACCOUNT:task-definition/FAMILY:REVISION` apart.
fn definition_arn(text: &str) -> Option<(Registered, u64)> {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (arn, partition, ecs, region, account, resource) = (next()?, next()?, next()?, next()?, next()?, next()?);
    let (family, revision) = resource.strip_prefix("task-definition/")?.split_once(':')?;
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    if arn != "arn" || !partition.starts_with("aws") || ecs != "ecs" || !is_account || !is_name(family) {
        return None;
    }
    let [partition, region, account] = [partition, region, account].map(str::to_owned);
    Some((Registered { partition, region, account }, revision.parse().ok()?))
}

/// The faults found so far.
struct Faults<'a> {
    place: &'a str,
    found: Vec<Fault>,
}

impl Faults<'_> {
    fn add(&mut self, path: &str, message: impl Display) {
        let (place, path) = (self.place.to_owned(), path.to_owned());
        self.found.push(Fault { place, path, message: message.to_string() });
    }

    fn none<T>(&mut self, path: &str, message: impl Display) -> Option<T> {
        self.add(path, message);
        None
    }

    fn json(&mut self, text: &str) -> Option<Value> {
        // The library's message tells the place and never a value. Editors of Windows begin a file with a byte order mark.
        let read = serde_json::from_str(text.trim_start_matches('\u{feff}'));
        read.map_err(|error| self.add("", format!("is not JSON: {error}"))).ok()
    }
}

/// One object of a document and where it stands.
struct Object<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Object<'a> {
    fn of(value: &'a Value, path: String, faults: &mut Faults<'_>, form: &str) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, path }),
            _ => faults.none(&path, form),
        }
    }

    fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// What is under a key, unless it is `null`.
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    fn string(&self, key: &str, faults: &mut Faults<'_>) -> Option<Placed> {
        match self.value(key)? {
            Value::String(text) => Some(Placed { path: self.at(key), text: text.clone() }),
            _ => faults.none(&self.at(key), "must be a string"),
        }
    }

    /// A string that must be there.
    fn needed(&self, key: &str, faults: &mut Faults<'_>) -> Option<Placed> {
        if self.has(key) { self.string(key, faults) } else { faults.none(&self.at(key), "is missing") }
    }

    /// A role, which may be empty.
    fn role(&self, key: &str, faults: &mut Faults<'_>) -> Option<Placed> {
        self.string(key, faults).filter(|role| !role.text.is_empty())
    }

    /// The items of a list, each with its path.
    fn list(&self, key: &str, faults: &mut Faults<'_>) -> Option<Vec<(&'a Value, String)>> {
        match self.value(key)? {
            Value::Array(items) => {
                let path = self.at(key);
                Some(items.iter().enumerate().map(|(index, item)| (item, format!("{path}[{index}]"))).collect())
            }
            _ => faults.none(&self.at(key), "must be a list"),
        }
    }
}

#[cfg(test)]
mod tests;
