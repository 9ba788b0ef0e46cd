//! The manifest directory as one `v1.PodList`, with its ETag.
//!
//! Only files of ours, each checked to be a pod in JSON, and put in as it is. A file that cannot be read for a moment
//! keeps the place that it had: leaving it out would end its pod. The same files give the same bytes. Which of them
//! the kubelet takes is found by [`Trials`].

use super::trial::{Memory, Pods, Trials};
use crate::files;
use anyhow::{Context, Result, ensure};
use hyper::body::Bytes;
use podium_init::manifests::{MAX_MANIFEST, is_ours};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

/// A kubelet reads 10 MiB of an answer (`maxConfigLength` in pkg/kubelet/config/config.go) and refuses a longer one as
/// a whole. What does not fit is left out, the last by name.
const LIST_MAX: usize = 10 << 20;
const HEAD: &str = r#"{"apiVersion":"v1","kind":"PodList","metadata":{},"items":["#;
const END: &str = "]}\n";

/// The list as it was last made.
#[derive(Debug, Default)]
pub(super) struct Collection {
    pods: Pods,
    trials: Trials,
    /// What was said already.
    said: BTreeSet<String>,
    body: Bytes,
    tag: String,
}

/// What must be true of a manifest; the rest is as PID 1 has checked it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: String,
    kind: String,
}

impl Collection {
    /// With what an earlier run of this program has found.
    pub(super) fn knowing(memory: Memory) -> Self {
        Self { trials: Trials::knowing(memory), ..Self::default() }
    }

    /// What a later run needs to know.
    pub(super) fn memory(&self) -> Memory {
        self.trials.memory()
    }

    /// Reads the directory for a request; `was_refused`: the kubelet has refused a list since the last one. Gives
    /// lines that are to be said, each once as long as it is true.
    ///
    /// # Errors
    /// The directory cannot be listed: the list stays as it was.
    pub(super) fn look(&mut self, directory: &Path, was_refused: bool) -> Result<Vec<String>> {
        let list = || std::fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>();
        let entries = list().with_context(|| format!("list {}", directory.display()))?;
        let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
        let (ours, others): (Vec<_>, Vec<_>) =
            names.filter(|name| !name.starts_with('.')).partition(|name| is_ours(name));
        let mut before = std::mem::take(&mut self.pods);
        let mut true_now = BTreeSet::new();
        for name in others {
            true_now.insert(format!("{name}: not Podium's, left out of the list for the kubelet"));
        }
        for name in ours {
            let text = match read(&directory.join(&name)) {
                Ok(Some(text)) => Some(text),
                Ok(None) => None,
                Err(error) => {
                    let had = before.remove(&name);
                    let meaning =
                        if had.is_some() { "the kubelet keeps the one before" } else { "it is left out" };
                    true_now.insert(format!("{error:#}; {meaning}"));
                    had
                }
            };
            self.pods.extend(text.map(|text| (name, text)));
        }
        self.trials.step(&self.pods, was_refused);
        for name in self.trials.refused().keys() {
            true_now.insert(format!(
                "{name}: the kubelet refuses it, its log says why; the other pods run without it"
            ));
        }
        self.make(&mut true_now);
        let news = true_now.difference(&self.said).cloned().collect();
        self.said = true_now;
        Ok(news)
    }

    /// The list's text.
    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// The list's ETag, with its quotes.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    fn make(&mut self, said: &mut BTreeSet<String>) {
        let mut body = String::from(HEAD);
        for (name, text) in self.trials.list() {
            if body.len() + text.len() + END.len() + 1 > LIST_MAX {
                said.insert(format!(
                    "{name}: left out, the list has no more room for it in {LIST_MAX} bytes"
                ));
                continue;
            }
            if body.len() > HEAD.len() {
                body.push(',');
            }
            body.push_str(text);
        }
        body.push_str(END);
        if body.as_bytes() == self.body.as_ref() {
            return;
        }
        self.tag = String::from("\"");
        for byte in Sha256::digest(body.as_bytes()) {
            self.tag.push_str(&format!("{byte:02x}"));
        }
        self.tag.push('"');
        self.body = Bytes::from(body);
    }
}

