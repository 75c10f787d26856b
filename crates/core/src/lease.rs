//! Whether a registration still stands. A lease ends once and never begins again; a task that is registered anew gets a
//! new one, so nothing that belonged to the old registration can be taken for the new one's.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Names one lease for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(u64);

/// Whether a registration still stands. Clones share one end.
#[derive(Clone, Debug)]
pub struct Lease {
    id: LeaseId,
    ended: CancellationToken,
}

impl Lease {
    pub(crate) fn begin() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: LeaseId(NEXT.fetch_add(1, Ordering::Relaxed)), ended: CancellationToken::new() }
    }

    /// The lease's name.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// False once the registration has been revoked.
    #[must_use]
    pub fn stands(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// Waits until the lease ends; returns at once when it has.
    pub fn ended(&self) -> WaitForCancellationFuture<'_> {
        self.ended.cancelled()
    }

    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}
