//! `--task-definition`: the task of a definition, and the environment of its containers.
//!
//! A container gets what ECS would give it: its own variables, and those that lead to the task role's credentials, which are this
//! program's to set. What cannot be had here, secrets and environment files, is told by name.

use std::collections::HashMap;
use std::fmt::Write as _;

use taskcreds_core::{NewTask, RoleKind, TaskArn};

use super::{config_failure, embedded, own_task};
use crate::cli::SessionTagging;
use crate::cli::local::{ContainerOfDefinition, Definition};
use crate::config::{self, ConfigError};
use crate::failure::{Exit, Failure};
use crate::launch::{self, Launch};
use crate::task_definition::{Account, Container, Document, TaskDefinition, parse};

/// A task of a definition, for this run.
pub(super) struct Defined {
    /// The definition, overrides applied.
    pub(super) definition: TaskDefinition,
    arn: TaskArn,
    tags: SessionTagging,
}

impl Defined {
    /// Reads the definition that the flags name, if they name one, and its roles of these kinds. Where sessions are `emulated`, so is the
    /// account.
    pub(super) fn read(
        flags: &Definition,
        emulated: bool,
        region: Option<&str>,
        tags: SessionTagging,
        kinds: &[RoleKind],
    ) -> Result<Option<Self>, Failure> {
        let Some(file) = &flags.task_definition else { return Ok(None) };
        let text = config::read_trusted(file).map_err(|error| config_failure(&error))?;
        let overrides = match flags.overrides.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(json) if json.starts_with('{') => Some(("--overrides".to_owned(), json.to_owned())),
            Some(file) => {
                let text = config::read_trusted(file.as_ref()).map_err(|error| config_failure(&error))?;
                Some((file.to_owned(), text))
            }
        };
        let name = file.display().to_string();
        let account = Account { given: flags.account.as_deref(), fallback: emulated.then_some(own_task::DEMO_ACCOUNT) };
        let overrides = overrides.as_ref().map(|(name, text)| Document { name, text });
        let definition = parse(Document { name: &name, text: &text }, overrides, account, kinds)
            .map_err(|faults| config_failure(&ConfigError { faults, is_denied: false }))?;
        for warning in &definition.warnings {
            tracing::warn!("{warning}");
        }
        let arn = task_arn(&definition, account, region)?;
        Ok(Some(Self { definition, arn, tags }))
    }

    /// The registrations of its roles, the task role first.
    pub(super) fn tasks(&self) -> Result<Vec<NewTask>, Failure> {
        let TaskDefinition { task_role, execution_role, .. } = &self.definition;
        let roles = [(RoleKind::Task, task_role), (RoleKind::Execution, execution_role)].into_iter();
        let roles = roles.filter_map(|(kind, role)| Some((kind, role.clone()?)));
        roles.map(|(kind, role)| self.task(kind, role)).collect()
    }

    /// The registration of its task role.
    pub(super) fn task_role(&self) -> Result<Option<NewTask>, Failure> {
        self.definition.task_role.clone().map(|role| self.task(RoleKind::Task, role)).transpose()
    }

    fn task(&self, kind: RoleKind, role: taskcreds_core::RoleArn) -> Result<NewTask, Failure> {
        own_task::of_arn(self.arn.clone(), kind, &self.definition.family, role, self.tags)
    }

    /// `web:3`, or `web` where it is not registered.
    pub(super) fn name(&self) -> String {
        let TaskDefinition { family, revision, .. } = &self.definition;
        revision.map_or_else(|| family.clone(), |revision| format!("{family}:{revision}"))
    }

    /// Whether this is its task.
    pub(super) fn is_of(&self, task: &TaskArn) -> bool {
        self.arn == *task
    }

    /// A user of the account that the task is of.
    pub(super) fn user(&self) -> String {
        let parts: Vec<_> = self.arn.as_str().split(':').collect();
        match parts[..] {
            [_, partition, _, _, account, ..] => embedded::user(partition, account),
            _ => embedded::user("aws", own_task::DEMO_ACCOUNT),
        }
    }

    /// The region that it is registered in.
    pub(super) fn region(&self) -> Option<String> {
        self.definition.registered.as_ref().map(|place| place.region.clone())
    }

    /// The container that the flags name, or the only one.
    pub(super) fn container(&self, flags: &ContainerOfDefinition) -> Result<&Container, Failure> {
        let containers = &self.definition.containers;
        let names = || containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>().join(", ");
        let usage = |message: String| Failure::new(Exit::Usage, message);
        match (&flags.container, containers.as_slice()) {
            (Some(name), _) => {
                let found = containers.iter().find(|container| container.name == *name);
                found.ok_or_else(|| {
                    usage(format!("--container: {} has no container {name}, but {}", self.name(), names()))
                })
            }
            (None, [only]) => Ok(only),
            (None, _) => {
                Err(usage(format!("which container of {}? Give --container, one of {}", self.name(), names())))
            }
        }
    }
}

