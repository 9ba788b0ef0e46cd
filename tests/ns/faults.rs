//! What goes wrong with services, and that the node goes on.

use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use std::os::unix::fs::{PermissionsExt, symlink};

const KILL: i32 = 9;
/// Puts something in a program's place.
type Spoil = fn(&std::path::Path);

#[test]
fn every_service_comes_back_after_kill_9_and_takes_no_other_with_it() {
    let node = Node::up(&Setup::default()).unwrap();
    for name in ["containerd", "kubelet"] {
        let before = node.nth_start(name, 1).unwrap();
        node.signal_process(before.pid, KILL).unwrap();
        let after = node.nth_start(name, 2).unwrap();
        assert_ne!(before.pid, after.pid, "{name}");
        let ended = node.wait(&format!("podium: {name}: ended, signal 9; next start now")).unwrap();
        node.console.wait(ended.number, &format!("podium: {name}: up"), LIMIT).unwrap();
    }
    assert_eq!(node.starts("containerd").unwrap().len(), 2);
    assert_eq!(node.starts("kubelet").unwrap().len(), 2);
}

#[test]
fn helpers_of_our_own_binary_come_back_too() {
    let node = Node::up(&Setup::default()).unwrap();
    for name in ["log", "pods"] {
        let line = node.wait(&format!("podium: {name}: starting, pid ")).unwrap();
        let pid: u32 = line.text.rsplit(' ').next().unwrap().parse().unwrap();
        node.wait(&format!("podium: {name}: up")).unwrap();
        node.signal_process(pid, KILL).unwrap();
        let ended = node.wait(&format!("podium: {name}: ended, signal 9")).unwrap();
        node.console.wait(ended.number, &format!("podium: {name}: up"), LIMIT).unwrap();
    }
}

#[test]
fn a_service_that_keeps_ending_is_started_later_and_later() {
    let node = Node::start(&Setup::default().script("kubelet", "exit 3\n")).unwrap();
    let mut from = 0;
    for delay in ["now", "in 0.2 s", "in 0.4 s", "in 0.8 s"] {
        let line = node.console.wait(from, "podium: kubelet: ended, code 3; next start ", LIMIT).unwrap();
        assert!(line.text.ends_with(delay), "{line}");
        from = line.number + 1;
    }
    assert!(node.starts("kubelet").unwrap().len() >= 4);
}

#[test]
fn a_thousand_orphans_are_reaped() {
    let setup = Setup::default().script("containerd", "ready\norphans 1000 /fake/go\n");
    let node = Node::up(&setup).unwrap();
    let orphans = || {
        let all = node.processes();
        all.iter().filter(|process| process.host_parent == node.init()).count()
    };
    // Starting them is the test's own work, and takes long on a busy machine.
    eventually("1,000 orphans", LIMIT * 4, || (orphans() >= 1000).then_some(())).unwrap();
    node.touch("/fake/go").unwrap();
    // containerd, kubelet, log, pods, and perhaps a chain loader.
    eventually("all of them reaped", LIMIT, || (orphans() <= 8).then_some(())).unwrap();
    assert!(node.processes().iter().all(|process| process.state != 'Z'));
}

#[test]
fn a_daemon_that_left_its_service_is_ended_with_its_cgroup() {
    let setup = Setup::default().script("kubelet", "ready\ndaemon\n").script("containerd", "ready\ndaemon\n");
    let mut node = Node::up(&setup).unwrap();
    let daemon = |name: &str| {
        let file = node.root(&format!("/fake/{name}.daemon"));
        eventually(name, LIMIT, || std::fs::read_to_string(&file).ok()?.parse::<u32>().ok()).unwrap()
    };
    let (of_kubelet, of_containerd) = (daemon("kubelet"), daemon("containerd"));
    let lives = |pid: u32| node.processes().iter().any(|process| process.pid == pid);
    for name in ["containerd", "kubelet"] {
        let pid = node.nth_start(name, 1).unwrap().pid;
        node.signal_process(pid, KILL).unwrap();
        node.nth_start(name, 2).unwrap();
    }
    if node.has_cgroups() {
        eventually("the kubelet's daemon is gone", LIMIT, || (!lives(of_kubelet)).then_some(())).unwrap();
    } else {
        eprintln!("not root: without cgroups a daemon outlives its service until shutdown");
    }
    assert!(lives(of_containerd), "containerd's shims, and so the pods, outlive it");
    // Nothing outlives the node.
    node.signal(15).unwrap();
    assert_eq!(node.end(LIMIT).unwrap(), 2);
}

#[test]
fn a_program_that_cannot_be_executed_is_named_and_tried_again() {
    let node = Node::up(&Setup::default()).unwrap();
    let program = node.root("/usr/bin/kubelet");
    let cases: [(&str, Spoil); 4] = [
        ("No such file or directory", |_| {}),
        ("Permission denied", |program| {
            std::fs::write(program, "x").unwrap();
            std::fs::set_permissions(program, PermissionsExt::from_mode(0o644)).unwrap();
        }),
        ("Exec format error", |program| {
            std::fs::write(program, b"\x7fELF\x02\x01\x01").unwrap();
            std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
        }),
        ("Permission denied", |program| std::fs::create_dir(program).unwrap()),
    ];
    for (reason, make) in cases {
        // In the second round there is none.
        std::fs::remove_file(&program).ok();
        make(&program);
        let from = node.console.mark();
        if let Some(start) = node.starts("kubelet").unwrap().last() {
            // It is there in the first round only.
            node.signal_process(start.pid, KILL).ok();
        }
        let expected = format!("podium: kubelet: exec /usr/bin/kubelet: {reason}");
        node.console.wait(from, &expected, LIMIT).unwrap();
        node.console.wait(from, "podium: kubelet: ended, code 125; next start ", LIMIT).unwrap();
    }
    std::fs::remove_dir(&program).unwrap();
    symlink("/usr/bin/fake", &program).unwrap();
    node.nth_start("kubelet", 2).unwrap();
}

#[test]
fn a_service_whose_socket_is_flooded_does_not_hold_up_the_others() {
    let setup = Setup::default().script("containerd", "ready\nflood 100000\n");
    let node = Node::up(&setup).unwrap();
    let pid = node.nth_start("kubelet", 1).unwrap().pid;
    node.signal_process(pid, KILL).unwrap();
    node.nth_start("kubelet", 2).unwrap();
}

#[test]
fn a_service_comes_back_when_pid_1_has_no_descriptor_left() {
    let node = Node::up(&Setup::default()).unwrap();
    // It has more than these open, so it gets no new one.
    node.limit_files(3).unwrap();
    let pid = node.nth_start("kubelet", 1).unwrap().pid;
    node.signal_process(pid, KILL).unwrap();
    let start = node.nth_start("kubelet", 2).unwrap();
    assert!(start.nofile > Some(3), "{:?}", start.nofile);
}
