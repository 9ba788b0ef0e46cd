//! Measures how long pods take from the config to files: prints `[{"pods": 1, "render_ms": …, "write_ms": …}, …]`.
//!
//! Rendering is what `init parse` does with `machine.pods`, writing what PID 1 does with the result, both by the very
//! code of PID 1, into a fresh folder on a tmpfs where there is one. `cargo xtask bench manifests` runs this.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring program: it prints, and fails loudly"
)]

use podium_init::manifests::{Order, plan};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;

#[expect(dead_code, reason = "PID 1 uses the rest")]
#[path = "../src/sys/file.rs"]
mod file;
#[expect(dead_code, reason = "PID 1 uses the rest")]
#[path = "../src/manifest_dir.rs"]
mod manifest_dir;
/// Where `manifest_dir.rs` looks for it.
mod sys {
    pub(crate) use super::file;
}

/// Each is measured this often; the shortest time counts, as everything else is the machine's noise.
const ROUNDS: usize = 3;

fn main() {
    let rows: Vec<Value> = [1, 10, 100, 1000, 10_000].into_iter().map(measure).collect();
    println!("{}", serde_json::to_string_pretty(&rows).unwrap());
}

fn measure(count: usize) -> Value {
    let pods: Vec<Value> = (0..count).map(pod).collect();
    let (mut render, mut write) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let (manifests, problems) = plan(&pods, &|_| None);
        render = render.min(milliseconds(start));
        assert_eq!((manifests.len(), problems.len()), (count, 0));

        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let start = Instant::now();
        let applied = manifest_dir::apply(dir.path(), &manifests, &BTreeSet::new(), Order::from).unwrap();
        write = write.min(milliseconds(start));
        assert_eq!((applied.written.len(), applied.failed.len()), (count, 0));
    }
    json!({"pods": count, "render_ms": render, "write_ms": write})
}

/// In milliseconds, to the microsecond.
fn milliseconds(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// A pod of the usual size: two containers, probes, resources, a volume, a port of the host.
fn pod(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("app-{number}"), "namespace": "bench", "labels": {"app.kubernetes.io/name": "app"}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [
                {
                    "name": "app", "image": "registry.example.org/team/app:1.2.3", "args": ["--listen", ":8080"],
                    "env": [{"name": "LOG", "value": "info"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "ports": [{"name": "http", "containerPort": 8080, "hostPort": 1 + number}],
                    "resources": {"requests": {"cpu": 0.1, "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                    "readinessProbe": {"httpGet": {"port": "http", "path": "/ready"}, "periodSeconds": 5},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    "securityContext": {"readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                },
                {"name": "proxy", "image": "registry.example.org/team/proxy:4"},
            ],
            "volumes": [{"name": "data", "hostPath": {"path": "/var/lib/app", "type": "DirectoryOrCreate"}}],
        }
    })
}
