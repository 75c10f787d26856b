//! `Config::parse`: every text is a configuration or a list of faults, and a configuration keeps the limits that it promises.

#![no_main]

use std::path::Path;

use libfuzzer_sys::{Corpus, fuzz_target};
use taskcreds::config::Config;

fuzz_target!(|text: &str| -> Corpus {
    // Reading files that a text names is not what this is about.
    if text.contains("_file") {
        return Corpus::Reject;
    }
    match Config::parse("taskcreds.toml", text, Path::new("/nonexistent")) {
        Ok(config) => {
            assert!(config.hop_limit >= 1 && config.max_tasks >= 1);
            assert!(config.tasks.len() <= config.max_tasks);
            assert!(config.operations_listen.is_none_or(|address| address.ip().is_loopback()));
            assert!(config.made_ids.len() <= config.tasks.len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Corpus::Keep
});
