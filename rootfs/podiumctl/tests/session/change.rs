//! Commands that change a node's config, and those that check one: the real binary against a fake node, whose problems
//! are those of the real parser.

use crate::support::{Fake, World, golden};
use podium_wire::roles::Role;
use std::os::unix::fs::PermissionsExt;

const GOOD: &str = "version: v1alpha1\nmachine:\n  sysctls:\n    kernel.panic: \"10\"\n";
const BAD: &str = "version: v1alpha1\nmachine:\n  podz: []\n  pods:\n    - apiVersion: v1\n      kind: Pod\n      metadata: {name: Web}\n      spec:\n        containers:\n          - {name: web, image: nginx, imagePullPolicy: Sometimes}\n";

fn asked(world: &World) -> Vec<String> {
    world.nodes[0].seen.lock().unwrap().asked.clone()
}

#[test]
fn a_config_is_shown_as_a_diff_before_it_is_applied() {
    let world = World::new(Role::Admin);
    world.write("node.yaml", GOOD);
    let said = world.run("apply-config -f node.yaml --mode no-reboot");
    golden("apply-diff.txt", &said.out);
    golden("apply-said.txt", &said.err);
    assert_eq!(said.code, 0);
    assert_eq!(asked(&world), ["ApplyConfiguration", "ApplyConfiguration", "applied as NO_REBOOT"]);
}

#[test]
fn a_dry_run_applies_nothing() {
    let world = World::new(Role::Admin);
    world.write("node.yaml", GOOD);
    assert_eq!(world.run("apply-config -f node.yaml --dry-run").code, 0);
    assert_eq!(asked(&world), ["ApplyConfiguration"]);
}

#[test]
fn a_bad_config_is_refused_with_every_problem_in_its_place() {
    let world = World::new(Role::Admin);
    world.write("bad.yaml", BAD);
    let said = world.run("apply-config -f bad.yaml");
    golden("apply-refused.txt", &said.err);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert_eq!(asked(&world), ["ApplyConfiguration"], "the dry run and no more");
}

#[test]
fn a_refusal_that_the_node_has_cut_is_shown_whole() {
    let world = World::new(Role::Admin);
    world.nodes[0].seen.lock().unwrap().cuts = true;
    world.write("bad.yaml", BAD);
    golden("apply-refused.txt", &world.run("apply-config -f bad.yaml").err);
}

#[test]
fn a_config_is_checked_without_a_node() {
    let world = World::new(Role::Admin);
    world.write("bad.yaml", BAD);
    world.write("good.yaml", GOOD);
    let said = world.run("validate -f bad.yaml");
    golden("validate-bad.txt", &said.err);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    let said = world.run("validate --config good.yaml");
    assert_eq!((said.code, said.err.as_str()), (0, "good.yaml is valid (0 pods)\n"));
}

#[test]
fn a_new_node_is_given_its_config_without_a_certificate_and_with_its_fingerprint() {
    let mut world = World::new(Role::Admin);
    world.nodes = vec![Fake::start(None)];
    world.write("node.yaml", GOOD);
    let (address, fingerprint) = (world.nodes[0].address.clone(), world.nodes[0].fingerprint.clone());
    let wrong = world.run(&format!("apply-config -i -n {address} -f node.yaml --cert-fingerprint AAAA"));
    assert!(wrong.code == 1 && wrong.err.contains(&fingerprint), "{}", wrong.err);
    assert!(asked(&world).is_empty(), "nothing was sent to a node of another fingerprint");
    let said =
        world.run(&format!("apply-config -i -n {address} -f node.yaml --cert-fingerprint {fingerprint}"));
    assert_eq!(said.code, 0, "{}", said.err);
    let unpinned = world.run(&format!("version --insecure -n {address}"));
    assert!(unpinned.err.contains(&format!("fingerprint {fingerprint} (not checked")), "{}", unpinned.err);
}

