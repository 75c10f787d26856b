//! Faults, short sessions, the journal and the control interface, of the real binary over real HTTP.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::audit;
use crate::http::{Answer, Connection, get_with_token, request};
use crate::operations::operations;
use crate::rig::{self, Process, until};
use crate::secrets::{self, Kind};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// `exec` with a command that waits, and what it gave that command.
struct Exec {
    process: Process,
    variables: HashMap<String, String>,
}

impl Exec {
    fn start(flags: &str) -> Self {
        let start = rig::exec().args("--emulate --control 127.0.0.1:0");
        let start = if flags.is_empty() { start } else { start.args(flags) };
        let process = start.args("-- sh -c").arg("env; echo end of it; read line").spawn();
        let said = process.says("end of it");
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        let variables: HashMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        secrets::remember(Kind::Token, &variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]);
        let exec = Self { process, variables };
        secrets::remember(Kind::CredentialsId, exec.credentials().1.rsplit('/').next().unwrap());
        exec
    }

    fn token(&self) -> &str {
        &self.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    }

    fn credentials(&self) -> (SocketAddr, String) {
        let uri = &self.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"];
        let (address, path) = uri.strip_prefix("http://").unwrap().split_once('/').unwrap();
        (address.parse().unwrap(), format!("/{path}"))
    }

    fn get(&self) -> Answer {
        let (address, path) = self.credentials();
        get_with_token(address, &path, self.token())
    }

    fn key(&self) -> String {
        self.get().json()["AccessKeyId"].as_str().unwrap().to_owned()
    }

    /// The bytes that come, whatever they are, until the end or until patience is over.
    fn raw(&self, patience: Duration) -> std::io::Result<String> {
        let (address, path) = self.credentials();
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(request(address, &path, Some(self.token())).as_bytes())?;
        let mut read = String::new();
        stream.read_to_string(&mut read).map(|_| read)
    }

    fn control(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        control(self.variables["TASKCREDS_CONTROL"].strip_prefix("http://").unwrap(), method, path, body)
    }

    /// What the embedded STS says to who calls with a session.
    fn who_am_i(&self, session: &Value) -> Result<(), String> {
        let part = |name: &str| session[name].as_str().unwrap();
        let (key, secret, token) = (part("AccessKeyId"), part("SecretAccessKey"), part("Token").to_owned());
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
            .endpoint_url(&self.variables["AWS_ENDPOINT_URL_STS"])
            .region(aws_sdk_sts::config::Region::new("us-east-1"))
            .credentials_provider(aws_sdk_sts::config::Credentials::new(key, secret, Some(token), None, "test"))
            .build();
        let call = aws_sdk_sts::Client::from_conf(config).get_caller_identity().send();
        let answer = rig::runtime().block_on(call);
        answer.map(drop).map_err(|error| aws_sdk_sts::error::ProvideErrorMetadata::code(&error).unwrap().to_owned())
    }

    fn fault(&self, fault: &str) {
        let (status, told) = self.control("PUT", "/faults", &json!({ "faults": [fault] }));
        assert_eq!(status, 200, "{fault}: {told}");
    }

    fn journal(&self, query: &str) -> Vec<Value> {
        let (status, page) = self.control("GET", &format!("/journal?{query}"), &Value::Null);
        assert_eq!(status, 200, "{query}: {page}");
        page["entries"].as_array().unwrap().clone()
    }

    fn end(mut self) {
        self.process.tell("go on");
        assert_eq!(self.process.wait().code(), 0);
    }
}

fn control(address: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
    let answer = Connection::open(address.parse().unwrap()).send(head).answer();
    (answer.status, answer.json())
}

