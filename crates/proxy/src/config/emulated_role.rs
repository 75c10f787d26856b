//! `[[emulated_role]]`: the roles of the embedded STS, for `dev`.

use std::path::Path;

use taskcreds_core::RoleArn;
use taskcreds_sts_emulator::{Role, Tag, TrustPolicy};

use super::section::{Faults, Section};

/// Reads one role. Without a trust policy it trusts everybody.
pub(super) fn read(mut section: Section<'_>, base: &Path, faults: &mut Faults<'_>) -> Option<Role> {
    let mut role = Role::default();
    let before = faults.found.len();
    match section.string("role_arn", faults) {
        Some(arn) => {
            if let Some(arn) = arn.parse(faults, RoleArn::new) {
                role.arn = arn.to_string();
            }
        }
        None => section.fault(faults, "role_arn is not set"),
    }
    if section.has("trust_policy") && section.has("trust_policy_file") {
        section.fault(faults, "trust_policy and trust_policy_file are both set; keep one");
    }
    let in_place = section.string("trust_policy", faults);
    let in_place = in_place.and_then(|text| text.parse(faults, |text| text.parse::<TrustPolicy>()));
    let from_file = section.string("trust_policy_file", faults).and_then(|file| {
        file.parse(faults, |file| {
            let file = base.join(file);
            let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            text.parse::<TrustPolicy>().map_err(|malformed| format!("{}: {malformed}", file.display()))
        })
    });
    role.trust_policy = in_place.or(from_file);
    if let Some(seconds) = section.number("max_session_duration", 3600..=43_200, faults) {
        role.max_session_duration = seconds;
    }
    let tags = section.strings_by_key("tags", faults).unwrap_or_default();
    role.tags = tags.into_iter().map(|(key, value)| Tag { key, value: value.value }).collect();
    section.finish(faults);
    (faults.found.len() == before).then_some(role)
}
