//! A line for each rule: an operator, a key, the policy's values, the request's, and what comes of it.

use proptest::prelude::*;

use super::super::context::AssumeRoleCall;
use super::super::tests::{TASK, ecs, proxy, task_call};
use super::*;

fn condition(name: &str, key: &str, values: &[&str]) -> Condition {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Condition { name: name.to_owned(), operator: Operator::parse(name).unwrap(), key: key.to_owned(), values }
}

/// With one value of `sts:ExternalId`, or without that key.
fn one(name: &str, values: &[&str], actual: Option<&str>) -> Truth {
    let context = Context::of(actual.map(|actual| ("sts:ExternalId", Value::One(actual.to_owned()))));
    condition(name, "STS:externalID", values).check(&context, true).holds
}

/// With these values of `aws:TagKeys`, or without that key.
fn many(name: &str, values: &[&str], actual: Option<&[&str]>) -> Truth {
    let actual = actual.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
    let context = Context::of(actual.map(|actual| ("aws:TagKeys", Value::Many(actual))));
    condition(name, "aws:tagkeys", values).check(&context, true).holds
}

const YES: Truth = Truth::Yes;
const NO: Truth = Truth::No;
const UNKNOWN: Truth = Truth::Unknown;

#[test]
fn every_operator_compares_what_it_is_named_after() {
    for (operator, policy, actual, holds) in [
        ("StringEquals", &["a", "b"][..], "b", YES),
        ("StringEquals", &["a", "b"], "B", NO),
        ("StringEquals", &["*"], "b", NO),
        ("StringEquals", &["*"], "*", YES),
        ("StringNotEquals", &["a", "b"], "c", YES),
        ("StringNotEquals", &["a", "b"], "b", NO),
        ("StringEqualsIgnoreCase", &["Ä"], "ä", YES),
        ("StringEqualsIgnoreCase", &["ΟΔΟΣ"], "ΟΔΟΣ", YES),
        ("StringEqualsIgnoreCase", &["ΟΔΟΣ", "Σ"], "οδοσ", YES),
        // Lower case has two letters for one of upper case.
        ("StringEqualsIgnoreCase", &["ΟΔΟΣ"], "οδος", UNKNOWN),
        ("StringNotEqualsIgnoreCase", &["STRASSE"], "straße", UNKNOWN),
        ("StringEqualsIgnoreCase", &["STRASSE"], "strase", NO),
        ("StringEqualsIgnoreCase", &["A*"], "ab", NO),
        ("StringNotEqualsIgnoreCase", &["A", "x"], "a", NO),
        ("StringLike", &["x", "a?c*"], "abcd", YES),
        ("StringLike", &["a?c*"], "ABCD", NO),
        ("StringNotLike", &["x*", "a*"], "abc", NO),
        ("StringNotLike", &["x*", "y*"], "abc", YES),
        ("NumericEquals", &["10"], "10.0", YES),
        ("NumericNotEquals", &["1", "2"], "2", NO),
        ("NumericLessThan", &["10"], "9", YES),
        ("NumericLessThan", &["10"], "10", NO),
        ("NumericLessThanEquals", &["10"], "10", YES),
        ("NumericGreaterThan", &["9"], "10", YES),
        ("NumericGreaterThan", &["10"], "10", NO),
        ("NumericGreaterThanEquals", &["10"], "10", YES),
        ("NumericEquals", &["10"], "ten", UNKNOWN),
        ("DateEquals", &["2026-11-25T04:30:00Z"], "2026-11-25T05:30:00+01:00", YES),
        ("DateNotEquals", &["2026-11-25T04:30:00Z"], "2026-11-25T04:30:00Z", NO),
        ("DateLessThan", &["2026-11-25T04:30:00Z"], "1795580999", YES),
        ("DateLessThanEquals", &["1795581000"], "2026-11-25T04:30:00Z", YES),
        ("DateGreaterThan", &["2026"], "2026-11-25T04:30:00Z", YES),
        ("DateGreaterThanEquals", &["2026-11-25T04:30:00Z"], "2026-11-25T04:29:59Z", NO),
        ("Bool", &["true"], "TRUE", YES),
        ("Bool", &["false"], "true", NO),
        ("BinaryEquals", &["QmluYXJ5"], "QmluYXJ5", YES),
        ("BinaryEquals", &["QmluYXJ5"], "qmluYXJ5", NO),
        ("IpAddress", &["203.0.113.0/24", "2001:db8::/32"], "2001:db8::1", YES),
        ("IpAddress", &["203.0.113.0/24"], "198.51.100.1", NO),
        ("NotIpAddress", &["203.0.113.0/24", "198.51.100.1"], "198.51.100.1", NO),
        ("NotIpAddress", &["203.0.113.0/24"], "198.51.100.1", YES),
        ("ArnEquals", &["arn:aws:ecs:*:111122223333:task/*"], TASK, YES),
        ("ArnLike", &["arn:aws:ecs:us-west-2:111122223333:task/dev/*"], TASK, NO),
        ("ArnLike", &["*"], TASK, UNKNOWN),
        ("ArnNotLike", &["arn:aws:ecs:*"], TASK, UNKNOWN),
        ("ArnNotEquals", &["arn:aws:ecs:*:111122223333:task/*"], TASK, NO),
        ("ArnNotLike", &["arn:aws:s3:::*", "arn:aws:ecs:*:444455556666:*"], TASK, YES),
        ("Null", &["true"], "x", NO),
        ("Null", &["false"], "x", YES),
        ("StringEqualsIfExists", &["a"], "b", NO),
        ("StringEqualsIfExists", &["a"], "a", YES),
    ] {
        assert_eq!(one(operator, policy, Some(actual)), holds, "{operator} {policy:?} {actual}");
    }
}

