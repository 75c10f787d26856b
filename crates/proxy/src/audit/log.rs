//! A file of records, one a line, written by a thread of its own so that no reader waits for the disk.
//!
//! What a batch holds is whole lines. A batch that cannot be written is lost and counted; the next one is tried again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, oneshot};

use super::file::RotatedFile;
use crate::failure::{Exit, Failure};

/// What waits to be written, in bytes; a fifth of a second of the most that this program can answer.
const MOST_PENDING: usize = 8 * 1024 * 1024;
/// How long the first of a batch waits for the others. Waking the thread for each record would cost more than the record.
const GATHER: Duration = Duration::from_millis(10);
/// How long a reader waits for room when the disk is slower than the readers; clients give up at 1 s.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// Where the records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, rotated here.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// When a file is put aside for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Before it grows beyond this, in bytes.
    pub bytes: u64,
    /// After this time.
    pub age: Duration,
    /// How many files are kept beside the present one.
    pub keep: u32,
}

/// How many records were written and how many were not.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Written.
    pub written: Counter,
    /// Lost: the disk is full or gone, or too slow for the readers.
    pub lost: Counter,
}

/// A log of records.
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    pending: Mutex<Pending>,
    filled: Condvar,
    room: Notify,
    ended: Condvar,
    counts: Counts,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    records: u64,
    waiting: Vec<oneshot::Sender<bool>>,
    /// The disk does not keep up: nobody waits for it until it does.
    is_behind: bool,
    stop: bool,
    /// All is written and the thread has ended, or is about to.
    is_over: bool,
}

impl Log {
    /// Opens the file and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(place: &Place, rotation: Rotation, counts: Counts) -> Result<Self, Failure> {
        let sink = match place {
            Place::Stdout => Sink::Stdout,
            Place::File(path) => {
                Sink::File(RotatedFile::open(path, rotation).map_err(|error| cannot_open(path, &error))?)
            }
        };
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            filled: Condvar::new(),
            room: Notify::new(),
            ended: Condvar::new(),
            counts,
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.write(sink))
            .map_err(|error| Failure::software("cannot start the thread of the audit log", error))?;
        Ok(Self { shared })
    }

    /// Adds a line without waiting, whatever else waits to be written.
    pub fn push(&self, line: &[u8]) {
        self.shared.add(&mut self.shared.pending(), line, None);
    }

    /// Adds a line. Waits for room, but not for long.
    pub async fn append(&self, line: &[u8]) {
        let mut deadline = None;
        loop {
            let room = self.shared.room.notified();
            if self.shared.adds(line) {
                return;
            }
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + PATIENCE);
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                self.shared.lose(&mut self.shared.pending());
                return;
            }
        }
    }

    /// Adds a line and waits until it is written. Returns whether it was.
    pub async fn record(&self, line: &[u8]) -> bool {
        let (sender, written) = oneshot::channel();
        self.shared.add(&mut self.shared.pending(), line, Some(sender));
        let Ok(written) = tokio::time::timeout(PATIENCE, written).await else {
            // It may be written yet, so it is not lost.
            self.shared.fall_behind(&mut self.shared.pending());
            return false;
        };
        written == Ok(true)
    }

    /// Has the thread end when all that is there is written.
    pub fn stop(&self) {
        self.shared.pending().stop = true;
        self.shared.filled.notify_one();
    }

    /// Blocks until the thread has written all, but not beyond the deadline. Returns whether it has.
    pub fn wait(&self, deadline: Instant) -> bool {
        let patience = deadline.saturating_duration_since(Instant::now());
        let ended = self.shared.ended.wait_timeout_while(self.shared.pending(), patience, |pending| !pending.is_over);
        ended.unwrap_or_else(PoisonError::into_inner).0.is_over
    }
}

pub(super) fn cannot_open(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    // What was refused here says itself what mends it.
    let advice = if error.raw_os_error().is_some() { "; make its folder writable for this user" } else { "" };
    Failure::new(Exit::Unavailable, format!("cannot write the audit log {path}: {error}{advice}"))
}

enum Sink {
    File(RotatedFile),
    Stdout,
}

impl Sink {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(lines),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
        }
    }
}

impl Shared {
    /// Adds a line if there is room for it, or loses it where nobody waits for room. Returns whether one of the two was done.
    fn adds(&self, line: &[u8]) -> bool {
        let mut pending = self.pending();
        if pending.lines.len() < MOST_PENDING {
            self.add(&mut pending, line, None);
        } else if pending.is_behind {
            self.lose(&mut pending);
        } else {
            return false;
        }
        true
    }

    fn add(&self, pending: &mut MutexGuard<'_, Pending>, line: &[u8], waiting: Option<oneshot::Sender<bool>>) {
        // Those who do not wait for room have as much again.
        if pending.lines.len() >= 2 * MOST_PENDING {
            self.lose(pending);
            // Whoever waits for it learns that it is lost when the sender is dropped.
            return;
        }
        let is_first = pending.lines.is_empty() || (waiting.is_some() && pending.waiting.is_empty());
        pending.lines.extend_from_slice(line);
        pending.records += 1;
        pending.waiting.extend(waiting);
        if is_first {
            self.filled.notify_one();
        }
    }

    /// Counts a record as lost for want of room.
    fn lose(&self, pending: &mut MutexGuard<'_, Pending>) {
        self.counts.lost.inc();
        self.fall_behind(pending);
    }

