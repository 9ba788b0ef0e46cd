//! The end of a node's life, as phases with limits: pods by the kubelet and their own grace, then services, then what
//! no kubelet has stopped, by SIGTERM and what is left of the pods' time, then the last acts.
//!
//! [`crate::supervisor`] drives the phases, `halt.rs` performs the last acts. All of it together has one limit
//! ([`Limits::total`]), so that no pod, service or mount can keep a machine from going down.

mod limits;
mod phases;
mod requests;

pub use limits::{AT_ONCE_LIMIT, DEFAULT_GRACE, HURRY_LIMIT, LAST_ACTS, LastActs, Limits, MOST};
pub use phases::{Next, PHASES, Phase, Progress, TELL_EVERY};

use std::fmt;

/// How the node's life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Start again.
    Reboot,
    /// Switch the power off.
    PowerOff,
    /// Stop and keep the power on.
    Halt,
    /// Forget what is on the data partitions, then start again or switch the power off.
    Reset(Reset),
}

/// What a reset forgets. The next boot makes these partitions anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// The machine config, the PKI, what else names this node.
    pub state: bool,
    /// Images, containers, volumes, logs.
    pub ephemeral: bool,
    /// Start again after it; else switch the power off.
    pub reboot: bool,
}

impl Reset {
    /// The label of the partition that [`Self::state`] is about.
    pub const STATE: &str = "STATE";
    /// The label of the partition that [`Self::ephemeral`] is about.
    pub const EPHEMERAL: &str = "EPHEMERAL";

    /// All of them.
    pub const LABELS: [&str; 2] = [Self::STATE, Self::EPHEMERAL];

    /// A reset of those of these labels that are ours.
    pub fn of(labels: &[&str], reboot: bool) -> Self {
        Self { state: labels.contains(&Self::STATE), ephemeral: labels.contains(&Self::EPHEMERAL), reboot }
    }

    /// The labels of the partitions to wipe.
    pub fn partitions(self) -> Vec<&'static str> {
        let all = [(self.state, Self::STATE), (self.ephemeral, Self::EPHEMERAL)];
        all.into_iter().filter(|(is_meant, _)| *is_meant).map(|(_, label)| label).collect()
    }

    /// What comes after it.
    pub fn then(self) -> Shutdown {
        if self.reboot { Shutdown::Reboot } else { Shutdown::PowerOff }
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reboot => f.write_str("reboot"),
            Self::PowerOff => f.write_str("power off"),
            Self::Halt => f.write_str("halt"),
            Self::Reset(reset) => {
                write!(f, "reset of {}, then {}", reset.partitions().join(" and "), reset.then())
            }
        }
    }
}

/// What a signal to PID 1 asks for, and the words for who asked. The real-time ones are those that container tools
/// send (SIGRTMIN+3 halt, +4 power off, +5 reboot; glibc's SIGRTMIN is 34). Every other signal asks for nothing.
pub fn request(signal: i32) -> Option<(Shutdown, &'static str)> {
    match signal {
        // The kernel sends SIGINT for Ctrl-Alt-Del once it was told to.
        2 => Some((Shutdown::Reboot, "Ctrl-Alt-Del")),
        15 => Some((Shutdown::PowerOff, "signal TERM")),
        30 => Some((Shutdown::PowerOff, "signal PWR")),
        37 => Some((Shutdown::Halt, "signal RTMIN+3")),
        38 => Some((Shutdown::PowerOff, "signal RTMIN+4")),
        39 => Some((Shutdown::Reboot, "signal RTMIN+5")),
        _ => None,
    }
}
