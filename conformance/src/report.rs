//! The table for people, and what a test compares of it.

use std::fmt::Write;

use crate::cases::{CASES, FEW_TRIES, Verdict};
use crate::run::Outcome;

/// Where the table is.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sdk-compatibility.md");

const HEAD: &str = include_str!("head.md");

/// The whole page.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut page = HEAD.to_owned();
    let mut groups: Vec<_> = CASES.iter().map(|case| case.group).collect();
    groups.dedup();
    for group in groups {
        let cases: Vec<_> = CASES.iter().filter(|case| case.group == group).collect();
        let _ = write!(page, "\n## {group}\n\n| client |");
        for case in &cases {
            let _ = write!(page, " {} |", case.title);
        }
        let _ = writeln!(page, "\n|---|{}", "---|".repeat(cases.len()));
        for outcome in outcomes {
            let Ok((version, cells)) = &outcome.cells else { continue };
            let _ = write!(page, "| {} {version} |", outcome.client.title);
            for case in &cases {
                let cell = cells.get(case.name).map_or_else(
                    || "not run".to_owned(),
                    |cell| match cell.verdict {
                        Verdict::Good => format!("✓ {}", cell.text),
                        Verdict::Client => format!("– {}", cell.text),
                        Verdict::Bad => format!("✗ {}", cell.text),
                    },
                );
                let _ = write!(page, " {} |", cell.replace(['|', '\n'], " ").trim_end());
            }
            page.push('\n');
        }
    }
    for outcome in outcomes {
        if let Err(why) = &outcome.cells {
            let _ = writeln!(page, "\n{}: not run, {why}", outcome.client.title);
        }
    }
    page
}

/// What is not as it has to be.
#[must_use]
pub fn faults(outcomes: &[Outcome]) -> Vec<String> {
    let mut faults = Vec::new();
    for outcome in outcomes {
        let Ok((_, cells)) = &outcome.cells else { continue };
        for case in &CASES {
            match cells.get(case.name) {
                Some(cell) if cell.verdict != Verdict::Bad => {}
                Some(cell) => faults.push(format!("{}, {}: {}", outcome.client.name, case.name, cell.text)),
                None => faults.push(format!("{}, {}: not run", outcome.client.name, case.name)),
            }
        }
    }
    faults
}

/// The page without what another run makes different: counts and times.
#[must_use]
pub fn without_figures(page: &str) -> Vec<String> {
    let cell = |cell: &str| match cell.trim().split_once(' ') {
        Some(("✓", _)) => "✓".to_owned(),
        Some(("–", FEW_TRIES)) => "✓".to_owned(),
        _ => cell.trim().to_owned(),
    };
    let table = page.lines().filter(|line| line.starts_with('|'));
    table.map(|line| line.split('|').map(cell).collect::<Vec<_>>().join("|")).collect()
}
