//! A node without a usable config: what to do about it, and who may give it one.
//!
//! Only decisions; `load.rs` says them on the console and writes them down for the API.

use crate::boot::Machine;

/// Why nobody may give this node its first config by the network: it has had one, as far as can be known. Somebody who
/// damages what is stored must not become the one who decides what is stored next.
pub(super) fn closed(machine: &Machine, has_had_one: bool, tried: bool) -> Option<&'static str> {
    if machine.lost_state {
        return Some("STATE cannot be mounted, and may hold one; mend what is said of it above");
    }
    if has_had_one {
        return Some(
            "this node has had one, which cannot be used; `init ctl config apply` takes one from root, `init ctl reset` \
             begins anew",
        );
    }
    // Nothing tells such a node from one that has run with these words until now.
    (tried && !machine.has_state).then_some("its words name one that cannot be used, and it has no STATE")
}

/// Where this node takes a config from; `tried`: there was one, and it was of no use.
pub(super) fn remedy(tried: bool, container: bool) -> &'static str {
    match (container, tried) {
        (true, false) => {
            "give it as base64 in the environment variable USERDATA, or at /system/state/config.yaml"
        }
        (true, true) => "mend what is said above and start the container again",
        (false, false) => "give it by podium.config.inline= or podium.config= on the kernel command line",
        (false, true) => {
            "mend what is said above, or give one by podium.config.inline= on the kernel command line"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_never_had_a_config_takes_its_first_one_from_anybody() {
        let machine = |has_state, lost_state| Machine {
            container: false,
            has_data: true,
            has_state,
            lost_state,
            partitions: crate::disks::Partitions::default(),
            facts: podium_init::services::ImageFacts::default(),
        };
        assert_eq!(closed(&machine(true, false), false, false), None);
        assert_eq!(closed(&machine(true, false), false, true), None, "words that were wrong from the start");
        assert_eq!(closed(&machine(false, false), false, false), None, "it has no STATE by design");
        assert!(closed(&machine(false, false), false, true).is_some());
        assert!(closed(&machine(true, false), true, false).unwrap().contains("has had one"));
        assert!(closed(&machine(false, true), false, false).unwrap().contains("cannot be mounted"));
    }
}
