//! Tasks that are bound to an interface or to a network namespace, asked from namespaces of the test's own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::slice;

use crate::http::get;
use crate::neighbours::status;
use crate::netns::Netns;
use crate::rig::{self, Process};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// The right source: what is missing is the token.
const RIGHT: &str = "401";
/// What an unknown id gets.
const UNKNOWN: &str = "400";

const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);

fn bound_to(name: &str, sources: &[String]) -> Task {
    Task::with_token(name).and(&format!("sources = {sources:?}"))
}

/// A proxy in a namespace, from which STS is out of reach.
fn serve(inside: &Netns, listen: &[&str], tasks: &[Task]) -> Process {
    let (sts, config) = (Sts::new(), Config::with(&format!("listen = {listen:?}"), tasks));
    let start = rig::taskcreds("serve").arg("--config").arg(config.file()).envs(sts.environment());
    let proxy = start.inside(inside).spawn();
    proxy.says("listening on ");
    proxy
}

/// A host and two namespaces, each by an interface of the host's own; which these are.
fn two_containers() -> Result<([Netns; 3], [String; 2]), String> {
    let (host, one, two) = (Netns::new()?, Netns::new()?, Netns::new()?);
    let join = |netns: &Netns, number: u8| -> Result<String, String> {
        let here = netns.join(&format!("10.81.{number}.2/24"), &host, &format!("10.81.{number}.1/24"))?;
        let far = here.replace("tcr", "tcl");
        host.ip(&format!("address add fd81:{number}::1/64 dev {here} nodad"))?;
        netns.ip(&format!("address add fd81:{number}::2/64 dev {far} nodad"))?;
        Ok(here)
    };
    let interfaces = [join(&one, 1)?, join(&two, 2)?];
    Ok(([host, one, two], interfaces))
}

#[test]
fn a_task_is_answered_by_its_interface_or_to_its_namespace_alone_over_ipv4_and_ipv6() {
    let Some(made) = skip::unless("interfaces and namespaces as sources", two_containers()) else { return };
    let ([host, one, two], [by_one, by_two]) = made;
    let interface = |name: &str| format!("interface:{name}");
    let netns = |of: &Netns| format!("netns:{}", of.file());
    // Who may ask: the host itself, one, two.
    let table = [
        (vec![interface(&by_one)], [false, true, false]),
        (vec![interface(&by_two)], [false, false, true]),
        (vec![interface(&by_one), interface(&by_two)], [false, true, true]),
        (vec![interface("lo")], [true, false, false]),
        (vec![netns(&one)], [false, true, false]),
        (vec![netns(&two), netns(&one)], [false, true, true]),
        (vec![netns(&host)], [true, false, false]),
        (vec![netns(&one), interface(&by_two)], [false, false, false]),
        (vec![netns(&one), "10.81.1.2".to_owned(), "fd81:1::/64".to_owned()], [false, true, false]),
        (vec![interface(&by_one), "10.81.2.0/24".to_owned(), "fd81:2::/64".to_owned()], [false, false, false]),
        (vec!["netns:/run/netns/gone".to_owned()], [false, false, false]),
        (vec![], [true, true, true]),
    ];
    let named = |row: usize| format!("task{row}");
    let tasks: Vec<_> = table.iter().enumerate().map(|(row, (sources, _))| bound_to(&named(row), sources)).collect();
    let listen = ["10.81.1.1:51679", "10.81.2.1:51679", "[fd81:1::1]:51679", "[fd81:2::1]:51679"];
    let _proxy = serve(&host, &listen, &tasks);
    for (task, (sources, expected)) in tasks.iter().zip(&table) {
        for (from, number, may) in [(&host, 1, expected[0]), (&one, 1, expected[1]), (&two, 2, expected[2])] {
            for address in [format!("10.81.{number}.1"), format!("[fd81:{number}::1]")] {
                let url = format!("http://{address}:51679{}", task.path());
                let host = format!("{address} from {number}, {sources:?}");
                assert_eq!(status(from, &url), if may { RIGHT } else { UNKNOWN }, "{host}");
            }
        }
    }
}

