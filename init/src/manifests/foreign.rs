//! Whether a file of somebody else would be taken by a kubelet for a pod of the config.
//!
//! A kubelet runs every file of the directory whose name has no leading dot, whatever its ending. A copy of a manifest
//! (`.bak`, a renamed one) has the same pod in it: the two replace each other, and the last one that was looked at
//! wins. This file reads just enough of a stranger's text to tell, and gives no opinion on anything else in it.

use super::Manifest;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Of a YAML document the mappings and the texts in them. Of a key that is given twice a kubelet takes the last one,
/// which serde would refuse.
#[derive(Debug, Default)]
struct Loose {
    text: Option<String>,
    fields: Vec<(String, Loose)>,
}

impl Loose {
    fn get(&self, name: &str) -> Option<&Self> {
        self.fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.text.as_deref()
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose { text: Some(text.to_owned()), fields: Vec::new() })
            }

            fn visit_bool<E>(self, _: bool) -> Result<Loose, E> {
                Ok(Loose::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Loose, E> {
                Ok(Loose::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Loose, E> {
                Ok(Loose::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Loose, E> {
                Ok(Loose::default())
            }

            fn visit_unit<E>(self) -> Result<Loose, E> {
                Ok(Loose::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key::<Loose>()? {
                    let value = map.next_value()?;
                    fields.extend(key.text.map(|key| (key, value)));
                }
                Ok(Loose { text: None, fields })
            }
        }

        from.deserialize_any(Any)
    }
}

/// The pod of `ours` that a kubelet would take this text for: the same namespace and name, or the same UID. A text that
/// is no pod is taken for none.
pub fn double<'a>(text: &[u8], ours: &'a [Manifest]) -> Option<&'a Manifest> {
    // A kubelet reads the first document alone.
    let first = serde_yaml::Deserializer::from_slice(text).next()?;
    let file = Loose::deserialize(first).ok()?;
    let metadata = file.get("metadata")?;
    let name = metadata.text("name");
    let uid = metadata.text("uid");
    let namespace = metadata.text("namespace").filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    ours.iter().find(|manifest| {
        name == Some(manifest.name.as_str()) && manifest.namespace == namespace
            || uid == Some(manifest.uid.as_str())
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
            "metadata: {name: other}\nmetadata: {name: other, name: web}".to_owned(),
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
