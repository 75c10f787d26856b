//! What comes out of here is an `AssumeRole` request within all limits that can be checked without knowing who asks.
//!
//! Source: AWS STS API Reference, `AssumeRole`, "Request Parameters". Unknown parameters are ignored.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::Error;
use crate::form::Form;
use crate::principal::{IamArn, Kind, is_account};
use crate::sessions::Tag;
use crate::validation::{self, Violations};

/// `DurationSeconds` where none is asked for.
const DEFAULT_DURATION: u32 = 3600;
const MAX_TAGS: usize = 50;
const MAX_POLICY_ARNS: usize = 10;
const MAX_CONTEXTS: usize = 5;
/// Characters of the inline policy and the policy ARNs together.
const MAX_POLICY_CHARACTERS: usize = 2048;

/// The operations of the emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    AssumeRole,
    GetCallerIdentity,
}

const VERSION: &str = "2011-06-15";

/// A request that keeps to the API's limits.
pub(crate) struct AssumeRole {
    pub(crate) role_arn: String,
    pub(crate) role: IamArn,
    pub(crate) session_name: String,
    /// Seconds, 900 to 43,200.
    pub(crate) duration: u32,
    /// Unique by key without case; not yet compared with the tags that the caller inherited.
    pub(crate) tags: Vec<Tag>,
    /// Each is the key of one of the tags, without case.
    pub(crate) transitive_keys: Vec<String>,
    pub(crate) source_identity: Option<String>,
    pub(crate) external_id: Option<String>,
    /// Bytes of the inline policy without insignificant white space, and of the policy ARNs.
    pub(crate) policy_size: usize,
    /// Bytes, 0 to 4,096.
    pub(crate) minimum_token_size: usize,
    pub(crate) serial_number: bool,
    pub(crate) token_code: bool,
    pub(crate) provided_contexts: bool,
}

impl Action {
    /// The operation that `Action` and `Version` name.
    pub(crate) fn parse(form: &Form) -> Result<Self, Error> {
        let action = form.text("Action").filter(|action| !action.is_empty()).ok_or(Error::MissingAction)?;
        match (action, form.text("Version")) {
            ("AssumeRole", Some(VERSION)) => Ok(Self::AssumeRole),
            ("GetCallerIdentity", Some(VERSION)) => Ok(Self::GetCallerIdentity),
            (action, version) => Err(Error::InvalidAction {
                action: action.to_owned(),
                version: version.unwrap_or("NO_VERSION_SPECIFIED").to_owned(),
            }),
        }
    }
}

impl AssumeRole {
    pub(crate) fn parse(form: &Form) -> Result<Self, Error> {
        let mut violations = Violations::default();
        let role_arn = violations.required(form.text("RoleArn"), "roleArn", &validation::ARN);
        let session_name = violations.required(form.text("RoleSessionName"), "roleSessionName", &validation::NAME);
        let policy_arns = policy_arns(form, &mut violations)?;
        let policy = violations.optional(form.text("Policy"), "policy", &validation::POLICY);
        let duration = violations.number(form.text("DurationSeconds"), "durationSeconds", 900..=43_200)?;
        let tags = tags(form, &mut violations)?;
        let transitive_keys = transitive_keys(form, &mut violations)?;
        let external_id = violations.optional(form.text("ExternalId"), "externalId", &validation::EXTERNAL_ID);
        let external_id = external_id.map(str::to_owned);
        let serial_number =
            violations.optional(form.text("SerialNumber"), "serialNumber", &validation::SERIAL_NUMBER).is_some();
        let token_code = violations.optional(form.text("TokenCode"), "tokenCode", &validation::TOKEN_CODE).is_some();
        let source_identity =
            violations.optional(form.text("SourceIdentity"), "sourceIdentity", &validation::NAME).map(str::to_owned);
        let provided_contexts = provided_contexts(form, &mut violations)?;
        let size =
            violations.number(form.text("MinimumSessionTokenSize"), "minimumSessionTokenSize", 0..=4096)?.unwrap_or(0);
        violations.into_result()?;

        let role = IamArn::parse(role_arn)
            .filter(|arn| arn.kind == Kind::Role)
            .ok_or_else(|| Error::Validation("Request ARN is invalid".to_owned()))?;
        check_tags(&tags, &transitive_keys)?;
        let policy_size = policy_size(policy, &policy_arns, &role)?;
        Ok(Self {
            role_arn: role_arn.to_owned(),
            role,
            session_name: session_name.to_owned(),
            duration: duration.unwrap_or(DEFAULT_DURATION),
            tags,
            transitive_keys,
            source_identity,
            external_id,
            policy_size,
            minimum_token_size: usize::try_from(size).unwrap_or(usize::MAX),
            serial_number,
            token_code,
            provided_contexts,
        })
    }
}

fn policy_arns<'a>(form: &'a Form, violations: &mut Violations) -> Result<Vec<&'a str>, Error> {
    let list = form.list("PolicyArns")?;
    violations.list_length(list.len(), "policyArns", MAX_POLICY_ARNS);
    let arns = (1..).zip(list.iter().take(MAX_POLICY_ARNS)).map(|(number, element)| {
        violations.required(element.get("arn").copied(), &format!("policyArns.{number}.member.arn"), &validation::ARN)
    });
    Ok(arns.collect())
}

