//! All cells, and the one function that calls STS, `SessionCache::load`. Readers and the sweep meet there.
//!
//! What the cache guarantees, by the numbers of the invariants in ARCHITECTURE.md: a load outlives the client that caused it
//! (2); once a lease has ended nothing is answered with its session (6); a cell belongs to one lease and so to one whole
//! session spec (8).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Session;
use super::cell::{Answer, Kept, SessionCell, Settled, State};
use super::policy::Freshness;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::lease::LeaseId;
use crate::role::Region;
use crate::sts::{AssumeRole, AssumeRoleError, FailureKind};
use crate::task::Task;

/// A load that has not come back after this long has failed, whatever timeouts the adapter has.
const LOAD_TIMEOUT: Duration = Duration::from_secs(45);
/// How much longer than [`Freshness::idle_after`] a cell is kept that nobody reads: longer than the longest session.
const LONGEST_SESSION: Duration = Duration::from_secs(13 * 3600);

/// The sessions of all tasks.
pub struct SessionCache {
    /// Cells, not credentials: an instant, infallible `get_with`, and nothing in here knows an expiry. A cell goes when its lease has
    /// ended or nobody has read it for longer than any session lasts.
    cells: moka::sync::Cache<LeaseId, Arc<Entry>>,
    sts: Arc<dyn AssumeRole>,
    clock: Arc<dyn Clock>,
    budget: Budget,
    freshness: Freshness,
    chance: fn() -> f64,
    on_load: Box<OnLoad>,
    loads: TaskTracker,
    /// One place among the readers that wait for the budget, for a load of the sweep.
    place: Arc<Semaphore>,
    /// Wakes the sweep before its time.
    wake: Notify,
    /// The regions whose STS has failed.
    trouble: Mutex<HashMap<Region, Trouble>>,
}

/// What is known of a region whose STS has failed.
#[derive(Debug, Default)]
struct Trouble {
    /// It has failed since it last answered.
    failing: bool,
    /// When it was last tried.
    tried_at: Option<Instant>,
    /// When its sessions were last tried again because it answered.
    recovered_at: Option<Instant>,
}

/// How often a region may be taken for recovered. One that fails for some tasks only must not have these retried at every success of
/// the others.
const RECOVER_EVERY: Duration = Duration::from_secs(30);

/// How long ago the last try of a region that fails may have begun. The pauses of its sessions grow to 30 s, and where it has few of them its return
/// would be seen as late.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// What one sweep sees of a region in trouble.
#[derive(Default)]
struct Troubled {
    has_cells: bool,
    is_due: bool,
    /// The session that would be tried next, and when.
    next: Option<(SystemTime, Arc<Entry>)>,
}

impl Troubled {
    fn note(&mut self, now: SystemTime, is_due: bool, entry: &Arc<Entry>) {
        self.has_cells = true;
        self.is_due |= is_due;
        let until = if self.is_due { None } else { entry.cell().silent_until(now) };
        if let Some(until) = until.filter(|until| self.next.as_ref().is_none_or(|(next, _)| until < next)) {
            self.next = Some((until, Arc::clone(entry)));
        }
    }
}

struct Entry {
    task: Arc<Task>,
    cell: Mutex<SessionCell>,
    settled: Notify,
}

/// Is told of every load that STS has answered or failed to: for which task, with what outcome, after how long.
pub type OnLoad = dyn Fn(&Task, &Settled, Duration) + Send + Sync;

/// Why a request gets no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The registration ended, perhaps while the request waited.
    #[error("the task is not registered any more")]
    Revoked,
    /// There is none yet. The load goes on.
    #[error("no session yet{}", .0.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    NotReady(Option<Arc<AssumeRoleError>>),
    /// STS refused for good.
    #[error("{0}")]
    Refused(Arc<AssumeRoleError>),
}

impl SessionCache {
    /// A cache for all tasks that there are: how many that is, is for the registry to say. `chance` returns a number in `0.0..1.0`.
    pub fn new(
        sts: Arc<dyn AssumeRole>,
        clock: Arc<dyn Clock>,
        budget: Budget,
        freshness: Freshness,
        chance: fn() -> f64,
        on_load: Box<OnLoad>,
    ) -> Arc<Self> {
        // Without a capacity: a cell that makes room for another one is a session lost (invariant 3).
        let cells = moka::sync::Cache::builder().time_to_idle(freshness.idle_after + LONGEST_SESSION).build();
        let (loads, wake, trouble) = (TaskTracker::new(), Notify::new(), Mutex::default());
        let place = Arc::new(Semaphore::new(1));
        Arc::new(Self { cells, sts, clock, budget, freshness, chance, on_load, loads, place, wake, trouble })
    }

