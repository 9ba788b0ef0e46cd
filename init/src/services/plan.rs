//! Which services a node runs, and how: one function a service, every constant with its reason.
//!
//! The order of the list is the preference in which they are started; what must wait says so by its needs. In a
//! container the runtime owns devices, network and clock, so those services are not in the plan.

use super::{
    API, API_USER, ImageFacts, LOG, Limits, Need, NodeFacts, PRELOAD, PROBE, Readiness, Reserved, Restart,
    Scope, Service, Stop, health, kubelet,
};
use crate::config::{Delivery, MachineConfig};
use crate::paths;
use std::time::Duration;

/// Where services look for programs: the kubelet runs mount and iptables, containerd runs runc and its shim.
const PATH: &str = "/usr/sbin:/usr/bin";
/// Neither is a login; containerd and the kubelet look here for registry credentials.
const HOME: &str = "/root";
/// Set by the chain loader for each service, so no config may.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

const CONTAINERD_PROGRAM: &str = "/usr/bin/containerd";
/// containerd opens up to a few files a container and passes its limit on to them; systemd's unit of it says the
/// same number. It is `fs.nr_open`'s default, so it can always be set.
const CONTAINERD_NOFILE: u64 = 1_048_576;
/// The kubelet sets this itself (`maxOpenFiles`); a lower one here would make it complain.
const KUBELET_NOFILE: u64 = 1_000_000;
/// Enough for programs that hold a handful.
const HELPER_NOFILE: u64 = 1024;

/// Never killed. The kernel spares its own first process by itself, a container's it does not.
pub const PID_1_OOM_SCORE: i16 = -1000;
/// Killed after everything else: without them pods are nobody's. The kubelet's own choice for itself.
const PODS_OOM_SCORE: i16 = -999;
/// Killed after any pod (0 and more), before containerd and the kubelet: they come back without anybody noticing.
pub const HELPER_OOM_SCORE: i16 = -500;
/// What strangers can make large goes first.
const API_OOM_SCORE: i16 = 0;

/// containerd reads its whole database before it answers, under emulation with many images for most of a minute.
const CONTAINERD_READY_LIMIT: Duration = Duration::from_secs(120);
/// The kubelet says READY when its servers run; it then has asked containerd several times.
const KUBELET_READY_LIMIT: Duration = Duration::from_secs(120);
/// A step that unpacks images: minutes on a slow disk.
const PRELOAD_READY_LIMIT: Duration = Duration::from_secs(600);
/// Executing a helper takes milliseconds; the rest is a machine under load.
const HELPER_READY_LIMIT: Duration = Duration::from_secs(30);

/// PID 1 and the helpers it starts: 3 MiB, and the pages of the program that all of them share. Once the kernel has to
/// read those from the disk again, every event waits for it.
pub const PID_1_MEMORY_MIN: u64 = 8 << 20;
/// Measured: 48 MiB, and 11 MiB a shim. Those of a handful of pods.
const CONTAINERD_MEMORY_MIN: u64 = 96 << 20;
/// Measured: 62 MiB with two pods.
const KUBELET_MEMORY_MIN: u64 = 80 << 20;
/// Each has 1 to 3 MiB of its own; apid, the largest, 5.
const HELPER_MEMORY_MIN: u64 = 4 << 20;
/// No plan has more of them.
const HELPERS: u64 = 11;
/// `memory.min` of the group above all services: without their sum in it, theirs would count for nothing. The same for
/// every config, so that a change of one restarts nobody.
pub const ABOVE_MEMORY_MIN: u64 = CONTAINERD_MEMORY_MIN + KUBELET_MEMORY_MIN + HELPERS * HELPER_MEMORY_MIN;

// There is no `memory.high`: a service that is slowed down by it looks alive and does not answer, one that is killed
// comes back at once. containerd has no `memory.max` and no `pids.max`: its shims are in its cgroup, and killing them,
// or letting them fork no more, would cost pods. A process of a pod leaves that group before it is executed.

/// What strangers can make it hold is bounded by this; a dozen clients need a quarter of it.
const API_MEMORY_MAX: u64 = 64 << 20;
/// Ten times what it has with a hundred pods: one that leaks has to go before it costs every pod, which the OOM killer
/// would take first.
const KUBELET_MEMORY_MAX: u64 = 1 << 30;
/// Far above what any needs; `ctr` unpacks layers in a stream, files that are read or written do not count once the
/// kernel wants them back.
const HELPER_MEMORY_MAX: u64 = 256 << 20;
/// Go makes a thread for what blocks, and there are `mount`, `du` and `iptables`: some forty of both with many pods.
const KUBELET_PIDS_MAX: u64 = 1024;
/// dhcpcd has two processes and some for each interface, `ctr` a thread or two for each processor.
const HELPER_PIDS_MAX: u64 = 256;

