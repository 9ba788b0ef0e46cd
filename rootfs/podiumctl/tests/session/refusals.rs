//! What goes wrong says what to do next, on standard error, with an exit code that a script can use.

use crate::support::{Fake, World, command, golden};
use podium_wire::roles::Role;

#[test]
fn without_a_talosconfig_it_says_where_it_looked() {
    let world = World::new(Role::Admin);
    let output = command(world.folder.path()).args(["services"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    golden("no-talosconfig.txt", &said.replace(&world.folder.path().display().to_string(), "FOLDER"));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_port_where_nobody_listens_is_told() {
    let said = World::new(Role::Admin).run("services -n 127.0.0.1:1 -e 127.0.0.1:1");
    golden("refused.txt", &said.err);
    assert_eq!(said.code, 1);
}

#[test]
fn a_node_of_another_ca_is_not_trusted() {
    let mut world = World::new(Role::Admin);
    let other = World::new(Role::Admin);
    let said = world.run(&format!("services -e {}", other.nodes[0].address));
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("not signed by the CA of context home") && said.err.contains("--insecure"),
        "{}",
        said.err
    );
    // The same for a node in maintenance mode.
    world.nodes = vec![Fake::start(None)];
    let said = world.run(&format!("services -e {}", world.nodes[0].address));
    assert!(said.err.contains("not signed by the CA") && said.err.contains("maintenance"), "{}", said.err);
}

#[test]
fn a_node_with_a_config_wants_a_certificate() {
    let world = World::new(Role::Admin);
    let said = world.run(&format!("version -i -n {}", world.nodes[0].address));
    assert_eq!(said.code, 1);
    assert!(said.err.contains("the node wants a client certificate"), "{}", said.err);
    assert!(said.err.contains("leave out --insecure"), "{}", said.err);
}

#[test]
fn a_certificate_of_another_ca_is_told_as_such() {
    let (world, other) = (World::new(Role::Admin), World::new(Role::Admin));
    // The node's CA is right, the client's certificate is another's.
    let line =
        |text: &str, key: &str| text.lines().find(|line| line.trim().starts_with(key)).unwrap().to_owned();
    let text = |world: &World| std::fs::read_to_string(world.path("talosconfig")).unwrap();
    let (mut mixed, theirs) = (text(&world), text(&other));
    for key in ["crt: ", "key: "] {
        mixed = mixed.replace(&line(&mixed, key), &line(&theirs, key));
    }
    world.write("talosconfig", &mixed);
    let said = world.run("services");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("does not accept the client certificate of context home"), "{}", said.err);
}

#[test]
fn a_name_that_is_not_in_the_certificate_is_told() {
    let world = World::new(Role::Admin);
    let port = world.nodes[0].address.rsplit(':').next().unwrap();
    let said = world.run(&format!("services -e localhost:{port}"));
    assert!(said.err.contains("for other names") && said.err.contains("machine.certSANs"), "{}", said.err);
}

#[test]
fn a_resource_that_is_none_is_told_with_what_was_meant() {
    let world = World::new(Role::Admin);
    let said = world.run("get staticpodz");
    assert_eq!(said.code, 2);
    assert!(said.err.contains("did you mean staticpod?"), "{}", said.err);
    let said = world.run("get staticpods nothing");
    assert!(said.code == 1 && said.err.contains("doesn't exist"), "{}", said.err);
}

#[test]
fn a_log_that_is_none_and_a_service_that_is_none_are_failures() {
    let world = World::new(Role::Admin);
    assert_eq!(world.run("logs nobody").code, 1);
    let said = world.run("service nobody");
    assert!(said.code == 1 && said.err.contains("podiumctl services"), "{}", said.err);
}

#[test]
fn words_that_mean_nothing_have_an_exit_code_of_their_own() {
    let world = World::new(Role::Admin);
    for words in
        ["gett", "logs", "apply-config", "services --outputt json", "dashboard", "version --insecure"]
    {
        let said = world.run(words);
        assert_eq!((said.code, said.out.contains("error")), (2, false), "{words}: {}", said.err);
    }
}

#[test]
fn a_closed_output_is_no_failure() {
    use std::io::Read;
    use std::process::Stdio;
    let world = World::new(Role::Admin);
    let mut child = command(world.folder.path())
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}
