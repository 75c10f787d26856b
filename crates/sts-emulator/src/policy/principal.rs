//! Who a statement is about. A wildcard stands for everybody or for nobody: IAM has no partial ones.

use super::arn::place;
use super::context::{ECS_TASKS, TrustCaller};
use super::json::Json;
use crate::principal::is_account;

/// One principal of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// `*`, which is every caller there is, services included.
    Anyone,
    /// Twelve digits, or `arn:aws:iam::ACCOUNT:root`, as written: everybody in the account whose own policies allow it.
    Account(String),
    /// The ARN of a user.
    User(String),
    /// The ARN of a role: all its sessions.
    Role(String),
    /// The ARN of one session of a role.
    Session(String),
    /// The ARN of a federated user, which no caller here is.
    FederatedUser(String),
    /// A service: `ecs-tasks.amazonaws.com`.
    Service(String),
    /// An identity provider, for AssumeRoleWithSAML and AssumeRoleWithWebIdentity.
    Federated(String),
    /// The id that IAM shows in place of a user or role that was deleted. It is nobody, also after one of that name was made again.
    Deleted(String),
}

/// How a caller is meant by a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// By name, or as anyone: in its own account, nothing else is needed.
    Itself,
    /// As somebody in its account: its own policies must allow it too.
    ThroughItsAccount,
    /// Nobody here can say: it is a session of this role, or of a role of this name. It grants nothing and may deny.
    Perhaps,
}

impl Principal {
    /// Reads one text of `Principal.AWS`, or what is wrong with it.
    pub(super) fn aws(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Anyone);
        }
        if text.contains(['*', '?']) {
            return Err(format!(
                "`{text}`: IAM has no wildcards in principals, only `*` for everybody. Name the account, and hold it to an ARN by a \
                 condition on aws:PrincipalArn"
            ));
        }
        if is_account(text) {
            return Ok(Self::Account(text.to_owned()));
        }
        let is_id = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if is_id && (text.starts_with("AIDA") || text.starts_with("AROA")) {
            return Ok(Self::Deleted(text.to_owned()));
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, "", account, resource] = parts[..] else { return Err(no_principal(text)) };
        if !partition.starts_with("aws") || !is_account(account) {
            return Err(no_principal(text));
        }
        let named =
            |kind: &str| resource.strip_prefix(kind).is_some_and(|name| !name.is_empty() && !name.ends_with('/'));
        match service {
            "iam" if resource == "root" => Ok(Self::Account(text.to_owned())),
            "iam" if named("user/") => Ok(Self::User(text.to_owned())),
            "iam" if named("role/") => Ok(Self::Role(text.to_owned())),
            "iam" if named("group/") => {
                Err(format!("`{text}`: a group is no principal; name its users, or the account"))
            }
            "sts" if named("assumed-role/") && resource.matches('/').count() == 2 => Ok(Self::Session(text.to_owned())),
            "sts" if named("federated-user/") => Ok(Self::FederatedUser(text.to_owned())),
            _ => Err(no_principal(text)),
        }
    }

    /// Reads one text of `Principal.Service`.
    pub(super) fn service(text: &str) -> Result<Self, String> {
        if text.contains(['*', '?']) && text != "*" {
            return Err(format!("`{text}`: IAM has no wildcards in principals; name each service"));
        }
        let sound = text == "*"
            || (text.contains('.')
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b)));
        if sound {
            Ok(Self::Service(text.to_owned()))
        } else {
            Err(format!("`{text}` is no service, such as {ECS_TASKS}"))
        }
    }

    /// How it means the caller, if it does.
    pub(super) fn means(&self, caller: &TrustCaller) -> Option<Meant> {
        let meant = match (self, caller) {
            (Self::Anyone, _) => Meant::Itself,
            (Self::Service(name), TrustCaller::EcsTasks { .. }) if name == ECS_TASKS => Meant::Itself,
            (Self::Account(account), TrustCaller::Iam(caller)) if is_account_of(account, &caller.principal_arn) => {
                Meant::ThroughItsAccount
            }
            (Self::User(arn) | Self::Role(arn), TrustCaller::Iam(caller)) if *arn == caller.principal_arn => {
                Meant::Itself
            }
            (Self::Session(arn), TrustCaller::Iam(caller)) if *arn == caller.arn && caller.session_is_known => {
                Meant::Itself
            }
            (Self::Session(arn), TrustCaller::Iam(caller))
                if !caller.session_is_known
                    && caller.arn.strip_suffix('*').is_some_and(|role| arn.starts_with(role)) =>
            {
                Meant::Perhaps
            }
            // A session's ARN tells its role without the path, and no two roles of an account have one name.
            (Self::Role(arn), TrustCaller::Iam(caller))
                if !caller.path_is_known && role_name(arn) == role_name(&caller.principal_arn) =>
            {
                Meant::Perhaps
            }
            _ => return None,
        };
        Some(meant)
    }

    /// Whether whoever is the other one is this one too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anyone, _) => true,
            (Self::Account(account), Self::Account(other)) => account_number(account) == account_number(other),
            (Self::Account(account), Self::User(arn) | Self::Role(arn) | Self::Session(arn)) => {
                is_account_of(account, arn)
            }
            (Self::Role(role), Self::Session(session)) => {
                let of_session = session.rsplit_once('/').and_then(|(role, _)| role.rsplit('/').next());
                place(role) == place(session) && role.rsplit('/').next() == of_session
            }
            _ => self == other,
        }
    }

    /// As the policy has it.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Anyone => "*",
            Self::Account(text)
            | Self::User(text)
            | Self::Role(text)
            | Self::Session(text)
            | Self::FederatedUser(text)
            | Self::Service(text)
            | Self::Federated(text)
            | Self::Deleted(text) => text,
        }
    }

    /// Whether it is of `Principal.AWS`.
    pub(super) fn is_aws(&self) -> bool {
        !matches!(self, Self::Service(_) | Self::Federated(_))
    }
}

