//! The admin socket of the real binary, asked by its own client, and in raw HTTP where that cannot say it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use taskcreds_sts_emulator::{Role, Roles};

use crate::http::{Answer, get_with_token};
use crate::place::{Place, identity, read, refusal, started, timed};
use crate::rig::{self, until};
use crate::sts::Sts;
use crate::tasks::{Config, Task, new_id};

#[test]
fn a_task_that_is_added_is_served_as_its_role_and_the_same_again_changes_nothing() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let added = place.add(&task, "");
    assert_eq!((&added["taskArn"], &added["roleArn"]), (&json!(task.arn()), &json!(task.role_arn())));
    assert_eq!(added["relativeUri"], json!(format!("/v2/credentials/{}", added["credentialsId"].as_str().unwrap())));
    let full = format!("http://{}{}", proxy.address(), added["relativeUri"].as_str().unwrap());
    assert_eq!((&added["fullUri"], &added["created"]), (&json!(full), &json!(true)));
    assert!(["loading", "served"].contains(&added["state"].as_str().unwrap()), "{added}");
    let body = read(&proxy, &added);
    assert_eq!(identity(&sts, &body), task.identity());

    let again = place.add(&task, "");
    assert_eq!((&again["credentialsId"], &again["created"]), (&added["credentialsId"], &json!(false)));
    assert_eq!((&again["fullUri"], &again["state"]), (&added["fullUri"], &json!("served")));
    assert_eq!(read(&proxy, &again).body, body.body);
    assert_eq!(sts.assume_role_calls().len(), 1);
    let other = place.run(&format!("add --task-arn {} --role-arn {}-2", task.arn(), task.role_arn()));
    assert_eq!(refusal(&other), (1, "TaskConflict".to_owned()));
    for command in ["rm", "rotate", "refresh"] {
        let ended = place.run(&format!("{command} {} --role-kind execution", task.arn()));
        assert!(ended.code() == 1 && ended.stderr.contains("has no execution role"), "{command}: {}", ended.stderr);
    }
    assert_eq!(read(&proxy, &again).status, 200);
}

#[test]
fn an_execution_role_has_an_id_and_a_session_of_its_own() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let added = place.add(&task, &format!("--execution-role-arn {}-execution", task.role_arn()));
    let execution = &added["execution"];
    assert_ne!(added["credentialsId"], execution["credentialsId"]);
    assert_eq!(identity(&sts, &read(&proxy, &added)), task.identity());
    let other = task.identity().replace("/web/", "/web-execution/");
    assert_eq!(identity(&sts, &read(&proxy, execution)), other);
    assert_eq!(sts.assume_role_calls().len(), 2);
}

#[test]
fn a_task_with_a_token_is_401_without_it_and_200_with_it() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let added = place.add(&task, "--with-token");
    let token = added["token"].as_str().unwrap();
    assert_eq!(read(&proxy, &added).status, 401);
    assert_eq!(get_with_token(proxy.address(), added["relativeUri"].as_str().unwrap(), token).status, 200);
    assert_eq!(place.add(&task, "--with-token")["token"], json!(token));
    assert_eq!(refusal(&place.run(&add(&task))), (1, "TaskConflict".to_owned()));
}

fn add(task: &Task) -> String {
    format!("add --task-arn {} --role-arn {}", task.arn(), task.role_arn())
}

#[test]
fn once_rm_has_answered_no_read_that_begins_is_answered_even_under_load() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let added = place.add(&task, "");
    assert_eq!(read(&proxy, &added).status, 200);
    let (is_over, served, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for behind in 0..25 {
                    while behind == 0 && !is_over.load(Ordering::SeqCst) {
                        served.fetch_add(usize::from(read(&proxy, &added).status == 200), Ordering::SeqCst);
                    }
                    let answer = read(&proxy, &added);
                    assert_eq!((answer.status, answer.error().0.as_str()), (400, "InvalidIdInRequest"));
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        until("they read", || served.load(Ordering::SeqCst) > 100);
        place.task(&format!("rm {}", task.arn()));
        is_over.store(true, Ordering::SeqCst);
    });
    assert_eq!(refused.load(Ordering::SeqCst), 200);
    assert!(place.list().is_empty());
    assert_eq!(refusal(&place.run(&format!("rm {}", task.arn()))), (1, "TaskNotFound".to_owned()));
}

#[test]
fn rotate_changes_the_id_and_keeps_the_session_and_refresh_does_the_opposite() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let added = place.add(&task, "");
    let body = read(&proxy, &added).body;
    let rotated = place.task(&format!("rotate {}", task.arn()));
    assert_eq!(read(&proxy, &added).status, 400);
    let after = read(&proxy, &rotated);
    assert_eq!((after.status, after.body), (200, body.clone()));
    assert_eq!(place.add(&task, "")["credentialsId"], rotated["credentialsId"]);
    assert_eq!(sts.assume_role_calls().len(), 1);

    place.task(&format!("refresh {}", task.arn()));
    until("another body", || read(&proxy, &rotated).body != body);
    assert_eq!(sts.assume_role_calls().len(), 2);
    assert_eq!(identity(&sts, &read(&proxy, &rotated)), task.identity());
}

