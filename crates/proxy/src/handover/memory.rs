//! Bytes in memory that outlive the process: a memfd, sealed, in the keeping of the service manager.
//!
//! What it guarantees: what is read has not changed since it was written and cannot change while it is read.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use zeroize::Zeroizing;

/// All that can be done to the bytes, and to the seals.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);
/// More than the sessions of any node take. A memfd may claim any length.
pub(super) const LONGEST: usize = 1 << 28;

/// Puts bytes into a memory and seals it.
///
/// # Errors
/// The system's: no memory, no descriptors.
pub(super) fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    const NAME: &str = "taskcreds-sessions";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Not executable, where the kernel knows of it (Linux 6.3).
    let memory = memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create(NAME, flags))?;
    let mut memory = File::from(memory);
    memory.write_all(bytes)?;
    fcntl_add_seals(&memory, SEALS)?;
    Ok(memory.into())
}

/// Reads a memory that was passed.
///
/// # Errors
/// It is not sealed, or not readable.
pub(super) fn read(memory: OwnedFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let seals = fcntl_get_seals(&memory).unwrap_or(SealFlags::empty());
    if !seals.contains(SEALS) {
        return Err(io::Error::other("the memory is not sealed, so others may have written it"));
    }
    let memory = File::from(memory);
    let length = usize::try_from(memory.metadata()?.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::other("the memory is longer than any sessions are"))?;
    let mut bytes = Zeroizing::new(vec![0; length]);
    // From the beginning, wherever whoever has written it has left off: the descriptors share one position.
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_and_can_be_changed_by_nobody() {
        let memory = sealed(b"some bytes").unwrap();
        let mut writer = File::from(memory.try_clone().unwrap());
        assert!(writer.write(b"x").is_err() && writer.set_len(1).is_err() && writer.set_len(99).is_err());
        assert!(fcntl_add_seals(&memory, SealFlags::WRITE).is_err(), "the seals are sealed");
        assert_eq!(*read(memory).unwrap(), b"some bytes");
    }

    #[test]
    fn a_memory_that_lacks_a_seal_is_refused() {
        for missing in [SealFlags::WRITE, SealFlags::GROW, SealFlags::SHRINK, SealFlags::SEAL, SEALS] {
            let memory = memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
            fcntl_add_seals(&memory, SEALS.difference(missing)).unwrap();
            assert!(read(memory).unwrap_err().to_string().contains("not sealed"), "{missing:?}");
        }
        assert!(read(tempfile::tempfile().unwrap().into()).is_err(), "a file");
    }

    #[test]
    fn a_memory_that_claims_to_be_endless_is_refused() {
        let memory = memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&memory, 1 << 60).unwrap();
        fcntl_add_seals(&memory, SEALS).unwrap();
        assert!(read(memory).unwrap_err().to_string().contains("longer"));
    }
}
