//! How much strangers may cost: connections in all and of one address, handshakes, calls a second and at a time.
//!
//! An IPv6 client owns a whole /64, so that is what counts as one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
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

/// Calls under way, watches too. Each may hold 64 KiB that its reader does not take, but few answers are that long.
const CALLS_MAX: usize = 768;
/// Of one address: 200 watchers, and four connections with as many calls as they may have.
const CALLS_OF_ADDRESS_MAX: usize = 512;
/// Logs, lists and files that one address reads at a time, of the 40 that the node's helper gives to each of two roles.
const CONTENTS_OF_ADDRESS_MAX: usize = 16;

/// The counts. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(Arc<Mutex<HashMap<IpAddr, Peer>>>);

#[derive(Debug, Default)]
struct Peer {
    connections: usize,
    handshakes: usize,
    calls: usize,
    contents: usize,
    /// Calls that it may make now, and when that was so.
    bucket: Option<(f64, Instant)>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    limits: Limits,
    address: IpAddr,
    shakes: bool,
}

impl Limits {
    /// Lets a connection in, or not. It counts as one that shakes hands.
    pub(super) fn enter(&self, address: IpAddr, maintenance: bool) -> Option<Place> {
        let address = network(address);
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, shaking) = peers
            .values()
            .fold((0, 0), |(all, shaking), peer| (all + peer.connections, shaking + peer.handshakes));
        let (most, most_of_one) = match maintenance {
            true => (MAINTENANCE_MAX, MAINTENANCE_OF_ADDRESS_MAX),
            false => (CONNECTIONS_MAX, OF_ADDRESS_MAX),
        };
        let of_it = peers.get(&address).map_or((0, 0), |peer| (peer.connections, peer.handshakes));
        let is_full = all >= most
            || shaking >= HANDSHAKES_MAX
            || of_it.0 >= most_of_one
            || of_it.1 >= HANDSHAKES_OF_ADDRESS_MAX;
        if is_full {
            return None;
        }
        let peer = peers.entry(address).or_default();
        peer.connections += 1;
        peer.handshakes += 1;
        Some(Place { limits: self.clone(), address, shakes: true })
    }
}

impl Place {
    /// It has shown who it is.
    pub(super) fn has_shaken(&mut self) {
        self.with_peer(|peer| peer.handshakes = peer.handshakes.saturating_sub(1));
        self.shakes = false;
    }

    /// How long the next call must wait, so that its address keeps to its rate.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        let mut wait = Duration::ZERO;
        self.with_peer(|peer| {
            let (left, at) = peer.bucket.unwrap_or((CALLS, now));
            let left = (left + now.duration_since(at).as_secs_f64() * CALLS).min(CALLS) - 1.0;
            peer.bucket = Some((left, now));
            wait = Duration::from_secs_f64((-left / CALLS).clamp(0.0, 60.0));
        });
        wait
    }

    /// Lets a call begin that [`Self::end_call`] will end, or not. `content`: it reads a log, a list or a file.
    pub(super) fn begin_call(&self, content: bool) -> bool {
        let mut peers = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = peers.values().map(|peer| peer.calls).sum();
        let Some(peer) = peers.get_mut(&self.address) else { return false };
        let is_full = all >= CALLS_MAX
            || peer.calls >= CALLS_OF_ADDRESS_MAX
            || content && peer.contents >= CONTENTS_OF_ADDRESS_MAX;
        if !is_full {
            peer.calls += 1;
            peer.contents += usize::from(content);
        }
        !is_full
    }

    /// Of one that [`Self::begin_call`] has let begin.
    pub(super) fn end_call(&self, content: bool) {
        self.with_peer(|peer| {
            peer.calls = peer.calls.saturating_sub(1);
            peer.contents = peer.contents.saturating_sub(usize::from(content));
        });
    }

    fn with_peer(&self, change: impl FnOnce(&mut Peer)) {
        let mut peers = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get_mut(&self.address) {
            change(peer);
            if peer.connections == 0 {
                peers.remove(&self.address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shakes = self.shakes;
        self.with_peer(|peer| {
            peer.connections = peer.connections.saturating_sub(1);
            peer.handshakes = peer.handshakes.saturating_sub(usize::from(shakes));
        });
    }
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
        while let Some(mut place) = limits.enter(address(1), false) {
            place.has_shaken();
            places.push(place);
        }
        assert_eq!(places.len(), OF_ADDRESS_MAX);
        assert!(limits.enter(address(2), false).is_some());
        places.pop();
        assert!(limits.enter(address(1), false).is_some());
        drop(places);
        assert!(limits.0.lock().unwrap().is_empty());
    }

    #[test]
    fn handshakes_that_never_end_are_few() {
        let limits = Limits::default();
        let places: Vec<Place> = std::iter::from_fn(|| limits.enter(address(1), false)).collect();
        assert_eq!(places.len(), HANDSHAKES_OF_ADDRESS_MAX);
        assert!(limits.enter("2001:db8::1".parse().unwrap(), false).is_some());
        let limits = Limits::default();
        let same = |n: u16| IpAddr::V6([0x2001, 0xdb8, 0, 0, 0, 0, 0, n].into());
        let places: Vec<Place> = (0..99).filter_map(|n| limits.enter(same(n), true)).collect();
        assert_eq!(places.len(), MAINTENANCE_OF_ADDRESS_MAX);
        drop(places);
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
}
