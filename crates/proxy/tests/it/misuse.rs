//! What is said to who asks for the wrong thing, or for the right one wrongly: what happened, where, and what to do next.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::gate::Gate;
use crate::rig::{self, Ended, taskcreds};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// How a command ended, and all that its standard error has to say.
fn told(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!(ended.code(), code, "{}{}", ended.stdout, ended.stderr);
    for says in says {
        assert!(ended.stderr.contains(says), "{says:?} is not in {}", ended.stderr);
    }
}

#[test]
fn a_question_to_the_audit_log_that_nothing_can_fit_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    fs::write(&file, "").unwrap();
    for (question, says) in [
        ("--task-arn 0123456789abcdef", "arn:aws:ecs:REGION:111122223333:task/CLUSTER/TASK-ID"),
        ("--session-name arn:aws:iam::111122223333:role/web", "assumed-role/ROLE/NAME"),
        ("--session-name AROAIOSFODNN7EXAMPLE:web", "the role session name alone"),
        ("--since 2026-11-21T21:00:00Z --until 2026-11-21T20:00:00Z", "--since is after --until"),
    ] {
        told(&taskcreds("audit").arg("--file").arg(&file).args(question).run(), 64, &[says]);
    }
    let arn = "--session-name arn:aws:sts::111122223333:assumed-role/web/0123456789abcdef";
    told(&taskcreds("audit").arg("--file").arg(&file).args(arn).run(), 1, &["no record fits"]);
}
