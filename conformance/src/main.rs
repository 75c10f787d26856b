//! `conformance`: runs the suite and says what has come of it; `--report` writes docs/sdk-compatibility.md.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use conformance::{report, run};

#[derive(Parser)]
struct Arguments {
    /// Write docs/sdk-compatibility.md.
    #[arg(long)]
    report: bool,
    /// Only this client.
    #[arg(long, conflicts_with = "report")]
    client: Option<String>,
    #[command(subcommand)]
    command: Option<Inside>,
}

#[derive(Subcommand)]
enum Inside {
    /// What runs in one namespace: the cases of one table with one client.
    #[command(hide = true)]
    Inside { client: String, group: String },
}

fn main() -> io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let places = run::Places::beside(&std::env::current_exe()?)?;
    if let Some(Inside::Inside { client, group }) = arguments.command {
        run::inside(&places, &client, &group, &mut io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcomes = run::all(&places, arguments.client.as_deref());
    let table = report::table(&outcomes);
    if arguments.report {
        std::fs::write(report::FILE, &table)?;
    } else {
        io::Write::write_all(&mut io::stdout().lock(), table.as_bytes())?;
    }
    let faults = report::faults(&outcomes);
    for fault in &faults {
        io::Write::write_all(&mut io::stderr().lock(), format!("{fault}\n").as_bytes())?;
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
