//! The real binary, over real HTTP, with SDKs that nobody here wrote.
//!
//! Every process is started through [`rig`], which looks for every secret of the whole suite in everything the process has logged.
//! Traffic goes to loopback and to addresses in namespaces that a test has made, nowhere else. A test that cannot run where it
//! stands says `skipped` on standard error; with `TASKCREDS_TEST_REQUIRE=all` it fails instead.
#![cfg(target_os = "linux")]

mod admin;
mod admin_peers;
mod attacker;
mod audit;
mod base_credentials;
mod browser;
mod canary;
mod chosen_roles;
mod clock;
mod coldstart;
mod commands;
mod containers;
mod decisions;
mod docs;
mod emfile;
mod exec;
mod exec_signals;
mod gate;
mod handover;
mod hang_ups;
mod hardening;
mod honest;
mod http;
mod http_proxies;
mod link_local;
mod local_endpoints;
mod misuse;
mod neighbours;
mod netns;
mod network;
mod operations;
mod origins;
mod outage;
mod place;
mod podman;
mod policy;
mod portal;
mod python;
mod raw;
mod reload;
mod rig;
mod rust_sdk;
mod sdk;
mod secrets;
mod shared_namespace;
mod skip;
mod slow;
mod slow_clients;
mod sso;
mod store;
mod sts;
mod supervisor;
mod task_definition;
mod tasks;
mod testbed;
mod timing;
mod trust_judge;
mod unknown_ids;
mod windows;
mod wire;
mod wire_errors;
