//! What a new machine config changes, and what each change needs to take effect: two configs in, a list out.
//!
//! Pods are not compared here: their manifests are, byte by byte, by the writer. A section that this file does not
//! know cannot be forgotten: both configs are taken apart field by field, so a new field does not compile until it is
//! placed here.

use crate::config::{File, FileOp, InUse, Kernel, KernelModule, Kubelet, Machine, MachineConfig, Network};
use crate::paths;
use crate::render;
use crate::services::{CONTAINERD, KUBELET, Service};
use crate::sysctls::DEFAULTS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Not started anew for a new environment.
const KEPT: [&str; 4] = ["dhcpcd", "devices", "log", "preload"];

/// What a change needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Needs {
    /// Nothing: it is in force at once.
    Nothing,
    /// Services are started anew; pods live on.
    Restart,
    /// The rest is in force; this part is at the next boot, for this reason.
    Later(String),
    /// Nothing less than a boot, for this reason.
    Reboot(String),
    /// It is not done at all, for this reason.
    Never(String),
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("at once"),
            Self::Restart => f.write_str("services restart"),
            Self::Later(why) => write!(f, "at the next boot: {why}"),
            Self::Reboot(why) => write!(f, "needs a reboot: {why}"),
            Self::Never(why) => write!(f, "not done: {why}"),
        }
    }
}

/// Which services are to be started anew when these files were written and these descriptions changed. The others take
/// a new description at their next start: dhcpcd would take the addresses away for it, and the rest has no use for it.
pub fn restarts(old: &[Service], new: &[Service], written: &[String]) -> Vec<String> {
    let by_file = |id: &str| match id {
        CONTAINERD | KUBELET => written.iter().any(|path| render::reader(path) == Some(id)),
        "chronyd" => written.iter().any(|path| path == paths::CHRONY_CONF),
        // Written for the first config alone: later its hook's work is all there is.
        "dhcpcd" => written.iter().any(|path| path == paths::DHCPCD_CONF),
        _ => false,
    };
    let changed = |service: &&Service| {
        let before = old.iter().find(|before| before.id == service.id);
        let described =
            before.is_some_and(|before| before != *service) && !KEPT.contains(&service.id.as_str());
        described || by_file(&service.id)
    };
    new.iter().filter(changed).map(|service| service.id.clone()).collect()
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// YAML path of what changed.
    pub path: String,
    /// What that needs.
    pub needs: Needs,
}

/// The node waits for its config: no pod runs that a change could disturb.
pub fn waits_for_config(old: &InUse) -> bool {
    old.source.is_empty()
}

/// As [`changes`], from what is in use. On a node that waits for its config nothing needs a boot.
pub fn changes_from(old: &InUse, new: &MachineConfig) -> Vec<Change> {
    let mut found = changes(&old.config, new);
    for change in
        found.iter_mut().filter(|change| waits_for_config(old) && matches!(change.needs, Needs::Reboot(_)))
    {
        change.needs = Needs::Restart;
    }
    found
}

/// Every change but those of pods, in the order of the reference.
pub fn changes(old: &MachineConfig, new: &MachineConfig) -> Vec<Change> {
    let mut found = Vec::new();
    machine(&old.machine, &new.machine, &mut found);
    found
}

/// The same in a container, whose runtime supplies what the rest of the node has from its config.
#[must_use]
pub fn in_container(mut changes: Vec<Change>) -> Vec<Change> {
    let supplied = |path: &str| {
        let network = path.starts_with("machine.network.") && path != "machine.network.hostname";
        network || path == "machine.time"
    };
    for change in changes.iter_mut().filter(|change| supplied(&change.path)) {
        change.needs = Needs::Never("the container's runtime supplies it".to_owned());
    }
    changes
}

/// `new` with what is in use in place of all that only a boot can change: what is in force until then.
#[must_use]
pub fn in_force(old: &InUse, new: &MachineConfig) -> MachineConfig {
    if waits_for_config(old) { new.clone() } else { held_back(&old.config, new) }
}

fn held_back(old: &MachineConfig, new: &MachineConfig) -> MachineConfig {
    let mut held = new.clone();
    let of_boot = changes(old, new).into_iter().filter(|change| matches!(change.needs, Needs::Reboot(_)));
    for change in of_boot {
        let (held, old) = (&mut held.machine, &old.machine);
        match change.path.as_str() {
            "machine.kubelet.extraMounts" => {
                held.kubelet.extra_mounts.clone_from(&old.kubelet.extra_mounts);
            }
            "machine.network.hostname" => held.network.hostname.clone_from(&old.network.hostname),
            "machine.network.interfaces" => held.network.interfaces.clone_from(&old.network.interfaces),
            "machine.kernel.modules" => held.kernel.modules.clone_from(&old.kernel.modules),
            _ => {}
        }
    }
    held
}

