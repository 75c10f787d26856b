//! What one process leaves to the next, read again. The input is the document; its digest is put behind it, which no mutation
//! would find.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use taskcreds::handover::sessions_in;

fuzz_target!(|document: &[u8]| {
    let digest: String = Sha256::digest(document).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut bytes = document.to_vec();
    bytes.push(b'\n');
    bytes.extend_from_slice(digest.as_bytes());
    let _ = sessions_in(&bytes);
    // Cut short it is nothing.
    assert_eq!(sessions_in(&bytes[..bytes.len() - 1]), None);
    let _ = sessions_in(document);
});
