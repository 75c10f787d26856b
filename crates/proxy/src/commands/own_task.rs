//! The task of `dev` and `exec`: it exists for one run, with a random id and a random token.

use taskcreds_core::{
    CredentialsId, NewTask, RoleArn, RoleKind, SessionSpec, SessionTags, TaskArn, TaskNames, Token, TokenRule,
};
use taskcreds_sts_emulator::Roles;

use crate::cli::SessionTagging;
use crate::failure::{Exit, Failure};

/// The account of who has none: the one that AWS's own documentation uses.
pub(crate) const DEMO_ACCOUNT: &str = "111122223333";

/// The role of who names none.
const DEMO_ROLE: &str = "arn:aws:iam::111122223333:role/demo";

/// The region of whom nobody has told one.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";

/// The demo role, where the embedded STS has it.
pub(crate) fn demo_role(emulated: &Roles) -> Result<RoleArn, Failure> {
    if let Roles::Listed(roles) = emulated
        && roles.iter().all(|role| role.arn != DEMO_ROLE)
    {
        let there: Vec<_> = roles.iter().map(|role| role.arn.as_str()).collect();
        let message =
            format!("which role? Give --role ARN with one of those that the embedded STS has: {}", there.join(", "));
        return Err(Failure::new(Exit::Usage, message));
    }
    RoleArn::new(DEMO_ROLE).map_err(|invalid| Failure::software("the demo role", invalid))
}

/// The ARN of a new task in the cluster `dev`.
pub(super) fn arn(partition: &str, region: &str, account: &str) -> Result<TaskArn, Failure> {
    let task_id = uuid::Uuid::new_v4().simple();
    let arn = format!("arn:{partition}:ecs:{region}:{account}:task/dev/{task_id}");
    TaskArn::new(arn).map_err(invalid)
}

/// A task in the cluster `dev` of the role's account.
pub(crate) fn for_this_run(
    family: &str,
    role_arn: RoleArn,
    region: Option<&str>,
    tags: SessionTagging,
) -> Result<NewTask, Failure> {
    let arn = arn(role_arn.partition(), region.unwrap_or(DEFAULT_REGION), role_arn.account())?;
    of_arn(arn, RoleKind::Task, family, role_arn, tags)
}

/// One role of a task.
pub(super) fn of_arn(
    arn: TaskArn,
    role_kind: RoleKind,
    family: &str,
    role_arn: RoleArn,
    tags: SessionTagging,
) -> Result<NewTask, Failure> {
    let names = TaskNames { family: Some(family.to_owned()), service: None };
    let tags = match tags {
        SessionTagging::Required => SessionTags::new(names.tags(&arn).map_err(invalid)?.0).map_err(invalid)?,
        SessionTagging::Off => SessionTags::default(),
    };
    Ok(NewTask {
        spec: SessionSpec { tags, ..SessionSpec::new(role_arn, &arn) },
        arn,
        role_kind,
        id: CredentialsId::random(),
        tokens: vec![Token::random()],
        token_rule: TokenRule::Loopback,
        origins: Vec::new(),
    })
}

fn invalid(invalid: taskcreds_core::Invalid) -> Failure {
    Failure::software("the task of this run", invalid)
}

/// The task's present token. On a laptop every task has one: who has none gets a random one.
pub(crate) fn token_of(task: &mut NewTask) -> Token {
    match task.tokens.first() {
        Some(token) => token.clone(),
        None => {
            let token = Token::random();
            task.tokens.push(token.clone());
            token
        }
    }
}
