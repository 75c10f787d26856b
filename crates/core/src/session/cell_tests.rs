//! The cell: its invariants one by one, and held to a model.

use proptest::prelude::*;

use super::*;
use crate::test_util::{EPOCH, session_until};

const FRESH: Freshness = Freshness {
    floor: Duration::from_secs(30),
    patience: Duration::from_millis(700),
    idle_after: Duration::from_secs(7200),
    sweep_every: Duration::from_secs(1),
    longest_pause: MAX_BACKOFF,
};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn failure(kind: FailureKind) -> AssumeRoleError {
    AssumeRoleError::new(kind, "scripted", "wait")
}

fn loaded(life: u64) -> SessionCell {
    let mut cell = SessionCell::new(EPOCH);
    assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
    cell.settle(EPOCH, Ok(session_until(EPOCH + seconds(life))), &FRESH, 0.0);
    cell
}

#[test]
fn invariant_1_a_second_reader_waits_for_the_load_of_the_first() {
    let mut cell = SessionCell::new(EPOCH);
    assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
    assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Wait { retry_at: None, cause: None }));
    assert_eq!(cell.due(EPOCH, &FRESH), None);
}

#[test]
fn invariant_3_a_failed_load_never_discards_a_session_that_is_still_valid() {
    for kind in [FailureKind::Refused, FailureKind::Throttled, FailureKind::Unavailable, FailureKind::BaseCredentials] {
        let mut cell = loaded(3600);
        let now = EPOCH + seconds(1800);
        assert!(cell.start_if_due(now, &FRESH));
        let settled = cell.settle(now, Err(failure(kind)), &FRESH, 0.5);
        assert!(matches!(settled, Settled::Failed { covered: true, in_a_row: 1, .. }));
        assert!(matches!(cell.read(EPOCH + seconds(3569), &FRESH), Answer::Session(_)));
    }
}

#[test]
fn invariant_4_nothing_within_the_floor_of_its_expiry_is_served() {
    let mut cell = loaded(3600);
    assert!(matches!(cell.read(EPOCH + seconds(3569), &FRESH), Answer::Session(_)));
    assert!(matches!(cell.read(EPOCH + seconds(3570), &FRESH), Answer::Load));
    assert!(matches!(cell.read(EPOCH + seconds(4000), &FRESH), Answer::Wait { .. }));
}

#[test]
fn invariant_5_after_a_failure_no_load_starts_before_retry_at() {
    let mut cell = SessionCell::new(EPOCH);
    assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
    cell.settle(EPOCH, Err(failure(FailureKind::Refused)), &FRESH, 0.0);
    let early = EPOCH + Duration::from_millis(9_999);
    assert!(matches!(cell.read(early, &FRESH), Answer::Refused(_)));
    assert_eq!(cell.due(early, &FRESH), None);
    assert!(matches!(cell.read(EPOCH + seconds(10), &FRESH), Answer::Load));
}

#[test]
fn a_reader_in_a_pause_after_an_outage_learns_when_the_next_load_may_start() {
    let mut cell = SessionCell::new(EPOCH);
    assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
    cell.settle(EPOCH, Err(failure(FailureKind::Unavailable)), &FRESH, 0.5);
    let Answer::Wait { retry_at: Some(at), cause: Some(_) } = cell.read(EPOCH, &FRESH) else { panic!() };
    assert_eq!(at, EPOCH + Duration::from_millis(500));
}

#[test]
fn invariant_7_a_session_born_within_the_floor_is_a_failure() {
    let mut cell = SessionCell::new(EPOCH);
    assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
    let settled = cell.settle(EPOCH, Ok(session_until(EPOCH + seconds(30))), &FRESH, 0.5);
    assert!(matches!(settled, Settled::Failed { covered: false, .. }));
    assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Wait { retry_at: Some(_), .. }));
}

#[test]
fn a_clock_set_back_does_not_keep_a_failure_in_force() {
    let mut cell = SessionCell::new(EPOCH + seconds(100_000));
    assert!(matches!(cell.read(EPOCH + seconds(100_000), &FRESH), Answer::Load));
    cell.settle(EPOCH + seconds(100_000), Err(failure(FailureKind::Refused)), &FRESH, 0.5);
    assert!(matches!(cell.read(EPOCH, &FRESH), Answer::Load));
}

#[test]
fn a_clock_set_back_does_not_prolong_a_session() {
    let base = EPOCH + seconds(100_000);
    let mut cell = SessionCell::new(base);
    assert!(matches!(cell.read(base, &FRESH), Answer::Load));
    cell.settle(base, Ok(session_until(base + seconds(3_600))), &FRESH, 0.0);
    // Ten minutes later the clock is set back by six hours.
    assert_eq!(cell.due(base + seconds(600), &FRESH), None);
    let now = base + seconds(600) - seconds(21_600);
    assert!(matches!(cell.read(now, &FRESH), Answer::Session(_)));
    assert!(cell.due(now + seconds(1_020), &FRESH).is_some(), "it is refreshed at 45 % of its life");
    assert!(matches!(cell.read(now + seconds(2_969), &FRESH), Answer::Session(_)));
    assert!(matches!(cell.read(now + seconds(2_970), &FRESH), Answer::Load));
}

