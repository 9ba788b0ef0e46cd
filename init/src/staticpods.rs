//! The node's static pods as resources: which there are, where each comes from, and how often it has changed.
//!
//! The list is kept in [`crate::paths::STATIC_PODS`] by whoever writes manifests (a boot, a change) and read by those
//! who show it, and in [`crate::paths::POD_VERSIONS`] for the next boot. Versions count from 1 and by one at each change
//! of a pod's manifest, over boots and when a pod comes back. This file decides what the next list is; it touches no
//! file.

use crate::config::{self, Problem, Severity};
use crate::digest::fnv1a;
use crate::manifests::{self, Held, Manifest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The most problems that are kept of one pod.
pub const PROBLEMS_OF_A_POD: usize = 20;

/// The most versions that are kept of pods and files that are gone: a node that has had so many starts some anew.
const GONE_MAX: usize = 1000;

/// The longest list as JSON, bytes: a thousand pods take some hundred KiB.
pub const LIST_MAX: usize = 16 << 20;

/// All of them, in the order of their ids, files of others behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StaticPods {
    /// The list.
    pub pods: Vec<StaticPod>,
    /// Those that there were, by [`StaticPod::key`].
    pub gone: BTreeMap<String, Past>,
}

/// What is kept of one that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Its last version.
    pub version: u64,
    /// Its digest if the node was down since, and it may be there again as it was; otherwise empty.
    pub digest: String,
}

/// A file of others in the manifest directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Its name.
    pub file: String,
    /// What it holds; `None`: nobody has read it yet, or could.
    pub read: Option<Read>,
}

/// What a file of others holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// Tells two contents apart.
    pub digest: String,
    /// Namespace, name and UID of a pod that keeps the rules which the config's keep.
    pub pod: Option<(String, String, String)>,
    /// How long that pod may take to end.
    pub grace_s: u64,
    /// What is wrong or doubtful.
    pub problems: Vec<Problem>,
}

impl Read {
    /// Looks at the first document of a file, as a kubelet does.
    pub fn of(text: &[u8]) -> Self {
        let digest = format!("{:032x}", fnv1a(text));
        let value = match config::pod(text) {
            Ok(value) => value,
            Err(problem) => return Self { digest, problems: vec![*problem], ..Self::default() },
        };
        let (mut manifests, mut problems) = manifests::plan(&[value], &|_| None);
        let manifest = manifests.pop();
        let grace_s = manifest.as_ref().map_or(0, |manifest| manifest.grace_s);
        let pod = manifest.map(|manifest| (manifest.namespace, manifest.name, manifest.uid));
        for problem in &mut problems {
            // There it is the first of a config's pods.
            let path = problem.path.trim_start_matches("machine.pods[0]").trim_start_matches('.').to_owned();
            problem.path = path;
        }
        Self { digest, pod, grace_s, problems }
    }
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
    /// `<namespace>-<name>`; of a file of others in which no pod was found its name.
    pub id: String,
    /// Empty where no pod was found.
    pub namespace: String,
    /// As [`Self::namespace`].
    pub name: String,
    /// The UID in its manifest, of a file of others the one that its content would give; empty while it has none.
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
    /// What its manifest, or the newest version of it, waits for before it is written; empty when it does not wait.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub held: String,
}