/// Slab and page tables that no pod is charged for.
const KERNEL_MEMORY: u64 = 24 << 20;
/// `systemReserved`: the helpers, PID 1 and the kernel. A helper has one to three processes.
pub const FOR_SYSTEM: Reserved =
    Reserved { memory: HELPERS * HELPER_MEMORY_MIN + PID_1_MEMORY_MIN + KERNEL_MEMORY, pids: 128 };
/// `kubeReserved`: containerd with its shims, which have a dozen threads each, for a hundred pods, and the kubelet.
pub const FOR_KUBE: Reserved = Reserved { memory: CONTAINERD_MEMORY_MIN + KUBELET_MEMORY_MIN, pids: 1300 };

/// A pod whose image is preloaded must not start before it is there; one that is not must not wait for ever.
const KUBELET_WAITS_FOR_PRELOAD: Duration = Duration::from_secs(60);
/// An address by DHCP takes 1-3 s; with no server, pods that need no network start after this.
const KUBELET_WAITS_FOR_NETWORK: Duration = Duration::from_secs(10);

/// A server that cannot start must not keep the kubelet from going on with the pods that run: it stops none as long
/// as it has not heard of the list.
const KUBELET_WAITS_FOR_POD_LIST: Duration = Duration::from_secs(10);

/// All drivers of a machine are loaded in 3 s; those that come later are told to it.
const DHCPCD_WAITS_FOR_DRIVERS: Duration = Duration::from_secs(10);

/// containerd writes its database on TERM.
const CONTAINERD_STOP_LIMIT: Duration = Duration::from_secs(20);
/// The kubelet ends at once on TERM; a mount in flight may take some seconds.
const KUBELET_STOP_LIMIT: Duration = Duration::from_secs(10);
/// The helpers have nothing to lose.
const HELPER_STOP_LIMIT: Duration = Duration::from_secs(5);
/// Nobody waits for the log writer: pipes hold what comes before it. That the others need it means that it is
/// stopped after them, with their last words.
const STARTS_WITHOUT_LOG: Duration = Duration::ZERO;
/// SIGTERM on Linux; the library names no signal crate.
const TERM: i32 = 15;

const HELPER_LIMITS: Limits = Limits {
    memory_min: HELPER_MEMORY_MIN,
    memory_max: Some(HELPER_MEMORY_MAX),
    pids_max: Some(HELPER_PIDS_MAX),
};

/// All services of this node, in the order in which to start them.
pub fn plan(config: &MachineConfig, facts: &ImageFacts, node: &NodeFacts) -> Vec<Service> {
    let env = environment(config);
    // What pods wait for comes first; of the others no line is lost, for pipes hold what comes before the log writer.
    let mut services = vec![containerd(&env), pki(&env, config), log(&env)];
    if !node.container {
        services.push(devices(&env));
    }
    services.push(preload(&env));
    if !node.container {
        services.push(dhcpcd(&env, config));
        services.push(chronyd(&env));
    }
    if config.machine.kubelet.static_pod_delivery == Delivery::Http {
        services.push(pod_list(&env));
    }
    services.push(kubelet_service(&env, config, facts, node));
    services.push(pods(&env));
    services.push(probe(&env));
    services.push(apid(&env, config));
    services.push(api(&env));
    for service in services.iter_mut().filter(|service| service.id != LOG) {
        service.needs.push(need(LOG, Some(STARTS_WITHOUT_LOG)));
    }
    services
}

/// The writer of the other services' output.
fn log(env: &[(String, String)]) -> Service {
    helper(LOG, &[paths::INIT, "log"], env)
}

/// Loads drivers for the devices that are there and that appear, watches the power button, and has what the kernel has
/// kept of a crash moved to the disk. Up when the first are loaded and dhcpcd's config is made for them.
fn devices(env: &[(String, String)]) -> Service {
    Service { readiness: Readiness::Notify, ..helper("devices", &[paths::INIT, "devices"], env) }
}

