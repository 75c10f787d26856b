//! Machines beside and behind this one, each a network namespace: what reaches the endpoint and what does not.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::slice;

use crate::netns::Netns;
use crate::rig;
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// What curl says in a namespace: the status, 000 where nobody answers.
pub(crate) fn status(from: &Netns, url: &str) -> String {
    let mut curl = from.command("curl");
    curl.args([
        "--silent",
        "--noproxy",
        "*",
        "--max-time",
        "2",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
    ]);
    String::from_utf8(curl.arg(url).output().unwrap().stdout).unwrap()
}

#[test]
fn nobody_behind_a_router_is_answered_unless_the_hop_limit_says_so() {
    let made = || -> Result<_, String> {
        let (client, router, host) = (Netns::new()?, Netns::new()?, Netns::new()?);
        for netns in [&client, &router, &host] {
            // Nobody else has these addresses, so nobody is waited for.
            netns.set("ipv6/conf/default/accept_dad", 0)?;
        }
        for (behind, before, number) in [(&client, &router, 71), (&host, &router, 72)] {
            let there = behind.join(&format!("10.{number}.0.2/24"), before, &format!("10.{number}.0.1/24"))?;
            before.ip(&format!("address add fd{number}::1/64 dev {there} nodad"))?;
            behind.ip(&format!("address add fd{number}::2/64 dev {} nodad", there.replace("tcr", "tcl")))?;
            behind.ip(&format!("route add default via 10.{number}.0.1"))?;
            behind.ip(&format!("route add default via fd{number}::1"))?;
        }
        router.set("ipv4/ip_forward", 1)?;
        router.set("ipv6/conf/all/forwarding", 1)?;
        Ok((client, router, host))
    };
    let Some((client, router, host)) = skip::unless("the hop limit", made()) else { return };
    let (sts, task) = (Sts::new(), Task::new("web"));
    for (limit, behind) in [("", "000"), ("hop_limit = 2", "200")] {
        let head = format!("listen = [\"10.72.0.2:51679\", \"[fd72::2]:51679\"]\n{limit}");
        // STS is out of reach from here, so the proxy is asked for what it answers without: a session that is not there yet, 503.
        let config = Config::with(&head, slice::from_ref(&task));
        let start = rig::taskcreds("serve").arg("--config").arg(config.file()).envs(sts.environment());
        let proxy = start.inside(&host).spawn();
        proxy.says("listening on ");
        let known = |code: &str| code.replace("200", "503");
        for address in ["10.72.0.2", "[fd72::2]"] {
            let url = format!("http://{address}:51679{}", task.path());
            assert_eq!(status(&router, &url), known("200"), "a neighbour at {address}, {limit}");
            assert_eq!(status(&client, &url), known(behind), "behind a router at {address}, {limit}");
        }
    }
}

#[test]
fn loopback_that_is_asked_from_a_neighbour_is_refused() {
    let made = || -> Result<_, String> {
        let (neighbour, host) = (Netns::new()?, Netns::new()?);
        neighbour.join("10.73.0.2/24", &host, "10.73.0.1/24")?;
        // The neighbour sends what is for 127.0.0.1 to the host, which takes it: CVE-2020-8558.
        for netns in [&neighbour, &host] {
            netns.set("ipv4/conf/all/route_localnet", 1)?;
            netns.set("ipv4/conf/all/rp_filter", 0)?;
        }
        neighbour.ip("address del 127.0.0.1/8 dev lo")?;
        neighbour.ip("route add 127.0.0.1/32 via 10.73.0.1")?;
        Ok((neighbour, host))
    };
    let Some((neighbour, host)) = skip::unless("the original destination", made()) else { return };
    for (check, expected) in [("", "403"), ("refuse_misrouted = false", "401")] {
        let task = Task::with_token("web");
        let head = format!("listen = [\"127.0.0.1:51679\"]\noperations_listen = \"127.0.0.1:51680\"\n{check}");
        let config = Config::with(&head, slice::from_ref(&task));
        let proxy = rig::dev_with(config).args("--control 127.0.0.1:51681").inside(&host).spawn();
        proxy.says("listening on ");
        let url = format!("http://127.0.0.1:51679{}", task.path());
        assert_eq!(status(&host, &url), "401", "its own, without the token, {check}");
        assert_eq!(status(&neighbour, &url), expected, "a neighbour, {check}");
        for url in ["http://127.0.0.1:51680/healthz", "http://127.0.0.1:51681/journal"] {
            assert_eq!(status(&host, url), "200", "{url}, its own, {check}");
            assert_eq!(status(&neighbour, url), expected.replace("401", "200"), "{url}, a neighbour, {check}");
        }
    }
}
