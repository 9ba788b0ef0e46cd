//! What is in each init's machine: its Debian packages, its own configuration of the two services, and how the kernel
//! starts it. Each is as lean as the init allows, so that the init is measured and not a distribution.

use anyhow::Result;
use podium_image::definition::Pick;
use podium_image::tree::{Content, Tree};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Packages, and the globs of what is taken from each.
type Picks = &'static [(&'static str, &'static [&'static str])];

/// An init and its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recipe {
    /// As on the command line and in the table.
    pub(super) name: &'static str,
    /// What the kernel executes.
    pub(super) init: &'static str,
    /// Further words of the kernel command line.
    pub(super) words: &'static [&'static str],
    picks: Picks,
    /// Path and text; a script when it begins as one.
    files: &'static [(&'static str, &'static str)],
    /// Path and target.
    links: &'static [(&'static str, &'static str)],
    /// Programs of ours beside the probe and the gauge.
    programs: &'static [(&'static str, Program)],
}

/// Programs of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    Probe,
    Gauge,
    Bare,
    Init,
}

impl Program {
    pub(super) const ALL: [Self; 4] = [Self::Probe, Self::Gauge, Self::Bare, Self::Init];

    /// Package and binary.
    pub(super) fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Probe => ("podium-tests", "probe"),
            Self::Gauge => ("podium-tests", "gauge"),
            Self::Bare => ("podium-tests", "bare"),
            Self::Init => ("podium-init", "init"),
        }
    }
}

const NONE: Recipe =
    Recipe { name: "", init: "/sbin/init", words: &[], picks: &[], files: &[], links: &[], programs: &[] };

/// For scripts: static, so that a peer with a shell in its way pays for the shell alone.
const SHELL: (&str, &[&str]) = ("busybox-static", &["usr/bin/busybox"]);

const RUNIT_STAGE_2: &str = "#!/bin/busybox sh
export PATH=/usr/bin
exec runsvdir -P /service
";
const SYSTEMD_TARGET: &str = "[Unit]
DefaultDependencies=no
Wants=probe.service gauge.service
";
const SYSTEMD_PROBE: &str = "[Unit]
DefaultDependencies=no
[Service]
ExecStart=/sbin/probe
Restart=always
StandardOutput=null
";
/// With its usual limit of tasks only half of the orphans could be started.
const SYSTEMD_GAUGE: &str = "[Unit]
DefaultDependencies=no
[Service]
ExecStart=/sbin/gauge
TasksMax=infinity
StandardOutput=null
";
const IMAGE_FACTS: &str = r#"{"buildId":"peers","kernel":"","containerd":"1.6.20","runc":"1.1.5","kubelet":"1.20.2",
"pauseImage":"podium.local/pause:1","preload":[],"built":0}
"#;
const MACHINE_CONFIG: &str = "version: v1alpha1
machine: {}
";

