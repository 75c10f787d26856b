//! Where there is no systemd: nothing is passed and nothing is kept.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::sockets::Sockets;
use crate::config::KeepSessions;
use crate::failure::{Exit, Failure};

/// Nothing is passed.
#[derive(Debug, Default)]
#[expect(clippy::manual_non_exhaustive, reason = "it has the fields of the one that is passed something")]
pub struct Inherited {
    /// Sockets that listen already.
    pub sockets: Sockets,
    pub(super) memories: (),
}

impl Inherited {
    /// Nothing.
    ///
    /// # Errors
    /// None.
    pub fn take(_: &HashMap<String, String>) -> Result<Self, Failure> {
        Ok(Self::default())
    }
}

/// There is none.
pub(super) enum ServiceManager {}

impl ServiceManager {
    pub(super) fn of(_: &HashMap<String, String>) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn ready(&self) {
        match *self {}
    }

    pub(super) fn stopping(&self) {
        match *self {}
    }
}

/// Bytes with secrets in them.
type Bytes = io::Result<Zeroizing<Vec<u8>>>;

/// Nothing is ever found.
pub(super) struct Found {
    pub(super) bytes: Bytes,
}

/// Where the sessions are kept.
pub(super) enum Place {
    Nowhere,
}

impl Place {
    /// Nowhere.
    ///
    /// # Errors
    /// A file in memory is asked for.
    pub(super) fn open(
        keep: KeepSessions,
        _: Option<&Arc<ServiceManager>>,
        _: &HashMap<String, String>,
        (): (),
    ) -> Result<(Self, Vec<Found>, Leftover), Failure> {
        if keep == KeepSessions::RuntimeDir {
            let message = "[state] sessions = \"runtime-dir\" needs tmpfs, which only Linux has";
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok((Self::Nowhere, Vec::new(), Leftover))
    }

    pub(super) fn chosen(&mut self, _: Option<&Found>, _: &[Found], _: &mut Leftover) {}

    pub(super) fn has_it(&self) -> bool {
        true
    }

    pub(super) fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    #[cfg(unix)]
    pub(super) fn clear(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Nothing is ever left over.
pub(super) struct Leftover;

impl Leftover {
    pub(super) fn remove(self) {}
}
