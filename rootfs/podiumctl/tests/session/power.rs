//! Orders to nodes and how they go, against a fake node that reboots in no time and otherwise goes as a test wants it.

use crate::support::{After, World, golden};
use podium_wire::roles::Role;

#[test]
fn a_reboot_is_followed_until_the_node_is_ready_again() {
    for role in [Role::Admin, Role::Operator] {
        let said = World::new(role).run("reboot --wait --timeout 60s");
        golden("reboot-wait.txt", &said.err);
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{role:?}");
    }
}

#[test]
fn without_waiting_the_order_is_all() {
    let said = World::new(Role::Admin).run("reboot --wait=false");
    assert_eq!(said.code, 0);
    assert_eq!(said.err, "127.0.0.1: reboot accepted (actor id actor-1)\n");
}

#[test]
fn a_role_too_low_is_told_what_it_needs() {
    let said = World::new(Role::Reader).run("reboot --wait=false");
    golden("reboot-denied.txt", &said.err);
    assert_eq!(said.code, 1);
}

#[test]
fn a_flag_that_changes_nothing_says_so() {
    for (words, flag) in [
        ("reboot --mode force --wait=false", Some("--mode")),
        ("reboot --mode powercycle --wait=false", Some("--mode")),
        ("shutdown --force --wait=false", Some("--force")),
        ("reset --graceful=false --wait=false", Some("--graceful=false")),
        ("reboot --mode default --wait=false", None),
        ("shutdown --wait=false", None),
        ("reset --graceful --wait=false", None),
    ] {
        let said = World::new(Role::Admin).run(words);
        assert_eq!(said.code, 0, "{words}: {}", said.err);
        let wanted =
            flag.map(|flag| format!("{flag} changes nothing: a Podium node always stops its pods first"));
        match wanted {
            Some(wanted) => assert!(said.err.contains(&wanted), "{words}: {}", said.err),
            None => assert!(!said.err.contains("changes nothing"), "{words}: {}", said.err),
        }
    }
}

#[test]
fn a_shutdown_is_followed_until_the_node_is_silent() {
    let said = World::new(Role::Operator).run("shutdown --wait --timeout 60s");
    golden("shutdown-wait.txt", &said.err);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
}

#[test]
fn a_node_that_is_not_silent_is_not_off() {
    let world = World::new(Role::Admin);
    // Away for one look, which alone says nothing.
    world.goes(After::Same(1));
    let said = world.run("shutdown --wait --timeout 8s");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("127.0.0.1: shutdown is not done after 8s"), "{}", said.err);
}

#[test]
fn a_reset_with_a_reboot_is_followed_until_the_node_waits_for_a_config() {
    let world = World::new(Role::Admin);
    world.goes(After::Maintenance(4));
    let said = world.run("reset --reboot --wait --timeout 60s");
    golden("reset-wait.txt", &said.err);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
}

#[test]
fn a_reset_after_which_the_node_has_all_that_it_had_is_a_failure() {
    for (words, why) in [
        ("reset --wait", "has booted instead of turning off"),
        ("reset --reboot --wait", "has come back with the CA that it had"),
    ] {
        let world = World::new(Role::Admin);
        // More than the looks after which a node is taken for off.
        world.goes(After::Same(8));
        let said = world.run(&format!("{words} --timeout 60s"));
        assert_eq!(said.code, 1, "{words}: {}", said.err);
        assert!(said.err.contains("127.0.0.1: is going down\n") && said.err.contains(why), "{}", said.err);
    }
}
