//! Rules over `metadata`.

use super::{Check, Facts, Findings, Path, Rule, lists, rule};
use crate::manifests::envelope::Metadata;
use crate::manifests::names;
use std::collections::BTreeMap;

pub(super) const RULES: &[Rule<Check<Metadata>>] = &[
    rule("labels", "apimachinery/pkg/apis/meta/v1/validation/validation.go: ValidateLabels", labels),
    rule(
        "annotation keys",
        "apimachinery/pkg/api/validation/objectmeta.go: ValidateAnnotations",
        annotations,
    ),
    rule("annotation size", "apimachinery/pkg/api/validation/objectmeta.go: ValidateAnnotationsSize", size),
    rule("apparmor annotations", "validation.go: ValidateAppArmorPodAnnotations", apparmor),
    rule("owner", "Podium: nothing owns a static pod", owner),
];

/// Kubernetes's bound for all annotations of an object together, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What an annotation that names a container's AppArmor profile begins with.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

fn labels(metadata: &Metadata, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    label_map(metadata.labels.as_ref(), &at.key("labels"), findings);
}

/// Keys and values of a label map or of a selector.
pub(super) fn label_map(map: Option<&BTreeMap<String, String>>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, value) in map.into_iter().flatten() {
        if !names::is_label_key(key) {
            findings.error_with(&at.key(key), "not a legal label key", names::LABEL_KEY);
        }
        if !names::is_label_value(value) {
            let message = format!("{value:?} is not a legal label value");
            findings.error_with(&at.key(key), message, names::LABEL_VALUE);
        }
    }
}

fn annotations(metadata: &Metadata, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("annotations");
    for key in metadata.annotations.iter().flatten().map(|(key, _)| key) {
        // Kubernetes lowers letters before it looks at an annotation's key.
        if !names::is_label_key(&key.to_ascii_lowercase()) {
            findings.error_with(&at.key(key), "not a legal annotation key", names::LABEL_KEY);
        }
    }
}

fn size(metadata: &Metadata, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let all = metadata.annotations.iter().flatten();
    let size: usize = all.map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        let message = format!("{size} bytes are more than the {MAX_ANNOTATIONS} that Kubernetes takes");
        findings.error(&at.key("annotations"), message);
    }
}

fn apparmor(metadata: &Metadata, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("annotations");
    for (key, profile) in metadata.annotations.iter().flatten() {
        let Some(name) = key.strip_prefix(APPARMOR) else { continue };
        let mut containers = facts.spec().into_iter().flat_map(lists).flat_map(|(_, list)| list);
        if !containers.any(|container| container.name == name) {
            findings.error(&at.key(key), format!("no container is named {name:?}"));
        }
        let known = ["", "runtime/default", "unconfined"].contains(&profile.as_str());
        if !known && !profile.starts_with("localhost/") {
            let remedy = "use runtime/default, unconfined or localhost/<profile>";
            findings.error_with(&at.key(key), format!("{profile:?} is not an AppArmor profile"), remedy);
        }
    }
}

fn owner(metadata: &Metadata, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()) {
        findings.error_with(&at.key("ownerReferences"), "a static pod has no owner", "leave it out");
    }
}
