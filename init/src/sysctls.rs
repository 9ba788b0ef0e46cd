//! Kernel settings: [`DEFAULTS`], each with its reason, and those of the config over them.
//!
//! The defaults are what the kernel's self-protection project recommends, where containers live with it, and what
//! the kubelet demands of a node. The config's win, one by one. Nothing here writes: `prepare.rs` does.

use crate::config::MachineConfig;
use std::collections::BTreeMap;

/// Settings of a node whose config names none, by dotted name.
#[rustfmt::skip]
pub const DEFAULTS: &[(&str, &str)] = &[
    // What the kubelet wants, and sets itself unless protectKernelDefaults forbids it. kernel.panic is set first of
    // all, in boot.rs.
    ("kernel.panic",                        "10"),
    ("kernel.panic_on_oops",                "1"),
    ("vm.overcommit_memory",                "1"),
    ("vm.panic_on_oom",                     "0"),
    ("kernel.keys.root_maxbytes",           "25000000"),
    ("kernel.keys.root_maxkeys",            "1000000"),
    // Pods: forwarding between them, files watched by each, processes, and maps for databases.
    ("net.ipv4.ip_forward",                 "1"),
    ("net.ipv6.conf.all.forwarding",        "1"),
    ("fs.inotify.max_user_instances",       "8192"),
    ("fs.inotify.max_user_watches",         "524288"),
    ("kernel.pid_max",                      "4194304"),
    ("vm.max_map_count",                    "262144"),
    // Kernel addresses and messages are no business of a pod.
    ("kernel.kptr_restrict",                "2"),
    ("kernel.dmesg_restrict",               "1"),
    ("kernel.perf_event_paranoid",          "3"),
    // Classic ways up from an unprivileged process.
    ("kernel.unprivileged_bpf_disabled",    "1"),
    ("net.core.bpf_jit_harden",             "2"),
    ("vm.unprivileged_userfaultfd",         "0"),
    ("vm.mmap_min_addr",                    "65536"),
    ("kernel.yama.ptrace_scope",            "1"),
    ("dev.tty.ldisc_autoload",              "0"),
    ("dev.tty.legacy_tiocsti",              "0"),
    ("kernel.randomize_va_space",           "2"),
    // Another kernel comes by a reboot. Of the keys on a console sync alone is left, because with none the kernel
    // takes 20 ms to forget its keyboards; /proc/sysrq-trigger works all the same.
    ("kernel.kexec_load_disabled",          "1"),
    ("kernel.sysrq",                        "16"),
    // Links and FIFOs of others in sticky folders, memory of setuid programs in core files.
    ("fs.protected_symlinks",               "1"),
    ("fs.protected_hardlinks",              "1"),
    ("fs.protected_fifos",                  "2"),
    ("fs.protected_regular",                "2"),
    ("fs.suid_dumpable",                    "0"),
    // The node takes its routes from DHCP and its config, not from whoever sends a packet, and gives none away.
    ("net.ipv4.conf.all.accept_redirects",  "0"),
    ("net.ipv4.conf.default.accept_redirects", "0"),
    ("net.ipv4.conf.all.secure_redirects",  "0"),
    ("net.ipv4.conf.default.secure_redirects", "0"),
    ("net.ipv4.conf.all.send_redirects",    "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
    ("net.ipv4.conf.all.accept_source_route", "0"),
    ("net.ipv4.conf.default.accept_source_route", "0"),
    ("net.ipv6.conf.all.accept_redirects",  "0"),
    ("net.ipv6.conf.default.accept_redirects", "0"),
    ("net.ipv6.conf.all.accept_source_route", "0"),
    ("net.ipv6.conf.default.accept_source_route", "0"),
    ("net.ipv4.tcp_syncookies",             "1"),
    ("net.ipv4.icmp_echo_ignore_broadcasts", "1"),
];

/// The README's table of [`DEFAULTS`].
#[must_use]
pub fn reference() -> String {
    let mut table = String::from("| setting | value |\n|---|---|\n");
    for (name, value) in DEFAULTS {
        table += &format!("| `{name}` | `{value}` |\n");
    }
    table
}

/// One value to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As written in the config, dotted.
    pub name: String,
    /// The value.
    pub value: String,
    /// The file of the kernel, absolute.
    pub path: String,
    /// The config asked for it: a failure is an error, not a kernel without it.
    pub asked_for: bool,
}

