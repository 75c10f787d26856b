//! The cases: what a client is put into, and what has to come of it.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clients::{Client, Knows, Reply};
use crate::front::{Front, Mode};
use crate::world::{Answered, Setup, Surroundings, World};

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const LINK_LOCAL: &str = "169.254.170.2:80";
/// Whoever takes longer to give up hangs.
const GIVES_UP: Duration = Duration::from_secs(120);

/// What has come of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Whether it is as it has to be.
    pub verdict: Verdict,
    /// Figures, or what has happened instead.
    pub text: String,
}

/// Whether a case has come out as it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It has.
    Good,
    /// It has not, because of how the client is made.
    Client,
    /// It has not.
    Bad,
}

/// One case.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What happens in it, for the table.
    pub title: &'static str,
    /// The table that it is in.
    pub group: &'static str,
    run: fn(&Surroundings, &'static Client) -> io::Result<Result<String, String>>,
}

impl Case {
    /// Runs it with a client.
    #[must_use]
    pub fn run(&self, around: &Surroundings, client: &'static Client) -> Cell {
        let metadata = around.metadata_requests.load(Ordering::SeqCst);
        let mut outcome =
            (self.run)(around, client).unwrap_or_else(|error| Err(format!("the case cannot run: {error}")));
        let asked = around.metadata_requests.load(Ordering::SeqCst) - metadata;
        if self.group != ERRORS && asked > 0 && outcome.is_ok() {
            outcome = Err(format!("asked the instance metadata service {asked} times"));
        }
        match (outcome, limit(client, self.name)) {
            // They are enough if the session is there by then.
            (Ok(text), None | Some(FEW_TRIES)) => Cell { verdict: Verdict::Good, text },
            (Ok(text), Some(why)) => Cell { verdict: Verdict::Bad, text: format!("works ({text}), and not: {why}") },
            (Err(_), Some(why)) => Cell { verdict: Verdict::Client, text: why.to_owned() },
            (Err(text), None) => Cell { verdict: Verdict::Bad, text },
        }
    }
}

/// Whether that is enough depends on the moment.
pub const FEW_TRIES: &str = "may give up before";

/// What a client does not do, as it is made.
fn limit(client: &Client, case: &str) -> Option<&'static str> {
    match (client.name, client.knows, case) {
        (_, Knows::Relative, "token" | "token-file" | "v1" | "ipv6" | "localhost" | "link-local") => {
            Some("knows the relative URI alone")
        }
        (_, Knows::FullWithTokenFile, "token" | "v1" | "ipv6" | "localhost" | "link-local") => {
            Some("a full URI needs a token file")
        }
        ("js2" | "minio-py", _, "ipv6" | "link-local")
        | ("awscli2", _, "ipv6")
        | ("minio-go" | "rclone" | "restic", _, "link-local") => Some("refuses this host"),
        ("awscli2" | "rclone" | "restic", _, "token-file") => Some("older than token files"),
        ("minio-go" | "async-aws" | "gdal" | "rclone" | "restic" | "ruby", _, "cold-0.8" | "cold-1.5" | "cold-3")
        | ("async-aws", _, "503" | "503-retry-after" | "429") => Some(FEW_TRIES),
        ("minio-go", _, "503" | "503-retry-after") => Some("asks once"),
        ("rust" | "java1" | "java2" | "minio-go" | "minio-py" | "s3fs", _, "429") => {
            Some("takes it for “no credentials”")
        }
        _ => None,
    }
}

const WAYS: &str = "Ways to the endpoint";
const TIME: &str = "Time";
const ONCE: &str = "One bad answer, then a good one";
const ERRORS: &str = "Errors";

