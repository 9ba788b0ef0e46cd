//! The config of a running node: changed by a file and by the control socket, tried, proved, reverted, and what a boot
//! makes of what is stored.

use podium_tests::ns::{LIMIT, Node, Printed, Setup, eventually};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

/// What a config needs to prove itself takes half a minute.
pub(super) const PROOF: Duration = Duration::from_secs(90);
pub(super) const STATE_CONFIG: &str = "/system/state/config.yaml";
pub(super) const MANIFESTS: &str = "/etc/kubernetes/manifests";

pub(super) fn config(machine: &str) -> String {
    format!("version: v1alpha1\nmachine: {machine}\n")
}

pub(super) fn pods(pods: &[(&str, &str)]) -> String {
    let pod = |(name, image): &(&str, &str)| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: '{image}'}}]}}}}"
        )
    };
    config(&format!("{{pods: [{}]}}", pods.iter().map(pod).collect::<Vec<_>>().join(", ")))
}

/// As a container gets it in its environment.
pub(super) fn userdata(config: &str) -> String {
    let word = podium_tests::inline::plain(config.as_bytes());
    word.trim_start_matches("podium.config.inline=").to_owned()
}

/// What a write, a touch or a change of its mode leaves: a file's inode and the time of its last change.
pub(super) type Stamp = (u64, i64, i64);

/// Manifest name to its stamp and text: a file that was not touched has both as before.
pub(super) fn manifests(node: &Node) -> BTreeMap<String, (Stamp, String)> {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(node.path(MANIFESTS)).unwrap().flatten();
    let visible = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let read = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let meta = entry.metadata().ok()?;
        let stamp = (meta.ino(), meta.ctime(), meta.ctime_nsec());
        Some((entry.file_name().into_string().unwrap(), (stamp, text)))
    };
    visible.filter_map(read).collect()
}

pub(super) fn until_manifests(node: &Node, names: &[&str]) -> BTreeMap<String, (Stamp, String)> {
    let look = || Some(manifests(node)).filter(|all| all.keys().eq(names.iter()));
    eventually(&format!("manifests {names:?}"), LIMIT, look)
        .map_err(|error| node.with_console(&error))
        .unwrap()
}

pub(super) fn rename_over(node: &Node, text: &str) {
    let aside = node.path("/system/state/.new");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, node.path(STATE_CONFIG)).unwrap();
}

/// `init ctl config apply - WORDS` with that config.
pub(super) fn apply(node: &Node, text: &str, words: &[&str]) -> Printed {
    let mut command = node.ctl_command().unwrap();
    command.args(["config", "apply", "-"]).args(words);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Printed { ok: done.status.success(), out: text(done.stdout), err: text(done.stderr) }
}

/// Starts an apply and does not wait for it; its input is written by another thread.
fn apply_later(node: &Node, text: &str) -> (std::process::Child, std::thread::JoinHandle<()>) {
    let mut command = node.ctl_command().unwrap();
    let mut child =
        command.args(["config", "apply", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let (mut stdin, text) = (child.stdin.take().unwrap(), text.to_owned());
    (child, std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap()))
}

pub(super) fn in_use(node: &Node) -> Value {
    let printed = node.ctl(&["-o", "json", "config", "get"]).unwrap();
    serde_json::from_str(&printed.out).unwrap()
}

#[test]
fn a_config_file_is_taken_up_by_rename_and_by_writing_in_place() {
    let node = Node::up(&Setup::default()).unwrap();
    rename_over(&node, &pods(&[("hello", "i:1")]));
    let first = || Some(manifests(&node)).filter(|all| all["podium-default-hello.yaml"].1.contains("i:1"));
    let before = eventually("the first change", LIMIT, first).unwrap();
    rename_over(&node, &pods(&[("hello", "i:1"), ("two", "i:1")]));
    let after = until_manifests(&node, &["podium-default-hello.yaml", "podium-default-two.yaml"]);
    assert_eq!(
        after["podium-default-hello.yaml"], before["podium-default-hello.yaml"],
        "a pod that did not change keeps its file as it is"
    );
    std::fs::write(node.path(STATE_CONFIG), pods(&[("two", "i:2")])).unwrap();
    let after = until_manifests(&node, &["podium-default-two.yaml"]);
    assert!(after["podium-default-two.yaml"].1.contains("i:2"));
    node.wait("config 3 in force: 1 pod").unwrap();
    let printed = node.ctl(&["pods"]).unwrap();
    let row = printed.out.lines().find(|line| line.starts_with("default-two")).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some("2"), "{}", printed.out);
}

