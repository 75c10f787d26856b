//! `taskcreds policy test`: both verdicts, and which statement, operator, key and value decided.

use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Value, json};
use taskcreds_core::{SessionTag, SessionTags, TaskArn, TaskNames};
use taskcreds_sts_emulator::Tag;
use taskcreds_sts_emulator::policy::{
    AssumeRoleCall, Checked, Decision, Effect, IamCaller, Level, TrustCaller, Truth, Verdict, evaluate,
    has_several_values, lint,
};

use super::{TrustFile, pretty, read, refused};
use crate::cli::{Callers, PolicyTest, SessionTagging};
use crate::commands::say;
use crate::failure::{Exit, Failure};

/// A verdict that was asked for.
struct Answer {
    name: &'static str,
    caller: TrustCaller,
    call: AssumeRoleCall,
    decision: Decision,
}

pub(super) fn run(flags: PolicyTest) -> Result<ExitCode, Failure> {
    let TrustFile { policy, role } = read(&flags.trust).map_err(|faults| refused(&faults))?;
    let (role_arn, role_tags) = match (&flags.role, role) {
        (Some(role_arn), role) => (role_arn.to_string(), role.map(|role| role.tags)),
        (None, Some(role)) => (role.arn, Some(role.tags)),
        (None, None) => (in_account_of(flags.task_arn.as_str(), "task-role"), None),
    };
    let as_ecs = AssumeRoleCall {
        role_arn,
        role_tags,
        session_name: flags.task_arn.task_id().to_string(),
        tags: Vec::new(),
        transitive_tag_keys: Vec::new(),
        inherited_tags: Vec::new(),
        source_identity: None,
        external_id: None,
        region: Some(flags.region.as_ref().unwrap_or(flags.task_arn.region()).to_string()),
        at: SystemTime::now(),
        more: flags.context.clone(),
    };
    let proxy = proxy(flags.proxy.as_deref(), &as_ecs.role_arn)?;
    let tags = tags(&flags)?;
    let keys = if flags.transitive_tags { tags.iter().map(|tag| tag.key.clone()).collect() } else { Vec::new() };
    let as_proxy = AssumeRoleCall {
        tags,
        transitive_tag_keys: keys,
        source_identity: flags.source_identity.as_ref().map(ToString::to_string),
        external_id: flags.external_id.as_ref().map(ToString::to_string),
        ..as_ecs.clone()
    };
    let ecs = TrustCaller::EcsTasks { task_arn: flags.task_arn.to_string() };
    let asked =
        [("as-ecs", Callers::Ecs, ecs, as_ecs), ("as-proxy", Callers::Proxy, TrustCaller::Iam(proxy), as_proxy)];
    let asked = asked.into_iter().filter(|(_, who, ..)| flags.callers == Callers::Both || flags.callers == *who);
    let asked: Vec<_> = asked.collect();
    check_context(&flags.context, asked.iter().map(|(name, _, caller, call)| (*name, caller, call)))?;
    let answers: Vec<Answer> = asked
        .into_iter()
        .map(|(name, _, caller, call)| {
            let decision = evaluate(&policy, &caller, &call, !flags.without_identity_policy);
            Answer { name, caller, call, decision }
        })
        .collect();
    let traps = lint(&policy).iter().filter(|finding| finding.level == Level::Trap).count();
    if flags.json {
        say_json(&answers, &flags.task_arn, traps)?;
    } else {
        say_text(&answers, &flags.task_arn);
        if traps > 0 {
            let s = if traps == 1 { "" } else { "s" };
            say(format!("\n{traps} trap{s} in this policy: taskcreds policy lint {}", flags.trust.display()));
        }
    }
    let denied: Vec<_> = answers.iter().filter(|answer| !answer.decision.allows()).map(|answer| answer.name).collect();
    if denied.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(Exit::NoPermission, format!("the role cannot be assumed {}", denied.join(" and "))))
}

/// What the call or its caller tells cannot be given beside: the verdict would be about a call that nobody makes. A key is for each caller of
/// whom it is not known.
fn check_context<'a>(
    context: &[(String, String)],
    asked: impl Iterator<Item = (&'static str, &'a TrustCaller, &'a AssumeRoleCall)> + Clone,
) -> Result<(), Failure> {
    let mut faults: Vec<String> = Vec::new();
    for (number, (key, _)) in context.iter().enumerate() {
        let whys = asked.clone().map(|(name, caller, call)| Some((name, call.why_not_given(key, caller)?)));
        let whys: Option<Vec<_>> = whys.collect();
        let mut before = context.iter().take(number);
        let fault = match whys.as_deref() {
            Some([(_, first), rest @ ..]) if rest.iter().all(|(_, why)| why == first) => first.clone(),
            Some(whys) => whys.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "),
            None if has_several_values(key) != Some(true)
                && before.any(|(other, _)| other.eq_ignore_ascii_case(key)) =>
            {
                "is given twice, and has one value".to_owned()
            }
            None => continue,
        };
        faults.push(format!("--context {key}: {fault}"));
    }
    faults.dedup();
    if faults.is_empty() {
        return Ok(());
    }
    faults.push(
        "--context is for what cannot be known here; who calls and what the call passes is said by --proxy, --role, --region, --tag, \
         --external-id and --source-identity"
            .to_owned(),
    );
    Err(refused(&faults))
}

