//! The rules in nftables: one table of our own, `inet taskcreds`, put there and taken away in one transaction.
//!
//! What other tables drop stays dropped whatever ours accepts. So a chain of another's that sees what comes in for this machine, and that
//! may drop something, gets one rule of ours for each door, which carries our mark.

use std::fmt::Write;

use serde_json::Value;

use super::command::Call;
use super::plan::{ENDPOINT, ENDPOINT_V6, IMDS, IMDS_V6, PORT, Rules};
use super::rules::{Guarded, MARK, Missing};
use crate::failure::{Exit, Failure};

/// Before everything that could redirect: conntrack's own priority less than -200.
const EARLY: &str = "raw";
/// Before the chains of container engines, which redirect what is for a published port of any address of this machine.
const BEFORE_OTHERS: i32 = -110;

/// A chain of another's that sees what comes in for this machine.
#[derive(Debug, PartialEq, Eq)]
struct Input {
    /// `ip filter INPUT`
    name: String,
    family: String,
    /// The handles of our rules in it.
    ours: Vec<u64>,
    /// It may drop: its policy does, or it has rules.
    is_closed: bool,
}

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Our table, a line each.
    pub(super) own: Vec<String>,
    inputs: Vec<Input>,
}

impl Seen {
    /// Looks at our table and at the chains of others.
    ///
    /// # Errors
    /// A table of that name is not ours; or nft's own.
    pub(super) fn look() -> Result<Self, Failure> {
        let tables = Call::new("nft", "-j list tables").run()?;
        let is_there = items(&tables, "table")
            .iter()
            .any(|table| text(table, "name") == "taskcreds" && text(table, "family") == "inet");
        let own = match is_there {
            true => Call::new("nft", "-s list table inet taskcreds").run()?,
            false => String::new(),
        };
        if is_there && !own.contains(&format!("comment \"{MARK}\"")) {
            let why = "the nftables table `inet taskcreds` was not made by taskcreds: rename it, or remove it with `nft delete table inet taskcreds`";
            return Err(Failure::new(Exit::Unavailable, why));
        }
        let mut inputs = Vec::new();
        for chain in items(&Call::new("nft", "-j list chains").run()?, "chain") {
            let [family, table, name] = ["family", "table", "name"].map(|key| text(&chain, key).to_owned());
            let is_input = text(&chain, "hook") == "input" && ["ip", "ip6", "inet"].contains(&family.as_str());
            if !is_input || text(&chain, "type") != "filter" || table == "taskcreds" {
                continue;
            }
            let listed = Call::new("nft", &format!("-j -a list chain {family} {table} {name}")).run()?;
            let rules = items(&listed, "rule");
            let (ours, others): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| text(rule, "comment") == MARK);
            inputs.push(Input {
                name: format!("{family} {table} {name}"),
                family,
                ours: ours.iter().filter_map(|rule| rule.get("handle")?.as_u64()).collect(),
                is_closed: text(&chain, "policy") == "drop" || !others.is_empty(),
            });
        }
        Ok(Self { own: own.lines().map(str::to_owned).filter(|line| !line.trim().is_empty()).collect(), inputs })
    }

    /// Whether there is nothing of ours.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.inputs.iter().all(|input| input.ours.is_empty())
    }

    /// What is not as it was when it was put there.
    pub(super) fn missing(&self, rules: &Rules, listing: &[String]) -> Vec<Missing> {
        let mut missing = Vec::new();
        if self.own.is_empty() || self.own != listing {
            let what = match self.own.is_empty() {
                true => "the nftables table inet taskcreds",
                false => "rules of the nftables table inet taskcreds, which others have changed",
            };
            missing.push(Missing { what: what.to_owned(), guards: Guarded::ALL });
        }
        for input in &self.inputs {
            let wanted = if input.is_closed { admitted(rules, &input.family).len() } else { 0 };
            if input.ours.len() != wanted {
                let there = input.ours.len();
                let what = format!("what admits containers in the chain {} ({there} of {wanted} rules)", input.name);
                missing.push(Missing { what, guards: &[] });
            }
        }
        missing
    }

    /// The transaction that puts the rules there, in the place of what is there.
    pub(super) fn put(&self, rules: &Rules) -> String {
        let mut text = table(rules);
        self.take_out(&mut text);
        for input in self.inputs.iter().filter(|input| input.is_closed) {
            for rule in admitted(rules, &input.family) {
                let _ = writeln!(text, "insert rule {} {rule} accept comment \"{MARK}\"", input.name);
            }
        }
        text
    }

    /// The transaction that takes away what is ours.
    pub(super) fn remove(&self) -> String {
        let mut text = String::new();
        if !self.own.is_empty() {
            text += "delete table inet taskcreds\n";
        }
        self.take_out(&mut text);
        text
    }

    fn take_out(&self, text: &mut String) {
        for input in &self.inputs {
            for handle in &input.ours {
                let _ = writeln!(text, "delete rule {} handle {handle}", input.name);
            }
        }
    }
}