impl StaticPods {
    /// The list after a change: these manifests and problems are the config's, these files are of others.
    #[must_use]
    pub fn next(&self, manifests: &[Manifest], problems: &[Problem], foreign: &[Foreign]) -> Self {
        let before: BTreeMap<String, &StaticPod> = self.pods.iter().map(|pod| (pod.key(), pod)).collect();
        let version = |key: &str, digest: &str| match (
            before.get(key).filter(|pod| pod.version > 0),
            self.gone.get(key),
        ) {
            (Some(before), _) if before.digest == digest => before.version,
            (Some(before), _) => before.version.saturating_add(1),
            (None, Some(past)) if past.digest == digest => past.version,
            (None, Some(past)) => past.version.saturating_add(1),
            (None, None) => 1,
        };
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
                let digest = format!("{:032x}", fnv1a(manifest.bytes.as_bytes()));
                let version = version(&manifest.id, &digest);
                valid(manifest, version, digest, &problems)
            })
            .collect();
        pods.extend(
            said.into_iter()
                .filter(|(_, problems)| is_refused(problems))
                .map(|(id, problems)| refused(id, before.get(id).copied(), &problems)),
        );
        pods.sort_by(|one, other| one.id.cmp(&other.id));
        pods.extend(foreign.iter().map(|foreign| {
            let digest = foreign.read.as_ref().map_or(String::new(), |read| read.digest.clone());
            let key = key_of_file(&foreign.file);
            // Of one that nobody has read yet nothing is known to have changed.
            let same = if digest.is_empty() { before.get(&key).map(|pod| pod.digest.as_str()) } else { None };
            of_others(foreign, version(&key, same.unwrap_or(&digest)), digest.clone())
        }));
        // One that never had a manifest here has not taken over its past.
        let there: BTreeSet<String> = pods.iter().filter(|pod| pod.version > 0).map(StaticPod::key).collect();
        let ended = before.iter().filter(|(_, pod)| pod.version > 0);
        let ended =
            ended.map(|(key, pod)| (key.clone(), Past { version: pod.version, digest: String::new() }));
        let mut gone: BTreeMap<String, Past> = self.gone.clone().into_iter().chain(ended).collect();
        gone.retain(|key, _| !there.contains(key));
        while gone.len() > GONE_MAX {
            gone.pop_first();
        }
        Self { pods, gone }
    }

    /// The list, which is the next one after `before`, with the pods whose manifests are not written yet: as they were
    /// until then, if their old version stands.
    #[must_use]
    pub fn with_held(mut self, before: &Self, held: &[Held]) -> Self {
        for held in held {
            let old = before.pods.iter().find(|pod| pod.origin != Origin::File && pod.id == held.id);
            let listed = self.pods.iter().position(|pod| pod.origin != Origin::File && pod.id == held.id);
            let pod = if let Some(place) = listed {
                // It cannot be run, and what would run in its place is held.
                self.pods.remove(place)
            } else {
                let past = self.gone.remove(&held.id);
                let mut pod = unwritten(&held.id, &held.namespace, &held.name);
                // What still runs of it has its time at a shutdown, too.
                pod.grace_s = old.map_or(0, |old| old.grace_s);
                if let Some(old) = old.filter(|_| held.stands) {
                    pod = old.clone();
                } else if let Some(past) = past {
                    // Not of a manifest that is there: at boot the same may come again, which is no change.
                    (pod.version, pod.digest) = (past.version, past.digest);
                }
                StaticPod { valid: true, problems: Vec::new(), ..pod }
            };
            self.pods.push(StaticPod { held: held.reason.clone(), ..pod });
        }
        let is_others = |pod: &StaticPod| pod.origin == Origin::File;
        let id = |pod: &StaticPod| if is_others(pod) { String::new() } else { pod.id.clone() };
        self.pods.sort_by_key(|pod| (is_others(pod), id(pod)));
        self
    }

    /// The list as a boot has it, before anything is there again.
    #[must_use]
    pub fn at_boot(self) -> Self {
        let past = |pod: StaticPod| (pod.key(), Past { version: pod.version, digest: pod.digest });
        let had = self.pods.into_iter().filter(|pod| pod.version > 0).map(past);
        Self { pods: Vec::new(), gone: self.gone.into_iter().chain(had).collect() }
    }

    /// The longest time that one of them may take to end.
    pub fn longest_grace(&self) -> Duration {
        Duration::from_secs(self.pods.iter().map(|pod| pod.grace_s).max().unwrap_or_default())
    }

    /// The ids of pods that the config has and that cannot be run.
    pub fn refused(&self) -> BTreeSet<String> {
        self.pods
            .iter()
            .filter(|pod| pod.origin == Origin::Config && !pod.valid)
            .map(|pod| pod.id.clone())
            .collect()
    }
}

