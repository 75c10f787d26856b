//! The rules in iptables: chains of our own name, put there and taken away by `iptables-restore --noflush`, one transaction a table and
//! family, and one jump to each, which is there once however often it is made.
//!
//! Instance metadata is blocked in the table raw, where a packet comes first: Docker, when it starts, puts its own rules before those of
//! FORWARD, and makes DOCKER-USER if it is not there. It is blocked in these two as well, where people look for it. For the same reason
//! what would be forwarded from or to a pair is dropped in FORWARD of the table mangle, which comes before that of filter.

use std::fmt::Write;

use super::command::{Call, find};
use super::plan::{ENDPOINT, ENDPOINT_V6, IMDS, IMDS_V6, PORT, Rules};
use super::rules::{Guarded, MARK, Missing};
use crate::failure::{Exit, Failure};

const TABLES: [&str; 4] = ["filter", "mangle", "nat", "raw"];
/// Our chains: the table, the name, and the chains that jump there. DOCKER-USER is not on every machine.
const CHAINS: [(&str, &str, &[&str]); 6] = [
    ("filter", "TASKCREDS-INPUT", &["INPUT"]),
    ("filter", "TASKCREDS-FORWARD", &["FORWARD", "DOCKER-USER"]),
    ("mangle", "TASKCREDS-PAIRS", &["FORWARD"]),
    ("nat", "TASKCREDS-PREROUTING", &["PREROUTING"]),
    ("nat", "TASKCREDS-OUTPUT", &["OUTPUT"]),
    ("raw", "TASKCREDS-RAW", &["PREROUTING"]),
];

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn program(self) -> &'static str {
        if self == Self::V4 { "iptables" } else { "ip6tables" }
    }

    fn restore(self) -> &'static str {
        if self == Self::V4 { "iptables-restore" } else { "ip6tables-restore" }
    }

    fn save(self) -> &'static str {
        if self == Self::V4 { "iptables-save" } else { "ip6tables-save" }
    }
}

/// What is there of one family: `-A CHAIN RULE` and `:CHAIN` as iptables-save tells them, each with its table before it.
#[derive(Debug)]
struct Saved {
    family: Family,
    lines: Vec<String>,
}

/// What is there.
#[derive(Debug)]
pub(super) struct Seen {
    families: Vec<Saved>,
}

impl Seen {
    /// Looks at the tables of both families.
    ///
    /// # Errors
    /// A chain of our name is not ours; or the program's own.
    pub(super) fn look(ipv6: bool) -> Result<Self, Failure> {
        let families = [Family::V4].into_iter().chain(ipv6.then_some(Family::V6));
        let mut seen = Self { families: Vec::new() };
        for family in families {
            let mut lines = Vec::new();
            for table in TABLES {
                let saved = Call::new(family.save(), &format!("-t {table}")).run()?;
                let kept = saved.lines().filter(|line| line.starts_with(['-', ':']));
                // A chain with its policy and counters is told apart by its name alone.
                let kept =
                    kept.map(|line| if line.starts_with(':') { line.split(' ').next().unwrap_or(line) } else { line });
                lines.extend(kept.map(|line| format!("{table} {line}")));
            }
            let saved = Saved { family, lines };
            saved.refuse_foreign()?;
            seen.families.push(saved);
        }
        Ok(seen)
    }

    /// Of a machine that nobody has looked at.
    pub(super) fn none() -> Self {
        let families = [Family::V4, Family::V6];
        Self { families: families.map(|family| Saved { family, lines: Vec::new() }).into() }
    }

    /// Whether there is nothing of ours.
    pub(super) fn is_empty(&self) -> bool {
        !self.families.iter().flat_map(|saved| &saved.lines).any(|line| line.contains("TASKCREDS-"))
    }

    /// Our chains and what is in them.
    pub(super) fn own(&self) -> Vec<String> {
        let is_own = |line: &&String| line.contains(" :TASKCREDS-") || line.contains(" -A TASKCREDS-");
        let of = |saved: &Saved| -> Vec<String> {
            let program = saved.family.program();
            saved.lines.iter().filter(is_own).map(|line| format!("{program} {line}")).collect()
        };
        self.families.iter().flat_map(of).collect()
    }

