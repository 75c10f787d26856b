//! One role's documents as commands of the AWS CLI, as a CloudFormation template, as a Terraform file.
//!
//! Both files are JSON, which both take, so that nothing here has to quote their own languages.

use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::permissions::Permissions;

/// What is written about one role: its trust policy, or what it may do. Both only in a CloudFormation template with managed policies.
#[derive(Debug, Clone)]
pub struct Documents {
    /// Its name.
    pub role: String,
    /// Its trust policy, where the role is to be made.
    pub trust: Option<Value>,
    /// What it may do.
    pub permissions: Option<Permissions>,
}

/// The document itself; the ARNs of managed policies, which are AWS's documents.
#[must_use]
pub fn json(documents: &Documents) -> String {
    let document = match (&documents.permissions, &documents.trust) {
        (Some(Permissions::Inline(_, policy)), _) => policy.clone(),
        (Some(Permissions::Managed(arns)), _) => json!({"ManagedPolicyArns": arns}),
        (None, trust) => trust.clone().unwrap_or_default(),
    };
    pretty(&document)
}

/// Commands of the AWS CLI, for a shell. A trust policy makes the role; how to change that of one that is there stands in a comment.
#[must_use]
pub fn cli(documents: &Documents) -> String {
    let Documents { role, trust, permissions } = documents;
    let mut lines = Vec::new();
    if let Some(trust) = trust {
        let trust = sh(&compact(trust));
        lines.push(format!("aws iam create-role --role-name {role} --assume-role-policy-document {trust}"));
        lines.push("# Where the role is there already:".to_owned());
        lines.push(format!("# aws iam update-assume-role-policy --role-name {role} --policy-document {trust}"));
    }
    match permissions {
        Some(Permissions::Managed(arns)) => {
            lines.extend(
                arns.iter().map(|arn| format!("aws iam attach-role-policy --role-name {role} --policy-arn {arn}")),
            );
        }
        Some(Permissions::Inline(name, policy)) => {
            let policy = sh(&compact(policy));
            lines.push(format!(
                "aws iam put-role-policy --role-name {role} --policy-name {name} --policy-document {policy}"
            ));
        }
        None => {}
    }
    lines.join("\n")
}

/// A template. Managed policies belong to the role's own resource there, so they come with its trust policy.
#[must_use]
pub fn cloudformation(documents: &Documents) -> String {
    let Documents { role, trust, permissions } = documents;
    let mut resources = Map::new();
    if let Some(trust) = trust {
        let mut properties = json!({"RoleName": role, "AssumeRolePolicyDocument": trust});
        if let (Some(Permissions::Managed(arns)), Some(properties)) = (permissions, properties.as_object_mut()) {
            properties.insert("ManagedPolicyArns".to_owned(), json!(arns));
        }
        resources.insert("Role".to_owned(), json!({"Type": "AWS::IAM::Role", "Properties": properties}));
    }
    if let Some(Permissions::Inline(name, policy)) = permissions {
        let properties = json!({"RoleName": role, "PolicyName": name, "PolicyDocument": policy});
        resources.insert("Permissions".to_owned(), json!({"Type": "AWS::IAM::RolePolicy", "Properties": properties}));
    }
    pretty(&json!({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}))
}

/// A file for the AWS provider, `NAME.tf.json`.
#[must_use]
pub fn terraform(documents: &Documents) -> String {
    let Documents { role, trust, permissions } = documents;
    let label = label(role);
    let mut resources = Map::new();
    let mut add = |kind: &str, label: String, arguments: Value| {
        let of_kind = resources.entry(kind.to_owned()).or_insert_with(|| json!({}));
        if let Some(of_kind) = of_kind.as_object_mut() {
            of_kind.insert(label, arguments);
        }
    };
    if let Some(trust) = trust {
        add("aws_iam_role", label.clone(), json!({"name": role, "assume_role_policy": literal(&compact(trust))}));
    }
    match permissions {
        Some(Permissions::Managed(arns)) => {
            for arn in arns {
                let policy = arn.rsplit('/').next().unwrap_or_default();
                let arguments = json!({"role": role, "policy_arn": arn});
                add("aws_iam_role_policy_attachment", format!("{label}_{policy}"), arguments);
            }
        }
        Some(Permissions::Inline(policy_name, policy)) => {
            let arguments = json!({"name": policy_name, "role": role, "policy": literal(&compact(policy))});
            add("aws_iam_role_policy", format!("{label}_{policy_name}"), arguments);
        }
        None => {}
    }
    pretty(&json!({"resource": resources}))
}

