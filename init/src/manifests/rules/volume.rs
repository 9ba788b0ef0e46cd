//! Rules over one volume. Its source is whichever key stands beside `name`, so they look at it as written too; those
//! about sources that are API objects are in `references.rs`.

use super::{Findings, Path, Rule, descends, environment, goes_up, one_of, rule, shaped, within};
use crate::manifests::{names, quantity};
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Volume};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Checks a volume as decoded and as written, which stands at the path.
pub(super) type Check = fn(&Volume, &Map<String, Value>, &Path<'_>, &mut Findings<'_>);

pub(super) const RULES: &[Rule<Check>] = &[
    rule("volume name", "validation.go: ValidateVolumes", name),
    rule("one volume source", "validation.go: validateVolumeSource", one_source),
    rule("host path", "validation.go: validateHostPathVolumeSource; absolute: Podium", host_path),
    rule("host path type", "validation.go: validateHostPathType", host_path_type),
    rule("empty dir medium", "pkg/volume/emptydir/empty_dir.go: SetUpAt", medium),
    rule("empty dir size", "validation.go: validateVolumeSource", size_limit),
    rule("nfs", "validation.go: validateNFSVolumeSource", nfs),
    rule("image volume", "validation.go: validateVolumeSource", image),
    rule("downward files", "validation.go: validateDownwardAPIVolumeFile", downward_files),
    rule("projection source", "util.go: HasAPIObjectReference", projection_source),
    rule("projected paths", "validation.go: validateProjectionSources", projected_paths),
    rule(
        "file modes",
        "validation.go: validateProjectedVolumeSource, validateDownwardAPIVolumeSource",
        modes,
    ),
];

/// `hostPath.type`.
const HOST_PATH_TYPES: [&str; 8] =
    ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

/// What a file of a downward volume may hold, beside resources.
const FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn name(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    shaped(&volume.name, names::is_label, names::LABEL, &at.key("name"), findings);
}

fn one_source(_: &Volume, written: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let mut given =
        written.iter().filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key);
    match (given.next(), given.next()) {
        (None, _) => findings.error_with(at, "the volume has no source", "add one, e.g. emptyDir: {}"),
        (Some(_), None) => {}
        (Some(first), Some(second)) => {
            let message = format!("the volume has two sources, {first} and {second}");
            findings.error_with(at, message, "keep one of them");
        }
    }
}

fn host_path(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(host) = &volume.host_path else { return };
    let at = at.key("hostPath");
    let at = at.key("path");
    if !host.path.starts_with('/') {
        findings.error(&at, format!("{:?} is not an absolute path", host.path));
    }
    if goes_up(&host.path) {
        findings.error(&at, "must not contain `..`");
    }
}

fn host_path_type(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let kind = volume.host_path.as_ref().and_then(|host| host.type_.as_ref());
    one_of(kind, &HOST_PATH_TYPES, &at.key("hostPath").key("type"), findings);
}

fn medium(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let medium = volume.empty_dir.as_ref().and_then(|dir| dir.medium.as_ref());
    let medium = medium.filter(|medium| !medium.starts_with("HugePages-"));
    one_of(medium, &["Memory", "HugePages"], &at.key("emptyDir").key("medium"), findings);
}

fn size_limit(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let limit = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref());
    if limit.is_some_and(|limit| quantity::parse(&limit.0).is_some_and(|nano| nano < 0)) {
        findings.error(&at.key("emptyDir").key("sizeLimit"), "must not be negative");
    }
}

fn nfs(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(nfs) = &volume.nfs else { return };
    let at = at.key("nfs");
    if nfs.server.is_empty() {
        findings.error(&at.key("server"), "missing");
    }
    if !nfs.path.starts_with('/') {
        findings.error(&at.key("path"), format!("{:?} is not an absolute path", nfs.path));
    }
}

