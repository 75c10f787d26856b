//! How containers reach the proxy at 169.254.170.2, and nothing else does: `taskcreds network`.
//!
//! `up` twice is `up` once; `down` puts back what `up` has found; what fails leaves things as they were; what others wipe, `watch` puts back.
//! It compares what is to be there ([`plan`]) with what is there, at each pass anew, so it does not matter who has changed what.

mod addresses;
mod command;
mod iptables;
mod mend;
mod nft;
pub mod plan;
pub mod report;
pub mod request;
pub mod rules;
mod state;
mod sysctl;

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::failure::{Exit, Failure};
use crate::netlink::may_tell;
use plan::{Facts, Namespace, Piece, Plan, Rules, Wanted};
use request::{EcsAgent, Request};
use rules::{Backend, Missing, Seen};
use state::{Made, State, Store};

/// Where what was found is kept, unless told otherwise.
pub const STATE: &str = "/run/taskcreds-network/state.json";

/// How containers are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Mode {
    /// Containers on a bridge of this machine, as docker0.
    Bridge,
    /// Programs and containers in the network namespace of this machine.
    Host,
    /// A network namespace for each task.
    Awsvpc,
    /// A network namespace that the proxy and the tasks are in together, as in a pod.
    Shared,
}

/// One thing that is to be there.
#[derive(Debug)]
pub struct Part {
    /// What it is.
    pub what: String,
    /// Whether it is there.
    pub is_there: bool,
}

/// Sets up what is asked for. What is said of it, a line each.
///
/// # Errors
/// Something that was named is not there, is not ours or may not be changed. Things are as they were then.
pub fn up(request: &Request, environment: &HashMap<String, String>, state: &Path) -> Result<Vec<String>, Failure> {
    let agent = EcsAgent::of(environment);
    // Told before anything that needs privileges.
    request.after(Wanted::default(), agent)?;
    demand_privilege()?;
    let store = Store::open(state)?;
    let before = store.read()?;
    let wanted = request.after(before.as_ref().map(|before| before.wanted.clone()).unwrap_or_default(), agent)?;
    let facts = facts(&wanted);
    if let Some(absent) = facts.absent.first().filter(|_| !request.early) {
        let why = format!(
            "there is no interface {absent}: `ip link show type bridge` lists those there are (--early is for a bridge that is made later)"
        );
        return Err(Failure::new(Exit::Unavailable, why));
    }
    request.namespaces.iter().try_for_each(|path| demand_namespace(path))?;
    let notes = reconcile(&store, before, wanted, request.backend)?;
    Ok(notes)
}

/// What [`up`] would do, as text; nothing is changed.
///
/// # Errors
/// The flags contradict each other.
pub fn print(request: &Request, environment: &HashMap<String, String>, state: &Path) -> Result<Vec<String>, Failure> {
    let before = state::read(state).ok().flatten();
    let before = before.map(|before| before.wanted).unwrap_or_default();
    let wanted = request.after(before, EcsAgent::of(environment))?;
    let facts = facts(&wanted);
    let plan = Plan::new(&wanted, &facts);
    let mut lines = Vec::new();
    if let Some(backend) = choose(&wanted, request.backend)? {
        let looked = demand_privilege().and_then(|()| backend.look(&facts));
        if let Err(failure) = &looked {
            lines.push(format!("# as if no rules were there yet: {}", failure.message));
        }
        let calls = looked.unwrap_or_else(|_| backend.unseen()).putting(&plan.rules);
        lines.extend(calls.iter().map(ToString::to_string));
    }
    for piece in &plan.pieces {
        let mark = if piece.is_there() { "# there already: " } else { "" };
        lines.extend(piece.making().iter().map(|call| format!("{mark}{call}")));
    }
    lines.extend(plan.notes.iter().map(|note| format!("# {note}")));
    Ok(lines)
}