/// Whether these problems stop their pod.
fn is_refused(problems: &[&Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

impl StaticPod {
    /// What it is known by from one list to the next: a pod's id, which no file of others takes from it.
    pub fn key(&self) -> String {
        match self.origin {
            Origin::Config | Origin::Generated => self.id.clone(),
            Origin::File => key_of_file(&self.file),
        }
    }
}

/// No id has a slash.
fn key_of_file(file: &str) -> String {
    format!("/{file}")
}

fn valid(manifest: &Manifest, version: u64, digest: String, problems: &[&Problem]) -> StaticPod {
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
        held: String::new(),
    }
}

/// One that cannot be run keeps what it had: the file of its last good version stays.
fn refused(id: &str, before: Option<&StaticPod>, problems: &[&Problem]) -> StaticPod {
    let (namespace, name) = id.split_once('-').unwrap_or(("", ""));
    let new = unwritten(id, namespace, name);
    let had = before.cloned().unwrap_or(new);
    StaticPod { valid: false, problems: lines(problems), held: String::new(), ..had }
}

/// One that never had a manifest.
fn unwritten(id: &str, namespace: &str, name: &str) -> StaticPod {
    StaticPod {
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
        held: String::new(),
    }
}

fn of_others(foreign: &Foreign, version: u64, digest: String) -> StaticPod {
    let read = foreign.read.clone().unwrap_or_default();
    let problems: Vec<&Problem> = read.problems.iter().collect();
    let valid = foreign.read.is_none() || read.pod.is_some() && !is_refused(&problems);
    let problems = lines(&problems);
    let (namespace, name, uid) = read.pod.unwrap_or_default();
    StaticPod {
        id: if name.is_empty() { foreign.file.clone() } else { format!("{namespace}-{name}") },
        namespace,
        name,
        uid,
        version,
        origin: Origin::File,
        file: foreign.file.clone(),
        digest,
        grace_s: read.grace_s,
        valid,
        problems,
        held: String::new(),
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
        before.next(
            &outcome.manifests,
            &outcome.problems,
            &[Foreign { file: "other.yaml".to_owned(), read: None }],
        )
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
        let fourth = next(&third, &[pod("a", "image: i:1"), pod("b", "image: i:1")]);
        assert_eq!(versions(&fourth)[..2], [("default-a", 2, true), ("default-b", 3, true)], "a is back");
    }

    #[test]
    fn a_version_goes_on_over_a_boot() {
        let first = next(&StaticPods::default(), &[pod("a", "image: i:1"), pod("b", "image: i:1")]);
        let second = next(&first, &[pod("a", "image: i:2"), pod("b", "image: i:1")]);
        let json = serde_json::to_string(&second).unwrap();
        let booted = serde_json::from_str::<StaticPods>(&json).unwrap().at_boot();
        let same = next(&booted, &[pod("a", "image: i:2"), pod("b", "image: i:3")]);
        assert_eq!(
            versions(&same),
            [("default-a", 2, true), ("default-b", 2, true), ("other.yaml", 1, true)]
        );
        let refused = next(&booted, &[pod("a", "imgae: i")]);
        assert_eq!(refused.pods[0].file, "", "it has none yet");
        assert_eq!(versions(&next(&refused, &[pod("a", "image: i:4")]))[..1], [("default-a", 3, true)]);
    }

    #[test]
    fn a_file_of_others_is_read_and_counted() {
        let list = |before: &StaticPods, text: &str| {
            let read = Some(Read::of(text.as_bytes()));
            before.next(&[], &[], &[Foreign { file: "x.yaml".into(), read }])
        };
        let good =
            "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: c, image: i}]}}";
        let unread = StaticPods::default().next(&[], &[], &[Foreign { file: "x.yaml".into(), read: None }]);
        assert_eq!(versions(&unread), [("x.yaml", 1, true)]);
        let first = list(&StaticPods::default(), good);
        assert_eq!(versions(&first), [("default-x", 1, true)]);
        assert_eq!(versions(&list(&first, good)), [("default-x", 1, true)]);
        let second = list(&first, &good.replace("image", "imgae"));
        assert_eq!(versions(&second), [("x.yaml", 2, false)]);
        assert!(second.pods[0].problems[0].starts_with("spec.containers[0]"), "{second:?}");
        assert_eq!(second.refused(), BTreeSet::new(), "none of the config's");
        assert_eq!(versions(&list(&second, "\u{1}: [")), [("x.yaml", 3, false)]);
    }

    #[test]
    fn a_file_of_others_is_not_written_out_without_bounds() {
        let many = |what: &str, count| [what].repeat(count).join(", ");
        for (value, times) in [(format!("[{}]", many("1", 1000)), 1000), ("x".repeat(100_000), 1000)] {
            let read = Read::of(format!("a: &a {value}\nb: [{}]\n", many("*a", times)).as_bytes());
            let line = read.problems[0].to_string();
            assert!(read.pod.is_none() && line.contains("aliases written out"), "{line}");
        }
        let first =
            "{apiVersion: v1, kind: Pod, metadata: {name: &n x}, spec: {containers: [{name: *n, image: i}]}}";
        let read = Read::of(format!("{first}\n---\n&a [*a]").as_bytes());
        assert_eq!(
            read.pod.map(|(_, name, _)| name).as_deref(),
            Some("x"),
            "as a kubelet: {:?}",
            read.problems
        );
    }

    #[test]
    fn what_is_kept_of_the_past_is_bounded() {
        let mut before = StaticPods::default();
        for number in 0..GONE_MAX + 5 {
            before.gone.insert(number.to_string(), Past { version: 1, digest: String::new() });
        }
        assert_eq!(before.next(&[], &[], &[]).gone.len(), GONE_MAX);
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
    fn a_held_pod_is_listed_with_its_old_version_or_none_and_counts_on_when_it_is_written() {
        let first = next(&StaticPods::default(), &[pod("a", "image: i:1"), pod("b", "image: i:1")]);
        let held = |stands| Held {
            id: "default-a".into(),
            namespace: "default".into(),
            name: "a".into(),
            reason: "r".into(),
            stands,
            pod: true,
            manifest: None,
        };
        for stands in [true, false] {
            let list = next(&first, &[pod("b", "image: i:1")]).with_held(&first, &[held(stands)]);
            assert_eq!(
                versions(&list),
                [("default-a", 1, true), ("default-b", 1, true), ("other.yaml", 1, true)]
            );
            let a = &list.pods[0];
            assert_eq!((a.held.as_str(), a.file.is_empty(), a.uid.is_empty()), ("r", !stands, !stands));
            assert_eq!(a.grace_s, 30, "what ends has its time at a shutdown");
            // The next version cannot be run: one entry, with the reason and its version.
            let refused = next(&list, &[pod("a", "imgae: i:3"), pod("b", "image: i:1")])
                .with_held(&list, &[held(stands)]);
            assert_eq!(versions(&refused)[..2], [("default-a", 1, false), ("default-b", 1, true)]);
            assert!(!refused.pods[0].problems.is_empty() && refused.pods[0].held == "r", "{refused:?}");
            let written = next(&list, &[pod("a", "image: i:2"), pod("b", "image: i:1")]);
            assert_eq!(versions(&written)[..1], [("default-a", 2, true)]);
            assert_eq!(written.pods[0].held, "");
        }
        let new = next(&StaticPods::default(), &[]).with_held(&StaticPods::default(), &[held(false)]);
        assert_eq!(versions(&new)[..1], [("default-a", 0, true)]);
        assert_eq!(versions(&next(&new, &[pod("a", "image: i:1")]))[..1], [("default-a", 1, true)]);
        // Held at boot for a disk, and then written as it was.
        let booted = first.at_boot();
        let list = next(&booted, &[pod("b", "image: i:1")]).with_held(&booted, &[held(false)]);
        assert_eq!(versions(&next(&list, &[pod("a", "image: i:1")]))[..1], [("default-a", 1, true)]);
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
