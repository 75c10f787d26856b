//! The audit log: one record for each answer of the credentials endpoint, refusals included, and one for each call to STS.
//!
//! Never an id, a token or a secret; the id as the first 8 hex digits of its SHA-256, as in the log.

mod ecs;
pub(crate) mod file;
mod folder;
pub mod log;
pub mod record;
pub mod search;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use taskcreds_core::{Settled, Task};

use self::log::{Counts, Log, Place, Rotation};
use self::record::{Answered, Mint};
use crate::failure::Failure;

/// How long the last records are waited for at the end; a service manager waits longer before it kills.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// `[audit]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where records go as JSON lines.
    pub json: Option<Place>,
    /// Where answers go in the ECS agent's format, version 2.
    pub ecs: Option<Place>,
    /// When files are put aside.
    pub rotation: Rotation,
    /// Whether credentials that cannot be recorded are not handed out.
    pub required: bool,
    /// What the ECS agent's format has in its last field.
    pub container_instance_arn: Option<String>,
}

impl Settings {
    /// What keeps this user from writing the files, as far as their folders tell it: nothing is opened and nothing is made.
    pub fn troubles(&self) -> impl Iterator<Item = String> {
        let files = self.json.iter().chain(&self.ecs).filter_map(|place| match place {
            Place::File(file) => Some(file),
            Place::Stdout => None,
        });
        files.filter_map(|file| match folder::check(crate::folder::of(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Some(log::cannot_open(file, &error).message),
            _ => None,
        })
    }
}

/// The audit log.
pub struct Audit {
    json: Option<Log>,
    /// Refusals, where they have a file of their own: whoever reaches the port can make any number of them, and must not so push the
    /// records of what was handed out through the rotation.
    refused: Option<Log>,
    ecs: Option<Log>,
    required: bool,
    container_instance_arn: Option<String>,
}

impl Audit {
    /// Opens the files.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(settings: &Settings, counts: &Counts) -> Result<Arc<Self>, Failure> {
        let Settings { json, ecs, rotation, required, container_instance_arn } = settings;
        let open = |place: &Place| Log::open(place, *rotation, counts.clone());
        let refused = match json {
            Some(Place::File(file)) => Some(open(&Place::File(refused(file)))?),
            Some(Place::Stdout) | None => None,
        };
        Ok(Arc::new(Self {
            refused,
            json: json.as_ref().map(open).transpose()?,
            ecs: ecs.as_ref().map(open).transpose()?,
            required: *required,
            container_instance_arn: container_instance_arn.clone(),
        }))
    }

    /// Records an answer of the credentials endpoint. Returns whether it may be given: always, unless records are required and this one
    /// could not be written.
    pub async fn answered(&self, answered: &Answered<'_>) -> bool {
        let json = self.put(self.log_of(answered), || answered.json());
        let ecs = self.put(self.ecs.as_ref(), || ecs::line(answered, self.container_instance_arn.as_deref()));
        // Both at once, so that two disks that hang are waited for no longer than one.
        let (json, ecs) = tokio::join!(json, ecs);
        json && ecs
    }

    /// Records a call to STS.
    pub fn minted(&self, now: SystemTime, task: &Task, settled: &Settled, took: Duration) {
        if let Some(log) = &self.json {
            log.push(&Mint::of(now, task, settled, took).json());
        }
    }

    /// Bytes that were no HTTP request were answered.
    pub fn unparsable(&self, now: SystemTime, peer: SocketAddr) {
        let answered = Answered::unparsable(now, peer);
        if let Some(log) = self.log_of(&answered) {
            log.push(&answered.json());
        }
        if let Some(log) = &self.ecs {
            log.push(&ecs::line(&answered, self.container_instance_arn.as_deref()));
        }
    }

    /// The JSON log that an answer belongs in.
    fn log_of(&self, answered: &Answered<'_>) -> Option<&Log> {
        self.refused.as_ref().filter(|_| answered.session.is_none()).or(self.json.as_ref())
    }

    async fn put(&self, log: Option<&Log>, line: impl FnOnce() -> Vec<u8>) -> bool {
        let Some(log) = log else { return true };
        if self.required {
            return log.record(&line()).await;
        }
        log.append(&line()).await;
        true
    }

    /// Writes what is left. Blocks until that is done, but not for ever: a disk that hangs does not keep the program from ending.
    pub fn close(&self) {
        let deadline = Instant::now() + LAST_RECORDS;
        let logs = || self.json.iter().chain(&self.refused).chain(&self.ecs);
        logs().for_each(Log::stop);
        if !logs().all(|log| log.wait(deadline)) {
            tracing::error!("the disk of the audit log hangs: its last records were waited for and are lost");
        }
    }
}

/// `audit-refused.log` beside `audit.log`.
pub(crate) fn refused(file: &Path) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_owned();
    name.push("-refused");
    if let Some(extension) = file.extension() {
        name.push(".");
        name.push(extension);
    }
    file.with_file_name(name)
}

#[cfg(all(test, unix))]
pub(crate) mod tests {
    use std::fs::File;

    use super::*;

    /// A pipe that is full until it is read, as a disk that hangs; open at both ends.
    #[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    pub(crate) fn full_pipe(path: &Path) -> File {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let both = File::options().read(true).write(true).open(path).unwrap();
        let full = File::options().write(true).open(path).unwrap();
        rustix::fs::fcntl_setfl(&full, rustix::fs::OFlags::NONBLOCK).unwrap();
        while io::Write::write(&mut &full, &[0; 4096]).is_ok() {}
        both
    }

    #[tokio::test(start_paused = true)]
    async fn two_disks_that_hang_are_waited_for_no_longer_than_one() {
        let folder = tempfile::tempdir().unwrap();
        let pipes = ["json", "refused", "ecs"].map(|name| {
            let path = folder.path().join(name);
            let both = full_pipe(&path);
            (path, both)
        });
        let rotation = Rotation { bytes: 1 << 30, age: Duration::from_secs(3600), keep: 1 };
        let [json, refused, ecs] = pipes
            .each_ref()
            .map(|(path, _)| Some(Log::open(&Place::File(path.clone()), rotation, Counts::default()).unwrap()));
        let audit = Audit { json, refused, ecs, required: true, container_instance_arn: None };
        let peer = SocketAddr::from(([127, 0, 0, 1], 4711));
        let start = tokio::time::Instant::now();
        assert!(!audit.answered(&Answered::unparsable(SystemTime::now(), peer)).await);
        assert!(start.elapsed() <= log::PATIENCE * 11 / 10, "{:?}", start.elapsed());
    }
}
