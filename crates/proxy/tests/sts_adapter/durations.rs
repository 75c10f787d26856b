//! A duration that STS refuses is asked for once more at an hour, and the role is remembered.

use std::sync::{Arc, Mutex};

use taskcreds_core::test_util::new_spec;
use taskcreds_core::{AssumeRole, FailureKind, SessionDuration, SessionName, SessionSpec};

use crate::canned::{Answer, Canned, SUCCESS, SUCCESS_KEY, refusal, reply};

const CHAINING: &str =
    "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining";
const MAXIMUM: &str = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";

fn two_hours(role: &str) -> SessionSpec {
    SessionSpec { duration: SessionDuration::new(7200).unwrap(), ..new_spec(role) }
}

fn refused(message: &str) -> Answer {
    reply(400, &refusal("ValidationError", message))
}

/// The durations asked for so far.
fn asked(canned: &Canned) -> Vec<String> {
    canned.requests().iter().map(|request| request.parameter("DurationSeconds").unwrap().to_owned()).collect()
}

/// An STS that allows sessions of an hour at most.
async fn an_hour_at_most(message: &'static str) -> Canned {
    Canned::scripted(move |request, _| match request.parameter("DurationSeconds").unwrap().parse::<u32>().unwrap() {
        0..=3600 => reply(200, SUCCESS),
        _ => refused(message),
    })
    .await
}

#[tokio::test]
async fn a_refused_duration_is_asked_for_once_more_at_an_hour_and_the_role_is_remembered() {
    for message in [CHAINING, MAXIMUM] {
        let canned = an_hour_at_most(message).await;
        let sts = canned.sts();
        let session = sts.assume_role(&two_hours("web")).await.unwrap();
        assert_eq!(session.access_key_id(), SUCCESS_KEY);
        assert_eq!(asked(&canned), ["7200", "3600"], "{message}");

        sts.assume_role(&two_hours("web")).await.unwrap();
        assert_eq!(asked(&canned)[2..], ["3600"], "the same role is known now");

        let other_task = SessionSpec { session_name: SessionName::new("task-2").unwrap(), ..two_hours("web") };
        sts.assume_role(&other_task).await.unwrap();
        assert_eq!(asked(&canned)[3..], ["3600"], "the same role for another task, too");

        sts.assume_role(&two_hours("other")).await.unwrap();
        assert_eq!(asked(&canned)[4..], ["7200", "3600"], "another role is not");

        let short = SessionSpec { duration: SessionDuration::new(900).unwrap(), ..new_spec("web") };
        sts.assume_role(&short).await.unwrap();
        assert_eq!(asked(&canned)[6..], ["900"], "less than an hour is asked for as before");
    }
}

#[tokio::test]
async fn the_second_request_is_the_first_one_with_another_duration() {
    let canned = an_hour_at_most(CHAINING).await;
    canned.sts().assume_role(&two_hours("web")).await.unwrap();
    let [mut first, second] = canned.requests().try_into().unwrap();
    first.form.insert("DurationSeconds".to_owned(), "3600".to_owned());
    assert_eq!(first.form, second.form);
}

#[tokio::test]
async fn other_failures_of_a_long_session_are_not_asked_for_again() {
    for (status, code, message) in [
        (400, "ValidationError", "1 validation error detected: Value 'x' at 'roleSessionName' failed to satisfy"),
        (400, "ValidationError", "The source identity is already set for this assume role session"),
        (403, "AccessDenied", "Not authorized to perform sts:AssumeRole with DurationSeconds"),
        (400, "Throttling", "Rate exceeded for DurationSeconds"),
        (500, "InternalFailure", CHAINING),
    ] {
        let canned = Canned::start([reply(status, &refusal(code, message)), reply(200, SUCCESS)]).await;
        let sts = canned.sts();
        let error = sts.assume_role(&two_hours("web")).await.unwrap_err();
        assert_eq!(error.code.as_deref(), Some(code));
        assert_eq!(asked(&canned), ["7200"], "{message}");

        sts.assume_role(&two_hours("web")).await.unwrap();
        assert_eq!(asked(&canned), ["7200", "7200"], "nothing was remembered: {message}");
    }
}

#[tokio::test]
async fn an_hour_or_less_that_is_refused_is_not_asked_for_again() {
    for seconds in [900, 3600] {
        let canned = Canned::start([refused(MAXIMUM)]).await;
        let spec = SessionSpec { duration: SessionDuration::new(seconds).unwrap(), ..new_spec("web") };
        let error = canned.sts().assume_role(&spec).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Refused);
        assert_eq!(asked(&canned), [seconds.to_string()]);
    }
}

#[tokio::test]
async fn a_failure_of_the_second_request_is_the_outcome_and_the_role_is_remembered_all_the_same() {
    let canned =
        Canned::start([refused(CHAINING), reply(400, &refusal("Throttling", "Rate exceeded")), reply(200, SUCCESS)])
            .await;
    let sts = canned.sts();
    let error = sts.assume_role(&two_hours("web")).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (FailureKind::Throttled, Some("Throttling")));
    sts.assume_role(&two_hours("web")).await.unwrap();
    assert_eq!(asked(&canned), ["7200", "3600", "3600"]);
}

#[tokio::test]
async fn many_long_sessions_at_once_each_fall_back_once() {
    let canned = an_hour_at_most(CHAINING).await;
    let sts = Arc::new(canned.sts());
    let failures = Arc::new(Mutex::new(0));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (sts, failures) = (Arc::clone(&sts), Arc::clone(&failures));
        calls.spawn(async move {
            if sts.assume_role(&two_hours("web")).await.is_err() {
                *failures.lock().unwrap() += 1;
            }
        });
    }
    while calls.join_next().await.is_some() {}
    assert_eq!(*failures.lock().unwrap(), 0);
    let asked = asked(&canned);
    assert_eq!(asked.iter().filter(|seconds| *seconds == "3600").count(), 8, "{asked:?}");
    assert!(asked.len() <= 16, "{asked:?}");
}
