//! `[admin]`: who may register tasks over the socket.

use std::path::{Path, PathBuf};

use taskcreds_core::{RoleArn, TaskArn};

use super::pattern::Pattern;
use super::section::{Faults, Section};

/// How many registrations a user may have whose rule does not say.
const MAX_TASKS_OF_A_USER: usize = 256;

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

pub(super) fn admin(
    section: Option<Section<'_>>,
    base: &Path,
    warnings: &mut Vec<String>,
    faults: &mut Faults<'_>,
) -> Option<Admin> {
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
            let max_tasks = max_tasks.map_or(MAX_TASKS_OF_A_USER, |most| most as usize);
            rules.push(Rule { uid, role_arns, task_arns, max_tasks });
        }
        rule.finish(faults);
    }
    if !rules.is_empty() && gid.is_none() {
        warnings.push(
            "[[admin.allow]] without gid: only root and the proxy's own user can connect to the admin socket"
                .to_owned(),
        );
    }
    section.finish(faults);
    socket.map(|socket| Admin { socket, gid, rules })
}
