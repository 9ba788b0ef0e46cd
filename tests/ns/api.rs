//! What the network API stands on: a service without rights, sockets by role, and a node that waits for its config.

use podium_tests::ns::{LIMIT, Node, Setup, eventually, is_root};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The service's user and group.
const API: u32 = 52;
/// Nobody of interest.
const SOMEBODY: u32 = 65_534;
const CRT: &str =
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tClRtOGdZMlZ5ZEdsbWFXTmhkR1U9Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";
const KEY: &str = "LS0tLS1CRUdJTiBFRDI1NTE5IFBSSVZBVEUgS0VZLS0tLS0KVG04Z2EyVjUKLS0tLS1FTkQgRUQyNTUxOSBQUklWQVRFIEtFWS0tLS0tCg==";
const OTHER_KEY: &str =
    "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCllXNXZkR2hsY2lCclpYaz0KLS0tLS1FTkQgUFJJVkFURSBLRVktLS0tLQo=";

fn socket(role: &str) -> String {
    format!("/run/podium/api/init-{role}.sock")
}

/// What `init ctl` prints by a role's socket, and whether it was well.
fn ctl(node: &Node, role: &str, args: &[&str], stdin: &str) -> (bool, String) {
    let mut command = node.ctl_command().unwrap();
    command.arg("--socket").arg(node.path(&socket(role))).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), text)
}

fn config(machine: &str) -> String {
    format!(
        "version: v1alpha1\nmachine:\n  {machine}\n  pods:\n    - {{apiVersion: v1, kind: Pod, metadata: {{name: hello}}, \
         spec: {{containers: [{{name: c, image: i}}]}}}}\n"
    )
}

/// Every event so far.
fn events(node: &Node) -> Vec<Value> {
    let (first, mut lines) = node.ask(r#"{"version":1,"request":"events"}"#).unwrap();
    assert!(first["now_ms"].as_u64().is_some(), "{first}");
    std::iter::from_fn(|| lines.next().unwrap()).collect()
}

#[test]
fn the_api_runs_as_its_own_user_without_any_right() {
    assert!(is_root(), "run this as root: nobody else's uid can be had");
    let script = "say hello from the api\nready\nstatus listens\x1b on 192.0.2.1:50000\nstatus listens\x1b on 192.0.2.1:50000\n";
    let setup = Setup::default().script("api", script);
    let node = Node::up(&setup).unwrap();
    let start = node.nth_start("api", 1).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&start.status[set], 16), Ok(0), "{set}");
    }
    for ids in ["Uid", "Gid"] {
        assert_eq!(start.status[ids].split_whitespace().collect::<Vec<_>>(), ["52"; 4], "{ids}");
    }
    assert_eq!((start.status["Groups"].as_str(), start.status["NoNewPrivs"].as_str()), ("", "1"));
    assert_eq!(start.argv[1..], ["api"]);
    // It says READY, what it is about, and its words are in its log.
    node.wait("podium: api: up").unwrap();
    node.wait("podium: api: listens? on 192.0.2.1:50000").unwrap();
    assert_eq!(node.console.tail(1000).matches("192.0.2.1:50000").count(), 1, "said once");
    let log = || std::fs::read_to_string(node.root("/var/log/podium/api.log")).unwrap_or_default();
    eventually("its log", LIMIT, || log().contains("hello from the api").then_some(())).unwrap();
    let event =
        events(&node).into_iter().find(|event| event["text"] == "up" && event["service"] == "api").unwrap();
    assert_eq!((&event["kind"], &event["state"]), (&json!("service"), &json!("up")));
    // Nobody else may say READY for it, and it for nobody else.
    let notify = |name: &str| std::fs::metadata(node.path(&format!("/run/podium/notify/{name}"))).unwrap();
    assert_eq!((notify("api").uid(), notify("api").mode() & 0o777), (API, 0o600));
    assert_eq!((notify("kubelet").uid(), notify("kubelet").mode() & 0o777), (0, 0o600));
    // Its memory is bounded, by its cgroup where that can be had and else by itself.
    let host = node.processes().into_iter().find(|process| process.pid == start.pid).unwrap().host_pid;
    let limits = std::fs::read_to_string(format!("/proc/{host}/limits")).unwrap();
    let data = limits.lines().find_map(|line| line.strip_prefix("Max data size")).unwrap();
    let of_group =
        std::fs::read_to_string(node.path("/sys/fs/cgroup/podium/api/memory.max")).unwrap_or_default();
    let most = (64 << 20).to_string();
    assert!(of_group.trim() == most || data.split_whitespace().next() == Some(&most), "{of_group} {data}");
}

