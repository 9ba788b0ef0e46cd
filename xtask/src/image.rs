//! `image`: builds the image into `out/` and says what was made.
//!
//! The work is done by the crate `podium-image`; this file turns options into calls and results into words.

use crate::doctor;
use anyhow::Result;
use clap::Args;
use podium_image::build::{self, Checkout, Extra};
use podium_image::lock::Mode;
use podium_image::packages::Policy;
use podium_image::{compile, reproducible};
use podium_tests::artifacts::Image;
use std::path::PathBuf;

/// Build the image: root file system, kernel, initramfs and a raw disk, all in `out/`.
///
/// Components are fetched into a cache ($PODIUM_CACHE, else ~/.cache/podium) and the kubelet is built once; nothing
/// is done again whose inputs did not change. What goes into the image is said in image/image.yaml.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) policy: PolicyArguments,
    /// Make the image twice, compiling our own programs a second time in another folder, and compare every byte
    #[arg(long)]
    check_reproducible: bool,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

/// How components may be got.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct PolicyArguments {
    /// Use no network: everything must be in the cache
    #[arg(long)]
    offline: bool,
    /// Fail rather than change image.lock, also when the mirror has dropped a locked version
    #[arg(long, conflicts_with = "accept_newer")]
    locked: bool,
    /// Take a newer version where the mirror has dropped the locked one, warn, and record it: the default
    #[arg(long)]
    accept_newer: bool,
}

impl PolicyArguments {
    pub(crate) fn policy(self) -> Policy {
        let mode = if self.locked { Mode::Locked } else { Mode::AcceptNewer };
        Policy { mode, offline: self.offline }
    }
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    doctor::ensure()?;
    let checkout = Checkout::at(&crate::top());
    let policy = arguments.policy.policy();
    let image = build::image(&checkout, policy, None)?;
    if arguments.check_reproducible {
        reproducible::check(&checkout, policy, &image)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&image)?);
    }
    let words = [
        ("disk", &image.disk, "the whole, for a machine or `qemu-system-x86_64 -drive file=…,format=raw`"),
        ("kernel", &image.kernel, "direct boot"),
        ("initramfs", &image.initramfs, "direct boot"),
        ("root", &image.root, "what is in ROOT-A of the disk"),
        ("PID 1", &image.init, "in the root and in the initramfs"),
    ];
    for (name, artifact, use_of_it) in words {
        let megabytes = f64::from(u32::try_from(artifact.bytes / 1024).unwrap_or(u32::MAX)) / 1024.0;
        eprintln!("{name:<10} {megabytes:>8.1} MiB  {}  ({use_of_it})", artifact.path.display());
    }
    eprintln!("Build {}. Boot it: cargo xtask run", &image.facts.build_id[..16]);
    Ok(())
}

/// Builds the image unless it is up to date.
pub(crate) fn ensure() -> Result<Image> {
    Ok(described(build::image(&Checkout::at(&crate::top()), Policy::default(), None)?))
}

/// Like [`ensure`], with one more preloaded archive: `podium.local/guest:1`, from `podium-tests --bin guest`. Its
/// outputs are in `out/test`.
pub(crate) fn ensure_for_tests() -> Result<Image> {
    let program = static_binary("podium-tests", "guest")?;
    let extra = Extra { name: "guest".to_owned(), program };
    Ok(described(build::image(&Checkout::at(&crate::top()), Policy::default(), Some(&extra))?))
}

/// Builds a static binary as it lands in the image, and gives its path.
pub(crate) fn static_binary(package: &str, binary: &str) -> Result<PathBuf> {
    compile::program(&Checkout::at(&crate::top()), package, binary)
}

fn described(image: build::Image) -> Image {
    Image {
        kernel: image.kernel.path,
        initramfs: image.initramfs.path,
        disk: image.disk.path,
        words: build::KERNEL_WORDS.map(str::to_owned).to_vec(),
        init_binary_bytes: image.init.bytes,
        root_image_bytes: image.root.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_accepts_newer_versions_and_locked_does_not() {
        assert_eq!(PolicyArguments::default().policy().mode, Mode::AcceptNewer);
        let locked = PolicyArguments { locked: true, offline: true, accept_newer: false };
        assert_eq!((locked.policy().mode, locked.policy().offline), (Mode::Locked, true));
    }
}
