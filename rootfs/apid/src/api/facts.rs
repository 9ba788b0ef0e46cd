//! What all calls share: the ways to the node's answers, and what is known of it.

use super::feed::Feeds;
use super::fresh::Fresh;
use super::parts::Parts;
use super::procfs;
use super::request::Budget;
use super::upstream::{Refused, Target, Upstream};
use super::weight;
use crate::node::Setup;
use crate::places::Places;
use podium_wire::machine::Process;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tonic::Status;

/// See the file's doc.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) places: Places,
    pub(super) upstream: Upstream,
    pub(super) feeds: Feeds,
    pub(super) budget: Budget,
    /// For answers.
    pub(super) room: Parts,
    /// Of the last reboot, shutdown or reset that was asked for here: its events are this actor's.
    pub(super) actor: Arc<Mutex<String>>,
    setup: watch::Receiver<Arc<Setup>>,
    services: Fresh<Value>,
    processes: Fresh<Process>,
}

impl Facts {
    /// Asks nothing yet.
    pub(super) fn new(places: Places, upstream: Upstream, setup: watch::Receiver<Arc<Setup>>) -> Self {
        let feeds = Feeds::new(&upstream, &setup);
        Self {
            places,
            upstream,
            feeds,
            budget: Budget::default(),
            room: weight::room(),
            actor: Arc::default(),
            setup,
            services: Fresh::default(),
            processes: Fresh::default(),
        }
    }

    /// What the node wants the API to be.
    pub(super) fn setup(&self) -> Arc<Setup> {
        self.setup.borrow().clone()
    }

    pub(super) fn hostname(&self) -> String {
        self.setup.borrow().hostname.clone()
    }

    /// PID 1's answer to `services`; PID 1 has other things to do than to give it to each.
    pub(super) async fn services(&self) -> Result<Arc<Value>, Refused> {
        let request = json!({"request": "services"});
        self.services.get(self.upstream.ask(Target::InitReader, &request)).await
    }

    /// What was known of the services does not hold any more.
    pub(super) async fn forget_services(&self) {
        self.services.forget().await;
    }

    /// All processes; a node with a thousand pods has thousands, with files to be read of each.
    pub(super) async fn processes(&self) -> Result<Arc<Process>, Status> {
        self.processes.get(async { procfs::processes(&self.places) }).await
    }
}
