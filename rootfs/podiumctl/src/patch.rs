//! Patches of a machine config: an RFC 7396 merge patch or an RFC 6902 JSON patch, each as YAML or JSON.
//!
//! A list is a JSON patch, a mapping a merge patch. Comments of the config are lost, the order of its keys is not.

use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

/// The config with the patches, one after the other.
///
/// # Errors
/// Which patch (from 1) cannot be applied and why.
pub fn apply(config: &str, patches: &[String]) -> Result<String, String> {
    if patches.is_empty() {
        return Ok(config.to_owned());
    }
    let order: Yaml =
        serde_yaml::from_str(config).map_err(|error| format!("the config is no YAML: {error}"))?;
    let mut value: Json =
        serde_json::to_value(&order).map_err(|error| format!("the config cannot be patched: {error}"))?;
    for (index, patch) in patches.iter().enumerate() {
        one(&mut value, patch).map_err(|error| format!("patch {}: {error}", index + 1))?;
    }
    serde_yaml::to_string(&ordered(value, Some(&order))).map_err(|error| error.to_string())
}

fn one(config: &mut Json, patch: &str) -> Result<(), String> {
    let value: Json = serde_yaml::from_str(patch).map_err(|error| format!("is no YAML or JSON: {error}"))?;
    match value {
        Json::Array(_) => {
            let operations: json_patch::Patch =
                serde_json::from_value(value).map_err(|error| format!("is no JSON patch: {error}"))?;
            json_patch::patch(config, &operations).map_err(|error| error.to_string())
        }
        Json::Object(_) => {
            json_patch::merge(config, &value);
            Ok(())
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            Err("is neither a mapping (a merge patch) nor a list (a JSON patch); @FILE reads it from a file"
                .to_owned())
        }
    }
}

/// JSON as YAML, keys in the order that `like` has, new ones behind.
fn ordered(value: Json, like: Option<&Yaml>) -> Yaml {
    match value {
        Json::Object(mut map) => {
            let mut sorted = serde_yaml::Mapping::new();
            let empty = serde_yaml::Mapping::new();
            let old = like.and_then(Yaml::as_mapping).unwrap_or(&empty);
            for (key, like) in old {
                let Some(name) = key.as_str() else { continue };
                if let Some(value) = map.remove(name) {
                    sorted.insert(key.clone(), ordered(value, Some(like)));
                }
            }
            for (name, value) in map {
                sorted.insert(Yaml::String(name), ordered(value, None));
            }
            Yaml::Mapping(sorted)
        }
        Json::Array(items) => {
            let old = like.and_then(Yaml::as_sequence);
            let like = |index: usize| old.and_then(|old| old.get(index));
            Yaml::Sequence(
                items.into_iter().enumerate().map(|(index, item)| ordered(item, like(index))).collect(),
            )
        }
        scalar => serde_yaml::to_value(&scalar).unwrap_or(Yaml::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "version: v1alpha1\nmachine:\n  sysctls:\n    b: \"1\"\n    a: \"2\"\n  pods: []\n";

    #[test]
    fn a_mapping_is_merged_and_null_removes() {
        let patch = "machine: {sysctls: {b: null, c: \"3\"}}".to_owned();
        assert_eq!(
            apply(CONFIG, &[patch]).unwrap(),
            "version: v1alpha1\nmachine:\n  sysctls:\n    a: '2'\n    c: '3'\n  pods: []\n"
        );
    }

    #[test]
    fn a_list_is_a_json_patch() {
        let add = r#"[{"op": "add", "path": "/machine/pods/-", "value": {"kind": "Pod"}}]"#.to_owned();
        let remove = "- op: remove\n  path: /machine/sysctls\n".to_owned();
        assert_eq!(
            apply(CONFIG, &[add, remove]).unwrap(),
            "version: v1alpha1\nmachine:\n  pods:\n  - kind: Pod\n"
        );
    }

    #[test]
    fn what_cannot_be_applied_names_its_patch() {
        let good = "{}".to_owned();
        for (bad, why) in [
            ("5", "neither"),
            ("- {op: jump, path: /x}", "no JSON patch"),
            ("- {op: remove, path: /nowhere}", "nowhere"),
            ("{", "no YAML"),
        ] {
            let error = apply(CONFIG, &[good.clone(), bad.to_owned()]).unwrap_err();
            assert!(error.starts_with("patch 2: "), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
