//! What the kubelet makes of one file: the first YAML document, if it is a pod.
//!
//! As much of a pod's validation as tells garbage from pods; what a kubelet refuses beyond that is not modelled.

use super::Id;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// The kubelet's bound for one manifest: a longer file is an error.
pub const MAX_FILE: usize = 10 << 20;

/// A pod as far as the model looks at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// `metadata.uid`, or `hash-` and a number that stands for the kubelet's hash of node, file and pod, or of the pod alone.
    pub uid: String,
    /// Containers by name: as in the manifest, or as they were when they were started.
    pub containers: BTreeMap<String, Value>,
}

/// Reads a file, of which `place` is what a UID that is made holds beside the pod; `None` when it is no pod.
pub(super) fn read(bytes: &[u8], place: (&str, &str)) -> Option<(Id, Pod)> {
    if bytes.len() > MAX_FILE {
        return None;
    }
    // The first document alone, and of a key that is given twice the last.
    let document = serde_yaml::Deserializer::from_slice(bytes).next()?;
    let pod = Value::deserialize(document).ok()?;
    if pod["kind"] != "Pod" || pod["apiVersion"] != "v1" {
        return None;
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let name = text(&pod["metadata"]["name"]).filter(|name| is_name(name))?;
    let namespace = text(&pod["metadata"]["namespace"]).unwrap_or_else(|| "default".to_owned());
    let mut containers = BTreeMap::new();
    for container in pod["spec"]["containers"].as_array()? {
        text(&container["image"])?;
        containers.insert(text(&container["name"]).filter(|name| is_name(name))?, container.clone());
    }
    if containers.is_empty() {
        return None;
    }
    let uid = text(&pod["metadata"]["uid"]).unwrap_or_else(|| {
        let mut hasher = DefaultHasher::new();
        (place, pod.to_string()).hash(&mut hasher);
        format!("hash-{:016x}", hasher.finish())
    });
    Some(((namespace, name), Pod { uid, containers }))
}

/// DNS-1123 subdomain.
fn is_name(name: &str) -> bool {
    let end = |letter: Option<char>| letter.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.split('.').all(|part| {
        end(part.chars().next()) && end(part.chars().last()) && part.chars().all(|c| c == '-' || end(Some(c)))
    })
}
