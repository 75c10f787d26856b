//! The sessions in a file, for machines without a service manager that keeps descriptors.
//!
//! What it guarantees: nobody but this user has written or can read the file, and it is in memory: it does not outlive the machine.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fstatfs, mkdir, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

const NAME: &str = "sessions";
/// What becomes the file when it is whole.
const NEXT: &str = "sessions.new";
const TMPFS: i128 = 0x0102_1994;
const RAMFS: i128 = 0x8584_58f6;

/// A folder in memory that belongs to this user.
pub(super) struct RuntimeDir(OwnedFd);

impl RuntimeDir {
    /// Where it is: systemd's `RUNTIME_DIRECTORY`, for root `/run/taskcreds`, else `XDG_RUNTIME_DIR/taskcreds`.
    pub(super) fn path(environment: &HashMap<String, String>) -> Option<PathBuf> {
        let set = |name| environment.get(name).map(String::as_str).filter(|value| value.starts_with('/'));
        let path = match set("RUNTIME_DIRECTORY").and_then(|folders| folders.split(':').next()) {
            Some(folder) => PathBuf::from(folder),
            None if rustix::process::geteuid().is_root() => PathBuf::from("/run/taskcreds"),
            None => Path::new(set("XDG_RUNTIME_DIR")?).join("taskcreds"),
        };
        // Without a slash at its end, which would lead through a symbolic link.
        Some(path.components().collect())
    }

    /// Opens the folder, and makes it where it is missing.
    ///
    /// # Errors
    /// Why it is not one to keep secrets in.
    pub(super) fn make(path: &Path) -> Result<Self, String> {
        match mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Self::open(path),
            Err(error) => Err(format!("cannot be made: {error}")),
        }
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// Why it is not one to keep secrets in.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => "is no folder, or a symbolic link".to_owned(),
            error => format!("cannot be opened: {error}"),
        })?;
        let cannot = |error: Errno| format!("cannot be looked at: {error}");
        let about = fstat(&folder).map_err(cannot)?;
        if !is_own(&about) {
            return Err(format!("belongs to user {}, not to this one", about.st_uid));
        }
        if Mode::from_raw_mode(about.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
            return Err("can be written by others: chmod go-w it".to_owned());
        }
        // Its width and sign are the machine's.
        let kind = i128::from(fstatfs(&folder).map_err(cannot)?.f_type);
        if ![TMPFS, RAMFS].contains(&kind) {
            return Err("is not on tmpfs: sessions are secrets and are not written to disks".to_owned());
        }
        Ok(Self(folder))
    }

    /// Puts bytes into the file, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match unlinkat(&self.0, NEXT, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.0, NEXT, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(bytes)?;
        renameat(&self.0, NEXT, &self.0, NAME)?;
        Ok(())
    }

    /// The bytes of the file; `None` where there is none.
    ///
    /// # Errors
    /// It is none that this program has written.
    pub(super) fn read(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.0, NAME, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(io::Error::other("the file is a symbolic link")),
            Err(error) => return Err(error.into()),
        };
        let about = fstat(&file)?;
        let is_private = Mode::from_raw_mode(about.st_mode) == Mode::RUSR | Mode::WUSR;
        if !is_own(&about) || !is_file(&about) || !is_private {
            return Err(io::Error::other("the file is not this user's alone (mode 0600)"));
        }
        let length = usize::try_from(about.st_size).ok().filter(|length| *length <= super::memory::LONGEST);
        let length = length.ok_or_else(|| io::Error::other("the file is longer than any that this program writes"))?;
        // It may be replaced, but what was opened is written by nobody any more.
        let mut bytes = Zeroizing::new(vec![0; length]);
        (&file).read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Removes the file, whatever it is.
    ///
    /// # Errors
    /// The system's: it is still there.
    pub(super) fn clear(&self) -> io::Result<()> {
        // Half a file is never read.
        let _ = unlinkat(&self.0, NEXT, AtFlags::empty());
        match unlinkat(&self.0, NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the file. Returns whether there was one that is this user's.
    pub(super) fn remove(&self) -> bool {
        let remove = |name| self.has(name) && unlinkat(&self.0, name, AtFlags::empty()).is_ok();
        [remove(NEXT), remove(NAME)].contains(&true)
    }

    /// Whether there is a file of this user's.
    pub(super) fn has_file(&self) -> bool {
        self.has(NAME)
    }

    fn has(&self, name: &str) -> bool {
        statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|about| is_own(&about) && is_file(&about))
    }
}

fn is_own(about: &Stat) -> bool {
    about.st_uid == rustix::process::geteuid().as_raw()
}

fn is_file(about: &Stat) -> bool {
    FileType::from_raw_mode(about.st_mode) == FileType::RegularFile
}

#[cfg(test)]
#[path = "runtime_dir_tests.rs"]
mod tests;