/// Takes away what [`up`] has made and puts back what it has found, or does so for one namespace.
///
/// # Errors
/// What cannot be taken away; the rest is gone then, and what is left is remembered.
pub fn down(namespace: Option<&Path>, state: &Path) -> Result<Vec<String>, Failure> {
    demand_privilege()?;
    let store = Store::open(state)?;
    let Some(mut before) = store.read()? else {
        let removed = remove_all_rules()?;
        let what = if removed {
            "rules of ours were there and are gone; what they were put beside is not known"
        } else {
            "nothing is set up"
        };
        return Ok(vec![what.to_owned()]);
    };
    if let Some(namespace) = namespace {
        let mut wanted = before.wanted.clone();
        let path = wanted.known(namespace);
        if wanted.namespaces.remove(&path).is_none() {
            return Err(Failure::new(Exit::Usage, format!("nothing is set up for {}", path.display())));
        }
        if !wanted.is_empty() {
            return reconcile(&store, Some(before), wanted, None);
        }
    }
    let mut failures = Vec::new();
    let made = std::mem::take(&mut before.made);
    for made in made.into_iter().rev() {
        if let Err(failure) = made.piece.unmake(made.found.as_deref()) {
            failures.push(failure);
            before.made.insert(0, made);
        }
    }
    failures.extend(remove_all_rules().err());
    match failures
        .into_iter()
        .reduce(|first, next| Failure::new(first.exit, format!("{}\n{}", first.message, next.message)))
    {
        None => store.write(None).map(|()| Vec::new()),
        Some(failure) => {
            store.write(Some(&before))?;
            Err(failure)
        }
    }
}

/// What is to be there and whether it is. Empty: nothing is set up.
///
/// # Errors
/// It cannot be looked at.
pub fn status(state: &Path) -> Result<Vec<Part>, Failure> {
    let Some(state) = state::read(state)? else { return Ok(Vec::new()) };
    demand_privilege()?;
    let facts = facts(&state.wanted);
    let plan = Plan::new(&state.wanted, &facts);
    let missing = missing_rules(&state, &plan, &facts)?;
    let mut parts: Vec<_> = missing.iter().map(|rule| Part { what: rule.to_string(), is_there: false }).collect();
    if let (true, Some(backend)) = (parts.is_empty(), state.backend) {
        let what = match backend {
            Backend::Nft => "rules: the nftables table inet taskcreds",
            Backend::Iptables => "rules: the iptables chains TASKCREDS-*",
        };
        parts.push(Part { what: what.to_owned(), is_there: true });
    }
    parts.extend(facts.absent.iter().map(|bridge| Part { what: format!("interface {bridge}"), is_there: false }));
    let pieces = plan.pieces.iter().map(|piece| Part { what: piece.to_string(), is_there: piece.is_there() });
    parts.extend(pieces);
    Ok(parts)
}

/// Puts back what others have wiped since [`up`]: what that was, nothing where all is there or nothing is set up.
///
/// # Errors
/// It cannot be put back now.
pub fn repair(state: &Path) -> Result<Vec<String>, Failure> {
    if !state.exists() {
        return Ok(Vec::new());
    }
    let store = Store::open(state)?;
    let Some(before) = store.read()? else { return Ok(Vec::new()) };
    let mut wanted = before.wanted.clone();
    wanted.namespaces.retain(|path, namespace| namespace.is_still_at(path));
    let facts = facts(&wanted);
    let plan = Plan::new(&wanted, &facts);
    let mut missing: Vec<_> = missing_rules(&before, &plan, &facts)?.iter().map(ToString::to_string).collect();
    missing.extend(plan.pieces.iter().filter(|piece| !piece.is_there()).map(ToString::to_string));
    if !missing.is_empty() || wanted != before.wanted {
        reconcile(&store, Some(before), wanted, None)?;
    }
    Ok(missing)
}

fn missing_rules(state: &State, plan: &Plan, facts: &Facts) -> Result<Vec<Missing>, Failure> {
    let Some(backend) = state.backend else { return Ok(Vec::new()) };
    Ok(backend.look(facts)?.missing(&plan.rules, &state.listing))
}

