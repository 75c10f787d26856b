//! The listening sockets are the service manager's, and no connection is refused; and what systemd itself makes of it.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::{ALL_SEALS, Upstream, memory};
use crate::http::{Connection, get, request};
use crate::rig::{self, until};
use crate::skip;
use crate::supervisor::Supervisor;
use crate::tasks::{Config, Task};

fn listener(address: &str) -> (SocketAddr, OwnedFd) {
    let listener = TcpListener::bind(address).unwrap();
    (listener.local_addr().unwrap(), listener.into())
}

#[test]
fn a_connection_that_is_made_while_no_process_runs_is_answered_after_the_start() {
    let (upstream, task) = (Upstream::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    let (address, socket) = listener("127.0.0.1:0");
    let (operations_address, operations) = listener("127.0.0.1:0");
    let admin = UnixListener::bind(config.file().with_extension("socket")).unwrap();
    let mut early = Connection::open(address);
    early.send(request(address, &task.path(), None));
    let sockets = [("", socket), ("operations", operations), ("", OwnedFd::from(admin))];
    let proxy = upstream.serve(&config.file()).passing(sockets.map(|(name, socket)| (name.to_owned(), socket))).spawn();
    assert_eq!(early.answer().status, 200);
    assert_eq!(proxy.address(), address);
    assert_eq!(get(operations_address, "/healthz").status, 200);
    assert!(proxy.logs("a listening socket was passed").contains(&address.to_string()));
}

#[test]
fn no_connection_is_refused_across_a_restart_with_sts_down() {
    let (upstream, supervisor, task) = (Upstream::new(), Supervisor::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    let (address, socket) = listener("127.0.0.1:0");
    let start = || {
        let socket = ("taskcreds.socket".to_owned(), socket.try_clone().unwrap());
        supervisor.start(upstream.serve(&config.file()), [socket]).spawn()
    };
    let mut proxy = start();
    let before = get(address, &task.path());
    assert_eq!(before.status, 200);
    upstream.gate.close();
    let (asked, counted) = std::sync::mpsc::channel();
    let (path, body) = (task.path(), before.body);
    let client = std::thread::spawn(move || {
        for number in 0..200 {
            let answer = get(address, &path);
            assert_eq!((answer.status, &answer.body), (200, &body), "request {number}");
            let _ = asked.send(number);
        }
    });
    // Three restarts, spread over the requests.
    for number in [20, 80, 140] {
        counted.iter().find(|asked| *asked >= number);
        assert_eq!(proxy.end().code(), 0);
        until("the sessions are kept", || !supervisor.names().is_empty());
        proxy = start();
    }
    client.join().unwrap();
    assert_eq!(upstream.sts.assume_role_calls().len(), 1);
}

#[test]
fn what_is_passed_and_cannot_be_used_is_named() {
    let config = Config::new(&[Task::new("web")]);
    let serve = || rig::taskcreds("serve").arg("--config").arg(config.file()).args("--listen 127.0.0.1:0");
    let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let stream = || OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
    let tcp = || listener("127.0.0.1:0").1;
    let cases: [(Vec<(&str, OwnedFd)>, &str); 8] = [
        (vec![("udp", udp())], "descriptor 3 (named \"udp\") was passed and is a socket that does not listen"),
        (
            vec![("", tcp()), ("x", stream())],
            "descriptor 4 (named \"x\") was passed and is a socket that does not listen",
        ),
        (vec![("", listener("0.0.0.0:0").1)], "would be reached by every neighbour"),
        (vec![("", listener("[::]:0").1)], "would be reached by every neighbour"),
        (vec![("operations", tcp()), ("operations", tcp())], "is a second operations endpoint"),
        (
            vec![("sessions-c", memory(b"", ALL_SEALS))],
            "descriptor 3 (named \"sessions-c\") was passed and is no socket",
        ),
        (vec![("sessions-a", File::open("/dev/null").unwrap().into())], "is no memory"),
        (vec![("stored", File::open("/dev/null").unwrap().into())], "is no socket"),
    ];
    for (passed, message) in cases {
        let ended = serve().passing(passed.into_iter().map(|(name, what)| (name.to_owned(), what))).run();
        assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""), "{message}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
    }
    for (count, names, message) in [
        ("5", "", "descriptor 4 is not open"),
        ("-1", "", "LISTEN_FDS=-1 is no number"),
        ("1", "a:b", "LISTEN_FDNAMES has 2 names for 1 descriptors"),
    ] {
        let start = serve().passing([(String::new(), tcp())]).env("LISTEN_FDS", count);
        let names = if names.is_empty() { "a:b:c:d:e" } else { names };
        let ended = start.env("LISTEN_FDNAMES", names).run();
        assert_eq!(ended.code(), 64, "{}", ended.stderr);
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
    }
    // Meant for another process: nothing was passed.
    let other = serve().env("LISTEN_PID", "1").env("LISTEN_FDS", "1").spawn();
    other.says("listening on ");
}

/// A `credential_process` is started by the proxy and is none of its parts.
#[test]
fn nothing_that_was_passed_is_inherited_by_a_credential_process() {
    let (upstream, supervisor, task) = (Upstream::new(), Supervisor::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    let (address, socket) = listener("127.0.0.1:0");
    let start = upstream.serve(&config.file()).env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    let (script, seen) = (start.home().join("credentials.sh"), start.home().join("descriptors"));
    let key = &upstream.sts.key;
    let said =
        serde_json::json!({"Version": 1, "AccessKeyId": key.access_key_id, "SecretAccessKey": key.secret_access_key});
    let text = format!("#!/bin/sh\nls -l /proc/self/fd >{}\necho '{said}'\n", seen.display());
    let mut file = File::options().write(true).create_new(true).mode(0o700).open(&script).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    drop(file);
    let profile = start.home().join("profile");
    fs::write(&profile, format!("[default]\ncredential_process = {}\n", script.display())).unwrap();
    let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
    supervisor.keep("sessions-a", memory(b"", ALL_SEALS));
    let proxy = supervisor.start(start.env("AWS_CONFIG_FILE", &profile), [(String::new(), socket)]).spawn();
    until("credentials", || get(address, &task.path()).status == 200);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("/proc/"), "{seen}");
    assert!(!seen.contains(&format!("socket:[{inode}]")) && !seen.contains("memfd:"), "{seen}");
    proxy.end();
}

#[test]
fn the_units_are_what_systemd_takes_and_leave_little_open() {
    let run = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    let there = run(&["--version"]).map_err(|error| format!("systemd-analyze: {error}"));
    let Some(_) = skip::unless("the units", there) else { return };
    let (folder, units) =
        (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd"));
    let [service, socket] = ["taskcreds.service", "taskcreds.socket"].map(|name| {
        let text = fs::read_to_string(units.join(name)).unwrap();
        let file = folder.path().join(name);
        fs::write(&file, text.replace("/usr/local/bin/taskcreds", env!("CARGO_BIN_EXE_taskcreds"))).unwrap();
        file.display().to_string()
    });
    // `--threshold` is ten times the exposure level.
    for arguments in [
        &["verify", "--man=no", service.as_str(), socket.as_str()][..],
        &["security", "--offline=true", "--no-pager", "--threshold=15", service.as_str()],
    ] {
        let output = run(arguments).unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(arguments[0] != "verify" || said.is_empty(), "{said}");
    }
}

#[test]
fn systemds_own_socket_activation_starts_it_and_the_first_connection_is_answered() {
    const PROGRAM: &str = "/usr/bin/systemd-socket-activate";
    let there = fs::metadata(PROGRAM).map_err(|error| format!("{PROGRAM}: {error}"));
    let Some(_) = skip::unless("the real systemd-socket-activate", there) else { return };
    let (upstream, task) = (Upstream::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut activate = Command::new(PROGRAM);
    activate.args(["--listen", &address.to_string(), "--fdname", "credentials"]);
    for (name, _) in upstream.sts.environment() {
        activate.args(["--setenv", name]);
    }
    activate.args(["--setenv", "AWS_EC2_METADATA_DISABLED"]).arg(env!("CARGO_BIN_EXE_taskcreds"));
    let proxy = upstream.serve(&config.file()).under(activate).spawn();
    proxy.logs("Listening on");
    assert_eq!(get(address, &task.path()).status, 200);
    assert_eq!(proxy.address(), address);
    assert_eq!(proxy.end().code(), 0);
}