#[test]
fn an_absent_key_fits_negated_operators_if_exists_and_null() {
    for (operator, value, holds) in [
        ("StringEquals", "a", NO),
        ("StringLike", "*", NO),
        ("NumericLessThan", "1", NO),
        ("DateLessThan", "2026", NO),
        ("Bool", "false", NO),
        ("BinaryEquals", "QmluYXJ5", NO),
        ("IpAddress", "0.0.0.0/0", NO),
        ("ArnLike", "arn:*:*:*:*:*", NO),
        ("StringNotEquals", "a", YES),
        ("StringNotEqualsIgnoreCase", "a", YES),
        ("StringNotLike", "*", YES),
        ("NumericNotEquals", "1", YES),
        ("DateNotEquals", "2026", YES),
        ("NotIpAddress", "0.0.0.0/0", YES),
        ("ArnNotLike", "arn:*:*:*:*:*", YES),
        ("ArnNotEquals", "arn:*:*:*:*:*", YES),
        ("StringEqualsIfExists", "a", YES),
        ("BoolIfExists", "true", YES),
        ("ArnLikeIfExists", "arn:aws:ecs:*:*:*", YES),
        ("Null", "true", YES),
        ("Null", "false", NO),
        ("ForAllValues:StringEquals", "a", YES),
        ("ForAnyValue:StringEquals", "a", NO),
        ("ForAnyValue:StringNotEquals", "a", NO),
        ("ForAnyValue:StringEqualsIfExists", "a", YES),
    ] {
        assert_eq!(one(operator, &[value], None), holds, "{operator}");
    }
}

