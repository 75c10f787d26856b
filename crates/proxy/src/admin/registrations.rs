//! What the admin socket changes: registry and store together, one change at a time.
//!
//! Once a call has returned, its change is on disk and in force. Calls block on the disk, so they belong on a thread that may.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use taskcreds_core::{
    CredentialsId, IdDigest, NewTask, RegisterError, Registration, Registry, RoleKind, SessionCache, Source, Task,
    TaskArn, Token,
};

use super::error::AdminError;
use super::peer::Peer;
use super::store::{Store, StoreError};
use crate::config::request::Request;

const KINDS: [RoleKind; 2] = [RoleKind::Task, RoleKind::Execution];

/// The registrations that are made over the admin socket.
pub struct Registrations {
    registry: Arc<Registry>,
    sessions: Arc<SessionCache>,
    store: Store,
    /// Locked for the whole of each change.
    changes: Mutex<Changes>,
    /// See [`Registrations::hand_over_by`].
    hand_over: OnceLock<Box<HandOver>>,
}

/// What has the next process find the sessions as they are now. Blocks.
pub type HandOver = dyn Fn() -> io::Result<()> + Send + Sync;

/// What is known beside registry and store, for as long as the process runs.
#[derive(Default)]
struct Changes {
    /// What opens each registration, to answer one that is asked for again. Not kept on disk.
    told: HashMap<IdDigest, Told>,
    /// What the store holds and is not in force: there was no room for it at the start, or its user's rule does not allow it any more.
    dormant: Vec<Registration>,
    /// Whether the store may hold something else than the registry and `dormant`: it has failed, or the file has displaced something.
    is_unsure: bool,
}

/// What opens a registration: told to whoever registers it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The credentials id.
    pub id: CredentialsId,
    /// The token, where it has one.
    pub token: Option<Token>,
}

/// One role of a task after a change.
pub struct Changed {
    /// The registration.
    pub task: Arc<Task>,
    /// What opens it.
    pub told: Told,
    /// Whether it is new.
    pub is_new: bool,
}

impl Registrations {
    /// Takes over what the store holds, as far as the rules of today allow it. What the configuration file registers too is given up to the
    /// file.
    #[must_use]
    pub fn restore(
        registry: Arc<Registry>,
        sessions: Arc<SessionCache>,
        store: Store,
        kept: Vec<Registration>,
        peer: impl Fn(u32) -> Result<Peer, AdminError>,
    ) -> Self {
        let mut changes = Changes::default();
        for registration in kept {
            let Source::Admin { uid } = registration.source else { continue };
            let (id, arn) = (registration.id, registration.arn.clone());
            let allowed = peer(uid).and_then(|peer| peer.may_register(&registration.spec.role_arn, &arn));
            let outcome = allowed.and_then(|()| Ok(registry.register(registration.clone()).map(drop)?));
            let Err(error) = outcome else { continue };
            tracing::warn!(%id, task_arn = %arn, uid, "a registration of the admin socket is not in force: {error}");
            match error {
                AdminError::Register(RegisterError::TaskTaken(..) | RegisterError::IdTaken(_)) => {
                    changes.is_unsure = true
                }
                _ => changes.dormant.push(registration),
            }
        }
        let hand_over = OnceLock::new();
        let registrations = Self { registry, sessions, store, changes: Mutex::new(changes), hand_over };
        registrations.settle();
        registrations
    }

    /// From now on this is done before a revocation and a refresh are answered: else the next process could go on with the session that
    /// a client was told is over. The first call counts.
    pub fn hand_over_by(&self, hand_over: impl Fn() -> io::Result<()> + Send + Sync + 'static) {
        let _ = self.hand_over.set(Box::new(hand_over));
    }

