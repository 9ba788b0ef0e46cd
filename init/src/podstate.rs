//! What is said of the static pods: from what was seen of them to lines of the boot log.
//!
//! `init pods` looks (cgroups, container bundles, log folders) and hands in what it saw; [`Watch`] decides what that
//! means and says each change once. No API is asked, so this works with every kubelet, and with none that answers.
//!
//! What it cannot see: exit codes and probes. So "running" is "the sandbox and every container have a process of
//! their own", not "ready"; and a pod that is not restarted always counts as finished when all its containers have
//! run and nothing of it is left for [`QUIET`], whether or not they succeeded.

use crate::clock::Time;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// From when on a pod that does not run is said to wait, and for what. An image is pulled in less on most days.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing of a pod must be there before it has finished: a kubelet that starts a failed container anew
/// keeps the pod's sandbox meanwhile, and one that has just started takes a few seconds to get to each pod.
pub const QUIET: Duration = Duration::from_secs(10);
/// The pause between two looks while something is on its way, and otherwise.
const QUICK: Duration = Duration::from_millis(50);
const SLOW: Duration = Duration::from_secs(1);
/// How long looks are quick: after the boot began, and after a pod ceased to run.
const QUICK_AT_BOOT: Duration = Duration::from_secs(300);
const QUICK_AFTER: Duration = Duration::from_secs(10);

/// A static pod, as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`: names its cgroup and its log folder.
    pub uid: String,
    /// `<namespace>/<name>`.
    pub name: String,
    /// Names of its containers.
    pub containers: Vec<String>,
    /// Its containers may end for good: `restartPolicy` is not Always.
    pub may_finish: bool,
}

impl Pod {
    /// Reads a manifest that [`crate::manifests::plan`] made; `None` for anything else.
    pub fn from_manifest(bytes: &[u8]) -> Option<Self> {
        let File { metadata, spec } = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            uid: metadata.uid,
            name: format!("{}/{}", metadata.namespace, metadata.name),
            containers: spec.containers.into_iter().map(|container| container.name).collect(),
            may_finish: !matches!(spec.restart_policy.as_deref(), None | Some("" | "Always")),
        })
    }
}

/// The little of a manifest that matters here.
#[derive(Deserialize)]
struct File {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Vec<Container>,
    restart_policy: Option<String>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
}

/// What was seen of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// The sandbox has a process of its own.
    pub sandbox: bool,
    /// Containers, also init containers, that have a process of their own.
    pub running: BTreeSet<String>,
    /// Running containers of which it is not known what they are.
    pub unknown: usize,
    /// Containers that have a log, from this boot or from one before. Looked for only when the pod may finish.
    pub logged: BTreeSet<String>,
    /// There is any process in the pod's cgroup.
    pub populated: bool,
}

/// What one step of a [`Watch`] gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Lines for the boot log.
    pub lines: Vec<String>,
    /// All pods run for the first time.
    pub first_ready: bool,
}

/// Watches the static pods of a node.
#[derive(Debug)]
pub struct Watch {
    begun: Time,
    /// By UID: a pod that changed is another pod, and its predecessor may still be on its way out.
    pods: BTreeMap<String, Watched>,
    /// How many pods have a manifest that is held back, so that they cannot run as the config wants.
    held: usize,
    any_ever: bool,
    ready: bool,
    ready_ever: bool,
}

#[derive(Debug)]
struct Watched {
    pod: Pod,
    /// It still has a manifest.
    wanted: bool,
    phase: Phase,
    /// Since when all its containers have run once and nothing of it is there.
    quiet_since: Option<Time>,
}

#[derive(Debug)]
enum Phase {
    /// Not running since then; what it waits for as it was last said.
    Waiting(Time, String),
    Running,
    Finished,
}

impl Watch {
    /// Begins to watch; no pods are known yet.
    pub fn new(now: Time) -> Self {
        Self { begun: now, pods: BTreeMap::new(), held: 0, any_ever: false, ready: false, ready_ever: false }
    }

    /// Takes the pods that have a manifest now, and the number of those whose manifests are held back.
    pub fn want(&mut self, pods: Vec<Pod>, held: usize, now: Time) {
        self.held = held;
        if held > 0 {
            (self.any_ever, self.ready) = (true, false);
        }
        for watched in self.pods.values_mut() {
            watched.wanted = false;
        }
        for pod in pods {
            self.any_ever = true;
            if let Some(watched) = self.pods.get_mut(&pod.uid) {
                watched.wanted = true;
                watched.pod = pod;
                continue;
            }
            self.ready = false;
            let phase = Phase::Waiting(now, String::new());
            self.pods.insert(pod.uid.clone(), Watched { pod, wanted: true, phase, quiet_since: None });
        }
    }

