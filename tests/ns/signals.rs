//! Every signal to PID 1: those with a meaning do what they mean, the others nothing.

use podium_tests::ns::{LIMIT, Node, Setup};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
/// SIGINT (Ctrl-Alt-Del), SIGTERM, SIGPWR, and SIGRTMIN+3 to +5.
const WITH_A_MEANING: [i32; 6] = [2, 15, 30, 37, 38, 39];

#[test]
fn no_other_signal_stops_or_ends_the_loop() {
    let node = Node::up(&Setup::default()).unwrap();
    // From the parent namespace the kernel lets KILL and STOP through to a PID 1; nothing can be done about those.
    for signal in
        (1..=64).filter(|signal| !WITH_A_MEANING.contains(signal) && ![SIGKILL, SIGSTOP].contains(signal))
    {
        node.signal(signal).unwrap();
    }
    still_supervises(&node);
}

#[test]
fn signals_from_inside_do_not_stop_or_end_it_either() {
    let standard = (1..=31).filter(|signal| !WITH_A_MEANING.contains(signal));
    let script: String = standard.map(|signal| format!("signal 1 {signal}\n")).collect();
    let node = Node::up(&Setup::default().script("containerd", &format!("{script}ready\n"))).unwrap();
    still_supervises(&node);
}

/// It reaps and starts again, so it runs.
fn still_supervises(node: &Node) {
    let before = node.nth_start("kubelet", 1).unwrap();
    node.signal_process(before.pid, SIGKILL).unwrap();
    node.nth_start("kubelet", 2).unwrap();
    let init = node.processes().into_iter().find(|process| process.pid == 1).unwrap();
    assert!("SR".contains(init.state), "{init:?}");
    assert!(node.console.lines().iter().all(|line| !line.text.contains("shutdown")));
}

#[test]
fn signals_with_a_meaning_end_the_node_as_they_say() {
    let cases = [
        (2, "reboot, asked by Ctrl-Alt-Del", SIGHUP),
        (15, "power off, asked by signal TERM", SIGINT),
        (30, "power off, asked by signal PWR", SIGINT),
        (37, "halt, asked by signal RTMIN+3", SIGINT),
        (38, "power off, asked by signal RTMIN+4", SIGINT),
        (39, "reboot, asked by signal RTMIN+5", SIGHUP),
    ];
    for (signal, asked, end) in cases {
        let mut node = Node::up(&Setup::default()).unwrap();
        node.signal(signal).unwrap();
        assert_eq!(node.end(LIMIT).unwrap(), end, "signal {signal}");
        node.wait(&format!("podium: shutdown: {asked}")).unwrap();
        let how = asked.split(',').next().unwrap();
        let last = node.console.lines().pop().unwrap();
        assert_eq!(last.text, format!("podium: halt: {how}"));
    }
}
