//! The IAM documents that running tasks needs, and the ways to write them down.
//!
//! Sources: Amazon ECS Developer Guide, "Amazon ECS task IAM role", "Amazon ECS task execution IAM role", "Amazon ECS Anywhere IAM role",
//! "Monitor Amazon ECS containers with ECS Exec"; AWS Systems Manager User Guide, "Create the IAM service role required for Systems
//! Manager in hybrid and multicloud environments"; Service Authorization Reference, "Amazon Elastic Container Service".

pub mod formats;
pub mod permissions;
pub mod trust;

use taskcreds_core::{Invalid, Region, RoleArn, TaskArn};

/// A region of an account: where roles and clusters are.
#[derive(Debug, Clone)]
pub struct Place {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// Twelve digits; `*` for any.
    pub account: String,
    /// `us-west-2`; `*` for any.
    pub region: String,
}

/// How the names of regions begin that are of another partition than `aws` (botocore's `partitions.json`).
const PARTITIONS: [(&str, &str); 7] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-isof-", "aws-iso-f"),
    ("eusc-", "aws-eusc"),
];

/// The partition that a region is of.
#[must_use]
pub fn partition_of(region: &Region) -> &'static str {
    let of_it = PARTITIONS.iter().find(|(beginning, _)| region.as_str().starts_with(beginning));
    of_it.map_or("aws", |(_, partition)| partition)
}

/// Whether a partition's regions are known here. Of a newer one, the regions look like those of `aws`.
#[must_use]
pub fn is_known_partition(partition: &str) -> bool {
    partition == "aws" || PARTITIONS.iter().any(|(_, known)| *known == partition)
}

impl Place {
    /// Checks a place. Where the account or the region does not matter they may be left out.
    ///
    /// # Errors
    /// [`Invalid`] with the rule that is broken.
    pub fn new(partition: &str, account: Option<&str>, region: Option<&Region>) -> Result<Self, Invalid> {
        RoleArn::new(format!("arn:{partition}:iam::{}:role/role", account.unwrap_or("111122223333")))?;
        let any = || "*".to_owned();
        let account = account.map_or_else(any, str::to_owned);
        let region = region.map_or_else(any, ToString::to_string);
        Ok(Self { partition: partition.to_owned(), account, region })
    }

    /// Checks the name of a cluster.
    ///
    /// # Errors
    /// [`Invalid`] with the rule that is broken.
    pub fn check_cluster(cluster: &str) -> Result<(), Invalid> {
        TaskArn::new(format!("arn:aws:ecs:us-west-2:111122223333:task/{cluster}/id")).map(drop)
    }

    /// `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`
    fn arn(&self, service: &str, resource: &str) -> String {
        let Self { partition, account, region } = self;
        format!("arn:{partition}:{service}:{region}:{account}:{resource}")
    }

    /// A managed policy of AWS.
    fn managed(&self, name: &str) -> String {
        format!("arn:{}:iam::aws:policy/{name}", self.partition)
    }
}
