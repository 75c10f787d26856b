//! How long a refusal takes tells nothing: an id that never was, one that was revoked and one that may not be asked for from there look the
//! same, and so do a token that begins like the right one and one that does not.
//!
//! Two measurements. Over HTTP, which is all that a guesser has: from the request, on a connection that is there, to the answer. And of
//! `Registry::authenticate` alone, where a few nanoseconds can be seen that the first one has no hope to see. Kinds follow each other at
//! random, so whatever else the machine does falls on all alike. Kinds are compared by their medians and by how often a sample of one is
//! longer than a sample of the other (Mann-Whitney's U over all pairs, 0.5 for equals), which asks nothing of how samples are distributed.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use taskcreds::http::way::Told;
use taskcreds_core::test_util::new_task;
use taskcreds_core::{Arrival, Asker, Origin, Registration, Registry, Token};

use crate::http::{Connection, request};
use crate::rig;
use crate::sts::Sts;
use crate::tasks::{Config, Task, new_id};

/// The samples of each kind, by its number.
struct Samples(Vec<Vec<Duration>>);

impl Samples {
    /// So many in all, of so many kinds, in random order.
    fn take(count: usize, kinds: usize, mut one: impl FnMut(usize) -> Duration) -> Self {
        let mut all = vec![Vec::with_capacity(count / kinds * 2); kinds];
        for _ in 0..count {
            let kind = fastrand::usize(..kinds);
            all[kind].push(one(kind));
        }
        all.iter_mut().for_each(|of| of.sort_unstable());
        Self(all)
    }

    fn median(&self, kind: usize) -> Duration {
        self.0[kind][self.0[kind].len() / 2]
    }

    /// How much the medians of two kinds differ.
    fn apart(&self, one: usize, other: usize) -> Duration {
        self.median(one).abs_diff(self.median(other))
    }

    /// How often a sample of `one` is longer than one of `other`; equals count half.
    fn longer(&self, one: usize, other: usize) -> f64 {
        let (ones, others) = (&self.0[one], &self.0[other]);
        let (mut below, mut not_above, mut sum) = (0, 0, 0.0);
        for sample in ones {
            while others.get(below).is_some_and(|it| it < sample) {
                below += 1;
            }
            while others.get(not_above).is_some_and(|it| it <= sample) {
                not_above += 1;
            }
            sum += (below + not_above) as f64 / 2.0;
        }
        sum / (ones.len() as f64 * others.len() as f64)
    }
}

/// A token as long as the right one, which differs in its last character or in all of them.
fn nearly(right: &str) -> (String, String) {
    let begin = &right[..right.len() - 1];
    (format!("{begin}{}", if right.ends_with('0') { '1' } else { '0' }), "~".repeat(right.len()))
}

const KINDS: [&str; 6] =
    ["unknown", "revoked", "wrong source", "token with 35 right bytes", "token with none", "8 KiB more"];
/// What must look the same; the last kind is there to show that what differs is seen.
const PAIRS: [(usize, usize); 4] = [(0, 1), (0, 2), (1, 2), (3, 4)];

