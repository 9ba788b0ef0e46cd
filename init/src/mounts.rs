//! Every mount of a running node but the data partitions' devices: one table for the early ones, [`EARLY`], and
//! [`plan`] for those that need `/var` and the machine config.
//!
//! Flags are the strictest that work: `nosuid,nodev` everywhere but where a line below says why not, `noexec`
//! wherever nothing of ours is executed; tmpfs have a size and a number of inodes. This file decides; `boot.rs`
//! mounts, and takes "already mounted" for done. A test of the running node lists every mount and its flags.

use crate::config::{ExtraMount, MachineConfig};
use crate::paths;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::borrow::Cow;

/// One mount to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub what: What,
    /// Absolute mount point; made when it is missing and can be.
    pub target: Cow<'static, str>,
    /// Per-mount flags.
    pub flags: MountFlags,
    /// The file system's own options, comma separated.
    pub data: Cow<'static, str>,
    /// Propagation set after mounting; empty leaves what it is.
    pub propagation: MountPropagationFlags,
    /// What it means when it cannot be made.
    pub need: Need,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file system: its type, and its device if it has one.
    FileSystem {
        /// e.g. `tmpfs`.
        kind: Cow<'static, str>,
        /// A device, or the type again.
        source: Cow<'static, str>,
    },
    /// A folder that is already there, elsewhere.
    Bind {
        /// Absolute path.
        source: String,
        /// With all mounts below it.
        recursive: bool,
    },
    /// A folder of the image made writable.
    Overlay {
        /// The image's folder; the mount point too.
        lower: &'static str,
        /// Folder below [`paths::OVERLAYS`] that holds `upper` and `work`.
        store: String,
    },
}

/// What it means when a mount cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The node is worse off: an error is said.
    Must,
    /// Not every kernel or machine has it: without its file system or mount point it is skipped.
    IfPresent,
}

const fn kernel(
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static str,
    need: Need,
) -> Mount {
    Mount {
        what: What::FileSystem { kind: Cow::Borrowed(kind), source: Cow::Borrowed(kind) },
        target: Cow::Borrowed(target),
        flags,
        data: Cow::Borrowed(data),
        propagation: MountPropagationFlags::empty(),
        need,
    }
}

/// `nosuid,nodev`.
pub const NO_SUID_DEV: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// `nosuid,nodev,noexec`.
pub const NO_ALL: MountFlags = NO_SUID_DEV.union(MountFlags::NOEXEC);
/// `nosuid,noexec`: for the two that hold device nodes.
const NO_SUID_EXEC: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

/// The early mounts, in this order; they need nothing but the kernel.
#[rustfmt::skip]
pub const EARLY: &[Mount] = &[
    // No hidepid: the kubelet and containerd read other processes.
    kernel("proc",       "/proc",                      NO_ALL,       "",                                     Need::Must),
    kernel("sysfs",      "/sys",                       NO_ALL,       "",                                     Need::Must),
    // Device nodes are what it is for.
    kernel("devtmpfs",   "/dev",                       NO_SUID_EXEC, "mode=0755",                            Need::Must),
    // gid 5 is `tty`; ptmx for everybody, as containers' own instances have it.
    kernel("devpts",     "/dev/pts",                   NO_SUID_EXEC, "mode=0620,gid=5,ptmxmode=0666",        Need::Must),
    // Pods get their own; this one serves hostIPC pods.
    kernel("tmpfs",      "/dev/shm",                   NO_ALL,       "mode=1777,size=10%,nr_inodes=16k",     Need::Must),
    kernel("mqueue",     "/dev/mqueue",                NO_ALL,       "",                                     Need::IfPresent),
    // containerd's state: about 30 inodes a container. Root file systems of containers are mounts of their own.
    kernel("tmpfs",      "/run",                       NO_ALL,       "mode=0755,size=20%,nr_inodes=512k",    Need::Must),
    // Holds the mount point of STATE alone.
    kernel("tmpfs",      "/system",                    NO_ALL,       "mode=0755,size=1m,nr_inodes=1k",       Need::Must),
    kernel("tmpfs",      "/tmp",                       NO_ALL,       "mode=1777,size=10%,nr_inodes=64k",     Need::Must),
    // nsdelegate: a container's own cgroup is its border. memory_recursiveprot: memory.min of a group protects all below.
    // favordynmods (Linux 6.0): a service joins its cgroup in 0.1 ms; else the first in a while waits 17 ms for RCU.
    kernel("cgroup2",    CGROUPS,                      NO_ALL,       "nsdelegate,memory_recursiveprot,favordynmods", Need::Must),
    // Pinned programs are root's business.
    kernel("bpf",        "/sys/fs/bpf",                NO_ALL,       "mode=0700",                            Need::IfPresent),
    kernel("securityfs", "/sys/kernel/security",       NO_ALL,       "",                                     Need::IfPresent),
    kernel("tracefs",    "/sys/kernel/tracing",        NO_ALL,       "",                                     Need::IfPresent),
    // Read-only until something must be written there: a wrong write can brick a machine.
    kernel("efivarfs",   "/sys/firmware/efi/efivars",  NO_ALL.union(MountFlags::RDONLY), "",                 Need::IfPresent),
    // The previous boot's last words.
    kernel("pstore",     "/sys/fs/pstore",             NO_ALL,       "",                                     Need::IfPresent),
];