    /// Registers the roles of one task, all of them or none. One that is registered already with the same settings stands as it is.
    ///
    /// # Errors
    /// [`AdminError`]; nothing has changed then.
    pub fn register(&self, peer: &Peer, request: Request) -> Result<Vec<Changed>, AdminError> {
        let Request { tasks, made_ids, token_is_made, warnings: _ } = request;
        for task in &tasks {
            peer.may_register(&task.spec.role_arn, &task.arn)?;
        }
        let mut changes = self.changes();
        let (mut standing, mut new) = (Vec::new(), Vec::new());
        for task in tasks {
            match self.registry.find(&task.arn, task.role_kind) {
                Some(there) => {
                    let id_is_made = made_ids.contains(&task.role_kind);
                    let told = self.told_again(&changes, peer, &there, task, id_is_made, token_is_made)?;
                    standing.push(Changed { task: there, told, is_new: false });
                }
                None => new.push(task),
            }
        }
        self.has_room_for(peer, new.len())?;
        // Both roles of one task have one token.
        if token_is_made && let Some(token) = standing.iter().find_map(|one| one.told.token.clone()) {
            new.iter_mut().for_each(|task| task.tokens = vec![token.clone()]);
        }
        let added = self.add(peer, new, &mut changes)?;
        for one in &added {
            changes.told.insert(one.task.id(), one.told.clone());
            self.sessions.prefetch(&one.task);
        }
        standing.extend(added);
        standing.sort_by_key(|one| one.task.role_kind());
        Ok(standing)
    }

    /// What a registration that stands is answered with, if it is what is asked for.
    fn told_again(
        &self,
        changes: &Changes,
        peer: &Peer,
        there: &Arc<Task>,
        asked: NewTask,
        id_is_made: bool,
        token_is_made: bool,
    ) -> Result<Told, AdminError> {
        let (arn, kind) = (asked.arn.clone(), asked.role_kind);
        if there.registration().source == Source::Configuration {
            return Err(AdminError::Configured(arn.into()));
        }
        if !peer.sees(there.registration()) {
            return Err(AdminError::AnothersTask(arn.into()));
        }
        let (id, token) = (asked.id.clone(), asked.tokens.first().cloned());
        // Who registers it again need not be who did it first: root may repeat what an agent has done.
        let asked = Registration::of(asked, there.registration().source);
        let differs = |what| Err(AdminError::Differs(kind, arn.clone().into(), what));
        if !asked.is_same_but_for_secrets(there.registration()) {
            let (one, other) = (&asked, there.registration());
            return differs(if one.spec.role_arn == other.spec.role_arn {
                "with other settings (session name, tags, duration, region, policy, external id, source identity or tokenRequired)"
            } else {
                "with another role"
            });
        }
        if !id_is_made && asked.id != there.id() {
            return differs("with another credentials id");
        }
        let has_token = !there.registration().tokens.is_empty();
        match (token.is_some(), has_token) {
            (true, false) => return differs("without a token"),
            (false, true) => return differs("with a token"),
            (true, true) if !token_is_made && asked.tokens.first() != there.registration().tokens.first() => {
                return differs("with another token");
            }
            _ => {}
        }
        let previous = |of: &Registration| of.tokens.get(1).cloned();
        if !token_is_made && has_token && previous(&asked) != previous(there.registration()) {
            return differs("with another previous token");
        }
        let told = changes.told.get(&there.id());
        let not_kept = |what| AdminError::NotKept(kind, arn.clone().into(), what);
        let id = match (id_is_made, told) {
            (false, _) => id,
            (true, Some(told)) => told.id.clone(),
            (true, None) => return Err(not_kept("credentials id")),
        };
        let token = match (token_is_made, told) {
            (false, _) => token,
            (true, Some(told)) => told.token.clone(),
            (true, None) => return Err(not_kept("token")),
        };
        Ok(Told { id, token })
    }

    fn has_room_for(&self, peer: &Peer, more: usize) -> Result<(), AdminError> {
        let Some(max) = peer.max_tasks() else { return Ok(()) };
        let own = Source::Admin { uid: peer.uid };
        let count = self.registry.tasks().iter().filter(|task| task.registration().source == own).count();
        if count + more > max { Err(AdminError::UserFull { uid: peer.uid, count, more, max }) } else { Ok(()) }
    }