/// Over HTTP, so many samples; any two kinds differ by less than this share of pairs, or have medians less than `slack` apart.
fn over_http(count: usize, bound: f64, slack: Duration) {
    let (sts, known) = (Sts::new(), Task::with_token("web"));
    let [revoked, elsewhere] =
        ["revoked", "elsewhere"].map(|role| Task::with_token(role).and("sources = [\"127.0.0.2\"]"));
    let config = Config::new(&[known.clone(), revoked.clone(), elsewhere.clone()]);
    let file = config.file();
    let proxy = rig::serve(config).envs(sts.environment()).spawn();
    let address = proxy.address();
    std::fs::write(&file, std::fs::read(Config::new(&[known.clone(), elsewhere.clone()]).file()).unwrap()).unwrap();
    proxy.logs("configuration reloaded");
    let token = known.token.clone().unwrap();
    let (near, far) = nearly(&token);
    assert_eq!(near.len(), 36);
    let unknown = format!("/v2/credentials/{}", new_id());
    let requests = [
        request(address, &unknown, Some(&token)),
        request(address, &revoked.path(), Some(&token)),
        request(address, &elsewhere.path(), Some(&token)),
        request(address, &known.path(), Some(&near)),
        request(address, &known.path(), Some(&far)),
        request(address, &unknown, Some(&token))
            .replace("\r\n\r\n", &format!("\r\nX-More: {}\r\n\r\n", "x".repeat(8192))),
    ];
    let one = |kind: usize| {
        let mut connection = Connection::open(address);
        let start = Instant::now();
        let answer = connection.send(&requests[kind]).answer();
        let took = start.elapsed();
        assert_eq!(answer.status, if matches!(kind, 3 | 4) { 401 } else { 400 });
        took
    };
    Samples::take(count / 20, KINDS.len(), one);
    let samples = Samples::take(count, KINDS.len(), one);
    for (kind, name) in KINDS.iter().enumerate() {
        println!("{name}: {} samples, median {:?}", samples.0[kind].len(), samples.median(kind));
    }
    for (one, other) in PAIRS {
        let (apart, longer) = (samples.apart(one, other), samples.longer(one, other));
        println!("{} and {}: medians {apart:?} apart, {longer:.4}", KINDS[one], KINDS[other]);
        let is_told = (longer - 0.5).abs() >= bound && apart >= slack;
        assert!(!is_told, "{} can be told from {}: {apart:?} apart, {longer:.4}", KINDS[one], KINDS[other]);
    }
    let (apart, longer) = (samples.apart(5, 0), samples.longer(5, 0));
    println!("8 KiB more and unknown, to be seen: medians {apart:?} apart, {longer:.4}");
    assert!(longer - 0.5 > bound && apart > slack, "a difference that there is cannot be seen: {apart:?}, {longer:.4}");
}

/// Of the registry alone, with 1,000 other tasks in it: any two medians are less apart than this.
fn in_the_registry(count: usize, bound: Duration) {
    let registry = Registry::new(2_000);
    let register = |source: Option<&str>| {
        let mut new = new_task(&uuid::Uuid::new_v4().to_string());
        new.origins = source.map(|text| Origin::new(text).unwrap()).into_iter().collect();
        new.tokens = vec![Token::new("tok-0123456789abcdef0123456789abcdef").unwrap()];
        let id = new.id.expose().to_owned();
        (id, registry.register(Registration::configured(new)).unwrap())
    };
    (0..1_000).for_each(|_| drop(register(None)));
    let [(known, _), (revoked, task), (elsewhere, _)] = [None, Some("127.0.0.2"), Some("127.0.0.2")].map(register);
    registry.revoke(task.id()).unwrap();
    let right = "tok-0123456789abcdef0123456789abcdef";
    let ((near, far), unknown) = (nearly(right), uuid::Uuid::new_v4().to_string());
    let asked = [(&unknown, right), (&revoked, right), (&elsewhere, right), (&known, &*near), (&known, &*far)];
    let asker = Asker { address: IpAddr::from([127, 0, 0, 1]), arrival: Arrival::Elsewhere, way: &Told::NOTHING };
    let one = |kind: usize| {
        let (id, token) = asked[kind];
        let start = Instant::now();
        let refused = black_box(registry.authenticate(black_box(id), black_box(token.as_bytes()), asker));
        let took = start.elapsed();
        assert!(refused.is_err());
        took
    };
    Samples::take(count / 20, asked.len(), one);
    let samples = Samples::take(count, asked.len(), one);
    for (one, other) in PAIRS {
        let (apart, longer) = (samples.apart(one, other), samples.longer(one, other));
        let medians = (samples.median(one), samples.median(other));
        println!("registry, {} and {}: medians {medians:?}, {longer:.4}", KINDS[one], KINDS[other]);
        assert!(apart < bound, "{} is {apart:?} apart from {}", KINDS[one], KINDS[other]);
    }
}

#[test]
fn how_long_a_refusal_takes_tells_nothing() {
    // A debug build takes some microseconds where a release build takes a few nanoseconds more, and the quieter the machine, the more pairs
    // show them: the long test has the bound of what is shipped.
    over_http(15_000, 0.1, Duration::from_micros(25));
    in_the_registry(100_000, Duration::from_micros(2));
}

#[test]
#[ignore = "minutes of load, for a release build: see docs/security.md"]
fn long_how_long_a_million_refusals_take_tells_nothing() {
    over_http(1_000_000, 0.01, Duration::ZERO);
    in_the_registry(1_000_000, Duration::from_nanos(100));
}
