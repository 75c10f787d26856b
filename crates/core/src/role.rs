//! What is asked of sts:AssumeRole, checked to the API's limits before anything is sent.
//!
//! Source of every limit: AWS STS API Reference, AssumeRole, Request Parameters.

use std::collections::HashSet;

use crate::grammar::{Arn, Invalid, NAME_CHARS, check, is_account, is_name_char, is_region_char, text_type};
use crate::task_arn::TaskArn;

/// One whole AssumeRole request.
///
/// Two tasks with the same role still have two specs: the session name and the tags differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSpec {
    /// The role to assume.
    pub role_arn: RoleArn,
    /// The name of the session: the task's id unless configured. CloudTrail shows it on every later event.
    pub session_name: SessionName,
    /// Session tags; empty means that none are sent and sts:TagSession is not needed.
    pub tags: SessionTags,
    /// Whether the tags are passed on when the task itself assumes another role.
    pub transitive_tags: bool,
    /// Set once and immutable down the chain; needs sts:SetSourceIdentity.
    pub source_identity: Option<SourceIdentity>,
    /// The external id that the trust policy of the role asks for.
    pub external_id: Option<ExternalId>,
    /// An inline session policy: the session may do what the role and this policy both allow.
    pub policy: Option<SessionPolicy>,
    /// Managed policies that narrow the session; at most [`PolicyArn::MAX`].
    pub policy_arns: Vec<PolicyArn>,
    /// How long the session shall last.
    pub duration: SessionDuration,
    /// The STS region to ask; the proxy's own when absent.
    pub region: Option<Region>,
    /// The region to ask when neither this spec nor the proxy's own configuration names one: the task ARN's.
    pub fallback_region: Region,
}

impl SessionSpec {
    /// The region that is asked where the proxy has none of its own.
    pub(crate) fn effective_region(&self) -> &Region {
        self.region.as_ref().unwrap_or(&self.fallback_region)
    }

    /// The spec of a task and one of its roles with nothing further asked for: the task's id as the session name, an hour, no tags.
    #[must_use]
    pub fn new(role_arn: RoleArn, task: &TaskArn) -> Self {
        Self {
            role_arn,
            session_name: task.task_id().clone(),
            tags: SessionTags::default(),
            transitive_tags: false,
            source_identity: None,
            external_id: None,
            policy: None,
            policy_arns: Vec::new(),
            duration: SessionDuration::HOUR,
            region: None,
            fallback_region: task.region().clone(),
        }
    }
}

/// `arn:aws:iam::111122223333:role/path/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleArn(String);

impl RoleArn {
    /// Checks a role ARN: 20 to 2048 printable ASCII characters, an IAM ARN with a 12-digit account and a role's name.
    ///
    /// A quotation mark or a backslash, which IAM would take in a path, is refused: clients of the credentials endpoint
    /// do not unescape.
    ///
    /// # Errors
    /// [`Invalid`] with the rule that the text breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        const WHAT: &str = "role ARN";
        const FORM: &str = "arn:aws:iam::111122223333:role/NAME";
        let text = text.into();
        let arn = Arn::parse(WHAT, FORM, &text)?;
        let name = arn.resource.strip_prefix("role/").and_then(|path| path.rsplit('/').next());
        let (Some(name), "iam", "", true) = (name, arn.service, arn.region, is_account(arn.account)) else {
            return Err(Invalid::new(WHAT, format!("must have the form {FORM}")));
        };
        check("role name", name, 1..=64, is_name_char, NAME_CHARS)?;
        if arn.resource.contains("arn:") {
            return Err(Invalid::new(WHAT, "holds a second ARN: separate several by spaces"));
        }
        let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        check(WHAT, &text, 20..=2048, plain, "printable ASCII without spaces, quotation marks and backslashes")?;
        Ok(Self(text))
    }

    /// The whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition that the role is of: `aws`, `aws-cn`, `aws-us-gov`.
    #[must_use]
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// The account that owns the role.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }

    /// The role's name without its path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl std::fmt::Display for RoleArn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for RoleArn {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

text_type! {
    /// `RoleSessionName`: 2 to 64 characters of `[\w+=,.@-]`.
    SessionName, |text| check("session name", text, 2..=64, is_name_char, NAME_CHARS)
}