/// Texts are templates in Terraform, in which `${` and `%{` mean something.
fn literal(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

/// A name in Terraform: letters, digits, `_` and `-`, not beginning with a digit.
fn label(role: &str) -> String {
    let plain: String = role.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_alphabetic()) { plain } else { format!("_{plain}") }
}

/// Quotes a text for sh, where it needs it.
pub(crate) fn sh(text: &str) -> String {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/:._,=@%+-".contains(&b));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

// Writing a value of JSON cannot fail.

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(&AsRead(value)).unwrap_or_default()
}

fn compact(value: &Value) -> String {
    serde_json::to_string(&AsRead(value)).unwrap_or_default()
}

/// A value whose keys stand in the order in which people read them.
struct AsRead<'a>(&'a Value);

const ORDER: [&str; 12] = [
    "AWSTemplateFormatVersion",
    "Type",
    "RoleName",
    "PolicyName",
    "Version",
    "Statement",
    "Sid",
    "Effect",
    "Principal",
    "Action",
    "Resource",
    "Condition",
];

impl Serialize for AsRead<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let place = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| place(key));
                serializer.collect_map(fields.into_iter().map(|(key, value)| (key, AsRead(value))))
            }
            Value::Array(values) => serializer.collect_seq(values.iter().map(AsRead)),
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(trust: Option<Value>, permissions: Option<Permissions>) -> Documents {
        Documents { role: "1.web".to_owned(), trust, permissions }
    }

    #[test]
    fn variables_of_policies_are_none_of_terraform() {
        let policy = json!({"Resource": "arn:aws:s3:::b/${aws:username}/%{x}"});
        let file: Value =
            serde_json::from_str(&terraform(&documents(None, Some(Permissions::Inline("P", policy))))).unwrap();
        let written = &file["resource"]["aws_iam_role_policy"]["_1_web_P"];
        assert_eq!(written["policy"], r#"{"Resource":"arn:aws:s3:::b/$${aws:username}/%%{x}"}"#);
        assert_eq!(written["role"], "1.web");
        let file: Value = serde_json::from_str(&terraform(&documents(Some(json!({})), None))).unwrap();
        assert_eq!(file["resource"]["aws_iam_role"]["_1_web"], json!({"name": "1.web", "assume_role_policy": "{}"}));
    }

    #[test]
    fn texts_are_quoted_for_sh_where_they_need_it() {
        assert_eq!(sh("http://127.0.0.1:1/v2/x"), "http://127.0.0.1:1/v2/x");
        assert_eq!(sh("a b"), "'a b'");
        assert_eq!(sh("http://[::1]:1/"), "'http://[::1]:1/'");
        assert_eq!(sh("it's $(x)"), r"'it'\''s $(x)'");
    }

    #[test]
    fn a_shell_gets_each_document_as_one_word() {
        let lines = cli(&documents(Some(json!({"a": "it's"})), Some(Permissions::Managed(vec!["arn:x".to_owned()]))));
        assert!(
            lines.starts_with(
                r#"aws iam create-role --role-name 1.web --assume-role-policy-document '{"a":"it'\''s"}'"#
            ),
            "{lines}"
        );
        assert!(lines.ends_with("aws iam attach-role-policy --role-name 1.web --policy-arn arn:x"), "{lines}");
    }
}
