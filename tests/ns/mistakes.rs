//! Mistakes in a config of a running node, and what is not lost by them: no pod, no last known good config, nothing that
//! was in force before, over a boot as well.

use super::live::{
    MANIFESTS, PROOF, STATE_CONFIG, apply, config, in_use, manifests, pods, rename_over, until_manifests,
    userdata, with_state,
};
use podium_tests::ns::{LIMIT, Node, Setup, eventually};

/// A pod that cannot be run, for `imgae` is no key.
fn spoilt(pods: &str, image: &str) -> String {
    pods.replacen(&format!("image: '{image}'"), &format!("imgae: '{image}'"), 1)
}

#[test]
fn a_mistake_in_one_pod_costs_neither_that_pod_nor_the_last_known_good_config_at_the_next_boot() {
    let mut node = Node::up(&with_state()).unwrap();
    assert!(apply(&node, &pods(&[("a", "i:1"), ("b", "i:1")]), &[]).ok);
    let before = until_manifests(&node, &["podium-default-a.yaml", "podium-default-b.yaml"]);
    // By hand, below the line that Podium wrote.
    let stored = std::fs::read_to_string(node.path(STATE_CONFIG)).unwrap();
    let (line, _) = stored.split_once('\n').unwrap();
    let broken = spoilt(&pods(&[("a", "i:2"), ("b", "i:2")]), "i:2");
    rename_over(&node, &format!("{line}\n{broken}"));
    node.wait("config 2 in force: 1 pod; there is none to go back to; as far as it goes, for it has errors")
        .unwrap();
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    let node = node.again(&with_state()).unwrap();
    node.wait("pod default/a: as in the last known good config, until this one is mended").unwrap();
    let after = until_manifests(&node, &["podium-default-a.yaml", "podium-default-b.yaml"]);
    assert_eq!(after["podium-default-a.yaml"].1, before["podium-default-a.yaml"].1);
    assert!(after["podium-default-b.yaml"].1.contains("i:2"), "what can be changed is");
    assert!(!node.path("/system/state/config/good.yaml").exists(), "it has not proved itself");
    // Manifests are there before the loop is, which answers.
    node.wait("podium: kubelet: up").unwrap();
    let listed = node.ctl(&["pods"]).unwrap().out;
    assert!(listed.contains("imgae"), "{listed}");
    std::fs::remove_file(node.path(&format!("{MANIFESTS}/podium-default-a.yaml"))).unwrap();
    let again = until_manifests(&node, &["podium-default-a.yaml", "podium-default-b.yaml"]);
    assert_eq!(again["podium-default-a.yaml"].1, before["podium-default-a.yaml"].1, "put back as well");
}

#[test]
fn a_config_with_a_mistake_in_one_pod_is_proved_as_far_as_it_goes_and_no_further() {
    let mut node = Node::up(&with_state()).unwrap();
    assert!(apply(&node, &config("{pods: [], env: {A: good}}"), &[]).ok);
    node.console.wait(0, "it is the last known good one", PROOF).unwrap();
    let broken = "{env: {A: new}, pods: [{apiVersion: v1, kind: Pod, metadata: {name: 7}}]}";
    rename_over(&node, &config(broken));
    node.wait("config 2 in force: 0 pods; kubelet and pods have 300 s to come up; as far as it goes")
        .unwrap();
    node.console.wait(0, "it has errors, so the last known good one stays what it is", PROOF).unwrap();
    let good = std::fs::read_to_string(node.path("/system/state/config/good.yaml")).unwrap();
    assert!(good.contains("A: good"), "{good}");
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    let node = node.again(&with_state()).unwrap();
    node.wait("podium: kubelet: up").unwrap();
    assert_eq!(in_use(&node)["generation"], 2, "what was good in it is not lost");
    let status = node.ctl(&["-o", "json", "config", "status"]).unwrap().out;
    assert!(status.contains("settled"), "{status}");
}