#[test]
fn a_half_written_file_is_not_acted_on() {
    let node = Node::up(&Setup::default()).unwrap();
    let whole = pods(&[("one", "i"), ("two", "i")]);
    let (first, second) = whole.split_at(whole.len() / 2);
    let mut file = std::fs::File::create(node.path(STATE_CONFIG)).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    file.sync_all().unwrap();
    // Something else that the node does, so that it has had every chance to look at the half.
    assert!(node.ctl(&["services"]).unwrap().ok);
    assert_eq!(manifests(&node).keys().collect::<Vec<_>>(), ["podium-default-hello.yaml"]);
    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    until_manifests(&node, &["podium-default-one.yaml", "podium-default-two.yaml"]);
    assert!(
        !node.console.lines().iter().any(|line| line.text.contains("not used")),
        "{}",
        node.console.tail(20)
    );
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_neither_does_its_removal() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = manifests(&node);
    rename_over(&node, "version: v1alpha1\nmachine: {podz: []}\n");
    node.wait("config from /system/state/config.yaml: line 2: machine.podz: unknown key").unwrap();
    node.wait("config from /system/state/config.yaml: not used; generation 0 stays in force").unwrap();
    std::fs::remove_file(node.path(STATE_CONFIG)).unwrap();
    node.wait("config: /system/state/config.yaml was removed; what is in force stays so").unwrap();
    assert_eq!(manifests(&node), before);
}

#[test]
fn an_update_that_cannot_be_run_leaves_the_pods_last_good_file() {
    let node = Node::up(&Setup::default()).unwrap();
    rename_over(&node, &pods(&[("a", "i:1"), ("b", "i:1")]));
    let before = until_manifests(&node, &["podium-default-a.yaml", "podium-default-b.yaml"]);
    let broken =
        pods(&[("a", "i:1"), ("b", "i:2"), ("c", "i:1")]).replacen("image: 'i:1'", "imgae: 'i:2'", 1);
    rename_over(&node, &broken);
    let names = ["podium-default-a.yaml", "podium-default-b.yaml", "podium-default-c.yaml"];
    let after = until_manifests(&node, &names);
    assert_eq!(after["podium-default-a.yaml"], before["podium-default-a.yaml"]);
    assert!(after["podium-default-b.yaml"].1.contains("i:2"));
    let printed = node.ctl(&["pods"]).unwrap().out;
    assert!(printed.contains("imgae"), "{printed}");
}

#[test]
fn a_client_applies_a_config_and_sees_what_it_changes() {
    let node = Node::up(&Setup::default()).unwrap();
    let new = pods(&[("hello", "podium.local/hello:2")]);
    let dry = apply(&node, &new, &["--dry-run"]);
    assert!(dry.ok, "{dry:?}");
    assert!(
        dry.out.contains("machine.pods[default-hello].spec.containers[hello]")
            || dry.out.contains("machine.pods[default-hello].spec.containers"),
        "{dry:?}"
    );
    assert!(manifests(&node)["podium-default-hello.yaml"].1.contains("hello:1"), "a dry run changes nothing");
    let done = apply(&node, &new, &[]);
    assert!(done.ok && done.out.contains("applied, generation 1, pods 1"), "{done:?}");
    assert!(manifests(&node)["podium-default-hello.yaml"].1.contains("hello:2"));
    assert_eq!(in_use(&node)["config"], new);
    let history = node.ctl(&["config", "history"]).unwrap().out;
    assert!(history.contains("applied by uid 0"), "{history}");
    let refused = apply(&node, &config("{podz: []}"), &[]);
    assert!(!refused.ok && refused.err.contains("the config has 1 error"), "{refused:?}");
    assert!(refused.out.contains("line 2: machine.podz: unknown key"), "{refused:?}");
    assert_eq!(in_use(&node)["generation"], 1);
}

