//! Bad input: a clear error, and nothing is half-applied.

use super::*;

#[test]
fn what_cannot_be_done_is_told_and_changes_nothing() {
    let Some(world) = World::unless("bad input") else { return };
    let cases = [
        ("", "up --bridge nobody0", 69, "there is no interface nobody0"),
        ("", "up", 69, "there is no interface docker0"),
        ("", "up --netns gone", 69, "there is no network namespace /run/netns/gone"),
        ("", "up --netns /etc/passwd", 69, "/etc/passwd is no network namespace"),
        ("", "up --netns /proc/self/ns/net", 64, "this machine's own network namespace"),
        ("", "up --bridge lo", 64, "must be the name of a bridge"),
        ("", "up --bridge a;b", 64, "must be the name of a bridge"),
        ("", "up --mode awsvpc", 64, "needs the task's namespace"),
        ("", "up --mode host --bridge br0", 64, "not among the modes"),
        ("", "up --backend ipfw", 64, "must be nft, iptables or auto"),
        ("", "up --port 80 --bridge br0", 64, "--nat"),
        ("", "down --netns web", 0, ""),
        (
            "nft add table inet taskcreds && nft add chain inet taskcreds mine",
            "up --bridge br0",
            69,
            "`nft delete table inet taskcreds`",
        ),
        (
            "iptables -N TASKCREDS-INPUT && iptables -A TASKCREDS-INPUT -j ACCEPT",
            "up --bridge br0 --backend iptables",
            69,
            "`iptables -t filter -F TASKCREDS-INPUT`",
        ),
        (
            "ip6tables -t nat -N TASKCREDS-OUTPUT && ip6tables -t nat -A TASKCREDS-OUTPUT -j ACCEPT",
            "up --bridge br0 --backend iptables",
            69,
            "`ip6tables -t nat -F TASKCREDS-OUTPUT`",
        ),
    ];
    for (before, arguments, code, message) in cases {
        if !before.is_empty() {
            world.sh(before);
        }
        let there = world.sh("nft -s list ruleset; ip -o address show dev lo");
        let ended = world.run(arguments);
        assert_eq!(ended.code(), code, "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{arguments}: {}", ended.stderr);
        assert_eq!(world.sh("nft -s list ruleset; ip -o address show dev lo"), there, "{arguments}");
        assert!(!world.state().exists(), "{arguments}");
        // `down` takes nothing of somebody else's.
        world.done("down");
        assert_eq!(world.sh("nft -s list ruleset; ip -o address show dev lo"), there, "{arguments}");
        world.sh("nft flush ruleset");
    }
    let status = world.run("status");
    assert_eq!(status.code(), 1);
    assert!(status.stderr.contains("nothing is set up"), "{}", status.stderr);
}

/// The rules are put there first; what fails after them undoes them.
#[test]
fn what_fails_half_way_is_undone() {
    let Some(world) = World::unless("undoing") else { return };
    let (one, two) = (world.one.name(), world.two.name());
    world.two.ip("link add taskcreds0 type bridge").unwrap();
    let there = || world.sh("nft -s list ruleset; ip -o address show dev lo; ip route; ip -o link | cut -d: -f2");
    for backend in BACKENDS {
        let before = there();
        let ended = world.run(&format!("up --netns {one} --netns {two} --backend {backend}"));
        assert_eq!(ended.code(), 70, "{}", ended.stderr);
        assert!(
            ended.stderr.contains("`ip link add taskcreds-") && ended.stderr.contains("File exists"),
            "{}",
            ended.stderr
        );
        // Empty chains of iptables' own stay.
        let after = there();
        assert!(!after.contains("askcreds") && !after.contains("TASKCREDS"), "{after}");
        assert!(backend == "iptables" || after == before, "{after}");
        assert!(!world.state().exists());
        assert!(!sh(&world.one, "ip -o link").contains("taskcreds0"));
    }
    // An interface of the name of ours that is not ours.
    world.sh("nft flush ruleset; ip link add taskcreds-2 type bridge");
    assert_eq!(world.run(&format!("up --netns {one}")).code(), 70);
    world.sh("ip link del taskcreds-2");
    // What was set up before is as it was.
    world.sh("nft flush ruleset");
    world.done("up --bridge br0 --nat");
    let (before, state) = (there(), std::fs::read(world.state()).unwrap());
    assert_eq!(world.run(&format!("up --netns {two}")).code(), 70);
    assert_eq!(there(), before);
    assert_eq!(std::fs::read(world.state()).unwrap(), state);
    assert_eq!(world.run("status").code(), 0);
}

#[test]
fn a_namespace_that_has_gone_is_named_and_in_nobodys_way() {
    let Some(world) = World::unless("a gone namespace") else { return };
    let gone = Netns::bare().unwrap();
    let file = gone.file();
    world.done(&format!("up --netns {file}"));
    drop(gone);
    let status = world.run("status");
    assert_eq!(status.code(), 1);
    assert!(
        status.stdout.contains(&format!("MISSING  interface taskcreds-2, a pair with taskcreds0 in {file}")),
        "{}",
        status.stdout
    );
    let check = world.command("check", "--network").run();
    assert!(check.stdout.contains(&format!("taskcreds network down --netns {file}")), "{}", check.stdout);
    let up = world.run(&format!("up --netns {}", world.one.name()));
    assert_eq!(up.code(), 0, "{}", up.stderr);
    assert!(up.stderr.contains("has gone and is left out"), "{}", up.stderr);
    assert_eq!(world.run("status").code(), 0);
    world.done("down");
}

