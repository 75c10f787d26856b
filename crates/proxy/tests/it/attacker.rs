//! An attacker's web server, and the browser of who visits it: Debian's Chromium, headless, in a namespace with no way out.
//!
//! To that browser `attacker.example` has two addresses, as an attacker's own name server tells them: the attacker's first, `[::1]`,
//! and the proxy's, 127.0.0.1. Once nobody listens at the first one, the same name and port, so the same origin, are the proxy's.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::rig;

/// The name of the attacker's site.
pub(crate) const NAME: &str = "attacker.example";

/// A request.
pub(crate) struct Visit {
    /// Its method.
    pub(crate) method: String,
    /// Its target.
    pub(crate) path: String,
    /// Its headers, names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// Its body.
    pub(crate) body: String,
}

impl Visit {
    /// Takes a request from a connection; `None`: there is none, or not a whole one.
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// A header; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A web server on one address, one request a connection, until it is told to leave.
#[derive(Clone)]
pub(crate) struct Site {
    address: SocketAddr,
    leaving: Arc<AtomicBool>,
    seen: Arc<Mutex<String>>,
}

impl Site {
    /// Listens; what it answers are headers and a body, made by a thread for each connection.
    pub(crate) fn open(
        address: SocketAddr,
        answer: impl Fn(&Visit) -> (String, String) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let site = Self { address, leaving: Arc::default(), seen: Arc::default() };
        let (own, answer) = (site.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !own.leaving.load(Ordering::SeqCst)).flatten() {
                let (own, answer) = (own.clone(), Arc::clone(&answer));
                std::thread::spawn(move || own.serve(stream, &*answer));
            }
        });
        Ok(site)
    }

    fn serve(&self, mut stream: TcpStream, answer: &impl Fn(&Visit) -> (String, String)) {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let Some(visit) = Visit::read(&stream) else { return };
        if self.leaving.load(Ordering::SeqCst) {
            // A connection that the browser had in store. It will find the other address.
            return;
        }
        let told = format!("{} {} {:?} {}\n", visit.method, visit.path, visit.headers, visit.body);
        self.seen.lock().unwrap().push_str(&told);
        let (headers, body) = answer(&visit);
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        // A browser may have gone on to something else.
        let _ = stream.write_all((head + &body).as_bytes());
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nobody listens at its address from now on.
    pub(crate) fn leave(&self) {
        if !self.leaving.swap(true, Ordering::SeqCst) {
            // Has the listener look.
            let _ = TcpStream::connect(self.address);
            rig::until("the attacker's site is gone", || TcpStream::connect(self.address).is_err());
        }
    }

    /// Every request in full, as the server's log.
    pub(crate) fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }
}

/// Whether there is a browser.
pub(crate) fn chromium() -> Result<(), String> {
    let version = Command::new("chromium").arg("--version").stderr(Stdio::null()).output();
    match version {
        Ok(version) if version.status.success() => Ok(()),
        Ok(version) => Err(format!("chromium --version: {}", version.status)),
        Err(error) => Err(format!("chromium: {error}")),
    }
}

/// A browser with a profile of its own; gone when dropped.
pub(crate) struct Browser {
    child: Child,
    home: TempDir,
}

impl Browser {
    /// Visits a page; needs root, and a namespace with no way out.
    pub(crate) fn visit(url: &str) -> Self {
        let routes = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
        assert_eq!(routes.lines().count(), 1, "a browser that is attacked stays inside: {routes}");
        let home = tempfile::tempdir().unwrap();
        let hosts = home.path().join("hosts");
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n::1 {NAME}\n127.0.0.1 {NAME}\n")).unwrap();
        let mut command = rig::clean(Command::new("unshare"), home.path());
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec chromium \"$@\""]).arg(hosts);
        command.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        command.args(["--no-proxy-server", "--disable-background-networking", "--disable-component-update"]);
        command.args(["--disable-sync", "--disable-popup-blocking"]);
        // The system's resolver, which knows both addresses; Chromium's own takes the first of a hosts file alone.
        command.args(["--disable-features=AsyncDns", "--enable-logging=stderr", url]);
        let said = std::fs::File::create(home.path().join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(said).process_group(0).spawn().expect("unshare starts");
        Self { child, home }
    }

    /// What it has logged, scripts' errors among it.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // All of it: the browser has a process for each site.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
