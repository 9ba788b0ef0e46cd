//! Giving up rights for good: a process that was root becomes another user without any capability.
//!
//! For the chain loader, which is one thread; nothing here can be undone. Every call is one of the kernel's own, made
//! by safe wrappers.

use super::{At, Result};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// One more than the last capability that any kernel may have.
const CAPABILITIES: u32 = 64;

/// Becomes user `id` of group `id` alone: no further groups, no capability in any set, and no program that is
/// executed from now on gives one back.
///
/// # Errors
/// EPERM without the rights of root, EINVAL for a user that this namespace does not have: the process must end then.
pub(crate) fn drop_all(id: u32) -> Result<()> {
    let name = || format!("user {id}");
    // The bounding set first: later nothing is left that may.
    for capability in (0..CAPABILITIES).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        match remove_capability_from_bounding_set(capability) {
            // The kernel does not have so many.
            Err(Errno::INVAL) => break,
            done => done.at("empty the bounding set of", name())?,
        }
    }
    clear_ambient_capability_set().at("empty the ambient set of", name())?;
    setgroups(&[]).at("leave all groups as", name())?;
    setgid(Gid::from_raw(id)).at("take the group of", name())?;
    setuid(Uid::from_raw(id)).at("become", name())?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).at("give up the capabilities of", name())?;
    set_no_new_privs(true).at("forbid new rights to", name())
}
