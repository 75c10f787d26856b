//! Installs the clients, and has each of them go through all cases in a network namespace of its own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cases::{CASES, Cell};
use crate::clients::{CLIENTS, Client, Installed};
use crate::world::Surroundings;

/// What has come of the cases of one client.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub client: &'static Client,
    /// Its version and its cells by the names of the cases, or why it does not run here.
    pub cells: Result<(String, BTreeMap<String, Cell>), String>,
}

/// One line of what the process in the namespace says.
#[derive(Serialize, Deserialize)]
struct Said {
    case: String,
    cell: Cell,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The proxy.
    pub binary: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// The clients.
    pub installed: Installed,
}

impl Places {
    /// Beside this program, as cargo puts them.
    ///
    /// # Errors
    /// The proxy has not been built.
    pub fn beside(program: &Path) -> io::Result<Self> {
        let folder = program.parent().ok_or(io::ErrorKind::NotFound)?;
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        let binary = folder.join("taskcreds");
        if !binary.is_file() {
            let message = format!("there is no {}: build it with: cargo build -p taskcreds", binary.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let target = folder.parent().unwrap_or(folder);
        Ok(Self { binary, program: folder.join("conformance"), installed: Installed::below(target) })
    }
}

/// All clients, a few at a time, in the order of the table.
#[must_use]
pub fn all(places: &Places, only: Option<&str>) -> Vec<Outcome> {
    let chosen: Vec<_> = CLIENTS.iter().filter(|client| only.is_none_or(|only| only == client.name)).collect();
    let mut installed = BTreeMap::new();
    for client in &chosen {
        installed.entry(client.folder).or_insert_with(|| places.installed.install(client.folder));
    }
    // The last ones take longest.
    let (next, outcomes) = (Mutex::new(chosen.iter().rev()), Mutex::new(Vec::new()));
    let lock = || outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    let together = std::thread::available_parallelism().map_or(2, |cores| cores.get() * 2);
    std::thread::scope(|scope| {
        for _ in 0..together {
            scope.spawn(|| {
                loop {
                    let client = next.lock().unwrap_or_else(PoisonError::into_inner).next().copied();
                    let Some(client) = client else { return };
                    let ready = installed.get(client.folder).cloned().unwrap_or(Ok(()));
                    let cells = ready.and_then(|()| one(places, client));
                    lock().push(Outcome { client, cells });
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|outcome| CLIENTS.iter().position(|client| client.name == outcome.client.name));
    outcomes
}

fn one(places: &Places, client: &'static Client) -> Result<(String, BTreeMap<String, Cell>), String> {
    let version = places.installed.version(client)?;
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    // Loopback of a new namespace is down and has 127.0.0.1 alone.
    let script = "ip link set lo up && ip address add 169.254.170.2/32 dev lo && ip address add 169.254.169.254/32 dev lo && exec \"$@\"";
    // With mounts of its own too, for s3fs.
    unshare.args(["--net", "--mount", "--", "sh", "-c", script, "sh"]).arg(&places.program);
    unshare.args(["inside", client.name]).stdin(Stdio::null());
    let output = unshare.output().map_err(|error| format!("unshare: {error}"))?;
    let mut cells = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Said { case, cell } = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        cells.insert(case, cell);
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("no namespace: {}", said.lines().next_back().unwrap_or_default()));
    }
    Ok((version, cells))
}

/// What runs in the namespace: tells a line for each case.
///
/// # Errors
/// The system's.
pub fn inside(places: &Places, client: &str, tell: &mut impl io::Write) -> io::Result<()> {
    let client = CLIENTS.iter().find(|known| known.name == client).ok_or(io::ErrorKind::NotFound)?;
    let around = Surroundings::new(&places.binary, places.installed.clone())?;
    for case in &CASES {
        let said = Said { case: case.name.to_owned(), cell: case.run(&around, client) };
        serde_json::to_writer(&mut *tell, &said)?;
        writeln!(tell)?;
    }
    Ok(())
}
