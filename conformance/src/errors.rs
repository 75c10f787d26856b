//! What the endpoint refuses, and what becomes of it at the client and at its user.

use std::io;
use std::time::Duration;

use crate::cases::{Came, Outcome, failed, statuses};
use crate::clients::{Client, Reply};
use crate::front::Mode;
use crate::ways::{TOKEN, Variables, base, through, uri};
use crate::world::{Setup, Surroundings, World};

/// Whoever takes longer to give up hangs.
const GIVES_UP: Duration = Duration::from_secs(120);
/// How much of what a user reads there is room for, in characters; of more, what it begins with and the proxy's reason.
const LONGEST: usize = 240;
const BEGINNING: usize = 80;

/// A client that gets nothing.
fn error(
    around: &Surroundings,
    client: &'static Client,
    setup: Setup,
    expected: (u64, &str),
    variables: impl FnOnce(&World<'_>) -> Variables,
) -> io::Result<Outcome> {
    let world = World::new(around, base(client, setup))?;
    let reply = world.client(client, &variables(&world))?.ask(&world);
    Ok(refused(&world, &reply, &statuses(&world.answers()?), expected))
}

/// It gives up in time; whether it tells its user why is for the table.
fn refused(world: &World<'_>, reply: &Reply, statuses: &[u64], (status, message): (u64, &str)) -> Outcome {
    let took = reply.seconds();
    match &reply.outcome {
        Ok(_) => Err(failed("has got credentials")),
        Err(error) if reply.took > GIVES_UP => Err(failed(format!("{error} after {took}"))),
        Err(error) if statuses.is_empty() => Err(failed(format!("has not asked: {error}"))),
        Err(_) if statuses.iter().any(|other| *other != status) => Err(failed(format!("answers: {statuses:?}"))),
        Err(error) => {
            let told = if error.contains(message) { "told" } else { "" };
            let asked = format!("{}×", statuses.len());
            // Whoever asks again after a 5xx may do so for a time, not for a number.
            let (text, figures) = match (status, told) {
                (500.., _) => (told.to_owned(), format!("{asked}, {took}")),
                (_, "") => (asked, took),
                _ => (format!("{asked}, {told}"), took),
            };
            Ok(Came { text, figures, reads: Some(shown(&world.without_secrets(error), message)) })
        }
    }
}

/// In one line, what another run has different as `…`.
fn shown(text: &str, message: &str) -> String {
    let words = text.split_whitespace().map(|word| if is_changing(word) { "…" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    let cut = |text: &str, length: usize| match text.char_indices().nth(length) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default().trim_end()),
        None => text.to_owned(),
    };
    match text.find(message) {
        Some(start) if text.chars().count() > LONGEST && start > BEGINNING => {
            // Where the user reads the whole JSON, the reason is in it twice.
            let reason = text.get(start..).unwrap_or_default().split('"').next().unwrap_or_default();
            format!("{} {}", cut(&text, BEGINNING), cut(reason, LONGEST - BEGINNING))
        }
        _ => cut(&text, LONGEST),
    }
}

fn is_changing(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let is_time = word.starts_with(|first: char| first.is_ascii_digit())
        && (word.ends_with("ms") || word.chars().filter(|sign| matches!(sign, ':' | '/')).count() == 2);
    is_time || word.contains("/tmp/") || word.contains("127.0.0.1:") || (word.len() >= 12 && digits * 3 >= word.len())
}

pub(crate) fn no_id(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let expected = (400, "CredentialsV2Request: No Credential ID");
    error(around, client, Setup::default(), expected, |world| uri(client, world, "/v2/credentials/"))
}

pub(crate) fn unknown_id(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let path = "/v2/credentials/00000000-0000-0000-0000-000000000000";
    let expected = (400, "CredentialsV2Request: Credentials not found");
    error(around, client, Setup::default(), expected, |world| uri(client, world, path))
}

pub(crate) fn path(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let expected = (400, "the path is not in its canonical form");
    error(around, client, Setup::default(), expected, |world| uri(client, world, &format!("{}/", world.v2())))
}

pub(crate) fn wrong_token(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    // Some send no token at all with the relative URI, and are told that this task demands one.
    let setup = Setup { token: true, always: true, ..Setup::default() };
    error(around, client, setup, (401, "CredentialsV2Request: th"), |world| {
        let mut variables = uri(client, world, &world.v2());
        variables.push((TOKEN, "somebody-elses-token".to_owned()));
        variables
    })
}

/// A proxy on the way that says so.
pub(crate) fn guard(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let world = World::new(around, Setup::default())?;
    let front = world.before_proxy(client, "X-Forwarded-For: 127.0.0.1\r\n")?;
    let reply = world.client(client, &through(client, &world, &front))?.ask(&world);
    Ok(refused(&world, &reply, &statuses(&world.answers()?), (403, "x-forwarded-for is refused")))
}

pub(crate) fn denied(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let setup = Setup { denied: true, ..Setup::default() };
    error(around, client, setup, (403, "CredentialsV2Request: the role cannot be assumed"), |world| {
        uri(client, world, &world.v2())
    })
}

pub(crate) fn no_path(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    error(around, client, Setup::default(), (404, "credentials are at /v2/credentials/ID"), |world| {
        uri(client, world, "/credentials")
    })
}

/// A defect of the proxy, which nobody can cause: its answer comes from what stands before it.
pub(crate) fn internal(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let world = World::new(around, Setup::default())?;
    let front = world.before_proxy(client, "")?;
    front.answer(usize::MAX, 500, "InternalServerError", "request id 4b9a3c2e-7d11-4f7e-9a55-0c1d2e3f4a5b", "");
    let reply = world.client(client, &through(client, &world, &front))?.ask(&world);
    Ok(refused(&world, &reply, &vec![500; front.answered()], (500, "request id")))
}

pub(crate) fn sts_silent(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let setup = Setup { sts: Mode::Silent, ..Setup::default() };
    let expected = (503, "CredentialsV2Request: Credentials uninitialized");
    error(around, client, setup, expected, |world| uri(client, world, &world.v2()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_the_beginning_and_the_reason_are_shown_and_nothing_that_changes() {
        let json = r#"{"code":"C","message":"the reason, and what to do","Message":"the reason, and what to do"}"#;
        let text = format!("{} at 127.0.0.1:4711 in 9.8ms: {json}", "Error ".repeat(40));
        let begins = "Error ".repeat(13);
        assert_eq!(shown(&text, "the reason"), format!("{begins}Er … the reason, and what to do"));
        assert_eq!(shown("2026/11/25 05:44:16 no\ncredentials", "the reason"), "… … no credentials");
        assert_eq!(shown(&"x".repeat(300), "the reason"), format!("{} …", "x".repeat(LONGEST)));
    }
}
