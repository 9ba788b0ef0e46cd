//! The stable UID as PID 1's own parser gives it, for every field of the table: what the VM test shows on a kubelet.

use podium_tests::build::programs;
use podium_tests::fields::{FIELDS, pod};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// The UID in the manifest of a config with this pod alone.
fn uid(pod: &Value) -> String {
    uid_with("{}", pod)
}

/// The same with settings of the kubelet.
fn uid_with(kubelet: &str, pod: &Value) -> String {
    let config = format!("version: v1alpha1\nmachine:\n  kubelet: {kubelet}\n  pods:\n    - {pod}\n");
    let mut command = Command::new(&programs().unwrap().init);
    let mut child = command.arg("parse").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["problems"], serde_json::json!([]), "{pod}");
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