#[test]
fn a_fault_happens_as_often_as_it_says_then_all_is_well_and_the_journal_has_it() {
    let exec = Exec::start("--fault exec:status=503,times=2");
    let statuses: Vec<_> = (0..3).map(|_| exec.get().status).collect();
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(exec.control("GET", "/faults", &Value::Null).1["faults"][0]["left"], 0);

    let noted = exec.journal("place=credentials");
    let seen: Vec<_> =
        noted.iter().map(|it| (it["status"].as_u64().unwrap(), it["code"].as_str(), it["fault"].is_null())).collect();
    let failed = (503, Some("CredentialsUninitialized"), false);
    assert_eq!(seen, [failed, failed, (200, None, true)]);
    assert_eq!((&noted[2]["task"], &noted[2]["role"]), (&json!("exec"), &json!("demo")));
    assert_eq!(noted[2]["accessKeyId"], exec.key());
    let sts = exec.journal("place=sts&action=AssumeRole&task=exec&status=200");
    assert_eq!(sts[0]["accessKeyId"], noted[2]["accessKeyId"]);
    let text = json!([noted, sts]).to_string();
    for secret in [exec.token(), exec.credentials().1.rsplit('/').next().unwrap()] {
        assert!(!text.contains(secret), "{text}");
    }

    // Who has no token meets no fault, and is noted without a name.
    exec.fault("*:status=500");
    let (address, path) = exec.credentials();
    assert_eq!(crate::http::get(address, &path).status, 401);
    assert_eq!(exec.get().status, 500);
    assert_eq!(exec.journal("status=401&fault=false").len(), 1);
    exec.end();
}

