//! The decision: once for each action, and all must be allowed. A Deny that applies wins over every Allow; without an Allow that applies
//! the answer is no. Source: IAM User Guide, "Policy evaluation logic", "Passing session tags", "Monitor and control actions taken with
//! assumed roles".

use std::fmt;

use super::Truth;
use super::arn::place;
use super::condition::Checked;
use super::context::{AssumeRoleCall, Context, TrustCaller};
use super::document::{Statement, TrustPolicy};
use super::principal::{Meant, Principal};

/// The answer to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// One for each action that the call needs, sts:AssumeRole first.
    pub verdicts: Vec<Verdict>,
}

/// The answer for one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `sts:AssumeRole`, `sts:TagSession` or `sts:SetSourceIdentity`.
    pub action: &'static str,
    /// The answer.
    pub effect: Effect,
    /// The statement that decided, or that came nearest to allowing: `Statement[1] "Proxy"`.
    pub statement: Option<String>,
    /// Why, in one sentence: the statement, the operator, the key and the values that decided.
    pub reason: String,
    /// The conditions of that statement.
    pub conditions: Vec<Checked>,
    /// Whether AWS asks for an Allow in the caller's own policies too.
    pub needs_identity_policy: bool,
    /// Why each of the other statements does not apply.
    pub others: Vec<String>,
}

/// What a policy says to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A statement allows it and none denies it.
    Allow,
    /// A statement denies it.
    ExplicitDeny,
    /// No statement allows it.
    ImplicitDeny,
}

impl Decision {
    /// Whether the role can be assumed.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.denial().is_none()
    }

    /// The first action that is denied, which is the one that AWS names.
    #[must_use]
    pub fn denial(&self) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.effect != Effect::Allow)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allowed",
            Self::ExplicitDeny => "explicitly denied",
            Self::ImplicitDeny => "denied",
        })
    }
}

/// What `policy` says to a call. `identity_allows`: whether the caller's own policies allow it, where AWS asks for that too.
#[must_use]
pub fn evaluate(policy: &TrustPolicy, caller: &TrustCaller, call: &AssumeRoleCall, identity_allows: bool) -> Decision {
    let context = Context::new(call, caller);
    let foreign = match caller {
        TrustCaller::Iam(caller) => place(&call.role_arn).1 != Some(&caller.account),
        TrustCaller::EcsTasks { .. } => false,
    };
    let question = Question { policy, caller, context, foreign, identity_allows };
    let out_of_reach = out_of_reach(caller, &call.role_arn);
    let answer = |action| match &out_of_reach {
        Some(why) => by_no_statement(action, why),
        None => question.answer(action),
    };
    Decision { verdicts: call.actions(caller).into_iter().map(answer).collect() }
}

/// Why the caller cannot have the role whatever its policy says, if that is so. A partition is a world of its own, with accounts of its own
/// (AWS General Reference, "ARN format"). A role is passed to ECS by iam:PassRole, which is for roles of one's own account (IAM User Guide,
/// "Grant a user permissions to pass a role to an AWS service").
pub(crate) fn out_of_reach(caller: &TrustCaller, role_arn: &str) -> Option<String> {
    let (who, arn) = match caller {
        TrustCaller::Iam(caller) => ("caller", &caller.principal_arn),
        TrustCaller::EcsTasks { task_arn } => ("task", task_arn),
    };
    let ((partition, account), (of_role, account_of_role)) = (place(arn), place(role_arn));
    if partition != of_role {
        let [partition, of_role] = [partition, of_role].map(Option::unwrap_or_default);
        return Some(format!(
            "the role is of another partition than the {who}, {of_role} and not {partition}: nobody assumes a role of another partition"
        ));
    }
    (who == "task" && account != account_of_role).then(|| {
        "the role is of another account than the task: a task can only be given a role of its own account".to_owned()
    })
}

fn by_no_statement(action: &'static str, why: &str) -> Verdict {
    Verdict {
        action,
        effect: Effect::ImplicitDeny,
        statement: None,
        reason: why.to_owned(),
        conditions: Vec::new(),
        needs_identity_policy: false,
        others: Vec::new(),
    }
}

struct Question<'a> {
    policy: &'a TrustPolicy,
    caller: &'a TrustCaller,
    context: Context,
    /// Whether the caller is of another account than the role.
    foreign: bool,
    identity_allows: bool,
}

/// How a statement stands to an action of the caller.
enum Standing {
    /// It is not about this caller.
    OtherCaller,
    /// It is not about this action.
    OtherAction,
    /// It is about both, and its conditions came out like this.
    Conditions(Meant, Truth, Vec<Checked>),
}