/// The ARN of a task that is run here: of the definition's account and region where it is registered, else of the role's.
fn task_arn(definition: &TaskDefinition, account: Account<'_>, region: Option<&str>) -> Result<TaskArn, Failure> {
    let role = definition.task_role.as_ref().or(definition.execution_role.as_ref());
    if let Some(place) = &definition.registered {
        return own_task::arn(&place.partition, &place.region, &place.account);
    }
    let region = region.unwrap_or(own_task::DEFAULT_REGION);
    match role {
        Some(role) => own_task::arn(role.partition(), region, role.account()),
        None => own_task::arn("aws", region, account.given.unwrap_or(own_task::DEMO_ACCOUNT)),
    }
}

/// The variables that one container's program gets, whatever stands in its definition already.
pub(super) fn environment(
    container: &Container,
    launch: &Launch,
    environment: &HashMap<String, String>,
) -> (Vec<(String, String)>, Vec<String>) {
    let of_container = |name: &str| container.environment.iter().find(|(own, _)| own == name).map(|(_, value)| value);
    let mut known = environment.clone();
    known.extend(container.environment.iter().cloned());
    let mut set = launch.set(&known);
    // The region is the container's where it has one, for those too who read the variable that it leaves out.
    if let Some(region) = launch::REGIONS.into_iter().find_map(of_container) {
        set.retain(|(name, _)| !launch::REGIONS.contains(name));
        let left_out = launch::REGIONS.into_iter().filter(|name| of_container(name).is_none());
        set.extend(left_out.map(|name| (name, region.clone())));
    }
    let (mut all, mut warnings) = (Vec::new(), Vec::new());
    let told = |name: &str, what: &str| format!("container {}: its own {name} {what}", container.name);
    for (name, value) in &container.environment {
        let replaced =
            set.iter().any(|(own, new)| own == name && new != value && !own.eq_ignore_ascii_case("NO_PROXY"));
        let against_emulator = launch.removed().contains(&name.as_str()) && !launch::outranks(name);
        if launch::leads_to_credentials(name) || replaced || against_emulator {
            warnings.push(told(name, "gives way to what is set here"));
            continue;
        }
        if launch::outranks(name) {
            warnings.push(told(name, "comes before the task role's credentials, as it would in ECS"));
        }
        if set.iter().all(|(own, _)| own != name) {
            all.push((name.clone(), value.clone()));
        }
    }
    all.extend(set.into_iter().map(|(name, value)| (name.to_owned(), value)));
    (all, warnings)
}

