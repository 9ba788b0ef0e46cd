//! What the fake answers: one pod with one container, three services, and a machine that never changes.

use podium_wire::cosi::{Metadata, Resource, Spec};
use podium_wire::machine::*;
use podium_wire::resources::{
    DEFINITIONS, MACHINE_CONFIGS, NODE_STATUSES, RESOURCE_DEFINITIONS, STATIC_POD_STATUSES, STATIC_PODS,
};
use prost::Message;
use prost_types::{Any, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const CONFIG: &str =
    "version: v1alpha1\nmachine:\n  # how long to wait\n  sysctls:\n    kernel.panic: \"0\"\n";

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: nginx\n  namespace: default\nspec:\n  containers:\n    - image: nginx:1.27\n      name: nginx\n";
const STATUS: &str = "conditions:\n  - status: \"True\"\n    type: Initialized\n  - status: \"True\"\n    type: Ready\nphase: Running\n";

pub(crate) fn resources(kind: &str, config: &str) -> Vec<Resource> {
    match kind {
        RESOURCE_DEFINITIONS => DEFINITIONS
            .iter()
            .map(|definition| {
                let spec = definition.to_spec();
                let mut one = resource(
                    "meta",
                    kind,
                    &definition.id(),
                    &format!("type: {}\naliases: {:?}\n", definition.kind, definition.aliases),
                );
                one.spec.as_mut().unwrap().proto_spec = spec.encode_to_vec();
                one
            })
            .collect(),
        STATIC_PODS => {
            vec![resource("k8s", kind, "default-nginx", POD), resource("k8s", kind, "kube-system-dns", POD)]
        }
        STATIC_POD_STATUSES => vec![
            resource("k8s", kind, "default/nginx-node-1", STATUS),
            resource("k8s", kind, "kube-system/dns-node-1", STATUS),
        ],
        NODE_STATUSES => vec![resource("runtime", kind, "node", "stage: running\nready: true\n")],
        MACHINE_CONFIGS => vec![resource("config", kind, "v1alpha1", config)],
        _ => Vec::new(),
    }
}

fn resource(namespace: &str, kind: &str, id: &str, yaml: &str) -> Resource {
    let stamp = Timestamp { seconds: 1_767_323_045, nanos: 0 };
    Resource {
        metadata: Some(Metadata {
            namespace: namespace.into(),
            r#type: kind.into(),
            id: id.into(),
            version: "1".into(),
            owner: "podium".into(),
            phase: "running".into(),
            created: Some(stamp),
            updated: Some(stamp),
            ..Metadata::default()
        }),
        spec: Some(Spec { yaml_spec: yaml.into(), proto_spec: Vec::new() }),
    }
}

pub(crate) fn containers(namespace: &str) -> Container {
    let one = |id: &str, image: &str, pid: u32, status: &str| ContainerInfo {
        namespace: namespace.into(),
        id: id.into(),
        pod_id: if namespace == "system" { id.into() } else { "default/nginx-node-1".into() },
        image: image.into(),
        pid,
        status: status.into(),
        ..ContainerInfo::default()
    };
    let containers = if namespace == "system" {
        vec![one("kubelet", "", 812, "RUNNING")]
    } else {
        vec![
            one(
                "default/nginx-node-1:nginx:0123456789ab",
                "docker.io/library/nginx:1.27",
                1450,
                "CONTAINER_RUNNING",
            ),
            one("default/nginx-node-1", "podium/pause:1", 1400, "SANDBOX_READY"),
        ]
    };
    Container { metadata: None, containers }
}

pub(crate) fn stats() -> Stats {
    let one = |id: &str, memory_usage, cpu_usage| Stat {
        namespace: "k8s.io".into(),
        id: id.into(),
        pod_id: "default/nginx-node-1".into(),
        memory_usage,
        cpu_usage,
        ..Stat::default()
    };
    let stats = vec![
        one("default/nginx-node-1", 45_056, 12_000_000),
        one("default/nginx-node-1:nginx:0123456789ab", 12_345_678, 987_654_321),
    ];
    Stats { metadata: None, stats }
}

pub(crate) fn services() -> ServiceList {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let hour_ago = Timestamp { seconds: i64::try_from(now).unwrap() - 3600, nanos: 0 };
    let one = |id: &str, state: &str, healthy: Option<bool>| ServiceInfo {
        id: id.into(),
        state: state.into(),
        events: Some(ServiceEvents {
            events: vec![
                ServiceEvent { msg: "Starting".into(), state: "Starting".into(), ts: Some(hour_ago) },
                ServiceEvent { msg: format!("{id} is {state}"), state: state.into(), ts: Some(hour_ago) },
            ],
        }),
        health: Some(ServiceHealth {
            unknown: healthy.is_none(),
            healthy: healthy.unwrap_or_default(),
            ..ServiceHealth::default()
        }),
    };
    let mut bare = one("apid", "Waiting", None);
    bare.events = None;
    ServiceList {
        metadata: None,
        services: vec![bare, one("containerd", "Running", Some(true)), one("kubelet", "Running", Some(true))],
    }
}

pub(crate) fn events(sequence: &str, actor: &str) -> Vec<Event> {
    let of = |kind: &str, id: &str, value: Vec<u8>| Event {
        metadata: None,
        data: Some(Any { type_url: format!("talos/runtime/machine.{kind}"), value }),
        id: id.into(),
        actor_id: actor.into(),
    };
    let sequence = SequenceEvent { sequence: sequence.into(), action: 1, error: None };
    let task = TaskEvent { task: "stopAllPods".into(), action: 0 };
    vec![of("SequenceEvent", "e1", sequence.encode_to_vec()), of("TaskEvent", "e2", task.encode_to_vec())]
}

pub(crate) fn memory() -> Memory {
    let info = MemInfo {
        memtotal: 2_097_152,
        memfree: 1_048_576,
        memavailable: 1_572_864,
        buffers: 10_240,
        cached: 512_000,
        shmem: 2048,
        ..MemInfo::default()
    };
    Memory { metadata: None, meminfo: Some(info) }
}

pub(crate) fn mounts() -> Mounts {
    let one = |filesystem: &str, size, available, mounted_on: &str| MountStat {
        filesystem: filesystem.into(),
        size,
        available,
        mounted_on: mounted_on.into(),
    };
    let stats = vec![one("proc", 0, 0, "/proc"), one("/dev/vda5", 10_000_000_000, 7_500_000_000, "/var")];
    Mounts { metadata: None, stats }
}

pub(crate) fn processes() -> Process {
    let one = |pid, executable: &str, args: &str, cpu_time, resident_memory| ProcessInfo {
        pid,
        ppid: 1,
        state: "S".into(),
        threads: 12,
        cpu_time,
        virtual_memory: 1_500_000_000,
        resident_memory,
        command: "thread".into(),
        executable: executable.into(),
        args: args.into(),
    };
    let processes = vec![
        one(1, "/init", "init", 9.5, 4_200_000),
        one(812, "/usr/bin/kubelet", "kubelet --config /etc/kubelet.yaml", 3.25, 83_000_000),
        one(2, "", "", 0.0, 0),
    ];
    Process { metadata: None, processes }
}

pub(crate) fn files() -> Vec<FileInfo> {
    let one = |name: &str, mode, size, link: &str| FileInfo {
        name: format!("/etc/{name}"),
        relative_name: name.into(),
        mode,
        size,
        link: link.into(),
        modified: 1_000_000_000,
        ..FileInfo::default()
    };
    vec![
        one(".", 1 << 31 | 0o755, 120, ""),
        one("hosts", 0o644, 54, ""),
        one("mtab", 1 << 27 | 0o777, 12, "/proc/mounts"),
    ]
}

pub(crate) fn usage(paths: &[String]) -> Vec<DiskUsageInfo> {
    let one = |name: String, relative_name: &str, size| DiskUsageInfo {
        name,
        relative_name: relative_name.into(),
        size,
        ..DiskUsageInfo::default()
    };
    let of =
        |path: &String| [one(format!("{path}/log"), "log", 12_345), one(path.clone(), ".", 9_876_543_210)];
    paths.iter().flat_map(of).collect()
}

pub(crate) fn version() -> Version {
    Version {
        metadata: None,
        version: Some(VersionInfo {
            tag: "v0.1.0".into(),
            os: "linux".into(),
            arch: "amd64".into(),
            ..VersionInfo::default()
        }),
        platform: Some(PlatformInfo { name: "metal".into(), mode: "metal".into() }),
        features: Some(FeaturesInfo { rbac: true }),
    }
}
