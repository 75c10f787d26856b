use taskcreds_core::test_util::{EPOCH, new_session, new_task};
use taskcreds_core::{
    CredentialsId, ExternalId, NewTask, PolicyArn, Region, Registration, Registry, RoleArn, SessionDuration,
    SessionName, SessionPolicy, SessionTag, SessionTags, SourceIdentity, TaskArn,
};

use super::*;
use crate::http::wire;

const HOUR: Duration = Duration::from_secs(3600);

fn registered(new: NewTask) -> Arc<Task> {
    Registry::new(1).register(Registration::configured(new)).unwrap()
}

fn session(expiration: SystemTime) -> Kept {
    let session = Arc::new(Session::new(new_session(expiration)).unwrap());
    Kept { session, refresh_at: EPOCH + HOUR / 2, ends_at: expiration }
}

fn one(task: &Arc<Task>) -> Zeroizing<Vec<u8>> {
    write(&[(Arc::clone(task), session(EPOCH + HOUR))], 7, EPOCH, None).unwrap()
}

/// Bytes with a digest that is right for them.
fn whole(json: &[u8]) -> Vec<u8> {
    [json, b"\n", hex(&Sha256::digest(json)).as_bytes()].concat()
}

#[test]
fn a_session_comes_back_as_it_was_and_once() {
    let task = registered(new_task("web"));
    let mut snapshot = Snapshot::read(&one(&task)).unwrap();
    assert_eq!((snapshot.generation, snapshot.len()), (7, 1));
    let (kept, before) = (snapshot.take(&task, EPOCH).unwrap(), session(EPOCH + HOUR));
    assert_eq!(wire::credentials(&kept.session), wire::credentials(&before.session));
    assert_eq!((kept.refresh_at, kept.ends_at), (before.refresh_at, before.ends_at));
    assert_eq!(kept.session.assumed_role_arn(), before.session.assumed_role_arn());
    assert_eq!(kept.session.assumed_role_id(), before.session.assumed_role_id());
    assert_eq!(kept.session.request_id(), before.session.request_id());
    assert!(snapshot.take(&task, EPOCH).is_none());
}

