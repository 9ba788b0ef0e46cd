//! The first steps of the node stage.
use podium_init::cmdline::Cmdline;

/// What the mounts found: where the node keeps its things, and whether it is a container.
#[derive(Debug)]
pub(crate) struct Machine {
    /// In a container the runtime supplies the mounts, the host's kernel is left alone.
    pub container: bool,
}

/// The very first steps; they need nothing.
pub(crate) fn begin() -> Cmdline {
    crate::kmsg::start();
    Cmdline::default()
}

/// Mounts what the table says.
pub(crate) fn mount(_cmdline: &Cmdline) -> Machine {
    Machine { container: false }
}
