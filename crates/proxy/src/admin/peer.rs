//! Who is at the other end of the admin socket, told by the kernel (SO_PEERCRED), and what it may do.
//!
//! | user | may |
//! |---|---|
//! | root and the proxy's own | everything |
//! | one with a rule in `[[admin.allow]]` | register the rule's roles and tasks, as many as it says; see and change its own |
//! | any other | nothing |

use taskcreds_core::{Registration, RoleArn, Source, TaskArn};

use super::error::AdminError;
use crate::config::Rule;

/// A user of the admin socket.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its id.
    pub uid: u32,
    /// `None`: it may do everything.
    rule: Option<Rule>,
}

impl Peer {
    /// The user with this id.
    ///
    /// # Errors
    /// [`AdminError::NoRule`].
    pub fn new(uid: u32, own_uid: u32, rules: &[Rule]) -> Result<Self, AdminError> {
        if uid == 0 || uid == own_uid {
            return Ok(Self { uid, rule: None });
        }
        let rule = rules.iter().find(|rule| rule.uid == uid).ok_or(AdminError::NoRule(uid))?;
        Ok(Self { uid, rule: Some(rule.clone()) })
    }

    /// Whether it may register this.
    ///
    /// # Errors
    /// [`AdminError::NotAllowed`].
    pub(super) fn may_register(&self, role_arn: &RoleArn, task_arn: &TaskArn) -> Result<(), AdminError> {
        let Some(rule) = &self.rule else { return Ok(()) };
        let not_allowed = |what: String| Err(AdminError::NotAllowed { uid: self.uid, what });
        if !rule.allows_role(role_arn) {
            return not_allowed(format!("{role_arn} (role_arns)"));
        }
        if !rule.allows_task(task_arn) {
            return not_allowed(format!("{task_arn} (task_arns)"));
        }
        Ok(())
    }

    /// Whether it may do everything.
    pub(super) fn is_privileged(&self) -> bool {
        self.rule.is_none()
    }

    /// Whether it may see and change this.
    pub(super) fn sees(&self, registration: &Registration) -> bool {
        self.rule.is_none() || registration.source == Source::Admin { uid: self.uid }
    }

    /// How many registrations it may have; `None`: as many as there is room for.
    pub(super) fn max_tasks(&self) -> Option<usize> {
        self.rule.as_ref().map(|rule| rule.max_tasks)
    }
}

#[cfg(test)]
mod tests {
    use taskcreds_core::Registry;
    use taskcreds_core::test_util::new_task;

    use super::*;
    use crate::config::Pattern;

    /// Every user against every kind of thing: what is in the table above, and nothing else.
    #[test]
    fn each_user_may_do_what_the_table_says() {
        let rule = Rule {
            uid: 1000,
            role_arns: vec![Pattern::new("arn:aws:iam::111122223333:role/ci-*").unwrap()],
            task_arns: vec![Pattern::new("arn:aws:ecs:*:111122223333:task/test/*").unwrap()],
            max_tasks: 3,
        };
        let (own, rules) = (500, [rule]);
        let mut elsewhere = new_task("ci-build");
        elsewhere.arn = "arn:aws:ecs:us-west-2:111122223333:task/prod/t1".parse().unwrap();
        let may =
            |peer: &Peer, task: &taskcreds_core::NewTask| peer.may_register(&task.spec.role_arn, &task.arn).is_ok();
        for uid in [0, own] {
            let peer = Peer::new(uid, own, &rules).unwrap();
            assert!(may(&peer, &new_task("web")) && may(&peer, &elsewhere));
            assert_eq!(peer.max_tasks(), None);
        }
        let peer = Peer::new(1000, own, &rules).unwrap();
        assert!(may(&peer, &new_task("ci-build")) && !may(&peer, &new_task("web")) && !may(&peer, &elsewhere));
        assert_eq!(peer.max_tasks(), Some(3));
        for uid in [1, 1001, 65_534, u32::MAX] {
            assert!(matches!(Peer::new(uid, own, &rules), Err(AdminError::NoRule(_))), "{uid}");
        }

        let registry = Registry::new(9);
        let sources = [Source::Configuration, Source::Admin { uid: 0 }, Source::Admin { uid: 1000 }];
        for (source, name) in sources.into_iter().zip(["a", "b", "c"]) {
            let task = registry.register(Registration::of(new_task(name), source)).unwrap();
            assert!(
                Peer::new(0, own, &rules).unwrap().sees(task.registration())
                    && Peer::new(own, own, &rules).unwrap().sees(task.registration())
            );
            assert_eq!(peer.sees(task.registration()), source == Source::Admin { uid: 1000 });
        }
    }
}
