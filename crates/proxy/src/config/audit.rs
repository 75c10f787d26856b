//! `[audit]`: where answers and calls to STS are recorded.

use std::path::Path;
use std::time::Duration;

use super::section::{Faults, Section};
use crate::audit::Settings;
use crate::audit::log::{Place, Rotation};

const MEGABYTES: u32 = 50;
const HOURS: u32 = 24;
const KEEP: u32 = 24;

pub(super) fn audit(section: Option<Section<'_>>, base: &Path, faults: &mut Faults<'_>) -> Option<Settings> {
    let mut section = section?;
    if !section.has("file") && !section.has("ecs_file") {
        section.fault(faults, "file or ecs_file is missing: where are the records to go?");
    }
    let json = section.string("file", faults).map(|file| match file.value.as_str() {
        "stdout" => Place::Stdout,
        path => Place::File(base.join(path)),
    });
    let ecs = section.string("ecs_file", faults).map(|file| base.join(file.value));
    if let (Some(Place::File(json)), Some(ecs)) = (&json, &ecs) {
        // `audit.log.1` is what `audit.log` becomes.
        let becomes = |one: &Path, other: &Path| {
            other.as_os_str().as_encoded_bytes().starts_with(one.as_os_str().as_encoded_bytes())
        };
        if becomes(json, ecs) || becomes(ecs, json) {
            section.fault(
                faults,
                "file and ecs_file are the same, or one is what the other is called when it is put aside",
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