/// The addresses of this machine that are not the source that the kernel would choose for itself.
#[test]
fn a_program_of_the_host_is_no_container_whichever_address_of_the_host_it_asks_from() {
    let Some(made) = skip::unless("interfaces and namespaces as sources", two_containers()) else { return };
    let ([host, one, _two], [by_one, _]) = made;
    host.ip(&format!("address add 10.81.1.9/24 dev {by_one}")).unwrap();
    host.ip(&format!("address add fd81:1::9/64 dev {by_one} nodad")).unwrap();
    let sources = [format!("interface:{by_one}"), format!("netns:{}", one.file())];
    let tasks: Vec<_> =
        ["a", "b"].iter().zip(&sources).map(|(name, source)| bound_to(name, slice::from_ref(source))).collect();
    let _proxy = serve(&host, &["10.81.1.1:51679", "[fd81:1::1]:51679"], &tasks);
    let table = [
        ("10.81.1.1", &["127.0.0.1", "127.0.0.2", "127.9.9.9", "10.81.1.1", "10.81.1.9", "10.81.2.1"][..]),
        ("[fd81:1::1]", &["fd81:1::1", "fd81:1::9", "fd81:2::1"][..]),
    ];
    for task in &tasks {
        for (address, froms) in table {
            for from in froms {
                let url = format!("http://{address}:51679{}", task.path());
                let mut curl = host.command("curl");
                curl.args(["-sg", "-o", "/dev/null", "-w", "%{http_code}", "--interface"]);
                let output = curl.arg(format!("host!{from}")).arg(url).output().unwrap();
                assert_eq!(String::from_utf8_lossy(&output.stdout), UNKNOWN, "{address} from {from}");
            }
        }
        assert_eq!(status(&one, &format!("http://10.81.1.1:51679{}", task.path())), RIGHT);
    }
}

/// A pipe would be waited for by whoever opens it, for ever.
#[test]
fn a_file_that_is_no_namespace_is_not_opened_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let task = bound_to("web", &[format!("netns:{}", pipe.display())]);
    let other = Task::new("other");
    let sts = Sts::new();
    let config = Config::new(&[task.clone(), other.clone()]);
    let proxy = rig::serve(config).envs(sts.environment()).spawn();
    for _ in 0..8 {
        assert_eq!(get(proxy.address(), &task.path()).status, 400);
    }
    assert_eq!(get(proxy.address(), &other.path()).status, 200);
    assert_eq!(proxy.end().code(), 0);
}

#[test]
fn behind_a_bridge_the_interface_is_the_bridge_and_the_namespace_is_not_told() {
    let made = || -> Result<_, String> {
        let (host, one) = (Netns::new()?, Netns::new()?);
        host.ip("link add br0 type bridge")?;
        host.ip("link set br0 up")?;
        host.ip("address add 10.82.0.1/24 dev br0")?;
        let port = one.join("10.82.0.2/24", &host, "10.83.0.1/24")?;
        host.ip(&format!("link set {port} master br0"))?;
        Ok((host, one, port))
    };
    let Some((host, one, port)) = skip::unless("a bridge as source", made()) else { return };
    let table = [
        ("interface:br0".to_owned(), RIGHT),
        (format!("interface:{port}"), UNKNOWN),
        (format!("netns:{}", one.file()), UNKNOWN),
    ];
    let tasks: Vec<_> =
        ["a", "b", "c"].iter().zip(&table).map(|(name, (source, _))| bound_to(name, slice::from_ref(source))).collect();
    let _proxy = serve(&host, &["10.82.0.1:51679"], &tasks);
    for (task, (source, expected)) in tasks.iter().zip(&table) {
        assert_eq!(status(&one, &format!("http://10.82.0.1:51679{}", task.path())), *expected, "{source}");
    }
}

/// Interfaces have the numbers of the listener's namespace, which are not those of the process's.
#[test]
fn a_listener_of_another_namespace_tells_its_interfaces_and_takes_none_for_this_ones() {
    let Some(other) = skip::unless("a listener in another namespace", Netns::new()) else { return };
    let listener = other.enter(|| TcpListener::bind("169.254.170.2:51679")).unwrap();
    let own = "netns:/proc/self/ns/net".to_owned();
    let table = [("interface:lo".to_owned(), true), (own, false), (format!("netns:{}", other.file()), false)];
    let tasks: Vec<_> =
        ["a", "b", "c"].iter().zip(&table).map(|(name, (source, _))| bound_to(name, slice::from_ref(source))).collect();
    let (sts, config) = (Sts::new(), Config::new(&tasks));
    let start = rig::taskcreds("serve").arg("--config").arg(config.file()).envs(sts.environment());
    let proxy = start.passing([("credentials".to_owned(), OwnedFd::from(listener))]).spawn();
    proxy.says("listening on ");
    for (task, (source, may)) in tasks.iter().zip(&table) {
        let path = task.path();
        let asked = other.enter(|| get(SocketAddr::from((LINK_LOCAL, 51679)), &path));
        assert_eq!(asked.status == 200, *may, "{source}: {} {:?}", asked.status, asked.body);
    }
}
