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
    /// What the client's user reads of an error.
    pub reads: Option<String>,
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
    run: fn(&Surroundings, &'static Client) -> io::Result<Outcome>,
}

type Outcome = Result<Came, Failed>;

/// What has come of a case that came out as it has to.
struct Came {
    figures: String,
    /// What the client's user reads of an error.
    reads: Option<String>,
}

/// What has happened instead.
struct Failed {
    why: String,
    /// The statuses that the client was answered, where that tells how it is made.
    statuses: Option<Vec<u64>>,
}

impl Case {
    /// Runs it with a client.
    #[must_use]
    pub fn run(&self, around: &Surroundings, client: &'static Client) -> Cell {
        let before = around.metadata_requests.load(Ordering::SeqCst);
        let outcome = (self.run)(around, client);
        let asked = around.metadata_requests.load(Ordering::SeqCst) - before;
        let cell = |verdict, text: String| Cell { verdict, text, reads: None };
        let mut cell = match (outcome, limit(client, self.name)) {
            (Err(error), _) => cell(Verdict::Bad, format!("the case cannot run: {error}")),
            (Ok(Ok(Came { figures, reads })), limit) => match limit {
                Some(limit) if limit.why != FEW_TRIES => {
                    cell(Verdict::Bad, format!("works ({figures}), and not: {}", limit.why))
                }
                // They are enough if the session is there by then.
                _ => Cell { reads, ..cell(Verdict::Good, figures) },
            },
            (Ok(Err(failed)), Some(limit)) if limit.explains(&failed) => cell(Verdict::Client, limit.why.to_owned()),
            (Ok(Err(failed)), _) => cell(Verdict::Bad, failed.why),
        };
        if asked > 0 {
            if self.group != ERRORS && cell.verdict == Verdict::Good {
                cell.verdict = Verdict::Bad;
            }
            cell.text += ASKS_THE_INSTANCE;
        }
        cell
    }
}

/// Its own credentials are not to be had, and it takes the host's where it can.
pub const ASKS_THE_INSTANCE: &str = ", then asks the instance";
/// What the user reads has the reason that the proxy gave.
pub const TOLD: &str = ", told";
/// Whether that is enough depends on the moment.
pub const FEW_TRIES: &str = "may give up before";

/// What a client does not do, as it is made.
struct Limit {
    why: &'static str,
    /// The statuses that it is answered then: each of them, or none at all where it does not ask.
    answers: Option<u64>,
}

impl Limit {
    /// Whether this is what has happened, and no other fault.
    fn explains(&self, failed: &Failed) -> bool {
        let Some(statuses) = &failed.statuses else { return false };
        match self.answers {
            None => statuses.is_empty(),
            Some(status) => !statuses.is_empty() && statuses.iter().all(|other| *other == status),
        }
    }
}

fn limit(client: &Client, case: &str) -> Option<Limit> {
    let limit = |why, answers| Some(Limit { why, answers });
    match (client.name, client.knows, case) {
        (_, Knows::Relative, "token" | "token-file" | "v1" | "ipv6" | "localhost" | "link-local") => {
            limit("knows the relative URI alone", None)
        }
        (_, Knows::FullWithTokenFile, "token" | "v1" | "ipv6" | "localhost" | "link-local") => {
            limit("a full URI needs a token file", None)
        }
        ("js2" | "minio-py", _, "ipv6" | "link-local")
        | ("awscli2", _, "ipv6")
        | ("minio-go" | "rclone" | "restic", _, "link-local") => limit("refuses this host", None),
        ("awscli2" | "rclone" | "restic", _, "token-file") => limit("older than token files", Some(401)),
        ("minio-go" | "async-aws" | "gdal" | "rclone" | "restic" | "ruby", _, "cold-0.8" | "cold-1.5" | "cold-3")
        // Three or four tries with pauses by chance, which can end before 3 s.
        | ("rust" | "js2" | "kotlin" | "awscrt", _, "cold-3")
        | ("async-aws", _, "503" | "503-retry-after") => limit(FEW_TRIES, Some(503)),
        ("async-aws", _, "429") => limit(FEW_TRIES, Some(429)),
        ("minio-go", _, "503" | "503-retry-after") => limit("asks once", Some(503)),
        ("rust" | "java1" | "java2" | "minio-go" | "minio-py" | "s3fs", _, "429") => {
            limit("takes it for “no credentials”", Some(429))
        }
        _ => None,
    }
}

const WAYS: &str = "Ways to the endpoint";
const TIME: &str = "Time";
const ONCE: &str = "One bad answer, then a good one";
const ERRORS: &str = "Errors";