    /// The pods to look at: those that have a manifest, and those that are still on their way out.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().map(|watched| &watched.pod)
    }

    /// Takes what was seen, by UID, and gives what is to be said. `kubelet`: a kubelet has begun its work since the
    /// machine started, so that a pod of which nothing is there is not just waiting for it.
    pub fn step(&mut self, now: Time, kubelet: bool, sights: &BTreeMap<String, Sight>) -> News {
        let mut news = News::default();
        let nothing = Sight::default();
        for (uid, watched) in &mut self.pods {
            let sight = sights.get(uid).unwrap_or(&nothing);
            if watched.step(now, kubelet, sight, &mut news.lines) {
                self.ready = false;
            }
        }
        self.pods
            .retain(|uid, watched| watched.wanted || sights.get(uid).is_some_and(|sight| sight.populated));
        self.report_ready(&mut news);
        news
    }

    /// Whether no pod is still, or again, on its way, and none held: true as well when there is none.
    pub fn is_well(&self) -> bool {
        self.held == 0
            && !self
                .pods
                .values()
                .any(|watched| watched.wanted && matches!(watched.phase, Phase::Waiting(..)))
    }

    /// How long to rest before the next look.
    pub fn pause(&self, now: Time) -> Duration {
        let waiting = |watched: &Watched| match watched.phase {
            Phase::Waiting(since, _) => {
                now.saturating_sub(self.begun) < QUICK_AT_BOOT || now.saturating_sub(since) < QUICK_AFTER
            }
            Phase::Running | Phase::Finished => !watched.wanted,
        };
        if self.pods.values().any(waiting) { QUICK } else { SLOW }
    }

    fn report_ready(&mut self, news: &mut News) {
        let mut wanted = self.pods.values().filter(|watched| watched.wanted);
        if self.ready || self.held > 0 || wanted.any(|watched| matches!(watched.phase, Phase::Waiting(..))) {
            return;
        }
        let count = self.pods.values().filter(|watched| watched.wanted).count();
        match count {
            // At shutdown the manifests go before the pods: then nothing is to be said.
            0 if self.any_ever => return,
            0 => news.lines.push("ready: no pods in the config".to_owned()),
            _ => news.lines.push(format!("ready: all {count} pods running")),
        }
        self.ready = true;
        news.first_ready = !self.ready_ever;
        self.ready_ever = true;
    }
}

impl Watched {
    /// Says what has changed; true when it ceased to run.
    fn step(&mut self, now: Time, kubelet: bool, sight: &Sight, lines: &mut Vec<String>) -> bool {
        let name = &self.pod.name;
        let quiet = self.pod.may_finish && kubelet && !sight.populated && self.all_logged(sight);
        self.quiet_since = quiet.then(|| self.quiet_since.unwrap_or(now));
        let missing = self.missing(sight);
        if missing.is_none() {
            if !matches!(self.phase, Phase::Running) {
                lines.push(format!("pod {name}: running"));
                self.phase = Phase::Running;
            }
            return false;
        }
        if self.quiet_since.is_some_and(|since| now.saturating_sub(since) >= QUIET) {
            if !matches!(self.phase, Phase::Finished) {
                lines.push(format!("pod {name}: finished"));
                self.phase = Phase::Finished;
            }
            return false;
        }
        let missing = missing.unwrap_or_default();
        // Whether a pod that may finish has ended for good is known after a while.
        let may_have_ended = self.pod.may_finish && self.wanted && self.all_logged(sight);
        if let Phase::Waiting(since, said) = &mut self.phase {
            if self.wanted && *said != missing && now.saturating_sub(*since) >= PATIENCE {
                lines.push(format!("pod {name}: waiting for {missing}"));
                *said = missing;
            }
            return false;
        }
        let line = match (may_have_ended, sight.populated, self.wanted) {
            (true, ..) => None,
            // On its way out: the word comes when nothing is left.
            (false, true, false) => return false,
            (false, true, true) => Some(format!("pod {name}: {missing} ended")),
            (false, false, _) => Some(format!("pod {name}: stopped")),
        };
        self.phase = Phase::Waiting(now, String::new());
        let ceased = line.is_some();
        lines.extend(line);
        ceased
    }