    /// All or none: the registry first, because it knows what is free; nobody knows the ids yet.
    fn add(&self, peer: &Peer, new: Vec<NewTask>, changes: &mut Changes) -> Result<Vec<Changed>, AdminError> {
        let mut added = Vec::<Changed>::new();
        let outcome = new.into_iter().try_for_each(|task| {
            let told = Told { id: task.id.clone(), token: task.tokens.first().cloned() };
            let task = self.registry.register(Registration::of(task, Source::Admin { uid: peer.uid }))?;
            added.push(Changed { task, told, is_new: true });
            Ok(())
        });
        let outcome = outcome.and_then(|()| {
            let put: Vec<_> = added.iter().map(|one| one.task.registration()).collect();
            // One task and role has one record.
            let replaced =
                |old: &Registration| put.iter().any(|new| new.arn == old.arn && new.role_kind == old.role_kind);
            let remove = changes.dormant.iter().filter(|old| replaced(old)).map(|old| old.id).collect::<Vec<_>>();
            if put.is_empty() { Ok(()) } else { Ok(self.record(&put, &remove, changes)?) }
        });
        if let Err(error) = outcome {
            for one in &added {
                self.end(&one.task);
            }
            if changes.is_unsure {
                let _ = self.make_sure(changes);
            }
            return Err(error);
        }
        Ok(added)
    }

    /// Ends the registrations of a task, or of one of its roles. Once this has returned, no answer with their sessions begins, now or
    /// after a restart.
    ///
    /// # Errors
    /// [`AdminError`]; nothing has changed then, but for [`AdminError::NotRecorded`] and [`AdminError::StillKept`].
    pub fn revoke(&self, peer: &Peer, arn: &TaskArn, kind: Option<RoleKind>) -> Result<(), AdminError> {
        let mut changes = self.changes();
        let is_meant =
            |one: &Registration| one.arn == *arn && kind.is_none_or(|kind| kind == one.role_kind) && peer.sees(one);
        let mut ids: Vec<_> = changes.dormant.iter().filter(|one| is_meant(one)).map(|one| one.id).collect();
        match self.of_peer(peer, arn, kind) {
            Ok(tasks) => {
                for task in tasks {
                    ids.push(task.id());
                    changes.told.remove(&task.id());
                    self.end(&task);
                }
            }
            Err(AdminError::NotFound(_) | AdminError::NoSuchRole(..)) if !ids.is_empty() => {}
            Err(error) => return Err(error),
        }
        changes.dormant.retain(|one| !ids.contains(&one.id));
        let recorded = self.record(&[], &ids, &mut changes).or_else(|_| self.make_sure(&mut changes));
        drop(changes);
        // Both, whatever comes of the one.
        let handed_over = self.hand_over.get().map_or(Ok(()), |hand_over| hand_over());
        recorded.map_err(|error| AdminError::NotRecorded(arn.clone().into(), error.into()))?;
        handed_over.map_err(|error| AdminError::StillKept(arn.clone().into(), error))
    }

    /// Gives one role of a task another id and, where it had a token, another token. The session stays.
    ///
    /// # Errors
    /// [`AdminError`]; nothing has changed then.
    pub fn rotate(
        &self,
        peer: &Peer,
        arn: &TaskArn,
        kind: RoleKind,
        id: Option<CredentialsId>,
    ) -> Result<Changed, AdminError> {
        let mut changes = self.changes();
        let old = self.one_of_peer(peer, arn, kind)?;
        let token = (!old.registration().tokens.is_empty()).then(Token::random);
        let told = Told { id: id.unwrap_or_else(CredentialsId::random), token };
        let (id, tokens) = (told.id.digest(), told.token.iter().map(Token::digest).collect::<Vec<_>>());
        if self.registry.with_id(id).is_some() {
            return Err(RegisterError::IdTaken(id).into());
        }
        // The store first: once the old id is dead nobody could go back.
        let next = Registration { id, tokens: tokens.clone(), ..old.registration().clone() };
        let recorded = self.record(&[&next], &[old.id()], &mut changes).map_err(AdminError::from);
        // A reload may have taken the id, or the task, in the meantime.
        let rotated = recorded.and_then(|()| {
            let rotated = self.registry.rotate(&old, id, tokens)?;
            rotated.ok_or_else(|| AdminError::NotFound(arn.clone().into()))
        });
        let task = match rotated {
            Ok(task) => task,
            Err(error) => {
                changes.is_unsure = true;
                let _ = self.make_sure(&mut changes);
                return Err(error);
            }
        };
        self.sessions.carry_over(&old, &task);
        changes.told.remove(&old.id());
        changes.told.insert(id, told.clone());
        Ok(Changed { task, told, is_new: true })
    }

