//! `taskcreds audit`: what the audit log says of a key, a session, a task or a time.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::say;
use crate::audit::record::Record;
use crate::audit::search::{Question, search};
use crate::cli;
use crate::failure::{Exit, Failure};

pub(super) fn run(flags: cli::Audit) -> Result<ExitCode, Failure> {
    if flags.since.is_some() && flags.until.is_some() && flags.since > flags.until {
        return Err(Failure::new(Exit::Usage, "--since is after --until: no time is between them"));
    }
    let question = Question {
        access_key_id: flags.access_key_id,
        session_name: flags.session_name,
        task_arn: flags.task_arn.map(|arn| arn.as_str().to_owned()),
        since: flags.since,
        until: flags.until,
    };
    let found = search(&flags.file, &question).map_err(|(place, error)| unreadable(&flags.file, &place, &error))?;
    if found.unreadable > 0 {
        tracing::warn!(lines = found.unreadable, "lines that are no records were left out");
    }
    if flags.json {
        for record in &found.records {
            say(&record.line);
        }
    } else {
        table(&found.records);
    }
    match found.records.len() {
        0 => Err(Failure::new(Exit::Unhealthy, "no record fits")),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// `place` is the file, its folder, or a file beside it.
fn unreadable(file: &Path, place: &Path, error: &io::Error) -> Failure {
    let (exit, advice) = match error.kind() {
        io::ErrorKind::PermissionDenied => (Exit::NoPermission, "ask as root or as the user that runs taskcreds"),
        _ => (Exit::Usage, "--file names another one"),
    };
    let place = if place == file { String::new() } else { format!("{}: ", place.display()) };
    Failure::new(exit, format!("cannot read the audit log {}: {place}{error}; {advice}", file.display()))
}

fn table(records: &[Record]) {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let head = ["TIME", "EVENT", "OUTCOME", "TASK ARN", "ROLE ARN", "ACCESS KEY ID", "FROM"].map(str::to_owned);
    let rows = records.iter().map(|record| {
        let why = record.reason.as_ref().or(record.code.as_ref()).map_or_else(String::new, |why| format!(" {why}"));
        let answer = record.status.map(|status| format!("{status}{why}"));
        let outcome = record.outcome.clone().or(answer);
        let (task, role, key) = (text(&record.task_arn), text(&record.role_arn), text(&record.access_key_id));
        [record.time.clone(), record.event.clone(), text(&outcome), task, role, key, text(&record.peer)]
    });
    super::say_table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
}