/// As the path of a process leads to another one's namespace when its number is used again.
#[test]
fn another_namespace_at_the_path_of_one_that_has_gone_gets_nothing() {
    let Some(world) = World::unless("a namespace in the place of another one") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("task");
    std::os::unix::fs::symlink(world.one.file(), &path).unwrap();
    world.done(&format!("up --netns {}", path.display()));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(world.two.file(), &path).unwrap();
    let before = world.two.command("ip").args(["-o", "link"]).output().unwrap().stdout;
    let up = world.run("up --bridge br0");
    assert_eq!(up.code(), 0, "{}", up.stderr);
    assert!(up.stderr.contains("has gone and is left out"), "{}", up.stderr);
    assert_eq!(world.two.command("ip").args(["-o", "link"]).output().unwrap().stdout, before);
    world.done("down");
}

#[test]
fn without_privilege_or_without_a_firewall_it_says_so() {
    let Some(world) = World::unless("no root, no nft") else { return };
    for arguments in ["up --bridge br0", "down", "--state /dev/null/x up"] {
        let ended = rig::taskcreds("network").args(arguments).env("TMPDIR", "/tmp").user(65_534, 65_534).run();
        assert_eq!(ended.code(), 77, "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains("CAP_NET_ADMIN"), "{}", ended.stderr);
    }
    let printed =
        rig::taskcreds("network").args("up --mode host --print").env("TMPDIR", "/tmp").user(65_534, 65_534).run();
    assert_eq!(printed.code(), 0, "{}", printed.stderr);
    assert!(printed.stdout.contains("# as if no rules were there yet"), "{}", printed.stdout);
    // `ip netns exec` has mounts of its own.
    let hide = |programs: &str| {
        let start = rig::taskcreds("network").args("up --bridge br0");
        let start = start.env("TASKCREDS_NETWORK_STATE", world.state());
        let mut shell = world.host.command("sh");
        let script = format!(
            "for it in {programs}; do mount --bind /dev/null $(readlink -f $(command -v $it)); done; exec \"$@\""
        );
        shell.args(["-euc", &script, "sh"]).arg(rig::binary());
        start.under(shell).run()
    };
    let neither = hide("nft iptables-restore");
    assert_eq!(neither.code(), 69, "{}", neither.stderr);
    assert!(neither.stderr.contains("neither nft nor iptables-restore is there"), "{}", neither.stderr);
    assert_eq!(world.sh("nft list ruleset"), "");
    let iptables = hide("nft");
    assert_eq!(iptables.code(), 0, "{}", iptables.stderr);
    assert!(world.sh("iptables -S").contains("TASKCREDS-INPUT"));
    world.done("down");
}

/// As the unit has it, and as `serve` may have it.
#[test]
fn cap_net_admin_is_all_that_it_needs() {
    let Some(world) = World::unless("CAP_NET_ADMIN alone") else { return };
    let as_root = "setpriv --bounding-set=-all,+net_admin --inh-caps=-all --no-new-privs";
    let as_a_user = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+net_admin --ambient-caps=+net_admin --no-new-privs";
    for (backend, privilege) in BACKENDS.iter().flat_map(|backend| [(backend, as_root), (backend, as_a_user)]) {
        let folder = tempfile::tempdir().unwrap();
        if privilege == as_a_user {
            std::os::unix::fs::chown(folder.path(), Some(65_534), Some(65_534)).unwrap();
        }
        let run = |arguments: &str| {
            let mut words = privilege.split(' ');
            let mut outer = world.host.command(words.next().unwrap());
            outer.args(words).arg(rig::binary());
            let start = rig::taskcreds("network").args(arguments).env("TMPDIR", "/tmp");
            let ended = start.env("TASKCREDS_NETWORK_STATE", folder.path().join("state.json")).under(outer).run();
            assert_eq!(ended.code(), 0, "{privilege}, {arguments}: {}", ended.stderr);
        };
        run(&format!("up --bridge br0 --nat --ipv6 --backend {backend}"));
        run("status");
        all(privilege, &[("one", &world.one, IMDS[0], NOBODY)]);
        run("down");
        all(privilege, &[("one", &world.one, IMDS[0], METADATA)]);
    }
}

#[test]
fn a_state_file_that_others_may_write_is_not_read() {
    let Some(world) = World::unless("the state file") else { return };
    use std::os::unix::fs::PermissionsExt;
    world.done("up --bridge br0");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&world.state()), mode(world.state().parent().unwrap())), (0o600, 0o700));
    std::fs::set_permissions(world.state().parent().unwrap(), PermissionsExt::from_mode(0o777)).unwrap();
    let ended = world.run("down");
    assert_eq!(ended.code(), 69);
    assert!(ended.stderr.contains("chmod go-w"), "{}", ended.stderr);
    std::fs::set_permissions(world.state().parent().unwrap(), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(world.state(), "{").unwrap();
    assert_eq!(world.run("down").code(), 69);
}
