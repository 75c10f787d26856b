//! A file that is put aside for the next one when it has grown too big or too old: `audit.log`, `audit.log.1`, `audit.log.2` …

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::folder;
use super::log::Rotation;

/// How often it is looked whether somebody else has moved the file away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The present file.
pub(super) struct RotatedFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<Open>,
}

struct Open {
    file: File,
    bytes: u64,
    began: SystemTime,
    looked_at: Instant,
    /// What is there ends in the middle of a line: the last write was cut off, of this process or of one before it.
    is_torn: bool,
}

impl RotatedFile {
    /// Opens it to add to what is there.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        folder::make(crate::folder::of(path))?;
        Ok(Self { path: path.to_owned(), rotation, open: Some(Open::new(path)?) })
    }

    /// Writes whole lines. After an error the file is opened anew the next time.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let there = self.open.take().and_then(|mut open| open.is_still_at(&self.path).then_some(open));
        let mut open = match there {
            Some(open) => open,
            None => Open::new(&self.path)?,
        };
        let is_too_old = open.began.elapsed().is_ok_and(|age| age >= self.rotation.age);
        let is_too_big = open.bytes + lines.len() as u64 > self.rotation.bytes;
        if open.bytes > 0 && (is_too_big || is_too_old) {
            drop(open);
            self.rotate()?;
            open = Open::new(&self.path)?;
        }
        let outcome = open.write(lines);
        // A file that was torn is kept open, to go on behind what is torn.
        self.open = Some(open);
        outcome
    }

    /// Every file below the first free number gets the next one; where none is free, the last file goes.
    fn rotate(&self) -> io::Result<()> {
        let keep = self.rotation.keep;
        if keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        let free = (1..keep).find(|number| is_free(&numbered(&self.path, *number))).unwrap_or(keep);
        for number in (1..free).rev() {
            rename(&numbered(&self.path, number), &numbered(&self.path, number + 1))?;
        }
        rename(&self.path, &numbered(&self.path, 1))
    }
}

/// `audit.log.3`
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The number in the name of a file that was put aside from another one.
pub(crate) fn number_of(name: &OsStr, aside_from: &OsStr) -> Option<u64> {
    let rest = name.as_encoded_bytes().strip_prefix(aside_from.as_encoded_bytes())?.strip_prefix(b".")?;
    // A sign is not a digit.
    if !rest.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(rest).ok()?.parse().ok()
}

fn is_free(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        folder::check(crate::folder::of(path))?;
        let mut options = File::options();
        options.append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // What is in it is nobody else's business.
            options.mode(0o600);
            follow_no_link(&mut options, rustix::fs::OFlags::empty());
        }
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        #[cfg(unix)]
        if metadata.is_file() {
            use std::os::unix::fs::MetadataExt;
            let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
            if !is_own || metadata.nlink() != 1 || metadata.mode() & 0o022 != 0 {
                let why = "it is no file of this user's alone, so others could write records: chown and chmod 600 it, or move it away";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
        }
        let bytes = if metadata.is_file() { metadata.len() } else { 0 };
        // Where the file system does not know when a file began, its age begins now.
        let began =
            if bytes > 0 { metadata.created().unwrap_or_else(|_| SystemTime::now()) } else { SystemTime::now() };
        // An empty line is skipped; a record that goes on where another one was cut off is lost.
        let is_torn = bytes > 0 && is_torn(path).unwrap_or(true);
        Ok(Self { file, bytes, began, looked_at: Instant::now(), is_torn })
    }

    /// Whether the path still leads to this file.
    fn is_still_at(&mut self, path: &Path) -> bool {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return true;
        }
        self.looked_at = Instant::now();
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let here = self.file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
            let there = std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
            matches!((here, there), (Ok(here), Ok(there)) if here == there)
        }
        #[cfg(not(unix))]
        path.exists()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.bytes += 1;
            self.is_torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.bytes += written as u64;
                    rest = rest.get(written..).unwrap_or_default();
                    let done = lines.len() - rest.len();
                    self.is_torn = lines.get(..done).is_some_and(|done| !done.ends_with(b"\n"));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a file that is not empty ends in the middle of a line. It is opened once more, because a pipe that is opened to be read too
/// behaves differently when it is written to.
fn is_torn(path: &Path) -> io::Result<bool> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    follow_no_link(&mut options, rustix::fs::OFlags::NONBLOCK);
    let mut file = options.open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// A link in the place of the file would have the proxy write elsewhere.
