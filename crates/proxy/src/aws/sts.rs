//! sts:AssumeRole through the AWS SDK: one call for one load, every timeout set, no retry of the SDK's own.
//!
//! The cell decides when to try again, so that the node's rate budget counts every call that STS sees. Two exceptions: a duration
//! that STS refuses is asked for once more at 3600 s, and the role is remembered; and where STS says that the proxy's own
//! credentials have ended, they are resolved anew and the call is made once more.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion};
use aws_sdk_sts::Client;
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::config::{Builder, Credentials, Region};
use aws_sdk_sts::error::SdkError;
use aws_sdk_sts::operation::assume_role::{AssumeRoleError as SdkAssumeRoleError, AssumeRoleOutput};
use aws_sdk_sts::types::{PolicyDescriptorType, Tag};
use secrecy::{ExposeSecret, SecretString};
use taskcreds_core::{
    AssumeRole, AssumeRoleError, FailureKind, NewSession, Pending, RoleArn, Session, SessionDuration, SessionSpec,
};
use tokio::sync::OnceCell;

use super::base_credentials::{BaseCredentials, is_same};
use super::classify::{classify, request_id};

/// The SDK's defaults have no read, attempt or operation timeout: a silent server held a call for 30 s. Four seconds: an STS that takes three is
/// slow and not away, and one that was away is seen within five seconds of its return.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// Where the proxy's own credentials and the endpoint of STS come from.
#[derive(Debug)]
pub enum Base {
    /// The SDK's whole default chain, and `AWS_ENDPOINT_URL_STS` if set.
    Chain,
    /// The embedded STS, whatever the environment says.
    Emulator {
        /// `http://127.0.0.1:PORT`
        endpoint: String,
        /// The access key of the caller that the emulator knows.
        access_key_id: String,
        /// Its secret.
        secret_access_key: SecretString,
        /// The emulator itself, where it is in this process.
        embedded: Option<Embedded>,
    },
}

/// The embedded STS. It alone gives sessions that are too short for AWS, so what such sessions need is chosen by its presence.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The emulator.
    pub emulator: taskcreds_sts_emulator::Emulator,
    /// How long its sessions last at most, where somebody has asked for short ones.
    pub session_seconds: Option<u32>,
}

impl Base {
    /// The embedded STS, where there is one.
    #[must_use]
    pub fn embedded(&self) -> Option<&Embedded> {
        match self {
            Self::Chain => None,
            Self::Emulator { embedded, .. } => embedded.as_ref(),
        }
    }
}

/// The STS client.
#[derive(Debug)]
pub struct Sts {
    base: Base,
    credentials: BaseCredentials,
    /// Made at the first call: reading profiles and TLS roots would delay the first answer.
    client: OnceCell<Client>,
    /// The proxy's own credentials that STS has refused last, and its words; none where it has taken them since.
    refused: Mutex<Option<(Credentials, AssumeRoleError)>>,
    /// The roles for which STS has refused a longer session than an hour: at most as many as were ever registered.
    hour_at_most: Mutex<HashSet<RoleArn>>,
}

impl Sts {
    /// A client that reads no file and opens no connection before its first call.
    #[must_use]
    pub fn new(base: Base) -> Self {
        let credentials = match &base {
            Base::Chain => BaseCredentials::chain(),
            Base::Emulator { access_key_id, secret_access_key, .. } => BaseCredentials::fixed(Credentials::new(
                access_key_id,
                secret_access_key.expose_secret(),
                None,
                None,
                "embedded STS",
            )),
        };
        let (refused, hour_at_most) = (Mutex::default(), Mutex::default());
        Self { base, credentials, client: OnceCell::new(), refused, hour_at_most }
    }

