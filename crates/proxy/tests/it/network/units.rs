//! The unit that sets the network up at boot.

use std::path::Path;
use std::process::Command;

use crate::skip;

#[test]
fn the_unit_is_what_systemd_takes_and_comes_before_the_proxy() {
    let run = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    let there = run(&["--version"]).map_err(|error| format!("systemd-analyze: {error}"));
    let Some(_) = skip::unless("the unit of the network", there) else { return };
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd");
    let folder = tempfile::tempdir().unwrap();
    let names = ["taskcreds-network.service", "taskcreds.service", "taskcreds.socket"];
    let files = names.map(|name| {
        let text = std::fs::read_to_string(units.join(name)).unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text.replace("/usr/local/bin/taskcreds", env!("CARGO_BIN_EXE_taskcreds"))).unwrap();
        file.display().to_string()
    });
    let [network, ..] = &files;
    // An order that goes round in a circle is told too.
    let all: Vec<_> = ["verify", "--man=no"].into_iter().chain(files.iter().map(String::as_str)).collect();
    for arguments in [&all[..], &["security", "--offline=true", "--no-pager", "--threshold=25", network]] {
        let output = run(arguments).unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(arguments.first() != Some(&"verify") || said.is_empty(), "{said}");
    }
    let text = std::fs::read_to_string(units.join("taskcreds-network.service")).unwrap();
    for line in [
        "Type=oneshot",
        "RemainAfterExit=yes",
        "CapabilityBoundingSet=CAP_NET_ADMIN",
        "ExecStart=/usr/local/bin/taskcreds network up --early",
        "ExecStop=/usr/local/bin/taskcreds network down",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}");
    }
    let before: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("Before=")).flat_map(|units| units.split(' ')).collect();
    for unit in ["taskcreds.service", "taskcreds.socket", "docker.service"] {
        assert!(before.contains(&unit), "{unit}");
    }
}
