//! An honest client beside whatever else goes on: so many requests a second, each on a connection of its own and never tried again.
//!
//! The load is open: a request starts when it is due, whatever has become of those before it, and its time counts from then.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::http::{answer_on, get, request};
use crate::rig::until;
use crate::tasks::Task;

/// An answer that takes longer is none. SDKs give up at 1 or 2 s, but on a machine that is busy with other tests that is the tests' doing.
const PATIENCE: Duration = Duration::from_secs(5);

/// What has become of the requests.
pub(crate) struct Answered {
    /// How long the answers with 200 took, in order.
    pub(crate) took: Vec<Duration>,
    /// What came of the others.
    pub(crate) failed: Vec<String>,
    /// How late the latest of them began: more than a few milliseconds is a machine that has no time for its clients.
    pub(crate) late: Duration,
}

impl Answered {
    /// That of these in a hundred which took longest.
    pub(crate) fn percentile(&self, hundredths: usize) -> Duration {
        let last = self.took.len().saturating_sub(1);
        *self.took.get((self.took.len() * hundredths / 100).min(last)).unwrap_or_else(|| panic!("nothing was answered"))
    }

    /// Every request was answered with 200.
    pub(crate) fn all(self, what: &str) -> Self {
        let (failed, of, late) = (self.failed.len(), self.failed.len() + self.took.len(), self.late);
        let why = self.failed.first();
        assert!(failed == 0, "{what}: {failed} of {of} were not answered with 200; begun up to {late:?} late: {why:?}");
        self
    }
}

/// Asks for a session so often a second, for so many seconds, from 127.0.0.1.
pub(crate) fn ask(rate: u32, seconds: u32, address: SocketAddr, task: &Task) -> Answered {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = request(address, &task.path(), task.token.as_deref());
    runtime.block_on(async {
        let (start, mut asked, mut late) = (Instant::now(), tokio::task::JoinSet::new(), Duration::ZERO);
        for number in 0..rate * seconds {
            let due = start + Duration::from_secs(1) * number / rate;
            tokio::time::sleep_until(due).await;
            late = late.max(due.elapsed());
            asked.spawn(one(address, request.clone(), due));
        }
        let mut answered = Answered { took: Vec::new(), failed: Vec::new(), late };
        while let Some(one) = asked.join_next().await {
            match one.unwrap() {
                Ok(took) => answered.took.push(took),
                Err(why) => answered.failed.push(why),
            }
        }
        answered.took.sort();
        answered
    })
}

async fn one(address: SocketAddr, request: String, due: Instant) -> Result<Duration, String> {
    // How far it has come and when, for one that fails: a client that is late itself is not the proxy's doing.
    let steps = std::sync::Mutex::new(Vec::new());
    let step = |name: &str| steps.lock().unwrap().push(format!("{name} after {:?}", due.elapsed()));
    let ask = async {
        step("began");
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        step("connected");
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        step("asked");
        let answer = answer_on(&mut stream).await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(due.elapsed()) } else { Err(format!("{}: {}", answer.line, answer.body)) }
    };
    let late = |_| Err(format!("not within {} s", PATIENCE.as_secs()));
    let answered = tokio::time::timeout_at(due + PATIENCE, ask).await.unwrap_or_else(late);
    answered.map_err(|why| format!("{why} ({}, failed after {:?})", steps.lock().unwrap().join(", "), due.elapsed()))
}

/// Waits until the session is there, so that what is measured is no load.
pub(crate) fn warm(address: SocketAddr, task: &Task) {
    until("the first session", || get(address, &task.path()).status == 200);
}
