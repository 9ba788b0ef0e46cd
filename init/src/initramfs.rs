//! Placeholder that its owner replaces.
use anyhow::{Result, bail};
use podium_init::shutdown::Shutdown;

/// The initramfs stage: returns only when the root could not be mounted and executed.
pub(crate) fn stage() -> Result<Shutdown> {
    bail!("not built yet")
}
