//! Golden tests: a machine config in, every rendered file and every service's description out.
//!
//! `tests/cases/<case>.yaml` is the config, `tests/golden/<case>.txt` what came of it when somebody last looked at it
//! closely. After a wanted change: `UPDATE_GOLDEN=1 cargo test -p podium-init --test render`, then read the diff.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use podium_init::config::MachineConfig;
use podium_init::paths;
use podium_init::render::interfaces::{Family, unmatched, wanted};
use podium_init::render::lease::Lease;
use podium_init::render::names;
use podium_init::render::text::toml_string;
use podium_init::render::{self, RenderedFile};
use podium_init::services::{self, Health, ImageFacts, InterfaceFacts, Limits, NodeFacts, Service};
use proptest::prelude::*;
use std::fmt::Write;
use std::path::Path;

fn image(kubelet: &str, containerd: &str) -> ImageFacts {
    ImageFacts {
        build_id: "test".into(),
        kernel: "6.1.0-42-cloud-amd64".into(),
        containerd: containerd.into(),
        runc: "1.1.5".into(),
        kubelet: kubelet.into(),
        pause_image: "podium.local/pause:1".into(),
        preload: Vec::new(),
        built: 0,
    }
}

fn nic(name: &str, mac: &str, driver: &str, bus_path: &str) -> InterfaceFacts {
    InterfaceFacts {
        name: name.into(),
        mac: mac.into(),
        driver: driver.into(),
        bus_path: bus_path.into(),
        pci_id: "1af4:1000".into(),
        physical: true,
        wired: true,
    }
}

/// Two wired cards, a third for a selector, a wireless one, and what a running node has besides.
fn node() -> NodeFacts {
    let virtual_one = |name: &str| InterfaceFacts { name: name.into(), wired: true, ..Default::default() };
    NodeFacts {
        container: false,
        interfaces: vec![
            nic("eth0", "52:54:00:aa:bb:01", "virtio_net", "0000:00:03.0"),
            nic("eth1", "52:54:00:AA:BB:02", "virtio_net", "0000:00:04.0"),
            nic("eth2", "52:54:00:aa:bb:03", "e1000e", "0000:00:09.1"),
            InterfaceFacts { wired: false, ..nic("radio0", "52:54:00:aa:bb:04", "iwlwifi", "0000:00:05.0") },
            InterfaceFacts { name: "lo".into(), ..Default::default() },
            virtual_one("bond0"),
            virtual_one("cni0"),
        ],
        pod_list_token: "5ec1e7".into(),
    }
}

fn case(name: &str) -> MachineConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/{name}.yaml"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Everything that comes of a config, as one text.
fn everything(config: &MachineConfig, facts: &ImageFacts, node: &NodeFacts) -> String {
    let mut text = String::new();
    for problem in render::problems(config, node) {
        writeln!(text, "problem: {problem}").unwrap();
    }
    for problem in unmatched(config, &node.interfaces) {
        writeln!(text, "problem: {problem}").unwrap();
    }
    for wanted in wanted(config, &node.interfaces) {
        for family in [Family::V4, Family::V6] {
            for line in wanted.ip_batch(Some(family)) {
                writeln!(text, "ip, {family:?} of {} is up: {line}", wanted.name).unwrap();
            }
        }
    }
    for RenderedFile { path, mode, bytes } in render::files(config, facts, node) {
        writeln!(text, "\n=== {path} {mode:04o}\n{}", String::from_utf8(bytes).unwrap()).unwrap();
    }
    for service in services::plan(config, facts, node) {
        describe(&mut text, &service);
    }
    text
}

/// A service in a few lines.
fn describe(text: &mut String, service: &Service) {
    let Service {
        id,
        argv,
        env,
        needs,
        readiness,
        ready_limit,
        looked_after,
        restart,
        cgroup,
        oom_score_adj,
        nofile,
        user,
        limits: Limits { memory_min, memory_max, pids_max },
        stop,
        health,
    } = service;
    writeln!(text, "\n=== service {id}").unwrap();
    argv.iter().for_each(|arg| writeln!(text, "argv      {arg:?}").unwrap());
    env.iter().for_each(|(name, value)| writeln!(text, "env       {name}={value:?}").unwrap());
    needs
        .iter()
        .for_each(|need| writeln!(text, "needs     {} limit {:?}", need.service, need.limit).unwrap());
    if *looked_after {
        writeln!(text, "before    its files are looked at").unwrap();
    }
    writeln!(text, "up        {readiness:?}, limit {ready_limit:?}, restart {restart:?}").unwrap();
    writeln!(text, "runs in   {cgroup}, oom score {oom_score_adj}, {nofile} files").unwrap();
    let mib = |bytes: &u64| format!("{} MiB", bytes >> 20);
    let (least, most) = (mib(memory_min), memory_max.as_ref().map(mib));
    writeln!(text, "bounds    memory {least} to {most:?}, pids {pids_max:?}, user {user:?}").unwrap();
    writeln!(text, "stop      signal {}, limit {:?}, {:?}", stop.signal, stop.limit, stop.scope).unwrap();
    if let Some(Health { probe, interval, timeout, failures }) = health {
        writeln!(text, "health    {probe:?} every {interval:?}, limit {timeout:?}, {failures} failures")
            .unwrap();
    }
}