#[test]
fn a_setting_of_a_service_restarts_it_and_nothing_else() {
    let node = Node::up(&Setup::default()).unwrap();
    let hello = manifests(&node);
    let setup = Setup::default();
    let with = |more: &str| {
        String::from_utf8(setup.config.clone().unwrap())
            .unwrap()
            .replace("machine:\n", &format!("machine:\n  {more}\n"))
    };
    let done = apply(&node, &with("kubelet: {extraConfig: {maxPods: 7}}"), &[]);
    assert!(done.out.contains("machine.kubelet.extraConfig: services restart"), "{done:?}");
    node.nth_start("kubelet", 2).unwrap();
    assert_eq!(node.starts("containerd").unwrap().len(), 1);
    let written = std::fs::read_to_string(node.path("/run/podium/kubelet.json")).unwrap();
    assert!(written.contains("\"maxPods\": 7"), "{written}");
    let done = apply(&node, &with("env: {HTTPS_PROXY: 'http://proxy'}"), &[]);
    assert!(done.ok, "{done:?}");
    let containerd = node.nth_start("containerd", 2).unwrap();
    assert_eq!(containerd.env["HTTPS_PROXY"], "http://proxy");
    assert_eq!(node.nth_start("kubelet", 3).unwrap().env["HTTPS_PROXY"], "http://proxy");
    assert_eq!(manifests(&node), hello, "no pod was touched");
}

#[test]
fn what_needs_a_reboot_says_so_and_each_mode_does_what_it_says() {
    let mut node = Node::up(&with_state()).unwrap();
    let named = config("{network: {hostname: other}, pods: []}");
    for mode in ["no-reboot", "try"] {
        let refused = apply(&node, &named, &["--mode", mode]);
        assert!(
            !refused.ok && refused.err.contains("machine.network.hostname needs a reboot"),
            "{refused:?}"
        );
    }
    let staged = apply(&node, &named, &["--mode", "staged"]);
    assert!(staged.ok && staged.out.contains("staged, generation 1"), "{staged:?}");
    assert_eq!(manifests(&node).len(), 1, "nothing changes before the next boot");
    let auto = apply(&node, &named, &[]);
    assert!(auto.ok && auto.out.contains("staged, generation 2, the node reboots for it"), "{auto:?}");
    node.wait("shutdown: reboot, asked by a new config: machine.network.hostname needs a reboot").unwrap();
    assert_eq!(node.end(LIMIT).unwrap(), 1);
    let node = node.again(&with_state()).unwrap();
    node.wait("config from STATE (staged config): 0 pods").unwrap();
    node.wait("podium: kubelet: up").unwrap();
    assert_eq!(in_use(&node)["generation"], 2);
}

#[test]
fn a_tried_config_goes_when_its_time_is_over() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = manifests(&node);
    let tried = apply(&node, &pods(&[("tried", "i")]), &["--mode", "try", "--timeout", "5"]);
    assert!(tried.ok && tried.out.contains("tried for 5 s"), "{tried:?}");
    until_manifests(&node, &["podium-default-tried.yaml"]);
    node.wait("config: going back: its time in try mode is over").unwrap();
    let after = until_manifests(&node, &["podium-default-hello.yaml"]);
    assert_eq!(after["podium-default-hello.yaml"].1, before["podium-default-hello.yaml"].1);
    // The manifests come first.
    node.wait("back to config 0 in force").unwrap();
    assert_eq!(in_use(&node)["tried"], false);
}

