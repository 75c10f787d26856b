//! `[admin]` and `[state]`: who may register tasks over the socket, and what outlives the process.

use std::path::{Path, PathBuf};

use taskcreds_core::{RoleArn, TaskArn};

use super::section::{Faults, Section};

/// The admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it is.
    pub socket: PathBuf,
    /// The group that may connect beside the proxy's own user and root.
    pub gid: Option<u32>,
    /// What other users may register. The proxy's own user and root may register everything.
    pub rules: Vec<Rule>,
}

impl Admin {
    /// One that only the proxy's own user and root may use.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket, gid: None, rules: Vec::new() }
    }
}

/// What one user of the admin socket may register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The user's id, as the kernel tells it (SO_PEERCRED).
    pub uid: u32,
    /// The roles.
    pub role_arns: Vec<Pattern>,
    /// The task ARNs; empty: any.
    pub task_arns: Vec<Pattern>,
    /// How many registrations this user may have at a time.
    pub max_tasks: usize,
}

impl Rule {
    /// Whether this user may have this role.
    #[must_use]
    pub fn allows_role(&self, role: &RoleArn) -> bool {
        self.role_arns.iter().any(|pattern| pattern.matches(role.as_str()))
    }

    /// Whether this user may register this task.
    #[must_use]
    pub fn allows_task(&self, task: &TaskArn) -> bool {
        self.task_arns.is_empty() || self.task_arns.iter().any(|pattern| pattern.matches(task.as_str()))
    }
}

/// An ARN in which `*` stands for any characters but `:` and `/`, so that it never reaches into another part of the ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// What is wrong: it is no ARN of six parts, or it leaves the account open.
    pub fn new(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", _, _, _, account, resource] if !resource.is_empty() => {
                if account.contains('*') {
                    return Err("must name its account: * is not allowed there".to_owned());
                }
                Ok(Self(text.to_owned()))
            }
            _ => Err("must be an ARN, in which * stands for any characters but : and /".to_owned()),
        }
    }

    /// Whether an ARN fits.
    #[must_use]
    pub fn matches(&self, arn: &str) -> bool {
        matches(self.0.as_bytes(), arn.as_bytes())
    }
}

/// Linear but for the backtracking to the last star, which never leaves its part of the ARN.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on if what follows the last star does not fit: behind the star, and one more character into the text.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                p += 1;
                star = Some((p, t));
            }
            (Some(wanted), Some(found)) if wanted == found => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((behind, taken)) if text.get(taken).is_some_and(|byte| !b":/".contains(byte)) => {
                    p = behind;
                    t = taken + 1;
                    star = Some((behind, t));
                }
                _ => return false,
            },
        }
    }
    true
}

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The folder of the store; by default systemd's `STATE_DIRECTORY`, else [`State::DIR`].
    pub dir: Option<PathBuf>,
    /// Where the sessions are kept for the next process.
    pub sessions: KeepSessions,
}

impl State {
    /// The folder of the store where nobody names another one.
    pub const DIR: &str = "/var/lib/taskcreds";
}

/// Where the sessions are kept for the next process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepSessions {
    /// In the service manager's file descriptor store, where there is one: in memory only.
    #[default]
    ServiceManager,
    /// In a file that only this user can read, on tmpfs.
    RuntimeDir,
    /// Nowhere.
    Off,
}

pub(super) fn admin(section: Option<Section<'_>>, base: &Path, faults: &mut Faults<'_>) -> Option<Admin> {
    let mut section = section?;
    if !section.has("socket") {
        section.fault(faults, "socket is missing: where is the admin socket to be?");
    }
    let socket = section.string("socket", faults).map(|path| base.join(path.value));
    let gid = section.number("gid", 0..=u32::MAX - 1, faults);
    let mut rules = Vec::<Rule>::new();
    for mut rule in section.sections("allow", faults) {
        if !rule.has("uid") || !rule.has("role_arns") {
            rule.fault(faults, "a rule names a uid and its role_arns");
        }
        let uid = rule.number("uid", 0..=u32::MAX - 1, faults);
        let role_arns = rule.parsed_strings("role_arns", faults, Pattern::new);
        let task_arns = rule.parsed_strings("task_arns", faults, Pattern::new);
        let max_tasks = rule.number("max_tasks", 1..=super::MOST_TASKS, faults);
        if let Some(uid) = uid {
            if rules.iter().any(|rule| rule.uid == uid) {
                rule.fault(faults, format!("a second rule for uid {uid}: one rule holds all of a user's role_arns"));
            }
            let max_tasks = max_tasks.map_or(super::MAX_TASKS, |most| most as usize);
            rules.push(Rule { uid, role_arns, task_arns, max_tasks });
        }
        rule.finish(faults);
    }
    section.finish(faults);
    socket.map(|socket| Admin { socket, gid, rules })
}

pub(super) fn state(section: Option<Section<'_>>, base: &Path, faults: &mut Faults<'_>) -> State {
    let Some(mut section) = section else { return State::default() };
    let dir = section.string("dir", faults).map(|path| base.join(path.value));
    let sessions = section.string("sessions", faults).and_then(|word| {
        word.parse(faults, |word| match word.as_str() {
            "service-manager" => Ok(KeepSessions::ServiceManager),
            "runtime-dir" => Ok(KeepSessions::RuntimeDir),
            "off" => Ok(KeepSessions::Off),
            _ => Err("must be \"service-manager\", \"runtime-dir\" or \"off\""),
        })
    });
    section.finish(faults);
    State { dir, sessions: sessions.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pattern_stays_within_its_part_of_the_arn() {
        let table = [
            ("arn:aws:iam::1:role/web", "arn:aws:iam::1:role/web", true),
            ("arn:aws:iam::1:role/web", "arn:aws:iam::1:role/web2", false),
            ("arn:aws:iam::1:role/web", "arn:aws:iam::1:role/we", false),
            ("arn:aws:iam::1:role/ci-*", "arn:aws:iam::1:role/ci-build", true),
            ("arn:aws:iam::1:role/ci-*", "arn:aws:iam::1:role/ci-", true),
            ("arn:aws:iam::1:role/ci-*", "arn:aws:iam::1:role/ci-x/admin", false),
            ("arn:aws:iam::1:role/*-ci-*", "arn:aws:iam::1:role/a-ci-b-ci-c", true),
            ("arn:aws:iam::1:role/*/*", "arn:aws:iam::1:role/a/b", true),
            ("arn:aws:iam::1:role/*/*", "arn:aws:iam::1:role/a/b/c", false),
            ("arn:aws:iam::1:role/*", "arn:aws:iam::1:role/a:b", false),
            ("arn:aws:iam::1:*", "arn:aws:iam::1:role/a", false),
            ("arn:*:iam::1:role/a", "arn:aws:iam:x:1:role/a", false),
            ("arn:aws:iam::1:role/a*b*c", "arn:aws:iam::1:role/aXbYbZc", true),
            ("arn:aws:iam::1:role/a*b*c", "arn:aws:iam::1:role/aXbYbZ", false),
            ("arn:aws:iam::1:role/**x", "arn:aws:iam::1:role/yx", true),
        ];
        for (pattern, arn, fits) in table {
            assert_eq!(Pattern::new(pattern).unwrap().matches(arn), fits, "{pattern} {arn}");
        }
        for bad in ["", "*", "arn:aws:iam::*:role/web", "arn:aws:iam::1:", "role/web"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }
}
