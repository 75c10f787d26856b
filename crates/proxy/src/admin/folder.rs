//! The state folder: opened once, and everything in it reached from there, so that nobody swaps a part of the path for a link.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::{Exit, Failure};

/// A folder of this user's alone.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
}

impl Folder {
    /// Opens it, or makes it with mode 0700.
    ///
    /// # Errors
    /// It cannot be made or opened, is a symbolic link, belongs to another user, or others may write to it.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let cannot = |why: String| {
            let path = path.display();
            Failure::new(
                Exit::Unavailable,
                format!("cannot use the state folder {path}: {why} (--state-dir names another)"),
            )
        };
        let fd = Self::open_or_make(path).map_err(|error| cannot(error.to_string()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| cannot(error.to_string()))?;
        let user = rustix::process::geteuid().as_raw();
        if stat.st_uid != user {
            return Err(cannot(format!("it belongs to user {} and this is user {user}", stat.st_uid)));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(cannot("others may write to it: name a folder of its own, with mode 0700".to_owned()));
        }
        Ok(Self { fd })
    }

    fn open_or_make(path: &Path) -> io::Result<OwnedFd> {
        let open = || {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            rustix::fs::openat(CWD, path, flags, Mode::empty())
        };
        match open() {
            Err(Errno::NOENT) => {
                use std::os::unix::fs::DirBuilderExt;
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
                Ok(open()?)
            }
            opened => Ok(opened?),
        }
    }

    /// Opens a file of this folder to read and write; `None` where there is none.
    pub(super) fn file(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&file)?;
        let user = rustix::process::geteuid().as_raw();
        let is_regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
        if !is_regular || stat.st_uid != user || stat.st_nlink != 1 || stat.st_mode & 0o077 != 0 {
            let why = "it is no file of this user's alone: chown and chmod 600 it, or move it away";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        // So that a file which was there for the first time is still there after a loss of power.
        rustix::fs::fsync(&self.fd)?;
        Ok(Some(file.into()))
    }

    /// Makes a file with mode 0600 in place of one that was left behind.
    pub(super) fn make(&self, name: &str) -> io::Result<File> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Does something that two processes must not do at a time; `None` where another one is about it. A file system without locks has
    /// it done.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        if rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return None;
        }
        let done = work();
        let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
        Some(done)
    }

    /// Gives a file of this folder another name, which it still has after a loss of power.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)?;
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// The names of what is in it.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = Dir::read_from(&self.fd)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_that_others_may_write_to_or_a_link_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/state");
        let folder = Folder::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(folder.file("x").unwrap().is_none());
        folder.make("x").unwrap();
        assert!(folder.file("x").unwrap().is_some());
        assert_eq!(std::fs::metadata(path.join("x")).unwrap().mode() & 0o777, 0o600);
        symlink("x", path.join("link")).unwrap();
        assert!(folder.file("link").is_err());
        std::fs::set_permissions(path.join("x"), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(folder.file("x").unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(path.join("x"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::hard_link(path.join("x"), path.join("y")).unwrap();
        assert!(folder.file("x").is_err(), "it has a second name");

        let second = Folder::open(&path).unwrap();
        assert_eq!(folder.alone(|| second.alone(|| ())), Some(None), "one at a time");
        assert_eq!(second.alone(|| ()), Some(()));

        symlink(&path, parent.path().join("link")).unwrap();
        assert!(Folder::open(&parent.path().join("link")).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        let refused = Folder::open(&path).unwrap_err();
        assert!(refused.message.contains("mode 0700"), "{}", refused.message);
    }
}
