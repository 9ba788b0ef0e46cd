//! From the first line to a running kubelet: order, manifests, what a service is given. Bad configs are faults: see
//! `tests/faults/config/`.

use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use std::path::Path;

/// Two pods, of which the first cannot be run.
const ONE_BAD_POD: &str = "\
version: v1alpha1
machine:
  pods:
    - apiVersion: v1
      kind: Pod
      metadata: {name: bad}
      spec: {containers: [{name: bad, image: i, imaje: i}]}
    - apiVersion: v1
      kind: Pod
      metadata: {name: good}
      spec: {containers: [{name: good, image: i}]}
";

/// Signals whose state in a fake does not come from PID 1: SIGPIPE, which its own runtime ignores, and 32 and 33,
/// which the C library lets nobody change.
const NOT_OURS: u64 = 1 << 12 | 1 << 31 | 1 << 32;

#[test]
fn the_kubelet_is_executed_once_containerd_is_up_and_finds_its_manifests() {
    let setup = Setup::default().script("containerd", "until /fake/go\nready\n");
    let node = Node::start(&setup).unwrap();
    node.wait("podium: containerd: exec").unwrap();
    assert!(node.starts("kubelet").unwrap().is_empty());
    node.touch("/fake/go").unwrap();
    node.wait("podium: kubelet: up").unwrap();
    let line = |text| node.wait(text).unwrap().number;
    assert!(line("podium: containerd: up") < line("podium: kubelet: starting"));
    let manifests = node.nth_start("kubelet", 1).unwrap().manifests;
    assert_eq!(manifests.keys().collect::<Vec<_>>(), ["podium-default-hello.yaml"]);
    let pod: serde_json::Value = serde_json::from_str(&manifests["podium-default-hello.yaml"]).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["image"], "podium.local/hello:1");
}

#[test]
fn a_service_is_given_what_its_description_says_and_nothing_else() {
    let mut setup = Setup { ignored: vec!["HUP", "USR1", "CHLD"], ..Setup::default() };
    setup.env.insert("LEAK", "x".to_owned());
    let node = Node::up(&setup).unwrap();
    for (name, descriptions) in [("containerd", 1), ("kubelet", 1)] {
        let start = node.nth_start(name, descriptions).unwrap();
        let names: Vec<_> = start.env.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "NOTIFY_SOCKET", "PATH"], "{name}");
        let pipe = format!("/run/podium/logs/{name}");
        let fds: Vec<_> = start.fds.iter().map(|(fd, target)| (*fd, target.as_str())).collect();
        assert_eq!(fds, [(0, "/dev/null"), (1, pipe.as_str()), (2, pipe.as_str())], "{name}");
        assert_eq!(start.status["SigBlk"], "0000000000000000", "{name}");
        let ignored = u64::from_str_radix(&start.status["SigIgn"], 16).unwrap();
        assert_eq!(ignored & !NOT_OURS, 0, "{name}: {ignored:x}");
        assert_eq!(start.status["Umask"], "0022", "{name}");
        assert_eq!(start.cwd, "/", "{name}");
        assert!(start.session_leader, "{name}");
        if node.has_cgroups() {
            let group = format!("0::/podium/{name}");
            assert!(start.cgroup.lines().any(|line| line == group), "{name}: {}", start.cgroup);
        }
    }
}

#[test]
fn pid_1_is_one_thread_and_has_no_network_socket() {
    let node = Node::up(&Setup::default()).unwrap();
    let proc = Path::new("/proc").join(node.init().to_string());
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    assert!(status.lines().any(|line| line == "Threads:\t1"), "{status}");
    let links = std::fs::read_dir(proc.join("fd")).unwrap().flatten();
    let targets =
        links.filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.display().to_string()));
    let sockets: Vec<String> = targets
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    assert!(!sockets.is_empty(), "the notify sockets at least");
    let unix = std::fs::read_to_string(proc.join("net/unix")).unwrap();
    for socket in sockets {
        assert!(unix.split_whitespace().any(|word| word == socket), "socket {socket} is none of AF_UNIX");
    }
}

#[test]
fn a_bad_pod_does_not_stop_a_good_one() {
    let node = Node::up(&Setup::default().config(ONE_BAD_POD.as_bytes())).unwrap();
    let line = node.wait("imaje").unwrap();
    assert!(line.text.contains("line 7"), "{line}");
    let manifests = node.nth_start("kubelet", 1).unwrap().manifests;
    assert_eq!(manifests.keys().collect::<Vec<_>>(), ["podium-default-good.yaml"]);
}

#[test]
fn the_folders_of_pid_1_are_its_own() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::up(&Setup::default()).unwrap();
    for (folder, wanted) in
        [("/run/podium/notify", 0o711), ("/run/podium/services", 0o700), ("/run/podium/logs", 0o700)]
    {
        let mode =
            eventually(folder, LIMIT, || std::fs::metadata(node.path(folder)).ok()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, wanted, "{folder}");
    }
}
