//! `taskcreds`, a credential proxy for task roles: a small HTTP server that maps unguessable credentials ids to task role
//! sessions and answers the `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` protocol that every AWS SDK speaks.
//!
//! The rooms, the way of a request and the way of a refresh are in ARCHITECTURE.md.

#[cfg(unix)]
pub mod admin;
pub mod app;
pub mod audit;
pub mod aws;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod documents;
pub mod failure;
pub mod fixture;
mod folder;
pub mod handover;
pub mod hardening;
pub mod http;
pub mod launch;
#[cfg_attr(not(target_os = "linux"), path = "link_local_elsewhere.rs")]
mod link_local;
pub mod metrics;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
pub mod network;
pub mod stamp;
#[cfg(target_os = "linux")]
mod sys;
pub mod task_definition;
pub mod telemetry;
pub mod testbed;
