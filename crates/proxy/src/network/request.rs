//! What one `up` asks for, and what the modes are together with those that are set up already.
//!
//! An `up` sets the modes anew that it names and leaves the others. Namespaces are added one by one, as tasks come.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::plan::{Namespace, Wanted};
use super::rules::Backend;
use super::{Mode, identity};
use crate::config::interface_name;
use crate::failure::{Exit, Failure};

/// What one `up` asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The modes; none: what the ECS agent's variables or the other fields say.
    pub modes: Vec<Mode>,
    /// The bridges of containers. None: docker0.
    pub bridges: Vec<Interface>,
    /// The files of tasks' namespaces, as [`namespace_path`] has them.
    pub namespaces: Vec<PathBuf>,
    /// The port of loopback for the ECS way.
    pub nat: Option<u16>,
    /// fd00:ec2::23 is offered too.
    pub ipv6: bool,
    /// Whether instance metadata is blocked.
    pub block_imds: Option<bool>,
    /// What holds the rules.
    pub backend: Option<Backend>,
    /// A bridge need not be there yet.
    pub early: bool,
}

/// The name of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface(String);

impl std::str::FromStr for Interface {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        interface_name(name).map(Self)
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the ECS agent's variables say, each with the agent's meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EcsAgent {
    /// `ECS_ENABLE_TASK_IAM_ROLE`: roles for tasks in bridge and default mode.
    pub bridge: Option<bool>,
    /// `ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST`: roles for tasks in host mode.
    pub host: Option<bool>,
    /// `ECS_AWSVPC_BLOCK_IMDS`: instance metadata is blocked in awsvpc mode.
    pub block_imds: Option<bool>,
}

impl EcsAgent {
    /// Reads them. What is neither true nor false is as if it were not set, as for the agent.
    #[must_use]
    pub fn of(environment: &HashMap<String, String>) -> Self {
        let flag = |name: &str| {
            let value = environment.get(name)?.trim();
            // The words of Go's strconv.ParseBool.
            match value {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
                "" => None,
                _ => {
                    tracing::warn!("{name} is neither true nor false and counts as not set");
                    None
                }
            }
        };
        Self {
            bridge: flag("ECS_ENABLE_TASK_IAM_ROLE"),
            host: flag("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST"),
            block_imds: flag("ECS_AWSVPC_BLOCK_IMDS"),
        }
    }
}

impl Request {
    /// The modes: those that are named, else those of the agent's variables, else bridge mode.
    fn modes(&self, agent: EcsAgent) -> Result<BTreeSet<Mode>, Failure> {
        let mut modes: BTreeSet<_> = self.modes.iter().copied().collect();
        if modes.is_empty() {
            modes.extend((!self.bridges.is_empty()).then_some(Mode::Bridge));
            modes.extend((!self.namespaces.is_empty()).then_some(Mode::Awsvpc));
        }
        if modes.is_empty() {
            modes.extend((agent.bridge == Some(true)).then_some(Mode::Bridge));
            modes.extend((agent.host == Some(true)).then_some(Mode::Host));
            if modes.is_empty() && (agent.bridge, agent.host) == (None, None) {
                modes.insert(Mode::Bridge);
            }
        }
        let wrong = |why: &str| Err(Failure::new(Exit::Usage, why));
        if modes.is_empty() {
            return wrong(
                "ECS_ENABLE_TASK_IAM_ROLE and ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST want no mode: set one to true, or give --mode",
            );
        }
        if !self.bridges.is_empty() && !modes.contains(&Mode::Bridge) {
            return wrong("--bridge belongs to --mode bridge, which is not among the modes");
        }
        match (self.namespaces.is_empty(), modes.contains(&Mode::Awsvpc)) {
            (true, true) => wrong("--mode awsvpc needs the task's namespace: --netns NAME or --netns /PATH"),
            (false, false) => wrong("--netns belongs to --mode awsvpc, which is not among the modes"),
            _ => Ok(modes),
        }
    }