    /// Has a new session loaded now, for each role of the task or for one.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub fn refresh(&self, peer: &Peer, arn: &TaskArn, kind: Option<RoleKind>) -> Result<Vec<Arc<Task>>, AdminError> {
        let tasks = self.seen(peer, arn, kind)?;
        for task in &tasks {
            self.sessions.refresh_now(task);
        }
        // So that a crash does not undo it. What fails is logged; it is tried again every few seconds.
        let _ = self.hand_over.get().map(|hand_over| hand_over());
        Ok(tasks)
    }

    /// What a user may see: its own, or everything.
    #[must_use]
    pub fn list(&self, peer: &Peer) -> Vec<Arc<Task>> {
        self.registry.tasks().into_iter().filter(|task| peer.sees(task.registration())).collect()
    }

    /// Makes sure that the store holds what is in force, if that is not known.
    pub fn settle(&self) {
        let mut changes = self.changes();
        let is_news = self.notice(&mut changes);
        if !changes.is_unsure {
            return;
        }
        match self.make_sure(&mut changes) {
            Ok(()) => tracing::info!("the store of the admin socket holds what is in force"),
            Err(error) if is_news => tracing::error!("{error}"),
            Err(_) => {}
        }
    }

    /// Sees whether somebody has removed or replaced the store. Returns whether that is news.
    fn notice(&self, changes: &mut Changes) -> bool {
        let is_news = !changes.is_unsure && !self.store.is_in_place();
        if is_news {
            changes.is_unsure = true;
            let file = self.store.file();
            tracing::error!(
                "{} was removed or replaced while it is in use: what is in force is to be written there again",
                file.display()
            );
        }
        is_news
    }

    /// The configuration has displaced registrations of the socket: they are given up to it. Blocks on the disk.
    pub fn displaced(&self) {
        self.changes().is_unsure = true;
        self.settle();
    }

    /// What keeps the store from being as it should: a file that was set aside, removed or replaced, revocations that it did not take.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match self.store.set_aside() {
            Err(error) => return Some(format!("the state folder cannot be read: {error}")),
            Ok(Some(file)) => {
                return Some(format!(
                    "a store that was not whole was set aside as {file}: register again what was registered over the admin socket, \
                     then move that file away"
                ));
            }
            Ok(None) => {}
        }
        if !self.store.is_in_place() {
            return Some(format!(
                "{} was removed or replaced while it is in use; what is in force is written there again within seconds, or the log says why not",
                self.store.file().display()
            ));
        }
        // A change under way is no trouble.
        let is_unsure = self.changes.try_lock().is_ok_and(|changes| changes.is_unsure);
        is_unsure.then(|| {
            "the store has not taken the last change; it is tried again every few seconds, and the log has the reason".to_owned()
        })
    }

    fn find(&self, arn: &TaskArn, kind: Option<RoleKind>) -> Vec<Arc<Task>> {
        let kinds = KINDS.into_iter().filter(|one| kind.is_none_or(|kind| kind == *one));
        kinds.filter_map(|kind| self.registry.find(arn, kind)).collect()
    }

    /// The roles of a task that a user may see. What is another's looks like nothing.
    fn seen(&self, peer: &Peer, arn: &TaskArn, kind: Option<RoleKind>) -> Result<Vec<Arc<Task>>, AdminError> {
        let mut tasks = self.find(arn, None);
        tasks.retain(|task| peer.sees(task.registration()));
        let is_known = !tasks.is_empty();
        tasks.retain(|task| kind.is_none_or(|kind| kind == task.role_kind()));
        match kind {
            _ if !tasks.is_empty() => Ok(tasks),
            Some(kind) if is_known => Err(AdminError::NoSuchRole(kind, arn.clone().into())),
            _ => Err(AdminError::NotFound(arn.clone().into())),
        }
    }

    /// Those of them that it may change.
    fn of_peer(&self, peer: &Peer, arn: &TaskArn, kind: Option<RoleKind>) -> Result<Vec<Arc<Task>>, AdminError> {
        let tasks = self.seen(peer, arn, kind)?;
        if tasks.iter().any(|task| task.registration().source == Source::Configuration) {
            return Err(AdminError::Configured(arn.clone().into()));
        }
        Ok(tasks)
    }

    fn one_of_peer(&self, peer: &Peer, arn: &TaskArn, kind: RoleKind) -> Result<Arc<Task>, AdminError> {
        self.of_peer(peer, arn, Some(kind))?.pop().ok_or_else(|| AdminError::NotFound(arn.clone().into()))
    }

    /// Ends a registration and forgets its session.
    fn end(&self, task: &Arc<Task>) {
        self.registry.revoke(task.id());
        self.sessions.forget(task);
    }

    fn record(&self, put: &[&Registration], remove: &[IdDigest], changes: &mut Changes) -> Result<(), StoreError> {
        self.notice(changes);
        if changes.is_unsure {
            self.make_sure(changes)?;
        }
        changes.is_unsure = true;
        self.store.change(put, remove)?;
        changes.is_unsure = false;
        changes.dormant.retain(|one| !remove.contains(&one.id));
        Ok(())
    }

    /// Makes what is in force, and what is dormant, what the store holds.
    fn make_sure(&self, changes: &mut Changes) -> Result<(), StoreError> {
        let tasks = self.registry.tasks();
        let own = tasks.iter().map(|task| task.registration()).filter(|one| one.source != Source::Configuration);
        let all: Vec<_> = own.chain(&changes.dormant).collect();
        self.store.replace(&all)?;
        changes.is_unsure = false;
        changes.told.retain(|id, _| self.registry.with_id(*id).is_some());
        Ok(())
    }

    // A change that panicked has changed the maps whole or not at all.
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taskcreds_core::test_util::{TestSts, new_task, session_until};
    use taskcreds_core::{Budget, BudgetLimits, Freshness, SystemClock};

    use super::*;

    fn registrations(folder: &std::path::Path) -> (Registrations, Arc<Registry>) {
        let sts = TestSts::new(|_, _| (Duration::ZERO, Ok(session_until(std::time::UNIX_EPOCH))));
        let (clock, budget) = (Arc::new(SystemClock), Budget::new(BudgetLimits::default()));
        let sessions = SessionCache::new(sts, clock, budget, Freshness::default(), || 0.5, Box::new(|_, _, _| {}));
        let (store, kept) = Store::open(folder).unwrap();
        let registry = Arc::new(Registry::new(10));
        let peer = |uid| Peer::new(uid, 0, &[]);
        (Registrations::restore(Arc::clone(&registry), sessions, store, kept, peer), registry)
    }

    fn asked(name: &str) -> Request {
        Request { tasks: vec![new_task(name)], made_ids: Vec::new(), token_is_made: false, warnings: Vec::new() }
    }

    /// After a failure it is not known what the disk holds: the commit may be there although it was answered with an error.
    #[tokio::test]
    async fn what_the_disk_holds_beside_what_is_in_force_is_gone_once_it_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let root = Peer::new(0, 0, &[]).unwrap();
        let (registrations, _) = registrations(folder.path());
        let kept = registrations.register(&root, asked("kept")).unwrap().remove(0).task;
        let revoked = registrations.register(&root, asked("revoked")).unwrap().remove(0).task;
        // As after errors: a registration that was refused and a revocation that was not recorded.
        let refused = Registration::of(new_task("refused"), Source::Admin { uid: 0 });
        registrations.store.change(&[&refused], &[kept.id()]).unwrap();
        registrations.end(&revoked);
        registrations.changes().is_unsure = true;
        assert!(registrations.trouble().is_some());
        registrations.settle();
        assert!(registrations.trouble().is_none());
        drop(registrations);
        let (_, left) = Store::open(folder.path()).unwrap();
        assert_eq!(left.iter().map(|one| one.id).collect::<Vec<_>>(), [kept.id()]);
    }

    #[tokio::test]
    async fn what_the_file_has_displaced_is_not_back_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let root = Peer::new(0, 0, &[]).unwrap();
        {
            let (registrations, registry) = registrations(folder.path());
            let task = registrations.register(&root, asked("web")).unwrap().remove(0).task;
            assert_eq!(registry.reconcile(vec![new_task("web")]).unwrap().displaced.len(), 1);
            registrations.displaced();
            assert!(!task.lease().stands());
        }
        assert!(registrations(folder.path()).1.tasks().is_empty());
    }
}
