//! Placeholder that its owner replaces.

/// How a run of PID 1 ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Start again.
    Reboot,
    /// Power off.
    PowerOff,
    /// Stop, keep the power on.
    Halt,
}
