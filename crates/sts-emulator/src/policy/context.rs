//! The request context of one AssumeRole: which keys AWS would have filled in, for an IAM principal and for ECS.
//!
//! The two differ in the keys that matter most. `aws:SourceArn` and `aws:SourceAccount` exist only where an AWS service calls on behalf
//! of somebody's resource; the keys of a principal and of session tags exist only where an IAM principal calls (IAM User Guide, "AWS
//! global condition context keys"; "Available keys for AWS STS" in the Service Authorization Reference).

mod given;

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::arn::place;
use super::document::{ASSUME_ROLE, SET_SOURCE_IDENTITY, TAG_SESSION};
use super::ecs_source::EcsSource;
use crate::Tag;
use crate::principal::{IamArn, Kind, is_name_character};

/// The service as which Amazon ECS assumes the roles of tasks.
pub(crate) const ECS_TASKS: &str = "ecs-tasks.amazonaws.com";

/// One call of AssumeRole, as a trust policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumeRoleCall {
    /// The role that is to be assumed: `arn:aws:iam::111122223333:role/path/name`.
    pub role_arn: String,
    /// The tags of that role; none where they are not known.
    pub role_tags: Option<Vec<Tag>>,
    /// `RoleSessionName`.
    pub session_name: String,
    /// `Tags`.
    pub tags: Vec<Tag>,
    /// `TransitiveTagKeys`.
    pub transitive_tag_keys: Vec<String>,
    /// The transitive tags that the caller's own session hands on.
    pub inherited_tags: Vec<Tag>,
    /// `SourceIdentity`.
    pub source_identity: Option<String>,
    /// `ExternalId`.
    pub external_id: Option<String>,
    /// The region whose STS is asked; none where that is not known.
    pub region: Option<String>,
    /// When.
    pub at: SystemTime,
    /// Further keys and their values, of those that nobody here can know ([`AssumeRoleCall::why_not_given`]); others change nothing. A key
    /// of several values may be there several times.
    pub more: Vec<(String, String)>,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustCaller {
    /// An IAM principal, like the role of a proxy.
    Iam(IamCaller),
    /// Amazon ECS, for one of its tasks.
    EcsTasks {
        /// `arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID`, from which `aws:SourceArn` and `aws:SourceAccount` follow.
        task_arn: String,
    },
}

/// An IAM principal that calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IamCaller {
    /// What `GetCallerIdentity` says: the ARN of a user or of an assumed-role session.
    pub arn: String,
    /// The ARN of the user, or of the role whose session it is, with its path.
    pub principal_arn: String,
    /// Whether `arn` is the very session, and not one that stands for any session of the role.
    pub session_is_known: bool,
    /// Whether `principal_arn` has the role's path. A session's ARN does not tell it.
    pub path_is_known: bool,
    /// The account.
    pub account: String,
    /// `aws:userid`; none where it is not known.
    pub user_id: Option<String>,
    /// The tags of the principal and of its session; none where they are not known.
    pub tags: Option<Vec<Tag>>,
    /// The source identity of its session.
    pub source_identity: Option<String>,
    /// When its temporary credentials were issued; none where they are long-term ones or where that is not known.
    pub token_issued: Option<SystemTime>,
}

