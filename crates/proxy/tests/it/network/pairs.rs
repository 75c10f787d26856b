//! By its pair a task reaches the endpoint and nothing else, whatever it gives itself on its end and whatever this machine forwards.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use super::lifecycle::everything;
use super::*;

/// Of this machine.
const OF_HOST: [&str; 6] = [
    "169.254.170.2:2204",
    "10.90.0.1:2204",
    "10.91.0.1:2204",
    "[fe80::1%25taskcreds0]:2206",
    "[fd90::1]:2206",
    "[fd91::1]:2206",
];
/// Of the other task.
const OF_DB: [&str; 2] = ["169.254.176.3:2204", "[fdaa::3]:2206"];
/// Of a neighbour.
const OF_NEIGHBOUR: [&str; 2] = ["10.91.0.2:2204", "[fd91::2]:2206"];

/// Two tasks that have no other interface, and one that is on the bridge as well.
struct Tasks {
    world: World,
    web: Netns,
    db: Netns,
}

impl Tasks {
    fn unless(test: &str) -> Option<Self> {
        let world = World::unless(test)?;
        let [web, db] = [Netns::bare().unwrap(), Netns::bare().unwrap()];
        for netns in [&web, &db] {
            netns.set("ipv6/conf/default/accept_dad", 0).unwrap();
        }
        // Every one of them has something at every address that it has or will have.
        for netns in [&world.host, &world.neighbour, &web, &db] {
            for address in ["0.0.0.0:2204", "[::]:2206"] {
                let listener = netns.enter(|| TcpListener::bind(address)).unwrap();
                std::thread::spawn(move || metadata(&listener));
            }
        }
        Some(Self { world, web, db })
    }

    fn up(&self, flags: &str) {
        for netns in [&self.web, &self.db, &self.world.one] {
            self.world.done(&format!("up --mode awsvpc --netns {}{flags}", netns.file()));
        }
    }

    /// All that NET_ADMIN inside may give, and routes and addresses on this side that somebody may have made.
    fn give_all(&self) {
        for (task, number) in [(&self.web, 2), (&self.db, 3)] {
            let host = &self.world.host;
            host.ip(&format!("address replace fe80::1/64 dev taskcreds-{number} nodad")).unwrap();
            host.ip(&format!("route add fdaa::{number}/128 dev taskcreds-{number}")).unwrap();
            for arguments in [
                "address replace fe80::2/64 dev taskcreds0 nodad",
                &format!("address add fdaa::{number}/128 dev taskcreds0 nodad"),
                "route add default via 169.254.170.2 dev taskcreds0",
                "route add default via fe80::1 dev taskcreds0",
                "route del unreachable 169.254.169.254",
                "-6 route del unreachable fd00:ec2::254",
            ] {
                task.ip(arguments).unwrap();
            }
        }
    }

    /// Who is to be kept from what.
    fn closed<'a>(&'a self, expected: &'a str) -> Vec<(&'a str, &'a Netns, &'a str, &'a str)> {
        let World { one, neighbour, .. } = &self.world;
        let by_web = [&OF_HOST[..], &OF_DB, &OF_NEIGHBOUR, &IMDS].concat();
        let others = [("one", one), ("neighbour", neighbour)];
        let others = others.iter().flat_map(|(who, from)| OF_DB.map(|address| (*who, *from, address, expected)));
        by_web.into_iter().map(|address| ("web", &self.web, address, expected)).chain(others).collect()
    }

    /// One datagram is enough: nobody has to answer it.
    fn hear(&self, what: &str, expected: bool) {
        let World { host, one, neighbour, .. } = &self.world;
        for (from, to, address) in [
            (&self.web, host, "10.90.0.1"),
            (&self.web, host, "[fd90::1]"),
            (&self.web, neighbour, "10.91.0.2"),
            (&self.web, &self.db, "169.254.176.3"),
            (&self.web, &self.db, "[fdaa::3]"),
            (neighbour, &self.db, "169.254.176.3"),
            (one, &self.db, "[fdaa::3]"),
        ] {
            assert_eq!(hears(to, from, address), expected, "{what}: {address} from {}", from.name());
        }
    }

    /// Leaves what looks at it later.
    fn flush_arriving(&self, backend: &str) {
        self.world.sh(match backend {
            "nft" => "nft flush chain inet taskcreds arriving",
            _ => "iptables -t raw -F TASKCREDS-RAW; ip6tables -t raw -F TASKCREDS-RAW",
        });
    }

    /// As who lets through what he knows before anybody else is asked; container engines do so in FORWARD.
    fn accept(&self) {
        let first = "-I FORWARD 1 -j ACCEPT; $program -I INPUT 1 -j ACCEPT";
        self.world.sh(&format!("for program in iptables ip6tables; do $program {first}; done"));
    }
}