/// What runs a transaction.
pub(super) fn call(transaction: String) -> Call {
    Call::new("nft", "-f -").reading(transaction)
}

/// What has to be let in where others drop. Without sets or connection tracking: iptables must be able to read its own table after this.
fn admitted(rules: &Rules, family: &str) -> Vec<String> {
    let own = rules.own.then_some("lo");
    asked_by(rules.doors.iter().map(String::as_str).chain(own), rules, family)
}

/// What asks the endpoint by one of these interfaces, once it was redirected.
fn asked_by<'a>(doors: impl Iterator<Item = &'a str>, rules: &Rules, family: &str) -> Vec<String> {
    let doors: Vec<_> = doors.collect();
    let (v4, v6) = (family != "ip6", family != "ip" && rules.endpoint_v6);
    let (address, port) = rules.nat.map_or((ENDPOINT, PORT), |port| ("127.0.0.1", port));
    let of_v4 =
        doors.iter().filter(|_| v4).map(|door| format!("iifname \"{door}\" ip daddr {address} tcp dport {port}"));
    let of_v6 =
        doors.iter().filter(|_| v6).map(|door| format!("iifname \"{door}\" ip6 daddr {ENDPOINT_V6} tcp dport {PORT}"));
    of_v4.chain(of_v6).collect()
}

