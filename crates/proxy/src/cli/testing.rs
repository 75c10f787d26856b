//! The flags and the commands of test suites.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

use super::whole;
use crate::config::loopback_address;

/// What may go wrong, and where tests look at it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Testing")]
pub struct Testing {
    /// ADDRESS:PORT of loopback for the control interface, which tests call: journal, faults, rotation. Port 0 lets the system choose;
    /// CMD of exec gets the URL as TASKCREDS_CONTROL. [default: none]
    #[arg(long, env = "TASKCREDS_CONTROL_LISTEN", value_name = "ADDR:PORT", value_parser = loopback_address)]
    pub control: Option<SocketAddr>,
    /// What is to go wrong, as web:status=503,times=2; any number of times (in the variable, separated by ;). docs/emulator.md has the
    /// words.
    #[arg(long = "fault", env = "TASKCREDS_FAULTS", value_delimiter = ';', value_name = "TARGET:WORDS")]
    pub faults: Vec<String>,
    /// Allow faults although sessions do not come from the STS that dev and exec start themselves.
    #[arg(long, env = "TASKCREDS_ALLOW_FAULTS", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_faults: bool,
}

/// How long sessions last that the embedded STS gives.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Testing")]
pub struct ShortSessions {
    /// Have every session of the embedded STS end after so many seconds, 1 to 43200, so that a refresh is seen in seconds. [default: as
    /// asked for]
    #[arg(long, env = "TASKCREDS_SESSION_SECONDS", value_name = "N", value_parser = session_seconds)]
    pub session_seconds: Option<u32>,
}

fn session_seconds(text: &str) -> Result<u32, &'static str> {
    match text.parse() {
        Ok(seconds @ 1..=43_200) => Ok(seconds),
        _ => Err("must be a number of seconds, 1 to 43200, as 30"),
    }
}

/// Where a control interface is.
#[derive(Debug, Args)]
pub struct At {
    /// The URL of the control interface, http://ADDRESS:PORT.
    #[arg(
        long = "control",
        global = true,
        env = "TASKCREDS_CONTROL",
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    pub url: String,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// `taskcreds fault`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taskcreds fault add web:status=503,times=2\n\n\
                        Exit status: 0 done; 1 no task or role is called that; 64 the fault is none; 69 no control interface answers; \
                        77 faults are not allowed there.")]
pub struct Fault {
    /// What to do.
    #[command(subcommand)]
    pub action: FaultAction,
    /// Where.
    #[command(flatten)]
    pub at: At,
}

/// What `taskcreds fault` does.
#[derive(Debug, Subcommand)]
pub enum FaultAction {
    /// Add faults behind those that are set.
    Add {
        /// As web:status=503,times=2.
        #[arg(required = true, value_name = "TARGET:WORDS")]
        faults: Vec<String>,
    },
    /// List the faults and how often each was applied.
    Ls,
    /// Clear the faults of a target, or all.
    Clear {
        /// As it stands before the colon.
        target: Option<String>,
    },
}

/// `taskcreds journal`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  taskcreds journal wait --task web --count 2 --timeout 10s\n  \
                        taskcreds journal assert --task web --status 503 --count 2\n\n\
                        Exit status: 0 it is so; 1 it is not (wait: not in time), or no task, role or action is called that; 64 flags; 69 no control interface answers.")]
pub struct Journal {
    /// What to do.
    #[command(subcommand)]
    pub action: JournalAction,
    /// Where.
    #[command(flatten)]
    pub at: At,
}

/// What `taskcreds journal` does.
#[derive(Debug, Subcommand)]
pub enum JournalAction {
    /// List entries.
    Ls(Entries),
    /// Wait until so many entries are there.
    Wait {
        /// Which.
        #[command(flatten)]
        entries: Entries,
        /// How many at least.
        #[arg(long, default_value_t = 1, value_parser = whole::<usize>("a whole number, as 2"))]
        count: usize,
        /// How long to wait at most, as 10s; up to 10min.
        #[arg(long, default_value = "10s", value_name = "TIME")]
        timeout: humantime::Duration,
    },
    /// Succeed if exactly so many entries are there; with --timeout, wait for as many first.
    Assert {
        /// Which.
        #[command(flatten)]
        entries: Entries,
        /// How many.
        #[arg(long, value_parser = whole::<usize>("a whole number, as 2"))]
        count: usize,
        /// How long to wait for them at most, as 10s.
        #[arg(long, default_value = "0s", value_name = "TIME")]
        timeout: humantime::Duration,
    },
    /// Forget all entries.
    Clear,
}

/// Which entries of the journal.
#[derive(Debug, Args)]
pub struct Entries {
    /// Of this task: its name or its task id.
    #[arg(long)]
    pub task: Option<String>,
    /// Of this role: its name.
    #[arg(long)]
    pub role: Option<String>,
    /// Of this endpoint: credentials or sts.
    #[arg(long)]
    pub place: Option<String>,
    /// Of this action: GetCredentials, or one of the STS API as AssumeRole and GetCallerIdentity.
    #[arg(long)]
    pub action: Option<String>,
    /// With this status; 0 for no answer.
    #[arg(long, value_parser = whole::<u16>("the number of a status, as 503, or 0 for no answer"))]
    pub status: Option<u16>,
    /// With this code.
    #[arg(long)]
    pub code: Option<String>,
    /// With a session of this access key id.
    #[arg(long)]
    pub access_key_id: Option<String>,
    /// That met a fault (true), or that met none (false).
    #[arg(long)]
    pub fault: Option<bool>,
    /// With a greater number than this.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = whole::<u64>("the number of an entry, as journal ls tells it"))]
    pub since: u64,
}
