//! The parts of `loopback`, which measures the real `taskcreds` binary beside a bare axum server.
//!
//! What the figures rest on: both servers answer the same bytes to the same requests, which is checked before anything
//! is measured; both have the same number of worker threads; they take turns under the same load, and what is compared
//! is the two halves of one round. Every answer is checked. One that is wrong ends the run: a figure with errors in it
//! is none.
//!
//! The load generator shares the machine's CPUs with the server. So requests a second say how much the pair does, and
//! the difference between two servers looks smaller than it is; CPU seconds of the server's process have no such flaw.

pub mod answer;
pub mod bare;
pub mod histogram;
pub mod load;
pub mod machine;
pub mod process;
pub mod proxy;
pub mod report;
pub mod start;
