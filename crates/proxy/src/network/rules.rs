//! The rules, whichever of the two backends holds them.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::command::{Call, find};
use super::plan::{Facts, Rules};
use super::{iptables, nft};
use crate::failure::{Exit, Failure};

/// What is ours carries it; anything else of our names is somebody else's and left alone.
pub(super) const MARK: &str = "made by taskcreds network";

/// What holds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A table of nftables.
    Nft,
    /// Chains of iptables.
    Iptables,
}

/// Something of the rules that is not as it was put there.
pub(super) struct Missing {
    pub(super) what: String,
    /// What is not kept out without it.
    pub(super) guards: &'static [Guarded],
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rules: {}", self.what)
    }
}

/// What rules keep out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Guarded {
    /// Neighbours, from the endpoint.
    Endpoint,
    /// Containers, from instance metadata.
    Metadata,
}

impl Guarded {
    pub(super) const ALL: &[Self] = &[Self::Endpoint, Self::Metadata];
}

/// What is there of a backend.
pub(super) enum Seen {
    Nft(nft::Seen),
    Iptables(iptables::Seen),
}

impl Backend {
    /// The one that is asked for, or the first that this machine has.
    ///
    /// # Errors
    /// It has neither.
    pub(super) fn choose(asked: Option<Self>) -> Result<Self, Failure> {
        let missing =
            |what: &str| Failure::new(Exit::Unavailable, format!("{what}: install nftables, or iptables 1.8 or later"));
        match asked {
            Some(backend) if backend.is_there() => Ok(backend),
            Some(Self::Nft) => Err(missing("--backend nft needs the program nft, and it is not there")),
            Some(Self::Iptables) => Err(missing(
                "--backend iptables needs iptables-restore, iptables-save and those of ip6tables, and they are not there",
            )),
            None => [Self::Nft, Self::Iptables].into_iter().find(|backend| backend.is_there()).ok_or_else(|| {
                missing("neither nft nor iptables-restore is there, and without rules neighbours would be let in")
            }),
        }
    }

    pub(super) fn is_there(self) -> bool {
        match self {
            Self::Nft => find("nft").is_some(),
            Self::Iptables => iptables::is_there(),
        }
    }

    /// Looks at what is there.
    ///
    /// # Errors
    /// Something of our name is not ours; or the program's own.
    pub(super) fn look(self, facts: &Facts) -> Result<Seen, Failure> {
        Ok(match self {
            Self::Nft => Seen::Nft(nft::Seen::look()?),
            Self::Iptables => Seen::Iptables(iptables::Seen::look(facts.ipv6)?),
        })
    }

    /// As if nothing were there, for who may not look.
    pub(super) fn unseen(self) -> Seen {
        match self {
            Self::Nft => Seen::Nft(nft::Seen::default()),
            Self::Iptables => Seen::Iptables(iptables::Seen::none()),
        }
    }
}

impl Seen {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Nft(seen) => seen.is_empty(),
            Self::Iptables(seen) => seen.is_empty(),
        }
    }

    /// What is ours, a line each, to be compared with later.
    pub(super) fn listing(&self) -> Vec<String> {
        match self {
            Self::Nft(seen) => seen.own.clone(),
            Self::Iptables(seen) => seen.own(),
        }
    }

    /// What is not as it was put there.
    pub(super) fn missing(&self, rules: &Rules, listing: &[String]) -> Vec<Missing> {
        match self {
            Self::Nft(seen) => seen.missing(rules, listing),
            Self::Iptables(seen) => seen.missing(listing),
        }
    }

    /// What [`put`](Self::put) runs.
    pub(super) fn putting(&self, rules: &Rules) -> Vec<Call> {
        match self {
            Self::Nft(seen) => vec![nft::call(seen.put(rules))],
            Self::Iptables(seen) => seen.put(rules),
        }
    }

    /// Puts the rules there, in the place of what is there of ours.
    ///
    /// # Errors
    /// The program's own.
    pub(super) fn put(&self, rules: &Rules) -> Result<(), Failure> {
        let calls = self.putting(rules);
        match self {
            Self::Nft(_) => calls.iter().try_for_each(|call| call.run().map(drop)),
            Self::Iptables(_) => iptables::apply(&calls),
        }
    }

    /// What [`remove`](Self::remove) runs.
    pub(super) fn removing(&self) -> Vec<Call> {
        match self {
            Self::Nft(seen) if seen.is_empty() => Vec::new(),
            Self::Nft(seen) => vec![nft::call(seen.remove())],
            Self::Iptables(seen) => seen.remove(),
        }
    }

    /// Takes away what is ours.
    ///
    /// # Errors
    /// The program's own.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        self.removing().iter().try_for_each(|call| call.run().map(drop))
    }
}
