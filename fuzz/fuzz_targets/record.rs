//! A registration as the store has it: refused, or the same when it is written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use taskcreds::admin::restored;
use taskcreds_core::IdDigest;

fuzz_target!(|bytes: &[u8]| {
    let id = IdDigest::from_bytes([7; 32]);
    if let Some((registration, written)) = restored(bytes, id) {
        let (again, _) = restored(&written, id).unwrap();
        assert!(again == registration);
    }
});
