//! How many connections there may be, in all and from one source, and which one goes when there is one too many.
//!
//! The oldest connection that is not being answered, or does not take its answer, gives way to the new one: it is a client that is slow,
//! silent or resting, and whoever comes now has a request. So slow clients cannot keep honest ones out, not even from the same address.
//! Where all are being answered, one that waits for its session gives way: those who ask for one that does not come would keep out those
//! whose session is in memory.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::stream::Answering;

/// What is left for everything that is no connection: STS, logs, the store.
const OTHER_FILES: u64 = 48;
/// There is one more descriptor for so many places: for a connection that has given way and is not closed yet.
const LEAVING: usize = 16;
/// More connections than this need more memory than they are worth.
const MOST: usize = 10_000;

/// The places of one listener, or of several that share them.
pub struct Places {
    most: usize,
    most_of_one: usize,
    most_leaving: usize,
    taken: Mutex<Taken>,
    gone: Notify,
}

#[derive(Default)]
struct Taken {
    next: u64,
    count: usize,
    /// How many have given way and are not closed yet.
    leaving: usize,
    of: HashMap<IpAddr, BTreeMap<u64, Holder>>,
}

struct Holder {
    answering: Arc<Answering>,
    gives_way: Arc<AtomicBool>,
    end: CancellationToken,
}

/// A place, given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    source: IpAddr,
    number: u64,
    gives_way: Arc<AtomicBool>,
    /// Ends when the listener does, or when the connection is to be closed for another one. One thing to wait for: the connection looks
    /// at it for every request.
    pub(super) end: CancellationToken,
}

impl Place {
    /// Whether the connection is to be closed for another one.
    pub(super) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }
}

impl Places {
    /// As many places as the process may open files, three quarters of them for one source.
    #[must_use]
    pub fn of_this_process() -> Arc<Self> {
        #[cfg(unix)]
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        #[cfg(not(unix))]
        let files = u64::MAX;
        let room = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
        let most = (room - room / (LEAVING + 1)).clamp(8, MOST);
        Self::new(most, most * 3 / 4)
    }

    /// Places for an endpoint that a few machines ask.
    #[must_use]
    pub fn few() -> Arc<Self> {
        Self::new(64, 64)
    }

    fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, most_leaving: most / LEAVING, taken: Mutex::default(), gone: Notify::new() })
    }

    /// A place for a new connection, if need be that of another one, until the listener ends. `None`: every other one is being answered.
    pub(super) fn take(
        self: &Arc<Self>,
        source: IpAddr,
        answering: Arc<Answering>,
        stop: &CancellationToken,
    ) -> Option<Place> {
        let source = network(source);
        let mut taken = self.taken();
        let own = taken.of.get(&source).map_or(0, BTreeMap::len);
        if own >= self.most_of_one {
            taken.evict(source)?;
        } else if taken.count >= self.most {
            // Whoever has most gives way first, and has the oldest connection of those with as many.
            let rank = |of: &BTreeMap<u64, Holder>| (of.len(), std::cmp::Reverse(of.keys().next().copied()));
            let greediest = taken.of.iter().max_by_key(|(_, of)| rank(of)).map(|(source, _)| *source)?;
            if taken.evict(greediest).is_none() {
                let others: Vec<_> = taken.of.keys().copied().filter(|source| *source != greediest).collect();
                others.into_iter().find_map(|source| taken.evict(source))?;
            }
        }
        let (number, end, gives_way) = (taken.next, stop.child_token(), Arc::<AtomicBool>::default());
        taken.next += 1;
        taken.count += 1;
        let holder = Holder { answering, gives_way: Arc::clone(&gives_way), end: end.clone() };
        taken.of.entry(source).or_default().insert(number, holder);
        Some(Place { places: Arc::clone(self), source, number, gives_way, end })
    }

    /// Waits until those that have given way are closed, but for a few. Whoever accepts without waiting runs out of descriptors: they
    /// close when they are run, and under a flood that is later than the next connection.
    pub(super) async fn settle(&self) {
        loop {
            let gone = self.gone.notified();
            if self.taken().leaving <= self.most_leaving {
                return;
            }
            gone.await;
        }
    }

    // Every change of the counts is made whole under the lock.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Has the oldest connection of a source on which nothing goes on give way.
    fn evict(&mut self, source: IpAddr) -> Option<()> {
        let of = self.of.get(&source)?;
        let rests = of.iter().find(|(_, holder)| !holder.answering.goes_on());
        let number = *rests.or_else(|| of.iter().find(|(_, holder)| holder.answering.waits()))?.0;
        let holder = self.remove(source, number)?;
        self.leaving += 1;
        holder.gives_way.store(true, Ordering::Relaxed);
        holder.end.cancel();
        Some(())
    }

    fn remove(&mut self, source: IpAddr, number: u64) -> Option<Holder> {
        let of = self.of.get_mut(&source)?;
        let holder = of.remove(&number)?;
        if of.is_empty() {
            self.of.remove(&source);
        }
        self.count -= 1;
        Some(holder)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if taken.remove(self.source, self.number).is_none() {
            taken.leaving -= 1;
            self.places.gone.notify_waiters();
        }
    }
}

