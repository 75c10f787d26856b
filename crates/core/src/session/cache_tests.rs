//! Paused time, a scripted STS, and the invariants that need more than one cell's state.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::budget::BudgetLimits;
use crate::registry::{NewTask, Registry};
use crate::role::{Region, SessionSpec};
use crate::session::NewSession;
use crate::task::{CredentialsId, Registration, Source};
use crate::test_util::{TestClock, TestSts, new_session, new_task, session_until};

#[path = "cache_churn_tests.rs"]
mod churn;

const HOUR: Duration = Duration::from_secs(3600);

struct Rig {
    registry: Arc<Registry>,
    clock: Arc<TestClock>,
    sts: Arc<TestSts>,
    cache: Arc<SessionCache>,
}

impl Rig {
    fn new(
        script: impl FnMut(&SessionSpec, usize, &dyn Clock) -> (Duration, Result<Session, AssumeRoleError>) + Send + 'static,
    ) -> Self {
        Self::with_budget(BudgetLimits::default(), script)
    }

    fn with_budget(
        limits: BudgetLimits,
        script: impl FnMut(&SessionSpec, usize, &dyn Clock) -> (Duration, Result<Session, AssumeRoleError>) + Send + 'static,
    ) -> Self {
        Self::with(limits, Freshness::default(), script)
    }

    fn with(
        limits: BudgetLimits,
        freshness: Freshness,
        mut script: impl FnMut(&SessionSpec, usize, &dyn Clock) -> (Duration, Result<Session, AssumeRoleError>)
        + Send
        + 'static,
    ) -> Self {
        let clock = TestClock::start();
        let script_clock = Arc::clone(&clock);
        let sts = TestSts::new(move |spec, number| script(spec, number, &*script_clock));
        let cache = SessionCache::new(
            Arc::clone(&sts) as Arc<dyn AssumeRole>,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Budget::new(limits),
            freshness,
            || 0.5,
            Box::new(|_, _, _| {}),
        );
        Self { registry: Arc::new(Registry::new(10_000)), clock, sts, cache }
    }

    fn task(&self, name: &str) -> Arc<Task> {
        self.register(new_task(name))
    }

    fn register(&self, new: NewTask) -> Arc<Task> {
        self.registry.register(Registration::configured(new)).unwrap()
    }
}

fn hour(_: &SessionSpec, _: usize, clock: &dyn Clock) -> (Duration, Result<Session, AssumeRoleError>) {
    (Duration::from_millis(100), Ok(session_until(clock.now() + HOUR)))
}

fn down(_: &SessionSpec, _: usize, _: &dyn Clock) -> (Duration, Result<Session, AssumeRoleError>) {
    (Duration::ZERO, Err(AssumeRoleError::new(FailureKind::Unavailable, "down", "wait")))
}

fn refused(_: &SessionSpec, _: usize, _: &dyn Clock) -> (Duration, Result<Session, AssumeRoleError>) {
    (Duration::ZERO, Err(AssumeRoleError::new(FailureKind::Refused, "no", "ask")))
}

