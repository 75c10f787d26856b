//! Logging: to standard error, one event a line.
//!
//! Only this program's own events can be made verbose. The AWS SDK and hyper log headers and bodies at `trace`, with secrets in
//! them, and stay at `error` whatever is asked for; what they warn of reaches the log as the cause of a failed load.

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What stops the program from doing its work.
    Error,
    /// What needs somebody's attention.
    Warn,
    /// What happens once in a while: starts, new sessions.
    Info,
    /// Every failure and every connection that ends badly.
    Debug,
    /// Everything.
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Begins to log. A second call in one process changes nothing.
///
/// `of_loads` is for what is said of single loads, which a command that fails for one says itself.
pub fn start(level: LogLevel, of_loads: LogLevel, format: LogFormat) {
    let own = LevelFilter::from(level);
    let filter = Targets::new()
        .with_default(own.min(LevelFilter::ERROR))
        .with_target("taskcreds", own)
        .with_target("taskcreds_core", LevelFilter::from(of_loads));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(lines.with_ansi(color).with_target(false)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        // Without the payload, which may hold whatever the program was at work on.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a defect of this program: a task has panicked; please report it");
    }));
    // Only a test that runs two commands in one process comes here twice.
    drop(started);
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use taskcreds_core::test_util::{TestSts, new_task};
    use taskcreds_core::{Budget, BudgetLimits, Freshness, Registration, Registry, SessionCache, SystemClock};

    use super::*;

    const SECRET: &str = "canary/of+a/panic";
    const CHILD: &str = "telemetry::tests::panics_with_a_secret";

    /// What the test below starts: a load that panics with a secret, and then another task that does.
    #[test]
    #[ignore = "run by the test beside it, in a process of its own"]
    fn panics_with_a_secret() {
        start(LogLevel::Trace, LogLevel::Trace, LogFormat::Text);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sts = TestSts::new(|_, _| panic!("{SECRET}"));
            let (clock, budget) = (Arc::new(SystemClock), Budget::new(BudgetLimits::default()));
            let sessions = SessionCache::new(sts, clock, budget, Freshness::default(), || 0.5, Box::new(|_, _, _| {}));
            let task = Registry::new(1).register(Registration::configured(new_task("web"))).unwrap();
            let answer = crate::http::error::Fault::Session(
                crate::http::error::Version::V2,
                sessions.get(&task).await.unwrap_err(),
            );
            tracing::info!(?answer, "answered");
            let other = tokio::spawn(async { panic!("{SECRET}") }).await;
            tracing::info!(panicked = other.is_err_and(|error| error.is_panic()), "ended");
        });
    }

    #[test]
    fn a_panic_is_told_with_its_place_and_without_its_message() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", CHILD, "--ignored", "--nocapture"]).env("RUST_BACKTRACE", "full");
        let output = child.output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        assert!(output.status.success(), "{said}");
        assert!(said.matches("a defect of this program").count() >= 2, "{said}");
        assert!(said.contains("src/telemetry.rs:") && said.contains("panicked=true"), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
}
