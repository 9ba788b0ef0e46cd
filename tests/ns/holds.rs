//! Manifests that are held back: for a port of the host that another pod still has, for their own old version, and for a
//! mount that is not there.

use super::live::{apply, config, manifests, rename_over, until_manifests};
use podium_tests::ns::{LIMIT, Node, Setup, eventually, is_root};

/// A pod that takes these ports of the host and may end within this many seconds.
fn pod(name: &str, ports: &[u16], grace_s: u32) -> String {
    let ports: Vec<String> =
        ports.iter().map(|port| format!("{{containerPort: {port}, hostPort: {port}}}")).collect();
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: {grace_s}, \
         containers: [{{name: c, image: i, ports: [{}]}}]}}}}",
        ports.join(", ")
    )
}

fn pods(pods: &[String]) -> String {
    config(&format!("{{pods: [{}]}}", pods.join(", ")))
}

/// A node whose kubelet runs a process for each pod: without cgroups, which are root's alone, nothing shows that one
/// is gone.
fn node(first: &[String]) -> Node {
    assert!(is_root(), "run this as root: cgroups are its alone");
    let setup = Setup::default().config(pods(first).as_bytes()).script("kubelet", "ready\npods\n");
    Node::up(&setup).unwrap()
}

fn until_up(node: &Node, pod: &str) -> String {
    let uid =
        || std::fs::read_to_string(node.root(&format!("/fake/{pod}.up"))).ok().filter(|uid| !uid.is_empty());
    eventually(&format!("pod {pod}"), LIMIT, uid).map_err(|error| node.with_console(&error)).unwrap()
}

fn until_told(node: &Node, pod: &str) {
    let told = || node.root(&format!("/fake/{pod}.told")).exists().then_some(());
    eventually(&format!("pod {pod} told to end"), LIMIT, told)
        .map_err(|error| node.with_console(&error))
        .unwrap();
}

/// The rows of `init ctl pods`, and what it says below them.
fn listed(node: &Node) -> String {
    node.ctl(&["pods"]).unwrap().out
}

fn state(node: &Node, id: &str) -> Option<String> {
    let text = listed(node);
    let row = text.lines().find(|line| line.split_whitespace().next() == Some(id))?;
    row.split_whitespace().nth(4).map(str::to_owned)
}

fn files(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("podium-default-{name}.yaml")).collect()
}

fn until_files(node: &Node, names: &[&str]) {
    let names = files(names);
    until_manifests(node, &names.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_port_that_moves_waits_for_the_old_pod_and_other_pods_do_not() {
    let node = node(&[pod("a", &[80], 60), pod("x", &[], 60)]);
    until_up(&node, "a");
    let new = pods(&[pod("b", &[80], 60), pod("c", &[81], 60), pod("x", &[], 60)]);
    let done = apply(&node, &new, &[]);
    assert!(done.ok && done.out.contains("pod default/b: held: host port 80 (TCP)"), "{done:?}");
    assert_eq!(manifests(&node).into_keys().collect::<Vec<_>>(), files(&["c", "x"]));
    until_up(&node, "c");
    until_told(&node, "a");
    assert_eq!(state(&node, "default-b").as_deref(), Some("held"), "{}", listed(&node));
    let reason = "default-b: held: host port 80 (TCP) is still that of pod default/a, which is ending";
    assert!(listed(&node).contains(reason), "{}", listed(&node));
    // A newer config does not set it free, and leaves the others alone.
    let x = manifests(&node)["podium-default-x.yaml"].clone();
    rename_over(&node, &pods(&[pod("b", &[80, 90], 60), pod("x", &[], 60)]));
    until_files(&node, &["x"]);
    assert_eq!(state(&node, "default-b").as_deref(), Some("held"));
    node.touch("/fake/c.end").unwrap();
    node.touch("/fake/a.end").unwrap();
    until_files(&node, &["b", "x"]);
    node.wait("pod default/b: no longer held").unwrap();
    assert_eq!(manifests(&node)["podium-default-x.yaml"], x);
    let written = || (state(&node, "default-b").as_deref() == Some("written")).then_some(());
    eventually("the list without a held pod", LIMIT, written).unwrap();
}

#[test]
fn pods_that_exchange_ports_both_get_them() {
    let node = node(&[pod("a", &[80], 60), pod("b", &[81], 60)]);
    let (old_a, old_b) = (until_up(&node, "a"), until_up(&node, "b"));
    assert!(apply(&node, &pods(&[pod("a", &[81], 60), pod("b", &[80], 60)]), &[]).ok);
    assert_eq!(manifests(&node).len(), 0, "each waits for the other");
    until_told(&node, "a");
    until_told(&node, "b");
    node.touch("/fake/a.end").unwrap();
    node.wait("pod default/b: held: its old version is ending").unwrap();
    assert_eq!(manifests(&node).len(), 0, "each waits for its own old version, too");
    assert_eq!(state(&node, "default-a").as_deref(), Some("held"));
    node.touch("/fake/b.end").unwrap();
    until_files(&node, &["a", "b"]);
    let changed = || (until_up(&node, "a") != old_a && until_up(&node, "b") != old_b).then_some(());
    eventually("both new pods", LIMIT, changed).unwrap();
}

#[test]
fn a_pod_that_becomes_another_one_waits_for_its_old_version() {
    let node = node(&[pod("a", &[80], 60), pod("x", &[], 60)]);
    let (old, x) = (until_up(&node, "a"), manifests(&node)["podium-default-x.yaml"].clone());
    let done = apply(&node, &pods(&[pod("a", &[80, 90], 60), pod("x", &[], 60)]), &[]);
    assert!(done.ok && done.out.contains("pod default/a: held: its old version is ending"), "{done:?}");
    assert_eq!(manifests(&node).into_keys().collect::<Vec<_>>(), files(&["x"]));
    until_told(&node, "a");
    node.touch("/fake/a.end").unwrap();
    until_files(&node, &["a", "x"]);
    eventually("the new pod", LIMIT, || (until_up(&node, "a") != old).then_some(())).unwrap();
    assert_eq!(manifests(&node)["podium-default-x.yaml"], x, "nobody else is touched");
}

#[test]
fn a_rollback_while_a_pod_is_held_brings_back_what_was() {
    let node = node(&[]);
    assert!(apply(&node, &pods(&[pod("a", &[80], 60)]), &[]).ok);
    until_up(&node, "a");
    let before = manifests(&node)["podium-default-a.yaml"].1.clone();
    assert!(apply(&node, &pods(&[pod("b", &[80], 60)]), &[]).ok);
    until_told(&node, "a");
    assert_eq!(state(&node, "default-b").as_deref(), Some("held"));
    let back = node.ctl(&["config", "rollback", "1"]).unwrap();
    assert!(back.ok, "{back:?}");
    assert_eq!(manifests(&node)["podium-default-a.yaml"].1, before);
    assert_eq!(state(&node, "default-b"), None, "{}", listed(&node));
    node.touch("/fake/a.end").unwrap();
    // Whoever waited has nothing to wait for any more.
    let is_waiting = |pid: u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(b"\0wait\0"))
    };
    let at_rest = || (!node.processes().iter().any(|process| is_waiting(process.host_pid))).then_some(());
    eventually("nobody waits", LIMIT, at_rest).unwrap();
    assert_eq!(manifests(&node).into_keys().collect::<Vec<_>>(), files(&["a"]));
}

