//! How much strangers may cost: connections in all and of one address, handshakes, calls a second and at a time.
//!
//! An IPv6 client owns a whole /64, so that is what counts as one address.

use podium_wire::roles::Role;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// Connections at a time: 200 watchers and people beside them. About 40 KiB each.
pub(super) const CONNECTIONS_MAX: usize = 384;
/// Of one address: a monitor that keeps a connection a resource and machine, and never all of them.
const OF_ADDRESS_MAX: usize = 320;
/// Without a config, when nobody shows who it is.
const MAINTENANCE_MAX: usize = 16;
/// Of one address then.
const MAINTENANCE_OF_ADDRESS_MAX: usize = 8;
/// Handshakes at a time: each costs a signature, and memory before anybody is known.
const HANDSHAKES_MAX: usize = 64;
/// Of one address, so that others come through while one floods.
const HANDSHAKES_OF_ADDRESS_MAX: usize = 16;
/// Calls a second of one address, and how many at once: more than any tool makes, less than the node can answer.
const CALLS: f64 = 2000.0;
/// How far below none an address can get by calling on: somewhat beyond the wait at which its calls are refused, so that
/// whoever floods is refused, and is heard again some seconds after it has stopped.
const OWED_MAX: f64 = 6.0 * CALLS;

/// Calls under way, watches too. Each may hold 100 KiB that its reader does not take, beside what is weighed (`weight`);
/// few answers are that long.
const CALLS_MAX: usize = 768;
/// Of one address: 200 watchers, and four connections with as many calls as they may have.
const CALLS_OF_ADDRESS_MAX: usize = 512;
/// Logs, lists and files that one address reads at a time, of those that there may be (`upstream::STREAMS_MAX`).
const CONTENTS_OF_ADDRESS_MAX: usize = 16;
/// Calls of one address for which PID 1 or the node's helper is asked at a time, for each role; its others wait. Fewer
/// than there may be in all (`upstream`), so that one that floods, while containerd is slow, leaves room for others.
const TURNS_OF_ADDRESS: usize = 6;

/// Refused calls of one address that leave a line of the audit at once.
const REFUSALS: f64 = 20.0;
/// And how many a second later on.
const REFUSALS_RATE: f64 = 0.2;
/// Addresses whose calls and whose refusals are counted; all others count as one. They outlive their connections, which
/// are quickly made.
const COUNTED_MAX: usize = 1024;

tokio::task_local! {
    /// Of the client whose call a task answers: see [`Place::turns`].
    pub(super) static TURNS: Arc<Semaphore>;
}

/// The counts. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    peers: HashMap<IpAddr, Peer>,
    /// The oldest first.
    shaking: VecDeque<Shaking>,
    calls: HashMap<IpAddr, Bucket>,
    refused: HashMap<IpAddr, Refusals>,
    /// Tells handshakes apart.
    next: u64,
}

/// A handshake that is not over.
#[derive(Debug)]
struct Shaking {
    number: u64,
    address: IpAddr,
    evicted: Arc<Notify>,
}

/// How many of something there may be now, and when that was so.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// As it is now, when so many a second come back, up to so many.
    fn now(self, now: Instant, rate: f64, most: f64) -> Self {
        let back = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        Self { left: (self.left + back).min(most), at: now }
    }
}

#[derive(Debug)]
struct Refusals {
    bucket: Bucket,
    unsaid: u64,
}

#[derive(Debug)]
struct Peer {
    connections: usize,
    calls: usize,
    contents: usize,
    turns: [Arc<Semaphore>; Role::ALL.len()],
}

impl Default for Peer {
    fn default() -> Self {
        let turns = Role::ALL.map(|_| Arc::new(Semaphore::new(TURNS_OF_ADDRESS)));
        Self { connections: 0, calls: 0, contents: 0, turns }
    }
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    limits: Limits,
    address: IpAddr,
    number: u64,
    evicted: Arc<Notify>,
}

impl Limits {
    /// Lets a connection in, or not. It counts as one that shakes hands; of those the oldest gives way when there are
    /// too many, since one that means it is over within two packets.
    pub(super) fn enter(&self, address: IpAddr, maintenance: bool) -> Option<Place> {
        let address = network(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.peers.values().map(|peer| peer.connections).sum();
        let (most, most_of_one) = match maintenance {
            true => (MAINTENANCE_MAX, MAINTENANCE_OF_ADDRESS_MAX),
            false => (CONNECTIONS_MAX, OF_ADDRESS_MAX),
        };
        let of_it = counts.peers.get(&address).map_or(0, |peer| peer.connections);
        let shaking_of_it = counts.shaking.iter().filter(|one| one.address == address).count();
        // Who gives way is gone a moment later; until then there is one more than that.
        if shaking_of_it >= HANDSHAKES_OF_ADDRESS_MAX || of_it >= most_of_one {
            counts.evict(Some(address))?;
        } else if counts.shaking.len() >= HANDSHAKES_MAX || all >= most {
            counts.evict(None)?;
        }
        let (number, evicted) = (counts.next, Arc::new(Notify::new()));
        counts.next += 1;
        counts.shaking.push_back(Shaking { number, address, evicted: evicted.clone() });
        counts.peers.entry(address).or_default().connections += 1;
        Some(Place { limits: self.clone(), address, number, evicted })
    }
}

impl Counts {
    /// Ends the oldest handshake, of this address or of all; none: there is none.
    fn evict(&mut self, address: Option<IpAddr>) -> Option<()> {
        let is_it = |one: &Shaking| address.is_none_or(|address| one.address == address);
        let place = self.shaking.iter().position(is_it)?;
        self.shaking.remove(place)?.evicted.notify_one();
        Some(())
    }
}

impl Place {
    /// What counts as its client.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// It has shown who it is.
    pub(super) fn has_shaken(&self) {
        let mut counts = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.shaking.retain(|one| one.number != self.number);
    }

