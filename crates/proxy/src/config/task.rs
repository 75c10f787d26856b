//! `[[task]]` and `[defaults]`: from what stands in the file to what is registered.

use std::collections::HashMap;
use std::path::Path;

use taskcreds_core::{
    CredentialsId, ExternalId, IdDigest, Invalid, NewTask, Origin, PolicyArn, Region, RoleArn, RoleKind,
    SessionDuration, SessionName, SessionPolicy, SessionSpec, SessionTag, SessionTags, SourceIdentity, TaskArn,
    TaskNames, Token, TokenRule,
};

use super::section::{Faults, Placed, Section};
use super::{MadeId, file};

/// What `[defaults]` may hold and a task may set for itself.
#[derive(Clone, Default)]
pub(super) struct Settings {
    duration: Option<SessionDuration>,
    region: Option<Region>,
    source_identity: Option<SourceIdentity>,
    external_id: Option<ExternalId>,
    policy: Option<SessionPolicy>,
    policy_arns: Option<Vec<PolicyArn>>,
    tags: Option<Vec<SessionTag>>,
    transitive_tags: Option<bool>,
    session_tags: Option<bool>,
    token_rule: Option<TokenRule>,
    origins: Option<Vec<Origin>>,
}

impl Settings {
    pub(super) fn read(section: &mut Section<'_>, faults: &mut Faults<'_>) -> Self {
        let (has_tags, has_sources) = (section.has("tags"), section.has("sources"));
        let duration = section.number("duration_seconds", 900..=43_200, faults);
        let policy_arns = section.strings("policy_arns", faults).map(|arns| {
            if arns.len() > PolicyArn::MAX {
                section.fault(faults, format!("policy_arns may be at most {}", PolicyArn::MAX));
            }
            arns.into_iter().filter_map(|arn| arn.parse(faults, PolicyArn::new)).collect()
        });
        let tags = section.strings_by_key("tags", faults).map(|tags| {
            let tag = |key: String, value: String| {
                // One of these that is left out could otherwise be forged.
                if TaskNames::KEYS.iter().any(|own| own.eq_ignore_ascii_case(&key)) {
                    return Err(format!("{key} is told from the task and cannot be set"));
                }
                SessionTag::new(key, value).map_err(|invalid| invalid.to_string())
            };
            tags.into_iter().filter_map(|(key, value)| value.parse(faults, |value| tag(key, value))).collect()
        });
        let session_tags = parsed(section, "session_tags", faults, |word: String| match word.as_str() {
            "required" => Ok(true),
            "off" => Ok(false),
            _ => Err("must be \"required\" or \"off\""),
        });
        if has_tags && session_tags == Some(false) {
            section.fault(faults, "tags are set and session_tags is \"off\"; keep one");
        }
        let origins = section.parsed_strings("sources", faults, Origin::new);
        Self {
            duration: duration.and_then(|seconds| SessionDuration::new(seconds).ok()),
            region: parsed(section, "region", faults, Region::new),
            source_identity: parsed(section, "source_identity", faults, SourceIdentity::new),
            external_id: parsed(section, "external_id", faults, ExternalId::new),
            policy: parsed(section, "policy", faults, SessionPolicy::new),
            policy_arns,
            tags,
            transitive_tags: section.boolean("transitive_tags", faults),
            session_tags,
            origins: has_sources.then_some(origins),
            token_rule: parsed(section, "token_required", faults, |word: String| match word.as_str() {
                "loopback" => Ok(TokenRule::Loopback),
                "always" => Ok(TokenRule::Always),
                _ => Err("must be \"loopback\" or \"always\""),
            }),
        }
    }

