//! `[network]`: by which interfaces containers come, and whether the proxy looks after the network itself.

use super::section::{Faults, Section};

/// How containers reach the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// By which interfaces 169.254.170.2 and fd00:ec2::23 may be asked, beside `lo`. Empty: by any.
    pub interfaces: Vec<String>,
    /// What is set up at the start and looked after from then on; nothing by default.
    pub manage: Option<Manage>,
}

/// What `taskcreds network up --early` would set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manage {
    /// Bridges of containers. None: docker0, or what the ECS agent's variables say.
    pub bridges: Vec<String>,
    /// Requests are redirected to the port of loopback.
    pub nat: bool,
    /// fd00:ec2::23 is offered too.
    pub ipv6: bool,
}

/// Checks the name of an interface that containers come in by. It stands in rules and paths, so it is less than what Linux allows.
///
/// # Errors
/// What would be right.
pub fn interface_name(name: &str) -> Result<String, &'static str> {
    let is_plain =
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !name.starts_with(['.', '-']);
    if name.is_empty() || name.len() > 15 || !is_plain || ["lo", "all", "default"].contains(&name) {
        return Err("must be the name of a bridge, as docker0: 1 to 15 characters of A-Z a-z 0-9 - _ .");
    }
    Ok(name.to_owned())
}

pub(super) fn network(section: Option<Section<'_>>, faults: &mut Faults<'_>) -> Network {
    let Some(mut section) = section else { return Network::default() };
    let interfaces = section.parsed_strings("interfaces", faults, |name| match name {
        "lo" => Ok(name.to_owned()),
        name => interface_name(name),
    });
    let is_managed = section.boolean("manage", faults).unwrap_or(false);
    let manage = Manage {
        bridges: section.parsed_strings("bridges", faults, interface_name),
        nat: section.boolean("nat", faults).unwrap_or(false),
        ipv6: section.boolean("ipv6", faults).unwrap_or(false),
    };
    if !is_managed && manage != Manage::default() {
        section.fault(faults, "bridges, nat and ipv6 are for manage = true");
    }
    if is_managed && !cfg!(target_os = "linux") {
        section.fault(faults, "manage = true is for Linux");
    }
    section.finish(faults);
    Network { interfaces, manage: is_managed.then_some(manage) }
}