/// The file is the truth unless asked to write it.
fn golden(name: &str, have: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, have).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (want, have)) in want.lines().zip(have.lines()).enumerate() {
        assert_eq!(have, want, "{name}.txt line {}; UPDATE_GOLDEN=1 writes it anew", number + 1);
    }
    assert_eq!(have.lines().count(), want.lines().count(), "{name}.txt; UPDATE_GOLDEN=1 writes it anew");
}

fn service<'a>(services: &'a [Service], id: &str) -> &'a Service {
    services.iter().find(|service| service.id == id).unwrap()
}

#[test]
fn the_default_image_without_any_wish() {
    golden("default", &everything(&case("default"), &image("1.20.2", "1.6.20"), &node()));
}

#[test]
fn a_current_kubelet_and_containerd_2() {
    golden("current", &everything(&case("default"), &image("1.36.2", "2.1.9"), &node()));
}

#[test]
fn a_config_with_every_wish() {
    golden("full", &everything(&case("full"), &image("1.20.2", "1.6.20"), &node()));
}

#[test]
fn hostile_values_stay_in_their_place() {
    golden("hostile", &everything(&case("hostile"), &image("1.20.2", "1.6.20"), &node()));
}

#[test]
fn pods_delivered_over_http() {
    golden("http", &everything(&case("http"), &image("1.36.2", "2.1.9"), &node()));
}

#[test]
fn pods_from_somewhere_else() {
    golden("url", &everything(&case("url"), &image("1.20.2", "1.6.20"), &node()));
}

#[test]
fn in_a_container_network_and_time_are_the_runtimes() {
    let node = NodeFacts { container: true, ..node() };
    golden("container", &everything(&case("default"), &image("1.20.2", "1.6.20"), &node));
}

#[test]
fn the_same_config_gives_the_same_bytes() {
    for name in ["default", "full", "hostile"] {
        let (first, second) = (case(name), case(name));
        let facts = image("1.20.2", "1.6.20");
        assert_eq!(everything(&first, &facts, &node()), everything(&second, &facts, &node()), "{name}");
    }
}

#[test]
fn each_kubelet_gets_the_flags_it_knows() {
    let config = MachineConfig::default();
    // (first minor, last minor, flag's name): outside of it the kubelet would end at once.
    let ranges = [
        (20, 37, "config"),
        (20, 37, "root-dir"),
        (20, 37, "hostname-override"),
        (20, 23, "container-runtime"),
        (20, 26, "container-runtime-endpoint"),
        (20, 34, "pod-infra-container-image"),
    ];
    for minor in 20..=37 {
        let facts = image(&format!("1.{minor}.3"), "1.7.24");
        let services = services::plan(&config, &facts, &node());
        let argv = &service(&services, "kubelet").argv;
        assert_eq!(argv[0], "/usr/bin/kubelet");
        let mut flags: Vec<&str> = argv[1..].iter().map(|arg| arg[2..].split('=').next().unwrap()).collect();
        let known = ranges.iter().filter(|(first, last, _)| (*first..=*last).contains(&minor));
        let mut want: Vec<&str> = known.map(|(_, _, name)| *name).collect();
        flags.sort_unstable();
        want.sort_unstable();
        assert_eq!(flags, want, "1.{minor}");
        // The endpoint is said once: as a flag or in the file.
        let files = render::files(&config, &facts, &node());
        let file = files.iter().find(|file| file.path == paths::KUBELET_CONFIG).unwrap();
        let kubelet: serde_json::Value = serde_json::from_slice(&file.bytes).unwrap();
        assert_eq!(kubelet.get("containerRuntimeEndpoint").is_some(), minor >= 27, "1.{minor}");
    }
}

#[test]
fn the_version_of_containerd_decides_the_version_of_its_config() {
    for (containerd, version) in [("1.6.20~ds1", 2), ("1.7.24", 2), ("2.0.0", 3), ("2.1.9", 3), ("git", 3)] {
        let text = render::containerd::config(&image("1.30.0", containerd));
        assert!(text.starts_with(&format!("version = {version}\n")), "{containerd}");
    }
}

#[test]
fn every_need_is_of_a_service_in_the_plan() {
    for container in [false, true] {
        let node = NodeFacts { container, ..node() };
        let services = services::plan(&case("full"), &image("1.20.2", "1.6.20"), &node);
        let ids: Vec<&str> = services.iter().map(|service| service.id.as_str()).collect();
        for service in &services {
            for need in &service.needs {
                assert!(ids.contains(&need.service.as_str()), "{} needs {}", service.id, need.service);
            }
        }
    }
}

