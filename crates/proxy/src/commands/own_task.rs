//! The task of `dev` and `exec`: it exists for one run, with a random id and a random token.

use taskcreds_core::{
    CredentialsId, NewTask, RoleArn, RoleKind, SessionSpec, SessionTags, TaskArn, TaskNames, Token, TokenRule,
};

use crate::cli::SessionTagging;
use crate::failure::Failure;

/// The role of who names none. The account is the one that AWS's own documentation uses.
const DEMO_ROLE: &str = "arn:aws:iam::111122223333:role/demo";

/// The region of whom nobody has told one.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";

/// The demo role.
pub(crate) fn demo_role() -> Result<RoleArn, Failure> {
    RoleArn::new(DEMO_ROLE).map_err(|invalid| Failure::software("the demo role", invalid))
}

/// A task in the cluster `dev` of the role's account.
pub(crate) fn for_this_run(
    family: &str,
    role_arn: RoleArn,
    region: Option<&str>,
    tags: SessionTagging,
) -> Result<NewTask, Failure> {
    let invalid = |invalid| Failure::software("the task of this run", invalid);
    let partition = role_arn.as_str().split(':').nth(1).unwrap_or("aws");
    let task_id = uuid::Uuid::new_v4().simple();
    let region = region.unwrap_or(DEFAULT_REGION);
    let arn = format!("arn:{partition}:ecs:{region}:{}:task/dev/{task_id}", role_arn.account());
    let arn = TaskArn::new(arn).map_err(invalid)?;
    let names = TaskNames { family: Some(family.to_owned()), service: None };
    let tags = match tags {
        SessionTagging::Required => SessionTags::new(names.tags(&arn).map_err(invalid)?.0).map_err(invalid)?,
        SessionTagging::Off => SessionTags::default(),
    };
    Ok(NewTask {
        spec: SessionSpec { tags, ..SessionSpec::new(role_arn, &arn) },
        arn,
        role_kind: RoleKind::Task,
        id: CredentialsId::random(),
        tokens: vec![Token::random()],
        token_rule: TokenRule::Loopback,
        origins: Vec::new(),
    })
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
