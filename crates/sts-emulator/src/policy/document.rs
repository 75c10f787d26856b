//! A trust policy that IAM would take, or everything for which IAM would refuse it, each with where it stands.
//!
//! Source: IAM User Guide, "Grammar of the IAM JSON policy language", "IAM JSON policy elements: Principal" and "NotPrincipal", "IAM and
//! AWS STS quotas". IAM answers `MalformedPolicyDocument` to what is refused here, `LimitExceeded` to what is too long.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::condition::Condition;
use super::glob;
use super::json::Json;
use super::operator::Operator;
use super::principal::{self, Principal};

pub(super) const ASSUME_ROLE: &str = "sts:AssumeRole";
pub(super) const TAG_SESSION: &str = "sts:TagSession";
pub(super) const SET_SOURCE_IDENTITY: &str = "sts:SetSourceIdentity";

/// What a trust policy may allow.
const ACTIONS: [&str; 6] = [
    ASSUME_ROLE,
    TAG_SESSION,
    SET_SOURCE_IDENTITY,
    "sts:AssumeRoleWithSAML",
    "sts:AssumeRoleWithWebIdentity",
    "sts:SetContext",
];

/// Characters without white space that IAM takes where AWS has raised the quota as far as it goes.
const MAX_CHARACTERS: usize = 4096;
/// The same without that.
pub(super) const USUAL_CHARACTERS: usize = 2048;

/// A trust policy: who may assume a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy {
    /// Whether its version is 2012-10-17, which alone has policy variables.
    pub(super) has_variables: bool,
    pub(super) statements: Vec<Statement>,
    /// Characters without white space.
    pub(super) characters: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// `Statement[1] "Proxy"`.
    pub(super) name: String,
    pub(super) allows: bool,
    pub(super) principals: Vec<Principal>,
    /// As written.
    pub(super) actions: Vec<String>,
    /// Whether `actions` are those that the statement is not about: `NotAction`.
    pub(super) not_actions: bool,
    pub(super) conditions: Vec<Condition>,
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `Statement[0].Principal.AWS`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Everything for which IAM would refuse a trust policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Malformed(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl Statement {
    /// Whether it is about an action.
    pub(super) fn is_about(&self, action: &str) -> bool {
        let action = action.to_lowercase();
        let fits = |pattern: &String| glob::matches(&glob::pieces(&pattern.to_lowercase()), &action);
        self.actions.iter().any(fits) != self.not_actions
    }
}

impl FromStr for TrustPolicy {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let json = serde_json::from_str(text);
        let json = json
            .map_err(|error| Malformed(vec![Fault { path: String::new(), message: format!("is no JSON: {error}") }]))?;
        Self::read(&json, text.chars().filter(|c| !c.is_whitespace()).count())
    }
}

impl TrustPolicy {
    /// Reads a document that is a part of another one.
    pub(super) fn read(json: &Json, characters: usize) -> Result<Self, Malformed> {
        let mut faults = Faults::default();
        if characters > MAX_CHARACTERS {
            faults.add(
                "",
                format!("has {characters} characters without white space; IAM takes {MAX_CHARACTERS} at most"),
            );
        }
        let mut policy = Self { has_variables: false, statements: Vec::new(), characters };
        if faults.object("", json, &["Version", "Id", "Statement"]).is_some() {
            policy.has_variables = has_variables(json, &mut faults);
            policy.statements = statements(json, &mut faults);
        }
        if faults.0.is_empty() { Ok(policy) } else { Err(Malformed(faults.0)) }
    }
}

fn has_variables(json: &Json, faults: &mut Faults) -> bool {
    match json.get("Version") {
        Some(Json::Text(version)) if version == "2012-10-17" => true,
        Some(Json::Text(version)) if version == "2008-10-17" => false,
        None => false,
        Some(_) => {
            faults.add("Version", "must be \"2012-10-17\", the version of the policy language".to_owned());
            false
        }
    }
}

fn statements(json: &Json, faults: &mut Faults) -> Vec<Statement> {
    let statements = match json.get("Statement") {
        Some(Json::List(statements)) => statements.as_slice(),
        Some(one @ Json::Object(_)) => std::slice::from_ref(one),
        Some(other) => {
            faults.add("Statement", format!("must be a list of statements, not {}", other.kind()));
            return Vec::new();
        }
        None => {
            faults.add("", "has no Statement".to_owned());
            return Vec::new();
        }
    };
    if statements.is_empty() {
        faults.add("Statement", "is empty: nobody could assume the role".to_owned());
    }
    let mut sids = BTreeSet::new();
    let read = |(index, json): (usize, &Json)| {
        let path = format!("Statement[{index}]");
        if let Some(Json::Text(sid)) = json.get("Sid")
            && !sid.is_empty()
            && !sids.insert(sid.clone())
        {
            faults.add(&format!("{path}.Sid"), format!("\"{sid}\" is given twice; it must be unique in a policy"));
        }
        statement(&path, json, faults)
    };
    statements.iter().enumerate().filter_map(read).collect()
}

