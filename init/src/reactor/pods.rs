//! The pods on the way down: their manifests go, what no kubelet ends is told to end, and their cgroup is watched.
//!
//! How long is waited for each decides the supervisor; this file does what it says.

use super::jobs::Kind;
use super::{Reactor, said};
use crate::manifest_dir;
use crate::sys::{cgroup, file};
use anyhow::Result;
use podium_init::paths;
use podium_init::staticpods::{LIST_MAX, StaticPods};
use podium_init::supervisor::Event;
use std::path::Path;
use std::time::Duration;

/// The cgroup that the kubelet makes for all pods.
const PODS: &str = "kubepods";

impl Reactor {
    pub(super) fn hide_manifests(&mut self) {
        // It would bring them back.
        self.jobs.kill(Kind::Change);
        // It makes mounts.
        self.jobs.kill(Kind::Wait);
        self.reserve.clear();
        if let Err(error) = manifest_dir::hide_all(Path::new(paths::MANIFESTS)) {
            self.say(format!("{error:#}"));
        }
        self.step(Event::Grace(longest_grace()));
    }

    pub(super) fn end_pods(&mut self) {
        match cgroup::signal(PODS, nix::libc::SIGTERM) {
            0 => {}
            count => self.say(format!("shutdown: {count} processes of pods are left, told to end")),
        }
    }

    pub(super) fn watch_pods(&mut self) {
        match cgroup::Events::open(PODS) {
            Ok(events) => self.pods = events,
            Err(error) => {
                // The phase's limit stands in for the watch.
                self.say(format!("{error}; waiting for the pods' limit"));
                return;
            }
        }
        match &mut self.pods {
            Some(_) => self.look_at_pods(),
            None => self.step(Event::PodsGone),
        }
    }

    pub(super) fn look_at_pods(&mut self) {
        if self.pods.as_mut().is_some_and(|pods| !pods.populated()) {
            self.pods = None;
            self.step(Event::PodsGone);
        }
    }
}

/// As whoever wrote the manifests left it; the default when it is not known.
fn longest_grace() -> Duration {
    let read = || -> Result<StaticPods> {
        Ok(serde_json::from_slice(&file::read(Path::new(paths::STATIC_PODS), LIST_MAX)?)?)
    };
    said(read()).map_or(Duration::ZERO, |pods| pods.longest_grace())
}