/// Makes what is wanted out of what was. What fails leaves what was.
fn reconcile(
    store: &Store,
    before: Option<State>,
    mut wanted: Wanted,
    asked: Option<Backend>,
) -> Result<Vec<String>, Failure> {
    let mut said = Vec::new();
    wanted.namespaces.retain(|path, namespace| {
        let is_there = namespace.is_still_at(path);
        if !is_there {
            said.push(format!("{} has gone and is left out", path.display()));
        }
        is_there
    });
    let facts = facts(&wanted);
    let plan = Plan::new(&wanted, &facts);
    said.extend(plan.notes.iter().map(|note| (*note).to_owned()));
    let backend = choose(&wanted, asked.or(before.as_ref().and_then(|before| before.backend)))?;
    let seen = backend.map(|backend| backend.look(&facts)).transpose()?;
    if backend.is_none() {
        said.push("neither nft nor iptables-restore is there: no rule keeps neighbours out".to_owned());
    }
    let made = before.as_ref().map(|before| before.made.clone()).unwrap_or_default();
    let (kept, obsolete): (Vec<_>, Vec<_>) = made.into_iter().partition(|made| plan.pieces.contains(&made.piece));
    let missing: Vec<_> = plan.pieces.iter().filter(|piece| !piece.is_there()).collect();
    let is_new = |piece: &&&Piece| !kept.iter().any(|made| made.piece == ***piece);
    let new = missing.iter().filter(is_new).map(|piece| Made { piece: (*piece).clone(), found: piece.found() });
    let made: Vec<_> = kept.iter().cloned().chain(new).collect();
    // Remembered before it is done, so that nothing stays behind where this process is killed.
    let all = made.iter().chain(&obsolete).cloned().collect();
    let listing = before.as_ref().map(|before| before.listing.clone()).unwrap_or_default();
    let mut state = State { wanted, backend, listing, made: all };
    store.write(Some(&state))?;
    let (mut done, mut gone) = (Vec::new(), Vec::new());
    let old = before.as_ref().and_then(|before| before.backend).filter(|old| Some(*old) != backend);
    let guarding = plan.rules.guarding(obsolete.iter().map(|made| &made.piece));
    let outcome = make(&seen, &guarding, &missing, &mut done)
        .and_then(|()| make_way(&obsolete, &mut gone, old, backend, &guarding, &facts))
        .and_then(|()| match backend.filter(|_| guarding != plan.rules) {
            Some(backend) => backend.look(&facts)?.put(&plan.rules),
            None => Ok(()),
        });
    if let Err(failure) = outcome {
        return Err(match undo(store, before, &done, &gone, &made, backend, &facts) {
            Ok(()) => failure,
            Err(more) => {
                Failure::new(failure.exit, format!("{}\nnot all was undone: {}", failure.message, more.message))
            }
        });
    }
    state.made = made;
    state.listing =
        backend.map(|backend| backend.look(&facts)).transpose()?.map(|seen| seen.listing()).unwrap_or_default();
    store.write(Some(&state))?;
    Ok(said)
}

/// The rules first: nothing is to be reached before it is guarded.
fn make<'a>(
    seen: &Option<Seen>,
    rules: &Rules,
    missing: &[&'a Piece],
    done: &mut Vec<&'a Piece>,
) -> Result<(), Failure> {
    if let Some(seen) = seen {
        seen.put(rules)?;
    }
    for piece in missing {
        piece.make()?;
        done.push(piece);
    }
    Ok(())
}

/// Takes away what is not wanted any more, the rules of another backend among it.
fn make_way<'a>(
    obsolete: &'a [Made],
    gone: &mut Vec<&'a Piece>,
    old: Option<Backend>,
    backend: Option<Backend>,
    rules: &Rules,
    facts: &Facts,
) -> Result<(), Failure> {
    if let Some(old) = old {
        old.look(facts)?.remove()?;
        // To one backend the rules of the other are somebody else's, which it has made way for.
        if let Some(backend) = backend {
            backend.look(facts)?.put(rules)?;
        }
    }
    for made in obsolete.iter().rev() {
        let was_there = made.piece.is_there();
        made.piece.unmake(made.found.as_deref())?;
        gone.extend(was_there.then_some(&made.piece));
    }
    Ok(())
}

/// Takes away what is done, and makes again what has gone, behind its rules.
fn undo(
    store: &Store,
    before: Option<State>,
    done: &[&Piece],
    gone: &[&Piece],
    made: &[Made],
    backend: Option<Backend>,
    facts: &Facts,
) -> Result<(), Failure> {
    for piece in done.iter().rev() {
        let found = made.iter().find(|made| made.piece == **piece).and_then(|made| made.found.as_deref());
        piece.unmake(found)?;
    }
    let old = before.as_ref().and_then(|before| Some((before.backend?, &before.wanted)));
    if let Some(new) = backend.filter(|new| old.is_none_or(|(old, _)| old != *new)) {
        new.look(facts)?.remove()?;
    }
    if let Some((old, wanted)) = old {
        old.look(facts)?.put(&Plan::new(wanted, facts).rules)?;
    }
    gone.iter().rev().try_for_each(|piece| piece.make())?;
    store.write(before.as_ref())
}