    /// These settings, and the defaults' where there are none.
    fn or(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        // A default tag gives way to the task's own of the same key.
        let tags = match (self.tags, defaults.tags) {
            (Some(own), Some(more)) => {
                let is_own = |tag: &SessionTag| own.iter().any(|own| own.key().eq_ignore_ascii_case(tag.key()));
                let more = more.into_iter().filter(|tag| !is_own(tag)).collect::<Vec<_>>();
                Some(own.into_iter().chain(more).collect())
            }
            (own, more) => own.or(more),
        };
        Self {
            duration: self.duration.or(defaults.duration),
            region: self.region.or(defaults.region),
            source_identity: self.source_identity.or(defaults.source_identity),
            external_id: self.external_id.or(defaults.external_id),
            policy: self.policy.or(defaults.policy),
            policy_arns: self.policy_arns.or(defaults.policy_arns),
            tags,
            transitive_tags: self.transitive_tags.or(defaults.transitive_tags),
            session_tags: self.session_tags.or(defaults.session_tags),
            token_rule: self.token_rule.or(defaults.token_rule),
            origins: self.origins.or(defaults.origins),
        }
    }
}

fn parsed<T, E: std::fmt::Display>(
    section: &mut Section<'_>,
    key: &'static str,
    faults: &mut Faults<'_>,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Option<T> {
    section.string(key, faults)?.parse(faults, parse)
}

/// What one pass over all tasks collects.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) tasks: Vec<NewTask>,
    pub(super) made: Vec<MadeId>,
    pub(super) warnings: Vec<String>,
    ids: HashMap<IdDigest, String>,
    arns: HashMap<TaskArn, String>,
}

impl Tasks {
    /// Reads one `[[task]]`: its task role, its execution role, or both.
    pub(super) fn read(&mut self, mut section: Section<'_>, defaults: &Settings, base: &Path, faults: &mut Faults<'_>) {
        let faults_before = faults.found.len();
        contradictions(&section, faults);
        let has_token = section.has("token") || section.has("token_file");
        let arn = section.string("task_arn", faults).and_then(|arn| self.own_arn(arn, faults));
        let role_arn = parsed(&mut section, "role_arn", faults, RoleArn::new);
        let id = section.string("credentials_id", faults).and_then(|id| self.own_id(id, faults));
        let execution_role_arn = parsed(&mut section, "execution_role_arn", faults, RoleArn::new);
        let execution_id = section.string("execution_credentials_id", faults).and_then(|id| self.own_id(id, faults));
        // Each becomes a session tag, so a tag's rules are theirs.
        let as_tag = |name: String| SessionTag::new("name", name).map(|tag| tag.value().to_owned());
        let names = TaskNames {
            family: parsed(&mut section, "family", faults, as_tag),
            service: parsed(&mut section, "service", faults, as_tag),
        };
        let session_name = parsed(&mut section, "session_name", faults, SessionName::new);
        let tokens = tokens(&mut section, base, &mut self.warnings, faults);
        let settings = Settings::read(&mut section, faults).or(defaults);
        if settings.token_rule == Some(TokenRule::Always) && !has_token {
            section.fault(faults, "token_required is \"always\" and there is no token; set token or token_file");
        }
        let tags = arn.as_ref().map(|arn| self.tags(arn, &names, &settings));
        if let Some(Err(invalid)) = &tags {
            section.fault(faults, invalid);
        }
        section.finish(faults);
        let (Some(arn), Some(Ok(tags))) = (arn, tags) else { return };
        if faults.found.len() > faults_before {
            return;
        }
        let duration = settings.duration.unwrap_or(SessionDuration::HOUR);
        if duration.is_short() {
            self.warnings.push(format!(
                "{arn}: sessions of {} s cannot stay ahead of clients that ask again below 15 or 20 minutes left; use 3600 s or more",
                duration.seconds()
            ));
        }
        let roles = [(RoleKind::Task, role_arn, id), (RoleKind::Execution, execution_role_arn, execution_id)];
        for (role_kind, role_arn, id) in roles {
            let Some(role_arn) = role_arn else { continue };
            // A session policy narrows what the application may do; the agent's execution role has its own needs.
            let (policy, policy_arns) = match role_kind {
                RoleKind::Task => (settings.policy.clone(), settings.policy_arns.clone().unwrap_or_default()),
                RoleKind::Execution => (None, Vec::new()),
            };
            let plain = SessionSpec::new(role_arn, &arn);
            let spec = SessionSpec {
                session_name: session_name.clone().unwrap_or_else(|| plain.session_name.clone()),
                tags: tags.clone(),
                transitive_tags: settings.transitive_tags.unwrap_or(false),
                source_identity: settings.source_identity.clone(),
                external_id: settings.external_id.clone(),
                policy,
                policy_arns,
                duration,
                region: settings.region.clone(),
                ..plain
            };
            let id = id.unwrap_or_else(|| {
                let id = CredentialsId::random();
                self.made.push(MadeId { task_arn: arn.clone(), role_kind, id: id.clone() });
                id
            });
            let (arn, tokens) = (arn.clone(), tokens.clone());
            let token_rule = settings.token_rule.unwrap_or_default();
            let origins = settings.origins.clone().unwrap_or_default();
            self.tasks.push(NewTask { arn, role_kind, spec, id, tokens, token_rule, origins });
        }
    }

