//! What outlives the process: registrations do, whatever ends it; ids, tokens and sessions do not.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::get;
use crate::place::{Place, read, readiness, refusal, started, timed};
use crate::rig::{Process, runtime, until};
use crate::secrets;
use crate::skip;
use crate::sts::Sts;
use crate::tasks::Task;

fn ended_by(proxy: Process, signal: Signal) {
    proxy.signal(signal);
    proxy.wait();
}

#[test]
fn registrations_outlive_the_process_and_the_folder_holds_no_secret() {
    let (sts, place) = (Sts::new(), Place::new());
    let [kept, gone] = ["kept", "gone"].map(Task::without_id);
    let mut proxy = place.serve(&sts);
    let (kept_view, gone_view) = (place.add(&kept, ""), place.add(&gone, ""));
    let with_token = place.add(&Task::without_id("with-token"), "--with-token");
    assert_eq!((read(&proxy, &kept_view).status, read(&proxy, &gone_view).status), (200, 200));
    place.task(&format!("rm {}", gone.arn()));
    for signal in [Signal::TERM, Signal::KILL] {
        ended_by(proxy, signal);
        assert_eq!(place.socket().exists(), signal == Signal::KILL);
        no_secret_in(&place.state(), &[&kept.arn(), "with-token"]);
        let calls = |role: &str| sts.assume_role_calls().iter().filter(|c| c.role_arn.as_deref() == Some(role)).count();
        let before = calls(&kept.role_arn());
        proxy = place.serve(&sts);
        assert_eq!(read(&proxy, &kept_view).status, 200);
        assert_eq!(calls(&kept.role_arn()), before + 1, "a session is new");
        assert_eq!(read(&proxy, &gone_view).status, 400);
        assert_eq!(read(&proxy, &with_token).status, 401);
        assert_eq!(place.list().len(), 2);
    }
}

/// Looks for every secret of the suite in every byte of the folder; these texts stand there.
fn no_secret_in(folder: &Path, there: &[&str]) {
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    let all: Vec<u8> = files.flatten().collect();
    let text = String::from_utf8_lossy(&all);
    assert!(there.iter().all(|wanted| text.contains(wanted)));
    assert_eq!(secrets::found_in(&text, &[]), []);
}

#[test]
fn after_a_restart_the_same_task_is_told_to_who_sends_its_id() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let added = place.add(&task, "");
    ended_by(proxy, Signal::TERM);
    let proxy = place.serve(&sts);
    let add = format!("add --task-arn {} --role-arn {}", task.arn(), task.role_arn());
    assert_eq!(refusal(&place.run(&add)), (1, "CredentialsIdNotKept".to_owned()));
    let with_id = json!({"taskArn": task.arn(), "roleArn": task.role_arn(), "credentialsId": added["credentialsId"]});
    let again = place.request(&with_id.to_string());
    assert_eq!(again.code(), 0, "{}", again.stderr);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!((&again["relativeUri"], &again["created"]), (&added["relativeUri"], &json!(false)));
    let uri = format!("http://{}{}", proxy.address(), added["relativeUri"].as_str().unwrap());
    assert_eq!(again["fullUri"], json!(uri));
    assert_eq!(read(&proxy, &again).status, 200);
    let wrong = json!({"taskArn": task.arn(), "roleArn": task.role_arn(), "credentialsId": crate::tasks::new_id()});
    assert_eq!(refusal(&place.request(&wrong.to_string())), (1, "TaskConflict".to_owned()));
}

/// An STS that refuses every connection: nothing is waited for.
fn no_sts() -> Vec<(&'static str, String)> {
    ["AWS_ENDPOINT_URL_STS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"]
        .into_iter()
        .zip(["http://127.0.0.1:1", "AKIANOBODY", "no-secret", "us-west-2"].map(str::to_owned))
        .collect()
}

fn body(arn: &str) -> Value {
    json!({"taskArn": arn, "roleArn": "arn:aws:iam::111122223333:role/web"})
}

/// One of so many, from 0 on.
fn random(of: u8) -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0] % of
}

/// What is known of a task: how it stands, by the digest of its id, or what it may be after a change that nobody has acknowledged.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Absent,
    Present(String),
    /// Was so, and a change was under way.
    Open(Box<Known>, Change),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Add,
    Revoke,
    Rotate,
}