fn tags(form: &Form, violations: &mut Violations) -> Result<Vec<Tag>, Error> {
    let list = form.list("Tags")?;
    violations.list_length(list.len(), "tags", MAX_TAGS);
    let tags = (1..).zip(list.iter().take(MAX_TAGS)).map(|(number, element)| {
        let mut part = |name: &str, member: &str, rule| {
            violations.required(element.get(name).copied(), &format!("tags.{number}.member.{member}"), rule).to_owned()
        };
        Tag { key: part("Key", "key", &validation::TAG_KEY), value: part("Value", "value", &validation::TAG_VALUE) }
    });
    Ok(tags.collect())
}

fn transitive_keys(form: &Form, violations: &mut Violations) -> Result<Vec<String>, Error> {
    let list = form.list("TransitiveTagKeys")?;
    violations.list_length(list.len(), "transitiveTagKeys", MAX_TAGS);
    let keys: Vec<&str> =
        list.iter().take(MAX_TAGS).map(|element| element.get("").copied().unwrap_or_default()).collect();
    violations.texts(&keys, "transitiveTagKeys", &validation::TAG_KEY);
    Ok(keys.into_iter().map(str::to_owned).collect())
}

fn provided_contexts(form: &Form, violations: &mut Violations) -> Result<bool, Error> {
    let list = form.list("ProvidedContexts")?;
    violations.list_length(list.len(), "providedContexts", MAX_CONTEXTS);
    for (number, element) in (1..).zip(list.iter().take(MAX_CONTEXTS)) {
        let mut part = |name: &str, member: &str, rule| {
            let member = format!("providedContexts.{number}.member.{member}");
            violations.optional(element.get(name).copied(), &member, rule);
        };
        part("ProviderArn", "providerArn", &validation::ARN);
        part("ContextAssertion", "contextAssertion", &validation::CONTEXT_ASSERTION);
    }
    Ok(!list.is_empty())
}

/// The rules about tags that are no limits of length or characters.
fn check_tags(tags: &[Tag], transitive_keys: &[String]) -> Result<(), Error> {
    let keys: BTreeSet<String> = tags.iter().map(|tag| tag.key.to_lowercase()).collect();
    if keys.len() < tags.len() {
        return Err(Error::InvalidParameterValue(
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.".to_owned(),
        ));
    }
    let reserved = |text: &str| text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
    if let Some(tag) = tags.iter().find(|tag| reserved(&tag.key) || reserved(&tag.value)) {
        let Tag { key, .. } = tag;
        return Err(Error::InvalidParameterValue(format!(
            "Neither the key nor the value of a tag may begin with 'aws:', which is reserved. Change the tag '{key}'."
        )));
    }
    if !transitive_keys.iter().all(|key| keys.contains(&key.to_lowercase())) {
        return Err(Error::InvalidParameterValue(
            "The specified transitive tag key must be included in the requested tags.".to_owned(),
        ));
    }
    Ok(())
}

/// The bytes that the session policies add to a session, once they are known to be policies of the role's account.
fn policy_size(policy: Option<&str>, policy_arns: &[&str], role: &IamArn) -> Result<usize, Error> {
    if let Some(arn) = policy_arns.iter().find(|arn| !is_policy_arn(arn, role)) {
        return Err(Error::Validation(format!(
            "ARN {arn} is not valid. Session policies are managed policies of AWS or of the role's account {}.",
            role.account
        )));
    }
    let compact = policy.map(compact_policy).transpose()?.unwrap_or_default();
    let arns = policy_arns.iter().map(|arn| arn.len()).sum::<usize>();
    let characters = policy.map_or(0, |policy| policy.chars().count()) + arns;
    if characters > MAX_POLICY_CHARACTERS {
        let percent = (characters * 100).div_ceil(MAX_POLICY_CHARACTERS);
        return Err(Error::PackedPolicyTooLarge(format!(
            "Packed policy consumes {percent}% of allotted space, please use smaller policy."
        )));
    }
    Ok(compact.len() + arns)
}

/// `arn:PARTITION:iam::ACCOUNT:policy/…`, of the role's account or, for the policies of AWS, of `aws`.
fn is_policy_arn(arn: &str, role: &IamArn) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return false };
    let of_role = is_account(account) && *account == role.account;
    *partition == role.partition
        && (of_role || *account == "aws")
        && resource.strip_prefix("policy/").is_some_and(|name| !name.is_empty())
}

/// The policy without insignificant white space. Checked is what makes it a policy at all: an object with statements.
fn compact_policy(policy: &str) -> Result<String, Error> {
    let malformed = |message: &str| Error::MalformedPolicyDocument(message.to_owned());
    let document: Value =
        serde_json::from_str(policy).map_err(|_| malformed("The policy is not in the valid JSON format."))?;
    let statements = document.as_object().and_then(|document| document.get("Statement"));
    let sound = match statements {
        Some(Value::Object(_)) => true,
        Some(Value::Array(statements)) => !statements.is_empty() && statements.iter().all(Value::is_object),
        _ => false,
    };
    if sound { Ok(document.to_string()) } else { Err(malformed("Syntax errors in policy.")) }
}