/// Where the cgroups are.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// Whether what is mounted at the mount's target, by the text of `/proc/self/mountinfo`, is of its type and lacks one of
/// its own options. `false` when nothing is mounted there.
#[must_use]
pub fn lacks_options(mount: &Mount, mountinfo: &str) -> bool {
    let What::FileSystem { kind, .. } = &mount.what else { return false };
    // `36 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate`; the last line there is on top.
    let options_of = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let is_here = left.split(' ').nth(4) == Some(&*mount.target);
        let mut right = right.split(' ');
        (is_here && right.next() == Some(kind)).then(|| right.nth(1).map(str::to_owned))?
    };
    let Some(have) = mountinfo.lines().filter_map(options_of).next_back() else { return false };
    mount.data.split(',').any(|wanted| have.split(',').all(|option| option != wanted))
}

/// Flags of [`paths::STATE`]: it holds files that are read, nothing else.
pub const STATE_FLAGS: MountFlags = NO_ALL.union(MountFlags::NOATIME);
/// Flags of `/var`. Exec stays: pods execute what an init container put into an emptyDir, and volumes are bind
/// mounts that inherit these flags. Container root file systems are overlays with flags of their own, so setuid
/// programs in images work, and overlay whiteouts do not care for nodev.
pub const DATA_FLAGS: MountFlags = NO_SUID_DEV.union(MountFlags::NOATIME);
/// In place of a missing STATE partition: a config of 4 MiB and small things.
pub const STATE_TMPFS: &str = "mode=0700,size=16m,nr_inodes=1k";
/// In place of a missing EPHEMERAL partition: images and logs live in memory then.
pub const DATA_TMPFS: &str = "mode=0755,size=50%,nr_inodes=1m";

/// The image's folders that are made writable, and whether something in them is executed.
const OVERLAID: &[(&str, MountFlags)] = &[
    ("/etc/kubernetes", NO_ALL),
    ("/etc/cni", NO_ALL),
    // CNI plugins, the image's and the user's.
    ("/opt", NO_SUID_DEV),
    // The kubelet's exec volume plugins.
    ("/usr/libexec/kubernetes", NO_SUID_DEV),
];

/// The mounts that come after `/var`: overlays, the manifests' own tmpfs, `machine.kubelet.extraMounts`.
#[must_use]
pub fn plan(config: &MachineConfig) -> Vec<Mount> {
    let overlays = OVERLAID.iter().map(|&(lower, flags)| overlay(lower, flags));
    // 1 MiB a pod at most, in practice 2 KiB; one file a pod and one while it is replaced.
    let manifests = kernel("tmpfs", paths::MANIFESTS, NO_ALL, "mode=0700,size=64m,nr_inodes=32k", Need::Must);
    let extra = config.machine.kubelet.extra_mounts.iter().map(extra_mount);
    overlays.chain([manifests]).chain(extra).collect()
}

