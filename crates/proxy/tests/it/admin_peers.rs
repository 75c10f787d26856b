//! Who may reach the admin socket, what each user may do there (real processes of real users), and what is the file's alone.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::process::{Signal, getegid, geteuid};

use crate::http::get;
use crate::place::{Place, read, readiness, refusal, started};
use crate::rig::{self, Ended, Process, until};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{ACCOUNT, Config, Task};

/// The proxy's own user and the group of its socket.
const OWN: u32 = 31_000;
const GROUP: u32 = 31_100;
/// Users with a rule.
const CI: u32 = 31_001;
const WEB: u32 = 31_002;
/// A user without one, in the group.
const NOBODY: u32 = 31_003;

fn needs_root(test: &str) -> bool {
    let root =
        if geteuid().is_root() { Ok(()) } else { Err("only root can start processes of other users".to_owned()) };
    skip::unless(test, root).is_some()
}

fn arn(cluster: &str, name: &str) -> String {
    format!("arn:aws:ecs:us-west-2:{ACCOUNT}:task/{cluster}/{name}")
}

fn add(cluster: &str, name: &str, roles: &str) -> String {
    let roles = roles.replace("=", &format!(" arn:aws:iam::{ACCOUNT}:role/"));
    format!("add --task-arn {} {roles}", arn(cluster, name))
}

/// A proxy of the user `OWN`, whose configuration has these rules and one task.
fn config() -> Config {
    let rules = format!(
        "[admin]\nsocket = \"/elsewhere\"\ngid = {GROUP}\n\
         [[admin.allow]]\nuid = {CI}\nrole_arns = [\"arn:aws:iam::{ACCOUNT}:role/ci-*\"]\n\
         task_arns = [\"arn:aws:ecs:*:{ACCOUNT}:task/ci/*\"]\nmax_tasks = 2\n\
         [[admin.allow]]\nuid = {WEB}\nrole_arns = [\"arn:aws:iam::{ACCOUNT}:role/web\"]\n"
    );
    let config = Config::with(&rules, &[Task::new("of-the-file")]);
    for path in [config.file().parent().unwrap(), &config.file()] {
        chown(path, Some(OWN), None).unwrap();
    }
    config
}