fn image(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(image) = &volume.image else { return };
    let at = at.key("image");
    if image.reference.as_ref().is_none_or(String::is_empty) {
        findings.error(&at.key("reference"), "missing");
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(image.pull_policy.as_ref(), &policies, &at.key("pullPolicy"), findings);
}

fn downward_files(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let own = at.key("downwardAPI");
    let items = volume.downward_api.as_ref().and_then(|source| source.items.as_ref());
    let list = own.key("items");
    for (index, file) in items.into_iter().flatten().enumerate() {
        downward_file(file, &list.index(index), findings);
    }
    let projected = at.key("projected");
    let sources = projected.key("sources");
    for (source, items) in projected_items(volume) {
        let source = sources.index(source);
        let list = source.key("downwardAPI");
        let list = list.key("items");
        for (index, file) in items.iter().enumerate() {
            downward_file(file, &list.index(index), findings);
        }
    }
}

fn downward_file(file: &DownwardAPIVolumeFile, at: &Path<'_>, findings: &mut Findings<'_>) {
    if file.path.is_empty() {
        findings.error(&at.key("path"), "missing");
    } else if !descends(&file.path) || file.path.starts_with("..") {
        findings.error(&at.key("path"), "must be a path inside the volume that does not begin with `..`");
    }
    match (&file.field_ref, &file.resource_field_ref) {
        (None, None) => findings.error(at, "needs fieldRef or resourceFieldRef"),
        (Some(_), Some(_)) => findings.error(at, "has both fieldRef and resourceFieldRef"),
        (Some(field), None) => environment::field(field, &FIELDS, &at.key("fieldRef"), findings),
        (None, Some(resource)) => {
            let at = at.key("resourceFieldRef");
            if resource.container_name.as_ref().is_none_or(String::is_empty) {
                findings.error(&at.key("containerName"), "missing");
            }
            environment::resource(resource, &at, findings);
        }
    }
    if let Some(mode) = file.mode {
        within(mode.into(), 0, 0o777, &at.key("mode"), findings);
    }
}

fn projection_source(
    volume: &Volume,
    written: &Map<String, Value>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if volume.projected.is_none() {
        return;
    }
    let at = at.key("projected");
    let list = at.key("sources");
    let sources = written.get("projected").and_then(|projected| projected.get("sources"));
    for (index, source) in sources.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let source = source.as_object().into_iter().flatten();
        match source.filter(|(_, value)| !value.is_null()).count() {
            1 => {}
            0 => findings.error_with(&list.index(index), "the source is empty", "write downwardAPI"),
            _ => findings.error_with(&list.index(index), "has more than one kind", "keep one of them"),
        }
    }
}

fn projected_paths(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let mut seen = BTreeSet::new();
    let projected = at.key("projected");
    let sources = projected.key("sources");
    for (source, items) in projected_items(volume) {
        let source = sources.index(source);
        let list = source.key("downwardAPI");
        let list = list.key("items");
        for (index, file) in items.iter().enumerate() {
            if !file.path.is_empty() && !seen.insert(file.path.as_str()) {
                let message = format!("the path {:?} is used twice in the volume", file.path);
                findings.error(&list.index(index).key("path"), message);
            }
        }
    }
}

/// The downward files of a projected volume, by the number of their source.
fn projected_items(volume: &Volume) -> impl Iterator<Item = (usize, &[DownwardAPIVolumeFile])> {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    sources.enumerate().filter_map(|(index, source)| {
        Some((index, source.downward_api.as_ref().and_then(|source| source.items.as_deref())?))
    })
}

fn modes(volume: &Volume, _: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let downward = volume.downward_api.as_ref().and_then(|source| source.default_mode);
    let projected = volume.projected.as_ref().and_then(|source| source.default_mode);
    for (key, mode) in [("downwardAPI", downward), ("projected", projected)] {
        if let Some(mode) = mode {
            within(mode.into(), 0, 0o777, &at.key(key).key("defaultMode"), findings);
        }
    }
}