fn overlay(lower: &'static str, flags: MountFlags) -> Mount {
    let store = format!("{}/{}", paths::OVERLAYS, lower.trim_start_matches('/').replace('/', "-"));
    Mount {
        // `index` and `metacopy` off: the upper folder stays plain files that any tool can read or remove.
        data: Cow::Owned(format!(
            "lowerdir={lower},upperdir={store}/upper,workdir={store}/work,index=off,metacopy=off"
        )),
        what: What::Overlay { lower, store },
        target: Cow::Borrowed(lower),
        flags,
        propagation: MountPropagationFlags::empty(),
        need: Need::Must,
    }
}

fn extra_mount(extra: &ExtraMount) -> Mount {
    let mut mount = Mount {
        what: What::Bind { source: extra.source.clone(), recursive: false },
        target: Cow::Owned(extra.destination.clone()),
        flags: MountFlags::empty(),
        data: Cow::Borrowed(""),
        propagation: MountPropagationFlags::empty(),
        need: Need::Must,
    };
    let mut is_bind = matches!(extra.kind.as_str(), "" | "bind" | "none");
    let mut recursive = false;
    let mut data: Vec<&str> = Vec::new();
    for option in &extra.options {
        match option.as_str() {
            "bind" => is_bind = true,
            "rbind" => (is_bind, recursive) = (true, true),
            word => {
                if let Some((flag, on)) = flag(word) {
                    mount.flags.set(flag, on);
                } else if let Some(propagation) = propagation(word) {
                    mount.propagation = propagation;
                } else if !matches!(word, "defaults" | "async" | "auto") {
                    data.push(word);
                }
            }
        }
    }
    mount.what = if is_bind {
        What::Bind { source: extra.source.clone(), recursive }
    } else {
        What::FileSystem { kind: Cow::Owned(extra.kind.clone()), source: Cow::Owned(extra.source.clone()) }
    };
    mount.data = Cow::Owned(data.join(","));
    mount
}

/// `mount -o` words that are per-mount flags, and whether they set or clear them.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "nosymfollow" => (MountFlags::NOSYMFOLLOW, true),
        _ => return None,
    })
}

