//! `taskcreds policy lint`: the traps of trust policies, and what IAM would refuse.

use std::process::ExitCode;

use serde_json::{Value, json};
use taskcreds_sts_emulator::policy::{Finding, Level, lint};

use super::{pretty, read, refused};
use crate::cli::PolicyLint;
use crate::commands::say;
use crate::failure::{Exit, Failure};

pub(super) fn run(flags: &PolicyLint) -> Result<ExitCode, Failure> {
    let (mut faults, mut traps, mut all) = (Vec::new(), 0, Vec::<Value>::new());
    for file in &flags.files {
        let findings = match read(file) {
            Ok(found) => lint(&found.policy),
            Err(found) => {
                faults.extend(found);
                continue;
            }
        };
        traps += findings.iter().filter(|finding| finding.level == Level::Trap).count();
        for Finding { level, code, place, message } in findings {
            let (file, level) = (file.display().to_string(), level.word());
            if flags.json {
                all.push(json!({"file": file, "level": level, "code": code, "statement": place, "message": message}));
            } else {
                let place = if place.is_empty() { place } else { format!(" {place}:") };
                say(format!("{file}:{place} {level} {code}: {message}"));
            }
        }
    }
    if flags.json {
        say(pretty(&Value::Array(all))?);
    }
    match (faults.is_empty(), traps) {
        (false, _) => Err(refused(&faults)),
        (true, 0) => Ok(ExitCode::SUCCESS),
        (true, traps) => {
            Err(Failure::new(Exit::Unhealthy, format!("{traps} trap{}", if traps == 1 { "" } else { "s" })))
        }
    }
}