/// All cases, in the order of the tables.
pub const CASES: [Case; 27] = [
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
    Case { name: "beside-instance-role", title: "variables of an instance role as well", group: WAYS, run: beside },
    Case { name: "cold-0.8", title: "STS takes 0.8 s at the start", group: TIME, run: |a, c| cold(a, c, 800) },
    Case { name: "cold-1.5", title: "1.5 s", group: TIME, run: |a, c| cold(a, c, 1500) },
    Case { name: "cold-3", title: "3 s", group: TIME, run: |a, c| cold(a, c, 3000) },
    Case { name: "rotation", title: "a new session amid 4 calls, 4 min left", group: TIME, run: rotation },
    Case { name: "restart", title: "the proxy starts anew amid 4 calls, 4 min left", group: TIME, run: restart },
    Case { name: "left-60", title: "asks for 3 calls, 60 min left", group: TIME, run: |a, c| left(a, c, 3600) },
    Case { name: "left-15", title: "15 min", group: TIME, run: |a, c| left(a, c, 900) },
    Case { name: "left-12", title: "12 min", group: TIME, run: |a, c| left(a, c, 720) },
    Case { name: "left-5", title: "5 min", group: TIME, run: |a, c| left(a, c, 300) },
    Case { name: "503", title: "503", group: ONCE, run: |a, c| once(a, c, 503, "") },
    Case {
        name: "503-retry-after",
        title: "503, `Retry-After: 1`",
        group: ONCE,
        run: |a, c| once(a, c, 503, "retry-after: 1\r\n"),
    },
    Case { name: "429", title: "429, which the proxy never answers", group: ONCE, run: |a, c| once(a, c, 429, "") },
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

fn statuses(answers: &[Answered]) -> Vec<u64> {
    answers.iter().map(|answer| answer.status).collect()
}

fn came(figures: String) -> Came {
    Came { figures, reads: None }
}

fn failed(why: impl Into<String>) -> Failed {
    Failed { why: why.into(), statuses: None }
}

/// A call has failed, and these were the answers.
fn answered(why: &str, statuses: Vec<u64>) -> Failed {
    Failed { why: format!("{why}; answers: {statuses:?}"), statuses: Some(statuses) }
}

/// One call has to do.
fn way(
    around: &Surroundings,
    client: &'static Client,
    listen: &'static str,
    token: bool,
    variables: fn(&World<'_>) -> Variables,
) -> io::Result<Outcome> {
    let world = World::new(around, Setup { listen, token, ..Setup::default() })?;
    one_call(&world, client, &variables(&world))
}

fn one_call(world: &World<'_>, client: &'static Client, variables: &Variables) -> io::Result<Outcome> {
    let reply = world.client(client, variables)?.ask(world);
    let statuses = statuses(&world.answers()?);
    Ok(match reply.outcome {
        Ok(_) if statuses.is_empty() => Err(failed("has not asked")),
        Ok(_) if statuses.iter().any(|status| *status != 200) => Err(failed(format!("answers: {statuses:?}"))),
        Ok(_) => Ok(came(String::new())),
        Err(error) => Err(answered(&error, statuses)),
    })
}

fn token_file(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let world = World::new(around, Setup { token: true, ..Setup::default() })?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, &world.token)?;
    let mut variables = full(&world, "127.0.0.1", &world.v2(), false);
    variables.push((TOKEN_FILE, file.display().to_string()));
    one_call(&world, client, &variables)
}

/// What a host with an instance role has in its environment, which every container may inherit.
fn beside(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let world = World::new(around, base(client, Setup::default()))?;
    let mut variables = uri(client, &world, &world.v2());
    variables.extend(
        [
            ("AWS_EC2_METADATA_DISABLED", "false"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv4"),
            ("AWS_EC2_INSTANCE_PROFILE_NAME", "instance-role"),
            ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "2"),
            ("AWS_METADATA_SERVICE_TIMEOUT", "1"),
        ]
        .map(|(name, value)| (name, value.to_owned())),
    );
    one_call(&world, client, &variables)
}

/// A call whose first request has the task registered, and the first load begun.
fn cold(around: &Surroundings, client: &'static Client, milliseconds: u64) -> io::Result<Outcome> {
    let sts = Mode::Slow(Duration::from_millis(milliseconds));
    let world = World::new(around, Setup { sts, is_unregistered: true, ..Setup::default() })?;
    let front = world.before_proxy(client, "")?;
    world.registers_at_first(&front);
    let reply = world.client(client, &through(client, &world, &front))?.ask(&world);
    let answers = world.answers()?;
    Ok(match reply.outcome {
        Ok(_) => Ok(came(format!("{}, {}", ordinal(answers.len()), seconds(&reply)))),
        Err(error) => Err(answered(&error, statuses(&answers))),
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
) -> io::Result<Outcome> {
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
    let first_failed = replies.iter().position(|reply| reply.outcome.is_err());
    if let Some(number) = first_failed
        && let Some(Err(error)) = replies.get(number).map(|reply| &reply.outcome)
    {
        return Ok(Err(failed(format!("call {}: {error}", number + 1))));
    }
    let keys: std::collections::BTreeSet<_> =
        world.answers()?.into_iter().map(|answer| answer.key).filter(|key| !key.is_empty()).collect();
    Ok(match keys.len() {
        0 => Err(failed("no answer with a session is on record")),
        1 => Ok(came("1 session".to_owned())),
        more => Ok(came(format!("{more} sessions"))),
    })
}

fn rotation(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    amid(around, client, |world| world.rotate())
}

fn restart(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    amid(around, client, |world| world.restart())
}

/// How often a client asks for three calls.
fn left(around: &Surroundings, client: &'static Client, left: u32) -> io::Result<Outcome> {
    let world = World::new(around, base(client, Setup { left, ..Setup::default() }))?;
    let mut asking = world.client(client, &uri(client, &world, &world.v2()))?;
    for _ in 0..3 {
        if let Err(error) = asking.ask(&world).outcome {
            return Ok(Err(failed(error)));
        }
    }
    Ok(Ok(came(format!("{}×", world.answers()?.len()))))
}

/// A bad answer first.
fn once(around: &Surroundings, client: &'static Client, status: u16, headers: &str) -> io::Result<Outcome> {
    let world = World::new(around, Setup::default())?;
    let front = world.before_proxy(client, "")?;
    front.answer_once(status, headers);
    let reply = world.client(client, &through(client, &world, &front))?.ask(&world);
    let statuses = statuses(&world.answers()?);
    Ok(match reply.outcome {
        _ if !front.has_answered() => Err(failed("has not asked")),
        Ok(_) => Ok(came(seconds(&reply))),
        Err(error) => Err(answered(&error, [vec![status.into()], statuses].concat())),
    })
}

fn through(client: &Client, world: &World<'_>, front: &Front) -> Variables {
    match client.knows {
        Knows::Both => vec![(FULL, format!("http://{}{}", front.address, world.v2()))],
        Knows::Relative | Knows::FullWithTokenFile => vec![(RELATIVE, world.v2())],
    }
}

/// A proxy on the way that says so.
fn guard(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
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
) -> io::Result<Outcome> {
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
) -> io::Result<Outcome> {
    let reply = world.client(client, variables)?.ask(world);
    let statuses = statuses(&world.answers()?);
    Ok(match &reply.outcome {
        Ok(_) => Err(failed("has got credentials")),
        Err(error) if reply.took > GIVES_UP => Err(failed(format!("{error} after {}", seconds(&reply)))),
        Err(error) if statuses.is_empty() => Err(failed(format!("has not asked: {error}"))),
        Err(_) if statuses.iter().any(|other| *other != status) => Err(failed(format!("answers: {statuses:?}"))),
        Err(error) => {
            let told = if error.contains(message) { TOLD } else { "" };
            let figures = format!("{}×, {}{told}", statuses.len(), seconds(&reply));
            Ok(Came { figures, reads: Some(error.clone()) })
        }
    })
}

fn unknown_id(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let path = "/v2/credentials/00000000-0000-0000-0000-000000000000";
    error(around, client, Setup::default(), (400, "Credentials not found"), |world| uri(client, world, path))
}

fn wrong_token(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    // Some send no token at all with the relative URI.
    let setup = Setup { token: true, always: true, ..Setup::default() };
    error(around, client, setup, (401, "this task"), |world| {
        let mut variables = uri(client, world, &world.v2());
        variables.push((TOKEN, "somebody-elses-token".to_owned()));
        variables
    })
}

fn denied(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let setup = Setup { denied: true, ..Setup::default() };
    error(around, client, setup, (403, "AccessDenied"), |world| uri(client, world, &world.v2()))
}

fn no_path(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    error(around, client, Setup::default(), (404, "/v2/credentials/ID"), |world| uri(client, world, "/credentials"))
}

fn sts_silent(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let setup = Setup { sts: Mode::Silent, ..Setup::default() };
    error(around, client, setup, (503, "Credentials uninitialized"), |world| uri(client, world, &world.v2()))
}
