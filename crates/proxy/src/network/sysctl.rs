//! Values below /proc/sys of this namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn file(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// The value, `None` where there is none, as when an interface has gone.
pub(super) fn read(key: &str) -> Option<String> {
    fs::read_to_string(file(key)).ok().map(|value| value.trim().to_owned())
}

/// Sets a value.
///
/// # Errors
/// The system's.
pub(super) fn write(key: &str, value: &str) -> io::Result<()> {
    fs::write(file(key), value)
}
