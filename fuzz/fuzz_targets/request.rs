//! `config::request::parse`: the JSON of a registration over the admin socket.

#![no_main]

use libfuzzer_sys::fuzz_target;
use taskcreds::config::request::parse;

fuzz_target!(|body: &[u8]| {
    match parse(body) {
        Ok(request) => {
            assert!((1..=2).contains(&request.tasks.len()));
            assert!(request.made_ids.len() <= request.tasks.len());
            assert!(!request.token_is_made || request.tasks.iter().any(|task| !task.tokens.is_empty()));
        }
        Err(faults) => assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.to_string().is_empty())),
    }
});
