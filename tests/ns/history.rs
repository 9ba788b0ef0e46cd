//! What becomes of configs over several changes and boots: the way back by a client and by the node itself, and a dry
//! run that says everything at once.

use super::live::{PROOF, STATE_CONFIG, apply, config, in_use, pods, until_manifests, with_state};
use podium_init::store::{Seal, seal};
use podium_tests::ns::{LIMIT, Node, Setup};

/// The last known good config of a node.
const GOOD_CONFIG: &str = "/system/state/config/good.yaml";

/// A node, and the config that it has proved.
fn with_a_good_one(setup: &Setup) -> (Node, String) {
    let node = Node::up(setup).unwrap();
    let good = config("{pods: [], env: {A: good}}");
    assert!(apply(&node, &good, &[]).ok);
    node.console.wait(0, "it is the last known good one", PROOF).unwrap();
    (node, good)
}

/// The number is left out; and later a config that no boot proves.
#[test]
fn a_rollback_takes_the_last_good_one_and_so_does_the_third_boot_without_a_proof() {
    let (mut node, good) = with_a_good_one(&with_state());
    assert!(apply(&node, &pods(&[("second", "i")]), &[]).ok);
    until_manifests(&node, &["podium-default-second.yaml"]);
    let back = node.ctl(&["config", "rollback"]).unwrap();
    assert!(back.ok && back.out.contains("applied, generation 3"), "{back:?}");
    until_manifests(&node, &[]);
    assert_eq!((&in_use(&node)["config"], &in_use(&node)["generation"]), (&good.as_str().into(), &3.into()));

    // In a namespace no pod ever runs.
    let never = pods(&[("never", "i")]);
    let done = apply(&node, &never, &[]);
    assert!(done.out.contains("applied, generation 4"), "{done:?}");
    for boot in 1..=2 {
        node.signal(15).unwrap();
        node.end(LIMIT).unwrap();
        node = node.again(&with_state()).unwrap();
        node.wait("config from STATE: 1 pod").unwrap_or_else(|error| panic!("boot {boot}: {error:#}"));
        node.wait("podium: kubelet: up").unwrap();
        assert_eq!(in_use(&node)["generation"], 4, "boot {boot}");
    }
    node.signal(15).unwrap();
    node.end(LIMIT).unwrap();
    let node = node.again(&with_state()).unwrap();
    node.wait("config from STATE: generation 4 did not prove itself in 2 boots; going back").unwrap();
    node.wait("config from STATE (last known good config): 0 pods").unwrap();
    node.wait("podium: kubelet: up").unwrap();
    assert_eq!(in_use(&node)["config"], good);
    let aside = std::fs::read_to_string(node.path("/system/state/config/rejected-1.yaml")).unwrap();
    assert!(aside.ends_with(&never), "{aside}");
}

#[test]
fn a_dry_run_tells_every_error_and_changes_nothing() {
    let node = Node::up(&Setup::default()).unwrap();
    let before = in_use(&node);
    let bad = pods(&[("hello", "podium.local/hello:2"), ("other", "i")])
        .replacen("image: 'i'", "imgae: 'i'", 1)
        .replacen("{pods:", "{podz: [], sysctls: {vm.swappiness: 7}, pods:", 1);
    let dry = apply(&node, &bad, &["--dry-run"]);
    assert!(!dry.ok && dry.err.contains("nothing has changed"), "{dry:?}");
    for problem in ["line 2: machine.podz: unknown key", "imgae"] {
        assert!(
            dry.out.lines().any(|line| line.contains("line 2") && line.contains(problem)),
            "{problem}: {dry:?}"
        );
    }
    assert_eq!(in_use(&node), before);
    until_manifests(&node, &["podium-default-hello.yaml"]);
    assert!(!node.path("/system/state/config/candidate.yaml").exists(), "a dry run stores nothing");
}

/// As after a step back to an older version of Podium, which does not know a key that the newer one has stored.
#[test]
fn a_stored_config_that_is_no_longer_accepted_gives_way_and_is_kept() {
    let (mut node, good) = with_a_good_one(&with_state());
    assert!(apply(&node, &pods(&[("new", "i")]), &[]).ok);
    let refused = |generation| {
        seal(config("{podz: []}").as_bytes(), &Seal { generation, source: "applied by a newer one".into() })
    };
    let boots_with = |mut node: Node, files: &[(&str, u64)]| {
        node.signal(15).unwrap();
        node.end(LIMIT).unwrap();
        for (file, generation) in files {
            std::fs::write(node.root(file), refused(*generation)).unwrap();
        }
        node.again(&with_state()).unwrap()
    };

    node = boots_with(node, &[(STATE_CONFIG, 2)]);
    node.wait("config from STATE: line 2: machine.podz: unknown key").unwrap();
    node.wait("config from STATE: kept for inspection as /system/state/config/rejected-1.yaml").unwrap();
    node.wait("config from STATE (last known good config): 0 pods").unwrap();
    node.wait("podium: kubelet: up").unwrap();
    assert_eq!(in_use(&node)["config"], good);
    assert_eq!(std::fs::read(node.path("/system/state/config/rejected-1.yaml")).unwrap(), refused(2));

    node = boots_with(node, &[(STATE_CONFIG, 3), (GOOD_CONFIG, 1)]);
    node.wait("config from image default: 1 pod").unwrap();
    node.wait("podium: kubelet: up").unwrap();
    until_manifests(&node, &["podium-default-hello.yaml"]);
    for (number, generation) in [(2, 3), (3, 1)] {
        let kept = std::fs::read(node.path(&format!("/system/state/config/rejected-{number}.yaml"))).unwrap();
        assert_eq!(kept, refused(generation), "{number}");
    }
}

#[test]
fn a_config_under_which_the_kubelet_does_not_come_up_is_reverted() {
    let (node, good) = with_a_good_one(&Setup::default());
    let bad = good.replace("good", "bad");
    let starts = node.starts("kubelet").unwrap().len();
    node.script("kubelet", "until /fake/mended\nready\n").unwrap();
    assert!(apply(&node, &bad, &["--timeout", "5"]).ok);
    assert_eq!(node.nth_start("kubelet", starts + 1).unwrap().env["A"], "bad");
    node.wait("config: the kubelet did not come up, or did not stay up within its limit; going back")
        .unwrap();
    node.wait("back to config 1 in force: 0 pods").unwrap();
    assert_eq!(node.nth_start("kubelet", starts + 2).unwrap().env["A"], "good");
    node.touch("/fake/mended").unwrap();
    assert_eq!(in_use(&node)["config"], good);
    let aside = std::fs::read_to_string(node.path("/system/state/config/rejected-1.yaml")).unwrap();
    assert!(aside.ends_with(&bad), "{aside}");
}
