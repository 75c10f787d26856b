//! What the admin socket changes: registry and store together, one change at a time.
//!
//! Once a call has returned, its change is on disk and in force. Calls block on the disk, so they belong on a thread that may.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskcreds_core::{
    CredentialsId, IdDigest, NewTask, Registration, Registry, RoleKind, SessionCache, Source, Task, TaskArn, Token,
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
}

/// What is known beside registry and store, for as long as the process runs.
#[derive(Default)]
struct Changes {
    /// What opens each registration, to answer one that is asked for again. Not kept on disk.
    told: HashMap<IdDigest, Told>,
    /// Revocations that the store has not taken.
    unrecorded: Vec<(TaskArn, IdDigest)>,
    /// What the store holds and is not in force, because something else was in its place at the start.
    dormant: Vec<Registration>,
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
    /// Takes over what the store holds. What the configuration file registers too is left to the file, and told; it stays in the store
    /// until it is registered or revoked over the socket again.
    #[must_use]
    pub fn restore(
        registry: Arc<Registry>,
        sessions: Arc<SessionCache>,
        store: Store,
        kept: Vec<Registration>,
    ) -> Self {
        let mut changes = Changes::default();
        for registration in kept {
            if let Err(error) = registry.register(registration.clone()) {
                let (id, arn) = (registration.id, &registration.arn);
                tracing::warn!(%id, task_arn = %arn, "a registration of the admin socket is not in force: {error}");
                changes.dormant.push(registration);
            }
        }
        Self { registry, sessions, store, changes: Mutex::new(changes) }
    }

    /// Registers the roles of one task, all of them or none. One that is registered already with the same settings stands as it is.
    ///
    /// # Errors
    /// [`AdminError`]; nothing has changed then.
    pub fn register(&self, peer: &Peer, request: Request) -> Result<Vec<Changed>, AdminError> {
        let Request { tasks, made_ids, token_is_made, warnings: _ } = request;
        for task in &tasks {
            peer.may_register(task)?;
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
                self.registry.revoke(one.task.id());
            }
            return Err(error);
        }
        Ok(added)
    }

    /// Ends the registrations of a task, or of one of its roles. Once this has returned, no answer with their sessions begins, now or
    /// after a restart.
    ///
    /// # Errors
    /// [`AdminError`]; nothing has changed then, but for [`AdminError::NotRecorded`].
    pub fn revoke(&self, peer: &Peer, arn: &TaskArn, kind: Option<RoleKind>) -> Result<(), AdminError> {
        let mut changes = self.changes();
        let is_meant =
            |one: &&Registration| one.arn == *arn && kind.is_none_or(|kind| kind == one.role_kind) && peer.sees(one);
        let dormant: Vec<_> = changes.dormant.iter().filter(is_meant).map(|one| one.id).collect();
        let mut ids: Vec<_> = match self.of_peer(peer, arn, kind) {
            Ok(tasks) => tasks.iter().map(|task| task.id()).collect(),
            // Perhaps the same was asked for before and the store did not take it.
            Err(AdminError::NotFound(_)) if changes.unrecorded.iter().any(|(one, _)| one == arn) => Vec::new(),
            Err(AdminError::NotFound(_)) if !dormant.is_empty() => Vec::new(),
            Err(error) => return Err(error),
        };
        ids.extend(dormant);
        for id in &ids {
            self.registry.revoke(*id);
            changes.told.remove(id);
        }
        if let Err(error) = self.record(&[], &ids, &mut changes) {
            changes.unrecorded.extend(ids.into_iter().map(|id| (arn.clone(), id)));
            return Err(AdminError::NotRecorded(arn.clone().into(), error.into()));
        }
        Ok(())
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
        if self.registry.knows(id) {
            return Err(taskcreds_core::RegisterError::IdTaken(id).into());
        }
        // The store first: once the old id is dead nobody could go back.
        let next = Registration { id, tokens: tokens.clone(), ..old.registration().clone() };
        self.record(&[&next], &[old.id()], &mut changes)?;
        let rotated = self.registry.rotate(&old, id, tokens)?;
        // Only changes over this socket end these registrations, and this is the only one now.
        let task = rotated.ok_or_else(|| AdminError::NotFound(arn.clone().into()))?;
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
        let tasks: Vec<_> = self.find(arn, kind).into_iter().filter(|task| peer.sees(task.registration())).collect();
        if tasks.is_empty() {
            return Err(AdminError::NotFound(arn.clone().into()));
        }
        for task in &tasks {
            self.sessions.refresh_now(task);
        }
        Ok(tasks)
    }

    /// What a user may see: its own, or everything.
    #[must_use]
    pub fn list(&self, peer: &Peer) -> Vec<Arc<Task>> {
        self.registry.tasks().into_iter().filter(|task| peer.sees(task.registration())).collect()
    }

    /// Tries again what the store has not taken.
    pub fn settle(&self) {
        let mut changes = self.changes();
        if !changes.unrecorded.is_empty() && self.record(&[], &[], &mut changes).is_ok() {
            tracing::info!("the store has taken the revocations that it had refused");
        }
    }

    /// What keeps the store from being as it should: a file that was set aside, revocations that it did not take.
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
        if !self.store.takes_changes() {
            return Some("the store has not taken the last change; the log has the reason".to_owned());
        }
        // A change under way is no trouble.
        let unrecorded = self.changes.try_lock().map_or(0, |changes| changes.unrecorded.len());
        (unrecorded > 0).then(|| {
            format!(
                "{unrecorded} revocations are in force but not in the store; they are tried again every few seconds"
            )
        })
    }

    fn find(&self, arn: &TaskArn, kind: Option<RoleKind>) -> Vec<Arc<Task>> {
        let kinds = KINDS.into_iter().filter(|one| kind.is_none_or(|kind| kind == *one));
        kinds.filter_map(|kind| self.registry.find(arn, kind)).collect()
    }

    /// What a user may change. What is another's looks like nothing.
    fn of_peer(&self, peer: &Peer, arn: &TaskArn, kind: Option<RoleKind>) -> Result<Vec<Arc<Task>>, AdminError> {
        let tasks: Vec<_> = self.find(arn, kind).into_iter().filter(|task| peer.sees(task.registration())).collect();
        if tasks.is_empty() {
            return Err(AdminError::NotFound(arn.clone().into()));
        }
        if tasks.iter().any(|task| task.registration().source == Source::Configuration) {
            return Err(AdminError::Configured(arn.clone().into()));
        }
        Ok(tasks)
    }

    fn one_of_peer(&self, peer: &Peer, arn: &TaskArn, kind: RoleKind) -> Result<Arc<Task>, AdminError> {
        match self.of_peer(peer, arn, Some(kind)) {
            Ok(mut tasks) => tasks.pop().ok_or_else(|| AdminError::NotFound(arn.clone().into())),
            Err(AdminError::NotFound(_)) if self.of_peer(peer, arn, None).is_ok() => {
                Err(AdminError::NoSuchRole(kind, arn.clone().into()))
            }
            Err(error) => Err(error),
        }
    }

    /// Changes the store, and with it what it did not take before.
    fn record(&self, put: &[&Registration], remove: &[IdDigest], changes: &mut Changes) -> Result<(), StoreError> {
        let unrecorded = changes.unrecorded.iter().map(|(_, id)| id);
        let remove: Vec<_> = remove.iter().chain(unrecorded).copied().collect();
        self.store.change(put, &remove)?;
        changes.unrecorded.clear();
        changes.dormant.retain(|one| !remove.contains(&one.id));
        Ok(())
    }

    // A change that panicked has changed the maps whole or not at all.
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
