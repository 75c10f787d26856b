//! What Linux offers and no library does safely. All `unsafe` code of the workspace is here.

use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

/// Takes descriptors over that were passed to this process, once, and has them closed on exec.
///
/// # Errors
/// The first that is not open.
#[expect(unsafe_code, reason = "a number that was passed in the environment becomes a descriptor nowhere else")]
pub(crate) fn take_descriptors(numbers: Range<RawFd>) -> Result<Vec<OwnedFd>, RawFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let take = |number| {
        // SAFETY: whoever has set LISTEN_PID to this process has left it these descriptors, and nobody else in it owns them: this
        // is the first thing that the process does, and it is done once. One that is not open is neither used nor dropped.
        let descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        match fcntl_setfd(&*descriptor, FdFlags::CLOEXEC) {
            Ok(()) => Ok(ManuallyDrop::into_inner(descriptor)),
            Err(_) => Err(number),
        }
    };
    numbers.map(take).collect()
}

/// Switches an option of a socket on whose value is an int (setsockopt(2)).
///
/// # Errors
/// The system's.
#[expect(unsafe_code, reason = "options that no library knows")]
pub(crate) fn switch_on(socket: &impl AsRawFd, level: i32, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: the pointer is to an int that outlives the call, and the length is its size. The kernel only reads it.
    let outcome = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), 4) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The value of an option of a socket (getsockopt(2)): the part of `value` that was written.
///
/// # Errors
/// The system's.
#[expect(unsafe_code, reason = "options that no library knows")]
pub(crate) fn option<'a>(socket: &impl AsRawFd, level: i32, option: i32, value: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut length = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel writes at most `length` bytes, which `value` has, and then sets it to what it has written.
    let outcome =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.get(..length as usize).unwrap_or_default())
}
