//! What becomes of configs over several changes and boots: the way back by a client and by the node itself, and a dry
//! run that says everything at once.

use super::live::{PROOF, apply, config, in_use, pods, until_manifests, with_state};
use podium_tests::ns::{LIMIT, Node, Setup};

/// The number is left out; and later a config that no boot proves.
#[test]
fn a_rollback_takes_the_last_good_one_and_so_does_the_third_boot_without_a_proof() {
    let mut node = Node::up(&with_state()).unwrap();
    let good = config("{pods: [], env: {A: good}}");
    assert!(apply(&node, &good, &[]).ok);
    node.console.wait(0, "it is the last known good one", PROOF).unwrap();
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
