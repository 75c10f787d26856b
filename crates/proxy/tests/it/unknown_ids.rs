//! Guessing costs the one who guesses: no STS call, no memory, and nothing to learn from the answer.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use crate::http::{Connection, get, request};
use crate::rig;
use crate::sts::Sts;
use crate::tasks::{Config, Task, new_id};

/// Resident memory of a process in KiB.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn unknown_ids_are_all_refused_alike_and_make_no_sts_call_and_take_no_memory() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let serve = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment()).spawn();
    let address = serve.address();
    assert_eq!(get(address, &task.path()).status, 200);
    let ask = |times: usize| {
        for _ in 0..times {
            let path = format!("/v2/credentials/{}", new_id());
            let answer = Connection::open(address).send(request(address, &path, None)).answer();
            assert_eq!(answer.status, 400);
            let message = "CredentialsV2Request: Credentials not found".to_owned();
            assert_eq!(answer.error(), ("InvalidIdInRequest".to_owned(), message));
        }
    };
    // What the allocator and the runtime take once.
    ask(1_000);
    let before = resident(serve.id());
    ask(2_000);
    let after = resident(serve.id());
    assert!(after < before + 1_024, "grew from {before} to {after} KiB");
    assert_eq!(sts.assume_role_calls().len(), 1, "the task's own");
}
