//! Reading files that decide who gets which role: only those that nobody else could have written.
//!
//! Everybody's right to write is refused. A group's is warned of: whoever owns the file has chosen the group, and where the umask is 002 it is
//! one of the owner alone, which its number does not tell.

use std::io::Read;
use std::path::Path;

/// A file's text, and who else gets at it.
pub(super) struct Trusted {
    pub(super) text: String,
    access: Access,
}

/// What others may do with a file.
#[derive(Default)]
struct Access {
    is_public: bool,
    /// What the group may do so that the text is another one.
    group: Option<String>,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Unreadable {
    why: String,
    /// The system does not let this user read it.
    pub(super) is_denied: bool,
}

impl From<String> for Unreadable {
    fn from(why: String) -> Self {
        Self { why, is_denied: false }
    }
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        let is_denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let advice = if is_denied { "; give this user the right to read it" } else { "" };
        Self { why: format!("cannot be read: {error}{advice}"), is_denied }
    }
}

impl Trusted {
    /// What deserves attention; `secrets` are what the file holds of them.
    pub(super) fn warnings(&self, shown: &str, secrets: Option<&str>) -> Vec<String> {
        let read = secrets.filter(|_| self.access.is_public);
        let read = read.map(|secrets| format!("{shown} holds {secrets} and can be read by everybody: chmod 600 it"));
        read.into_iter().chain(self.access.group.iter().map(|group| format!("{shown} {group}"))).collect()
    }
}

/// Opens a file once and reads what was checked, so that it cannot be swapped in between.
///
/// # Errors
/// It cannot be read; it, a link to it or the folder of either can be written by everybody; it or a link belongs to another user than this
/// one and root.
pub(super) fn read(path: &Path) -> Result<Trusted, Unreadable> {
    let mut file = std::fs::File::open(path)?;
    let access = check(path, &file)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Trusted { text, access })
}

#[cfg(unix)]
fn check(path: &Path, file: &std::fs::File) -> Result<Access, Unreadable> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        // A pipe, as in `--config /dev/stdin`: whoever started the command has given it.
        return Ok(Access::default());
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("can be written by everybody, who could so get any role: chmod o-w it".to_owned().into());
    }
    let user = rustix::process::geteuid().as_raw();
    let is_foreign = |owner: u32| owner != user && owner != 0;
    if is_foreign(metadata.uid()) {
        return Err(format!(
            "belongs to user {}, who could so get any role: chown it to this user or to root",
            metadata.uid()
        )
        .into());
    }
    let group = "can be written by its group, who could so get any role: chmod g-w it";
    let mut group = (metadata.mode() & 0o020 != 0).then(|| group.to_owned());
    // The folder of each link on the way, and of the file itself at last.
    let mut place = path.to_owned();
    for _ in 0..MOST_LINKS {
        let folder = crate::folder::of(&place);
        let mode = std::fs::metadata(folder)?.mode();
        let shown = folder.display();
        // In a folder with the sticky bit, as /tmp, only the owner of a file can replace it.
        let is_sticky = mode & 0o1000 != 0;
        if mode & 0o002 != 0 && !is_sticky {
            return Err(format!("is in {shown}, where everybody can replace it: chmod o-w that folder").into());
        }
        if mode & 0o020 != 0 && !is_sticky && group.is_none() {
            group =
                Some(format!("is in {shown}, where a group can replace it and so get any role: chmod g-w that folder"));
        }
        let Ok(target) = std::fs::read_link(&place) else { break };
        let owner = std::fs::symlink_metadata(&place)?.uid();
        if is_foreign(owner) {
            let place = place.display();
            return Err(format!("is reached by the link {place} of user {owner}, who could so get any role").into());
        }
        place = folder.join(target);
    }
    Ok(Access { is_public: metadata.mode() & 0o004 != 0, group })
}

/// As many as the system follows.
#[cfg(unix)]
const MOST_LINKS: usize = 40;

