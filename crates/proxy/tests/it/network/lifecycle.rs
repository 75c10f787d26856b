//! Up, down, what is found and put back, and what others wipe.

use super::*;
use crate::rig::until;

impl World {
    fn everything(&self) -> Vec<String> {
        everything(&self.host)
    }
}

/// Everything that could be left behind.
pub(super) fn everything(netns: &Netns) -> Vec<String> {
    let said = sh(
        netns,
        "nft -s list ruleset 2>&1; ip -o address; ip route show table all; ip -6 route show table all; ip -o link | cut -d: -f2
for file in /proc/sys/net/ipv4/conf/*/route_localnet; do echo $file $(cat $file); done",
    );
    // Counters and times to live differ.
    let mut lines: Vec<_> = said.lines().filter(|line| !line.starts_with('#')).map(steady).collect();
    lines.sort();
    lines
}

fn steady(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let is_time = |word: &str| word.ends_with("sec") || word == "forever";
    words.into_iter().filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")
}

#[test]
fn up_twice_and_down_once_leaves_nothing() {
    let Some(world) = World::unless("up and down") else { return };
    world.empty_chains();
    world.sh("iptables -A INPUT -p tcp --dport 22 -j ACCEPT; nft add table inet others");
    let (one, two) = (world.one.name(), world.two.file());
    let ups = [
        "up --bridge br0".to_owned(),
        "up --bridge br0 --ipv6 --nat".to_owned(),
        "up --mode host --nat".to_owned(),
        "up --mode host,bridge --bridge br0 --ipv6".to_owned(),
        "up --mode shared --ipv6".to_owned(),
        format!("up --netns {one} --netns {two} --ipv6"),
        format!("up --mode bridge,awsvpc --bridge br0 --nat --netns {one}"),
    ];
    let before = world.everything();
    for (up, backend) in ups.iter().flat_map(|up| BACKENDS.map(|backend| (up, backend))) {
        world.done(&format!("{up} --backend {backend}"));
        let once = world.everything();
        assert_ne!(once, before, "{up}");
        world.done(&format!("{up} --backend {backend}"));
        assert_eq!(world.everything(), once, "{up}, {backend}: twice is not once");
        assert!(world.state().exists());
        world.done("down");
        assert_eq!(world.everything(), before, "{up}, {backend}");
        assert!(!world.state().exists());
    }
    // From one to the other, and then nothing.
    for up in &ups {
        for backend in BACKENDS {
            world.done(&format!("{up} --backend {backend}"));
            let status = world.run("status");
            assert_eq!(status.code(), 0, "{up}, {backend}: {}", status.stdout);
        }
    }
    world.done("down");
    assert_eq!(world.everything(), before);
    assert_eq!(world.done("down"), "nothing is set up\n");
}

#[test]
fn what_was_there_before_stays() {
    let Some(world) = World::unless("what was there") else { return };
    world.host.ip("address add 169.254.170.2/32 dev lo").unwrap();
    world.host.set("ipv4/conf/br0/route_localnet", 1).unwrap();
    let before = world.everything();
    world.done("up --bridge br0 --nat");
    world.done("up --bridge br0 --nat");
    world.done("down");
    assert_eq!(world.everything(), before);
}

#[test]
fn print_tells_what_would_be_done_and_does_nothing() {
    let Some(world) = World::unless("--print") else { return };
    let before = world.everything();
    let said = world.done("up --bridge br0 --nat --print --backend nft");
    for part in [
        "nft -f - <<'END'\nadd table inet taskcreds\n",
        "\t\tiifname \"br0\" ip daddr 169.254.170.2 tcp dport 80 dnat ip to 127.0.0.1:51679\n",
        "\nip address add 169.254.170.2/32 dev lo scope host\n",
        "\nsysctl -w net.ipv4.conf.br0.route_localnet=1\n",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(world.everything(), before);
    assert!(!world.state().exists());
    // It is a script that does it.
    world.sh(&said);
    all("printed", &[("one", &world.one, IMDS[0], NOBODY)]);
}

#[test]
fn what_others_wipe_is_named_and_comes_back() {
    let Some(world) = World::unless("--watch") else { return };
    let (one, two) = (world.one.name().to_owned(), world.two.name().to_owned());
    for backend in BACKENDS {
        world.sh("iptables -P INPUT ACCEPT");
        let up = format!("up --mode bridge,awsvpc --bridge br0 --netns {one} --nat --backend {backend}");
        world.done(&up);
        let wiped = [
            ("nft flush ruleset", "rules: "),
            ("ip address del 169.254.170.2/32 dev lo", "address 169.254.170.2/32 on lo"),
            ("echo 0 >/proc/sys/net/ipv4/conf/br0/route_localnet", "sysctl net.ipv4.conf.br0.route_localnet=1"),
            ("ip link del taskcreds-2", "interface taskcreds-2"),
        ];
        for (wipe, missing) in wiped {
            world.sh(wipe);
            let status = world.run("status");
            assert_eq!(status.code(), 1, "{backend}, {wipe}: {}", status.stdout);
            assert!(status.stdout.contains(&format!("MISSING  {missing}")), "{wipe}: {}", status.stdout);
        }
        let watch = world.start(&format!("{up} --watch")).spawn();
        watch.says("watching");
        let whole = || world.run("status").code() == 0;
        assert!(whole());
        for (wipe, missing) in wiped {
            world.sh(wipe);
            until(&format!("{wipe} is mended"), whole);
            assert!(watch.logs(missing).contains("put back"), "{wipe}");
        }
        // Rules of others that come later, and one of ours alone.
        match backend {
            "nft" => {
                world.sh("nft add table inet late && nft add chain inet late input '{ type filter hook input priority 0; policy drop; }'");
                until("the late chain lets containers in", || {
                    world.sh("nft list table inet late").contains("made by taskcreds")
                });
                world.sh("nft flush chain inet taskcreds arriving");
            }
            _ => {
                world.sh("iptables -N DOCKER-USER");
                until("DOCKER-USER blocks", || world.sh("iptables -S DOCKER-USER").contains("TASKCREDS-FORWARD"));
                world.sh("iptables -F TASKCREDS-FORWARD");
            }
        }
        until("one chain is mended", whole);
        // A task that comes and one that goes while it watches.
        world.done(&format!("up --netns {two}"));
        world.done(&format!("down --netns {two}"));
        assert!(whole());
        assert_eq!(watch.end().code(), 0);
        assert!(whole(), "it stays when the watch ends");
        world.done("down");
        world.sh("nft flush ruleset");
    }
}

#[test]
fn a_proxy_that_manages_the_network_sets_it_up_and_looks_after_it() {
    let Some(world) = World::unless("[network] manage") else { return };
    let manage = "[network]\nmanage = true\nbridges = [\"br0\"]\ninterfaces = [\"br0\"]";
    let proxy = world.serve(&["169.254.170.2:80"], manage);
    let rows = [
        ("one", &world.one, ENDPOINTS[0], REACHED),
        ("neighbour", &world.neighbour, ENDPOINTS[0], NOBODY),
        ("one", &world.one, IMDS[0], NOBODY),
    ];
    all("managed", &rows);
    world.sh("nft flush ruleset");
    until("the rules are back", || world.run("status").code() == 0);
    all("after a flush", &rows);
    assert!(proxy.logs("put back").contains("the nftables table inet taskcreds"));
    assert_eq!(proxy.end().code(), 0);
    assert_eq!(world.run("status").code(), 0, "a restart cuts nobody off");
    world.done("down");
}

#[test]
fn check_tells_what_reaches_what_and_the_command_that_mends_it() {
    let Some(world) = World::unless("check --network") else { return };
    let check = || world.command("check", "--network").run();
    let before = check();
    assert_eq!(before.code(), 1, "{}", before.stdout);
    assert!(before.stdout.contains("containers on br0"), "{}", before.stdout);
    assert!(before.stdout.contains("\n  taskcreds network up --bridge br0\n"), "{}", before.stdout);
    world.done("up --bridge br0");
    let listen = check();
    assert_eq!(listen.code(), 1);
    assert!(listen.stdout.contains("\n  taskcreds serve --listen 169.254.170.2:80"), "{}", listen.stdout);
    let _proxy = world.serve(&["169.254.170.2:80"], "");
    let whole = check();
    assert_eq!(whole.code(), 0, "{}", whole.stdout);
    assert!(!whole.stdout.contains("NOT"), "{}", whole.stdout);
    world.sh("nft flush ruleset");
    let wiped = check();
    assert_eq!(wiped.code(), 1);
    for part in ["NOT blocked", "NOT dropped", "\n  taskcreds network up --bridge br0\n"] {
        assert!(wiped.stdout.contains(part), "{part}: {}", wiped.stdout);
    }
}

/// A second lock, or what lets in, is no alarm for what is still kept out.
#[test]
fn check_tells_of_each_way_what_is_missing_for_it() {
    let Some(world) = World::unless("check --network, way by way") else { return };
    let late =
        "nft add table inet late; nft add chain inet late input '{ type filter hook input priority 0; policy drop; }'
nft add rule inet late input iif lo accept";
    let (endpoint, imds) = ("containers on br0 169.254.170.2:80", "containers on br0 instance metadata");
    let neighbours = "neighbours 169.254.170.2:80";
    let (blocked, dropped) = ((imds, "ok blocked"), (neighbours, "ok dropped"));
    let open = (imds, "NOT SO NOT blocked");
    for (backend, wipe, rows) in [
        (
            "nft",
            late,
            [(endpoint, "NOT SO missing: rules: what admits containers in the chain inet late"), blocked, dropped],
        ),
        ("nft", "nft flush chain inet taskcreds arriving", [(endpoint, "NOT SO"), open, (neighbours, "NOT SO")]),
        ("iptables", "iptables -N DOCKER-USER", [(endpoint, "NOT SO missing: rules: iptables: one"), blocked, dropped]),
        ("iptables", "iptables -t raw -F PREROUTING", [(endpoint, "NOT SO missing: rules:"), open, dropped]),
        ("iptables", "iptables -F TASKCREDS-INPUT", [(endpoint, "NOT SO"), blocked, (neighbours, "NOT SO")]),
    ] {
        world.done(&format!("up --bridge br0 --backend {backend}"));
        let proxy = world.serve(&["169.254.170.2:80"], "");
        assert_eq!(world.command("check", "--network").run().code(), 0);
        world.sh(wipe);
        let said = world.command("check", "--network").run();
        assert_eq!(said.code(), 1, "{wipe}: {}", said.stdout);
        let lines: Vec<_> =
            said.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for (way, is) in rows {
            assert!(
                lines.iter().any(|line| line.starts_with(&format!("{way} {is}"))),
                "{wipe}: {way} {is}: {}",
                said.stdout
            );
        }
        assert!(said.stdout.ends_with("\n  taskcreds network up --bridge br0\n"), "{wipe}: {}", said.stdout);
        drop(proxy);
        world.done("down");
        world.sh("nft flush ruleset");
    }
}

/// A mend that changed what it is to mend would be a fault of its own.
#[test]
fn what_check_says_mends_it_and_leaves_the_rest_as_it_was_asked_for() {
    let Some(world) = World::unless("check --network and its mends") else { return };
    let check = || world.command("check", "--network").run();
    let mend = |said: &str| {
        let lines: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("  taskcreds network ")).collect();
        for line in &lines {
            world.done(line);
        }
        assert!(!lines.is_empty(), "{said}");
    };
    // A pod has no route of its own to instance metadata.
    world.sh("ip route del 169.254.169.254/32 via 10.92.0.2; ip -6 route del fd00:ec2::254/128 via fd92::2");
    world.done("up --bridge br0 --nat --port 4711 --no-block-imds");
    world.done("up --mode shared --block-imds --nat --port 4711");
    let before = check().stdout;
    assert!(before.contains("this machine       instance metadata  ok      unreachable\n"), "{before}");
    world.sh("nft flush ruleset; ip route del unreachable 169.254.169.254");
    let wiped = check().stdout;
    assert!(wiped.contains("NOT blocked, as was asked for"), "{wiped}");
    mend(&wiped);
    assert_eq!(check().stdout, before);
    assert_eq!(world.run("status").code(), 0);
    world.done("down");
}
