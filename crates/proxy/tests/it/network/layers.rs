//! What keeps neighbours out, each layer taken away in turn: any one alone is enough.

use super::*;

/// A neighbour that routes the address through this machine.
#[test]
fn a_neighbour_is_kept_out_by_the_rules_and_by_the_proxy_alone() {
    let Some(world) = World::unless("layers without NAT") else { return };
    for (backend, rules, code, expected) in BACKENDS.iter().flat_map(|backend| {
        [
            (backend, true, true, NOBODY),
            (backend, true, false, NOBODY),
            (backend, false, true, "403"),
            (backend, false, false, REACHED),
        ]
    }) {
        world.done(&format!("up --bridge br0 --ipv6 --backend {backend}"));
        if !rules {
            world.sh("nft flush ruleset");
        }
        let more = if code { "[network]\ninterfaces = [\"br0\"]" } else { "" };
        let _proxy = world.serve(&listen(false), more);
        let mut rows = Vec::new();
        for address in ENDPOINTS {
            rows.extend([("neighbour", &world.neighbour, address, expected), ("one", &world.one, address, REACHED)]);
            rows.push(("host", &world.host, address, REACHED));
        }
        all(&format!("{backend}, rules {rules}, code {code}"), &rows);
        world.done("down");
    }
}

/// CVE-2020-8558: a neighbour that sends what is for 127.0.0.1 to this machine.
#[test]
fn loopback_is_kept_from_a_neighbour_by_the_kernel_by_the_rules_and_by_the_proxy_alone() {
    let Some(world) = World::unless("layers with NAT") else { return };
    let neighbour = &world.neighbour;
    neighbour.set("ipv4/conf/all/route_localnet", 1).unwrap();
    neighbour.ip("address del 127.0.0.1/8 dev lo").unwrap();
    neighbour.ip("route add 127.0.0.1/32 via 10.91.0.1").unwrap();
    for (backend, kernel, rules, code, expected) in BACKENDS.iter().flat_map(|backend| {
        [
            (backend, true, true, true, NOBODY),
            (backend, true, false, false, NOBODY),
            (backend, false, true, false, NOBODY),
            (backend, false, false, true, "403"),
            (backend, false, false, false, REACHED),
        ]
    }) {
        let what = format!("{backend}, kernel {kernel}, rules {rules}, code {code}");
        world.done(&format!("up --bridge br0 --nat --backend {backend}"));
        if !kernel {
            world.host.set("ipv4/conf/all/route_localnet", 1).unwrap();
        }
        if !rules {
            world.sh("nft flush ruleset");
        }
        let _proxy = world.serve(&["127.0.0.1:51679"], if code { "" } else { "refuse_misrouted = false" });
        all(&what, &[("neighbour", neighbour, "127.0.0.1:51679", expected)]);
        world.host.set("ipv4/conf/all/route_localnet", 0).unwrap();
        world.done("down");
        assert_eq!(world.sh("cat /proc/sys/net/ipv4/conf/br0/route_localnet"), "0\n", "{what}");
    }
}

/// With NAT the neighbour is not redirected, has no listener at 169.254.170.2, and is dropped.
#[test]
fn a_neighbour_is_not_redirected() {
    let Some(world) = World::unless("DNAT") else { return };
    for backend in BACKENDS {
        world.done(&format!("up --bridge br0 --nat --backend {backend}"));
        let _proxy = world.serve(&["127.0.0.1:51679"], "");
        let asked = |what: &str| {
            let rows =
                [("neighbour", &world.neighbour, ENDPOINTS[0], NOBODY), ("one", &world.one, ENDPOINTS[0], REACHED)];
            all(&format!("{backend}, {what}"), &rows);
        };
        asked("all");
        // Without what drops it.
        match backend {
            "nft" => world.sh("nft flush chain inet taskcreds arriving"),
            _ => world.sh("iptables -F TASKCREDS-INPUT"),
        };
        asked("not dropped");
        world.done("down");
    }
}
