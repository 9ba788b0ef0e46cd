//! Placeholder that its owner replaces.
use anyhow::{Result, bail};

/// `init parse`: the child.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    bail!("not built yet")
}
