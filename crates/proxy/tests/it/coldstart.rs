//! Nothing is there yet: one STS call whoever asks, a whole answer in time, and the whole request as it was configured.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::time::{Duration, Instant};

use taskcreds_sts_emulator::{Roles, Tag};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::gate::Gate;
use crate::http::{self, Answer, Connection, answer_on, get};
use crate::rig::{self, Process, runtime, until};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// `serve` with this STS behind a gate that is closed.
fn behind_a_gate(head: &str, tasks: &[Task], sts: &Sts) -> (Process, Gate) {
    let gate = Gate::before(&sts.endpoint);
    let serve = rig::serve(Config::with(head, tasks)).envs(sts.environment_at(&gate.endpoint)).spawn();
    (serve, gate)
}

/// Connects one client for each request, sends all requests at once, opens the gate, and waits for all answers.
///
/// Whether they are answered in 700 ms or with 503 depends on the machine; what STS sees does not.
fn all_at_once(requests: &[String], serve: &Process, gate: &Gate) -> Vec<Answer> {
    let address = serve.address();
    runtime().block_on(async {
        let mut streams = Vec::new();
        for _ in requests {
            streams.push(TcpStream::connect(address).await.unwrap());
        }
        for (stream, request) in streams.iter_mut().zip(requests) {
            stream.write_all(request.as_bytes()).await.unwrap();
        }
        gate.open();
        let mut answers = Vec::new();
        for stream in &mut streams {
            answers.push(answer_on(stream).await.unwrap());
        }
        answers
    })
}

#[test]
fn a_thousand_simultaneous_cold_requests_make_one_sts_call() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let (serve, gate) = behind_a_gate("", std::slice::from_ref(&task), &sts);
    let address = serve.address();
    // The first client sends its request and is gone.
    Connection::open(address).send(http::request(address, &task.path(), None));
    gate.wait_for_connections(1);
    let requests = vec![http::request(address, &task.path(), None); 1_000];
    let answers = all_at_once(&requests, &serve, &gate);
    let bodies: std::collections::BTreeSet<_> = answers.iter().map(|answer| (answer.status, &answer.body)).collect();
    let statuses: Vec<_> = bodies.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200], "all get the same session");
    assert_eq!(sts.assume_role_calls().len(), 1);
    assert_eq!(gate.connections(), 1);
}

#[test]
fn a_load_outlives_the_client_that_caused_it() {
    // The budget has room for one prefetch, so most of these loads are begun by the clients, all of which hang up.
    let (sts, tasks) = (Sts::new(), Vec::from_iter((0..20).map(|_| Task::new("web"))));
    let (serve, gate) = behind_a_gate("[sts]\nburst = 1\ncalls_per_second = 600\n", &tasks, &sts);
    let address = serve.address();
    for task in &tasks {
        Connection::open(address).send(http::request(address, &task.path(), None));
    }
    gate.wait_for_connections(tasks.len());
    let requests: Vec<_> = tasks.iter().flat_map(|task| vec![http::request(address, &task.path(), None); 20]).collect();
    let answers = all_at_once(&requests, &serve, &gate);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let mut names: Vec<_> = sts.assume_role_calls().into_iter().map(|call| call.role_session_name.unwrap()).collect();
    let mut ids: Vec<_> = tasks.into_iter().map(|task| task.task_id).collect();
    names.sort();
    ids.sort();
    assert_eq!(names, ids, "one call for each task");
}

#[test]
fn while_sts_is_silent_every_request_gets_a_whole_503_in_time_and_credentials_once_it_speaks() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let (serve, gate) = behind_a_gate("", std::slice::from_ref(&task), &sts);
    let (address, path) = (serve.address(), task.path());
    let took: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::open(address);
                    let start = Instant::now();
                    let answer = connection.send(http::request(address, &path, None)).answer();
                    let took = start.elapsed();
                    assert_eq!((answer.status, answer.error().0.as_str()), (503, "CredentialsUninitialized"));
                    assert!(answer.error().1.starts_with("CredentialsV2Request: Credentials uninitialized for ID"));
                    assert!(answer.header("connection").is_none(), "a 503 keeps the connection");
                    took
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    // An answer before the 700 ms are over would burn the retries of Java and C++ in milliseconds. The promise is 800 ms, since
    // clients give up at 1 s; on a machine that is busy with other tests it is not held against the program until 1.5 s.
    for took in took {
        assert!(took >= Duration::from_millis(650) && took < Duration::from_millis(1_500), "{took:?}");
    }
    assert_eq!(gate.connections(), 1, "the load goes on and there is no second one");
    // Three seconds are the timeout of a call: the first one fails, and one that comes later finds the gate open.
    gate.wait_for_connections(2);
    assert!(sts.assume_role_calls().is_empty());
    gate.open();
    until("credentials", || get(address, &path).status == 200);
}