#[cfg(unix)]
fn follow_no_link(options: &mut std::fs::OpenOptions, more: rustix::fs::OFlags) {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NOFOLLOW | more;
    options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_full_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotation = Rotation { bytes: 10, age: Duration::from_secs(3600), keep: 2 };
        let mut file = RotatedFile::open(&path, rotation).unwrap();
        for line in ["1234\n", "5678\n", "abcd\n", "efgh\n", "ijklmnopqrstuvw\n", "x\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "x\n");
        assert_eq!(read(&numbered(&path, 1)), "ijklmnopqrstuvw\n");
        assert_eq!(read(&numbered(&path, 2)), "abcd\nefgh\n");
        assert!(!numbered(&path, 3).exists());
    }

    #[test]
    fn a_gap_is_filled_before_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotation = Rotation { bytes: 1, age: Duration::from_secs(3600), keep: 4 };
        for number in [2, 4] {
            std::fs::write(numbered(&path, number), number.to_string()).unwrap();
        }
        let mut file = RotatedFile::open(&path, rotation).unwrap();
        let mut files = |line: &str| {
            file.write(line.as_bytes()).unwrap();
            (1..6)
                .map(|number| std::fs::read_to_string(numbered(&path, number)).unwrap_or_default())
                .collect::<Vec<_>>()
        };
        assert_eq!(files("a\n"), ["", "2", "", "4", ""]);
        assert_eq!(files("b\n"), ["a\n", "2", "", "4", ""]);
        assert_eq!(files("c\n"), ["b\n", "a\n", "2", "4", ""]);
        assert_eq!(files("d\n"), ["c\n", "b\n", "a\n", "2", ""]);
    }

    #[test]
    fn a_line_that_another_process_has_torn_is_ended_before_the_next_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotation = Rotation { bytes: 1000, age: Duration::from_secs(3600), keep: 1 };
        for (before, after) in [("", "x\n"), ("a\n", "a\nx\n"), ("a\nb", "a\nb\nx\n"), ("b", "b\nx\n")] {
            std::fs::write(&path, before).unwrap();
            RotatedFile::open(&path, rotation).unwrap().write(b"x\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_name_with_a_number_behind_it_is_a_file_that_was_put_aside() {
        let number = |name: &str| number_of(name.as_ref(), "audit.log".as_ref());
        assert_eq!((number("audit.log.1"), number("audit.log.10000")), (Some(1), Some(10_000)));
        for other in ["audit.log", "audit.log.", "audit.log1", "audit.log.+1", "audit.log.1.gz", "audit.log.x", "x.1"] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_that_is_old_is_put_aside_and_what_is_there_is_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "before\n").unwrap();
        let rotation = |age| Rotation { bytes: 1000, age, keep: 1 };
        RotatedFile::open(&path, rotation(Duration::from_secs(3600))).unwrap().write(b"more\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nmore\n");
        RotatedFile::open(&path, rotation(Duration::ZERO)).unwrap().write(b"next\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "next\n");
        assert_eq!(std::fs::read_to_string(numbered(&path, 1)).unwrap(), "before\nmore\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_could_write_or_have_another_name_for_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotation = Rotation { bytes: 1000, age: Duration::from_secs(3600), keep: 1 };
        drop(RotatedFile::open(&path, rotation).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let refused = RotatedFile::open(&path, rotation).map(drop).unwrap_err();
        assert!(refused.to_string().contains("others could write records"), "{refused}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::hard_link(&path, folder.path().join("other")).unwrap();
        assert!(RotatedFile::open(&path, rotation).is_err());
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        assert!(RotatedFile::open(&folder.path().join("link"), rotation).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_was_opened_to_others_gets_no_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotation = Rotation { bytes: 1, age: Duration::from_secs(3600), keep: 1 };
        let mut file = RotatedFile::open(&path, rotation).unwrap();
        file.write(b"one\n").unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = file.write(b"two\n").unwrap_err().to_string();
        assert!(refused.contains("others may write to its folder"), "{refused}");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        file.write(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_somebody_else_has_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotation = Rotation { bytes: 1000, age: Duration::from_secs(3600), keep: 1 };
        let mut file = RotatedFile::open(&path, rotation).unwrap();
        file.write(b"one\n").unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        if let Some(open) = &mut file.open {
            open.looked_at -= LOOK_EVERY;
        }
        file.write(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }
}
