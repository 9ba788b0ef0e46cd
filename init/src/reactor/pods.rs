//! The pods on the way down: their manifests go, what no kubelet ends is told to end, and their cgroup is watched.
//!
//! How long is waited for each decides the supervisor; this file does what it says.

use super::jobs::Kind;
use super::{Reactor, said};
use crate::manifest_dir;
use crate::sys::{cgroup, file};
use anyhow::{Context, Result};
use podium_init::config::ShutdownLimits;
use podium_init::paths;
use podium_init::shutdown::{Limits, Phase, Shutdown};
use podium_init::staticpods::{LIST_MAX, StaticPod, StaticPods};
use podium_init::supervisor::Event;
use podium_init::words::list;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Three numbers.
const LIMITS_MAX: usize = 1 << 10;

/// The names of pods by their UIDs.
#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<String, String>);

impl Reactor {
    /// The node's life shall end; asked for a second time, quicker.
    pub(super) fn end(&mut self, how: Shutdown, by: String) {
        if self.supervisor.shutting_down().is_none() {
            self.reserve.clear();
            let limits = said(limits()).unwrap_or_default();
            let pods = said(static_pods()).unwrap_or_default();
            let name = |pod: &StaticPod| format!("{}/{}", pod.namespace, pod.name);
            let ours = || pods.pods.iter().filter(|pod| !pod.uid.is_empty());
            self.leaving = Leaving(ours().map(|pod| (pod.uid.clone(), name(pod))).collect());
            self.step(Event::Limits(limits, pods.longest_grace()));
            let longer = ours().filter(|pod| Duration::from_secs(pod.grace_s) > limits.pods);
            let longer: Vec<String> =
                longer.map(|pod| format!("{} ({} s)", name(pod), pod.grace_s)).collect();
            if !longer.is_empty() {
                self.say(format!(
                    "shutdown: pods get {} s to end, and some ask for more: {}; raise {}",
                    limits.pods.as_secs(),
                    list(&longer),
                    limits.raise
                ));
            }
        }
        self.step(Event::Shutdown(how, by));
    }

    pub(super) fn hide_manifests(&mut self) {
        // It would bring them back.
        self.jobs.kill(Kind::Change);
        // It makes mounts.
        self.jobs.kill(Kind::Wait);
        if let Err(error) = manifest_dir::hide_all(Path::new(paths::MANIFESTS)) {
            self.say(format!("{error:#}"));
        }
    }

    /// Who is waited for, by name; one that is not the config's by its UID.
    pub(super) fn tell_pods(&mut self, left: Duration) {
        // They may have gone within the same step.
        let phase = self.supervisor.shutting_down().map(|(_, phase)| phase);
        if !matches!(phase, Some(Phase::Pods | Phase::Rest)) {
            return;
        }
        let name = |uid: String| self.leaving.0.get(&uid).cloned().unwrap_or_else(|| format!("UID {uid}"));
        let names: Vec<String> = cgroup::pods_with_processes().into_iter().map(name).collect();
        let names = if names.is_empty() { "of unknown names".to_owned() } else { list(&names) };
        self.say(format!("shutdown: waiting for pods: {names}; at most {} s", left.as_secs()));
    }

    pub(super) fn end_pods(&mut self) {
        match cgroup::signal(cgroup::PODS, nix::libc::SIGTERM) {
            0 => {}
            count => self.say(format!("shutdown: {count} processes of pods are left, told to end")),
        }
    }

    pub(super) fn watch_pods(&mut self) {
        match cgroup::Events::open(cgroup::PODS) {
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

/// As whoever wrote the config in use left them.
fn limits() -> Result<Limits> {
    let path = Path::new(paths::SHUTDOWN_LIMITS);
    let config: ShutdownLimits = serde_json::from_slice(&file::read(path, LIMITS_MAX)?)
        .with_context(|| format!("read {}", path.display()))?;
    Ok(Limits::of(&config))
}

/// As whoever wrote the manifests left them.
fn static_pods() -> Result<StaticPods> {
    let path = Path::new(paths::STATIC_PODS);
    serde_json::from_slice(&file::read(path, LIST_MAX)?).with_context(|| format!("read {}", path.display()))
}
