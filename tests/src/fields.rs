//! Every field of a static pod that a config may change: another value for it, and how a running pod shows that it
//! took effect.
//!
//! With a stable UID (`machine.kubelet.stablePodUID`) a changed image restarts the container in its pod; every other
//! change must become a new pod, for newer kubelets silently ignore changes of a pod that keeps its UID. So each of
//! these alone must give another UID, and each must be seen by its effect on a running node, where several of them change
//! in one pod ([`together`]). `tests/ns/fields.rs` holds the table against Kubernetes' own schema.

use serde_json::{Value, json};

/// What a process of the changed pod shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// One of its arguments is this.
    Word(&'static str),
    /// Its environment has this.
    Environment(&'static str),
    /// This line of `/proc/PID/status` has this value.
    Status(&'static str, &'static str),
    /// It is in this group, beside that of its user and those that other fields give it.
    InGroup(&'static str),
    /// `/proc/PID/<file>` has this text.
    Proc(&'static str, &'static str),
    /// A file as the process sees it has this text.
    File(&'static str, &'static str),
    /// `/proc/PID/<link>` leads there.
    Link(&'static str, &'static str),
    /// It shares this namespace with PID 1.
    SharesWithNode(&'static str),
    /// This file of its cgroup has this text.
    Cgroup(&'static str, &'static str),
    /// A process with this argument runs beside it in the pod.
    Beside(&'static str),
    /// Nothing on the process: a new pod has it from its manifest, so the new UID is the proof.
    NewPod,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its path, as errors name it.
    pub path: &'static str,
    /// JSON pointers below the pod and the JSON that goes there; more than one where a field needs another.
    pub change: &'static [(&'static str, &'static str)],
    /// The effect.
    pub shows: Shows,
}

/// The pod before any change: [`FIELDS`] start from it. It runs the tests' own image.
#[must_use]
pub fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "field", "namespace": "default", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "field", "image": "podium.local/guest:1", "imagePullPolicy": "Never",
                "args": ["sleep", "field-1"], "env": [{"name": "MODE", "value": "one"}], "resources": {},
                "securityContext": {}, "volumeMounts": [],
            }],
            "securityContext": {}, "volumes": [],
        },
    })
}

impl Field {
    /// [`pod`] with this one changed.
    ///
    /// # Errors
    /// The table is wrong: no JSON, or a pointer into nothing.
    pub fn changed(&self) -> anyhow::Result<Value> {
        let mut pod = pod();
        self.change(&mut pod)?;
        Ok(pod)
    }

    /// Changes this one in a pod that comes from [`pod`].
    ///
    /// # Errors
    /// As for [`Self::changed`].
    pub fn change(&self, pod: &mut Value) -> anyhow::Result<()> {
        for (pointer, value) in self.change {
            let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
            let value: Value = serde_json::from_str(value)?;
            match pod.pointer_mut(parent) {
                Some(Value::Object(map)) => drop(map.insert(key.to_owned(), value)),
                Some(Value::Array(list)) => list.push(value),
                _ => anyhow::bail!("{}: {pointer} leads nowhere", self.path),
            }
        }
        Ok(())
    }

    /// Whether one pod can have both changes and show both effects.
    fn goes_with(&self, other: &Self) -> bool {
        let is_pair = |(one, two): &(&str, &str)| {
            (self.path, other.path) == (*one, *two) || (self.path, other.path) == (*two, *one)
        };
        let overlap = |one: &(&str, &str), two: &(&str, &str)| {
            let is_within = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            let in_one_list = one.0 == two.0 && one.0.ends_with("/-");
            one.0 == two.0 && !in_one_list || one == two || is_within(one.0, two.0) || is_within(two.0, one.0)
        };
        // Two mounts of one path, and two volumes of one name.
        let is_volume = |field: &Self| field.path.starts_with("spec.containers[0].volumeMounts");
        let is_apart = APART.iter().any(is_pair)
            || is_volume(self) && is_volume(other)
            || self.change.iter().any(|one| other.change.iter().any(|two| overlap(one, two)));
        !is_apart
    }
}

