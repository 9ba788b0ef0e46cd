//! The ioctls that no safe crate offers: the one file of PID 1 with `unsafe` in it.

#![expect(unsafe_code, reason = "the kernel is told by a pointer; each block says why that is right")]

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use std::os::fd::AsFd;

/// `WDIOC_SETTIMEOUT` of linux/watchdog.h: one int, read and written.
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);

/// Sets a watchdog's timeout in seconds; the one that it then has, which the driver may have rounded.
///
/// # Errors
/// EINVAL: more or less than it can; EOPNOTSUPP: it has a fixed one; ENOTTY: it is no watchdog.
pub(crate) fn set_watchdog_timeout(device: impl AsFd, seconds: i32) -> rustix::io::Result<i32> {
    let mut seconds = seconds;
    // SAFETY: the opcode stands for one int, which is what the kernel reads and writes at this address, and it outlives
    // the call. Drivers that know another opcode of this number check its size with it.
    let set = unsafe { ioctl(device, Updater::<SET_TIMEOUT, i32>::new(&mut seconds)) };
    set.map(|()| seconds)
}