fn machine(old: &Machine, new: &Machine, found: &mut Vec<Change>) {
    let Machine {
        ca,
        accepted_cas,
        cert_sans,
        pods: _,
        kubelet,
        network,
        sysctls,
        sysfs,
        env,
        files,
        kernel,
        registries,
        time,
        shutdown,
    } = new;
    // Who serves the API looks at the config in use by itself.
    one("machine.ca", &old.ca, ca, found, || Needs::Nothing);
    one("machine.acceptedCAs", &old.accepted_cas, accepted_cas, found, || Needs::Nothing);
    one("machine.certSANs", &old.cert_sans, cert_sans, found, || Needs::Nothing);
    self::kubelet(&old.kubelet, kubelet, found);
    self::network(&old.network, network, found);
    values("machine.sysctls", &old.sysctls, sysctls, found, |name| {
        let has_default = DEFAULTS.iter().any(|(ours, _)| *ours == name);
        has_default.then_some(Needs::Nothing)
    });
    values("machine.sysfs", &old.sysfs, sysfs, found, |_| None);
    one("machine.env", &old.env, env, found, || Needs::Restart);
    let kept = |new: &&File| {
        let differs = |old: &File| old.path == new.path && old.content != new.content;
        new.op == FileOp::Create && old.files.iter().any(differs)
    };
    let kept: Vec<&str> = files.iter().filter(kept).map(|file| file.path.as_str()).collect();
    one("machine.files", &old.files, files, found, || {
        if !kept.is_empty() {
            let list = kept.join(" ");
            Needs::Never(format!("a file that is there is not replaced, but with op: overwrite: {list}"))
        } else if files.starts_with(&old.files)
            || old.files.iter().all(|file| files.iter().any(|new| new.path == file.path))
        {
            Needs::Nothing
        } else {
            Needs::Later("a file that is no longer listed stays until it is removed by hand".to_owned())
        }
    });
    self::kernel(&old.kernel, kernel, found);
    one("machine.registries", &old.registries, registries, found, || Needs::Nothing);
    one("machine.time", &old.time, time, found, || Needs::Restart);
    // PID 1 looks it up when the end is asked for.
    one("machine.shutdown", &old.shutdown, shutdown, found, || Needs::Nothing);
}

fn kubelet(old: &Kubelet, new: &Kubelet, found: &mut Vec<Change>) {
    let Kubelet {
        extra_args,
        extra_config,
        extra_mounts,
        node_ip,
        static_pod_delivery,
        static_pod_url,
        static_pod_url_header,
        // It changes manifests, and those are compared.
        stable_pod_uid: _,
    } = new;
    let path = |key: &str| format!("machine.kubelet.{key}");
    one(&path("extraArgs"), &old.extra_args, extra_args, found, || Needs::Restart);
    one(&path("extraConfig"), &old.extra_config, extra_config, found, || Needs::Restart);
    one(&path("extraMounts"), &old.extra_mounts, extra_mounts, found, || {
        if extra_mounts.starts_with(&old.extra_mounts) {
            Needs::Restart
        } else {
            Needs::Reboot("pods may hold a mount that changes or goes".to_owned())
        }
    });
    one(&path("nodeIP"), &old.node_ip, node_ip, found, || Needs::Restart);
    one(&path("staticPodDelivery"), &old.static_pod_delivery, static_pod_delivery, found, || Needs::Restart);
    one(&path("staticPodURL"), &old.static_pod_url, static_pod_url, found, || Needs::Restart);
    let (old, new) = (&old.static_pod_url_header, static_pod_url_header);
    one(&path("staticPodURLHeader"), old, new, found, || Needs::Restart);
}

fn network(old: &Network, new: &Network, found: &mut Vec<Change>) {
    let Network { hostname, interfaces, nameservers, search_domains, extra_host_entries } = new;
    let path = |key: &str| format!("machine.network.{key}");
    one(&path("hostname"), &old.hostname, hostname, found, || {
        Needs::Reboot("every pod's name ends with the node's".to_owned())
    });
    one(&path("interfaces"), &old.interfaces, interfaces, found, || {
        Needs::Reboot("addresses of a running node are not taken away".to_owned())
    });
    one(&path("nameservers"), &old.nameservers, nameservers, found, || Needs::Nothing);
    one(&path("searchDomains"), &old.search_domains, search_domains, found, || Needs::Nothing);
    one(&path("extraHostEntries"), &old.extra_host_entries, extra_host_entries, found, || Needs::Nothing);
}

