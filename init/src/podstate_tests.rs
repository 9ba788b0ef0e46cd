//! Pods as a watcher sees them, with a clock and a world of their own.

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
    assert_eq!(world.runs("a", &["prepare"]).after(1), ["pod default/a: waiting for init container prepare"]);
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
    let expected = Pod { uid: manifest.uid.clone(), name: "n/a".to_owned(), containers, may_finish: true };
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
