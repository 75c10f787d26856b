//! The wall clock of the machine is set while STS is away, by libfaketime under the real binary: whatever it says, no answer holds a
//! session that has ended by it, nor one that has ended though the clock was set back.
//!
//! `PR_SET_DUMPABLE` and the limits do not keep a preloaded library out: the dynamic linker has loaded it before `main`. The clock for
//! timers (CLOCK_MONOTONIC) is left as it is.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::PathBuf;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::gate::Gate;
use crate::http::{Answer, Connection, get, request};
use crate::rig::{self, Process, until};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// A session with so much left or less is not served, in seconds.
const FLOOR: i64 = 30;
/// What the test and the proxy may differ by in what is left: whole seconds, and a busy machine.
const SLACK: i64 = 15;
const YEARS: i64 = 10 * 365 * 24 * 3600;

/// The one for programs with threads, in Debian's folder for this architecture.
fn library() -> Result<PathBuf, String> {
    let folders = fs::read_dir("/usr/lib").map_err(|error| error.to_string())?.flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.exists()).ok_or_else(|| "libfaketime is not installed".to_owned())
}

/// A proxy whose clock the test sets and whose STS has gone after the first session.
struct Clocked {
    proxy: Process,
    gate: Gate,
    sts: Sts,
    task: Task,
    folder: tempfile::TempDir,
    /// Seconds that its clock is ahead of the machine's; while it is being set, the lesser of before and after.
    ahead: AtomicI64,
    first: Answer,
}

impl Clocked {
    fn start() -> Result<Self, String> {
        let (library, folder) = (library()?, tempfile::tempdir().unwrap());
        let (sts, task) = (Sts::new(), Task::new("web"));
        let gate = Gate::before(&sts.endpoint);
        gate.open();
        let file = folder.path().join("ahead");
        fs::write(&file, "+0\n").unwrap();
        let start = rig::serve(Config::new(slice::from_ref(&task))).envs(sts.environment_at(&gate.endpoint));
        let start = start.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
        let proxy = start.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").spawn();
        let first = get(proxy.address(), &task.path());
        assert_eq!(first.status, 200, "{}", first.body);
        gate.close();
        Ok(Self { proxy, gate, sts, task, folder, ahead: AtomicI64::new(0), first })
    }

    /// Sets its clock.
    fn set(&self, ahead: i64) {
        let (file, next) = (self.folder.path().join("ahead"), self.folder.path().join("next"));
        fs::write(&next, format!("{ahead:+}\n")).unwrap();
        self.ahead.fetch_min(ahead, Ordering::SeqCst);
        fs::rename(next, file).unwrap();
        self.ahead.store(ahead, Ordering::SeqCst);
    }

    /// What its clock says, in seconds since the epoch.
    fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_secs()).unwrap() + self.ahead.load(Ordering::SeqCst)
    }

    /// One request; no session in the answer ends by the clock before it was sent.
    fn ask(&self) -> Answer {
        let before = self.now();
        let answer = Connection::open(self.proxy.address())
            .send(request(self.proxy.address(), &self.task.path(), None))
            .answer();
        if answer.status == 200 {
            let left = expiration(&answer) - before;
            assert!(left > FLOOR, "a session was answered with {left} s left by the clock");
        } else {
            assert_eq!(answer.status, 503, "{}", answer.body);
        }
        answer
    }

    /// Sets the clock to one after the other. After each, the first session is answered, byte for byte, while it has more than the
    /// floor left, and never after; each step back is time that has passed all the same.
    fn walk(&self, steps: &[i64]) {
        let mut ends = expiration(&self.first);
        let mut has_ended = false;
        for ahead in steps.iter().copied() {
            ends -= (self.ahead.load(Ordering::SeqCst) - ahead).max(0);
            self.set(ahead);
            let left = ends - self.now();
            let answer = self.ask();
            let told =
                format!("{ahead:+} s, {left} s left: {} {}", answer.status, answer.header("date").unwrap_or_default());
            let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
            let date = i64::try_from(date.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
            assert!((date - self.now()).abs() <= SLACK, "the clock of the answer, {told}");
            if left > FLOOR + SLACK {
                assert_eq!((answer.status, &answer.body), (200, &self.first.body), "{told}");
            }
            has_ended |= left <= FLOOR;
            assert!(!has_ended || answer.status == 503, "{told}");
        }
        assert!(has_ended);
    }
}

impl Drop for Clocked {
    fn drop(&mut self) {
        // libfaketime leaves them behind.
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = fs::remove_file(format!("/dev/shm/{name}{}", self.proxy.id()));
        }
    }
}

fn expiration(answer: &Answer) -> i64 {
    let json = answer.json();
    let expiration =
        humantime::parse_rfc3339(json.get("Expiration").and_then(serde_json::Value::as_str).unwrap()).unwrap();
    i64::try_from(expiration.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

#[test]
fn a_clock_set_forward_past_the_expiry_ends_the_session_for_every_reader() {
    let Some(clocked) = skip::unless("a clock set forward", Clocked::start()) else { return };
    let (is_over, served, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let readers = [(); 4].map(|()| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let count = if clocked.ask().status == 200 { &served } else { &refused };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let steps = [0, 1000, 2000, 3000, 3500, 3540, 3580, 3600, 4000, 86_400, YEARS];
        let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| clocked.walk(&steps)));
        is_over.store(true, Ordering::Relaxed);
        let read = readers.map(|reader| reader.join());
        assert!(walked.is_ok() && read.iter().all(Result::is_ok));
    });
    println!("readers beside the steps: {served:?} answered, {refused:?} refused");
    assert!(served.into_inner() > 0 && refused.into_inner() > 0);
}

#[test]
fn a_clock_set_back_gives_no_session_more_time_than_it_had() {
    let Some(clocked) = skip::unless("a clock set back", Clocked::start()) else { return };
    // At +1780 the session has 20 s left, though the clock, 1800 s slow by then, says that half an hour is.
    clocked.walk(&[0, -1800, -10, 1740, 1780, 0, -1800, -YEARS, 0]);
}

#[test]
fn after_a_clock_was_wrong_for_years_and_is_right_again_a_new_session_comes_with_sts() {
    let Some(clocked) = skip::unless("a clock that was wrong", Clocked::start()) else { return };
    clocked.walk(&[YEARS, -YEARS, 0]);
    clocked.gate.open();
    let calls = clocked.sts.assume_role_calls().len();
    let start = std::time::Instant::now();
    until("a new session", || clocked.ask().status == 200);
    println!("a new session after {:?}", start.elapsed());
    assert!(clocked.sts.assume_role_calls().len() > calls);
    assert_ne!(clocked.ask().body, clocked.first.body);
}
