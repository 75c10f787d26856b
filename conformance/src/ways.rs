//! The ways in which a client is led to the endpoint.

use std::io;

use crate::cases::{Outcome, answered, came, failed, statuses};
use crate::clients::{Client, Knows};
use crate::front::Front;
use crate::world::{Setup, Surroundings, World};

pub(crate) const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
pub(crate) const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
pub(crate) const LINK_LOCAL: &str = "169.254.170.2:80";

pub(crate) type Variables = Vec<(&'static str, String)>;

/// The way that the client knows best: where the proxy listens for it, and its variables.
pub(crate) fn base(client: &Client, setup: Setup) -> Setup {
    match client.knows {
        Knows::Both => setup,
        Knows::Relative | Knows::FullWithTokenFile => Setup { listen: LINK_LOCAL, ..setup },
    }
}

pub(crate) fn uri(client: &Client, world: &World<'_>, path: &str) -> Variables {
    match client.knows {
        Knows::Both => full(world, "127.0.0.1", path, false),
        Knows::Relative | Knows::FullWithTokenFile => vec![(RELATIVE, path.to_owned())],
    }
}

pub(crate) fn full(world: &World<'_>, host: &str, path: &str, token: bool) -> Variables {
    let mut all = vec![(FULL, format!("http://{host}:{}{path}", world.address.port()))];
    all.extend(token.then(|| (TOKEN, world.token.clone())));
    all
}

/// The same where something stands before the proxy.
pub(crate) fn through(client: &Client, world: &World<'_>, front: &Front) -> Variables {
    match client.knows {
        Knows::Both => vec![(FULL, format!("http://{}{}", front.address, world.v2()))],
        Knows::Relative | Knows::FullWithTokenFile => vec![(RELATIVE, world.v2())],
    }
}

/// One call has to do.
pub(crate) fn way(
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

pub(crate) fn token_file(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
    let world = World::new(around, Setup { token: true, ..Setup::default() })?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, &world.token)?;
    let mut variables = full(&world, "127.0.0.1", &world.v2(), false);
    variables.push((TOKEN_FILE, file.display().to_string()));
    one_call(&world, client, &variables)
}

/// What a host with an instance role has in its environment, which every container may inherit.
pub(crate) fn beside(around: &Surroundings, client: &'static Client) -> io::Result<Outcome> {
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
