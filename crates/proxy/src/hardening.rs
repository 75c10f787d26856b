//! What the program does to its own process before it holds a secret.

use std::collections::HashMap;

use crate::failure::{Exit, Failure};

/// With this the AWS SDK logs whole answers, credentials included.
const SENSITIVE: &str = "LOG_SENSITIVE_BODIES";

/// No core dump, no debugger of the same user, no `/proc/PID/mem` and `environ` for it. Nothing that a child inherits.
///
/// # Errors
/// The environment asks for secrets in logs.
pub fn apply(environment: &HashMap<String, String>) -> Result<(), Failure> {
    if environment.get(SENSITIVE).is_some_and(|value| !value.is_empty()) {
        let message = format!("{SENSITIVE} is set: it has the AWS SDK log credentials; unset it");
        return Err(Failure::new(Exit::Usage, message));
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process can be dumped and traced by its own user");
    }
    Ok(())
}

/// As many descriptors as the system allows, and no core dump even if the process could be dumped. Children inherit this, so it is for
/// commands that run no program of the user's.
#[cfg(unix)]
pub fn limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
    let files = getrlimit(Resource::Nofile);
    // The program does not use select(2), for which the lower limit is kept.
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