#[test]
fn invariant_8_a_session_goes_on_only_for_the_very_task_that_it_was_made_for() {
    type Change = fn(&mut NewTask);
    let changes: [Change; 16] = [
        |new| new.id = CredentialsId::random(),
        |new| new.arn = TaskArn::new("arn:aws:ecs:us-west-2:111122223333:task/prod/another").unwrap(),
        |new| new.role_kind = taskcreds_core::RoleKind::Execution,
        |new| new.spec.role_arn = RoleArn::new("arn:aws:iam::111122223333:role/path/web").unwrap(),
        |new| new.spec.session_name = SessionName::new("another").unwrap(),
        |new| new.spec.tags = SessionTags::new(vec![SessionTag::new("k", "v").unwrap()]).unwrap(),
        |new| new.spec.transitive_tags ^= true,
        |new| new.spec.source_identity = Some(SourceIdentity::new("me").unwrap()),
        |new| new.spec.external_id = Some(ExternalId::new("me").unwrap()),
        |new| new.spec.policy = Some(SessionPolicy::new(r#"{"Statement":[]}"#).unwrap()),
        |new| new.spec.policy = Some(SessionPolicy::new(r#"{"Statement":[] }"#).unwrap()),
        |new| new.spec.policy_arns = vec![PolicyArn::new("arn:aws:iam::aws:policy/ReadOnlyAccess").unwrap()],
        |new| new.spec.duration = SessionDuration::new(901).unwrap(),
        |new| new.spec.region = Some(Region::new("eu-west-1").unwrap()),
        |new| new.spec.region = Some(new.spec.fallback_region.clone()),
        |new| new.spec.fallback_region = Region::new("eu-west-1").unwrap(),
    ];
    let web = new_task("web");
    let bytes = one(&registered(web.clone()));
    for (number, change) in changes.iter().enumerate() {
        let mut another = web.clone();
        change(&mut another);
        let found = Snapshot::read(&bytes).unwrap().take(&registered(another), EPOCH);
        assert!(found.is_none(), "change {number}");
    }
    // What opens it may have changed: the token is no part of the session.
    let same = NewTask { tokens: vec![taskcreds_core::Token::random()], ..web };
    assert!(Snapshot::read(&bytes).unwrap().take(&registered(same), EPOCH).is_some());
}

#[test]
fn bytes_that_are_cut_or_changed_anywhere_are_refused() {
    let bytes = one(&registered(new_task("web")));
    for end in 0..bytes.len() {
        assert_eq!(Snapshot::read(&bytes[..end]).unwrap_err(), Unreadable::Damaged, "cut at {end}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert_eq!(Snapshot::read(&changed).unwrap_err(), Unreadable::Damaged, "changed at {at}");
    }
}

#[test]
fn nothing_panics_on_bytes_that_another_has_made_whole() {
    let task = registered(new_task("web"));
    let bytes = one(&task);
    let json = &bytes[..bytes.len() - TAIL];
    for at in 0..json.len() {
        for bit in 0..8 {
            let mut changed = json.to_vec();
            changed[at] ^= 1 << bit;
            if let Ok(mut snapshot) = Snapshot::read(&whole(&changed)) {
                let _ = snapshot.take(&task, EPOCH);
            }
        }
    }
    let text = std::str::from_utf8(json).unwrap();
    let far = text.replace(&format!("\"ends_at\":{}", since_1970(EPOCH + HOUR)), &format!("\"ends_at\":{}", u64::MAX));
    assert_ne!(far, text);
    if let Ok(mut snapshot) = Snapshot::read(&whole(far.as_bytes())) {
        let _ = snapshot.take(&task, EPOCH);
    }
    // What no client could use is never made into a session, see `Session::new`.
    let empty = text.replace("test-session-token", "");
    assert!(Snapshot::read(&whole(empty.as_bytes())).unwrap().take(&task, EPOCH).is_none());
}

#[test]
fn another_form_is_named_with_the_version_that_has_written_it() {
    let read = Snapshot::read(&whole(br#"{"format":2,"program":"9.9.9","what":["ever"]}"#));
    assert_eq!(read.unwrap_err(), Unreadable::Format { format: 2, program: "9.9.9".to_owned() });
    assert_eq!(Snapshot::read(&whole(b"{}")).unwrap_err(), Unreadable::Damaged);
}

#[test]
fn a_document_tells_its_sts_and_one_that_tells_none_is_from_aws_itself() {
    let kept = [(registered(new_task("web")), session(EPOCH + HOUR))];
    let from = |sts| Snapshot::read(&write(&kept, 7, EPOCH, sts).unwrap()).unwrap().sts;
    assert_eq!((from(None), from(Some("http://\"a\""))), (None, Some("http://\"a\"".to_owned())));
    // As every document was that an older program has written.
    assert!(!String::from_utf8_lossy(&one(&kept[0].0)).contains("\"sts\""));
}

#[test]
fn a_clock_that_was_set_back_between_two_processes_ends_sessions_that_much_earlier() {
    let task = registered(new_task("web"));
    let bytes = one(&task);
    let ends_at = |now| Snapshot::read(&bytes).unwrap().take(&task, now).unwrap().ends_at;
    assert_eq!(ends_at(EPOCH - HOUR / 4), EPOCH + HOUR - HOUR / 4);
    for now in [EPOCH - CLOCK_NOISE, EPOCH, EPOCH + HOUR / 2] {
        assert_eq!(ends_at(now), EPOCH + HOUR);
    }
}

#[test]
fn the_buffer_is_as_long_as_what_is_in_it_so_that_no_half_of_it_was_left_behind() {
    let bytes = one(&registered(new_task("web")));
    assert_eq!(bytes.capacity(), bytes.len());
}
