//! What is to be done to a manifest directory so that it holds the wanted manifests and nothing else of ours.

use super::Manifest;
use std::collections::{BTreeMap, BTreeSet};

/// A file that stands in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its content; `None` when it was not read: not ours, unreadable, or larger than a manifest can be.
    pub bytes: Option<Vec<u8>>,
}

/// Work on a manifest directory, to be done in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// Files of ours to remove.
    pub deletions: Vec<String>,
    /// Manifests to rename over a file of ours that holds other bytes.
    pub changes: Vec<&'a Manifest>,
    /// Manifests that have no file yet.
    pub additions: Vec<&'a Manifest>,
    /// Files of others: listed, never touched.
    pub foreign: Vec<String>,
}

impl Changes<'_> {
    /// Whether the directory is as it should be.
    pub fn is_empty(&self) -> bool {
        self.deletions.is_empty() && self.changes.is_empty() && self.additions.is_empty()
    }
}

/// Whether a file of that name is ours: `podium-<id>.yaml`.
pub fn is_ours(name: &str) -> bool {
    id(name).is_some()
}

/// Compares what is there with what is wanted. A pod in `refused` (static pod IDs) keeps the file that it has: an
/// update that cannot be used must not stop the version that runs.
pub fn diff<'a>(have: &[Found], want: &'a [Manifest], refused: &BTreeSet<String>) -> Changes<'a> {
    let mut changes = Changes::default();
    let mut ours = BTreeMap::new();
    for found in have {
        match id(&found.name) {
            Some(id) => {
                ours.insert(found.name.as_str(), (id, found.bytes.as_deref()));
            }
            None => changes.foreign.push(found.name.clone()),
        }
    }
    for manifest in want {
        match ours.remove(manifest.file.as_str()) {
            None => changes.additions.push(manifest),
            Some((_, Some(bytes))) if bytes == manifest.bytes.as_bytes() => {}
            Some(_) => changes.changes.push(manifest),
        }
    }
    let unwanted = ours.into_iter().filter(|(_, (id, _))| !refused.contains(*id));
    changes.deletions = unwanted.map(|(name, _)| name.to_owned()).collect();
    changes.foreign.sort_unstable();
    changes
}

/// The static pod ID in a file's name.
fn id(name: &str) -> Option<&str> {
    name.strip_prefix("podium-")?.strip_suffix(".yaml").filter(|id| !id.is_empty())
}
