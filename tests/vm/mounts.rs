//! Every mount of a running node with its flags, in both directions: none is missing or laxer, and there is no other.

use anyhow::{Context, Result, ensure};
use podium_tests::hand::Hand;
use std::collections::BTreeMap;

/// Mount point, file system, per-mount flags, and words that are among the file system's own options.
type Mount = (&'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const MOUNTS: [Mount; 22] = [
    ("/",                         "erofs",      "ro,nosuid,nodev,relatime",         &[]),
    ("/proc",                     "proc",       "rw,nosuid,nodev,noexec,relatime",  &[]),
    ("/sys",                      "sysfs",      "rw,nosuid,nodev,noexec,relatime",  &[]),
    ("/dev",                      "devtmpfs",   "rw,nosuid,noexec,relatime",        &["mode=755"]),
    ("/dev/pts",                  "devpts",     "rw,nosuid,noexec,relatime",        &["gid=5", "mode=620", "ptmxmode=666"]),
    ("/dev/shm",                  "tmpfs",      "rw,nosuid,nodev,noexec,relatime",  &["size=", "nr_inodes=16384"]),
    ("/dev/mqueue",               "mqueue",     "rw,nosuid,nodev,noexec,relatime",  &[]),
    ("/run",                      "tmpfs",      "rw,nosuid,nodev,noexec,relatime",  &["size=", "nr_inodes=524288", "mode=755"]),
    ("/system",                   "tmpfs",      "rw,nosuid,nodev,noexec,relatime",  &["size=1024k", "nr_inodes=1024", "mode=755"]),
    ("/tmp",                      "tmpfs",      "rw,nosuid,nodev,noexec,relatime",  &["size=", "nr_inodes=65536"]),
    // Its own options are the kernel's again once a privileged pod has run, as this hand: runc mounts it without any.
    ("/sys/fs/cgroup",            "cgroup2",    "rw,nosuid,nodev,noexec,relatime",  &[]),
    ("/sys/fs/bpf",               "bpf",        "rw,nosuid,nodev,noexec,relatime",  &["mode=700"]),
    ("/sys/kernel/security",      "securityfs", "rw,nosuid,nodev,noexec,relatime",  &[]),
    ("/sys/kernel/tracing",       "tracefs",    "rw,nosuid,nodev,noexec,relatime",  &[]),
    ("/sys/fs/pstore",            "pstore",     "rw,nosuid,nodev,noexec,relatime",  &[]),
    ("/system/state",             "ext4",       "rw,nosuid,nodev,noexec,noatime",   &["errors=remount-ro"]),
    ("/var",                      "ext4",       "rw,nosuid,nodev,noatime",          &["errors=remount-ro"]),
    ("/etc/kubernetes",           "overlay",    "rw,nosuid,nodev,noexec,relatime",  &["lowerdir=/etc/kubernetes,"]),
    ("/etc/cni",                  "overlay",    "rw,nosuid,nodev,noexec,relatime",  &["lowerdir=/etc/cni,"]),
    ("/opt",                      "overlay",    "rw,nosuid,nodev,relatime",         &["lowerdir=/opt,"]),
    ("/usr/libexec/kubernetes",   "overlay",    "rw,nosuid,nodev,relatime",         &["lowerdir=/usr/libexec/kubernetes,"]),
    ("/etc/kubernetes/manifests", "tmpfs",      "rw,nosuid,nodev,noexec,relatime",  &["size=65536k", "nr_inodes=32768", "mode=700"]),
];

/// Where containerd and the kubelet mount what is the pods'.
const OF_PODS: [&str; 4] = ["/run/containerd/", "/run/netns/", "/var/lib/kubelet/", "/var/lib/containerd/"];

/// Compares; `more` are the mounts of the machine config.
pub(super) fn each_is_in_its_place(hand: &Hand, more: &[&str]) -> Result<()> {
    let table = hand.read("/proc/1/mountinfo")?;
    let mut found = BTreeMap::new();
    for line in table.lines() {
        // id, parent, device, root, mount point, flags, propagation … - type, source, options
        let (mount, file_system) = line.split_once(" - ").context("no separator")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        let (point, flags) = (*fields.get(4).context("no mount point")?, *fields.get(5).context("no flags")?);
        if OF_PODS.iter().any(|folder| point.starts_with(folder)) || more.contains(&point) {
            continue;
        }
        let file_system: Vec<&str> = file_system.split(' ').collect();
        let [kind, _, options] = file_system[..] else { continue };
        ensure!(fields.iter().any(|field| field.starts_with("shared:")), "{point} is not shared: {line}");
        ensure!(found.insert(point, (kind, flags, options)).is_none(), "{point} is mounted twice:\n{table}");
    }
    for (point, kind, flags, options) in MOUNTS {
        let (its_kind, its_flags, its_options) =
            found.remove(point).with_context(|| format!("{point}: no mount in\n{table}"))?;
        ensure!((its_kind, its_flags) == (kind, flags), "{point}: {its_kind} {its_flags}");
        for option in options {
            ensure!(its_options.contains(option), "{point} lacks {option}: {its_options}");
        }
    }
    ensure!(found.is_empty(), "mounts that nobody knows of: {found:#?}");
    Ok(())
}