#[test]
fn several_values_need_a_set_operator() {
    for (operator, policy, actual, holds) in [
        ("ForAllValues:StringEquals", &["a", "b"][..], &["a", "b"][..], YES),
        ("ForAllValues:StringEquals", &["a", "b"], &["a", "c"], NO),
        ("ForAllValues:StringEquals", &["a", "b"], &["b"], YES),
        ("ForAnyValue:StringEquals", &["a", "b"], &["c", "b"], YES),
        ("ForAnyValue:StringEquals", &["a", "b"], &["c", "B"], NO),
        ("ForAnyValue:StringLike", &["ecs-*"], &["team", "ecs-task-arn"], YES),
        ("ForAllValues:StringNotEquals", &["a", "b"], &["c", "d"], YES),
        ("ForAllValues:StringNotEquals", &["a", "b"], &["c", "b"], NO),
        ("ForAnyValue:StringNotEquals", &["a", "b"], &["a", "c"], YES),
        ("ForAnyValue:StringNotEquals", &["a", "b"], &["a", "b"], NO),
        // AWS only says that a set operator is required.
        ("StringEquals", &["a"], &["a"], UNKNOWN),
        ("StringEquals", &["b"], &["a"], UNKNOWN),
        ("StringEqualsIfExists", &["a"], &["a"], UNKNOWN),
        ("StringNotEquals", &["b"], &["a"], UNKNOWN),
        ("Null", &["false"], &["a"], YES),
    ] {
        assert_eq!(many(operator, policy, Some(actual)), holds, "{operator} {policy:?} {actual:?}");
    }
}

/// Also where the value is given by hand.
#[test]
fn a_key_of_several_values_has_several_however_it_is_known() {
    let given = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let more = vec![given("aws:PrincipalOrgPaths", "o-1/r-1/"), given("AWS:principalorgpaths", "o-1/r-2/")];
    let context = Context::new(&AssumeRoleCall { more, ..task_call() }, &proxy());
    let check =
        |name: &str, value: &str| condition(name, "aws:PrincipalOrgPaths", &[value]).check(&context, true).holds;
    for (operator, value, holds) in [
        ("ForAnyValue:StringEquals", "o-1/r-1/", YES),
        ("ForAnyValue:StringEquals", "o-1/r-2/", YES),
        ("ForAllValues:StringEquals", "o-1/r-2/", NO),
        ("ForAllValues:StringLike", "o-1/*", YES),
        ("StringLike", "o-1/*", UNKNOWN),
        ("StringNotLike", "o-2/*", UNKNOWN),
    ] {
        assert_eq!(check(operator, value), holds, "{operator} {value}");
    }
}

proptest! {
    /// A negated operator is the exact opposite wherever the key has one value, whatever the policy's values.
    #[test]
    fn negation_turns_the_outcome_round(policy in prop::collection::vec("[ab*]{0,2}", 1..4), actual in "[ab*]{0,2}") {
        let policy: Vec<&str> = policy.iter().map(String::as_str).collect();
        for (plain, negated) in [("StringEquals", "StringNotEquals"), ("StringLike", "StringNotLike"), ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase")] {
            prop_assert_eq!(one(negated, &policy, Some(&actual)), one(plain, &policy, Some(&actual)).not());
        }
        prop_assert_eq!(one("StringEqualsIfExists", &policy, Some(&actual)), one("StringEquals", &policy, Some(&actual)));
    }
}

proptest! {
    #[test]
    fn a_text_equals_itself_without_case_whatever_its_letters(text in "[aAßẞſıİΑΟΣσςKΐ]{0,6}") {
        prop_assert_eq!(one("StringEqualsIgnoreCase", &[&text], Some(&text)), YES);
        for other in [text.to_lowercase(), text.to_uppercase()] {
            prop_assert_ne!(one("StringEqualsIgnoreCase", &[&text], Some(&other)), NO, "{}", other);
        }
    }
}

