//! The faults that are set, in their order, and how often each was applied.
//!
//! One request meets one fault at most: the first that is for it and has not had all its times. One that changes a good answer is met, and
//! counts, where there is a good answer to be changed; every other one from when it is looked for. Who looks for a fault where none is
//! set takes no lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use taskcreds_core::Task;
use tokio::sync::watch;

use super::fault::{Fault, Target};

/// How many faults there may be at a time.
const MOST: usize = 256;

/// The faults of one proxy and its embedded STS.
#[derive(Debug)]
pub struct Faults {
    is_empty: AtomicBool,
    set: Mutex<Vec<Set>>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct Set {
    fault: Fault,
    applied: u32,
}

impl Set {
    fn left(&self) -> Option<u32> {
        self.fault.times.map(|times| times.get().saturating_sub(self.applied))
    }
}

/// A fault as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultView {
    /// In its words.
    pub fault: String,
    /// How often it was applied.
    pub applied: u32,
    /// How often it still will be; none: until it is cleared.
    pub left: Option<u32>,
}

/// There are too many.
#[derive(Debug, thiserror::Error)]
#[error("at most {MOST} faults are set at a time: clear some")]
pub struct TooMany;

impl Default for Faults {
    fn default() -> Self {
        Self { is_empty: AtomicBool::new(true), set: Mutex::default(), changes: watch::Sender::new(()) }
    }
}

