//! All parameters are checked before anything is answered, and every violation is named, in the words of AWS.
//!
//! `2 validation errors detected: Value 'x' at 'roleSessionName' failed to satisfy constraint: Member must have length
//! greater than or equal to 2; Value '60' at 'durationSeconds' failed …`. Limits and patterns are those of the STS API
//! Reference, `AssumeRole`.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::error::Error;
use crate::principal::is_name_character;

/// What a text parameter may be. Lengths are in characters.
pub(crate) struct Text {
    min: usize,
    max: usize,
    allowed: fn(char) -> bool,
    /// The pattern as AWS writes it; `allowed` is what decides.
    pattern: &'static str,
}

const ARN_PATTERN: &str = r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+";

pub(crate) const ARN: Text = Text { min: 20, max: 2048, allowed: is_arn_character, pattern: ARN_PATTERN };
pub(crate) const NAME: Text = Text { min: 2, max: 64, allowed: is_name_character, pattern: r"[\w+=,.@-]*" };
pub(crate) const EXTERNAL_ID: Text = Text {
    min: 2,
    max: 1224,
    allowed: |character| is_name_character(character) || ":/".contains(character),
    pattern: r"[\w+=,.@:\/-]*",
};
/// The total of policies and policy ARNs has a limit of its own, so the policy alone has none.
pub(crate) const POLICY: Text = Text {
    min: 1,
    max: usize::MAX,
    allowed: |character| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{ff}'),
    pattern: r"[\u0009\u000A\u000D\u0020-\u00FF]+",
};
pub(crate) const TAG_KEY: Text =
    Text { min: 1, max: 128, allowed: is_tag_character, pattern: r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+" };
pub(crate) const TAG_VALUE: Text =
    Text { min: 0, max: 256, allowed: is_tag_character, pattern: r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*" };
pub(crate) const SERIAL_NUMBER: Text = Text {
    min: 9,
    max: 256,
    allowed: |character| is_name_character(character) || ":/".contains(character),
    pattern: r"[\w+=/:,.@-]*",
};
pub(crate) const TOKEN_CODE: Text =
    Text { min: 6, max: 6, allowed: |character| character.is_ascii_digit(), pattern: r"[\d]*" };
pub(crate) const CONTEXT_ASSERTION: Text = Text { min: 4, max: 2048, allowed: |_| true, pattern: ".*" };

fn is_arn_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

/// `\p{L}`, `\p{Z}`, `\p{N}` and a few signs. Rust's alphabetic characters are a little more than `\p{L}`: some vowel
/// signs of Indic scripts pass here and not at AWS.
fn is_tag_character(character: char) -> bool {
    character.is_alphanumeric()
        || "_.:/=+-@".contains(character)
        || matches!(character, ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}')
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

impl Text {
    /// The constraints that `value` breaks, in AWS's order.
    fn broken_by(&self, value: &str) -> impl Iterator<Item = String> {
        let length = value.chars().count();
        let too_long = (length > self.max).then(|| at_most_long(self.max));
        let too_short = (length < self.min).then(|| at_least_long(self.min));
        let strange = (!value.chars().all(self.allowed)).then(|| matching(self.pattern));
        [too_long, too_short, strange].into_iter().flatten()
    }
}

/// The violations found so far.
#[derive(Default)]
pub(crate) struct Violations(Vec<String>);

impl Violations {
    fn add(&mut self, value: impl Display, member: &str, constraint: &str) {
        self.0.push(format!("Value {value} at '{member}' failed to satisfy constraint: {constraint}"));
    }

    /// A parameter that must be there; an empty text if it is not, which is then already a violation.
    pub(crate) fn required<'a>(&mut self, value: Option<&'a str>, member: &str, rule: &Text) -> &'a str {
        if value.is_none() {
            self.add("null", member, "Member must not be null");
        }
        self.optional(value, member, rule).unwrap_or_default()
    }

    pub(crate) fn optional<'a>(&mut self, value: Option<&'a str>, member: &str, rule: &Text) -> Option<&'a str> {
        let value = value?;
        for constraint in rule.broken_by(value) {
            self.add(format_args!("'{value}'"), member, &constraint);
        }
        Some(value)
    }

    /// A list of texts: AWS reports all constraints on elements as one.
    pub(crate) fn texts(&mut self, values: &[&str], member: &str, rule: &Text) {
        if values.iter().any(|value| rule.broken_by(value).next().is_some()) {
            let constraints = [at_most_long(rule.max), at_least_long(rule.min), matching(rule.pattern)].join(", ");
            let constraint = format!("Member must satisfy constraint: [{constraints}]");
            self.add(format_args!("'[{}]'", values.join(", ")), member, &constraint);
        }
    }

    pub(crate) fn list_length(&mut self, length: usize, member: &str, max: usize) {
        if length > max {
            self.add(format_args!("'[{length} members]'"), member, &at_most_long(max));
        }
    }

    /// A whole number. Text that is not one cannot be a violation of a limit: AWS refuses it before it looks at limits.
    pub(crate) fn number(
        &mut self,
        value: Option<&str>,
        member: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Error> {
        let Some(value) = value else { return Ok(None) };
        let Ok(number) = value.parse::<i64>() else {
            return Err(Error::MalformedInput(format!("'{member}' is not a whole number.")));
        };
        if number > i64::from(*range.end()) {
            let constraint = format!("Member must have value less than or equal to {}", range.end());
            self.add(format_args!("'{number}'"), member, &constraint);
        }
        if number < i64::from(*range.start()) {
            let constraint = format!("Member must have value greater than or equal to {}", range.start());
            self.add(format_args!("'{number}'"), member, &constraint);
        }
        Ok(u32::try_from(number).ok())
    }

    /// An error that names all violations, if there are any.
    pub(crate) fn into_result(self) -> Result<(), Error> {
        let (count, all) = (self.0.len(), self.0.join("; "));
        match count {
            0 => Ok(()),
            1 => Err(Error::Validation(format!("1 validation error detected: {all}"))),
            _ => Err(Error::Validation(format!("{count} validation errors detected: {all}"))),
        }
    }
}

