//! What reaches what, for a human, and the command that mends what is not as it should be.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::command::Call;
use super::mend::Mend;
use super::plan::{ENDPOINT, IMDS, Piece, Plan};
use super::rules::Guarded;
use super::{demand_privilege, facts, missing_rules, state};
use crate::documents::formats::sh;
use crate::failure::Failure;

/// One way.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Who asks.
    pub from: String,
    /// What.
    pub to: &'static str,
    /// How that stands.
    pub is: String,
    /// The command that mends it; `None`: it is as it should be.
    pub mend: Option<String>,
}

const TO_ENDPOINT: &str = "169.254.170.2:80";
const TO_IMDS: &str = "instance metadata";

/// Looks at all ways. `answers`: whether this machine gets an answer of a proxy at this port of 169.254.170.2, or of loopback.
///
/// # Errors
/// It cannot be looked at.
pub fn report(path: &Path, answers: impl Fn(SocketAddr) -> bool) -> Result<Vec<Row>, Failure> {
    demand_privilege()?;
    let state = state::read(path)?;
    let wanted = state.as_ref().map(|state| state.wanted.clone()).unwrap_or_default();
    let facts = facts(&wanted);
    let plan = Plan::new(&wanted, &facts);
    let missing = match &state {
        Some(state) => missing_rules(state, &plan, &facts)?,
        None => Vec::new(),
    };
    let has_rules = state.as_ref().is_some_and(|state| state.backend.is_some());
    let is_guarded = |what| has_rules && !missing.iter().any(|rule| rule.guards.contains(&what));
    // The first that is not there of the endpoint's addresses, these pieces and the rules.
    let lacking = |is_of: &dyn Fn(&Piece) -> bool| {
        let is_of = |piece: &&Piece| matches!(piece, Piece::Address { device, .. } if device == "lo") || is_of(piece);
        let piece = plan.pieces.iter().filter(is_of).find(|piece| !piece.is_there()).map(ToString::to_string);
        piece.or_else(|| missing.first().map(ToString::to_string)).map(|what| format!("missing: {what}"))
    };
    let others: Vec<_> = bridges().into_iter().filter(|bridge| !wanted.bridges.contains(bridge)).collect();
    let mend = Mend { wanted: &wanted, facts: &facts };
    let row =
        |from: &str, to, is: &str, mend: Option<String>| Row { from: from.to_owned(), to, is: is.to_owned(), mend };
    let has_address =
        Piece::Address { space: None, address: format!("{ENDPOINT}/32"), device: "lo".to_owned() }.is_there();
    // Redirected requests of this machine are for host mode only.
    let asks_itself = wanted.nat.is_none() || plan.rules.own;
    let listen = match wanted.nat {
        Some(port) => format!("taskcreds serve --listen 127.0.0.1:{port} …"),
        None => "taskcreds serve --listen 169.254.170.2:80 …".to_owned(),
    };
    let listens_at = match wanted.nat {
        Some(port) if !asks_itself => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        _ => crate::http::ENDPOINT,
    };
    let mut rows = vec![match (has_address, answers(listens_at), lacking(&|_| false)) {
        (false, ..) => row("this machine", TO_ENDPOINT, "the address is on no interface", Some(mend.any(&others))),
        (true, true, _) if !asks_itself => row("this machine", TO_ENDPOINT, "no answer, as without host mode", None),
        (true, true, _) => row("this machine", TO_ENDPOINT, "a proxy answers", None),
        (true, false, Some(what)) if asks_itself => row("this machine", TO_ENDPOINT, &what, Some(mend.any(&others))),
        (true, false, _) => {
            row("this machine", TO_ENDPOINT, &format!("no proxy answers at {listens_at}"), Some(listen))
        }
    }];
    for bridge in &wanted.bridges {
        let from = format!("containers on {bridge}");
        let is_of = |piece: &Piece| matches!(piece, Piece::Sysctl { key, .. } if key.contains(&format!("/{bridge}/")));
        rows.push(match lacking(&is_of) {
            _ if facts.absent.contains(bridge) => row(&from, TO_ENDPOINT, "the bridge is not there (yet)", None),
            None => row(&from, TO_ENDPOINT, "let in", None),
            Some(what) => row(&from, TO_ENDPOINT, &what, Some(mend.bridges(&[]))),
        });
        rows.push(match (wanted.block_imds, is_guarded(Guarded::Metadata)) {
            (true, true) => row(&from, TO_IMDS, "blocked", None),
            (true, false) => {
                let is = "NOT blocked: they can take this machine's own role";
                row(&from, TO_IMDS, is, Some(mend.bridges(&[])))
            }
            (false, _) => row(&from, TO_IMDS, "open, as asked for (--no-block-imds)", None),
        });
    }
    for (path, namespace) in &wanted.namespaces {
        let from = format!("task in {}", path.display());
        let down = || format!("taskcreds network down --netns {}", sh(&path.to_string_lossy()));
        let again = || mend.namespace(path);
        if !path.exists() {
            rows.push(row(&from, TO_ENDPOINT, "the namespace has gone", Some(down())));
            continue;
        }
        let is_of = |piece: &Piece, imds: bool| match piece {
            Piece::Address { space, .. } => !imds && space.as_ref() == Some(path),
            Piece::Pair { namespace, .. } => !imds && namespace == path,
            Piece::Route { space, by, .. } => space.as_ref() == Some(path) && (by == "unreachable") == imds,
            Piece::Sysctl { .. } => false,
        };
        rows.push(match lacking(&|piece| is_of(piece, false)) {
            None => row(&from, TO_ENDPOINT, "let in", None),
            Some(what) => row(&from, TO_ENDPOINT, &what, Some(again())),
        });
        let is_blocked = plan.pieces.iter().filter(|piece| is_of(piece, true)).all(Piece::is_there);
        rows.push(match (namespace.block_imds, is_blocked) {
            (true, true) => row(&from, TO_IMDS, "unreachable", None),
            (true, false) => row(&from, TO_IMDS, "NOT blocked: it can take this machine's own role", Some(again())),
            (false, _) => row(&from, TO_IMDS, "open, as asked for", None),
        });
    }
    for bridge in &others {
        let is = if has_address && !is_guarded(Guarded::Endpoint) {
            "not set up: let in if nothing else drops it, and instance metadata is open to them"
        } else {
            "not set up: they do not reach the proxy, and instance metadata is open to them"
        };
        rows.push(row(&format!("containers on {bridge}"), TO_ENDPOINT, is, Some(mend.bridges(&others))));
    }
    rows.push(match (is_guarded(Guarded::Endpoint), has_address) {
        (true, _) => row("neighbours", TO_ENDPOINT, "dropped", None),
        (false, false) => row("neighbours", TO_ENDPOINT, "no answer: the address is on no interface", None),
        (false, true) => {
            let is = "NOT dropped: who routes it through this machine gets in";
            row("neighbours", TO_ENDPOINT, is, Some(mend.any(&others)))
        }
    });
    let is_here = |piece: &&Piece| matches!(piece, Piece::Route { space: None, by, .. } if by == "unreachable");
    let is_whole = plan.pieces.iter().filter(is_here).all(Piece::is_there);
    rows.push(match (wanted.shared, is_whole) {
        (Some(true), true) => row("this machine", TO_IMDS, "unreachable", None),
        (Some(true), false) => row("this machine", TO_IMDS, "NOT blocked, as was asked for", Some(mend.shared())),
        (Some(false), _) => row("this machine", TO_IMDS, "open (up --mode shared --block-imds closes it)", None),
        (None, _) => {
            row("this machine", TO_IMDS, &format!("open ({IMDS} cannot be blocked for programs of this machine)"), None)
        }
    });
    Ok(rows)
}

/// The bridges of this machine.
fn bridges() -> Vec<String> {
    let said = Call::new("ip", "-j link show type bridge").run().unwrap_or_default();
    let links: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    let names =
        links.as_array().into_iter().flatten().filter_map(|link| Some(link.get("ifname")?.as_str()?.to_owned()));
    names.collect()
}