    /// Resolves the proxy's own credentials, as a call would; asks nothing of STS, and remembers what it has said of these.
    ///
    /// # Errors
    /// Why there are none, or why STS has refused them.
    pub async fn check_base_credentials(&self) -> Result<(), AssumeRoleError> {
        let credentials = self.credentials.provide().await?;
        match self.refused().as_ref().filter(|(refused, _)| is_same(refused, &credentials)) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Notes what a call has told of the credentials that it was made with. STS that cannot be reached tells nothing.
    fn note(&self, credentials: &Credentials, outcome: &Result<Session, AssumeRoleError>) {
        match outcome {
            Ok(_) => *self.refused() = None,
            Err(error) => match error.kind {
                FailureKind::BaseCredentials => *self.refused() = Some((credentials.clone(), error.clone())),
                FailureKind::Refused => *self.refused() = None,
                FailureKind::Throttled | FailureKind::Unavailable => {}
            },
        }
    }

    // Set as a whole.
    fn refused(&self) -> MutexGuard<'_, Option<(Credentials, AssumeRoleError)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client(&self) -> &Client {
        self.client
            .get_or_init(|| async {
                let mut builder = match &self.base {
                    Base::Chain => {
                        // Credentials come with each call.
                        let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).no_credentials();
                        Builder::from(&config.region(own_region()).load().await)
                    }
                    Base::Emulator { endpoint, .. } => Builder::new()
                        .behavior_version(BehaviorVersion::v2026_01_12())
                        .endpoint_url(endpoint)
                        .region(Region::from_static("us-east-1"))
                        // Plain HTTP to loopback, past any HTTP_PROXY.
                        .http_client(aws_smithy_http_client::Builder::new().build_http()),
                };
                let timeouts = TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(OPERATION_TIMEOUT)
                    .build();
                // Tells the proxy's calls apart in CloudTrail's `userAgent`.
                builder.set_app_name(AppName::new("taskcreds").ok());
                Client::from_conf(builder.timeout_config(timeouts).retry_config(RetryConfig::disabled()).build())
            })
            .await
    }

    fn hour_at_most(&self) -> MutexGuard<'_, HashSet<RoleArn>> {
        self.hour_at_most.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call; a second one when STS says that the proxy's own credentials have ended and there are other ones by now.
    async fn ask(&self, spec: &SessionSpec, duration: SessionDuration) -> Result<Session, AssumeRoleError> {
        let credentials = self.credentials.provide().await?;
        let error = match self.call(spec, duration, &credentials).await {
            Err(error) if ends_credentials(&error) => error,
            outcome => return outcome,
        };
        self.credentials.forget(&credentials);
        let renewed = self.credentials.provide().await?;
        if is_same(&renewed, &credentials) {
            return Err(error);
        }
        self.call(spec, duration, &renewed).await
    }

    async fn call(
        &self,
        spec: &SessionSpec,
        duration: SessionDuration,
        credentials: &Credentials,
    ) -> Result<Session, AssumeRoleError> {
        let client = self.client().await;
        let region = match (&spec.region, client.config().region()) {
            (Some(region), _) => Some(region),
            (None, Some(_)) => None,
            (None, None) => Some(&spec.fallback_region),
        };
        let seconds = i32::try_from(duration.seconds()).unwrap_or(i32::MAX);
        let tags = spec.tags.iter().map(|tag| Tag::builder().key(tag.key()).value(tag.value()).build());
        let tags: Result<Vec<_>, _> = tags.collect();
        let tags =
            tags.map_err(|error| AssumeRoleError::new(FailureKind::Refused, error.to_string(), "correct the tags"))?;
        let transitive = spec.tags.iter().filter(|_| spec.transitive_tags).map(|tag| tag.key().to_owned()).collect();
        let policies =
            spec.policy_arns.iter().map(|arn| PolicyDescriptorType::builder().arn(arn.as_str()).build()).collect();
        let mut call = client
            .assume_role()
            .role_arn(spec.role_arn.as_str())
            .role_session_name(spec.session_name.as_str())
            .duration_seconds(seconds)
            .set_tags(Some(tags).filter(|tags| !tags.is_empty()))
            .set_transitive_tag_keys(Some(transitive).filter(|keys: &Vec<_>| !keys.is_empty()))
            .set_source_identity(spec.source_identity.as_ref().map(ToString::to_string))
            .set_external_id(spec.external_id.as_ref().map(ToString::to_string))
            .set_policy(spec.policy.as_ref().map(ToString::to_string))
            .set_policy_arns(Some(policies).filter(|arns: &Vec<_>| !arns.is_empty()))
            .customize();
        let mut with = Builder::new().credentials_provider(credentials.clone());
        if let Some(region) = region {
            with = with.region(Region::new(region.to_string()));
        }
        call = call.config_override(with);
        let outcome = outcome(spec, call.send().await);
        self.note(credentials, &outcome);
        outcome
    }
}