#[test]
fn a_load_that_keeps_failing_stands_behind_those_that_became_due_before() {
    let mut cell = SessionCell::new(EPOCH);
    assert!(cell.start_if_due(EPOCH, &FRESH));
    cell.settle(EPOCH, Err(failure(FailureKind::Unavailable)), &FRESH, 0.5);
    let retry_at = EPOCH + Duration::from_millis(500);
    assert_eq!(cell.due(retry_at, &FRESH), Some(retry_at));
}

#[test]
fn a_session_nobody_reads_lapses_until_somebody_asks() {
    let mut cell = loaded(43_200);
    let now = EPOCH + seconds(30_000);
    assert_eq!(cell.due(now, &FRESH), None);
    assert!(matches!(cell.read(now, &FRESH), Answer::Session(_)));
    assert_eq!(cell.due(now, &FRESH), Some(EPOCH + seconds(43_200).mul_f64(0.45)));
}

#[test]
fn a_refused_task_is_loaded_again_by_its_readers_only() {
    let mut cell = SessionCell::new(EPOCH);
    assert!(cell.start_if_due(EPOCH, &FRESH));
    cell.settle(EPOCH, Err(failure(FailureKind::Refused)), &FRESH, 0.5);
    assert_eq!(cell.due(EPOCH + seconds(60), &FRESH), None);
    assert!(matches!(cell.read(EPOCH + seconds(60), &FRESH), Answer::Load));
}

/// What may happen to a cell.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Read,
    Sweep,
    Succeed(u64),
    Fail(FailureKind),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        Just(FailureKind::Refused),
        Just(FailureKind::Throttled),
        Just(FailureKind::Unavailable),
        Just(FailureKind::BaseCredentials),
    ];
    let step = prop_oneof![
        (0..4_000_000u64).prop_map(Step::Pass),
        Just(Step::Read),
        Just(Step::Sweep),
        (0..7_200u64).prop_map(Step::Succeed),
        kind.prop_map(Step::Fail),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// The model knows three things: until when the last good session lasts, whether a load is under way, and before when
    /// none may start.
    #[test]
    fn a_cell_behaves_like_its_model(steps in steps(), chance in 0.0..1.0f64) {
        let (mut cell, mut now) = (SessionCell::new(EPOCH), EPOCH);
        let (mut good_until, mut loading, mut not_before) = (EPOCH, false, EPOCH);
        for step in steps {
            let servable = good_until > now + FRESH.floor;
            let may_load = !loading && now >= not_before;
            match step {
                Step::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                Step::Read => match cell.read(now, &FRESH) {
                    Answer::Session(session) => {
                        prop_assert!(servable);
                        prop_assert_eq!(session.expiration(), good_until);
                    }
                    Answer::Load => {
                        prop_assert!(!servable && may_load);
                        loading = true;
                    }
                    Answer::Wait { retry_at, .. } => {
                        prop_assert!(!servable && !may_load);
                        prop_assert_eq!(retry_at, (!loading).then_some(not_before));
                    }
                    Answer::Refused(_) => prop_assert!(!servable && !loading && now < not_before),
                },
                Step::Sweep => {
                    if cell.start_if_due(now, &FRESH) {
                        prop_assert!(may_load);
                        loading = true;
                    }
                }
                Step::Succeed(life) if loading => {
                    loading = false;
                    let fresh = life > FRESH.floor.as_secs();
                    match cell.settle(now, Ok(session_until(now + seconds(life))), &FRESH, chance) {
                        Settled::Fresh(_) => {
                            prop_assert!(fresh);
                            (good_until, not_before) = (now + seconds(life), now);
                        }
                        Settled::Failed { error, in_a_row, covered } => {
                            prop_assert!(!fresh);
                            prop_assert_eq!(covered, servable);
                            not_before = now + backoff(&error, in_a_row, covered, chance, MAX_BACKOFF);
                        }
                    }
                }
                Step::Fail(kind) if loading => {
                    loading = false;
                    let Settled::Failed { error, in_a_row, covered } =
                        cell.settle(now, Err(failure(kind)), &FRESH, chance) else { panic!("a failure settled as fresh") };
                    prop_assert_eq!(covered, servable);
                    not_before = now + backoff(&error, in_a_row, covered, chance, MAX_BACKOFF);
                }
                Step::Succeed(_) | Step::Fail(_) => {}
            }
        }
    }
}
