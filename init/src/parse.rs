//! Placeholder that its owner replaces.
use anyhow::{Result, bail};
use podium_init::config::Outcome;

/// How the raw bytes of a config are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A file: text, or text compressed by gzip or zstd.
    Plain,
    /// `podium.config.inline`: base64 around that.
    Inline,
}

/// `init parse`: the child.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    bail!("not built yet")
}

/// Has a child check one config. An error means that no child could be asked; whatever is wrong with the config, or
/// happened to the child while it read it, is a problem in the outcome.
pub(crate) fn check(_raw: &[u8], _encoding: Encoding) -> Result<Outcome> {
    bail!("not built yet")
}
