//! Tree -> [`MachineConfig`], key by key. What is missing or of the wrong type is reported and left at its default,
//! so that one pass finds everything; whether values make sense is `validate.rs`'s question.

use super::cursor::{Cursor, Fields};
use super::report::Report;
use super::*;

/// The one version there is.
const VERSION: &str = "v1alpha1";
/// All mode bits a file can have.
const MAX_PERMISSIONS: u64 = 0o7777;
/// The longest limit of a shutdown.
const MOST_LIMIT: Seconds = Seconds(crate::shutdown::MOST.as_secs());
/// What a file gets that is given none: readable, as configs are; secrets are to be given 0o600.
const DEFAULT_PERMISSIONS: u32 = 0o644;

/// Decodes a whole document.
pub(super) fn config(document: &Cursor<'_>, report: &mut Report<'_>) -> MachineConfig {
    let mut config = MachineConfig::default();
    let Some(fields) = document.fields(report) else { return config };
    let remedy = format!("write version: {VERSION}");
    match fields.get("version").map(|version| (version.text(report), version)) {
        None => report.error_with("version", "is missing", remedy),
        Some((Some(version), _)) if version == VERSION => {}
        Some((Some(version), at)) => report.error_with(&at.path, format!("{version:?} is not known"), remedy),
        Some((None, _)) => {}
    }
    match fields.get("machine").and_then(|machine| machine.fields(report)) {
        Some(fields) => config.machine = machine(&fields, report),
        None if fields.get("machine").is_some() => {}
        None => report.error_with("machine", "is missing", "write at least machine: {}"),
    }
    config
}

fn machine(fields: &Fields<'_>, report: &mut Report<'_>) -> Machine {
    let below = |key: &str, report: &mut Report<'_>| fields.get(key).and_then(|cursor| cursor.fields(report));
    let ca = below("ca", report).map(|fields| Authority {
        crt: fields.text("crt", report).unwrap_or_default(),
        key: Secret(fields.text("key", report).unwrap_or_default()),
    });
    Machine {
        ca,
        accepted_cas: each(fields.items("acceptedCAs", report), report, |fields, report| AcceptedAuthority {
            crt: fields.text("crt", report).unwrap_or_default(),
        }),
        cert_sans: fields.texts("certSANs", report),
        kubelet: below("kubelet", report).map(|fields| kubelet(&fields, report)).unwrap_or_default(),
        network: below("network", report).map(|fields| network(&fields, report)).unwrap_or_default(),
        kernel: below("kernel", report).map(|fields| kernel(&fields, report)).unwrap_or_default(),
        registries: below("registries", report).map(|fields| registries(&fields, report)).unwrap_or_default(),
        time: below("time", report)
            .map(|fields| TimeConfig { servers: fields.texts("servers", report) })
            .unwrap_or_default(),
        shutdown: below("shutdown", report).map(|fields| shutdown(&fields, report)).unwrap_or_default(),
        pods: fields.items("pods", report).iter().map(Cursor::json).collect(),
        sysctls: fields.text_map("sysctls", report),
        sysfs: fields.text_map("sysfs", report),
        env: fields.text_map("env", report),
        files: each(fields.items("files", report), report, file),
    }
}

/// Decodes the items of a list. One that is no mapping stays as the default, so that the others keep their index.
fn each<T: Default>(
    items: Vec<Cursor<'_>>,
    report: &mut Report<'_>,
    decode: fn(&Fields<'_>, &mut Report<'_>) -> T,
) -> Vec<T> {
    let one =
        |item: Cursor<'_>| item.fields(report).map(|fields| decode(&fields, report)).unwrap_or_default();
    items.into_iter().map(one).collect()
}

fn kubelet(fields: &Fields<'_>, report: &mut Report<'_>) -> Kubelet {
    let node_ip = fields.get("nodeIP").and_then(|cursor| cursor.fields(report));
    Kubelet {
        extra_args: fields.text_map("extraArgs", report),
        extra_config: fields.json_map("extraConfig", report),
        extra_mounts: each(fields.items("extraMounts", report), report, |fields, report| ExtraMount {
            destination: fields.text("destination", report).unwrap_or_default(),
            kind: fields.text("type", report).unwrap_or_default(),
            source: fields.text("source", report).unwrap_or_default(),
            options: fields.texts("options", report),
        }),
        node_ip: node_ip
            .map(|fields| NodeIp { valid_subnets: fields.texts("validSubnets", report) })
            .unwrap_or_default(),
        static_pod_delivery: one_of(
            fields.get("staticPodDelivery"),
            &[("directory", Delivery::Directory), ("http", Delivery::Http)],
            report,
        ),
        static_pod_url: fields.text("staticPodURL", report),
        static_pod_url_header: fields.texts_map("staticPodURLHeader", report),
        stable_pod_uid: fields.flag("stablePodUID", report).unwrap_or(true),
    }
}