/// The node's CA and the certificates of the kubelet and of apid. A step.
fn pki(env: &[(String, String)], config: &MachineConfig) -> Service {
    let mut step = Service {
        readiness: Readiness::Notify,
        restart: Restart::OnFailure,
        ..helper("pki", &[paths::APID, "pki"], env)
    };
    let x509 = config.machine.kubelet.extra_config.get("authentication").and_then(|value| value.get("x509"));
    if let Some(ca) = x509.and_then(|x509| x509.get("clientCAFile")).and_then(serde_json::Value::as_str) {
        step.argv.push(format!("--also-trust={ca}"));
    }
    step
}

/// What the node's pods do, for `init ctl`. With no kubelet it tells that.
fn apid(env: &[(String, String)], config: &MachineConfig) -> Service {
    let at = format!("--kubelet={}", kubelet::listens_at(config));
    Service {
        needs: vec![need("pki", None)],
        readiness: Readiness::Notify,
        ..helper("apid", &[paths::APID, "serve", &at], env)
    }
}

/// What listens to the network. It has no right to anything by itself: it asks PID 1 and `apid serve`.
fn api(env: &[(String, String)]) -> Service {
    Service {
        needs: vec![need("pki", None), need("apid", None)],
        readiness: Readiness::Notify,
        oom_score_adj: API_OOM_SCORE,
        user: Some(API_USER),
        limits: Limits { memory_max: Some(API_MEMORY_MAX), ..HELPER_LIMITS },
        ..helper(API, &[paths::APID, API], env)
    }
}

/// The manifests over http, for the kubelet alone.
fn pod_list(env: &[(String, String)]) -> Service {
    Service { readiness: Readiness::Notify, ..helper("podlist", &[paths::APID, "podlist"], env) }
}

fn containerd(env: &[(String, String)]) -> Service {
    Service {
        readiness: Readiness::Notify,
        ready_limit: Some(CONTAINERD_READY_LIMIT),
        oom_score_adj: PODS_OOM_SCORE,
        nofile: CONTAINERD_NOFILE,
        limits: Limits { memory_min: CONTAINERD_MEMORY_MIN, memory_max: None, pids_max: None },
        // Its shims are in its cgroup, and each holds a pod.
        stop: Stop { signal: TERM, limit: CONTAINERD_STOP_LIMIT, scope: Scope::Main },
        health: Some(health::containerd()),
        looked_after: true,
        ..helper("containerd", &[CONTAINERD_PROGRAM, "--config", paths::CONTAINERD_CONFIG], env)
    }
}

/// Imports the image's own container images when containerd does not hold them yet. It waits for containerd by
/// itself: when nothing seems to be missing it says READY before that, and the kubelet loses no time.
fn preload(env: &[(String, String)]) -> Service {
    Service {
        readiness: Readiness::Notify,
        ready_limit: Some(PRELOAD_READY_LIMIT),
        restart: Restart::OnFailure,
        ..helper(PRELOAD, &[paths::INIT, "preload"], env)
    }
}

/// Addresses and routes of every interface, static ones too; its hook says READY when the first is there, or
/// the first that `machine.kubelet.nodeIP` lets be the node's.
fn dhcpcd(env: &[(String, String)], config: &MachineConfig) -> Service {
    // A name in its config may come true later, a selector is resolved before it starts.
    let selects = config.machine.network.interfaces.iter().any(|entry| entry.device_selector.is_some());
    Service {
        needs: if selects { vec![need("devices", Some(DHCPCD_WAITS_FOR_DRIVERS))] } else { Vec::new() },
        readiness: Readiness::Notify,
        // Without a cable or a server it waits, and must not be restarted for it.
        ready_limit: None,
        ..helper("dhcpcd", &["/usr/sbin/dhcpcd", "--nobackground", "--config", paths::DHCPCD_CONF], env)
    }
}

/// The wall clock. `-d` keeps it in the foreground with its messages on stderr; `-F 1` is the strictest of its
/// system call filters, Debian's default.
fn chronyd(env: &[(String, String)]) -> Service {
    helper("chronyd", &["/usr/sbin/chronyd", "-d", "-F", "1", "-f", paths::CHRONY_CONF], env)
}

