//! Who reaches what, over IPv4 and IPv6, in each mode and with each backend.

use super::*;

#[test]
fn containers_reach_the_proxy_and_not_instance_metadata_and_neighbours_reach_neither() {
    let Some(world) = World::unless("the network matrix") else { return };
    let (host, one, two, neighbour) = (&world.host, &world.one, &world.two, &world.neighbour);
    let open: Vec<_> = IMDS.iter().map(|address| ("one", one, *address, METADATA)).collect();
    all("before", &open);
    for (backend, nat) in BACKENDS.iter().flat_map(|backend| [(backend, false), (backend, true)]) {
        let what = format!("{backend}, nat {nat}");
        let flags = if nat { " --nat" } else { "" };
        world.done(&format!("up --mode bridge,host --bridge br0 --ipv6 --backend {backend}{flags}"));
        let proxy = world.serve(&listen(nat), "");
        let mut rows = Vec::new();
        for address in ENDPOINTS {
            rows.extend([("host", host, address, REACHED), ("one", one, address, REACHED)]);
            rows.extend([("two", two, address, REACHED), ("neighbour", neighbour, address, NOBODY)]);
        }
        for address in IMDS {
            rows.extend([
                ("one", one, address, NOBODY),
                ("two", two, address, NOBODY),
                ("host", host, address, METADATA),
            ]);
        }
        all(&what, &rows);
        assert_eq!(world.sh("cat /proc/sys/net/ipv4/conf/all/route_localnet"), "0\n", "{what}");
        assert_eq!(world.run("status").code(), 0, "{what}");
        drop(proxy);
        world.done("down");
        all(&format!("after {what}"), &open);
    }
    world.done("up --bridge br0 --no-block-imds");
    all("--no-block-imds", &open);
}

#[test]
fn a_policy_of_drop_lets_containers_in_and_nobody_else() {
    let Some(world) = World::unless("INPUT policy DROP") else { return };
    // As the system's own nftables.conf has it, and as iptables has it.
    let nftables = "nft -f - <<'END'
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    meta l4proto ipv6-icmp accept
  }
}
END";
    let iptables = "for program in iptables ip6tables; do
  $program -A INPUT -i lo -j ACCEPT
  $program -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
  $program -P INPUT DROP
done
ip6tables -A INPUT -p ipv6-icmp -j ACCEPT";
    for (backend, policy, nat) in [
        ("nft", nftables, false),
        ("nft", nftables, true),
        ("nft", iptables, false),
        ("nft", iptables, true),
        ("iptables", iptables, false),
        ("iptables", iptables, true),
    ] {
        world.sh(policy);
        let what = format!("{backend}, nat {nat}, {policy}");
        let up = format!("up --bridge br0 --ipv6 --backend {backend}{}", if nat { " --nat" } else { "" });
        world.done(&up);
        // By its pair, before which this one had the bridge alone.
        world.done(&format!("up --mode awsvpc --netns {}", world.two.file()));
        let proxy = world.serve(&listen(nat), "");
        let rows: Vec<_> = ENDPOINTS
            .iter()
            .flat_map(|address| {
                let reached = [("one", &world.one), ("two", &world.two)].map(|(who, it)| (who, it, *address, REACHED));
                reached.into_iter().chain([("neighbour", &world.neighbour, *address, NOBODY)])
            })
            .collect();
        all(&what, &rows);
        // The table of iptables is still one that iptables reads.
        world.sh("iptables -S && ip6tables -S");
        world.done(&up);
        assert_eq!(world.run("status").code(), 0, "{what}");
        let without =
            || world.sh("nft list ruleset | grep -c 'made by taskcreds' || true; iptables-save; ip6tables-save");
        drop(proxy);
        world.done("down");
        assert!(!without().contains("taskcreds"), "{what}: {}", without());
        world.sh("nft flush ruleset");
    }
    world.sh(nftables);
    world.host.ip("address add 169.254.170.2/32 dev lo").unwrap();
    let _proxy = world.serve(&["169.254.170.2:80"], "");
    all("without `up`", &[("one", &world.one, ENDPOINTS[0], NOBODY)]);
}

/// Container engines redirect what is for a published port of any address of the host; 169.254.170.2 is one.
#[test]
fn a_container_that_has_published_port_80_gets_no_requests_for_credentials() {
    let Some(world) = World::unless("a published port 80") else { return };
    // A table of nftables would be as one of iptables.
    let publish = "iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 80 -j DNAT --to-destination 10.90.0.3:8080
iptables -t nat -A OUTPUT -m addrtype --dst-type LOCAL -p tcp --dport 80 -j DNAT --to-destination 10.90.0.3:8080";
    let rows = [("one", &world.one, ENDPOINTS[0], REACHED), ("host", &world.host, ENDPOINTS[0], REACHED)];
    for backend in BACKENDS {
        world.sh(publish);
        world.done(&format!("up --bridge br0 --backend {backend}"));
        let proxy = world.serve(&["169.254.170.2:80"], "");
        all(backend, &rows);
        drop(proxy);
        world.done("down");
        world.sh("nft flush ruleset");
    }
    world.sh(publish);
    world.host.ip("address add 169.254.170.2/32 dev lo").unwrap();
    let _proxy = world.serve(&["169.254.170.2:80"], "");
    all("without `up`", &[("one", &world.one, ENDPOINTS[0], NOBODY), ("host", &world.host, ENDPOINTS[0], NOBODY)]);
}