#[test]
fn every_fault_of_the_credentials_endpoint_is_what_it_says() {
    let exec = Exec::start("");
    let patience = Duration::from_secs(20);
    let answers = |fault: &str| {
        exec.fault(fault);
        exec.get()
    };
    let own = answers("exec:status=418,code=Own,message=a, b");
    assert_eq!((own.status, own.error()), (418, ("Own".to_owned(), "a, b".to_owned())));
    assert_eq!(answers("*:throttling").status, 429);
    let denied = answers("*:access-denied");
    assert_eq!((denied.status, denied.error().0.as_str()), (403, "AssumeRoleDenied"));
    exec.fault("*:malformed");
    let malformed = exec.raw_of_one();
    assert!(serde_json::from_str::<Value>(malformed.split_once("\r\n\r\n").unwrap().1).is_err());
    for field in ["RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"] {
        let missing = raw_json(&exec, &format!("*:missing={field}"));
        assert!(missing.get(field).is_none() && missing.as_object().unwrap().len() == 4, "{field}");
        assert_eq!(raw_json(&exec, &format!("*:wrong-type={field}"))[field], 17);
    }
    let left = |fault: &str| {
        let expiration = raw_json(&exec, fault)["Expiration"].as_str().unwrap().to_owned();
        let expiration = humantime::parse_rfc3339(&expiration).unwrap();
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        seconds(expiration) - seconds(SystemTime::now())
    };
    assert!(left("*:expired") < 0.0);
    assert!((59.0..=61.0).contains(&left("*:short=60")));
    assert!((6_000.0..=7_201.0).contains(&left("*:skew=3600")));

    exec.fault("*:truncated,times=1");
    let cut = exec.raw(patience).unwrap();
    let (head, body) = cut.split_once("\r\n\r\n").unwrap();
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && body.len() * 2 < announced.parse::<usize>().unwrap() + 2);
    exec.fault("*:drop");
    assert_eq!(exec.raw(patience).unwrap(), "");
    exec.fault("*:hang");
    assert_eq!(exec.raw(Duration::from_millis(300)).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(exec.journal("status=0").len(), 2, "those that had no answer");
    exec.fault("*:delay=300ms,times=1");
    let start = Instant::now();
    assert_eq!(exec.get().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(300));

    exec.fault("*:rotate,times=1");
    let [first, second, third] = [exec.key(), exec.key(), exec.key()];
    assert!(first == second && second == third, "rotated once, before the first of them");
    exec.fault("*:rotate");
    assert_ne!(exec.key(), exec.key());
    // A fault that is cleared during its delay is cleared.
    exec.fault("*:delay=300ms,hang");
    let hangs = std::thread::scope(|scope| {
        let hangs = scope.spawn(|| exec.raw(Duration::from_secs(5)));
        until("the fault is met", || exec.control("GET", "/faults", &Value::Null).1["faults"][0]["applied"] == 1);
        assert_eq!(exec.control("DELETE", "/faults", &Value::Null).0, 200);
        hangs.join().unwrap()
    });
    assert_eq!(hangs.unwrap(), "", "an end, and not the end of patience");
    exec.fault("*:hang");
    // A stop does not wait for what hangs.
    let start = Instant::now();
    exec.end();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_fault_that_changes_a_good_answer_waits_for_one_and_is_told_of_no_other() {
    let exec = Exec::start("");
    // The session ends with this answer, and the next one takes its time.
    let faults = ["exec:expire,times=1", "sts:delay=2s,times=1", "exec:missing=Token,times=1"];
    assert_eq!(exec.control("PUT", "/faults", &json!({ "faults": faults })).0, 200);
    let ended = exec.key();
    let cold = exec.get();
    assert_eq!(cold.status, 503, "{}", cold.body);
    let left = || exec.control("GET", "/faults", &Value::Null).1["faults"][2]["left"].clone();
    assert_eq!(left(), 1);
    until("a good answer", || exec.raw_of_one().starts_with("HTTP/1.1 200 "));
    assert_eq!(left(), 0);
    assert_ne!(exec.key(), ended);
    let told = exec.journal("place=credentials&fault=true");
    let told: Vec<_> = told.iter().map(|it| json!([it["status"], it["fault"]])).collect();
    assert_eq!(told, [json!([200, faults[0]]), json!([200, faults[2]])]);
    exec.end();
}

#[test]
fn who_waits_when_the_proxy_ends_is_told_that() {
    let exec = Exec::start("");
    let address: SocketAddr = exec.variables["TASKCREDS_CONTROL"].strip_prefix("http://").unwrap().parse().unwrap();
    let mut waiting = Connection::open(address);
    waiting.send(format!("GET /journal?count=100&timeout=60s HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    // Accepted after it and answered, so the one that waits is accepted.
    assert_eq!(exec.journal("").len(), 1);
    exec.end();
    let answer = waiting.answer();
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("ProxyEnds")), "{}", answer.body);
}

/// The JSON of a spoiled answer, which the client of these tests would not take for a session.
fn raw_json(exec: &Exec, fault: &str) -> Value {
    exec.fault(fault);
    let raw = exec.raw_of_one();
    serde_json::from_str(raw.split_once("\r\n\r\n").unwrap().1).unwrap()
}

impl Exec {
    /// One whole answer as it came.
    fn raw_of_one(&self) -> String {
        let (address, path) = self.credentials();
        let mut stream = TcpStream::connect(address).unwrap();
        let request = request(address, &path, Some(self.token())).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut read = String::new();
        stream.read_to_string(&mut read).unwrap();
        read
    }
}

#[test]
fn sessions_are_rotated_and_ended_on_demand_and_nothing_that_has_ended_is_served() {
    let exec = Exec::start("");
    let first = exec.key();
    let (status, turned) = exec.control("POST", "/tasks/exec/rotate", &Value::Null);
    assert_eq!(status, 200, "{turned}");
    let second = exec.key();
    assert_eq!(turned["tasks"][0], json!({ "task": "exec", "accessKeyId": second }));
    assert_ne!(first, second);
    let before = exec.get().json();
    assert_eq!(exec.who_am_i(&before), Ok(()));
    let key = before["AccessKeyId"].as_str().unwrap();
    let called = exec.journal(&format!("place=sts&action=GetCallerIdentity&accessKeyId={key}"));
    assert_eq!((called.len(), &called[0]["task"]), (1, &json!("exec")));
    assert_eq!(exec.control("POST", "/tasks/exec/expire", &Value::Null).0, 200);
    assert_ne!(exec.key(), second);
    assert_eq!(exec.who_am_i(&before), Err("ExpiredToken".to_owned()));
    assert_eq!(exec.who_am_i(&exec.get().json()), Ok(()));
    exec.fault("exec:expire,times=1");
    assert_eq!(exec.who_am_i(&exec.get().json()), Err("ExpiredToken".to_owned()), "ended as soon as it was answered");
    // The next one loads, and is there once it is answered.
    let next = exec.key();
    assert_eq!(exec.control("GET", "/tasks", &Value::Null).1["tasks"][0]["accessKeyId"], next);
    // Nor does the next reader get it where the next session takes its time.
    assert_eq!(
        exec.control("PUT", "/faults", &json!({ "faults": ["exec:expire,times=1", "sts:delay=2s,times=1"] })).0,
        200
    );
    let ended = exec.key();
    let next = exec.get();
    assert!(next.status == 503 || next.json()["AccessKeyId"] != ended, "{}", next.status);
    until("the next session", || exec.get().status == 200);
    assert_ne!(exec.key(), ended);
    let (status, told) = exec.control("POST", "/tasks/web/rotate", &Value::Null);
    assert_eq!((status, told["message"].as_str().unwrap()), (404, "no task is called web: there is exec"));
    exec.end();
}

#[test]
fn sessions_of_one_second_are_refreshed_ahead_and_an_application_sees_it() {
    let exec = Exec::start("--session-seconds 1");
    let (mut keys, start) = (std::collections::BTreeSet::new(), Instant::now());
    while start.elapsed() < Duration::from_secs(5) {
        let answer = exec.get();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let session = answer.json();
        let ends = humantime::parse_rfc3339(session["Expiration"].as_str().unwrap()).unwrap();
        assert!(ends > SystemTime::now());
        keys.insert(session["AccessKeyId"].as_str().unwrap().to_owned());
        rig::pause();
    }
    assert!((4..=15).contains(&keys.len()), "{}", keys.len());
    exec.end();
}

#[test]
fn the_embedded_sts_fails_per_role_and_the_proxy_rides_it_out() {
    let exec = Exec::start("--session-seconds 2");
    exec.fault("sts/demo:status=500,times=3");
    until("three failures and a session after them", || {
        exec.journal("place=sts&status=500&fault=true").len() == 3
            && exec.journal("place=sts&status=200").last().unwrap()["seq"].as_u64()
                > exec.journal("status=500").last().unwrap()["seq"].as_u64()
    });
    assert_eq!(exec.get().status, 200);
    exec.fault("sts:access-denied,times=1");
    let (status, told) = exec.control("POST", "/tasks/exec/rotate", &Value::Null);
    assert!(status == 502 && told["message"].as_str().unwrap().contains("AccessDenied"), "{told}");
    exec.end();
}

#[test]
fn the_control_interface_tells_all_that_is_wrong_and_refuses_browsers() {
    let exec = Exec::start("");
    let (status, told) = exec.control("POST", "/faults", &json!({ "faults": ["exec:statu=5", "web", "sts:rotate"] }));
    assert_eq!((status, told["faults"].as_array().unwrap().len()), (400, 4), "{told}");
    assert_eq!(exec.control("POST", "/faults", &json!({ "faults": ["web:hang"] })).0, 404);
    let (status, told) = exec.control("GET", "/journal?status=x&place=y&count=z&nonsense=1", &Value::Null);
    assert_eq!((status, told["faults"].as_array().unwrap().len()), (400, 2), "{told}");
    assert_eq!(exec.control("GET", "/journal?count=1&timeout=10ms&status=599", &Value::Null).0, 408);
    let (status, told) = exec.control("PATCH", "/faults", &Value::Null);
    assert!(status == 405 && told["message"].as_str().unwrap().contains("PUT"), "{told}");
    assert_eq!(exec.control("GET", "/", &Value::Null).0, 404);
    assert_eq!(exec.control("GET", "/readyz", &Value::Null), (200, json!({ "ready": true, "reasons": [] })));
    exec.fault("exec:hang");
    let reason = json!({ "check": "faults", "message": "set on purpose: exec:hang" });
    assert_eq!(exec.control("GET", "/readyz", &Value::Null), (503, json!({ "ready": false, "reasons": [reason] })));
    assert_eq!(exec.control("DELETE", "/readyz", &Value::Null).0, 405);
    assert_eq!(exec.control("DELETE", "/faults", &Value::Null).0, 200);
    let address = exec.variables["TASKCREDS_CONTROL"].strip_prefix("http://").unwrap();
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Referer: http://127.0.0.1/"] {
        let head = format!("DELETE /faults HTTP/1.1\r\nHost: {address}\r\n{header}\r\n\r\n");
        assert_eq!(Connection::open(address.parse().unwrap()).send(head).answer().status, 403, "{header}");
    }
    // Node's fetch sends this, and no browser sends it alone.
    for (headers, status) in
        [("Sec-Fetch-Mode: cors", 200), ("Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: cross-site", 403)]
    {
        let head = format!("GET /faults HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n\r\n");
        assert_eq!(Connection::open(address.parse().unwrap()).send(head).answer().status, status, "{headers}");
    }
    let rebound = "GET /journal HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(Connection::open(address.parse().unwrap()).send(rebound).answer().status, 403);
    exec.end();
}