    /// The session of a task: at once when it is there, else after its load, and never later than
    /// [`Freshness::patience`].
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn get(self: &Arc<Self>, task: &Arc<Task>) -> Result<Arc<Session>, SessionError> {
        let entry = self.entry(task);
        let mut deadline = None;
        loop {
            let settled = entry.settled.notified();
            let answer = entry.cell().read(self.clock.now(), &self.freshness);
            // After the read and with no await behind it: whoever revokes has ended the lease before that returns.
            if !task.lease.stands() {
                return Err(SessionError::Revoked);
            }
            let (retry_at, cause) = match answer {
                Answer::Session(session) => return Ok(session),
                Answer::Refused(error) => return Err(SessionError::Refused(error)),
                Answer::Load => {
                    self.load(Arc::clone(&entry), Turn::InLine(None));
                    continue;
                }
                Answer::Wait { retry_at, cause } => (retry_at, cause),
            };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.freshness.patience);
            let retry_in = retry_at.map(|at| at.duration_since(self.clock.now()).unwrap_or_default());
            tokio::select! {
                biased;
                () = settled => {}
                () = task.lease.ended() => {}
                () = tokio::time::sleep_until(deadline) => return Err(SessionError::NotReady(cause)),
                () = sleep_or_never(retry_in) => {}
            }
        }
    }

    /// How every session stands that has been asked for, in no order.
    #[must_use]
    pub fn states(&self) -> Vec<(Arc<Task>, State)> {
        let now = self.clock.now();
        let standing = self.cells.iter().filter(|(_, entry)| entry.task.lease.stands());
        standing.map(|(_, entry)| (Arc::clone(&entry.task), entry.cell().state(now, &self.freshness))).collect()
    }

    /// How the session of one task stands; `None` when nobody has asked for it yet.
    #[must_use]
    pub fn state(&self, task: &Task) -> Option<State> {
        let entry = self.cells.get(&task.lease.id())?;
        Some(entry.cell().state(self.clock.now(), &self.freshness))
    }

    /// Every session that is served, with its task: what the next process can go on with.
    #[must_use]
    pub fn kept(&self) -> Vec<(Arc<Task>, Kept)> {
        let now = self.clock.now();
        let standing = self.cells.iter().filter(|(_, entry)| entry.task.lease.stands());
        standing
            .filter_map(|(_, entry)| {
                let kept = entry.cell().kept(now, &self.freshness)?;
                Some((Arc::clone(&entry.task), kept))
            })
            .collect()
    }

    /// Goes on with a session that was kept for this task, by the process before or under another id. Returns whether it is served
    /// from now on. That it was made for the whole spec of this task is for the caller to know (invariant 8).
    pub fn resume(&self, task: &Arc<Task>, kept: Kept) -> bool {
        self.entry(task).cell().resume(self.clock.now(), kept, &self.freshness)
    }

    /// Gives a task that was rotated the session that it had before.
    pub fn carry_over(&self, old: &Task, new: &Arc<Task>) {
        let now = self.clock.now();
        let before = self.cells.get(&old.lease.id());
        let kept = before.and_then(|entry| entry.cell().kept(now, &self.freshness));
        if let Some(kept) = kept {
            self.resume(new, kept);
        }
        self.forget(old);
        self.prefetch(new);
    }

    /// Forgets the session of a task that has ended, so that it takes no place.
    pub fn forget(&self, task: &Task) {
        self.cells.invalidate(&task.lease.id());
    }

    /// Has a new session of this task loaded now, as far as the budget has room.
    pub fn refresh_now(&self, task: &Arc<Task>) {
        self.entry(task).cell().refresh_now(self.clock.now());
        self.wake.notify_one();
    }

    /// The same, and waits for it.
    ///
    /// # Errors
    /// The load failed, the registration ended, or neither a session nor a failure has come in the time that a load may take.
    pub async fn renew(self: &Arc<Self>, task: &Arc<Task>) -> Result<Arc<Session>, SessionError> {
        let entry = self.entry(task);
        let current = || entry.cell().kept(self.clock.now(), &self.freshness).map(|kept| kept.session);
        let before = current();
        self.refresh_now(task);
        let deadline = Instant::now() + LOAD_TIMEOUT;
        loop {
            let settled = entry.settled.notified();
            if !task.lease.stands() {
                return Err(SessionError::Revoked);
            }
            if let Some(session) = current()
                && !before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &session))
            {
                return Ok(session);
            }
            let failure = entry.cell().state(self.clock.now(), &self.freshness).failure;
            match failure {
                Some(error) if error.kind == FailureKind::Refused => return Err(SessionError::Refused(error)),
                Some(error) => return Err(SessionError::NotReady(Some(error))),
                None => {}
            }
            tokio::select! {
                () = settled => {}
                () = task.lease.ended() => {}
                () = tokio::time::sleep_until(deadline) => return Err(SessionError::NotReady(None)),
            }
        }
    }

    /// How many STS calls the node could make now.
    #[must_use]
    pub fn budget(&self) -> u32 {
        self.budget.available()
    }

    /// Has the session of a newly registered task loaded before anybody asks.
    pub fn prefetch(&self, task: &Arc<Task>) {
        self.entry(task);
        self.wake.notify_one();
    }

    /// Refreshes ahead until told to stop. Level-triggered: every pass compares the cells with the wall time afresh, so a host
    /// that slept or a clock that was set costs one pass at most.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.freshness.sweep_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    // Nobody is left to serve what is being loaded: it ends with the runtime.
                    self.loads.close();
                    return;
                }
                _ = tick.tick() => {}
                () = self.wake.notified() => {}
            }
            self.sweep();
        }
    }

    /// One pass: starts the loads that are due, the longest due first, as many as the budget has room for now. The
    /// next one takes its turn among the readers, one at a time: readers without end must not keep the sweep from its work.
    pub fn sweep(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut due = Vec::new();
        let mut troubled: HashMap<Region, Troubled> =
            self.trouble().keys().map(|region| (region.clone(), Troubled::default())).collect();
        for (lease, entry) in &self.cells {
            if !entry.task.lease.stands() {
                self.cells.invalidate(&*lease);
                continue;
            }
            let since = entry.cell().due(now, &self.freshness);
            if let Some(region) = troubled.get_mut(entry.task.spec().effective_region()) {
                region.note(now, since.is_some(), &entry);
            }
            due.extend(since.map(|since| (since, entry)));
        }
        due.extend(self.probe(troubled).into_iter().map(|entry| {
            entry.cell().retry_now(now);
            (now, entry)
        }));
        due.sort_by_key(|(since, _)| *since);
        for (_, entry) in due {
            let turn = match self.budget.try_start() {
                Some(room) => Turn::Now(room),
                None => match Arc::clone(&self.place).try_acquire_owned() {
                    Ok(place) => Turn::InLine(Some(place)),
                    Err(_) => return,
                },
            };
            // A reader may have started it since.
            let starts = entry.cell().start_if_due(now, &self.freshness);
            if starts {
                self.load(entry, turn);
            }
        }
    }

    /// One session of each region that fails and of which none is due, if none was tried for a while: the one that would be next. A region
    /// without sessions is forgotten.
    fn probe(&self, troubled: HashMap<Region, Troubled>) -> Vec<Arc<Entry>> {
        let mut trouble = self.trouble();
        let mut probes = Vec::new();
        for (region, troubled) in troubled {
            if !troubled.has_cells {
                trouble.remove(&region);
                continue;
            }
            let Some(known) = trouble.get_mut(&region) else { continue };
            let is_quiet = known.failing && known.tried_at.is_some_and(|at| at.elapsed() >= PROBE_AFTER);
            if is_quiet && !troubled.is_due {
                known.tried_at = Some(Instant::now());
                probes.extend(troubled.next.map(|(_, entry)| entry));
            }
        }
        probes
    }

    // Every change of it is made whole under the lock.
    fn trouble(&self) -> MutexGuard<'_, HashMap<Region, Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The only caller of STS. A load is a task of its own, so a client that hangs up cancels nothing; it ends with its lease.
    fn load(self: &Arc<Self>, entry: Arc<Entry>, turn: Turn) {
        let cache = Arc::clone(self);
        self.loads.spawn(async move {
            let mut load = Load { cache: &cache, entry: &entry, outcome: None, asked_at: None };
            let ask = async {
                let _room = match turn {
                    Turn::Now(room) => room,
                    // Its place, where it has one, is free as soon as its turn comes, or its lease ends.
                    Turn::InLine(_place) => cache.budget.wait().await,
                };
                load.asked_at = Some(Instant::now());
                let call = cache.sts.assume_role(entry.task.spec());
                tokio::time::timeout(LOAD_TIMEOUT, call).await.unwrap_or_else(|_| {
                    let message = format!("STS did not answer within {} s", LOAD_TIMEOUT.as_secs());
                    Err(AssumeRoleError::new(FailureKind::Unavailable, message, "see whether STS can be reached"))
                })
            };
            load.outcome = tokio::select! {
                biased;
                () = entry.task.lease.ended() => None,
                outcome = ask => Some(outcome),
            };
        });
    }

    /// What one outcome says about STS as a whole: throttling slows the node, and the first success after trouble has every session
    /// of that region tried again at once instead of after its own pause.
    fn learn(&self, task: &Task, settled: &Settled, asked_at: Option<Instant>) {
        let region = task.spec().effective_region();
        let mut trouble = self.trouble();
        match settled {
            Settled::Failed { error, .. } => {
                if error.kind == FailureKind::Throttled {
                    self.budget.throttled(error.retry_after);
                }
                if error.kind != FailureKind::Refused {
                    let trouble = trouble.entry(region.clone()).or_default();
                    (trouble.failing, trouble.tried_at) = (true, asked_at.or(trouble.tried_at));
                    // What has been silent for longer is tried again at once.
                    if asked_at.is_some_and(|at| at.elapsed() >= PROBE_AFTER) {
                        self.wake.notify_one();
                    }
                }
            }
            Settled::Fresh(_) => {
                self.budget.taken();
                let is_rare = |at: Instant| at.elapsed() >= RECOVER_EVERY;
                let trouble_here =
                    trouble.get_mut(region).filter(|it| it.failing && it.recovered_at.is_none_or(is_rare));
                let Some(recovered) = trouble_here else { return };
                *recovered = Trouble { recovered_at: Some(Instant::now()), ..Trouble::default() };
                drop(trouble);
                let now = self.clock.now();
                for (_, entry) in self.cells.iter().filter(|(_, entry)| entry.task.spec().effective_region() == region)
                {
                    entry.cell().retry_now(now);
                    entry.settled.notify_waiters();
                }
                self.wake.notify_one();
            }
        }
    }

    fn entry(&self, task: &Arc<Task>) -> Arc<Entry> {
        if let Some(entry) = self.cells.get(&task.lease.id()) {
            return entry;
        }
        self.cells.get_with(task.lease.id(), || {
            let cell = Mutex::new(SessionCell::new(self.clock.now()));
            Arc::new(Entry { task: Arc::clone(task), cell, settled: Notify::new() })
        })
    }
}

