//! Something that there is so much of, in all and for each address: of requests so many at a time, of answers so many
//! bytes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Who has how much of it. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    most: usize,
    most_of_one: usize,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    taken: Mutex<HashMap<IpAddr, usize>>,
    freed: Notify,
}

/// A part, taken until this is dropped.
#[derive(Debug)]
pub(super) struct Part {
    of: Parts,
    address: IpAddr,
    amount: usize,
}

impl Parts {
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, counts: Arc::default() }
    }

    /// None: there is not so much left, or not for this address.
    pub(super) fn take(&self, address: IpAddr, amount: usize) -> Option<Part> {
        let mut taken = self.counts.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let of_it = taken.get(&address).copied().unwrap_or(0);
        if all + amount > self.most || of_it + amount > self.most_of_one {
            return None;
        }
        taken.insert(address, of_it + amount);
        Some(Part { of: self.clone(), address, amount })
    }

    /// The same, once there is so much.
    pub(super) async fn wait(&self, address: IpAddr, amount: usize) -> Part {
        loop {
            let mut freed = std::pin::pin!(self.counts.freed.notified());
            // From here on nothing that is given back is missed.
            freed.as_mut().enable();
            if let Some(part) = self.take(address, amount) {
                return part;
            }
            freed.await;
        }
    }

    /// What all have together.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.counts.taken.lock().unwrap().values().sum()
    }

    /// Whether nothing is remembered of anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.counts.taken.lock().unwrap().is_empty()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.of.counts.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_it) = taken.get_mut(&self.address) {
            *of_it = of_it.saturating_sub(self.amount);
            if *of_it == 0 {
                taken.remove(&self.address);
            }
        }
        drop(taken);
        self.of.counts.freed.notify_waiters();
    }
}