impl Faults {
    /// Adds faults behind those that are set. Those that have had all their times go.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn add(&self, faults: Vec<Fault>) -> Result<(), TooMany> {
        self.change(|set| {
            set.retain(|one| one.left() != Some(0));
            if set.len() + faults.len() > MOST {
                return Err(TooMany);
            }
            set.extend(faults.into_iter().map(|fault| Set { fault, applied: 0 }));
            Ok(())
        })
    }

    /// Sets these faults and no others.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn replace(&self, faults: Vec<Fault>) -> Result<(), TooMany> {
        if faults.len() > MOST {
            return Err(TooMany);
        }
        self.change(|set| *set = faults.into_iter().map(|fault| Set { fault, applied: 0 }).collect());
        Ok(())
    }

    /// Clears the faults of a target, or all. Returns how many.
    pub fn clear(&self, target: Option<&str>) -> usize {
        self.change(|set| {
            let before = set.len();
            set.retain(|one| target.is_some_and(|target| !one.fault.is_at(target)));
            before - set.len()
        })
    }

    /// Whether there is one of a target.
    #[must_use]
    pub fn has(&self, target: &str) -> bool {
        self.set().iter().any(|one| one.fault.is_at(target))
    }

    /// How they stand, in their order.
    #[must_use]
    pub fn list(&self) -> Vec<FaultView> {
        let view = |one: &Set| FaultView { fault: one.fault.to_string(), applied: one.applied, left: one.left() };
        self.set().iter().map(view).collect()
    }

    /// Those that go on, in their words.
    #[must_use]
    pub fn in_force(&self) -> Vec<String> {
        self.list().into_iter().filter(|one| one.left != Some(0)).map(|one| one.fault).collect()
    }

    /// The fault that the next answer to a task meets. It counts from now on, unless it is one of good answers.
    pub(super) fn next_of_task(&self, task: &Task) -> Option<Fault> {
        self.next(|fault| fault.is_for(task))
    }

    /// The same for the embedded STS and a role.
    pub(super) fn next_of_role(&self, role_arn: &str) -> Option<Fault> {
        self.next(|fault| fault.is_for_role(role_arn))
    }

    /// Whether there is a good answer's fault to be met still, given its words. It counts from now on.
    pub(super) fn is_met(&self, told: &str) -> bool {
        let mut set = self.set();
        let one = set.iter_mut().find(|one| one.left() != Some(0) && one.fault.to_string() == told);
        one.map(|one| one.applied = one.applied.saturating_add(1)).is_some()
    }

    /// Takes back that one has counted.
    pub(super) fn was_not_met(&self, fault: &Fault) {
        if let Some(one) = self.set().iter_mut().find(|one| one.applied > 0 && one.fault == *fault) {
            one.applied -= 1;
        }
    }

    /// Whether there is one for the embedded STS.
    pub(super) fn has_sts(faults: &[Fault]) -> bool {
        faults.iter().any(|fault| matches!(fault.target, Target::Sts(_)))
    }

    /// Is told, from now on, when other faults are set or these are cleared: what hangs hangs until then.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn next(&self, is_for: impl Fn(&Fault) -> bool) -> Option<Fault> {
        if self.is_empty.load(Ordering::Acquire) {
            return None;
        }
        let mut set = self.set();
        let one = set.iter_mut().find(|one| one.left() != Some(0) && is_for(&one.fault))?;
        if !one.fault.is_of_good_answers() {
            one.applied = one.applied.saturating_add(1);
        }
        Some(one.fault.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Set>) -> T) -> T {
        let mut set = self.set();
        let outcome = change(&mut set);
        self.is_empty.store(set.is_empty(), Ordering::Release);
        drop(set);
        let _ = self.changes.send(());
        outcome
    }

    fn set(&self) -> MutexGuard<'_, Vec<Set>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/path/web";

    fn parse(texts: &[&str]) -> Vec<Fault> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn next(faults: &Faults) -> Option<String> {
        faults.next_of_role(ROLE).map(|fault| fault.to_string())
    }

    #[test]
    fn a_fault_is_applied_as_often_as_it_says_and_then_the_next_one_and_then_all_is_well() {
        let faults = Faults::default();
        faults.add(parse(&["web:hang", "sts/other:hang", "sts/web:status=503,times=2", "sts:drop,times=1"])).unwrap();
        let met: Vec<_> = std::iter::from_fn(|| next(&faults)).collect();
        assert_eq!(met, ["sts/web:status=503,times=2", "sts/web:status=503,times=2", "sts:drop,times=1"]);
        let stand: Vec<_> = faults.list().iter().map(|one| (one.applied, one.left)).collect();
        assert_eq!(stand, [(0, None), (0, None), (2, Some(0)), (1, Some(0))]);
        assert_eq!(faults.in_force(), ["web:hang", "sts/other:hang"]);
        faults.add(parse(&["sts:hang"])).unwrap();
        assert_eq!(faults.list().len(), 3, "those that are over have gone");
    }

    #[test]
    fn a_fault_of_good_answers_counts_where_there_is_one_and_no_more_often_than_it_says() {
        let faults = Faults::default();
        let (missing, hang) = ("sts:delay=1s,missing=Arn,times=1", "sts:hang,times=1");
        faults.add(parse(&[missing, hang])).unwrap();
        // Two at once, and neither has come to an answer.
        assert_eq!([next(&faults), next(&faults)], [Some(missing.to_owned()), Some(missing.to_owned())]);
        assert_eq!((faults.list()[0].applied, faults.is_met(missing), faults.is_met(missing)), (0, true, false));
        assert_eq!((next(&faults).as_deref(), next(&faults)), (Some(hang), None));
        faults.was_not_met(&parse(&[hang])[0]);
        assert_eq!(next(&faults).as_deref(), Some(hang));
        faults.clear(None);
        assert!(!faults.is_met(missing), "cleared meanwhile");
    }

    #[test]
    fn faults_are_cleared_by_target_or_all_and_there_is_a_limit() {
        let faults = Faults::default();
        faults.replace(parse(&["web:hang", "sts:hang", "sts/web:hang"])).unwrap();
        assert_eq!(faults.clear(Some("sts")), 1);
        assert_eq!(faults.in_force(), ["web:hang", "sts/web:hang"]);
        assert!(faults.add(parse(&["web:hang"; MOST])).is_err());
        assert_eq!(faults.clear(None), 2);
        assert_eq!(next(&faults), None);
    }
}