    /// What is wanted now, after what was wanted before.
    ///
    /// # Errors
    /// The flags contradict each other, or there are too many namespaces.
    pub fn after(&self, before: Wanted, agent: EcsAgent) -> Result<Wanted, Failure> {
        let modes = self.modes(agent)?;
        let mut wanted = before;
        if wanted.is_empty() || modes.iter().any(|mode| *mode != Mode::Awsvpc) {
            (wanted.nat, wanted.ipv6) = (self.nat, self.ipv6);
        }
        if modes.contains(&Mode::Bridge) {
            let named = self.bridges.iter().map(ToString::to_string);
            wanted.bridges = if self.bridges.is_empty() { ["docker0".to_owned()].into() } else { named.collect() };
            wanted.block_imds = self.block_imds.unwrap_or(true);
        }
        wanted.host |= modes.contains(&Mode::Host);
        if modes.contains(&Mode::Shared) {
            // The proxy is in there too, and instance metadata may be where its own credentials come from.
            wanted.shared = Some(self.block_imds.unwrap_or(false));
        }
        for namespace in &self.namespaces {
            let path = wanted.known(namespace);
            let block_imds = self.block_imds.or(agent.block_imds).unwrap_or(true);
            let identity = identity(&path);
            let there = wanted.namespaces.get(&path);
            let Some(number) = there.map(|namespace| namespace.number).or_else(|| wanted.free_number()) else {
                return Err(Failure::new(
                    Exit::Unavailable,
                    "there are too many namespaces: `taskcreds network down --netns` those that have gone",
                ));
            };
            wanted.namespaces.insert(path, Namespace { number, block_imds, identity });
        }
        Ok(wanted)
    }
}

/// The file of a namespace, the same from wherever it is named and by whichever links; a mere name is one of `ip netns`. The file itself
/// may be a link, as `/proc/7/ns/net` is, and may have gone.
///
/// # Errors
/// The present folder has gone.
pub fn namespace_path(given: PathBuf) -> io::Result<PathBuf> {
    let mut components = given.components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    let file = if is_name { Path::new("/run/netns").join(given) } else { std::path::absolute(given)? };
    let real = file.parent().zip(file.file_name()).map(|(folder, name)| without_links(folder).join(name));
    // By `/proc/7/root`, whose text is a path in another mount namespace, it is another file.
    Ok(real.filter(|real| identity(real) == identity(&file)).unwrap_or(file))
}

fn without_links(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| match (folder.parent(), folder.file_name()) {
        // It has gone.
        (Some(parent), Some(name)) => without_links(parent).join(name),
        _ => folder.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(variables: &[(&str, &str)]) -> EcsAgent {
        EcsAgent::of(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn wanted(request: &Request, agent: EcsAgent) -> Wanted {
        request.after(Wanted::default(), agent).unwrap()
    }

    #[test]
    fn the_agents_variables_choose_the_modes_where_no_flag_does() {
        let none = wanted(&Request::default(), agent(&[]));
        assert_eq!((none.bridges, none.host, none.block_imds), (["docker0".to_owned()].into(), false, true));
        let host = agent(&[("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", "true")]);
        let one = wanted(&Request::default(), host);
        assert_eq!((one.bridges.len(), one.host), (0, true));
        let both = agent(&[("ECS_ENABLE_TASK_IAM_ROLE", " T "), ("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", "1")]);
        let both = wanted(&Request::default(), both);
        assert_eq!((both.bridges.len(), both.host), (1, true));
        let off = agent(&[("ECS_ENABLE_TASK_IAM_ROLE", "false")]);
        assert_eq!(Request::default().after(Wanted::default(), off).unwrap_err().exit, Exit::Usage);
        let named = Request { modes: vec![Mode::Bridge], ..Request::default() };
        assert_eq!(wanted(&named, off).bridges.len(), 1, "a flag comes before a variable");
        assert_eq!(agent(&[("ECS_ENABLE_TASK_IAM_ROLE", "yes")]), EcsAgent::default());
    }

    #[test]
    fn the_agents_block_of_instance_metadata_is_that_of_awsvpc_alone() {
        let web = || Request { namespaces: vec!["/run/netns/web".into()], ..Request::default() };
        let blocked =
            |wanted: Wanted| wanted.namespaces.values().map(|namespace| namespace.block_imds).collect::<Vec<_>>();
        assert_eq!(blocked(wanted(&web(), agent(&[]))), [true], "here it is on unless it is switched off");
        let off = agent(&[("ECS_AWSVPC_BLOCK_IMDS", "false")]);
        assert_eq!(blocked(wanted(&web(), off)), [false]);
        assert_eq!(blocked(wanted(&Request { block_imds: Some(true), ..web() }, off)), [true]);
        assert!(wanted(&Request { modes: vec![Mode::Bridge], ..Request::default() }, off).block_imds);
    }

    #[test]
    fn an_up_changes_the_modes_that_it_names() {
        let bridge = |name: &str| Request { bridges: vec![name.parse().unwrap()], nat: Some(1), ..Request::default() };
        let first = wanted(&bridge("br0"), EcsAgent::default());
        let web = Request { namespaces: vec!["/run/netns/web".into(), "/proc/7/ns/net".into()], ..Request::default() };
        let second = web.after(first.clone(), EcsAgent::default()).unwrap();
        assert_eq!((&second.bridges, second.nat), (&first.bridges, Some(1)));
        let paths: Vec<_> = second.namespaces.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(paths, ["/proc/7/ns/net", "/run/netns/web"]);
        assert_eq!(web.after(second.clone(), EcsAgent::default()).unwrap(), second);
        let third = Request { nat: None, ..bridge("br1") }.after(second.clone(), EcsAgent::default()).unwrap();
        assert_eq!((third.bridges, third.nat, third.namespaces), (["br1".to_owned()].into(), None, second.namespaces));
    }

    #[test]
    fn a_namespace_has_one_path_however_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink("real", real.join("link")).unwrap();
        std::os::unix::fs::symlink("gone", real.join("real/task")).unwrap();
        let path = |given: PathBuf| namespace_path(given).unwrap();
        for given in ["real/task", "link/task", "link/./task", "real/../link/task", "real/task/"] {
            assert_eq!(path(real.join(given)), real.join("real/task"), "{given}");
        }
        assert_eq!(path(real.join("link/gone/net")), real.join("real/gone/net"));
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!([path("./web".into()), path("a/web".into())], [here.join("web"), here.join("a/web")]);
        assert_eq!(path("web".into()), path("/run/netns/web".into()));
    }

    #[test]
    fn flags_that_belong_to_another_mode_are_refused() {
        let bridges = vec!["br0".parse().unwrap()];
        for request in [
            Request { modes: vec![Mode::Host], bridges, ..Request::default() },
            Request { modes: vec![Mode::Awsvpc], ..Request::default() },
            Request { modes: vec![Mode::Bridge], namespaces: vec!["/run/netns/web".into()], ..Request::default() },
        ] {
            assert_eq!(request.after(Wanted::default(), EcsAgent::default()).unwrap_err().exit, Exit::Usage);
        }
        for name in ["", "lo", "all", "a/b", "a b", "x\"; flush ruleset", "-x", "..", "0123456789abcdef", "br-*"] {
            assert!(name.parse::<Interface>().is_err(), "{name:?}");
        }
    }
}