    /// Returns when its handshake is to give way.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// A call was refused. None: no line is to be left of it, there were too many. Else how many have left none since
    /// the last one that did.
    pub(super) fn refused(&self, now: Instant) -> Option<u64> {
        let mut counts = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now_of = |one: &Refusals| one.bucket.now(now, REFUSALS_RATE, REFUSALS);
        let is_needed = |one: &Refusals| one.unsaid > 0 || now_of(one).left < REFUSALS;
        let unknown = Refusals { bucket: Bucket { left: REFUSALS, at: now }, unsaid: 0 };
        let one = counted(&mut counts.refused, self.address, is_needed, unknown);
        one.bucket = now_of(one);
        if one.bucket.left < 1.0 {
            one.unsaid = one.unsaid.saturating_add(1);
            return None;
        }
        one.bucket.left -= 1.0;
        Some(std::mem::take(&mut one.unsaid))
    }

    /// How long the next call must wait, so that its address keeps to its rate.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        let mut counts = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_needed = |one: &Bucket| one.now(now, CALLS, CALLS).left < CALLS;
        let one = counted(&mut counts.calls, self.address, is_needed, Bucket { left: CALLS, at: now });
        *one = one.now(now, CALLS, CALLS);
        one.left = (one.left - 1.0).max(-OWED_MAX);
        Duration::from_secs_f64((-one.left / CALLS).max(0.0))
    }

    /// Lets a call begin that [`Self::end_call`] will end, or not. `content`: it reads a log, a list or a file.
    pub(super) fn begin_call(&self, content: bool) -> bool {
        let mut counts = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.peers.values().map(|peer| peer.calls).sum();
        let Some(peer) = counts.peers.get_mut(&self.address) else { return false };
        let is_full = all >= CALLS_MAX
            || peer.calls >= CALLS_OF_ADDRESS_MAX
            || content && peer.contents >= CONTENTS_OF_ADDRESS_MAX;
        if !is_full {
            peer.calls += 1;
            peer.contents += usize::from(content);
        }
        !is_full
    }

    /// Who holds a permit of it asks PID 1 or the node's helper for a call of its address by this role: so many do at a
    /// time.
    pub(super) fn turns(&self, role: Role) -> Arc<Semaphore> {
        let mut turns = None;
        self.with_peer(|peer| turns = peer.turns.get(role as usize).cloned());
        // As long as it counts, its address is there.
        turns.unwrap_or_else(|| Arc::new(Semaphore::new(TURNS_OF_ADDRESS)))
    }

    /// Of one that [`Self::begin_call`] has let begin.
    pub(super) fn end_call(&self, content: bool) {
        self.with_peer(|peer| {
            peer.calls = peer.calls.saturating_sub(1);
            peer.contents = peer.contents.saturating_sub(usize::from(content));
        });
    }

