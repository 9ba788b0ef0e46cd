//! What the host machine must have, as one table with reasons, and what it lacks.
//!
//! Deciding is done here; installing is one printed `apt-get` line, run only when asked.

use crate::run;
use anyhow::{Result, bail};
use std::path::Path;

/// One package of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Requirement {
    /// Debian package.
    pub package: &'static str,
    /// A program or an absolute file that is there when the package is installed.
    pub probe: &'static str,
    /// What it is needed for.
    pub reason: &'static str,
}

const fn need(package: &'static str, probe: &'static str, reason: &'static str) -> Requirement {
    Requirement { package, probe, reason }
}

/// Everything that building, running and testing Podium takes from the host, beside Rust itself.
pub const REQUIREMENTS: [Requirement; 16] = [
    need("apt", "apt-get", "fetches the image's components by a private configuration"),
    need(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "verifies the components",
    ),
    need("dpkg", "dpkg-deb", "unpacks binary packages"),
    need("dpkg-dev", "dpkg-source", "unpacks and patches the kubelet's source package"),
    need("patch", "patch", "is run by dpkg-source"),
    need("xz-utils", "xz", "is run by dpkg-source"),
    need("gcc", "cc", "links Rust programs"),
    need("libc6-dev", "/usr/lib/x86_64-linux-gnu/libc.a", "PID 1 is linked statically"),
    need("kmod", "depmod", "reads the dependencies of kernel modules"),
    need("erofs-utils", "mkfs.erofs", "makes the root file system"),
    need("dosfstools", "mkfs.vfat", "makes the EFI system partition"),
    need("mtools", "mcopy", "writes files into FAT file systems (tests, configs on a USB stick)"),
    need("e2fsprogs", "e2fsck", "checks the disk of a machine that was powered off (tests)"),
    need("util-linux", "unshare", "runs PID 1 in namespaces (tests)"),
    need("qemu-system-x86", "qemu-system-x86_64", "runs the virtual machine"),
    need("ovmf", "/usr/share/OVMF/OVMF_CODE.fd", "starts it as a machine with UEFI would (tests)"),
];

/// What only some uses need; asked for when it is missing there.
const OCCASIONAL: [Requirement; 3] = [
    need("curl", "curl", "downloads a kubelet that image.yaml names by url"),
    need("git", "git", "lists the sources for `image --check-reproducible`"),
    need("coreutils", "cp", "copies folders"),
];

/// The package that holds a program, when it is one that these tables know.
pub fn package_of(program: &str) -> Option<&'static str> {
    REQUIREMENTS.iter().chain(&OCCASIONAL).find(|need| need.probe == program).map(|need| need.package)
}

/// What this machine lacks.
pub fn missing() -> Vec<Requirement> {
    let path = std::env::var("PATH").unwrap_or_default();
    missing_in(&path)
}

/// The one line that installs `missing`, to be read by a person or run.
pub fn install_line(missing: &[Requirement], root: bool) -> Vec<String> {
    let sudo = if root { None } else { Some("sudo") };
    let words = ["apt-get", "install", "-y", "--no-install-recommends"];
    let packages = missing.iter().map(|need| need.package);
    sudo.into_iter().chain(words).chain(packages).map(str::to_owned).collect()
}

/// Whether this process is root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Installs what is missing: package lists first, then the packages. Asks by way of sudo when not root.
pub fn install(missing: &[Requirement]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let line = install_line(missing, is_root());
    let split = line.iter().position(|word| word == "install").unwrap_or_default();
    let update: Vec<&str> = line[..split].iter().map(String::as_str).chain(["update", "-q"]).collect();
    for words in [update, line.iter().map(String::as_str).collect()] {
        let mut command = run::command(words[0]);
        command
            .args(&words[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(std::process::Stdio::inherit());
        run::loud(&mut command)?;
    }
    let left = self::missing();
    if let Some(need) = left.first() {
        bail!("{} is still missing after the installation of {}", need.probe, need.package);
    }
    Ok(())
}

fn missing_in(path: &str) -> Vec<Requirement> {
    // An ordinary user's PATH has no sbin, where mkfs.vfat and depmod are.
    let folders: Vec<&str> = path.split(':').chain(["/usr/sbin", "/sbin"]).collect();
    let there = |probe: &str| match probe.starts_with('/') {
        true => Path::new(probe).exists(),
        false => folders.iter().any(|folder| Path::new(folder).join(probe).exists()),
    };
    REQUIREMENTS.iter().filter(|need| !there(need.probe)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_and_probe_is_named_once_and_with_a_reason() {
        for (index, need) in REQUIREMENTS.iter().enumerate() {
            assert!(!need.reason.is_empty());
            for other in &REQUIREMENTS[..index] {
                assert!(need.package != other.package && need.probe != other.probe, "{need:?}");
            }
        }
    }

    #[test]
    fn the_install_line_asks_for_sudo_only_when_not_root() {
        let need = [REQUIREMENTS[9], REQUIREMENTS[14]];
        let packages = "apt-get install -y --no-install-recommends erofs-utils qemu-system-x86";
        assert_eq!(install_line(&need, true).join(" "), packages);
        assert_eq!(install_line(&need, false).join(" "), format!("sudo {packages}"));
    }

    #[test]
    fn a_program_is_found_by_the_path_or_in_sbin() {
        let folder = tempfile::tempdir().unwrap();
        let before = missing_in("");
        std::fs::write(folder.path().join("qemu-system-x86_64"), "").unwrap();
        let after = missing_in(folder.path().to_str().unwrap());
        assert!(!after.iter().any(|need| need.package == "qemu-system-x86"));
        assert!(after.len() <= before.len());
    }
}
