//! References to API objects, in all their disguises: a static pod can have none, for there is no API server to
//! fetch them from. Kubelets refuse them since 1.34; older ones leave the pod waiting for ever.

use super::{Check, ContainerCheck, Facts, Findings, Path, Rule, rule, volume};
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use serde_json::{Map, Value};

pub(super) const RULES: &[Rule<Check<PodSpec>>] = &[
    rule("service account", "util.go: HasAPIObjectReference", service_account),
    rule("pull secrets", "util.go: VisitPodSecretNames", pull_secrets),
    rule("resource claims", "util.go: HasAPIObjectReference", resource_claims),
    rule("ephemeral containers", "validation.go: ValidatePodCreate", no_ephemeral_containers),
    rule("runtime class", "pkg/kubelet/kuberuntime/kuberuntime_sandbox.go: createPodSandbox", runtime_class),
    rule("priority class", "plugin/pkg/admission/priority/admission.go: admitPod", priority_class),
];

pub(super) const CONTAINER_RULES: &[Rule<ContainerCheck>] = &[
    rule("environment from objects", "util.go: VisitPodConfigmapNames, VisitPodSecretNames", environment),
    rule("container claims", "validation.go: validateResourceClaimNames", container_claims),
];

pub(super) const VOLUME_RULES: &[Rule<volume::Check>] = &[
    rule("volumes from objects", "util.go: HasAPIObjectReference", sources),
    rule("volume secrets", "util.go: VisitPodSecretNames", secrets),
    rule("projected objects", "util.go: HasAPIObjectReference", projections),
];

/// Why a reference to an API object is refused.
const NO_API: &str = "a static pod cannot refer to API objects: there is no API server to fetch them from";
/// What to do instead of a ConfigMap or Secret in the environment.
const WRITE_VALUE: &str = "write the value here, or a file with machine.files and mount it by hostPath";
/// What to do instead of one as a volume.
const WRITE_FILE: &str = "write a file with machine.files and mount it by hostPath";

/// Volumes that are API objects, or are found by way of them.
const API_SOURCES: [&str; 7] =
    ["azureFile", "configMap", "csi", "ephemeral", "glusterfs", "persistentVolumeClaim", "secret"];
/// Parts of a `projected` volume that are API objects, or are signed by the API server.
const API_PROJECTIONS: [&str; 5] =
    ["clusterTrustBundle", "configMap", "podCertificate", "secret", "serviceAccountToken"];

fn service_account(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, name) in
        [("serviceAccountName", &spec.service_account_name), ("serviceAccount", &spec.service_account)]
    {
        if name.as_ref().is_some_and(|name| !name.is_empty()) {
            findings.error_with(&at.key(key), NO_API, "leave it out");
        }
    }
}

fn pull_secrets(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.image_pull_secrets.as_ref().is_some_and(|list| !list.is_empty()) {
        findings.error_with(&at.key("imagePullSecrets"), NO_API, "leave it out");
    }
}

fn resource_claims(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.resource_claims.as_ref().is_some_and(|list| !list.is_empty()) {
        findings.error_with(&at.key("resourceClaims"), NO_API, "leave it out");
    }
}

fn no_ephemeral_containers(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        let message = "ephemeral containers can only be added to a pod that runs";
        findings.error_with(&at.key("ephemeralContainers"), message, "list them under containers");
    }
}

/// A kubelet without an API server looks no class up and takes the default runtime.
fn runtime_class(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.runtime_class_name.as_ref().is_some_and(|name| !name.is_empty()) {
        let message = "a node without an API server has no RuntimeClass: the default runtime runs the pod";
        findings.warning(&at.key("runtimeClassName"), message, "leave it out");
    }
}

/// The API server turns the class into `priority`; nobody else does.
fn priority_class(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.priority.is_none() && spec.priority_class_name.as_ref().is_some_and(|name| !name.is_empty()) {
        let message = "without an API server a class has no number, so it has no effect";
        findings.warning(&at.key("priorityClassName"), message, "write priority: <number> beside it");
    }
}

fn environment(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("env");
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let Some(from) = &variable.value_from else { continue };
        for (key, used) in [
            ("configMapKeyRef", from.config_map_key_ref.is_some()),
            ("secretKeyRef", from.secret_key_ref.is_some()),
        ] {
            if used {
                findings.error_with(&list.index(index).key("valueFrom").key(key), NO_API, WRITE_VALUE);
            }
        }
    }
    let list = at.key("envFrom");
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        for (key, used) in
            [("configMapRef", from.config_map_ref.is_some()), ("secretRef", from.secret_ref.is_some())]
        {
            if used {
                findings.error_with(&list.index(index).key(key), NO_API, WRITE_VALUE);
            }
        }
    }
}

fn container_claims(
    container: &Container,
    _: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let claims = container.resources.as_ref().and_then(|resources| resources.claims.as_ref());
    if claims.is_some_and(|list| !list.is_empty()) {
        findings.error_with(&at.key("resources").key("claims"), NO_API, "leave it out");
    }
}

fn sources(_: &Volume, written: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for key in API_SOURCES {
        if given(written, key) {
            findings.error_with(&at.key(key), NO_API, WRITE_FILE);
        }
    }
}

/// Secrets of volumes that are no API objects themselves: cephfs, cinder, flexVolume, iscsi, rbd, scaleIO, storageos.
fn secrets(_: &Volume, written: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, source) in written.iter().filter(|(key, _)| !API_SOURCES.contains(&key.as_str())) {
        if source.as_object().is_some_and(|source| given(source, "secretRef")) {
            findings.error_with(&at.key(key).key("secretRef"), NO_API, "leave it out");
        }
    }
}

fn projections(_: &Volume, written: &Map<String, Value>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("projected");
    let list = at.key("sources");
    let projected = written.get("projected").and_then(|projected| projected.get("sources"));
    for (index, projection) in projected.and_then(Value::as_array).into_iter().flatten().enumerate() {
        for key in API_PROJECTIONS {
            if projection.as_object().is_some_and(|projection| given(projection, key)) {
                findings.error_with(&list.index(index).key(key), NO_API, WRITE_FILE);
            }
        }
    }
}

fn given(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_some_and(|value| !value.is_null())
}
