//! The way down: order, and what becomes of manifests. What disturbs it is in `tests/faults/shutdown.rs`.

use podium_tests::ns::{LIMIT, Node, Setup, is_root};
use std::time::Duration;

const TERM: i32 = 15;
const SIGINT: i32 = 2;
/// A service that ignores SIGTERM is killed within 20 s; this is more than that and less than the whole minute.
const STUBBORN_LIMIT: Duration = Duration::from_secs(45);

#[test]
fn the_kubelet_is_down_before_containerd_and_the_log_writer_is_last() {
    let mut node = Node::up(&Setup::default()).unwrap();
    node.signal(TERM).unwrap();
    assert_eq!(node.end(LIMIT).unwrap(), SIGINT);
    let line = |text: &str| node.wait(text).unwrap().number;
    assert!(line("podium: kubelet: down") < line("podium: containerd: stopping"));
    assert!(line("podium: containerd: down") < line("podium: log: stopping"));
    assert!(line("podium: log: down") < line("podium: halt: all processes ended"));
    line("podium: halt: all file systems unmounted");
}

#[test]
fn manifests_go_first_and_those_of_others_are_hidden() {
    let setup = Setup::default().script("kubelet", "ignore\nready\n");
    let mut node = Node::up(&setup).unwrap();
    let folder = node.path("/etc/kubernetes/manifests");
    std::fs::write(folder.join("theirs.yaml"), "{}").unwrap();
    node.signal(TERM).unwrap();
    node.wait("podium: kubelet: stopping").unwrap();
    let names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, [".hidden-by-shutdown-theirs.yaml"]);
    assert_eq!(std::fs::read_to_string(folder.join(&names[0])).unwrap(), "{}");
    node.wait("podium: kubelet: still there, killed").unwrap();
    assert_eq!(node.end(STUBBORN_LIMIT).unwrap(), SIGINT);
}

/// cgroups are root's alone.
#[test]
fn a_pod_that_no_kubelet_stops_is_told_to_end_before_it_is_killed() {
    let setup = Setup::default().script("containerd", "pod\nready\n").script("kubelet", "exit 3\n");
    assert!(is_root(), "run this as root: cgroups are its alone");
    let mut node = Node::start(&setup).unwrap();
    node.wait("podium: kubelet: ended, code 3").unwrap();
    node.signal(TERM).unwrap();
    assert_eq!(node.end(LIMIT).unwrap(), SIGINT);
    let line = |text: &str| node.wait(text).unwrap().number;
    assert!(
        line("podium: containerd: down")
            < line("podium: shutdown: 1 processes of pods are left, told to end")
    );
    assert!(node.root("/fake/pod.ended").exists(), "it had no chance to end by itself");
}