/// `mount -o` words of propagation.
fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let (kind, recursive) = match word.strip_prefix('r') {
        Some(kind) => (kind, MountPropagationFlags::REC),
        None => (word, MountPropagationFlags::empty()),
    };
    Some(recursive.union(match kind {
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "private" => MountPropagationFlags::PRIVATE,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_somebody_took_away_are_missed() {
        let cgroups = EARLY.iter().find(|mount| mount.target == CGROUPS).unwrap();
        let line = |kind: &str, options: &str| {
            format!("28 21 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:4 - {kind} {kind} {options}\n")
        };
        let whole = line("cgroup2", "rw,nsdelegate,favordynmods,memory_recursiveprot");
        let bare = line("cgroup2", "rw");
        assert!(!lacks_options(cgroups, &whole) && lacks_options(cgroups, &bare));
        assert!(lacks_options(cgroups, &line("cgroup2", "rw,nsdelegate,favordynmods")));
        assert!(
            !lacks_options(cgroups, &(bare.clone() + &whole)) && lacks_options(cgroups, &(whole + &bare))
        );
        for other in [&line("cgroup", "rw"), "", "28 21 0:25 / /sys rw - cgroup2 cgroup2 rw", "x - y"] {
            assert!(!lacks_options(cgroups, other), "{other}");
        }
    }

    #[test]
    fn every_early_mount_is_nosuid_and_lets_nothing_be_executed() {
        for mount in EARLY {
            assert!(mount.flags.contains(NO_SUID_EXEC), "{mount:?}");
            let holds_devices = matches!(mount.target.as_ref(), "/dev" | "/dev/pts");
            assert_eq!(mount.flags.contains(MountFlags::NODEV), !holds_devices, "{mount:?}");
        }
    }

    #[test]
    fn every_tmpfs_is_bounded_in_size_and_inodes() {
        let config = MachineConfig::default();
        let all = EARLY.iter().cloned().chain(plan(&config));
        let tmpfs = all.filter(|m| matches!(&m.what, What::FileSystem { kind, .. } if kind == "tmpfs"));
        let data: Vec<_> =
            tmpfs.map(|m| m.data.into_owned()).chain([STATE_TMPFS.into(), DATA_TMPFS.into()]).collect();
        assert_eq!(data.len(), 7);
        for data in data {
            for bound in ["mode=", "size=", "nr_inodes="] {
                assert!(data.contains(bound), "{data} lacks {bound}");
            }
        }
    }

    #[test]
    fn a_mount_point_comes_after_the_mount_that_holds_it() {
        let config = MachineConfig::default();
        let all: Vec<_> = EARLY.iter().cloned().chain(plan(&config)).collect();
        for (index, mount) in all.iter().enumerate() {
            let holders = all.iter().enumerate().filter(|(_, other)| {
                mount.target.strip_prefix(other.target.as_ref()).is_some_and(|rest| rest.starts_with('/'))
            });
            for (holder, other) in holders {
                assert!(holder < index, "{} is hidden by {}", mount.target, other.target);
            }
        }
    }

    #[test]
    fn manifests_are_a_tmpfs_of_their_own_for_root_alone_above_the_overlay() {
        let plan = plan(&MachineConfig::default());
        let manifests = plan.iter().find(|m| m.target == paths::MANIFESTS).unwrap();
        assert!(manifests.data.contains("mode=0700"));
        assert_eq!(manifests.flags, NO_ALL);
    }

    #[test]
    fn overlays_keep_their_upper_and_work_folder_side_by_side_on_var() {
        let plan = plan(&MachineConfig::default());
        let stores: Vec<_> = plan
            .iter()
            .filter_map(|m| match &m.what {
                What::Overlay { lower, store } => Some((*lower, store.as_str(), m.data.as_ref())),
                _ => None,
            })
            .collect();
        assert_eq!(stores.len(), 4);
        assert_eq!(stores[3].0, "/usr/libexec/kubernetes");
        assert_eq!(stores[3].1, "/var/system/overlays/usr-libexec-kubernetes");
        assert!(stores[3].2.starts_with(
            "lowerdir=/usr/libexec/kubernetes,upperdir=/var/system/overlays/usr-libexec-kubernetes/upper,"
        ));
    }

    fn extra(kind: &str, source: &str, options: &[&str]) -> Mount {
        let mut config = MachineConfig::default();
        config.machine.kubelet.extra_mounts.push(ExtraMount {
            destination: "/var/mnt".into(),
            kind: kind.into(),
            source: source.into(),
            options: options.iter().map(ToString::to_string).collect(),
        });
        plan(&config).pop().unwrap()
    }

    #[test]
    fn an_extra_mount_is_a_bind_unless_it_names_a_file_system() {
        let bind = extra("bind", "/var/data", &["rbind", "rshared", "rw"]);
        assert_eq!(bind.what, What::Bind { source: "/var/data".into(), recursive: true });
        assert_eq!(bind.propagation, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
        assert_eq!(bind.flags, MountFlags::empty());

        let nfs = extra("tmpfs", "tmpfs", &["ro", "nosuid", "size=1m", "mode=0700"]);
        assert!(matches!(nfs.what, What::FileSystem { ref kind, .. } if kind == "tmpfs"));
        assert_eq!(nfs.flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(nfs.data, "size=1m,mode=0700");
    }

    #[test]
    fn later_options_win() {
        assert_eq!(extra("bind", "/a", &["ro", "rw", "noexec"]).flags, MountFlags::NOEXEC);
        assert_eq!(extra("", "/a", &["slave"]).propagation, MountPropagationFlags::DOWNSTREAM);
    }
}
