//! Placeholder that its owner replaces.
use anyhow::{Result, bail};

/// `init log`.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    bail!("not built yet")
}
