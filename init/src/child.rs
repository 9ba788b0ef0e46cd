//! Placeholder that its owner replaces.
use anyhow::{Result, bail};

/// `init exec SERVICE`: the chain loader; returns only when it failed.
pub(crate) fn exec(_args: &[String]) -> Result<()> {
    bail!("not built yet")
}