/// Whether an ARN is of an account, which is written in digits or as the ARN of its root.
fn is_account_of(account: &str, arn: &str) -> bool {
    if is_account(account) { place(arn).1 == Some(account) } else { place(arn) == place(account) }
}

/// The twelve digits of an account, however it is written.
pub(super) fn account_number(account: &str) -> &str {
    place(account).1.unwrap_or(account)
}

/// A role's ARN without its path.
fn role_name(arn: &str) -> Option<(&str, &str)> {
    let (head, path) = arn.split_once(":role/")?;
    Some((head, path.rsplit('/').next().unwrap_or(path)))
}

fn no_principal(text: &str) -> String {
    format!(
        "`{text}` is no principal: an account (111122223333), or the ARN of a user (arn:aws:iam::111122223333:user/NAME), of a role \
         (…:role/NAME) or of a session (arn:aws:sts::111122223333:assumed-role/ROLE/SESSION)"
    )
}

/// Reads the element `Principal`. Faults are told with where they are, below `Principal`.
pub(super) fn read(json: &Json, fault: &mut dyn FnMut(&str, String)) -> Vec<Principal> {
    let fields = match json {
        Json::Text(text) if text == "*" => return vec![Principal::Anyone],
        Json::Object(fields) => fields,
        Json::Text(text) => {
            fault("", format!("is \"{text}\": only \"*\" stands alone, others are as {{\"AWS\": \"{text}\"}}"));
            return Vec::new();
        }
        other => {
            fault("", format!("must be an object such as {{\"Service\": \"{ECS_TASKS}\"}}, not {}", other.kind()));
            return Vec::new();
        }
    };
    let mut principals = Vec::new();
    for (kind, values) in fields {
        let parse: fn(&str) -> Result<Principal, String> = match kind.as_str() {
            "AWS" => Principal::aws,
            "Service" => Principal::service,
            "Federated" => |text| Ok(Principal::Federated(text.to_owned())),
            "CanonicalUser" => {
                |_| Err("is for the policies of Amazon S3; a role is trusted to an account or an ARN".to_owned())
            }
            other => {
                fault("", format!("has `{other}`; known are AWS, Service and Federated, in this case"));
                continue;
            }
        };
        let path = format!(".{kind}");
        let values = match values {
            Json::List(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        if values.is_empty() {
            fault(&path, "is empty".to_owned());
        }
        for value in values {
            match value {
                Json::Text(text) => match parse(text) {
                    Ok(principal) => principals.push(principal),
                    Err(message) => fault(&path, message),
                },
                other => fault(&path, format!("must be text, not {}", other.kind())),
            }
        }
    }
    if fields.is_empty() {
        fault("", "is empty".to_owned());
    }
    principals
}
