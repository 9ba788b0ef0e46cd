//! Damaged metadata of containerd in a node of fakes: it is found before the fake containerd is started.

use podium_tests::ns::{Node, Setup};

const META: &str = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";

#[test]
fn damaged_metadata_is_kept_aside_and_everything_it_described_goes() {
    let content = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/x";
    let setup = Setup::default().file(META, b"garbage".to_vec()).file(content, b"x".to_vec());
    let node = Node::up(&setup).unwrap();
    let line = node.wait("podium: containerd: meta.db is damaged").unwrap();
    assert!(line.text.contains("neither of its two meta pages is valid"), "{line}");
    assert!(line.number < node.wait("podium: containerd: up").unwrap().number);
    assert_eq!(std::fs::read(node.root("/var/lib/podium/damaged/1/meta.db")).unwrap(), b"garbage");
    assert!(!node.root(META).exists() && !node.root(content).exists());
    let containerd = node.nth_start("containerd", 1).unwrap();
    assert_eq!(containerd.argv[0], "/usr/bin/containerd");
}

#[test]
fn an_empty_database_of_a_first_boot_is_left_alone() {
    let node = Node::up(&Setup::default().file(META, Vec::new())).unwrap();
    assert!(node.root(META).exists());
    assert!(!node.console.lines().iter().any(|line| line.text.contains("meta.db")));
}
