//! The condition operators: what their names mean, and which values a policy may give them.

use super::scalar::{network, number, time};

/// `ForAnyValue:StringNotLikeIfExists`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator {
    /// For keys with several values.
    pub(super) set: Option<Set>,
    pub(super) base: Base,
    /// The values of the policy are then joined by AND, and an absent key fits.
    pub(super) negated: bool,
    /// An absent key fits.
    pub(super) if_exists: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    ForAllValues,
    ForAnyValue,
}

/// What is compared, as if not negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    StringEquals,
    StringEqualsIgnoreCase,
    StringLike,
    Arn,
    Numeric(Compare),
    Date(Compare),
    Bool,
    Binary,
    IpAddress,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equals,
    LessThan,
    LessThanEquals,
    GreaterThan,
    GreaterThanEquals,
}

/// IAM User Guide, "IAM JSON policy elements: Condition operators". ArnEquals and ArnLike are the same, so are their negations.
const NAMES: [(&str, Base, bool); 27] = [
    ("StringEquals", Base::StringEquals, false),
    ("StringNotEquals", Base::StringEquals, true),
    ("StringEqualsIgnoreCase", Base::StringEqualsIgnoreCase, false),
    ("StringNotEqualsIgnoreCase", Base::StringEqualsIgnoreCase, true),
    ("StringLike", Base::StringLike, false),
    ("StringNotLike", Base::StringLike, true),
    ("ArnEquals", Base::Arn, false),
    ("ArnLike", Base::Arn, false),
    ("ArnNotEquals", Base::Arn, true),
    ("ArnNotLike", Base::Arn, true),
    ("NumericEquals", Base::Numeric(Compare::Equals), false),
    ("NumericNotEquals", Base::Numeric(Compare::Equals), true),
    ("NumericLessThan", Base::Numeric(Compare::LessThan), false),
    ("NumericLessThanEquals", Base::Numeric(Compare::LessThanEquals), false),
    ("NumericGreaterThan", Base::Numeric(Compare::GreaterThan), false),
    ("NumericGreaterThanEquals", Base::Numeric(Compare::GreaterThanEquals), false),
    ("DateEquals", Base::Date(Compare::Equals), false),
    ("DateNotEquals", Base::Date(Compare::Equals), true),
    ("DateLessThan", Base::Date(Compare::LessThan), false),
    ("DateLessThanEquals", Base::Date(Compare::LessThanEquals), false),
    ("DateGreaterThan", Base::Date(Compare::GreaterThan), false),
    ("DateGreaterThanEquals", Base::Date(Compare::GreaterThanEquals), false),
    ("Bool", Base::Bool, false),
    ("BinaryEquals", Base::Binary, false),
    ("IpAddress", Base::IpAddress, false),
    ("NotIpAddress", Base::IpAddress, true),
    ("Null", Base::Null, false),
];

impl Operator {
    /// The operator of this name, or what is wrong with the name.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let (set, rest) = match name.split_once(':') {
            Some(("ForAllValues", rest)) => (Some(Set::ForAllValues), rest),
            Some(("ForAnyValue", rest)) => (Some(Set::ForAnyValue), rest),
            Some((other, _)) => return Err(format!("unknown set operator `{other}`: ForAllValues or ForAnyValue")),
            None => (None, name),
        };
        let (plain, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |plain| (plain, true));
        let Some((_, base, negated)) = NAMES.iter().copied().find(|(known, ..)| *known == plain) else {
            let meant = NAMES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(plain));
            let hint = meant.map_or(String::new(), |(known, ..)| format!(": written {known}"));
            return Err(format!("there is no condition operator `{plain}`{hint}"));
        };
        if base == Base::Null && (if_exists || set.is_some()) {
            return Err("Null asks whether a key exists: it takes neither IfExists nor a set operator".to_owned());
        }
        Ok(Self { set, base, negated, if_exists })
    }

    /// Whether policy variables are replaced in its values.
    pub(super) fn has_variables(self) -> bool {
        matches!(self.base, Base::StringEquals | Base::StringEqualsIgnoreCase | Base::StringLike | Base::Arn)
    }

    /// What is wrong with a value of the policy.
    pub(super) fn fault_of(self, value: &str) -> Option<&'static str> {
        match self.base {
            Base::Numeric(_) if number(value).is_none() => Some("is no number"),
            Base::Date(_) if time(value).is_none() => {
                Some("is no time: write it as 2026-11-25T12:00:00Z, or in seconds since 1970")
            }
            Base::Bool | Base::Null if !["true", "false"].iter().any(|word| value.eq_ignore_ascii_case(word)) => {
                Some("is neither true nor false")
            }
            Base::IpAddress if network(value).is_none() => {
                Some("is neither an address nor a network such as 203.0.113.0/24")
            }
            Base::Binary if !is_base64(value) => Some("is no base64"),
            _ => None,
        }
    }
}

impl Compare {
    pub(super) fn holds<T: PartialOrd>(self, actual: T, wanted: T) -> bool {
        match self {
            Self::Equals => actual == wanted,
            Self::LessThan => actual < wanted,
            Self::LessThanEquals => actual <= wanted,
            Self::GreaterThan => actual > wanted,
            Self::GreaterThanEquals => actual >= wanted,
        }
    }
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_understood_with_and_without_its_attachments() {
        for (name, base, negated) in NAMES {
            let plain = Operator { set: None, base, negated, if_exists: false };
            assert_eq!(Operator::parse(name), Ok(plain));
            if base != Base::Null {
                let set = Some(Set::ForAnyValue);
                let with_all = Operator::parse(&format!("ForAnyValue:{name}IfExists"));
                assert_eq!(with_all, Ok(Operator { set, if_exists: true, ..plain }));
            }
        }
    }

    #[test]
    fn other_names_are_refused_with_what_was_meant() {
        for (name, says) in [
            ("stringEquals", "written StringEquals"),
            ("StringMatches", "no condition operator `StringMatches`"),
            ("ForSomeValues:StringEquals", "ForAllValues or ForAnyValue"),
            ("NullIfExists", "neither IfExists"),
            ("ForAnyValue:Null", "nor a set operator"),
            ("IfExists", "no condition operator ``"),
        ] {
            let error = Operator::parse(name).unwrap_err();
            assert!(error.contains(says), "{name}: {error}");
        }
    }

    #[test]
    fn values_must_be_what_the_operator_compares() {
        for (operator, good, bad) in [
            ("NumericLessThan", "3600", "an hour"),
            ("DateGreaterThan", "2026-11-25T12:00:00Z", "yesterday"),
            ("Bool", "TRUE", "yes"),
            ("Null", "false", ""),
            ("NotIpAddress", "203.0.113.0/24", "203.0.113.*"),
            ("BinaryEquals", "QmluYXJ5", "QmluYXJ5=="),
        ] {
            let operator = Operator::parse(operator).unwrap();
            assert_eq!(operator.fault_of(good), None, "{good}");
            assert!(operator.fault_of(bad).is_some(), "{bad}");
        }
    }
}
