//! Every source with every token and every id: a session for who has all three right, and for the others an answer that tells nothing.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::http::{Answer, Connection, get, request};
use crate::rig::{self, Process, until};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task, new_id};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const THIRD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 3, 4));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const SOURCES: [IpAddr; 4] = [HOME, SECOND, THIRD, SIX];

/// A task and from which of [`SOURCES`] it may be asked for.
struct Bound {
    task: Task,
    from: &'static [IpAddr],
}

fn tasks() -> Vec<Bound> {
    let bound = |task: Task, sources: &str, from| {
        let task = if sources.is_empty() { task } else { task.and(&format!("sources = [{sources}]")) };
        Bound { task, from }
    };
    vec![
        bound(Task::with_token("anywhere"), "", &SOURCES),
        bound(Task::with_token("second"), "\"127.0.0.2\"", &[SECOND]),
        bound(Task::with_token("network"), "\"127.0.2.0/23\"", &[THIRD]),
        bound(Task::with_token("six"), "\"::1\"", &[SIX]),
        bound(Task::with_token("both"), "\"::1\", \"127.0.0.0/30\"", &[HOME, SECOND, SIX]),
        bound(Task::new("open"), "", &SOURCES),
        bound(Task::new("open-second"), "\"127.0.0.2\"", &[SECOND]),
    ]
}

/// What is right for a task, and what is nearly so.
fn tokens(task: &Task, other: &Task) -> Vec<Option<String>> {
    let right = task.token.clone().unwrap_or_else(|| "tok-of-a-task-that-has-none".to_owned());
    let (but_one, last) = right.split_at(right.len() - 1);
    let next = if last == "0" { "1" } else { "0" };
    let mut all = vec![None, Some(String::new()), other.token.clone(), Some(right.to_uppercase())];
    all.extend(
        [but_one.to_owned(), format!("{but_one}{next}"), format!("{right}0"), format!("Bearer {right}")].map(Some),
    );
    all.push(Some(right));
    all
}

/// One request from this address; the answer without the moment of it.
fn ask(from: IpAddr, proxies: &[SocketAddr], path: &str, token: Option<&str>) -> Answer {
    let to = *proxies.iter().find(|to| to.is_ipv6() == from.is_ipv6()).unwrap();
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect_timeout(&to.into(), Duration::from_secs(5)).unwrap();
    let mut answer = Connection::over(socket.into()).send(request(to, path, token)).answer();
    answer.headers.retain(|(name, _)| name != "date");
    answer
}

fn addresses(proxy: &Process) -> Vec<SocketAddr> {
    let said = proxy.says("listening on http://[::1]");
    said.lines().filter_map(|line| line.strip_prefix("listening on http://")?.parse().ok()).collect()
}

#[test]
fn only_the_right_source_with_the_right_token_and_the_right_id_gets_a_session() {
    let six = std::net::TcpListener::bind("[::1]:0").map(drop).map_err(|error| format!("::1: {error}"));
    let Some(()) = skip::unless("the matrix of sources, tokens and ids", six) else { return };
    let (sts, tasks) = (Sts::new(), tasks());
    let [revoked, gone] = ["revoked", "gone-second"].map(Task::with_token);
    let gone = gone.and("sources = [\"127.0.0.2\"]");
    let all: Vec<_> = tasks.iter().map(|bound| bound.task.clone()).collect();
    let config = Config::new(&[&all[..], &[revoked.clone(), gone.clone()]].concat());
    let file = config.file();
    let proxy = rig::serve(config).args("--listen [::1]:0").envs(sts.environment()).spawn();
    let proxies = addresses(&proxy);
    std::fs::write(&file, std::fs::read(Config::new(&all).file()).unwrap()).unwrap();
    proxy.logs("configuration reloaded");
    let (first, open) = (proxies.first().unwrap(), tasks.iter().find(|bound| bound.task.role == "open").unwrap());
    until("warm", || get(*first, &open.task.path()).status == 200);

    let (mut wrong, mut asked, mut served, mut unknown) = (Vec::new(), 0, 0, BTreeSet::new());
    let mut decide = |id: &str, from: IpAddr, task: &Task, token: Option<&str>, expected: u16| {
        for (version, path) in [("V1", format!("/v1/credentials?id={id}")), ("V2", format!("/v2/credentials/{id}"))] {
            let mut answer = ask(from, &proxies, &path, token);
            // While the first load is under way.
            while expected == 200 && answer.status == 503 {
                answer = ask(from, &proxies, &path, token);
            }
            asked += 1;
            served += u32::from(expected == 200);
            let is_its_own = || answer.json()["RoleArn"] == task.role_arn().as_str();
            if answer.status != expected || expected == 200 && !is_its_own() {
                wrong.push(format!("{from} {path} {token:?}: {}, not {expected}", answer.line));
            }
            if expected == 400 {
                unknown.insert((version, format!("{answer:?}")));
            }
        }
    };
    for (number, Bound { task, from: allowed }) in tasks.iter().enumerate() {
        let other = &all[if number == 0 { 1 } else { 0 }];
        for from in SOURCES {
            for token in tokens(task, other) {
                let is_right = token == task.token || task.token.is_none();
                let expected = match (allowed.contains(&from), is_right) {
                    (false, _) => 400,
                    (true, true) => 200,
                    (true, false) => 401,
                };
                decide(task.id.as_ref().unwrap(), from, task, token.as_deref(), expected);
            }
        }
        // Ids that are nobody's, with the token of a task, from where it may be asked for.
        let right = task.id.clone().unwrap();
        let others = [
            new_id(),
            right.to_uppercase(),
            right[..right.len() - 1].to_owned(),
            format!("{right}0"),
            task.task_id.clone(),
            revoked.id.clone().unwrap(),
            gone.id.clone().unwrap(),
        ];
        for id in others.iter().filter(|id| **id != right) {
            for token in [&task.token, &revoked.token, &None] {
                decide(id, *allowed.first().unwrap(), task, token.as_deref(), 400);
            }
        }
    }
    println!("{asked} decisions, {served} of them sessions, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} of {asked} decisions are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(unknown.len(), 2, "whoever is refused can tell why: {unknown:#?}");
}
