//! For test suites: faults that are asked for, sessions that are rotated and ended, and a journal of what was asked.
//!
//! None of it stands between a request and its answer unless somebody has asked for it: without `--control`, `--fault` and `faults` in the
//! file there is no [`Testbed`], and the credentials endpoint answers by itself. A fault opens nothing: the id and the token are checked
//! first, and what is served is a session of the core or a part of one.

pub mod fault;
pub mod faults;
pub mod journal;
mod spoil;
pub(crate) mod watched;

use std::collections::BTreeSet;
use std::sync::Arc;

use taskcreds_core::{Registry, Session, SessionCache, SessionError, Task};
use taskcreds_sts_emulator::{Call, Emulator, Roles};

pub use fault::{Fault, InvalidFault};
pub use faults::{FaultView, Faults};
pub use journal::{Entry, Filter, Journal};

use fault::{Target, is_called, name_of};

/// What the log says of a fault.
const ON_PURPOSE: &str = "answers are made to fail on purpose";

/// What there is, in words.
fn are(there: &[String]) -> String {
    match there {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        all => format!("are {}", all.join(", ")),
    }
}

/// What a test suite looks at and turns.
pub struct Testbed {
    /// The faults.
    pub faults: Faults,
    /// What was asked and answered.
    pub journal: Arc<Journal>,
    registry: Arc<Registry>,
    sessions: Arc<SessionCache>,
    emulator: Option<Emulator>,
    may_fail: bool,
}

