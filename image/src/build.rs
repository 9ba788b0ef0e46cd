//! The straight line from the definition to the output folder.
//!
//! definition -> components -> programs -> trees -> checks -> root.erofs, initramfs.img, vmlinuz -> disk.img
//!
//! Each output carries a stamp with the key of what it was made from; one whose key did not change is left alone.

use crate::cache::{self, Cache, hash};
use crate::definition::{self, Definition, Pick};
use crate::lock::{Lock, Mode};
use crate::packages::{Packages, Policy};
use crate::rootfs::{self, Inputs, Trees};
use crate::tree::Tree;
use crate::{checks, compile, cpio, disk, kernel, kubelet, licences, report, run};
use anyhow::{Context, Result};
use podium_init::services::ImageFacts;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a checkout has its things.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Top folder.
    pub root: PathBuf,
    /// What is made: `out`.
    pub out: PathBuf,
    /// Intermediate things: `target/podium`.
    pub work: PathBuf,
}

impl Checkout {
    /// The checkout at a folder.
    pub fn at(root: &Path) -> Checkout {
        Checkout { root: root.to_owned(), out: root.join("out"), work: root.join("target/podium") }
    }

    /// `image/`
    pub fn image(&self) -> PathBuf {
        self.root.join("image")
    }
}

/// What was made.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// What the image says of itself.
    pub facts: ImageFacts,
    /// The raw disk.
    pub disk: Artifact,
    /// The kernel, for direct boot.
    pub kernel: Artifact,
    /// The initramfs, for direct boot.
    pub initramfs: Artifact,
    /// The root file system; the same bytes are in ROOT-A of the disk.
    pub root: Artifact,
    /// PID 1.
    pub init: Artifact,
    /// Debian packages with a file in the image, and their versions.
    pub packages: BTreeMap<String, String>,
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// Absolute path.
    pub path: PathBuf,
    /// Bytes; of a sparse file what it reads as.
    pub bytes: u64,
    /// Hex sha256; `None` for the disk, whose content is known by the root's and the build id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Gets every component into the cache and writes the lock; the kubelet is built if need be.
pub fn fetch(checkout: &Checkout, policy: Policy) -> Result<Lock> {
    let _alone = exclusive(checkout)?;
    let (definition, mut packages) = open(checkout, policy)?;
    components(checkout, &definition, &mut packages, policy)?;
    rootfs::package_files(&definition.packages, &mut packages)?;
    keep_lock(checkout, &definition, &mut packages, policy)?;
    Ok(packages.lock().clone())
}

/// One more image of our own in the preload, for tests.
#[derive(Debug, Clone)]
pub struct Extra {
    /// Name of the program and of the image, `podium.local/<name>:1`.
    pub name: String,
    /// The static program.
    pub program: PathBuf,
}

/// The kernel words that the image is meant to be booted with, beside those that name a config.
pub const KERNEL_WORDS: [&str; 4] =
    ["console=ttyS0", "loglevel=6", "printk.devkmsg=on", "podium.root=ROOT-A"];

/// Makes the image in `out/`; one with an extra program in a folder of that name below.
pub fn image(checkout: &Checkout, policy: Policy, extra: Option<&Extra>) -> Result<Image> {
    let _alone = exclusive(checkout)?;
    let (definition, mut packages) = open(checkout, policy)?;
    let components = components(checkout, &definition, &mut packages, policy)?;
    let programs = report::phase("programs", || compile::programs(checkout))?;
    let licences = licences::of_programs(checkout, &compile::PACKAGES)?;
    let (folder, files) = (checkout.image(), checkout.root.join("rootfs/files"));
    let Components { kernel, kubelet } = &components;
    let inputs = Inputs {
        definition: &definition,
        folder: &folder,
        files: &files,
        programs: &programs,
        licences: &licences,
        kubelet,
        kernel,
        extra,
    };
    let trees = report::phase("trees", || rootfs::trees(&inputs, &mut packages))?;
    checks::check(&trees.root)?;
    keep_lock(checkout, &definition, &mut packages, policy)?;
    let out = extra.map_or_else(|| checkout.out.clone(), |extra| checkout.out.join(&extra.name));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let image = write(&checkout.work, &trees, &definition, kernel, &programs, &packages, &out)?;
    cache::write_file(&out.join("manifest.json"), (serde_json::to_string_pretty(&image)? + "\n").as_bytes())?;
    Ok(image)
}