/// The sysctls of a node: defaults first, in their order, then what only the config names.
///
/// In a container the kernel is the host's: only what the config names is written.
#[must_use]
pub fn plan(config: &MachineConfig, container: bool) -> (Vec<Setting>, Vec<String>) {
    let asked = &config.machine.sysctls;
    let defaults = DEFAULTS.iter().filter(|(name, _)| !container && !asked.contains_key(*name));
    let defaults = defaults.filter_map(|(name, value)| setting("/proc/sys", name, value, false));
    let (asked, problems) = settings("/proc/sys", "machine.sysctls", asked);
    (defaults.chain(asked).collect(), problems)
}

/// `machine.sysfs`, as settings below /sys, and what is wrong with it.
#[must_use]
pub fn sysfs(config: &MachineConfig) -> (Vec<Setting>, Vec<String>) {
    settings("/sys", "machine.sysfs", &config.machine.sysfs)
}

fn settings(base: &str, key: &str, asked: &BTreeMap<String, String>) -> (Vec<Setting>, Vec<String>) {
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    for (name, value) in asked {
        match setting(base, name, value, true) {
            Some(setting) => settings.push(setting),
            None => problems.push(format!("{key}.{name}: names no file below {base}")),
        }
    }
    (settings, problems)
}

/// `None` for a name that would leave `base`.
fn setting(base: &str, name: &str, value: &str, asked_for: bool) -> Option<Setting> {
    let path = format!("{base}/{}", path(name)?);
    Some(Setting { name: name.to_owned(), value: value.to_owned(), path, asked_for })
}

/// Dots separate, as sysctl(8) has it: in `net.ipv4.conf.eth0/100.mtu`, whose first separator is a dot, a slash
/// stands for a dot of the name itself; a name whose first separator is a slash is a path as it is.
pub(crate) fn path(name: &str) -> Option<String> {
    let first = name.find(['.', '/']).and_then(|at| name.as_bytes().get(at));
    let path: String = match first {
        Some(b'.') => {
            let swap = |letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    };
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    path.split('/').all(is_plain).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_by_the_rule_of_sysctl() {
        assert_eq!(path("kernel.panic").as_deref(), Some("kernel/panic"));
        assert_eq!(
            path("net.ipv4.conf.eth0/100.forwarding").as_deref(),
            Some("net/ipv4/conf/eth0.100/forwarding")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.100/forwarding").as_deref(),
            Some("net/ipv4/conf/eth0.100/forwarding")
        );
        assert_eq!(path("plain").as_deref(), Some("plain"));
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for name in
            ["", ".", "..", "kernel..panic", "kernel/../../etc/passwd", "/etc/passwd", "a/./b", "a.\0"]
        {
            assert_eq!(path(name), None, "{name:?}");
        }
    }

    #[test]
    fn every_default_is_a_plain_name_and_there_once() {
        let mut names: Vec<_> = DEFAULTS.iter().map(|(name, _)| *name).collect();
        assert!(names.iter().all(|name| path(name).is_some_and(|path| path == name.replace('.', "/"))));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_config_wins_over_a_default_and_says_what_names_nothing() {
        let mut config = MachineConfig::default();
        config.machine.sysctls.insert("kernel.panic".into(), "0".into());
        config.machine.sysctls.insert("vm.swappiness".into(), "7".into());
        config.machine.sysctls.insert("../etc".into(), "x".into());
        let (plan, problems) = plan(&config, false);
        assert_eq!(plan.len(), DEFAULTS.len() + 1);
        let panic: Vec<_> = plan.iter().filter(|s| s.path == "/proc/sys/kernel/panic").collect();
        assert_eq!(panic.len(), 1);
        assert_eq!((panic[0].value.as_str(), panic[0].asked_for), ("0", true));
        assert_eq!(problems, ["machine.sysctls.../etc: names no file below /proc/sys"]);
    }

    #[test]
    fn in_a_container_the_hosts_kernel_keeps_its_settings() {
        let mut config = MachineConfig::default();
        config.machine.sysctls.insert("net.core.somaxconn".into(), "9".into());
        let (plan, _) = plan(&config, true);
        assert_eq!(plan.len(), 1);
    }

    #[test]
    fn sysfs_is_dotted_likewise() {
        let mut config = MachineConfig::default();
        config.machine.sysfs.insert("block.sda.queue.scheduler".into(), "none".into());
        assert_eq!(sysfs(&config).0[0].path, "/sys/block/sda/queue/scheduler");
    }
}