text_type! {
    /// `SourceIdentity`: 2 to 64 characters of `[\w+=,.@-]`.
    SourceIdentity, |text| check("source identity", text, 2..=64, is_name_char, NAME_CHARS)
}

text_type! {
    /// `ExternalId`: 2 to 1224 characters of `[\w+=,.@:\/-]`.
    ExternalId, |text| {
        let alphabet = |c| is_name_char(c) || c == ':' || c == '/';
        check("external id", text, 2..=1224, alphabet, "A-Z a-z 0-9 _ + = , . @ : / -")
    }
}

text_type! {
    /// A region's name: `us-west-2`.
    Region, |text| check("region", text, 2..=63, is_region_char, "a-z 0-9 -")
}

text_type! {
    /// `PolicyArns` member: a managed policy.
    PolicyArn, |text| {
        const FORM: &str = "arn:aws:iam::ACCOUNT:policy/NAME";
        let arn = Arn::parse("policy ARN", FORM, text)?;
        let owner = is_account(arn.account) || arn.account == "aws";
        if arn.service != "iam" || !owner || !arn.resource.starts_with("policy/") {
            return Err(Invalid::new("policy ARN", format!("must have the form {FORM}")));
        }
        check("policy ARN", text, 20..=2048, |c| c.is_ascii_graphic(), "printable ASCII without spaces")
    }
}

impl PolicyArn {
    /// How many managed policies one session may have.
    pub const MAX: usize = 10;
}

text_type! {
    /// `Policy`: a JSON policy document of 1 to 2048 characters.
    SessionPolicy, |text| {
        let alphabet = |c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
        check("policy", text, 1..=2048, alphabet, "the characters U+0020 to U+00FF, tabs and line ends")?;
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(serde_json::Value::Object(document)) if document.contains_key("Statement") => Ok(()),
            Ok(_) => Err(Invalid::new("policy", "must be a JSON object with a Statement")),
            Err(fault) => Err(Invalid::new("policy", format!("must be JSON: {fault}"))),
        }
    }
}

/// `DurationSeconds`: 900 to 43200. The role's own maximum, and 3600 under role chaining, are for STS to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionDuration(u32);

impl SessionDuration {
    /// One hour: the default, and the most that role chaining allows.
    pub const HOUR: Self = Self(3600);

    /// Checks a duration in seconds.
    ///
    /// # Errors
    /// [`Invalid`] outside 900 to 43200.
    pub fn new(seconds: u32) -> Result<Self, Invalid> {
        if (900..=43_200).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(Invalid::new("duration", "must be 900 to 43200 seconds"))
        }
    }

    /// The duration in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// Whether sessions this short keep readers without a margin: botocore and others ask again on every use below
    /// 15 minutes left.
    #[must_use]
    pub fn is_short(self) -> bool {
        self.0 < Self::HOUR.0
    }
}

/// One session tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionTag {
    key: String,
    value: String,
}

impl SessionTag {
    /// The longest value that STS takes, in characters.
    pub const MAX_VALUE: usize = 256;

    /// Checks one tag: key 1 to 128, value 0 to 256 characters of letters, digits, spaces and `_ . : / = + - @`;
    /// neither begins with `aws:`.
    ///
    /// # Errors
    /// [`Invalid`] with the rule that the tag breaks.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Result<Self, Invalid> {
        const CHARS: &str = "letters, digits, spaces and _ . : / = + - @";
        let (key, value) = (key.into(), value.into());
        let alphabet =
            |c: char| c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c);
        check("tag key", &key, 1..=128, alphabet, CHARS)?;
        check("tag value", &value, 0..=Self::MAX_VALUE, alphabet, CHARS)?;
        let reserved = |text: &str| text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("aws:"));
        if reserved(&key) || reserved(&value) {
            return Err(Invalid::new("tag", "may not begin with aws:, neither its key nor its value"));
        }
        Ok(Self { key, value })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// The tags of one session: at most 50, keys unique whatever their case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTags(Vec<SessionTag>);

impl SessionTags {
    /// How many tags one session may have.
    pub const MAX: usize = 50;

    /// Checks a set of tags.
    ///
    /// # Errors
    /// [`Invalid`] for more than [`SessionTags::MAX`] tags and for a key that is there twice, compared without case.
    pub fn new(tags: Vec<SessionTag>) -> Result<Self, Invalid> {
        if tags.len() > Self::MAX {
            return Err(Invalid::new("tags", format!("may be at most {}, those of the task ARN included", Self::MAX)));
        }
        let mut seen = HashSet::new();
        match tags.iter().find(|tag| !seen.insert(tag.key.to_lowercase())) {
            Some(twice) => {
                Err(Invalid::new("tags", format!("may not hold a key twice, whatever its case: {}", twice.key)))
            }
            None => Ok(Self(tags)),
        }
    }