/// Why the testbed does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such task.
    #[error("no task is called {asked}: there {}", are(.there))]
    NoSuchTask {
        /// What was asked for.
        asked: String,
        /// What there is.
        there: Vec<String>,
    },
    /// There is no such role, or none that is known of.
    #[error("no role is called {asked}: there {}{}", are(.there), if *.may_come {
        ", and whichever the application assumes, as none are listed (--emulated-roles)"
    } else { "" })]
    NoSuchRole {
        /// What was asked for.
        asked: String,
        /// What there is.
        there: Vec<String>,
        /// Whether the embedded STS takes every role, so that this one may be asked for yet.
        may_come: bool,
    },
    /// No entry of the journal has such an action.
    #[error("no action is called {asked}: there are {}", .there.join(", "))]
    NoSuchAction {
        /// What was asked for.
        asked: String,
        /// What there is.
        there: Vec<&'static str>,
    },
    /// Sessions come from another STS than the embedded one and nobody has allowed it.
    #[error(
        "sessions do not come from the STS that dev and exec --emulate start themselves: elsewhere nothing is made to fail unless the \
         proxy is started with --allow-faults"
    )]
    NotAllowed,
    /// It needs the embedded STS.
    #[error("{0} needs the embedded STS: dev without --aws, or exec --emulate")]
    NoEmulator(&'static str),
    /// There are too many faults.
    #[error("{0}")]
    TooMany(#[from] faults::TooMany),
    /// No new session has come.
    #[error("no new session: {0}")]
    NoSession(#[from] SessionError),
}

impl Testbed {
    /// One for this registry and these sessions. Where there is an embedded STS, it is looked at and turned too. `allowed`: faults are
    /// allowed although sessions come from real STS.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        sessions: Arc<SessionCache>,
        emulator: Option<Emulator>,
        allowed: bool,
    ) -> Arc<Self> {
        let (faults, journal, may_fail) = (Faults::default(), Arc::default(), allowed || emulator.is_some());
        let testbed = Arc::new(Self { faults, journal, registry, sessions, emulator, may_fail });
        if let Some(emulator) = &testbed.emulator {
            // Not with an `Arc` of its own: the testbed holds the emulator.
            let [asked, met, told] = [(); 3].map(|()| Arc::downgrade(&testbed));
            emulator.set_faults(
                move |role_arn| Some(asked.upgrade()?.faults.next_of_role(role_arn)?.at_sts()),
                move |fault| met.upgrade().is_some_and(|testbed| testbed.faults.is_met(&fault.told)),
            );
            emulator.on_call(move |call| {
                if let Some(testbed) = told.upgrade() {
                    testbed.called(call);
                }
            });
        }
        testbed
    }

    /// Adds faults behind those that are set, or sets them in place of those.
    ///
    /// # Errors
    /// They are not allowed here, or name what there is not. Nothing has changed then.
    pub fn set(&self, faults: Vec<Fault>, in_place: bool) -> Result<(), Refusal> {
        self.check(&faults)?;
        self.know_roles(&faults)?;
        // A test suite knows what it does; where there is real STS, its operator is to see it.
        self.put(faults, in_place, self.emulator.is_none())
    }

    /// Sets the faults to begin with, and warns of them.
    ///
    /// # Errors
    /// The same.
    pub fn begin_with(&self, faults: Vec<Fault>) -> Result<(), Refusal> {
        self.check(&faults)?;
        self.know_roles(&faults)?;
        self.put(faults, true, true)
    }

    /// Whether faults are allowed here, and for what there is.
    fn check(&self, faults: &[Fault]) -> Result<(), Refusal> {
        if !self.may_fail && !faults.is_empty() {
            return Err(Refusal::NotAllowed);
        }
        if self.emulator.is_none() && Faults::has_sts(faults) {
            return Err(Refusal::NoEmulator("a fault of sts"));
        }
        for fault in faults {
            if let Target::Task(Some(name)) = &fault.target {
                self.called_by(name)?;
            }
            if self.emulator.is_none() && fault.wrong == Some(fault::Wrong::Expire) {
                return Err(Refusal::NoEmulator("expire"));
            }
        }
        Ok(())
    }

    fn put(&self, faults: Vec<Fault>, in_place: bool, is_warned_of: bool) -> Result<(), Refusal> {
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        if in_place {
            self.faults.replace(faults)?
        } else {
            self.faults.add(faults)?
        }
        for fault in told {
            if is_warned_of {
                tracing::warn!("{ON_PURPOSE}: {fault}");
            } else {
                tracing::info!("{ON_PURPOSE}: {fault}");
            }
        }
        Ok(())
    }

    /// The tasks that go by a name.
    ///
    /// # Errors
    /// There is none.
    pub fn called_by(&self, name: &str) -> Result<Vec<Arc<Task>>, Refusal> {
        let tasks = self.registry.tasks();
        let found: Vec<_> = tasks.iter().filter(|task| name == "*" || is_called(task, name)).cloned().collect();
        if found.is_empty() {
            let mut there: Vec<_> = tasks.iter().map(|task| name_of(task).to_owned()).collect();
            there.sort();
            return Err(Refusal::NoSuchTask { asked: name.to_owned(), there });
        }
        Ok(found)
    }

    fn know_roles(&self, faults: &[Fault]) -> Result<(), Refusal> {
        let roles = faults.iter().filter_map(|fault| match &fault.target {
            Target::Sts(role) => role.as_deref(),
            Target::Task(_) => None,
        });
        roles.into_iter().try_for_each(|role| match self.know_role(role) {
            Err(refusal @ Refusal::NoSuchRole { may_come: true, .. }) => {
                tracing::warn!("{ON_PURPOSE} of a role that no task has: {refusal}");
                Ok(())
            }
            known => known,
        })
    }

    /// Whether a role is known by this name: of a task, of the embedded STS's list, or in the journal.
    ///
    /// # Errors
    /// It is not.
    pub fn know_role(&self, name: &str) -> Result<(), Refusal> {
        let mut there: BTreeSet<_> =
            self.registry.tasks().iter().map(|task| task.spec().role_arn.name().to_owned()).collect();
        if let Some(Roles::Listed(roles)) = self.emulator.as_ref().map(Emulator::roles) {
            there.extend(roles.iter().filter_map(|role| role.arn.rsplit('/').next()).map(str::to_owned));
        }
        let asked = Filter { role: Some(name.to_owned()), ..Filter::default() };
        if there.contains(name) || !self.journal.entries(&asked).is_empty() {
            return Ok(());
        }
        let may_come = self.emulator.as_ref().is_some_and(|emulator| *emulator.roles() == Roles::Any);
        Err(Refusal::NoSuchRole { asked: name.to_owned(), there: there.into_iter().collect(), may_come })
    }

    /// Whether a filter names a task, a role and an action that there are: else nothing fits it, or not yet.
    ///
    /// # Errors
    /// What there is not.
    pub fn know_names(&self, filter: &Filter) -> Result<(), Refusal> {
        filter.know_action()?;
        if let Some(task) = &filter.task {
            self.called_by(task)?;
        }
        filter.role.as_deref().map_or(Ok(()), |role| self.know_role(role))
    }

    /// Has a new session of a task loaded and waits for it. The one before stays good until it ends.
    ///
    /// # Errors
    /// There is no new one.
    pub async fn rotate(&self, task: &Arc<Task>) -> Result<Arc<Session>, Refusal> {
        Ok(self.sessions.renew(task).await?)
    }

    /// The same, and ends every session of the task that was there before: whoever still calls with one is told `ExpiredToken`. In this
    /// order, so that nothing that has ended is ever served.
    ///
    /// # Errors
    /// There is no new one, or no embedded STS.
    pub async fn expire(&self, task: &Arc<Task>) -> Result<Arc<Session>, Refusal> {
        let emulator = self.emulator.as_ref().ok_or(Refusal::NoEmulator("expire"))?;
        let session = self.rotate(task).await?;
        let ended = emulator.expire(session.assumed_role_arn(), Some(session.access_key_id()));
        tracing::debug!(ended, assumed_role_arn = session.assumed_role_arn(), "sessions ended on purpose");
        Ok(session)
    }

    /// All tasks, with the session that each has now.
    #[must_use]
    pub fn tasks(&self) -> Vec<(Arc<Task>, Option<Arc<Session>>)> {
        let served = self.sessions.kept();
        let session = |task: &Arc<Task>| {
            served.iter().find(|(of, _)| Arc::ptr_eq(of, task)).map(|(_, kept)| Arc::clone(&kept.session))
        };
        self.registry.tasks().into_iter().map(|task| (Arc::clone(&task), session(&task))).collect()
    }

    /// Ends a session that was just answered, so that it is worth nothing to who has it.
    fn end(&self, task: &Arc<Task>, session: &Session) {
        if let Some(emulator) = &self.emulator {
            let _ = emulator.expire(session.assumed_role_arn(), None);
            // Nobody else is to get it, however long the next one takes.
            self.sessions.forget(task);
            self.sessions.prefetch(task);
        }
    }

    /// An entry of what is known of a task.
    fn entry_of(task: Option<&Task>) -> Entry {
        Entry {
            task: task.map(|task| name_of(task).to_owned()),
            role: task.map(|task| task.spec().role_arn.name().to_owned()),
            task_arn: task.map(|task| task.arn().as_str().to_owned()),
            ..Entry::default()
        }
    }

    /// Notes a call to the embedded STS, with the task that it is for or that makes it.
    fn called(&self, call: &Call) {
        let tasks = self.registry.tasks();
        let is_of = |task: &&Arc<Task>| {
            let (role, session) = (&task.spec().role_arn, &task.spec().session_name);
            let is_for = call.role_arn.as_deref() == Some(role.as_str())
                && call.role_session_name.as_deref() == Some(session.as_str());
            let own = format!(":assumed-role/{}/{}", role.name(), session.as_str());
            is_for || call.caller_arn.as_deref().is_some_and(|caller| caller.ends_with(&own))
        };
        let entry = Self::entry_of(tasks.iter().find(is_of).map(|task| &**task));
        // Of a call that hands no session out, the one that it was made with.
        let is_identity = call.action.as_deref() == Some("GetCallerIdentity");
        let called_with = call.caller_access_key_id.as_ref().filter(|_| is_identity);
        let asked = call.role_arn.as_deref().and_then(|arn| arn.rsplit('/').next()).map(str::to_owned);
        self.journal.push(Entry {
            place: "sts".to_owned(),
            action: call.action.clone(),
            role: asked.or(entry.role),
            status: call.status,
            code: (call.outcome != "Success").then(|| call.outcome.to_string()),
            access_key_id: call.issued_access_key_id.as_ref().or(called_with).cloned(),
            fault: call.fault.clone(),
            ..entry
        });
    }
}
