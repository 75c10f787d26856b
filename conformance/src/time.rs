//! What comes late, ends, or is answered badly once.

use std::io;
use std::time::{Duration, Instant};

use crate::cases::{Outcome, answered, came, failed, statuses};
use crate::clients::Client;
use crate::front::Mode;
use crate::ways::{base, through, uri};
use crate::world::{Setup, Surroundings, World};

/// Seconds that a session of a loop lasts: more than the proxy's floor (30 s), and else as short as can be, since some clients ask again
/// only when theirs is about to end.
const SHORT: u32 = 40;

/// A call whose first request has the task registered, and the first load begun.
pub(crate) fn cold(around: &Surroundings, client: &'static Client, milliseconds: u64) -> io::Result<Outcome> {
    let sts = Mode::Slow(Duration::from_millis(milliseconds));
    let world = World::new(around, Setup { sts, is_unregistered: true, ..Setup::default() })?;
    let front = world.before_proxy(client, "")?;
    world.registers_at_first(&front);
    let reply = world.client(client, &through(client, &world, &front))?.ask(&world);
    let answers = world.answers()?;
    Ok(match reply.outcome {
        Ok(_) => Ok(came(format!("{}, {}", ordinal(answers.len()), reply.seconds()))),
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

/// A loop of calls and something in its middle after which there is a new session. It goes on until a call was signed with that, and no
/// call may fail: the old one cannot carry it to its end, because STS and S3 refuse it once it has ended.
fn amid(
    around: &Surroundings,
    client: &'static Client,
    happens: impl FnOnce(&mut World<'_>) -> io::Result<()>,
) -> io::Result<Outcome> {
    let mut world = World::new(around, base(client, Setup { left: SHORT, ..Setup::default() }))?;
    let mut asking = world.client(client, &uri(client, &world, &world.v2()))?;
    for _ in 0..2 {
        if let Err(error) = asking.ask(&world).outcome {
            return Ok(Err(failed(format!("before a new session: {error}"))));
        }
    }
    let before = world.signed();
    happens(&mut world)?;
    let (begun, mut calls) = (Instant::now(), 0);
    while world.signed().is_subset(&before) {
        calls += 1;
        let reply = asking.ask(&world);
        if let Err(error) = reply.outcome {
            return Ok(Err(failed(format!("call {calls} beside a new session: {error}"))));
        }
        if begun.elapsed() > Duration::from_secs(2 * u64::from(SHORT)) {
            return Ok(Err(failed("a session that has ended was taken")));
        }
        std::thread::park_timeout(Duration::from_millis(500));
    }
    let figures = match (before.len(), calls) {
        (0, _) => return Ok(Err(failed("no signed call is on record"))),
        (_, 1) => "at the next call".to_owned(),
        _ => format!("after {} calls, {:.0} s", calls, begun.elapsed().as_secs_f64()),
    };
    Ok(Ok(came(figures)))
}

pub(crate) fn rotation(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    amid(around, client, |world| world.rotate())
}

pub(crate) fn restart(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    amid(around, client, |world| world.restart())
}

/// How often a client asks for three calls.
pub(crate) fn left(around: &Surroundings, client: &'static Client, most: u32) -> io::Result<Outcome> {
    // STS ends a session within a second after that.
    let left = most - 1;
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
pub(crate) fn once(around: &Surroundings, client: &'static Client, status: u16, headers: &str) -> io::Result<Outcome> {
    let world = World::new(around, Setup::default())?;
    let front = world.before_proxy(client, "")?;
    let (code, message) = match status {
        503 => ("CredentialsUninitialized", "CredentialsV2Request: Credentials uninitialized for ID: try again"),
        _ => ("TooManyRequests", "too many requests"),
    };
    front.answer(1, status, code, message, headers);
    let reply = world.client(client, &through(client, &world, &front))?.ask(&world);
    let statuses = statuses(&world.answers()?);
    Ok(match reply.outcome {
        _ if front.answered() == 0 => Err(failed("has not asked")),
        Ok(_) => Ok(came(reply.seconds())),
        Err(error) => Err(answered(&error, [vec![status.into()], statuses].concat())),
    })
}
