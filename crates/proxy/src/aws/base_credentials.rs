//! The proxy's own credentials, as fresh as where they come from.
//!
//! The SDK's default chain reads a profile once and keeps what has no expiry for ever; on ECS Anywhere the SSM agent rewrites the shared
//! credentials file about every half hour, without an expiry in it. So the chain is made anew whenever what it gave may be stale:
//! a shared file or a login in the SDK's cache has changed, it is about to expire, it has no expiry and is a minute old, or STS has
//! called it expired.
//! They are resolved before the STS call and under a timeout of their own: a credential process may take its time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use taskcreds_core::{AssumeRoleError, FailureKind};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::classify::causes;
use crate::stamp::Stamp;

/// How long the chain may take, a credential process or an SSO refresh included.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long credentials without an expiry are taken for good.
const UNDATED: Duration = Duration::from_secs(60);
/// Credentials that end within this are asked for anew; AWS's own sources renew theirs 5 minutes ahead or more.
const AHEAD: Duration = Duration::from_secs(300);
/// Where they cannot be had ahead of time, those that there are go on until so long before their end.
const LAST: Duration = Duration::from_secs(30);
/// And the source is asked again after this.
const AGAIN: Duration = Duration::from_secs(5);

type Resolve = dyn Fn() -> Pin<Box<dyn Future<Output = Result<Credentials, CredentialsError>> + Send>> + Send + Sync;

/// Where the proxy's own credentials come from, and the last ones that came.
pub(super) struct BaseCredentials {
    resolve: Box<Resolve>,
    /// Files, and folders for all that is in them.
    places: Vec<PathBuf>,
    current: Mutex<Arc<Generation>>,
}

/// One resolution, shared by all who ask at the same time.
struct Generation {
    began: Instant,
    stamps: BTreeMap<PathBuf, Stamp>,
    credentials: OnceCell<Credentials>,
    /// Those that are to be renewed; none where they are not to be used any more: STS has refused them, or a file has changed.
    before: Option<Credentials>,
    /// When the renewal last failed.
    failed: Mutex<Option<Instant>>,
}

impl BaseCredentials {
    /// From the SDK's default chain.
    pub(super) fn chain() -> Self {
        Self::new(shared_places(), || {
            Box::pin(async {
                let region = super::sts::own_region();
                let chain =
                    aws_config::default_provider::credentials::DefaultCredentialsChain::builder().region(region);
                chain.build().await.provide_credentials().await
            })
        })
    }

    /// Always these.
    pub(super) fn fixed(credentials: Credentials) -> Self {
        Self::new(Vec::new(), move || {
            let credentials = credentials.clone();
            Box::pin(async { Ok(credentials) })
        })
    }

    fn new(
        places: Vec<PathBuf>,
        resolve: impl Fn() -> Pin<Box<dyn Future<Output = Result<Credentials, CredentialsError>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let current = Mutex::new(Arc::new(Generation::begin(&places)));
        Self { resolve: Box::new(resolve), places, current }
    }

    /// Credentials that are good as far as can be told without asking STS.
    pub(super) async fn provide(&self) -> Result<Credentials, AssumeRoleError> {
        let generation = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if !current.stands(&self.places) {
                *current = Arc::new(Generation::after(&current, &self.places));
            }
            Arc::clone(&current)
        };
        if let Some(before) = generation.still_good()
            && generation.failed().is_some_and(|failed| failed.elapsed() < AGAIN)
        {
            return Ok(before.clone());
        }
        let error = match self.resolved(&generation).await {
            Err(error) => error,
            resolved => return resolved,
        };
        let Some(before) = generation.still_good() else { return Err(error) };
        if generation.failed().replace(Instant::now()).is_none() {
            tracing::warn!("the proxy's own credentials cannot be renewed and go on until they end: {error}");
        }
        Ok(before.clone())
    }

    async fn resolved(&self, generation: &Generation) -> Result<Credentials, AssumeRoleError> {
        let failed = |message: String| {
            let remedy = remedy(&message);
            AssumeRoleError::new(FailureKind::BaseCredentials, message, remedy)
        };
        let too_late = || failed(format!("no source of AWS credentials answered within {} s", TIMEOUT.as_secs()));
        let resolved = generation.credentials.get_or_try_init(|| async {
            // A task of its own: were it broken off with the one who asks, a login that was just refreshed would be lost, and the
            // refresh token with it, which is good for once.
            match tokio::spawn(tokio::time::timeout(TIMEOUT, (self.resolve)())).await {
                Ok(Ok(resolved)) => resolved.map_err(|error| failed(causes(&error))),
                Ok(Err(_)) => Err(too_late()),
                Err(_) => Err(failed("the source of AWS credentials has panicked".to_owned())),
            }
        });
        let resolved = tokio::time::timeout(TIMEOUT, resolved).await;
        resolved.unwrap_or_else(|_| Err(too_late())).cloned()
    }

    /// STS has refused these: the next [`provide`](BaseCredentials::provide) resolves anew, unless somebody has done so already.
    pub(super) fn forget(&self, refused: &Credentials) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.credentials.get().or(current.before.as_ref()).is_some_and(|held| is_same(held, refused)) {
            *current = Arc::new(Generation::begin(&self.places));
        }
    }
}

