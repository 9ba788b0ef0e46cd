//! What holds of `manifests::plan` and `diff` for every input, tried with random ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use podium_init::manifests::{Found, Manifest, diff, is_ours, plan};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// A pod with a field of nearly every kind.
fn rich() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "rich", "namespace": "apps", "labels": {"app": "x"}, "annotations": {"note": "y"}},
        "spec": {
            "hostIPC": false, "terminationGracePeriodSeconds": 5, "nodeSelector": {"disk": "ssd"}, "priority": 7,
            "priorityClassName": "system-node-critical", "hostname": "h", "enableServiceLinks": false,
            "securityContext": {"runAsUser": 1000, "sysctls": [{"name": "net.a", "value": "1"}]},
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}],
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["one", "two"]}],
            "initContainers": [{"name": "first", "image": "setup:1", "command": ["true"]}],
            "containers": [
                {
                    "name": "web", "image": "nginx:1", "command": ["run"], "args": ["a", "b"], "workingDir": "/w",
                    "env": [{"name": "A", "value": "1"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.2"}],
                    "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": 0.25}},
                    "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "s", "readOnly": true}],
                    "livenessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 9},
                    "lifecycle": {"preStop": {"exec": {"command": ["stop"]}}},
                    "securityContext": {"privileged": false, "capabilities": {"drop": ["ALL"]}},
                },
                {"name": "side", "image": "side:1"},
            ],
            "volumes": [{"name": "data", "hostPath": {"path": "/srv", "type": ""}}],
        }
    })
}

fn plan_one(pod: &Value) -> Option<Manifest> {
    plan(std::slice::from_ref(pod), &|_| None).0.pop()
}

/// JSON pointers of all leaves.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| leaves(value, &format!("{at}/{i}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

/// Another value of the same type, as legal as the one that was there if that is possible at all.
fn changed(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!(!value),
        Value::Number(number) if number.is_f64() => json!(0.5),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::String(text) => match text.parse::<std::net::IpAddr>() {
            Ok(_) => json!("10.9.9.9"),
            Err(_) => json!(text.clone() + "a"),
        },
        other => panic!("{other} is no leaf"),
    }
}

/// Rule 8: a new image keeps the UID, every other change makes a new one.
#[test]
fn the_uid_stays_for_a_new_image_alone() {
    let base = plan_one(&rich()).unwrap();
    let mut all = Vec::new();
    leaves(&rich(), "", &mut all);
    let mut refused = Vec::new();
    for pointer in &all {
        let mut pod = rich();
        let leaf = pod.pointer_mut(pointer).unwrap();
        *leaf = changed(leaf);
        let Some(manifest) = plan_one(&pod) else {
            refused.push(pointer.as_str());
            continue;
        };
        assert_ne!(manifest.bytes, base.bytes, "{pointer}");
        let image = pointer.starts_with("/spec/containers/") && pointer.ends_with("/image");
        assert_eq!(manifest.uid == base.uid, image, "{pointer}");
    }
    // Words of closed sets, and names that something else refers to, have no other legal value of this making.
    let fixed = [
        "/apiVersion",
        "/kind",
        "/spec/containers/0/env/1/valueFrom/fieldRef/fieldPath",
        "/spec/containers/0/resources/limits/memory",
        "/spec/containers/0/volumeMounts/0/name",
        "/spec/tolerations/0/effect",
        "/spec/tolerations/0/operator",
        "/spec/volumes/0/hostPath/type",
        "/spec/volumes/0/name",
    ];
    assert_eq!(refused, fixed);
    assert!(all.len() > 50, "{}", all.len());
}

#[test]
fn the_uid_changes_when_anything_is_taken_away() {
    let base = plan_one(&rich()).unwrap();
    for (parent, key) in [("/metadata/labels", "app"), ("/spec", "hostname"), ("/spec/containers/0", "args")]
    {
        let mut pod = rich();
        pod.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        assert_ne!(plan_one(&pod).unwrap().uid, base.uid, "{parent}/{key}");
    }
}

