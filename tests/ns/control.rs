//! The control socket: every request, by the client of the real binary and by bare lines.

use podium_tests::ns::{LIMIT, Node, Setup, eventually, is_root};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
/// Nobody of interest.
const SOMEBODY: u32 = 65_534;

fn service<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let services = answer["services"].as_array().unwrap();
    services.iter().find(|service| service["service"] == name).unwrap()
}

/// What `init ctl` prints when all is well.
fn said(node: &Node, args: &[&str]) -> String {
    let printed = node.ctl(args).unwrap();
    assert!(printed.ok && printed.err.is_empty(), "{args:?}: {printed:?}");
    printed.out
}

/// The one line it prints on stderr when it fails.
fn refused(node: &Node, args: &[&str]) -> String {
    let printed = node.ctl(args).unwrap();
    assert!(!printed.ok && printed.out.is_empty(), "{args:?}: {printed:?}");
    assert_eq!(printed.err.lines().count(), 1, "{args:?}: {printed:?}");
    printed.err
}

#[test]
fn versions_services_and_pods_are_told() {
    let node = Node::up(&Setup::default()).unwrap();
    let version: Value = serde_json::from_str(&said(&node, &["-o", "json", "version"])).unwrap();
    assert_eq!((&version["protocol"], &version["build_id"]), (&json!(1), &json!("namespace")));
    assert!(said(&node, &["version"]).starts_with("BOOT"));

    let answer: Value = serde_json::from_str(&said(&node, &["-o", "json", "services"])).unwrap();
    let kubelet = service(&answer, "kubelet");
    assert_eq!((&kubelet["state"], &kubelet["wanted"]), (&json!("up"), &json!("up")));
    assert_eq!(kubelet["pid"], json!(node.nth_start("kubelet", 1).unwrap().pid));
    assert_eq!((&kubelet["restarts"], &kubelet["deaths"]), (&json!(0), &json!([])));
    let table = said(&node, &["services"]);
    assert!(table.starts_with("SERVICE "), "{table}");
    assert!(table.lines().any(|line| line.starts_with("containerd  up      up ")), "{table}");

    let pods = said(&node, &["pods"]);
    assert!(pods.contains("default-hello") && pods.contains("podium-default-hello.yaml"), "{pods}");
    assert!(refused(&node, &["pods", "status"]).contains("apid, which asks the kubelet, is not there"));
    let status: Value = serde_json::from_str(&said(&node, &["-o", "json", "config", "status"])).unwrap();
    assert_eq!(status["changing"], json!(false));
    let config: Value = serde_json::from_str(&said(&node, &["-o", "json", "config", "get"])).unwrap();
    assert_eq!((&config["source"], &config["generation"]), (&json!("image default"), &json!(0)));
    assert!(said(&node, &["config", "get"]).starts_with("version: v1alpha1\n"));
    // In a container the kernel's log is the host's.
    assert!(refused(&node, &["dmesg"]).contains("the kernel's log is not to be had here"));
}

