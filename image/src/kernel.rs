//! The kernel package: image, release, and the modules that were asked for.

use crate::deb::Entry;
use crate::definition::Kernel as Definition;
use crate::modules::{self, Index, Selection};
use crate::packages::Packages;
use crate::run;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// A kernel ready to be put into the image.
#[derive(Debug)]
pub struct Kernel {
    /// Versioned package, e.g. `linux-image-6.1.0-56-cloud-amd64`.
    pub package: String,
    /// Its hash.
    pub sha256: String,
    /// `uname -r`.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// What holds `kernel/`.
    pub modules_folder: PathBuf,
    /// Index of everything in the package.
    pub index: Index,
    /// For the root file system.
    pub modules: Selection,
    /// For the initramfs.
    pub initramfs_modules: Selection,
}

/// Gets the kernel and chooses its modules.
pub fn obtain(definition: &Definition, packages: &mut Packages) -> Result<Kernel> {
    let package = follow(&definition.package, packages)?;
    let unpacked = packages.get(&package)?;
    let image = unpacked.entries.iter().find_map(|(path, entry)| match entry {
        Entry::File { host, .. } => Some((path.strip_prefix("boot/vmlinuz-")?.to_owned(), host.clone())),
        Entry::Link { .. } => None,
    });
    let (release, image) = image.with_context(|| format!("{package} holds no boot/vmlinuz-…"))?;
    let sha256 = unpacked.sha256.clone();
    // boot/vmlinuz-… lies two folders below the top of the unpacked package.
    let top = image.ancestors().nth(2).context("a kernel image has a folder")?;
    if !top.join("lib").exists() {
        // Since Debian 13 everything is below usr; depmod looks below lib.
        std::os::unix::fs::symlink("usr/lib", top.join("lib"))
            .context("cannot make the link that depmod needs")?;
    }
    let modules_folder = top.join("lib/modules").join(&release);
    // Written last by depmod, so it is there only when all of them are.
    if !modules_folder.join("modules.devname").exists() {
        run::quiet(run::command("depmod").arg("-b").arg(top).arg(&release))?;
    }
    let read = |name: &str| {
        let path = modules_folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let index = Index {
        dep: read("modules.dep")?,
        alias: read("modules.alias")?,
        softdep: read("modules.softdep")?,
        builtin: read("modules.builtin")?,
    };
    let modules = modules::select(&index, &definition.modules).context("kernel.modules")?;
    let initramfs_modules = modules::select(&index, &definition.initramfs).context("kernel.initramfs")?;
    Ok(Kernel { package, sha256, release, image, modules_folder, index, modules, initramfs_modules })
}

/// The versioned package behind a meta package, or the package itself when it holds a kernel.
fn follow(name: &str, packages: &mut Packages) -> Result<String> {
    let package = packages.get(name)?;
    if package.entries.keys().any(|path| path.starts_with("boot/vmlinuz-")) {
        return Ok(name.to_owned());
    }
    let versioned = package.depends.iter().find(|depends| depends.starts_with("linux-image-"));
    versioned.cloned().with_context(|| format!("kernel.package: {name} holds no kernel and depends on none"))
}
