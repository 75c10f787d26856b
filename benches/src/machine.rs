//! Where and how the figures were measured.

use std::path::Path;
use std::time::SystemTime;

/// A Markdown list: machine, date, what was measured and by which command line.
#[must_use]
pub fn description(program: &Path) -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown", |(_, model)| model.trim());
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let built = std::fs::metadata(program).ok();
    #[expect(clippy::cast_precision_loss, reason = "a size in MB with one digit")]
    let size = built.as_ref().map_or(0.0, |built| built.len() as f64 / 1e6);
    let modified = built.and_then(|built| built.modified().ok()).map(date).unwrap_or_default();
    [
        format!("- machine: {cpus} CPUs, {model}, Linux {}", read("/proc/sys/kernel/osrelease")),
        format!("- load before (1, 5, 15 min): {}", read("/proc/loadavg")),
        format!("- date: {}", date(SystemTime::now())),
        format!("- proxy: {}, {size:.1} MB, built {modified}", program.display()),
        format!("- command line: {}", std::env::args().collect::<Vec<_>>().join(" ")),
    ]
    .join("\n")
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
