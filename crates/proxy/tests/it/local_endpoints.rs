//! `dev --local-endpoints`: who comes from amazon-ecs-local-container-endpoints finds its paths, and no role that is not listed.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;

use fastrand::Rng;

use crate::audit::{all_records, audited};
use crate::http::{Answer, Connection, get, get_with_token, request};
use crate::netns::Netns;
use crate::rig::{self, Process, taskcreds};
use crate::sdk::{CLIENTS, Variables, exported, identity};
use crate::secrets::{self, Kind};
use crate::sts::Sts;
use crate::tasks::{ACCOUNT, Config, Task};
use crate::{python, skip};

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const LINK_LOCAL: ([u8; 4], u16) = ([169, 254, 170, 2], 80);

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

/// Everything that it says when it is ready, and the id and the token of each task in the order in which they are listed.
fn ready(dev: &Process) -> (String, Vec<(String, String)>) {
    let said = dev.says("Try, after pasting");
    let values = |name: &str| -> Vec<String> {
        let begin = format!("export {name}=");
        said.lines()
            .filter_map(|line| line.strip_prefix(&begin))
            .map(|value| value.trim_matches('\'').to_owned())
            .collect()
    };
    let ids = values("AWS_CONTAINER_CREDENTIALS_FULL_URI").into_iter();
    let ids = ids.map(|uri| uri.rsplit('/').next().unwrap().to_owned());
    let tasks: Vec<_> = ids.zip(values("AWS_CONTAINER_AUTHORIZATION_TOKEN")).collect();
    for (id, token) in &tasks {
        secrets::remember(Kind::CredentialsId, id);
        secrets::remember(Kind::Token, token);
    }
    (said, tasks)
}