/// At a port of the system's choice: one that was just closed may be held by a process that another test is starting.
fn hears(to: &Netns, from: &Netns, address: &str) -> bool {
    let here = if address.starts_with('[') { "[::]" } else { "0.0.0.0" };
    let bind = || UdpSocket::bind(format!("{here}:0")).unwrap();
    let socket = to.enter(bind);
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let port = socket.local_addr().unwrap().port();
    // Who has no way says so at once.
    let _ = from.enter(bind).send_to(b"x", format!("{address}:{port}"));
    socket.recv(&mut [0]).is_ok()
}

#[test]
fn a_task_reaches_nothing_by_its_pair_but_the_endpoint() {
    let Some(tasks) = Tasks::unless("what is reached by a pair") else { return };
    let (web, db) = (&tasks.web, &tasks.db);
    let World { host, one, neighbour, .. } = &tasks.world;
    for (backend, nat, v6) in BACKENDS.iter().flat_map(|backend| [(backend, false, true), (backend, true, false)]) {
        let what = format!("{backend}, nat {nat}, IPv6 {v6}");
        let flags = [if nat { " --nat" } else { "" }, if v6 { " --ipv6" } else { "" }].concat();
        let up = format!("up --bridge br0 --backend {backend}{flags}");
        tasks.world.done(&up);
        tasks.up("");
        let listen: Vec<_> = listen(nat).into_iter().take(if v6 { 2 } else { 1 }).collect();
        let proxy = tasks.world.serve(&listen, "");
        let endpoints = || {
            let of = |address| [("web", web, address, REACHED), ("db", db, address, REACHED)];
            ENDPOINTS.into_iter().take(if v6 { 2 } else { 1 }).flat_map(of)
        };
        // What has no capability, and then what has one.
        let rows: Vec<_> = endpoints().chain(tasks.closed(NOBODY)).collect();
        all(&what, &rows);
        let status = tasks.world.run("status");
        assert_eq!(status.code(), 0, "{what}: {}", status.stdout);
        tasks.give_all();
        // The interfaces that the one on the bridge had before are as they were.
        let mine = ["10.90.0.1:2204", "[fd90::1]:2206", "10.91.0.2:2204", "[fd91::2]:2206"];
        let mine = mine.map(|address| ("one", one, address, METADATA));
        let rows: Vec<_> = rows.into_iter().chain(mine).collect();
        for layers in ["where it is delivered or forwarded", "where it comes in"] {
            if layers == "where it comes in" {
                tasks.world.done(&up);
                tasks.accept();
                if *backend == "nft" {
                    tasks.world.sh("nft flush chain inet taskcreds entering");
                }
            } else {
                tasks.flush_arriving(backend);
            }
            let what = format!("{what}, NET_ADMIN, dropped {layers}");
            all(&what, &rows);
            tasks.hear(&what, false);
            assert!(hears(neighbour, one, "10.91.0.2") && hears(host, one, "[fd90::1]"), "{what}");
        }
        drop(proxy);
        tasks.world.done("down");
        tasks.world.sh("nft flush ruleset");
    }
}

/// What is sent to the endpoint and is to go on from there, on a machine that is a router of segments.
#[test]
fn a_segment_routing_header_leads_from_the_endpoint_to_nothing() {
    let Some(tasks) = Tasks::unless("segment routing") else { return };
    let (host, web) = (&tasks.world.host, &tasks.web);
    for which in ["all", "default"] {
        let set = host.set(&format!("ipv6/conf/{which}/seg6_enabled"), 1).map_err(|why| format!("SRv6: {why}"));
        let Some(()) = skip::unless("segment routing", set) else { return };
    }
    host.ip("address add fd93::1/128 dev lo nodad").unwrap();
    let listener = host.enter(|| TcpListener::bind("[::]:80")).unwrap();
    std::thread::spawn(move || metadata(&listener));
    for backend in BACKENDS {
        tasks.up(&format!(" --backend {backend}"));
        tasks.world.done("up --bridge br0 --ipv6");
        web.ip("route add fd93::1 encap seg6 mode inline segs fd00:ec2::23 via fe80::1 dev taskcreds0").unwrap();
        let rows = |expected| [("web", web, "[fd00:ec2::23]", METADATA), ("web", web, "[fd93::1]", expected)];
        all(backend, &rows(NOBODY));
        tasks.flush_arriving(backend);
        all(&format!("{backend}, where it is delivered"), &rows(NOBODY));
        tasks.world.sh("nft flush ruleset");
        all(&format!("{backend}, no rules"), &rows(METADATA));
        tasks.world.done("down");
    }
}