/// The order of keys in the config is not part of it, nor is how a quantity is written.
#[test]
fn the_same_pod_has_the_same_bytes() {
    let mut pod = rich();
    *pod.pointer_mut("/spec/containers/0/resources/requests/cpu").unwrap() = json!("0.25");
    assert_eq!(plan_one(&pod), plan_one(&rich()));
    let mut reversed = Map::new();
    for (key, value) in rich().as_object().unwrap().iter().rev() {
        reversed.insert(key.clone(), value.clone());
    }
    assert_eq!(plan_one(&Value::Object(reversed)), plan_one(&rich()));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["Pod", "v1", "a", "name", "100m", "Always", "/"]).prop_map(Value::from),
    ];
    let key = prop_oneof![
        ".{0,4}".prop_map(String::from),
        prop::sample::select(vec![
            "metadata",
            "spec",
            "containers",
            "name",
            "image",
            "volumes",
            "kind",
            "ports"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

/// A good pod of which one part, anywhere, is something else.
fn damaged() -> impl Strategy<Value = Value> {
    fn parts(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| parts(value, &format!("{at}/{key}"), found));
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, value)| parts(value, &format!("{at}/{i}"), found));
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    parts(&rich(), "", &mut all);
    (prop::sample::select(all), any_json()).prop_map(|(pointer, value)| {
        let mut pod = rich();
        *pod.pointer_mut(&pointer).unwrap() = value;
        pod
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_plan_panic_and_nothing_goes_unsaid(
        pods in prop::collection::vec(prop_oneof![any_json(), damaged()], 0..4)
    ) {
        let (manifests, problems) = plan(&pods, &|_| None);
        prop_assert!(problems.iter().all(|problem| problem.pod.is_some()), "a pod's problem never stops the config");
        prop_assert!(manifests.len() == pods.len() || !problems.is_empty());
        let again = plan(&pods, &|_| None);
        prop_assert_eq!(&again, &(manifests.clone(), problems));
        let files: BTreeSet<_> = manifests.iter().map(|manifest| &manifest.file).collect();
        prop_assert_eq!(files.len(), manifests.len());
        for manifest in &manifests {
            prop_assert!(is_ours(&manifest.file) && !manifest.file.contains('/') && manifest.file.len() < 200);
            let written: Value = serde_json::from_str(&manifest.bytes).unwrap();
            prop_assert_eq!(written.pointer("/metadata/uid"), Some(&json!(manifest.uid)));
            // What was written is a pod that keeps the rules, and is the same pod.
            prop_assert_eq!(plan_one(&written), Some(manifest.clone()));
        }
    }

    /// After the changes the directory holds what is wanted; a second look finds nothing to do.
    #[test]
    fn a_diff_that_was_carried_out_leaves_nothing_to_do(
        have in prop::collection::btree_map("(podium-)?default-[a-f](\\.yaml)?", 0..3_u8, 0..8),
        want in prop::collection::btree_set("[a-f]", 0..6),
        refused in prop::collection::btree_set("default-[a-f]", 0..3),
    ) {
        let want: Vec<Manifest> = want
            .iter()
            .filter(|name| !refused.contains(&format!("default-{name}")))
            .map(|name| {
                let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}});
                pod["spec"] = json!({"containers": [{"name": "c", "image": "i"}]});
                plan_one(&pod).unwrap()
            })
            .collect();
        let content = |name: &str, kind: u8| match kind {
            0 => want.iter().find(|manifest| manifest.file == name).map(|manifest| manifest.bytes.clone().into_bytes()),
            1 => Some(b"other".to_vec()),
            _ => None,
        };
        let mut have: Vec<Found> =
            have.iter().map(|(name, kind)| Found { name: name.clone(), bytes: content(name, *kind) }).collect();
        let before = have.clone();
        let changes = diff(&have, &want, &refused);
        have.retain(|found| !changes.deletions.contains(&found.name));
        for manifest in changes.changes.iter().chain(&changes.additions) {
            have.retain(|found| found.name != manifest.file);
            have.push(Found { name: manifest.file.clone(), bytes: Some(manifest.bytes.clone().into_bytes()) });
        }
        prop_assert!(diff(&have, &want, &refused).is_empty());
        for manifest in &want {
            let bytes = Some(manifest.bytes.clone().into_bytes());
            let found = Found { name: manifest.file.clone(), bytes };
            prop_assert!(have.contains(&found));
        }
        for found in &before {
            let kept = refused.iter().any(|id| found.name == format!("podium-{id}.yaml"));
            if kept || !is_ours(&found.name) {
                prop_assert!(have.contains(found), "{found:?} was touched");
            }
        }
    }
}
