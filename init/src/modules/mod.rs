//! Kernel modules: from the text of depmod's tables to the files to load, in order.
//!
//! It answers a name (`overlay`, `nf-conntrack`), an alias (`fs-erofs`, `net-pf-10`) or a device's modalias
//! (`pci:v00001AF4d…`) with a [`Plan`]: dependencies first, soft dependencies before and after, what is loaded left
//! out, what is blacklisted left out together with all that depends on it. `-` and `_` are the same letter in a name.
//!
//! The tables are read by plain passes and no index is built, because a process asks once or a few times in its
//! life: as many passes over `modules.dep` as the dependencies are deep, one over `modules.alias`. Loading is
//! `sys::module`'s work; nothing here touches a file.

mod glob;
mod needed;
mod plan;

pub use glob::matches;
pub use needed::{AT_BOOT, SOFT_WATCHDOG, SOON, behind_sysctl};
pub use plan::plan;

use std::collections::BTreeSet;

/// depmod's tables for one kernel, as text; one that is missing is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// `modules.dep`: `kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko`.
    pub dep: String,
    /// `modules.alias`: `alias fs-erofs erofs`.
    pub alias: String,
    /// `modules.softdep`: `softdep libcrc32c pre: crc32c`.
    pub softdep: String,
    /// `modules.builtin`: `kernel/fs/ext4/ext4.ko`, a line for each module that is part of the kernel itself.
    pub builtin: String,
}

/// What is already decided about modules before a plan is made. Names are in the form of [`name`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Loaded and alive, from [`loaded`].
    pub loaded: BTreeSet<String>,
    /// Never to be loaded, from [`blacklist`].
    pub blacklist: BTreeSet<String>,
}

/// One module to load.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    /// As in `/proc/modules`: with `_`, without `.ko`.
    pub name: String,
    /// Its file, below the folder of the kernel release.
    pub file: String,
}

/// What to do for some requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order; each once.
    pub load: Vec<Module>,
    /// The modules that the requests themselves mean, without dependencies; loaded ones too.
    pub meant: BTreeSet<String>,
    /// Requests that neither the modules nor the kernel itself answer.
    pub unknown: Vec<String>,
    /// Modules left out because they, or a dependency of theirs, are blacklisted.
    pub blocked: BTreeSet<String>,
}

/// The names of live modules in the text of `/proc/modules`. One that is still being loaded is left out: loading it
/// again is what waits for it.
pub fn loaded(proc_modules: &str) -> BTreeSet<String> {
    proc_modules
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let module = fields.next()?;
            // name size users dependents state address
            fields.nth(3).filter(|state| *state == "Live").map(|_| module.to_owned())
        })
        .collect()
}

/// The modules that `modprobe.blacklist=a,b` on the kernel command line forbids. `module_blacklist=` is the kernel's
/// own and holds without us, but what it refuses anyhow is not tried.
pub fn blacklist(cmdline: &[u8]) -> BTreeSet<String> {
    words(cmdline)
        .filter(|(word, _)| matches!(*word, "modprobe.blacklist" | "module_blacklist"))
        .flat_map(|(_, value)| value.unwrap_or_default().split(','))
        .filter(|module| !module.is_empty())
        .map(name)
        .collect()
}

/// The parameters for a module on the kernel command line: `kvm.ignore_msrs=1` gives `ignore_msrs=1` for `kvm`.
/// A value with blanks is put into quotes again.
pub fn parameters(cmdline: &[u8], module: &str) -> String {
    let parameters = words(cmdline).filter_map(|(word, value)| {
        let (owner, parameter) = word.split_once('.')?;
        if name(owner) != module || parameter.is_empty() {
            return None;
        }
        Some(match value {
            Some(value) if value.contains(char::is_whitespace) => format!("{parameter}=\"{value}\""),
            Some(value) => format!("{parameter}={value}"),
            None => parameter.to_owned(),
        })
    });
    parameters.collect::<Vec<_>>().join(" ")
}

/// The words of the kernel command line that are text.
fn words(cmdline: &[u8]) -> impl Iterator<Item = (&str, Option<&str>)> {
    crate::cmdline::words(cmdline).filter_map(|(word, value)| {
        let value = value.map(std::str::from_utf8).transpose().ok()?;
        Some((std::str::from_utf8(word).ok()?, value))
    })
}

/// A module's name as the kernel has it: `_` for `-`.
pub fn name(text: &str) -> String {
    text.replace('-', "_")
}

/// The module's name that a file stands for: `kernel/net/8021q/8021q.ko.xz` is `8021q`; `None` if it is no module.
pub fn name_of_file(file: &str) -> Option<String> {
    let base = file.rsplit('/').next().unwrap_or(file);
    let stem = base
        .strip_suffix(".ko")
        .or_else(|| COMPRESSED.iter().find_map(|suffix| base.strip_suffix(suffix)?.strip_suffix(".ko")))?;
    (!stem.is_empty()).then(|| name(stem))
}

/// Whether the kernel has to decompress a module's file.
pub fn is_compressed(file: &str) -> bool {
    COMPRESSED.iter().any(|suffix| file.ends_with(suffix))
}

/// What may follow `.ko`.
const COMPRESSED: [&str; 3] = [".xz", ".zst", ".gz"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_live_modules_count_as_loaded() {
        let text = "erofs 106496 1 - Live 0xffffffffc0570000\n\
                    libcrc32c 16384 1 erofs, Live 0xffffffffc0560000\n\
                    virtio_blk 28672 0 - Loading 0xffffffffc0550000\n\
                    evdev 28672 0 - Unloading 0x0000000000000000\n\
                    cut\n\n";
        assert_eq!(loaded(text), BTreeSet::from(["erofs".to_owned(), "libcrc32c".to_owned()]));
    }

    #[test]
    fn names_come_from_files() {
        for (file, want) in [
            ("kernel/fs/erofs/erofs.ko", Some("erofs")),
            ("kernel/net/netfilter/nf-log-syslog.ko.xz", Some("nf_log_syslog")),
            ("8021q.ko.zst", Some("8021q")),
            ("a/b.ko.gz", Some("b")),
            ("a/b.ko.txt", None),
            ("a/.ko", None),
            ("modules.dep", None),
            ("", None),
        ] {
            assert_eq!(name_of_file(file).as_deref(), want, "{file}");
        }
        assert!(is_compressed("x.ko.xz") && is_compressed("x.ko.zst") && !is_compressed("x.ko"));
    }

    #[test]
    fn blacklist_takes_both_words_and_dashes() {
        let cmdline =
            b"modprobe.blacklist=nvme,virtio-rng quiet module_blacklist=,floppy, modprobe.blacklist";
        let want = ["floppy", "nvme", "virtio_rng"].map(str::to_owned);
        assert_eq!(blacklist(cmdline), BTreeSet::from(want));
    }

    #[test]
    fn parameters_are_those_of_the_module_alone() {
        let cmdline = b"virtio-net.napi_tx=0 virtio_net.csum virtio_net2.csum=1 quiet podium.root=X \
                        virtio_net.label=\"a b\" virtio_net. virtio_net.bad=\xff";
        assert_eq!(parameters(cmdline, "virtio_net"), "napi_tx=0 csum label=\"a b\"");
        assert_eq!(parameters(cmdline, "erofs"), "");
    }
}
