//! A session is granted only if real STS could grant it to this caller: same caps, same conflicts, same refusals.
//!
//! What is not evaluated is who may: there are no policies here. With [`Roles::Any`] every caller may assume every
//! role; with [`Roles::Listed`] the roles of the list exist and the others do not. There is no MFA either.

use std::time::{Duration, SystemTime};

use crate::Roles;
use crate::error::Error;
use crate::query::AssumeRole;
use crate::sessions::{Caller, Inheritance, Tag};

/// The longest session, seconds, that a caller who is a session itself can get, whatever the role says.
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
pub(crate) fn grant(request: &AssumeRole, caller: &Caller, roles: &Roles, now: SystemTime) -> Result<Grant, Error> {
    let max_duration = max_session_duration(request, caller, roles)?;
    check_means_of_identity(request)?;
    check_duration(request.duration, max_duration, caller)?;
    let nothing = Inheritance::default();
    let inherited = caller.session.as_ref().unwrap_or(&nothing);
    let source_identity = source_identity(request, inherited)?;
    check_inherited_tags(request, inherited)?;
    let token_size = token_size(request, inherited)?;
    let session = Inheritance {
        source_identity: source_identity.clone(),
        transitive_tags: inherited.transitive_tags.iter().chain(transitive_tags(request)).cloned().collect(),
    };
    Ok(Grant {
        caller: Caller { principal: request.role.session(&request.session_name), session: Some(session) },
        source_identity,
        expires: now + Duration::from_secs(request.duration.into()),
        token_size,
        token_utilization: token_size * 100 / MAX_TOKEN_SIZE,
    })
}

fn max_session_duration(request: &AssumeRole, caller: &Caller, roles: &Roles) -> Result<u32, Error> {
    match roles {
        Roles::Any => Ok(u32::MAX),
        Roles::Listed(roles) => {
            let role = roles.iter().find(|role| role.arn == request.role_arn);
            role.map(|role| role.max_session_duration).ok_or_else(|| {
                let (caller, role) = (&caller.principal.arn, &request.role_arn);
                Error::AccessDenied(format!(
                    "User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}"
                ))
            })
        }
    }
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
    } else if caller.session.is_some() && asked > ROLE_CHAINING_MAX {
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
    } else {
        return Ok(());
    };
    Err(Error::Validation(message.to_owned()))
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