/// Our table, whole, whether there is one before or not.
fn table(rules: &Rules) -> String {
    let mut arriving = Vec::new();
    for door in &rules.no_imds {
        arriving.push(format!("iifname \"{door}\" ip daddr {IMDS} drop"));
        if rules.ipv6 {
            arriving.push(format!("iifname \"{door}\" ip6 daddr {IMDS_V6} drop"));
        }
    }
    for (family, address) in [("ip", ENDPOINT), ("ip6", ENDPOINT_V6)] {
        if family == "ip6" && !rules.endpoint_v6 {
            continue;
        }
        let allowed = |door| format!("iifname \"{door}\" {family} daddr {address} tcp dport {PORT} accept");
        arriving.extend(rules.doors.iter().map(allowed));
        arriving.push(format!("iifname != \"lo\" {family} daddr {address} drop"));
    }
    if rules.nat.is_some() {
        // Before any redirection nothing that comes from elsewhere is for loopback (CVE-2020-8558).
        arriving.push("iifname != \"lo\" ip daddr 127.0.0.0/8 drop".to_owned());
    }
    // What comes in by a pair is for the endpoint, or the neighbour discovery that it takes over IPv6 (ARP is of no family here). It is
    // looked at as it comes in and as it is delivered or forwarded, and either is enough.
    let (mut entering, mut passing) = (Vec::new(), Vec::new());
    for pair in &rules.pairs {
        let by = |what: &str| format!("iifname \"{pair}\" {what}");
        let refused = by("drop");
        let asked = asked_by(std::iter::once(pair.as_str()), rules, "inet").into_iter();
        entering.extend(asked.map(|asked| format!("{asked} accept")));
        if rules.endpoint_v6 {
            // A segment routing header leads on to any address of this machine, past every hook.
            for chain in [&mut arriving, &mut entering] {
                chain.insert(0, by("exthdr rt exists drop"));
                chain.push(by("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"));
            }
        }
        passing.extend([refused.clone(), format!("oifname \"{pair}\" drop")]);
        arriving.push(refused.clone());
        entering.push(refused);
    }
    // Without NAT the address is redirected to itself, which keeps it from being redirected by a later chain to the container that has
    // published port 80.
    let (turned, own) = match rules.nat {
        Some(port) => (format!("dnat ip to 127.0.0.1:{port}"), rules.own.then(|| format!("redirect to :{port}"))),
        None => (format!("dnat ip to {ENDPOINT}"), Some(format!("dnat ip to {ENDPOINT}"))),
    };
    let turning =
        rules.doors.iter().map(|door| format!("iifname \"{door}\" ip daddr {ENDPOINT} tcp dport {PORT} {turned}"));
    let mut turning: Vec<_> = turning.collect();
    let mut leaving: Vec<_> =
        own.iter().map(|verdict| format!("ip daddr {ENDPOINT} tcp dport {PORT} {verdict}")).collect();
    if rules.endpoint_v6 {
        let kept = format!("ip6 daddr {ENDPOINT_V6} tcp dport {PORT} dnat ip6 to {ENDPOINT_V6}");
        turning.extend(rules.doors.iter().map(|door| format!("iifname \"{door}\" {kept}")));
        leaving.push(kept);
    }
    let chains = [
        ("arriving", format!("type filter hook prerouting priority {EARLY}"), arriving),
        ("turning", format!("type nat hook prerouting priority {BEFORE_OTHERS}"), turning),
        ("entering", format!("type filter hook input priority {EARLY}"), entering),
        ("passing", format!("type filter hook forward priority {EARLY}"), passing),
        ("leaving", format!("type nat hook output priority {BEFORE_OTHERS}"), leaving),
    ];
    let mut text = format!(
        "add table inet taskcreds\ndelete table inet taskcreds\ntable inet taskcreds {{\n\tcomment \"{MARK}\"\n"
    );
    for (name, head, rules) in chains.into_iter().filter(|(.., rules)| !rules.is_empty()) {
        let _ = write!(text, "\n\tchain {name} {{\n\t\t{head}; policy accept;\n");
        for rule in rules {
            let _ = writeln!(text, "\t\t{rule}");
        }
        text += "\t}\n";
    }
    text + "}\n"
}

fn items(json: &str, kind: &str) -> Vec<Value> {
    let whole: Value = serde_json::from_str(json).unwrap_or_default();
    let items = whole.get("nftables").and_then(Value::as_array);
    items.into_iter().flatten().filter_map(|item| item.get(kind)).cloned().collect()
}