    /// What is not as it was when it was put there.
    pub(super) fn missing(&self, listing: &[String]) -> Vec<Missing> {
        let own = self.own();
        let gone = listing.iter().filter(|line| !own.contains(line));
        let mut missing: Vec<_> = gone.map(|line| Missing { what: line.clone(), guards: guards(line) }).collect();
        for saved in &self.families {
            for (table, chain, from) in CHAINS {
                for from in from.iter().filter(|from| saved.has_chain(table, from)) {
                    let jumps = saved.jumps(table, from, chain).count();
                    if jumps != 1 {
                        let program = saved.family.program();
                        let what = format!("{program}: one jump from {from} to {chain} in {table} ({jumps} there)");
                        missing.push(Missing { what, guards: if jumps == 0 { guards(chain) } else { &[] } });
                    }
                }
            }
        }
        if missing.is_empty() && own.len() != listing.len() {
            let what = "iptables: rules in our chains that are not ours".to_owned();
            missing.push(Missing { what, guards: Guarded::ALL });
        }
        missing
    }

    /// What puts the rules there, in the place of what is there.
    pub(super) fn put(&self, rules: &Rules) -> Vec<Call> {
        let text = |saved: &Saved| {
            restore(|table, text| {
                let chains = || CHAINS.iter().filter(move |(of, ..)| *of == table);
                for (_, chain, _) in chains() {
                    // With --noflush this makes the chain, or empties it.
                    let _ = writeln!(text, ":{chain} - [0:0]");
                }
                saved.take_out_jumps(table, text);
                for (_, chain, from) in chains() {
                    for from in from.iter().filter(|from| **from != "DOCKER-USER" || saved.has_chain(table, from)) {
                        let _ = writeln!(text, "-I {from} 1 {}", jump(chain));
                    }
                    for rule in rules_of(rules, saved.family, chain) {
                        let _ = writeln!(text, "-A {chain} {rule}");
                    }
                }
            })
        };
        self.families.iter().map(|saved| call(saved.family, text(saved))).collect()
    }

    /// What takes away what is ours.
    pub(super) fn remove(&self) -> Vec<Call> {
        let text = |saved: &Saved| {
            restore(|table, text| {
                saved.take_out_jumps(table, text);
                for (_, chain, _) in
                    CHAINS.iter().filter(|(of, chain, _)| *of == table && saved.has_chain(table, chain))
                {
                    let _ = write!(text, "-F {chain}\n-X {chain}\n");
                }
            })
        };
        let some = self.families.iter().filter(|saved| saved.lines.iter().any(|line| line.contains("TASKCREDS-")));
        some.map(|saved| call(saved.family, text(saved))).collect()
    }
}

impl Saved {
    fn has_chain(&self, table: &str, chain: &str) -> bool {
        let line = format!("{table} :{chain}");
        self.lines.contains(&line)
    }

    /// The jumps from one chain to another, as iptables-save tells them.
    fn jumps<'a>(&'a self, table: &str, from: &str, to: &str) -> impl Iterator<Item = &'a str> {
        let (start, end) = (format!("{table} -A {from} "), format!(" -j {to}"));
        let jumps = self.lines.iter().filter(move |line| line.starts_with(&start) && line.ends_with(&end));
        jumps.filter_map(|line| line.split_once(" -A ").map(|(_, rule)| rule))
    }

    fn take_out_jumps(&self, table: &str, text: &mut String) {
        for (_, chain, from) in CHAINS.iter().filter(|(of, ..)| *of == table) {
            for jump in from.iter().flat_map(|from| self.jumps(table, from, chain)) {
                let _ = writeln!(text, "-D {jump}");
            }
        }
    }

    /// Every rule of ours carries the mark; a chain without rules may be ours, emptied by `iptables -F`.
    fn refuse_foreign(&self) -> Result<(), Failure> {
        for (table, chain, _) in CHAINS {
            let start = format!("{table} -A {chain} ");
            if self.lines.iter().any(|line| line.starts_with(&start) && !line.contains(MARK)) {
                let program = self.family.program();
                let why = format!(
                    "the chain {chain} of {program} -t {table} was not made by taskcreds: rename it, or empty it with `{program} -t {table} -F {chain}`"
                );
                return Err(Failure::new(Exit::Unavailable, why));
            }
        }
        Ok(())
    }
}

/// Tries all first, then puts all there; so that one family is not left without the other.
///
/// # Errors
/// The program's own. What has failed when it was tried has changed nothing.
pub(super) fn apply(calls: &[Call]) -> Result<(), Failure> {
    for call in calls {
        call.clone().with("--test").run()?;
    }
    calls.iter().try_for_each(|call| call.run().map(drop))
}

