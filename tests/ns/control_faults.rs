//! Clients that do everything wrong, and a PID 1 that is the same afterwards.

use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

const KILL: i32 = 9;

/// How many descriptors PID 1 has, and how many threads.
fn burden(node: &Node) -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", node.init())).unwrap().count();
    (count("fd"), count("task"))
}

/// It answers, supervises, and has neither a thread nor a descriptor more than before.
fn unharmed(node: &Node, before: (usize, usize)) {
    let kubelet = node.starts("kubelet").unwrap();
    node.signal_process(kubelet.last().unwrap().pid, KILL).unwrap();
    node.nth_start("kubelet", kubelet.len() + 1).unwrap();
    let answers = || node.ctl(&["services"]).unwrap().ok.then_some(());
    eventually("an answer", LIMIT, answers).unwrap();
    let same = || (burden(node) == before).then_some(());
    eventually("as many descriptors as before", LIMIT, same).unwrap();
    assert_eq!(before.1, 1, "one thread");
}

/// Everything until the end, however it comes.
fn rest(mut stream: &UnixStream) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&chunk[..length]),
            Err(error) => {
                assert!(error.kind() == ErrorKind::ConnectionReset, "{error}");
                break;
            }
        }
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn ten_thousand_connections_take_no_descriptor_from_a_service() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = burden(&node);
    let mut silent = Vec::new();
    // As many as it takes stay open; the others come and go.
    for n in 0..10_000 {
        let stream = node.connect().unwrap();
        if n < 40 {
            silent.push(stream);
        }
        if n % 100 == 0 {
            assert!(burden(&node).0 <= before.0 + 32, "{:?}", burden(&node));
        }
    }
    drop(silent);
    unharmed(&node, before);
}

#[test]
fn half_a_line_for_ever_is_let_go_and_shuts_nobody_out() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = burden(&node);
    let mut halves: Vec<_> = (0..32).map(|_| node.connect().unwrap()).collect();
    for lines in &mut halves {
        lines.stream().write_all(b"{\"version\":1,\"requ").unwrap();
    }
    // All places are taken; the next one waits until they are let go.
    let printed = node.ctl(&["services"]).unwrap();
    assert!(printed.ok, "{printed:?}");
    for lines in &mut halves {
        let said = rest(lines.stream());
        assert!(said.is_empty() || said.contains("no whole line within 10 s"), "{said}");
    }
    unharmed(&node, before);
}

#[test]
fn a_line_of_a_gigabyte_is_refused_after_64_kib() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = burden(&node);
    let mut lines = node.connect().unwrap();
    let chunk = vec![b'x'; 1 << 20];
    let taken = (0..1024).take_while(|_| lines.stream().write_all(&chunk).is_ok()).count();
    assert!(taken < 2, "{taken} MiB of one line were taken");
    let said = rest(lines.stream());
    assert!(said.contains("a request line of more than 64 KiB"), "{said}");
    unharmed(&node, before);
}

#[test]
fn a_reader_that_never_reads_is_let_go() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = burden(&node);
    let mut asks = node.connect().unwrap();
    let mut follows = node.connect().unwrap();
    follows.send(r#"{"version":1,"request":"events","follow":true}"#).unwrap();
    // Requests until nobody takes them any more.
    asks.stream().set_nonblocking(true).unwrap();
    let requests = "{\"version\":1,\"request\":\"services\"}\n".repeat(64);
    eventually("a full queue", LIMIT, || asks.stream().write(requests.as_bytes()).is_err().then_some(()))
        .unwrap();
    assert!(node.ctl(&["services"]).unwrap().ok, "others are answered");
    // A follower gets what fits into its socket and the ring; then it is gone.
    let mut busy = node.connect().unwrap();
    let ended = |node: &Node| burden(node).0 <= before.0 + 1;
    let stop = "{\"version\":1,\"request\":\"service\",\"name\":\"kubelet\",\"action\":\"start\"}";
    let mut said = || {
        for _ in 0..100 {
            busy.send(stop).unwrap();
            let answer: Value = busy.next().unwrap().unwrap();
            assert_eq!(answer["ok"], true);
        }
        ended(&node).then_some(())
    };
    eventually("the end of both", LIMIT * 2, &mut said).unwrap();
    drop((asks, follows, busy));
    unharmed(&node, before);
}

#[test]
fn more_answers_and_followers_than_are_allowed_are_refused() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = burden(&node);
    let logs = r#"{"version":1,"request":"logs","service":"kubelet","follow":true}"#;
    let mut jobs: Vec<_> = (0..8).map(|_| node.ask(logs).unwrap()).collect();
    assert!(jobs.iter().all(|(first, _)| first["ok"] == true));
    let refused = node.ctl(&["logs", "kubelet"]).unwrap();
    assert!(refused.err.contains("too many answers are under way"), "{refused:?}");
    assert_eq!(burden(&node), before, "PID 1 keeps nothing of a job");
    jobs.clear();
    let answered = || node.ctl(&["logs", "kubelet"]).unwrap().ok.then_some(());
    eventually("an answer", LIMIT, answered).unwrap();

    let events = r#"{"version":1,"request":"events","follow":true}"#;
    let followers: Vec<_> = (0..16).map(|_| node.ask(events).unwrap()).collect();
    assert!(node.ask(events).unwrap().0["error"].as_str().unwrap().contains("too many clients follow"));
    assert!(node.ctl(&["services"]).unwrap().ok);
    drop(followers);
    unharmed(&node, before);
}

#[test]
fn a_client_is_refused_and_a_service_started_when_descriptors_are_short() {
    let node = Node::up(&Setup::default()).unwrap();
    let (descriptors, _) = burden(&node);
    let open = u64::try_from(descriptors).unwrap();
    // Some are left, and those are for services.
    node.limit_files(open + 8).unwrap();
    let printed = node.ctl(&["services"]).unwrap();
    assert!(printed.err.contains("no descriptor to spare"), "{printed:?}");
    // None are left: the client waits, and PID 1 neither spins nor ends.
    node.limit_files(3).unwrap();
    let waiting = node.connect().unwrap();
    let kubelet = node.nth_start("kubelet", 1).unwrap().pid;
    node.signal_process(kubelet, KILL).unwrap();
    node.nth_start("kubelet", 2).unwrap();
    node.limit_files(1024).unwrap();
    let mut waiting = waiting;
    waiting.send(r#"{"version":1,"request":"version"}"#).unwrap();
    assert_eq!(waiting.next().unwrap().unwrap()["ok"], true);
}