#[test]
fn variables_are_replaced_only_where_the_version_and_the_operator_have_them() {
    let context = Context::of([
        ("aws:username", Value::One("me".to_owned())),
        ("sts:RoleSessionName", Value::One("me".to_owned())),
    ]);
    let check =
        |name: &str, value: &str, version| condition(name, "sts:RoleSessionName", &[value]).check(&context, version);
    assert_eq!(check("StringEquals", "${aws:username}", true).holds, YES);
    assert_eq!(check("StringLike", "${aws:username}*", true).holds, YES);
    assert_eq!(check("StringEquals", "${aws:username}", false).holds, NO, "2008-10-17 has no variables");
    for name in ["StringEquals", "StringNotEquals"] {
        let unresolved = check(name, "${aws:PrincipalTag/team}", true);
        assert_eq!(unresolved.holds, UNKNOWN);
        assert!(
            unresolved.to_string().ends_with("(the variable ${aws:PrincipalTag/team} has no value here)"),
            "{unresolved}"
        );
    }
    let either =
        condition("StringEquals", "sts:RoleSessionName", &["${aws:PrincipalTag/team}", "me"]).check(&context, true);
    assert_eq!((either.holds, either.why), (YES, None), "another value decides");
}

#[test]
fn of_a_source_arn_that_is_no_whole_pattern_nothing_is_known() {
    let context = Context::new(&AssumeRoleCall { tags: Vec::new(), ..task_call() }, &ecs());
    for operator in ["ArnLike", "ArnNotLike"] {
        let checked = condition(operator, "aws:SourceArn", &["arn:aws:ecs:*"]).check(&context, true);
        assert_eq!(checked.holds, UNKNOWN, "{operator}");
        assert!(checked.why.unwrap().contains("fewer than the six parts"), "{operator}");
    }
}

#[test]
fn ecs_supports_a_source_arn_for_all_clusters_only() {
    let call = AssumeRoleCall { tags: Vec::new(), ..task_call() };
    let context = Context::new(&call, &ecs());
    let arn = |rest: &str| format!("arn:aws:ecs:us-west-2:111122223333:{rest}");
    for (operator, pattern, holds) in [
        ("ArnLike", arn("*"), YES),
        ("ArnEquals", arn("*"), YES),
        ("StringLike", arn("*"), YES),
        ("ArnLike", arn("task/*"), YES),
        ("ArnLike", "arn:aws:ecs:*:111122223333:*".to_owned(), YES),
        ("StringLike", "arn:aws:ecs:*".to_owned(), YES),
        ("ArnNotLike", arn("*"), NO),
        // The main false green: each of these is what the task has, and ECS supports none.
        ("ArnLike", arn("task/prod/*"), UNKNOWN),
        ("ArnEquals", TASK.to_owned(), UNKNOWN),
        ("StringEquals", TASK.to_owned(), UNKNOWN),
        ("StringEqualsIgnoreCase", TASK.to_uppercase(), UNKNOWN),
        ("StringLike", arn("task/prod/*"), UNKNOWN),
        ("ArnLike", arn("task/*/0123456789abcdef"), UNKNOWN),
        ("ArnLike", arn("cluster/prod"), UNKNOWN),
        ("ArnLike", arn("task/dev/*"), UNKNOWN),
        ("ArnNotLike", arn("task/dev/*"), UNKNOWN),
        ("ArnLikeIfExists", arn("task/prod/*"), UNKNOWN),
        // What every task has, and the ARN that ECS documents may not.
        ("ArnLike", arn("task/*/*"), UNKNOWN),
        ("ArnLike", arn("task/?*"), UNKNOWN),
        ("ArnLike", arn("*/*"), UNKNOWN),
        ("StringLike", arn("task/*/*"), UNKNOWN),
        ("ArnNotLike", arn("task/*/*"), UNKNOWN),
        // Text reaches over colons.
        ("StringLike", "*".to_owned(), YES),
        ("StringLike", "arn:aws:ecs:us-west-2:1111*".to_owned(), YES),
        ("StringLike", "arn:aws:ecs:*:task/*".to_owned(), YES),
        ("StringLike", "arn:aws:ecs:*/*/*".to_owned(), UNKNOWN),
        ("StringLike", "*prod*".to_owned(), UNKNOWN),
        ("StringLike", "*dev*".to_owned(), UNKNOWN),
        ("StringNotLike", "*dev*".to_owned(), UNKNOWN),
        ("StringLike", "arn:aws:ecs:eu-west-1:*".to_owned(), NO),
        ("StringLike", "arn:aws:ec2*".to_owned(), NO),
        // Of another account, region or service, and no ARN at all.
        ("ArnLike", "arn:aws:ecs:us-west-2:444455556666:*".to_owned(), NO),
        ("ArnLike", "arn:aws:ecs:eu-west-1:111122223333:*".to_owned(), NO),
        ("ArnLike", "arn:aws:ec2:us-west-2:111122223333:*".to_owned(), NO),
        ("ArnNotLike", "arn:aws:ecs:us-west-2:444455556666:*".to_owned(), YES),
        ("Null", "false".to_owned(), YES),
    ] {
        let checked = condition(operator, "aws:SourceArn", &[&pattern]).check(&context, true);
        assert_eq!(checked.holds, holds, "{operator} {pattern}");
        assert_eq!(
            checked.why.is_some_and(|why| why.contains("ECS supports")),
            holds == UNKNOWN,
            "{operator} {pattern}"
        );
    }
    for (operator, pattern) in
        [("StringEquals", arn("*")), ("StringNotEquals", arn("*")), ("StringEqualsIgnoreCase", arn("task/${*}"))]
    {
        let checked = condition(operator, "aws:SourceArn", &[&pattern]).check(&context, true);
        assert_eq!(checked.holds, UNKNOWN, "{operator} {pattern}");
        let why = checked.why.unwrap();
        assert!(why.contains("ArnLike, or StringLike, is meant") && !why.contains("ECS supports"), "{operator}: {why}");
    }
    // Nobody says what comes of an ARN that is compared as something else.
    for (operator, value, holds) in [
        ("NumericNotEquals", "1", UNKNOWN),
        ("DateNotEquals", "2026", UNKNOWN),
        ("NotIpAddress", "203.0.113.0/24", UNKNOWN),
        ("Bool", "true", NO),
    ] {
        assert_eq!(condition(operator, "aws:SourceArn", &[value]).check(&context, true).holds, holds, "{operator}");
    }
    let both = condition("ArnLike", "aws:SourceArn", &[&arn("task/prod/*"), &arn("*")]).check(&context, true);
    assert_eq!(both.holds, YES, "one of the values is for all clusters");
}

