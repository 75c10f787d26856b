//! The audit log: what the files say after real requests, and the search in them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::slice;

use serde_json::Value;

use crate::http::{Connection, get, get_with_token, request};
use crate::operations::metric;
use crate::rig::{self, Process, until};
use crate::secrets;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// A proxy with these tasks and this `[audit]`.
fn serve(sts: &Sts, audit: &str, tasks: &[Task]) -> Process {
    let head = format!("operations_listen = \"127.0.0.1:0\"\n[audit]\n{audit}\n");
    rig::serve(Config::with(&head, tasks)).envs(sts.environment()).spawn()
}

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = secrets::found_in(&text, &[]);
    assert!(found.is_empty(), "the audit log holds secrets: {found:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The records of both files, in the order of their times.
pub(crate) fn all_records(file: &Path) -> Vec<Value> {
    let mut all = records(file);
    all.extend(records(&file.with_file_name("audit-refused.log")));
    all.sort_by_key(|record| record["time"].as_str().unwrap().to_owned());
    all
}

/// The audit log in both formats, in a folder of its own, and the settings for it.
pub(crate) fn audited() -> (tempfile::TempDir, PathBuf, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let (json, ecs) = (folder.path().join("audit.log"), folder.path().join("ecs.log"));
    let settings = format!("file = {json:?}\necs_file = {ecs:?}\n");
    (folder, json, ecs, settings)
}

#[test]
fn every_answer_and_every_call_to_sts_has_its_record_in_both_formats() {
    let (sts, task) = (Sts::new(), Task::with_token("web"));
    let (_folder, json, ecs, settings) = audited();
    let proxy = serve(&sts, &settings, slice::from_ref(&task));
    let (address, token) = (proxy.address(), task.token.clone().unwrap());
    let session = get_with_token(address, &task.path(), &token).json();
    assert_eq!(get_with_token(address, &task.path(), "a-wrong-token-of-somebody").status, 401);
    let unknown = "/v1/credentials?id=00000000-0000-0000-0000-000000000000";
    assert_eq!(get(address, unknown).status, 400);
    let text = "GET /v2/credentials HTTP/1.1\r\nHost: evil.example\r\nUser-Agent: \"a\\ b\r\n\r\n";
    assert_eq!(Connection::open(address).send(text).answer().status, 403);
    assert_eq!(Connection::open(address).send("no HTTP at all\r\n\r\n").answer().status, 400);
    assert_eq!(proxy.end().code(), 0);

    let all = all_records(&json);
    let of = |event: &str| all.iter().filter(|record| record["event"] == event).collect::<Vec<_>>();
    let [mint] = of("mint")[..] else { panic!("{all:?}") };
    assert_eq!(mint["outcome"], "loaded");
    assert_eq!(mint["accessKeyId"], session["AccessKeyId"]);
    assert_eq!(mint["assumedRoleArn"], task.identity().as_str());
    assert_eq!(mint["taskArn"], task.arn().as_str());
    assert!(mint["tagKeys"].as_array().unwrap().contains(&"ecs-task-arn".into()), "{mint}");
    for key in ["assumedRoleId", "expiration", "stsRequestId", "time", "idDigest", "roleArn", "sessionName"] {
        assert!(mint[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {mint}");
    }
    let answers = of("answer");
    let told: Vec<_> =
        answers.iter().map(|it| (it["status"].as_u64().unwrap(), it["code"].as_str().unwrap_or("-"))).collect();
    let expected = [
        (200, "-"),
        (401, "Unauthorized"),
        (400, "InvalidIdInRequest"),
        (403, "AccessDenied"),
        (400, "InvalidRequest"),
    ];
    // The one that ends the process asks once more; of one millisecond the order is not told.
    assert_eq!(told.len(), expected.len() + 1);
    assert!(expected.iter().all(|one| told.contains(one)), "{told:?}");
    let answered = |status: u64, code: &str| {
        *answers.iter().find(|it| it["status"] == status && it["code"].as_str().unwrap_or("-") == code).unwrap()
    };
    let handed_out = records(&json);
    assert!(handed_out.iter().all(|it| it["event"] == "mint" || it["status"] == 200));
    let served = answered(200, "-");
    assert_eq!(served["accessKeyId"], session["AccessKeyId"]);
    assert_eq!((&served["taskArn"], &served["idDigest"]), (&mint["taskArn"], &mint["idDigest"]));
    assert_eq!((&served["path"], &served["roleKind"]), (&"/v2/credentials".into(), &"task".into()));
    assert!(served["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{served}");
    let wrong_token = answered(401, "Unauthorized");
    assert_eq!(
        (&wrong_token["idDigest"], &wrong_token["taskArn"]),
        (&mint["idDigest"], &mint["taskArn"]),
        "whose id it was, though the token was wrong"
    );
    assert!(wrong_token.get("accessKeyId").is_none());
    assert_eq!(answered(400, "InvalidIdInRequest")["path"], "/v1/credentials");
    assert_eq!(answered(403, "AccessDenied")["userAgent"], "\"a\\ b");

    let text = fs::read_to_string(&ecs).unwrap();
    assert!(secrets::found_in(&text, &[]).is_empty());
    assert_eq!(text.lines().count(), answers.len());
    let first: Vec<_> = text.lines().next().unwrap().split(' ').collect();
    assert_eq!((first[1], first[3]), ("200", "\"/v2/credentials\""));
    assert_eq!(first[first.len() - 5..], [&task.arn(), "GetCredentials", "2", "prod", "-"]);
    assert!(text.contains("\"\\\"a\\\\ b\""), "{text}");
    let refused = text.lines().find(|line| line.contains(" 401 ")).unwrap();
    assert!(refused.ends_with(&format!(" {} GetCredentials 2 prod -", task.arn())), "{refused}");
}

#[test]
fn an_auditor_finds_the_task_of_a_key() {
    let (sts, tasks) = (Sts::new(), [Task::with_token("web"), Task::new("db")]);
    let (_folder, json, _, settings) = audited();
    let proxy = serve(&sts, &settings, &tasks);
    let token = tasks[0].token.as_ref().unwrap();
    let web = get_with_token(proxy.address(), &tasks[0].path(), token).json();
    assert_eq!(get(proxy.address(), &tasks[0].path()).status, 401);
    assert_eq!(get(proxy.address(), &tasks[1].path()).status, 200);
    assert_eq!(proxy.end().code(), 0);
    let audit = |arguments: &str| rig::taskcreds("audit").arg("--file").arg(&json).args(arguments).run();

    let key = web["AccessKeyId"].as_str().unwrap();
    let found = audit(&format!("--json --access-key-id {key}"));
    assert_eq!(found.code(), 0, "{}", found.stderr);
    let records: Vec<Value> = found.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().any(|it| it["event"] == "mint") && records.iter().any(|it| it["event"] == "answer"));
    assert!(records.iter().all(|it| it["taskArn"] == tasks[0].arn().as_str()), "{records:?}");

    let table = audit(&format!("--session-name {}", tasks[1].identity())).stdout;
    assert!(table.contains(&tasks[1].arn()) && !table.contains(&tasks[0].arn()), "{table}");
    let tried = audit(&format!("--task-arn {}", tasks[0].arn())).stdout;
    assert!(tried.contains(" 401 Unauthorized "), "who has the id and not the token is found by the task: {tried}");
    assert_eq!(audit("--access-key-id ASIANOBODY").code(), 1);
    assert_eq!(audit("--until 2020-01-01T00:00:00Z").code(), 1);

    // Put aside, and the one before it moved away.
    fs::rename(&json, json.with_file_name("audit.log.2")).unwrap();
    fs::write(&json, "").unwrap();
    assert_eq!(audit(&format!("--json --access-key-id {key}")).stdout, found.stdout);
}

#[test]
fn a_record_behind_a_line_that_a_process_before_has_torn_is_whole() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let (_folder, json, _, settings) = audited();
    let refused = json.with_file_name("audit-refused.log");
    for file in [&json, &refused] {
        fs::write(file, "{\"time\":\"2026-11-2").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let proxy = serve(&sts, &format!("{settings}required = true"), slice::from_ref(&task));
    assert_eq!(get(proxy.address(), &task.path()).status, 200);
    assert_eq!(get(proxy.address(), "/v1/credentials?id=00000000-0000-0000-0000-000000000000").status, 400);
    assert_eq!(proxy.end().code(), 0);
    // The call to STS, the answer, and that to what ends the process; the refusal.
    for (file, count) in [(&json, 3), (&refused, 1)] {
        let text = fs::read_to_string(file).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
        assert_eq!((whole, text.lines().count()), (count, count + 1), "{text}");
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_refused_and_the_mending_told() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let (folder, json, _, settings) = audited();
    let start = || {
        let config = Config::with(&format!("[audit]\n{settings}"), slice::from_ref(&task));
        rig::serve(config).envs(sts.environment())
    };
    let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    for bad in [0o777, 0o1777, 0o770] {
        mode(bad);
        let refused = start().run();
        let says = [" others may write to its folder ", &format!(" chmod go-w {}", folder.path().display())];
        assert_eq!(refused.code(), 69, "{}", refused.stderr);
        assert!(says.iter().all(|says| refused.stderr.contains(says)), "{}", refused.stderr);
        assert!(!json.exists());
    }
    mode(0o755);
    let proxy = start().spawn();
    assert_eq!(get(proxy.address(), &task.path()).status, 200);
    assert_eq!(proxy.end().code(), 0);
    assert!(json.exists());
}

/// `/dev/full` takes nothing, like a disk without room.
#[test]
fn a_full_disk_does_not_hold_readers_up_unless_records_are_required() {
    let sts = Sts::new();
    for (settings, status) in [("file = \"/dev/full\"", 200), ("file = \"/dev/full\"\nrequired = true", 503)] {
        let task = Task::new("web");
        let proxy = serve(&sts, settings, slice::from_ref(&task));
        let answer = get(proxy.address(), &task.path());
        assert_eq!(answer.status, status, "{}", answer.body);
        if status == 503 {
            assert!(answer.error().1.contains("the audit log cannot be written"), "{answer:?}");
        }
        until("records are counted as lost", || {
            metric(&proxy, "taskcreds_audit_records_total{outcome=\"lost\"}") >= 2.0
        });
        assert!(proxy.logs("the audit log cannot be written").contains("records are lost and counted"));
    }
    let (task, (_folder, json, _, settings)) = (Task::new("web"), audited());
    let proxy = serve(&sts, &format!("{settings}required = true"), slice::from_ref(&task));
    assert_eq!(get(proxy.address(), &task.path()).status, 200);
    assert!(records(&json).iter().any(|record| record["status"] == 200), "it is there before the answer is");
}

/// A pipe that is full, as a disk that hangs.
fn hanging(path: &Path) -> File {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let reader = File::options().read(true).write(true).open(path).unwrap();
    let full = File::options().write(true).open(path).unwrap();
    rustix::fs::fcntl_setfl(&full, rustix::fs::OFlags::NONBLOCK).unwrap();
    while (&full).write(&[0; 4096]).is_ok() {}
    reader
}

#[test]
fn a_disk_that_hangs_keeps_no_reader_and_no_end_waiting() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let (_folder, json, ecs, settings) = audited();
    let refused = json.with_file_name("audit-refused.log");
    let _hangs = [&json, &ecs, &refused].map(|path| hanging(path));
    let proxy = serve(&sts, &settings, slice::from_ref(&task));
    assert_eq!(get(proxy.address(), &task.path()).status, 200);
    let ended = proxy.end();
    assert_eq!(ended.code(), 0);
    assert!(ended.stderr.contains("the disk of the audit log hangs"), "{}", ended.stderr);
}

#[test]
fn under_load_no_record_is_lost_and_the_end_waits_for_the_last_one() {
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 2_000;
    let (sts, task) = (Sts::new(), Task::new("web"));
    let (_folder, json, _, settings) = audited();
    let proxy = serve(&sts, &settings, slice::from_ref(&task));
    let address = proxy.address();
    assert_eq!(get(address, &task.path()).status, 200);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::open(address);
                for _ in 0..REQUESTS {
                    assert_eq!(connection.send(request(address, &task.path(), None)).answer().status, 200);
                }
            });
        }
    });
    // One more is asked for at the end, by what ends the process.
    assert_eq!(proxy.end().code(), 0);
    let answers = records(&json).iter().filter(|record| record["event"] == "answer").count();
    assert_eq!(answers, CONNECTIONS * REQUESTS + 2);
}

