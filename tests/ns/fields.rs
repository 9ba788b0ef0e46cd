//! The stable UID as PID 1's own parser gives it: for every field of the table, which the VM test shows on a kubelet, and
//! for every field that Kubernetes' own schema has.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use podium_tests::build::programs;
use podium_tests::fields::{FIELDS, pod};
use podium_tests::schema::leaves;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// What PID 1 makes of a config with these pods and settings of the kubelet.
fn parsed(kubelet: &str, pods: &[Value]) -> Value {
    let pods: String = pods.iter().map(|pod| format!("    - {pod}\n")).collect();
    let config = format!("version: v1alpha1\nmachine:\n  kubelet: {kubelet}\n  pods:\n{pods}");
    let mut command = Command::new(&programs().unwrap().init);
    let mut child = command.arg("parse").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(config.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The UID in the manifest of a config with this pod alone.
fn uid(pod: &Value) -> String {
    uid_with("{}", pod)
}

/// The same with settings of the kubelet.
fn uid_with(kubelet: &str, pod: &Value) -> String {
    let outcome = parsed(kubelet, std::slice::from_ref(pod));
    assert_eq!(outcome["problems"], json!([]), "{pod}");
    outcome["manifests"][0]["uid"].as_str().unwrap().to_owned()
}

#[test]
fn every_field_but_the_image_makes_a_new_pod() {
    let before = uid(&pod());
    for field in FIELDS {
        assert_ne!(uid(&field.changed().unwrap()), before, "{}", field.path);
    }
    let mut other_image = pod();
    other_image["spec"]["containers"][0]["image"] = "podium.local/guest:2".into();
    assert_eq!(uid(&other_image), before);
    let hashed = "{stablePodUID: false}";
    assert_ne!(uid_with(hashed, &other_image), uid_with(hashed, &pod()), "as a kubelet by itself does");
}

/// With another name it is another pod, whatever its UID.
const IDENTITY: [&str; 2] = ["metadata.name", "metadata.namespace"];
/// The API server's to set, and left out by PID 1.
const OF_THE_SERVER: [&str; 7] = [
    "metadata.creationTimestamp",
    "metadata.deletion",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
    "metadata.selfLink",
    "metadata.uid",
];
/// It changes in the pod.
const IMAGE: &str = "spec.containers[].image";
/// What a field is that may not be any text, by the end of its path.
const SAMPLES: [(&str, &str); 20] = [
    (".imagePullPolicy", r#""IfNotPresent""#),
    (".restartPolicy", r#""OnFailure""#),
    (".terminationMessagePolicy", r#""FallbackToLogsOnError""#),
    (".dnsPolicy", r#""Default""#),
    (".preemptionPolicy", r#""Never""#),
    (".protocol", r#""UDP""#),
    (".scheme", r#""HTTPS""#),
    (".operator", r#""Exists""#),
    (".effect", r#""NoSchedule""#),
    (".fsGroupChangePolicy", r#""OnRootMismatch""#),
    ("seccompProfile.type", r#""RuntimeDefault""#),
    ("appArmorProfile.type", r#""RuntimeDefault""#),
    ("hostPath.type", r#""Directory""#),
    (".medium", r#""Memory""#),
    (".mountPropagation", r#""HostToContainer""#),
    ("volumeMounts[].mountPath", r#""/w""#),
    (".hostIP", r#""192.0.2.7""#),
    ("hostAliases[].ip", r#""192.0.2.7""#),
    ("nameservers[]", r#""192.0.2.9""#),
    ("successThreshold", "1"),
];
/// Taken, and not in the table of what a running pod shows, with why.
const NOT_SHOWN: [(&str, &str); 23] = [
    ("metadata.finalizers", "an API server's matter"),
    ("spec.affinity", "a scheduler's matter"),
    ("spec.schedulerName", "a scheduler's matter"),
    ("spec.schedulingGroup", "a scheduler's matter"),
    ("spec.tolerations", "a scheduler's matter"),
    ("spec.topologySpreadConstraints", "a scheduler's matter"),
    ("spec.preemptionPolicy", "a scheduler's matter"),
    ("spec.nodeName", "a pod of another node is none of this one's"),
    ("spec.nodeSelector", "a kubelet rejects the pod"),
    ("spec.overhead", "of a runtime class"),
    ("spec.runtimeClassName", "an API server has the classes"),
    ("spec.priorityClassName", "an API server has the classes"),
    ("spec.readinessGates", "an API server has the conditions"),
    ("spec.automountServiceAccountToken", "a static pod has no service account"),
    ("spec.evictionResponders", "newer than the image's kubelet"),
    ("spec.hostUsers", "newer than the image's kubelet"),
    ("spec.hostnameOverride", "newer than the image's kubelet"),
    ("spec.resources", "newer than the image's kubelet"),
    ("spec.setHostnameAsFQDN", "shows with a domain that the node does not have"),
    ("spec.containers[].restartPolicy", "newer than the image's kubelet"),
    ("spec.containers[].stdinOnce", "nobody attaches to a static pod"),
    ("spec.containers[].terminationMessagePolicy", "shows in a status that only an API server keeps"),
    ("spec.containers[].imagePullPolicy", "shows where an image is missing: the test of the statuses"),
];

/// As good as nothing, with a place for every field to be in.
fn full() -> Value {
    let probe = json!({"exec": {"command": ["true"]}});
    let mut pod = pod();
    let mut container = pod["spec"]["containers"][0].clone();
    let more = json!({
        "ports": [{"containerPort": 7000}], "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
        "livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe,
        "volumeMounts": [{"name": "v", "mountPath": "/v"}], "resources": {"limits": {"cpu": "8", "memory": "8Gi"}},
    });
    merge(&mut container, more);
    let mut init = pod["spec"]["containers"][0].clone();
    merge(&mut init, json!({"name": "first"}));
    let spec = json!({
        "containers": [container], "initContainers": [init], "volumes": [{"name": "v", "emptyDir": {}}],
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}], "dnsConfig": {"nameservers": ["192.0.2.1"]},
        "tolerations": [{"key": "a"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway"}],
        "securityContext": {"sysctls": [{"name": "a.b", "value": "c"}]},
    });
    merge(&mut pod["spec"], spec);
    pod
}

/// Every field that the schema has, however deep: what of it PID 1 takes is in the UID, and in the table of what a running
/// pod shows or among those that show nothing.
#[test]
fn every_field_of_the_schema_makes_a_new_pod_or_is_refused() {
    let mut leaves = [leaves::<ObjectMeta>("metadata").unwrap(), leaves::<PodSpec>("spec").unwrap()].concat();
    leaves.retain(|leaf| !IDENTITY.contains(&leaf.path.as_str()));
    for leaf in &mut leaves {
        if let Some((_, sample)) = SAMPLES.iter().find(|(end, _)| leaf.path.ends_with(end)) {
            leaf.sample = serde_json::from_str(sample).unwrap();
        }
    }
    let named = |number: usize| {
        let mut pod = full();
        pod["metadata"]["name"] = format!("pod-{number}").into();
        pod
    };
    let before: Vec<Value> = (0..leaves.len()).map(named).collect();
    let after = leaves.iter().zip(before.clone()).map(|(leaf, mut pod)| {
        // A volume is one thing and nothing else.
        let kind = leaf.path.strip_prefix("spec.volumes[].").filter(|kind| !kind.starts_with("emptyDir"));
        if kind.is_some_and(|kind| kind != "name") {
            pod["spec"]["volumes"][0] = json!({"name": "v"});
        }
        merge(&mut pod, leaf.alone());
        pod
    });
    let (before, after) = (uids(&before), uids(&after.collect::<Vec<_>>()));
    assert_eq!(before.len(), leaves.len(), "each is taken as it is at first");
    let (mut as_before, mut new) = (Vec::new(), Vec::new());
    for (number, leaf) in leaves.iter().enumerate() {
        let name = format!("pod-{number}");
        // What is refused changes no pod that runs.
        let Some(now) = after.get(&name) else { continue };
        let is_same = before.get(&name) == Some(now);
        if is_same { &mut as_before } else { &mut new }.push(leaf.path.as_str());
    }
    eprintln!("a new pod, {} of {}:\n{}", new.len(), leaves.len(), new.join("\n"));
    let unlike = as_before
        .iter()
        .find(|path| **path != IMAGE && !OF_THE_SERVER.iter().any(|start| path.starts_with(start)));
    assert_eq!(unlike, None, "changes nothing");
    assert!(as_before.contains(&IMAGE));
    assert!(new.len() > 200, "{} of {}", new.len(), leaves.len());

    let shown: Vec<String> = FIELDS.iter().map(|field| field.path.replace("[0]", "[]")).collect();
    let is_in = |path: &str, whole: &str| {
        path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
    };
    let unknown: Vec<&&str> = new
        .iter()
        .filter(|path| {
            // A field of the table stands for those beside it in the same struct.
            let is_shown = shown.iter().any(|field| is_in(path, field) || is_in(field, &outer(path)));
            !is_shown && !NOT_SHOWN.iter().any(|(field, _)| is_in(path, field))
        })
        .collect();
    assert!(unknown.is_empty(), "neither in the table nor among those that show nothing: {unknown:#?}");
    for (field, why) in NOT_SHOWN {
        assert!(new.iter().any(|path| is_in(path, field)), "{field} ({why}): no such field is taken");
    }
}

/// The field of the pod or of its container that this one is in.
fn outer(path: &str) -> String {
    let depth = if path.starts_with("spec.containers[].") { 3 } else { 2 };
    let field = path.split('.').take(depth).collect::<Vec<_>>().join(".");
    field.trim_end_matches(['[', ']', '{', '}']).to_owned()
}

/// Of each pod that is taken.
fn uids(pods: &[Value]) -> BTreeMap<String, String> {
    let outcome = parsed("{}", pods);
    let manifests = outcome["manifests"].as_array().unwrap();
    let text = |manifest: &Value, key: &str| manifest[key].as_str().unwrap().to_owned();
    manifests.iter().map(|manifest| (text(manifest, "name"), text(manifest, "uid"))).collect()
}

/// Puts one value over another: maps key by key, lists by their first items.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => {
            for value in from {
                match into.first_mut() {
                    Some(first) => merge(first, value),
                    None => into.push(value),
                }
            }
        }
        (into, from) => *into = from,
    }
}
