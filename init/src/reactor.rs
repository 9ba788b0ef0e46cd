//! Placeholder that its owner replaces.
use crate::prepare::Ready;
use anyhow::{Result, bail};
use podium_init::shutdown::Shutdown;

/// The one poll loop.
pub(crate) fn run(_ready: Ready) -> Result<Shutdown> {
    bail!("not built yet")
}