#[test]
fn a_mistake_in_a_pods_name_ends_no_pod() {
    let node = Node::up(&Setup::default()).unwrap();
    rename_over(&node, &pods(&[("a", "i:1"), ("b", "i:1")]));
    let before = until_manifests(&node, &["podium-default-a.yaml", "podium-default-b.yaml"]);
    rename_over(&node, &pods(&[("A", "i:2"), ("b", "i:2")]));
    node.wait("podium-default-a.yaml: stays until the config is mended").unwrap();
    let after = manifests(&node);
    assert_eq!(after.get("podium-default-a.yaml"), before.get("podium-default-a.yaml"));
    assert!(after["podium-default-b.yaml"].1.contains("i:2"));
    rename_over(&node, &pods(&[("b", "i:2")]));
    until_manifests(&node, &["podium-default-b.yaml"]);
}

#[test]
fn what_was_in_force_before_a_trial_comes_back_wherever_it_came_from() {
    let given = pods(&[("given", "i")]);
    let mut setup = Setup::default();
    setup.env.insert("USERDATA", userdata(&given));
    let node = Node::up(&setup).unwrap();
    let before = until_manifests(&node, &["podium-default-given.yaml"]);
    assert!(apply(&node, &pods(&[("tried", "i")]), &["--mode", "try", "--timeout", "5"]).ok);
    until_manifests(&node, &["podium-default-tried.yaml"]);
    node.wait("config: going back: its time in try mode is over").unwrap();
    let after = until_manifests(&node, &["podium-default-given.yaml"]);
    assert_eq!(after["podium-default-given.yaml"].1, before["podium-default-given.yaml"].1);
    node.wait("back to config 0 in force").unwrap();
    assert_eq!(in_use(&node)["source"], "USERDATA");
}

#[test]
fn what_is_applied_over_userdata_is_not_undone_by_it_at_the_next_start() {
    let mut setup = with_state();
    setup.env.insert("USERDATA", userdata(&pods(&[("given", "i")])));
    let mut node = Node::up(&setup).unwrap();
    until_manifests(&node, &["podium-default-given.yaml"]);
    assert!(apply(&node, &pods(&[("applied", "i")]), &[]).ok);
    until_manifests(&node, &["podium-default-applied.yaml"]);
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    let mut node = node.again(&setup).unwrap();
    node.wait("config from USERDATA: taken before; what is stored goes before it").unwrap();
    until_manifests(&node, &["podium-default-applied.yaml"]);
    // Before its loop a PID 1 takes no signals.
    node.wait("podium: kubelet: up").unwrap();
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    setup.env.insert("USERDATA", userdata(&pods(&[("new", "i")])));
    let node = node.again(&setup).unwrap();
    until_manifests(&node, &["podium-default-new.yaml"]);
}

#[test]
fn that_a_config_is_kept_outlives_a_boot() {
    let mut node = Node::up(&with_state()).unwrap();
    assert!(apply(&node, &config("{pods: [], env: {A: good}}"), &[]).ok);
    node.console.wait(0, "it is the last known good one", PROOF).unwrap();
    assert!(node.ctl(&["service", "stop", "kubelet"]).unwrap().ok);
    assert!(apply(&node, &pods(&[("never", "i")]), &["--timeout", "5"]).ok);
    node.wait("kept whatever comes, for the node was not well before").unwrap();
    let kept = || std::fs::read_to_string(node.path("/system/state/config/kept")).ok();
    assert_eq!(eventually("the note", LIMIT, kept).unwrap(), "2 always\n");
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    let node = node.again(&with_state()).unwrap();
    node.wait("config 2: kept though it has not proved itself").unwrap();
    until_manifests(&node, &["podium-default-never.yaml"]);
}

