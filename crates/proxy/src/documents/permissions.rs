//! What roles may do. Where AWS has a managed policy for it, that is what is written, because AWS keeps it up to date; the narrower ones
//! are this project's own, and were not run against real AWS.

use serde_json::{Value, json};
use taskcreds_core::RoleArn;

use super::{Place, trust};

/// What a role may do.
#[derive(Debug, Clone)]
pub enum Permissions {
    /// Managed policies of AWS, by their ARNs.
    Managed(Vec<String>),
    /// A policy of its own, and its name.
    Inline(&'static str, Value),
}

fn policy(name: &'static str, statements: Value) -> Permissions {
    Permissions::Inline(name, json!({"Version": "2012-10-17", "Statement": statements}))
}

/// A proxy: these roles and no others. Whoever gets hold of its credentials can assume what stands here.
#[must_use]
pub fn proxy(roles: &[RoleArn], session_tags: bool, source_identity: bool) -> Permissions {
    let roles: Vec<_> = roles.iter().map(RoleArn::as_str).collect();
    policy(
        "AssumeTaskRoles",
        json!([{
            "Sid": "AssumeTaskRoles",
            "Effect": "Allow",
            "Action": trust::actions(session_tags, source_identity),
            "Resource": roles,
        }]),
    )
}

/// A task execution role.
#[must_use]
pub fn execution(place: &Place, narrow: bool) -> Permissions {
    if !narrow {
        return Permissions::Managed(vec![place.managed("service-role/AmazonECSTaskExecutionRolePolicy")]);
    }
    policy("TaskExecution", json!([registry_token(), images(place), logs(place)]))
}

/// A task role whose containers are reached by ECS Exec: the agent of Systems Manager runs in the container, with the credentials that
/// this proxy serves.
#[must_use]
pub fn exec() -> Permissions {
    policy(
        "EcsExec",
        json!([{
            "Sid": "EcsExec",
            "Effect": "Allow",
            "Action": [
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            ],
            "Resource": "*",
        }]),
    )
}

/// The role of ECS Anywhere instances. The narrower policy leaves out of the managed ones: making clusters, tags of EC2, the instances of
/// other clusters, and of Systems Manager the parameters, documents, patches, inventory, compliance and packages.
#[must_use]
pub fn anywhere(place: &Place, cluster: Option<&str>, narrow: bool) -> Permissions {
    if !narrow {
        return Permissions::Managed(vec![
            place.managed("AmazonSSMManagedInstanceCore"),
            place.managed("service-role/AmazonEC2ContainerServiceforEC2Role"),
        ]);
    }
    let cluster = cluster.unwrap_or("*");
    let cluster_arn = place.arn("ecs", &format!("cluster/{cluster}"));
    let instances = place.arn("ecs", &format!("container-instance/{cluster}/*"));
    policy(
        "EcsAnywhere",
        json!([
            {
                "Sid": "FindTheEndpoint",
                "Effect": "Allow",
                "Action": ["ecs:DiscoverPollEndpoint"],
                "Resource": "*",
            },
            {
                "Sid": "Cluster",
                "Effect": "Allow",
                "Action": ["ecs:RegisterContainerInstance", "ecs:DeregisterContainerInstance", "ecs:Submit*"],
                "Resource": cluster_arn,
            },
            {
                "Sid": "Instance",
                "Effect": "Allow",
                "Action": ["ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState"],
                "Resource": instances,
            },
            {
                "Sid": "TagsOfTheInstance",
                "Effect": "Allow",
                "Action": ["ecs:TagResource"],
                "Resource": instances,
                "Condition": {"StringEquals": {"ecs:CreateAction": "RegisterContainerInstance"}},
            },
            {
                "Sid": "ReadTags",
                "Effect": "Allow",
                "Action": ["ecs:ListTagsForResource"],
                "Resource": [place.arn("ecs", &format!("task/{cluster}/*")), instances],
            },
            registry_token(),
            images(place),
            logs(place),
            {
                "Sid": "SystemsManager",
                "Effect": "Allow",
                "Action": [
                    "ssm:UpdateInstanceInformation",
                    "ssm:ListAssociations",
                    "ssm:ListInstanceAssociations",
                    "ssm:UpdateInstanceAssociationStatus",
                    "ssmmessages:CreateControlChannel",
                    "ssmmessages:CreateDataChannel",
                    "ssmmessages:OpenControlChannel",
                    "ssmmessages:OpenDataChannel",
                    "ec2messages:AcknowledgeMessage",
                    "ec2messages:DeleteMessage",
                    "ec2messages:FailMessage",
                    "ec2messages:GetEndpoint",
                    "ec2messages:GetMessages",
                    "ec2messages:SendReply",
                ],
                "Resource": "*",
            },
        ]),
    )
}

fn registry_token() -> Value {
    json!({"Sid": "RegistryToken", "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*"})
}

fn images(place: &Place) -> Value {
    json!({
        "Sid": "Images",
        "Effect": "Allow",
        "Action": ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"],
        "Resource": place.arn("ecr", "repository/*"),
    })
}

fn logs(place: &Place) -> Value {
    json!({
        "Sid": "Logs",
        "Effect": "Allow",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": place.arn("logs", "log-group:*"),
    })
}