fn statement(path: &str, json: &Json, faults: &mut Faults) -> Option<Statement> {
    const KNOWN: [&str; 6] = ["Sid", "Effect", "Principal", "Action", "NotAction", "Condition"];
    let fields = faults.object(path, json, &KNOWN)?;
    for (name, _) in fields {
        match name.as_str() {
            "Resource" | "NotResource" => faults.add(path, format!("Has prohibited field {name}: a trust policy is about its own role")),
            "NotPrincipal" => faults.add(
                path,
                "has NotPrincipal, which a trust policy may not have: allow the principals by Principal, and deny others by a \
                 condition on aws:PrincipalArn"
                    .to_owned(),
            ),
            _ => {}
        }
    }
    let at = |field: &str| format!("{path}.{field}");
    let name = match json.get("Sid") {
        Some(Json::Text(sid)) if sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            if sid.is_empty() {
                path.to_owned()
            } else {
                format!("{path} \"{sid}\"")
            }
        }
        None => path.to_owned(),
        Some(_) => {
            faults.add(&at("Sid"), "must be text of A-Z, a-z and 0-9".to_owned());
            path.to_owned()
        }
    };
    let allows = match json.get("Effect") {
        Some(Json::Text(effect)) if effect == "Allow" || effect == "Deny" => effect == "Allow",
        Some(_) => {
            faults.add(&at("Effect"), "must be \"Allow\" or \"Deny\", in this case".to_owned());
            false
        }
        None => {
            faults.add(path, "has no Effect: \"Allow\" or \"Deny\"".to_owned());
            false
        }
    };
    let principals = match json.get("Principal") {
        Some(principals) => {
            principal::read(principals, &mut |below, message| faults.add(&format!("{path}.Principal{below}"), message))
        }
        None => {
            if json.get("NotPrincipal").is_none() {
                faults.add(path, "has no Principal: whom does the role trust?".to_owned());
            }
            Vec::new()
        }
    };
    let (field, not_actions) = match (json.get("Action"), json.get("NotAction")) {
        (Some(_), Some(_)) => {
            faults.add(path, "has both Action and NotAction".to_owned());
            ("Action", false)
        }
        (None, Some(_)) => ("NotAction", true),
        (Some(_), None) => ("Action", false),
        (None, None) => {
            faults.add(path, "has no Action, such as sts:AssumeRole".to_owned());
            ("Action", false)
        }
    };
    let actions = json.get(field).map(|actions| actions_of(&at(field), actions, faults)).unwrap_or_default();
    let conditions = json.get("Condition").map(|json| conditions(&at("Condition"), json, faults)).unwrap_or_default();
    Some(Statement { name, allows, principals, actions, not_actions, conditions })
}

fn actions_of(path: &str, json: &Json, faults: &mut Faults) -> Vec<String> {
    let actions = faults.texts(path, json, |other| match other {
        Json::Text(text) => Some(text.clone()),
        _ => None,
    });
    for action in &actions {
        let pattern = glob::pieces(&action.to_lowercase());
        let is_sts = action.get(..4).is_some_and(|service| service.eq_ignore_ascii_case("sts:"));
        if !is_sts || !ACTIONS.iter().any(|known| glob::matches(&pattern, &known.to_lowercase())) {
            faults.add(
                path,
                format!(
                    "AssumeRole policy may only specify STS AssumeRole actions: \"{action}\" is none of {}",
                    ACTIONS.join(", ")
                ),
            );
        }
    }
    actions
}