    fn with_peer(&self, change: impl FnOnce(&mut Peer)) {
        let mut counts = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = counts.peers.get_mut(&self.address) {
            change(peer);
            if peer.connections == 0 {
                counts.peers.remove(&self.address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.has_shaken();
        self.with_peer(|peer| peer.connections = peer.connections.saturating_sub(1));
    }
}

/// The count of an address, or that of all for whom there is no room. Those that are not needed make room: nobody can
/// tell them from one that is not known.
fn counted<T>(
    counts: &mut HashMap<IpAddr, T>,
    address: IpAddr,
    is_needed: impl Fn(&T) -> bool,
    unknown: T,
) -> &mut T {
    if counts.len() >= COUNTED_MAX {
        counts.retain(|_, one| is_needed(one));
    }
    let has_room = counts.contains_key(&address) || counts.len() < COUNTED_MAX;
    let address = if has_room { address } else { Ipv6Addr::UNSPECIFIED.into() };
    counts.entry(address).or_insert(unknown)
}

/// What one client can have many of counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let limits = Limits::default();
        let mut places = Vec::new();
        while let Some(place) = limits.enter(address(1), false) {
            place.has_shaken();
            places.push(place);
        }
        assert_eq!(places.len(), OF_ADDRESS_MAX);
        assert!(limits.enter(address(2), false).is_some());
        places.pop();
        assert!(limits.enter(address(1), false).is_some());
        drop(places);
        assert!(limits.0.lock().unwrap().peers.is_empty());
    }

    #[tokio::test]
    async fn handshakes_that_never_end_are_few_and_the_oldest_gives_way() {
        let limits = Limits::default();
        let old = limits.enter(address(1), false).unwrap();
        let shaking: Vec<Place> =
            (1..HANDSHAKES_OF_ADDRESS_MAX).map(|_| limits.enter(address(1), false).unwrap()).collect();
        let of_another = limits.enter(address(2), false).unwrap();
        assert!(limits.enter(address(1), false).is_some());
        old.evicted().await;
        // Those of others stay, as long as there are not too many in all.
        let given_way =
            |place: &Place| !limits.0.lock().unwrap().shaking.iter().any(|one| one.number == place.number);
        assert!(given_way(&old) && !given_way(&of_another) && !shaking.iter().any(given_way));
    }

    #[test]
    fn in_maintenance_an_address_has_few_connections_and_a_subnet_is_one_address() {
        let limits = Limits::default();
        let same = |n: u16| IpAddr::V6([0x2001, 0xdb8, 0, 0, 0, 0, 0, n].into());
        let enter = |n| limits.enter(same(n), true).inspect(Place::has_shaken);
        let places: Vec<Place> = (0..99).filter_map(enter).collect();
        assert_eq!(places.len(), MAINTENANCE_OF_ADDRESS_MAX);
    }

    #[test]
    fn refusals_beyond_the_bound_leave_no_line_but_their_number() {
        let limits = Limits::default();
        let now = Instant::now();
        let refused = |now| limits.enter(address(1), false).unwrap().refused(now);
        let said = (0..1000).filter(|_| refused(now).is_some()).count();
        assert!((10..30).contains(&said), "{said}: each on a connection of its own");
        let unsaid = u64::try_from(1000 - said).unwrap();
        assert_eq!(refused(now + Duration::from_secs(60)), Some(unsaid));
        assert_eq!(limits.enter(address(2), false).unwrap().refused(now), Some(0));
    }

    #[test]
    fn calls_of_one_address_leave_room_for_others() {
        let limits = Limits::default();
        let (one, other) =
            (limits.enter(address(1), false).unwrap(), limits.enter(address(2), false).unwrap());
        let begun = |place: &Place, content| (0..999).take_while(|_| place.begin_call(content)).count();
        assert_eq!(begun(&one, true), CONTENTS_OF_ADDRESS_MAX);
        assert_eq!(begun(&one, false), CALLS_OF_ADDRESS_MAX - CONTENTS_OF_ADDRESS_MAX);
        assert!(other.begin_call(true));
        one.end_call(true);
        assert!(one.begin_call(true) && !one.begin_call(false));
    }

    #[test]
    fn calls_beyond_the_rate_wait() {
        let place = Limits::default().enter(address(1), false).unwrap();
        let now = Instant::now();
        let waits: Vec<Duration> = (0..4000).map(|_| place.delay(now)).collect();
        assert!(waits[..1999].iter().all(Duration::is_zero));
        assert!((0.9..1.1).contains(&waits[3999].as_secs_f64()), "{:?}", waits[3999]);
        assert!(place.delay(now + Duration::from_secs(5)).is_zero());
    }

    #[test]
    fn a_new_connection_is_no_new_rate_and_whoever_stops_is_heard_again() {
        let limits = Limits::default();
        let now = Instant::now();
        let delay = |last: u8, now: Instant| limits.enter(address(last), false).unwrap().delay(now);
        let waits: Vec<Duration> = (0..4000).map(|_| delay(1, now)).collect();
        assert!((0.9..1.1).contains(&waits[3999].as_secs_f64()), "{:?}", waits[3999]);
        assert!(delay(2, now).is_zero());
        let longest = (0..100_000).map(|_| delay(1, now)).max().unwrap();
        assert!((5.1..6.1).contains(&longest.as_secs_f64()), "{longest:?}: longer than calls are let wait");
        assert!(delay(1, now + Duration::from_secs(7)).is_zero());
    }

    #[test]
    fn addresses_that_are_counted_are_bounded() {
        let limits = Limits::default();
        let now = Instant::now();
        let of = |n: u16| IpAddr::from([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        let call = |n: u16, now: Instant| limits.enter(of(n), false).unwrap().delay(now);
        for n in 0..5000 {
            call(n, now);
        }
        assert!(limits.0.lock().unwrap().calls.len() <= COUNTED_MAX + 1);
        // A second later those of one call are as any other; those that count together have made some thousand.
        call(5000, now + Duration::from_secs(1));
        assert_eq!(limits.0.lock().unwrap().calls.len(), 2);
    }
}
