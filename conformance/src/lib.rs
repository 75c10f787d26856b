//! Real AWS SDKs against the real binary.
//!
//! Each client runs in a network namespace of its own, where loopback has 169.254.170.2 and 169.254.169.254 and there is nothing else:
//! `run::one` starts this program again in there, and [`cases`] go one after the other.

#![cfg(unix)]

pub mod aws;
pub mod cases;
pub mod clients;
mod errors;
pub mod front;
mod limits;
pub mod report;
pub mod run;
mod time;
mod ways;
pub mod world;
