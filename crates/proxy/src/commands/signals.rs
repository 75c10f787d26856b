//! Signals: when the program is asked to stop, and what `exec` passes on to its command.
//!
//! Every command listens before it makes anything that would be left behind, and before it says that it is there.

use std::process::ExitCode;

/// The exit status after an end by this signal, as shells have it: 128 + N.
pub(super) fn ended_by(signal: Option<i32>) -> ExitCode {
    signal.and_then(|signal| u8::try_from(128 + signal).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What a signal asks of a service.
pub(super) enum Request {
    /// To read its configuration again.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    Reload,
    /// To stop.
    Stop,
}

#[cfg(unix)]
pub(super) use unix::Signals;
#[cfg(not(unix))]
pub(super) use windows::Signals;

#[cfg(unix)]
mod unix {
    use std::process::ExitCode;

    use rustix::process::{Pid, Signal, kill_process};
    use tokio::process::Child;
    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    use super::Request;
    use crate::failure::Failure;

    /// Every signal that would end this process and can be passed on.
    pub(in super::super) struct Signals {
        int: Stream,
        quit: Stream,
        term: Stream,
        hangup: Stream,
        usr1: Stream,
        usr2: Stream,
    }

    /// A signal that has come.
    pub(in super::super) struct Received(Signal);

    impl Signals {
        /// From now on they no longer end this process.
        pub(in super::super) fn listen() -> Result<Self, Failure> {
            let listen = |kind| signal(kind).map_err(|error| Failure::software("cannot listen for signals", error));
            Ok(Self {
                int: listen(SignalKind::interrupt())?,
                quit: listen(SignalKind::quit())?,
                term: listen(SignalKind::terminate())?,
                hangup: listen(SignalKind::hangup())?,
                usr1: listen(SignalKind::user_defined1())?,
                usr2: listen(SignalKind::user_defined2())?,
            })
        }

        /// Waits until one comes that asks to stop: SIGTERM, SIGINT, SIGQUIT, or SIGHUP, which a closed terminal sends.
        pub(in super::super) async fn asked_to_stop(&mut self) {
            while matches!(self.next().await.0, Signal::USR1 | Signal::USR2) {}
        }

        /// Waits for a request to a service: SIGHUP asks to reload, SIGTERM, SIGINT and SIGQUIT to stop.
        pub(in super::super) async fn request(&mut self) -> Request {
            loop {
                match self.next().await.0 {
                    Signal::HUP => return Request::Reload,
                    Signal::USR1 | Signal::USR2 => {}
                    _ => return Request::Stop,
                }
            }
        }

        /// The next one.
        pub(in super::super) async fn next(&mut self) -> Received {
            Received(tokio::select! {
                _ = self.int.recv() => Signal::INT,
                _ = self.quit.recv() => Signal::QUIT,
                _ = self.term.recv() => Signal::TERM,
                _ = self.hangup.recv() => Signal::HUP,
                _ = self.usr1.recv() => Signal::USR1,
                _ = self.usr2.recv() => Signal::USR2,
            })
        }
    }

    impl Received {
        /// Sends it to the child as well, unless the child has it already: a terminal sends Ctrl-C and Ctrl-\ to the whole
        /// foreground group.
        pub(in super::super) fn pass_on(&self, child: &Child) {
            if matches!(self.0, Signal::INT | Signal::QUIT) && in_foreground() {
                return;
            }
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid
                && let Err(error) = kill_process(pid, self.0)
            {
                tracing::warn!(%error, "a signal could not be passed on");
            }
        }

        /// The exit status when it ends this process before there is a child.
        pub(in super::super) fn exit_code(&self) -> ExitCode {
            super::ended_by(Some(self.0.as_raw()))
        }
    }

    /// Whether this process is in the foreground group of a terminal.
    fn in_foreground() -> bool {
        rustix::termios::tcgetpgrp(std::io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
    }
}

#[cfg(not(unix))]
mod windows {
    use std::process::ExitCode;

    use tokio::process::Child;

    use super::Request;
    use crate::failure::Failure;

    /// Ctrl-C, which the console sends to the command too.
    pub(in super::super) struct Signals;

    /// A Ctrl-C that has come.
    pub(in super::super) struct Received;

    impl Signals {
        /// From now on it no longer ends this process.
        pub(in super::super) fn listen() -> Result<Self, Failure> {
            Ok(Self)
        }

        /// Waits for one.
        pub(in super::super) async fn asked_to_stop(&mut self) {
            self.next().await;
        }

        /// Waits for one, which asks to stop.
        pub(in super::super) async fn request(&mut self) -> Request {
            self.next().await;
            Request::Stop
        }

        /// The next one.
        pub(in super::super) async fn next(&mut self) -> Received {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Received
        }
    }

    impl Received {
        /// The command has it already; what it makes of it decides.
        pub(in super::super) fn pass_on(&self, _: &Child) {}

        /// The exit status when it ends this process before there is a child.
        pub(in super::super) fn exit_code(&self) -> ExitCode {
            ExitCode::FAILURE
        }
    }
}
