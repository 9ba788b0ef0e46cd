//! Everything that must be on disk or in the kernel before the loop begins.
use crate::boot::Machine;
use crate::load::Loaded;
use podium_init::config::MachineConfig;
use podium_init::services::Service;

/// Proof that manifests are on disk: only [`prepare`] makes it, and the reactor takes it.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The config in use.
    pub config: MachineConfig,
    /// What to supervise, in order.
    pub services: Vec<Service>,
    /// In a container reboot(2) ends the container.
    pub container: bool,
    /// Keeps others from making one.
    _made_here: (),
}

/// Prepares the node.
pub(crate) fn prepare(machine: &Machine, loaded: Loaded) -> Ready {
    Ready { config: loaded.config, services: Vec::new(), container: machine.container, _made_here: () }
}
