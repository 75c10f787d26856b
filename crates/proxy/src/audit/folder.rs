//! The folder of an audit log: nobody but this user and root may take a file out of it or put one into it.

use std::io;
use std::path::Path;

/// Makes it with mode 0700, if only that is missing.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there is no mode to set"))]
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Whether it is safe. The sticky bit does not make it so: others could not remove the file, but take the name that it is to be put aside
/// under, so that no more is written, and fill it with records for the search to find.
#[cfg(unix)]
pub(super) fn check(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(folder)?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    let place = folder.display();
    let who = if owner != user && owner != 0 {
        format!("its folder {place} belongs to user {owner}, who could")
    } else if metadata.mode() & 0o022 != 0 {
        format!("others may write to its folder {place}, and so")
    } else {
        return Ok(());
    };
    let chown = if owner == user { String::new() } else { format!("chown {user} {place} && ") };
    let why = format!(
        "{who} remove or replace records: name a file in a folder of its own, or mend this one: {chown}chmod go-w {place}"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Whether it is safe, which is not looked at here.
#[cfg(not(unix))]
pub(super) fn check(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_folder_that_others_may_write_to_or_own_is_refused_and_one_that_they_may_read_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("audit");
        make(&folder).unwrap();
        make(&folder).unwrap();
        let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = || check(&folder).unwrap_err().to_string();
        for (good, bad) in [(0o700, 0o720), (0o755, 0o777), (0o2750, 0o1777), (0o1755, 0o702)] {
            mode(good);
            check(&folder).unwrap();
            mode(bad);
            let mend = format!(" chmod go-w {}", folder.display());
            assert!(refused().starts_with("others may write") && refused().ends_with(&mend), "{bad:o}: {}", refused());
        }
        mode(0o755);
        if rustix::process::geteuid().is_root() {
            chown(&folder, Some(31_000), None).unwrap();
            let mend = format!(" chown 0 {0} && chmod go-w {0}", folder.display());
            assert!(refused().contains("belongs to user 31000") && refused().ends_with(&mend), "{}", refused());
        }
    }
}
