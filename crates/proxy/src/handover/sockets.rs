//! Sockets that listened before this process began, and will when it has ended: no connection is refused in between.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::failure::Failure;

/// Listening sockets that were passed, by what they are for.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(super) endpoint: Vec<(SocketAddr, TcpListener)>,
    pub(super) operations: Option<(SocketAddr, TcpListener)>,
    /// The admin socket; it takes the place of `[admin] socket`.
    #[cfg(unix)]
    pub admin: Option<std::os::unix::net::UnixListener>,
}

/// A listener and its address.
type Bound = (SocketAddr, tokio::net::TcpListener);

impl Sockets {
    /// Those of the credentials endpoint; they take the place of `listen`. `None` when none was passed.
    ///
    /// # Errors
    /// The system's.
    pub fn take_endpoint(&mut self) -> Result<Option<Vec<Bound>>, Failure> {
        let passed: Vec<_> = std::mem::take(&mut self.endpoint).into_iter().map(adopt).collect::<Result<_, _>>()?;
        Ok(if passed.is_empty() { None } else { Some(passed) })
    }

    /// That of the operations endpoint; it takes the place of `operations_listen`.
    ///
    /// # Errors
    /// The system's.
    pub fn take_operations(&mut self) -> Result<Option<Bound>, Failure> {
        self.operations.take().map(adopt).transpose()
    }
}

/// Makes a socket that somebody else has bound what [`crate::http::bind`] would have made of it.
fn adopt((address, listener): (SocketAddr, TcpListener)) -> Result<Bound, Failure> {
    let adopted = || -> io::Result<_> {
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    let adopted = adopted().map_err(|error| Failure::software("cannot use a socket that was passed", error))?;
    tracing::info!(%address, "a listening socket was passed, which takes the place of a configured one");
    Ok((address, adopted))
}
