//! What the kubelet's log told of the pods, as long as it may still be true.
//!
//! What was said of a file holds until the file changes; what was said of a list, until any does; what was said of a
//! pod, as long as the kubelet has that pod. So no clock is needed, and nothing grows beyond the pods there are.

use crate::klog::News;
use crate::kubelet::api::Pod;
use crate::manifests::{Directory, Manifest, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// UIDs that are remembered before the kubelet's next list tells which of them there are.
const MOST_PODS: usize = 10_000;

/// See the file's doc.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// By file name.
    files: BTreeMap<String, (Stamp, String)>,
    list: Option<(Vec<Stamp>, String)>,
    duplicates: BTreeSet<String>,
    /// By UID: reason and message.
    syncs: BTreeMap<String, (String, String)>,
}

impl Findings {
    /// Takes what a line said, of the directory as it is now.
    pub(crate) fn take(&mut self, news: News, directory: &Directory) {
        match news {
            News::File { file, message } => {
                if let Some(manifest) = directory.get(&file) {
                    self.files.insert(file, (manifest.stamp, message));
                }
            }
            News::List { message } => self.list = Some((directory.stamps(), message)),
            News::Duplicate { uid } => {
                if self.duplicates.len() < MOST_PODS {
                    self.duplicates.insert(uid);
                }
            }
            News::Sync { uid, reason, message } => {
                if self.syncs.len() < MOST_PODS || self.syncs.contains_key(&uid) {
                    self.syncs.insert(uid, (reason, message));
                }
            }
        }
    }

    /// Another boot began: nothing of it is true any more.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Forgets what is not true any more. `pods`: the kubelet's list, if there is one.
    pub(crate) fn prune(&mut self, directory: &Directory, pods: Option<&[Pod]>) {
        self.files
            .retain(|file, (stamp, _)| directory.get(file).is_some_and(|manifest| manifest.stamp == *stamp));
        if self.list.as_ref().is_some_and(|(stamps, _)| *stamps != directory.stamps()) {
            self.list = None;
        }
        let uids: BTreeSet<&str> = directory.all().map(|manifest| manifest.uid.as_str()).collect();
        self.duplicates.retain(|uid| uids.contains(uid.as_str()));
        if let Some(pods) = pods {
            let uids: BTreeSet<&str> = pods.iter().map(|pod| pod.metadata.uid.as_str()).collect();
            self.syncs.retain(|uid, _| uids.contains(uid.as_str()));
        }
    }

    /// Why the kubelet refused a manifest.
    pub(crate) fn rejected(&self, manifest: &Manifest, directory: &Directory) -> Option<&str> {
        let file = self.files.get(&manifest.file).filter(|(stamp, _)| *stamp == manifest.stamp);
        let list = self.list.as_ref().filter(|(stamps, _)| *stamps == directory.stamps());
        file.map(|(_, message)| message.as_str()).or(list.map(|(_, message)| message.as_str()))
    }

    /// The kubelet had a pod of that name already.
    pub(crate) fn is_duplicate(&self, uid: &str) -> bool {
        self.duplicates.contains(uid)
    }

    /// Why a pod could not be brought on its way: reason and message.
    pub(crate) fn sync(&self, uid: &str) -> Option<(&str, &str)> {
        self.syncs.get(uid).map(|(reason, message)| (reason.as_str(), message.as_str()))
    }
}
