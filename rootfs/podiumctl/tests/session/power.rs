//! Orders to nodes and how they go, against a fake node that reboots in no time.

use crate::support::{World, golden};
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
