//! The table for people, and what a test compares of it.

use std::fmt::Write;

use crate::cases::{CASES, Cell, ERRORS, Verdict};
use crate::run::{Cells, Outcome};

/// Where the table is.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sdk-compatibility.md");

const HEAD: &str = include_str!("head.md");
/// What could not be installed, and why.
const UNAVAILABLE: &str = include_str!("../clients/UNAVAILABLE.md");
/// What is not compared begins here.
const READS: &str = "## What the user reads";

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
                let cell = cells.get(case.name).map_or_else(|| "not run".to_owned(), cell);
                let _ = write!(page, " {cell} |");
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
    page += "Shortened; `…` is what was left out, or differs from run to run.\n\n| client | error | text |\n|---|---|---|\n";
    for outcome in outcomes {
        let Ok((_, cells)) = &outcome.cells else { continue };
        for (text, errors) in texts(cells) {
            let _ = writeln!(page, "| {} | {errors} | {} |", outcome.client.title, escaped(text));
        }
    }
    page
}

/// A cell: its mark, what every run has, and in parentheses what another run may have different.
fn cell(cell: &Cell) -> String {
    let mark = match cell.verdict {
        Verdict::Good => "✓",
        Verdict::Chance => "±",
        Verdict::Client => "–",
        Verdict::Bad => "✗",
    };
    let figures = if cell.figures.is_empty() { String::new() } else { format!("({})", cell.figures) };
    let parts = [mark, &cell.text, &figures].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    escaped(&parts.join(" "))
}

fn escaped(text: &str) -> String {
    text.replace(['|', '\n'], " ").replace('<', "&lt;")
}

/// What the user of a client reads, and in which cases.
fn texts(cells: &Cells) -> Vec<(&str, String)> {
    let errors = || CASES.iter().filter(|case| case.group == ERRORS);
    let mut texts: Vec<(&str, Vec<&str>)> = Vec::new();
    for case in errors() {
        let Some(reads) = cells.get(case.name).and_then(|cell| cell.reads.as_deref()) else { continue };
        match texts.iter_mut().find(|(text, _)| *text == reads) {
            Some((_, titles)) => titles.push(case.title),
            None => texts.push((reads, vec![case.title])),
        }
    }
    let named =
        |titles: Vec<&str>| if titles.len() == errors().count() { "each".to_owned() } else { titles.join("; ") };
    texts.into_iter().map(|(text, titles)| (text, named(titles))).collect()
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

/// The page without what another run may have different: what stands in the parentheses of a cell, and what users read.
#[must_use]
pub fn without_figures(page: &str) -> Vec<String> {
    let cell = |cell: &str| {
        let cell = cell.trim();
        match cell.split_once(" (") {
            Some((text, _)) if text.starts_with(['✓', '±', '–']) => text.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(text: &str) -> Vec<String> {
        without_figures(&format!("| C++ (pyarrow) 26.0.1 | {text} |"))
    }

    #[test]
    fn counts_and_times_in_parentheses_are_not_compared_and_all_else_is() {
        assert_eq!(compared("✓ 3×, told (3.6 s)"), compared("✓ 3×, told (4.1 s)"));
        assert_eq!(compared("± (2nd, 1.2 s)"), compared("± (asks twice)"));
        let different =
            ["✓ 3×, told (3.6 s)", "✓ 3× (3.6 s)", "✓ 1×, told (3.6 s)", "± (asks twice)", "– asks twice", "✓ (1.2 s)"];
        for (at, one) in different.iter().enumerate() {
            assert!(different.iter().skip(at + 1).all(|other| compared(one) != compared(other)), "{one}");
        }
        assert_ne!(compared("✓"), without_figures("| C++ (other) 26.0.1 | ✓ |"));
    }
}
