//! Traps in a trust policy that IAM takes: it means something else than it says, or trusts more than its author thinks.

mod actions;
mod reach;

use super::condition::Condition;
use super::context::ECS_TASKS;
use super::document::{ASSUME_ROLE, Statement, TAG_SESSION, TrustPolicy, USUAL_CHARACTERS};
use super::ecs_source::is_for_all_clusters;
use super::glob;
use super::keys::{has_several_values, near};
use super::operator::{Base, Set};
use super::principal::{Principal, account_number};
use super::variables;

/// Something about a policy that its author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Its name, as `source-arn-of-a-cluster`.
    pub code: &'static str,
    /// `Statement[0] "Ecs"`; empty for the policy as a whole.
    pub place: String,
    /// What it is and what to do.
    pub message: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The policy does not do what it looks like, or trusts whom it should not.
    Trap,
    /// It does what it says; whether that is meant, its author knows.
    Note,
}

impl Level {
    /// `trap` or `note`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Note => "note",
        }
    }
}

/// All findings, traps first.
#[must_use]
pub fn lint(policy: &TrustPolicy) -> Vec<Finding> {
    let mut findings = Findings { place: String::new(), found: Vec::new() };
    if policy.characters > USUAL_CHARACTERS {
        findings.trap(
            "long",
            format!("has {} characters without white space; IAM takes {USUAL_CHARACTERS} unless AWS has raised the quota of the account", policy.characters),
        );
    }
    for statement in &policy.statements {
        findings.place.clone_from(&statement.name);
        principals(statement, &mut findings);
        if statement.allows {
            reach::confused_deputy(statement, &mut findings);
            reach::everybody(statement, &mut findings);
            missing_tag_session(policy, statement, &mut findings);
            action_wildcard(statement, &mut findings);
        }
        for condition in &statement.conditions {
            keys(statement, condition, &mut findings);
            values(policy, condition, &mut findings);
        }
    }
    actions::conditions_on_one_action(policy, &mut findings);
    findings.found.sort_by_key(|finding| finding.level);
    findings.found
}

struct Findings {
    place: String,
    found: Vec<Finding>,
}

impl Findings {
    fn trap(&mut self, code: &'static str, message: impl Into<String>) {
        self.add(Level::Trap, code, message.into());
    }

    fn note(&mut self, code: &'static str, message: impl Into<String>) {
        self.add(Level::Note, code, message.into());
    }

    fn add(&mut self, level: Level, code: &'static str, message: String) {
        self.found.push(Finding { level, code, place: self.place.clone(), message });
    }
}

fn principals(statement: &Statement, findings: &mut Findings) {
    for principal in &statement.principals {
        match principal {
            Principal::Deleted(id) => findings.trap(
                "deleted-principal",
                format!("{id} stands for a user or role that was deleted: it is nobody, also if one of that name was made again. Name its ARN again"),
            ),
            Principal::Service(name) if name == "*" => {
                findings.trap("service-wildcard", "Service \"*\" is no service: name each one");
            }
            Principal::Account(account) if statement.allows => findings.note(
                "account",
                format!(
                    "trusts everybody in account {} whose own policies allow {ASSUME_ROLE} of this role; name a role's ARN to trust that \
                     one alone",
                    account_number(account)
                ),
            ),
            _ => {}
        }
    }
}

fn is_for_aws(statement: &Statement) -> bool {
    statement.principals.iter().any(Principal::is_aws)
}