    fn all_logged(&self, sight: &Sight) -> bool {
        self.pod.containers.iter().all(|name| sight.logged.contains(name))
    }

    /// What is not there yet, or not any more; `None` when the pod runs.
    fn missing(&self, sight: &Sight) -> Option<String> {
        let containers = &self.pod.containers;
        let absent: Vec<&str> =
            containers.iter().filter(|name| !sight.running.contains(*name)).map(String::as_str).collect();
        let sandbox = usize::from(!sight.sandbox);
        // Containers that could not be told apart stand for those that are missed.
        if absent.len() + sandbox <= sight.unknown {
            return None;
        }
        if sandbox > sight.unknown {
            return Some("sandbox".to_owned());
        }
        if self.pod.may_finish && absent.len() < containers.len() && self.all_logged(sight) {
            return None;
        }
        let first: Vec<&str> =
            sight.running.iter().filter(|name| !containers.contains(name)).map(String::as_str).collect();
        Some(match first.as_slice() {
            [] => format!("container {}", absent.join(", ")),
            first => format!("init container {}", first.join(", ")),
        })
    }
}

/// `memory: init PSS 1024 KiB, private 180 KiB` out of PID 1's `smaps_rollup`; `None` when it says neither.
pub fn memory(smaps_rollup: &str) -> Option<String> {
    let field = |name: &str| {
        let line = smaps_rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(format!("memory: init PSS {} KiB, private {} KiB", field("Pss")?, field("Pss_Anon")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A watch with a clock and a world.
    struct World {
        watch: Watch,
        now: Time,
        kubelet: bool,
        sights: BTreeMap<String, Sight>,
    }

    fn pod(name: &str, containers: &[&str]) -> Pod {
        Pod {
            uid: format!("uid-{name}"),
            name: format!("default/{name}"),
            containers: containers.iter().map(ToString::to_string).collect(),
            may_finish: false,
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    impl World {
        fn new(pods: Vec<Pod>) -> Self {
            let now = Duration::from_secs(7);
            let mut watch = Watch::new(now);
            watch.want(pods, 0, now);
            World { watch, now, kubelet: true, sights: BTreeMap::new() }
        }

        /// The sandbox and these containers of a pod run now.
        fn runs(&mut self, pod: &str, running: &[&str]) -> &mut Self {
            let sight = self.sights.entry(format!("uid-{pod}")).or_default();
            (sight.sandbox, sight.populated, sight.running) = (true, true, set(running));
            sight.logged.extend(set(running));
            self
        }

        fn gone(&mut self, pod: &str) -> &mut Self {
            let sight = self.sights.entry(format!("uid-{pod}")).or_default();
            *sight = Sight { logged: sight.logged.clone(), ..Sight::default() };
            self
        }

        fn after(&mut self, seconds: u64) -> Vec<String> {
            self.now += Duration::from_secs(seconds);
            self.watch.step(self.now, self.kubelet, &self.sights).lines
        }
    }

    #[test]
    fn a_pod_runs_when_its_sandbox_and_all_containers_do() {
        let mut world = World::new(vec![pod("a", &["x", "y"])]);
        assert_eq!(world.after(1), [""; 0]);
        assert_eq!(world.runs("a", &[]).after(1), [""; 0]);
        assert_eq!(world.runs("a", &["x"]).after(1), [""; 0]);
        let news = ["pod default/a: running", "ready: all 1 pods running"];
        assert_eq!(world.runs("a", &["x", "y"]).after(1), news);
        assert_eq!(world.after(1000), [""; 0], "each change is said once");
    }

    #[test]
    fn a_container_that_cannot_be_told_apart_counts_for_one_that_is_missed() {
        let mut world = World::new(vec![pod("a", &["x"])]);
        let unknown = |unknown| Sight { unknown, populated: true, ..Sight::default() };
        world.sights.insert("uid-a".to_owned(), unknown(1));
        assert_eq!(world.after(1), [""; 0]);
        world.sights.insert("uid-a".to_owned(), unknown(2));
        assert_eq!(world.after(1).first().map(String::as_str), Some("pod default/a: running"));
    }

    #[test]
    fn what_a_pod_waits_for_is_said_after_a_while_and_when_it_changes() {
        let mut world = World::new(vec![pod("a", &["x", "y"])]);
        assert_eq!(world.after(29), [""; 0]);
        assert_eq!(world.after(1), ["pod default/a: waiting for sandbox"]);
        assert_eq!(world.after(100), [""; 0]);
        assert_eq!(
            world.runs("a", &["prepare"]).after(1),
            ["pod default/a: waiting for init container prepare"]
        );
        assert_eq!(world.runs("a", &[]).after(1), ["pod default/a: waiting for container x, y"]);
        assert_eq!(world.runs("a", &["y"]).after(1), ["pod default/a: waiting for container x"]);
        assert_eq!(world.runs("a", &["x", "y"]).after(1).len(), 2);
    }

    #[test]
    fn ready_is_said_each_time_all_pods_become_so() {
        let mut world = World::new(vec![pod("a", &["x"]), pod("b", &["x", "y"])]);
        assert_eq!(world.runs("a", &["x"]).after(1), ["pod default/a: running"]);
        world.runs("b", &["x", "y"]);
        let news = world.watch.step(world.now, true, &world.sights);
        assert_eq!(news.lines, ["pod default/b: running", "ready: all 2 pods running"]);
        assert!(news.first_ready);
        assert_eq!(world.runs("b", &["y"]).after(1), ["pod default/b: container x ended"]);
        world.runs("b", &["x", "y"]);
        let news = world.watch.step(world.now, true, &world.sights);
        assert_eq!(news.lines, ["pod default/b: running", "ready: all 2 pods running"]);
        assert!(!news.first_ready);
    }

    #[test]
    fn a_pod_that_is_gone_has_stopped() {
        let mut world = World::new(vec![pod("a", &["x"])]);
        world.runs("a", &["x"]).after(1);
        assert_eq!(world.gone("a").after(1), ["pod default/a: stopped"]);
        assert_eq!(world.after(30), ["pod default/a: waiting for sandbox"]);
    }

    #[test]
    fn a_sandbox_that_ends_is_said() {
        let mut world = World::new(vec![pod("a", &["x"])]);
        world.runs("a", &["x"]).after(1);
        world.sights.get_mut("uid-a").unwrap().sandbox = false;
        assert_eq!(world.after(1), ["pod default/a: sandbox ended"]);
    }

    #[test]
    fn a_pod_whose_manifest_is_removed_stops_when_nothing_of_it_is_left() {
        let mut world = World::new(vec![pod("a", &["x", "y"]), pod("b", &["x"])]);
        world.runs("a", &["x", "y"]).runs("b", &["x"]).after(1);
        world.watch.want(Vec::new(), 0, world.now);
        assert_eq!(world.after(1), [""; 0]);
        assert_eq!(world.runs("a", &["y"]).after(60), [""; 0], "it is not waited for any more");
        assert_eq!(world.gone("a").after(1), ["pod default/a: stopped"]);
        assert_eq!(world.gone("b").after(1), ["pod default/b: stopped"]);
        assert_eq!(world.after(1), [""; 0], "an empty directory at shutdown is not an empty config");
        assert_eq!(world.watch.pods().count(), 0);
    }

    #[test]
    fn a_pod_that_never_ran_goes_without_a_word() {
        let mut world = World::new(vec![pod("a", &["x"])]);
        world.after(1);
        world.watch.want(Vec::new(), 0, world.now);
        assert_eq!(world.after(1), [""; 0]);
        assert_eq!(world.watch.pods().count(), 0);
    }

    #[test]
    fn a_changed_pod_is_a_new_one_beside_the_old() {
        let mut world = World::new(vec![pod("a", &["x"])]);
        world.runs("a", &["x"]).after(1);
        let changed = Pod { uid: "uid-new".to_owned(), ..pod("a", &["x"]) };
        world.watch.want(vec![changed], 0, world.now);
        assert_eq!(world.after(1), [""; 0]);
        assert_eq!(world.gone("a").after(1), ["pod default/a: stopped"]);
        let news = ["pod default/a: running", "ready: all 1 pods running"];
        assert_eq!(world.runs("new", &["x"]).after(1), news);
    }

    #[test]
    fn a_held_pod_is_not_up_whatever_else_runs() {
        let mut world = World::new(vec![pod("a", &["x"])]);
        world.runs("a", &["x"]).after(1);
        assert!(world.watch.is_well());
        world.watch.want(vec![pod("a", &["x"])], 1, world.now);
        assert_eq!(world.after(60), [""; 0]);
        assert!(!world.watch.is_well());
        world.watch.want(vec![pod("a", &["x"])], 0, world.now);
        assert_eq!(world.after(1), ["ready: all 1 pods running"]);
        assert!(world.watch.is_well());
        let mut world = World::new(Vec::new());
        world.watch.want(Vec::new(), 1, world.now);
        assert_eq!(world.after(1), [""; 0], "there is one");
    }

    #[test]
    fn no_pods_is_said_once() {
        let mut world = World::new(Vec::new());
        assert_eq!(world.after(0), ["ready: no pods in the config"]);
        assert_eq!(world.after(100), [""; 0]);
    }

    fn job(containers: &[&str]) -> World {
        World::new(vec![Pod { may_finish: true, ..pod("job", containers) }])
    }

    #[test]
    fn a_job_has_finished_when_nothing_of_it_is_left_for_a_while() {
        let mut world = job(&["x"]);
        assert_eq!(world.runs("job", &["x"]).after(1).len(), 2);
        assert_eq!(world.runs("job", &[]).after(1), [""; 0], "its sandbox is still there");
        assert_eq!(world.gone("job").after(1), [""; 0]);
        assert_eq!(world.after(9), [""; 0]);
        assert_eq!(world.after(1), ["pod default/job: finished"]);
        assert_eq!(world.after(100), [""; 0]);
    }

    #[test]
    fn a_job_that_was_done_before_this_boot_has_finished_once_the_kubelet_works() {
        let mut world = job(&["x"]);
        world.kubelet = false;
        world.sights.insert("uid-job".to_owned(), Sight { logged: set(&["x"]), ..Sight::default() });
        assert_eq!(world.after(20), [""; 0]);
        world.kubelet = true;
        assert_eq!(world.after(0), [""; 0]);
        assert_eq!(world.after(10), ["pod default/job: finished", "ready: all 1 pods running"]);
    }

    #[test]
    fn a_job_whose_container_is_tried_again_has_not_finished() {
        let mut world = job(&["x"]);
        world.runs("job", &["x"]).after(1);
        world.runs("job", &[]).after(1);
        assert_eq!(world.after(30), ["pod default/job: waiting for container x"]);
        assert_eq!(world.runs("job", &["x"]).after(1), ["pod default/job: running"]);
    }

    #[test]
    fn a_job_of_two_containers_runs_on_when_one_has_ended() {
        let mut world = job(&["x", "y"]);
        world.runs("job", &["x", "y"]).after(1);
        assert_eq!(world.runs("job", &["y"]).after(100), [""; 0]);
    }

    #[test]
    fn a_job_that_never_started_has_not_finished() {
        let mut world = job(&["x", "y"]);
        world.sights.insert("uid-job".to_owned(), Sight { logged: set(&["x"]), ..Sight::default() });
        assert_eq!(world.after(60), ["pod default/job: waiting for sandbox"]);
    }

    #[test]
    fn looks_are_quick_while_something_is_on_its_way() {
        let mut world = World::new(vec![pod("a", &["x"])]);
        assert_eq!(world.watch.pause(world.now), QUICK);
        world.runs("a", &["x"]).after(299);
        assert_eq!(world.watch.pause(world.now), SLOW);
        world.gone("a").after(1000);
        assert_eq!(world.watch.pause(world.now), QUICK, "it may come back at once");
        assert_eq!(world.watch.pause(world.now + QUICK_AFTER), SLOW, "it may take long");
        assert_eq!(World::new(Vec::new()).watch.pause(Duration::ZERO), SLOW);
    }

    #[test]
    fn a_manifest_tells_what_to_look_for() {
        let mut value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n"},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "i"}]}});
        let (manifests, _) = crate::manifests::plan(std::slice::from_ref(&value), &|_| None);
        let manifest = manifests.first().unwrap();
        let read = Pod::from_manifest(manifest.bytes.as_bytes()).unwrap();
        let containers = vec!["x".to_owned()];
        let expected =
            Pod { uid: manifest.uid.clone(), name: "n/a".to_owned(), containers, may_finish: true };
        assert_eq!(read, expected);
        value["spec"]["restartPolicy"] = json!("Always");
        let (manifests, _) = crate::manifests::plan(&[value], &|_| None);
        assert!(!Pod::from_manifest(manifests.first().unwrap().bytes.as_bytes()).unwrap().may_finish);
        assert_eq!(Pod::from_manifest(b"kind: Pod"), None);
    }

    #[test]
    fn memory_is_read_from_the_kernels_sum() {
        let text = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 2048 kB\nPss:                1030 kB\nPss_Dirty: 5 kB\nPss_Anon:              68 kB\n";
        assert_eq!(memory(text).as_deref(), Some("memory: init PSS 1030 KiB, private 68 KiB"));
        assert_eq!(memory("Pss: 1 kB\n"), None);
    }
}
