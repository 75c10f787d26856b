//! `[audit]`: where answers and calls to STS are recorded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::section::{Faults, Section};
use crate::audit::file::number_of;
use crate::audit::log::{Place, Rotation};
use crate::audit::{Settings, refused};
use crate::folder;

const MEGABYTES: u32 = 50;
const HOURS: u32 = 24;
const KEEP: u32 = 24;

pub(super) fn audit(section: Option<Section<'_>>, base: &Path, faults: &mut Faults<'_>) -> Option<Settings> {
    let mut section = section?;
    if !section.has("file") && !section.has("ecs_file") {
        section.fault(faults, "file or ecs_file is missing: where are the records to go?");
    }
    let [json, ecs] = ["file", "ecs_file"].map(|key| {
        section.string(key, faults).map(|file| match file.value.as_str() {
            "stdout" => Place::Stdout,
            path => Place::File(base.join(path)),
        })
    });
    if let (Some(Place::Stdout), Some(Place::Stdout)) = (&json, &ecs) {
        section.fault(faults, "file and ecs_file are both standard output: one of them must be a file");
    }
    if let (Some(Place::File(json)), Some(Place::File(ecs))) = (&json, &ecs) {
        if collide(json, ecs) {
            section.fault(
                faults,
                "file and ecs_file are the same, or one is what the other is called when it is put aside",
            );
        } else if collide(&refused(json), ecs) {
            section.fault(
                faults,
                "ecs_file and the file of the refusals (audit-refused.log beside audit.log) are the same, or one is what the other is \
                 called when it is put aside",
            );
        }
    }
    let megabytes = section.number("max_megabytes", 1..=100_000, faults).unwrap_or(MEGABYTES);
    let hours = section.number("max_hours", 1..=87_600, faults).unwrap_or(HOURS);
    let keep = section.number("keep", 0..=10_000, faults).unwrap_or(KEEP);
    let required = section.boolean("required", faults).unwrap_or(false);
    let container_instance_arn = section.string("container_instance_arn", faults).and_then(|arn| {
        // It becomes a field of a line whose fields are separated by spaces.
        arn.parse(faults, |arn| {
            let is_plain = arn.starts_with("arn:") && arn.len() <= 2048 && arn.bytes().all(|b| b.is_ascii_graphic());
            if is_plain { Ok(arn) } else { Err("must be an ARN") }
        })
    });
    section.finish(faults);
    let rotation =
        Rotation { bytes: u64::from(megabytes) * 1_000_000, age: Duration::from_secs(u64::from(hours) * 3600), keep };
    (json.is_some() || ecs.is_some()).then_some(Settings { json, ecs, rotation, required, container_instance_arn })
}

/// Whether two files are one, or one is what the other becomes, as `audit.log` becomes `audit.log.1`.
fn collide(one: &Path, other: &Path) -> bool {
    let [(folder, one), (others_folder, other)] = [one, other].map(place);
    folder == others_folder && (one == other || number_of(one, other).is_some() || number_of(other, one).is_some())
}

/// A file's folder, the same however it is spelled, and its name in there.
fn place(file: &Path) -> (PathBuf, &OsStr) {
    let folder = folder::of(file);
    // The folder may have to be made yet, the one above it is there.
    let made = || Some(folder::of(folder).canonicalize().ok()?.join(folder.file_name()?));
    let place = folder.canonicalize().ok().or_else(made).unwrap_or_else(|| folder.to_owned());
    (place, file.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_are_one_however_their_folder_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file);
        std::fs::create_dir(at("logs")).unwrap();
        let mut same = vec![
            ("a.log", "a.log"),
            ("a.log", "./a.log"),
            ("a.log", "logs/../a.log"),
            ("a.log", "a.log.1"),
            ("logs/a.log.24", "logs//a.log"),
            ("unmade/a.log", "logs/../unmade/a.log"),
        ];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("logs", at("link")).unwrap();
            same.push(("link/a.log", "logs/a.log.2"));
        }
        for (one, other) in same {
            assert!(collide(&at(one), &at(other)) && collide(&at(other), &at(one)), "{one} {other}");
        }
        for (one, other) in [("a.log", "b.log"), ("a.log", "logs/a.log"), ("a.log", "a.log.ecs"), ("a", "a-ecs")] {
            assert!(!collide(&at(one), &at(other)) && !collide(&at(other), &at(one)), "{one} {other}");
        }
        // From the present folder.
        assert!(collide(Path::new("a.log"), Path::new("./a.log")));
    }
}
