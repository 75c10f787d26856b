//! The proxy's own credentials, as fresh as where they come from.
//!
//! The SDK's default chain reads a profile once and keeps what has no expiry for ever; on ECS Anywhere the SSM agent rewrites the shared
//! credentials file about every half hour, without an expiry in it. So the chain is made anew whenever what it gave may be stale:
//! a shared file has changed, it is about to expire, it has no expiry and is a minute old, or STS has called it expired.
//! They are resolved before the STS call and under a timeout of their own: a credential process may take its time.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

type Resolve = dyn Fn() -> Pin<Box<dyn Future<Output = Result<Credentials, CredentialsError>> + Send>> + Send + Sync;

/// Where the proxy's own credentials come from, and the last ones that came.
pub(super) struct BaseCredentials {
    resolve: Box<Resolve>,
    files: Vec<PathBuf>,
    current: Mutex<Arc<Generation>>,
}

/// One resolution, shared by all who ask at the same time.
struct Generation {
    began: Instant,
    stamps: Vec<Option<Stamp>>,
    credentials: OnceCell<Credentials>,
}

impl BaseCredentials {
    /// From the SDK's default chain.
    pub(super) fn chain() -> Self {
        Self::new(shared_files(), || {
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
        files: Vec<PathBuf>,
        resolve: impl Fn() -> Pin<Box<dyn Future<Output = Result<Credentials, CredentialsError>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let current = Mutex::new(Arc::new(Generation::begin(&files)));
        Self { resolve: Box::new(resolve), files, current }
    }

    /// Credentials that are good as far as can be told without asking STS.
    pub(super) async fn provide(&self) -> Result<Credentials, AssumeRoleError> {
        let generation = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if !current.stands(&self.files) {
                *current = Arc::new(Generation::begin(&self.files));
            }
            Arc::clone(&current)
        };
        let failed = |message: String| AssumeRoleError::new(FailureKind::BaseCredentials, message, REMEDY);
        let resolved = generation.credentials.get_or_try_init(|| (self.resolve)());
        match tokio::time::timeout(TIMEOUT, resolved).await {
            Ok(Ok(credentials)) => Ok(credentials.clone()),
            Ok(Err(error)) => Err(failed(causes(&error))),
            Err(_) => {
                let seconds = TIMEOUT.as_secs();
                Err(failed(format!("no source of AWS credentials answered within {seconds} s")))
            }
        }
    }

    /// STS has refused these: the next [`provide`](BaseCredentials::provide) resolves anew, unless somebody has done so already.
    pub(super) fn forget(&self, refused: &Credentials) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.credentials.get().is_some_and(|held| is_same(held, refused)) {
            *current = Arc::new(Generation::begin(&self.files));
        }
    }
}

/// Whether two credentials are the same; an access key id alone may come again with another session.
pub(super) fn is_same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id() && one.session_token() == other.session_token()
}

const REMEDY: &str =
    "give the proxy AWS credentials: environment, profile, SSO, credential_process, web identity or instance role";

impl std::fmt::Debug for BaseCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseCredentials").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Generation {
    fn begin(files: &[PathBuf]) -> Self {
        Self { began: Instant::now(), stamps: stamps(files), credentials: OnceCell::new() }
    }

    fn stands(&self, files: &[PathBuf]) -> bool {
        let in_time = match self.credentials.get().map(Credentials::expiry) {
            // Nothing has come yet: whoever asks resolves it or waits for the one who does.
            None => true,
            Some(Some(expiry)) => expiry.duration_since(SystemTime::now()).is_ok_and(|left| left > AHEAD),
            Some(None) => self.began.elapsed() < UNDATED,
        };
        in_time && self.stamps == stamps(files)
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| Stamp::of(file)).collect()
}

/// The shared files that the chain reads (AWS SDKs and Tools Reference Guide, "Location of the shared files").
fn shared_files() -> Vec<PathBuf> {
    let home = std::env::home_dir();
    [("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")]
        .into_iter()
        .filter_map(|(variable, name)| match std::env::var_os(variable) {
            Some(file) => Some(PathBuf::from(file)),
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

    #[tokio::test(start_paused = true)]
    async fn a_source_that_never_answers_is_given_up_and_tried_again_by_the_next() {
        let base = BaseCredentials::new(Vec::new(), || Box::pin(std::future::pending()));
        let error = base.provide().await.unwrap_err();
        assert_eq!(error.kind, FailureKind::BaseCredentials);
        assert!(error.message.contains("within 15 s"), "{error}");
        assert!(base.provide().await.is_err());
    }
}