    /// Says the first time that the disk does not keep up.
    fn fall_behind(&self, pending: &mut MutexGuard<'_, Pending>) {
        if !std::mem::replace(&mut pending.is_behind, true) {
            tracing::error!(
                "the disk of the audit log does not keep up: until it does, records are lost and counted, or credentials refused \
                 where they are required"
            );
        }
    }

    fn write(&self, mut sink: Sink) {
        let mut lines = Vec::new();
        let mut is_failing = false;
        loop {
            let (records, waiting, stop) = self.next_batch(&mut lines);
            if lines.is_empty() && stop {
                self.pending().is_over = true;
                self.ended.notify_all();
                return;
            }
            let outcome = sink.write(&lines);
            match &outcome {
                Ok(()) => self.counts.written.inc_by(records),
                Err(_) => self.counts.lost.inc_by(records),
            };
            match &outcome {
                Ok(()) if std::mem::take(&mut is_failing) => tracing::info!("the audit log is written again"),
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    tracing::error!(%error, "the audit log cannot be written; records are lost and counted until it can");
                }
                _ => {}
            }
            for waiting in waiting {
                // Whoever has given up is gone.
                let _ = waiting.send(outcome.is_ok());
            }
            lines.clear();
            // What one burst needed is not kept for ever.
            lines.shrink_to(MOST_PENDING / 16);
            self.room.notify_waiters();
        }
    }

    /// Waits for lines, and then a moment for more of them, unless somebody waits for these.
    fn next_batch(&self, lines: &mut Vec<u8>) -> (u64, Vec<oneshot::Sender<bool>>, bool) {
        let pending = self.pending();
        let pending = self.filled.wait_while(pending, |pending| pending.lines.is_empty() && !pending.stop);
        let pending = pending.unwrap_or_else(PoisonError::into_inner);
        let gathers = |pending: &mut Pending| {
            pending.waiting.is_empty() && !pending.stop && pending.lines.len() < MOST_PENDING / 2
        };
        let (mut pending, _) =
            self.filled.wait_timeout_while(pending, GATHER, gathers).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut pending.lines, lines);
        pending.is_behind = false;
        (std::mem::take(&mut pending.records), std::mem::take(&mut pending.waiting), pending.stop)
    }

    // Lines are added whole; a panic between them leaves lines.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn close(log: &Log) {
        log.stop();
        assert!(log.wait(Instant::now() + Duration::from_secs(30)));
    }

    const ROTATION: Rotation = Rotation { bytes: 1 << 30, age: Duration::from_secs(3600), keep: 3 };

    #[tokio::test]
    async fn every_record_of_a_burst_is_written_in_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let (path, counts) = (folder.path().join("audit.log"), Counts::default());
        let log = Arc::new(Log::open(&Place::File(path.clone()), ROTATION, counts.clone()).unwrap());
        let writers = (0..8).map(|writer| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for n in 0..20_000 {
                    log.append(format!("{writer} {n} {}\n", "x".repeat(200)).as_bytes()).await;
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        close(&log);
        let text = std::fs::read_to_string(path).unwrap();
        let mut next = [0; 8];
        for line in text.lines() {
            let mut words = line.split(' ');
            let [writer, n] = [(); 2].map(|()| words.next().unwrap().parse::<usize>().unwrap());
            assert_eq!((n, words.next().unwrap().len()), (next[writer], 200), "in the order of each writer");
            next[writer] += 1;
        }
        assert_eq!(next, [20_000; 8]);
        assert_eq!((counts.written.get(), counts.lost.get()), (160_000, 0));
    }

    #[tokio::test]
    async fn a_record_that_is_waited_for_is_in_the_file_and_one_that_a_full_disk_refuses_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = Log::open(&Place::File(path.clone()), ROTATION, Counts::default()).unwrap();
        assert!(log.record(b"one\n").await);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
        close(&log);

        let counts = Counts::default();
        let full = Log::open(&Place::File("/dev/full".into()), ROTATION, counts.clone()).unwrap();
        assert!(!full.record(b"two\n").await);
        full.append(b"three\n").await;
        close(&full);
        assert_eq!((counts.written.get(), counts.lost.get()), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_holds_a_reader_up_for_a_moment_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        // Open at both ends, so that neither blocks; nobody reads what is written, for now.
        let both = File::options().read(true).write(true).open(&path).unwrap();
        let mut reader = File::open(&path).unwrap();
        let counts = Counts::default();
        let log = Log::open(&Place::File(path), ROTATION, counts.clone()).unwrap();
        let start = tokio::time::Instant::now();
        let mut line = vec![b'x'; 1024 * 1024];
        line.push(b'\n');
        for _ in 0..40 {
            log.append(&line).await;
        }
        assert!(counts.lost.get() > 0);
        assert!(start.elapsed() <= PATIENCE * 2, "{:?}", start.elapsed());
        drop(both);
        log.stop();
        assert!(!log.wait(Instant::now() + Duration::from_millis(1)), "it hangs, and nobody waits for it for ever");
        let drained = std::thread::spawn(move || io::copy(&mut reader, &mut io::sink()).unwrap());
        close(&log);
        let written = counts.written.get();
        assert_eq!(drained.join().unwrap(), written * line.len() as u64);
        assert_eq!(written + counts.lost.get(), 40);
    }
}
