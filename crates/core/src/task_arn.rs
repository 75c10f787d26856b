//! A task's ARN, and the session tags that tell the task to AWS.

use std::fmt;

use crate::grammar::{Arn, Invalid, NAME_CHARS, check, is_account, is_name_char};
use crate::role::{Region, SessionName, SessionTag};

/// `arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID`, or the older form without the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskArn {
    text: String,
    region: Region,
    cluster: Option<String>,
    task_id: SessionName,
}

impl TaskArn {
    /// Checks a task ARN. The task id is the default session name and keeps to its alphabet and length (2 to 64); the
    /// cluster's name is 1 to 255 characters of `A-Z a-z 0-9 _ -` (Amazon ECS API Reference, CreateCluster).
    ///
    /// # Errors
    /// [`Invalid`] with the rule that the text breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        const WHAT: &str = "task ARN";
        const FORM: &str = "arn:aws:ecs:REGION:111122223333:task/CLUSTER/TASK-ID";
        let text = text.into();
        let arn = Arn::parse(WHAT, FORM, &text)?;
        let wrong = || Invalid::new(WHAT, format!("must have the form {FORM}"));
        if arn.service != "ecs" || !is_account(arn.account) {
            return Err(wrong());
        }
        let region = Region::new(arn.region)?;
        let path = arn.resource.strip_prefix("task/").ok_or_else(wrong)?;
        let (cluster, task_id) = match path.split_once('/') {
            Some((cluster, id)) => (Some(cluster), id),
            None => (None, path),
        };
        if let Some(cluster) = cluster {
            let alphabet = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            check("cluster of the task ARN", cluster, 1..=255, alphabet, "A-Z a-z 0-9 _ -")?;
        }
        check("task id of the task ARN", task_id, 2..=64, is_name_char, NAME_CHARS)?;
        let (cluster, task_id) = (cluster.map(str::to_owned), SessionName::new(task_id)?);
        Ok(Self { text, region, cluster, task_id })
    }

    /// The whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region of the cluster.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The cluster's name, where the ARN has one.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The task's id, which is what ECS itself uses as the role session name.
    #[must_use]
    pub fn task_id(&self) -> &SessionName {
        &self.task_id
    }

    /// The ARN of the cluster, where the ARN names one.
    #[must_use]
    pub fn cluster_arn(&self) -> Option<String> {
        let (head, _) = self.text.split_once(":task/")?;
        self.cluster.as_ref().map(|cluster| format!("{head}:cluster/{cluster}"))
    }
}

impl fmt::Display for TaskArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for TaskArn {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

/// What else is known of a task that its ARN does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskNames {
    /// The family of the task definition.
    pub family: Option<String>,
    /// The service that started the task.
    pub service: Option<String>,
}

impl TaskNames {
    /// The keys of [`TaskNames::tags`].
    pub const KEYS: [&str; 5] =
        ["ecs-cluster-arn", "ecs-cluster-name", "ecs-task-arn", "ecs-task-family", "ecs-service-name"];

    /// The session tags that tell the task, in the shape of EKS Pod Identity's: `ecs-cluster-arn`, `ecs-cluster-name`,
    /// `ecs-task-arn`, `ecs-task-family`, `ecs-service-name`.
    ///
    /// A value that is too long for a tag is left out and its key returned as the second part: a truncated ARN could match
    /// somebody's policy.
    ///
    /// # Errors
    /// [`Invalid`] for a family or service with characters that no tag may hold.
    pub fn tags(&self, arn: &TaskArn) -> Result<(Vec<SessionTag>, Vec<&'static str>), Invalid> {
        let cluster_arn = arn.cluster_arn();
        let values = [
            cluster_arn.as_deref(),
            arn.cluster(),
            Some(arn.as_str()),
            self.family.as_deref(),
            self.service.as_deref(),
        ];
        let all = Self::KEYS.into_iter().zip(values);
        let (mut tags, mut left_out) = (Vec::new(), Vec::new());
        for (key, value) in all.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            if value.chars().count() > SessionTag::MAX_VALUE {
                left_out.push(key);
            } else {
                tags.push(SessionTag::new(key, value)?);
            }
        }
        Ok((tags, left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef0123456789abcdef";

    #[test]
    fn a_task_arn_gives_its_cluster_and_its_id() {
        let arn = TaskArn::new(ARN).unwrap();
        assert_eq!(arn.cluster(), Some("prod"));
        assert_eq!(arn.task_id().as_str(), "0123456789abcdef0123456789abcdef");
        assert_eq!(arn.cluster_arn().unwrap(), "arn:aws:ecs:us-west-2:111122223333:cluster/prod");
        let old = TaskArn::new("arn:aws:ecs:us-west-2:111122223333:task/d190d14a-2404-45d6-9113-4eda22d7f2c7").unwrap();
        assert_eq!((old.cluster(), old.cluster_arn()), (None, None));
        for bad in [
            "arn:aws:ecs:us-west-2:111122223333:service/prod/x1",
            "arn:aws:ecs::111122223333:task/prod/x1",
            "arn:aws:ecs:us-west-2:1111:task/prod/x1",
            "arn:aws:ecs:us-west-2:111122223333:task/prod/x1/y",
            "arn:aws:ecs:us-west-2:111122223333:task//x1",
            "arn:aws:ecs:us-west-2:111122223333:task/prod/x",
            "arn:aws:ecs:us-west-2:111122223333:task/",
        ] {
            assert!(TaskArn::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_tags_of_a_task_are_those_of_its_arn_and_names() {
        let names = TaskNames { family: Some("web".into()), service: None };
        let (tags, left_out) = names.tags(&TaskArn::new(ARN).unwrap()).unwrap();
        let tags: Vec<_> = tags.iter().map(|tag| (tag.key(), tag.value())).collect();
        assert_eq!(
            tags,
            [
                ("ecs-cluster-arn", "arn:aws:ecs:us-west-2:111122223333:cluster/prod"),
                ("ecs-cluster-name", "prod"),
                ("ecs-task-arn", ARN),
                ("ecs-task-family", "web"),
            ]
        );
        assert!(left_out.is_empty());
    }

    #[test]
    fn a_tag_that_would_be_too_long_is_left_out_and_never_cut() {
        let arn = format!("arn:aws:ecs:us-west-2:111122223333:task/{}/0123456789abcdef", "c".repeat(255));
        let (tags, left_out) = TaskNames::default().tags(&TaskArn::new(arn).unwrap()).unwrap();
        assert_eq!(left_out, ["ecs-cluster-arn", "ecs-task-arn"]);
        assert_eq!(tags.iter().map(SessionTag::key).collect::<Vec<_>>(), ["ecs-cluster-name"]);
    }
}