fn at_most_long(max: usize) -> String {
    format!("Member must have length less than or equal to {max}")
}

fn at_least_long(min: usize) -> String {
    format!("Member must have length greater than or equal to {min}")
}

fn matching(pattern: &str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_named_and_counted() {
        let mut violations = Violations::default();
        violations.required(None, "roleArn", &ARN);
        violations.required(Some("!"), "roleSessionName", &NAME);
        violations.number(Some("60"), "durationSeconds", 900..=43200).unwrap();
        violations.texts(&["ok", ""], "transitiveTagKeys", &TAG_KEY);
        let message = violations.into_result().unwrap_err().to_string();
        assert_eq!(
            message,
            "5 validation errors detected: \
             Value null at 'roleArn' failed to satisfy constraint: Member must not be null; \
             Value '!' at 'roleSessionName' failed to satisfy constraint: \
             Member must have length greater than or equal to 2; \
             Value '!' at 'roleSessionName' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [\\w+=,.@-]*; \
             Value '60' at 'durationSeconds' failed to satisfy constraint: \
             Member must have value greater than or equal to 900; \
             Value '[ok, ]' at 'transitiveTagKeys' failed to satisfy constraint: Member must satisfy constraint: \
             [Member must have length less than or equal to 128, Member must have length greater than or equal to 1, \
             Member must satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+]"
        );
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert_eq!(TAG_KEY.broken_by(&"ü".repeat(128)).count(), 0);
        assert_eq!(TAG_KEY.broken_by(&"ü".repeat(129)).count(), 1);
    }

    #[test]
    fn the_character_sets_are_those_of_the_api() {
        let all = |rule: &Text, text: &str| text.chars().all(rule.allowed);
        assert!(all(&NAME, "aZ09_+=,.@-"));
        assert!(["a b", "a:b", "a/b", "ä"].iter().all(|text| !all(&NAME, text)));
        assert!(all(&EXTERNAL_ID, "arn:aws:ecs/x") && !all(&EXTERNAL_ID, "a#b"));
        assert!(all(&TAG_VALUE, "arn:aws:ecs:eu:1:task/c/1 _.=+-@ äßΩ 漢字 ½\u{a0}"));
        assert!(["a*b", "a#b", "a\tb", "a,b", "a\nb"].iter().all(|text| !all(&TAG_VALUE, text)));
        assert!(all(&POLICY, "{\"a\":\t\"\u{ff}\"}\r\n") && !all(&POLICY, "\u{100}"));
        assert!(all(&ARN, "arn:\u{10000}") && !all(&ARN, "arn:\u{1}") && !all(&ARN, "\u{7f}"));
    }

    #[test]
    fn a_number_may_be_outside_its_range_but_not_outside_of_numbers() {
        let number = |text| Violations::default().number(Some(text), "durationSeconds", 900..=43200);
        assert!(matches!(number("900"), Ok(Some(900))));
        assert!(matches!(number("-1"), Ok(None)));
        for text in ["", "1e3", "900.0", "99999999999999999999"] {
            assert!(matches!(number(text), Err(Error::MalformedInput(_))), "{text}");
        }
    }
}
