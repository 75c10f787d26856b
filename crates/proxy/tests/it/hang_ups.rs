//! Clients that are gone before their answer comes, while nothing is loaded yet: STS is called once for each registration, no more.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::io::Write;
use std::time::{Duration, Instant};

use crate::http::{connect_from, get, request};
use crate::rig::{self, until};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

const THREADS: usize = 4;

/// So many clients that hang up, half of them with a reset, while so many tasks are loaded one after the other, so many a second.
fn hang_up(clients: usize, tasks: usize, per_second: u32) {
    let (sts, tasks) = (Sts::new(), Vec::from_iter((0..tasks).map(|_| Task::new("web"))));
    let head = format!("[sts]\nburst = 1\ncalls_per_second = {per_second}\n");
    let proxy = rig::serve(Config::with(&head, &tasks)).envs(sts.environment()).spawn();
    let (address, start) = (proxy.address(), Instant::now());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let tasks = &tasks;
            scope.spawn(move || {
                for (number, from) in (thread..clients).step_by(THREADS).zip((2..22).cycle()) {
                    let mut stream = connect_from([127, 0, 0, from], address, Duration::from_secs(5)).unwrap();
                    let task = &tasks[fastrand::usize(..tasks.len())];
                    stream.write_all(request(address, &task.path(), None).as_bytes()).unwrap();
                    if (number / THREADS).is_multiple_of(2) {
                        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
            });
        }
    });
    let (took, loaded) = (start.elapsed(), sts.assume_role_calls().len());
    assert!(loaded < tasks.len(), "all was loaded before the last of them was gone, after {took:?}");
    until("the last task is loaded", || sts.assume_role_calls().len() >= tasks.len());
    for task in &tasks {
        assert_eq!(get(address, &task.path()).status, 200);
    }
    let mut names: Vec<_> = sts.assume_role_calls().into_iter().map(|call| call.role_session_name.unwrap()).collect();
    let mut ids: Vec<_> = tasks.into_iter().map(|task| task.task_id).collect();
    names.sort();
    ids.sort();
    println!("{clients} clients hung up in {took:.1?}; {} registrations, {} calls to STS", ids.len(), names.len());
    assert_eq!(names, ids, "one call for each registration");
}

#[test]
fn clients_that_hang_up_during_a_cold_load_cost_no_call_to_sts() {
    hang_up(2_000, 8, 2);
}

#[test]
#[ignore = "a minute of load, for a release build: see docs/security.md"]
fn long_100000_clients_that_hang_up_during_a_cold_load_cost_no_call_to_sts() {
    hang_up(100_000, 40, 1);
}