/// Whether two credentials are the same; an access key id alone may come again with another session.
pub(super) fn is_same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id() && one.session_token() == other.session_token()
}

/// What to do about it. The SDK keeps its error types for logins to itself, so they are known by their words.
fn remedy(message: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if says(&["failed to write `"]) {
        return "let the proxy's user write this file, in which the SDK keeps the login that it has refreshed";
    }
    // The last one is what the portal answers to an access token that it does not take (any more).
    if says(&["SSO token", "sso/cache", "UnauthorizedException"]) {
        "run `aws sso login` for the proxy's profile as the proxy's user; it goes on by itself"
    } else if says(&["Login token", "login/cache"]) {
        "run `aws login` for the proxy's profile as the proxy's user; it goes on by itself"
    } else {
        "give the proxy AWS credentials: environment, profile, SSO, credential_process, web identity or instance role"
    }
}

impl std::fmt::Debug for BaseCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseCredentials").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Generation {
    fn begin(places: &[PathBuf]) -> Self {
        let (credentials, failed) = (OnceCell::new(), Mutex::default());
        Self { began: Instant::now(), stamps: stamps(places), credentials, before: None, failed }
    }

    /// A renewal. What was changed in a file, a login that was taken back among it, counts at once.
    fn after(old: &Self, places: &[PathBuf]) -> Self {
        let new = Self::begin(places);
        let before = old.credentials.get().filter(|_| new.stamps == old.stamps).cloned();
        Self { before, ..new }
    }

    fn still_good(&self) -> Option<&Credentials> {
        let is_good = |it: &&Credentials| {
            it.expiry().is_some_and(|end| end.duration_since(SystemTime::now()).is_ok_and(|left| left > LAST))
        };
        self.before.as_ref().filter(is_good)
    }

    // Set as a whole.
    fn failed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stands(&self, places: &[PathBuf]) -> bool {
        let in_time = match self.credentials.get().map(Credentials::expiry) {
            // Nothing has come yet: whoever asks resolves it or waits for the one who does.
            None => true,
            Some(Some(expiry)) => expiry.duration_since(SystemTime::now()).is_ok_and(|left| left > AHEAD),
            Some(None) => self.began.elapsed() < UNDATED,
        };
        in_time && self.stamps == stamps(places)
    }
}

/// What is there now. A folder's own time would not tell that a file in it was written over.
fn stamps(places: &[PathBuf]) -> BTreeMap<PathBuf, Stamp> {
    let inside = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    let inside = inside.filter_map(|entry| Some(entry.ok()?.path()));
    let all = places.iter().cloned().chain(inside);
    all.filter_map(|path| Stamp::of(&path).map(|stamp| (path, stamp))).collect()
}

