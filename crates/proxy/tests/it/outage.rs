//! STS takes connections and answers nothing while sessions are due for refresh: no reader sees it, and when it is back that is noticed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::gate::Gate;
use crate::http::{Answer, Connection, get, request};
use crate::place::{Place, read, started};
use crate::rig::{self, pause, until};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// How soon after the return of STS the first new session has to be there.
const SOON: Duration = Duration::from_secs(5);

fn key(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "a read failed: {}", answer.body);
    answer.json()["AccessKeyId"].as_str().unwrap().to_owned()
}

/// One request, never tried again.
fn ask(address: SocketAddr, task: &Task) -> Answer {
    Connection::open(address).send(request(address, &task.path(), None)).answer()
}

#[test]
fn a_refresh_that_sts_does_not_answer_is_not_seen_by_readers_and_succeeds_when_it_is_back() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let gate = Gate::before(&sts.endpoint);
    gate.open();
    let proxy = started(place.start().envs(sts.environment_at(&gate.endpoint)));
    let added = place.add(&task, "");
    until("the first session", || read(&proxy, &added).status == 200);
    let first = key(&read(&proxy, &added));
    gate.close();
    place.task(&format!("refresh {}", task.arn()));
    // One call and its timeout of 4 s, and the next one.
    gate.wait_for_connections(2);
    let closed = Instant::now();
    while closed.elapsed() < Duration::from_secs(4) {
        assert_eq!(key(&read(&proxy, &added)), first);
        pause();
    }
    gate.open();
    let opened = Instant::now();
    until("a new session", || key(&read(&proxy, &added)) != first);
    assert!(opened.elapsed() < SOON, "{:?}", opened.elapsed());
}

/// What one proxy with so many tasks makes of it: how many reads there were, and how long after the return of STS the first new
/// session and the last one came.
fn minute(tasks: usize) -> (usize, Duration, Duration) {
    let (sts, tasks) = (Sts::new(), Vec::from_iter((0..tasks).map(|_| Task::new("web"))));
    // Sessions of 900 s that have 200 left: due after 90 to 116 s, served until 170 s.
    sts.is_slow_by(Duration::from_secs(700));
    let gate = Gate::before(&sts.endpoint);
    gate.open();
    let head = "[defaults]\nduration_seconds = 900\n";
    let proxy = rig::serve(Config::with(head, &tasks)).envs(sts.environment_at(&gate.endpoint)).spawn();
    let address = proxy.address();
    let first: HashMap<_, _> = tasks.iter().map(|task| (&task.id, key(&get(address, &task.path())))).collect();
    let (start, mut reads) = (Instant::now(), 0);
    let mut read = |seconds: u64| {
        let mut new = 0;
        for task in &tasks {
            reads += 1;
            new += usize::from(key(&ask(address, task)) != first[&task.id]);
        }
        pause();
        (start.elapsed() < Duration::from_secs(seconds), new)
    };
    while read(85).0 {}
    gate.close();
    while let (true, new) = read(145) {
        assert_eq!(new, 0, "a session came through");
    }
    gate.open();
    let (opened, mut soonest) = (Instant::now(), None);
    loop {
        let (in_time, new) = read(175);
        if new > 0 {
            soonest.get_or_insert(opened.elapsed());
        }
        if new == tasks.len() {
            return (reads, soonest.unwrap(), opened.elapsed());
        }
        assert!(in_time, "{new} of {} sessions are new", tasks.len());
    }
}

#[test]
#[ignore = "three minutes, for a release build: see docs/security.md"]
fn long_a_minute_without_an_answer_of_sts_is_not_seen_by_readers_and_5_s_after_it_there_is_a_new_session() {
    // One session has nothing but its own pauses; twenty try more often.
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let proxies: Vec<_> = [1, 1, 1, 1, 20].map(|tasks| (tasks, scope.spawn(move || minute(tasks)))).into();
        proxies.into_iter().map(|(tasks, proxy)| (tasks, proxy.join().unwrap())).collect()
    });
    for (tasks, (reads, first, last)) in &outcomes {
        println!(
            "{tasks} tasks: {reads} reads, none failed; after STS was back the first new session came in {first:.1?}, the last in {last:.1?}"
        );
    }
    assert!(outcomes.iter().all(|(_, (_, first, _))| *first <= SOON));
}