#[test]
fn what_was_moved_out_of_the_kubelets_way_is_for_the_console() {
    let node = Node::up(&Setup::default().script("kubelet", "status moved aside\nready\n")).unwrap();
    node.wait("podium: kubelet: moved aside").unwrap();
}

#[test]
fn a_status_of_another_service_is_not_for_the_console() {
    let node = Node::up(&Setup::default().script("probe", "status look at me\nready\n")).unwrap();
    node.wait("podium: probe: up").unwrap();
    assert!(!node.console.tail(1000).contains("look at me"));
}

#[test]
fn each_role_may_what_it_should_on_its_own_socket() {
    assert!(is_root(), "run this as root: the sockets cannot be given to the API's group");
    let node = Node::up(&Setup::default()).unwrap();
    let folder = std::fs::metadata(node.path("/run/podium/api")).unwrap();
    assert_eq!((folder.mode() & 0o7777, folder.uid(), folder.gid()), (0o710, 0, API));
    for role in ["maintenance", "reader", "operator", "admin"] {
        let meta = std::fs::metadata(node.path(&socket(role))).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o660, 0, API), "{role}");
    }
    for role in ["reader", "operator", "admin"] {
        assert!(ctl(&node, role, &["services"], "").0, "{role}");
        let (ok, said) = ctl(&node, role, &["logs", "kubelet"], "");
        assert!(!ok && said.contains("needs the role root"), "{role}: {said}");
    }
    let restart = ["service", "restart", "kubelet"];
    let (ok, said) = ctl(&node, "reader", &restart, "");
    assert!(!ok && said.contains("needs the role operator, and the socket is that of reader"), "{said}");
    assert!(ctl(&node, "operator", &restart, "").0);
    node.wait("podium: kubelet: restart, asked by uid 0 from outside, the API's operator").unwrap();
    // Maintenance is over: nothing is answered there, and no config taken.
    for args in [&["services"][..], &["reboot"], &["config", "get"]] {
        let (ok, said) = ctl(&node, "maintenance", args, "");
        assert!(!ok && said.contains("the socket is that of maintenance"), "{args:?}: {said}");
    }
    for mode in ["auto", "staged", "reboot"] {
        let (ok, said) =
            ctl(&node, "maintenance", &["config", "apply", "-", "--mode", mode], &config("env: {A: b}"));
        assert!(!ok && said.contains("only the first one is taken from anybody"), "{mode}: {said}");
    }
    for args in [&["config", "get"][..], &["config", "history"], &["reset"]] {
        let (ok, said) = ctl(&node, "operator", args, "");
        assert!(!ok && said.contains("needs the role admin"), "{args:?}: {said}");
    }
    assert!(ctl(&node, "admin", &["config", "get"], "").0);
    let (ok, said) = ctl(&node, "admin", &["reset"], "");
    assert!(!ok && said.contains("a container has no partitions of its own"), "{said}");
}

#[test]
fn the_role_sockets_are_for_root_and_the_api_alone() {
    assert!(is_root(), "run this as root: nobody else's uid can be had");
    let node = Node::up(&Setup::default()).unwrap();
    let ask = |uid: u32, group: u32| {
        // Both are handed over open, as descriptors 0 and 1: the way to them is root's alone.
        let done = Command::new("/proc/self/fd/1")
            .args(["ctl", "--socket", "/proc/self/fd/0/init-reader.sock", "version"])
            .stdin(File::open(node.path("/run/podium/api")).unwrap())
            .stdout(File::open(node.path("/usr/sbin/init")).unwrap())
            .uid(uid)
            .gid(group)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .unwrap();
        String::from_utf8(done.stderr).unwrap()
    };
    // Its answer has nowhere to go, but it is one.
    let said = ask(API, API);
    assert!(!said.contains("denied") && !said.contains("only root"), "{said}");
    assert!(ask(SOMEBODY, SOMEBODY).contains("Permission denied"));
    // Also for somebody who is in the group, or once somebody has opened it for all.
    assert!(ask(SOMEBODY, API).contains("only root may ask here"));
    std::fs::set_permissions(node.path(&socket("reader")), PermissionsExt::from_mode(0o666)).unwrap();
    std::fs::set_permissions(node.path("/run/podium/api"), PermissionsExt::from_mode(0o711)).unwrap();
    assert!(ask(SOMEBODY, SOMEBODY).contains("only root may ask here"));
}

