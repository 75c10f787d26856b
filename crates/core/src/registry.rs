//! All tasks. The registry is the truth: it never evicts, and what it does not hold is not served.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::origin::{Origin, Way};
use crate::role::SessionSpec;
use crate::task::{CredentialsId, IdDigest, Registration, RoleKind, Source, Task, Token, TokenDigest, TokenRule};
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
    /// One task has at most one registration for each kind of role.
    ids: HashMap<(TaskArn, RoleKind), IdDigest>,
}

impl Tasks {
    /// Whether one more has a place.
    fn place(&self, new: &Registration) -> Result<(), RegisterError> {
        if let Some(there) = self.ids.get(&(new.arn.clone(), new.role_kind)) {
            let source = self.by_id.get(there).map_or(new.source, |task| task.registration.source);
            return Err(RegisterError::TaskTaken(new.role_kind, new.arn.clone(), source));
        }
        if self.by_id.contains_key(&new.id) {
            return Err(RegisterError::IdTaken(new.id));
        }
        Ok(())
    }

    fn insert(&mut self, task: Arc<Task>) {
        let Registration { arn, role_kind, id, .. } = &task.registration;
        self.ids.insert((arn.clone(), *role_kind), *id);
        self.by_id.insert(*id, task);
    }

    fn remove(&mut self, id: IdDigest) -> Option<Arc<Task>> {
        let task = self.by_id.remove(&id)?;
        self.ids.remove(&(task.arn().clone(), task.role_kind()));
        Some(task)
    }
}

/// A task to be registered.
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
    /// Where it may be asked from; empty: anywhere.
    pub origins: Vec<Origin>,
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
    /// Those of other sources that have ended because the configuration names the same task and role, or the same id.
    pub displaced: Vec<Arc<Task>>,
}

/// Why a task was not registered. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// One id opens one task.
    #[error("credentials id {0} (digest) is registered already: every task and role needs an id of its own")]
    IdTaken(IdDigest),
    /// One task has at most one registration for each kind of role.
    #[error("the {0} of {1} is registered already, by {how}", how = match .2 {
        Source::Configuration => "the configuration file",
        Source::Admin { .. } => "the admin socket (taskcreds task rm takes it back)",
    })]
    TaskTaken(RoleKind, TaskArn, Source),
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

/// Where a request comes from.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The other end of its connection.
    pub address: IpAddr,
    /// The end of its connection here.
    pub arrival: Arrival,
    /// What lies between.
    pub way: &'a dyn Way,
}

