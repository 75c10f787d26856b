//! What the first process of a container owes the others: it is the parent of every process whose own has ended, and collects them.
//!
//! None of this program's own children is collected here: not CMD, and no `credential_process`, whose status whoever has started it
//! takes at once, so what is found ended twice is nobody's.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Far longer than this program takes to collect a child of its own.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Collects them where this process is the first of its PID namespace, and never returns.
pub(super) async fn collect(command: Option<u32>) {
    if getpid() == Pid::INIT {
        match signal(SignalKind::child()) {
            Ok(mut ended) => {
                while ended.recv().await.is_some() {
                    collect_until_none_is_left(command).await;
                }
            }
            Err(error) => tracing::warn!(%error, "processes whose parent has ended stay as zombies"),
        }
    }
    std::future::pending().await
}

async fn collect_until_none_is_left(command: Option<u32>) {
    let mut seen = ended_children(command);
    while !seen.is_empty() {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let still = ended_children(command);
        for pid in still.intersection(&seen) {
            // Gone already is as good.
            let _ = waitpid(Some(*pid), WaitOptions::NOHANG);
        }
        seen = still.difference(&seen).copied().collect();
    }
}

/// The children that have ended and that nobody has collected (proc_pid_stat(5)), without the command, which is another's to collect.
fn ended_children(command: Option<u32>) -> HashSet<Pid> {
    let own = getpid();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pids = pids.filter(|pid| Some(*pid) != command).filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
        // The name of the program, in parentheses, may hold anything.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(own.to_string().as_str())
    })
    .collect()
}