fn kubelet_service(
    env: &[(String, String)],
    config: &MachineConfig,
    facts: &ImageFacts,
    node: &NodeFacts,
) -> Service {
    // Without its certificates it would end at once, again and again.
    let mut needs =
        vec![need("containerd", None), need("pki", None), need(PRELOAD, Some(KUBELET_WAITS_FOR_PRELOAD))];
    if config.machine.kubelet.static_pod_delivery == Delivery::Http {
        needs.push(need("podlist", Some(KUBELET_WAITS_FOR_POD_LIST)));
    }
    if !node.container {
        // READY then means an address that fits: without one the kubelet has told no address, or another.
        let again = !config.machine.kubelet.node_ip.valid_subnets.is_empty();
        needs.push(Need { again, ..need("dhcpcd", Some(KUBELET_WAITS_FOR_NETWORK)) });
    }
    Service {
        argv: kubelet::argv(config, facts),
        looked_after: true,
        needs,
        readiness: Readiness::Notify,
        ready_limit: Some(KUBELET_READY_LIMIT),
        oom_score_adj: PODS_OOM_SCORE,
        nofile: KUBELET_NOFILE,
        limits: Limits {
            memory_min: KUBELET_MEMORY_MIN,
            memory_max: Some(KUBELET_MEMORY_MAX),
            pids_max: Some(KUBELET_PIDS_MAX),
        },
        stop: Stop { signal: TERM, limit: KUBELET_STOP_LIMIT, scope: Scope::Group },
        health: health::kubelet(config),
        ..helper("kubelet", &[], env)
    }
}

/// Says which static pods run; before containerd does, none can.
fn pods(env: &[(String, String)]) -> Service {
    Service { needs: vec![need("containerd", None)], ..helper("pods", &[paths::INIT, "pods"], env) }
}

/// Asks the others whether they still do their work. Nothing depends on it: who is not asked is left alone.
fn probe(env: &[(String, String)]) -> Service {
    Service { readiness: Readiness::Notify, ..helper(PROBE, &[paths::APID, PROBE], env) }
}

/// What most services have in common: up once executed, always restarted, the whole group ended by TERM.
fn helper(id: &str, argv: &[&str], env: &[(String, String)]) -> Service {
    Service {
        id: id.to_owned(),
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        env: env.to_vec(),
        needs: Vec::new(),
        readiness: Readiness::Exec,
        ready_limit: Some(HELPER_READY_LIMIT),
        looked_after: false,
        restart: Restart::Always,
        cgroup: format!("podium/{id}"),
        oom_score_adj: HELPER_OOM_SCORE,
        nofile: HELPER_NOFILE,
        user: None,
        limits: HELPER_LIMITS,
        stop: Stop { signal: TERM, limit: HELPER_STOP_LIMIT, scope: Scope::Group },
        health: None,
    }
}

fn need(service: &str, limit: Option<Duration>) -> Need {
    Need { service: service.to_owned(), limit, again: false }
}

/// Podium's variables with `machine.env` over them, sorted by name.
fn environment(config: &MachineConfig) -> Vec<(String, String)> {
    let mut env = std::collections::BTreeMap::from([("PATH", PATH), ("HOME", HOME)]);
    env.extend(config.machine.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    env.remove(NOTIFY_SOCKET);
    env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{KUBELET, KUBELET_GROUP};
    use super::*;

    #[test]
    fn the_group_above_protects_as_much_as_all_services_together() {
        let mut config = MachineConfig::default();
        config.machine.kubelet.static_pod_delivery = Delivery::Http;
        let all = plan(&config, &ImageFacts::default(), &NodeFacts::default());
        let sum: u64 = all.iter().map(|service| service.limits.memory_min).sum();
        assert_eq!(sum, ABOVE_MEMORY_MIN, "of {} services", all.len());
    }

    #[test]
    fn the_kubelets_cgroup_is_where_others_look_for_it() {
        let services = plan(&MachineConfig::default(), &ImageFacts::default(), &NodeFacts::default());
        let kubelet = services.iter().find(|service| service.id == KUBELET).unwrap();
        assert_eq!(kubelet.cgroup, KUBELET_GROUP);
    }

    #[test]
    fn every_service_but_the_one_that_holds_the_pods_is_bounded() {
        for service in plan(&MachineConfig::default(), &ImageFacts::default(), &NodeFacts::default()) {
            let Limits { memory_min, memory_max, pids_max } = service.limits;
            let bounded = memory_max.is_some() && pids_max.is_some();
            assert_eq!(bounded, service.id != "containerd", "{}", service.id);
            assert!(memory_max.is_none_or(|most| memory_min < most), "{}", service.id);
        }
    }
}
