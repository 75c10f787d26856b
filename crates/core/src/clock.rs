//! Wall time comes from one place, so that a test can move it.

use std::time::SystemTime;

/// Tells the wall time. Wall time, because a session's `Expiration` is wall time; timers are plain tokio.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