/// One IPv6 host has a whole /64 to come from.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        source => source,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn take(places: &Arc<Places>, source: &str) -> Option<(Place, Arc<Answering>)> {
        let answering = Arc::<Answering>::default();
        let place = places.take(source.parse().unwrap(), Arc::clone(&answering), &CancellationToken::new())?;
        Some((place, answering))
    }

    #[test]
    fn the_oldest_of_a_source_that_is_not_being_answered_gives_way_to_the_next_one() {
        let places = Places::new(10, 3);
        let held: Vec<_> = (0..3).map(|_| take(&places, "10.0.0.1").unwrap()).collect();
        held[0].1.begin();
        let next = take(&places, "10.0.0.1").unwrap();
        let gone: Vec<_> = held.iter().map(|(place, _)| place.gives_way()).collect();
        assert_eq!(gone, [false, true, false], "the first is being answered");
        for (_, answering) in held.iter().chain([&next]) {
            answering.begin();
        }
        assert!(take(&places, "10.0.0.1").is_none(), "all are being answered");
        assert!(take(&places, "10.0.0.2").is_some());
        drop((held, next));
        let taken = places.taken();
        assert_eq!((taken.count, taken.leaving), (0, 0));
        assert!(taken.of.is_empty());
    }

    #[test]
    fn one_that_does_not_take_its_answer_gives_way_too() {
        let places = Places::new(10, 3);
        let held: Vec<_> = (0..3).map(|_| take(&places, "10.0.0.1").unwrap()).collect();
        held.iter().for_each(|(_, answering)| answering.begin());
        held[1].1.stall();
        let next = take(&places, "10.0.0.1");
        let gone: Vec<_> = held.iter().map(|(place, _)| place.gives_way()).collect();
        assert!(next.is_some());
        assert_eq!(gone, [false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_being_answered_one_that_waits_for_its_session_gives_way_whosever_it_is() {
        let places = Places::new(5, 4);
        let waiting: Vec<_> = (0..4).map(|_| take(&places, "10.0.0.1").unwrap()).collect();
        let resting = take(&places, "10.0.0.2").unwrap();
        waiting.iter().for_each(|(_, answering)| answering.begin());
        assert!(take(&places, "10.0.0.1").is_none(), "all are being answered, and none for long");
        let other = take(&places, "10.0.0.3").unwrap();
        assert!(resting.0.gives_way(), "not the greediest one's, who has none to give");
        tokio::time::advance(std::time::Duration::from_millis(150)).await;
        let next = take(&places, "10.0.0.1").unwrap();
        assert!(waiting[0].0.gives_way() && !waiting[1].0.gives_way() && !other.0.gives_way());
        drop(next);
    }

    #[tokio::test]
    async fn the_next_one_is_accepted_when_those_that_gave_way_are_closed_but_for_a_few() {
        let places = Places::new(32, 32);
        let mut held: Vec<_> = (0..32 + 3).map(|_| take(&places, "10.0.0.1").unwrap()).collect();
        let mut settle = std::pin::pin!(places.settle());
        assert!(settle.as_mut().now_or_never().is_none());
        drop(held.split_off(34));
        assert!(settle.as_mut().now_or_never().is_none(), "that was none of them");
        held.remove(0);
        assert!(settle.now_or_never().is_some());
    }

    #[test]
    fn when_all_places_are_taken_the_source_with_most_gives_way() {
        let places = Places::new(5, 4);
        let greedy: Vec<_> = (0..4).map(|_| take(&places, "10.0.0.1").unwrap()).collect();
        let modest = take(&places, "10.0.0.2").unwrap();
        let third = take(&places, "10.0.0.3").unwrap();
        assert!(greedy[0].0.gives_way() && !modest.0.gives_way());
        assert!(!third.0.gives_way());
        assert_eq!(places.taken().count, 5);
    }

    #[test]
    fn an_ipv6_source_is_its_64_and_a_mapped_address_the_ipv4_one() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::1"), "::1");
        assert_eq!(network("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
