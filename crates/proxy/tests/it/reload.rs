//! The configuration file changes while the proxy runs.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::slice;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::http::get;
use crate::operations::{metric, operations};
use crate::rig::{self, Process, until};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

fn serve(sts: &Sts, file: &Path) -> Process {
    let start = rig::taskcreds("serve").arg("--config").arg(file).args("--listen 127.0.0.1:0");
    start.envs(sts.environment()).spawn()
}

/// Writes a new version beside the file and renames it over the file, as editors do.
fn replace(file: &Path, tasks: &[Task]) {
    let next = file.with_extension("next");
    fs::copy(Config::new(tasks).file(), &next).unwrap();
    fs::rename(next, file).unwrap();
}

fn status(proxy: &Process, task: &Task) -> u16 {
    get(proxy.address(), &task.path()).status
}

/// How many reloads were refused.
fn faults(proxy: &Process) -> f64 {
    metric(proxy, "taskcreds_config_reloads_total{outcome=\"refused\"}")
}

#[test]
fn a_file_that_is_replaced_adds_and_revokes_tasks_and_costs_the_others_no_sts_call() {
    let (sts, folder) = (Sts::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("taskcreds.toml");
    let [kept, gone, new] = ["kept", "gone", "new"].map(Task::new);
    replace(&file, &[kept.clone(), gone.clone()]);
    let proxy = serve(&sts, &file);
    let body = get(proxy.address(), &kept.path()).body;
    assert_eq!(status(&proxy, &gone), 200);
    assert_eq!(status(&proxy, &new), 400);
    assert_eq!(sts.assume_role_calls().len(), 2);

    replace(&file, &[kept.clone(), new.clone()]);
    proxy.logs("configuration reloaded");
    assert_eq!(status(&proxy, &new), 200);
    assert_eq!(status(&proxy, &gone), 400);
    assert_eq!(get(proxy.address(), &kept.path()).body, body);
    assert_eq!(sts.assume_role_calls().len(), 3);
}

#[test]
fn a_bad_file_keeps_the_last_good_one_in_force_and_every_fault_is_logged() {
    let (sts, folder) = (Sts::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("taskcreds.toml");
    let task = Task::new("web");
    replace(&file, slice::from_ref(&task));
    let proxy = serve(&sts, &file);
    assert_eq!(status(&proxy, &task), 200);

    fs::write(&file, "listen = 7\nno_such_key = 1\n").unwrap();
    let log = proxy.logs("unknown key");
    assert!(log.contains("listen: must be a list") && log.contains("the last good one stays in force"), "{log}");
    assert_eq!(status(&proxy, &task), 200);

    // Mended, it is taken over.
    replace(&file, slice::from_ref(&task));
    proxy.logs("configuration reloaded");
    assert_eq!(status(&proxy, &task), 200);
    assert_eq!(sts.assume_role_calls().len(), 1);
}

/// Kubernetes mounts a configuration as a link to `..data/NAME`, where `..data` is a link that it swaps.
#[test]
fn a_link_that_is_swapped_as_kubernetes_does_is_a_change() {
    let (sts, folder) = (Sts::new(), tempfile::tempdir().unwrap());
    let [before, after] = ["before", "after"].map(Task::new);
    for (version, task) in [("v1", &before), ("v2", &after)] {
        fs::create_dir(folder.path().join(version)).unwrap();
        replace(&folder.path().join(version).join("taskcreds.toml"), slice::from_ref(task));
    }
    let (data, file) = (folder.path().join("..data"), folder.path().join("taskcreds.toml"));
    symlink("v1", &data).unwrap();
    symlink("..data/taskcreds.toml", &file).unwrap();
    let proxy = serve(&sts, &file);
    assert_eq!(status(&proxy, &before), 200);

    symlink("v2", folder.path().join("..data_tmp")).unwrap();
    fs::rename(folder.path().join("..data_tmp"), &data).unwrap();
    proxy.logs("configuration reloaded");
    assert_eq!(status(&proxy, &before), 400);
    assert_eq!(status(&proxy, &after), 200);
}

#[test]
fn sighup_reloads_and_an_id_that_was_made_stays_as_it_is() {
    let (sts, folder) = (Sts::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("taskcreds.toml");
    replace(&file, &[Task::without_id("web")]);
    let proxy = serve(&sts, &file);
    let said = proxy.says("/v2/credentials/");
    let (_, id) = said.trim_end().rsplit_once("/v2/credentials/").unwrap();
    let path = format!("/v2/credentials/{id}");
    assert_eq!(get(proxy.address(), &path).status, 200);
    proxy.signal(Signal::HUP);
    proxy.logs("configuration reloaded");
    assert_eq!(get(proxy.address(), &path).status, 200);
    until("no more than the one call", || sts.assume_role_calls().len() == 1);
    assert_eq!(proxy.end().code(), 0);
}

/// Its first tasks are a file without faults.
#[test]
fn a_file_that_is_being_written_in_place_is_not_taken_for_one_with_fewer_tasks() {
    let (sts, folder) = (Sts::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("taskcreds.toml");
    let [first, second, new] = ["first", "second", "new"].map(Task::new);
    replace(&file, &[first.clone(), second.clone()]);
    let proxy = serve(&sts, &file);
    assert_eq!(status(&proxy, &second), 200);

    let write = |tasks: &[Task], more: &str| {
        let text = fs::read_to_string(Config::new(tasks).file()).unwrap();
        fs::write(&file, text + more).unwrap();
    };
    let (start, mut more) = (Instant::now(), String::new());
    while start.elapsed() < Duration::from_millis(2_500) {
        more.push('#');
        write(slice::from_ref(&first), &more);
        rig::pause();
    }
    assert_eq!(status(&proxy, &second), 200);
    write(&[first, second.clone(), new.clone()], "");
    let log = proxy.logs("configuration reloaded");
    assert_eq!(log.matches("configuration reloaded").count(), 1);
    assert!(!log.contains("have ended"), "{log}");
    assert_eq!((status(&proxy, &second), status(&proxy, &new)), (200, 200));
}

#[test]
fn a_file_that_says_nothing_ends_no_task_and_one_that_ends_them_is_told_with_how_many() {
    let (sts, folder) = (Sts::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("taskcreds.toml");
    let tasks = ["web", "db"].map(Task::new);
    replace(&file, &tasks);
    let start = rig::taskcreds("serve").arg("--config").arg(&file).args("--listen 127.0.0.1:0");
    let proxy = start.args("--operations-listen 127.0.0.1:0").envs(sts.environment()).spawn();
    assert_eq!(status(&proxy, &tasks[0]), 200);
    fs::write(&file, "").unwrap();
    until("a fault", || faults(&proxy) >= 1.0);
    let unready = get(operations(&proxy), "/readyz");
    assert_eq!((unready.status, unready.json()["reasons"][0]["check"].as_str()), (503, Some("config")));
    assert_eq!(status(&proxy, &tasks[0]), 200);
    fs::write(&file, "\n  # listen = []\n").unwrap();
    proxy.signal(Signal::HUP);
    until("a fault", || faults(&proxy) >= 2.0);
    assert_eq!(status(&proxy, &tasks[0]), 200);

    fs::write(&file, "task = []\n").unwrap();
    proxy.signal(Signal::HUP);
    let log = proxy.logs("configuration reloaded");
    assert!(
        log.lines().any(|line| line.contains(" WARN ") && line.contains("of 2 roles of tasks have ended")),
        "{log}"
    );
    assert_eq!(status(&proxy, &tasks[0]), 400);
    // The log has it a moment before.
    until("ready", || get(operations(&proxy), "/readyz").status == 200);
}

#[test]
fn what_can_be_read_once_only_is_not_read_again() {
    let (sts, folder, task) = (Sts::new(), tempfile::tempdir().unwrap(), Task::new("web"));
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let proxy = serve(&sts, &pipe);
    // Waits for the reader.
    fs::copy(Config::new(slice::from_ref(&task)).file(), &pipe).unwrap();
    assert_eq!(status(&proxy, &task), 200);
    proxy.signal(Signal::HUP);
    proxy.logs("is no regular file and is read once");
    assert_eq!(status(&proxy, &task), 200);
}