/// The shared files that the chain reads (AWS SDKs and Tools Reference Guide, "Location of the shared files"), and the folders in which
/// `aws sso login` and `aws login` leave their tokens.
fn shared_places() -> Vec<PathBuf> {
    let home = std::env::home_dir();
    [
        (Some("AWS_SHARED_CREDENTIALS_FILE"), "credentials"),
        (Some("AWS_CONFIG_FILE"), "config"),
        (Some("AWS_LOGIN_CACHE_DIRECTORY"), "login/cache"),
        (None, "sso/cache"),
    ]
    .into_iter()
    .filter_map(|(variable, name)| match variable.and_then(std::env::var_os) {
        Some(path) => Some(PathBuf::from(path)),
        None => home.as_ref().map(|home| home.join(".aws").join(name)),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts its resolutions; each gives a key of its own.
    fn counting(files: Vec<PathBuf>, expires_in: Option<Duration>) -> (BaseCredentials, Arc<AtomicU32>) {
        let resolutions = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&resolutions);
        let base = BaseCredentials::new(files, move || {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let expiry = expires_in.map(|left| SystemTime::now() + left);
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(Credentials::new(format!("AKIA{number}"), "secret", None, expiry, "test"))
            })
        });
        (base, resolutions)
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_without_an_expiry_are_resolved_again_after_a_minute() {
        let (base, resolutions) = counting(Vec::new(), None);
        for _ in 0..3 {
            base.provide().await.unwrap();
        }
        assert_eq!(resolutions.load(Ordering::SeqCst), 1);
        tokio::time::advance(UNDATED).await;
        assert_eq!(base.provide().await.unwrap().access_key_id(), "AKIA2");
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_resolved_again_five_minutes_before_they_expire() {
        for (left, resolved) in [(AHEAD + Duration::from_secs(60), 1), (AHEAD, 3)] {
            let (base, resolutions) = counting(Vec::new(), Some(left));
            for _ in 0..3 {
                base.provide().await.unwrap();
            }
            assert_eq!(resolutions.load(Ordering::SeqCst), resolved);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_cannot_be_renewed_go_on_until_they_end_and_the_source_is_spared() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        for (left, goes_on) in [(AHEAD, true), (LAST, false)] {
            let resolutions = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&resolutions);
            let expiry = SystemTime::now() + left;
            let base = BaseCredentials::new(vec![file.clone()], move || {
                let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
                let credentials = Credentials::new("AKIA1", "secret", None, Some(expiry), "test");
                let gone = || CredentialsError::provider_error("the source has gone");
                Box::pin(async move { is_first.then_some(credentials).ok_or_else(gone) })
            });
            base.provide().await.unwrap();
            for _ in 0..3 {
                assert_eq!(base.provide().await.is_ok(), goes_on, "{left:?}");
            }
            if goes_on {
                assert_eq!(resolutions.load(Ordering::SeqCst), 2);
                tokio::time::advance(AGAIN).await;
                base.provide().await.unwrap();
                assert_eq!(resolutions.load(Ordering::SeqCst), 3);
                std::fs::write(&file, "another profile").unwrap();
                assert!(base.provide().await.is_err(), "what was there before is not what the files say now");
                std::fs::remove_file(&file).unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_sts_has_refused_does_not_go_on() {
        let resolutions = AtomicU32::new(0);
        let expiry = SystemTime::now() + AHEAD;
        let base = BaseCredentials::new(Vec::new(), move || {
            let is_first = resolutions.fetch_add(1, Ordering::SeqCst) == 0;
            let credentials = Credentials::new("AKIA1", "secret", None, Some(expiry), "test");
            Box::pin(
                async move { is_first.then_some(credentials).ok_or_else(|| CredentialsError::provider_error("gone")) },
            )
        });
        let refused = base.provide().await.unwrap();
        assert!(base.provide().await.is_ok(), "those before go on");
        base.forget(&refused);
        assert!(base.provide().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_file_that_is_rewritten_or_appears_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        let (base, resolutions) = counting(vec![file.clone()], Some(Duration::from_secs(3600)));
        base.provide().await.unwrap();
        for (number, text) in ["one", "three"].into_iter().enumerate() {
            std::fs::write(&file, text).unwrap();
            base.provide().await.unwrap();
            base.provide().await.unwrap();
            assert_eq!(resolutions.load(Ordering::SeqCst) as usize, 2 + number);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_is_written_over_or_removed_in_its_folder_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("login.json");
        std::fs::write(&file, "one").unwrap();
        let (base, resolutions) = counting(vec![folder.path().to_owned()], Some(Duration::from_secs(3600)));
        let write = || std::fs::write(&file, "three").unwrap();
        let remove = || std::fs::remove_file(&file).unwrap();
        for (number, change) in [&(|| ()) as &dyn Fn(), &write, &remove].into_iter().enumerate() {
            change();
            base.provide().await.unwrap();
            base.provide().await.unwrap();
            assert_eq!(resolutions.load(Ordering::SeqCst) as usize, 1 + number);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_sts_has_refused_is_forgotten() {
        let (base, _) = counting(Vec::new(), Some(Duration::from_secs(3600)));
        let first = base.provide().await.unwrap();
        base.forget(&first);
        assert_eq!(base.provide().await.unwrap().access_key_id(), "AKIA2");
        // The others who were refused with it come late.
        base.forget(&first);
        assert_eq!(base.provide().await.unwrap().access_key_id(), "AKIA2");
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_at_once_share_one_resolution() {
        let (base, resolutions) = counting(Vec::new(), None);
        let (one, two) = tokio::join!(base.provide(), base.provide());
        assert_eq!(one.unwrap().access_key_id(), two.unwrap().access_key_id());
        assert_eq!(resolutions.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_cache_that_cannot_be_written_needs_no_login() {
        // As aws-config 1.13 said it of a read-only mount.
        let message = "an error occurred while loading an access token: failed to load the cached SSO token: failed to write \
                       `/home/me/.aws/sso/cache/x.json`: Read-only file system (os error 30)";
        assert!(remedy(message).contains("write this file"));
        assert!(remedy(&message.replace("write", "read")).contains("`aws sso login`"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_never_answers_is_given_up_and_tried_again_by_the_next() {
        let base = BaseCredentials::new(Vec::new(), || Box::pin(std::future::pending()));
        let error = base.provide().await.unwrap_err();
        assert_eq!(error.kind, FailureKind::BaseCredentials);
        assert!(error.message.contains("within 15 s"), "{error}");
        assert!(base.provide().await.is_err());
    }
}