fn in_account_of(arn: &str, role: &str) -> String {
    let mut parts = arn.split(':');
    let (partition, account) = (parts.nth(1).unwrap_or("aws"), parts.nth(2).unwrap_or_default());
    format!("arn:{partition}:iam::{account}:role/{role}")
}

fn proxy(arn: Option<&str>, role_arn: &str) -> Result<IamCaller, Failure> {
    let arn = arn.map_or_else(|| in_account_of(role_arn, "taskcreds-proxy"), str::to_owned);
    IamCaller::of(&arn).ok_or_else(|| {
        let message = format!(
            "--proxy {arn}: is no caller. Give the ARN of a role, of a user or of a session of a role \
             (arn:aws:sts::111122223333:assumed-role/ROLE/SESSION)"
        );
        Failure::new(Exit::Usage, message)
    })
}

/// The tags that the proxy passes: the task's, and those that were given.
fn tags(flags: &PolicyTest) -> Result<Vec<Tag>, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    if flags.session_tags == SessionTagging::Off {
        return match flags.tags.is_empty() {
            true => Ok(Vec::new()),
            false => Err(usage("--tag and --session-tags off: keep one".to_owned())),
        };
    }
    let invalid = |invalid: taskcreds_core::Invalid| usage(format!("--tag: {invalid}"));
    let (mut all, _) = TaskNames::default().tags(&flags.task_arn).map_err(invalid)?;
    for (key, value) in &flags.tags {
        // What the proxy tells of a task beyond its ARN, its family and service, is given like this too.
        if all.iter().any(|tag| tag.key().eq_ignore_ascii_case(key)) {
            return Err(usage(format!("--tag {key}: is told from the task and cannot be set")));
        }
        all.push(SessionTag::new(key, value).map_err(invalid)?);
    }
    SessionTags::new(all.clone()).map_err(invalid)?;
    Ok(all.iter().map(|tag| Tag { key: tag.key().to_owned(), value: tag.value().to_owned() }).collect())
}

fn say_text(answers: &[Answer], task_arn: &TaskArn) {
    for (number, Answer { name, caller, call, decision }) in answers.iter().enumerate() {
        if number > 0 {
            say("");
        }
        say(format!("{name}: {}", if decision.allows() { "allowed" } else { "DENIED" }));
        let how = match caller {
            TrustCaller::EcsTasks { .. } => format!("for {task_arn}"),
            TrustCaller::Iam(_) if call.tags.is_empty() => "without session tags".to_owned(),
            TrustCaller::Iam(_) => {
                format!(
                    "with the session tags {}",
                    call.tags.iter().map(|tag| &*tag.key).collect::<Vec<_>>().join(", ")
                )
            }
        };
        say(format!("  {} assumes {} {how}", caller.arn(), call.role_arn));
        for Verdict { action, effect, reason, others, .. } in &decision.verdicts {
            say(format!("  {action}: {effect}: {reason}"));
            for other in others {
                say(format!("    and {other}"));
            }
        }
        let is_unknown = |condition: &Checked| condition.holds == Truth::Unknown && condition.request_values.is_none();
        if decision.denial().is_some_and(|verdict| verdict.conditions.iter().any(is_unknown)) {
            say("  --context KEY=VALUE gives a key its value");
        }
    }
}

fn say_json(answers: &[Answer], task_arn: &TaskArn, traps: usize) -> Result<(), Failure> {
    let mut all = serde_json::Map::new();
    all.insert("taskArn".to_owned(), json!(task_arn.as_str()));
    for Answer { name, caller, call, decision } in answers {
        let verdicts: Vec<_> = decision.verdicts.iter().map(verdict).collect();
        let answer = json!({
            "allowed": decision.allows(),
            "caller": caller.arn(),
            "roleArn": call.role_arn,
            "actions": verdicts,
        });
        all.insert((*name).to_owned(), answer);
    }
    all.insert("traps".to_owned(), json!(traps));
    say(pretty(&Value::Object(all))?);
    Ok(())
}

fn verdict(verdict: &Verdict) -> Value {
    let Verdict { action, effect, statement, reason, conditions, needs_identity_policy, others } = verdict;
    let effect = match effect {
        Effect::Allow => "allow",
        Effect::ExplicitDeny => "explicitDeny",
        Effect::ImplicitDeny => "implicitDeny",
    };
    let conditions = conditions.iter().map(|condition| {
        let holds = match condition.holds {
            Truth::Yes => json!(true),
            Truth::No => json!(false),
            Truth::Unknown => Value::Null,
        };
        json!({
            "operator": condition.operator,
            "key": condition.key,
            "policyValues": condition.policy_values,
            "requestValues": condition.request_values,
            "holds": holds,
            "why": condition.why,
        })
    });
    json!({
        "action": action,
        "effect": effect,
        "statement": statement,
        "reason": reason,
        "conditions": conditions.collect::<Vec<_>>(),
        "needsIdentityPolicy": needs_identity_policy,
        "otherStatements": others,
    })
}
