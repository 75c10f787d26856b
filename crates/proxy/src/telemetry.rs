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
