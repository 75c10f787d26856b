//! The sessions go on without STS, and only for the tasks that they were made for.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{SealFlags, fcntl_get_seals};

use super::{ALL_SEALS, Upstream, memory};
use crate::http::get;
use crate::place::{Place, read, refusal, started};
use crate::rig::{self, until};
use crate::supervisor::Supervisor;
use crate::tasks::{Config, Task};

/// A file of a configuration, to be written anew.
fn rewrite(file: &Path, head: &str, tasks: &[Task]) {
    let next = file.with_extension("next");
    fs::copy(Config::with(head, tasks).file(), &next).unwrap();
    fs::rename(next, file).unwrap();
}

/// The document in these bytes, which are whole up to its end.
fn document(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes.split(|byte| *byte == b'\n').next().unwrap()).unwrap()
}

fn sessions(document: &serde_json::Value) -> &Vec<serde_json::Value> {
    document.get("sessions").unwrap().as_array().unwrap()
}

fn contents(memory: &OwnedFd) -> Vec<u8> {
    fs::read(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap()
}

/// How many sessions are in each memory that is kept.
fn counts(supervisor: &Supervisor) -> Vec<usize> {
    let count = |(_, memory): (String, OwnedFd)| sessions(&document(&contents(&memory))).len();
    supervisor.kept().into_iter().map(count).collect()
}

#[test]
fn after_a_restart_with_sts_down_the_next_read_is_200_byte_for_byte_and_makes_no_sts_call() {
    let (upstream, supervisor, task) = (Upstream::new(), Supervisor::new(), Task::with_token("web"));
    let config = Config::new(std::slice::from_ref(&task));
    let read = |address| crate::http::get_with_token(address, &task.path(), task.token.as_deref().unwrap());

    let first = supervisor.start(upstream.serve(&config.file()), []).spawn();
    let before = read(first.address());
    assert_eq!(before.status, 200);
    assert_eq!(first.end().code(), 0);
    let told = supervisor.told();
    assert_eq!(told, ["READY=1", "STOPPING=1", "FDSTORE=1\nFDNAME=sessions-a", "FDSTOREREMOVE=1\nFDNAME=sessions-b"]);
    let seals = fcntl_get_seals(&supervisor.kept()[0].1).unwrap();
    assert!(seals.contains(ALL_SEALS), "{seals:?}");

    upstream.gate.close();
    let connections = upstream.gate.connections();
    for _ in 0..2 {
        let next = supervisor.start(upstream.serve(&config.file()), []).spawn();
        let after = read(next.address());
        assert_eq!((after.status, &after.body), (200, &before.body));
        assert!(next.logs("resumed=1").contains("dropped=0"));
        assert_eq!(next.end().code(), 0);
        // Nothing has changed, so nothing was written, and what is there is still there.
        assert_eq!(supervisor.told(), ["READY=1", "STOPPING=1"]);
        assert_eq!(supervisor.names(), ["sessions-a"]);
    }
    assert_eq!(upstream.gate.connections(), connections, "STS was asked");
    assert_eq!(upstream.sts.assume_role_calls().len(), 1);
}

#[test]
fn a_process_that_is_killed_six_seconds_after_a_load_leaves_its_session() {
    let (upstream, supervisor, task) = (Upstream::new(), Supervisor::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    let first = supervisor.start(upstream.serve(&config.file()), []).spawn();
    let before = get(first.address(), &task.path());
    let loaded_at = Instant::now();
    supervisor.until_told("FDSTOREREMOVE=1\nFDNAME=sessions-b");
    assert!(loaded_at.elapsed() < Duration::from_secs(6), "kept after {:?}", loaded_at.elapsed());
    first.kill();

    upstream.gate.close();
    let next = supervisor.start(upstream.serve(&config.file()), []).spawn();
    assert_eq!(get(next.address(), &task.path()).body, before.body);
    assert_eq!(upstream.sts.assume_role_calls().len(), 1);
}

#[test]
fn the_sessions_of_a_changed_role_and_of_a_removed_task_do_not_go_on() {
    let (upstream, supervisor) = (Upstream::new(), Supervisor::new());
    let [kept, changed, gone] = ["kept", "changed", "gone"].map(Task::new);
    let config = Config::new(&[kept.clone(), changed.clone(), gone.clone()]);
    let first = supervisor.start(upstream.serve(&config.file()), []).spawn();
    for task in [&kept, &changed, &gone] {
        assert_eq!(get(first.address(), &task.path()).status, 200);
    }
    first.end();

    upstream.gate.close();
    let mut another = changed.clone();
    another.role = "another".to_owned();
    rewrite(&config.file(), "", &[kept.clone(), another.clone()]);
    let second = supervisor.start(upstream.serve(&config.file()), []).spawn();
    assert!(second.logs("resumed=1").contains("dropped=2"));
    assert_eq!(get(second.address(), &kept.path()).status, 200);
    assert_eq!(get(second.address(), &another.path()).status, 503);
    assert_eq!(get(second.address(), &gone.path()).status, 400);
    // What was dropped is kept no longer: not even what is registered again as it was.
    second.end();
    rewrite(&config.file(), "", &[kept, gone.clone()]);
    let third = supervisor.start(upstream.serve(&config.file()), []).spawn();
    third.logs("resumed=1");
    assert_eq!(get(third.address(), &gone.path()).status, 503);
}

#[test]
fn a_task_that_was_revoked_while_the_proxy_ran_has_no_session_after_a_kill() {
    let (upstream, supervisor) = (Upstream::new(), Supervisor::new());
    let [kept, gone] = ["kept", "gone"].map(Task::new);
    let config = Config::new(&[kept.clone(), gone.clone()]);
    let first = supervisor.start(upstream.serve(&config.file()), []).spawn();
    for task in [&kept, &gone] {
        assert_eq!(get(first.address(), &task.path()).status, 200);
    }
    until("both are kept", || counts(&supervisor) == [2]);
    rewrite(&config.file(), "", std::slice::from_ref(&kept));
    first.logs("configuration reloaded");
    until("the one is kept", || counts(&supervisor) == [1]);
    first.kill();

    upstream.gate.close();
    rewrite(&config.file(), "", &[kept.clone(), gone.clone()]);
    let next = supervisor.start(upstream.serve(&config.file()), []).spawn();
    next.logs("resumed=1");
    assert_eq!(get(next.address(), &kept.path()).status, 200);
    assert_eq!(get(next.address(), &gone.path()).status, 503);
}

/// An agent that chooses its ids can register what it has revoked just as it was.
fn with_id(task: &Task) -> String {
    serde_json::json!({"taskArn": task.arn(), "roleArn": task.role_arn(), "credentialsId": task.id}).to_string()
}

#[test]
fn when_a_revocation_is_answered_its_session_is_kept_no_longer_not_even_for_the_same_id_after_a_kill() {
    let (upstream, place, task) = (Upstream::new(), Place::new(), Task::new("web"));
    let (supervisor, runtime) = (Supervisor::new(), tempfile::tempdir_in("/dev/shm").unwrap());
    let file = runtime.path().join("taskcreds/sessions");
    let in_file = || fs::read(&file).map_or(0, |bytes| sessions(&document(&bytes)).len());
    let in_memory = || {
        supervisor.told();
        counts(&supervisor).iter().sum()
    };
    let (by_file, by_manager) = ("[state]\nsessions = \"runtime-dir\"\n", "");
    let ways: [(&str, &dyn Fn() -> usize); 2] = [(by_file, &in_file), (by_manager, &in_memory)];
    for (head, count) in ways {
        let config = Config::with(head, &[]);
        let start = || {
            let start = place.start_with(upstream.serve(&config.file()));
            if head.is_empty() {
                supervisor.start(start, [])
            } else {
                start.env("RUNTIME_DIRECTORY", file.parent().unwrap())
            }
        };
        upstream.gate.open();
        let first = started(start());
        let added: serde_json::Value = serde_json::from_str(&place.request(&with_id(&task)).stdout).unwrap();
        assert_eq!(read(&first, &added).status, 200);
        until("it is kept", || count() == 1);
        upstream.gate.close();
        place.task(&format!("rm {}", task.arn()));
        assert_eq!(count(), 0, "the revocation was answered");
        assert_eq!(place.request(&with_id(&task)).code(), 0);
        first.kill();

        let next = started(start());
        assert_eq!(read(&next, &added).status, 503, "{head}");
        place.task(&format!("rm {}", task.arn()));
    }
}

#[test]
fn a_refresh_that_was_answered_outlives_a_kill() {
    let (upstream, place, task) = (Upstream::new(), Place::new(), Task::new("web"));
    let runtime = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = runtime.path().join("taskcreds/sessions");
    let config = Config::with("[state]\nsessions = \"runtime-dir\"\n", &[]);
    let start = || place.start_with(upstream.serve(&config.file())).env("RUNTIME_DIRECTORY", file.parent().unwrap());
    let first = started(start());
    let added: serde_json::Value = serde_json::from_str(&place.request(&with_id(&task)).stdout).unwrap();
    let before = read(&first, &added);
    until("it is kept", || file.exists());
    upstream.gate.close();
    place.task(&format!("refresh {}", task.arn()));
    first.kill();

    let next = started(start());
    assert_eq!(read(&next, &added).body, before.body, "until there is another one");
    upstream.gate.open();
    until("there is another one", || read(&next, &added).body != before.body);
}

#[test]
fn a_revocation_whose_session_stays_in_the_folder_is_not_answered_as_done() {
    let (upstream, place, task) = (Upstream::new(), Place::new(), Task::new("web"));
    let runtime = tempfile::tempdir_in("/dev/shm").unwrap();
    let folder = runtime.path().join("taskcreds");
    let config = Config::with("[state]\nsessions = \"runtime-dir\"\n", &[]);
    let start = || place.start_with(upstream.serve(&config.file())).env("RUNTIME_DIRECTORY", &folder);
    let first = started(start());
    let added: serde_json::Value = serde_json::from_str(&place.request(&with_id(&task)).stdout).unwrap();
    assert_eq!(read(&first, &added).status, 200);
    until("it is kept", || folder.join("sessions").exists());
    // Where it cannot be written anew it is removed.
    fs::create_dir(folder.join("sessions.new")).unwrap();
    assert_eq!(place.run(&format!("rm {}", task.arn())).code(), 0);
    assert!(!folder.join("sessions").exists());
    // Where it cannot be removed either, that is told, and the revocation is in force.
    fs::create_dir(folder.join("sessions")).unwrap();
    assert_eq!(place.request(&with_id(&task)).code(), 0);
    assert_eq!(read(&first, &added).status, 200);
    assert_eq!(refusal(&place.run(&format!("rm {}", task.arn()))), (70, "StoreFailed".to_owned()));
    assert_eq!(read(&first, &added).status, 400);
    first.logs("its session is still kept");
}

#[test]
fn of_two_memories_the_newer_counts_whichever_its_name() {
    let (upstream, supervisor) = (Upstream::new(), Supervisor::new());
    let [early, late] = ["early", "late"].map(Task::new);
    let config = Config::new(std::slice::from_ref(&early));
    let first = supervisor.start(upstream.serve(&config.file()), []).spawn();
    assert_eq!(get(first.address(), &early.path()).status, 200);
    until("the first is kept", || supervisor.names() == ["sessions-a"] && counts(&supervisor) == [1]);
    let (_, older) = supervisor.kept().remove(0);
    rewrite(&config.file(), "", &[early.clone(), late.clone()]);
    until("the second task", || get(first.address(), &late.path()).status == 200);
    until("both are kept", || supervisor.names() == ["sessions-b"] && counts(&supervisor) == [2]);
    let (_, newer) = supervisor.kept().remove(0);
    first.kill();

    upstream.gate.close();
    for names in [["sessions-a", "sessions-b"], ["sessions-b", "sessions-a"]] {
        // As it is when a process was killed between storing the one and removing the other.
        let supervisor = Supervisor::new();
        for (name, memory) in names.into_iter().zip([&older, &newer]) {
            supervisor.keep(name, memory.try_clone().unwrap());
        }
        let next = supervisor.start(upstream.serve(&config.file()), []).spawn();
        for task in [&early, &late] {
            assert_eq!(get(next.address(), &task.path()).status, 200);
        }
        assert_eq!(next.end().code(), 0);
        assert_eq!(supervisor.told()[0], format!("FDSTOREREMOVE=1\nFDNAME={}", names[0]));
        assert_eq!(supervisor.names(), [names[1]]);
    }
}

/// One process, which leaves the session of its one task.
fn keep_one(upstream: &Upstream, supervisor: &Supervisor, config: &Config, task: &Task) {
    let first = supervisor.start(upstream.serve(&config.file()), []).spawn();
    assert_eq!(get(first.address(), &task.path()).status, 200);
    first.end();
    until("it is kept", || supervisor.names().len() == 1);
}

#[test]
fn a_memory_that_is_not_sealed_or_no_snapshot_costs_a_warning_and_an_sts_call() {
    let (upstream, supervisor, task) = (Upstream::new(), Supervisor::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    keep_one(&upstream, &supervisor, &config, &task);
    let (_, good) = supervisor.kept().remove(0);
    let bytes = contents(&good);

    let supervisor = Supervisor::new();
    supervisor.keep("sessions-a", memory(&bytes, SealFlags::WRITE));
    supervisor.keep("sessions-b", memory(&[0x80; 1000], ALL_SEALS));
    let next = supervisor.start(upstream.serve(&config.file()), []).spawn();
    assert_eq!(get(next.address(), &task.path()).status, 200);
    assert_eq!(upstream.sts.assume_role_calls().len(), 2);
    let log = next.end().stderr;
    assert_eq!(log.matches("are not gone on with").count(), 2, "{log}");
    assert!(log.contains("not sealed") && log.contains("not whole"), "{log}");
    assert_eq!(supervisor.told()[..2], ["a", "b"].map(|name| format!("FDSTOREREMOVE=1\nFDNAME=sessions-{name}")));
    assert_eq!(supervisor.names().len(), 1, "they are replaced");
}

#[test]
fn the_sessions_of_another_sts_do_not_go_on() {
    let (upstream, supervisor, task) = (Upstream::new(), Supervisor::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    keep_one(&upstream, &supervisor, &config, &task);

    let another = Upstream::new();
    let next = supervisor.start(another.serve(&config.file()), []).spawn();
    assert_eq!(get(next.address(), &task.path()).status, 200);
    assert_eq!((upstream.sts.assume_role_calls().len(), another.sts.assume_role_calls().len()), (1, 1));
    let log = next.end().stderr;
    let told = format!("they are from {}, and this process asks {}", upstream.gate.endpoint, another.gate.endpoint);
    assert!(log.contains(&told), "{log}");
    // Nor do they come back with their STS.
    let back = supervisor.start(upstream.serve(&config.file()), []).spawn();
    assert_eq!(get(back.address(), &task.path()).status, 200);
    assert_eq!(upstream.sts.assume_role_calls().len(), 2);
}

#[test]
fn sessions_off_keeps_nothing_and_has_removed_what_was_kept() {
    let (upstream, supervisor, task) = (Upstream::new(), Supervisor::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    keep_one(&upstream, &supervisor, &config, &task);

    rewrite(&config.file(), "[state]\nsessions = \"off\"\n", std::slice::from_ref(&task));
    let next = supervisor.start(upstream.serve(&config.file()), []).spawn();
    assert_eq!(get(next.address(), &task.path()).status, 200);
    assert_eq!(upstream.sts.assume_role_calls().len(), 2);
    next.end();
    supervisor.told();
    assert!(supervisor.names().is_empty());
}

#[test]
fn in_a_runtime_folder_the_sessions_go_on_without_a_service_manager() {
    let (upstream, task) = (Upstream::new(), Task::new("web"));
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let (runtime, file) = (folder.path().join("taskcreds"), folder.path().join("taskcreds/sessions"));
    let config = Config::with("[state]\nsessions = \"runtime-dir\"\n", std::slice::from_ref(&task));
    let start = || upstream.serve(&config.file()).env("RUNTIME_DIRECTORY", &runtime);
    let first = start().spawn();
    let before = get(first.address(), &task.path());
    until("it is kept", || file.exists());
    first.kill();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&runtime), mode(&file)), (0o700, 0o600));

    upstream.gate.close();
    for _ in 0..2 {
        let next = start().spawn();
        assert_eq!(get(next.address(), &task.path()).body, before.body);
        assert_eq!(next.end().code(), 0);
    }
    assert_eq!(upstream.sts.assume_role_calls().len(), 1);

    // What others could have read or written is not taken.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let next = start().spawn();
    assert_eq!(get(next.address(), &task.path()).status, 503);
    assert!(next.end().stderr.contains("the file is not this user's alone"));

    // What is not said to be removed may be another instance's.
    fs::write(&file, "left over").unwrap();
    rewrite(&config.file(), "", std::slice::from_ref(&task));
    let without = start().spawn();
    without.says("listening on ");
    without.end();
    assert_eq!(
        fs::read(&file).unwrap(),
        b"left over",
        "without a service manager nothing is kept, and nothing removed"
    );

    rewrite(&config.file(), "[state]\nsessions = \"off\"\n", std::slice::from_ref(&task));
    let last = start().spawn();
    last.says("listening on ");
    assert!(!file.exists());
    last.end();
    assert!(!file.exists());
}

#[test]
fn a_process_that_does_not_come_to_serve_removes_no_sessions_and_ones_that_are_gone_are_kept_again() {
    let (upstream, supervisor, task) = (Upstream::new(), Supervisor::new(), Task::new("web"));
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = folder.path().join("taskcreds/sessions");
    let config = Config::with("[state]\nsessions = \"runtime-dir\"\n", std::slice::from_ref(&task));
    let start = |config: &Config| upstream.serve(&config.file()).env("RUNTIME_DIRECTORY", file.parent().unwrap());
    let first = start(&config).spawn();
    assert_eq!(get(first.address(), &task.path()).status, 200);
    until("it is kept", || file.exists());
    let before = fs::read(&file).unwrap();

    supervisor.keep("sessions-a", memory(&before, ALL_SEALS));
    let off = Config::with("[state]\nsessions = \"off\"\n", std::slice::from_ref(&task));
    let taken = format!("--listen {}", first.address());
    let refused = supervisor.start(start(&off).args(&taken), []).run();
    assert_eq!(refused.code(), 69, "{}", refused.stderr);
    assert_eq!((fs::read(&file).unwrap(), supervisor.told()), (before, Vec::new()));

    fs::remove_file(&file).unwrap();
    until("it is kept again", || file.exists());
    first.kill();
    upstream.gate.close();
    assert_eq!(get(start(&config).spawn().address(), &task.path()).status, 200);
}

#[test]
fn a_runtime_folder_on_a_disk_is_refused() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = Config::with("[state]\nsessions = \"runtime-dir\"\n", &[Task::new("web")]);
    let start = rig::taskcreds("serve").arg("--config").arg(config.file()).args("--listen 127.0.0.1:0");
    let ended = start.env("RUNTIME_DIRECTORY", folder.path()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""));
    assert!(ended.stderr.contains("is not on tmpfs"), "{}", ended.stderr);
}
