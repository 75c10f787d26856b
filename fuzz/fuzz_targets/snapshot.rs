//! What one process leaves to the next, read again. The input is the document; its digest is put behind it, which no mutation
//! would find.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use taskcreds::handover::sessions_in;

fuzz_target!(|document: &[u8]| {
    let mut bytes = Vec::with_capacity(document.len() + 65);
    bytes.extend_from_slice(document);
    bytes.push(b'\n');
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    bytes.extend(Sha256::digest(document).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    let _ = sessions_in(&bytes);
    // Cut short it is nothing.
    assert_eq!(sessions_in(&bytes[..bytes.len() - 1]), None);
    let _ = sessions_in(document);
});