#[test]
fn a_config_file_that_the_words_name_is_stored_and_not_put_in_the_place_of_anything() {
    let word = "podium.config=/system/state/other.yaml";
    let mut setup = with_state().word(word);
    setup.files.insert("/system/state/other.yaml", pods(&[("one", "i")]).into_bytes());
    let mut node = Node::up(&setup).unwrap();
    until_manifests(&node, &["podium-default-one.yaml"]);
    let other = node.path("/system/state/other.yaml");
    std::fs::write(&other, pods(&[("two", "i")])).unwrap();
    until_manifests(&node, &["podium-default-two.yaml"]);
    node.wait("config 2 in force").unwrap();
    let stored = || std::fs::read_to_string(node.path(STATE_CONFIG)).ok().filter(|text| text.contains("two"));
    let stored = eventually("it is stored", LIMIT, stored).unwrap();
    assert!(stored.starts_with("# podium: generation=2 source=file /system/state/other.yaml"), "{stored}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), pods(&[("two", "i")]), "the file is as it was");
    assert!(apply(&node, &pods(&[("three", "i")]), &[]).ok);
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    let node = node.again(&setup).unwrap();
    until_manifests(&node, &["podium-default-three.yaml"]);
}

#[test]
fn a_manifest_that_is_cut_or_kept_open_is_put_back() {
    let node = Node::up(&Setup::default()).unwrap();
    let name = "podium-default-hello.yaml";
    let path = node.path(&format!("{MANIFESTS}/{name}"));
    let before = manifests(&node)[name].clone();
    let put_back = |what: &str| {
        let right = || manifests(&node).get(name).filter(|now| now.1 == before.1).cloned();
        eventually(what, LIMIT, right).unwrap()
    };
    nix::unistd::truncate(&path, 40).unwrap();
    let cut = put_back("cut by truncate(2)");
    let file = std::fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    let emptied = put_back("emptied in place, by a writer that has it open");
    assert_ne!(cut.0, emptied.0, "a new file each time");
    drop(file);
}

#[test]
fn restarts_of_services_touch_no_pod() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = manifests(&node);
    let services = || -> Vec<(String, String)> {
        let printed = node.ctl(&["-o", "json", "services"]).unwrap().out;
        let all: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let word = |service: &serde_json::Value, key: &str| service[key].as_str().unwrap().to_owned();
        all["services"]
            .as_array()
            .unwrap()
            .iter()
            .map(|service| (word(service, "service"), word(service, "state")))
            .collect()
    };
    let names: Vec<String> = services().into_iter().map(|(name, _)| name).collect();
    for name in ["containerd", "kubelet", "pki", "preload", "probe", "apid", "pods", "log"] {
        assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
    }
    for name in &names {
        let restarted = node.ctl(&["service", "restart", name]).unwrap();
        assert!(restarted.ok, "{name}: {restarted:?}");
        let is_well = |(_, state): &(String, String)| state == "up" || state == "done";
        let again = || services().iter().all(is_well).then_some(());
        eventually(name, LIMIT, again).map_err(|error| node.with_console(&error)).unwrap();
        assert_eq!(manifests(&node), before, "a restart of {name} touches no manifest");
    }
    for name in ["kubelet", "containerd"] {
        assert_eq!(node.starts(name).unwrap().len(), 2, "{name}: by nobody but us");
    }
}

#[test]
fn versions_count_over_a_boot_and_files_of_others_are_read() {
    let setup = Setup { volumes: vec!["/system/state", "/var"], ..Setup::default() };
    let mut node = Node::up(&setup).unwrap();
    let version = |node: &Node, id: &str| {
        let out = node.ctl(&["pods"]).unwrap().out;
        let row = out.lines().find(|line| line.starts_with(id)).map(str::to_owned);
        row.and_then(|row| row.split_whitespace().nth(1)?.parse::<u64>().ok())
    };
    assert!(apply(&node, &pods(&[("a", "i:1")]), &[]).ok);
    assert!(apply(&node, &pods(&[("a", "i:2")]), &[]).ok);
    assert_eq!(version(&node, "default-a"), Some(2));
    let other = node.path(&format!("{MANIFESTS}/other.yaml"));
    let text = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    std::fs::write(&other, text).unwrap();
    eventually("it is read", LIMIT, || version(&node, "default-x").filter(|version| *version == 1)).unwrap();
    std::fs::write(&other, text.replace("\"i\"", "\"j\"")).unwrap();
    eventually("it has changed", LIMIT, || version(&node, "default-x").filter(|version| *version == 2))
        .unwrap();
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    let node = node.again(&setup).unwrap();
    node.wait("podium: kubelet: up").unwrap();
    assert_eq!(version(&node, "default-a"), Some(2), "nothing has changed");
    assert!(apply(&node, &pods(&[("a", "i:3")]), &[]).ok);
    assert_eq!(version(&node, "default-a"), Some(3));
    assert!(apply(&node, &pods(&[]), &[]).ok);
    assert!(apply(&node, &pods(&[("a", "i:3")]), &[]).ok);
    assert_eq!(version(&node, "default-a"), Some(4), "one that comes back has changed");
}
