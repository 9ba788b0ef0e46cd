//! Files on the operator's machine: secrets, talosconfig, contexts.

use crate::support::{World, golden};
use podium_wire::roles::Role;
use std::os::unix::fs::PermissionsExt;

#[test]
fn secrets_are_made_once_and_are_their_owners_alone() {
    let world = World::new(Role::Admin);
    let said = world.run("gen secrets home2 -o new -e 10.0.0.2:50000 --additional-sans node.lan");
    assert_eq!(said.code, 0, "{}", said.err);
    for name in ["new/machineconfig.yaml", "new/talosconfig"] {
        let mode = std::fs::metadata(world.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let config = std::fs::read_to_string(world.path("new/machineconfig.yaml")).unwrap();
    assert!(config.contains("    - \"10.0.0.2\"\n    - \"node.lan\"\n"), "{config}");
    let again = world.run("gen secrets -o new");
    assert!(again.code == 1 && again.err.contains("--force"), "{}", again.err);
    assert_eq!(std::fs::read_to_string(world.path("new/machineconfig.yaml")).unwrap(), config);
    let wrong = world.run("gen secrets -o new --force -e 10.0.0.2,a:b");
    assert!(wrong.code == 2 && wrong.err.contains("\"a:b\" is no address"), "{}", wrong.err);
    assert_eq!(std::fs::read_to_string(world.path("new/machineconfig.yaml")).unwrap(), config);
    assert_eq!(world.run("gen secrets -o new --force").code, 0);
    assert_ne!(std::fs::read_to_string(world.path("new/machineconfig.yaml")).unwrap(), config);
}

#[test]
fn a_config_to_begin_with_is_valid() {
    let world = World::new(Role::Admin);
    let said = world.run("gen config");
    world.write("node.yaml", &said.out);
    assert_eq!(world.run("validate -f node.yaml").code, 0, "{}", said.out);
}

#[test]
fn a_config_has_the_ca_of_the_secrets_that_it_is_given() {
    let world = World::new(Role::Admin);
    assert_eq!(world.run("gen secrets -o new -e 10.0.0.2").code, 0);
    let said = world.run("gen config --with-secrets new/machineconfig.yaml -o node.yaml");
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(world.run("validate -f node.yaml").code, 0);
    let ca = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(world.path(name)).unwrap();
        let lines = text.lines().map(|line| line.trim().to_owned());
        lines.filter(|line| line.starts_with("crt: ") || line.starts_with("key: ")).collect()
    };
    assert_eq!((ca("node.yaml").len(), ca("node.yaml")), (2, ca("new/machineconfig.yaml")));
    let mode = std::fs::metadata(world.path("node.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.write("bare.yaml", "version: v1alpha1\nmachine: {}\n");
    let none = world.run("gen config --with-secrets bare.yaml");
    assert!(none.code != 0 && none.err.contains("bare.yaml"), "{}", none.err);
}

#[test]
fn an_admin_makes_a_talosconfig_for_a_reader_with_the_cas_key() {
    let world = World::new(Role::Admin);
    assert_eq!(world.run("gen secrets -o new -e 10.0.0.2").code, 0);
    let said = world.run("config new reader --roles os:reader --from new/machineconfig.yaml -e 10.0.0.2");
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(!said.err.contains("next:"), "{}", said.err);
    let bare = world.run("config new bare --from new/machineconfig.yaml");
    assert_eq!(
        bare.err,
        "bare: context podium for os:admin\nnext: podiumctl --talosconfig bare config endpoint ADDRESS\n"
    );
    let info = world.run("--talosconfig reader config info -o json");
    assert!(info.out.contains("os:reader") && info.out.contains("10.0.0.2"), "{}", info.out);
    let text = std::fs::read_to_string(world.path("reader")).unwrap();
    let ca = std::fs::read_to_string(world.path("new/machineconfig.yaml")).unwrap();
    let key = ca.lines().find_map(|line| line.trim().strip_prefix("key: ")).unwrap();
    assert!(!text.contains(key), "the CA's key stays where it is");
}

#[test]
fn a_context_is_made_of_pem_files_and_takes_no_others_place() {
    let world = World::new(Role::Admin);
    for (name, kind) in [("ca.crt", "CERTIFICATE"), ("c.crt", "CERTIFICATE"), ("c.key", "PRIVATE KEY")] {
        world.write(name, &format!("-----BEGIN {kind}-----\nTm8=\n-----END {kind}-----\n"));
    }
    let add = "config add site --ca ca.crt --crt c.crt --key c.key";
    let said = world.run(add);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(world.run("config contexts").out.contains("site"));
    let again = world.run(add);
    assert!(again.code == 1 && again.err.contains("there is a context \"site\" already"), "{}", again.err);
    let missing = world.run("config add other --ca none.crt");
    assert!(missing.code == 1 && missing.err.contains("read none.crt"), "{}", missing.err);
    assert_eq!(world.run("config add other --crt c.crt").code, 2, "a certificate without its key");
    assert!(!world.run("config contexts").out.contains("other"));
}

#[test]
fn contexts_are_listed_chosen_merged_and_removed() {
    let world = World::new(Role::Admin);
    world.run("gen secrets home -o new -e 10.0.0.2");
    let said = world.run("config merge new/talosconfig");
    assert_eq!((said.code, said.err.as_str()), (0, "renamed context \"home\" to \"home-1\"\n"));
    golden("config-contexts.txt", &world.run("config contexts").out);
    assert_eq!(world.run("config context home").code, 0);
    assert_eq!(world.run("config node 10.0.0.2 10.0.0.3").code, 0);
    for wrong in ["10.0.0.2,a:b", ",", "''"] {
        let said = world.run(&format!("config endpoint {wrong}"));
        assert_eq!(said.code, 2, "{wrong}: {}", said.err);
    }
    assert_eq!(world.run("config endpoint 10.0.0.9:7,").code, 0);
    let info = world.run("config info");
    let shown: Vec<&str> = info.out.lines().take(4).collect();
    let wanted = [
        "Current context:     home",
        "Nodes:               10.0.0.2, 10.0.0.3",
        "Endpoints:           10.0.0.9:7",
        "Roles:               os:admin",
    ];
    assert_eq!(shown, wanted);
    assert_eq!(world.run("config remove home-1 -y").code, 0);
    assert!(!world.run("config contexts").out.contains("home-1"));
    assert_eq!(world.run("config context home-1").code, 1);
}