#[test]
fn a_task_that_is_asked_for_from_elsewhere_looks_like_none_and_is_on_record() {
    let (sts, task) = (Sts::new(), Task::new("web").and("sources = [\"127.0.0.2\", \"10.0.0.0/8\"]"));
    let (_folder, json, _, settings) = audited();
    let proxy = serve(&sts, &settings, slice::from_ref(&task));
    let address = proxy.address();
    let ask = |from: [u8; 4], path: &str| {
        let mut connection = Connection::open_from(from, address);
        connection.send(request(address, path, None)).answer()
    };
    let unknown = ask([127, 0, 0, 3], "/v2/credentials/00000000-0000-0000-0000-000000000000");
    let elsewhere = ask([127, 0, 0, 3], &task.path());
    assert_eq!((elsewhere.status, &elsewhere.body), (400, &unknown.body));
    assert_eq!(ask([127, 0, 0, 2], &task.path()).status, 200);
    assert_eq!(proxy.end().code(), 0);
    let all = all_records(&json);
    let of = |peer: &str| {
        all.iter().filter(|it| it["peer"].as_str().is_some_and(|text| text.starts_with(peer))).collect::<Vec<_>>()
    };
    let [first, second] = of("127.0.0.3:")[..] else { panic!("{all:?}") };
    let wrong = if first["reason"] == "WrongSource" { first } else { second };
    assert_eq!(wrong["reason"], "WrongSource");
    let served = of("127.0.0.2:")[0];
    for key in ["idDigest", "taskArn", "sessionName"] {
        assert_eq!(wrong[key], served[key], "it tells whose id was used");
    }
    let unknown = if first["reason"] == "WrongSource" { second } else { first };
    assert!(unknown.get("taskArn").is_none(), "{unknown}");
}
