//! A text is checked once, where it enters; behind that border its type says what it is.

/// A value that breaks a rule: which value, and the rule as its user would want to read it.
///
/// The value itself is left out, because some of the checked values are secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {rule}")]
pub struct Invalid {
    /// What was checked, in the field's words: `role ARN`, `session name`.
    pub what: &'static str,
    /// The rule it breaks, as the end of a sentence: `must be 2 to 64 characters long`.
    pub rule: String,
}

impl Invalid {
    pub(crate) fn new(what: &'static str, rule: impl Into<String>) -> Self {
        Self { what, rule: rule.into() }
    }
}

/// Checks a length in characters and an alphabet.
pub(crate) fn check(
    what: &'static str,
    text: &str,
    length: std::ops::RangeInclusive<usize>,
    alphabet: fn(char) -> bool,
    alphabet_text: &str,
) -> Result<(), Invalid> {
    if !length.contains(&text.chars().count()) {
        let rule = format!("must be {} to {} characters long", length.start(), length.end());
        return Err(Invalid::new(what, rule));
    }
    match text.chars().find(|c| !alphabet(*c)) {
        Some(_) => Err(Invalid::new(what, format!("may only hold {alphabet_text}"))),
        None => Ok(()),
    }
}

/// `[\w+=,.@-]`, the alphabet of role session names and source identities.
pub(crate) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

/// How [`is_name_char`] reads in a message.
pub(crate) const NAME_CHARS: &str = "A-Z a-z 0-9 _ + = , . @ -";

/// The parts of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
pub(crate) struct Arn<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Splits and checks what all ARNs have in common. An empty account is allowed here: AWS-managed policies have
    /// `aws` in its place.
    pub(crate) fn parse(what: &'static str, form: &str, text: &'a str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new(what, format!("must have the form {form}"));
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().ok_or_else(wrong);
        let (head, partition, service, region, account, resource) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        let partition_ok = partition == "aws"
            || partition.strip_prefix("aws-").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            });
        if head != "arn" || !partition_ok || resource.is_empty() {
            return Err(wrong());
        }
        Ok(Self { service, region, account, resource })
    }
}

/// Twelve decimal digits.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The alphabet of a region's name; which regions exist is for STS to say.
pub(crate) fn is_region_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// Declares a text type that can only hold what its check lets through.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`Invalid`] with the rule that the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
                let text = text.into();
                let check: fn(&str) -> Result<(), Invalid> = $check;
                check(&text)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }
    };
}
pub(crate) use text_type;