#[test]
fn stopping_containerd_leaves_its_shims_alone() {
    let services = services::plan(&MachineConfig::default(), &image("1.20.2", "1.6.20"), &node());
    for service in &services {
        let main = service.stop.scope == services::Scope::Main;
        assert_eq!(main, service.id == "containerd", "{}", service.id);
    }
}

#[test]
fn a_name_that_dhcp_gave_outlives_its_lease() {
    let (none, mut named) = (MachineConfig::default(), MachineConfig::default());
    named.machine.network.hostname = Some("Mine.example".into());
    let lease = Lease { hostname: Some("leased".into()), ..Lease::default() };
    for (config, leases, now, want) in [
        (&none, &[][..], None, "podium"),
        (&none, &[], Some("(none)"), "podium"),
        (&none, &[], Some("localhost"), "podium"),
        (&none, &[&lease], Some("podium"), "leased"),
        (&none, &[], Some("leased"), "leased"),
        (&named, &[&lease], Some("leased"), "mine.example"),
    ] {
        assert_eq!(names::hostname(config, leases, now), want, "{now:?}");
    }
}

#[test]
fn a_cni_config_of_the_users_under_our_name_is_theirs() {
    let config: MachineConfig = serde_yaml::from_str(
        "machine: {files: [{path: /etc/cni/net.d/10-podium.conflist, content: mine, op: overwrite}]}",
    )
    .unwrap();
    let files = render::files(&config, &image("1.20.2", "1.6.20"), &node());
    assert!(!files.iter().any(|file| file.path == render::cni::CONFLIST));
}

proptest! {
    /// A TOML string's end is its last character, whatever is in it, and it says what was put in.
    #[test]
    fn toml_strings_say_what_was_put_in(value in any::<String>()) {
        let quoted = toml_string(&value);
        prop_assert!(!quoted.chars().any(char::is_control));
        // JSON's escapes are TOML's, for those that are used.
        prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), value);
    }

    /// Whatever stands in a config, each line of the files begins with a word of ours, and no path leaves its folder.
    #[test]
    fn no_value_begins_a_line(values in proptest::collection::vec(any::<String>(), 9), joined in any::<String>()) {
        let text = |index: usize| format!("{}\n{joined}", values[index]);
        let mut config = MachineConfig::default();
        let network = &mut config.machine.network;
        network.hostname = Some(text(0));
        network.nameservers = vec![text(1), values[1].clone()];
        network.search_domains = vec![text(2), values[2].clone()];
        network.interfaces = serde_json::from_value(serde_json::json!([
            {"interface": values[3], "addresses": [values[4], text(4)], "routes": [{"gateway": text(5)}]},
            {"interface": "eth0", "addresses": [values[4], text(4)], "routes": [{"network": text(5)}]},
        ])).unwrap();
        config.machine.time.servers = vec![text(6), values[6].clone()];
        config.machine.registries.mirrors.insert(values[7].clone(), serde_json::from_value(
            serde_json::json!({"endpoints": [text(8), values[8]]})).unwrap());
        let ours: &[(&str, &[&str])] = &[
            (paths::DHCPCD_CONF, &["#", "script", "persistent", "clientid", "noarp", "noipv4ll", "nodelay", "nodev",
                "reboot", "option", "hostname", "allowinterfaces", "interface", "nodhcp", "static"]),
            (paths::RESOLV_CONF, &["#", "nameserver", "search"]),
            (paths::CHRONY_CONF, &["#", "driftfile", "ntsdumpdir", "makestep", "maxupdateskew", "rtcsync", "cmdport",
                "sourcedir", "server"]),
        ];
        for file in render::files(&config, &image("1.20.2", "1.6.20"), &node()) {
            prop_assert!(!file.path.contains("/../") && !file.path.contains('\n'), "{}", file.path);
            let content = String::from_utf8(file.bytes).unwrap();
            let Some((_, words)) = ours.iter().find(|(path, _)| *path == file.path) else { continue };
            for line in content.lines().filter(|line| !line.is_empty()) {
                let first = line.split(' ').next().unwrap();
                prop_assert!(words.contains(&first), "{}: {line}", file.path);
            }
            if file.path == paths::DHCPCD_CONF {
                prop_assert_eq!(content.matches("script ").count(), 1);
            }
        }
    }
}

#[test]
fn a_services_own_file_is_among_all_and_has_it_as_its_reader() {
    let (config, facts) = (case("full"), image("1.20.2", "1.6.20"));
    let files = render::files(&config, &facts, &node());
    for service in [services::KUBELET, services::CONTAINERD] {
        let own = render::file_of(service, &config, &facts, &node()).unwrap();
        assert_eq!(render::reader(&own.path), Some(service));
        assert!(files.contains(&own), "{}", own.path);
    }
    let read: Vec<&str> = files.iter().filter_map(|file| render::reader(&file.path)).collect();
    assert_eq!(read.len(), 2, "{read:?}");
    assert!(render::file_of("chronyd", &config, &facts, &node()).is_none());
}