fn kernel(old: &Kernel, new: &Kernel, found: &mut Vec<Change>) {
    let Kernel { modules } = new;
    let has =
        |list: &[KernelModule], module: &KernelModule| list.iter().any(|other| other.name == module.name);
    one("machine.kernel.modules", &old.modules, modules, found, || {
        let changed = modules.iter().any(|module| has(&old.modules, module) && !old.modules.contains(module));
        let gone = old.modules.iter().any(|module| !has(modules, module));
        match (changed, gone) {
            (true, _) => Needs::Reboot("a loaded module keeps its parameters".to_owned()),
            (false, true) => Needs::Later("a loaded module stays loaded".to_owned()),
            (false, false) => Needs::Nothing,
        }
    });
}

fn one<T: PartialEq>(path: &str, old: &T, new: &T, found: &mut Vec<Change>, needs: impl FnOnce() -> Needs) {
    if old != new {
        found.push(Change { path: path.to_owned(), needs: needs() });
    }
}

/// Kernel values by name. One that is no longer given keeps its value, unless `without` knows what it then gets.
fn values(
    path: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    found: &mut Vec<Change>,
    without: impl Fn(&str) -> Option<Needs>,
) {
    let mut add = |name: &str, needs| found.push(Change { path: format!("{path}.{name}"), needs });
    for (name, value) in new {
        if old.get(name) != Some(value) {
            add(name, Needs::Nothing);
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        let kept = || Needs::Later("it keeps its value until then".to_owned());
        add(name, without(name).unwrap_or_else(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::{AcceptedAuthority, Authority, Secret};

    fn config(machine: &str) -> MachineConfig {
        let text = format!("version: v1alpha1\nmachine: {machine}\n");
        let outcome = config::parse(text.as_bytes());
        outcome.config.unwrap_or_else(|| panic!("{machine}: {:?}", outcome.problems))
    }

    #[test]
    fn each_change_says_what_it_needs() {
        use Needs::{Later, Never, Nothing, Reboot, Restart};
        let text = String::new;
        for (old, new, path, needs) in [
            ("{}", "{sysctls: {kernel.panic: 5}}", "machine.sysctls.kernel.panic", Nothing),
            ("{sysctls: {kernel.panic: 5}}", "{}", "machine.sysctls.kernel.panic", Nothing),
            ("{sysctls: {vm.swappiness: 5}}", "{}", "machine.sysctls.vm.swappiness", Later(text())),
            ("{sysfs: {block.vda.x: 5}}", "{}", "machine.sysfs.block.vda.x", Later(text())),
            ("{}", "{env: {A: b}}", "machine.env", Restart),
            ("{}", "{kubelet: {extraArgs: {v: '2'}}}", "machine.kubelet.extraArgs", Restart),
            ("{}", "{kubelet: {extraConfig: {maxPods: 5}}}", "machine.kubelet.extraConfig", Restart),
            ("{}", "{kubelet: {nodeIP: {validSubnets: [10.0.0.0/8]}}}", "machine.kubelet.nodeIP", Restart),
            (
                "{}",
                "{kubelet: {extraMounts: [{destination: /var/a, source: /var/b}]}}",
                "machine.kubelet.extraMounts",
                Restart,
            ),
            (
                "{kubelet: {extraMounts: [{destination: /var/a, source: /var/b}]}}",
                "{}",
                "machine.kubelet.extraMounts",
                Reboot(text()),
            ),
            ("{}", "{network: {hostname: a}}", "machine.network.hostname", Reboot(text())),
            ("{}", "{network: {nameservers: [9.9.9.9]}}", "machine.network.nameservers", Nothing),
            ("{}", "{network: {searchDomains: [a.example]}}", "machine.network.searchDomains", Nothing),
            (
                "{}",
                "{network: {extraHostEntries: [{ip: 10.0.0.1, aliases: [a]}]}}",
                "machine.network.extraHostEntries",
                Nothing,
            ),
            (
                "{}",
                "{network: {interfaces: [{interface: eth0, dhcp: true}]}}",
                "machine.network.interfaces",
                Reboot(text()),
            ),
            (
                "{}",
                "{registries: {mirrors: {docker.io: {endpoints: ['http://10.0.0.1']}}}}",
                "machine.registries",
                Nothing,
            ),
            ("{}", "{time: {servers: [a.example]}}", "machine.time", Restart),
            ("{}", "{shutdown: {podsLimit: 5s}}", "machine.shutdown", Nothing),
            ("{}", "{certSANs: [a.example]}", "machine.certSANs", Nothing),
            ("{}", "{kernel: {modules: [{name: nbd}]}}", "machine.kernel.modules", Nothing),
            ("{kernel: {modules: [{name: nbd}]}}", "{}", "machine.kernel.modules", Later(text())),
            (
                "{kernel: {modules: [{name: nbd}]}}",
                "{kernel: {modules: [{name: nbd, parameters: [a=1]}]}}",
                "machine.kernel.modules",
                Reboot(text()),
            ),
            ("{}", "{files: [{path: /var/a, content: b}]}", "machine.files", Nothing),
            ("{files: [{path: /var/a, content: b}]}", "{}", "machine.files", Later(text())),
            (
                "{files: [{path: /var/a, content: b}]}",
                "{files: [{path: /var/a, content: c}]}",
                "machine.files",
                Never(text()),
            ),
            (
                "{files: [{path: /var/a, content: b, op: overwrite}]}",
                "{files: [{path: /var/a, content: c, op: overwrite}]}",
                "machine.files",
                Nothing,
            ),
        ] {
            let found = changes(&config(old), &config(new));
            let [change] = found.as_slice() else { panic!("{old} -> {new}: {found:?}") };
            assert_eq!(change.path, path, "{old} -> {new}");
            let held = held_back(&config(old), &config(new));
            assert_eq!(held == config(old), matches!(needs, Reboot(_)), "{old} -> {new}");
            // The reasons are for people.
            let kind = |needs: &Needs| std::mem::discriminant(needs);
            assert_eq!(kind(&change.needs), kind(&needs), "{old} -> {new}: {change:?}");
        }
    }

    #[test]
    fn a_container_has_its_network_and_clock_from_its_runtime() {
        for (machine, is_done) in [
            ("{network: {nameservers: [9.9.9.9]}}", false),
            ("{network: {extraHostEntries: [{ip: 10.0.0.1, aliases: [a]}]}}", false),
            ("{time: {servers: [a.example]}}", false),
            ("{network: {hostname: a}}", true),
            ("{env: {A: b}}", true),
        ] {
            let found = in_container(changes(&config("{}"), &config(machine)));
            assert_eq!(!matches!(found[0].needs, Needs::Never(_)), is_done, "{machine}");
        }
    }

    #[test]
    fn services_restart_for_what_they_read_and_keep_the_network() {
        use crate::services::{ImageFacts, NodeFacts, plan};
        let services = |text: &str| plan(&config(text), &ImageFacts::default(), &NodeFacts::default());
        let (old, new) = (services("{}"), services("{env: {A: b}}"));
        assert_eq!(restarts(&old, &old, &[]), [] as [&str; 0]);
        let all = restarts(&old, &new, &[]);
        assert!(all.contains(&"containerd".to_owned()) && all.contains(&"kubelet".to_owned()), "{all:?}");
        assert!(!all.contains(&"dhcpcd".to_owned()) && !all.contains(&"log".to_owned()), "{all:?}");
        assert_eq!(restarts(&old, &old, &[paths::KUBELET_CONFIG.to_owned()]), ["kubelet"]);
        assert_eq!(restarts(&old, &old, &["/etc/other".to_owned()]), [] as [&str; 0]);
    }

    #[test]
    fn whom_the_api_trusts_changes_at_once_and_restarts_nothing() {
        let trusting = |key: &str, accepted: &str| {
            let mut config = MachineConfig::default();
            config.machine.ca = Some(Authority { crt: "a".into(), key: Secret(key.into()) });
            config.machine.accepted_cas = vec![AcceptedAuthority { crt: accepted.into() }];
            config
        };
        for (old, new, path) in [
            (trusting("b", "d"), trusting("c", "d"), "machine.ca"),
            (trusting("b", "d"), trusting("b", "e"), "machine.acceptedCAs"),
        ] {
            let change = Change { path: path.to_owned(), needs: Needs::Nothing };
            assert_eq!(changes(&old, &new), [change]);
            assert_eq!(held_back(&old, &new), new);
        }
    }

    #[test]
    fn on_a_node_that_waits_for_its_config_everything_is_live() {
        let new = config("{network: {hostname: a, interfaces: [{interface: eth0, dhcp: true}]}}");
        let waiting = InUse::default();
        let found = changes_from(&waiting, &new);
        let needs: Vec<_> = found.iter().map(|change| &change.needs).collect();
        assert_eq!(needs, [&Needs::Restart, &Needs::Restart]);
        assert_eq!(in_force(&waiting, &new), new);
        let running = InUse { source: "STATE".into(), ..InUse::default() };
        assert!(changes_from(&running, &new).iter().all(|change| matches!(change.needs, Needs::Reboot(_))));
        assert_eq!(in_force(&running, &new), InUse::default().config);
    }

    #[test]
    fn the_same_config_changes_nothing() {
        let config = config("{env: {A: b}, sysctls: {kernel.panic: 5}, network: {hostname: a}}");
        assert_eq!(changes(&config, &config), []);
    }
}