/// The image's kernel alone, ready to boot; the lock is left as it is.
pub fn kernel(checkout: &Checkout, policy: Policy) -> Result<kernel::Kernel> {
    let _alone = exclusive(checkout)?;
    let (definition, mut packages) = open(checkout, policy)?;
    kernel::obtain(&definition.kernel, &mut packages)
}

/// Files of packages that are no part of the image, with the libraries they need. Their versions are in a lock of their
/// own, beside the image's, which is written when it changes.
pub fn foreign_files(
    checkout: &Checkout,
    policy: Policy,
    lock: &str,
    picked: &BTreeMap<String, Vec<Pick>>,
) -> Result<Tree> {
    let _alone = exclusive(checkout)?;
    let (definition, _) = open(checkout, policy)?;
    let file = checkout.image().join(lock);
    let lock = Lock::read(&file, &definition.suite)?;
    let mut packages = Packages::new(Cache::open()?, lock, policy, &checkout.work.join("unpacked"));
    packages.fetch(&picked.keys().map(String::as_str).collect::<Vec<_>>())?;
    let (tree, _) = rootfs::package_files(picked, &mut packages)?;
    if policy.mode != Mode::Locked && packages.lock().write(&file)? {
        report::note(&format!("{} has changed", file.display()));
    }
    Ok(tree)
}

struct Components {
    kernel: kernel::Kernel,
    kubelet: kubelet::Kubelet,
}

fn exclusive(checkout: &Checkout) -> Result<std::fs::File> {
    for folder in [&checkout.work, &checkout.out] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let lock = cache::lock_file(&checkout.work.join("lock"))?;
    cache::remove_leftovers(&checkout.work.join("unpacked"), ".unpack-")?;
    cache::remove_leftovers(&checkout.work, ".stage-")?;
    cache::remove_leftovers(&checkout.work, "reproducible-")?;
    Ok(lock)
}

fn open(checkout: &Checkout, policy: Policy) -> Result<(Definition, Packages)> {
    let definition = definition::read(&checkout.image().join("image.yaml"))?;
    let lock = Lock::read(&checkout.image().join("image.lock"), &definition.suite)?;
    let packages = Packages::new(Cache::open()?, lock, policy, &checkout.work.join("unpacked"));
    Ok((definition, packages))
}

fn components(
    checkout: &Checkout,
    definition: &Definition,
    packages: &mut Packages,
    policy: Policy,
) -> Result<Components> {
    let named = definition.packages.keys().map(String::as_str);
    let names: Vec<&str> = std::iter::once(definition.kernel.package.as_str()).chain(named).collect();
    packages.prefetch(&kubelet::inputs_of(&definition.kubelet));
    packages.fetch(&names)?;
    let kernel = kernel::obtain(&definition.kernel, packages)?;
    let kubelet = kubelet::obtain(&definition.kubelet, packages, policy, &checkout.image())?;
    Ok(Components { kernel, kubelet })
}

/// Writes the lock without what is no longer used.
fn keep_lock(
    checkout: &Checkout,
    definition: &Definition,
    packages: &mut Packages,
    policy: Policy,
) -> Result<()> {
    if policy.mode == Mode::Locked {
        return Ok(());
    }
    packages.forget_unused(&definition.kernel.package, &kubelet::inputs_of(&definition.kubelet));
    let file = checkout.image().join("image.lock");
    if packages.lock().write(&file)? {
        report::note(&format!("{} has changed", file.display()));
    }
    Ok(())
}