fn conditions(path: &str, json: &Json, faults: &mut Faults) -> Vec<Condition> {
    let Json::Object(operators) = json else {
        faults.add(path, format!("must be an object of operators, not {}", json.kind()));
        return Vec::new();
    };
    faults.twice(path, operators);
    let mut conditions = Vec::new();
    for (name, keys) in operators {
        let path = format!("{path}.{name}");
        let operator = Operator::parse(name).map_err(|message| faults.add(&path, message)).ok();
        let Json::Object(keys) = keys else {
            faults.add(&path, format!("must be an object of condition keys, not {}", keys.kind()));
            continue;
        };
        if keys.is_empty() {
            faults.add(&path, "has no condition key".to_owned());
        }
        faults.twice(&path, keys);
        for (key, values) in keys {
            let path = format!("{path}.{key}");
            if !key.split_once(':').is_some_and(|(vendor, name)| !vendor.is_empty() && !name.is_empty()) {
                faults.add(
                    &path,
                    "Conditions must be prefaced by a vendor: a key is as aws:SourceArn or sts:ExternalId".to_owned(),
                );
            }
            let values = faults.texts(&path, values, |other| match other {
                Json::Text(text) | Json::Number(text) => Some(text.clone()),
                Json::Bool(value) => Some(value.to_string()),
                _ => None,
            });
            let Some(operator) = operator else { continue };
            for value in &values {
                if let Some(fault) = operator.fault_of(value) {
                    faults.add(&path, format!("\"{value}\" {fault}"));
                }
            }
            conditions.push(Condition { name: name.clone(), operator, key: key.clone(), values });
        }
    }
    conditions
}

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: &str, message: String) {
        self.0.push(Fault { path: path.to_owned(), message });
    }

    /// The fields of an object that has each of the known ones once at most, and no others. Those that a trust policy in particular may
    /// not have are told by their own words.
    fn object<'a>(&mut self, path: &str, json: &'a Json, known: &[&str]) -> Option<&'a [(String, Json)]> {
        const PROHIBITED: [&str; 3] = ["Resource", "NotResource", "NotPrincipal"];
        let Json::Object(fields) = json else {
            self.add(path, format!("must be an object, not {}", json.kind()));
            return None;
        };
        self.twice(path, fields);
        for (name, _) in fields {
            let prohibited = !path.is_empty() && PROHIBITED.contains(&name.as_str());
            if !known.contains(&name.as_str()) && !prohibited {
                let meant = known.iter().find(|known| known.eq_ignore_ascii_case(name));
                let hint =
                    meant.map_or_else(|| format!("known are {}", known.join(", ")), |known| format!("written {known}"));
                self.add(path, format!("has an unknown element `{name}`; {hint}"));
            }
        }
        Some(fields)
    }

    fn twice(&mut self, path: &str, fields: &[(String, Json)]) {
        let mut names = BTreeSet::new();
        for (name, _) in fields {
            if !names.insert(name) {
                self.add(path, format!("has `{name}` twice: IAM takes each once, with a list of values"));
            }
        }
    }

    /// One value or a list of them.
    fn texts(&mut self, path: &str, json: &Json, text: impl Fn(&Json) -> Option<String>) -> Vec<String> {
        let values = match json {
            Json::List(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        if values.is_empty() {
            self.add(path, "is an empty list".to_owned());
        }
        let mut texts = Vec::new();
        for value in values {
            match text(value) {
                Some(text) => texts.push(text),
                None => self.add(path, format!("must be text or a list of texts, not {}", value.kind())),
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match text.parse::<TrustPolicy>() {
            Ok(_) => Vec::new(),
            Err(Malformed(faults)) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    /// A statement that is sound, with these fields before its own.
    fn with(fields: &str) -> String {
        format!(r#"{{"Version":"2012-10-17","Statement":[{{{fields}}}]}}"#)
    }

    const SOUND: &str = r#""Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole""#;

    #[test]
    fn what_iam_takes_is_taken() {
        for fields in [
            SOUND.to_owned(),
            format!(r#"{SOUND},"Sid":"Proxy1""#),
            format!(r#"{SOUND},"Sid":"""#),
            format!(r#"{SOUND},"Condition":{{}}"#),
            format!(r#"{SOUND},"Condition":{{"Bool":{{"aws:SecureTransport":true}},"NumericLessThan":{{"aws:EpochTime":[1,2.5]}}}}"#),
            format!(r#"{SOUND},"Condition":{{"StringEquals":{{"token.actions.githubusercontent.com:aud":"x"}}}}"#),
            r#""Effect":"Deny","Principal":"*","NotAction":["sts:TagSession"]"#.to_owned(),
            r#""Effect":"Allow","Principal":{"AWS":["*","arn:aws:iam::111122223333:root"],"Service":["ecs-tasks.amazonaws.com"],"Federated":"cognito-identity.amazonaws.com"},"Action":["STS:assumerole","sts:*","sts:Tag?ession"]"#.to_owned(),
            r#""Effect":"Allow","Principal":{"AWS":["arn:aws-cn:iam::111122223333:user/a/b","arn:aws:sts::111122223333:assumed-role/r/s","arn:aws:sts::111122223333:federated-user/f","AROA1234567890EXAMPLE"]},"Action":"sts:AssumeRole""#.to_owned(),
        ] {
            assert_eq!(faults(&with(&fields)), Vec::<String>::new(), "{fields}");
        }
        assert_eq!(
            faults(&format!(r#"{{"Statement":{{{SOUND}}}}}"#)),
            Vec::<String>::new(),
            "one statement, no version"
        );
        assert_eq!(
            faults(&format!(r#"{{"Version":"2008-10-17","Id":"x","Statement":{{{SOUND}}}}}"#)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_iam_refuses_is_refused_with_where_and_why() {
        let principal =
            |aws: &str| format!(r#""Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"AWS":"{aws}"}}"#);
        let condition = |condition: &str| format!(r#"{SOUND},"Condition":{condition}"#);
        for (fields, says) in [
            (format!(r#"{SOUND},"Resource":"*""#), "Statement[0]: Has prohibited field Resource"),
            (format!(r#"{SOUND},"NotResource":"*""#), "Statement[0]: Has prohibited field NotResource"),
            (
                r#""Effect":"Allow","NotPrincipal":{"AWS":"*"},"Action":"sts:AssumeRole""#.to_owned(),
                "Statement[0]: has NotPrincipal",
            ),
            (format!(r#"{SOUND},"effect":"Allow""#), "Statement[0]: has an unknown element `effect`; written Effect"),
            (format!(r#"{SOUND},"Comment":"x""#), "Statement[0]: has an unknown element `Comment`; known are Sid"),
            (format!(r#"{SOUND},"Effect":"Allow""#), "Statement[0]: has `Effect` twice"),
            (format!(r#"{SOUND},"Sid":"a b""#), "Statement[0].Sid: must be text of"),
            (r#""Principal":"*","Action":"sts:AssumeRole""#.to_owned(), "Statement[0]: has no Effect"),
            (
                r#""Effect":"allow","Principal":"*","Action":"sts:AssumeRole""#.to_owned(),
                "Statement[0].Effect: must be",
            ),
            (r#""Effect":"Allow","Action":"sts:AssumeRole""#.to_owned(), "Statement[0]: has no Principal"),
            (r#""Effect":"Allow","Principal":"*""#.to_owned(), "Statement[0]: has no Action"),
            (format!(r#"{SOUND},"NotAction":"sts:TagSession""#), "Statement[0]: has both"),
            (r#""Effect":"Allow","Principal":"*","Action":[]"#.to_owned(), "Statement[0].Action: is an empty list"),
            (
                r#""Effect":"Allow","Principal":"*","Action":"*""#.to_owned(),
                "Statement[0].Action: AssumeRole policy may only",
            ),
            (r#""Effect":"Allow","Principal":"*","Action":"s3:GetObject""#.to_owned(), "\"s3:GetObject\" is none of"),
            (r#""Effect":"Allow","Principal":"*","Action":"sts:AsumeRole""#.to_owned(), "\"sts:AsumeRole\" is none of"),
            (r#""Effect":"Allow","Principal":"*","Action":1"#.to_owned(), "Statement[0].Action: must be text"),
            (
                r#""Effect":"Allow","Principal":"111122223333","Action":"sts:AssumeRole""#.to_owned(),
                "Statement[0].Principal: is \"111122223333\": only",
            ),
            (
                r#""Effect":"Allow","Principal":{},"Action":"sts:AssumeRole""#.to_owned(),
                "Statement[0].Principal: is empty",
            ),
            (
                r#""Effect":"Allow","Principal":{"Aws":"*"},"Action":"sts:AssumeRole""#.to_owned(),
                "Statement[0].Principal: has `Aws`",
            ),
            (
                r#""Effect":"Allow","Principal":{"CanonicalUser":"x"},"Action":"sts:AssumeRole""#.to_owned(),
                "Principal.CanonicalUser: is for",
            ),
            (
                r#""Effect":"Allow","Principal":{"Service":"ecs*.amazonaws.com"},"Action":"sts:AssumeRole""#.to_owned(),
                "Principal.Service: `ecs*",
            ),
            (
                r#""Effect":"Allow","Principal":{"Service":[]},"Action":"sts:AssumeRole""#.to_owned(),
                "Principal.Service: is empty",
            ),
            (
                principal("arn:aws:iam::111122223333:role/*"),
                "Principal.AWS: `arn:aws:iam::111122223333:role/*`: IAM has no wildcards",
            ),
            (principal("arn:aws:iam::*:root"), "IAM has no wildcards"),
            (principal("11112222333"), "is no principal"),
            (principal("arn:aws:iam::111122223333:group/g"), "a group is no principal"),
            (principal("arn:aws:iam::111122223333:role/"), "is no principal"),
            (principal("arn:aws:sts::111122223333:assumed-role/r"), "is no principal"),
            (principal("arn:aws:ecs::111122223333:role/r"), "is no principal"),
            (condition("[]"), "Statement[0].Condition: must be an object"),
            (condition(r#"{"StringEquals":"x"}"#), "Statement[0].Condition.StringEquals: must be an object"),
            (condition(r#"{"StringEquals":{}}"#), "Statement[0].Condition.StringEquals: has no condition key"),
            (
                condition(r#"{"stringequals":{"aws:x":"x"}}"#),
                "Statement[0].Condition.stringequals: there is no condition operator",
            ),
            (
                condition(r#"{"StringEquals":{"SourceArn":"x"}}"#),
                "Condition.StringEquals.SourceArn: Conditions must be prefaced by a vendor",
            ),
            (condition(r#"{"StringEquals":{"aws:x":null}}"#), "Condition.StringEquals.aws:x: must be text"),
            (condition(r#"{"StringEquals":{"aws:x":[]}}"#), "Condition.StringEquals.aws:x: is an empty list"),
            (condition(r#"{"StringEquals":{"aws:x":"a","aws:x":"b"}}"#), "Condition.StringEquals: has `aws:x` twice"),
            (
                condition(r#"{"StringEquals":{"aws:x":"a"},"StringEquals":{"aws:y":"b"}}"#),
                "Statement[0].Condition: has `StringEquals` twice",
            ),
            (
                condition(r#"{"NumericLessThan":{"aws:x":"an hour"}}"#),
                "Condition.NumericLessThan.aws:x: \"an hour\" is no number",
            ),
        ] {
            let found = faults(&with(&fields));
            assert!(matches!(&found[..], [one] if one.contains(says)), "{fields}: {found:?}");
        }
        for (document, says) in [
            ("", "is no JSON"),
            ("[]", "must be an object, not a list"),
            (r#"{"Version":"2012-10-17"}"#, "has no Statement"),
            (r#"{"Statement":[]}"#, "Statement: is empty"),
            (r#"{"Statement":["x"]}"#, "Statement[0]: must be an object, not a text"),
            (r#"{"Statement":"x"}"#, "Statement: must be a list"),
            (&format!(r#"{{"Version":"2012-10-18","Statement":{{{SOUND}}}}}"#), "Version: must be \"2012-10-17\""),
            (&format!(r#"{{"Resource":"*","Statement":{{{SOUND}}}}}"#), "has an unknown element `Resource`"),
        ] {
            let found = faults(document);
            assert!(matches!(&found[..], [one] if one.contains(says)), "{document}: {found:?}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let document = r#"{"Version":"1","Statement":[
            {"Effect":"Maybe","Principal":"me","Action":"s3:*","Resource":"*"},
            {"Sid":"A","Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"},
            {"Sid":"A","Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Condition":{"Bool":{"aws:x":"perhaps"}}}]}"#;
        let paths: Vec<_> =
            document.parse::<TrustPolicy>().unwrap_err().0.into_iter().map(|fault| fault.path).collect();
        let all = [
            "Version",
            "Statement[0]",
            "Statement[0].Effect",
            "Statement[0].Principal",
            "Statement[0].Action",
            "Statement[2].Sid",
            "Statement[2].Condition.Bool.aws:x",
        ];
        assert_eq!(paths, all);
    }

    #[test]
    fn the_length_is_counted_without_white_space() {
        let head = format!(r#"{SOUND},"Condition":{{"StringEquals":{{"sts:ExternalId":""#);
        let length = |n: usize| {
            let empty = with(&format!("{head}\"}}}}")).len();
            with(&format!("{head}{}\"}}}}", "x".repeat(n - empty)))
        };
        let spaces = " ".repeat(5000);
        assert_eq!(faults(&format!("{}{spaces}", length(4096))), Vec::<String>::new());
        assert!(faults(&length(4097))[0].contains("has 4097 characters"));
        assert_eq!(length(2100).parse::<TrustPolicy>().unwrap().characters, 2100);
    }
}
