//! One subscription of something on the node, shared by all who watch it here.
//!
//! While somebody watches, a source keeps the newest value; a while after the last one has left it ends, so that
//! nobody is asked for what nobody looks at. Watchers that are slow see the newest value and not each one.

use super::upstream::{ANSWER_LIMIT, Refused};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;

/// Between attempts of a source that has failed.
const AGAIN: Duration = Duration::from_secs(1);
/// One that has failed for so long has its watchers told. The helper's own restart takes a second or two.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the last watcher: the next command of the same person finds the source still there.
const LINGER: Duration = Duration::from_secs(3);

/// What is known now.
#[derive(Debug, Clone)]
pub(super) enum State<T> {
    /// Nothing yet.
    Waiting,
    /// This.
    Now(T),
    /// It cannot be known; another attempt follows.
    Failed(Refused),
}

/// A watcher's view of a hub whose source may fail: what was known is as it was, until something else is known or the
/// source has failed for too long.
#[derive(Debug, Default)]
pub(super) struct Failing(Option<(Refused, Instant)>);

impl Failing {
    /// Looks at a state: what is known now.
    pub(super) fn see<T: Clone>(&mut self, state: &State<T>) -> Option<T> {
        match state {
            State::Now(value) => {
                self.0 = None;
                Some(value.clone())
            }
            State::Waiting => None,
            State::Failed(refused) => {
                let since = self.0.take().map_or_else(Instant::now, |(_, since)| since);
                self.0 = Some((refused.clone(), since));
                None
            }
        }
    }

    /// Returns why, when it has failed for too long. `has_told`: whoever was told nothing yet need not wait for it.
    pub(super) async fn given_up(&self, has_told: bool) -> Refused {
        let Some((refused, since)) = &self.0 else { return std::future::pending().await };
        sleep_until(*since + if has_told { PATIENCE } else { Duration::ZERO }).await;
        refused.clone()
    }
}

/// See the file's doc. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Hub<T> {
    state: Arc<watch::Sender<State<T>>>,
    wanted: Arc<Notify>,
}

impl<T: Debug + Clone + Send + Sync + 'static> Hub<T> {
    /// `source` publishes values until it cannot, and says why.
    pub(super) fn start<F, S>(source: F) -> Self
    where
        F: Fn(Publisher<T>) -> S + Send + 'static,
        S: Future<Output = Refused> + Send,
    {
        Self::lingering(LINGER, source)
    }

    fn lingering<F, S>(linger: Duration, source: F) -> Self
    where
        F: Fn(Publisher<T>) -> S + Send + 'static,
        S: Future<Output = Refused> + Send,
    {
        let hub = Self { state: Arc::new(watch::Sender::new(State::Waiting)), wanted: Arc::default() };
        let (state, wanted) = (hub.state.clone(), hub.wanted.clone());
        tokio::spawn(async move {
            loop {
                // What was known before is not told as new.
                state.send_replace(State::Waiting);
                while state.receiver_count() == 0 {
                    wanted.notified().await;
                }
                tokio::select! {
                    refused = source(Publisher(state.clone())) => {
                        state.send_replace(State::Failed(refused));
                        sleep(AGAIN).await;
                    }
                    () = idle(&state, linger) => {}
                }
            }
        });
        hub
    }

    /// Values from now on; the first one may be the one that is known.
    pub(super) fn watch(&self) -> watch::Receiver<State<T>> {
        let watcher = self.state.subscribe();
        self.wanted.notify_one();
        watcher
    }

    /// The value as it is now.
    pub(super) async fn get(&self) -> Result<T, Status> {
        let mut watcher = self.watch();
        let known = timeout(ANSWER_LIMIT, watcher.wait_for(|state| !matches!(state, State::Waiting))).await;
        match known {
            Ok(Ok(state)) => match &*state {
                State::Now(value) => Ok(value.clone()),
                State::Failed(refused) => Err(refused.clone().into()),
                State::Waiting => Err(Status::internal("nothing is known")),
            },
            Ok(Err(_)) => Err(Status::internal("the source has ended")),
            Err(_) => Err(Status::unavailable(format!("no answer within {} s", ANSWER_LIMIT.as_secs()))),
        }
    }
}

/// A source's end of a hub.
#[derive(Debug)]
pub(super) struct Publisher<T>(Arc<watch::Sender<State<T>>>);

impl<T> Publisher<T> {
    /// Tells everybody.
    pub(super) fn publish(&self, value: T) {
        self.0.send_replace(State::Now(value));
    }
}

/// Returns when nobody has watched for a while.
async fn idle<T>(state: &watch::Sender<State<T>>, linger: Duration) {
    loop {
        state.closed().await;
        sleep(linger).await;
        if state.receiver_count() == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn many_watchers_have_one_source_that_ends_with_the_last_of_them() {
        let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        struct OnDrop(Arc<AtomicUsize>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (b, e) = (begun.clone(), ended.clone());
        let hub = Hub::lingering(Duration::ZERO, move |publisher: Publisher<usize>| {
            let number = b.fetch_add(1, Ordering::SeqCst);
            let dropped = OnDrop(e.clone());
            async move {
                let _dropped = dropped;
                publisher.publish(number);
                std::future::pending().await
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(begun.load(Ordering::SeqCst), 0, "nobody watches");
        let watchers: Vec<_> = (0..200).map(|_| hub.watch()).collect();
        assert_eq!(hub.get().await.unwrap(), 0);
        assert_eq!((begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst)), (1, 0));
        drop(watchers);
        while ended.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hub.get().await.unwrap(), 1, "what was known before is not told as new");
    }
}
