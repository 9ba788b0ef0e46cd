//! The node's static pods as resources: which there are, where each comes from, and how often it has changed.
//!
//! The list is kept in [`crate::paths::STATIC_PODS`] by whoever writes manifests (a boot, a change) and read by those
//! who show it. Versions count from 1 at a boot and by one at each change of a pod's manifest. This file decides what
//! the next list is; it touches no file.

use crate::config::{Problem, Severity};
use crate::digest::fnv1a;
use crate::manifests::Manifest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The most problems that are kept of one pod.
pub const PROBLEMS_OF_A_POD: usize = 20;

/// All of them, in the order of their ids, files of others behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticPods {
    /// The list.
    pub pods: Vec<StaticPod>,
}

/// Where a static pod comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `machine.pods`.
    Config,
    /// A file in the manifest directory that is not Podium's.
    File,
    /// Made by Podium itself.
    Generated,
}

/// One static pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticPod {
    /// `<namespace>-<name>`; of a file of others its name.
    pub id: String,
    /// Empty for a file of others: it is not read.
    pub namespace: String,
    /// As [`Self::namespace`].
    pub name: String,
    /// The UID in its manifest; empty while it has none.
    pub uid: String,
    /// From 1; of a pod that never had a manifest 0.
    pub version: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// Its file's name in the manifest directory; empty while it has none.
    pub file: String,
    /// Tells two manifests apart: [`fnv1a`], 32 hex digits; empty while it has none.
    pub digest: String,
    /// How long it may take to end; 0 where that is not known.
    #[serde(default)]
    pub grace_s: u64,
    /// False: as the config has it, it cannot be run. `file` may still hold what could.
    pub valid: bool,
    /// What is wrong or doubtful, as lines; at most [`PROBLEMS_OF_A_POD`] and one that counts the rest.
    pub problems: Vec<String>,
}

impl StaticPods {
    /// The list after a change: these manifests and problems are the config's, these files are of others.
    #[must_use]
    pub fn next(&self, manifests: &[Manifest], problems: &[Problem], foreign: &[String]) -> Self {
        let before: BTreeMap<&str, &StaticPod> = self
            .pods
            .iter()
            .filter(|pod| pod.origin == Origin::Config)
            .map(|pod| (pod.id.as_str(), pod))
            .collect();
        let mut said: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
        for problem in problems {
            if let Some(pod) = &problem.pod {
                said.entry(pod).or_default().push(problem);
            }
        }
        let mut pods: Vec<StaticPod> = manifests
            .iter()
            .map(|manifest| {
                let problems = said.remove(manifest.id.as_str()).unwrap_or_default();
                valid(manifest, before.get(manifest.id.as_str()).copied(), &problems)
            })
            .collect();
        pods.extend(
            said.into_iter()
                .filter(|(_, problems)| is_refused(problems))
                .map(|(id, problems)| refused(id, before.get(id).copied(), &problems)),
        );
        pods.sort_by(|one, other| one.id.cmp(&other.id));
        pods.extend(foreign.iter().map(|file| of_others(file)));
        Self { pods }
    }

    /// The longest time that one of them may take to end.
    pub fn longest_grace(&self) -> Duration {
        Duration::from_secs(self.pods.iter().map(|pod| pod.grace_s).max().unwrap_or_default())
    }

    /// The ids of pods that the config has and that cannot be run.
    pub fn refused(&self) -> BTreeSet<String> {
        self.pods.iter().filter(|pod| !pod.valid).map(|pod| pod.id.clone()).collect()
    }
}