impl Question<'_> {
    fn answer(&self, action: &'static str) -> Verdict {
        let standings: Vec<_> = self.policy.statements.iter().map(|one| (one, self.standing(one, action))).collect();
        let denies = standings.iter().find_map(|(statement, standing)| match standing {
            Standing::Conditions(_, Truth::Yes | Truth::Unknown, checked) if !statement.allows => {
                Some((statement, checked))
            }
            _ => None,
        });
        if let Some((statement, checked)) = denies {
            return Verdict {
                action,
                effect: Effect::ExplicitDeny,
                statement: Some(statement.name.clone()),
                reason: format!("{} denies it{}", statement.name, because(checked)),
                conditions: checked.clone(),
                needs_identity_policy: false,
                others: Vec::new(),
            };
        }
        let allows = standings.iter().filter_map(|(statement, standing)| match standing {
            Standing::Conditions(meant, Truth::Yes, checked) if statement.allows => Some((statement, *meant, checked)),
            _ => None,
        });
        // The one that needs the least.
        match allows.min_by_key(|(_, meant, _)| *meant == Meant::ThroughItsAccount) {
            Some((statement, meant, checked)) => self.allowed(action, statement, meant, checked),
            None => self.not_allowed(action, &standings),
        }
    }

    fn standing(&self, statement: &Statement, action: &str) -> Standing {
        let meant = statement.principals.iter().filter_map(|principal| principal.means(self.caller));
        let rank = |meant: &Meant| match meant {
            Meant::Itself => 0,
            Meant::ThroughItsAccount => 1,
            Meant::Perhaps => 2,
        };
        let meant = match meant.min_by_key(rank) {
            None => return Standing::OtherCaller,
            Some(Meant::Perhaps) if statement.allows => return Standing::OtherCaller,
            Some(meant) => meant,
        };
        if !statement.is_about(action) {
            return Standing::OtherAction;
        }
        let check = |condition: &super::condition::Condition| condition.check(&self.context, self.policy.has_variables);
        let checked: Vec<_> = statement.conditions.iter().map(check).collect();
        Standing::Conditions(meant, Truth::all(checked.iter().map(|checked| checked.holds)), checked)
    }

    fn allowed(&self, action: &'static str, statement: &Statement, meant: Meant, checked: &[Checked]) -> Verdict {
        let name = &statement.name;
        let needs = match (self.caller, meant, self.foreign) {
            (TrustCaller::EcsTasks { .. }, ..) => None,
            (_, Meant::ThroughItsAccount, _) => Some("it trusts the account and not the caller by name"),
            (_, Meant::Itself | Meant::Perhaps, true) => Some("the caller is of another account"),
            (_, Meant::Itself | Meant::Perhaps, false) => None,
        };
        let (effect, reason) = match (needs, self.identity_allows) {
            (None, _) => (Effect::Allow, format!("{name} allows it")),
            (Some(why), true) => (
                Effect::Allow,
                format!("{name} allows it; {why}, so the caller's own policies must allow {action} too"),
            ),
            (Some(why), false) => (
                Effect::ImplicitDeny,
                format!("{name} would allow it, but {why}, and the caller's own policies do not allow {action}"),
            ),
        };
        let (statement, conditions) = (Some(name.clone()), checked.to_vec());
        Verdict {
            action,
            effect,
            statement,
            reason,
            conditions,
            needs_identity_policy: needs.is_some(),
            others: Vec::new(),
        }
    }

    fn not_allowed(&self, action: &'static str, standings: &[(&Statement, Standing)]) -> Verdict {
        let mut misses: Vec<(u8, &Statement, String, &[Checked])> = Vec::new();
        for (statement, standing) in standings.iter().filter(|(statement, _)| statement.allows) {
            let name = &statement.name;
            misses.push(match standing {
                Standing::Conditions(_, _, checked) => {
                    (0, *statement, format!("{name} does not apply{}", because(checked)), checked)
                }
                Standing::OtherAction => {
                    (1, *statement, format!("{name} does not allow {action}: {}", actions(statement)), &[])
                }
                Standing::OtherCaller => (
                    2,
                    *statement,
                    format!("{name} does not trust {}: {}", self.caller.arn(), trusts(statement, self.caller)),
                    &[],
                ),
            });
        }
        // The nearest first: one that fails by a condition is what its author meant.
        misses.sort_by_key(|(distance, ..)| *distance);
        let mut misses = misses.into_iter();
        let (statement, reason, conditions) = match misses.next() {
            Some((_, statement, reason, checked)) => (Some(statement.name.clone()), reason, checked.to_vec()),
            None => (None, "no statement allows anything".to_owned(), Vec::new()),
        };
        let others = misses.map(|(_, _, reason, _)| reason).collect();
        Verdict {
            action,
            effect: Effect::ImplicitDeny,
            statement,
            reason,
            conditions,
            needs_identity_policy: false,
            others,
        }
    }
}

fn actions(statement: &Statement) -> String {
    let what = if statement.not_actions { "all but" } else { "only" };
    format!("{what} {}", statement.actions.join(", "))
}

/// The conditions that decided: those that do not hold, or else all.
fn because(checked: &[Checked]) -> String {
    let failed: Vec<_> = checked.iter().filter(|checked| checked.holds == Truth::No).map(ToString::to_string).collect();
    let unknown: Vec<_> =
        checked.iter().filter(|checked| checked.holds == Truth::Unknown).map(ToString::to_string).collect();
    let all: Vec<_> = checked.iter().map(ToString::to_string).collect();
    match [failed, unknown, all].into_iter().find(|some| !some.is_empty()) {
        Some(some) => format!(": {}", some.join("; ")),
        None => String::new(),
    }
}

fn trusts(statement: &Statement, caller: &TrustCaller) -> String {
    let names: Vec<_> = statement.principals.iter().map(Principal::text).collect();
    let trusted = format!("it trusts {}", names.join(", "));
    let hint = statement.principals.iter().find_map(|principal| match (principal, caller) {
        (Principal::Federated(_), _) => {
            Some("an identity provider, which calls AssumeRoleWithSAML or AssumeRoleWithWebIdentity")
        }
        (Principal::Deleted(_), _) => {
            Some("the id of a principal that was deleted; IAM does not give it to a new one of the same name")
        }
        (Principal::Session(_), TrustCaller::Iam(caller)) if !caller.session_is_known => {
            Some("one session by name; which one the caller has is not known here")
        }
        _ => None,
    });
    hint.map_or(trusted.clone(), |hint| format!("{trusted} ({hint})"))
}

#[cfg(test)]
mod tests;