#[test]
fn what_add_tells_after_a_rotation_opens_both_roles() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let more = format!("--with-token --execution-role-arn {}-execution", task.role_arn());
    place.add(&task, &more);
    place.task(&format!("rotate {}", task.arn()));
    let again = place.add(&task, &more);
    for role in [&again, &again["execution"]] {
        let token = role["token"].as_str().unwrap();
        let answer = get_with_token(proxy.address(), role["relativeUri"].as_str().unwrap(), token);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[test]
fn a_request_from_a_file_goes_with_the_other_flags() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let _proxy = place.serve(&sts);
    let file = place.folder.path().join("request.json");
    std::fs::write(&file, json!({"taskArn": task.arn(), "roleArn": task.role_arn()}).to_string()).unwrap();
    let flags = rig::task().args("add --request").arg(&file).arg("--socket").arg(place.socket()).args("--json").run();
    let variable = rig::task().args("add --request").arg(&file).env("TASKCREDS_ADMIN_SOCKET", place.socket()).run();
    assert_eq!((flags.code(), variable.code()), (0, 0), "{}{}", flags.stderr, variable.stderr);
}

#[test]
fn ls_and_show_tell_how_a_session_stands() {
    let arn = Task::without_id("web").role_arn();
    let sts = Sts::with(Roles::Listed(vec![Role { arn, ..Role::default() }]));
    let (place, [web, db]) = (Place::new(), ["web", "db"].map(Task::without_id));
    let proxy = place.serve(&sts);
    let added = place.add(&web, "");
    place.add(&db, "");
    let show = |task: &Task| place.task(&format!("show {}", task.arn()));
    until("both have been loaded", || show(&web)["state"] == "served" && show(&db)["state"] == "failing");
    let (served, failing) = (show(&web), show(&db));
    let body = read(&proxy, &added);
    assert_eq!((&served["expiration"], &served["failure"]), (&body.json()["Expiration"], &Value::Null));
    assert!(failing["failure"].as_str().unwrap().contains("AccessDenied") && failing["expiration"].is_null());
    for hidden in ["credentialsId", "relativeUri", "fullUri", "token"] {
        assert!(served[hidden].is_null(), "{hidden}");
    }
    let (ls, shown) = (place.run("ls").stdout, place.run(&format!("show {}", db.arn())).stdout);
    assert!(ls.contains(&web.arn()) && ls.contains("  served  ") && ls.contains("AccessDenied"), "{ls}");
    assert!(shown.contains("state: failing") && shown.contains("AccessDenied"), "{shown}");

    drop(sts);
    place.task(&format!("refresh {}", web.arn()));
    until("the refresh has failed", || show(&web)["state"] == "served_failing");
    let failing = show(&web);
    assert_eq!(failing["expiration"], served["expiration"]);
    assert!(!failing["failure"].as_str().unwrap().is_empty());
    assert_eq!(read(&proxy, &added), Answer { headers: read(&proxy, &added).headers, ..body });
}

#[test]
fn a_session_of_900_s_is_warned_of_in_the_answer_and_in_the_log() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let proxy = place.serve(&sts);
    let warning = "sessions of 900 s cannot stay ahead";
    assert!(place.add(&task, "--duration-seconds 900")["warnings"][0].as_str().unwrap().contains(warning));
    proxy.logs(warning);
    assert!(place.run(&format!("{} --duration-seconds 900", add(&task))).stderr.contains(warning));
    until("it is loaded", || sts.assume_role_calls().iter().any(|call| call.duration_seconds == Some(900)));
}

