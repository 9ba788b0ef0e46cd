//! Holds under a simulated node: files, pods that run on for a while, and a clock.

use super::*;
use crate::manifests::{Found, diff, plan};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A manifest directory and what runs.
#[derive(Default)]
struct World {
    holds: Holds,
    now: Time,
    files: BTreeMap<String, String>,
    /// UIDs with a process.
    runs: BTreeSet<String>,
    /// There is no kubelet, or since when.
    no_kubelet: bool,
    kubelet: Time,
    mounted: BTreeSet<String>,
    want: Vec<Manifest>,
}

fn pod(name: &str, ports: &[u16]) -> Value {
    let ports: Vec<Value> =
        ports.iter().map(|port| json!({"containerPort": port, "hostPort": port})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": ports}]}})
}

impl World {
    /// A config comes; gives what was said.
    fn config(&mut self, pods: &[Value]) -> Vec<String> {
        let (manifests, problems) = plan(pods, &|_| None);
        assert_eq!(problems, []);
        self.want = manifests;
        self.look(&[])
    }

    /// As the writer does; `refused` keep their files. The state passes through JSON as on a node.
    fn look(&mut self, refused: &[&str]) -> Vec<String> {
        let have: Vec<Found> = self.files.iter().map(found).collect();
        let refused = refused.iter().map(ToString::to_string).collect();
        let changes = diff(&have, &self.want, &refused);
        let text = serde_json::to_string(&self.holds).unwrap();
        self.holds = serde_json::from_str(&text).unwrap();
        let facts = Facts {
            now: self.now,
            is_gone: &|uid| !self.runs.contains(uid),
            runs: &|uid| self.runs.contains(uid),
            kubelet: (!self.no_kubelet).then_some(self.kubelet),
            is_mounted: &|target| self.mounted.contains(target),
        };
        let order = self.holds.order(&self.want, changes, &facts);
        for file in &order.deletions {
            assert!(self.files.remove(file).is_some(), "{file}");
        }
        for manifest in &order.writes {
            self.files.insert(manifest.file.clone(), manifest.bytes.clone());
            self.runs.insert(manifest.uid.clone());
        }
        order.lines
    }

    fn is_due(&self) -> bool {
        let is_mounted = |target: &str| self.mounted.contains(target);
        let (is_gone, runs) = (|uid: &str| !self.runs.contains(uid), |uid: &str| self.runs.contains(uid));
        let kubelet = (!self.no_kubelet).then_some(self.kubelet);
        let now = self.now;
        self.holds.is_due(&Facts { now, is_gone: &is_gone, runs: &runs, kubelet, is_mounted: &is_mounted })
    }

    /// The pods whose manifests are gone end.
    fn end_old(&mut self) {
        let uids: BTreeSet<String> = self.files.values().map(|text| uid_in(text)).collect();
        self.runs.retain(|uid| uids.contains(uid));
    }

    fn uid(&self, name: &str) -> String {
        uid_in(&self.files[&format!("podium-default-{name}.yaml")])
    }

    fn names(&self) -> Vec<&str> {
        self.files.keys().map(|file| &file["podium-default-".len()..file.len() - ".yaml".len()]).collect()
    }

    fn held(&self) -> Vec<&str> {
        self.holds.held().iter().map(|held| held.id.as_str()).collect()
    }
}

fn found((name, text): (&String, &String)) -> Found {
    Found { name: name.clone(), bytes: Some(text.clone().into_bytes()) }
}

fn uid_in(text: &str) -> String {
    let pod: Value = serde_json::from_str(text).unwrap();
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[test]
fn a_port_that_moves_waits_for_the_old_pod_to_be_gone_and_nobody_else_does() {
    let mut world = World::default();
    world.config(&[pod("a", &[80]), pod("x", &[82])]);
    let said = world.config(&[pod("b", &[80]), pod("c", &[81]), pod("x", &[82])]);
    assert_eq!(
        said,
        ["pod default/b: held: host port 80 (TCP) is still that of pod default/a, which is ending"]
    );
    assert_eq!((world.names(), world.held()), (vec!["c", "x"], vec!["default-b"]));
    assert!(!world.is_due() && world.holds.waits());
    assert_eq!(world.look(&[]), [""; 0], "said once");
    world.end_old();
    assert!(world.is_due());
    assert_eq!(world.look(&[]), ["pod default/b: no longer held"]);
    assert_eq!(world.names(), ["b", "c", "x"]);
    assert!(!world.holds.waits() && world.held().is_empty());
}

#[test]
fn a_changed_pod_keeps_its_old_file_while_it_waits() {
    let mut world = World::default();
    world.config(&[pod("a", &[80]), pod("b", &[90])]);
    let before = world.uid("b");
    world.config(&[pod("b", &[80])]);
    assert_eq!((world.uid("b"), world.held()), (before.clone(), vec!["default-b"]));
    assert!(world.holds.held()[0].stands);
    world.end_old();
    world.look(&[]);
    assert_eq!((world.names().len(), world.held()), (0, vec!["default-b"]), "now its own has to end");
    world.end_old();
    world.look(&[]);
    assert_ne!(world.uid("b"), before);
}

#[test]
fn pods_that_wait_one_for_the_next_change_one_after_the_other() {
    let mut world = World::default();
    world.config(&[pod("a", &[80]), pod("b", &[81]), pod("c", &[82])]);
    world.config(&[pod("b", &[80]), pod("c", &[81]), pod("d", &[82])]);
    assert_eq!(world.held(), ["default-b", "default-c", "default-d"]);
    assert_eq!(world.names(), ["b", "c"], "the old versions run on");
    // Its neighbour's end, then its own old version's.
    for left in [3, 2, 0] {
        world.end_old();
        assert!(world.is_due());
        world.look(&[]);
        assert_eq!(world.held().len(), left);
    }
}

#[test]
fn pods_that_exchange_ports_both_go_first() {
    let mut world = World::default();
    world.config(&[pod("a", &[80]), pod("b", &[81]), pod("c", &[82])]);
    world.config(&[pod("a", &[81]), pod("b", &[80]), pod("c", &[82])]);
    assert_eq!((world.names(), world.held()), (vec!["c"], vec!["default-a", "default-b"]));
    assert!(world.holds.held().iter().all(|held| !held.stands));
    assert!(!world.is_due());
    world.end_old();
    world.look(&[]);
    assert_eq!((world.names(), world.held().len()), (vec!["a", "b", "c"], 0));
}

#[test]
fn a_revert_while_they_are_held_brings_the_old_ones_back_at_once() {
    let mut world = World::default();
    let old = [pod("a", &[80]), pod("b", &[81])];
    world.config(&old);
    let files = world.files.clone();
    world.config(&[pod("a", &[81]), pod("b", &[80])]);
    world.config(&old);
    assert_eq!((&world.files, world.held().len()), (&files, 0));
    assert!(!world.holds.waits());
    // One of the new ones runs already.
    world.config(&[pod("c", &[80])]);
    world.end_old();
    world.look(&[]);
    world.config(&old);
    assert_eq!((world.names(), world.held()), (vec!["b"], vec!["default-a"]));
    world.end_old();
    world.look(&[]);
    assert_eq!(world.files, files);
}

#[test]
fn a_newer_config_takes_the_place_of_what_is_held() {
    let mut world = World::default();
    world.config(&[pod("a", &[80])]);
    world.config(&[pod("b", &[80])]);
    world.config(&[pod("b", &[85])]);
    assert_eq!((world.names(), world.held().len()), (vec!["b"], 0));
    world.config(&[pod("c", &[80])]);
    assert_eq!(world.held(), ["default-c"], "a is still there");
    world.config(&[]);
    assert!(world.held().is_empty() && !world.holds.waits());
}

#[test]
fn one_that_does_not_end_is_not_waited_for_for_ever() {
    let mut world = World::default();
    let mut slow = pod("a", &[80]);
    slow["spec"]["terminationGracePeriodSeconds"] = json!(120);
    world.config(&[slow]);
    world.config(&[pod("b", &[80])]);
    world.now = Duration::from_secs(120) + LEAVE_MARGIN - Duration::from_millis(1);
    assert!(!world.is_due());
    world.now += Duration::from_millis(1);
    assert!(world.is_due());
    let said = world.look(&[]);
    let expected = "pod default/b: started although pod default/a, which has its host port 80 (TCP), has not ended within 130 s";
    assert_eq!(said, [expected, "pod default/b: no longer held"]);
    assert_eq!(world.names(), ["b"]);
}

#[test]
fn a_new_pod_in_place_of_an_old_one_waits_for_its_end() {
    let mut world = World::default();
    world.config(&[pod("a", &[])]);
    let old = world.uid("a");
    let said = world.config(&[pod("a", &[80])]);
    assert_eq!(said, ["pod default/a: held: its old version is ending"]);
    assert_eq!((world.names().len(), world.held()), (0, vec!["default-a"]));
    assert!(!world.holds.held()[0].stands && !world.is_due() && world.holds.waits());
    assert_eq!(world.look(&[]), [""; 0], "said once");
    // A third version: the first is still waited for.
    world.config(&[pod("a", &[81])]);
    assert_eq!(world.held(), ["default-a"]);
    world.end_old();
    assert!(world.is_due());
    assert_eq!(world.look(&[]), ["pod default/a: no longer held"]);
    assert_ne!(world.uid("a"), old);

    // Back to what is still there: it is written again at once.
    let now = world.uid("a");
    world.config(&[pod("a", &[82])]);
    world.config(&[pod("a", &[81])]);
    assert_eq!((world.uid("a"), world.held().len()), (now, 0));

    // One that does not run, or keeps its UID, is replaced in one step.
    world.runs.clear();
    world.config(&[pod("a", &[83])]);
    let mut image = pod("a", &[83]);
    image["spec"]["containers"][0]["image"] = json!("other");
    world.config(&[image]);
    assert!(world.held().is_empty() && world.files["podium-default-a.yaml"].contains("other"));
}

#[test]
fn an_old_version_that_does_not_end_is_not_waited_for_for_ever() {
    let mut world = World::default();
    world.config(&[pod("a", &[])]);
    world.config(&[pod("a", &[80])]);
    world.now = Duration::from_secs(30) + LEAVE_MARGIN;
    assert!(world.is_due());
    let late = "pod default/a: started although its old version has not ended within 40 s";
    assert_eq!(world.look(&[]), [late, "pod default/a: no longer held"]);
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn the_limit_is_the_kubelets_who_is_to_end_it() {
    let mut world = World { no_kubelet: true, ..World::default() };
    world.config(&[pod("a", &[])]);
    world.config(&[pod("a", &[80])]);
    world.now = Duration::from_secs(100_000);
    assert!(!world.is_due(), "nobody has tried to end it");
    (world.no_kubelet, world.kubelet) = (false, world.now);
    world.now += KUBELET_START + Duration::from_secs(30) + LEAVE_MARGIN - Duration::from_millis(1);
    assert!(!world.is_due());
    world.now += Duration::from_millis(1);
    assert!(world.is_due());
    assert_eq!(world.look(&[]).len(), 2);
}

#[test]
fn where_nothing_is_known_of_processes_no_old_version_is_waited_for_or_spoken_of() {
    let mut holds = Holds::default();
    let mut have = Vec::new();
    for (seconds, ports) in [(0, &[80][..]), (1, &[81]), (500, &[82])] {
        let (want, _) = plan(&[pod("a", ports)], &|_| None);
        let facts = Facts {
            now: Duration::from_secs(seconds),
            is_gone: &|_| false,
            runs: &|_| false,
            kubelet: Some(Time::ZERO),
            is_mounted: &|_| true,
        };
        let order = holds.order(&want, diff(&have, &want, &BTreeSet::new()), &facts);
        assert_eq!((order.writes.len(), order.lines), (1, Vec::new()));
        have = vec![found((&want[0].file, &want[0].bytes))];
    }
}

#[test]
fn the_end_of_a_pod_that_nobody_waits_for_is_no_reason_to_look() {
    let mut world = World::default();
    world.config(&[pod("a", &[]), pod("b", &[80])]);
    let waiting = pod("c", &[80]);
    world.config(std::slice::from_ref(&waiting));
    let old = world.runs.clone();
    world.runs = old
        .iter()
        .filter(|uid| {
            world.holds.leaving.iter().any(|one| one.claim.uid == **uid && !one.claim.ports.is_empty())
        })
        .cloned()
        .collect();
    assert_eq!((world.runs.len(), world.is_due()), (1, false), "a has ended, b has not");
    world.runs.clear();
    assert!(world.is_due());
}

#[test]
fn what_is_held_is_known_should_the_next_version_be_refused() {
    let mut world = World::default();
    world.config(&[pod("a", &[])]);
    world.config(&[pod("a", &[80])]);
    let second = world.want[0].clone();
    assert_eq!(world.holds.held()[0].manifest.as_ref(), Some(&second));
    world.want = vec![second];
    world.end_old();
    world.look(&["default-a"]);
    assert_eq!((world.names(), world.held().len()), (vec!["a"], 0));
}

#[test]
fn ports_are_compared_as_a_kubelet_does() {
    let on = |name: &str, ip: &str, protocol: &str| {
        let mut pod = pod(name, &[80]);
        pod["spec"]["containers"][0]["ports"][0]["hostIP"] = json!(ip);
        pod["spec"]["containers"][0]["ports"][0]["protocol"] = json!(protocol);
        pod
    };
    let mut host = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"},
        "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}});
    host["spec"]["containers"][0]["ports"][0]["hostPort"] = json!(80);
    for (second, held) in [
        (on("b", "10.0.0.1", "TCP"), 1),
        (on("b", "10.0.0.2", "TCP"), 0),
        (on("b", "0.0.0.0", "TCP"), 1),
        (on("b", "10.0.0.1", "UDP"), 0),
        (host, 1),
    ] {
        let mut world = World::default();
        world.config(&[on("a", "10.0.0.1", "TCP")]);
        world.config(std::slice::from_ref(&second));
        assert_eq!(world.held().len(), held, "{second}");
    }
}

#[test]
fn a_port_of_a_pod_that_keeps_its_file_is_not_given_away() {
    let mut world = World::default();
    world.config(&[pod("a", &[80])]);
    (world.want, _) = plan(&[pod("b", &[80])], &|_| None);
    world.look(&["default-a"]);
    assert_eq!((world.names(), world.held()), (vec!["a"], vec!["default-b"]));
    assert!(!world.holds.waits(), "only a mended config helps");
    world.look(&[]);
    world.end_old();
    world.look(&[]);
    assert_eq!(world.names(), ["b"]);
}

#[test]
fn a_file_that_somebody_else_removes_blocks_nobody() {
    let mut world = World::default();
    world.config(&[pod("a", &[80]), pod("b", &[81])]);
    world.files.clear();
    world.end_old();
    world.config(&[pod("a", &[81]), pod("b", &[80])]);
    world.look(&[]);
    assert_eq!(world.names(), ["a", "b"]);
}

#[test]
fn a_pod_waits_for_the_mount_that_it_uses_and_no_other_does() {
    let with_path = |name: &str, path: &str| {
        let mut pod = pod(name, &[]);
        pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": path}}]);
        pod
    };
    let mut world = World { holds: Holds::missing(vec!["/var/mnt/data".into()]), ..World::default() };
    let pods = [
        with_path("at", "/var/mnt/data"),
        with_path("below", "/var/mnt/data/db/"),
        with_path("above", "/var/mnt"),
        with_path("beside", "/var/mnt/database"),
    ];
    let said = world.config(&pods);
    assert_eq!(
        said[0],
        "pod default/at: held: machine.kubelet.extraMounts: nothing is mounted at /var/mnt/data yet"
    );
    assert_eq!((world.names(), world.held()), (vec!["above", "beside"], vec!["default-at", "default-below"]));
    assert!(world.holds.waits() && !world.is_due() && !world.holds.waits_for_pods());
    world.now = Duration::from_secs(1_000_000);
    assert!(!world.is_due(), "without the disk it never starts");
    world.mounted.insert("/var/mnt/data".into());
    assert!(world.is_due());
    world.look(&[]);
    assert_eq!(world.names().len(), 4);
    assert!(!world.holds.waits());
}

#[derive(Debug, Clone)]
enum Step {
    Config(BTreeMap<char, BTreeSet<u16>>),
    /// All pods without a manifest end.
    End,
    /// One of them does.
    EndOne,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let ports = prop::collection::btree_set(80..84_u16, 0..3);
    let config = prop::collection::btree_map(prop::sample::select(vec!['a', 'b', 'c', 'd']), ports, 0..5);
    prop_oneof![
        4 => config.prop_map(Step::Config),
        1 => Just(Step::End),
        2 => Just(Step::EndOne),
        1 => (0..50_u64).prop_map(Step::Wait),
    ]
}

/// The pods of a config that can have their ports: of two that want one the first has it.
fn pods(config: &BTreeMap<char, BTreeSet<u16>>) -> Vec<Value> {
    let mut taken = BTreeSet::new();
    let free = |(_, ports): &(&char, &BTreeSet<u16>)| {
        let is_free = ports.is_disjoint(&taken);
        taken.extend(ports.iter().filter(|_| is_free).copied());
        is_free
    };
    let pods = config
        .iter()
        .filter(free)
        .map(|(name, ports)| pod(&name.to_string(), &ports.iter().copied().collect::<Vec<_>>()));
    pods.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_follows_no_two_pods_have_one_port_or_name_and_in_the_end_all_run(steps in prop::collection::vec(step(), 1..20)) {
        let mut world = World::default();
        // UID to name and ports, of all that ever were.
        let mut all: BTreeMap<String, (String, Vec<HostPort>)> = BTreeMap::new();
        let mut waited = false;
        for step in steps {
            match step {
                Step::Config(config) => drop(world.config(&pods(&config))),
                Step::End => world.end_old(),
                Step::EndOne => {
                    let uids: BTreeSet<String> = world.files.values().map(|text| uid_in(text)).collect();
                    let old = world.runs.iter().find(|uid| !uids.contains(*uid)).cloned();
                    world.runs.retain(|uid| Some(uid) != old.as_ref());
                }
                Step::Wait(seconds) => {
                    waited = true;
                    world.now += Duration::from_secs(seconds);
                }
            }
            if world.is_due() {
                world.look(&[]);
            }
            for manifest in &world.want {
                all.insert(manifest.uid.clone(), (manifest.id.clone(), manifest.host_ports.clone()));
            }
            for (one, other) in world.runs.iter().flat_map(|one| world.runs.iter().map(move |other| (one, other))) {
                let ((id, ports), (other_id, others)) = (&all[one], &all[other]);
                let shares = || ports.iter().any(|port| others.iter().any(|other| port.collides(other)));
                let clash = one != other && (id == other_id || shares());
                prop_assert!(!clash || waited, "{id} and {other_id}");
            }
        }
        // At most two rounds for each pod: its neighbour's end, and its old version's.
        for _ in 0..9 {
            world.end_old();
            if world.is_due() {
                world.look(&[]);
            }
        }
        prop_assert_eq!(world.held().len(), 0);
        prop_assert_eq!(world.files.len(), world.want.len());
        prop_assert!(world.want.iter().all(|manifest| world.files.get(&manifest.file) == Some(&manifest.bytes)));
    }
}