#[test]
fn each_user_may_register_see_and_change_what_its_rule_says_and_nothing_else() {
    if !needs_root("the users of the admin socket") {
        return;
    }
    let (sts, place, config) = (Sts::new(), Place::new(), config());
    let of_the_file = config.tasks[0].clone();
    chown(place.folder.path(), Some(OWN), None).unwrap();
    fs::set_permissions(place.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let proxy = started(place.start_with(rig::serve(config)).envs(sts.environment()).user(OWN, GROUP));
    let run = |uid: u32, gid: u32, arguments: &str| -> Ended {
        rig::task().args(arguments).arg("--socket").arg(place.socket()).user(uid, gid).run()
    };
    let (ok, denied, full, not_found) = (0, "AccessDenied", "TooManyTasks", "TaskNotFound");
    let table = [
        (0, add("prod", "of-root", "--role-arn=web"), ok, ""),
        (OWN, add("prod", "of-own", "--role-arn=db"), ok, ""),
        // Roles, task ARNs, how many.
        (CI, add("ci", "one", "--role-arn=web"), 77, denied),
        (CI, add("ci", "one", "--role-arn=ci-"), ok, ""),
        (CI, add("ci", "one", "--role-arn=ci-"), ok, ""),
        (CI, add("ci", "two", "--role-arn=ci-x/admin"), 77, denied),
        (CI, add("ci", "two", "--role-arn=xci-x"), 77, denied),
        (CI, add("prod", "two", "--role-arn=ci-x"), 77, denied),
        (CI, add("ci/two", "other", "--role-arn=ci-x"), 64, "ValidationError"),
        (CI, add("ci", "two", "--role-arn=ci-x --execution-role-arn=web"), 77, denied),
        (CI, add("ci", "two", "--role-arn=ci-x --execution-role-arn=ci-y"), 77, full),
        (CI, add("ci", "two", "--role-arn=ci-x"), ok, ""),
        (CI, add("ci", "three", "--role-arn=ci-x"), 77, full),
        (CI, add("ci", "one", "--role-arn=ci-"), ok, ""),
        (WEB, add("ci", "of-web", "--role-arn=web"), ok, ""),
        (WEB, add("prod", "of-web", "--role-arn=web"), ok, ""),
        (WEB, add("prod", "other", "--role-arn=ci-x"), 77, denied),
        (WEB, add("prod", "other", "--role-arn=web2"), 77, denied),
        (WEB, add("prod", "of-root", "--role-arn=web"), 1, "TaskConflict"),
        (NOBODY, add("prod", "other", "--role-arn=web"), 77, denied),
        (NOBODY, "ls".to_owned(), 77, denied),
        (NOBODY, format!("show {}", arn("ci", "one")), 77, denied),
        (NOBODY, format!("rm {}", arn("ci", "one")), 77, denied),
        (NOBODY, format!("rotate {}", arn("ci", "one")), 77, denied),
        (NOBODY, format!("refresh {}", arn("ci", "one")), 77, denied),
        // Changing what the file has.
        (0, format!("rm {}", of_the_file.arn()), 1, "TaskConflict"),
        (OWN, format!("rotate {}", of_the_file.arn()), 1, "TaskConflict"),
        // Its own; and when one is gone there is room for one more.
        (CI, format!("rotate {}", arn("ci", "two")), ok, ""),
        (CI, format!("refresh {}", arn("ci", "two")), ok, ""),
        (CI, format!("rm {}", arn("ci", "two")), ok, ""),
        (CI, format!("rm {}", arn("ci", "two")), 1, not_found),
        (CI, add("ci", "three", "--role-arn=ci-x"), ok, ""),
        (0, format!("rm {}", arn("ci", "three")), ok, ""),
        (OWN, format!("rotate {}", arn("ci", "of-web")), ok, ""),
    ];
    let mut wrong = Vec::new();
    for (uid, arguments, exit, code) in &table {
        let ended = run(*uid, GROUP, arguments);
        let found = if ended.code() == 0 { (0, String::new()) } else { refusal(&ended) };
        if found != (*exit, (*code).to_owned()) {
            wrong.push(format!("uid {uid}: {arguments}: {found:?}, not {exit} {code}: {}", ended.stderr));
        }
    }
    // What a user may not see looks like what is not there.
    let others = [arn("prod", "of-root"), arn("ci", "of-web"), arn("prod", "of-web"), of_the_file.arn()];
    for verb in ["show", "rm", "rotate", "refresh"] {
        for other in &others {
            let (there, not) = (run(CI, GROUP, &format!("{verb} {other}")), arn("ci", "not-there"));
            let not_there = run(CI, GROUP, &format!("{verb} {not}"));
            if (there.code(), there.stderr.replace(other, &not)) != (1, not_there.stderr) {
                wrong.push(format!("{verb} {other}: {}", there.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong decisions:\n{}", wrong.len(), wrong.join("\n"));
    let sees = |uid: u32| {
        let list: serde_json::Value = serde_json::from_str(&run(uid, GROUP, "ls --json").stdout).unwrap();
        let names = list["tasks"].as_array().unwrap().iter().map(|task| task["taskArn"].as_str().unwrap().to_owned());
        names.map(|arn| arn.split_once("task/").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let of_file = format!("prod/{}", of_the_file.task_id);
    let all = ["ci/of-web", "ci/one", &of_file, "prod/of-own", "prod/of-root", "prod/of-web"];
    assert_eq!(sees(CI), ["ci/one"]);
    assert_eq!(sees(WEB), ["ci/of-web", "prod/of-web"]);
    for uid in [0, OWN] {
        let mut seen = sees(uid);
        seen.sort();
        let mut all = all.to_vec();
        all.sort_unstable();
        assert_eq!(seen, all);
    }
    // Who is not in the group does not come so far, whatever its rule.
    let outside = run(CI, CI, "ls");
    assert_eq!(outside.code(), 77, "{}", outside.stderr);
    assert!(outside.stderr.contains("only the user that runs taskcreds, root and the group"), "{}", outside.stderr);
    println!("{} decisions as the table says", table.len() + 4 * others.len());
    drop(proxy);
}

#[test]
fn the_socket_is_its_users_alone_or_its_groups_and_gone_at_the_end() {
    let (sts, place) = (Sts::new(), Place::new());
    let mode = || fs::symlink_metadata(place.socket()).map(|it| (it.mode() & 0o7777, it.gid())).unwrap();
    let own = getegid().as_raw();
    let proxy = place.serve(&sts);
    assert_eq!(mode(), (0o600, own));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), 0);
    assert!(!place.socket().exists());
    let gid = if geteuid().is_root() { GROUP } else { own };
    let config = Config::with(&format!("[admin]\nsocket = \"/elsewhere\"\ngid = {gid}\n"), &[]);
    let _proxy = started(place.start_with(rig::serve(config)).envs(sts.environment()));
    assert_eq!(mode(), (0o660, gid));
}

#[test]
fn the_socket_of_a_killed_process_is_replaced_and_nothing_else_is() {
    let (sts, place, other) = (Sts::new(), Place::new(), Place::new());
    let task = Task::without_id("web");
    let proxy = place.serve(&sts);
    proxy.signal(Signal::KILL);
    proxy.wait();
    assert!(place.socket().exists());
    let proxy = place.serve(&sts);
    let added = place.add(&task, "");
    let refused = |why: &str| {
        // Another store, so that it is the socket which is in the way.
        let start = rig::taskcreds("serve").args("--listen 127.0.0.1:0 --state-dir").arg(other.state());
        let ended = start.arg("--admin-socket").arg(place.socket()).envs(sts.environment()).run();
        assert_eq!(ended.code(), 69, "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    };
    refused("another program listens on it");
    assert_eq!((read(&proxy, &added).status, place.list().len()), (200, 1));
    proxy.end();

    fs::write(place.socket(), "a file").unwrap();
    refused("there is something else in its place");
    assert_eq!(fs::read(place.socket()).unwrap(), b"a file");
    fs::remove_file(place.socket()).unwrap();
    fs::set_permissions(place.folder.path(), Permissions::from_mode(0o777)).unwrap();
    refused("others may write to its folder");
    assert!(!place.socket().exists());
}

fn serve_file(place: &Place, file: &Path, sts: &Sts) -> Process {
    let serve = rig::taskcreds("serve").args("--listen 127.0.0.1:0 --config").arg(file);
    started(place.start_with(serve).envs(sts.environment()))
}

fn replace(file: &Path, tasks: &[&Task]) {
    let next = file.with_extension("next");
    fs::copy(Config::new(&tasks.iter().map(|task| (*task).clone()).collect::<Vec<_>>()).file(), &next).unwrap();
    fs::rename(next, file).unwrap();
}

#[test]
fn the_files_tasks_are_changed_in_the_file_and_its_reload_leaves_the_sockets_alone() {
    let (sts, place) = (Sts::new(), Place::new());
    let file = place.folder.path().join("taskcreds.toml");
    let [first, second, of_socket] = ["first", "second", "of-socket"].map(Task::new);
    replace(&file, &[&first]);
    let proxy = serve_file(&place, &file, &sts);
    let added = place.add(&of_socket, "");
    let body = read(&proxy, &added).body;
    let status = |task: &Task| get(proxy.address(), &task.path()).status;
    for verb in ["rm", "rotate"] {
        assert_eq!(refusal(&place.run(&format!("{verb} {}", first.arn()))), (1, "TaskConflict".to_owned()));
    }
    let again = place.run(&format!("add --task-arn {} --role-arn {}", first.arn(), first.role_arn()));
    assert_eq!(refusal(&again), (1, "TaskConflict".to_owned()));
    assert_eq!(status(&first), 200);

    replace(&file, &[&second]);
    proxy.logs("configuration reloaded");
    assert_eq!((status(&first), status(&second)), (400, 200));
    assert_eq!(read(&proxy, &added).body, body);

    replace(&file, &[&first, &second, &of_socket]);
    // What both name is the file's: who registers tasks cannot keep it from being taken over.
    let log = proxy.logs("a registration of the admin socket has ended");
    assert!(log.contains(&of_socket.arn()), "{log}");
    until("the file's tasks are there", || (status(&first), status(&second), status(&of_socket)) == (200, 200, 200));
    assert_eq!(read(&proxy, &added).status, 400);
    assert_eq!(readiness(&proxy)["ready"], true);
}

/// A proxy that is started with a task in its file which the store has too, and what the socket has told of that task.
fn in_both(place: &Place, file: &Path, sts: &Sts, task: &Task) -> (Process, serde_json::Value) {
    replace(file, &[&Task::new("another")]);
    let proxy = serve_file(place, file, sts);
    let added = place.add(task, "");
    proxy.end();
    replace(file, &[task]);
    (serve_file(place, file, sts), added)
}

#[test]
fn a_task_that_file_and_store_have_is_the_files_and_that_is_told() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::new("web"));
    let (proxy, added) = in_both(&place, &place.folder.path().join("taskcreds.toml"), &sts, &task);
    let log = proxy.logs("a registration of the admin socket is not in force");
    assert!(log.contains("registered already, by the configuration file"), "{log}");
    assert_eq!((get(proxy.address(), &task.path()).status, read(&proxy, &added).status), (200, 400));
    assert_eq!(readiness(&proxy)["ready"], true);
}

#[test]
fn a_task_that_the_file_has_given_up_and_rm_has_revoked_is_not_back_after_a_restart() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::new("web"));
    let file = place.folder.path().join("taskcreds.toml");
    let (proxy, before) = in_both(&place, &file, &sts, &task);
    replace(&file, &[&Task::new("another")]);
    proxy.logs("configuration reloaded");
    let added = place.add(&task, "");
    place.task(&format!("rm {}", task.arn()));
    proxy.end();
    let proxy = serve_file(&place, &file, &sts);
    assert_eq!((read(&proxy, &added).status, read(&proxy, &before).status), (400, 400));
}

#[test]
fn a_rule_that_was_taken_away_takes_its_registrations_along_and_gives_them_back() {
    if !needs_root("the users of the admin socket") {
        return;
    }
    let (sts, place) = (Sts::new(), Place::new());
    fs::set_permissions(place.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let file = place.folder.path().join("taskcreds.toml");
    let rule = |role: &str| {
        format!(
            "[admin]\nsocket = \"/elsewhere\"\ngid = {GROUP}\n[[admin.allow]]\nuid = {CI}\nrole_arns = [\"arn:aws:iam::{ACCOUNT}:role/{role}\"]\n"
        )
    };
    let serve = |role: &str| {
        fs::write(&file, rule(role)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        serve_file(&place, &file, &sts)
    };
    let proxy = serve("ci-*");
    let ended = rig::task().args(&add("ci", "one", "--role-arn=ci-build")).args("--json --socket").arg(place.socket());
    let ended = ended.user(CI, GROUP).run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let added = crate::place::learn(serde_json::from_str(&ended.stdout).unwrap());
    assert_eq!(read(&proxy, &added).status, 200);
    proxy.end();
    for (role, status) in [("other", 400), ("ci-*", 200)] {
        let proxy = serve(role);
        assert_eq!(read(&proxy, &added).status, status, "{role}");
        assert_eq!(proxy.end().stderr.contains("is not in force"), status == 400);
    }
}

#[test]
fn users_that_hold_connections_keep_root_out_of_nothing() {
    if !needs_root("the users of the admin socket") {
        return;
    }
    let (sts, place, config) = (Sts::new(), Place::new(), config());
    chown(place.folder.path(), Some(OWN), None).unwrap();
    fs::set_permissions(place.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let _proxy = started(place.start_with(rig::serve(config)).envs(sts.environment()).user(OWN, GROUP));
    let hold = format!(
        "exec python3 -c 'import socket,sys\nheld=[]\nfor n in range(100):\n  s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); held.append(s)\nprint(\"held\",flush=True); sys.stdin.read()' {}",
        place.socket().display()
    );
    let holders = [CI, NOBODY].map(|uid| rig::shell(&hold, Path::new("/")).user(uid, GROUP).spawn());
    for holder in &holders {
        holder.says("held");
    }
    assert_eq!(place.run("ls").code(), 0);
}
