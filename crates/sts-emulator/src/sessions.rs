//! A session works until its expiration and not a second longer, and memory stays bounded however many are issued.
//!
//! An expired session is remembered for a while, because AWS says `ExpiredToken` where it knows the token and
//! `InvalidClientTokenId` where it does not, and applications are told apart by which of the two they handle.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use subtle::ConstantTimeEq;

use crate::error::Error;
use crate::policy::{ECS_TASKS, IamCaller, TrustCaller};
use crate::principal::{IamArn, Principal, is_account};
use crate::random::{self, BASE32, BASE64};

/// How long an expired session is still answered with `ExpiredToken`.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// Sessions kept at once, expired ones included; beyond it the one that ends first is forgotten.
const MAX_SESSIONS: usize = 50_000;

/// What the tokens of AWS begin with.
const TOKEN_PREFIX: &str = "IQoJb3JpZ2luX2Vj";

/// A long-term access key for the emulator. It opens nothing else: the emulator made it up.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `AKIA` and 16 more characters. An identifier, not a secret.
    pub access_key_id: String,
    /// 40 characters.
    pub secret_access_key: String,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A session tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The key, in the case it was given in; keys are compared without case.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Who calls, and what a session it makes inherits from its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// None for a caller that was added: a session that began elsewhere hands on nothing here.
    pub(crate) session: Option<Inheritance>,
    /// The same, as trust policies see it.
    pub(crate) trusted_as: TrustCaller,
    /// The region that its request was signed for; none while there is no request.
    pub(crate) region: Option<String>,
}

impl Caller {
    /// One that was added by the ARN of its user or role.
    pub(crate) fn added(arn: &IamArn, principal_arn: &str, tags: Vec<Tag>) -> Self {
        let principal = arn.caller();
        let trusted_as = TrustCaller::Iam(IamCaller {
            arn: principal.arn.clone(),
            principal_arn: principal_arn.to_owned(),
            session_is_known: true,
            path_is_known: true,
            account: principal.account.clone(),
            user_id: Some(principal.user_id.clone()),
            tags: Some(tags),
            source_identity: None,
            token_issued: None,
        });
        Self { principal, session: None, trusted_as, region: None }
    }

    /// Amazon ECS, which calls for this task; none if that is no task.
    pub(crate) fn ecs(task_arn: &str) -> Option<Self> {
        let parts: Vec<&str> = task_arn.splitn(6, ':').collect();
        let ["arn", partition, "ecs", _, account, resource] = parts[..] else { return None };
        let sound = partition.starts_with("aws") && is_account(account) && resource.starts_with("task/");
        let principal =
            Principal { arn: ECS_TASKS.to_owned(), user_id: ECS_TASKS.to_owned(), account: account.to_owned() };
        let trusted_as = TrustCaller::EcsTasks { task_arn: task_arn.to_owned() };
        sound.then_some(Self { principal, session: None, trusted_as, region: None })
    }
}

/// What follows a session down a role chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inheritance {
    pub(crate) source_identity: Option<String>,
    pub(crate) transitive_tags: Vec<Tag>,
}

/// One key: of an added caller, or of a session, which has a token and an end.
pub(crate) struct Key {
    pub(crate) access_key_id: String,
    pub(crate) secret: String,
    pub(crate) caller: Caller,
    session: Option<Session>,
}

struct Session {
    token: String,
    expires: SystemTime,
}

/// All keys there are.
#[derive(Default)]
pub(crate) struct Keys {
    by_id: HashMap<String, Arc<Key>>,
    /// The sessions among them, the one that ends first in front.
    ends: BTreeSet<(SystemTime, String)>,
}

impl Key {
    /// The token that goes with the key; empty for a long-term key.
    pub(crate) fn token(&self) -> &str {
        self.session.as_ref().map(|session| session.token.as_str()).unwrap_or_default()
    }

    fn check(&self, token: Option<&str>, now: SystemTime) -> Result<(), Error> {
        match (&self.session, token) {
            (None, None) => Ok(()),
            (Some(session), Some(token)) if bool::from(session.token.as_bytes().ct_eq(token.as_bytes())) => {
                if now < session.expires { Ok(()) } else { Err(Error::ExpiredToken) }
            }
            _ => Err(Error::InvalidClientTokenId),
        }
    }
}

impl Keys {
    /// A long-term key for a caller.
    pub(crate) fn add_caller(&mut self, caller: Caller) -> Arc<Key> {
        self.insert("AKIA", caller, None)
    }

    /// A session key that ends at `expires`, with a token of `token_size` bytes.
    pub(crate) fn add_session(
        &mut self,
        caller: Caller,
        expires: SystemTime,
        token_size: usize,
        now: SystemTime,
    ) -> Arc<Key> {
        while self.ends.len() >= MAX_SESSIONS || self.ends.first().is_some_and(|(end, _)| *end + REMEMBERED <= now) {
            let Some((_, id)) = self.ends.pop_first() else { break };
            self.by_id.remove(&id);
        }
        let random_part = random::text(BASE64, token_size.saturating_sub(TOKEN_PREFIX.len()));
        let token = format!("{TOKEN_PREFIX}{random_part}");
        let key = self.insert("ASIA", caller, Some(Session { token, expires }));
        self.ends.insert((expires, key.access_key_id.clone()));
        key
    }

    /// The key with this id, if this token belongs to it and it has not expired.
    pub(crate) fn find(&self, id: &str, token: Option<&str>, now: SystemTime) -> Result<Arc<Key>, Error> {
        let key = self.by_id.get(id).ok_or(Error::InvalidClientTokenId)?;
        key.check(token, now)?;
        Ok(Arc::clone(key))
    }

