//! `accept` that fails for want of descriptors, which the kernel is made to say by strace: the proxy leaves it alone for a moment,
//! goes on, and loses nobody.
//!
//! The process cannot be traced by its own user once it has started (`PR_SET_DUMPABLE` off; root still can), so it is started under
//! strace, which stays at it: a tracer that is there before is not sent away. With `-D` strace is the descendant and the proxy this
//! test's own child, so signals and the exit status are the proxy's; ending strace lets go of it and injects nothing any more.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::slice;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::http::{Connection, get, request};
use crate::rig::{self, Process, until};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// `ACCEPT_PAUSE` of the proxy. strace writes its times to the microsecond, the kernel wakes sleepers a little late, never early.
const PAUSE: f64 = 0.020;
/// tokio's clock has milliseconds.
const GRAIN: f64 = 0.002;

/// A proxy of which these calls of `accept4` fail with EMFILE; counted for each thread, as strace(1) does.
struct Traced {
    proxy: Process,
    trace: PathBuf,
    task: Task,
    _sts: Sts,
}

impl Traced {
    fn start(when: &str) -> Result<Self, String> {
        let status = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
        let status = status.map_err(|error| format!("strace: {error}"))?;
        status.success().then_some(()).ok_or("strace may not trace here")?;
        let (sts, task) = (Sts::new(), Task::new("web"));
        let start = rig::serve(Config::new(slice::from_ref(&task))).envs(sts.environment());
        let trace = start.home().join("trace");
        let mut strace = Command::new("strace");
        strace.args([
            "-D",
            "-I2",
            "-f",
            "-ttt",
            "-e",
            "trace=accept4",
            "-e",
            &format!("inject=accept4:error=EMFILE:when={when}"),
        ]);
        strace.arg("-o").arg(&trace).arg(rig::binary());
        Ok(Self { proxy: start.under(strace).spawn(), trace, task, _sts: sts })
    }

    /// The calls so far, as (seconds, whether it was made to fail).
    fn calls(&self) -> Vec<(f64, bool)> {
        let text = fs::read_to_string(&self.trace).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let calls = whole.lines().filter(|line| line.contains("accept4("));
        calls
            .map(|line| (line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap(), line.contains("INJECTED")))
            .collect()
    }

    /// The process id of strace, 0 where there is none.
    fn tracer(&self) -> i32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.proxy.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// Ends strace.
    fn let_go(&self) {
        kill_process(Pid::from_raw(self.tracer()).unwrap(), Signal::TERM).unwrap();
        until("strace has let go", || self.tracer() == 0);
    }
}

/// After a call that was made to fail there is none for as long as the proxy pauses. Returns the number of failures.
fn pauses(calls: &[(f64, bool)]) -> usize {
    for pair in calls.windows(2).filter(|pair| pair[0].1) {
        let gap = pair[1].0 - pair[0].0;
        assert!(gap >= PAUSE - GRAIN, "accepted again after {:.1} ms", gap * 1000.0);
    }
    calls.iter().filter(|(_, failed)| *failed).count()
}

#[test]
fn while_one_accept_in_three_fails_every_honest_request_is_answered() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 50;
    let Some(traced) = skip::unless("EMFILE, one in three", Traced::start("1+3")) else { return };
    let (address, path) = (traced.proxy.address(), traced.task.path());
    assert_eq!(get(address, &path).status, 200);
    let longest = std::thread::scope(|scope| {
        let clients = [(); CLIENTS].map(|()| {
            scope.spawn(|| {
                let ask = |_| {
                    let start = Instant::now();
                    assert_eq!(Connection::open(address).send(request(address, &path, None)).answer().status, 200);
                    start.elapsed()
                };
                (0..REQUESTS).map(ask).max().unwrap()
            })
        });
        clients.map(|client| client.join().unwrap()).into_iter().max().unwrap()
    });
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let failed = pauses(&traced.calls());
    println!("{} requests answered, the slowest after {longest:?}; {failed} failures of accept", CLIENTS * REQUESTS);
    assert!(failed >= REQUESTS / 2, "only {failed} failures");
    traced.let_go();
    let start = Instant::now();
    assert_eq!(get(address, &path).status, 200);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(traced.proxy.end().code(), 0);
}

#[test]
fn while_every_accept_fails_it_tries_at_its_pace_and_who_has_waited_is_answered_within_a_second_after() {
    const FAILURES: usize = 50;
    let Some(traced) = skip::unless("EMFILE, always", Traced::start("1+")) else { return };
    let address = traced.proxy.address();
    // The kernel completes them; nobody accepts them.
    let mut waiting: Vec<_> = (0..10).map(|_| Connection::open(address)).collect();
    for connection in &mut waiting {
        connection.send(request(address, &traced.task.path(), None));
    }
    until("accept has failed often", || traced.calls().len() >= FAILURES);
    let failed = pauses(&traced.calls());
    traced.let_go();
    let start = Instant::now();
    for connection in &mut waiting {
        assert_eq!(connection.answer().status, 200);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    println!("{failed} failures of accept, then {} who had waited answered within {took:?}", waiting.len());
    let log = traced.proxy.end();
    assert_eq!(log.code(), 0);
    assert_eq!(log.stderr.matches("cannot accept connections").count(), 1, "one line for a row of failures");
}
