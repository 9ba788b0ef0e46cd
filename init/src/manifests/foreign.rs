//! Whether a file of somebody else would be taken by a kubelet for a pod of the config.
//!
//! A kubelet runs every file of the directory whose name has no leading dot, whatever its ending. A copy of a manifest
//! (`.bak`, a renamed one) has the same pod in it: the two replace each other, and the last one that was looked at
//! wins. This file reads just enough of a stranger's text to tell, and gives no opinion on anything else in it.

use super::Manifest;
use serde::Deserialize;

/// The little of a pod that makes it the same pod.
#[derive(Deserialize)]
struct File {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    uid: Option<String>,
}

/// The pod of `ours` that a kubelet would take this text for: the same namespace and name, or the same UID. A text that
/// is no pod is taken for none.
pub fn double<'a>(text: &[u8], ours: &'a [Manifest]) -> Option<&'a Manifest> {
    // A kubelet reads the first document alone.
    let first = serde_yaml::Deserializer::from_slice(text).next()?;
    let File { metadata } = File::deserialize(first).ok()?;
    let namespace = metadata.namespace.filter(|namespace| !namespace.is_empty());
    let namespace = namespace.as_deref().unwrap_or("default");
    ours.iter().find(|manifest| {
        manifest.name == metadata.name && manifest.namespace == namespace
            || metadata.uid.as_deref() == Some(manifest.uid.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn ours() -> Vec<Manifest> {
        let text = "version: v1alpha1\nmachine:\n  pods:\n    - {apiVersion: v1, kind: Pod, metadata: {name: web}, \
                    spec: {containers: [{name: c, image: i}]}}\n";
        config::parse(text.as_bytes()).manifests
    }

    #[test]
    fn a_copy_is_taken_for_ours_whatever_else_is_in_it() {
        let ours = ours();
        let uid = &ours[0].uid;
        for text in [
            ours[0].bytes.clone(),
            "kind: Pod\nmetadata: {name: web}\nspec: 7\n".to_owned(),
            "metadata: {name: web, namespace: ''}\n---\nmetadata: {name: other}\n".to_owned(),
            format!("metadata: {{name: other, namespace: x, uid: {uid}}}"),
        ] {
            assert_eq!(
                double(text.as_bytes(), &ours).map(|manifest| manifest.id.as_str()),
                Some("default-web"),
                "{text}"
            );
        }
    }

    #[test]
    fn other_pods_and_what_is_no_pod_are_left_alone() {
        let ours = ours();
        for text in [
            "metadata: {name: web, namespace: other}",
            "metadata: {name: other}\n---\nmetadata: {name: web}",
            "metadata: {name: other}",
            "metadata: [web]",
            "web",
            "",
            "\u{0}",
            "a: &a [*a]\nmetadata: {name: web",
        ] {
            assert!(double(text.as_bytes(), &ours).is_none(), "{text}");
        }
        assert!(double(b"\xff\xfe", &ours).is_none());
    }
}
