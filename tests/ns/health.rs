//! Services that fail: what is told of them, and what becomes of one that is up and does not do its work.

use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use serde_json::{Value, json};

const SIGSTOP: i32 = 19;
/// A prober that has found the kubelet well, and then three times not.
const FAILS: &str = "ready\nuntil /fake/ask\nhealth kubelet\nmark /fake/asked\nuntil /fake/fail\n\
    health kubelet no answer\nhealth kubelet no answer\nhealth kubelet no answer\n";

fn service(node: &Node, name: &str) -> Value {
    let request = json!({"version": 1, "request": "service status", "name": name});
    node.ask(&request.to_string()).unwrap().0["service"].take()
}

fn until(node: &Node, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let look = || Some(service(node, name)).filter(|service| is(service));
    eventually(what, LIMIT, look).map_err(|error| node.with_console(&error)).unwrap()
}

#[test]
fn a_stopped_kubelet_that_is_not_healthy_is_killed_and_comes_back_alone() {
    let node = Node::up(&Setup::default().script("probe", FAILS)).unwrap();
    assert_eq!(service(&node, "kubelet")["health"], json!({"state": "unknown"}));
    assert_eq!(service(&node, "log")["health"], json!(null));
    node.touch("/fake/ask").unwrap();
    until(&node, "kubelet", "health", |kubelet| kubelet["health"] == json!({"state": "healthy"}));
    let before = node.nth_start("kubelet", 1).unwrap().pid;
    node.signal_process(before, SIGSTOP).unwrap();
    // SIGTERM that came before it is stopped would end it.
    let is_stopped =
        || node.processes().iter().any(|one| one.pid == before && one.state == 'T').then_some(());
    eventually("a stopped kubelet", LIMIT, is_stopped).unwrap();
    node.touch("/fake/fail").unwrap();
    node.wait("podium: kubelet: not healthy: no answer").unwrap();
    node.wait("podium: kubelet: unhealthy: no answer").unwrap();
    // A stopped process does not take SIGTERM.
    node.wait("podium: kubelet: still there, killed").unwrap();
    node.wait("podium: kubelet: ended, signal 9; next start now").unwrap();
    node.nth_start("kubelet", 2).unwrap();
    let kubelet = until(&node, "kubelet", "the kubelet", |kubelet| kubelet["state"] == "up");
    let death = &kubelet["deaths"][0];
    assert_eq!((&death["signal"], &death["code"]), (&json!(9), &json!(null)), "{kubelet}");
    assert_eq!((&death["reason"], &death["oom"]), (&json!("unhealthy: no answer"), &json!(false)));
    assert_eq!(kubelet["health"], json!({"state": "unknown"}), "a new life");
    assert_eq!(node.starts("containerd").unwrap().len(), 1, "nobody else is touched");
    let table = node.ctl(&["services"]).unwrap().out;
    assert!(table.lines().any(|line| line.contains("signal 9, unhealthy: no answer")), "{table}");
}

#[test]
fn a_prober_that_dies_or_hangs_stops_nothing_and_nobody_else_may_tell() {
    let lies = "ready\nuntil /fake/lie\nhealth kubelet x\nhealth kubelet x\nhealth kubelet x\n\
        health kubelet x\nmark /fake/lied\n";
    let setup = Setup::default().script("probe", "ready\nexit 1\n").script("containerd", lies);
    let node = Node::up(&setup).unwrap();
    node.wait("podium: probe: crash loop: 5 failures in a row, the last: ended, code 1").unwrap();
    node.script("probe", "ignore\nready\n").unwrap();
    until(&node, "probe", "a prober that says nothing", |probe| {
        probe["state"] == "up" && probe["restarts"].as_u64() > Some(4)
    });
    // The kubelet is up, so that the prober's word would count; a turn hears what services say before it answers.
    node.touch("/fake/lie").unwrap();
    eventually("the lies", LIMIT, || node.root("/fake/lied").exists().then_some(())).unwrap();
    let kubelet = service(&node, "kubelet");
    assert_eq!((&kubelet["state"], &kubelet["restarts"]), (&json!("up"), &json!(0)), "{kubelet}");
    assert_eq!(kubelet["health"], json!({"state": "unknown"}));
}

#[test]
fn a_crash_loop_and_what_a_service_uses_are_told() {
    let node = Node::start(&Setup::default().script("kubelet", "exit 3\n")).unwrap();
    node.wait("podium: kubelet: crash loop: 5 failures in a row, the last: ended, code 3").unwrap();
    let kubelet = until(&node, "kubelet", "backoff", |kubelet| kubelet["state"] == "backoff");
    let reason = kubelet["reason"].as_str().unwrap();
    assert!(reason.starts_with("crash loop, ") && reason.ends_with(": ended, code 3"), "{reason}");
    assert!(kubelet["deaths"].as_array().unwrap().iter().all(|death| death["code"] == 3), "{kubelet}");
    let table = node.ctl(&["services"]).unwrap().out;
    assert!(table.contains("\nkubelet: crash loop, "), "{table}");

    let containerd = service(&node, "containerd");
    // The memory controller may belong to the host's cgroup v1; cgroup2 counts processors' time by itself.
    assert_eq!(containerd["cpu_us"].is_u64(), node.has_cgroups(), "{containerd}");
    let controllers =
        std::fs::read_to_string(node.path("/sys/fs/cgroup/podium/containerd/cgroup.controllers"));
    let has_memory = controllers.unwrap_or_default().split_whitespace().any(|name| name == "memory");
    assert_eq!(containerd["memory_bytes"].is_u64(), has_memory, "{containerd}");
    let text = node.ctl(&["service", "containerd"]).unwrap().out;
    assert!(text.starts_with("service   containerd\n") && text.contains("\nrestarts  0\n"), "{text}");
    node.script("kubelet", "ready\n").unwrap();
    node.wait("podium: kubelet: up").unwrap();
}