impl IamCaller {
    /// The caller of this ARN, of whom nothing else is known: a user, a role (by any of its sessions), or one session of a role
    /// (`arn:aws:sts::111122223333:assumed-role/ROLE/SESSION`, which tells the role without its path). None if it is none of these.
    #[must_use]
    pub fn of(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (_, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (account, resource) = (parts.nth(1)?, parts.next()?);
        let (principal_arn, session_is_known) = match resource.strip_prefix("assumed-role/") {
            Some(session) if service == "sts" => {
                let (role, session) = session.split_once('/')?;
                let sound = (2..=64).contains(&session.len()) && session.chars().all(is_name_character);
                (sound.then(|| format!("arn:{partition}:iam::{account}:role/{role}"))?, true)
            }
            _ => (arn.to_owned(), false),
        };
        let principal = IamArn::parse(&principal_arn)?;
        let arn = match principal.kind {
            Kind::User => principal_arn.clone(),
            Kind::Role if session_is_known => arn.to_owned(),
            Kind::Role => principal.session("*").arn,
        };
        let account = principal.account;
        let (user_id, tags, source_identity, token_issued) = (None, None, None, None);
        let path_is_known = !session_is_known;
        Some(Self {
            arn,
            principal_arn,
            session_is_known,
            path_is_known,
            account,
            user_id,
            tags,
            source_identity,
            token_issued,
        })
    }

    /// Whether it is a session of a role.
    #[must_use]
    pub fn is_session(&self) -> bool {
        self.arn.contains(":assumed-role/")
    }
}

impl TrustCaller {
    /// How AWS names the caller when it is denied.
    #[must_use]
    pub fn arn(&self) -> &str {
        match self {
            Self::Iam(caller) => &caller.arn,
            Self::EcsTasks { .. } => ECS_TASKS,
        }
    }
}

impl AssumeRoleCall {
    /// The actions that must all be allowed. Tags that the caller's session hands on need sts:TagSession again.
    pub(super) fn actions(&self, caller: &TrustCaller) -> Vec<&'static str> {
        let inherited = match caller {
            TrustCaller::Iam(caller) => caller.source_identity.is_some(),
            TrustCaller::EcsTasks { .. } => false,
        };
        let mut actions = vec![ASSUME_ROLE];
        if !self.tags.is_empty() || !self.inherited_tags.is_empty() {
            actions.push(TAG_SESSION);
        }
        if self.source_identity.is_some() || inherited {
            actions.push(SET_SOURCE_IDENTITY);
        }
        actions
    }

    /// Why the value of a key cannot be given by [`AssumeRoleCall::more`]: who else tells it, or that this call does not have the key. None
    /// where nobody here knows it.
    #[must_use]
    pub fn why_not_given(&self, key: &str, caller: &TrustCaller) -> Option<String> {
        Context::of_what_is_told(self, caller).why_not_given(key)
    }
}

/// What a key of the context holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    One(String),
    Many(Vec<String>),
    /// There is a value, and what it is cannot be known here, for this reason.
    Unknown(&'static str),
    /// The `aws:SourceArn` of ECS: AWS does not say which one it is, only that it names all clusters.
    EcsSource(EcsSource),
}

/// All keys of a request, without case, as IAM looks them up.
#[derive(Debug, Default)]
pub(super) struct Context {
    values: BTreeMap<String, Value>,
    is_ecs: bool,
    /// Whether the tags of the principal that are not in `values` have values that nobody knows here.
    principal_tags_unknown: bool,
    /// The same for the tags of the role.
    role_tags_unknown: bool,
    /// The same for the keys of the identity provider through which the caller's session may have begun.
    provider_unknown: bool,
}

const NOT_KNOWN: &str = "its value is not known here";
const UNKNOWN: &Value = &Value::Unknown(NOT_KNOWN);
const ROLE_UNKNOWN: &Value = &Value::Unknown("a policy alone does not tell its role's tags: give a role file");

/// What temporary credentials may bring, whoever has them.
const ANY_SESSION: [&str; 3] = ["aws:MultiFactorAuthPresent", "aws:MultiFactorAuthAge", "aws:SignInSessionArn"];

/// What a role's session may bring beyond that, as it depends on where it began.
const ROLE_SESSIONS: [&str; 14] = [
    "aws:SourceIdentity",
    "aws:FederatedProvider",
    "aws:ChatbotSourceArn",
    "aws:Ec2InstanceSourceVPC",
    "aws:Ec2InstanceSourcePrivateIPv4",
    "codebuild:BuildArn",
    "codebuild:ProjectArn",
    "ec2:SourceInstanceArn",
    "ec2:RoleDelivery",
    "glue:CredentialIssuingService",
    "glue:RoleAssumedBy",
    "identitystore:UserId",
    "lambda:SourceFunctionArn",
    "ssm:SourceInstanceArn",
];

impl Context {
    /// The context of a call.
    pub(super) fn new(call: &AssumeRoleCall, caller: &TrustCaller) -> Self {
        let mut context = Self::of_what_is_told(call, caller);
        context.give(&call.more);
        context
    }