/// All of them; Podium first, then the least that there can be, then the peers by name.
pub(super) const ALL: [Recipe; 8] = [
    Recipe {
        name: "podium",
        // By this name it is the node stage: there is no disk that the other would have to find.
        init: "/usr/sbin/init",
        // As the initramfs stage has it for the node stage: `init/src/sys/heap.rs`.
        words: &["GLIBC_TUNABLES=glibc.malloc.top_pad=0:glibc.malloc.trim_threshold=4096"],
        files: &[("usr/lib/podium/image.json", IMAGE_FACTS), ("usr/lib/podium/machine.yaml", MACHINE_CONFIG)],
        links: &[
            ("etc/resolv.conf", "/run/podium/resolv.conf"),
            ("etc/hosts", "/run/podium/hosts"),
            ("etc/hostname", "/run/podium/hostname"),
            ("usr/sbin/modprobe", "init"),
        ],
        programs: &[
            ("usr/sbin/init", Program::Init),
            ("usr/bin/apid", Program::Probe),
            ("usr/bin/containerd", Program::Probe),
            ("usr/sbin/dhcpcd", Program::Probe),
            ("usr/sbin/chronyd", Program::Probe),
            ("usr/bin/kubelet", Program::Gauge),
        ],
        ..NONE
    },
    Recipe { name: "bare", programs: &[("usr/sbin/init", Program::Bare)], ..NONE },
    Recipe {
        name: "busybox",
        picks: &[SHELL],
        files: &[("etc/inittab", "::respawn:/sbin/probe\n::respawn:/sbin/gauge\n")],
        links: &[("usr/sbin/init", "../bin/busybox")],
        ..NONE
    },
    Recipe {
        name: "finit",
        init: "/sbin/finit",
        picks: &[("finit", &["usr/sbin/finit", "usr/lib/finit/*"]), SHELL],
        files: &[(
            "etc/finit.conf",
            "service [S12345] /sbin/probe -- probe\nservice [S12345] /sbin/gauge -- gauge\n",
        )],
        links: &[("usr/bin/sh", "busybox")],
        ..NONE
    },
    Recipe {
        name: "runit",
        init: "/sbin/runit",
        picks: &[("runit", &["usr/sbin/runit", "usr/bin/runsvdir", "usr/bin/runsv"]), SHELL],
        files: &[("etc/runit/1", "#!/bin/busybox true\n"), ("etc/runit/2", RUNIT_STAGE_2)],
        links: &[("service/probe/run", "/sbin/probe"), ("service/gauge/run", "/sbin/gauge")],
        ..NONE
    },
    Recipe {
        name: "s6",
        init: "/usr/bin/s6-svscan",
        words: &["PATH=/usr/bin", "--", "/service"],
        picks: &[("s6", &["usr/bin/s6-svscan", "usr/bin/s6-supervise"])],
        links: &[("service/probe/run", "/sbin/probe"), ("service/gauge/run", "/sbin/gauge")],
        ..NONE
    },
    Recipe {
        name: "systemd",
        init: "/usr/lib/systemd/systemd",
        picks: &[("systemd", &["usr/lib/systemd/systemd"])],
        files: &[
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("etc/os-release", "ID=peers\n"),
            ("etc/systemd/system/default.target", SYSTEMD_TARGET),
            ("etc/systemd/system/probe.service", SYSTEMD_PROBE),
            ("etc/systemd/system/gauge.service", SYSTEMD_GAUGE),
        ],
        ..NONE
    },
    Recipe {
        name: "sysvinit",
        picks: &[("sysvinit-core", &["usr/sbin/init"])],
        files: &[("etc/inittab", "id:2:initdefault:\np:2:respawn:/sbin/probe\ng:2:respawn:/sbin/gauge\n")],
        ..NONE
    },
];

/// Folders that every machine has.
const FOLDERS: [&str; 12] = [
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "var",
    "root",
    "system",
    "etc/kubernetes/manifests",
    "etc/cni/net.d",
    "opt/cni/bin",
    "usr/libexec/kubernetes",
];

impl Recipe {
    /// What it takes from Debian's packages.
    pub(super) fn picked(&self) -> BTreeMap<String, Vec<Pick>> {
        let globs = |globs: &[&str]| globs.iter().map(|&glob| Pick::Glob(glob.to_owned())).collect();
        self.picks.iter().map(|(package, list)| ((*package).to_owned(), globs(list))).collect()
    }

    /// Its root: what the packages gave, and all the rest.
    pub(super) fn tree(&self, packages: Tree, programs: &BTreeMap<Program, PathBuf>) -> Result<Tree> {
        let mut tree = packages;
        for (link, target) in
            [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
        {
            tree.link(link, target)?;
        }
        for folder in FOLDERS {
            tree.folder(folder, 0o755)?;
        }
        for (path, text) in self.files {
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            tree.file(path, mode, Content::Bytes(text.as_bytes().to_vec()))?;
        }
        for (path, target) in self.links {
            tree.link(path, target)?;
        }
        let always = [("usr/sbin/probe", Program::Probe), ("usr/sbin/gauge", Program::Gauge)];
        for (path, program) in self.programs.iter().chain(&always) {
            if let Some(file) = programs.get(program) {
                tree.file(path, 0o755, Content::of_file(file)?)?;
            }
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_has_a_name_of_its_own_and_both_services() {
        let programs: BTreeMap<Program, PathBuf> =
            Program::ALL.map(|program| (program, std::env::current_exe().unwrap())).into();
        let mut names: Vec<&str> = ALL.iter().map(|recipe| recipe.name).collect();
        for recipe in ALL {
            let tree = recipe.tree(Tree::default(), &programs).unwrap();
            for path in ["usr/sbin/probe", "usr/sbin/gauge", "dev"] {
                assert!(tree.get(path).is_some(), "{} lacks {path}", recipe.name);
            }
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
