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
    /// Files of ours that the config does not have and that stay until it is mended.
    pub kept: Vec<String>,
    /// Files of others: listed, never touched.
    pub foreign: Vec<String>,
}

impl Changes<'_> {
    /// Whether the directory is as it should be.
    pub fn is_empty(&self) -> bool {
        self.deletions.is_empty() && self.changes.is_empty() && self.additions.is_empty()
    }
}

/// The name of the file of the pod with this static pod ID, for ever: the kubelet puts it into UIDs that it makes.
pub fn file_name(id: &str) -> String {
    format!("podium-{id}.yaml")
}

/// Whether a file of that name is ours: see [`file_name`].
pub fn is_ours(name: &str) -> bool {
    id(name).is_some()
}

/// Compares what is there with what is wanted. A pod in `refused` (static pod IDs) keeps the file that it has: an
/// update that cannot be used must not stop the version that runs. While one of them has no
/// file, nothing is removed: it may be any of the others with a mistake in its name.
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
    let had: BTreeSet<String> = ours.values().map(|(id, _)| (*id).to_owned()).collect();
    for manifest in want {
        match ours.remove(manifest.file.as_str()) {
            None => changes.additions.push(manifest),
            Some((_, Some(bytes))) if bytes == manifest.bytes.as_bytes() => {}
            Some(_) => changes.changes.push(manifest),
        }
    }
    for (name, (id, _)) in ours {
        let list = if stays(id, refused, &had) { &mut changes.kept } else { &mut changes.deletions };
        list.push(name.to_owned());
    }
    changes.foreign.sort_unstable();
    changes
}

/// The manifests of an earlier config that run on under one which has `want` and cannot run `refused`: what [`diff()`]
/// leaves in a directory, for a boot that finds it empty.
pub fn kept(before: Vec<Manifest>, want: &[Manifest], refused: &BTreeSet<String>) -> Vec<Manifest> {
    let had: BTreeSet<String> = before.iter().map(|manifest| manifest.id.clone()).collect();
    let is_wanted = |id: &str| want.iter().any(|manifest| manifest.id == id);
    before
        .into_iter()
        .filter(|manifest| !is_wanted(&manifest.id) && stays(&manifest.id, refused, &had))
        .collect()
}

/// Whether a pod that the config does not have runs on, of those that the node had. One that is refused does. And while
/// a refused one is none of those, it may be any of them with a mistake in its name: then nothing is ended.
fn stays(id: &str, refused: &BTreeSet<String>, had: &BTreeSet<String>) -> bool {
    refused.contains(id) || refused.iter().any(|refused| !had.contains(refused))
}

/// The static pod ID in a file's name.
fn id(name: &str) -> Option<&str> {
    name.strip_prefix("podium-")?.strip_suffix(".yaml").filter(|id| !id.is_empty())
}
