//! Guessing costs the one who guesses: no STS call, no memory, and nothing to learn from the answer.

#![expect(clippy::print_stdout, reason = "the figures")]

use std::net::SocketAddr;
use std::time::Instant;

use crate::http::{Connection, get, request};
use crate::rig;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

const THREADS: u32 = 4;

/// Asks for so many ids that nobody has, each on a connection of its own, from a thousand addresses.
fn ask(times: u32, address: SocketAddr) {
    let ask = |thread: u32| {
        for number in (thread..times).step_by(THREADS as usize) {
            let [_, _, high, low] = (number / THREADS % 1_000).to_be_bytes();
            // Not `new_id`, which remembers them as secrets.
            let id = uuid::Uuid::new_v4();
            let (version, path) = match number % 2 {
                0 => ("V2", format!("/v2/credentials/{id}")),
                _ => ("V1", format!("/v1/credentials?id={id}")),
            };
            let mut connection = Connection::open_from([127, 1, high, low.max(1)], address);
            let answer = connection.send(request(address, &path, None)).answer();
            let message = format!("Credentials{version}Request: Credentials not found");
            assert_eq!((answer.status, answer.error()), (400, ("InvalidIdInRequest".to_owned(), message)));
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || ask(thread)))));
}

/// So many, after as many as it takes until the allocator and the runtime have what they take once.
fn guess(first: u32, then: u32) {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let proxy = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment()).spawn();
    let address = proxy.address();
    assert_eq!(get(address, &task.path()).status, 200);
    ask(first, address);
    let (before, start) = (proxy.resident(), Instant::now());
    ask(then, address);
    let grown = proxy.resident().saturating_sub(before);
    println!("{then} unknown ids in {:.1?}: grown by {} KiB from {} KiB", start.elapsed(), grown >> 10, before >> 10);
    assert!(grown < 1 << 20, "grown by {grown} from {before}");
    assert_eq!(sts.assume_role_calls().len(), 1, "the task's own");
}

#[test]
fn unknown_ids_are_all_refused_alike_and_make_no_sts_call_and_take_no_memory() {
    guess(2_000, 10_000);
}

#[test]
#[ignore = "minutes of load, for a release build: see docs/security.md"]
fn long_a_million_unknown_ids_are_refused_and_make_no_sts_call_and_take_no_memory() {
    guess(50_000, 1_000_000);
}
