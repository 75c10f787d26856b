//! Trust policies. Each statement holds its caller to one account, by the means that this caller has: an AWS service brings
//! `aws:SourceAccount` and `aws:SourceArn`, a proxy brings the tags of its sessions.

use serde_json::{Value, json};

use super::Place;

/// An AWS service that assumes roles for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `ecs-tasks.amazonaws.com`, for tasks.
    EcsTasks,
    /// `ssm.amazonaws.com`, for the instances of ECS Anywhere.
    Ssm,
}

/// A proxy that is trusted.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The ARN of its role or user.
    pub arn: String,
    /// It may assume the role for tasks of this cluster only.
    pub cluster: Option<String>,
    /// It passes session tags.
    pub session_tags: bool,
    /// It sets a source identity.
    pub source_identity: bool,
}

/// A trust policy of these statements.
#[must_use]
pub fn policy(statements: Vec<Value>) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// The statement that trusts a service, held to an account and a region unless `has_source` is false. The ARN names all clusters,
/// because ECS does not support a narrower one.
#[must_use]
pub fn service(service: Service, place: &Place, has_source: bool) -> Value {
    let (sid, name, source) = match service {
        Service::EcsTasks => ("EcsTasks", "ecs-tasks.amazonaws.com", place.arn("ecs", "*")),
        Service::Ssm => ("Ssm", "ssm.amazonaws.com", place.arn("ssm", "*")),
    };
    let mut statement = json!({
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": name},
        "Action": "sts:AssumeRole",
    });
    if let (true, Some(statement)) = (has_source, statement.as_object_mut()) {
        let condition = json!({
            "ArnLike": {"aws:SourceArn": source},
            "StringEquals": {"aws:SourceAccount": place.account},
        });
        statement.insert("Condition".to_owned(), condition);
    }
    statement
}

/// The statement that trusts a proxy. Its actions stand under the same conditions, because each is decided for itself.
#[must_use]
pub fn proxy(proxy: &Proxy, place: &Place) -> Value {
    let mut statement = json!({
        "Sid": "TaskcredsProxy",
        "Effect": "Allow",
        "Principal": {"AWS": proxy.arn},
        "Action": actions(proxy.session_tags, proxy.source_identity),
    });
    if let (Some(cluster), Some(statement)) = (&proxy.cluster, statement.as_object_mut()) {
        let condition = json!({
            "StringLike": {"aws:RequestTag/ecs-task-arn": place.arn("ecs", &format!("task/{cluster}/*"))},
            "StringEquals": {"aws:RequestTag/ecs-cluster-name": cluster},
        });
        statement.insert("Condition".to_owned(), condition);
    }
    statement
}

/// What an AssumeRole call of a proxy needs.
#[must_use]
pub fn actions(session_tags: bool, source_identity: bool) -> Vec<&'static str> {
    let all = [("sts:AssumeRole", true), ("sts:TagSession", session_tags), ("sts:SetSourceIdentity", source_identity)];
    all.into_iter().filter(|(_, needed)| *needed).map(|(action, _)| action).collect()
}
