//! Web pages in a developer's browser, for which `dev` and `exec` are a neighbour: none reads a body with credentials.
//!
//! The worst case: the page has the address, the credentials id and the token, it sends no `Referer`, and the browser takes its site
//! for one on loopback, so no rule of the browser's about local networks holds it back. Each way is counted where it ends, at the
//! proxy, and each scene has another one beside it in which the same page does read, or else a page that is broken would pass.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::slice;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::attacker::{Browser, NAME, Site, chromium};
use crate::http::{get, get_with_token};
use crate::netns::Netns;
use crate::rig::{self, Process};
use crate::skip;
use crate::tasks::{Config, Task};

/// The namespace is a test's own, and so are its ports.
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 51679);
const OPERATIONS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 51680);

/// How many answers there were of each status.
type Counts = BTreeMap<u16, u64>;

/// What the page tells of one way.
#[derive(Debug, Deserialize)]
struct Report {
    way: String,
    /// How it ended in the page, for who reads a failure.
    #[expect(dead_code, reason = "read by Debug")]
    said: String,
    read: Vec<String>,
    /// What was answered meanwhile; not from the page.
    #[serde(default)]
    answered: Vec<u16>,
}

/// What has come of a visit.
struct Visited {
    reports: Vec<Report>,
    /// All that has reached the attacker.
    seen: String,
    log: String,
}

/// What a page is up to.
struct Scene {
    /// Where it asks; the site's own address once that is another's, if it rebinds.
    target: String,
    rebinds: bool,
    path: String,
    token: String,
}

impl Scene {
    fn new(task: &Task, target: &str) -> Self {
        let token = task.token.clone().unwrap();
        Self { target: target.to_owned(), rebinds: false, path: task.path(), token }
    }

    fn rebinding(task: &Task) -> Self {
        Self { rebinds: true, ..Self::new(task, "") }
    }

    /// Has a browser visit the page, and waits until the page has tried everything.
    fn play(self, counts: impl Fn() -> Counts + Send + Sync + 'static) -> Visited {
        let (tell, told) = mpsc::channel();
        let site = Arc::new(Mutex::new(None::<Site>));
        let leaving = Arc::clone(&site);
        let before = Mutex::new(Counts::new());
        let collector = Site::open((Ipv6Addr::LOCALHOST, 0).into(), move |visit| {
            match visit.path.as_str() {
                "/leave" => leaving.lock().unwrap().take().unwrap().leave(),
                "/begin" => *before.lock().unwrap() = counts(),
                "/report" => {
                    let mut report: Report = serde_json::from_str(&visit.body).unwrap();
                    let mut before = before.lock().unwrap();
                    // Some ways end in the page before they have begun in the network.
                    let deadline = Instant::now() + Duration::from_secs(10);
                    while counts() == *before && Instant::now() < deadline {
                        rig::pause();
                    }
                    let after = counts();
                    report.answered = after
                        .iter()
                        .filter(|(status, count)| before.get(status) != Some(count))
                        .map(|(&status, _)| status)
                        .collect();
                    *before = after;
                    tell.send(Some(report)).unwrap();
                }
                "/end" => tell.send(None).unwrap(),
                _ => {}
            }
            ("Access-Control-Allow-Origin: *\r\n".to_owned(), String::new())
        });
        let collector = collector.unwrap();
        let plan = serde_json::json!({
            "target": self.target, "rebind": self.rebinds, "path": self.path, "token": self.token, "collector": collector.url(),
        });
        let page = include_str!("../files/attacker.html").replace("\"PLAN\"", &plan.to_string());
        let own = Site::open((Ipv6Addr::LOCALHOST, PROXY.port()).into(), move |visit| {
            let body = if visit.path == "/" { page.clone() } else { String::new() };
            ("Content-Type: text/html\r\nX-Attacker: yes\r\n".to_owned(), body)
        });
        let own = own.unwrap();
        *site.lock().unwrap() = Some(own.clone());
        let browser = Browser::visit(&format!("http://{NAME}:{}/", PROXY.port()));
        let mut reports = Vec::new();
        loop {
            match told.recv_timeout(Duration::from_secs(60)) {
                Ok(Some(report)) => reports.push(report),
                Ok(None) => break,
                Err(_) => panic!("the page is stuck after {reports:#?}: {}", browser.log()),
            }
        }
        let seen = own.seen() + &collector.seen();
        own.leave();
        collector.leave();
        Visited { reports, seen, log: browser.log() }
    }
}

