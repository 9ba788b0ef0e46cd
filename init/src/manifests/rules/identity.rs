//! What a pod is and what it is called: the rules that are checked on the pod as written, before it is decoded.

use crate::manifests::names;
use crate::manifests::path::{Findings, Path};
use crate::manifests::{Identity, MAX_ID};
use serde_json::{Map, Value};

const KIND: &str = "kind";
const API_VERSION: &str = "api version";
const GENERATE_NAME: &str = "generate name";
const POD_NAME: &str = "pod name";
const NAMESPACE: &str = "namespace";
const ID_LENGTH: &str = "id length";
/// The rule that `strict.rs` holds.
pub(in crate::manifests) const SCHEMA: &str = "schema";

/// Name and source of each.
pub(super) const RULES: [(&str, &str); 7] = [
    (KIND, "common.go: tryDecodeSinglePod"),
    (API_VERSION, "common.go: tryDecodeSinglePod"),
    (GENERATE_NAME, "Podium: a static pod's name must stay the same"),
    (POD_NAME, "validation.go: ValidatePodName"),
    (NAMESPACE, "validation.go: ValidateNamespaceName"),
    (ID_LENGTH, "Podium: the kubelet's pod folder must be a legal file name"),
    (SCHEMA, "staging/src/k8s.io/api/core/v1/types.go: Pod; unknown fields: Podium"),
];

/// Whether it is a pod at all; if not, looking further would only add noise.
pub(in crate::manifests) fn check_kind(
    written: &Map<String, Value>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) -> bool {
    let text = |key: &str| written.get(key).and_then(Value::as_str).unwrap_or_default();
    findings.enter(KIND);
    let kind_at = at.key("kind");
    match text("kind") {
        "Pod" => {}
        "" => {
            findings.error_with(&kind_at, "missing", "write kind: Pod");
            return !written.contains_key("kind");
        }
        kind if kind.ends_with("List") => {
            findings.error_with(&kind_at, format!("a {kind} is not a pod"), "list its items one by one");
            return false;
        }
        kind => {
            let remedy =
                "the node runs kind: Pod alone; take what stands under spec.template, if there is one";
            findings.error_with(&kind_at, format!("a {kind} is not a pod"), remedy);
            return false;
        }
    }
    findings.enter(API_VERSION);
    let version_at = at.key("apiVersion");
    match text("apiVersion") {
        "v1" => true,
        "" => {
            findings.error_with(&version_at, "missing", "write apiVersion: v1");
            !written.contains_key("apiVersion")
        }
        version => {
            findings.error_with(&version_at, format!("{version:?} has no kind Pod"), "write apiVersion: v1");
            false
        }
    }
}

/// The writer's rule 4: the names that tell pods and files apart.
pub(in crate::manifests) fn check_names(
    pod: &Value,
    identity: Option<&Identity<'_>>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let at = &at.key("metadata");
    findings.enter(GENERATE_NAME);
    if pod.pointer("/metadata/generateName").is_some_and(|name| !name.is_null() && name != "") {
        findings.error_with(
            &at.key("generateName"),
            "a static pod's name must stay the same",
            "write a name",
        );
    }
    findings.enter(POD_NAME);
    let Some(identity) = identity else {
        // What has a wrong type is told when it is read.
        let metadata = pod.get("metadata").unwrap_or(&Value::Null);
        let name = metadata.get("name").unwrap_or(&Value::Null);
        if (metadata.is_object() || metadata.is_null()) && (name.is_null() || name == "") {
            findings.error(&at.key("name"), "missing");
        }
        return;
    };
    if !names::is_subdomain(identity.name) {
        let message = format!("{:?} is not a legal name", identity.name);
        findings.error_with(&at.key("name"), message, names::SUBDOMAIN);
    }
    findings.enter(NAMESPACE);
    if !names::is_label(identity.namespace) {
        let message = format!("{:?} is not a legal namespace", identity.namespace);
        findings.error_with(&at.key("namespace"), message, names::LABEL);
    }
    findings.enter(ID_LENGTH);
    let length = identity.namespace.len() + identity.name.len();
    if length > MAX_ID {
        let message = format!("with the namespace it has {length} letters, more than {MAX_ID}");
        findings.error(&at.key("name"), message);
    }
}
