//! What the node's pods are meant to be: the manifest directory, ours and others', and what PID 1 made of the config.
//!
//! Files are read again only when they changed. What cannot be read or is no pod is known by its file name alone. The
//! directory is never changed from here.

use crate::files;
use crate::kubelet::api::{Container, Pod};
use podium_init::manifests::{MAX_MANIFEST, is_ours};
use podium_init::staticpods::LIST_MAX;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A directory with more files than any node has pods is somebody's mistake; the first by name are looked at.
const MOST_FILES: usize = 10_000;

/// What a file was when it was looked at: another one, or a changed one, has another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// One file of the manifest directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Its name in the directory.
    pub(crate) file: String,
    /// Its identity and content.
    pub(crate) stamp: Stamp,
    /// Empty for a file that is no pod.
    pub(crate) name: String,
    /// `default` without one.
    pub(crate) namespace: String,
    /// Empty when the kubelet gives one.
    pub(crate) uid: String,
    /// `spec.initContainers` and `spec.containers`.
    pub(crate) containers: Vec<Container>,
    /// How many of them are init containers.
    pub(crate) init: usize,
}

/// The manifest directory as it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    files: BTreeMap<String, Manifest>,
}

impl Directory {
    /// Looks again. A directory that cannot be listed has no files.
    pub(crate) fn look(&mut self, path: &Path) {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        // As the kubelet: what begins with a dot is nobody's manifest.
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort_unstable();
        names.truncate(MOST_FILES);
        let mut before = std::mem::take(&mut self.files);
        for name in names {
            let Ok(file) = files::open(&path.join(&name)) else { continue };
            let Ok(meta) = file.metadata() else { continue };
            let stamp = Stamp::of(&meta);
            let manifest = match before.remove(&name).filter(|known| known.stamp == stamp) {
                Some(known) => known,
                None => read(file, name.clone(), stamp),
            };
            self.files.insert(name, manifest);
        }
    }

    /// By file name.
    pub(crate) fn get(&self, file: &str) -> Option<&Manifest> {
        self.files.get(file)
    }

    /// All, sorted by file name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Manifest> {
        self.files.values()
    }

    /// Changes with every file.
    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        self.files.values().map(|manifest| manifest.stamp).collect()
    }
}

fn read(file: File, name: String, stamp: Stamp) -> Manifest {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_MANIFEST).unwrap_or(u64::MAX);
    let whole = file.take(limit + 1).read_to_end(&mut bytes).is_ok_and(|size| size <= MAX_MANIFEST);
    let pod = if whole { decode(&name, &bytes) } else { None };
    let Pod { metadata, spec, .. } = pod.unwrap_or_default();
    let namespace = if metadata.namespace.is_empty() { "default".to_owned() } else { metadata.namespace };
    let init = spec.init_containers.len();
    let containers = spec.init_containers.into_iter().chain(spec.containers).collect();
    Manifest { file: name, stamp, name: metadata.name, namespace, uid: metadata.uid, containers, init }
}

/// Ours are JSON; of others' the kubelet takes the first document.
fn decode(name: &str, bytes: &[u8]) -> Option<Pod> {
    if is_ours(name) {
        return serde_json::from_slice(bytes).ok();
    }
    let first = serde_yaml::Deserializer::from_slice(bytes).next()?;
    Pod::deserialize(first).ok()
}

/// What PID 1 says of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Known {
    /// `<namespace>-<name>`.
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Its name in the manifest directory.
    pub(crate) file: String,
    /// False: refused.
    pub(crate) valid: bool,
    /// Why.
    pub(crate) problems: Vec<String>,
    /// What its manifest, or a newer one, waits for; empty when it does not.
    pub(crate) held: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AllKnown {
    pods: Vec<Known>,
}

/// What PID 1 has written of the pods; nothing when it has not, or not whole.
pub(crate) fn known(path: &Path) -> Vec<Known> {
    let bytes = files::read(path, LIST_MAX as u64).unwrap_or_default();
    serde_json::from_slice::<AllKnown>(&bytes).unwrap_or_default().pods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_others_are_read_and_what_is_no_pod_is_known_by_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        put(
            "podium-default-a.yaml",
            r#"{"metadata":{"name":"a","namespace":"default","uid":"1"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
        );
        put(
            "theirs.yaml",
            "metadata: {name: b}\nspec: {initContainers: [{name: x}], containers: [{name: y, image: z}]}\n---\nother: 1\n",
        );
        put("garbage.yaml", "- [");
        put(".hidden", "metadata: {name: h}");
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        let mut directory = Directory::default();
        directory.look(dir.path());
        let names: Vec<_> =
            directory.all().map(|manifest| (manifest.file.as_str(), manifest.name.as_str())).collect();
        assert_eq!(names, [("garbage.yaml", ""), ("podium-default-a.yaml", "a"), ("theirs.yaml", "b")]);
        let theirs = directory.get("theirs.yaml").unwrap();
        assert_eq!((theirs.namespace.as_str(), theirs.init, theirs.containers.len()), ("default", 1, 2));
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_removed_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let mut directory = Directory::default();
        std::fs::write(&path, "metadata: {name: one}").unwrap();
        directory.look(dir.path());
        let before = directory.stamps();
        std::fs::write(dir.path().join("next"), "metadata: {name: two}").unwrap();
        std::fs::rename(dir.path().join("next"), &path).unwrap();
        directory.look(dir.path());
        assert_eq!(directory.get("a.yaml").unwrap().name, "two");
        assert_ne!(directory.stamps(), before);
        std::fs::remove_file(&path).unwrap();
        directory.look(dir.path());
        assert_eq!(directory.all().count(), 0);
        directory.look(Path::new("/no/such/folder"));
    }

    #[test]
    fn a_file_with_aliases_that_explode_is_no_pod() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let below = vec![format!("*a{}", level - 1); 8].join(", ");
            text += &format!("a{level}: &a{level} [{below}]\n");
        }
        assert!(decode("theirs.yaml", text.as_bytes()).is_none_or(|pod| pod.metadata.name.is_empty()));
    }

    #[test]
    fn what_pid_1_has_not_written_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pods.json");
        assert!(known(&path).is_empty());
        std::fs::write(&path, r#"{"pods":[{"id":"n-a","problems":["x"],"version":3,"new":1}]}"#).unwrap();
        let pods = known(&path);
        assert_eq!((pods[0].id.as_str(), pods[0].valid), ("n-a", false));
        std::fs::write(&path, r#"{"pods":["#).unwrap();
        assert!(known(&path).is_empty());
    }
}
