use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

/// A folder on tmpfs, which every Linux has there.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn why(outcome: Result<RuntimeDir, String>) -> String {
    outcome.err().unwrap()
}

#[test]
fn what_was_written_is_read_from_a_file_that_is_this_users_alone() {
    let base = folder();
    let path = base.path().join("taskcreds");
    let made = RuntimeDir::make(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    assert!(made.read().unwrap().is_none());
    // Left behind by a process that was killed in between.
    fs::write(path.join(NEXT), "half").unwrap();
    made.write(b"one").unwrap();
    made.write(b"two").unwrap();
    assert_eq!(*made.read().unwrap().unwrap(), b"two");
    assert_eq!(fs::metadata(path.join(NAME)).unwrap().mode() & 0o7777, 0o600);
    assert!(!path.join(NEXT).exists());
    assert!(RuntimeDir::make(&path).unwrap().remove());
    assert!(!path.join(NAME).exists() && !made.remove());
}

#[test]
fn a_folder_that_is_not_this_users_alone_is_refused() {
    let base = folder();
    let path = base.path().join("taskcreds");
    RuntimeDir::make(&path).unwrap();
    for (mode, fits) in [(0o700, true), (0o755, true), (0o720, false), (0o702, false), (0o1777, false)] {
        set_mode(&path, mode);
        assert_eq!(RuntimeDir::make(&path).is_ok(), fits, "{mode:o}");
    }
    set_mode(&path, 0o700);
    let link = base.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(why(RuntimeDir::make(&link)).contains("symbolic link"));
    fs::write(base.path().join("file"), "").unwrap();
    assert!(why(RuntimeDir::make(&base.path().join("file"))).contains("is no folder"));
    assert!(why(RuntimeDir::make(&base.path().join("no/such"))).contains("cannot be made"));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(1), None).unwrap();
        assert!(why(RuntimeDir::make(&path)).contains("belongs to user 1"));
    }
}

#[test]
fn a_file_that_is_not_this_users_alone_is_not_read() {
    let base = folder();
    let (made, file) = (RuntimeDir::make(base.path()).unwrap(), base.path().join(NAME));
    made.write(b"sessions").unwrap();
    for (mode, fits) in [(0o600, true), (0o640, false), (0o604, false), (0o700, false), (0o4600, false)] {
        set_mode(&file, mode);
        assert_eq!(made.read().is_ok(), fits, "{mode:o}");
    }
    fs::rename(&file, base.path().join("elsewhere")).unwrap();
    symlink(base.path().join("elsewhere"), &file).unwrap();
    assert!(made.read().unwrap_err().to_string().contains("symbolic link"));
    assert!(!made.remove(), "what it has not written it does not remove");
    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(made.read().is_err(), "a pipe is not waited for");
}

#[test]
fn a_disk_is_refused() {
    let program = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    assert!(why(RuntimeDir::make(folder.path())).contains("tmpfs"));
}

#[test]
fn the_folder_is_systemds_first_else_the_users_own() {
    let path = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        RuntimeDir::path(&variables.collect())
    };
    assert_eq!(path(&[("RUNTIME_DIRECTORY", "/run/a:/run/b")]), Some("/run/a".into()));
    assert_eq!(path(&[("RUNTIME_DIRECTORY", "/run/a/")]).unwrap().as_os_str(), "/run/a");
    let own = path(&[("XDG_RUNTIME_DIR", "/run/user/7"), ("RUNTIME_DIRECTORY", "")]);
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(own, Some(if is_root { "/run/taskcreds" } else { "/run/user/7/taskcreds" }.into()));
    assert_eq!(path(&[]).is_none(), !is_root);
}