#[test]
fn by_its_paths_boto3_and_the_aws_cli_are_the_listed_roles_without_a_token() {
    let Some(venv) = skip::unless("local endpoints", python::venv()) else { return };
    let Some(netns) = skip::unless("local endpoints", Netns::new()) else { return };
    let start = rig::dev().args("--local-endpoints --creds-role web --role");
    let start = start.arg(format!("web={}", role("web"))).arg("--role").arg(format!("deep={}", role("a/b/deep")));
    let dev = start.inside(&netns).spawn();
    let (said, _) = ready(&dev);
    assert!(said.contains("listening on http://169.254.170.2:80"), "by default: {said}");
    for (path, name) in [
        ("/creds".to_owned(), "web"),
        ("/role/deep".to_owned(), "deep"),
        (format!("/role-arn/{}", role("a/b/deep")), "deep"),
    ] {
        assert!(said.contains(&format!("#   {path} ")), "{path} is told");
        // What its users have in a compose file, and the STS that the credentials are of.
        let mut variables: Variables = exported(&said);
        variables.retain(|name, _| name.starts_with("AWS_ENDPOINT") || name.ends_with("REGION"));
        variables.insert(RELATIVE.to_owned(), path.clone());
        for client in CLIENTS {
            let is = identity(client, &venv, &variables, Some(&netns)).unwrap();
            assert!(is.starts_with(&format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/")), "{client} {path}: {is}");
        }
    }
}

#[test]
fn nobody_has_these_paths_who_has_not_asked_for_them() {
    let (sts, task) = (Sts::new(), Task::new("demo"));
    let serve = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment()).spawn();
    let dev = rig::dev().args("--listen 127.0.0.1:0").spawn();
    let (_, tasks) = ready(&dev);
    for address in [serve.address(), dev.address()] {
        for path in ["/creds", "/role/demo", "/role/demo/"] {
            let answer = get_with_token(address, path, &tasks[0].1);
            assert_eq!((answer.status, answer.error().0.as_str()), (404, "NotFound"), "{path}");
        }
        let path = format!("/role-arn/{}", role("demo"));
        assert_ne!(get_with_token(address, &path, &tasks[0].1).status, 200);
    }
    assert_eq!(taskcreds("serve").args("--config x --local-endpoints").run().code(), 64);
    let ended = rig::dev().args("--creds-role web").run();
    assert_eq!(ended.code(), 64, "{}", ended.stderr);
}

#[test]
fn a_path_that_names_a_role_meets_the_faults_of_its_task() {
    let dev = rig::dev().args("--local-endpoints --listen 127.0.0.1:0 --fault demo:status=418,times=1").spawn();
    let (address, (_, tasks)) = (dev.address(), ready(&dev));
    let (_, token) = &tasks[0];
    assert_eq!(get_with_token(address, "/role/demo", "somebody-elses-token").status, 401);
    assert_eq!(get_with_token(address, "/role/demo", token).status, 418);
    rig::until("it is well", || get_with_token(address, "/role/demo", token).status == 200);
}

#[test]
fn on_loopback_a_path_is_worth_what_the_id_is_worth_and_needs_the_same_token() {
    let dev = rig::dev().args("--local-endpoints --listen 127.0.0.1:0").spawn();
    let (address, (said, tasks)) = (dev.address(), ready(&dev));
    let (id, token) = &tasks[0];
    assert!(said.contains("169.254.170.2:80, where this does not listen"), "{said}");
    // The first answer may be a 503, while the session is loaded.
    let by_id = || get_with_token(address, &format!("/v2/credentials/{id}"), token);
    rig::until("there is a session", || by_id().status == 200);
    let without_date = |answer: Answer| {
        let headers: Vec<_> = answer.headers.into_iter().filter(|(name, _)| name != "date").collect();
        (answer.line, headers, answer.body)
    };
    for path in ["/creds", "/creds/", "/role/demo", "//role/demo", &format!("/role-arn/{}", role("demo"))] {
        assert_eq!(get(address, path).status, 401, "{path}");
        assert_eq!(get_with_token(address, path, "somebody-elses-token").status, 401, "{path}");
        assert_eq!(without_date(get_with_token(address, path, token)), without_date(by_id()), "{path}");
    }
    for (header, status) in [
        ("Origin: http://localhost", 403),
        ("Sec-Fetch-Mode: navigate", 403),
        ("X-Forwarded-For: 10.0.0.1", 403),
        ("Content-Length: 1", 400),
    ] {
        let text = request(address, "/role/demo", Some(token)).replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
        assert_eq!(Connection::open(address).send(text).answer().status, status, "{header}");
    }
    let text = request(address, "/role/demo", Some(token)).replace(&format!("Host: {address}"), "Host: evil.example");
    assert_eq!(Connection::open(address).send(text).answer().status, 403);
}

#[test]
fn what_is_not_served_is_told_in_json() {
    let dev = rig::dev().args("--local-endpoints --listen 127.0.0.1:0").spawn();
    let address = dev.address();
    for path in ["/v2/metadata", "/v3", "/v3/task/stats", "/v4", "/v3/containers/x"] {
        let (status, (code, message)) = (get(address, path).status, get(address, path).error());
        assert_eq!((status, code.as_str()), (404, "NotFound"), "{path}");
        assert!(message.contains("task metadata is not served"), "{message}");
    }
    let (code, message) = get(address, "/role/admin").error();
    assert_eq!(code, "InvalidIdInRequest");
    assert!(message.contains("roles that are listed are served and no others"), "{message}");
}

#[test]
fn a_tasks_own_conditions_hold_whatever_names_it() {
    let Some(netns) = skip::unless("conditions", Netns::new()) else { return };
    let tasks = [
        Task::new("open"),
        Task::with_token("guarded").and("token_required = \"always\""),
        Task::new("elsewhere").and("sources = [\"10.9.9.9\"]"),
    ];
    let start = rig::dev_with(Config::new(&tasks)).args("--local-endpoints --listen 169.254.170.2:80");
    let dev = start.inside(&netns).spawn();
    dev.says("Try, after pasting");
    netns.enter(|| {
        let address = LINK_LOCAL.into();
        let by_name = |name: &str| get(address, &format!("/role/{name}"));
        assert_eq!(by_name("open").json()["RoleArn"], role("open"));
        assert_eq!(by_name("guarded").status, 401);
        let token = tasks[1].token.as_ref().unwrap();
        assert_eq!(get_with_token(address, "/role/guarded", token).status, 200);
        // From a wrong source it is as if it were not listed.
        let bodies = ["elsewhere", "unlisted"].map(|name| (by_name(name).line, by_name(name).body));
        assert_eq!(bodies[0], bodies[1]);
        assert!(bodies[0].0.contains("400") && get(address, "/creds").status == 400);
    });
}

/// The network of a compose file: the proxy has 169.254.170.2 in it, and the containers have other addresses.
#[test]
fn a_neighbour_of_its_network_is_answered_without_a_token() {
    let both = Netns::new().and_then(|here| Ok((here, Netns::new()?)));
    let Some((here, there)) = skip::unless("neighbour", both) else { return };
    for netns in [&here, &there] {
        netns.ip("address delete 169.254.170.2/32 dev lo").unwrap();
    }
    here.join("169.254.170.2/24", &there, "169.254.170.3/24").unwrap();
    let dev = rig::dev().args("--local-endpoints --role").arg(role("web")).inside(&here).spawn();
    dev.says("Try, after pasting");
    there.enter(|| {
        let answer = get(LINK_LOCAL.into(), "/role/web");
        assert_eq!(answer.json()["RoleArn"], role("web"));
        assert_eq!(get(LINK_LOCAL.into(), "/role/admin").status, 400);
    });
}

/// Linux answers for an address of `lo` by any interface, and at 169.254.170.2 a path is all that is asked for.
#[test]
fn a_neighbour_that_routes_the_address_here_gets_nothing_where_it_is_on_lo() {
    let both = Netns::new().and_then(|here| Ok((here, Netns::new()?)));
    let Some((here, there)) = skip::unless("a neighbour's route", both) else { return };
    here.join("10.74.0.1/24", &there, "10.74.0.2/24").unwrap();
    there.ip("address delete 169.254.170.2/32 dev lo").unwrap();
    there.ip("route add 169.254.170.2/32 via 10.74.0.1").unwrap();
    let asks = |config: Option<Config>| {
        let dev = config.map_or_else(rig::dev, rig::dev_with).args("--local-endpoints --role").arg(role("web"));
        let dev = dev.inside(&here).spawn();
        dev.says("Try, after pasting");
        let ask = || get(LINK_LOCAL.into(), "/role/web");
        let statuses = (here.enter(ask).status, there.enter(ask).status);
        assert_eq!(dev.end().code(), 0);
        statuses
    };
    assert_eq!(asks(None), (200, 403));
    // Who asks for it by its interface has it.
    let device =
        here.command("sh").args(["-c", "ip -o -4 address show to 10.74.0.1 | cut -d' ' -f2"]).output().unwrap();
    let device = String::from_utf8(device.stdout).unwrap();
    let named = format!("[network]\ninterfaces = [\"{}\"]\n", device.trim());
    assert_eq!(asks(Some(Config::with(&named, &[]))), (200, 200));
}

/// Option 2 of its documentation: a rule that leads from 169.254.170.2:80 to a port of loopback.
#[test]
fn where_a_rule_redirects_the_address_it_is_answered_without_a_token_too() {
    let Some(netns) = skip::unless("redirected", Netns::new()) else { return };
    let rule = "-t nat -A OUTPUT -d 169.254.170.2 -p tcp --dport 80 -j REDIRECT --to-ports 51679";
    let set = netns.command("iptables").args(rule.split(' ')).output().map_err(|error| error.to_string());
    let set = set.and_then(|out| if out.status.success() { Ok(()) } else { Err(format!("iptables: {}", out.status)) });
    let Some(()) = skip::unless("redirected", set) else { return };
    let dev = rig::dev().args("--local-endpoints --listen 127.0.0.1:51679").inside(&netns).spawn();
    dev.says("Try, after pasting");
    netns.enter(|| {
        assert_eq!(get(LINK_LOCAL.into(), "/role/demo").json()["RoleArn"], role("demo"));
        assert_eq!(get(([127, 0, 0, 1], 51_679).into(), "/role/demo").status, 401);
    });
}

#[test]
fn the_audit_log_tells_which_path_was_asked_listed_or_not() {
    let (_folder, file, _, settings) = audited();
    let config = Config::with(&format!("[audit]\n{settings}"), &[Task::with_token("web")]);
    let token = config.tasks[0].token.clone().unwrap();
    let dev = rig::dev_with(config).args("--local-endpoints --listen 127.0.0.1:0").spawn();
    let address = dev.address();
    rig::until("there is a session", || get_with_token(address, "/role/web", &token).status == 200);
    for path in ["/role/admin", "/role-arn/admin", "/creds"] {
        get_with_token(address, path, &token);
    }
    dev.end();
    let answers = all_records(&file).into_iter().filter(|record| record["event"] == "answer");
    let answers = answers.map(|it| format!("{} {} {}", it["path"], it["status"], it["roleArn"]));
    let answers: BTreeSet<_> = answers.collect();
    for answer in [
        format!("\"/role\" 200 \"{}\"", role("web")),
        "\"/role\" 400 null".to_owned(),
        "\"/role-arn\" 400 null".to_owned(),
        format!("\"/creds\" 200 \"{}\"", role("web")),
    ] {
        assert!(answers.contains(&answer), "{answer} is not in {answers:?}");
    }
}

/// A path of the local endpoints, or nearly one, with a role that is listed, nearly one, or not.
fn path(rng: &mut Rng, listed: &[String]) -> String {
    let arn = match rng.u8(..6) {
        0..3 => rng.choice(listed).unwrap().clone(),
        3 => role(rng.choice(["admin", "we", "web2", "path/to/admin", "web/", "../web", "x/../web", "%77eb"]).unwrap()),
        4 => format!("arn:aws:iam::444455556666:role/{}", rng.choice(["web", "db", "admin"]).unwrap()),
        _ => rng.choice(listed).unwrap().replace("111122223333", "*"),
    };
    let name = arn.rsplit('/').next().unwrap().to_owned();
    let encoded = arn.replace(':', "%3A").replace('/', "%2F");
    match rng.u8(..12) {
        0 => "/creds".to_owned(),
        1 => format!("/creds?role={name}&RoleArn={arn}"),
        2..4 => format!("/role/{name}"),
        4 => format!("/role/{name}/"),
        5 => format!("/role/{}", arn.split_once("role/").map_or("", |(_, path)| path)),
        6..9 => format!("/role-arn/{arn}"),
        9 => format!("/role-arn/{encoded}"),
        10 => format!("/role-arn/{arn}/{name}"),
        _ => format!("/role/{name}?role={}&role-arn={arn}", rng.choice(["admin", "web"]).unwrap()),
    }
}

#[test]
fn whatever_is_asked_sts_sees_the_listed_roles_alone() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (mut rng, sts) = (Rng::with_seed(seed), Sts::new());
    let listed = ["web", "a/b/db", "cron"].map(role).to_vec();
    let mut start = rig::dev().args("--aws --local-endpoints --creds-role cron --listen 127.0.0.1:0");
    for arn in &listed {
        start = start.arg("--role").arg(arn);
    }
    let dev = start.envs(sts.environment()).spawn();
    let (address, (_, tasks)) = (dev.address(), ready(&dev));
    rig::until("the sessions are there", || {
        let mut all = tasks.iter();
        all.all(|(id, token)| get_with_token(address, &format!("/v2/credentials/{id}"), token).status == 200)
    });
    let mut answered = 0;
    for _ in 0..2_000 {
        let path = path(&mut rng, &listed);
        let (_, token) = rng.choice(&tasks).unwrap();
        let mut text = request(address, &path, Some(token));
        if rng.bool() {
            let header = rng.choice(["X-Role-Arn", "RoleArn", "X-Amz-Role-Arn", "Accept"]).unwrap();
            text = text.replace("\r\n\r\n", &format!("\r\n{header}: {}\r\n\r\n", role("admin")));
        }
        let answer = Connection::open(address).send(&text).answer();
        if answer.status == 200 {
            answered += 1;
            let arn = answer.json()["RoleArn"].as_str().unwrap().to_owned();
            let place = listed.iter().position(|listed| *listed == arn).unwrap();
            assert_eq!(tasks[place].1, *token, "only with its own token: {path}");
            let name = arn.rsplit('/').next().unwrap();
            let chosen = path.split('?').next().unwrap().trim_end_matches('/');
            let paths = [format!("/role/{name}"), format!("/role-arn/{arn}")];
            assert!(paths.contains(&chosen.to_owned()) || (chosen == "/creds" && name == "cron"), "{arn} by {path}");
        }
    }
    let calls = sts.assume_role_calls();
    let asked: BTreeSet<_> = calls.iter().map(|call| call.role_arn.clone().unwrap()).collect();
    assert_eq!(asked, listed.into_iter().collect());
    assert_eq!(calls.len(), 3, "no request costs a call");
    println!("2000 requests, {answered} answered with credentials");
    assert!(answered > 100);
}

#[test]
fn its_variables_are_refused_all_at_once_and_its_port_is_listened_on() {
    let variables = [("IAM_ENDPOINT", "http://x"), ("STS_ENDPOINT", "http://x"), ("TASK_ARN", "x")];
    let set = |start: rig::Start| start.envs(variables.map(|(name, value)| (name, value.to_owned())));
    let ended = set(rig::dev().arg("--local-endpoints")).env("ECS_LOCAL_METADATA_PORT", "none").run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""));
    for (name, _) in variables.iter().chain(&[("ECS_LOCAL_METADATA_PORT", "")]) {
        assert!(ended.stderr.contains(&format!("{name}: ")), "{name} is not in {}", ended.stderr);
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dev = rig::dev().arg("--local-endpoints").env("ECS_LOCAL_METADATA_PORT", port.to_string()).spawn();
    assert_eq!(dev.address(), ([127, 0, 0, 1], port).into());
    // Without the flag they are nobody's business.
    set(rig::dev().args("--listen 127.0.0.1:0")).spawn().says("Try, after pasting");
}