#[test]
fn a_call_that_takes_longer_than_a_request_waits_is_not_lost() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let (serve, gate) = behind_a_gate("", std::slice::from_ref(&task), &sts);
    assert_eq!(get(serve.address(), &task.path()).status, 503);
    gate.open();
    assert_eq!(get(serve.address(), &task.path()).status, 200);
    assert_eq!(sts.assume_role_calls().len(), 1);
    assert_eq!(gate.connections(), 1);
}

#[test]
fn what_sts_refuses_is_403_at_once_with_the_code_of_sts() {
    let (sts, task) = (Sts::with(Roles::Listed(Vec::new())), Task::new("web"));
    let serve = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment()).spawn();
    let address = serve.address();
    for _ in 0..20 {
        let start = Instant::now();
        let answer = get(address, &task.path());
        // Before the 700 ms that a request waits for a session that may still come.
        assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (403, "AssumeRoleDenied"));
        assert!(message.contains("AccessDenied") && message.contains("sts:AssumeRole"), "{message}");
        assert!(!message.contains("user/proxy"), "the proxy's principal is for the log: {message}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(sts.assume_role_calls().len(), 1, "one refusal is shared by all who ask");
    assert!(serve.logs("AccessDenied").contains("user/proxy"), "the log has STS's own words");
}

#[test]
fn the_call_carries_all_that_the_task_is_configured_with() {
    let sts = Sts::new();
    let task = Task::new("web").and(
        r#"
        duration_seconds = 7200
        source_identity = "the-scheduler"
        external_id = "the-external-id"
        policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
        policy_arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
        tags = { team = "blue" }
        transitive_tags = true
        family = "web-family"
        "#,
    );
    let plain = Task::new("plain");
    let serve = rig::serve(Config::new(&[task.clone(), plain.clone()])).envs(sts.environment()).spawn();
    let body = get(serve.address(), &task.path()).json();
    assert_eq!(get(serve.address(), &plain.path()).status, 200);
    let calls = sts.assume_role_calls();
    let of = |task: &Task| calls.iter().find(|call| call.role_arn == Some(task.role_arn())).unwrap();

    let call = of(&task);
    assert_eq!(call.outcome, "Success");
    assert_eq!(body["AccessKeyId"].as_str(), call.issued_access_key_id.as_deref());
    assert_eq!(call.role_session_name.as_ref(), Some(&task.task_id));
    assert_eq!(call.duration_seconds, Some(7200));
    assert_eq!(call.source_identity.as_deref(), Some("the-scheduler"));
    assert_eq!(call.external_id.as_deref(), Some("the-external-id"));
    assert!(call.has_session_policy);
    let has = |key: &str, value: &str| call.tags.contains(&Tag { key: key.to_owned(), value: value.to_owned() });
    assert!(has("team", "blue") && has("ecs-task-family", "web-family") && has("ecs-cluster-name", "prod"));
    assert!(call.tags.iter().any(|tag| tag.value.contains(&task.task_id)), "the task: {:?}", call.tags);
    let keys: Vec<_> = call.tags.iter().map(|tag| &tag.key).collect();
    assert_eq!(call.transitive_tag_keys.iter().collect::<Vec<_>>(), keys);
    assert!(call.user_agent.as_ref().unwrap().contains("app/taskcreds"));

    let call = of(&plain);
    assert_eq!((call.duration_seconds, call.role_session_name.as_ref()), (Some(3600), Some(&plain.task_id)));
    assert_eq!((&call.source_identity, &call.external_id, call.has_session_policy), (&None, &None, false));
    assert!(!call.tags.is_empty() && call.transitive_tag_keys.is_empty());
}
