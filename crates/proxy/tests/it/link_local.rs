//! `serve --link-local` in a network namespace that others share: 169.254.170.2 comes and goes with the proxy, and only with it.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::slice;

use rustix::process::Signal;

use crate::neighbours::status;
use crate::netns::Netns;
use crate::rig::{self, Start, until};
use crate::sdk::{Variables, identity};
use crate::sts::Sts;
use crate::tasks::{Config, Task};
use crate::{http, python, skip};

const ENDPOINT: &str = "http://169.254.170.2";

/// What containers share, and an STS that is reached there.
struct Shared {
    netns: Netns,
    sts: Sts,
    task: Task,
    config: Config,
}

impl Shared {
    fn new(netns: Result<Netns, String>) -> Result<Self, String> {
        let netns = netns?;
        let (sts, task) = (Sts::inside(&netns, "127.0.0.1"), Task::new("web"));
        let config = Config::new(slice::from_ref(&task));
        Ok(Self { netns, sts, task, config })
    }

    /// `serve`, started by this.
    fn serve_under(&self, outer: Command) -> Start {
        let start = rig::taskcreds("serve").under(outer).arg("--config").arg(self.config.file());
        start.args("--listen 127.0.0.1:0").envs(self.sts.environment())
    }

    fn serve(&self) -> Start {
        self.serve_under(self.netns.command(rig::binary())).arg("--link-local")
    }

    /// `serve --link-local` of root without these capabilities.
    fn serve_without(&self, capabilities: &str) -> Start {
        let mut outer = self.netns.command("setpriv");
        outer.arg("--bounding-set").arg(capabilities).arg(rig::binary());
        self.serve_under(outer).arg("--link-local")
    }