#[cfg(not(unix))]
fn check(_: &Path, _: &std::fs::File) -> Result<Access, Unreadable> {
    Ok(Access::default())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A folder of this user's alone.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn of(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.of(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn folder(&self, name: &str, mode: u32) {
            fs::create_dir(self.of(name)).unwrap();
            self.mode(name, mode);
        }

        fn file(&self, name: &str, mode: u32) {
            fs::write(self.of(name), "text").unwrap();
            self.mode(name, mode);
        }

        fn link(&self, name: &str, target: &str) {
            symlink(target, self.of(name)).unwrap();
        }

        fn warnings(&self, name: &str) -> Result<String, String> {
            Ok(read(&self.of(name)).map_err(|error| error.to_string())?.warnings("it", Some("secrets")).join("; "))
        }

        fn refused(&self, name: &str, why: &str) {
            let refused = self.warnings(name).unwrap_err();
            assert!(refused.contains(why), "{name}: {refused}");
        }
    }

    #[test]
    fn a_link_is_as_safe_as_every_folder_on_its_way() {
        let place = Place::new();
        for (folder, mode) in [("safe", 0o755), ("open", 0o777), ("sticky", 0o1777)] {
            place.folder(folder, mode);
            place.file(&format!("{folder}/real"), 0o600);
        }
        place.link("safe/to-open", "../open/real");
        place.link("safe/to-sticky", "../sticky/real");
        place.link("open/to-safe", "../safe/real");
        place.link("safe/by-open", "../open/to-safe");
        place.link("through", "open");
        for (name, why) in [
            ("safe/to-open", "safe/../open, where everybody can replace it"),
            ("open/to-safe", "open, where everybody can replace it"),
            ("safe/by-open", "safe/../open, where everybody can replace it"),
            ("through/real", "through, where everybody can replace it"),
        ] {
            place.refused(name, why);
        }
        assert_eq!(place.warnings("safe/to-sticky"), Ok(String::new()));
        // As Kubernetes mounts them.
        place.folder("safe/..v1", 0o755);
        place.file("safe/..v1/tasks.toml", 0o400);
        place.link("safe/..data", "..v1");
        place.link("safe/tasks.toml", "..data/tasks.toml");
        assert_eq!(place.warnings("safe/tasks.toml"), Ok(String::new()));
    }

    #[test]
    fn a_link_of_another_user_is_refused() {
        let place = Place::new();
        place.folder("sticky", 0o1777);
        place.file("real", 0o600);
        place.link("sticky/link", "../real");
        assert_eq!(place.warnings("sticky/link"), Ok(String::new()));
        if rustix::process::geteuid().is_root() {
            lchown(place.of("sticky/link"), Some(31_000), None).unwrap();
            place.refused("sticky/link", "link of user 31000");
        }
    }

    #[test]
    fn a_group_that_may_write_is_warned_of() {
        let place = Place::new();
        place.file("file", 0o620);
        assert_eq!(
            place.warnings("file").unwrap(),
            "it can be written by its group, who could so get any role: chmod g-w it"
        );
        place.folder("shared", 0o770);
        place.file("shared/file", 0o600);
        place.link("link", "shared/file");
        for name in ["shared/file", "link"] {
            let warned = place.warnings(name).unwrap();
            assert!(warned.contains("shared, where a group can replace it"), "{name}: {warned}");
        }
        place.mode("shared", 0o1770);
        assert_eq!(place.warnings("shared/file"), Ok(String::new()));
    }

    #[test]
    fn a_token_file_that_everybody_may_read_is_warned_of_like_a_token_in_the_file() {
        let place = Place::new();
        place.file("token", 0o644);
        let task = "[[task]]\ntask_arn = \"arn:aws:ecs:us-west-2:111122223333:task/prod/t1\"\nrole_arn = \"arn:aws:iam::111122223333:role/web\"\n";
        let warnings = |token: &str| {
            let parsed = crate::config::Config::parse("t.toml", &format!("{task}{token}"), place.0.path());
            parsed.unwrap().warnings.join("; ")
        };
        assert!(warnings("token_file = \"token\"").contains("token holds a token and can be read by everybody"));
        place.mode("token", 0o600);
        assert_eq!(warnings("token_file = \"token\""), "");
    }
}