/// Fields that Kubernetes refuses together, or of which one hides the other's effect.
const APART: &[(&str, &str)] = &[
    ("spec.hostPID", "spec.shareProcessNamespace"),
    ("spec.hostIPC", "spec.securityContext.sysctls"),
    ("spec.hostNetwork", "spec.hostname"),
    ("spec.hostNetwork", "spec.subdomain"),
    ("spec.hostNetwork", "spec.hostAliases"),
];

/// Every field once, in as few pods as they fit into.
#[must_use]
pub fn together() -> Vec<Vec<&'static Field>> {
    let mut pods: Vec<Vec<&Field>> = Vec::new();
    for field in FIELDS {
        match pods.iter_mut().find(|pod| pod.iter().all(|other| field.goes_with(other))) {
            Some(pod) => pod.push(field),
            None => pods.push(vec![field]),
        }
    }
    pods
}

const fn field(path: &'static str, change: &'static [(&'static str, &'static str)], shows: Shows) -> Field {
    Field { path, change, shows }
}

/// Every field but `spec.containers[].image`, which alone changes in place.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field("metadata.labels", &[("/metadata/labels/a", r#""c""#)], Shows::NewPod),
    field("metadata.annotations", &[("/metadata/annotations/c", r#""e""#)], Shows::NewPod),
    field("spec.containers[0].name", &[("/spec/containers/0/name", r#""other""#)], Shows::NewPod),
    field("spec.containers[0].args", &[("/spec/containers/0/args", r#"["sleep", "field-2"]"#)], Shows::Word("field-2")),
    field("spec.containers[0].command", &[("/spec/containers/0/command", r#"["/guest", "sleep", "by-command"]"#)], Shows::Word("by-command")),
    field("spec.containers[0].workingDir", &[("/spec/containers/0/workingDir", r#""/proc""#)], Shows::Link("cwd", "/proc")),
    field("spec.containers[0].env", &[("/spec/containers/0/env", r#"[{"name": "MODE", "value": "two"}]"#)], Shows::Environment("MODE=two")),
    field("spec.containers[0].env[].valueFrom", &[("/spec/containers/0/env/-", r#"{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}"#)], Shows::Environment("POD=default")),
    field("spec.containers[0].ports", &[("/spec/containers/0/ports", r#"[{"containerPort": 7000, "hostPort": 7000}]"#)], Shows::NewPod),
    field("spec.containers[0].resources.limits.memory", &[("/spec/containers/0/resources", r#"{"limits": {"memory": "48Mi"}}"#)], Shows::Cgroup("memory.max", "50331648")),
    field("spec.containers[0].resources.limits.cpu", &[("/spec/containers/0/resources", r#"{"limits": {"cpu": "500m"}}"#)], Shows::Cgroup("cpu.max", "50000 100000")),
    field("spec.containers[0].resources.requests.cpu", &[("/spec/containers/0/resources", r#"{"requests": {"cpu": "200m"}}"#)], Shows::NewPod),
    field("spec.containers[0].volumeMounts", &[("/spec/volumes/-", r#"{"name": "v", "emptyDir": {}}"#), ("/spec/containers/0/volumeMounts/-", r#"{"name": "v", "mountPath": "/seen-mount"}"#)], Shows::Proc("mountinfo", " /seen-mount ")),
    field("spec.containers[0].volumeMounts[].readOnly", &[("/spec/volumes/-", r#"{"name": "v", "emptyDir": {}}"#), ("/spec/containers/0/volumeMounts/-", r#"{"name": "v", "mountPath": "/seen-mount", "readOnly": true}"#)], Shows::Proc("mountinfo", " /seen-mount ro")),
    field("spec.containers[0].livenessProbe", &[("/spec/containers/0/livenessProbe", r#"{"exec": {"command": ["/guest"]}, "periodSeconds": 600, "initialDelaySeconds": 600}"#)], Shows::NewPod),
    field("spec.containers[0].readinessProbe", &[("/spec/containers/0/readinessProbe", r#"{"exec": {"command": ["/guest"]}, "periodSeconds": 600, "initialDelaySeconds": 600}"#)], Shows::NewPod),
    field("spec.containers[0].startupProbe", &[("/spec/containers/0/startupProbe", r#"{"exec": {"command": ["/guest"]}, "periodSeconds": 600, "initialDelaySeconds": 600}"#)], Shows::NewPod),
    field("spec.containers[0].lifecycle", &[("/spec/containers/0/lifecycle", r#"{"preStop": {"exec": {"command": ["/guest"]}}}"#)], Shows::NewPod),
    field("spec.containers[0].terminationMessagePath", &[("/spec/containers/0/terminationMessagePath", r#""/last-words""#)], Shows::Proc("mountinfo", " /last-words ")),
    field("spec.containers[0].stdin", &[("/spec/containers/0/stdin", "true")], Shows::NewPod),
    field("spec.containers[0].tty", &[("/spec/containers/0/tty", "true")], Shows::Proc("mountinfo", " /dev/console ")),
    field("spec.containers[0].securityContext.runAsUser", &[("/spec/containers/0/securityContext", r#"{"runAsUser": 1234}"#)], Shows::Status("Uid", "1234\t1234\t1234\t1234")),
    field("spec.containers[0].securityContext.runAsGroup", &[("/spec/containers/0/securityContext", r#"{"runAsUser": 1234, "runAsGroup": 4321}"#)], Shows::Status("Gid", "4321\t4321\t4321\t4321")),
    field("spec.containers[0].securityContext.capabilities", &[("/spec/containers/0/securityContext", r#"{"runAsUser": 0, "capabilities": {"drop": ["ALL"]}}"#)], Shows::Status("CapBnd", "0000000000000000")),
    field("spec.containers[0].securityContext.privileged", &[("/spec/containers/0/securityContext", r#"{"runAsUser": 0, "privileged": true}"#)], Shows::Proc("mountinfo", " /sys rw")),
    field("spec.containers[0].securityContext.readOnlyRootFilesystem", &[("/spec/containers/0/securityContext", r#"{"readOnlyRootFilesystem": true}"#)], Shows::Proc("mountinfo", " / ro")),
    field("spec.containers[0].securityContext.allowPrivilegeEscalation", &[("/spec/containers/0/securityContext", r#"{"allowPrivilegeEscalation": false}"#)], Shows::Status("NoNewPrivs", "1")),
    field("spec.containers[0].securityContext.seccompProfile", &[("/spec/containers/0/securityContext", r#"{"seccompProfile": {"type": "RuntimeDefault"}}"#)], Shows::Status("Seccomp", "2")),
    field("spec.containers (one more)", &[("/spec/containers/-", r#"{"name": "more", "image": "podium.local/guest:1", "imagePullPolicy": "Never", "args": ["sleep", "field-more"]}"#)], Shows::Beside("field-more")),
    field("spec.initContainers", &[("/spec/initContainers", r#"[{"name": "first", "image": "podium.local/guest:1", "imagePullPolicy": "Never", "args": ["true"]}]"#)], Shows::NewPod),
    field("spec.securityContext.fsGroup", &[("/spec/securityContext", r#"{"fsGroup": 2222}"#)], Shows::InGroup("2222")),
    field("spec.securityContext.supplementalGroups", &[("/spec/securityContext", r#"{"supplementalGroups": [3333]}"#)], Shows::InGroup("3333")),
    field("spec.securityContext.sysctls", &[("/spec/securityContext", r#"{"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}"#)], Shows::NewPod),
    field("spec.hostNetwork", &[("/spec/hostNetwork", "true")], Shows::SharesWithNode("net")),
    field("spec.hostPID", &[("/spec/hostPID", "true")], Shows::SharesWithNode("pid")),
    field("spec.hostIPC", &[("/spec/hostIPC", "true")], Shows::SharesWithNode("ipc")),
    field("spec.shareProcessNamespace", &[("/spec/shareProcessNamespace", "true")], Shows::NewPod),
    field("spec.hostname", &[("/spec/hostname", r#""seen-name""#)], Shows::File("/etc/hostname", "seen-name")),
    field("spec.subdomain", &[("/spec/hostname", r#""seen-name""#), ("/spec/subdomain", r#""seen-sub""#)], Shows::NewPod),
    field("spec.hostAliases", &[("/spec/hostAliases", r#"[{"ip": "192.0.2.7", "hostnames": ["seen-alias"]}]"#)], Shows::File("/etc/hosts", "seen-alias")),
    field("spec.dnsPolicy", &[("/spec/dnsPolicy", r#""None""#), ("/spec/dnsConfig", r#"{"nameservers": ["192.0.2.9"]}"#)], Shows::File("/etc/resolv.conf", "192.0.2.9")),
    field("spec.dnsConfig", &[("/spec/dnsConfig", r#"{"searches": ["seen.example"]}"#)], Shows::File("/etc/resolv.conf", "seen.example")),
    field("spec.volumes[].hostPath", &[("/spec/volumes/-", r#"{"name": "h", "hostPath": {"path": "/usr/lib/podium"}}"#), ("/spec/containers/0/volumeMounts/-", r#"{"name": "h", "mountPath": "/seen-host", "readOnly": true}"#)], Shows::File("/seen-host/image.json", "kubelet")),
    field("spec.volumes[].emptyDir.medium", &[("/spec/volumes/-", r#"{"name": "m", "emptyDir": {"medium": "Memory"}}"#), ("/spec/containers/0/volumeMounts/-", r#"{"name": "m", "mountPath": "/seen-memory"}"#)], Shows::Proc("mountinfo", " - tmpfs tmpfs rw")),
    field("spec.volumes[].downwardAPI", &[("/spec/volumes/-", r#"{"name": "d", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}"#), ("/spec/containers/0/volumeMounts/-", r#"{"name": "d", "mountPath": "/seen-down"}"#)], Shows::File("/seen-down/name", "field")),
    field("spec.terminationGracePeriodSeconds", &[("/spec/terminationGracePeriodSeconds", "2")], Shows::NewPod),
    field("spec.activeDeadlineSeconds", &[("/spec/activeDeadlineSeconds", "86400")], Shows::NewPod),
    field("spec.restartPolicy", &[("/spec/restartPolicy", r#""OnFailure""#)], Shows::NewPod),
    field("spec.priority", &[("/spec/priority", "7")], Shows::NewPod),
    field("spec.enableServiceLinks", &[("/spec/enableServiceLinks", "false")], Shows::NewPod),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_field_is_there_once_and_changes_the_pod() {
        let paths: BTreeSet<_> = FIELDS.iter().map(|field| field.path).collect();
        assert_eq!(paths.len(), FIELDS.len());
        let pods: BTreeSet<String> = FIELDS
            .iter()
            .map(|field| field.changed().unwrap().to_string())
            .chain([pod().to_string()])
            .collect();
        assert_eq!(pods.len(), FIELDS.len() + 1);
        for field in FIELDS {
            let image = |pod: &Value| pod["spec"]["containers"][0]["image"].clone();
            assert_eq!(image(&field.changed().unwrap()), image(&pod()), "{}", field.path);
        }
    }

    #[test]
    fn together_every_field_is_in_one_pod_and_keeps_its_change() {
        let pods = together();
        let all: Vec<_> = pods.iter().flatten().map(|field| field.path).collect();
        assert_eq!(all.len(), FIELDS.len());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), FIELDS.len());
        assert!(pods.len() < FIELDS.len() / 3, "{} pods", pods.len());
        for fields in pods {
            let mut together = pod();
            for field in &fields {
                field.change(&mut together).unwrap();
            }
            for field in fields {
                let mut again = together.clone();
                // What is set is set as before; only what is appended comes a second time.
                field.change(&mut again).unwrap();
                let appends = field.change.iter().any(|(pointer, _)| pointer.ends_with("/-"));
                assert_eq!(again == together, !appends, "{}", field.path);
            }
        }
    }

    #[test]
    fn a_pointer_into_nothing_is_an_error_of_the_table() {
        let wrong = field("x", &[("/spec/none/a", "1")], Shows::NewPod);
        assert!(wrong.changed().is_err());
    }
}
