//! What `up` has found and made, in a file, so that `down` puts back exactly that. One process at a time changes it.
//!
//! It is root's own and not in the folder of the service, whose user could otherwise have root set values of his choosing, and which systemd
//! removes when the service stops.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{Piece, Wanted};
use super::rules::Backend;
use crate::failure::{Exit, Failure};

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) wanted: Wanted,
    /// What holds the rules; none in a namespace without either.
    pub(super) backend: Option<Backend>,
    /// Our rules as they were listed when they had been put there.
    pub(super) listing: Vec<String>,
    /// What was not there before, in the order in which it was made.
    pub(super) made: Vec<Made>,
}

/// Something that was not there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) piece: Piece,
    /// What was there instead.
    pub(super) found: Option<String>,
}

/// The file, held by this process until dropped.
pub(super) struct Store {
    path: PathBuf,
    _folder: File,
}

impl Store {
    /// Opens the folder, makes it where it is missing, and waits until no other process holds it.
    ///
    /// # Errors
    /// It cannot be made or opened, or others may write to it.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let folder = crate::folder::of(path);
        let cannot = |why: String| {
            let exit = Exit::Unavailable;
            Failure::new(
                exit,
                format!(
                    "cannot keep what is found in {}: {why} (--state or TASKCREDS_NETWORK_STATE names another file)",
                    path.display()
                ),
            )
        };
        let held = || -> io::Result<File> {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let held = File::open(folder)?;
            held.lock()?;
            Ok(held)
        };
        let held = held().map_err(|error| cannot(error.to_string()))?;
        let about = held.metadata().map_err(|error| cannot(error.to_string()))?;
        if about.uid() != rustix::process::geteuid().as_raw() || about.mode() & 0o022 != 0 {
            return Err(cannot(format!("{} is not this user's alone: chown it and chmod go-w it", folder.display())));
        }
        Ok(Self { path: path.to_owned(), _folder: held })
    }

    /// What is kept; `None` where nothing is set up.
    ///
    /// # Errors
    /// It is none that this program has written.
    pub(super) fn read(&self) -> Result<Option<State>, Failure> {
        read(&self.path)
    }

    /// Keeps this, whole or not at all, in a file of mode 0600; `None` removes it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn write(&self, state: Option<&State>) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            let Some(state) = state else {
                return match fs::remove_file(&self.path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            };
            let mut file = tempfile::NamedTempFile::new_in(self.path.parent().unwrap_or(Path::new(".")))?;
            file.write_all(&serde_json::to_vec_pretty(state)?)?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        write()
            .map_err(|error| Failure::new(Exit::Unavailable, format!("cannot write {}: {error}", self.path.display())))
    }
}

/// The same for who only looks.
///
/// # Errors
/// It is none that this program has written.
pub(super) fn read(path: &Path) -> Result<Option<State>, Failure> {
    let read = || -> io::Result<String> {
        let no_links = rustix::fs::OFlags::NOFOLLOW.bits();
        let mut options = OpenOptions::new();
        let mut file = options.read(true).custom_flags(i32::try_from(no_links).unwrap_or(0)).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    };
    let cannot = |why: String| {
        let why = format!("{}: {why}; move it away if it is no state of `taskcreds network`", path.display());
        Failure::new(Exit::Unavailable, why)
    };
    match read() {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| cannot(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let why = format!("{}: {error}: it is read by root", path.display());
            Err(Failure::new(Exit::NoPermission, why))
        }
        Err(error) => Err(cannot(error.to_string())),
    }
}
