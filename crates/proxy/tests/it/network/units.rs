//! The unit that sets the network up at boot.

use std::path::Path;
use std::process::Command;

use crate::skip;

#[test]
fn the_unit_is_what_systemd_takes_and_comes_before_the_proxy() {
    let run = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    let there = run(&["--version"]).map_err(|error| format!("systemd-analyze: {error}"));
    let Some(_) = skip::unless("the unit of the network", there) else { return };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd");
    let folder = tempfile::tempdir().unwrap();
    let names = ["taskcreds-network.service", "taskcreds.service", "taskcreds.socket"];
    let files = names.map(|name| {
        let text = std::fs::read_to_string(deploy.join(name)).unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text.replace("/usr/local/bin/taskcreds", env!("CARGO_BIN_EXE_taskcreds"))).unwrap();
        file.display().to_string()
    });
    let [network, ..] = &files;
    // A machine that starts them all, and firewalls as their packages have them.
    let machine = folder.path().join("machine.target");
    let ufw = "DefaultDependencies=no\nWants=network-pre.target\nAfter=local-fs.target\nBefore=network-pre.target";
    let firewalld = "Wants=network-pre.target\nAfter=dbus.service polkit.service\nBefore=network-pre.target";
    for (name, text) in [("ufw.service", ufw), ("firewalld.service", firewalld)] {
        let text = format!("[Unit]\n{text}\n[Service]\nExecStart={}\n", env!("CARGO_BIN_EXE_taskcreds"));
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let wants = format!("Wants=basic.target ufw.service firewalld.service {}", names.join(" "));
    std::fs::write(&machine, format!("[Unit]\nDefaultDependencies=no\n{wants}\n")).unwrap();
    let sockets = folder.path().join("sockets.target.wants");
    std::fs::create_dir(&sockets).unwrap();
    std::os::unix::fs::symlink("../taskcreds.socket", sockets.join("taskcreds.socket")).unwrap();
    // An order that goes round in a circle is told too.
    let units = files.iter().map(String::as_str).chain(machine.to_str());
    let all: Vec<_> = ["verify", "--man=no"].into_iter().chain(units).collect();
    for arguments in [&all[..], &["security", "--offline=true", "--no-pager", "--threshold=25", network]] {
        let output = run(arguments).unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(arguments.first() != Some(&"verify") || said.is_empty(), "{said}");
    }
    let text = std::fs::read_to_string(deploy.join("taskcreds-network.service")).unwrap();
    for line in [
        "Type=oneshot",
        "RemainAfterExit=yes",
        "CapabilityBoundingSet=CAP_NET_ADMIN",
        "ExecStart=/usr/local/bin/taskcreds network up --early",
        "ExecStop=/usr/local/bin/taskcreds network down",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}");
    }
    let is_named = |order: &str, unit: &str| {
        text.lines()
            .filter_map(|line| line.strip_prefix(order))
            .any(|units| units.split(' ').any(|named| named == unit))
    };
    for unit in ["taskcreds.service", "taskcreds.socket", "docker.service"] {
        assert!(is_named("Before=", unit), "{unit}");
    }
    for unit in ["nftables.service", "netfilter-persistent.service", "ufw.service"] {
        assert!(is_named("After=", unit), "{unit}");
    }
}