impl Entry {
    fn cell(&self) -> MutexGuard<'_, SessionCell> {
        // The cell's methods leave it whole at every point where they could panic.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a load comes by its room in the budget.
enum Turn {
    /// It has it.
    Now(OwnedSemaphorePermit),
    /// It waits for it, for a reader or in the sweep's place.
    InLine(Option<OwnedSemaphorePermit>),
}

/// A load under way. It settles its cell when it is dropped, so that even a panic in it leaves no cell loading for ever.
struct Load<'a> {
    cache: &'a SessionCache,
    entry: &'a Entry,
    outcome: Option<Result<Session, AssumeRoleError>>,
    asked_at: Option<Instant>,
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let was_broken_off = self.outcome.is_none();
        let outcome = self.outcome.take().unwrap_or_else(|| {
            let message = "the load was broken off before STS answered";
            Err(AssumeRoleError::new(FailureKind::Unavailable, message, "try again"))
        });
        let Self { cache, entry, .. } = *self;
        let settled = entry.cell().settle(cache.clock.now(), outcome, &cache.freshness, (cache.chance)());
        entry.settled.notify_waiters();
        // A lease that has ended, a shutdown or a panic, which speaks for itself: nothing was learnt of STS.
        if !was_broken_off {
            report(&entry.task, &settled);
            cache.learn(&entry.task, &settled, self.asked_at);
            (cache.on_load)(&entry.task, &settled, self.asked_at.map(|at| at.elapsed()).unwrap_or_default());
        }
    }
}

/// One line for a new session, one for the first of a row of failures; the rest of the row is for `debug`.
fn report(task: &Task, settled: &Settled) {
    let (id, task_arn, role_arn) = (task.id(), task.arn(), &task.spec().role_arn);
    match settled {
        Settled::Fresh(session) => tracing::info!(
            %id, %task_arn, %role_arn,
            access_key_id = session.access_key_id(),
            assumed_role_arn = session.assumed_role_arn(),
            sts_request_id = session.request_id(),
            "session loaded"
        ),
        Settled::Failed { error, in_a_row: 1, covered } => tracing::warn!(
            %id, %task_arn, %role_arn, still_serving = covered, "no new session: {error}"
        ),
        Settled::Failed { error, in_a_row, covered } => tracing::debug!(
            %id, %task_arn, %role_arn, still_serving = covered, in_a_row, "no new session: {error}"
        ),
    }
}

async fn sleep_or_never(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
