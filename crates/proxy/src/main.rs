//! The `taskcreds` program: flags in, command run, exit status out.

use std::process::ExitCode;

use taskcreds::cli::Cli;
use taskcreds::commands;
use taskcreds::failure::{Exit, Failure};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure; clap itself would exit with 2 for the rest.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    commands::run(cli).unwrap_or_else(|Failure { exit, message }| {
        for line in message.lines() {
            eprint_line(line);
        }
        exit.into()
    })
}

#[expect(clippy::print_stderr, reason = "the one place where a failed command says why")]
fn eprint_line(line: &str) {
    eprintln!("taskcreds: {line}");
}