#[test]
fn the_commands_fault_and_journal_do_what_they_say_and_their_exit_status_tells_it() {
    let exec = Exec::start("");
    let run = |command: &str, arguments: &str| {
        let start = rig::taskcreds(command).env("TASKCREDS_CONTROL", &exec.variables["TASKCREDS_CONTROL"]);
        start.args(arguments).run()
    };
    assert_eq!(run("fault", "add exec:status=503,times=1 sts:delay=1ms").code(), 0);
    exec.get();
    exec.get();
    let listed = run("fault", "ls").stdout;
    let rows: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["exec:status=503,times=1", "1", "0"]);
    assert_eq!(run("fault", "clear sts").stdout.lines().count(), 2);
    let wrong = run("fault", "add exec:statu exec:delay=x");
    assert!(
        wrong.code() == 64 && wrong.stderr.contains("statu") && wrong.stderr.contains("`delay`"),
        "{}",
        wrong.stderr
    );
    assert_eq!(run("fault", "add nobody:hang").code(), 1);
    assert_eq!(run("journal", "wait --task exec --place credentials --count 2 --timeout 10s").code(), 0);
    assert_eq!(run("journal", "assert --task exec --status 503 --count 1 --fault true").code(), 0);
    assert_eq!(run("journal", "assert --task exec --status 503 --count 2").code(), 1);
    assert_eq!(run("journal", "wait --status 418 --timeout 10ms").code(), 1);
    let page: Value = serde_json::from_str(&run("journal", "ls --status 503 --json").stdout).unwrap();
    assert_eq!(page["entries"].as_array().unwrap().len(), 1);
    assert_eq!(run("journal", "clear").code(), 0);
    assert_eq!(run("journal", "assert --count 0").code(), 0);
    // A name that is mistyped is no test that passes.
    assert_eq!(run("journal", "assert --task exec --count 0").code(), 0);
    assert_eq!(run("fault", "clear sts/demo").code(), 0);
    assert_eq!(run("journal", "assert --role demo --action GetSessionToken --count 0").code(), 0);
    for (command, arguments, told) in [
        ("journal", "assert --task exce --count 0", "there is exec"),
        ("journal", "ls --task exce", "there is exec"),
        ("journal", "wait --task exce --timeout 10ms", "after 10ms: no task is called exce: there is exec"),
        ("journal", "assert --task exce --count 1", "not 1: no task is called exce: there is exec"),
        ("journal", "assert --action GetCredential --count 0", "there are GetCredentials, AssumeRole, "),
        ("journal", "wait --action GetCredential --timeout 10min", "no action is called GetCredential: "),
        ("journal", "assert --place sts --action GetCredentials --count 0", "there are AssumeRole, "),
        ("fault", "clear exce", "there is exec"),
        ("fault", "clear stss", "there is exec"),
        ("fault", "clear sts/dmeo", "no role is called dmeo: there is demo, and whichever the application assumes"),
        ("journal", "wait --role dmeo --timeout 10ms", "after 10ms: no role is called dmeo: there is demo, and"),
    ] {
        let ended = run(command, arguments);
        assert_eq!(ended.code(), 1, "{command} {arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(told), "{command} {arguments}: {}", ended.stderr);
    }
    // A role that only the application assumes: where none are listed, every name is one.
    assert_eq!(run("journal", "assert --role another --count 0").code(), 0);
    assert_eq!(run("fault", "add sts/another:access-denied").code(), 0);
    exec.process.logs("of a role that no task has: no role is called another: there is demo");
    let long = run("journal", "wait --timeout 11min");
    assert!(long.code() == 64 && long.stderr.contains("at most 10min"), "{}", long.stderr);
    let list = run("fault", "add exec:hang;exec:drop");
    assert!(list.code() == 64 && list.stderr.contains("`;` separates faults"), "{}", list.stderr);
    assert_eq!(run("fault", "add sts/other:hang sts:drop,times=1").code(), 0);
    let cleared = run("fault", "clear sts");
    assert!(cleared.code() == 0 && cleared.stderr.contains("sts/other"), "{}", cleared.stderr);
    assert_eq!(run("fault", "clear sts/other").stderr, "");
    let nobody = rig::taskcreds("fault").args("ls --control http://127.0.0.1:1").run();
    assert_eq!(nobody.code(), 69, "{}", nobody.stderr);
    assert_eq!(rig::taskcreds("journal").arg("ls").run().code(), 64);
    exec.end();
}

