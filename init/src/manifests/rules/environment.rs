//! Rules over a container's environment, and over the fields and resources of a pod that it may be told.

use super::{
    ContainerCheck, Facts, Findings, Path, Rule, descends, exactly_one_of, rule, shaped, shaped_if_any,
};
use crate::manifests::{names, quantity};
use k8s_openapi::api::core::v1::{Container, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector};

pub(super) const RULES: &[Rule<ContainerCheck>] = &[
    rule("variable name", "validation.go: ValidateEnv", variable_names),
    rule("variable prefix", "validation.go: ValidateEnvFrom", prefixes),
    rule("variable value", "validation.go: validateEnvVarValueFrom", value_or_source),
    rule("variable source", "validation.go: validateEnvVarValueFrom", one_source),
    rule("environment source", "validation.go: ValidateEnvFrom", one_list_source),
    rule("variable field", "validation.go: validateObjectFieldSelector", fields),
    rule("variable resource", "validation.go: validateContainerResourceFieldSelector", resources),
    rule("variable file", "validation.go: validateFileKeySelector", files),
];

/// What [`names::is_variable`] asks for.
const VARIABLE: &str = "use printable ASCII without `=`";

/// What a variable may hold, beside labels, annotations and resources.
const FIELDS: [&str; 10] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Resources of a container that it may be told, after `limits.` and `requests.`.
const RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// Divisors of what is counted in bytes.
const BYTES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

fn variable_names(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("env");
    for (index, variable) in container.env.iter().flatten().enumerate() {
        shaped(&variable.name, names::is_variable, VARIABLE, &list.index(index).key("name"), findings);
    }
}

fn prefixes(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("envFrom");
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        let at = list.index(index);
        shaped_if_any(from.prefix.as_ref(), names::is_variable, VARIABLE, &at.key("prefix"), findings);
    }
}

/// The variables that are told something, with their place.
fn each_source(
    container: &Container,
    at: &Path<'_>,
    mut act: impl FnMut(&EnvVarSource, Option<&String>, &Path<'_>),
) {
    let list = at.key("env");
    for (index, variable) in container.env.iter().flatten().enumerate() {
        if let Some(from) = &variable.value_from {
            act(from, variable.value.as_ref(), &list.index(index).key("valueFrom"));
        }
    }
}

fn value_or_source(
    container: &Container,
    _: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    each_source(container, at, |_, value, at| {
        if value.is_some_and(|value| !value.is_empty()) {
            findings.error_with(at, "the variable has a value already", "keep either value or valueFrom");
        }
    });
}

fn one_source(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_source(container, at, |from, _, at| {
        let given = [
            from.config_map_key_ref.is_some(),
            from.field_ref.is_some(),
            from.file_key_ref.is_some(),
            from.resource_field_ref.is_some(),
            from.secret_key_ref.is_some(),
        ];
        super::one_handler(&given, "fieldRef, fileKeyRef or resourceFieldRef", at, findings);
    });
}

fn one_list_source(
    container: &Container,
    _: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let list = at.key("envFrom");
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        if from.config_map_ref.is_none() && from.secret_ref.is_none() {
            findings.error_with(&list.index(index), "has no source", "leave it out, and write env");
        }
    }
}

fn fields(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_source(container, at, |from, _, at| {
        if let Some(selector) = &from.field_ref {
            field(selector, &FIELDS, &at.key("fieldRef"), findings);
        }
    });
}

/// A field of the pod out of `legal`, or one label or annotation.
pub(super) fn field(
    selector: &ObjectFieldSelector,
    legal: &[&str],
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let version = selector.api_version.as_ref().filter(|version| !version.is_empty());
    exactly_one_of(version, &["v1"], &at.key("apiVersion"), findings);
    let at = &at.key("fieldPath");
    let path = &selector.field_path;
    let subscript = path.strip_suffix("']").and_then(|path| path.split_once("['"));
    match subscript {
        _ if path.is_empty() => findings.error(at, "missing"),
        Some(("metadata.labels", key)) if names::is_label_key(key) => {}
        Some(("metadata.annotations", key)) if names::is_label_key(&key.to_ascii_lowercase()) => {}
        Some(_) => {
            let remedy = "write metadata.labels['<key>'] or metadata.annotations['<key>']";
            findings.error_with(at, format!("{path:?} is no field of a pod"), remedy);
        }
        None => exactly_one_of(Some(path), legal, at, findings),
    }
}

fn resources(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_source(container, at, |from, _, at| {
        if let Some(selector) = &from.resource_field_ref {
            resource(selector, &at.key("resourceFieldRef"), findings);
        }
    });
}

/// A container's limit or request, and what it is divided by.
pub(super) fn resource(selector: &ResourceFieldSelector, at: &Path<'_>, findings: &mut Findings<'_>) {
    let path = &at.key("resource");
    let name = &selector.resource;
    let resource = name.strip_prefix("limits.").or_else(|| name.strip_prefix("requests."));
    if name.is_empty() {
        return findings.error(path, "missing");
    }
    match resource {
        Some(known) if RESOURCES.contains(&known) || known.starts_with("hugepages-") => {}
        _ => {
            let remedy = "use limits. or requests. and cpu, memory, ephemeral-storage or hugepages-<size>";
            return findings.error_with(path, format!("{name:?} is no resource of a container"), remedy);
        }
    }
    let Some(divisor) = selector.divisor.as_ref().and_then(|divisor| quantity::parse(&divisor.0)) else {
        return;
    };
    let legal: &[&str] = if resource == Some("cpu") { &["1", "1m"] } else { &BYTES };
    if divisor != 0 && !legal.iter().any(|legal| quantity::parse(legal) == Some(divisor)) {
        let remedy = format!("use one of {}", legal.join(", "));
        findings.error_with(&at.key("divisor"), format!("{name} cannot be divided by it"), remedy);
    }
}

fn files(container: &Container, _: bool, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_source(container, at, |from, _, at| {
        let Some(file) = &from.file_key_ref else { return };
        let at = at.key("fileKeyRef");
        shaped(&file.key, names::is_variable, VARIABLE, &at.key("key"), findings);
        if !facts.volumes.contains(file.volume_name.as_str()) {
            findings.error(&at.key("volumeName"), format!("no volume is named {:?}", file.volume_name));
        }
        if file.path.is_empty() || !descends(&file.path) {
            findings.error(&at.key("path"), "must be a path inside the volume, without `..`");
        }
    });
}