/// Why a request gets nothing. To whoever asks, an unknown id and a wrong source look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such id, or not any more.
    #[error("unknown credentials id")]
    Unknown,
    /// The id is known, and may not be asked for from there.
    #[error("wrong source")]
    WrongSource,
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
    pub fn register(&self, new: Registration) -> Result<Arc<Task>, RegisterError> {
        let mut tasks = self.write();
        tasks.place(&new)?;
        if tasks.by_id.len() >= self.capacity {
            return Err(RegisterError::Full(self.capacity));
        }
        let task = Arc::new(Task::begin(new));
        tasks.insert(Arc::clone(&task));
        Ok(task)
    }

    /// Makes the registrations of [`Source::Configuration`] what the configuration says now, in one step; those of other sources
    /// stay as they are, but for those that it displaces: nobody who registers tasks can keep the configuration from being taken over.
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
            let new = Registration::configured(new);
            next.place(&new)?;
            let task = match tasks.by_id.get(&new.id) {
                Some(old) if old.registration.is_same_but_for_secrets(&new) => {
                    let task = old.with_tokens(new.tokens);
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
            next.insert(task);
        }
        for other in tasks.by_id.values().filter(|task| task.registration.source != Source::Configuration) {
            match next.place(&other.registration) {
                Ok(()) => next.insert(Arc::clone(other)),
                Err(_) => outcome.displaced.push(Arc::clone(other)),
            }
        }
        let stays = |old: &Arc<Task>| next.by_id.get(&old.id()).is_some_and(|new| new.lease.id() == old.lease.id());
        for old in tasks.by_id.values().filter(|old| !stays(old)) {
            old.lease.end();
            outcome.ended += 1;
        }
        *tasks = next;
        Ok(outcome)
    }

    /// Ends a registration. Once this has returned, no request is answered with its session, not even one in flight.
    pub fn revoke(&self, id: IdDigest) -> Option<Arc<Task>> {
        let task = self.write().remove(id)?;
        task.lease.end();
        Some(task)
    }

    /// Gives a task another id and other tokens. It gets a new lease, and the old one ends: once this has returned, no request with
    /// the old id is answered with its session, not even one in flight. `None`: there is no such task, or not any more.
    ///
    /// # Errors
    /// [`RegisterError::IdTaken`]; nothing has changed then.
    pub fn rotate(
        &self,
        old: &Arc<Task>,
        id: IdDigest,
        tokens: Vec<TokenDigest>,
    ) -> Result<Option<Arc<Task>>, RegisterError> {
        let mut tasks = self.write();
        if tasks.by_id.contains_key(&id) {
            return Err(RegisterError::IdTaken(id));
        }
        if !old.lease.stands() || tasks.remove(old.id()).is_none() {
            return Ok(None);
        }
        old.lease.end();
        let new = Arc::new(Task::begin(Registration { id, tokens, ..old.registration.clone() }));
        tasks.insert(Arc::clone(&new));
        Ok(Some(new))
    }

    /// The registration of one role of a task.
    #[must_use]
    pub fn find(&self, arn: &TaskArn, role_kind: RoleKind) -> Option<Arc<Task>> {
        let tasks = self.read();
        let id = tasks.ids.get(&(arn.clone(), role_kind))?;
        tasks.by_id.get(id).cloned()
    }

    /// Finds the task that a request may have: the id is known and the token, where one is demanded or sent, is right.
    ///
    /// An empty token counts as none (Envoy sends one). An unknown id costs a digest and a look-up; nothing of it is kept.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn authenticate(&self, id: &str, token: &[u8], asker: Asker<'_>) -> Result<Arc<Task>, Refusal> {
        let digest = IdDigest::of(id);
        let task = self.with_id(digest).ok_or(Refusal::Unknown)?;
        let Registration { token_rule, tokens, origins, .. } = &task.registration;
        if !origins.is_empty() && !Origin::admit(origins, asker.address, asker.way) {
            return Err(Refusal::WrongSource);
        }
        let always = *token_rule == TokenRule::Always;
        if tokens.is_empty() && !always {
            return Ok(task);
        }
        let demanded = always || asker.arrival == Arrival::Elsewhere;
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

    /// The registration with this id.
    #[must_use]
    pub fn with_id(&self, id: IdDigest) -> Option<Arc<Task>> {
        self.read().by_id.get(&id).cloned()
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
        registry.register(Registration::configured(new)).unwrap();
        (registry, id)
    }

    struct Untold;

    impl Way for Untold {
        fn is_by(&self, _: &str) -> bool {
            false
        }

        fn is_from(&self, _: &std::path::Path) -> bool {
            false
        }
    }

    fn from(arrival: Arrival) -> Asker<'static> {
        Asker { address: IpAddr::from([10, 0, 0, 1]), arrival, way: &Untold }
    }

    fn outcome(registry: &Registry, id: &str, token: &str, arrival: Arrival) -> Option<Refusal> {
        registry.authenticate(id, token.as_bytes(), from(arrival)).err()
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
    fn a_task_is_answered_to_its_sources_only_whatever_id_and_token_are_sent() {
        let origins = |texts: &[&str]| texts.iter().map(|text| Origin::new(text).unwrap()).collect::<Vec<_>>();
        for (allowed, refusal) in [
            (origins(&["10.0.0.0/8"]), None),
            (origins(&["192.168.0.0/16", "10.0.0.1"]), None),
            (origins(&["10.0.0.2"]), Some(Refusal::WrongSource)),
            (origins(&["10.0.0.0/8", "interface:docker0"]), Some(Refusal::WrongSource)),
            (origins(&["::/0"]), Some(Refusal::WrongSource)),
        ] {
            let (registry, id) = registered(|new| {
                new.origins = allowed.clone();
                new.tokens = vec![Token::new("right").unwrap()];
            });
            assert_eq!(outcome(&registry, &id, "right", Arrival::Elsewhere), refusal, "{allowed:?}");
        }
    }

    #[test]
    fn a_revoked_id_is_unknown_and_its_lease_has_ended() {
        let (registry, id) = registered(|_| {});
        let task = registry.revoke(IdDigest::of(&id)).unwrap();
        assert!(!task.lease().stands());
        assert_eq!(outcome(&registry, &id, "", Arrival::Elsewhere), Some(Refusal::Unknown));
        assert!(registry.revoke(IdDigest::of(&id)).is_none());
        registry.register(Registration::configured(new_task("web"))).unwrap();
    }

    #[test]
    fn reconciling_keeps_the_lease_of_what_has_not_changed_and_ends_what_has_gone() {
        let registry = Registry::new(4);
        let (kept, changed, gone, new) = (new_task("kept"), new_task("changed"), new_task("gone"), new_task("new"));
        let before = registry.reconcile(vec![kept.clone(), changed.clone(), gone]).unwrap().added;
        let lease = |tasks: &[Arc<Task>], name: &str| {
            tasks.iter().find(|t| t.spec().role_arn.name() == name).unwrap().lease.clone()
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
            |token: &str| registry.authenticate(task.id.expose(), token.as_bytes(), from(Arrival::Elsewhere)).is_ok();
        assert!(accepts("one") && accepts("two"));
        registry.reconcile(vec![with("two", &task)]).unwrap();
        assert!(accepts("one"), "a reload without a change forgets no token");
        registry.reconcile(vec![with("three", &task)]).unwrap();
        assert!(!accepts("one") && accepts("two") && accepts("three"));
        registry.reconcile(vec![task.clone()]).unwrap();
        assert!(accepts("whatever"), "a task without a token ignores one");
    }

    #[test]
    fn a_previous_token_that_the_configuration_no_longer_names_is_taken_back() {
        let (registry, task) = (Registry::new(2), new_task("web"));
        let with = |tokens: &[&str]| {
            let tokens = tokens.iter().map(|token| Token::new(*token).unwrap()).collect();
            registry.reconcile(vec![NewTask { tokens, ..task.clone() }]).unwrap()
        };
        let accepts =
            |token: &str| registry.authenticate(task.id.expose(), token.as_bytes(), from(Arrival::Elsewhere)).is_ok();
        with(&["now", "leaked"]);
        assert_eq!((with(&["now", "leaked"]).new_tokens, accepts("leaked")), (0, true));
        assert_eq!((with(&["now"]).new_tokens, accepts("now"), accepts("leaked")), (1, true, false));
        // Nor one that was remembered first and named then.
        with(&["next"]);
        with(&["next", "now"]);
        with(&["next"]);
        assert_eq!((accepts("next"), accepts("now")), (true, false));
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
        let register = |new: &NewTask| registry.register(Registration::configured(new.clone()));
        let web = new_task("web");
        register(&web).unwrap();
        let same_id = NewTask { id: web.id.clone(), ..new_task("db") };
        assert!(matches!(register(&same_id), Err(RegisterError::IdTaken(_))));
        let same_task = NewTask { id: CredentialsId::random(), ..web.clone() };
        assert!(matches!(register(&same_task), Err(RegisterError::TaskTaken(..))));
        register(&NewTask { id: CredentialsId::random(), role_kind: RoleKind::Execution, ..web }).unwrap();
        assert_eq!(register(&new_task("db")).err(), Some(RegisterError::Full(2)));
        assert_eq!(registry.tasks().len(), 2);
    }

    #[test]
    fn a_reload_leaves_the_tasks_of_the_admin_socket_alone() {
        let registry = Registry::new(3);
        let admin = |name: &str| Registration::of(new_task(name), Source::Admin { uid: 7 });
        let kept = registry.register(admin("socket")).unwrap();
        registry.reconcile(vec![new_task("file")]).unwrap();
        registry.reconcile(vec![]).unwrap();
        assert!(kept.lease.stands() && registry.tasks().len() == 1);
        assert_eq!(registry.find(kept.arn(), RoleKind::Task).unwrap().id(), kept.id());
        assert!(registry.find(kept.arn(), RoleKind::Execution).is_none());
        // The socket's tasks take no room from the file's.
        registry.reconcile(["a", "b", "c"].map(new_task).to_vec()).unwrap();
        assert!(kept.lease.stands() && registry.tasks().len() == 4);

        let same_task = registry.reconcile(vec![new_task("socket")]).unwrap();
        assert_eq!((same_task.displaced.len(), same_task.ended), (1, 4));
        assert!(!kept.lease.stands() && registry.tasks().len() == 1);
        let other = new_task("other");
        let other =
            registry.register(Registration::of(other.clone(), Source::Admin { uid: 7 })).map(|task| (task, other));
        let (task, other) = other.unwrap();
        let same_id = NewTask { id: other.id, ..new_task("of-the-file") };
        assert_eq!(registry.reconcile(vec![same_id]).unwrap().displaced.len(), 1);
        assert!(!task.lease.stands());
    }

    #[test]
    fn a_rotated_task_is_opened_by_its_new_id_and_token_alone() {
        let (registry, id) = registered(|new| new.tokens = vec![Token::new("one").unwrap()]);
        let old = registry.tasks().remove(0);
        let (next, token) = (CredentialsId::random(), Token::new("two").unwrap());
        let new = registry.rotate(&old, next.digest(), vec![token.digest()]).unwrap().unwrap();
        assert!(!old.lease.stands() && new.lease.stands());
        assert_eq!(outcome(&registry, &id, "one", Arrival::Elsewhere), Some(Refusal::Unknown));
        assert_eq!(outcome(&registry, next.expose(), "two", Arrival::Elsewhere), None);
        assert_eq!(outcome(&registry, next.expose(), "one", Arrival::Elsewhere), Some(Refusal::TokenWrong));
        assert!(registry.rotate(&old, CredentialsId::random().digest(), vec![]).unwrap().is_none(), "it has ended");
        assert!(matches!(registry.rotate(&new, next.digest(), vec![]), Err(RegisterError::IdTaken(_))));
        assert_eq!(registry.tasks().len(), 1);
    }
}