#[test]
fn a_ca_is_live_at_once_and_its_key_is_shown_nowhere() {
    let node = Node::up(&Setup::default()).unwrap();
    if is_root() {
        node.wait("podium: api: up").unwrap();
    }
    let starts = node.starts("api").unwrap().len();
    let mut shown = String::new();
    for (key, words) in [(KEY, &["--dry-run"][..]), (KEY, &[]), (OTHER_KEY, &["--dry-run"]), (OTHER_KEY, &[])]
    {
        let text = config(&format!("ca: {{crt: {CRT}, key: {key}}}"));
        let mut command = node.ctl_command().unwrap();
        command.args(["config", "apply", "-"]).args(words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.contains("machine.ca"), "{said}");
        shown += &said;
    }
    assert!(shown.contains("(secret)"), "{shown}");
    shown += &node.console.tail(1000);
    shown += &events(&node).iter().map(Value::to_string).collect::<String>();
    for secret in [KEY, OTHER_KEY] {
        assert!(!shown.contains(&secret[..40]) && !shown.contains(&secret[40..60]), "{shown}");
    }
    let path = node.path("/run/podium/config.json");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let in_use: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(in_use["config"]["machine"]["ca"], json!({"crt": CRT, "key": OTHER_KEY}));
    assert_eq!(node.starts("api").unwrap().len(), starts, "it looks by itself");
}

#[test]
fn a_node_that_waits_takes_its_first_config_and_runs_without_a_reboot() {
    assert!(is_root(), "run this as root: the sockets cannot be given to the API's group");
    let node = Node::start(&Setup { config: None, ..Setup::default() }).unwrap();
    node.wait("podium: no usable config: ").unwrap();
    node.wait("podium: containerd: up").unwrap();
    node.wait("podium: api: up").unwrap();
    assert_eq!(node.starts("kubelet").unwrap().len(), 0);
    let finished = events(&node).into_iter().find(|event| {
        event["kind"] == "node" && event["text"] == "boot finished: there is no kubelet to start"
    });
    assert!(finished.is_some());

    let text =
        config("network: {hostname: first, interfaces: [{interface: dummy0, addresses: [192.0.2.7/24]}]}");
    let (ok, said) = ctl(&node, "admin", &["config", "apply", "-", "--mode", "try"], &text);
    assert!(!ok && said.contains("no config that could come back"), "{said}");
    let (ok, said) = ctl(&node, "admin", &["config", "apply", "-", "--mode", "no-reboot"], &text);
    assert!(ok, "{said}");
    let kubelet = node.nth_start("kubelet", 1).unwrap();
    assert!(kubelet.argv.contains(&"--hostname-override=first".to_owned()), "{:?}", kubelet.argv);
    assert_eq!(kubelet.manifests.keys().collect::<Vec<_>>(), ["podium-default-hello.yaml"]);
    node.wait("podium: kubelet: up").unwrap();
    let applied = |event: &Value| {
        event["kind"] == "config"
            && event["text"].as_str().is_some_and(|text| text.starts_with("config 1 in force: 1 pod"))
    };
    assert!(events(&node).iter().any(applied));
    let (answer, _) = node.ask(r#"{"version":1,"request":"services"}"#).unwrap();
    let services = answer["services"].as_array().unwrap();
    for name in ["kubelet", "pods"] {
        assert!(
            services.iter().any(|service| service["service"] == name && service["wanted"] == "up"),
            "{answer}"
        );
    }
    let log = || std::fs::read_to_string(node.root("/var/log/podium/kubelet.log")).ok();
    eventually("the new service's log", LIMIT, log).unwrap();
}

#[test]
fn a_first_config_for_the_next_boot_ends_maintenance_at_once() {
    assert!(is_root(), "run this as root: the sockets cannot be given to the API's group");
    let node = Node::start(&Setup { config: None, ..Setup::default() }).unwrap();
    node.wait("podium: api: up").unwrap();
    let is_fresh = || {
        let in_use: Value =
            serde_json::from_slice(&std::fs::read(node.path("/run/podium/config.json")).unwrap()).unwrap();
        assert_eq!(in_use["source"], "");
        in_use["fresh"] == true
    };
    assert!(is_fresh());
    let staged = ["config", "apply", "-", "--mode", "staged"];
    let (ok, said) = ctl(&node, "maintenance", &staged, &config("env: {A: b}"));
    assert!(ok, "{said}");
    assert!(!is_fresh());
    let (ok, said) = ctl(&node, "maintenance", &staged, &config("env: {A: c}"));
    assert!(!ok && said.contains("only the first one is taken from anybody"), "{said}");
}
