//! The configuration file changes while the proxy runs.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::Signal;

use crate::http::get;
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
    replace(&file, std::slice::from_ref(&task));
    let proxy = serve(&sts, &file);
    assert_eq!(status(&proxy, &task), 200);

    fs::write(&file, "listen = 7\nno_such_key = 1\n").unwrap();
    let log = proxy.logs("unknown key");
    assert!(log.contains("listen: must be a list") && log.contains("the last good one stays in force"), "{log}");
    assert_eq!(status(&proxy, &task), 200);

    // Mended, it is taken over.
    replace(&file, std::slice::from_ref(&task));
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
        replace(&folder.path().join(version).join("taskcreds.toml"), std::slice::from_ref(task));
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
