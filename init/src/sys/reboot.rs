//! The end of the machine: reboot(2), Ctrl-Alt-Del, sysrq. Called by `halt` alone.

use super::{At, Result};
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use podium_init::shutdown::Shutdown;
use std::convert::Infallible;

/// What `/proc/self/ns/pid` says on a machine of our own (`PROC_PID_INIT_INO` of the kernel).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Makes Ctrl-Alt-Del a SIGINT to PID 1 instead of a reboot that nobody prepared.
///
/// # Errors
/// EINVAL in a PID namespace, where there is no such key.
pub(crate) fn take_ctrl_alt_del() -> Result<()> {
    set_cad_enabled(false).at("take over", "Ctrl-Alt-Del")
}

/// reboot(2). Does not sync. In a PID namespace it ends all of its processes, and the parent of the first sees that
/// one killed by SIGHUP (reboot) or SIGINT (power off, halt).
///
/// # Errors
/// EPERM without `CAP_SYS_BOOT`.
pub(crate) fn end(how: Shutdown) -> Result<Infallible> {
    let mode = match how {
        Shutdown::Reboot => RebootMode::RB_AUTOBOOT,
        Shutdown::PowerOff => RebootMode::RB_POWER_OFF,
        Shutdown::Halt => RebootMode::RB_HALT_SYSTEM,
        Shutdown::Reset(reset) => return end(reset.then()),
    };
    reboot(mode).at("reboot", "the machine")
}

/// One command to the kernel's sysrq: `s` sync, `u` remount read-only, `b` reboot, `o` power off.
///
/// # Errors
/// No /proc, or no permission.
pub(crate) fn sysrq(command: &str) -> Result<()> {
    std::fs::write("/proc/sysrq-trigger", command).at("write to", "/proc/sysrq-trigger")
}

/// Whether we are PID 1 of a container and not of the machine.
pub(crate) fn in_pid_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name.as_os_str() != INITIAL_PID_NAMESPACE)
}
