//! Placeholder that its owner replaces.
use anyhow::{Result, bail};

/// `dhcp-hook`, run by dhcpcd.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    bail!("not built yet")
}