fn write(
    work: &Path,
    trees: &Trees,
    definition: &Definition,
    kernel: &kernel::Kernel,
    programs: &compile::Programs,
    packages: &Packages,
    out: &Path,
) -> Result<Image> {
    let id = &trees.facts.build_id;
    let root =
        made(&out.join("root.erofs"), &trees.root.key(), |file| make_erofs(&trees.root, id, work, file))?;
    let initramfs = made(&out.join("initramfs.img"), &trees.initramfs.key(), |file| {
        Ok(std::fs::write(file, cpio::write(&trees.initramfs)?)?)
    })?;
    let vmlinuz = made(&out.join("vmlinuz"), &kernel.sha256, |file| {
        std::fs::copy(&kernel.image, file)
            .map(|_| ())
            .with_context(|| format!("cannot copy {}", kernel.image.display()))
    })?;
    let key = hash(format!("{id} {:?} {:?}", root.sha256, definition.partitions).as_bytes());
    let path = out.join("disk.img");
    let disk = made(&path, &key, |file| {
        report::phase("disk.img", || disk::write(file, &root.path, &definition.partitions, id))
    })?;
    let init = artifact(&programs.init)?;
    let versions = trees
        .packages
        .iter()
        .filter_map(|name| Some((name.clone(), packages.unpacked().get(name)?.version.clone())));
    Ok(Image {
        facts: trees.facts.clone(),
        disk,
        kernel: vmlinuz,
        initramfs,
        root,
        init,
        packages: versions.collect(),
    })
}

/// lz4 rather than lz4hc: 2 s against 24 s for a tenth more bytes, and every developer waits for it.
fn make_erofs(tree: &Tree, build_id: &str, work: &Path, file: &Path) -> Result<()> {
    report::phase("root.erofs", || {
        let staged = tempfile::Builder::new().prefix(".stage-").tempdir_in(work)?;
        let place = staged.path().join("root");
        std::fs::create_dir(&place)?;
        tree.stage(&place)?;
        let uuid = disk::guid(build_id, "root").to_string();
        let mut command = run::command("mkfs.erofs");
        command.args(["--quiet", "-zlz4", "-x-1", "-T0", "--all-root", "-U", &uuid]);
        run::quiet(command.arg(file).arg(&place))
    })
}

/// Makes a file unless the stamp beside it says that it was made from the same key and has its size still.
fn made(path: &Path, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Artifact> {
    let name = path.file_name().context("an output has a name")?.to_string_lossy().into_owned();
    let stamp = path.with_file_name(format!(".{name}.stamp"));
    if let (Ok(text), Ok(meta)) = (std::fs::read_to_string(&stamp), path.metadata()) {
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [have, bytes, sha256] = words[..]
            && have == key
            && bytes == meta.len().to_string()
        {
            let sha256 = (sha256 != "-").then(|| sha256.to_owned());
            return Ok(Artifact { path: path.to_owned(), bytes: meta.len(), sha256 });
        }
    }
    if stamp.exists() {
        std::fs::remove_file(&stamp)?;
    }
    let aside = path.with_file_name(format!(".{name}.new"));
    if aside.exists() {
        std::fs::remove_file(&aside)?;
    }
    make(&aside).with_context(|| format!("cannot make {}", path.display()))?;
    std::fs::rename(&aside, path)?;
    let bytes = path.metadata()?.len();
    let sha256 = if name == "disk.img" { None } else { Some(cache::hash_file(path)?) };
    cache::write_file(&stamp, format!("{key} {bytes} {}\n", sha256.as_deref().unwrap_or("-")).as_bytes())?;
    Ok(Artifact { path: path.to_owned(), bytes, sha256 })
}

fn artifact(path: &Path) -> Result<Artifact> {
    let bytes = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    Ok(Artifact { path: path.to_owned(), bytes, sha256: Some(cache::hash_file(path)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_made_anew_only_when_its_key_or_size_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.erofs");
        let mut times = 0;
        let mut make = |key: &str| {
            made(&path, key, |file| {
                times += 1;
                Ok(std::fs::write(file, "bytes")?)
            })
            .unwrap();
            times
        };
        assert_eq!([make("a"), make("a"), make("b"), make("b")], [1, 1, 2, 2]);
        std::fs::write(&path, "cut").unwrap();
        assert_eq!(make("b"), 3);
    }

    #[test]
    fn a_failed_output_leaves_no_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        made(&path, "a", |file| Ok(std::fs::write(file, "bytes")?)).unwrap();
        assert!(made(&path, "b", |_| anyhow::bail!("no")).is_err());
        let mut again = false;
        made(&path, "a", |file| {
            again = true;
            Ok(std::fs::write(file, "bytes")?)
        })
        .unwrap();
        assert!(again, "the old bytes are not trusted after a failure");
    }
}