    /// Ends the sessions of an assumed role that have not ended, but for one. Returns how many.
    pub(crate) fn expire(&mut self, assumed_role_arn: &str, but: Option<&str>, now: SystemTime) -> usize {
        let of_role =
            |key: &&Arc<Key>| key.caller.principal.arn == assumed_role_arn && Some(&*key.access_key_id) != but;
        let mut ended = Vec::new();
        for key in self.by_id.values().filter(of_role) {
            ended.extend(key.session.as_ref().filter(|session| session.expires > now).map(|session| {
                let session = Session { token: session.token.clone(), expires: now };
                let (access_key_id, secret) = (key.access_key_id.clone(), key.secret.clone());
                Key { access_key_id, secret, caller: key.caller.clone(), session: Some(session) }
            }));
        }
        let count = ended.len();
        for key in ended {
            let id = key.access_key_id.clone();
            self.ends.retain(|(_, other)| *other != id);
            self.ends.insert((now, id.clone()));
            self.by_id.insert(id, Arc::new(key));
        }
        count
    }

    fn insert(&mut self, prefix: &str, caller: Caller, session: Option<Session>) -> Arc<Key> {
        let access_key_id = format!("{prefix}{}", random::text(BASE32, 16));
        let key = Arc::new(Key { access_key_id, secret: random::text(BASE64, 40), caller, session });
        self.by_id.insert(key.access_key_id.clone(), Arc::clone(&key));
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn caller() -> Caller {
        let arn = "arn:aws:iam::111122223333:user/me";
        Caller::added(&IamArn::parse(arn).unwrap(), arn, Vec::new())
    }

    fn session(keys: &mut Keys, seconds: u64, now: SystemTime) -> Arc<Key> {
        keys.add_session(caller(), NOW + Duration::from_secs(seconds), 800, now)
    }

    #[test]
    fn a_session_ends_at_its_expiration_is_remembered_for_a_while_and_then_forgotten() {
        let mut keys = Keys::default();
        let key = session(&mut keys, 900, NOW);
        let find = |keys: &Keys, seconds| {
            keys.find(&key.access_key_id, Some(key.token()), NOW + Duration::from_secs(seconds)).map(drop)
        };
        assert!(find(&keys, 899).is_ok());
        assert!(matches!(find(&keys, 900), Err(Error::ExpiredToken)));

        session(&mut keys, 9000, NOW + Duration::from_secs(900 + 3599));
        assert!(matches!(find(&keys, 900), Err(Error::ExpiredToken)));
        session(&mut keys, 9000, NOW + Duration::from_secs(900 + 3600));
        assert!(matches!(find(&keys, 900), Err(Error::InvalidClientTokenId)));
    }

    #[test]
    fn a_key_is_found_only_with_the_token_that_belongs_to_it() {
        let mut keys = Keys::default();
        let (user, one, two) = (keys.add_caller(caller()), session(&mut keys, 900, NOW), session(&mut keys, 900, NOW));
        assert!(keys.find(&user.access_key_id, None, NOW).is_ok());
        assert!(keys.find(&one.access_key_id, Some(one.token()), NOW).is_ok());
        for (key, token) in [(&user, Some(one.token())), (&one, None), (&one, Some(two.token())), (&one, Some(""))] {
            assert!(matches!(keys.find(&key.access_key_id, token, NOW), Err(Error::InvalidClientTokenId)));
        }
        assert!(matches!(keys.find("AKIANOBODY", None, NOW), Err(Error::InvalidClientTokenId)));
    }

    #[test]
    fn the_sessions_of_a_role_can_be_ended_but_for_one() {
        let mut keys = Keys::default();
        let (one, two, user) = (session(&mut keys, 900, NOW), session(&mut keys, 900, NOW), keys.add_caller(caller()));
        let arn = &one.caller.principal.arn;
        assert_eq!(keys.expire("arn:of:another", None, NOW), 0);
        assert_eq!(keys.expire(arn, Some(&two.access_key_id), NOW), 1);
        assert_eq!(keys.expire(arn, Some(&two.access_key_id), NOW), 0, "it has ended");
        let find = |key: &Key| keys.find(&key.access_key_id, key.session.as_ref().map(|it| it.token.as_str()), NOW);
        assert!(matches!(find(&one), Err(Error::ExpiredToken)));
        assert!(find(&two).is_ok() && find(&user).is_ok());
        assert_eq!(keys.ends.len(), 2);
    }

    #[test]
    fn keys_look_like_those_of_aws() {
        let mut keys = Keys::default();
        let (user, session) = (keys.add_caller(caller()), session(&mut keys, 900, NOW));
        for (key, prefix) in [(&user, "AKIA"), (&session, "ASIA")] {
            assert_eq!((key.access_key_id.len(), key.secret.len()), (20, 40));
            assert!(key.access_key_id.starts_with(prefix));
        }
        assert_eq!(session.token().len(), 800);
        assert!(session.token().chars().all(|c| c.is_ascii_alphanumeric() || "+/".contains(c)));
        assert_ne!(user.secret, session.secret);
    }

    #[test]
    fn memory_is_bounded_and_added_callers_are_never_forgotten() {
        let mut keys = Keys::default();
        let user = keys.add_caller(caller());
        for _ in 0..MAX_SESSIONS + 10 {
            keys.add_session(caller(), NOW + Duration::from_secs(900), 0, NOW);
        }
        assert_eq!(keys.by_id.len(), MAX_SESSIONS + 1);
        assert!(keys.find(&user.access_key_id, None, NOW).is_ok());
    }
}
