//! A server in a process of its own, which ends with its [`Process`], and what the kernel tells about it in `/proc`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a server may take to say where it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// The system's.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Starts a server, gives it `input` if its standard input is a pipe, and waits until it has said on its standard output where
    /// it listens: `listening on http://ADDRESS`. The pipe stays open as long as the process.
    ///
    /// # Errors
    /// The system's, or a server that ends or stays silent.
    pub fn start_server(command: &mut Command, input: &[u8]) -> io::Result<(Self, SocketAddr)> {
        let mut process = Self::start(command.stdout(Stdio::piped()))?;
        if let Some(pipe) = &mut process.0.stdin {
            pipe.write_all(input)?;
            pipe.flush()?;
        }
        let out = process.0.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let (tell, told) = mpsc::channel();
        // Reads on to the end, so that the server never waits for a reader; the end comes with the process's.
        std::thread::spawn(move || {
            let (mut out, mut line) = (BufReader::new(out), String::new());
            let _ = out.read_line(&mut line);
            let _ = tell.send(line);
            let _ = io::copy(&mut out, &mut io::sink());
        });
        let line =
            told.recv_timeout(PATIENCE).map_err(|_| io::Error::other("the server does not say where it listens"))?;
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| io::Error::other(format!("the server ended or said {line:?}")))?;
        Ok((process, address))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and `wait` returns at once.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The CPU time that all threads of a process have used, in user and in kernel mode: `utime` + `stime` of `/proc/PID/stat`.
///
/// # Errors
/// No such process, or no Linux.
pub fn cpu_seconds(process: u32) -> io::Result<f64> {
    let stat = proc_file(process, "stat")?;
    // The command's name is in parentheses and may hold anything; behind it `utime` is the 12th field and `stime` the 13th.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    match ticks.as_slice() {
        [user, system] => Ok((user + system) / ticks_per_second()?),
        _ => Err(io::Error::other(format!("cannot read the CPU time of process {process}"))),
    }
}

/// The tick of `/proc/PID/stat`, from the auxiliary vector of this process.
fn ticks_per_second() -> io::Result<f64> {
    const AT_CLKTCK: usize = 17;
    const WORD: usize = size_of::<usize>();
    let vector = std::fs::read("/proc/self/auxv")?;
    let mut words = vector.as_chunks::<WORD>().0.iter().map(|word| usize::from_ne_bytes(*word));
    while let (Some(kind), Some(value)) = (words.next(), words.next()) {
        if kind == AT_CLKTCK {
            return u32::try_from(value).map(f64::from).map_err(io::Error::other);
        }
    }
    Err(io::Error::other("the kernel does not tell its clock tick"))
}

/// Memory of a process, in MB of 1,000,000 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident: `VmRSS`.
    pub resident: f64,
    /// What of it is the process's own and not a page of a file, such as its program: `RssAnon`.
    pub anonymous: f64,
}

/// The memory that a process has now.
///
/// # Errors
/// No such process, or no Linux.
pub fn memory(process: u32) -> io::Result<Memory> {
    let status = proc_file(process, "status")?;
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes: Option<f64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kibibytes.map(|kibibytes| kibibytes * 1024.0 / 1e6).ok_or_else(|| io::Error::other(format!("no {name}")))
    };
    Ok(Memory { resident: megabytes("VmRSS")?, anonymous: megabytes("RssAnon")? })
}

/// How many threads a process has.
///
/// # Errors
/// No such process, or no Linux.
pub fn threads(process: u32) -> io::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/task"))?.count())
}

fn proc_file(process: u32, name: &str) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/{process}/{name}"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_cpu_time_and_memory_of_this_process() {
        let id = std::process::id();
        let before = cpu_seconds(id).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(100) {}
        let used = cpu_seconds(id).unwrap() - before;
        assert!(used > 0.0 && used < 10.0, "{used}");
        let memory = memory(id).unwrap();
        assert!(memory.resident > memory.anonymous && memory.anonymous > 0.0, "{memory:?}");
        assert!(threads(id).unwrap() >= 1);
    }
}
