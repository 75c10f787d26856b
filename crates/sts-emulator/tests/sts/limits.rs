//! Every limit of `AssumeRole`, just inside and just outside.

use taskcreds_sts_emulator::Roles;

use crate::harness::{ROLE, Sts, USER};

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;

/// A request that is granted, with these parameters instead of its own; an empty name changes nothing.
async fn outcome(sts: &Sts, changes: &[(String, String)]) -> (String, String) {
    let base = [("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", ROLE), ("RoleSessionName", "task")];
    let kept = base.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name)).copied();
    let changes = changes.iter().filter(|(_, value)| value != MISSING).map(|(name, value)| (&**name, &**value));
    let reply = sts.post(&sts.caller(USER), &kept.chain(changes).collect::<Vec<_>>()).await;
    let message = reply.element("Message").unwrap_or_default();
    (reply.code().to_owned(), message.replace("&apos;", "'"))
}

const MISSING: &str = "(missing)";

fn one(name: &str, value: impl Into<String>) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.into())]
}

fn tag(key: &str, value: &str) -> Vec<(String, String)> {
    tags([(key, value)])
}

fn tags<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    let tags = (1..).zip(tags).map(|(number, (key, value))| {
        [(format!("Tags.member.{number}.Key"), key), (format!("Tags.member.{number}.Value"), value)]
    });
    tags.flatten().map(|(name, value)| (name, value.to_owned())).collect()
}