fn text<'a>(item: &'a Value, key: &str) -> &'a str {
    item.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let doors = vec!["docker0".to_owned()];
        Rules { no_imds: doors.clone(), doors, ipv6: true, ..Rules::default() }
    }

    #[test]
    fn the_table_without_nat() {
        let expected = r#"add table inet taskcreds
delete table inet taskcreds
table inet taskcreds {
	comment "made by taskcreds network"

	chain arriving {
		type filter hook prerouting priority raw; policy accept;
		iifname "docker0" ip daddr 169.254.169.254 drop
		iifname "docker0" ip6 daddr fd00:ec2::254 drop
		iifname "docker0" ip daddr 169.254.170.2 tcp dport 80 accept
		iifname != "lo" ip daddr 169.254.170.2 drop
	}

	chain turning {
		type nat hook prerouting priority -110; policy accept;
		iifname "docker0" ip daddr 169.254.170.2 tcp dport 80 dnat ip to 169.254.170.2
	}

	chain leaving {
		type nat hook output priority -110; policy accept;
		ip daddr 169.254.170.2 tcp dport 80 dnat ip to 169.254.170.2
	}
}
"#;
        assert_eq!(Seen::default().put(&rules()), expected);
    }

    #[test]
    fn the_table_with_nat_for_host_mode_alone() {
        let rules = Rules { own: true, nat: Some(51_679), ..Rules::default() };
        let expected = r#"add table inet taskcreds
delete table inet taskcreds
table inet taskcreds {
	comment "made by taskcreds network"

	chain arriving {
		type filter hook prerouting priority raw; policy accept;
		iifname != "lo" ip daddr 169.254.170.2 drop
		iifname != "lo" ip daddr 127.0.0.0/8 drop
	}

	chain leaving {
		type nat hook output priority -110; policy accept;
		ip daddr 169.254.170.2 tcp dport 80 redirect to :51679
	}
}
"#;
        assert_eq!(Seen::default().put(&rules), expected);
    }

    #[test]
    fn a_pair_leads_to_the_endpoint_alone() {
        let doors = vec!["docker0".to_owned(), "taskcreds-2".to_owned()];
        let pairs = vec!["taskcreds-2".to_owned()];
        let rules = Rules { doors, pairs, nat: Some(51_679), ipv6: true, endpoint_v6: true, ..Rules::default() };
        let text = Seen::default().put(&rules);
        let of = |chain: &str| {
            let (_, rest) = text.split_once(&format!("\tchain {chain} {{\n")).unwrap();
            let (rules, _) = rest.split_once("\t}\n").unwrap();
            let ours = rules.lines().filter(|line| line.contains("taskcreds-2"));
            ours.map(|line| line.trim().replace("ifname \"taskcreds-2\"", "") + "\n").collect::<String>()
        };
        let arriving = "i exthdr rt exists drop\n\
                        i ip daddr 169.254.170.2 tcp dport 80 accept\n\
                        i ip6 daddr fd00:ec2::23 tcp dport 80 accept\n\
                        i icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n\
                        i drop\n";
        assert_eq!(of("arriving"), arriving);
        let entering = "i exthdr rt exists drop\n\
                        i ip daddr 127.0.0.1 tcp dport 51679 accept\n\
                        i ip6 daddr fd00:ec2::23 tcp dport 80 accept\n\
                        i icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n\
                        i drop\n";
        assert_eq!(of("entering"), entering);
        assert_eq!(of("passing"), "i drop\no drop\n");
        assert!(!text.contains("\"docker0\" drop"), "{text}");
        // Where no IPv6 is offered there is nobody to be found by it.
        assert!(!Seen::default().put(&Rules { endpoint_v6: false, ..rules }).contains("icmpv6"));
    }

    #[test]
    fn what_others_may_drop_is_let_in_once_and_taken_out_again() {
        let input = |name: &str, family: &str, ours: &[u64], is_closed| Input {
            name: name.to_owned(),
            family: family.to_owned(),
            ours: ours.to_vec(),
            is_closed,
        };
        let inputs = vec![input("ip filter INPUT", "ip", &[4], true), input("inet open input", "inet", &[9], false)];
        let seen = Seen { own: vec!["table inet taskcreds {".to_owned()], inputs };
        let rules = Rules { nat: Some(51_679), ..rules() };
        let (_, tail) = seen.put(&rules).split_once("\n}\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let expected = "delete rule ip filter INPUT handle 4\n\
                        delete rule inet open input handle 9\n\
                        insert rule ip filter INPUT iifname \"docker0\" ip daddr 127.0.0.1 tcp dport 51679 accept comment \"made by taskcreds network\"\n";
        assert_eq!(tail, expected);
        let expected = "delete table inet taskcreds\n\
                        delete rule ip filter INPUT handle 4\n\
                        delete rule inet open input handle 9\n";
        assert_eq!(seen.remove(), expected);
        let missing = seen.missing(&rules, &seen.own);
        let missing: Vec<_> = missing.iter().map(|rule| (rule.what.as_str(), rule.guards.len())).collect();
        assert_eq!(missing, [("what admits containers in the chain inet open input (1 of 0 rules)", 0)]);
        let rules = Rules { nat: None, endpoint_v6: true, own: true, ..rules };
        assert_eq!(admitted(&rules, "inet").len(), 4);
        assert_eq!(
            admitted(&rules, "ip6"),
            [
                "iifname \"docker0\" ip6 daddr fd00:ec2::23 tcp dport 80",
                "iifname \"lo\" ip6 daddr fd00:ec2::23 tcp dport 80",
            ]
        );
    }
}