    /// The tags in the order given.
    pub fn iter(&self) -> std::slice::Iter<'_, SessionTag> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_arns_are_taken_and_refused_by_the_iam_form() {
        for good in [
            "arn:aws:iam::111122223333:role/web",
            "arn:aws-cn:iam::111122223333:role/a/b/web",
            "arn:aws-us-gov:iam::111122223333:role/aws-service-role/x.amazonaws.com/Web_1",
        ] {
            assert_eq!(RoleArn::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "role/web",
            "arn:aws:iam::11112222333:role/web",
            "arn:aws:iam::111122223333:user/web",
            "arn:aws:iam:us-east-1:111122223333:role/web",
            "arn:aws:sts::111122223333:assumed-role/web/x",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/we b",
            "arn:aws:iam::111122223333:role/a\"b/web",
            "arn:aws:iam::111122223333:role/a\\b/web",
            "arn:aws:iam::111122223333:role/é",
            "arn:aws:iam::111122223333:role/a,b=arn:aws:iam::111122223333:role/b",
            "arn:amazon:iam::111122223333:role/web",
        ] {
            assert!(RoleArn::new(bad).is_err(), "{bad}");
        }
        let arn = RoleArn::new("arn:aws:iam::111122223333:role/a/b/web").unwrap();
        assert_eq!((arn.account(), arn.name()), ("111122223333", "web"));
    }

    #[test]
    fn every_length_limit_holds_at_its_edge() {
        let n = |n: usize| "a".repeat(n);
        assert!(SessionName::new(n(1)).is_err() && SessionName::new(n(2)).is_ok());
        assert!(SessionName::new(n(64)).is_ok() && SessionName::new(n(65)).is_err());
        assert!(SourceIdentity::new(n(64)).is_ok() && SourceIdentity::new(n(65)).is_err());
        assert!(ExternalId::new(n(1224)).is_ok() && ExternalId::new(n(1225)).is_err());
        assert!(ExternalId::new("a:b/c").is_ok() && ExternalId::new("a b").is_err());
        assert!(SessionTag::new(n(128), n(256)).is_ok());
        assert!(SessionTag::new(n(129), "").is_err() && SessionTag::new("k", n(257)).is_err());
        assert!(SessionTag::new("", "v").is_err() && SessionTag::new("k", "").is_ok());
        for (seconds, fits) in [(899, false), (900, true), (43_200, true), (43_201, false)] {
            assert_eq!(SessionDuration::new(seconds).is_ok(), fits, "{seconds}");
        }
    }

    #[test]
    fn tags_are_unique_whatever_their_case_and_never_begin_with_aws() {
        let tag = |k: &str| SessionTag::new(k, "v").unwrap();
        assert!(SessionTags::new(vec![tag("Team"), tag("team")]).is_err());
        assert!(SessionTag::new("aws:x", "v").is_err() && SessionTag::new("k", "AWS:x").is_err());
        let many = |n: usize| SessionTags::new((0..n).map(|i| tag(&format!("k{i}"))).collect());
        assert!(many(50).is_ok() && many(51).is_err());
    }

    #[test]
    fn a_policy_is_a_json_object_with_a_statement() {
        assert!(SessionPolicy::new(r#"{"Version":"2012-10-17","Statement":[]}"#).is_ok());
        for bad in ["", "{", "[]", r#"{"Version":"2012-10-17"}"#, "{\"Statement\":\"\u{100}\"}"] {
            assert!(SessionPolicy::new(bad).is_err(), "{bad}");
        }
        assert!(SessionPolicy::new(format!("{{\"Statement\":\"{}\"}}", "a".repeat(2048))).is_err());
    }

    #[test]
    fn nothing_panics_on_an_arn_cut_at_any_byte() {
        let whole = "arn:aws:iam::111122223333:role/a/é/web";
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let _ = RoleArn::new(&whole[..end]);
            let _ = PolicyArn::new(&whole[..end]);
        }
        assert!(Arn::parse("x", "y", "arn:aws").is_err());
    }
}
