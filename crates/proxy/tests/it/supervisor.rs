//! The test as a service manager: takes what a process tells and gives it to keep, and passes it to the next (sd_notify(3)).

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

use crate::rig::{Start, until};

/// One that listens until it is dropped.
pub(crate) struct Supervisor {
    folder: TempDir,
    kept: Arc<Mutex<Kept>>,
    is_over: Arc<AtomicBool>,
    listening: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Kept {
    messages: Vec<String>,
    descriptors: Vec<(String, OwnedFd)>,
}

impl Supervisor {
    /// One that keeps nothing yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (kept, is_over) = (Arc::new(Mutex::new(Kept::default())), Arc::new(AtomicBool::new(false)));
        let (keeping, over) = (Arc::clone(&kept), Arc::clone(&is_over));
        let listening = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if let Some((message, descriptor)) = receive(&socket) {
                    keeping.lock().unwrap().take(message, descriptor);
                }
            }
        });
        Self { folder, kept, is_over, listening: Some(listening) }
    }

    /// A process that this one supervises: it gets what is kept, and these.
    pub(crate) fn start(&self, start: Start, sockets: impl IntoIterator<Item = (String, OwnedFd)>) -> Start {
        let start = start.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        start.passing(sockets.into_iter().chain(self.kept()))
    }

    /// What it keeps.
    pub(crate) fn kept(&self) -> Vec<(String, OwnedFd)> {
        let kept = self.kept.lock().unwrap();
        kept.descriptors.iter().map(|(name, descriptor)| (name.clone(), descriptor.try_clone().unwrap())).collect()
    }

    /// The names under which it keeps something.
    pub(crate) fn names(&self) -> Vec<String> {
        self.kept().into_iter().map(|(name, _)| name).collect()
    }

    /// Puts something there.
    pub(crate) fn keep(&self, name: &str, descriptor: OwnedFd) {
        self.kept.lock().unwrap().descriptors.push((name.to_owned(), descriptor));
    }

    /// All that it was told until now, since this was asked last.
    pub(crate) fn told(&self) -> Vec<String> {
        const LAST: &str = "X_TEST=last";
        UnixDatagram::unbound().unwrap().send_to(LAST.as_bytes(), self.folder.path().join("notify")).unwrap();
        self.until_told(LAST);
        let mut told = std::mem::take(&mut self.kept.lock().unwrap().messages);
        told.retain(|message| message != LAST);
        told
    }

    /// Waits until it was told this.
    pub(crate) fn until_told(&self, message: &str) {
        until(message, || self.kept.lock().unwrap().messages.iter().any(|told| told == message));
    }
}

impl Kept {
    fn take(&mut self, message: String, descriptor: Option<OwnedFd>) {
        let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let name = field("FDNAME").unwrap_or("stored").to_owned();
        match (field("FDSTORE"), field("FDSTOREREMOVE"), descriptor) {
            (Some("1"), None, Some(descriptor)) => self.descriptors.push((name, descriptor)),
            (None, Some("1"), None) => self.descriptors.retain(|(kept, _)| *kept != name),
            (None, None, None) => {}
            _ => return,
        }
        self.messages.push(message);
    }
}

fn receive(socket: &UnixDatagram) -> Option<(String, Option<OwnedFd>)> {
    let (mut buffer, mut space) = ([0; 4096], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut buffer)];
    let length = recvmsg(socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?.bytes;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
    drop(descriptors);
    let message = String::from_utf8(buffer.get(..length)?.to_vec()).unwrap();
    Some((message, descriptor))
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}