fn members(name: &str, field: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Vec<(String, String)> {
    (1..).zip(values).map(|(number, value)| (format!("{name}.member.{number}{field}"), value.into())).collect()
}

fn policy_of(length: usize) -> String {
    // White space counts, as it does in "plaintext".
    format!("{POLICY}{}", " ".repeat(length - POLICY.len()))
}

fn role_of(length: usize) -> String {
    let start = "arn:aws:iam::111122223333:role/";
    format!("{start}{}/app", "p".repeat(length - start.len() - "/app".len()))
}

fn violation(value: &str, member: &str, constraint: &str) -> String {
    format!("1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: {constraint}")
}

fn too_short(value: &str, member: &str, min: usize) -> String {
    let constraint = format!("Member must have length greater than or equal to {min}");
    violation(&format!("'{value}'"), member, &constraint)
}

fn too_long(value: &str, member: &str, max: usize) -> String {
    violation(&format!("'{value}'"), member, &format!("Member must have length less than or equal to {max}"))
}

fn strange(value: &str, member: &str, pattern: &str) -> String {
    let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
    violation(&format!("'{value}'"), member, &constraint)
}

#[tokio::test]
async fn what_is_just_inside_the_limits_is_granted() {
    let sts = Sts::start(Roles::Any).await;
    let names: Vec<String> = (0..50).map(|number| format!("t{number}")).collect();
    let arns = |count: usize| (0..count).map(|number| format!("arn:aws:iam::111122223333:policy/p{number}"));
    let cases = [
        one("RoleArn", role_of(2048)),
        one("RoleArn", "arn:aws-cn:iam::111122223333:role/a"),
        one("RoleSessionName", "ab"),
        one("RoleSessionName", "a".repeat(64)),
        one("RoleSessionName", "aZ09_+=,.@-"),
        one("DurationSeconds", "900"),
        one("DurationSeconds", "43200"),
        one("Tags", ""),
        tags(names.iter().map(|name| (name.as_str(), ""))),
        tag(&"k".repeat(128), "v"),
        tag("k", &"v".repeat(256)),
        tag("ключ _.:/=+-@", "arn:aws:ecs:eu-central-1:111122223333:task/c/1"),
        tag("awsome", "xaws:"),
        [tags([("Team", "a"), ("Stage", "b")]), members("TransitiveTagKeys", "", ["STAGE", "Team"])].concat(),
        one("SourceIdentity", "ab"),
        one("SourceIdentity", "a".repeat(64)),
        one("ExternalId", "ab"),
        one("ExternalId", "a".repeat(1224)),
        one("ExternalId", "arn:aws:ecs:eu-central-1:111122223333:task/c/1"),
        one("Policy", POLICY),
        one("Policy", policy_of(2048)),
        one("Policy", r#"{"Statement":{}}"#),
        members("PolicyArns", ".arn", arns(10)),
        members("PolicyArns", ".arn", ["arn:aws:iam::aws:policy/ReadOnlyAccess"]),
        one("MinimumSessionTokenSize", "0"),
        one("MinimumSessionTokenSize", "4096"),
        one("UnknownParameter", "is ignored"),
    ];
    for case in cases {
        let (code, message) = outcome(&sts, &case).await;
        assert_eq!(code, "Success", "{message}: {case:?}");
    }
}

#[tokio::test]
async fn what_is_just_outside_the_limits_is_refused() {
    let sts = Sts::start(Roles::Any).await;
    let names: Vec<String> = (0..51).map(|number| format!("t{number}")).collect();
    let arns = |count: usize| (0..count).map(|number| format!("arn:aws:iam::111122223333:policy/p{number}"));
    let long = |length: usize| "a".repeat(length);
    let long_role = role_of(2049);
    let validation = [
        (one("RoleArn", MISSING), violation("null", "roleArn", "Member must not be null")),
        (one("RoleArn", "arn:aws:iam::1:role"), too_short("arn:aws:iam::1:role", "roleArn", 20)),
        (one("RoleArn", &long_role), too_long(&long_role, "roleArn", 2048)),
        (one("RoleArn", "arn:aws:iam::111122223333:role/\u{1}"), "pattern: [\\u0009".to_owned()),
        (one("RoleArn", USER), "Request ARN is invalid".to_owned()),
        (one("RoleSessionName", MISSING), violation("null", "roleSessionName", "Member must not be null")),
        (one("RoleSessionName", "a"), too_short("a", "roleSessionName", 2)),
        (one("RoleSessionName", long(65)), too_long(&long(65), "roleSessionName", 64)),
        (one("RoleSessionName", "task/1"), strange("task/1", "roleSessionName", r"[\w+=,.@-]*")),
        (one("RoleSessionName", "/"), "2 validation errors detected: Value '/' at 'roleSessionName'".to_owned()),
        (
            one("DurationSeconds", "899"),
            violation("'899'", "durationSeconds", "Member must have value greater than or equal to 900"),
        ),
        (
            one("DurationSeconds", "43201"),
            violation("'43201'", "durationSeconds", "Member must have value less than or equal to 43200"),
        ),
        (one("DurationSeconds", "-1"), "Member must have value greater than or equal to 900".to_owned()),
        (tags(names.iter().map(|name| (name.as_str(), ""))), too_long("[51 members]", "tags", 50)),
        (tag("", "v"), too_short("", "tags.1.member.key", 1)),
        (tag(&long(129), "v"), too_long(&long(129), "tags.1.member.key", 128)),
        (tag("k", &long(257)), too_long(&long(257), "tags.1.member.value", 256)),
        (tag("k*", "v"), strange("k*", "tags.1.member.key", r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+")),
        (tag("k", "a,b"), strange("a,b", "tags.1.member.value", r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*")),
        (one("Tags.member.1.Key", "k"), violation("null", "tags.1.member.value", "Member must not be null")),
        (members("TransitiveTagKeys", "", &names), too_long("[51 members]", "transitiveTagKeys", 50)),
        (members("TransitiveTagKeys", "", [""]), "Member must satisfy constraint: [Member must have".to_owned()),
        (one("SourceIdentity", "a"), too_short("a", "sourceIdentity", 2)),
        (one("SourceIdentity", long(65)), too_long(&long(65), "sourceIdentity", 64)),
        (one("SourceIdentity", "aws:me"), strange("aws:me", "sourceIdentity", r"[\w+=,.@-]*")),
        (one("ExternalId", "a"), too_short("a", "externalId", 2)),
        (one("ExternalId", long(1225)), too_long(&long(1225), "externalId", 1224)),
        (one("ExternalId", "a b"), strange("a b", "externalId", r"[\w+=,.@:\/-]*")),
        (one("Policy", ""), too_short("", "policy", 1)),
        (one("Policy", "\u{100}"), strange("\u{100}", "policy", r"[\u0009\u000A\u000D\u0020-\u00FF]+")),
        (members("PolicyArns", ".arn", arns(11)), too_long("[11 members]", "policyArns", 10)),
        (members("PolicyArns", ".arn", ["arn:aws:iam::1"]), too_short("arn:aws:iam::1", "policyArns.1.member.arn", 20)),
        (
            members("PolicyArns", ".name", ["x"]),
            violation("null", "policyArns.1.member.arn", "Member must not be null"),
        ),
        (members("PolicyArns", ".arn", ["arn:aws:iam::444455556666:policy/p"]), "is not valid".to_owned()),
        (members("PolicyArns", ".arn", [ROLE]), "is not valid".to_owned()),
        (one("MinimumSessionTokenSize", "4097"), "at 'minimumSessionTokenSize'".to_owned()),
        (one("SerialNumber", "12345678"), too_short("12345678", "serialNumber", 9)),
        (one("TokenCode", "12345"), too_short("12345", "tokenCode", 6)),
        (
            members("ProvidedContexts", ".ContextAssertion", ["abc"]),
            too_short("abc", "providedContexts.1.member.contextAssertion", 4),
        ),
    ];
    let validation = validation.into_iter().map(|(case, message)| (case, "ValidationError", message));
    let others = [
        (one("DurationSeconds", "1h"), "MalformedInput", "'durationSeconds' is not a whole number"),
        (one("Tags", "a"), "MalformedInput", "Tags is not a list"),
        (tags([("Team", "a"), ("team", "b")]), "InvalidParameterValue", "Duplicate tag keys found."),
        (tag("aws:team", "a"), "InvalidParameterValue", "may begin with 'aws:'"),
        (tag("team", "AWS:a"), "InvalidParameterValue", "may begin with 'aws:'"),
        (
            [tag("Team", "a"), members("TransitiveTagKeys", "", ["Stage"])].concat(),
            "InvalidParameterValue",
            "must be included in the requested tags",
        ),
        (one("Policy", "{"), "MalformedPolicyDocument", "not in the valid JSON format"),
        (one("Policy", "[]"), "MalformedPolicyDocument", "Syntax errors"),
        (one("Policy", "{}"), "MalformedPolicyDocument", "Syntax errors"),
        (one("Policy", r#"{"Statement":[]}"#), "MalformedPolicyDocument", "Syntax errors"),
        (one("Policy", r#"{"Statement":"x"}"#), "MalformedPolicyDocument", "Syntax errors"),
        (one("Policy", policy_of(2049)), "PackedPolicyTooLarge", "please use smaller policy"),
        (
            [one("Policy", policy_of(2048)), members("PolicyArns", ".arn", arns(1))].concat(),
            "PackedPolicyTooLarge",
            "please use smaller policy",
        ),
        (one("SerialNumber", "GAHT12345678"), "AccessDenied", "must provide both"),
        (
            [one("SerialNumber", "GAHT12345678"), one("TokenCode", "123456")].concat(),
            "AccessDenied",
            "unable to validate MFA code",
        ),
        (
            members("ProvidedContexts", ".ContextAssertion", ["assertion"]),
            "AccessDenied",
            "cannot verify ProvidedContexts",
        ),
        (one("Action", MISSING), "MissingAction", "Missing Action"),
        (one("Action", "AssumeRoot"), "InvalidAction", "Could not find operation AssumeRoot for version 2011-06-15"),
        (one("Version", "2012-10-17"), "InvalidAction", "Could not find operation AssumeRole for version 2012-10-17"),
        (one("Version", MISSING), "InvalidAction", "for version NO_VERSION_SPECIFIED"),
    ];
    let others = others.into_iter().map(|(case, code, message)| (case, code, message.to_owned()));
    for (case, expected_code, expected) in validation.chain(others) {
        let (code, message) = outcome(&sts, &case).await;
        assert_eq!(code, expected_code, "{message}: {case:?}");
        let matches = if expected.starts_with("1 val") { message == expected } else { message.contains(&expected) };
        assert!(matches, "{message}: {case:?}");
        assert_eq!(sts.emulator.calls().last().unwrap().outcome, expected_code);
    }
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let sts = Sts::start(Roles::Any).await;
    let changes = [one("RoleArn", MISSING), one("RoleSessionName", "!"), one("DurationSeconds", "1"), tag("", "*")];
    let (code, message) = outcome(&sts, &changes.concat()).await;
    assert_eq!(code, "ValidationError");
    assert!(message.starts_with("6 validation errors detected: Value null at 'roleArn'"), "{message}");
    assert_eq!(message.matches("failed to satisfy constraint").count(), 6);
}