#[test]
fn a_patch_changes_the_nodes_own_config() {
    let world = World::new(Role::Admin);
    let said = world.run("patch mc -p '{machine: {sysctls: {kernel.panic: \"10\"}}}'");
    golden("patch.txt", &said.out);
    assert_eq!(said.code, 0, "{}", said.err);
    let config = world.nodes[0].seen.lock().unwrap().config.clone();
    assert_eq!(config, "version: v1alpha1\nmachine:\n  sysctls:\n    kernel.panic: '10'\n");
    let json = world.run("patch machineconfig -p '[{op: remove, path: /machine/sysctls}]' --dry-run");
    assert_eq!(json.code, 0, "{}", json.err);
    assert!(world.run("patch services -p '{}'").code == 2);
}

/// A script as $EDITOR.
fn editor(world: &World, script: &str) -> String {
    let path = world.write("editor", &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn an_edited_config_keeps_its_comments() {
    let world = World::new(Role::Admin);
    let editor = editor(&world, "sed -i 's/\"0\"/\"10\"/' \"$1\"");
    let said = world.run_with("edit machineconfig", &[("EDITOR", &editor)]);
    golden("edit.txt", &said.out);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(world.nodes[0].seen.lock().unwrap().config.contains("# how long to wait"));
}

#[test]
fn a_refused_edit_comes_back_with_the_reasons_until_it_is_given_up() {
    let world = World::new(Role::Admin);
    let editor = editor(&world, "cp \"$1\" seen; grep -q Refused \"$1\" || echo '  podz: []' >> \"$1\"");
    let folder = world.path("").display().to_string();
    let said = world.run_with("edit mc", &[("EDITOR", &editor), ("TMPDIR", &folder)]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("machine.podz") && said.err.contains("nothing has changed"), "{}", said.err);
    assert!(kept(&world, &said.err).contains("\n  podz: []\n"));
    let seen = std::fs::read_to_string(world.path("seen")).unwrap();
    assert!(seen.contains("# line 6: machine.podz: unknown key"), "{seen}");
}

/// What the file holds that is said to keep an edited config.
fn kept(world: &World, said: &str) -> String {
    let name = said.lines().find_map(|line| line.split_once(" in it, in FOLDER/")).expect(said).1;
    std::fs::read_to_string(world.path(name)).unwrap()
}

#[test]
fn an_edit_that_is_no_text_is_kept() {
    let world = World::new(Role::Admin);
    let folder = world.path("").display().to_string();
    let editor = editor(&world, "printf '# M\\344nner\\n' >> \"$1\"");
    let said = world.run_with("edit mc", &[("EDITOR", &editor), ("TMPDIR", &folder)]);
    assert!(said.code == 1 && said.err.contains("UTF-8"), "{}", said.err);
    let name = said.err.lines().find_map(|line| line.split_once(" in it, in FOLDER/")).expect(&said.err).1;
    assert!(std::fs::read(world.path(name)).unwrap().ends_with(b"# M\xe4nner\n"));
}

#[test]
fn an_edit_undoes_nobody_elses_change_and_is_kept() {
    let world = World::new(Role::Admin);
    // The editor is open while somebody else gives the node a config.
    let (other, folder) = (GOOD.replace("10", "20"), world.path("").display().to_string());
    let script = "touch open; until [ -e closing ]; do sleep 0.05; done; sed -i 's/\"0\"/\"10\"/' \"$1\"";
    let editor = editor(&world, script);
    let said = std::thread::scope(|scope| {
        let edit = scope.spawn(|| world.run_with("edit mc", &[("EDITOR", &editor), ("TMPDIR", &folder)]));
        while !world.path("open").exists() && !edit.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        world.nodes[0].seen.lock().unwrap().config = other.clone();
        world.write("closing", "");
        edit.join().unwrap()
    });
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("has changed since the editor was opened"), "{}", said.err);
    assert!(kept(&world, &said.err).contains("kernel.panic: \"10\""));
    assert_eq!(world.nodes[0].seen.lock().unwrap().config, other);
}
