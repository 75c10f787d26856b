//! haproxy, nginx and tinyproxy as people run them: on a port of loopback, ended with the test.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::rig::{clean, pause, until};

/// Where the fronts call from, so that their requests are told from others'.
pub(super) const FROM: &str = "127.0.0.7";

/// A running front. Its log has a line for each request, `request SENT USER-AGENT`.
pub(super) struct Front {
    child: Child,
    /// Where it listens.
    pub(super) address: SocketAddr,
    home: TempDir,
    /// Has it end when all that was begun is done.
    soft: Signal,
    /// Bound and never listening: the port is nobody else's, and with SO_REUSEADDR it can be the front's.
    _port: Socket,
}

impl Front {
    /// A reverse proxy with connections that are kept and shared, and these lines in its `frontend`. It has one thread: of several,
    /// one that meets another at writing its log gives the line up (`fd_write_frag_line` in haproxy's src/fd.c).
    pub(super) fn haproxy(to: SocketAddr, more: &str) -> Result<Self, String> {
        let config = |address: SocketAddr| {
            format!(
                "global
                    nbthread 1
                    log stdout format raw local0
                    hard-stop-after 10s
                defaults
                    mode http
                    log global
                    option dontlognull
                    log-format \"request %s/%Tc %[capture.req.hdr(0)]\"
                    retries 0
                    http-reuse always
                    timeout connect 10s
                    timeout client 2s
                    timeout http-request 2s
                    timeout server 10s
                    timeout queue 10s
                frontend front
                    bind {address}
                    capture request header User-Agent len 32
                    {more}
                    default_backend back
                backend back
                    server taskcreds {to} source {FROM} maxconn 2\n"
            )
        };
        Self::start("haproxy", &["-db", "-f", "front.conf"], Signal::USR1, config)
    }

    /// The same by nginx, and these lines in its `location`.
    pub(super) fn nginx(to: SocketAddr, more: &str) -> Result<Self, String> {
        let config = |address: SocketAddr| {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {name};"))
                .join(" ");
            format!(
                "daemon off; worker_processes 1; user root root; pid nginx.pid; error_log log info;
                events {{ worker_connections 64; }}
                http {{
                    {temporary}
                    log_format sent 'request $upstream_bytes_sent $http_user_agent';
                    access_log log sent;
                    client_header_timeout 2s;
                    client_body_timeout 2s;
                    underscores_in_headers on;
                    ignore_invalid_headers off;
                    upstream taskcreds {{ server {to}; keepalive 2; }}
                    server {{
                        listen {address};
                        location / {{
                            proxy_pass http://taskcreds;
                            proxy_http_version 1.1;
                            proxy_set_header Connection \"\";
                            proxy_set_header Host $http_host;
                            proxy_bind {FROM};
                            proxy_next_upstream off;
                            proxy_request_buffering off;
                            {more}
                        }}
                    }}
                }}\n"
            )
        };
        Self::start("nginx", &["-e", "log", "-p", "./", "-c", "front.conf"], Signal::QUIT, config)
    }

    /// A forward proxy, which is a reverse proxy too for who asks it for a path.
    pub(super) fn tinyproxy(to: SocketAddr) -> Result<Self, String> {
        let config = |address: SocketAddr| {
            let port = address.port();
            format!(
                "Port {port}\nListen 127.0.0.1\nBind {FROM}\nAllow 127.0.0.1\nTimeout 10\nLogLevel Connect\n\
                 ReversePath \"/\" \"http://{to}/\"\n"
            )
        };
        Self::start("tinyproxy", &["-d", "-c", "front.conf"], Signal::TERM, config)
    }

    fn start(
        program: &str,
        arguments: &[&str],
        soft: Signal,
        config: impl Fn(SocketAddr) -> String,
    ) -> Result<Self, String> {
        let port = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        port.set_reuse_address(true).unwrap();
        port.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("front.conf"), config(address)).unwrap();
        let log = || File::options().create(true).append(true).open(home.path().join("log")).unwrap();
        let mut command = clean(Command::new(program), home.path());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).args(arguments).current_dir(home.path());
        command.stdout(log()).stderr(log());
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let mut front = Self { child, address, home, soft, _port: port };
        until("the front listens", || {
            if let Some(status) = front.child.try_wait().unwrap() {
                panic!("{program} {status}: {}", front.log());
            }
            TcpStream::connect(address).is_ok()
        });
        Ok(front)
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        read(self.home.path())
    }

    /// Lets it finish what it has begun, and tells how many requests of each user agent it has sent on.
    pub(super) fn end(mut self) -> BTreeMap<String, usize> {
        self.stop(self.soft);
        let (mut sent_on, log) = (BTreeMap::new(), self.log());
        for line in log.lines().filter_map(|line| line.strip_prefix("request ")) {
            let mut words = line.split_ascii_whitespace();
            let (sent, user_agent) = (words.next().unwrap(), words.next().unwrap());
            // haproxy: no server was chosen, or no connection to it was made; nginx: no byte was written.
            let is_kept_back = sent.starts_with("<NOSRV>") || sent.ends_with("/-1") || ["-", "0"].contains(&sent);
            if !is_kept_back {
                *sent_on.entry(user_agent.to_owned()).or_default() += 1;
            }
        }
        sent_on
    }

    fn stop(&mut self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        let deadline = Instant::now() + Duration::from_secs(15);
        let _ = kill_process(id, signal);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            pause();
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop(Signal::TERM);
        }
    }
}

fn read(home: &Path) -> String {
    String::from_utf8_lossy(&fs::read(home.join("log")).unwrap_or_default()).into_owned()
}