#[test]
fn a_pod_that_does_not_end_is_not_waited_for_for_ever() {
    let node = node(&[pod("a", &[80], 0)]);
    until_up(&node, "a");
    assert!(apply(&node, &pods(&[pod("b", &[80], 0)]), &[]).ok);
    until_told(&node, "a");
    until_files(&node, &["b"]);
    node.wait("pod default/b: started although pod default/a, which has its host port 80 (TCP), has not ended within 10 s")
        .unwrap();
    node.touch("/fake/a.end").unwrap();
}

#[test]
fn a_config_with_a_held_pod_does_not_prove_itself() {
    let node = node(&[]);
    let good = config("{pods: [], env: {A: good}}");
    assert!(apply(&node, &good, &[]).ok);
    node.console.wait(0, "it is the last known good one", super::live::PROOF).unwrap();
    let late = config(
        "{kubelet: {extraMounts: [{destination: /var/mnt/late, type: tmpfs, source: /dev/podium-late}]}, \
         pods: [{apiVersion: v1, kind: Pod, metadata: {name: db}, spec: {containers: [{name: c, image: i}], \
         volumes: [{name: v, hostPath: {path: /var/mnt/late}}]}}]}",
    );
    assert!(apply(&node, &late, &["--timeout", "5"]).ok);
    assert_eq!(manifests(&node).len(), 0);
    node.wait("config: not all pods came up, or stayed up within its limit; going back").unwrap();
}

#[test]
fn a_pod_waits_for_a_mount_that_comes_late_and_starts_once_it_is_there() {
    let with_path = |name: &str, path: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: i}}], \
             volumes: [{{name: v, hostPath: {{path: {path}}}}}]}}}}"
        )
    };
    // A tmpfs takes any source, and so stands for a disk.
    let text = config(&format!(
        "{{kubelet: {{extraMounts: [{{destination: /var/mnt/late, type: tmpfs, source: /dev/podium-late}}]}}, \
         pods: [{}, {}]}}",
        with_path("db", "/var/mnt/late/db"),
        with_path("other", "/var/mnt/other")
    ));
    let node = Node::up(&Setup::default().config(text.as_bytes())).unwrap();
    node.wait("/var/mnt/late: not mounted: /dev/podium-late is not there; pods that use /var/mnt/late by hostPath are held")
        .unwrap();
    node.wait("pod default/db: held: machine.kubelet.extraMounts: nothing is mounted at /var/mnt/late yet")
        .unwrap();
    assert_eq!(manifests(&node).into_keys().collect::<Vec<_>>(), files(&["other"]));
    assert_eq!(state(&node, "default-db").as_deref(), Some("held"));
    // Another change meanwhile does not let it start.
    assert!(apply(&node, &text.replace("name: other", "name: another"), &[]).ok);
    assert_eq!(manifests(&node).into_keys().collect::<Vec<_>>(), files(&["another"]));
    std::fs::write(node.path("/dev/podium-late"), "").unwrap();
    until_files(&node, &["another", "db"]);
    node.wait("/var/mnt/late: mounted, now that what it needs is there").unwrap();
    node.wait("pod default/db: no longer held").unwrap();
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", node.init())).unwrap();
    let mounted = table.lines().filter(|line| line.split(' ').nth(4) == Some("/var/mnt/late")).count();
    assert_eq!(mounted, 1);
    let listed = || (state(&node, "default-db").as_deref() == Some("written")).then_some(());
    eventually("the list without a held pod", LIMIT, listed).unwrap();
}
