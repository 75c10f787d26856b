//! `taskcreds policy trust` and `taskcreds policy permissions`: flags in, documents out.

use std::process::ExitCode;

use clap::ValueEnum;
use taskcreds_core::RoleArn;
use taskcreds_sts_emulator::policy::IamCaller;

use crate::cli::{Format, PermissionsOf, PolicyPermissions, PolicyTrust, SessionTagging, TrustOf, Written};
use crate::commands::say;
use crate::documents::formats::{self, Documents};
use crate::documents::permissions::{self, Permissions};
use crate::documents::trust::{self, Proxy, Service};
use crate::documents::{Place, is_known_partition, partition_of};
use crate::failure::{Exit, Failure};

/// The names that AWS gives these roles, and this proxy its own.
const TASK_ROLE: &str = "task-role";
const EXECUTION_ROLE: &str = "ecsTaskExecutionRole";
const ANYWHERE_ROLE: &str = "ecsAnywhereRole";
const PROXY_ROLE: &str = "taskcreds-proxy";

pub(super) fn trust(flags: PolicyTrust) -> Result<ExitCode, Failure> {
    let place = place(&flags.written)?;
    needs_place(&flags.written, "the trust policy holds its callers to an account and a region")?;
    if let Some(cluster) = &flags.cluster {
        Place::check_cluster(cluster).map_err(usage)?;
    }
    let session_tags = flags.session_tags == SessionTagging::Required;
    if !session_tags && flags.proxy.is_none() {
        return Err(usage("--session-tags off: of which proxy? name it with --proxy"));
    }
    if flags.cluster.is_some() && !session_tags {
        return Err(usage("--cluster and --session-tags off: the session tags name the cluster; keep one"));
    }
    if let Some(arn) = flags.proxy.as_deref().filter(|arn| IamCaller::of(arn).is_none()) {
        return Err(usage(format!("--proxy {arn}: must be the ARN of a role or a user")));
    }
    if let Some(arn) = flags.proxy.as_deref().filter(|arn| arn.split(':').nth(1) != Some(&place.partition)) {
        let partition = &place.partition;
        return Err(usage(format!(
            "--proxy {arn}: is of another partition than the role, which is of {partition}: it could not assume it. Correct it, or --region"
        )));
    }
    let (service, name) = match flags.of {
        TrustOf::Task => (Service::EcsTasks, TASK_ROLE),
        TrustOf::Execution => (Service::EcsTasks, EXECUTION_ROLE),
        TrustOf::Anywhere => (Service::Ssm, ANYWHERE_ROLE),
    };
    let mut statements = Vec::new();
    if !flags.without_service {
        statements.push(trust::service(service, &place, !flags.without_source));
    }
    if let Some(arn) = flags.proxy {
        let source_identity = flags.source_identity;
        statements.push(trust::proxy(&Proxy { arn, cluster: flags.cluster, session_tags, source_identity }, &place));
    }
    let role = role_name(&flags.written, name)?;
    write(flags.written.format, &Documents { role, trust: Some(trust::policy(statements)), permissions: None });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn permissions(flags: PolicyPermissions) -> Result<ExitCode, Failure> {
    let place = place(&flags.written)?;
    if let Some(cluster) = &flags.cluster {
        Place::check_cluster(cluster).map_err(usage)?;
    }
    check_foreign(&flags)?;
    let session_tags = flags.session_tags == SessionTagging::Required;
    let (name, permissions) = match flags.of {
        PermissionsOf::Proxy => (PROXY_ROLE, permissions::proxy(&flags.roles, session_tags, flags.source_identity)),
        PermissionsOf::Execution => (EXECUTION_ROLE, permissions::execution(&place, flags.narrow)),
        PermissionsOf::Exec => (TASK_ROLE, permissions::exec()),
        PermissionsOf::Anywhere => {
            (ANYWHERE_ROLE, permissions::anywhere(&place, flags.cluster.as_deref(), flags.narrow))
        }
    };
    let service = if flags.of == PermissionsOf::Anywhere { Service::Ssm } else { Service::EcsTasks };
    let is_managed = matches!(permissions, Permissions::Managed(_));
    let trust = if is_managed && flags.written.format == Format::Cloudformation {
        needs_place(
            &flags.written,
            "managed policies belong to the role's own resource there, which has its trust policy",
        )?;
        Some(trust::policy(vec![trust::service(service, &place, true)]))
    } else {
        None
    };
    let role = role_name(&flags.written, name)?;
    write(flags.written.format, &Documents { role, trust, permissions: Some(permissions) });
    Ok(ExitCode::SUCCESS)
}

/// A flag that changes nothing would leave its user in error about what was written.
fn check_foreign(flags: &PolicyPermissions) -> Result<(), Failure> {
    use PermissionsOf::{Anywhere, Execution, Proxy};
    let foreign = [
        ("--role", !flags.roles.is_empty(), &[Proxy][..]),
        ("--session-tags off", flags.session_tags == SessionTagging::Off, &[Proxy]),
        ("--source-identity", flags.source_identity, &[Proxy]),
        ("--narrow", flags.narrow, &[Execution, Anywhere]),
        ("--cluster", flags.cluster.is_some(), &[Anywhere]),
    ];
    let foreign = foreign.iter().filter(|(_, is_given, of)| *is_given && !of.contains(&flags.of));
    let told: Vec<_> = foreign.map(|(flag, _, of)| format!("{flag} is for {}", words(of))).collect();
    if told.is_empty() { Ok(()) } else { Err(usage(told.join("; "))) }
}

fn words(of: &[PermissionsOf]) -> String {
    let words = of.iter().filter_map(ValueEnum::to_possible_value).map(|value| value.get_name().to_owned());
    words.collect::<Vec<_>>().join(" and ")
}

fn write(format: Format, documents: &Documents) {
    say(match format {
        Format::Json => formats::json(documents),
        Format::Cli => formats::cli(documents),
        Format::Cloudformation => formats::cloudformation(documents),
        Format::Terraform => formats::terraform(documents),
    });
}

fn place(written: &Written) -> Result<Place, Failure> {
    let of_region = written.region.as_ref().map(partition_of);
    let partition = match (written.partition.as_deref(), of_region) {
        (Some(given), Some(of_region)) if given != of_region && (is_known_partition(given) || of_region != "aws") => {
            return Err(usage(format!(
                "--partition {given}: the region is of the partition {of_region}; leave it out"
            )));
        }
        (Some(given), _) => given,
        (None, of_region) => of_region.unwrap_or("aws"),
    };
    Place::new(partition, written.account.as_deref(), written.region.as_ref())
        .map_err(|invalid| usage(format!("--partition and --account: {invalid}")))
}

fn needs_place(written: &Written, why: &str) -> Result<(), Failure> {
    if written.account.is_some() && written.region.is_some() {
        return Ok(());
    }
    Err(usage(format!("--account and --region are needed: {why}")))
}

fn role_name(written: &Written, default: &str) -> Result<String, Failure> {
    let name = written.name.as_deref().unwrap_or(default);
    let plain = !name.contains('/');
    let checked = RoleArn::new(format!("arn:aws:iam::111122223333:role/{name}"));
    match checked {
        Ok(_) if plain => Ok(name.to_owned()),
        Ok(_) => Err(usage("--name: without a path")),
        Err(invalid) => Err(usage(format!("--name: {invalid}"))),
    }
}

fn usage(message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, message.to_string())
}
