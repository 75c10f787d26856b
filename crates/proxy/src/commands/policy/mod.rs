//! `taskcreds policy`: trust policies tested, checked and written, with no AWS account.

mod lint;
mod test;
mod write;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use taskcreds_sts_emulator::{Role, TrustPolicy};

use crate::cli::{self, PolicyAction};
use crate::failure::{Exit, Failure};

pub(super) fn run(flags: cli::Policy) -> Result<ExitCode, Failure> {
    match flags.action {
        PolicyAction::Test(flags) => test::run(*flags),
        PolicyAction::Lint(flags) => lint::run(&flags),
        PolicyAction::Trust(flags) => write::trust(flags),
        PolicyAction::Permissions(flags) => write::permissions(flags),
    }
}

/// A trust policy, and the role that came with it.
struct TrustFile {
    policy: TrustPolicy,
    role: Option<Role>,
}

/// Reads a trust policy, or a role as `aws iam get-role` prints it.
///
/// # Errors
/// Everything for which IAM would refuse the policy, one fault a line.
fn read(file: &Path) -> Result<TrustFile, Vec<String>> {
    let at = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|all| text = all)
    };
    read.map_err(|error| vec![at(&error)])?;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if ["Role", "AssumeRolePolicyDocument", "RoleArn"].iter().all(|field| json.get(field).is_none()) {
        let policy = text.parse::<TrustPolicy>();
        let policy = policy.map_err(|malformed| malformed.0.iter().map(|fault| at(fault)).collect::<Vec<_>>())?;
        return Ok(TrustFile { policy, role: None });
    }
    let role = Role::from_json(&text).map_err(|faults| faults.iter().map(|fault| at(fault)).collect::<Vec<_>>())?;
    let policy = role.trust_policy.clone().ok_or_else(|| vec![at(&"has no AssumeRolePolicyDocument")])?;
    Ok(TrustFile { policy, role: Some(role) })
}

fn refused(faults: &[String]) -> Failure {
    Failure::new(Exit::Usage, faults.join("\n"))
}

/// A JSON answer, for a person or a program.
fn pretty(value: &serde_json::Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::software("cannot write JSON", error))
}
