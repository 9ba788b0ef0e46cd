//! Rules over one volume. They look at the volume as written: its source is whichever key stands beside `name`.

use super::{Facts, Findings, NO_API, Path, one_of, shaped};
use crate::manifests::names;
use k8s_openapi::api::core::v1::Volume;
use serde_json::{Map, Value};

/// Sources that are API objects, or are provisioned by way of them.
const API_SOURCES: [&str; 4] = ["configMap", "secret", "persistentVolumeClaim", "ephemeral"];
/// Parts of a `projected` volume that are API objects, or are signed by the API server.
const API_PROJECTIONS: [&str; 5] =
    ["configMap", "secret", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
/// What to do instead.
const INSTEAD: &str = "write a file with machine.files and mount it by hostPath";
/// `hostPath.type`.
const HOST_PATH_TYPES: [&str; 8] =
    ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

/// Applies every rule to the volume that stands at `spec.volumes[index]`.
pub(super) fn check(
    volume: &Volume,
    index: usize,
    facts: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    shaped(&volume.name, names::is_label, names::LABEL, &at.key("name"), findings);
    let written = facts.written.pointer("/spec/volumes").and_then(|list| list.get(index));
    if let Some(written) = written.and_then(Value::as_object) {
        source(written, at, findings);
    }
    if let Some(host) = &volume.host_path {
        let at = at.key("hostPath");
        one_of(host.type_.as_ref(), &HOST_PATH_TYPES, &at.key("type"), findings);
        let at = at.key("path");
        if !host.path.starts_with('/') {
            findings.error(&at, format!("{:?} is not an absolute path", host.path));
        }
        if host.path.split('/').any(|part| part == "..") {
            findings.error(&at, "must not contain `..`");
        }
    }
    if let Some(medium) = volume.empty_dir.as_ref().and_then(|dir| dir.medium.as_ref())
        && !medium.starts_with("HugePages")
    {
        one_of(Some(medium), &["", "Memory", "HugePages"], &at.key("emptyDir").key("medium"), findings);
    }
}

fn source(written: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let given: Vec<_> = written.iter().filter(|(key, value)| *key != "name" && !value.is_null()).collect();
    match given.as_slice() {
        [] => findings.error_with(at, "the volume has no source", "add one, e.g. emptyDir: {}"),
        [(key, value)] => reference(key, value, &at.key(key), findings),
        [(first, _), (second, _), ..] => {
            findings.error_with(
                at,
                format!("the volume has two sources, {first} and {second}"),
                "keep one of them",
            );
        }
    }
}

/// References to API objects, in all their disguises.
fn reference(key: &str, value: &Value, at: &Path<'_>, findings: &mut Findings<'_>) {
    if API_SOURCES.contains(&key) {
        return findings.error_with(at, NO_API, INSTEAD);
    }
    for secret in ["secretRef", "nodePublishSecretRef", "secretName"] {
        if value.get(secret).is_some_and(|name| !name.is_null()) {
            findings.error_with(&at.key(secret), NO_API, INSTEAD);
        }
    }
    let list = at.key("sources");
    let projections = value.get("sources").and_then(Value::as_array).filter(|_| key == "projected");
    for (index, projection) in projections.into_iter().flatten().enumerate() {
        for source in API_PROJECTIONS {
            if projection.get(source).is_some_and(|source| !source.is_null()) {
                findings.error_with(&list.index(index).key(source), NO_API, INSTEAD);
            }
        }
    }
}