#[test]
fn a_config_whose_pods_do_not_come_up_is_reverted_and_kept_for_inspection() {
    let node = Node::up(&Setup::default()).unwrap();
    let good = config("{pods: [], env: {A: good}}");
    assert!(apply(&node, &good, &[]).ok);
    node.console.wait(0, "it is the last known good one", PROOF).unwrap();
    // In a namespace no pod ever runs.
    assert!(apply(&node, &pods(&[("never", "i")]), &["--timeout", "5"]).ok);
    until_manifests(&node, &["podium-default-never.yaml"]);
    node.wait("config: not all pods came up, or stayed up within its limit; going back").unwrap();
    until_manifests(&node, &[]);
    node.wait("back to config 1 in force: 0 pods").unwrap();
    assert_eq!((&in_use(&node)["config"], &in_use(&node)["generation"]), (&good.into(), &1.into()));
    let aside = std::fs::read_to_string(node.path("/system/state/config/rejected-1.yaml")).unwrap();
    assert!(aside.contains("never"), "{aside}");
    let back = node.ctl(&["config", "rollback", "2"]).unwrap();
    assert!(back.ok && back.out.contains("applied, generation 3"), "{back:?}");
    until_manifests(&node, &["podium-default-never.yaml"]);
}

#[test]
fn what_others_do_in_the_manifest_directory_is_put_right() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = manifests(&node);
    let dir = node.path(MANIFESTS);
    std::fs::write(dir.join("mine.yaml"), "kind: Pod").unwrap();
    std::fs::remove_file(dir.join("podium-default-hello.yaml")).unwrap();
    let look = || manifests(&node).get("podium-default-hello.yaml").cloned();
    let again = eventually("the manifest again", LIMIT, look).unwrap();
    assert_eq!(again.1, before["podium-default-hello.yaml"].1);
    std::fs::write(dir.join("podium-default-hello.yaml"), "{}").unwrap();
    let right = || look().filter(|(_, text)| *text == before["podium-default-hello.yaml"].1);
    eventually("the manifest's own text", LIMIT, right).unwrap();
    std::fs::copy(dir.join("podium-default-hello.yaml"), dir.join("podium-default-hello.yaml.bak")).unwrap();
    node.wait("hello.yaml.bak: the kubelet would take it for the pod default/hello of the config; moved to")
        .unwrap();
    nix::unistd::mkfifo(&dir.join("trap.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn({
        let trap = dir.join("trap.yaml");
        // As the kubelet does: it waits until somebody writes, or finds nothing any more.
        move || std::fs::read(trap).map(|bytes| bytes.len()).unwrap_or(0)
    });
    node.wait("a FIFO can hang the kubelet; moved to").unwrap();
    let names = ["mine.yaml", "podium-default-hello.yaml"];
    until_manifests(&node, &names);
    let starts = node.starts("kubelet").unwrap().len();
    nix::unistd::mkfifo(&dir.join("moment.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Podium may have been faster; then it was moved, and whoever waited is released.
    if std::fs::remove_file(dir.join("moment.yaml")).is_ok() {
        let line = node.wait("moment.yaml: ").unwrap();
        if line.text.contains("came and went") {
            node.nth_start("kubelet", starts + 1).unwrap();
        }
    }
    until_manifests(&node, &names);
    eventually("the reader is released", LIMIT, || reader.is_finished().then_some(())).unwrap();
    let listed = || node.ctl(&["pods"]).unwrap().out.contains("mine.yaml").then_some(());
    eventually("the file of others is listed", LIMIT, listed).unwrap();
}

#[test]
fn what_others_change_while_a_manifest_is_being_put_back_is_put_back_too() {
    let node = Node::up(&with_state()).unwrap();
    let hello = node.path(MANIFESTS).join("podium-default-hello.yaml");
    let ours = std::fs::read_to_string(&hello).unwrap();
    // The last write of a row falls into a repair that the first one started, or there is none by then.
    for writes in 1..9 {
        for _ in 0..writes * 4 {
            std::fs::write(&hello, format!("{ours} ")).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        eventually("our manifest as it was", LIMIT, || {
            (std::fs::read_to_string(&hello).ok()? == ours).then_some(())
        })
        .map_err(|error| node.with_console(&error))
        .unwrap();
    }
}

#[test]
fn one_change_at_a_time() {
    let node = Node::up(&Setup::default()).unwrap();
    let (first, mut waiting) = node.ask(r#"{"version":1,"request":"config apply"}"#).unwrap();
    assert_eq!(first["send"], true);
    let (mut second, next) = apply_later(&node, &pods(&[("b", "i")]));
    let queued =
        || node.ctl(&["-o", "json", "config", "status"]).unwrap().out.contains("\"waiting\":1").then_some(());
    eventually("the second waits for its turn", LIMIT, queued).unwrap();
    waiting.stream().write_all(pods(&[("a", "i")]).as_bytes()).unwrap();
    waiting.stream().shutdown(std::net::Shutdown::Write).unwrap();
    let last = waiting.until(|line| line.get("result").is_some()).unwrap();
    assert_eq!(last["ok"], true, "{last}");
    assert!(second.wait().unwrap().success());
    next.join().unwrap();
    until_manifests(&node, &["podium-default-b.yaml"]);
    assert_eq!(in_use(&node)["generation"], 2, "one after the other, none lost");
}

/// With a volume for STATE, as a container that is to remember something is started.
pub(super) fn with_state() -> Setup {
    Setup { volumes: vec!["/system/state"], ..Setup::default() }
}

#[test]
fn a_damaged_config_gives_way_to_the_last_known_good_one() {
    let mut node = Node::up(&with_state()).unwrap();
    assert!(apply(&node, &config("{pods: [], env: {A: good}}"), &[]).ok);
    node.console.wait(0, "it is the last known good one", PROOF).unwrap();
    assert!(apply(&node, &pods(&[("new", "i")]), &[]).ok);
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    let path = node.root(STATE_CONFIG);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    let node = node.again(&with_state()).unwrap();
    node.wait("config from STATE: its checksum does not match").unwrap();
    node.wait("config from STATE: kept for inspection as /system/state/config/rejected-1.yaml").unwrap();
    node.wait("config from STATE (last known good config): 0 pods").unwrap();
    assert_eq!(std::fs::read(node.path("/system/state/config/rejected-1.yaml")).unwrap(), bytes);
    node.wait("podium: kubelet: up").unwrap();
    assert_eq!(in_use(&node)["generation"], 1);
}

#[test]
fn a_bind_mount_that_is_there_is_not_made_again_by_a_change() {
    let bind = |name: &str| {
        format!("{{destination: /var/at-{name}, type: bind, source: /var/{name}, options: [bind, rw]}}")
    };
    let with = |mounts: &[String]| config(&format!("{{kubelet: {{extraMounts: [{}]}}}}", mounts.join(", ")));
    let node = Node::up(&Setup::default().config(with(&[bind("one")]).as_bytes())).unwrap();
    let mounted = |path: &str| {
        let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", node.init())).unwrap();
        table.lines().filter(|line| line.split(' ').nth(4) == Some(path)).count()
    };
    assert_eq!(mounted("/var/at-one"), 1);
    rename_over(&node, &with(&[bind("one"), bind("two")]));
    let done = || (mounted("/var/at-two") == 1).then_some(());
    eventually("the second mount", LIMIT, done).map_err(|error| node.with_console(&error)).unwrap();
    assert_eq!(mounted("/var/at-one"), 1);
}