fn services(statement: &Statement) -> impl Iterator<Item = &str> {
    statement.principals.iter().filter_map(|principal| match principal {
        Principal::Service(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Whether a condition demands something of a key, so that a caller without it is not let in.
fn demands(condition: &Condition, key: &str) -> bool {
    let operator = condition.operator;
    condition.key.eq_ignore_ascii_case(key)
        && !operator.negated
        && !operator.if_exists
        && operator.base != Base::Null
        && operator.set != Some(Set::ForAllValues)
}

/// Without sts:TagSession, a caller that passes session tags is denied.
fn missing_tag_session(policy: &TrustPolicy, statement: &Statement, findings: &mut Findings) {
    let named =
        |principal: &Principal| matches!(principal, Principal::Role(_) | Principal::User(_) | Principal::Session(_));
    let granted = |principal: &Principal| {
        let of_both = |other: &&Statement| other.allows && other.principals.iter().any(|other| other.covers(principal));
        policy.statements.iter().filter(of_both).any(|other| other.is_about(TAG_SESSION))
    };
    if statement.is_about(ASSUME_ROLE)
        && let Some(principal) = statement.principals.iter().find(|principal| named(principal) && !granted(principal))
    {
        let name = principal.text();
        findings.note("no-tag-session", format!("{name} may not {TAG_SESSION}: it is denied as soon as it passes session tags, as this proxy does unless session_tags is off"));
    }
}

fn keys(statement: &Statement, condition: &Condition, findings: &mut Findings) {
    let key = condition.key.to_lowercase();
    let written = format!("{} {}", condition.name, condition.key);
    let is_ours = key.starts_with("aws:") || key.starts_with("sts:");
    match has_several_values(&key) {
        None if is_ours => {
            let meant = near(&key).map_or(String::new(), |near| format!(" ({near} is meant?)"));
            findings.trap(
                "unknown-key",
                format!("{written}: AssumeRole has no such key{meant}; IAM takes it and never finds it"),
            );
        }
        None => findings.note(
            "foreign-key",
            format!(
                "{written}: a key of another service, which AssumeRole does not have, or of an identity provider, which only sessions \
                 that began there bring"
            ),
        ),
        Some(true) if condition.operator.set.is_none() && condition.operator.base != Base::Null => findings.trap(
            "no-set-operator",
            format!(
                "{written}: the key has several values, so it needs ForAnyValue: or ForAllValues: before the operator; without, it grants \
                 nothing here, and a Deny by it denies"
            ),
        ),
        Some(false) if condition.operator.set.is_some() => {
            findings.trap("set-operator", format!("{written}: the key has one value; leave the set operator out"));
        }
        Some(_) => {}
    }
    if condition.operator.set == Some(Set::ForAllValues) && statement.allows {
        let is_there = |other: &Condition| {
            other.key.eq_ignore_ascii_case(&key)
                && other.operator.base == Base::Null
                && other.values.iter().all(|value| value.eq_ignore_ascii_case("false"))
        };
        if !statement.conditions.iter().any(is_there) {
            findings.trap(
                "for-all-values",
                format!(
                    "{written}: holds also where the request does not have the key; add Null {} \"false\"",
                    condition.key
                ),
            );
        }
    }
    let never = |what: &str| format!("{written}: {what}, so this condition never holds for it");
    let demanded = demands(condition, &condition.key);
    match key.as_str() {
        "sts:durationseconds" => {
            findings.trap(
                "duration-seconds",
                format!("{written}: AssumeRole does not have this key. Set the role's MaxSessionDuration instead"),
            );
        }
        "aws:sourcearn" | "aws:sourceaccount" if is_for_aws(statement) && demanded && statement.allows => {
            let code = "source-of-an-iam-principal";
            findings
                .trap(code, never("an IAM principal, such as this proxy, does not bring it; only an AWS service does"));
        }
        "sts:externalid" | "sts:sourceidentity" | "aws:tagkeys" | "sts:transitivetagkeys"
            if demanded && for_ecs(statement) =>
        {
            findings
                .trap("tags-of-ecs", never("ECS passes neither session tags nor an external id nor a source identity"));
        }
        key if key.starts_with("aws:requesttag/") && demanded && for_ecs(statement) => {
            findings
                .trap("tags-of-ecs", never("ECS passes neither session tags nor an external id nor a source identity"));
        }
        key if is_of_an_iam_principal(key) && demanded && statement.allows && services(statement).next().is_some() => {
            findings.trap(
                "principal-of-a-service",
                never("an AWS service is no IAM principal and has nothing that belongs to one"),
            );
        }
        "aws:multifactorauthpresent" | "aws:multifactorauthage" if demanded && statement.allows => {
            findings.note(
                "mfa",
                format!("{written}: no program without a person at it, such as this proxy, can give a code"),
            );
        }
        _ => {}
    }
    if key == "aws:sourcearn" && for_ecs(statement) {
        source_arn_of_ecs(condition, &written, findings);
    }
}

/// Whether a key, in lower case, tells something of an IAM principal or of its session.
fn is_of_an_iam_principal(key: &str) -> bool {
    const OF_A_SERVICE: [&str; 3] =
        ["aws:principalisawsservice", "aws:principalservicename", "aws:principalservicenameslist"];
    key.starts_with("aws:principal") && !OF_A_SERVICE.contains(&key)
        || ["aws:userid", "aws:username", "aws:sourceidentity", "aws:tokenissuetime"].contains(&key)
}

fn for_ecs(statement: &Statement) -> bool {
    services(statement).any(|service| service == ECS_TASKS)
}

/// ECS supports a SourceArn only for all clusters (Amazon ECS Developer Guide, "Amazon ECS task IAM role").
fn source_arn_of_ecs(condition: &Condition, written: &str, findings: &mut Findings) {
    let compares_text = matches!(
        condition.operator.base,
        Base::Arn | Base::StringLike | Base::StringEquals | Base::StringEqualsIgnoreCase
    );
    for arn in condition.values.iter().filter(|_| compares_text) {
        let text = without_variables(arn);
        // Of what is shorter, only text with wildcards fits an ARN; a short ARN is another finding.
        let is_compared = text.split(':').count() >= 6 || condition.operator.base == Base::StringLike;
        if is_compared && !is_for_all_clusters(&glob::pieces(&text)) {
            findings.trap(
                "source-arn-of-a-cluster",
                format!(
                    "{written}: \"{arn}\" is narrower than all clusters, which ECS does not support: tasks fail with `unable to assume the \
                     role`. Write arn:aws:ecs:REGION:ACCOUNT:*; a cluster is held by the tags of the proxy's sessions alone"
                ),
            );
        }
    }
}

fn values(policy: &TrustPolicy, condition: &Condition, findings: &mut Findings) {
    let written = format!("{} {}", condition.name, condition.key);
    for value in &condition.values {
        let variables: Vec<&str> = variables::of(value).collect();
        let is_text = matches!(condition.operator.base, Base::StringEquals | Base::StringEqualsIgnoreCase);
        let has_wildcards = without_variables(value).contains(['*', '?']);
        if is_text && has_wildcards {
            findings.trap(
                "wildcard-as-text",
                format!(
                    "{written}: \"{value}\" is compared as it stands, * and ? too, so that it fits nothing else: write {}",
                    if condition.key.to_lowercase().ends_with("arn") { "ArnLike" } else { "StringLike" }
                ),
            );
        }
        if condition.operator.base == Base::Arn && value.split(':').count() < 6 && variables.is_empty() {
            findings.trap(
                "short-arn",
                format!(
                    "{written}: \"{value}\" has fewer than the six parts of an ARN, and evaluators disagree about what it fits: it grants \
                     nothing here, and a Deny by it denies"
                ),
            );
        }
        if !variables.is_empty() && !policy.has_variables {
            findings.trap("variables-without-version", format!("{written}: \"{value}\" is compared as it stands, because only \"Version\": \"2012-10-17\" has variables"));
        } else if !variables.is_empty() && !condition.operator.has_variables() {
            findings.trap(
                "variables-of-no-text",
                format!("{written}: variables are replaced in String and Arn operators only"),
            );
        }
    }
}

/// With a character that nobody writes in place of each variable.
fn without_variables(value: &str) -> String {
    variables::of(value).fold(value.to_owned(), |text, variable| text.replace(&format!("${{{variable}}}"), "\u{1}"))
}

fn action_wildcard(statement: &Statement, findings: &mut Findings) {
    if statement.actions.iter().any(|action| glob::pieces(action).contains(&glob::Piece::Many)) {
        let actions = statement.actions.join(", ");
        findings
            .note("action-wildcard", format!("allows {actions}, which is more than {ASSUME_ROLE} and {TAG_SESSION}"));
    }
}

#[cfg(test)]
mod tests;