/// Whether these problems stop their pod.
fn is_refused(problems: &[&Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

fn valid(manifest: &Manifest, before: Option<&StaticPod>, problems: &[&Problem]) -> StaticPod {
    let digest = format!("{:032x}", fnv1a(manifest.bytes.as_bytes()));
    let version = match before {
        Some(before) if before.digest == digest => before.version,
        Some(before) => before.version.saturating_add(1),
        None => 1,
    };
    StaticPod {
        id: manifest.id.clone(),
        namespace: manifest.namespace.clone(),
        name: manifest.name.clone(),
        uid: manifest.uid.clone(),
        version,
        origin: Origin::Config,
        file: manifest.file.clone(),
        digest,
        grace_s: manifest.grace_s,
        // The config's own version of it may be refused while this one, of an earlier config, runs.
        valid: !is_refused(problems),
        problems: lines(problems),
    }
}

/// One that cannot be run keeps what it had: the file of its last good version stays.
fn refused(id: &str, before: Option<&StaticPod>, problems: &[&Problem]) -> StaticPod {
    let (namespace, name) = id.split_once('-').unwrap_or(("", ""));
    let new = StaticPod {
        id: id.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: String::new(),
        version: 0,
        origin: Origin::Config,
        file: String::new(),
        digest: String::new(),
        grace_s: 0,
        valid: false,
        problems: Vec::new(),
    };
    StaticPod { valid: false, problems: lines(problems), ..before.cloned().unwrap_or(new) }
}

fn of_others(file: &str) -> StaticPod {
    StaticPod {
        id: file.to_owned(),
        namespace: String::new(),
        name: String::new(),
        uid: String::new(),
        version: 1,
        origin: Origin::File,
        file: file.to_owned(),
        digest: String::new(),
        grace_s: 0,
        valid: true,
        problems: Vec::new(),
    }
}

fn lines(problems: &[&Problem]) -> Vec<String> {
    let mut lines: Vec<String> = problems.iter().take(PROBLEMS_OF_A_POD).map(ToString::to_string).collect();
    if let Some(more) = problems.len().checked_sub(PROBLEMS_OF_A_POD).filter(|more| *more > 0) {
        lines.push(format!("{more} more problems"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn pod(name: &str, image: &str) -> String {
        format!(
            "    - {{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, {image}}}]}}}}\n"
        )
    }

    fn next(before: &StaticPods, pods: &[String]) -> StaticPods {
        let text = format!("version: v1alpha1\nmachine:\n  pods:\n{}", pods.concat());
        let outcome = config::parse(text.as_bytes());
        before.next(&outcome.manifests, &outcome.problems, &["other.yaml".to_owned()])
    }

    fn versions(pods: &StaticPods) -> Vec<(&str, u64, bool)> {
        pods.pods.iter().map(|pod| (pod.id.as_str(), pod.version, pod.valid)).collect()
    }

    #[test]
    fn a_version_counts_the_changes_of_one_pod() {
        let first = next(&StaticPods::default(), &[pod("b", "image: i:1"), pod("a", "image: i:1")]);
        assert_eq!(
            versions(&first),
            [("default-a", 1, true), ("default-b", 1, true), ("other.yaml", 1, true)]
        );
        let second = next(&first, &[pod("a", "image: i:1"), pod("b", "image: i:2")]);
        assert_eq!(versions(&second)[..2], [("default-a", 1, true), ("default-b", 2, true)]);
        let third = next(&second, &[pod("b", "image: i:1")]);
        assert_eq!(versions(&third)[..1], [("default-b", 3, true)]);
    }

    #[test]
    fn a_refused_update_keeps_version_and_file_and_says_why() {
        let first = next(&StaticPods::default(), &[pod("a", "image: i:1")]);
        let second = next(&first, &[pod("a", "imgae: i:2"), pod("b", "imgae: i")]);
        assert_eq!(versions(&second)[..2], [("default-a", 1, false), ("default-b", 0, false)]);
        assert_eq!(second.pods[0].file, first.pods[0].file);
        assert!(second.pods[0].problems.iter().any(|line| line.contains("imgae")), "{second:?}");
        assert_eq!(second.refused().into_iter().collect::<Vec<_>>(), ["default-a", "default-b"]);
        let third = next(&second, &[pod("a", "image: i:2")]);
        assert_eq!(versions(&third)[..1], [("default-a", 2, true)]);
        assert!(third.pods[0].problems.is_empty());
    }

    #[test]
    fn the_longest_grace_is_that_of_what_runs_also_of_what_was_refused_since() {
        let grace = |pods: &StaticPods| pods.longest_grace().as_secs();
        assert_eq!(grace(&StaticPods::default()), 0);
        let slow = pod("b", "image: i").replace("spec: {", "spec: {terminationGracePeriodSeconds: 120, ");
        let first = next(&StaticPods::default(), &[pod("a", "image: i"), slow]);
        assert_eq!(grace(&first), 120);
        let second = next(&first, &[pod("a", "image: i"), pod("b", "imgae: i")]);
        assert_eq!(grace(&second), 120);
        assert_eq!(grace(&next(&second, &[pod("a", "image: i")])), 30);
    }
}
