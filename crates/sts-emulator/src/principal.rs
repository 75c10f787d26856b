//! A principal has an ARN, a unique id and an account that belong together, whichever way it came to be.
//!
//! Unique ids are hashes of ARNs, so a role has the same `AROA…` in every session and after a restart.

use sha2::{Digest, Sha256};

use crate::random;

/// The session name of a caller that was added by its role ARN (see [`crate::Emulator::add_caller`]).
const PREEXISTING_SESSION: &str = "emulator";

/// An IAM user or role: `arn:PARTITION:iam::ACCOUNT:user/PATH/NAME` or `…:role/PATH/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IamArn {
    pub(crate) partition: String,
    pub(crate) account: String,
    pub(crate) kind: Kind,
    /// The last part of the resource. Paths are dropped, as in assumed-role ARNs.
    name: String,
    arn: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    User,
    Role,
}

/// Who a caller is, as `GetCallerIdentity` answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) arn: String,
    pub(crate) user_id: String,
    pub(crate) account: String,
}

impl IamArn {
    /// None if the text is not the ARN of a user or a role.
    pub(crate) fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let ("arn", partition, "iam", "", account, resource) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?)
        else {
            return None;
        };
        let (kind, path_and_name) = match resource.split_once('/')? {
            ("user", rest) => (Kind::User, rest),
            ("role", rest) => (Kind::Role, rest),
            _ => return None,
        };
        let name = path_and_name.rsplit('/').next()?;
        let sound = partition.starts_with("aws")
            && partition.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            && is_account(account)
            && (1..=64).contains(&name.len())
            && name.chars().all(is_name_character)
            && path_and_name.bytes().all(|byte| byte.is_ascii_graphic());
        sound.then(|| Self {
            partition: partition.to_owned(),
            account: account.to_owned(),
            kind,
            name: name.to_owned(),
            arn: arn.to_owned(),
        })
    }

    /// The session `session_name` of this role.
    pub(crate) fn session(&self, session_name: &str) -> Principal {
        let Self { partition, account, name, arn, .. } = self;
        Principal {
            arn: format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session_name}"),
            user_id: format!("{}:{session_name}", unique_id("AROA", arn)),
            account: account.clone(),
        }
    }

    /// Who calls with a long-term key of this ARN: the user, or for a role a session that somebody else began.
    pub(crate) fn caller(&self) -> Principal {
        match self.kind {
            Kind::Role => self.session(PREEXISTING_SESSION),
            Kind::User => Principal {
                arn: self.arn.clone(),
                user_id: unique_id("AIDA", &self.arn),
                account: self.account.clone(),
            },
        }
    }
}

/// Twelve digits.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `[\w+=,.@-]`: the characters of role names, session names and source identities.
pub(crate) fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_+=,.@-".contains(character)
}

fn unique_id(prefix: &str, arn: &str) -> String {
    let hash = Sha256::digest(arn.as_bytes());
    let letters: String = random::spell(random::BASE32, hash.iter().copied()).take(17).collect();
    format!("{prefix}{letters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_drops_the_path_and_keeps_partition_and_account() {
        let role = IamArn::parse("arn:aws-us-gov:iam::111122223333:role/a/b/Deploy").unwrap();
        let session = role.session("task");
        assert_eq!(session.arn, "arn:aws-us-gov:sts::111122223333:assumed-role/Deploy/task");
        assert_eq!(session.account, "111122223333");
    }

    #[test]
    fn unique_ids_depend_on_the_whole_arn_and_on_nothing_else() {
        let id = |arn: &str| IamArn::parse(arn).unwrap().caller().user_id;
        let plain = id("arn:aws:iam::111122223333:role/Deploy");
        assert_eq!(plain, id("arn:aws:iam::111122223333:role/Deploy"));
        assert_ne!(plain, id("arn:aws:iam::111122223333:role/path/Deploy"));
        assert!(plain.starts_with("AROA") && plain.ends_with(":emulator"));
        assert_eq!(plain.len(), 21 + ":emulator".len());
        assert!(id("arn:aws:iam::111122223333:user/me").starts_with("AIDA"));
    }

    #[test]
    fn other_arns_are_not_taken() {
        for arn in [
            "",
            "arn:aws:iam::111122223333:role",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/path/",
            "arn:aws:iam::111122223333:group/g",
            "arn:aws:iam::111122223333:root",
            "arn:aws:iam::11112222333:role/short-account",
            "arn:aws:iam:us-east-1:111122223333:role/r",
            "arn:aws:sts::111122223333:assumed-role/r/s",
            "arn:gcp:iam::111122223333:role/r",
            "arn:aws:iam::111122223333:role/ü",
            "arn:aws:iam::111122223333:role/a b/c",
        ] {
            assert_eq!(IamArn::parse(arn), None, "{arn}");
        }
    }
}
