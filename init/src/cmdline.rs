//! Placeholder that its owner replaces.

/// The kernel command line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cmdline {}