/// A word out of a few; another one is reported, and counts as not given.
fn one_of<T: Copy + Default>(
    at: Option<Cursor<'_>>,
    words: &[(&'static str, T)],
    report: &mut Report<'_>,
) -> T {
    let Some(at) = at else { return T::default() };
    let Some(text) = at.text(report) else { return T::default() };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return *value;
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let near = match did_you_mean(&text, known.iter().copied()) {
        near if near.is_empty() => {
            format!("; write {}", known.join(" or ").replacen(" or ", ", ", known.len().saturating_sub(2)))
        }
        near => near,
    };
    report.error(&at.path, format!("{text:?} is not known{near}"));
    T::default()
}

fn network(fields: &Fields<'_>, report: &mut Report<'_>) -> Network {
    Network {
        hostname: fields.text("hostname", report),
        interfaces: each(fields.items("interfaces", report), report, interface),
        nameservers: fields.texts("nameservers", report),
        search_domains: fields.texts("searchDomains", report),
        extra_host_entries: each(fields.items("extraHostEntries", report), report, |fields, report| {
            HostEntry {
                ip: fields.text("ip", report).unwrap_or_default(),
                aliases: fields.texts("aliases", report),
            }
        }),
    }
}

fn interface(fields: &Fields<'_>, report: &mut Report<'_>) -> Interface {
    let selector = fields.get("deviceSelector").and_then(|cursor| cursor.fields(report));
    Interface {
        interface: fields.text("interface", report),
        device_selector: selector.map(|fields| DeviceSelector {
            bus_path: fields.text("busPath", report),
            hardware_addr: fields.text("hardwareAddr", report),
            pci_id: fields.text("pciID", report),
            driver: fields.text("driver", report),
            physical: fields.flag("physical", report),
        }),
        dhcp: fields.flag("dhcp", report).unwrap_or_default(),
        addresses: fields.texts("addresses", report),
        routes: each(fields.items("routes", report), report, |fields, report| Route {
            network: fields.text("network", report).unwrap_or_default(),
            gateway: fields.text("gateway", report).unwrap_or_default(),
            metric: fields.get("metric").and_then(|metric| metric.number(0..=u32::MAX, report)),
        }),
        // 68 is the least that IPv4 works with, 65535 the most that a packet's length can say.
        mtu: fields.get("mtu").and_then(|mtu| mtu.number(68..=65535, report)),
    }
}

fn kernel(fields: &Fields<'_>, report: &mut Report<'_>) -> Kernel {
    Kernel {
        modules: each(fields.items("modules", report), report, |fields, report| KernelModule {
            name: fields.text("name", report).unwrap_or_default(),
            parameters: fields.texts("parameters", report),
        }),
    }
}

fn shutdown(fields: &Fields<'_>, report: &mut Report<'_>) -> ShutdownLimits {
    let mut seconds = |key: &str| fields.get(key).and_then(|at| duration(&at, report));
    ShutdownLimits {
        total_limit: seconds("totalLimit"),
        pods_limit: seconds("podsLimit"),
        services_limit: seconds("servicesLimit"),
    }
}

/// A duration as in the kubelet's config, `90s` or `1m30s`: whole seconds, of which there is at least one.
fn duration(at: &Cursor<'_>, report: &mut Report<'_>) -> Option<Seconds> {
    let text = at.text(report)?;
    let seconds = text.parse().ok().filter(|seconds| (Seconds(1)..=MOST_LIMIT).contains(seconds));
    if seconds.is_none() {
        let remedy = format!("write one from 1s to {MOST_LIMIT}, like 45s or 1m30s");
        report.unread(&at.path, format!("{text:?} is no such duration"), Some(&remedy));
    }
    seconds
}

fn registries(fields: &Fields<'_>, report: &mut Report<'_>) -> Registries {
    let mirrors = fields.get("mirrors").map(|cursor| cursor.entries(report)).unwrap_or_default();
    let mirror = |(name, cursor): (String, Cursor<'_>)| {
        let fields = cursor.fields(report);
        let mirror = fields.map(|fields| Mirror {
            endpoints: fields.texts("endpoints", report),
            override_path: fields.flag("overridePath", report).unwrap_or_default(),
            skip_fallback: fields.flag("skipFallback", report).unwrap_or_default(),
        });
        (name, mirror.unwrap_or_default())
    };
    Registries { mirrors: mirrors.into_iter().map(mirror).collect() }
}

fn file(fields: &Fields<'_>, report: &mut Report<'_>) -> File {
    let words = [("create", FileOp::Create), ("append", FileOp::Append), ("overwrite", FileOp::Overwrite)];
    let op = one_of(fields.get("op"), &words, report);
    File {
        content: fields.text("content", report).unwrap_or_default(),
        permissions: fields
            .get("permissions")
            .and_then(|at| permissions(&at, report))
            .unwrap_or(DEFAULT_PERMISSIONS),
        path: fields.text("path", report).unwrap_or_default(),
        op,
    }
}

/// Mode bits as people write them: 0o644, 0644, "0644". A bare 644 is decimal and nearly always a mistake.
fn permissions(at: &Cursor<'_>, report: &mut Report<'_>) -> Option<u32> {
    let written = at.written();
    let octal = |digits: &str| u64::from_str_radix(digits, 8).ok().filter(|value| *value <= MAX_PERMISSIONS);
    let value = at.as_number().or_else(|| octal(written.strip_prefix("0o").unwrap_or(&written)));
    let Some(value) =
        value.filter(|value| *value <= MAX_PERMISSIONS).and_then(|value| u32::try_from(value).ok())
    else {
        let message =
            if written.is_empty() { "no mode bits".into() } else { format!("{written:?} is no mode bits") };
        report.unread(&at.path, message, Some("write them in octal, e.g. 0o644"));
        return None;
    };
    let looks_octal =
        at.as_number().is_some() && (3..=4).contains(&written.len()) && !written.starts_with('0');
    if looks_octal && octal(&written).is_some() {
        let message = format!("{written} is decimal and means 0o{value:o}");
        report.push(Problem::warning(&at.path, message).remedy(format!("write 0o{written}")));
    }
    Some(value)
}
