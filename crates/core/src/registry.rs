//! All tasks. The registry is the truth: it never evicts, and what it does not hold is not served.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::role::SessionSpec;
use crate::task::{CredentialsId, IdDigest, RoleKind, Task, Token, TokenRule};
use crate::task_arn::TaskArn;

/// The registered tasks, by the digest of their credentials id.
#[derive(Debug)]
pub struct Registry {
    tasks: RwLock<Tasks>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Tasks {
    by_id: HashMap<IdDigest, Arc<Task>>,
    /// Which of them there are; one task has at most one registration for each kind of role.
    kinds: HashSet<(TaskArn, RoleKind)>,
}

/// What a task is registered with.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// The task's ARN.
    pub arn: TaskArn,
    /// Which of the task's roles this is.
    pub role_kind: RoleKind,
    /// What is asked of STS.
    pub spec: SessionSpec,
    /// The credentials id that opens it.
    pub id: CredentialsId,
    /// The tokens that are accepted: the present one and, while its readers live, the previous one. None: no token is asked for.
    pub tokens: Vec<Token>,
    /// Where the token is demanded.
    pub token_rule: TokenRule,
}

/// What [`Registry::reconcile`] has changed.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// New registrations, those that replace a changed one included.
    pub added: Vec<Arc<Task>>,
    /// How many are as they were, their tokens apart.
    pub kept: usize,
    /// How many of these have another token; the one before it stays valid.
    pub new_tokens: usize,
    /// How many have ended, those that were replaced included.
    pub ended: usize,
}

/// Why a task was not registered. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// One id opens one task.
    #[error("credentials id {0} (digest) is registered already: every task and role needs an id of its own")]
    IdTaken(IdDigest),
    /// One task has at most one registration for each kind of role.
    #[error("{0} of {1} is registered already")]
    TaskTaken(RoleKind, TaskArn),
    /// The registry is full.
    #[error("{0} registrations exist already, which is the most this proxy holds")]
    Full(usize),
}

/// Where a request arrived, which decides whether a token is demanded. Told from the connection's destination address, never
/// from the Host header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A link-local address of the credentials endpoint, 169.254.170.2: `RELATIVE_URI`.
    LinkLocal,
    /// Any other address: `FULL_URI`.
    Elsewhere,
}

/// Why a request gets nothing. To whoever asks, every `Unknown` looks the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such id, or not any more.
    #[error("unknown credentials id")]
    Unknown,
    /// The task demands a token and none came.
    #[error("no token")]
    TokenMissing,
    /// A token came and it is not the task's.
    #[error("wrong token")]
    TokenWrong,
}