impl Visited {
    /// The ways that were answered, and with what.
    fn answered(&self) -> Vec<(&str, &[u16])> {
        self.reports.iter().map(|report| (report.way.as_str(), report.answered.as_slice())).collect()
    }

    /// The ways by which this was read.
    fn readers(&self, text: &str) -> Vec<&str> {
        let readers = self.reports.iter().filter(|report| report.read.iter().any(|read| read.contains(text)));
        readers.map(|report| report.way.as_str()).collect()
    }
}

/// `dev` with one task, which has a token.
struct Dev {
    _process: Process,
    session: serde_json::Value,
}

impl Dev {
    fn start(also: &str, head: &str, task: &Task) -> Self {
        // On its own address of loopback alone: the other one is the attacker's here.
        let head = format!("listen = [\"{PROXY}\"{also}]\noperations_listen = \"{OPERATIONS}\"\n{head}");
        let process = rig::dev_with(Config::with(&head, slice::from_ref(task))).spawn();
        assert_eq!(process.address(), PROXY);
        let session = get_with_token(PROXY, &task.path(), task.token.as_deref().unwrap()).json();
        Self { _process: process, session }
    }

    /// Of everything that has reached the attacker, nothing is of the session.
    fn assert_kept_from(&self, visited: &Visited) {
        for key in ["AccessKeyId", "SecretAccessKey", "Token"] {
            let secret = self.session[key].as_str().unwrap();
            assert!(!secret.is_empty() && !visited.seen.contains(secret), "{key} was read: {:#?}", visited.answered());
        }
    }
}

/// What the proxy has answered.
fn answers() -> Counts {
    let text = get(OPERATIONS, "/metrics").body;
    let lines = text.lines().filter_map(|line| line.strip_prefix("taskcreds_requests_total{code=\""));
    lines.map(|line| line.split_once("\"} ").unwrap()).map(|(s, n)| (s.parse().unwrap(), n.parse().unwrap())).collect()
}

fn namespace() -> Result<Netns, String> {
    chromium()?;
    Netns::new()
}

/// The ways of another site's page, and how the proxy refuses each.
const CROSS_SITE: [(&str, u16); 19] = [
    ("fetch", 403),
    ("fetch, no-cors", 403),
    ("fetch with credentials", 403),
    // The browser asks first whether it may send the header.
    ("fetch with the token", 405),
    ("XMLHttpRequest", 403),
    ("XMLHttpRequest with the token", 405),
    ("img", 403),
    ("script", 403),
    ("module", 403),
    ("stylesheet", 403),
    ("iframe", 403),
    ("object", 403),
    ("embed", 403),
    ("form, GET", 403),
    ("form, POST", 405),
    ("EventSource", 403),
    ("WebSocket", 400),
    ("beacon", 405),
    ("window", 403),
];

/// The ways of a page whose name is the proxy's now.
const REBOUND: [&str; 5] = ["fetch", "fetch with the token", "XMLHttpRequest with the token", "iframe", "script"];