/// Whether the programs are there.
pub(super) fn is_there() -> bool {
    [Family::V4, Family::V6].iter().all(|family| find(family.restore()).is_some() && find(family.save()).is_some())
}

fn call(family: Family, text: String) -> Call {
    // Another program may hold the lock for a moment.
    Call::new(family.restore(), "--noflush --wait 10").reading(text)
}

fn restore(table_text: impl Fn(&str, &mut String)) -> String {
    let mut text = String::new();
    for table in TABLES {
        let _ = writeln!(text, "*{table}");
        table_text(table, &mut text);
        text += "COMMIT\n";
    }
    text
}

/// What is not kept out without this chain or a rule of it. The others are a second lock behind these, or let in.
fn guards(of: &str) -> &'static [Guarded] {
    match of {
        of if of.contains("TASKCREDS-INPUT") => &[Guarded::Endpoint],
        of if of.contains("TASKCREDS-RAW") => &[Guarded::Metadata],
        _ => &[],
    }
}

fn jump(chain: &str) -> String {
    format!("-m comment --comment \"{MARK}\" -j {chain}")
}

/// The rules of one of our chains.
fn rules_of(rules: &Rules, family: Family, chain: &str) -> Vec<String> {
    let (endpoint, imds) = match family {
        Family::V4 => (Some(format!("{ENDPOINT}/32")), format!("{IMDS}/32")),
        Family::V6 => (rules.endpoint_v6.then(|| format!("{ENDPOINT_V6}/128")), format!("{IMDS_V6}/128")),
    };
    let nat = rules.nat.filter(|_| family == Family::V4);
    let is_offered_v6 = family == Family::V6 && rules.endpoint_v6;
    // A segment routing header leads on to any address of this machine, past every chain.
    let led_on = || {
        let led_on = rules.pairs.iter().filter(|_| is_offered_v6).map(|pair| format!("-i {pair} -m rt"));
        led_on.map(|it| (it, "DROP".to_owned()))
    };
    // RETURN: what others say of it holds.
    let found = |pair: &String| {
        let types = [135, 136].into_iter().filter(|_| is_offered_v6);
        let rule = |kind| format!("-i {pair} -p ipv6-icmp -m icmp6 --icmpv6-type {kind}");
        types.map(|kind| (rule(kind), "RETURN".to_owned())).collect::<Vec<_>>()
    };
    let refused = |pair: &String| (format!("-i {pair}"), "DROP".to_owned());
    let blocked = || rules.no_imds.iter().map(|door| format!("-i {door} -d {imds}")).map(|it| (it, "DROP".to_owned()));
    let mut all: Vec<(String, String)> = Vec::new();
    match (chain, &endpoint) {
        ("TASKCREDS-INPUT", endpoint) => {
            all.extend(blocked().chain(led_on()));
            let doors = rules.doors.iter().map(String::as_str).chain(rules.own.then_some("lo"));
            if let Some(endpoint) = endpoint {
                let accept = |door: &str| match nat {
                    // Where it was redirected to; what asks loopback without having been redirected is refused below.
                    Some(port) if door == "lo" => format!("-i lo -d 127.0.0.1/32 -p tcp -m tcp --dport {port}"),
                    Some(port) => {
                        format!("-i {door} -d 127.0.0.1/32 -p tcp -m tcp --dport {port} -m conntrack --ctstate DNAT")
                    }
                    None => format!("-i {door} -d {endpoint} -p tcp -m tcp --dport {PORT}"),
                };
                all.extend(doors.map(|door| (accept(door), "ACCEPT".to_owned())));
                all.push((format!("! -i lo -d {endpoint}"), "DROP".to_owned()));
            }
            if nat.is_some() {
                let strange = "! -i lo -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT";
                all.push((strange.to_owned(), "DROP".to_owned()));
            }
            all.extend(rules.pairs.iter().flat_map(|pair| found(pair).into_iter().chain([refused(pair)])));
        }
        ("TASKCREDS-FORWARD", _) => all.extend(blocked()),
        ("TASKCREDS-RAW", endpoint) => {
            all.extend(blocked().chain(led_on()));
            for pair in &rules.pairs {
                let asked = endpoint.iter().map(|to| format!("-i {pair} -d {to} -p tcp -m tcp --dport {PORT}"));
                all.extend(asked.map(|asked| (asked, "RETURN".to_owned())).chain(found(pair)).chain([refused(pair)]));
            }
        }
        ("TASKCREDS-PAIRS", _) => {
            let to = |pair: &String| (format!("-o {pair}"), "DROP".to_owned());
            all.extend(rules.pairs.iter().flat_map(|pair| [refused(pair), to(pair)]));
        }
        ("TASKCREDS-PREROUTING", Some(endpoint)) => {
            // Accepted is not redirected any more: not to the container that has published port 80 either.
            let verdict = nat.map_or("ACCEPT".to_owned(), |port| format!("DNAT --to-destination 127.0.0.1:{port}"));
            let asked = |door: &String| format!("-i {door} -d {endpoint} -p tcp -m tcp --dport {PORT}");
            all.extend(rules.doors.iter().map(|door| (asked(door), verdict.clone())));
        }
        ("TASKCREDS-OUTPUT", Some(endpoint)) => {
            let verdict = match nat {
                Some(port) => rules.own.then(|| format!("REDIRECT --to-ports {port}")),
                None => Some("ACCEPT".to_owned()),
            };
            all.extend(verdict.map(|verdict| (format!("-d {endpoint} -p tcp -m tcp --dport {PORT}"), verdict)));
        }
        _ => {}
    }
    all.into_iter().map(|(what, verdict)| format!("{what} -m comment --comment \"{MARK}\" -j {verdict}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lines: &[&str]) -> Seen {
        Seen {
            families: vec![Saved { family: Family::V4, lines: lines.iter().map(|line| (*line).to_owned()).collect() }],
        }
    }

    fn texts(calls: &[Call]) -> String {
        calls.iter().map(|call| format!("{call}\n")).collect()
    }

    #[test]
    fn the_chains_without_nat_beside_docker() {
        let doors = vec!["docker0".to_owned()];
        let rules = Rules { no_imds: doors.clone(), doors, ..Rules::default() };
        let old = "filter -A INPUT -m comment --comment \"made by taskcreds network\" -j TASKCREDS-INPUT";
        let seen = seen(&["filter :INPUT", "filter :DOCKER-USER", old, old]);
        let expected = r#"iptables-restore --noflush --wait 10 <<'END'
*filter
:TASKCREDS-INPUT - [0:0]
:TASKCREDS-FORWARD - [0:0]
-D INPUT -m comment --comment "made by taskcreds network" -j TASKCREDS-INPUT
-D INPUT -m comment --comment "made by taskcreds network" -j TASKCREDS-INPUT
-I INPUT 1 -m comment --comment "made by taskcreds network" -j TASKCREDS-INPUT
-A TASKCREDS-INPUT -i docker0 -d 169.254.169.254/32 -m comment --comment "made by taskcreds network" -j DROP
-A TASKCREDS-INPUT -i docker0 -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -m comment --comment "made by taskcreds network" -j ACCEPT
-A TASKCREDS-INPUT ! -i lo -d 169.254.170.2/32 -m comment --comment "made by taskcreds network" -j DROP
-I FORWARD 1 -m comment --comment "made by taskcreds network" -j TASKCREDS-FORWARD
-I DOCKER-USER 1 -m comment --comment "made by taskcreds network" -j TASKCREDS-FORWARD
-A TASKCREDS-FORWARD -i docker0 -d 169.254.169.254/32 -m comment --comment "made by taskcreds network" -j DROP
COMMIT
*mangle
:TASKCREDS-PAIRS - [0:0]
-I FORWARD 1 -m comment --comment "made by taskcreds network" -j TASKCREDS-PAIRS
COMMIT
*nat
:TASKCREDS-PREROUTING - [0:0]
:TASKCREDS-OUTPUT - [0:0]
-I PREROUTING 1 -m comment --comment "made by taskcreds network" -j TASKCREDS-PREROUTING
-A TASKCREDS-PREROUTING -i docker0 -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -m comment --comment "made by taskcreds network" -j ACCEPT
-I OUTPUT 1 -m comment --comment "made by taskcreds network" -j TASKCREDS-OUTPUT
-A TASKCREDS-OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -m comment --comment "made by taskcreds network" -j ACCEPT
COMMIT
*raw
:TASKCREDS-RAW - [0:0]
-I PREROUTING 1 -m comment --comment "made by taskcreds network" -j TASKCREDS-RAW
-A TASKCREDS-RAW -i docker0 -d 169.254.169.254/32 -m comment --comment "made by taskcreds network" -j DROP
COMMIT
END
"#;
        assert_eq!(texts(&seen.put(&rules)), expected);
    }

    fn without_marks(rules: &Rules, family: Family) -> String {
        let rules = CHAINS.iter().flat_map(|(_, chain, _)| rules_of(rules, family, chain));
        rules.map(|rule| rule.replace(&format!("-m comment --comment \"{MARK}\" "), "") + "\n").collect()
    }

    #[test]
    fn a_pair_leads_to_the_endpoint_alone() {
        let pairs = vec!["taskcreds-2".to_owned()];
        let rules = Rules { pairs, endpoint_v6: true, ..Rules::default() };
        let found = "-i taskcreds-2 -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN\n\
                     -i taskcreds-2 -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN\n";
        let expected = |address: &str, led_on: &str, found: &str| {
            format!(
                "{led_on}! -i lo -d {address} -j DROP\n{found}-i taskcreds-2 -j DROP\n\
                 -i taskcreds-2 -j DROP\n-o taskcreds-2 -j DROP\n\
                 -d {address} -p tcp -m tcp --dport 80 -j ACCEPT\n\
                 {led_on}-i taskcreds-2 -d {address} -p tcp -m tcp --dport 80 -j RETURN\n{found}-i taskcreds-2 -j DROP\n"
            )
        };
        assert_eq!(without_marks(&rules, Family::V4), expected("169.254.170.2/32", "", ""));
        assert_eq!(
            without_marks(&rules, Family::V6),
            expected("fd00:ec2::23/128", "-i taskcreds-2 -m rt -j DROP\n", found)
        );
        let rules = Rules { endpoint_v6: false, ..rules };
        let alone = "-i taskcreds-2 -j DROP\n-i taskcreds-2 -j DROP\n-o taskcreds-2 -j DROP\n-i taskcreds-2 -j DROP\n";
        assert_eq!(without_marks(&rules, Family::V6), alone);
    }

    #[test]
    fn nat_in_both_families() {
        let doors = vec!["docker0".to_owned()];
        let rules = Rules { doors, own: true, nat: Some(51_679), endpoint_v6: true, ..Rules::default() };
        let of = |family| without_marks(&rules, family);
        let v4 = "-i docker0 -d 127.0.0.1/32 -p tcp -m tcp --dport 51679 -m conntrack --ctstate DNAT -j ACCEPT\n\
                  -i lo -d 127.0.0.1/32 -p tcp -m tcp --dport 51679 -j ACCEPT\n\
                  ! -i lo -d 169.254.170.2/32 -j DROP\n\
                  ! -i lo -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n\
                  -i docker0 -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679\n\
                  -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679\n";
        assert_eq!(of(Family::V4), v4);
        let v6 = "-i docker0 -d fd00:ec2::23/128 -p tcp -m tcp --dport 80 -j ACCEPT\n\
                  -i lo -d fd00:ec2::23/128 -p tcp -m tcp --dport 80 -j ACCEPT\n\
                  ! -i lo -d fd00:ec2::23/128 -j DROP\n\
                  -i docker0 -d fd00:ec2::23/128 -p tcp -m tcp --dport 80 -j ACCEPT\n\
                  -d fd00:ec2::23/128 -p tcp -m tcp --dport 80 -j ACCEPT\n";
        assert_eq!(of(Family::V6), v6);
    }

    #[test]
    fn what_is_ours_goes_and_what_only_has_our_name_is_refused() {
        let seen = seen(&[
            "filter :INPUT",
            "filter :TASKCREDS-INPUT",
            "filter -A INPUT -m comment --comment \"made by taskcreds network\" -j TASKCREDS-INPUT",
            "nat :PREROUTING",
        ]);
        let expected = "iptables-restore --noflush --wait 10 <<'END'\n*filter\n\
                        -D INPUT -m comment --comment \"made by taskcreds network\" -j TASKCREDS-INPUT\n\
                        -F TASKCREDS-INPUT\n-X TASKCREDS-INPUT\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n*raw\nCOMMIT\nEND\n";
        assert_eq!(texts(&seen.remove()), expected);
        let foreign = Saved { family: Family::V6, lines: vec!["nat -A TASKCREDS-OUTPUT -j ACCEPT".to_owned()] };
        let refused = foreign.refuse_foreign().unwrap_err().message;
        assert!(refused.contains("`ip6tables -t nat -F TASKCREDS-OUTPUT`"), "{refused}");
    }
}
