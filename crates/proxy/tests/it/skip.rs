//! A test that cannot run where it stands says so; it never passes silently.

#![expect(clippy::panic, reason = "a test that panics has failed")]

use std::io::Write;

/// What the test needs, or `None` after the reason was said. With `TASKCREDS_TEST_REQUIRE=all` the test fails instead.
pub(crate) fn unless<T>(test: &str, needed: Result<T, String>) -> Option<T> {
    match needed {
        Ok(needed) => Some(needed),
        Err(why) if std::env::var("TASKCREDS_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
            panic!("{test} cannot run here: {why}")
        }
        Err(why) => {
            // Not `eprintln!`, which the test harness captures and drops when a test passes.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
            None
        }
    }
}