#[tokio::test(start_paused = true)]
async fn invariant_1_a_thousand_simultaneous_cold_readers_make_one_sts_call() {
    let rig = Rig::new(hour);
    let task = rig.task("web");
    let readers: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, task) = (Arc::clone(&rig.cache), Arc::clone(&task));
            tokio::spawn(async move { cache.get(&task).await.unwrap().body(|_| "x".into()).as_ptr() as usize })
        })
        .collect();
    let mut bodies = Vec::new();
    for reader in readers {
        bodies.push(reader.await.unwrap());
    }
    bodies.dedup();
    assert_eq!((rig.sts.calls(), bodies.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn invariant_2_a_load_outlives_the_client_that_caused_it() {
    let rig = Rig::new(hour);
    let task = rig.task("web");
    {
        let hangs_up = tokio::time::timeout(Duration::from_millis(10), rig.cache.get(&task));
        assert!(hangs_up.await.is_err());
    }
    assert!(rig.cache.get(&task).await.is_ok());
    assert_eq!(rig.sts.calls(), 1);
}

/// The configuration is taken over beside what was registered, even if it is more than `max_tasks` together.
#[tokio::test(start_paused = true)]
async fn invariant_3_no_session_makes_room_for_another() {
    let rig = Rig { registry: Arc::new(Registry::new(2)), ..Rig::new(hour) };
    let admin = ["one", "two"].map(|name| Registration::of(new_task(name), Source::Admin { uid: 0 }));
    let mut tasks: Vec<_> = admin.into_iter().map(|new| rig.registry.register(new).unwrap()).collect();
    tasks.extend(rig.registry.reconcile(["three", "four"].map(new_task).into()).unwrap().added);
    for _ in 0..3 {
        for task in &tasks {
            rig.cache.get(task).await.unwrap();
        }
        rig.cache.cells.run_pending_tasks();
    }
    assert_eq!((tasks.len(), rig.sts.calls()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_cold_reader_waits_700_ms_and_no_longer_while_the_load_goes_on() {
    let rig = Rig::new(|_, _, clock| (Duration::from_secs(2), Ok(session_until(clock.now() + HOUR))));
    let task = rig.task("web");
    let start = Instant::now();
    assert_eq!(rig.cache.get(&task).await.unwrap_err(), SessionError::NotReady(None));
    assert_eq!(start.elapsed(), Duration::from_millis(700));
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(rig.cache.get(&task).await.is_ok());
    assert_eq!(rig.sts.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn invariant_5_one_failure_is_shared_by_all_who_ask_and_no_load_starts_before_its_time() {
    let rig = Rig::new(refused);
    let task = rig.task("web");
    for _ in 0..100 {
        assert!(matches!(rig.cache.get(&task).await, Err(SessionError::Refused(_))));
        rig.cache.sweep();
    }
    assert_eq!(rig.sts.calls(), 1);
    tokio::time::advance(Duration::from_secs(21)).await;
    assert!(rig.cache.get(&task).await.is_err());
    assert_eq!(rig.sts.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_answered_at_once_and_an_outage_only_after_waiting() {
    let start = Instant::now();
    let rig = Rig::new(refused);
    assert!(matches!(rig.cache.get(&rig.task("web")).await, Err(SessionError::Refused(_))));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let rig = Rig::new(down);
    assert!(matches!(rig.cache.get(&rig.task("web")).await, Err(SessionError::NotReady(Some(_)))));
    assert_eq!(start.elapsed(), Duration::from_millis(700));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_reader_gets_the_session_of_the_retry_after_a_short_outage() {
    let rig =
        Rig::new(|spec, number, clock| if number == 1 { down(spec, 1, clock) } else { hour(spec, number, clock) });
    let start = Instant::now();
    assert!(rig.cache.get(&rig.task("web")).await.is_ok());
    assert_eq!((rig.sts.calls(), start.elapsed()), (2, Duration::from_millis(600)));
}

#[tokio::test(start_paused = true)]
async fn invariant_6_a_request_in_flight_gets_nothing_once_revoke_has_returned() {
    let rig = Rig::new(hour);
    let task = rig.task("web");
    let in_flight = tokio::spawn({
        let (cache, task) = (Arc::clone(&rig.cache), Arc::clone(&task));
        async move { cache.get(&task).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    rig.registry.revoke(task.id()).unwrap();
    assert_eq!(in_flight.await.unwrap().unwrap_err(), SessionError::Revoked);
}

#[tokio::test(start_paused = true)]
async fn invariant_6_a_warm_session_is_not_answered_once_revoke_has_returned() {
    let rig = Rig::new(hour);
    let task = rig.task("web");
    assert!(rig.cache.get(&task).await.is_ok());
    rig.registry.revoke(task.id()).unwrap();
    assert_eq!(rig.cache.get(&task).await.unwrap_err(), SessionError::Revoked);
    rig.cache.sweep();
    rig.cache.cells.run_pending_tasks();
    assert_eq!(rig.cache.cells.entry_count(), 0);
}

/// The same race on real threads: a revoke at any moment of many reads.
#[test]
fn invariant_6_no_read_that_begins_after_revoke_succeeds_on_real_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(async {
        for _ in 0..200 {
            let rig = Rig::new(|_, _, clock| (Duration::ZERO, Ok(session_until(clock.now() + HOUR))));
            let task = rig.task("web");
            let revoked = Arc::new(AtomicBool::new(false));
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    let (cache, task, revoked) = (Arc::clone(&rig.cache), Arc::clone(&task), Arc::clone(&revoked));
                    tokio::spawn(async move {
                        loop {
                            let before = revoked.load(Ordering::SeqCst);
                            match cache.get(&task).await {
                                Ok(_) => assert!(!before, "a session was answered after revoke had returned"),
                                Err(error) => return error,
                            }
                        }
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            rig.registry.revoke(task.id()).unwrap();
            revoked.store(true, Ordering::SeqCst);
            for reader in readers {
                assert_eq!(reader.await.unwrap(), SessionError::Revoked);
            }
        }
    });
}

#[tokio::test(start_paused = true)]
async fn invariant_7_sessions_born_too_short_make_no_hot_loop_on_sts() {
    let rig = Rig::new(|_, _, clock| (Duration::ZERO, Ok(session_until(clock.now() + Duration::from_secs(10)))));
    let task = rig.task("web");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        assert!(matches!(rig.cache.get(&task).await, Err(SessionError::NotReady(Some(_)))));
        rig.cache.sweep();
    }
    assert!(rig.sts.calls() < 12, "{} calls in a minute", rig.sts.calls());
}

#[tokio::test(start_paused = true)]
async fn invariant_8_two_tasks_with_one_role_have_a_session_each() {
    let rig = Rig::new(|spec, _, clock| {
        let assumed_role_arn = format!("arn:aws:sts::111122223333:assumed-role/web/{}", spec.session_name);
        let parts = NewSession { assumed_role_arn, ..new_session(clock.now() + HOUR) };
        (Duration::ZERO, Session::new(parts))
    });
    let (one, two) = (new_task("one"), new_task("two"));
    let two = NewTask { spec: SessionSpec { role_arn: one.spec.role_arn.clone(), ..two.spec }, ..two };
    let (one, two) = (rig.register(one), rig.register(two));
    assert_eq!(one.spec().role_arn, two.spec().role_arn);
    assert!(rig.cache.get(&one).await.unwrap().assumed_role_arn().ends_with("/task-one"));
    assert!(rig.cache.get(&two).await.unwrap().assumed_role_arn().ends_with("/task-two"));
    // The same task registered anew has a new lease and so a cell of its own.
    rig.registry.revoke(one.id()).unwrap();
    let again = rig.task("one");
    assert!(rig.cache.get(&again).await.is_ok());
    assert_eq!(rig.sts.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_sweep_loads_before_the_first_reader_and_refreshes_before_25_minutes_are_left() {
    let rig = Rig::new(hour);
    let task = rig.task("web");
    let stop = CancellationToken::new();
    let sweep = tokio::spawn(Arc::clone(&rig.cache).run(stop.clone()));
    rig.cache.prefetch(&task);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.sts.calls(), 1);
    for _ in 0..240 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let left = rig.cache.get(&task).await.unwrap().remaining(rig.clock.now());
        assert!(left > Duration::from_secs(25 * 60), "{left:?}");
    }
    // Four hours at 51.5 % of an hour each.
    assert_eq!(rig.sts.calls(), 1 + 4 * 3600 / 1855);
    stop.cancel();
    sweep.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_50_of_60_minutes_is_never_seen_by_a_reader() {
    let rig =
        Rig::new(|spec, number, clock| if number == 1 { hour(spec, 1, clock) } else { down(spec, number, clock) });
    let task = rig.task("web");
    let sweep = tokio::spawn(Arc::clone(&rig.cache).run(CancellationToken::new()));
    assert!(rig.cache.get(&task).await.is_ok());
    for _ in 0..3560 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(rig.cache.get(&task).await.is_ok());
    }
    assert!(rig.sts.calls() > 50);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(matches!(rig.cache.get(&task).await, Err(SessionError::NotReady(Some(_)))));
    sweep.abort();
}

#[tokio::test(start_paused = true)]
async fn readers_come_before_the_sweep_and_both_stay_within_the_budget() {
    let rig = Rig::with_budget(BudgetLimits { per_second: 10, burst: 10, concurrent: 100 }, hour);
    let tasks: Vec<_> = (0..100).map(|n| rig.task(&format!("t{n}"))).collect();
    tasks.iter().for_each(|task| rig.cache.prefetch(task));
    let sweep = tokio::spawn(Arc::clone(&rig.cache).run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(rig.sts.calls(), 10);
    // The burst is gone; a reader of the last task still gets the next turn.
    assert!(rig.cache.get(&tasks[99]).await.is_ok());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(rig.sts.calls() <= 51, "{}", rig.sts.calls());
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(rig.sts.calls(), 100);
    sweep.abort();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_has_nothing_expired_served() {
    let rig = Rig::new(hour);
    let task = rig.task("web");
    assert!(rig.cache.get(&task).await.is_ok());
    rig.clock.step(7200);
    let session = rig.cache.get(&task).await.unwrap();
    assert!(session.remaining(rig.clock.now()) > Duration::from_secs(3500));
    assert_eq!(rig.sts.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_counts_as_failed_and_is_tried_again() {
    let rig = Rig::new(|spec, number, clock| {
        assert!(number > 1, "scripted panic");
        hour(spec, number, clock)
    });
    assert!(rig.cache.get(&rig.task("web")).await.is_ok());
    assert_eq!(rig.sts.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_under_way_ends_with_its_lease() {
    let rig = Rig::new(|_, _, clock| (Duration::from_secs(10), Ok(session_until(clock.now() + HOUR))));
    let task = rig.task("web");
    assert!(matches!(rig.cache.get(&task).await, Err(SessionError::NotReady(None))));
    assert_eq!(rig.cache.loads.len(), 1);
    rig.registry.revoke(task.id()).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.cache.loads.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_sts_that_never_answers_is_given_up_after_45_seconds() {
    let rig = Rig::new(|_, _, clock| (Duration::from_secs(86_400), Ok(session_until(clock.now() + HOUR))));
    let task = rig.task("web");
    assert_eq!(rig.cache.get(&task).await.unwrap_err(), SessionError::NotReady(None));
    tokio::time::sleep(LOAD_TIMEOUT).await;
    let Err(SessionError::NotReady(Some(cause))) = rig.cache.get(&task).await else { panic!() };
    assert!(cause.message.contains("did not answer"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn two_thousand_sessions_born_together_are_refreshed_apart() {
    let unlimited = BudgetLimits { per_second: 100_000, burst: 100_000, concurrent: 100_000 };
    let refreshed = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&refreshed);
    let mut rig = Rig::with_budget(unlimited, move |_, number, clock| {
        if number > 2_000 {
            log.lock().unwrap().push(clock.now());
        }
        (Duration::ZERO, Ok(session_until(clock.now() + HOUR)))
    });
    let cache = Arc::get_mut(&mut rig.cache).unwrap();
    cache.chance = crate::spread;
    let tasks: Vec<_> = (0..2_000).map(|n| rig.task(&format!("t{n}"))).collect();
    tasks.iter().for_each(|task| rig.cache.prefetch(task));
    let born = rig.clock.now();
    while refreshed.lock().unwrap().len() < 2_000 {
        // A pass every five seconds instead of every second: thousands of passes over thousands of cells take their time.
        rig.cache.sweep();
        tokio::time::sleep(Duration::from_secs(5)).await;
        for task in tasks.iter().step_by(37) {
            let left = rig.cache.get(task).await.unwrap().remaining(rig.clock.now());
            assert!(left >= Duration::from_secs(25 * 60), "{left:?}");
        }
    }
    let at: Vec<u64> = refreshed.lock().unwrap().iter().map(|at| at.duration_since(born).unwrap().as_secs()).collect();
    assert!(at.iter().all(|at| (1_620..=2_092).contains(at)), "{:?} to {:?}", at.iter().min(), at.iter().max());
    let mean = 2_000.0 / 46.8;
    let in_ten_seconds = |from: u64| at.iter().filter(|at| (from..from + 10).contains(*at)).count();
    let busiest = (1_620..2_090).map(in_ten_seconds).max().unwrap();
    assert!(busiest as f64 <= 1.5 * mean, "{busiest} in ten seconds, {mean} on average");
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_2000_tasks_stays_within_the_budget() {
    let rig = Rig::new(hour);
    let start = Instant::now();
    (0..2_000).for_each(|n| rig.cache.prefetch(&rig.task(&format!("t{n}"))));
    let sweep = tokio::spawn(Arc::clone(&rig.cache).run(CancellationToken::new()));
    while rig.sts.calls() < 2_000 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let allowed = 50 + 10 * (start.elapsed().as_secs() + 1);
        assert!(rig.sts.calls() as u64 <= allowed, "{} calls after {:?}", rig.sts.calls(), start.elapsed());
    }
    assert!(start.elapsed() <= Duration::from_secs(200), "{:?}", start.elapsed());
    sweep.abort();
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_all_sessions_are_fresh_within_5_seconds_of_the_first_success() {
    let down_until = Duration::from_secs(50 * 60);
    let rig = Rig::new(move |spec, number, clock| {
        let age = clock.now().duration_since(crate::test_util::EPOCH).unwrap();
        if number > 50 && age < down_until { down(spec, number, clock) } else { hour(spec, number, clock) }
    });
    let tasks: Vec<_> = (0..50).map(|n| rig.task(&format!("t{n}"))).collect();
    tasks.iter().for_each(|task| rig.cache.prefetch(task));
    let sweep = tokio::spawn(Arc::clone(&rig.cache).run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let is_fresh = |left: Duration| left > Duration::from_secs(3_500);
    let mut first_success = None;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut fresh = 0;
        for task in &tasks {
            // No failed read before true expiry, in the outage and after it.
            let left = rig.cache.get(task).await.unwrap().remaining(rig.clock.now());
            fresh += usize::from(is_fresh(left));
        }
        let now = rig.clock.now().duration_since(crate::test_util::EPOCH).unwrap();
        if now >= down_until && fresh > 0 {
            let since = *first_success.get_or_insert(now);
            if fresh == tasks.len() {
                break;
            }
            assert!(now - since < Duration::from_secs(5), "{fresh} of 50 are fresh after {:?}", now - since);
        }
        assert!(now < down_until + Duration::from_secs(60));
    }
    sweep.abort();
}

#[tokio::test(start_paused = true)]
async fn the_return_of_sts_is_seen_within_5_seconds_even_by_one_session_alone() {
    for down_for in [60, 61, 62, 63, 300, 1_111] {
        let back = crate::test_util::EPOCH + Duration::from_secs(down_for);
        let rig = Rig::new(move |spec, number, clock| match clock.now() < back {
            // Silence, until the adapter gives up.
            true => (Duration::from_secs(4), down(spec, number, clock).1),
            false => hour(spec, number, clock),
        });
        let task = rig.task("web");
        rig.cache.prefetch(&task);
        let sweep = tokio::spawn(Arc::clone(&rig.cache).run(CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(down_for + 5)).await;
        assert!(rig.cache.state(&task).unwrap().left.is_some(), "down for {down_for} s");
        let calls = rig.sts.calls() as u64;
        assert!(calls <= down_for / 4 + 3, "{calls} calls in {down_for} s");
        sweep.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_without_sessions_is_forgotten_however_it_has_failed() {
    let rig = Rig::new(|spec, number, clock| (Duration::ZERO, down(spec, number, clock).1));
    let task = rig.task("web");
    let _ = rig.cache.get(&task).await;
    rig.cache.sweep();
    assert_eq!(rig.cache.trouble().len(), 1);
    rig.registry.revoke(task.id()).unwrap();
    // The first sweep lets the cell go, the second one finds none.
    for _ in 0..2 {
        rig.cache.sweep();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(rig.cache.trouble().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_throttled_role_slows_the_whole_node() {
    let rig = Rig::new(|spec, number, clock| match number {
        1 => (Duration::ZERO, Err(AssumeRoleError::new(FailureKind::Throttled, "Rate exceeded", "wait"))),
        _ => hour(spec, number, clock),
    });
    let start = Instant::now();
    let _ = rig.cache.get(&rig.task("one")).await;
    assert!(rig.cache.get(&rig.task("other")).await.is_ok());
    // The pause of a second, and the turns of the first role, which asks again.
    assert!((Duration::from_secs(1)..Duration::from_millis(1_400)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_refresh_is_retried_slowly_and_keeps_the_session() {
    let rig =
        Rig::new(|spec, number, clock| if number == 1 { hour(spec, 1, clock) } else { refused(spec, number, clock) });
    let task = rig.task("web");
    let sweep = tokio::spawn(Arc::clone(&rig.cache).run(CancellationToken::new()));
    for _ in 0..3_560 {
        assert!(rig.cache.get(&task).await.is_ok());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // From 51.5 % of the hour on, every 120 s at this rig's chance.
    assert!((10..=16).contains(&rig.sts.calls()), "{}", rig.sts.calls());
    sweep.abort();
}

/// Two hundred tasks of a region without STS, beside two thousand of one that works.
#[tokio::test(start_paused = true)]
async fn tasks_that_keep_failing_do_not_starve_the_refresh_of_the_others() {
    for regions_differ in [true, false] {
        let rig = Rig::new(|spec, number, clock| {
            if spec.role_arn.name().starts_with("bad") { down(spec, number, clock) } else { hour(spec, number, clock) }
        });
        for n in 0..200 {
            let mut bad = new_task(&format!("bad{n}"));
            bad.spec.region = regions_differ.then(|| Region::new("xx-dark-1").unwrap());
            rig.cache.prefetch(&rig.register(bad));
        }
        let good: Vec<_> = (0..500).map(|n| rig.task(&format!("good{n}"))).collect();
        good.iter().for_each(|task| rig.cache.prefetch(task));
        for minute in 0..120 {
            for _ in 0..60 {
                rig.cache.sweep();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            for task in good.iter().filter(|_| minute >= 5) {
                let left = rig.cache.get(task).await.unwrap().remaining(rig.clock.now());
                assert!(left > Duration::from_secs(20 * 60), "{left:?} left in minute {minute}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_kept_is_served_and_refreshed_when_it_was_due_and_costs_no_call() {
    let (rig, later) = (Rig::new(hour), Rig::new(hour));
    let task = rig.task("web");
    let session = rig.cache.get(&task).await.unwrap();
    tokio::time::advance(HOUR / 3).await;
    let [(_, kept)] = rig.cache.kept().try_into().unwrap();

    let again = later.task("web");
    assert!(later.cache.resume(&again, kept.clone()));
    assert!(!later.cache.resume(&again, kept.clone()), "there is one already");
    assert_eq!(later.cache.get(&again).await.unwrap().access_key_id(), session.access_key_id());
    later.cache.sweep();
    tokio::task::yield_now().await;
    assert_eq!(later.sts.calls(), 0);
    // Not a share of what is left, but when it was due in the process before.
    let until_due = kept.refresh_at.duration_since(later.clock.now()).unwrap();
    assert!(until_due < HOUR.mul_f64(0.58 - 1.0 / 3.0), "{until_due:?}");
    tokio::time::advance(until_due).await;
    later.cache.sweep();
    tokio::task::yield_now().await;
    assert_eq!(later.sts.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn invariant_4_a_session_that_was_kept_too_long_is_not_served() {
    let (rig, later) = (Rig::new(hour), Rig::new(hour));
    let task = rig.task("web");
    rig.cache.get(&task).await.unwrap();
    let [(_, kept)] = rig.cache.kept().try_into().unwrap();
    tokio::time::advance(HOUR - Duration::from_secs(30)).await;
    assert!(rig.cache.kept().is_empty());
    assert!(!later.cache.resume(&later.task("web"), kept));
}

#[tokio::test(start_paused = true)]
async fn a_rotated_task_keeps_its_session_and_costs_no_call() {
    let rig = Rig::new(hour);
    let old = rig.task("web");
    let session = rig.cache.get(&old).await.unwrap();
    let new = rig.registry.rotate(&old, CredentialsId::random().digest(), vec![]).unwrap().unwrap();
    rig.cache.carry_over(&old, &new);
    assert!(Arc::ptr_eq(&rig.cache.get(&new).await.unwrap(), &session));
    assert_eq!(rig.cache.get(&old).await.err(), Some(SessionError::Revoked));
    assert_eq!(rig.sts.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_asked_for_comes_at_once_even_after_a_refusal() {
    let rig = Rig::new(
        |spec, number, clock| if number == 1 { refused(spec, number, clock) } else { hour(spec, number, clock) },
    );
    let task = rig.task("web");
    assert!(matches!(rig.cache.get(&task).await, Err(SessionError::Refused(_))));
    for calls in [2, 3] {
        rig.cache.refresh_now(&task);
        rig.cache.sweep();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.sts.calls(), calls);
        assert!(rig.cache.state(&task).unwrap().left.is_some());
    }
}

/// What a reader sees who asks every 20 ms for so long.
async fn ask_every_20_ms(rig: &Rig, task: &Arc<Task>, duration: Duration) -> (usize, Vec<Duration>) {
    let (end, mut errors, mut left) = (Instant::now() + duration, 0, Vec::new());
    while Instant::now() < end {
        match rig.cache.get(task).await {
            Ok(session) => left.push(session.remaining(rig.clock.now())),
            Err(_) => errors += 1,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (errors, left)
}

#[tokio::test(start_paused = true)]
async fn invariant_4_sessions_of_one_second_are_refreshed_ahead_and_never_served_within_their_floor() {
    let life = Duration::from_secs(1);
    let freshness = Freshness::for_sessions_of(life);
    let rig = Rig::with(BudgetLimits::default(), freshness, move |_, _, clock| {
        (Duration::from_millis(5), Ok(session_until(clock.now() + life)))
    });
    let task = rig.task("web");
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&rig.cache).run(stop.clone()));
    let (errors, left) = ask_every_20_ms(&rig, &task, Duration::from_secs(60)).await;
    assert_eq!(errors, 0);
    assert!(left.iter().all(|left| *left > freshness.floor));
    // Refreshed ahead, at half their life, and not when a reader finds them too old.
    assert!(left.iter().all(|left| *left > life / 4), "{:?}", left.iter().min());
    assert!((100..=140).contains(&rig.sts.calls()), "{}", rig.sts.calls());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn invariant_7_short_sessions_that_are_born_within_their_floor_make_no_hot_loop_on_sts() {
    let freshness = Freshness::for_sessions_of(Duration::from_secs(1));
    let born = freshness.floor;
    let limits = BudgetLimits { per_second: 1000, burst: 1000, concurrent: 1000 };
    let rig = Rig::with(limits, freshness, move |_, _, clock| (Duration::ZERO, Ok(session_until(clock.now() + born))));
    let task = rig.task("web");
    let (_, served) = ask_every_20_ms(&rig, &task, Duration::from_secs(60)).await;
    assert!(served.is_empty());
    // Every 100 to 250 ms, and once a second more where nobody has tried it for a second.
    assert!((200..=660).contains(&rig.sts.calls()), "{}", rig.sts.calls());
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_for_whoever_waits_for_it_and_a_failure_is_told() {
    let rig = Rig::new(
        |spec, number, clock| if number == 3 { refused(spec, number, clock) } else { hour(spec, number, clock) },
    );
    let task = rig.task("web");
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&rig.cache).run(stop.clone()));
    let first = rig.cache.get(&task).await.unwrap();
    let second = rig.cache.renew(&task).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &rig.cache.get(&task).await.unwrap()));
    assert!(matches!(rig.cache.renew(&task).await, Err(SessionError::Refused(_))));
    assert!(rig.cache.renew(&task).await.is_ok());
    rig.registry.revoke(task.id()).unwrap();
    assert_eq!(rig.cache.renew(&task).await.unwrap_err(), SessionError::Revoked);
    stop.cancel();
    running.await.unwrap();
}
