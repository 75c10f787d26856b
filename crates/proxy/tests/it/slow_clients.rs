//! Clients that open connections and do not go on, beside one that asks like an SDK.
//!
//! The short runs are here; `a_honest_client_beside_ten_thousand_slow_ones` is for `cargo test --release -- --ignored slow_clients`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::slice;
use std::time::{Duration, Instant};

use crate::http::{connect_from, get};
use crate::rig::{self, Process};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// A proxy that may open so many files.
fn serve(sts: &Sts, task: &Task, files: usize) -> Process {
    let mut limit = Command::new("prlimit");
    limit.arg(format!("--nofile={files}:{files}")).arg(rig::binary());
    rig::serve(Config::new(slice::from_ref(task))).envs(sts.environment()).under(limit).spawn()
}

/// So many connections with half a head each. What the other side does with them is its business.
fn slow(count: usize, from: [u8; 4], to: SocketAddr) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        if let Ok(mut stream) = connect_from(from, to, Duration::from_secs(2)) {
            let _ = stream.write_all(b"GET /v2/credentials/x HTTP/1.1\r\nX-Slow: ");
            open.push(stream);
        }
    }
    open
}

/// Asks so often, a connection each; how long the answers took, in order.
fn honest(count: usize, address: SocketAddr, task: &Task) -> Vec<Duration> {
    let ask = || {
        let start = Instant::now();
        assert_eq!(get(address, &task.path()).status, 200);
        start.elapsed()
    };
    let mut took: Vec<_> = (0..count).map(|_| ask()).collect();
    took.sort();
    took
}

fn resident(process: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn slow_clients_keep_no_honest_one_out_not_even_from_its_own_address() {
    for from in [[127, 0, 0, 2], [127, 0, 0, 1]] {
        let (sts, task) = (Sts::new(), Task::new("web"));
        let proxy = serve(&sts, &task, 256);
        honest(1, proxy.address(), &task);
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(slow(200, from, proxy.address()));
            let took = honest(20, proxy.address(), &task);
            assert!(took[18] < Duration::from_millis(500), "{took:?}");
        }
    }
}

#[test]
fn without_descriptors_it_does_not_end_and_is_itself_again_within_a_second() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let proxy = serve(&sts, &task, 64);
    honest(1, proxy.address(), &task);
    let held = slow(300, [127, 0, 0, 2], proxy.address());
    drop(held);
    let start = Instant::now();
    honest(50, proxy.address(), &task);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(proxy.end().code(), 0);
}

#[test]
fn a_thousand_unfinished_requests_with_huge_heads_take_less_than_32_mib() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let proxy = serve(&sts, &task, 4096);
    honest(1, proxy.address(), &task);
    let before = resident(&proxy);
    let mut open = slow(1000, [127, 0, 0, 2], proxy.address());
    assert_eq!(open.len(), 1000);
    for stream in &mut open {
        stream.write_all(&[b'x'; 15 * 1024]).unwrap();
    }
    honest(20, proxy.address(), &task);
    let grown = resident(&proxy).saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown}");
}

#[test]
#[ignore = "a minute of load, for a release build: see docs/security.md"]
fn a_honest_client_beside_ten_thousand_slow_ones_is_answered_within_50_ms() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    for (files, count) in [(20_000, 10_000), (1024, 2000)] {
        let proxy = serve(&sts, &task, files);
        honest(1, proxy.address(), &task);
        let before = resident(&proxy);
        let address = proxy.address();
        let took = std::thread::scope(|scope| {
            // Again and again, because the proxy gives each of them up after 5 s.
            let slow = scope.spawn(move || {
                let end = Instant::now() + Duration::from_secs(15);
                let mut open = Vec::new();
                while Instant::now() < end {
                    for last in 2..=11 {
                        open.push(slow(count / 100, [127, 0, 0, last], address));
                    }
                    if open.len() > 100 {
                        open.drain(..50);
                    }
                }
            });
            let mut took = Vec::new();
            while !slow.is_finished() {
                let tick = Instant::now();
                took.extend(honest(1, address, &task));
                std::thread::park_timeout(Duration::from_millis(10).saturating_sub(tick.elapsed()));
            }
            took
        });
        let mut took = took;
        took.sort();
        let p99 = took[took.len() * 99 / 100];
        let resident = resident(&proxy);
        println!(
            "{files} files, {count} slow: {} honest requests, all answered, p99 {p99:?}, grown {} KiB",
            took.len(),
            resident.saturating_sub(before) / 1024
        );
        assert!(p99 < Duration::from_millis(50), "{p99:?}");
    }
}
