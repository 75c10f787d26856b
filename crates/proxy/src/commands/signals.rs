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
    use signal_hook::iterator::backend::{Pending, SignalDelivery};
    use signal_hook::iterator::exfiltrator::WithOrigin;
    use signal_hook::low_level::siginfo::{Cause, Origin};
    use tokio::net::UnixStream;
    use tokio::process::Child;
    use tokio::signal::unix::{SignalKind, signal};

    use super::Request;
    use crate::failure::Failure;

    /// Those that would end this process and are a service's to hear.
    const OF_A_SERVICE: [Signal; 6] =
        [Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2];
    /// What else a parent may send to a command. Not the stops and SIGCONT, which job control sends to the whole group; not what the
    /// kernel sends for a fault of this process, and no real-time signal, which no safe code can send.
    const OF_A_COMMAND: [Signal; 8] = [
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::WINCH,
        Signal::URG,
        Signal::IO,
        Signal::XCPU,
        Signal::ABORT,
    ];
    #[cfg(target_os = "linux")]
    const OF_THIS_SYSTEM: [Signal; 2] = [Signal::POWER, Signal::STKFLT];
    #[cfg(not(target_os = "linux"))]
    const OF_THIS_SYSTEM: [Signal; 0] = [];

    /// The signals that come to this process, but for those that it was started to ignore, as by nohup: these stay ignored, here and in
    /// its command.
    pub(in super::super) struct Signals {
        delivery: SignalDelivery<UnixStream, WithOrigin>,
        /// What has come and was not asked for yet.
        pending: Pending<WithOrigin>,
    }

    /// A signal that has come.
    pub(in super::super) struct Received {
        signal: Signal,
        cause: Cause,
    }

    impl Signals {
        /// What a service hears: from now on it no longer ends this process.
        pub(in super::super) fn listen() -> Result<Self, Failure> {
            Self::listen_for(&OF_A_SERVICE)
        }

        /// Every signal that can be passed on to a command.
        pub(in super::super) fn listen_for_a_command() -> Result<Self, Failure> {
            Self::listen_for(&[&OF_A_SERVICE[..], &OF_A_COMMAND, &OF_THIS_SYSTEM].concat())
        }

        fn listen_for(signals: &[Signal]) -> Result<Self, Failure> {
            let failure = |error| Failure::software("cannot listen for signals", error);
            let ignored = Ignored::on_entry();
            let heard = signals.iter().filter(|signal| !ignored.has(**signal)).map(|signal| signal.as_raw());
            // A parent that ignores SIGCHLD has the kernel throw away the status of children, unless somebody listens.
            drop(signal(SignalKind::child()).map_err(failure)?);
            let (read, write) = std::os::unix::net::UnixStream::pair().map_err(failure)?;
            read.set_nonblocking(true).map_err(failure)?;
            let read = UnixStream::from_std(read).map_err(failure)?;
            let mut delivery = SignalDelivery::with_pipe(read, write, WithOrigin::default(), heard).map_err(failure)?;
            let pending = delivery.pending();
            Ok(Self { delivery, pending })
        }

        /// Waits until one comes that asks to stop: SIGTERM, SIGINT, SIGQUIT, or SIGHUP, which a closed terminal sends.
        pub(in super::super) async fn asked_to_stop(&mut self) {
            while matches!(self.next().await.signal, Signal::USR1 | Signal::USR2) {}
        }

        /// Waits for a request to a service: SIGHUP asks to reload, SIGTERM, SIGINT and SIGQUIT to stop.
        pub(in super::super) async fn request(&mut self) -> Request {
            // Under nohup too: it ends no service, so it is a request and nothing else.
            if let Err(error) = self.delivery.handle().add_signal(Signal::HUP.as_raw()) {
                tracing::warn!(%error, "SIGHUP does not reload");
            }
            loop {
                match self.next().await.signal {
                    Signal::HUP => return Request::Reload,
                    Signal::USR1 | Signal::USR2 => {}
                    _ => return Request::Stop,
                }
            }
        }

        /// The next one that would have ended this process.
        pub(in super::super) async fn end(&mut self) -> Received {
            loop {
                let received = self.next().await;
                if !matches!(received.signal, Signal::WINCH | Signal::URG) {
                    return received;
                }
            }
        }

        /// The next one.
        pub(in super::super) async fn next(&mut self) -> Received {
            loop {
                if let Some(Origin { signal, cause, .. }) = self.pending.next() {
                    if let Some(signal) = Signal::from_named_raw(signal) {
                        return Received { signal, cause };
                    }
                    continue;
                }
                let read = self.delivery.get_read();
                if read.readable().await.is_err() {
                    std::future::pending::<()>().await;
                }
                // Emptied before it is asked what has come: what comes meanwhile is written once more.
                while read.try_read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
                self.pending = self.delivery.pending();
            }
        }
    }

    impl Received {
        /// Sends it to the child as well, unless the child has it already.
        pub(in super::super) fn pass_on(&self, child: &Child) {
            if self.is_from_the_terminal() {
                return;
            }
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid
                && let Err(error) = kill_process(pid, self.signal)
            {
                tracing::warn!(%error, "a signal could not be passed on");
            }
        }

        /// The exit status when it ends this process and there is no child.
        pub(in super::super) fn exit_code(&self) -> ExitCode {
            super::ended_by(Some(self.signal.as_raw()))
        }

        /// Whether a terminal has sent it to the whole foreground group: Ctrl-C, Ctrl-\ and its new size. Linux tells that the kernel is
        /// the sender. SIGHUP is not among them: it goes to the leader of the session alone.
        fn is_from_the_terminal(&self) -> bool {
            let is_of_a_terminal = matches!(self.signal, Signal::INT | Signal::QUIT | Signal::WINCH);
            is_of_a_terminal && if cfg!(target_os = "linux") { self.cause == Cause::Kernel } else { in_foreground() }
        }
    }

    /// Whether this process is in the foreground group of its terminal, wherever standard input comes from.
    fn in_foreground() -> bool {
        let terminal = std::fs::File::open("/dev/tty").and_then(|tty| Ok(rustix::termios::tcgetpgrp(tty)?));
        terminal.is_ok_and(|group| group == rustix::process::getpgrp())
    }

    /// The signals that are ignored, a bit each; none where the system does not tell.
    struct Ignored(u64);

    impl Ignored {
        /// Those that this process was started with, while it has set no handler (proc_pid_status(5), `SigIgn`).
        fn on_entry() -> Self {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
            Self(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default())
        }

        fn has(&self, signal: Signal) -> bool {
            self.0 >> (signal.as_raw() - 1) & 1 == 1
        }
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

        /// The same.
        pub(in super::super) fn listen_for_a_command() -> Result<Self, Failure> {
            Self::listen()
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
        pub(in super::super) async fn end(&mut self) -> Received {
            self.next().await
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

        /// The exit status when it ends this process and there is no child.
        pub(in super::super) fn exit_code(&self) -> ExitCode {
            ExitCode::FAILURE
        }
    }
}