#[test]
fn a_page_of_another_site_reads_nothing_and_is_refused_every_way() {
    let Some(netns) = skip::unless("a browser, across sites", namespace()) else { return };
    netns.enter(|| {
        let task = Task::with_token("web");
        let dev = Dev::start("", "", &task);
        let before = answers();
        let visited = Scene::new(&task, &format!("http://{PROXY}")).play(answers);
        dev.assert_kept_from(&visited);
        assert_eq!(visited.reports.len(), CROSS_SITE.len());
        for (report, (way, status)) in visited.reports.iter().zip(CROSS_SITE) {
            assert_eq!(report.way, way);
            assert!(report.answered.contains(&status), "not refused with {status}: {report:?}");
            assert_eq!(report.read, [""; 0], "not even what it was refused with: {report:?}");
        }
        // A 401 would have been a request whose id was looked up.
        for status in [200, 401, 503] {
            assert_eq!(answers()[&status], before[&status], "{status}: {:#?}", visited.answered());
        }
    });
}

#[test]
fn the_same_page_reads_what_a_server_without_these_rules_answers() {
    let Some(netns) = skip::unless("a browser and a server that lets it read", namespace()) else { return };
    netns.enter(|| {
        let task = Task::with_token("web");
        let asked = Arc::new(Mutex::new(Counts::new()));
        let counts = Arc::clone(&asked);
        let lenient = Site::open(PROXY, move |visit| {
            *asked.lock().unwrap().entry(200).or_default() += 1;
            let origin = visit.header("origin");
            let (kind, body) = match visit.header("sec-fetch-dest") {
                "script" => ("text/javascript", "leaked('what-is-secret')"),
                "style" => ("text/css", ":root { --leaked: 'what-is-secret' }"),
                "image" => ("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg' width='1234' height='1'/>"),
                "empty" if visit.header("accept") == "text/event-stream" => {
                    ("text/event-stream", "data: what-is-secret\n\n")
                }
                "empty" => ("application/json", "{\"Token\":\"what-is-secret\"}"),
                _ => ("text/html", "<script>(opener || parent).postMessage('what-is-secret', '*')</script>"),
            };
            let allowed = "Access-Control-Allow-Credentials: true\r\nAccess-Control-Allow-Headers: authorization";
            let headers = format!("Content-Type: {kind}\r\nAccess-Control-Allow-Origin: {origin}\r\n{allowed}\r\n");
            (headers, body.to_owned())
        });
        let lenient = lenient.unwrap();
        let visited = Scene::new(&task, &lenient.url()).play(move || counts.lock().unwrap().clone());
        lenient.leave();
        let mut readers = visited.readers("what-is-secret");
        readers.extend(visited.readers("1234 wide"));
        // A browser shows these to nobody, or needs more than an answer to: they are refused all the same.
        let blind = ["fetch, no-cors", "WebSocket", "beacon"];
        for (way, _) in CROSS_SITE {
            assert_eq!(readers.contains(&way), !blind.contains(&way), "{way}: {:#?}; {}", visited.reports, visited.log);
        }
    });
}

#[test]
fn a_page_whose_name_becomes_the_proxys_is_given_away_by_host_alone() {
    let Some(netns) = skip::unless("a browser and a name that is rebound", namespace()) else { return };
    netns.enter(|| {
        let task = Task::with_token("web");
        let dev = Dev::start("", "", &task);
        let before = answers();
        let visited = Scene::rebinding(&task).play(answers);
        dev.assert_kept_from(&visited);
        assert_eq!(visited.answered(), REBOUND.map(|way| (way, &[403][..])), "{}", visited.log);
        // Of the same origin now, the page may read, and this is what there is to read.
        assert_eq!(visited.readers("this Host is not allowed"), REBOUND[..4], "{:#?}", visited.reports);
        assert_eq!(answers()[&200], before[&200]);
        drop(dev);

        // Had the user allowed that name, the same page would have had everything.
        let dev = Dev::start("", &format!("allowed_hosts = [{NAME:?}]"), &task);
        let visited = Scene::rebinding(&task).play(answers);
        let secret = dev.session["SecretAccessKey"].as_str().unwrap();
        assert_eq!(visited.readers(secret), ["fetch with the token", "XMLHttpRequest with the token"]);
        assert_eq!(visited.readers("this task demands a token"), ["fetch", "iframe"], "{:#?}", visited.reports);
    });
}

