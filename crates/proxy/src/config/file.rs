//! Reading files that decide who gets which role: only those that nobody else could have written.

use std::io::Read;
use std::path::Path;

/// A file's text, and whether everybody may read it.
pub(super) struct Trusted {
    pub(super) text: String,
    pub(super) is_public: bool,
}

/// Opens a file once and reads what was checked, so that it cannot be swapped in between.
///
/// # Errors
/// It cannot be read; it or its folder can be written by everybody; it belongs to another user than this one and root.
pub(super) fn read(path: &Path) -> Result<Trusted, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut file = std::fs::File::open(path).map_err(cannot)?;
    let is_public = check(path, &file)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(cannot)?;
    Ok(Trusted { text, is_public })
}

#[cfg(unix)]
fn check(path: &Path, file: &std::fs::File) -> Result<bool, String> {
    use std::os::unix::fs::MetadataExt;
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        // A pipe, as in `--config /dev/stdin`: whoever started the command has given it.
        return Ok(false);
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("can be written by everybody, who could so get any role: chmod o-w it".to_owned());
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(format!(
            "belongs to user {}, who could so get any role: chown it to this user or to root",
            metadata.uid()
        ));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = std::fs::metadata(folder).map_err(cannot)?.mode();
    // In a folder with the sticky bit, as /tmp, only the owner of a file can replace it.
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Err(format!("is in {}, where everybody can replace it: chmod o-w that folder", folder.display()));
    }
    Ok(metadata.mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn check(_: &Path, _: &std::fs::File) -> Result<bool, String> {
    Ok(false)
}
