//! The role is the registration's, whatever a request says: nobody chooses one by a path, a query or a header.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use fastrand::Rng;

use crate::http::{Connection, get};
use crate::rig;
use crate::sts::Sts;
use crate::tasks::{ACCOUNT, Config, Task};

/// A role that no task has, in one of the ways to name one.
fn role(rng: &mut Rng) -> String {
    let name = rng.choice(["admin", "web2", "we", "OrganizationAccountAccessRole", "path/to/admin"]).unwrap();
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/{name}");
    match rng.u8(..4) {
        0 => name.to_owned(),
        1 => arn.replace(':', "%3A").replace('/', "%2F"),
        _ => arn,
    }
}

/// An id that opens a task, or something else in its place.
fn id(rng: &mut Rng, tasks: &[Task]) -> String {
    let task = &tasks[rng.usize(..tasks.len())];
    match rng.u8(..8) {
        0..4 => task.id.clone().unwrap(),
        4 => uuid::Uuid::new_v4().to_string(),
        5 => task.task_id.clone(),
        6 => format!("{}/{}", task.id.as_ref().unwrap(), role(rng)),
        _ => role(rng),
    }
}

/// A request that names roles wherever other servers let one: at `/role-arn/`, as the metadata service, in what AssumeRole takes.
fn random(rng: &mut Rng, address: SocketAddr, tasks: &[Task]) -> String {
    let mut target = match rng.u8(..12) {
        0..4 => format!("/v2/credentials/{}", id(rng, tasks)),
        4..6 => format!("/v1/credentials?id={}", id(rng, tasks)),
        6 => format!("/role-arn/{}", role(rng)),
        7 => format!("/role/{}", role(rng)),
        8 => format!("/latest/meta-data/iam/security-credentials/{}", role(rng)),
        9 => format!("//v2/credentials/{}", id(rng, tasks)),
        10 => "/v1/credentials".to_owned(),
        _ => (0..rng.usize(1..40))
            .map(|_| char::from(rng.u8(b'!'..=b'~')))
            .fold("/".to_owned(), |path, c| path + &c.to_string()),
    };
    let names = ["role_arn", "roleArn", "RoleArn", "role", "role-arn", "id", "RoleSessionName", "chain", "x"];
    for _ in 0..rng.u8(..4) {
        let mark = if target.contains('?') { '&' } else { '?' };
        let value = if rng.bool() { role(rng) } else { id(rng, tasks) };
        target = format!("{target}{mark}{}={value}", rng.choice(names).unwrap());
    }
    let mut headers = String::new();
    let names = [
        "X-Role-Arn",
        "X-Amz-Role-Arn",
        "RoleArn",
        "X-Aws-Role",
        "X-Ecs-Task-Arn",
        "Authorization",
        "Accept",
        "User-Agent",
    ];
    for _ in 0..rng.u8(..4) {
        let value = if rng.bool() { role(rng) } else { id(rng, tasks) };
        headers = format!("{headers}{}: {value}\r\n", rng.choice(names).unwrap());
    }
    let method = rng.choice(["GET", "GET", "GET", "GET", "POST"]).unwrap();
    format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n")
}

fn choose(times: u32) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (mut rng, sts) = (Rng::with_seed(seed), Sts::new());
    let tasks: Vec<_> = ["web", "db", "cron"].map(Task::new).to_vec();
    let proxy = rig::serve(Config::new(&tasks)).envs(sts.environment()).spawn();
    let address = proxy.address();
    tasks.iter().for_each(|task| assert_eq!(get(address, &task.path()).status, 200));
    let mut answered = 0;
    for _ in 0..times {
        let text = random(&mut rng, address, &tasks);
        let answer = Connection::open(address).send(&text).answer();
        if answer.status == 200 {
            answered += 1;
            let role = answer.json()["RoleArn"].as_str().unwrap().to_owned();
            let opened = |task: &Task| task.role_arn() == role && text.contains(task.id.as_ref().unwrap());
            assert!(tasks.iter().any(opened), "{role} was answered to {text}");
        }
    }
    let calls = sts.assume_role_calls();
    let asked: BTreeSet<_> = calls.iter().map(|call| call.role_arn.clone().unwrap()).collect();
    assert_eq!(asked, tasks.iter().map(Task::role_arn).collect());
    assert_eq!(calls.len(), tasks.len());
    println!(
        "{times} random requests, {answered} answered with credentials; STS was asked for the {} roles",
        asked.len()
    );
    assert!(answered > times / 20);
}

#[test]
fn no_request_chooses_its_role() {
    choose(3_000);
}

#[test]
#[ignore = "a minute of load, for a release build: see docs/security.md"]
fn long_no_request_of_300000_chooses_its_role() {
    choose(300_000);
}
