//! A session is granted only if real STS could grant it to this caller: same caps, same conflicts, same refusals.
//!
//! With [`Roles::Any`] every caller may assume every role; with [`Roles::Listed`] the roles of the list exist and the
//! others do not, and those with a trust policy are assumed by whom it trusts. There is no MFA.

use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::policy::{AssumeRoleCall, IamCaller, TrustCaller, evaluate, out_of_reach};
use crate::query::AssumeRole;
use crate::sessions::{Caller, Inheritance, Tag};
use crate::{Options, Role, Roles};

/// The longest session, seconds, that a caller who is a session of a role itself can get, whatever the role says.
const ROLE_CHAINING_MAX: u32 = 3600;
/// Bytes. One limit for the whole token since September 2026 (AWS What's New, "AWS STS simplifies session token size
/// limits"); before, packed tags and policies had a much lower limit of their own.
const MAX_TOKEN_SIZE: usize = 4096;
/// Bytes of a token for a session with neither tags nor policies: AWS does not say, this is what is seen.
const BARE_TOKEN_SIZE: usize = 700;
/// Bytes that a tag takes beside its key and its value: a guess.
const TAG_OVERHEAD: usize = 4;

/// A session that may begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) caller: Caller,
    pub(crate) source_identity: Option<String>,
    pub(crate) expires: SystemTime,
    /// Bytes.
    pub(crate) token_size: usize,
    /// Percent of the largest token.
    pub(crate) token_utilization: usize,
}

/// What `caller` gets for `request` at `now`.
pub(crate) fn grant(request: &AssumeRole, caller: &Caller, options: &Options, now: SystemTime) -> Result<Grant, Error> {
    let role = role(request, caller, &options.roles)?;
    check_means_of_identity(request)?;
    let nothing = Inheritance::default();
    let inherited = caller.session.as_ref().unwrap_or(&nothing);
    check_trust(request, caller, role, inherited, options.identity_allows, now)?;
    check_duration(request.duration, role.map_or(u32::MAX, |role| role.max_session_duration), caller)?;
    let source_identity = source_identity(request, inherited)?;
    check_inherited_tags(request, inherited)?;
    let token_size = token_size(request, inherited)?;
    let session = Inheritance {
        source_identity: source_identity.clone(),
        transitive_tags: inherited.transitive_tags.iter().chain(transitive_tags(request)).cloned().collect(),
    };
    Ok(Grant {
        caller: session_caller(request, role, session, now),
        source_identity,
        expires: now + Duration::from_secs(request.duration.into()),
        token_size,
        token_utilization: token_size * 100 / MAX_TOKEN_SIZE,
    })
}

/// None where every role ARN names a role.
fn role<'a>(request: &AssumeRole, caller: &Caller, roles: &'a Roles) -> Result<Option<&'a Role>, Error> {
    match (roles, roles.find(&request.role_arn)) {
        (Roles::Any, _) => Ok(None),
        (Roles::Listed(_), Some(role)) => Ok(Some(role)),
        // AWS's sentence, and what AWS does not tell.
        (Roles::Listed(listed), None) => Err(Error::AccessDenied(format!(
            "{} (the emulator has no role of this ARN; it has {})",
            denied(caller, "sts:AssumeRole", request),
            some_of(listed)
        ))),
    }
}

/// The first few, so that who has mistyped one sees it.
fn some_of(listed: &[Role]) -> String {
    const FEW: usize = 3;
    let mut told: Vec<_> = listed.iter().take(FEW).map(|role| role.arn.clone()).collect();
    match listed.len() {
        0 => told.push("none".to_owned()),
        count if count > FEW => told.push(format!("{} more", count - FEW)),
        _ => {}
    }
    told.join(", ")
}

fn denied(caller: &Caller, action: &str, request: &AssumeRole) -> String {
    let (caller, role) = (&caller.principal.arn, &request.role_arn);
    format!("User: {caller} is not authorized to perform: {action} on resource: {role}")
}

/// Asks the role's trust policy, if it has one. Without one it trusts everybody who can have it at all.
fn check_trust(
    request: &AssumeRole,
    caller: &Caller,
    role: Option<&Role>,
    inherited: &Inheritance,
    identity_allows: bool,
    now: SystemTime,
) -> Result<(), Error> {
    let Some(role) = role else { return Ok(()) };
    // AWS's sentence, and what AWS does not tell.
    let because = |action, why: &str| {
        Err(Error::AccessDenied(format!("{} (the emulator{why})", denied(caller, action, request))))
    };
    let Some(policy) = &role.trust_policy else {
        let out_of_reach = out_of_reach(&caller.trusted_as, &role.arn);
        return out_of_reach.map_or(Ok(()), |why| because("sts:AssumeRole", &format!(": {why}")));
    };
    let call = AssumeRoleCall {
        role_arn: role.arn.clone(),
        role_tags: Some(role.tags.clone()),
        session_name: request.session_name.clone(),
        tags: request.tags.clone(),
        transitive_tag_keys: request.transitive_keys.clone(),
        inherited_tags: inherited.transitive_tags.clone(),
        source_identity: request.source_identity.clone(),
        external_id: request.external_id.clone(),
        region: caller.region.clone(),
        at: now,
        more: Vec::new(),
    };
    match evaluate(policy, &caller.trusted_as, &call, identity_allows).denial() {
        None => Ok(()),
        Some(verdict) => because(verdict.action, &format!(", of the role's trust policy: {}", verdict.reason)),
    }
}