impl Registry {
    /// An empty registry for at most `capacity` registrations.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { tasks: RwLock::default(), capacity }
    }

    /// Registers one task role or execution role.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing has changed then.
    pub fn register(&self, new: NewTask) -> Result<Arc<Task>, RegisterError> {
        let (id, arn, role_kind) = (new.id.digest(), new.arn.clone(), new.role_kind);
        let mut tasks = self.write();
        if tasks.by_id.contains_key(&id) {
            return Err(RegisterError::IdTaken(id));
        }
        if tasks.kinds.contains(&(arn.clone(), role_kind)) {
            return Err(RegisterError::TaskTaken(role_kind, arn));
        }
        if tasks.by_id.len() >= self.capacity {
            return Err(RegisterError::Full(self.capacity));
        }
        tasks.kinds.insert((arn, role_kind));
        let task = Arc::new(Task::begin(new));
        tasks.by_id.insert(id, Arc::clone(&task));
        Ok(task)
    }

    /// Makes the registrations of one source what its configuration says now, in one step.
    ///
    /// A task whose spec, id and token rule are what they were keeps its lease and so its session: it costs no STS call. Its
    /// previous token stays valid beside a new one, for the readers that have read it once. What has changed otherwise gets a new
    /// lease, what is not there any more is revoked.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing has changed then.
    pub fn reconcile(&self, wanted: Vec<NewTask>) -> Result<Reconciled, RegisterError> {
        if wanted.len() > self.capacity {
            return Err(RegisterError::Full(self.capacity));
        }
        let mut next = Tasks::default();
        let mut outcome = Reconciled::default();
        let mut tasks = self.write();
        for new in wanted {
            let id = new.id.digest();
            if next.by_id.contains_key(&id) {
                return Err(RegisterError::IdTaken(id));
            }
            if !next.kinds.insert((new.arn.clone(), new.role_kind)) {
                return Err(RegisterError::TaskTaken(new.role_kind, new.arn));
            }
            let task = match tasks.by_id.get(&id) {
                Some(old) if old.is_same_but_for_tokens(&new) => {
                    let task = old.with_tokens(&new.tokens);
                    outcome.kept += 1;
                    outcome.new_tokens += usize::from(!Arc::ptr_eq(&task, old));
                    task
                }
                _ => {
                    let task = Arc::new(Task::begin(new));
                    outcome.added.push(Arc::clone(&task));
                    task
                }
            };
            next.by_id.insert(id, task);
        }
        let stays = |old: &Arc<Task>| next.by_id.get(&old.id).is_some_and(|new| new.lease.id() == old.lease.id());
        for old in tasks.by_id.values().filter(|old| !stays(old)) {
            old.lease.end();
            outcome.ended += 1;
        }
        *tasks = next;
        Ok(outcome)
    }

    /// Ends a registration. Once this has returned, no request is answered with its session, not even one in flight.
    pub fn revoke(&self, id: IdDigest) -> Option<Arc<Task>> {
        let mut tasks = self.write();
        let task = tasks.by_id.remove(&id)?;
        tasks.kinds.remove(&(task.arn.clone(), task.role_kind));
        task.lease.end();
        Some(task)
    }

    /// Finds the task that a request may have: the id is known and the token, where one is demanded or sent, is right.
    ///
    /// An empty token counts as none (Envoy sends one). An unknown id costs a digest and a look-up; nothing of it is kept.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn authenticate(&self, id: &str, token: &[u8], arrival: Arrival) -> Result<Arc<Task>, Refusal> {
        let digest = IdDigest::of(id);
        let task = self.read().by_id.get(&digest).map(Arc::clone).ok_or(Refusal::Unknown)?;
        let always = task.token_rule == TokenRule::Always;
        if task.tokens.is_empty() && !always {
            return Ok(task);
        }
        let demanded = always || arrival == Arrival::Elsewhere;
        match token {
            [] if demanded => Err(Refusal::TokenMissing),
            [] => Ok(task),
            token if task.accepts(token) => Ok(task),
            _ => Err(Refusal::TokenWrong),
        }
    }

    /// All registrations, in no order.
    #[must_use]
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Whether this id opens a task.
    #[must_use]
    pub fn knows(&self, id: IdDigest) -> bool {
        self.read().by_id.contains_key(&id)
    }

    // Nothing under the lock panics between the two changes of one registration.
    fn read(&self) -> RwLockReadGuard<'_, Tasks> {
        self.tasks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tasks> {
        self.tasks.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::new_task;

    fn registered(change: impl FnOnce(&mut NewTask)) -> (Registry, String) {
        let registry = Registry::new(4);
        let mut new = new_task("web");
        change(&mut new);
        let id = new.id.expose().to_owned();
        registry.register(new).unwrap();
        (registry, id)
    }

    fn outcome(registry: &Registry, id: &str, token: &str, arrival: Arrival) -> Option<Refusal> {
        registry.authenticate(id, token.as_bytes(), arrival).err()
    }

    #[test]
    fn a_token_is_demanded_on_loopback_and_only_checked_on_link_local() {
        use Arrival::{Elsewhere, LinkLocal};
        let (registry, id) = registered(|new| new.tokens = vec![Token::new("right").unwrap()]);
        assert_eq!(outcome(&registry, &id, "right", Elsewhere), None);
        assert_eq!(outcome(&registry, &id, "", Elsewhere), Some(Refusal::TokenMissing));
        assert_eq!(outcome(&registry, &id, "wrong", Elsewhere), Some(Refusal::TokenWrong));
        assert_eq!(outcome(&registry, &id, "", LinkLocal), None);
        assert_eq!(outcome(&registry, &id, "wrong", LinkLocal), Some(Refusal::TokenWrong));
    }

    #[test]
    fn token_required_always_demands_it_on_link_local_too() {
        let (registry, id) = registered(|new| {
            new.tokens = vec![Token::new("right").unwrap()];
            new.token_rule = TokenRule::Always;
        });
        assert_eq!(outcome(&registry, &id, "", Arrival::LinkLocal), Some(Refusal::TokenMissing));
    }

    #[test]
    fn a_task_that_always_demands_a_token_and_has_none_is_open_to_nobody() {
        let (registry, id) = registered(|new| new.token_rule = TokenRule::Always);
        assert_eq!(outcome(&registry, &id, "", Arrival::Elsewhere), Some(Refusal::TokenMissing));
        assert_eq!(outcome(&registry, &id, "any", Arrival::Elsewhere), Some(Refusal::TokenWrong));
    }

    #[test]
    fn the_previous_token_is_accepted_beside_the_present_one() {
        let (registry, id) = registered(|new| new.tokens = ["now", "before"].map(|t| Token::new(t).unwrap()).into());
        for (token, refusal) in [("now", None), ("before", None), ("never", Some(Refusal::TokenWrong))] {
            assert_eq!(outcome(&registry, &id, token, Arrival::Elsewhere), refusal, "{token}");
        }
    }

    #[test]
    fn a_task_without_a_token_ignores_one_that_is_sent() {
        let (registry, id) = registered(|_| {});
        assert_eq!(outcome(&registry, &id, "whatever", Arrival::Elsewhere), None);
    }

    #[test]
    fn a_revoked_id_is_unknown_and_its_lease_has_ended() {
        let (registry, id) = registered(|_| {});
        let task = registry.revoke(IdDigest::of(&id)).unwrap();
        assert!(!task.lease().stands());
        assert_eq!(outcome(&registry, &id, "", Arrival::Elsewhere), Some(Refusal::Unknown));
        assert!(registry.revoke(IdDigest::of(&id)).is_none());
        registry.register(new_task("web")).unwrap();
    }

    #[test]
    fn reconciling_keeps_the_lease_of_what_has_not_changed_and_ends_what_has_gone() {
        let registry = Registry::new(4);
        let (kept, changed, gone, new) = (new_task("kept"), new_task("changed"), new_task("gone"), new_task("new"));
        let before = registry.reconcile(vec![kept.clone(), changed.clone(), gone]).unwrap().added;
        let lease = |tasks: &[Arc<Task>], name: &str| {
            tasks.iter().find(|t| t.spec.role_arn.name() == name).unwrap().lease.clone()
        };
        let mut again = changed;
        again.spec.duration = crate::SessionDuration::new(7200).unwrap();
        let outcome = registry.reconcile(vec![kept, again, new]).unwrap();
        assert_eq!((outcome.added.len(), outcome.kept, outcome.ended), (2, 1, 2));
        let after = registry.tasks();
        assert_eq!(lease(&before, "kept").id(), lease(&after, "kept").id());
        assert!(lease(&before, "kept").stands());
        assert!(!lease(&before, "changed").stands() && !lease(&before, "gone").stands());
        assert_eq!(after.len(), 3);
    }

    #[test]
    fn reconciling_with_a_new_token_keeps_the_lease_and_accepts_the_previous_one() {
        let registry = Registry::new(4);
        let with = |token: &str, task: &NewTask| NewTask { tokens: vec![Token::new(token).unwrap()], ..task.clone() };
        let task = new_task("web");
        registry.reconcile(vec![with("one", &task)]).unwrap();
        let outcome = registry.reconcile(vec![with("two", &task)]).unwrap();
        assert_eq!((outcome.added.len(), outcome.kept, outcome.ended, outcome.new_tokens), (0, 1, 0, 1));
        let accepts =
            |token: &str| registry.authenticate(task.id.expose(), token.as_bytes(), Arrival::Elsewhere).is_ok();
        assert!(accepts("one") && accepts("two"));
        registry.reconcile(vec![with("two", &task)]).unwrap();
        assert!(accepts("one"), "a reload without a change forgets no token");
        registry.reconcile(vec![with("three", &task)]).unwrap();
        assert!(!accepts("one") && accepts("two") && accepts("three"));
        registry.reconcile(vec![task.clone()]).unwrap();
        assert!(accepts("whatever"), "a task without a token ignores one");
    }

    #[test]
    fn a_reconciliation_that_fails_changes_nothing() {
        let registry = Registry::new(2);
        let task = new_task("web");
        registry.reconcile(vec![task.clone()]).unwrap();
        let twice = NewTask { role_kind: RoleKind::Execution, ..task.clone() };
        assert!(matches!(registry.reconcile(vec![task.clone(), twice]), Err(RegisterError::IdTaken(_))));
        assert!(matches!(registry.reconcile(vec![task.clone(); 3]), Err(RegisterError::Full(2))));
        let tasks = registry.tasks();
        assert!(tasks.len() == 1 && tasks[0].lease.stands());
    }

    #[test]
    fn one_id_opens_one_task_and_one_task_has_one_registration_a_kind() {
        let registry = Registry::new(2);
        let web = new_task("web");
        registry.register(web.clone()).unwrap();
        let same_id = NewTask { id: web.id.clone(), ..new_task("db") };
        assert!(matches!(registry.register(same_id), Err(RegisterError::IdTaken(_))));
        let same_task = NewTask { id: CredentialsId::random(), ..web.clone() };
        assert!(matches!(registry.register(same_task), Err(RegisterError::TaskTaken(..))));
        registry.register(NewTask { id: CredentialsId::random(), role_kind: RoleKind::Execution, ..web }).unwrap();
        assert_eq!(registry.register(new_task("db")).err(), Some(RegisterError::Full(2)));
        assert_eq!(registry.tasks().len(), 2);
    }
}