#[test]
fn what_is_refused_is_refused_as_the_table_says_and_registers_nothing() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let one = Config::with("max_tasks = 2\n", &[Task::new("of-the-file")]);
    let taken = one.tasks[0].id.clone().unwrap();
    let _proxy = started(place.start_with(rig::serve(one)).envs(sts.environment()));
    let (arn, role) = (task.arn(), task.role_arn());
    let with = |more: Value| {
        let mut body = json!({"taskArn": arn, "roleArn": role});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        place.request(&body.to_string())
    };
    let long = |length: usize| with(json!({"externalId": "x".repeat(length)}));
    for (ended, exit, code) in [
        (place.run(&format!("add --task-arn arn:aws:ecs:nowhere --role-arn {role}")), 64, "ValidationError"),
        (place.run(&format!("add --task-arn {arn} --role-arn web")), 64, "ValidationError"),
        (place.run(&format!("add --task-arn {arn}")), 64, "ValidationError"),
        (with(json!({"noSuchKey": 1})), 64, "ValidationError"),
        (long(64 * 1024), 64, "RequestTooLarge"),
        (long(4 * 1024 * 1024), 64, "RequestTooLarge"),
        (with(json!({"credentialsId": taken})), 1, "CredentialsIdTaken"),
        (with(json!({"executionRoleArn": role})), 1, "TooManyTasks"),
        (place.run(&format!("show {arn}")), 1, "TaskNotFound"),
        (place.run(&format!("rotate {arn}")), 1, "TaskNotFound"),
        (place.run(&format!("refresh {arn}")), 1, "TaskNotFound"),
        (place.run("rm arn:aws:ecs:nowhere"), 64, "ValidationError"),
    ] {
        assert_eq!(refusal(&ended), (exit, code.to_owned()), "{}", ended.stderr);
    }
    assert_eq!(place.request("{\"taskArn\":").code(), 64);
    let bad = json!({"taskArn": "x", "roleArn": 7, "durationSeconds": 1, "noSuchKey": 1, "tokenFile": "/etc/shadow"});
    let all = place.request(&bad.to_string());
    for key in ["taskArn", "roleArn", "durationSeconds", "noSuchKey", "tokenFile"] {
        assert!(all.stderr.contains(&format!("request: {key}: ")), "{key} is told: {}", all.stderr);
    }
    assert_eq!(place.post("/v1/tasks", &bad).json()["faults"].as_array().unwrap().len(), 5);
    let head = "HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{]}";
    for (line, status, code) in [
        ("POST /v1/tasks", 400, "ValidationError"),
        ("POST /v1/tasks/revoke", 400, "ValidationError"),
        ("DELETE /v1/tasks", 405, "MethodNotAllowed"),
        ("POST /openapi.json", 405, "MethodNotAllowed"),
        ("GET /v1/tasks?arn=x", 400, "ValidationError"),
        ("GET /v1/tasks/", 404, "NotFound"),
        ("POST /v2/tasks", 404, "NotFound"),
    ] {
        let answer = place.raw(&format!("{line} {head}"));
        assert_eq!((answer.status, answer.error().0.as_str()), (status, code), "{line}");
    }
    assert_eq!(place.list().len(), 1);
    place.add(&task, "");
}

#[test]
fn a_request_that_takes_longer_than_5_s_is_408_and_registers_nothing() {
    let (sts, place) = (Sts::new(), Place::new());
    let _proxy = place.serve(&sts);
    let body = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{\"taskArn\":";
    std::thread::scope(|scope| {
        for slow in ["POST /v1/ta", &body[..body.len() - 13], body] {
            let place = &place;
            scope.spawn(move || {
                let (answer, took) = timed(|| place.raw(slow));
                let (code, message) = answer.error();
                assert_eq!((answer.status, code.as_str()), (408, "RequestTimeout"), "{slow}");
                assert!(message.contains("within 5 s"), "{message}");
                assert!((4.5..7.0).contains(&took.as_secs_f64()), "{slow}: {took:?}");
            });
        }
    });
    assert!(place.list().is_empty());
}

#[test]
fn every_operation_and_every_key_of_the_document_is_there() {
    let (sts, place, task) = (Sts::new(), Place::new(), Task::without_id("web"));
    let _proxy = place.serve(&sts);
    let document = place.get("/openapi.json").json();
    let known = |reference: &Value| reference.as_str().unwrap().rsplit_once('/').unwrap().1.to_owned();
    let register = json!({"taskArn": task.arn(), "roleArn": task.role_arn()});
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(place.post("/v1/tasks", &register).status <= 201);
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let answer = match schema {
                Value::Null => place.raw(&format!("{} {path} HTTP/1.1\r\nHost: x\r\n\r\n", method.to_uppercase())),
                schema if known(schema) == "Register" => place.post(path, &register),
                _ => place.post(path, &json!({"taskArn": task.arn()})),
            };
            let told = operation["responses"].as_object().unwrap();
            assert!(told.contains_key(&answer.status.to_string()) && answer.status < 300, "{method} {path}");
            operations += 1;
        }
    }
    assert_eq!(operations, 6);

    let execution = format!("{}-execution", task.role_arn());
    let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
    let (token, before) = (Task::with_token("").token, Task::with_token("").token);
    let whole = json!({
        "taskArn": Task::without_id("web").arn(), "roleArn": task.role_arn(), "executionRoleArn": execution,
        "credentialsId": new_id(), "executionCredentialsId": new_id(), "token": token, "previousToken": before,
        "tokenRequired": "always", "sessionName": "a-name", "family": "web", "service": "shop", "durationSeconds": 7200,
        "region": "eu-west-1", "sourceIdentity": "who", "externalId": "ext", "policy": policy,
        "policyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"], "tags": {"team": "a"}, "transitiveTags": true,
        "sessionTags": "required", "sources": ["127.0.0.0/8"],
    });
    let made = json!({"taskArn": Task::without_id("web").arn(), "roleArn": task.role_arn(), "withToken": true});
    let mut sent = BTreeSet::new();
    for body in [whole, made] {
        let answer = place.post("/v1/tasks", &body);
        assert_eq!(answer.status, 201, "{}", answer.body);
        sent.extend(body.as_object().unwrap().keys().cloned());
    }
    let keys = document["components"]["schemas"]["Register"]["properties"].as_object().unwrap().keys();
    assert_eq!(sent, keys.cloned().collect::<BTreeSet<_>>());
}