/// The new session, as it will call itself.
fn session_caller(request: &AssumeRole, role: Option<&Role>, session: Inheritance, now: SystemTime) -> Caller {
    let principal = request.role.session(&request.session_name);
    let of_role = role.map(|role| role.tags.as_slice()).unwrap_or_default();
    // Session tags come before the role's own of the same key.
    let tags = of_role.iter().chain(&session.transitive_tags).chain(&request.tags).cloned().collect();
    let trusted_as = TrustCaller::Iam(IamCaller {
        arn: principal.arn.clone(),
        principal_arn: request.role_arn.clone(),
        session_is_known: true,
        path_is_known: true,
        account: principal.account.clone(),
        user_id: Some(principal.user_id.clone()),
        tags: Some(tags),
        source_identity: session.source_identity.clone(),
        token_issued: Some(now),
    });
    Caller { principal, session: Some(session), trusted_as, region: None }
}

/// Refuses what the emulator has no way to verify, rather than to pretend that it did.
fn check_means_of_identity(request: &AssumeRole) -> Result<(), Error> {
    match (request.serial_number, request.token_code) {
        (false, false) => {}
        (true, true) => {
            return Err(Error::AccessDenied(
                "MultiFactorAuthentication failed, unable to validate MFA code. The emulator knows no MFA devices: \
                 leave out SerialNumber and TokenCode."
                    .to_owned(),
            ));
        }
        _ => {
            return Err(Error::AccessDenied(
                "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
                    .to_owned(),
            ));
        }
    }
    if request.provided_contexts {
        return Err(Error::AccessDenied(
            "The emulator cannot verify ProvidedContexts, which only AWS can sign: leave them out.".to_owned(),
        ));
    }
    Ok(())
}

fn check_duration(asked: u32, max: u32, caller: &Caller) -> Result<(), Error> {
    let message = if asked > max {
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    } else if is_role_session(caller) && asked > ROLE_CHAINING_MAX {
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
    } else {
        return Ok(());
    };
    Err(Error::Validation(message.to_owned()))
}

/// Whether what the caller assumes is role chaining. A role that was added as a caller is a session too, which began elsewhere; whether AWS
/// counts one of an instance profile is told one way and the other.
fn is_role_session(caller: &Caller) -> bool {
    matches!(&caller.trusted_as, TrustCaller::Iam(iam) if iam.is_session())
}

/// Once set, the source identity stays for the whole chain; to say it again is no change.
fn source_identity(request: &AssumeRole, inherited: &Inheritance) -> Result<Option<String>, Error> {
    match (&inherited.source_identity, &request.source_identity) {
        (Some(set), Some(asked)) if set != asked => {
            Err(Error::Validation("The source identity is already set for this assume role session".to_owned()))
        }
        (Some(set), _) => Ok(Some(set.clone())),
        (None, asked) => Ok(asked.clone()),
    }
}

fn check_inherited_tags(request: &AssumeRole, inherited: &Inheritance) -> Result<(), Error> {
    let conflict = |tag: &Tag| inherited.transitive_tags.iter().any(|other| same_key(&other.key, &tag.key));
    if request.tags.iter().any(conflict) {
        return Err(Error::InvalidParameterValue(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from \
             the calling session."
                .to_owned(),
        ));
    }
    Ok(())
}

fn transitive_tags(request: &AssumeRole) -> impl Iterator<Item = &Tag> {
    request.tags.iter().filter(|tag| request.transitive_keys.iter().any(|key| same_key(key, &tag.key)))
}

fn same_key(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// How long the token is, and whether there is such a token.
///
/// How AWS packs a session is not published. What is known: tags and policies become part of the token, and the whole
/// token may be 4,096 bytes. So they are counted as they are, written in base64, without any compression.
fn token_size(request: &AssumeRole, inherited: &Inheritance) -> Result<usize, Error> {
    let tags = request.tags.iter().chain(&inherited.transitive_tags);
    let tags: usize = tags.map(|tag| tag.key.len() + tag.value.len() + TAG_OVERHEAD).sum();
    let content = tags + request.policy_size;
    let size = (BARE_TOKEN_SIZE + content.div_ceil(3) * 4).max(request.minimum_token_size.next_multiple_of(4));
    if size <= MAX_TOKEN_SIZE {
        return Ok(size);
    }
    let percent = (size * 100).div_ceil(MAX_TOKEN_SIZE);
    Err(Error::PackedPolicyTooLarge(if request.policy_size == 0 {
        format!("Packed size of session tags consumes {percent}% of allotted space.")
    } else {
        format!("Packed policy consumes {percent}% of allotted space, please use smaller policy.")
    }))
}
