//! README.md and docs/ are code: each block of a shell, each file and each JSON document in them is run, checked or parsed.
//!
//! A comment above a block says how: `run: exec` runs to its end and succeeds; `run: serve` listens and ends well when asked;
//! `run: exec, beside serve` is the former while the last of the latter runs; `run: ci` stands in .ci/run, which runs it;
//! `run: netns` runs in a namespace of its own with a bridge docker0, `run: netns, serve` listens there until the next one, and
//! `run: netns, in a container` runs in that of a container on the bridge, whose name takes the place of `web`;
//! `by hand: REASON` is not run here, and the reason stands in the page;
//! `file: NAME` is written where the later blocks of the page run. A block without such a comment is a fault, except JSON.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use crate::network::World;
use crate::rig::{PORT_51679, Process, Start, shell};
use crate::sts::Sts;
use crate::{python, skip};

struct Block {
    line: usize,
    language: String,
    directive: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The fenced blocks of a page and the comment above each.
fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut open, mut directive) = (Vec::new(), None::<Block>, String::new());
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let (language, directive) = (language.to_owned(), std::mem::take(&mut directive));
                open = Some(Block { line: number + 1, language, directive, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {
                let comment = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->"));
                directive = comment.unwrap_or_default().to_owned();
            }
        }
    }
    blocks
}

#[test]
fn every_block_of_the_readme_and_the_docs_does_what_it_says() {
    let Some(venv) = skip::unless("the blocks of the docs", python::venv()) else { return };
    let _port = PORT_51679.lock().unwrap_or_else(PoisonError::into_inner);
    let free = std::net::TcpListener::bind("127.0.0.1:51679").map_err(|error| format!("127.0.0.1:51679: {error}"));
    let Some(()) = skip::unless("the blocks of the docs", free.map(drop)) else { return };
    let sts = Sts::new();
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.chain([root().join("README.md"), root().join("CONTRIBUTING.md")]);
    let mut ran = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let folder = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(&page).unwrap();
        let mut server = None;
        let mut machine = Machine::default();
        for block in blocks(&text) {
            let place = format!("{}:{}", page.file_name().unwrap().display(), block.line);
            let start = |script: &str| start(script, folder.path(), &venv, &sts);
            match (block.language.as_str(), block.directive.as_str()) {
                ("sh", "run: ci") => {
                    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
                    assert!(ci.contains(block.text.trim()), "{place}: .ci/run does not run {}", block.text);
                }
                ("sh", directive) if directive.starts_with("by hand: ") => continue,
                ("sh", "run: exec") => succeeds(&place, &block.text, start(&block.text)),
                ("sh", "run: serve") => {
                    listens_and_ends(&place, start(&block.text));
                    server = Some(block.text);
                }
                ("sh", "run: exec, beside serve") => {
                    let server = start(server.as_deref().unwrap_or_else(|| panic!("{place}: beside what?"))).spawn();
                    server.says("listening on ");
                    // A task has no credentials but those that it gets.
                    let without = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, String::new()));
                    succeeds(&place, &block.text, start(&block.text).envs(without));
                    assert_eq!(server.end().code(), 0, "{place}");
                }
                ("sh", directive) if directive.starts_with("run: netns") => {
                    let Some(()) = machine.run(&place, directive, &block.text, start) else { continue };
                }
                ("json", "") => drop(serde_json::from_str::<serde_json::Value>(&block.text).unwrap()),
                (_, directive) => {
                    let name = directive.strip_prefix("file: ").unwrap_or_else(|| panic!("{place}: how is this run?"));
                    write_private(&folder.path().join(name), &block.text);
                }
            }
            ran += 1;
        }
    }
    assert!(ran >= 10, "only {ran} blocks were found");
}

/// A machine with containers, for a page that needs one.
#[derive(Default)]
struct Machine {
    world: Option<World>,
    server: Option<Process>,
}

impl Machine {
    /// Runs a block; `None` after the reason was said why it cannot be run.
    fn run(&mut self, place: &str, directive: &str, text: &str, start: impl Fn(&str) -> Start) -> Option<()> {
        if self.world.is_none() {
            self.world = skip::unless(place, World::with_bridge("docker0"));
        }
        let world = self.world.as_ref()?;
        let text = text.replace("--netns web", &format!("--netns {}", world.one.name()));
        let start = start(&text).env("TASKCREDS_NETWORK_STATE", world.state());
        match directive {
            "run: netns" => succeeds(place, &text, start.inside(&world.host)),
            "run: netns, in a container" => succeeds(place, &text, start.inside(&world.one)),
            "run: netns, serve" => {
                if let Some(server) = self.server.take() {
                    assert_eq!(server.end().code(), 0, "{place}");
                }
                let server = start.inside(&world.host).spawn();
                server.says("listening on ");
                self.server = Some(server);
            }
            _ => panic!("{place}: how is this run?"),
        }
        Some(())
    }
}

fn start(script: &str, folder: &Path, venv: &python::Venv, sts: &Sts) -> Start {
    let binary = Path::new(env!("CARGO_BIN_EXE_taskcreds")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap();
    let folders = [binary, venv.folder()].into_iter().chain(std::env::split_paths(&path));
    // `exec`, so that a signal to the shell reaches the program.
    let script = if script.lines().count() == 1 { format!("exec {script}") } else { script.to_owned() };
    let start = shell(&script, folder).env("PATH", std::env::join_paths(folders).unwrap());
    // What its user has configured: for Python the region is this variable.
    start.env("AWS_DEFAULT_REGION", "us-west-2").envs(sts.environment())
}

fn succeeds(place: &str, script: &str, start: Start) {
    let ended = start.run();
    assert_eq!(ended.code(), 0, "{place}: {}{}", ended.stdout, ended.stderr);
    let as_a_role = ended.stdout.contains(":assumed-role/");
    assert!(as_a_role || !script.contains("get-caller-identity"), "{place}: {}", ended.stdout);
}

fn listens_and_ends(place: &str, start: Start) {
    let process = start.spawn();
    process.says("listening on ");
    assert_eq!(process.end().code(), 0, "{place}");
}

fn write_private(file: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::File::options();
    options.write(true).create_new(true).mode(0o600).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}