#[test]
fn what_is_no_request_is_refused_with_a_remedy_and_the_connection_goes_on() {
    let node = Node::up(&Setup::default()).unwrap();
    let mut lines = node.connect().unwrap();
    for (request, error, remedy) in [
        ("hello", "no request", "send one JSON object"),
        (r#"{"version":1,"request":"sevices"}"#, "unknown request", "did you mean \"services\"?"),
        (r#"{"version":7,"request":"services"}"#, "version 7", "speaks version 1"),
        (r#"{"version":1,"request":"services","x":1}"#, "no argument \"x\"", "it has none"),
    ] {
        lines.send(request).unwrap();
        let answer = lines.next().unwrap().unwrap();
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().unwrap().contains(error), "{answer}");
        assert!(answer["remedy"].as_str().unwrap().contains(remedy), "{answer}");
    }
    lines.send(r#"{"version":1,"request":"version"}"#).unwrap();
    assert_eq!(lines.next().unwrap().unwrap()["ok"], true);
    assert!(refused(&node, &["service", "restart", "kublet"]).contains("did you mean \"kubelet\"?"));
    assert!(refused(&node, &["logs", "kublet"]).contains("did you mean \"kubelet\"?"));
}

#[test]
fn a_service_is_stopped_started_and_restarted_alone() {
    let node = Node::up(&Setup::default()).unwrap();
    let out = said(&node, &["service", "restart", "kubelet"]);
    assert_eq!(out, "kubelet: restart asked for, now stopping\n");
    node.nth_start("kubelet", 2).unwrap();
    node.wait("podium: kubelet: restart, asked by ").unwrap();
    assert_eq!(node.starts("containerd").unwrap().len(), 1);

    // The kubelet needs it, and is left alone all the same.
    let kubelet = node.nth_start("kubelet", 2).unwrap().pid;
    said(&node, &["service", "stop", "containerd"]);
    node.wait("podium: containerd: down").unwrap();
    let (answer, _) = node.ask(r#"{"version":1,"request":"services"}"#).unwrap();
    let containerd = service(&answer, "containerd");
    assert_eq!((&containerd["state"], &containerd["wanted"]), (&json!("down"), &json!("down")));
    assert_eq!(service(&answer, "kubelet")["pid"], json!(kubelet));
    said(&node, &["service", "start", "containerd"]);
    node.nth_start("containerd", 2).unwrap();

    // What somebody asked for is no death.
    let (answer, _) = node.ask(r#"{"version":1,"request":"services"}"#).unwrap();
    for name in ["kubelet", "containerd"] {
        assert_eq!(service(&answer, name)["deaths"], json!([]), "{name}");
    }
}

#[test]
fn logs_are_told_from_the_end_and_followed() {
    let setup =
        Setup::default().script("kubelet", "print 20000\nsay last\nready\nuntil /fake/go\nsay later\n");
    let node = Node::up(&setup).unwrap();
    let last = || (node.ctl(&["logs", "kubelet", "--tail", "1"]).unwrap().out == "last\n").then_some(());
    eventually("the last line", LIMIT, last).unwrap();
    let all = said(&node, &["logs", "kubelet"]);
    assert!(all.lines().filter(|line| line.starts_with("kubelet line ")).count() == 20_000);

    let mut command = node.ctl_command().unwrap();
    command.args(["logs", "-f", "--tail", "2", "kubelet"]).stdout(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("kubelet line 000019999"));
    assert_eq!(lines.next().unwrap().unwrap(), "last");
    node.touch("/fake/go").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "later");

    // The job ends with its client.
    let jobs = || node.processes().into_iter().filter(|process| is_job(process.host_pid)).count();
    assert_eq!(jobs(), 1);
    follower.kill().unwrap();
    follower.wait().unwrap();
    eventually("the end of the job", LIMIT, || (jobs() == 0).then_some(())).unwrap();
}

fn is_job(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"answer")
}

#[test]
fn a_job_has_a_clean_mask_only_its_descriptors_and_a_cgroup_of_its_own() {
    let node = Node::up(&Setup::default()).unwrap();
    let (first, _lines) =
        node.ask(r#"{"version":1,"request":"logs","service":"kubelet","follow":true}"#).unwrap();
    assert_eq!(first["ok"], true);
    let job = node.processes().into_iter().find(|process| is_job(process.host_pid)).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", job.host_pid)).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // 32 and 33 are the C library's own, which nobody may touch; the host may ignore them.
    let of_libc = 0b11 << 31;
    assert_eq!((mask("SigBlk:"), mask("SigIgn:") & !of_libc), (0, 0));
    assert_eq!(std::fs::read(format!("/proc/{}/environ", job.host_pid)).unwrap(), b"");
    let fds = std::fs::read_dir(format!("/proc/{}/fd", job.host_pid)).unwrap().flatten();
    let sockets = fds.filter(|fd| {
        std::fs::read_link(fd.path()).is_ok_and(|path| path.to_string_lossy().starts_with("socket:"))
    });
    // Descriptors 0 and 1, and the one it has made of them.
    assert_eq!(sockets.count(), 3, "none of PID 1's");
    if node.has_cgroups() {
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", job.host_pid)).unwrap();
        assert!(group.trim_end().ends_with("/podium/jobs"), "{group}");
    }
}

#[test]
fn two_clients_follow_events_and_resume_without_a_gap() {
    let node = Node::up(&Setup::default()).unwrap();
    let follow = r#"{"version":1,"request":"events","follow":true}"#;
    let mut clients = [node.ask(follow).unwrap(), node.ask(follow).unwrap()];
    said(&node, &["service", "restart", "kubelet"]);
    let is_asked = |event: &Value| event["kind"] == "control" && event["service"] == "kubelet";
    let mut seen = Vec::new();
    for (first, lines) in &mut clients {
        assert_eq!((&first["ok"], first.get("gap")), (&json!(true), None));
        let mut last = 0;
        let event = lines
            .until(|event| {
                assert_eq!(event["seq"].as_u64().unwrap(), 1, "{event}");
                true
            })
            .unwrap();
        last += event["seq"].as_u64().unwrap();
        let asked = lines.until(is_asked).unwrap();
        assert!(asked["text"].as_str().unwrap().starts_with("restart, asked by "), "{asked}");
        last = last.max(asked["seq"].as_u64().unwrap());
        seen.push(last);
    }
    assert_eq!(seen[0], seen[1], "both are told the same");
    drop(clients);

    // Meanwhile more happens; whoever comes back gets what came after, without a hole.
    node.nth_start("kubelet", 2).unwrap();
    let boot = node.ask(r#"{"version":1,"request":"version"}"#).unwrap().0["boot"].clone();
    let again = json!({"version": 1, "request": "events", "since": seen[0], "boot": boot, "follow": true});
    let (first, mut lines) = node.ask(&again.to_string()).unwrap();
    assert_eq!((first.get("gap"), first.get("new_boot")), (None, None), "{first}");
    let mut expected = seen[0] + 1;
    lines
        .until(|event| {
            assert_eq!(event["seq"].as_u64(), Some(expected));
            expected += 1;
            event["service"] == "kubelet" && event["text"] == "up"
        })
        .unwrap();

    let other = json!({"version": 1, "request": "events", "since": seen[0], "boot": "another"});
    let (first, mut lines) = node.ask(&other.to_string()).unwrap();
    assert_eq!(first["new_boot"], true);
    assert_eq!(lines.next().unwrap().unwrap()["seq"], 1);
    let table = said(&node, &["events", "--since", "1000000"]);
    assert!(table.contains("is of an earlier boot"), "{table}");
}

#[test]
fn what_the_ring_does_not_hold_any_more_is_told_as_a_gap() {
    // Each end of the kubelet makes some events: none waits for another.
    let node = Node::up(&Setup::default()).unwrap();
    let request = r#"{"version":1,"request":"service","name":"kubelet","action":"stop"}"#;
    let mut lines = node.connect().unwrap();
    for _ in 0..300 {
        lines.send(request).unwrap();
        assert_eq!(lines.next().unwrap().unwrap()["ok"], true);
    }
    let (first, mut lines) = node.ask(r#"{"version":1,"request":"events","since":2}"#).unwrap();
    assert_eq!(first["gap"]["from"], 3, "{first}");
    let lost = first["gap"]["to"].as_u64().unwrap();
    assert_eq!(lines.next().unwrap().unwrap()["seq"].as_u64(), Some(lost + 1));
    let mut last = lost + 1;
    while let Some(event) = lines.next().unwrap() {
        last += 1;
        assert_eq!(event["seq"].as_u64(), Some(last));
    }
    assert_eq!(first["last"].as_u64(), Some(last), "the answer ends with the last one");
    let text = said(&node, &["events", "--since", "2"]);
    assert!(text.starts_with("-- events 3 to "), "{text}");
}

#[test]
fn reboot_and_power_off_end_the_node_as_they_say() {
    for (verb, how, end) in [("reboot", "reboot", SIGHUP), ("poweroff", "power off", SIGINT)] {
        let mut node = Node::up(&Setup::default()).unwrap();
        let (_, mut events) = node.ask(r#"{"version":1,"request":"events","follow":true}"#).unwrap();
        // A job that runs holds nothing up.
        let logs = node.ask(r#"{"version":1,"request":"logs","service":"kubelet","follow":true}"#).unwrap();
        assert_eq!(said(&node, &[verb]), format!("{how}: under way\n"));
        events.until(|event| event["kind"] == "shutdown").unwrap();
        assert_eq!(node.end(LIMIT).unwrap(), end);
        node.wait(&format!("podium: shutdown: {how}, asked by the control socket, ")).unwrap();
        drop(logs);
    }
}

#[test]
fn nothing_is_started_or_changed_once_the_node_goes_down() {
    let setup = Setup::default().script("kubelet", "ignore\nready\n");
    let node = Node::up(&setup).unwrap();
    node.ask(r#"{"version":1,"request":"reboot"}"#).unwrap();
    let going = [["service", "start", "kubelet"], ["service", "restart", "kubelet"]];
    for args in going {
        assert!(refused(&node, &args).contains("the node is on its way down: reboot"));
    }
    assert!(refused(&node, &["config", "rollback"]).contains("the node is on its way down: reboot"));
}

#[test]
fn somebody_who_is_not_root_is_refused() {
    assert!(is_root(), "run this as root: nobody else's uid can be had");
    let node = Node::up(&Setup::default()).unwrap();
    let run = || {
        // Both are handed over open, as descriptors 0 and 1: the way to them is root's alone.
        let done = Command::new("/proc/self/fd/1")
            .args(["ctl", "--socket", "/proc/self/fd/0/init.sock", "version"])
            .stdin(File::open(node.path("/run/podium")).unwrap())
            .stdout(File::open(node.path("/usr/sbin/init")).unwrap())
            .uid(SOMEBODY)
            .gid(SOMEBODY)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let said = run();
    assert!(said.contains("Permission denied") && said.contains("run it as root"), "{said}");
    // Also if somebody has opened it for all.
    std::fs::set_permissions(node.control_socket(), PermissionsExt::from_mode(0o666)).unwrap();
    let said = run();
    assert!(said.contains("only root may ask here; run it as root"), "{said}");
}
