//! Tasks that are registered, read and revoked without end, as fast as their user can: what that costs the others.

use super::*;

/// The default rate, and a burst that is soon gone.
const LIMITS: BudgetLimits = BudgetLimits { per_second: 10, burst: 10, concurrent: 50 };

/// One task after the other until aborted, of which each ends after so long, whether it has a session or not.
fn churn(rig: &Rig, life: Duration) -> tokio::task::JoinHandle<()> {
    let (registry, cache) = (Arc::clone(&rig.registry), Arc::clone(&rig.cache));
    tokio::spawn(async move {
        for n in 0.. {
            let task = registry.register(Registration::configured(new_task(&format!("short{n}")))).unwrap();
            let _ = tokio::time::timeout(life, cache.get(&task)).await;
            registry.revoke(task.id()).unwrap();
            cache.forget(&task);
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_churn_of_ended_leases_costs_other_readers_one_turn_at_most() {
    for life in [1, 10, 99, 100, 101, 150] {
        let rig = Rig::with_budget(LIMITS, hour);
        let begun = Instant::now();
        let short_lived = churn(&rig, Duration::from_millis(life));
        tokio::time::sleep(Duration::from_secs(4)).await;
        for n in 0..20 {
            let start = Instant::now();
            assert!(rig.cache.get(&rig.task(&format!("t{n}"))).await.is_ok(), "the {n}th at lives of {life} ms");
            // Its own turn, the one of a task that is there already, and 100 ms for STS.
            assert!(start.elapsed() <= Duration::from_millis(310), "{:?} at lives of {life} ms", start.elapsed());
        }
        let allowed = 10 + begun.elapsed().as_millis() / 100;
        assert!(rig.sts.calls() as u128 <= allowed, "{} calls, {allowed} allowed", rig.sts.calls());
        short_lived.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_churn_of_ended_leases_does_not_keep_the_sweep_from_refreshing() {
    for life in [10, 100, 150] {
        let rig = Rig::with_budget(LIMITS, hour);
        let sweep = tokio::spawn(Arc::clone(&rig.cache).run(CancellationToken::new()));
        let tasks: Vec<_> = (0..20).map(|n| rig.task(&format!("t{n}"))).collect();
        for task in &tasks {
            rig.cache.prefetch(task);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        tokio::time::advance(Duration::from_secs(1_840)).await;
        let short_lived = churn(&rig, Duration::from_millis(life));
        // All of them are due at 51.5 % of an hour, which is 9 s from here.
        tokio::time::sleep(Duration::from_secs(9 + 25)).await;
        let left = |task: &Arc<Task>| rig.cache.state(task).unwrap().left.unwrap();
        let stale = tasks.iter().filter(|task| left(task) < Duration::from_secs(3_000)).count();
        assert_eq!(stale, 0, "at lives of {life} ms");
        short_lived.abort();
        sweep.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_sweep_has_one_load_at_a_time_in_the_line_before_readers() {
    let rig = Rig::with_budget(BudgetLimits { burst: 1, ..LIMITS }, hour);
    for n in 0..100 {
        rig.cache.prefetch(&rig.task(&format!("t{n}")));
    }
    for _ in 0..10 {
        rig.cache.sweep();
        tokio::task::yield_now().await;
    }
    assert_eq!((rig.sts.calls(), rig.cache.loads.len()), (1, 2));
    let start = Instant::now();
    assert!(rig.cache.get(&rig.task("read")).await.is_ok());
    assert!(start.elapsed() <= Duration::from_millis(310), "{:?}", start.elapsed());
    // Its load has had its turn, so the place is free for the next one.
    let calls = rig.sts.calls();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((rig.sts.calls(), rig.cache.loads.len()), (calls, 0));
    rig.cache.sweep();
    assert_eq!(rig.cache.loads.len(), 2);
}
