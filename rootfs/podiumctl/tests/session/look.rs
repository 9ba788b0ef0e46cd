//! Commands that look at nodes: the real binary against a fake node over TLS. What it prints is in tests/golden.

use crate::support::{World, golden};
use podium_wire::roles::Role;

fn check(cases: &[(&str, &str)]) {
    let world = World::new(Role::Admin);
    for (words, name) in cases {
        let said = world.run(words);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words}");
        golden(name, &said.out);
    }
}

#[test]
fn resources_are_shown_as_talosctl_shows_them() {
    check(&[
        ("get staticpods", "get-staticpods.txt"),
        ("get staticpodstatus", "get-staticpodstatus.txt"),
        ("get podstatus default/nginx-node-1", "get-podstatus-one.txt"),
        ("get staticpods -o yaml", "get-staticpods.yaml"),
        ("get staticpodstatus default/nginx-node-1 -o json", "get-staticpodstatus.json"),
        ("get rd", "get-rd.txt"),
    ]);
}

#[test]
fn changes_are_pushed_and_marked() {
    let world = World::new(Role::Reader);
    let said = world.run("get staticpodstatus -w");
    golden("get-watch.txt", &said.out);
    assert_eq!(said.code, 1, "a watch that ends is a failure");
    assert!(said.err.contains("has ended the watch"), "{}", said.err);
}

#[test]
fn changes_are_pushed_as_whole_resources_where_that_is_wanted() {
    let said = World::new(Role::Reader).run("get staticpodstatus -w -o yaml");
    golden("get-watch.yaml", &said.out);
    assert_eq!(said.code, 1, "{}", said.err);
}

#[test]
fn containers_and_their_use_are_shown_below_their_pods() {
    check(&[
        ("containers -k", "containers-k.txt"),
        ("containers", "containers.txt"),
        ("containers -k -o json", "containers-k.json"),
        ("stats -k", "stats-k.txt"),
    ]);
}

#[test]
fn logs_are_whole_lines_with_their_node() {
    check(&[
        ("logs -k default/nginx-node-1:nginx", "logs-k.txt"),
        ("logs kubelet -f --tail 20", "logs-kubelet.txt"),
        ("dmesg", "dmesg.txt"),
    ]);
}

#[test]
fn services_are_listed_shown_and_restarted() {
    check(&[
        ("services", "services.txt"),
        ("service kubelet", "service.txt"),
        ("service kubelet restart", "service-restart.txt"),
    ]);
}

#[test]
fn the_machine_is_shown() {
    check(&[
        ("processes", "processes.txt"),
        ("processes --sort cpu", "processes-cpu.txt"),
        ("memory", "memory.txt"),
        ("mounts", "mounts.txt"),
        ("list /etc", "list.txt"),
        ("ls -l /etc", "list-long.txt"),
        ("usage -H /var", "usage.txt"),
        ("usage /var /etc", "usage-two.txt"),
        ("read /etc/hosts", "read.txt"),
        ("version --short", "version-short.txt"),
    ]);
}

#[test]
fn what_a_node_says_does_not_move_the_terminal() {
    let world = World::new(Role::Admin);
    let said = world.run("list /hostile");
    assert_eq!((said.code, said.out.as_str()), (0, ".\na\\u{1b}[2Jb\nmtab\n"), "{}", said.err);
    let said = world.run("logs hostile");
    assert!(said.code == 1 && said.err.contains("there is no log\na\\u{1b}[2Jb\n"), "{:?}", said.err);
}

#[test]
fn the_version_of_both_ends_is_shown() {
    let said = World::new(Role::Reader).run("version");
    golden("version.txt", &said.out.replace("arm64", "amd64"));
}

#[test]
fn the_version_of_this_end_is_shown_when_the_node_does_not_answer() {
    let said = World::new(Role::Reader).run("version -o json -e 127.0.0.1:1");
    assert!(said.code == 1 && said.err.contains("127.0.0.1:1: connection refused"), "{}", said.err);
    let shown: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert!(shown["client"]["tag"].is_string(), "{shown}");
}

#[test]
fn past_events_are_shown() {
    let said = World::new(Role::Reader).run("events --tail -1");
    golden("events.txt", &said.out);
    assert_eq!(said.code, 1, "{}", said.err);
}

#[test]
fn several_nodes_are_asked_at_once_and_told_apart() {
    let world = World::with(Role::Reader, 2);
    let nodes: Vec<&str> = world.nodes.iter().map(|node| node.address.as_str()).collect();
    let said = world.run(&format!("containers -k -n {}", nodes.join(",")));
    golden("containers-two-nodes.txt", &said.out);
    assert_eq!(said.code, 0, "{}", said.err);
    for node in &world.nodes {
        assert_eq!(node.seen.lock().unwrap().asked, ["Containers"], "dialled itself, so it is not named");
    }
}

#[test]
fn a_node_that_is_no_endpoint_is_named_to_the_endpoint() {
    let world = World::new(Role::Reader);
    let said = world.run("containers -k -n node-1");
    assert!(said.out.contains("\nnode-1 "), "{}", said.out);
    assert_eq!(world.nodes[0].seen.lock().unwrap().asked, ["Containers for node-1"]);
}

#[test]
fn a_node_that_fails_does_not_hide_the_others() {
    let world = World::new(Role::Reader);
    let said = world.run(&format!("memory -e {0},127.0.0.1:1 -n 127.0.0.1:1,{0}", world.nodes[0].address));
    assert_eq!(said.code, 1);
    assert!(said.out.lines().count() == 2, "{}", said.out);
    assert!(said.err.contains("127.0.0.1:1: connection refused"), "{}", said.err);
}

#[test]
fn a_healthy_node_is_healthy() {
    let said = World::new(Role::Reader).run("health --wait-timeout 0s");
    golden("health.txt", &said.err);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
}

#[test]
fn a_node_that_is_not_ready_is_not_healthy() {
    let world = World::new(Role::Reader);
    world.nodes[0].seen.lock().unwrap().is_booting = true;
    let said = world.run("health --wait-timeout 0s");
    golden("health-ill.txt", &said.err);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
}

#[test]
fn logs_of_several_nodes_are_told_apart_line_by_line() {
    let world = World::with(Role::Reader, 2);
    let nodes: Vec<&str> = world.nodes.iter().map(|node| node.address.as_str()).collect();
    let said = world.run(&format!("logs kubelet -n {}", nodes.join(",")));
    assert_eq!(said.code, 0, "{}", said.err);
    let mut lines: Vec<&str> = said.out.lines().collect();
    lines.sort_unstable();
    golden("logs-two-nodes.txt", &(lines.join("\n") + "\n"));
}

#[test]
fn there_is_a_completion_for_each_shell() {
    let world = World::new(Role::Reader);
    for shell in ["bash", "zsh", "fish"] {
        let said = world.run(&format!("completion {shell}"));
        assert_eq!(said.code, 0);
        assert!(said.out.contains("apply-config") && said.out.contains("talosconfig"), "{shell}");
    }
}
