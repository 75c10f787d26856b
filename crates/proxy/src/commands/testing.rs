//! What test suites ask for on the command line; `taskcreds fault` and `taskcreds journal`, the clients of the control interface.

use std::collections::BTreeSet;
use std::process::ExitCode;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::{say, say_table};
use crate::cli::{self, At, Entries, FaultAction, JournalAction};
use crate::config::Config;
use crate::control::client::ask;
use crate::control::{FaultList, JournalPage, SetFaults};
use crate::failure::{Exit, Failure};
use crate::testbed::Filter;
use crate::testbed::fault::parse_all;

impl cli::Testing {
    /// Puts the flags beside what the file says.
    ///
    /// # Errors
    /// Everything that is wrong with the faults.
    pub(super) fn apply(self, config: &mut Config) -> Result<(), Failure> {
        let faults = parse_all(&self.faults).map_err(|wrong| Failure::new(Exit::Usage, wrong.to_string()))?;
        config.testing.faults.extend(faults);
        config.testing.control = self.control.or(config.testing.control);
        config.testing.allow_faults |= self.allow_faults;
        Ok(())
    }
}

impl cli::ShortSessions {
    /// The seconds, which real STS has none of.
    ///
    /// # Errors
    /// Sessions come from real STS.
    pub(super) fn of(self, embedded: bool, instead: &str) -> Result<Option<u32>, Failure> {
        if self.session_seconds.is_some() && !embedded {
            let message =
                format!("--session-seconds is for the embedded STS, real STS gives 900 s and more: {instead}");
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(self.session_seconds)
    }
}

pub(super) async fn fault(flags: cli::Fault) -> Result<ExitCode, Failure> {
    let cli::Fault { action, at } = flags;
    let url = url(&at)?;
    let cleared = match &action {
        FaultAction::Clear { target } => target.clone(),
        FaultAction::Add { .. } | FaultAction::Ls => None,
    };
    let (_, answer) = match action {
        FaultAction::Add { faults } => ask(url, Method::POST, "/faults", Some(&SetFaults { faults })).await?,
        FaultAction::Ls => ask(url, Method::GET, "/faults", None::<&()>).await?,
        FaultAction::Clear { target } => {
            let query = target.map(|target| {
                let query = form_urlencoded::Serializer::new(String::new()).append_pair("target", &target).finish();
                format!("?{query}")
            });
            ask(url, Method::DELETE, &format!("/faults{}", query.unwrap_or_default()), None::<&()>).await?
        }
    };
    let FaultList { faults } = parse(&answer)?;
    let stay = faults.iter().filter(|one| one.left != Some(0)).filter_map(|one| one.fault.split(':').next());
    let stay = stay.filter(|target| cleared.as_deref().is_some_and(|all| is_one_of(target, all)));
    let stay: BTreeSet<_> = stay.collect();
    if !stay.is_empty() {
        let stay = Vec::from_iter(stay).join(", ");
        say_not(&format!("what is set for one of them alone stays: clear {stay} too"), None);
    }
    if at.json {
        say(String::from_utf8_lossy(&answer));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["FAULT", "APPLIED", "LEFT"].map(str::to_owned)];
    for fault in faults {
        let left = fault.left.map_or_else(|| "until cleared".to_owned(), |left| left.to_string());
        rows.push([fault.fault, fault.applied.to_string(), left]);
    }
    say_table(&rows);
    Ok(ExitCode::SUCCESS)
}

/// Whether a target is one of those that another one is for, as `sts/web` of `sts`.
fn is_one_of(target: &str, all: &str) -> bool {
    let is_of_sts = target == "sts" || target.starts_with("sts/");
    target != all && ((all == "sts" && is_of_sts) || (all == "*" && !is_of_sts))
}

pub(super) async fn journal(flags: cli::Journal) -> Result<ExitCode, Failure> {
    let cli::Journal { action, at } = flags;
    let url = url(&at)?;
    let get = async |path: String| ask(url, Method::GET, &path, None::<&()>).await;
    let waited = async |entries: Entries, count: usize, timeout: humantime::Duration| {
        let query = filter(entries).query();
        let timeout = timeout.to_string().replace(' ', "");
        get(format!("/journal?count={count}&timeout={timeout}&{query}")).await
    };
    let (exit, answer) = match action {
        JournalAction::Ls(entries) => {
            (ExitCode::SUCCESS, get(format!("/journal?{}", filter(entries).query())).await?.1)
        }
        JournalAction::Wait { entries, count, timeout } => {
            let (status, answer) = waited(entries, count, timeout).await?;
            if status == StatusCode::REQUEST_TIMEOUT {
                let JournalPage { entries, hint, .. } = parse(&answer)?;
                say_not(&format!("{} of {count} entries were there after {timeout}", entries.len()), hint);
            }
            (is(status == StatusCode::OK), answer)
        }
        JournalAction::Assert { entries, count, timeout } => {
            let (_, answer) = waited(entries, count, timeout).await?;
            let JournalPage { entries, hint, .. } = parse(&answer)?;
            let there = entries.len();
            if there != count {
                say_not(&format!("{there} entries are there and not {count}"), hint);
            }
            (is(there == count), answer)
        }
        JournalAction::Clear => {
            ask(url, Method::DELETE, "/journal", None::<&()>).await?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if at.json {
        say(String::from_utf8_lossy(&answer));
    } else {
        say_entries(&parse(&answer)?);
    }
    Ok(exit)
}

fn url(at: &At) -> Result<&str, Failure> {
    if at.url.is_empty() {
        let message = "where is the control interface? Give --control URL or TASKCREDS_CONTROL; dev and exec have one with --control";
        return Err(Failure::new(Exit::Usage, message));
    }
    let address = at.url.strip_prefix("http://").unwrap_or(&at.url).trim_end_matches('/');
    let is_one = |(host, port): (&str, &str)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok();
    if !address.rsplit_once(':').is_some_and(is_one) {
        let message =
            "--control (TASKCREDS_CONTROL) is the URL of a control interface, http://ADDRESS:PORT without a path";
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(&at.url)
}

fn filter(entries: Entries) -> Filter {
    let Entries { task, role, place, action, status, code, access_key_id, fault, since } = entries;
    Filter { task, role, place, action, status, code, access_key_id, fault, since }
}

fn is(so: bool) -> ExitCode {
    if so { ExitCode::SUCCESS } else { Exit::Unhealthy.into() }
}

#[expect(clippy::print_stderr, reason = "standard output has the entries")]
fn say_not(why: &str, hint: Option<String>) {
    let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
    eprintln!("taskcreds: {why}{hint}");
}

fn say_entries(page: &JournalPage) {
    let mut rows =
        vec![["SEQ", "TIME", "PLACE", "ACTION", "TASK", "STATUS", "CODE", "KEY", "FAULT"].map(str::to_owned)];
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    for entry in &page.entries {
        rows.push([
            entry.seq.to_string(),
            entry.time.clone(),
            entry.place.clone(),
            text(&entry.action),
            text(&entry.task),
            entry.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            text(&entry.code),
            text(&entry.access_key_id),
            text(&entry.fault),
        ]);
    }
    say_table(&rows);
}

fn parse<T: DeserializeOwned>(answer: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| {
        Failure::new(Exit::Unavailable, format!("the answer is not that of this version's control interface: {error}"))
    })
}
