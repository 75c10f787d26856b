//! The command lines that set up again what was set up, for whoever reads a report.
//!
//! An `up` sets anew the modes that it names, and every one but that of awsvpc says anew whether requests are redirected and IPv6 is
//! offered. So a line repeats all of that, or it would change what it is to mend.

use std::fmt::Write as _;
use std::path::Path;

use super::plan::{Facts, Wanted};
use crate::config::DEFAULT_PORT;
use crate::documents::formats::sh;

/// What is wanted, and what there is.
#[derive(Clone, Copy)]
pub(super) struct Mend<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) facts: &'a Facts,
}

impl Mend<'_> {
    /// Bridge mode, with these bridges beside those that are set up.
    pub(super) fn bridges(self, more: &[String]) -> String {
        let Wanted { bridges, block_imds, .. } = self.wanted;
        let mut line = String::new();
        for bridge in bridges.iter().chain(more) {
            let _ = write!(line, " --bridge {}", sh(bridge));
        }
        if bridges.iter().any(|bridge| self.facts.absent.contains(bridge)) {
            line.push_str(" --early");
        }
        // Where there are no bridges yet, nobody has asked for that.
        if !bridges.is_empty() && !block_imds {
            line.push_str(" --no-block-imds");
        }
        self.up(&line)
    }

    /// Shared mode.
    pub(super) fn shared(self) -> String {
        self.up(if self.wanted.shared == Some(true) { " --mode shared --block-imds" } else { " --mode shared" })
    }

    /// What is there in any mode: one of those that are set up, else one for these bridges, which this machine has.
    pub(super) fn any(self, there: &[String]) -> String {
        let first = self.wanted.namespaces.keys().next();
        match self.wanted {
            Wanted { bridges, .. } if !bridges.is_empty() => self.bridges(&[]),
            Wanted { shared: Some(_), .. } => self.shared(),
            Wanted { host: false, .. } if let Some(path) = first => self.namespace(path),
            Wanted { host: false, .. } if !there.is_empty() => self.bridges(there),
            _ => self.up(" --mode host"),
        }
    }

    /// awsvpc mode, for this namespace.
    pub(super) fn namespace(self, path: &Path) -> String {
        let is_open = self.wanted.namespaces.get(path).is_some_and(|namespace| !namespace.block_imds);
        let open = if is_open { " --no-block-imds" } else { "" };
        format!("taskcreds network up --mode awsvpc --netns {}{open}", sh(&path.to_string_lossy()))
    }

    fn up(self, modes: &str) -> String {
        let mut line = format!("taskcreds network up{modes}");
        if let Some(port) = self.wanted.nat {
            line.push_str(" --nat");
            if port != DEFAULT_PORT {
                let _ = write!(line, " --port {port}");
            }
        }
        if self.wanted.ipv6 {
            line.push_str(" --ipv6");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, NetworkAction};
    use crate::network::request::{EcsAgent, Request};

    /// What a line comes to.
    fn after(line: &str, wanted: &Wanted) -> Wanted {
        let cli = Cli::try_parse_from(line.split_ascii_whitespace()).unwrap();
        let Command::Network(network) = cli.command else { unreachable!("{line}") };
        let NetworkAction::Up(up) = network.action else { unreachable!("{line}") };
        Request::from(up).after(wanted.clone(), EcsAgent::default()).unwrap()
    }

    #[test]
    fn a_line_changes_nothing_of_what_is_wanted() {
        let paths = ["/run/netns/web", "/run/netns/db"];
        for up in [
            "--bridge br0 --bridge br1 --nat --port 4711 --no-block-imds",
            "--bridge br0 --nat --ipv6",
            "--mode host --ipv6",
            "--mode shared --block-imds",
            "--mode shared",
            "--netns web --no-block-imds",
            "--mode bridge,host,awsvpc --netns web --netns db",
        ] {
            let wanted = after(&format!("taskcreds network up {up}"), &Wanted::default());
            for absent in [Vec::new(), vec!["br0".to_owned()]] {
                let facts = Facts { ipv6: true, absent: absent.into_iter().collect() };
                let mend = Mend { wanted: &wanted, facts: &facts };
                let mut lines = vec![mend.any(&["br7".to_owned()])];
                lines.extend((!wanted.bridges.is_empty()).then(|| mend.bridges(&[])));
                lines.extend(wanted.shared.map(|_| mend.shared()));
                let namespaces = paths.iter().map(Path::new).filter(|path| wanted.namespaces.contains_key(*path));
                lines.extend(namespaces.map(|path| mend.namespace(path)));
                for line in lines {
                    assert_eq!(after(&line, &wanted), wanted, "{up}: {line}");
                    assert_eq!(line.contains("--early"), line.contains("br0") && !facts.absent.is_empty(), "{line}");
                }
            }
        }
    }

    #[test]
    fn where_nothing_is_set_up_a_line_is_for_the_bridges_that_are_there() {
        let (wanted, facts) = (Wanted::default(), Facts::default());
        let mend = Mend { wanted: &wanted, facts: &facts };
        assert_eq!(mend.any(&["docker0".to_owned()]), "taskcreds network up --bridge docker0");
        assert_eq!(mend.any(&[]), "taskcreds network up --mode host");
    }
}
