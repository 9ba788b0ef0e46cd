//! How a node was before a change: what a new config is measured by.

use super::policy::SOAK;
use crate::clock::Time;
use crate::store::Kept;

/// How a node was, for at least [`SOAK`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// Kubelet and pods were up.
    pub(super) well: bool,
    /// The kubelet was.
    pub(super) kubelet: bool,
}

impl Before {
    /// A node that had all it needs.
    pub(super) const WELL: Self = Self { well: true, kubelet: true };

    /// What has been so for long, from since when it is.
    pub(super) fn for_long(well: Option<Time>, kubelet: Option<Time>, now: Time) -> Self {
        let is_long = |since: Option<Time>| since.is_some_and(|since| now.saturating_sub(since) >= SOAK);
        Self { well: is_long(well), kubelet: is_long(kubelet) }
    }

    /// What was so of either; of the other one if that counts.
    pub(super) fn or(self, other: Self, counts: bool) -> Self {
        Self { well: self.well || counts && other.well, kubelet: self.kubelet || counts && other.kubelet }
    }

    /// Why a config is kept whose pods do not come up, if it is.
    pub(super) fn kept(self) -> Option<Kept> {
        match (self.well, self.kubelet) {
            (true, _) => None,
            (false, true) => Some(Kept::WithKubelet),
            (false, false) => Some(Kept::Always),
        }
    }
}
