//! The table for people, and what a test compares of it.

use std::fmt::Write;

use crate::cases::{ASKS_THE_INSTANCE, CASES, FEW_TRIES, TOLD, Verdict};
use crate::run::Outcome;

/// Where the table is.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sdk-compatibility.md");

const HEAD: &str = include_str!("head.md");
/// What could not be installed, and why.
const UNAVAILABLE: &str = include_str!("../clients/UNAVAILABLE.md");
/// What is not compared begins here.
const READS: &str = "## What the user reads";
/// The errors whose texts the page has, and how much of them in characters.
const READ: [&str; 2] = ["unknown-id", "denied"];
const LONGEST: usize = 300;

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
    let _ = writeln!(page, "\n{}\n{READS}\n", UNAVAILABLE.replacen("# ", "## ", 1));
    page += "The beginning of it, with ports and ids left out.\n\n| client | 400, unknown id | 403, STS refuses the role |\n|---|---|---|\n";
    for outcome in outcomes {
        let Ok((_, cells)) = &outcome.cells else { continue };
        let _ = write!(page, "| {} |", outcome.client.title);
        for case in READ {
            let reads = cells.get(case).and_then(|cell| cell.reads.as_deref()).unwrap_or("–");
            let _ = write!(page, " {} |", shown(reads));
        }
        page.push('\n');
    }
    page
}

/// A text in a cell: its beginning, and what another run has different as `…`.
fn shown(text: &str) -> String {
    let is_changing = |word: &str| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        word.contains("/tmp/") || word.contains("127.0.0.1:") || (word.len() >= 12 && digits * 3 >= word.len())
    };
    let words = text.split_whitespace().map(|word| if is_changing(word) { "…" } else { word });
    let text = words.collect::<Vec<_>>().join(" ").replace('|', "/").replace('<', "&lt;");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text,
    }
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

/// The page without what another run makes different: counts and times, and what users read.
#[must_use]
pub fn without_figures(page: &str) -> Vec<String> {
    let cell = |cell: &str| {
        let cell = cell.trim();
        let flags = [TOLD, ASKS_THE_INSTANCE].into_iter().filter(|flag| cell.contains(*flag)).collect::<String>();
        match cell.split_once(' ') {
            Some(("✓", _)) => format!("✓{flags}"),
            Some(("–", why)) if why.starts_with(FEW_TRIES) => "✓".to_owned(),
            _ => cell.to_owned(),
        }
    };
    let compared = page.lines().take_while(|line| *line != READS);
    let line = |line: &str| match line.strip_prefix('|') {
        Some(row) => row.split('|').map(cell).collect::<Vec<_>>().join("|"),
        None => line.to_owned(),
    };
    compared.map(line).collect()
}