/// What [`a_task_reaches_nothing_by_its_pair_but_the_endpoint`] keeps out is let in without the rules.
#[test]
fn without_the_rules_a_pair_leads_everywhere_but_by_ipv6_only_who_has_an_address_there() {
    let Some(tasks) = Tasks::unless("pairs without rules") else { return };
    let addresses = || tasks.world.sh("ip -6 -o address show dev taskcreds-2 | sed 's/.*inet6 //; s/ .*//'");
    tasks.world.done("up --bridge br0 --ipv6");
    tasks.up("");
    assert_eq!(addresses(), "fe80::1/64\n");
    tasks.world.done("down");
    tasks.up("");
    tasks.world.sh("nft flush ruleset");
    // A firewall that is loaded anew leaves a pair by which there is no IPv6.
    assert_eq!(addresses(), "");
    tasks.give_all();
    all("no rules", &tasks.closed(METADATA));
    tasks.hear("no rules", true);
}

/// What is not wanted any more goes last, and where a part of it does not go all is as it was.
#[test]
fn what_cannot_be_taken_away_is_guarded_and_whole() {
    let Some(tasks) = Tasks::unless("a pair that stays") else { return };
    // An `ip` that refuses one thing, and tells the rules that there are then.
    let folder = tempfile::tempdir().unwrap();
    let (fake, seen) = (folder.path().join("ip"), folder.path().join("seen"));
    let real = sh(&tasks.world.host, "command -v ip");
    let script = format!(
        "#!/bin/sh\n[ \"$*\" != \"$REFUSED\" ] || {{ (nft list ruleset; iptables-save) >{}; exit 1; }}\nexec {} \"$@\"\n",
        seen.display(),
        real.trim()
    );
    std::fs::write(&fake, script).unwrap();
    std::fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    for (backend, other) in [("nft", "iptables"), ("iptables", "nft")] {
        tasks.world.empty_chains();
        tasks.up(&format!(" --backend {backend}"));
        tasks.world.done("up --bridge br0 --ipv6 --nat");
        // Numbers of interfaces, which come first, are never used again.
        let rest = |line: String| line.split_once(": ").map_or(line.clone(), |(_, rest)| rest.to_owned());
        let everything = || {
            let of = |netns| everything(netns).into_iter().map(rest).collect::<BTreeSet<_>>();
            [&tasks.web, &tasks.world.host].map(of)
        };
        let state = || std::fs::read(tasks.world.state()).unwrap();
        let before = (everything(), state());
        let down = format!("down --netns {}", tasks.web.file());
        for (arguments, refused) in [
            (down, "link del taskcreds-2"),
            (format!("up --bridge br0 --backend {other}"), "address del fe80::1/64 dev taskcreds-2"),
        ] {
            let what = format!("{backend}, {arguments}");
            let ended = tasks.world.start(&arguments).env("PATH", &path).env("REFUSED", refused).run();
            assert_eq!(ended.code(), 70, "{what}: {}", ended.stderr);
            assert!(ended.stderr.contains(&format!("`ip {refused}` failed")), "{what}: {}", ended.stderr);
            assert!(!ended.stderr.contains("not all was undone"), "{what}: {}", ended.stderr);
            let differs = |(then, now): (&BTreeSet<String>, BTreeSet<String>)| {
                then.symmetric_difference(&now).cloned().collect::<Vec<_>>()
            };
            let differs: Vec<_> = before.0.iter().zip(everything()).flat_map(differs).collect();
            assert_eq!(differs, [""; 0], "{what}");
            assert_eq!(state(), before.1, "{what}");
            assert_eq!(tasks.world.run("status").code(), 0, "{what}");
            let rules = std::fs::read_to_string(&seen).unwrap();
            let guards = ["iifname \"taskcreds-2\" drop", "-A TASKCREDS-RAW -i taskcreds-2 -m comment"];
            assert!(guards.iter().any(|guard| rules.contains(guard)), "{what}: {rules}");
        }
        tasks.world.done("down");
        tasks.world.sh("nft flush ruleset");
    }
}
