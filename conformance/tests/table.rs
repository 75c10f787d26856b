//! The whole suite, and that docs/sdk-compatibility.md says what has come of it.
#![cfg(target_os = "linux")]

use std::path::Path;

use conformance::{report, run};

/// A client that cannot be had here is skipped, and with `TASKCREDS_TEST_REQUIRE=all` a failure.
#[test]
fn every_client_comes_out_as_the_committed_table_says() {
    let places = run::Places::beside(Path::new(env!("CARGO_BIN_EXE_conformance"))).unwrap();
    let outcomes = run::all(&places, None);
    let faults = report::faults(&outcomes);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let committed = report::without_figures(&std::fs::read_to_string(report::FILE).unwrap());
    let mut missing = Vec::new();
    for outcome in &outcomes {
        if let Err(why) = &outcome.cells {
            missing.push(format!("skipped: {}: {why}", outcome.client.title));
        }
    }
    let page = report::without_figures(&report::table(&outcomes));
    let hint = "docs/sdk-compatibility.md is not current: cargo run -p conformance -- --report";
    if missing.is_empty() {
        assert_eq!(page, committed, "{hint}");
    }
    // Without some of the clients, the others.
    for line in page.iter().filter(|line| line.contains('|')) {
        assert!(committed.contains(line), "{hint}: {line}");
    }
    if !missing.is_empty() {
        if std::env::var("TASKCREDS_TEST_REQUIRE").is_ok_and(|required| required == "all") {
            panic!("{}", missing.join("\n"));
        }
        // Not `eprintln!`, which the test harness captures and drops when a test passes.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{}\n", missing.join("\n")).as_bytes());
    }
}