/// What of a container's environment is in AWS and not read here, in words; `own` tells what stands in for a secret.
pub(super) fn missing(container: &Container, own: impl Fn(&str) -> &'static str) -> Vec<String> {
    let mut told = Vec::new();
    if !container.secrets.is_empty() {
        let mut names = String::new();
        for (number, secret) in container.secrets.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let _ = write!(names, "{comma}{secret}{}", own(secret));
        }
        told.push(format!("container {}: its secrets are in AWS and not read here: {names}", container.name));
    }
    if !container.environment_files.is_empty() {
        let files = container.environment_files.join(", ");
        told.push(format!("container {}: its environment files are in AWS and not read here: {files}", container.name));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use taskcreds_core::{CredentialsId, Token};

    use super::*;
    use crate::launch::Surroundings;

    fn container(environment: &[(&str, &str)]) -> Container {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Container { name: "app".to_owned(), environment, secrets: Vec::new(), environment_files: Vec::new() }
    }

    fn outcome(own: &[(&str, &str)], region: Option<&str>) -> (HashMap<String, String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let surroundings = Surroundings {
            region: region.map(str::to_owned),
            embedded_sts: Some("http://127.0.0.1:7".to_owned()),
            control: None,
        };
        let listening = ["127.0.0.1:8".parse::<SocketAddr>().unwrap()];
        let (id, token) = (CredentialsId::random(), Token::random());
        let launch = Launch::new(&listening, &id, token, folder.path(), "token", surroundings).unwrap();
        let (set, warnings) = environment(&container(own), &launch, &HashMap::new());
        let names: std::collections::HashSet<_> = set.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), set.len(), "each name once: {names:?}");
        (set.into_iter().collect(), warnings.join("\n"))
    }

    #[test]
    fn a_container_has_its_own_variables_and_those_of_its_credentials() {
        let (set, warnings) = outcome(&[("STAGE", "test"), ("NO_PROXY", "corp.example")], None);
        assert_eq!(set["STAGE"], "test");
        assert!(set["AWS_CONTAINER_CREDENTIALS_FULL_URI"].starts_with("http://127.0.0.1:8/v2/credentials/"));
        assert!(set["NO_PROXY"].starts_with("corp.example,127.0.0.1,"), "{}", set["NO_PROXY"]);
        assert_eq!(warnings, "");
    }

    #[test]
    fn the_way_to_the_credentials_is_not_the_definitions_to_set() {
        let own = [
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/creds"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/x"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "x"),
            ("AWS_ENDPOINT_URL_STS", "https://sts.example"),
            ("AWS_USE_FIPS_ENDPOINT", "true"),
        ];
        let (set, warnings) = outcome(&own, None);
        assert!(!set.contains_key("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"));
        assert_eq!(set["AWS_ENDPOINT_URL_STS"], "http://127.0.0.1:7");
        for (name, value) in own {
            assert_ne!(set.get(name).map(String::as_str), Some(value), "{name}");
            assert!(warnings.contains(&format!("its own {name} gives way")), "{warnings}");
        }
    }

    #[test]
    fn what_outranks_the_role_in_ecs_does_so_here_and_is_told() {
        let (set, warnings) = outcome(&[("AWS_PROFILE", "prod")], None);
        assert_eq!(set["AWS_PROFILE"], "prod");
        assert!(warnings.contains("AWS_PROFILE comes before the task role's credentials"), "{warnings}");
    }

    #[test]
    fn the_region_is_the_containers_where_it_has_one() {
        for (own, name, other) in
            [("eu-west-1", "AWS_REGION", "AWS_DEFAULT_REGION"), ("x", "AWS_DEFAULT_REGION", "AWS_REGION")]
        {
            for region in [Some("us-east-1"), None] {
                let (set, warnings) = outcome(&[(name, own)], region);
                assert_eq!((set[name].as_str(), set[other].as_str(), warnings.as_str()), (own, own, ""));
            }
        }
        let (set, _) = outcome(&[("AWS_REGION", "a"), ("AWS_DEFAULT_REGION", "b")], None);
        assert_eq!((set["AWS_REGION"].as_str(), set["AWS_DEFAULT_REGION"].as_str()), ("a", "b"));
        let (set, _) = outcome(&[], Some("us-east-1"));
        assert_eq!(set["AWS_DEFAULT_REGION"], "us-east-1");
    }

    #[test]
    fn secrets_and_environment_files_are_told_by_name() {
        let mut container = container(&[]);
        assert!(missing(&container, |_| "").is_empty());
        container.secrets = vec!["DB".to_owned(), "KEY".to_owned()];
        container.environment_files = vec!["arn:aws:s3:::b/x.env".to_owned()];
        let told = missing(&container, |name| if name == "DB" { " (yours)" } else { "" }).join("\n");
        assert!(told.contains("not read here: DB (yours), KEY\n") && told.contains("arn:aws:s3:::b/x.env"), "{told}");
    }
}
