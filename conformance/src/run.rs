//! Installs the clients, and has each of them go through the cases of each table in a network namespace of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cases::{CASES, Cell, LOOPS};
use crate::clients::{CLIENTS, Client, Installed};
use crate::world::Surroundings;

/// What has come of the cases of one client.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub client: &'static Client,
    /// Its version and its cells by the names of the cases, or why it does not run here.
    pub cells: Result<(String, Cells), String>,
}

/// By the names of the cases.
pub type Cells = BTreeMap<String, Cell>;

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
    let groups: BTreeSet<_> = CASES.iter().map(|case| case.group).collect();
    // The last clients take longest, and the loops wait most of their time: those go on beside all else.
    let all: Vec<_> = chosen.iter().rev().flat_map(|client| groups.iter().map(|group| (*client, *group))).collect();
    let (loops, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, group)| *group == LOOPS);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let queues = [(Mutex::new(loops.into_iter()), cores), (Mutex::new(others.into_iter()), cores * 2)];
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (queue, together) in &queues {
            for _ in 0..*together {
                scope.spawn(|| {
                    loop {
                        let Some((client, group)) = lock(queue).next() else { return };
                        let ready = installed.get(client.folder).cloned().unwrap_or(Ok(()));
                        let cells = ready.and_then(|()| one(places, client, group));
                        lock(&done).push((client.name, cells));
                    }
                });
            }
        }
    });
    let done = lock(&done);
    let cells = |client: &Client| {
        let mut all = Cells::new();
        for (_, cells) in done.iter().filter(|(name, _)| *name == client.name) {
            all.extend(cells.clone()?);
        }
        Ok((places.installed.version(client)?, all))
    };
    chosen.into_iter().map(|client| Outcome { client, cells: cells(client) }).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cases of one table with one client.
fn one(places: &Places, client: &'static Client, group: &str) -> Result<Cells, String> {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    // Loopback of a new namespace is down and has 127.0.0.1 alone.
    let script = "ip link set lo up && ip address add 169.254.170.2/32 dev lo && ip address add 169.254.169.254/32 dev lo && exec \"$@\"";
    // With mounts of its own too, for s3fs.
    unshare.args(["--net", "--mount", "--", "sh", "-c", script, "sh"]).arg(&places.program);
    unshare.args(["inside", client.name, group]).stdin(Stdio::null());
    let output = unshare.output().map_err(|error| format!("unshare: {error}"))?;
    let mut cells = Cells::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Said { case, cell } = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        cells.insert(case, cell);
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("no namespace: {}", said.lines().next_back().unwrap_or_default()));
    }
    Ok(cells)
}

/// What runs in the namespace: tells a line for each case.
///
/// # Errors
/// The system's.
pub fn inside(places: &Places, client: &str, group: &str, tell: &mut impl io::Write) -> io::Result<()> {
    let client = CLIENTS.iter().find(|known| known.name == client).ok_or(io::ErrorKind::NotFound)?;
    let around = Surroundings::new(&places.binary, places.installed.clone())?;
    for case in CASES.iter().filter(|case| case.group == group) {
        let said = Said { case: case.name.to_owned(), cell: case.run(&around, client) };
        serde_json::to_writer(&mut *tell, &said)?;
        writeln!(tell)?;
    }
    Ok(())
}