impl Known {
    fn allows(&self, found: Option<&String>) -> bool {
        match (self, found) {
            (Self::Absent, found) => found.is_none(),
            (Self::Present(id), found) => found == Some(id),
            (Self::Open(before, _), found) if before.allows(found) => true,
            (Self::Open(_, Change::Revoke), found) => found.is_none(),
            (Self::Open(_, Change::Add | Change::Rotate), found) => found.is_some(),
        }
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Acknowledged {
    added: usize,
    revoked: usize,
    rotated: usize,
}

/// Changes its tasks as fast as it can, until nobody answers.
fn change(place: &Place, known: &mut BTreeMap<String, Known>) -> Acknowledged {
    let mut count = Acknowledged::default();
    let arns: Vec<_> = known.keys().cloned().collect();
    // Bounded: the process is killed long before.
    for _ in 0..100_000 {
        let arn = &arns[usize::from(random(TASKS))];
        let state = known.get_mut(arn).unwrap();
        let (path, change) = match state {
            Known::Absent => ("/v1/tasks", Change::Add),
            _ if random(4) == 0 => ("/v1/tasks/rotate", Change::Rotate),
            _ => ("/v1/tasks/revoke", Change::Revoke),
        };
        let body = if change == Change::Add { body(arn) } else { json!({"taskArn": arn}) };
        let body = body.to_string();
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let Ok(answer) = place.try_raw(&request) else {
            *state = Known::Open(Box::new(state.clone()), change);
            return count;
        };
        assert!(answer.status < 300, "{change:?} {state:?}: {} {}", answer.status, answer.body);
        let id = || answer.json()["idDigest"].as_str().unwrap().to_owned();
        match change {
            Change::Add => (*state, count.added) = (Known::Present(id()), count.added + 1),
            Change::Rotate => (*state, count.rotated) = (Known::Present(id()), count.rotated + 1),
            Change::Revoke => (*state, count.revoked) = (Known::Absent, count.revoked + 1),
        }
    }
    panic!("the process was not killed");
}

/// Of each agent.
const TASKS: u8 = 6;

/// The long run: `TASKCREDS_TEST_KILLS=500`.
#[test]
fn no_acknowledged_change_is_undone_by_kill_9_at_any_moment() {
    let kills: u32 = std::env::var("TASKCREDS_TEST_KILLS").map_or(25, |kills| kills.parse().unwrap());
    let place = Place::new();
    let task = |_| (Task::without_id("web").arn(), Known::Absent);
    let mut agents: Vec<BTreeMap<_, _>> = (0..4).map(|_| (0..TASKS).map(task).collect()).collect();
    let (mut total, mut open, mut starts) = (Acknowledged::default(), 0, 0);
    for _ in 0..kills {
        let proxy = started(place.start().envs(no_sts()));
        starts += 1;
        compare(&place, &mut agents, starts);
        let moment = Duration::from_millis(5 + u64::from(random(146)));
        std::thread::scope(|scope| {
            let changing: Vec<_> = agents.iter_mut().map(|known| scope.spawn(|| change(&place, known))).collect();
            // Not a wait for anything: the moment is what is tried out.
            runtime().block_on(async { tokio::time::sleep(moment).await });
            ended_by(proxy, Signal::KILL);
            for one in changing {
                let Acknowledged { added, revoked, rotated } = one.join().unwrap();
                total.added += added;
                total.revoked += revoked;
                total.rotated += rotated;
            }
        });
        open += agents.iter().flat_map(BTreeMap::values).filter(|known| matches!(known, Known::Open(..))).count();
    }
    let proxy = started(place.start().envs(no_sts()));
    compare(&place, &mut agents, starts);
    assert_eq!((readiness(&proxy)["ready"].as_bool(), aside(&place.state())), (Some(true), None));
    println!("{kills} kills, acknowledged: {total:?}; under way when killed: {open}");
    assert!(total.added > 0 && total.revoked > 0 && total.rotated > 0 && open > 0);
}

/// What is there after a start is what was acknowledged.
fn compare(place: &Place, agents: &mut [BTreeMap<String, Known>], start: u32) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: HashMap<_, _> =
        place.list().iter().map(|task| (text(&task["taskArn"]), text(&task["idDigest"]))).collect();
    for (arn, known) in agents.iter_mut().flatten() {
        let found = found.get(arn);
        assert!(known.allows(found), "start {start}, {arn}: {known:?} was acknowledged, {found:?} is there");
        *known = found.cloned().map_or(Known::Absent, Known::Present);
    }
}

/// `TASKCREDS_TEST_BINARY` names a release build, which is held to the 100 ms that are promised.
#[test]
fn with_2000_tasks_in_the_store_the_first_request_is_answered_soon_after_the_start() {
    let (sts, place) = (Sts::new(), Place::new());
    let proxy = started(place.start().envs(no_sts()));
    let registered: Vec<_> = std::thread::scope(|scope| {
        let agent =
            || (0..250).map(|_| place.post("/v1/tasks", &body(&Task::without_id("web").arn())).json()).collect();
        let agents: Vec<_> = (0..8).map(|_| scope.spawn(agent)).collect();
        agents.into_iter().flat_map(|agent| -> Vec<Value> { agent.join().unwrap() }).collect()
    });
    assert_eq!(registered.len(), 2_000);
    ended_by(proxy, Signal::TERM);
    let mut took: Vec<_> = (0..5)
        .map(|n| {
            let start = place.start().envs(sts.environment());
            let ((proxy, answer), took) = timed(|| {
                let proxy = start.spawn();
                let answer = get(proxy.address(), registered[n * 399]["relativeUri"].as_str().unwrap());
                (proxy, answer)
            });
            assert_eq!(answer.status, 200, "{}", answer.body);
            drop(proxy);
            took
        })
        .collect();
    took.sort();
    println!("2000 tasks, from the start to the first 200: {took:?}");
    let is_release = std::env::var_os("TASKCREDS_TEST_BINARY").is_some();
    assert!(took[2] < Duration::from_millis(if is_release { 100 } else { 1_000 }), "{took:?}");
}

#[test]
fn a_store_that_is_not_whole_is_set_aside_whole_and_told_until_it_is_moved_away() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 3] = [
        ("a page overwritten", |file| {
            let bytes = fs::read(file).unwrap();
            let at = bytes.windows(8).position(|window| window == b"taskArn\"").unwrap() / 4096 * 4096;
            fs::File::options().write(true).open(file).unwrap().write_all_at(&[0xa5; 4096], at as u64).unwrap();
        }),
        ("cut in half", |file| {
            let file = fs::File::options().write(true).open(file).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("emptied", |file| fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap()),
    ];
    for (what, harm) in harms {
        let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
        let proxy = place.serve(&sts);
        let added = place.add(&task, "");
        ended_by(proxy, Signal::TERM);
        let store = fs::read_dir(place.state()).unwrap().next().unwrap().unwrap().path();
        harm(&store);
        let harmed = fs::read(&store).unwrap();

        let proxy = place.serve(&sts);
        let aside = aside(&place.state()).unwrap_or_else(|| panic!("{what}: nothing was set aside"));
        proxy.logs(aside.file_name().unwrap().to_str().unwrap());
        assert!(fs::read(&aside).unwrap() == harmed, "{what}: it was altered");
        assert_eq!(read(&proxy, &added).status, 400, "{what}");
        place.add(&task, "");
        let ready = readiness(&proxy);
        assert_eq!((&ready["ready"], &ready["reasons"][0]["check"]), (&json!(false), &json!("store")), "{what}");
        fs::rename(aside, place.folder.path().join("away")).unwrap();
        until("ready", || readiness(&proxy)["ready"] == true);
        assert_eq!(place.list().len(), 1);
    }
}

#[test]
fn what_is_answered_after_the_store_was_removed_or_replaced_lasts_and_what_is_revoked_stays_so() {
    type Harm = fn(state: &Path, older: &Path);
    let harms: [(&str, Harm); 3] = [
        ("the file removed", |state, _| fs::remove_file(state.join("registrations.redb")).unwrap()),
        ("the folder removed", |state, _| fs::remove_dir_all(state).unwrap()),
        ("an older copy moved in", |state, older| fs::rename(older, state.join("registrations.redb")).unwrap()),
    ];
    for (what, harm) in harms {
        let (sts, place) = (Sts::new(), Place::new());
        let [gone, kept, late] = ["gone", "kept", "late"].map(Task::without_id);
        let older = place.folder.path().join("older");
        let proxy = place.serve(&sts);
        place.add(&gone, "");
        ended_by(proxy, Signal::TERM);
        fs::copy(place.state().join("registrations.redb"), &older).unwrap();
        let proxy = place.serve(&sts);
        place.add(&kept, "");
        place.task(&format!("rm {}", gone.arn()));
        harm(&place.state(), &older);
        place.add(&late, "");
        proxy.logs("was removed or replaced while it is in use");
        until("ready", || readiness(&proxy)["ready"] == true);
        ended_by(proxy, Signal::KILL);

        let _proxy = place.serve(&sts);
        let arns = |view: &Value| view["taskArn"].as_str().unwrap().to_owned();
        let (mut there, mut wanted) = (place.list().iter().map(arns).collect::<Vec<_>>(), [kept.arn(), late.arn()]);
        there.sort();
        wanted.sort();
        assert_eq!(there, wanted, "{what}");
    }
}

#[test]
fn what_was_put_in_the_place_of_the_store_and_is_none_is_told_until_it_is_moved_away() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let other = place.folder.path().join("other");
    fs::write(&other, "no store").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&other, place.state().join("registrations.redb")).unwrap();
    // Nobody has asked for a change.
    let ready = readiness(&proxy);
    assert_eq!((&ready["ready"], &ready["reasons"][0]["check"]), (&json!(false), &json!("store")));
    proxy.logs("takes no changes");
    let add = format!("add --task-arn {} --role-arn {}", task.arn(), task.role_arn());
    assert_eq!(refusal(&place.run(&add)), (70, "StoreFailed".to_owned()));
    assert_eq!(fs::read(place.state().join("registrations.redb")).unwrap(), b"no store");
    fs::remove_file(place.state().join("registrations.redb")).unwrap();
    until("ready", || readiness(&proxy)["ready"] == true);
    assert_eq!(place.run(&add).code(), 0);
}