#[test]
fn what_is_not_known_decides_nothing() {
    let context = Context::new(&task_call(), &proxy());
    for (operator, value) in [
        ("IpAddress", "0.0.0.0/0"),
        ("NotIpAddress", "203.0.113.0/24"),
        ("Null", "true"),
        ("Null", "false"),
        ("IpAddressIfExists", "0.0.0.0/0"),
    ] {
        let checked = condition(operator, "aws:SourceIp", &[value]).check(&context, true);
        assert_eq!(checked.holds, UNKNOWN, "{operator}");
        assert!(checked.to_string().ends_with("(its value is not known here)"), "{checked}");
    }
}

#[test]
fn a_condition_tells_itself_in_one_line() {
    let context = Context::new(&task_call(), &proxy());
    let text = |name: &str, key: &str, values: &[&str]| condition(name, key, values).check(&context, true).to_string();
    assert_eq!(
        text("StringLike", "aws:RequestTag/ecs-cluster-name", &["dev*", "test"]),
        r#"StringLike aws:RequestTag/ecs-cluster-name: the request has "prod", the policy has "dev*", "test""#
    );
    assert_eq!(
        text("ArnLike", "aws:SourceArn", &["arn:aws:ecs:us-west-2:111122223333:*"]),
        "ArnLike aws:SourceArn: the request does not have it, the policy has \"arn:aws:ecs:us-west-2:111122223333:*\" \
         (only the call of an AWS service has it)"
    );
    assert!(text("NumericLessThan", "sts:DurationSeconds", &["3600"]).ends_with("(AssumeRole never has it)"));
}
