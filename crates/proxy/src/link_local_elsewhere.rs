//! Where the proxy cannot add 169.254.170.2 to an interface by itself.

use tokio::net::TcpListener;

use crate::failure::{Exit, Failure};

/// Nothing is ever added.
#[derive(Debug)]
pub(crate) enum Added {}

/// Does not listen.
///
/// # Errors
/// Always.
pub(crate) fn listen() -> Result<(TcpListener, Option<Added>), Failure> {
    let message = "--link-local (link_local in the file) is for Linux; on Windows the scripts of deploy/windows set the address up";
    Err(Failure::new(Exit::Usage, message))
}

/// Not told.
pub(crate) fn is_on_loopback() -> bool {
    false
}

/// Adds nothing.
///
/// # Errors
/// Always.
pub(crate) fn add() -> Result<Option<Added>, Failure> {
    listen().map(|(_, added)| added)
}