fn aside(folder: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.find(|file| file.display().to_string().contains(".corrupt-"))
}

#[test]
fn a_state_folder_of_others_or_in_use_is_69() {
    let (sts, place) = (Sts::new(), Place::new());
    let refused = |state: &Path, why: &str| {
        let other = Place::new();
        let start = crate::rig::taskcreds("serve").args("--listen 127.0.0.1:0 --state-dir").arg(state);
        let ended = start.arg("--admin-socket").arg(other.socket()).envs(sts.environment()).run();
        assert_eq!(ended.code(), 69, "{}", ended.stderr);
        assert!(ended.stderr.contains(why) && !other.socket().exists(), "{}", ended.stderr);
    };
    let _proxy = place.serve(&sts);
    refused(&place.state(), "another taskcreds is using it");
    let open = place.folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    refused(&open, "others may write to it: name a folder of its own");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).unwrap();
    let others = chown(&open, Some(31_000), None).map_err(|error| format!("cannot give a folder away: {error}"));
    if skip::unless("a state folder of another user", others).is_some() {
        refused(&open, "it belongs to user 31000");
    }
}

/// A small file system in memory, on a folder of its own.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path) -> Result<Self, String> {
        fs::create_dir(folder).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=1300k,mode=700", "tmpfs"]).arg(folder);
        match mount.output() {
            Ok(output) if output.status.success() => Ok(Self(folder.to_owned())),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn after_a_full_disk_has_room_again_changes_are_taken_and_revocations_last() {
    let (sts, place) = (Sts::new(), Place::new());
    let Some(disk) = skip::unless("a disk that fills up", Disk::mount(&place.state())) else { return };
    let [gone, late] = ["gone", "late"].map(Task::without_id);
    let proxy = place.serve(&sts);
    let gone_view = place.add(&gone, "");
    assert_eq!(read(&proxy, &gone_view).status, 200);

    let filler = disk.0.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
    // A store has room left within its file; it is full when it has to grow.
    let mut number = 0;
    let refused = loop {
        number += 1;
        assert!(number < 2_000, "the disk never fills up");
        let task = Task::without_id(&format!("t{number}"));
        let body = json!({"taskArn": task.arn(), "roleArn": task.role_arn(), "policy": format!("{{\"Statement\":\"{}\"}}", "x".repeat(2_000))});
        let answer = place.post("/v1/tasks", &body);
        if answer.status != 201 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.error().0.as_str()), (500, "StoreFailed"));
    assert!(readiness(&proxy).to_string().contains("store"), "{}", readiness(&proxy));
    let rm = place.run(&format!("rm {}", gone.arn()));
    // In force at once, whether or not the store has taken it.
    assert_eq!(read(&proxy, &gone_view).status, 400, "{}", rm.stderr);

    drop(file);
    fs::remove_file(&filler).unwrap();
    until("the store takes changes again", || {
        place.run(&format!("add --task-arn {} --role-arn {}", late.arn(), late.role_arn())).code() == 0
    });
    until("nothing is left to be recorded", || readiness(&proxy)["ready"] == true);
    ended_by(proxy, Signal::KILL);
    let proxy = place.serve(&sts);
    assert_eq!(read(&proxy, &gone_view).status, 400);
    assert!(place.list().iter().any(|task| task["taskArn"] == late.arn().as_str()));
}
