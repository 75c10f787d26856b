//! Clients that open connections and do not go on, beside one that asks a hundred times a second.
//!
//! The short runs are here; docs/security.md has the figures of the long one and its command.

#![expect(clippy::print_stdout, reason = "the figures")]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::slice;
use std::time::{Duration, Instant};

use crate::honest::{self, Answered};
use crate::http::{connect_from, get};
use crate::rig::{self, Process};
use crate::slow::{Crowd, Kind, Slow};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// A proxy that may open so many files and has its session.
fn serve(sts: &Sts, task: &Task, files: usize) -> Process {
    let mut limit = Command::new("prlimit");
    limit.arg(format!("--nofile={files}:{files}")).arg(rig::binary());
    let proxy = rig::serve(Config::new(slice::from_ref(task))).envs(sts.environment()).under(limit).spawn();
    honest::warm(proxy.address(), task);
    proxy
}

/// So many connections with half a head each. What the other side does with them is its business.
fn half_heads(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        if let Ok(mut stream) = connect_from([127, 0, 0, 2], to, Duration::from_secs(2)) {
            let _ = stream.write_all(b"GET /v2/credentials/x HTTP/1.1\r\nX-Slow: ");
            open.push(stream);
        }
    }
    open
}

/// What becomes of 100 honest requests a second beside a crowd, all of which have to be answered.
fn beside(crowd: Crowd, files: usize, seconds: u32) -> Answered {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let proxy = serve(&sts, &task, files);
    let (address, before) = (proxy.address(), proxy.resident());
    let slow = Slow::start(crowd, address, &task);
    let opened = slow.opened();
    let answered = honest::ask(100, seconds, address, &task);
    let (grown, opened) = (proxy.resident().saturating_sub(before), slow.opened() - opened);
    drop(slow);
    let Crowd { kind, count, from: (first, last), .. } = crowd;
    let what = format!("{files} files, {count} slow as {kind:?} from 127.0.0.{first} to .{last}");
    let answered = answered.all(&what);
    let log = proxy.end().stderr;
    assert!(!log.contains("cannot accept connections"), "{what}: it had no descriptors left");
    println!(
        "{what}: all {} answered, p50 {:?}, p99 {:?}, longest {:?}, begun at most {:?} late; {} new slow connections/s; grown by {} MiB",
        answered.took.len(),
        answered.percentile(50),
        answered.percentile(99),
        answered.percentile(100),
        answered.late,
        opened / seconds,
        grown >> 20
    );
    answered
}

#[test]
fn slow_clients_keep_no_honest_one_out_not_even_from_its_own_address() {
    for kind in [Kind::Head, Kind::Body, Kind::Read(100)] {
        // From others, and from the address of the honest one alone.
        for from in [(2, 5), (1, 1)] {
            // How soon they are answered is for the long run, without other tests beside it.
            beside(Crowd { kind, count: 300, from, again: Duration::from_millis(500) }, 256, 1);
        }
    }
}

#[test]
fn without_descriptors_it_does_not_end_and_is_itself_again_within_a_second() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let proxy = serve(&sts, &task, 64);
    let held = half_heads(300, proxy.address());
    drop(held);
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(get(proxy.address(), &task.path()).status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(proxy.end().code(), 0);
}

#[test]
fn a_thousand_unfinished_requests_with_huge_heads_take_less_than_32_mib() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let proxy = serve(&sts, &task, 4096);
    let before = proxy.resident();
    let mut open = half_heads(1000, proxy.address());
    assert_eq!(open.len(), 1000);
    for stream in &mut open {
        stream.write_all(&[b'x'; 15 * 1024]).unwrap();
    }
    // Whoever asks after them is answered after them.
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), &task.path()).status, 200);
    }
    let grown = proxy.resident().saturating_sub(before);
    println!("1,000 unfinished heads of 15 KiB: grown by {} KiB", grown >> 10);
    assert!(grown < 32 << 20, "{grown}");
}

/// Each kind from ten other addresses and from the honest one's, for 20 s.
fn long(files: usize, count: u32, again: Duration, pipelined: usize) {
    let mut slowest = Duration::ZERO;
    for kind in [Kind::Head, Kind::Body, Kind::Read(pipelined)] {
        for from in [(2, 11), (1, 1)] {
            let answered = beside(Crowd { kind, count, from, again }, files, 20);
            slowest = slowest.max(answered.percentile(99));
        }
    }
    assert!(slowest < Duration::from_millis(50), "p99 {slowest:?}: is something else running?");
}

#[test]
#[ignore = "minutes of load, for a release build and a quiet machine: see docs/security.md"]
fn long_beside_10000_slow_clients_every_honest_request_is_answered_and_99_percent_within_50_ms() {
    long(20_000, 10_000, Duration::from_secs(5), 10);
}

#[test]
#[ignore = "minutes of load, for a release build and a quiet machine: see docs/security.md"]
fn long_beside_2000_slow_clients_at_1024_files_every_honest_request_is_answered_and_99_percent_within_50_ms() {
    long(1024, 2_000, Duration::from_secs(1), 100);
}
