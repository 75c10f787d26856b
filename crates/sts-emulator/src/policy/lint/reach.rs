//! Whom a statement lets in beyond those whom its author has in mind: everybody, and a service that works for anybody. What counts is not
//! that a key is asked for but that its values name an account or an organization: `StringLike "*"` holds nobody back.

use super::super::arn::place;
use super::super::condition::Condition;
use super::super::context::ECS_TASKS;
use super::super::document::{ASSUME_ROLE, Statement};
use super::super::glob;
use super::super::operator::{Base, Compare};
use super::super::principal::Principal;
use super::super::variables;
use super::{Findings, demands, services};
use crate::principal::is_account;

/// Services whose documentation has `aws:SourceAccount` and `aws:SourceArn` in the trust policy of their roles.
const SERVICES_WITH_A_SOURCE: [&str; 2] = [ECS_TASKS, "ssm.amazonaws.com"];

/// A key, and whether a value of it names somebody.
type Named = (&'static str, fn(&str) -> bool);

/// For whom a service works.
const SOURCES: [Named; 4] = [
    ("aws:SourceAccount", is_account),
    ("aws:SourceArn", names_an_account),
    ("aws:SourceOrgID", is_plain),
    ("aws:SourceOrgPaths", begins_plainly),
];

/// Who calls. What everybody can choose in an account of their own is not here: names of users, source identities, tags.
const CALLERS: [Named; 5] = [
    ("aws:PrincipalArn", names_an_account),
    ("aws:PrincipalAccount", is_account),
    ("aws:PrincipalOrgID", is_plain),
    ("aws:PrincipalOrgPaths", begins_plainly),
    ("aws:userid", begins_plainly),
];

fn names_an_account(arn: &str) -> bool {
    place(arn).1.is_some_and(is_account)
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(['*', '?'])
}

/// The first part: the organization of a path, the unique id of a role's session.
fn begins_plainly(text: &str) -> bool {
    text.split(['/', ':']).next().is_some_and(is_plain)
}

/// Whether a condition lets in only those whom its values name.
fn holds_to(condition: &Condition, known: &[Named]) -> bool {
    let has_wildcards = match condition.operator.base {
        Base::StringLike => true,
        Base::Arn if condition.key.to_lowercase().ends_with("arn") => true,
        Base::StringEquals | Base::StringEqualsIgnoreCase | Base::Numeric(Compare::Equals) => false,
        _ => return false,
    };
    let is_named = |names: fn(&str) -> bool, value: &String| {
        // Compared as it stands, a wildcard fits nobody.
        (!has_wildcards && value.contains(['*', '?'])) || names(&resolved(value))
    };
    known
        .iter()
        .any(|(key, names)| demands(condition, key) && condition.values.iter().all(|value| is_named(*names, value)))
}

/// With an account and an organization for the variables that are the role's own, and with a wildcard for all others: they may be
/// whatever the caller is.
fn resolved(value: &str) -> String {
    variables::of(value).fold(value.to_owned(), |text, variable| {
        let key = variable.split(',').next().unwrap_or_default().trim().to_lowercase();
        let stands_for = match key.as_str() {
            "aws:resourceaccount" => "000000000000",
            "aws:resourceorgid" => "o-0000000000",
            _ => "*",
        };
        text.replace(&format!("${{{variable}}}"), stands_for)
    })
}

/// A service that calls for anybody must be held to one account.
pub(super) fn confused_deputy(statement: &Statement, findings: &mut Findings) {
    let named = services(statement).find(|service| SERVICES_WITH_A_SOURCE.contains(service));
    let Some(service) = named.or_else(|| by_condition(statement)) else { return };
    let is_held = statement.conditions.iter().any(|condition| holds_to(condition, &SOURCES));
    if statement.is_about(ASSUME_ROLE) && !is_held {
        findings.trap(
            "confused-deputy",
            format!(
                "trusts {service} whoever it works for: somebody in another account could have it use this role. Add StringEquals \
                 aws:SourceAccount, and ArnLike aws:SourceArn, of your account"
            ),
        );
    }
}

/// The service that a statement for everybody lets in by a condition, where it must be held to an account.
fn by_condition(statement: &Statement) -> Option<&'static str> {
    if !statement.principals.contains(&Principal::Anyone) {
        return None;
    }
    let mut names = statement.conditions.iter().filter(|condition| is_service_name(condition)).peekable();
    if names.peek().is_none() {
        return statement.conditions.iter().any(is_any_service).then_some("every AWS service");
    }
    let fits = |condition: &Condition, service: &str| {
        condition.values.iter().any(|value| glob::matches(&glob::pieces(&resolved(value)), service))
    };
    let let_in: Vec<_> = names.collect();
    SERVICES_WITH_A_SOURCE.into_iter().find(|service| let_in.iter().all(|condition| fits(condition, service)))
}

fn is_service_name(condition: &Condition) -> bool {
    ["aws:PrincipalServiceName", "aws:PrincipalServiceNamesList"].iter().any(|key| demands(condition, key))
}

fn is_any_service(condition: &Condition) -> bool {
    demands(condition, "aws:PrincipalIsAWSService")
        && condition.values.iter().all(|value| value.eq_ignore_ascii_case("true"))
}

pub(super) fn everybody(statement: &Statement, findings: &mut Findings) {
    let holds = |condition: &Condition| {
        holds_to(condition, &CALLERS)
            || holds_to(condition, &SOURCES)
            || is_service_name(condition)
            || is_any_service(condition)
    };
    if statement.principals.contains(&Principal::Anyone) && !statement.conditions.iter().any(holds) {
        findings.trap(
            "everybody",
            "trusts every AWS account there is: name the principal, or demand an aws:PrincipalArn of an account or aws:PrincipalOrgID. \
             Names of users, source identities, external ids and tags hold nobody: in an account of their own, everybody has those",
        );
    }
}
