use super::*;

const V6: Facts = Facts { ipv6: true, absent: BTreeSet::new() };
const V4: Facts = Facts { ipv6: false, absent: BTreeSet::new() };

fn text(plan: &Plan) -> String {
    plan.pieces.iter().map(|piece| format!("{piece}\n")).collect()
}

fn bridges(names: &[&str]) -> Wanted {
    Wanted { bridges: names.iter().map(|name| (*name).to_owned()).collect(), block_imds: true, ..Wanted::default() }
}

#[test]
fn bridge_mode_is_an_address_and_rules_and_nothing_else() {
    let plan = Plan::new(&bridges(&["docker0", "br-web"]), &V6);
    assert_eq!(text(&plan), "address 169.254.170.2/32 on lo\n");
    assert_eq!(plan.rules.doors, ["br-web", "docker0"]);
    assert_eq!(plan.rules.no_imds, plan.rules.doors);
    assert_eq!(plan.notes, [""; 0]);
    let plan = Plan::new(&Wanted { block_imds: false, ipv6: true, ..bridges(&["docker0"]) }, &V6);
    assert_eq!(text(&plan), "address 169.254.170.2/32 on lo\naddress fd00:ec2::23/128 on lo\n");
    assert_eq!(plan.rules.no_imds, [""; 0]);
}

#[test]
fn nat_sets_route_localnet_on_the_bridges_alone() {
    let plan = Plan::new(&Wanted { nat: Some(51_679), ..bridges(&["docker0", "br.1"]) }, &V6);
    let expected = "address 169.254.170.2/32 on lo\nsysctl net.ipv4.conf.br/1.route_localnet=1\n\
                    sysctl net.ipv4.conf.docker0.route_localnet=1\n";
    assert_eq!(text(&plan), expected);
    let facts = Facts { absent: BTreeSet::from(["docker0".to_owned()]), ..V6 };
    let plan = Plan::new(&Wanted { nat: Some(51_679), ..bridges(&["docker0"]) }, &facts);
    assert_eq!(
        (text(&plan).as_str(), plan.rules.doors),
        ("address 169.254.170.2/32 on lo\n", vec!["docker0".to_owned()])
    );
}

#[test]
fn a_task_in_a_namespace_gets_a_pair_and_no_instance_metadata() {
    let path = PathBuf::from("/run/netns/web");
    let mut wanted = Wanted { ipv6: true, ..Wanted::default() };
    wanted.namespaces.insert(path, Namespace { number: 258, block_imds: true, identity: None });
    let plan = Plan::new(&wanted, &V6);
    let expected = "address 169.254.170.2/32 on lo\n\
                    address fd00:ec2::23/128 on lo\n\
                    interface taskcreds-258, a pair with taskcreds0 in /run/netns/web\n\
                    address 169.254.177.2/32 on taskcreds0 in /run/netns/web\n\
                    route 169.254.177.2/32 dev taskcreds-258\n\
                    route 169.254.170.2/32 dev taskcreds0 src 169.254.177.2 in /run/netns/web\n\
                    address fe80::1/64 on taskcreds-258\n\
                    address fe80::2/64 on taskcreds0 in /run/netns/web\n\
                    route fd00:ec2::23/128 via fe80::1 dev taskcreds0 in /run/netns/web\n\
                    route 169.254.169.254/32 unreachable in /run/netns/web\n\
                    route fd00:ec2::254/128 unreachable in /run/netns/web\n";
    assert_eq!(text(&plan), expected);
    assert_eq!((&plan.rules.doors, &plan.rules.pairs), (&vec!["taskcreds-258".to_owned()], &plan.rules.doors));
    let bridge = Plan::new(&bridges(&["docker0"]), &V6).rules;
    assert_eq!(bridge.pairs, [""; 0]);
    assert_eq!(bridge.guarding(plan.pieces.iter()).pairs, plan.rules.pairs);
    let plan = Plan::new(&wanted, &V4);
    assert!(!text(&plan).contains("fd00") && !plan.rules.endpoint_v6, "{}", text(&plan));
}

#[test]
fn host_and_shared_mode_say_what_they_cannot_do() {
    let plan = Plan::new(&Wanted { host: true, shared: Some(false), ..Wanted::default() }, &V6);
    assert_eq!(text(&plan), "address 169.254.170.2/32 on lo\n");
    assert!(plan.rules.own && plan.rules.doors.is_empty());
    assert_eq!(plan.notes.len(), 2);
    let plan = Plan::new(&Wanted { shared: Some(true), ..Wanted::default() }, &V4);
    assert_eq!(text(&plan), "address 169.254.170.2/32 on lo\nroute 169.254.169.254/32 unreachable\n");
}

#[test]
fn numbers_are_used_again_and_run_out() {
    let mut wanted = Wanted::default();
    let mut number = 0;
    while let Some(free) = wanted.free_number() {
        assert!(free > number && device(free).len() <= 15);
        number = free;
        wanted
            .namespaces
            .insert(PathBuf::from(free.to_string()), Namespace { number, block_imds: true, identity: None });
    }
    assert_eq!(number, LAST_NUMBER);
    wanted.namespaces.remove(Path::new("7"));
    assert_eq!(wanted.free_number(), Some(7));
}