    /// The tags that tell the task, then the configured ones; the former cannot be set by hand.
    fn tags(&mut self, arn: &TaskArn, names: &TaskNames, settings: &Settings) -> Result<SessionTags, Invalid> {
        if settings.session_tags == Some(false) {
            return Ok(SessionTags::default());
        }
        let (mut tags, left_out) = names.tags(arn)?;
        for key in left_out {
            self.warnings
                .push(format!("{arn}: the session tag {key} is left out, its value is longer than 256 characters"));
        }
        tags.extend(settings.tags.iter().flatten().cloned());
        SessionTags::new(tags)
    }

    fn own_arn(&mut self, given: Placed<String>, faults: &mut Faults<'_>) -> Option<TaskArn> {
        let (span, path) = (given.span, given.path.clone());
        let arn = given.parse(faults, TaskArn::new)?;
        match self.arns.insert(arn.clone(), path.clone()) {
            None => Some(arn),
            Some(first) => {
                faults.add(span, path, format!("the same task as {first}; one [[task]] holds both of its roles"));
                None
            }
        }
    }

    fn own_id(&mut self, given: Placed<String>, faults: &mut Faults<'_>) -> Option<CredentialsId> {
        let (span, path) = (given.span, given.path.clone());
        let id = given.parse(faults, CredentialsId::new)?;
        match self.ids.insert(id.digest(), path.clone()) {
            None => Some(id),
            Some(first) => {
                faults.add(span, path, format!("the same id as {first}; every task and role needs one of its own"));
                None
            }
        }
    }
}

/// What is missing or cannot stand together, told from the keys alone: a key that is there but wrong is told by itself.
fn contradictions(section: &Section<'_>, faults: &mut Faults<'_>) {
    let has = |key| section.has(key);
    let rules = [
        (!has("task_arn"), "task_arn is missing"),
        (!has("role_arn") && !has("execution_role_arn"), "a task needs a role_arn, an execution_role_arn, or both"),
        (has("credentials_id") && !has("role_arn"), "credentials_id without role_arn"),
        (
            has("execution_credentials_id") && !has("execution_role_arn"),
            "execution_credentials_id without execution_role_arn",
        ),
        (has("token") && has("token_file"), "token and token_file are both set; keep one"),
        (has("previous_token") && !has("token") && !has("token_file"), "previous_token without token or token_file"),
    ];
    for (_, rule) in rules.into_iter().filter(|(is_broken, _)| *is_broken) {
        section.fault(faults, rule);
    }
}

/// The present token, from the file or in place, and the previous one.
fn tokens(section: &mut Section<'_>, base: &Path, warnings: &mut Vec<String>, faults: &mut Faults<'_>) -> Vec<Token> {
    let token = section.string("token", faults);
    let file = section.string("token_file", faults);
    let previous = section.string("previous_token", faults);
    let from_file = file.and_then(|file| {
        file.parse(faults, |path| {
            let path = base.join(path);
            let file = file::read(&path).map_err(|fault| format!("{} {fault}", path.display()))?;
            warnings.extend(file.warnings(&path.display().to_string(), Some("a token")));
            Token::new(file.text).map_err(|invalid| {
                format!(
                    "{}: {invalid}; clients refuse a file with a line end (write it with printf %s)",
                    path.display()
                )
            })
        })
    });
    let present = token.and_then(|token| token.parse(faults, Token::new)).or(from_file);
    let previous = previous.and_then(|token| token.parse(faults, Token::new));
    present.into_iter().chain(previous).collect()
}