/// All cases, in the order of the tables.
pub const CASES: [Case; 26] = [
    Case {
        name: "relative",
        title: "`RELATIVE_URI`, no token",
        group: WAYS,
        run: |a, c| way(a, c, LINK_LOCAL, false, |w| vec![(RELATIVE, w.v2())]),
    },
    Case {
        name: "relative-v1",
        title: "`RELATIVE_URI`, v1",
        group: WAYS,
        run: |a, c| way(a, c, LINK_LOCAL, false, |w| vec![(RELATIVE, w.v1())]),
    },
    Case {
        name: "token",
        title: "`FULL_URI` 127.0.0.1, token",
        group: WAYS,
        run: |a, c| way(a, c, "127.0.0.1:0", true, |w| full(w, "127.0.0.1", &w.v2(), true)),
    },
    Case { name: "token-file", title: "token file", group: WAYS, run: token_file },
    Case {
        name: "v1",
        title: "v1, token",
        group: WAYS,
        run: |a, c| way(a, c, "127.0.0.1:0", true, |w| full(w, "127.0.0.1", &w.v1(), true)),
    },
    Case {
        name: "ipv6",
        title: "[::1], token",
        group: WAYS,
        run: |a, c| way(a, c, "[::1]:0", true, |w| full(w, "[::1]", &w.v2(), true)),
    },
    Case {
        name: "localhost",
        title: "localhost, token",
        group: WAYS,
        run: |a, c| way(a, c, "127.0.0.1:0", true, |w| full(w, "localhost", &w.v2(), true)),
    },
    Case {
        name: "link-local",
        title: "`FULL_URI` 169.254.170.2",
        group: WAYS,
        run: |a, c| way(a, c, LINK_LOCAL, false, |w| full(w, "169.254.170.2", &w.v2(), false)),
    },
    Case { name: "cold-0.8", title: "STS takes 0.8 s at the start", group: TIME, run: |a, c| cold(a, c, 800) },
    Case { name: "cold-1.5", title: "1.5 s", group: TIME, run: |a, c| cold(a, c, 1500) },
    Case { name: "cold-3", title: "3 s", group: TIME, run: |a, c| cold(a, c, 3000) },
    Case { name: "rotation", title: "a new session amid 4 calls, 4 min left", group: TIME, run: rotation },
    Case { name: "restart", title: "the proxy starts anew amid 4 calls, 4 min left", group: TIME, run: restart },
    Case { name: "left-60", title: "asks for 3 calls, 60 min left", group: TIME, run: |a, c| left(a, c, 3600) },
    Case { name: "left-15", title: "15 min", group: TIME, run: |a, c| left(a, c, 900) },
    Case { name: "left-12", title: "12 min", group: TIME, run: |a, c| left(a, c, 720) },
    Case { name: "left-5", title: "5 min", group: TIME, run: |a, c| left(a, c, 300) },
    Case { name: "503", title: "503", group: ONCE, run: |a, c| once(a, c, "503 Service Unavailable", "") },
    Case {
        name: "503-retry-after",
        title: "503, `Retry-After: 1`",
        group: ONCE,
        run: |a, c| once(a, c, "503 Service Unavailable", "retry-after: 1\r\n"),
    },
    Case {
        name: "429",
        title: "429, which the proxy never answers",
        group: ONCE,
        run: |a, c| once(a, c, "429 Too Many Requests", ""),
    },
    Case { name: "unknown-id", title: "400, unknown id", group: ERRORS, run: unknown_id },
    Case { name: "wrong-token", title: "401, wrong token", group: ERRORS, run: wrong_token },
    Case { name: "guard", title: "403, `X-Forwarded-For` on the way", group: ERRORS, run: guard },
    Case { name: "denied", title: "403, STS refuses the role", group: ERRORS, run: denied },
    Case { name: "no-path", title: "404", group: ERRORS, run: no_path },
    Case { name: "sts-silent", title: "503, STS is silent", group: ERRORS, run: sts_silent },
];