    /// What `ip` says of the address on `lo`.
    fn on_lo(&self) -> Option<String> {
        let output =
            self.netns.command("ip").args(["-oneline", "-4", "address", "show", "dev", "lo"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().find(|line| line.contains("169.254.170.2/32")).map(str::to_owned)
    }

    /// What a neighbour in the namespace is answered for the task.
    fn status(&self) -> String {
        status(&self.netns, &format!("{ENDPOINT}{}", self.task.path()))
    }
}

#[test]
fn by_the_relative_uri_a_neighbour_is_the_task_and_the_address_goes_with_the_proxy() {
    let Some(venv) = skip::unless("--link-local", python::venv()) else { return };
    let Some(shared) = skip::unless("--link-local", Shared::new(Netns::bare())) else { return };
    assert_eq!(shared.on_lo(), None);
    let proxy = shared.serve().spawn();
    proxy.says("listening on http://169.254.170.2:80");
    let line = shared.on_lo().unwrap();
    assert!(line.contains("scope host"), "never the source of what goes out: {line}");
    let variables: Variables = [
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", shared.task.path()),
        ("AWS_ENDPOINT_URL_STS", shared.sts.endpoint.clone()),
        ("AWS_DEFAULT_REGION", "us-west-2".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for client in ["boto3", "aws"] {
        let said = identity(client, &venv, &variables, Some(&shared.netns));
        assert_eq!(said.as_ref(), Ok(&shared.task.identity()), "{client}");
    }
    assert_eq!(proxy.end().code(), 0);
    assert_eq!(shared.on_lo(), None);
}

#[test]
fn a_variable_and_a_flag_come_before_the_file_also_where_they_say_no() {
    let Some(shared) = skip::unless("link_local in the file", Shared::new(Netns::bare())) else { return };
    let config = Config::with("link_local = true\n", slice::from_ref(&shared.task));
    let shared = Shared { config, ..shared };
    let start = || shared.serve_under(shared.netns.command(rig::binary()));
    for (start, is_asked) in [
        (start(), true),
        (start().env("TASKCREDS_LINK_LOCAL", ""), true),
        (start().env("TASKCREDS_LINK_LOCAL", "false"), false),
        (start().env("TASKCREDS_LINK_LOCAL", "1").arg("--link-local=false"), false),
        (start().env("TASKCREDS_LINK_LOCAL", "0").arg("--link-local"), true),
    ] {
        let proxy = start.spawn();
        proxy.address();
        assert_eq!(shared.on_lo().is_some(), is_asked);
        assert_eq!(proxy.end().stdout.contains("http://169.254.170.2:80"), is_asked);
    }
}

#[test]
fn an_address_that_was_there_before_needs_no_capability_and_stays() {
    let Some(shared) = skip::unless("an address before", Shared::new(Netns::new())) else { return };
    for (start, how) in [(shared.serve(), "root"), (shared.serve_without("-net_admin"), "without CAP_NET_ADMIN")] {
        let proxy = start.spawn();
        proxy.says("listening on http://169.254.170.2:80");
        assert_eq!(shared.status(), "200", "{how}");
        assert_eq!(proxy.end().code(), 0, "{how}");
        assert!(shared.on_lo().is_some(), "{how}");
    }
}

#[test]
fn without_a_capability_it_says_which_and_adds_nothing() {
    let Some(shared) = skip::unless("capabilities", Shared::new(Netns::bare())) else { return };
    const ADDRESS: &str = "CAP_NET_ADMIN";
    const PORT: &str = "CAP_NET_BIND_SERVICE";
    for (without, said, not_said) in [
        ("-net_admin", vec![ADDRESS, "ip address add 169.254.170.2/32 dev lo"], vec![PORT]),
        ("-net_bind_service", vec![PORT], vec![ADDRESS]),
        ("-net_admin,-net_bind_service", vec![ADDRESS, PORT], vec![]),
    ] {
        let ended = shared.serve_without(without).run();
        assert_eq!(ended.code(), 69, "{without}: {}", ended.stderr);
        for text in said {
            assert!(ended.stderr.contains(text), "{without}: {}", ended.stderr);
        }
        for text in not_said {
            assert!(!ended.stderr.contains(text), "{without}: {}", ended.stderr);
        }
        assert_eq!(shared.on_lo(), None, "{without}");
    }
}

#[test]
fn where_the_port_is_taken_nothing_is_added_and_nothing_is_taken_from_the_first_proxy() {
    let Some(shared) = skip::unless("two proxies", Shared::new(Netns::bare())) else { return };
    let refused = || {
        let ended = shared.serve().run();
        assert_eq!(ended.code(), 69, "{}", ended.stderr);
        assert!(ended.stderr.contains("the port is taken, by another taskcreds"), "{}", ended.stderr);
    };
    let web_server = shared.netns.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    refused();
    assert_eq!(shared.on_lo(), None);
    drop(web_server);
    let first = shared.serve().spawn();
    first.says("listening on http://169.254.170.2:80");
    refused();
    assert_eq!(shared.status(), "200");
    assert_eq!(first.end().code(), 0);
    assert_eq!(shared.on_lo(), None);
}

#[test]
fn a_start_that_fails_later_takes_the_address_away_again() {
    let Some(shared) = skip::unless("a failed start", Shared::new(Netns::bare())) else { return };
    let ended = shared.serve().args("--listen 192.0.2.1:51679").run();
    assert_eq!(ended.code(), 69, "{}", ended.stderr);
    assert!(ended.stderr.contains("added 169.254.170.2/32 to lo"), "{}", ended.stderr);
    assert_eq!(shared.on_lo(), None);
}

#[test]
fn a_killed_proxy_leaves_the_address_and_the_next_one_goes_on() {
    let Some(shared) = skip::unless("a killed proxy", Shared::new(Netns::bare())) else { return };
    let start = || shared.serve_under(shared.netns.command(rig::binary())).env("TASKCREDS_LINK_LOCAL", "1");
    let proxy = start().spawn();
    proxy.says("listening on http://169.254.170.2:80");
    proxy.kill();
    assert!(shared.on_lo().is_some());
    let proxy = start().spawn();
    proxy.says("listening on http://169.254.170.2:80");
    assert_eq!(shared.status(), "200");
}

#[test]
fn a_proxy_that_begins_while_another_one_ends_is_not_cut_off() {
    let Some(shared) = skip::unless("one after the other", Shared::new(Netns::bare())) else { return };
    let first = shared.serve().spawn();
    first.says("listening on http://169.254.170.2:80");
    // Half a request has five seconds to become whole, while the proxy stops listening at once.
    let mut open = shared.netns.enter(|| http::Connection::open("169.254.170.2:80".parse::<SocketAddr>().unwrap()));
    open.send("GET /v2/credentials HTTP/1.1\r\n");
    until("the connection is accepted", || shared.status() == "200");
    first.signal(Signal::TERM);
    first.logs("stopping");
    until("the first has stopped listening", || shared.status() == "000");
    let second = shared.serve().spawn();
    second.says("listening on http://169.254.170.2:80");
    assert!(std::fs::exists(format!("/proc/{}", first.id())).unwrap());
    drop(open);
    let ended = first.wait();
    assert!(ended.stderr.contains("somebody listens there still"), "{}", ended.stderr);
    assert_eq!(shared.status(), "200");
}

#[test]
fn what_is_under_way_at_the_end_is_answered_before_the_address_goes() {
    let Some(shared) = skip::unless("the last answer", Shared::new(Netns::bare())) else { return };
    let proxy = shared.serve().spawn();
    proxy.says("listening on http://169.254.170.2:80");
    let endpoint: SocketAddr = "169.254.170.2:80".parse().unwrap();
    let mut open = shared.netns.enter(|| http::Connection::open(endpoint));
    until("the connection is accepted", || shared.status() == "200");
    proxy.signal(Signal::TERM);
    until("it has stopped listening", || shared.status() == "000");
    assert_eq!(open.send(http::request(endpoint, &shared.task.path(), None)).answer().status, 200);
    assert_eq!(proxy.wait().code(), 0);
    assert_eq!(shared.on_lo(), None);
}

#[test]
fn a_socket_that_is_kept_for_the_next_process_keeps_its_address() {
    let Some(shared) = skip::unless("a passed socket", Shared::new(Netns::bare())) else { return };
    let kept = shared.netns.enter(|| {
        // As systemd makes it with FreeBind=yes.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_freebind_v4(true).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&"169.254.170.2:80".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(128).unwrap();
        OwnedFd::from(socket)
    });
    let ends = |passed: OwnedFd| {
        let proxy = shared.serve().passing([("credentials".to_owned(), passed)]).spawn();
        proxy.says("listening on http://169.254.170.2:80");
        assert_eq!(shared.status(), "200");
        assert_eq!(proxy.end().code(), 0);
    };
    ends(kept.try_clone().unwrap());
    assert!(shared.on_lo().is_some());
    shared.netns.ip("address del 169.254.170.2/32 dev lo").unwrap();
    ends(kept);
    assert_eq!(shared.on_lo(), None, "nobody keeps it");
}
