//! The file of a task's namespace, however it is named.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

impl World {
    /// The same as [`run`](World::run), from this folder and with a path to a namespace at the end.
    fn run_from(&self, folder: &str, arguments: &str, path: impl AsRef<Path>) -> Ended {
        let mut shell = self.host.command("sh");
        shell.args(["-euc", "cd \"$0\"; exec \"$@\"", folder]).arg(rig::binary());
        let start = rig::taskcreds("network").args(arguments).arg(path.as_ref());
        start.env("TASKCREDS_NETWORK_STATE", self.state()).under(shell).run()
    }
}

#[test]
fn a_namespace_is_the_same_from_wherever_and_by_whichever_path_it_is_named() {
    let Some(world) = World::unless("paths of a namespace") else { return };
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("task");
    symlink(world.one.file(), &link).unwrap();
    let name = world.one.name();
    let ways = [format!("./{name}"), format!("../netns/{name}"), format!("/var/run/netns/{name}"), name.to_owned()];
    let ways: Vec<_> = ways.iter().map(Path::new).chain([link.as_path()]).collect();
    let ups = || world.sh("ip -o link").matches(": taskcreds-").count();
    for (up, down) in ways.iter().zip(ways.iter().rev()) {
        let what = format!("{} and {}", up.display(), down.display());
        assert_eq!(world.run_from("/run/netns", "up --netns", up).code(), 0, "{what}");
        // A watch or a reload has another folder.
        let other = world.run_from("/", "up --mode", "host");
        assert_eq!((other.code(), other.stderr.contains("has gone")), (0, false), "{what}: {}", other.stderr);
        let again = world.run_from("/run/netns", "up --netns", down);
        assert_eq!((again.code(), ups()), (0, 1), "{what}: {}", again.stderr);
        let ended = world.run_from("/run/netns", "down --netns", down);
        assert_eq!((ended.code(), ups()), (0, 0), "{what}: {}", ended.stderr);
    }
    // One that has gone.
    let gone = Netns::bare().unwrap();
    world.done(&format!("up --netns {}", gone.file()));
    let name = gone.name().to_owned();
    drop(gone);
    let ended = world.run_from("/", "down --netns", format!("var/run/netns/{name}"));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

/// `/proc/PID/root` looks like a link to `/` and leads into another mount namespace.
#[test]
fn a_path_through_the_root_of_a_process_is_one_of_its_own_mounts() {
    let Some(world) = World::unless("paths in another mount namespace") else { return };
    let (one, two) = (world.one.file(), world.two.file());
    // There the file of one is that of two.
    let mut mounts = std::process::Command::new("unshare");
    mounts.args(["--mount", "sh", "-euc", "mount --bind \"$0\" \"$1\"; echo ready; exec sleep 60", &two, &one]);
    let mut mounts = mounts.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    mounts.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let ended = world.run_from("/", "up --netns", format!("/proc/{}/root{one}", mounts.id()));
    mounts.kill().unwrap();
    mounts.wait().unwrap();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let has_pair = |netns| sh(netns, "ip -o link").contains("taskcreds0");
    assert_eq!((has_pair(&world.one), has_pair(&world.two)), (false, true));
}

#[test]
fn a_path_with_spaces_is_one_word_for_programs_and_for_whoever_pastes_a_command() {
    let Some(world) = World::unless("a path with spaces") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's my task");
    symlink(world.one.file(), &path).unwrap();
    let ended = world.run_from("/", "up --ipv6 --netns", &path);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(world.run("status").code(), 0);
    // What mends it, pasted.
    let check = || world.command("check", "--network").run().stdout;
    let paste = |said: &str| {
        let lines: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("  taskcreds network ")).collect();
        assert!(!lines.is_empty(), "{said}");
        let program = format!("TASKCREDS_NETWORK_STATE={} {}", world.state().display(), rig::binary().display());
        lines.iter().for_each(|line| drop(world.sh(&format!("{program} network {line}"))));
    };
    world.sh("ip link del taskcreds-2");
    paste(&check());
    assert_eq!(world.run("status").code(), 0);
    std::fs::remove_file(&path).unwrap();
    paste(&check());
    assert!(!world.run("status").stdout.contains("my task"));
    world.done("down");
    // What is printed is a script that does it.
    symlink(world.one.file(), &path).unwrap();
    let printed = world.run_from("/", "up --print --ipv6 --netns", &path);
    assert_eq!(printed.code(), 0, "{}", printed.stderr);
    world.sh(&printed.stdout);
    assert!(sh(&world.one, "ip -o address").contains("169.254.176.2"));
}
