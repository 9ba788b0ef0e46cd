//! What all calls share: the ways to the node's answers, and what is known of it.

use super::feed::Feeds;
use super::upstream::{Refused, Target, Upstream};
use crate::node::Setup;
use crate::places::Places;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Mutex as FairMutex, Semaphore, watch};
use tokio::time::Instant;

/// Configs that are received at a time: each is held four times over while it is taken apart.
const APPLYING_MAX: usize = 2;
/// The services are asked for at most so often, however many ask here; PID 1 has other things to do.
const SERVICES_FRESH: Duration = Duration::from_millis(50);

/// See the file's doc.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) places: Places,
    pub(super) upstream: Upstream,
    pub(super) feeds: Feeds,
    pub(super) applying: Arc<Semaphore>,
    /// Of the last reboot, shutdown or reset that was asked for here: its events are this actor's.
    pub(super) actor: Arc<Mutex<String>>,
    setup: watch::Receiver<Arc<Setup>>,
    services: FairMutex<Option<(Instant, Arc<Value>)>>,
}

impl Facts {
    /// Asks nothing yet.
    pub(super) fn new(places: Places, upstream: Upstream, setup: watch::Receiver<Arc<Setup>>) -> Self {
        let feeds = Feeds::new(&upstream, &setup);
        Self {
            places,
            upstream,
            feeds,
            applying: Arc::new(Semaphore::new(APPLYING_MAX)),
            actor: Arc::default(),
            setup,
            services: FairMutex::new(None),
        }
    }

    /// What the node wants the API to be.
    pub(super) fn setup(&self) -> Arc<Setup> {
        self.setup.borrow().clone()
    }

    pub(super) fn hostname(&self) -> String {
        self.setup.borrow().hostname.clone()
    }

    /// PID 1's answer to `services`. Those who ask while it is asked for get the next one together.
    pub(super) async fn services(&self) -> Result<Arc<Value>, Refused> {
        let asked = Instant::now();
        let mut last = self.services.lock().await;
        if let Some((begun, answer)) = &*last
            && *begun + SERVICES_FRESH >= asked
        {
            return Ok(answer.clone());
        }
        let begun = Instant::now();
        let answer = Arc::new(self.upstream.ask(Target::InitReader, &json!({"request": "services"})).await?);
        *last = Some((begun, answer.clone()));
        Ok(answer)
    }

    /// What was known of the services does not hold any more.
    pub(super) async fn forget_services(&self) {
        *self.services.lock().await = None;
    }
}
