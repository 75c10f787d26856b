//! Trust policies: whether AWS would let a caller assume a role, and which statement, operator, key and value decided.
//!
//! What it guarantees: nothing is allowed here because something is not known. A comparison whose outcome AWS does not document is
//! [`Truth::Unknown`]: an Allow does not grant by it, a Deny does deny by it, and the verdict says so. Sources: IAM User Guide, "IAM JSON
//! policy element reference", "Policy evaluation logic", "Grammar of the IAM JSON policy language"; STS API Reference, `AssumeRole`.

mod arn;
mod case;
mod condition;
mod context;
mod decision;
mod document;
mod ecs_source;
mod glob;
mod json;
mod keys;
mod lint;
mod operator;
mod principal;
mod role_files;
mod scalar;
mod variables;

pub use condition::Checked;
pub(crate) use context::ECS_TASKS;
pub use context::{AssumeRoleCall, IamCaller, TrustCaller};
pub(crate) use decision::out_of_reach;
pub use decision::{Decision, Effect, Verdict, evaluate};
pub use document::{Fault, Malformed, TrustPolicy};
pub use keys::has_several_values;
pub use lint::{Finding, Level, lint};
pub use role_files::{FileFault, RoleFileFaults};

/// The outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    Yes,
    /// It does not hold.
    No,
    /// Nobody outside AWS can say: it grants nothing and may deny.
    Unknown,
}

impl Truth {
    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    fn all(truths: impl IntoIterator<Item = Self>) -> Self {
        truths.into_iter().fold(Self::Yes, Self::and)
    }

    fn any(truths: impl IntoIterator<Item = Self>) -> Self {
        truths.into_iter().fold(Self::No, Self::or)
    }
}

#[cfg(test)]
mod tests;