    /// What follows from the call and its caller, without what is given beside.
    fn of_what_is_told(call: &AssumeRoleCall, caller: &TrustCaller) -> Self {
        let mut context = Self { is_ecs: matches!(caller, TrustCaller::EcsTasks { .. }), ..Self::default() };
        context.of_the_call(call);
        match caller {
            TrustCaller::Iam(iam) => context.of_the_principal(iam, call.at),
            TrustCaller::EcsTasks { task_arn } => context.of_ecs(task_arn),
        }
        context
    }

    #[cfg(test)]
    pub(super) fn of<'a>(values: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let values = values.into_iter().map(|(key, value)| (key.to_lowercase(), value)).collect();
        Self { values, ..Self::default() }
    }

    /// The keys, in lower case, and their values.
    #[cfg(test)]
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key; none where the request does not have the key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let key = key.to_lowercase();
        let unknown = self.principal_tags_unknown && key.starts_with("aws:principaltag/")
            || self.provider_unknown && is_of_a_provider(&key);
        let of_the_role = ["aws:resourcetag/", "iam:resourcetag/"].iter().any(|prefix| key.starts_with(prefix));
        let role_unknown = self.role_tags_unknown && of_the_role;
        self.values.get(&key).or(unknown.then_some(UNKNOWN)).or(role_unknown.then_some(ROLE_UNKNOWN))
    }

    /// Why a key that the policy asks for is not there, where that is a trap.
    pub(super) fn why_absent(&self, key: &str) -> Option<&'static str> {
        let key = key.to_lowercase();
        match (key.as_str(), self.is_ecs) {
            (
                "aws:sourcearn"
                | "aws:sourceaccount"
                | "aws:sourceorgid"
                | "aws:sourceorgpaths"
                | "aws:principalservicename"
                | "aws:principalservicenameslist",
                false,
            ) => Some("only the call of an AWS service has it"),
            ("sts:durationseconds", _) => Some("AssumeRole never has it"),
            ("sts:externalid", true) => Some("ECS sends no external id"),
            ("sts:sourceidentity", true) => Some("ECS sets no source identity"),
            ("aws:tagkeys" | "sts:transitivetagkeys", true) => Some("ECS passes no session tags"),
            (key, true) if key.starts_with("aws:requesttag/") => Some("ECS passes no session tags"),
            ("aws:userid" | "aws:username", true) => Some("an AWS service is no IAM principal"),
            (key, true) if key.starts_with("aws:principal") => Some("an AWS service is no IAM principal"),
            _ => None,
        }
    }

    fn set(&mut self, key: &str, value: Value) {
        self.values.insert(key.to_lowercase(), value);
    }

    fn one(&mut self, key: &str, value: &str) {
        self.set(key, Value::One(value.to_owned()));
    }

    fn tags(&mut self, prefix: &str, tags: &[Tag]) {
        for tag in tags {
            self.one(&format!("{prefix}{}", tag.key), &tag.value);
        }
    }

    fn of_the_call(&mut self, call: &AssumeRoleCall) {
        self.role_tags_unknown = call.role_tags.is_none();
        let role_tags = call.role_tags.as_deref().unwrap_or_default();
        self.tags("aws:ResourceTag/", role_tags);
        self.tags("iam:ResourceTag/", role_tags);
        self.tags("aws:ResourceTag/", &call.inherited_tags);
        self.tags("aws:RequestTag/", &call.tags);
        if !call.tags.is_empty() {
            self.set("aws:TagKeys", Value::Many(call.tags.iter().map(|tag| tag.key.clone()).collect()));
        }
        if !call.transitive_tag_keys.is_empty() {
            self.set("sts:TransitiveTagKeys", Value::Many(call.transitive_tag_keys.clone()));
        }
        self.one("sts:RoleSessionName", &call.session_name);
        for (key, value) in [("sts:ExternalId", &call.external_id), ("sts:SourceIdentity", &call.source_identity)] {
            if let Some(value) = value {
                self.one(key, value);
            }
        }
        if let Some(account) = place(&call.role_arn).1 {
            self.one("aws:ResourceAccount", account);
        }
        self.one("aws:SecureTransport", "true");
        self.one("aws:CurrentTime", &rfc3339(call.at));
        let since_1970 = call.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.one("aws:EpochTime", &since_1970.as_secs().to_string());
        match &call.region {
            Some(region) => self.one("aws:RequestedRegion", region),
            None => self.set("aws:RequestedRegion", UNKNOWN.clone()),
        }
        // AWS fills these in from what it sees of the network and of organizations, which is nothing that could be made up here.
        for key in [
            "aws:SourceIp",
            "aws:UserAgent",
            "aws:SourceVpc",
            "aws:SourceVpcArn",
            "aws:SourceVpce",
            "aws:VpcSourceIp",
            "aws:VpceAccount",
            "aws:VpceOrgID",
            "aws:VpceOrgPaths",
            "aws:PrincipalOrgID",
            "aws:PrincipalOrgPaths",
            "aws:ResourceOrgID",
            "aws:ResourceOrgPaths",
        ] {
            self.set(key, UNKNOWN.clone());
        }
    }

    fn of_the_principal(&mut self, caller: &IamCaller, at: SystemTime) {
        let IamCaller { principal_arn, account, user_id, tags, source_identity, token_issued, .. } = caller;
        if caller.path_is_known {
            self.one("aws:PrincipalArn", principal_arn);
        } else {
            self.set(
                "aws:PrincipalArn",
                Value::Unknown("a session's ARN does not tell the path of its role: give the role's"),
            );
        }
        self.one("aws:PrincipalAccount", account);
        self.one("aws:PrincipalIsAWSService", "false");
        self.one("aws:ViaAWSService", "false");
        match user_id {
            Some(id) => self.one("aws:userid", id),
            None => self.set("aws:userid", UNKNOWN.clone()),
        }
        self.principal_tags_unknown = tags.is_none();
        self.tags("aws:PrincipalTag/", tags.as_deref().unwrap_or_default());
        if caller.is_session() {
            self.one("aws:PrincipalType", "AssumedRole");
            self.one("aws:MultiFactorAuthPresent", "false");
        } else {
            self.one("aws:PrincipalType", "User");
            self.one("aws:username", principal_arn.rsplit('/').next().unwrap_or_default());
        }
        match token_issued {
            Some(issued) => self.one("aws:TokenIssueTime", &rfc3339((*issued).min(at))),
            None if caller.is_session() || tags.is_none() => self.set("aws:TokenIssueTime", UNKNOWN.clone()),
            None => {}
        }
        // Of whom nothing is known, the session may come from anywhere; also a user may call with one, of GetSessionToken.
        if tags.is_none() {
            self.provider_unknown = caller.is_session();
            let of_a_role = if caller.is_session() { &ROLE_SESSIONS[..] } else { &[] };
            for key in ANY_SESSION.iter().chain(of_a_role) {
                self.set(key, UNKNOWN.clone());
            }
        }
        if let Some(identity) = source_identity {
            self.one("aws:SourceIdentity", identity);
        }
    }

    fn of_ecs(&mut self, task_arn: &str) {
        if let [arn, partition, service, region, account, _] = task_arn.splitn(6, ':').collect::<Vec<_>>()[..] {
            let head = [arn, partition, service, region, account].join(":");
            let any = format!("{head}:task/\u{1}/\u{1}");
            self.set("aws:SourceArn", Value::EcsSource(EcsSource { task: task_arn.to_owned(), any }));
            self.one("aws:SourceAccount", account);
        }
        self.one("aws:PrincipalIsAWSService", "true");
        self.one("aws:PrincipalServiceName", ECS_TASKS);
        for key in ["aws:PrincipalServiceNamesList", "aws:SourceOrgID", "aws:SourceOrgPaths", "aws:ViaAWSService"] {
            self.set(key, UNKNOWN.clone());
        }
        for key in ["aws:PrincipalOrgID", "aws:PrincipalOrgPaths"] {
            self.values.remove(&key.to_lowercase());
        }
    }
}

/// Whether a key, in lower case, is one of SAML or of an OpenID Connect provider, which begins with the provider's host.
fn is_of_a_provider(key: &str) -> bool {
    key.split_once(':').is_some_and(|(prefix, _)| prefix == "saml" || prefix.contains('.'))
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests;