/// The file's text; none when it is gone.
fn read(path: &Path) -> Result<Option<String>> {
    let limit = u64::try_from(MAX_MANIFEST).unwrap_or(u64::MAX);
    let bytes = match files::read(path, limit) {
        Ok(bytes) => bytes,
        Err(_) if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let name = || path.display().to_string();
    let text = String::from_utf8(bytes).with_context(name)?;
    let kind: Kind = serde_json::from_str(&text).with_context(|| format!("{} is no pod", name()))?;
    ensure!(kind.api_version == "v1" && kind.kind == "Pod", "{} is no pod but a {}", name(), kind.kind);
    Ok(Some(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    fn pod(name: &str, pad: usize) -> String {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n"},
            "spec": {"containers": [{"name": "c", "image": "i", "args": ["x".repeat(pad)]}]}});
        format!("{pod:#}\n")
    }

    fn put(dir: &TempDir, name: &str, text: &str) {
        std::fs::write(dir.path().join(name), text).unwrap();
    }

    fn names(collection: &Collection) -> Vec<String> {
        let list: Value = serde_json::from_slice(&collection.body()).unwrap();
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PodList"), &json!("v1")));
        let items = list["items"].as_array().unwrap().iter();
        items.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_list_holds_our_pods_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = Collection::default();
        assert!(list.look(dir.path(), false).unwrap().is_empty());
        assert_eq!(names(&list), [""; 0]);
        put(&dir, "podium-n-b.yaml", &pod("b", 0));
        put(&dir, "podium-n-a.yaml", &pod("a", 0));
        put(&dir, ".podium-n-c.yaml.podium-new", &pod("c", 0));
        put(&dir, "theirs.yaml", &pod("d", 0));
        let said = list.look(dir.path(), false).unwrap();
        assert!(said.len() == 1 && said[0].contains("theirs.yaml"), "{said:?}");
        assert_eq!(names(&list), ["a", "b"]);
        assert!(list.look(dir.path(), false).unwrap().is_empty(), "it is said once");
    }

    #[test]
    fn the_tag_changes_with_the_list_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = Collection::default();
        put(&dir, "podium-n-a.yaml", &pod("a", 0));
        list.look(dir.path(), false).unwrap();
        let first = list.tag().to_owned();
        assert_eq!(first.len(), 66);
        put(&dir, "theirs.yaml", "x");
        put(&dir, "podium-n-a.yaml", &pod("a", 0));
        list.look(dir.path(), false).unwrap();
        assert_eq!(list.tag(), first);
        put(&dir, "podium-n-a.yaml", &pod("a", 1));
        list.look(dir.path(), false).unwrap();
        assert_ne!(list.tag(), first);
    }

    #[test]
    fn a_file_that_cannot_be_read_keeps_its_place_and_a_removed_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = Collection::default();
        put(&dir, "podium-n-a.yaml", &pod("a", 0));
        put(&dir, "podium-n-b.yaml", &pod("b", 0));
        list.look(dir.path(), false).unwrap();
        put(&dir, "podium-n-a.yaml", "{\"half\":");
        put(&dir, "podium-n-c.yaml", "apiVersion: v1\nkind: Pod\n");
        put(&dir, "podium-n-d.yaml", "{\"apiVersion\":\"v1\",\"kind\":\"PodList\"}");
        let said = list.look(dir.path(), false).unwrap();
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(names(&list), ["a", "b"]);
        std::fs::remove_file(dir.path().join("podium-n-a.yaml")).unwrap();
        list.look(dir.path(), false).unwrap();
        assert_eq!(names(&list), ["b"]);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_and_not_an_empty_list() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = Collection::default();
        put(&dir, "podium-n-a.yaml", &pod("a", 0));
        list.look(dir.path(), false).unwrap();
        assert!(list.look(&dir.path().join("gone"), false).is_err());
        assert_eq!(names(&list), ["a"]);
    }

    #[test]
    fn a_list_that_a_kubelet_would_refuse_for_its_length_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..13 {
            put(&dir, &format!("podium-n-{number:02}.yaml"), &pod(&format!("{number:02}"), 900_000));
        }
        let mut list = Collection::default();
        let said = list.look(dir.path(), false).unwrap();
        assert!(list.body().len() <= LIST_MAX && names(&list).len() == 11, "{}", names(&list).len());
        assert_eq!(said.len(), 2);
    }
}