/// Takes away what carries our mark, of every backend that is there. Whether there was something.
fn remove_all_rules() -> Result<bool, Failure> {
    let (facts, mut removed) = (facts(&Wanted::default()), false);
    for backend in [Backend::Nft, Backend::Iptables].into_iter().filter(|backend| backend.is_there()) {
        match backend.look(&facts) {
            Ok(seen) if seen.is_empty() => {}
            Ok(seen) => {
                seen.remove()?;
                removed = true;
            }
            // What only has our name is not ours to take away.
            Err(failure) if failure.exit == Exit::Unavailable => tracing::warn!("{}", failure.message),
            Err(failure) => return Err(failure),
        }
    }
    Ok(removed)
}

/// What holds the rules. A pod's namespace need not have either program.
fn choose(wanted: &Wanted, asked: Option<Backend>) -> Result<Option<Backend>, Failure> {
    let is_pod = wanted.bridges.is_empty() && !wanted.host && wanted.namespaces.is_empty();
    match Backend::choose(asked) {
        Err(_) if is_pod && asked.is_none() => Ok(None),
        chosen => chosen.map(Some),
    }
}

fn facts(wanted: &Wanted) -> Facts {
    let absent = wanted.bridges.iter().filter(|bridge| !is_interface(bridge)).cloned().collect();
    Facts { ipv6: has_ipv6(), absent }
}

/// It is not left out of this kernel, nor switched off as a whole.
fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

fn is_interface(name: &str) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    socket.is_ok_and(|socket| rustix::net::netdevice::name_to_index(socket, name).is_ok())
}

/// CAP_NET_ADMIN, without which nothing here can be done or even looked at.
fn demand_privilege() -> Result<(), Failure> {
    if may_tell() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::NoPermission,
        "taskcreds network needs root, or CAP_NET_ADMIN: run it with sudo, or from a unit with AmbientCapabilities=CAP_NET_ADMIN",
    ))
}

impl Wanted {
    /// The path by which the namespace of this file is set up already; else this one.
    fn known(&self, path: &Path) -> PathBuf {
        let there = identity(path);
        let is_it = |(known, namespace): &(&PathBuf, &Namespace)| {
            there.is_some() && namespace.identity == there && namespace.is_still_at(known)
        };
        let known = self.namespaces.iter().find(is_it).filter(|_| !self.namespaces.contains_key(path));
        known.map_or_else(|| path.to_owned(), |(known, _)| known.clone())
    }
}

impl Namespace {
    /// Whether the path leads to it, and not to another one that has come in its place.
    fn is_still_at(&self, path: &Path) -> bool {
        identity(path).is_some_and(|there| self.identity.is_none_or(|then| then == there))
    }
}

/// Device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// A namespace that is there, is not this machine's own and can be entered.
fn demand_namespace(path: &Path) -> Result<(), Failure> {
    if identity(path).is_some_and(|there| identity(Path::new("/proc/self/ns/net")) == Some(there)) {
        let why =
            format!("{} is this machine's own network namespace: awsvpc mode is for that of a task", path.display());
        return Err(Failure::new(Exit::Usage, why));
    }
    let file = File::open(path).map_err(|error| {
        let why =
            format!("there is no network namespace {}: {error} (`ip netns` lists those with a name)", path.display());
        Failure::new(Exit::Unavailable, why)
    })?;
    let enter =
        || rustix::thread::move_into_link_name_space(file.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network));
    let entered = std::thread::scope(|scope| scope.spawn(enter).join());
    match entered {
        Ok(Ok(())) => Ok(()),
        Ok(Err(rustix::io::Errno::PERM)) => Err(Failure::new(
            Exit::NoPermission,
            format!("{} may not be entered: awsvpc mode needs CAP_SYS_ADMIN too", path.display()),
        )),
        _ => Err(Failure::new(Exit::Unavailable, format!("{} is no network namespace", path.display()))),
    }
}