#[test]
fn instance_metadata_stays_blocked_when_docker_puts_its_rules_before_ours() {
    let Some(world) = World::unless("DOCKER-USER") else { return };
    let docker = "iptables -I FORWARD 1 -i br0 -j ACCEPT && iptables -I FORWARD 1 -j DOCKER-USER";
    for backend in BACKENDS {
        world.sh("iptables -N DOCKER-USER");
        world.done(&format!("up --bridge br0 --backend {backend}"));
        world.sh(docker);
        all(backend, &[("one", &world.one, IMDS[0], NOBODY), ("two", &world.two, IMDS[0], NOBODY)]);
        if backend == "iptables" {
            assert!(world.sh("iptables -S DOCKER-USER").contains("-j TASKCREDS-FORWARD"));
            // What Docker does not touch does it alone, FORWARD would not.
            world.sh("iptables -F DOCKER-USER");
            all("without DOCKER-USER", &[("one", &world.one, IMDS[0], NOBODY)]);
            world.sh("iptables -t raw -F PREROUTING");
            all("without the table raw too", &[("one", &world.one, IMDS[0], METADATA)]);
            let missing = world.run("status");
            assert_eq!(missing.code(), 1);
            assert!(missing.stdout.contains("one jump from DOCKER-USER to TASKCREDS-FORWARD"), "{}", missing.stdout);
        }
        world.done("down");
        world.sh("nft flush ruleset");
    }
}

/// As at boot: the network is set up before Docker has made DOCKER-USER.
#[test]
fn instance_metadata_stays_blocked_when_docker_starts_after_the_network_was_set_up() {
    let Some(world) = World::unless("Docker after `up`") else { return };
    for backend in BACKENDS {
        world.done(&format!("up --bridge br0 --backend {backend}"));
        world.sh(
            "iptables -N DOCKER-USER && iptables -I FORWARD 1 -i br0 -j ACCEPT && iptables -I FORWARD 1 -j DOCKER-USER",
        );
        all(backend, &[("one", &world.one, IMDS[0], NOBODY), ("two", &world.two, IMDS[0], NOBODY)]);
        world.done("down");
        world.sh("nft flush ruleset");
    }
}

#[test]
fn a_task_in_a_namespace_of_its_own_is_told_by_it_and_has_no_instance_metadata() {
    let Some(world) = World::unless("awsvpc mode") else { return };
    let (one, two) = (&world.one, &world.two);
    for backend in BACKENDS {
        let name = |netns: &Netns| netns.name().to_owned();
        world.done(&format!("up --mode awsvpc --ipv6 --netns {} --backend {backend}", name(one)));
        world.done(&format!("up --netns {}", two.file()));
        let task = |netns: &Netns| {
            let sources = format!("sources = [\"netns:{}\"]\ntoken_required = \"always\"", netns.file());
            Task::with_token("web").and(&sources)
        };
        let tasks = [task(one), task(two)];
        let proxy = world.serve_tasks(&listen(false), "", &tasks);
        let mut rows = Vec::new();
        for address in ENDPOINTS {
            rows.extend([("one", one, address, REACHED), ("two", two, address, REACHED)]);
            rows.push(("neighbour", &world.neighbour, address, NOBODY));
        }
        for address in IMDS {
            rows.extend([
                ("one", one, address, NOBODY),
                ("two", two, address, NOBODY),
                ("host", &world.host, address, METADATA),
            ]);
        }
        all(backend, &rows);
        // 401: the right source, and no token.
        for (from, asked, expected) in [(one, 0, "401"), (two, 1, "401"), (two, 0, REACHED), (one, 1, REACHED)] {
            for address in ENDPOINTS {
                let got = ask(from, &format!("http://{address}{}", tasks.get(asked).unwrap().path()));
                assert_eq!(got, expected, "{backend}: task {asked} at {address} from {}", from.name());
            }
        }
        // Not by way of the host either.
        assert_eq!(ask(one, "http://169.254.176.3/"), NOBODY);
        world.done(&format!("down --netns {}", name(one)));
        all(
            "one is down",
            &[("one", one, ENDPOINTS[0], NOBODY), ("two", two, ENDPOINTS[0], REACHED), ("one", one, IMDS[0], METADATA)],
        );
        drop(proxy);
        world.done("down");
        world.sh("nft flush ruleset");
    }
}

#[test]
fn in_a_shared_namespace_the_proxy_is_reached_from_within_alone() {
    let Some(world) = World::unless("shared mode") else { return };
    let (host, one, neighbour) = (&world.host, &world.one, &world.neighbour);
    let others = [("one", one, ENDPOINTS[0], NOBODY), ("neighbour", neighbour, ENDPOINTS[0], NOBODY)];
    world.done("up --mode shared");
    let proxy = world.serve(&["169.254.170.2:80"], "");
    all("shared", &[("host", host, ENDPOINTS[0], REACHED), ("host", host, IMDS[0], METADATA)]);
    all("shared", &others);
    drop(proxy);
    world.done("down");
    // A pod has no route of its own to it.
    world.host.ip("route del 169.254.169.254/32 via 10.92.0.2").unwrap();
    world.host.ip("route del fd00:ec2::254/128 via fd92::2").unwrap();
    world.host.ip("route add default via 10.92.0.2").unwrap();
    world.host.ip("route add default via fd92::2").unwrap();
    let metadata = |expected| IMDS.map(|address| ("host", host, address, expected));
    all("before", &metadata(METADATA));
    world.done("up --mode shared --block-imds");
    all("--block-imds", &metadata(NOBODY));
}
