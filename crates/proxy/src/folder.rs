//! The folder that a file is in.

use std::path::Path;

/// The folder of a path, which for a mere name is the present one.
pub(crate) fn of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
