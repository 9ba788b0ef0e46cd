//! The way down: order, services that do not want to end, impatient people.

use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use std::time::{Duration, Instant};

const TERM: i32 = 15;
const RTMIN_5: i32 = 39;
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
/// A service that ignores SIGTERM has up to 20 s; this is more than that and less than the whole minute.
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
fn our_manifests_go_first_and_those_of_others_stay() {
    let setup = Setup::default().script("kubelet", "ignore\nready\n");
    let mut node = Node::up(&setup).unwrap();
    let folder = node.path("/etc/kubernetes/manifests");
    std::fs::write(folder.join("theirs.yaml"), "{}").unwrap();
    node.signal(TERM).unwrap();
    node.wait("podium: kubelet: stopping").unwrap();
    let names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["theirs.yaml"]);
    node.wait("podium: kubelet: still there, killed").unwrap();
    assert_eq!(node.end(STUBBORN_LIMIT).unwrap(), SIGINT);
}

#[test]
fn a_second_request_makes_it_quicker_and_a_seventh_ends_it_at_once() {
    let setup = Setup::default().script("containerd", "ignore\nready\n");
    for (more, limit) in [(1, Duration::from_secs(14)), (7, Duration::from_secs(9))] {
        let mut node = Node::up(&setup).unwrap();
        node.signal(RTMIN_5).unwrap();
        node.wait("podium: containerd: stopping").unwrap();
        let since = Instant::now();
        for _ in 0..more {
            node.signal(RTMIN_5).unwrap();
        }
        assert_eq!(node.end(STUBBORN_LIMIT).unwrap(), SIGHUP);
        assert!(since.elapsed() < limit, "{more} more requests: {:?}", since.elapsed());
        node.wait("podium: shutdown: asked again by signal RTMIN+5").unwrap();
    }
}

#[test]
fn a_service_that_forks_while_it_is_killed_does_not_get_away() {
    let setup = Setup::default().script("kubelet", "ready\nchain\n");
    let mut node = Node::up(&setup).unwrap();
    // A link is an orphan at once; its name is that of /proc/self/exe.
    let link = |node: &Node| {
        node.processes()
            .into_iter()
            .find(|process| process.name == "exe" && process.host_parent == node.init())
    };
    eventually("the chain", LIMIT, || link(&node)).unwrap();
    node.signal(TERM).unwrap();
    assert_eq!(node.end(STUBBORN_LIMIT).unwrap(), SIGINT);
}

#[test]
fn a_shutdown_before_anything_is_up_works_too() {
    let setup = Setup::default().script("containerd", "until /never\n");
    let mut node = Node::start(&setup).unwrap();
    node.wait("podium: containerd: exec").unwrap();
    node.signal(TERM).unwrap();
    assert_eq!(node.end(LIMIT).unwrap(), SIGINT);
}