#[test]
fn with_real_sts_nothing_fails_on_purpose_unless_it_is_allowed_and_then_readiness_and_the_log_say_so() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let serve = |top: &str, flags: &str| {
        let start = rig::serve(Config::with(top, std::slice::from_ref(&task))).args("--operations-listen 127.0.0.1:0");
        let start = if flags.is_empty() { start } else { start.args(flags) };
        start.envs(sts.environment())
    };
    let (_folder, log, _, settings) = audit::audited();
    let in_file = &format!("faults = [\"web:status=503,times=1\"]\n[audit]\n{settings}");
    for (top, flags) in [("", "--fault web:hang"), (in_file, "")] {
        let refused = serve(top, flags).run();
        assert!(refused.code() == 64 && refused.stderr.contains("--allow-faults"), "{}", refused.stderr);
    }
    for flags in ["--fault sts:hang", "--fault web:expire", "--fault nobody:hang", "--fault web:x --fault y"] {
        let refused = serve("", &format!("--allow-faults {flags}")).run();
        assert_eq!(refused.code(), 64, "{flags}: {}", refused.stderr);
    }
    let proxy = serve(in_file, "--allow-faults").spawn();
    let ready = Connection::open(operations(&proxy)).send(request(operations(&proxy), "/readyz", None)).answer();
    assert!(ready.status == 503 && ready.body.contains("web:status=503,times=1"), "{}", ready.body);
    proxy.logs("answers are made to fail on purpose: web:status=503,times=1");
    let ask = || Connection::open(proxy.address()).send(request(proxy.address(), &task.path(), None)).answer();
    assert_eq!(ask().status, 503);
    until("credentials", || ask().status == 200);
    let ready = || crate::http::get(operations(&proxy), "/readyz").status;
    until("ready", || ready() == 200);
    proxy.end();
    let answered = audit::all_records(&log).into_iter().filter(|record| record["event"] == "answer");
    let told: Vec<_> = answered.map(|it| json!([it["status"], it["code"], it["reason"], it["taskArn"]])).collect();
    let arn = json!(task.arn());
    assert_eq!(told[0], json!([503, "CredentialsUninitialized", "Fault", arn]));
    assert_eq!(*told.last().unwrap(), json!([200, null, null, arn]));

    let proxy = serve("", "--control 127.0.0.1:0").spawn();
    let said = proxy.says("control interface at http://");
    let address = said.split_once("control interface at http://").unwrap().1.lines().next().unwrap();
    assert_eq!(control(address, "PUT", "/faults", &json!({ "faults": ["web:hang"] })).0, 403);
    assert_eq!(control(address, "POST", "/tasks/web/expire", &Value::Null).0, 403);
    assert_eq!(control(address, "GET", "/journal", &Value::Null).0, 200);
    assert_eq!(
        rig::exec().args("--role arn:aws:iam::111122223333:role/web --session-seconds 5 -- true").run().code(),
        64
    );
}

#[test]
fn a_file_with_wrong_faults_tells_each_of_them_with_its_place() {
    let ended =
        rig::serve(Config::with("faults = [\"web:statu=5,delay=x\", \"sts:rotate\"]\n", &[Task::new("web")])).run();
    assert_eq!(ended.code(), 64);
    for wrong in ["faults[0]: fault `web:statu", "`delay`", "faults[1]: fault `sts:rotate`"] {
        assert!(ended.stderr.contains(wrong), "{}", ended.stderr);
    }
}
