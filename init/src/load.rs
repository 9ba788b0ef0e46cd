//! The machine config's sources.
use crate::boot::Machine;
use podium_init::cmdline::Cmdline;
use podium_init::config::MachineConfig;

/// The config in use.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Empty when there is none.
    pub config: MachineConfig,
}

/// Takes the first source that is usable.
pub(crate) fn config(_cmdline: &Cmdline, _machine: &Machine) -> Loaded {
    Loaded::default()
}