type Variables = Vec<(&'static str, String)>;

/// The way that the client knows best: where the proxy listens for it, and its variables.
fn base(client: &Client, setup: Setup) -> Setup {
    match client.knows {
        Knows::Both => setup,
        Knows::Relative | Knows::FullWithTokenFile => Setup { listen: LINK_LOCAL, ..setup },
    }
}

fn uri(client: &Client, world: &World<'_>, path: &str) -> Variables {
    match client.knows {
        Knows::Both => full(world, "127.0.0.1", path, false),
        Knows::Relative | Knows::FullWithTokenFile => vec![(RELATIVE, path.to_owned())],
    }
}

fn full(world: &World<'_>, host: &str, path: &str, token: bool) -> Variables {
    let mut all = vec![(FULL, format!("http://{host}:{}{path}", world.address.port()))];
    all.extend(token.then(|| (TOKEN, world.token.clone())));
    all
}

fn seconds(reply: &Reply) -> String {
    format!("{:.1} s", reply.took.as_secs_f64())
}

fn statuses(answers: &[Answered]) -> String {
    answers.iter().map(|answer| answer.status.to_string()).collect::<Vec<_>>().join(" ")
}

/// One call has to do.
fn way(
    around: &Surroundings,
    client: &'static Client,
    listen: &'static str,
    token: bool,
    variables: fn(&World<'_>) -> Variables,
) -> io::Result<Result<String, String>> {
    let world = World::new(around, Setup { listen, token, ..Setup::default() })?;
    one_call(&world, client, &variables(&world))
}

fn one_call(world: &World<'_>, client: &'static Client, variables: &Variables) -> io::Result<Result<String, String>> {
    let reply = world.client(client, variables)?.ask(world);
    let answers = world.answers()?;
    Ok(match reply.outcome {
        Ok(_) if answers.iter().any(|answer| answer.status != 200) => Err(format!("answers: {}", statuses(&answers))),
        Ok(_) if answers.is_empty() => Err("has not asked".to_owned()),
        Ok(_) => Ok(String::new()),
        Err(error) => Err(format!("{error}; answers: {}", statuses(&answers))),
    })
}

fn token_file(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    let world = World::new(around, Setup { token: true, ..Setup::default() })?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, &world.token)?;
    let mut variables = full(&world, "127.0.0.1", &world.v2(), false);
    variables.push((TOKEN_FILE, file.display().to_string()));
    one_call(&world, client, &variables)
}

/// A call while the first session is on its way.
fn cold(around: &Surroundings, client: &'static Client, milliseconds: u64) -> io::Result<Result<String, String>> {
    let world = World::new(
        around,
        base(client, Setup { sts: Mode::Slow(Duration::from_millis(milliseconds)), ..Setup::default() }),
    )?;
    let reply = world.client(client, &uri(client, &world, &world.v2()))?.ask(&world);
    let answers = world.answers()?;
    Ok(match reply.outcome {
        Ok(_) => Ok(format!("{}, {}", ordinal(answers.len()), seconds(&reply))),
        Err(error) => Err(format!("{error}; answers: {}", statuses(&answers))),
    })
}

fn ordinal(number: usize) -> String {
    match number {
        1 => "1st".to_owned(),
        2 => "2nd".to_owned(),
        3 => "3rd".to_owned(),
        _ => format!("{number}th"),
    }
}

/// Four calls and something in their middle; the session is short enough for most clients to ask again.
fn amid(
    around: &Surroundings,
    client: &'static Client,
    happens: impl FnOnce(&mut World<'_>) -> io::Result<()>,
) -> io::Result<Result<String, String>> {
    let mut world = World::new(around, base(client, Setup { left: 240, ..Setup::default() }))?;
    let variables = uri(client, &world, &world.v2());
    let mut replies = Vec::new();
    let mut asking = world.client(client, &variables)?;
    for _ in 0..2 {
        replies.push(asking.ask(&world));
    }
    happens(&mut world)?;
    for _ in 0..2 {
        replies.push(asking.ask(&world));
    }
    let failed = replies.iter().position(|reply| reply.outcome.is_err());
    if let Some(number) = failed
        && let Some(Err(error)) = replies.get(number).map(|reply| &reply.outcome)
    {
        return Ok(Err(format!("call {}: {error}", number + 1)));
    }
    let keys: std::collections::BTreeSet<_> =
        world.answers()?.into_iter().map(|answer| answer.key).filter(|key| !key.is_empty()).collect();
    Ok(Ok(if keys.len() == 1 { "1 session".to_owned() } else { format!("{} sessions", keys.len()) }))
}

fn rotation(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    amid(around, client, |world| world.rotate())
}

fn restart(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    amid(around, client, |world| world.restart())
}

/// How often a client asks for three calls.
fn left(around: &Surroundings, client: &'static Client, left: u32) -> io::Result<Result<String, String>> {
    let world = World::new(around, base(client, Setup { left, ..Setup::default() }))?;
    let mut asking = world.client(client, &uri(client, &world, &world.v2()))?;
    for _ in 0..3 {
        if let Err(error) = asking.ask(&world).outcome {
            return Ok(Err(error));
        }
    }
    Ok(Ok(format!("{}×", world.answers()?.len())))
}

/// A bad answer first.
fn once(
    around: &Surroundings,
    client: &'static Client,
    status: &str,
    headers: &str,
) -> io::Result<Result<String, String>> {
    let world = World::new(around, Setup::default())?;
    let front = world.before_proxy(client, "")?;
    front.answer_once(status, headers);
    let reply = world.client(client, &through(client, &world, &front))?.ask(&world);
    Ok(match reply.outcome {
        Ok(_) if front.left() == 0 => Ok(seconds(&reply)),
        Ok(_) => Err("has not asked".to_owned()),
        Err(error) => Err(error),
    })
}

fn through(client: &Client, world: &World<'_>, front: &Front) -> Variables {
    match client.knows {
        Knows::Both => vec![(FULL, format!("http://{}{}", front.address, world.v2()))],
        Knows::Relative | Knows::FullWithTokenFile => vec![(RELATIVE, world.v2())],
    }
}

/// A proxy on the way that says so.
fn guard(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    let world = World::new(around, Setup::default())?;
    let front = world.before_proxy(client, "X-Forwarded-For: 127.0.0.1\r\n")?;
    refused(&world, client, &through(client, &world, &front), 403, "NO_PROXY")
}

/// A client that gets nothing.
fn error(
    around: &Surroundings,
    client: &'static Client,
    setup: Setup,
    (status, message): (u64, &str),
    variables: impl FnOnce(&World<'_>) -> Variables,
) -> io::Result<Result<String, String>> {
    let world = World::new(around, base(client, setup))?;
    let variables = variables(&world);
    refused(&world, client, &variables, status, message)
}

/// It gives up in time; whether it tells its user why is for the table.
fn refused(
    world: &World<'_>,
    client: &'static Client,
    variables: &Variables,
    status: u64,
    message: &str,
) -> io::Result<Result<String, String>> {
    let reply = world.client(client, variables)?.ask(world);
    let answers = world.answers()?;
    Ok(match &reply.outcome {
        Ok(_) => Err("has got credentials".to_owned()),
        Err(error) if reply.took > GIVES_UP => Err(format!("{error} after {}", seconds(&reply))),
        Err(error) if answers.is_empty() => Err(format!("has not asked: {error}")),
        Err(_) if answers.iter().any(|answer| answer.status != status) => {
            Err(format!("answers: {}", statuses(&answers)))
        }
        Err(error) => {
            let told = if error.contains(message) { ", told" } else { "" };
            Ok(format!("{}×, {}{told}", answers.len(), seconds(&reply)))
        }
    })
}

fn unknown_id(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    let path = "/v2/credentials/00000000-0000-0000-0000-000000000000";
    error(around, client, Setup::default(), (400, "Credentials not found"), |world| uri(client, world, path))
}

fn wrong_token(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    // Some send no token at all with the relative URI.
    let setup = Setup { token: true, always: true, ..Setup::default() };
    error(around, client, setup, (401, "the token is not this task's"), |world| {
        let mut variables = uri(client, world, &world.v2());
        variables.push((TOKEN, "somebody-elses-token".to_owned()));
        variables
    })
}

fn denied(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    let setup = Setup { denied: true, ..Setup::default() };
    error(around, client, setup, (403, "AccessDenied"), |world| uri(client, world, &world.v2()))
}

fn no_path(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    error(around, client, Setup::default(), (404, "/v2/credentials/ID"), |world| uri(client, world, "/credentials"))
}

fn sts_silent(around: &Surroundings, client: &'static Client) -> io::Result<Result<String, String>> {
    let setup = Setup { sts: Mode::Silent, ..Setup::default() };
    error(around, client, setup, (503, "Credentials uninitialized"), |world| uri(client, world, &world.v2()))
}