impl AssumeRole for Sts {
    fn assume_role<'a>(&'a self, spec: &'a SessionSpec) -> Pending<'a> {
        Box::pin(async move {
            let capped = spec.duration > SessionDuration::HOUR && self.hour_at_most().contains(&spec.role_arn);
            let duration = if capped { SessionDuration::HOUR } else { spec.duration };
            match self.ask(spec, duration).await {
                Err(error) if duration > SessionDuration::HOUR && refuses_duration(&error) => {
                    tracing::warn!(
                        role_arn = %spec.role_arn, asked = duration.seconds(),
                        "STS refuses this duration; asking for 3600 s from now on: {error}"
                    );
                    self.hour_at_most().insert(spec.role_arn.clone());
                    self.ask(spec, SessionDuration::HOUR).await
                }
                outcome => outcome,
            }
        })
    }
}

/// Role chaining allows an hour, and a role its own maximum; STS says both as a `ValidationError` that names the parameter.
fn refuses_duration(error: &AssumeRoleError) -> bool {
    error.code.as_deref().is_some_and(|code| code.starts_with("Validation"))
        && error.message.contains("DurationSeconds")
}

/// STS says that the credentials the call was signed with have ended or never were; new ones may be there already.
fn ends_credentials(error: &AssumeRoleError) -> bool {
    let codes = ["ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId"];
    error.code.as_deref().is_some_and(|code| codes.contains(&code))
}

/// The region of the environment or the profile. IMDS is not asked: it would delay the first call by seconds where there is none,
/// and a task ARN names a region anyway.
pub(super) fn own_region() -> RegionProviderChain {
    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::builder().build())
}

/// The region's name, where the environment or the profile has one.
pub async fn own_region_name() -> Option<String> {
    aws_config::meta::region::ProvideRegion::region(&own_region()).await.map(|region| region.to_string())
}

/// What a call's end is made into.
///
/// # Errors
/// STS refused, or answered nothing that can be served as a session.
#[doc(hidden)] // Public for fuzz/ alone: no other public function takes a reply of one's choice.
pub fn outcome(
    spec: &SessionSpec,
    asked: Result<AssumeRoleOutput, SdkError<SdkAssumeRoleError, HttpResponse>>,
) -> Result<Session, AssumeRoleError> {
    match asked {
        Ok(output) => session(spec, &output),
        Err(error) => Err(classify(&error)),
    }
}

fn session(spec: &SessionSpec, output: &AssumeRoleOutput) -> Result<Session, AssumeRoleError> {
    let incomplete = || {
        let message = "STS answered without credentials, an assumed role or an expiration";
        let error = AssumeRoleError::new(FailureKind::Unavailable, message, "see what answers as STS");
        AssumeRoleError { request_id: request_id(output), ..error }
    };
    let credentials = output.credentials().ok_or_else(incomplete)?;
    let user = output.assumed_role_user().ok_or_else(incomplete)?;
    // The SDK fills in what an answer lacks: empty texts, and an expiration in 1970.
    if user.arn().is_empty() || user.assumed_role_id().is_empty() || credentials.expiration().secs() <= 0 {
        return Err(incomplete());
    }
    Session::new(NewSession {
        role_arn: spec.role_arn.clone(),
        access_key_id: credentials.access_key_id().to_owned(),
        secret_access_key: credentials.secret_access_key().into(),
        session_token: credentials.session_token().into(),
        expiration: SystemTime::try_from(*credentials.expiration()).map_err(|_| incomplete())?,
        assumed_role_arn: user.arn().to_owned(),
        assumed_role_id: user.assumed_role_id().to_owned(),
        request_id: request_id(output),
    })
}