#[test]
fn a_page_reads_nothing_at_the_address_that_demands_no_token() {
    let Some(netns) = skip::unless("a browser and 169.254.170.2", namespace()) else { return };
    netns.enter(|| {
        let task = Task::with_token("web");
        let dev = Dev::start(", \"169.254.170.2:51679\"", "", &task);
        let visited = Scene::new(&task, "http://169.254.170.2:51679").play(answers);
        dev.assert_kept_from(&visited);
        assert_eq!(visited.reports.len(), CROSS_SITE.len());
        for report in &visited.reports {
            assert!(!report.answered.is_empty() && report.read.is_empty(), "{report:?}");
        }
        // A browser says nothing of itself to an address that is neither loopback nor https, unless it is to read the answer for the
        // page. So the id alone is enough here to be answered, and only the browser's own rules keep it from the page.
        let of = |way: &str| visited.reports.iter().find(|report| report.way == way).unwrap();
        assert!(of("fetch").answered.contains(&403) && of("img").answered.contains(&200), "{:?}", visited.answered());
    });
}

/// 127.0.0.1 and ::1, as the kernel lists them.
const LOOPBACK: [&str; 2] = ["0100007F:", "00000000000000000000000001000000:"];

/// `ADDRESS:PORT` in hexadecimal, as the kernel lists what listens in a namespace.
fn listening() -> Vec<String> {
    let lists = ["tcp", "tcp6"].map(|list| std::fs::read_to_string(format!("/proc/thread-self/net/{list}")).unwrap());
    let lines = lists.iter().flat_map(|list| list.lines().skip(1)).map(|line| line.split_whitespace().collect());
    // 0A is LISTEN (include/net/tcp_states.h).
    lines.filter(|words: &Vec<_>| words[3] == "0A").map(|words| words[1].to_owned()).collect()
}

#[test]
fn dev_and_exec_listen_on_loopback_alone_and_demand_a_token() {
    let made = || -> Result<_, String> {
        let (laptop, neighbour) = (Netns::new()?, Netns::new()?);
        laptop.join("10.74.0.1/24", &neighbour, "10.74.0.2/24")?;
        Ok((laptop, neighbour))
    };
    let Some((laptop, neighbour)) = skip::unless("what dev and exec listen on", made()) else { return };
    let exec = rig::exec().args("--emulate -- sh -c").arg("echo \"$AWS_CONTAINER_CREDENTIALS_FULL_URI\"; read line");
    for (start, line) in [(rig::dev(), "export AWS_CONTAINER_CREDENTIALS_FULL_URI="), (exec, "")] {
        let mut process = laptop.enter(|| start.spawn());
        let said = process.says("/v2/credentials/");
        let uri = said.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix("http://")).unwrap();
        let (address, path) = uri.split_once('/').unwrap();
        let address: SocketAddr = address.parse().unwrap();
        assert!(address.ip().is_loopback());
        let listening = laptop.enter(listening);
        // The endpoint, and the embedded STS.
        assert!(listening.len() >= 2, "{listening:?}");
        let is_loopback = |address: &String| LOOPBACK.iter().any(|loopback| address.starts_with(loopback));
        assert!(listening.iter().all(is_loopback), "{listening:?}");
        let refused = laptop.enter(|| get(address, &format!("/{path}")));
        assert_eq!(refused.status, 401, "without the token");
        let from_outside = (Ipv4Addr::new(10, 74, 0, 1), address.port()).into();
        let tried = neighbour.enter(|| TcpStream::connect_timeout(&from_outside, Duration::from_secs(2)));
        assert_eq!(tried.map_err(|error| error.kind()).unwrap_err(), ErrorKind::ConnectionRefused);
        let ended = laptop.enter(|| {
            if !line.is_empty() {
                return process.end();
            }
            process.tell("go on");
            process.wait()
        });
        assert_eq!(ended.code(), 0);
    }
}
