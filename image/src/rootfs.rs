//! Fills the trees of the root file system and of the initramfs.
//!
//! Packages give files, `rootfs/files` gives what is static, the rest is derived: libraries, kernel modules, the
//! certificate bundle, licences, mount points, `image.json`. Paths that PID 1 knows come from `podium_init::paths`.

use crate::build::Extra;
use crate::cache::hash;
use crate::compile::Programs;
use crate::deb::{Entry, Unpacked, resolve};
use crate::definition::{Definition, Pick};
use crate::kernel::Kernel;
use crate::kubelet::Kubelet;
use crate::libraries::{self, Needer};
use crate::modules::Selection;
use crate::oci;
use crate::packages::Packages;
use crate::tree::{Content, Node, Tree};
use anyhow::{Context, Result, ensure};
use podium_init::paths;
use podium_init::services::{ImageFacts, PreloadFacts};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Everything that goes into the trees.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// `image.yaml`.
    pub definition: &'a Definition,
    /// What relative paths in it are relative to.
    pub folder: &'a Path,
    /// The static tree of the project.
    pub files: &'a Path,
    /// Our own programs.
    pub programs: &'a Programs,
    /// The licences of what they link.
    pub licences: &'a str,
    /// The kubelet.
    pub kubelet: &'a Kubelet,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// One more image of our own.
    pub extra: Option<&'a Extra>,
}

/// The trees of one image.
#[derive(Debug)]
pub struct Trees {
    /// The root file system.
    pub root: Tree,
    /// The initramfs.
    pub initramfs: Tree,
    /// What the image says of itself.
    pub facts: ImageFacts,
    /// Packages that have a file in the image.
    pub packages: BTreeSet<String>,
}

/// Folders that exist for what is mounted or made there at run time.
const MOUNT_POINTS: [(&str, u32); 16] = [
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("run", 0o755),
    ("system", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("mnt", 0o755),
    ("root", 0o700),
    ("opt/cni/bin", 0o755),
    ("etc/cni/net.d", 0o755),
    ("etc/kubernetes/manifests", 0o700),
    ("usr/libexec/kubernetes", 0o755),
    // dhcpcd's unprivileged part changes its root to its user's home
    ("usr/lib/dhcpcd", 0o755),
    ("usr/local", 0o755),
    ("boot", 0o755),
];

/// Of what was once several folders.
const MERGED_USR: [(&str, &str); 4] =
    [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")];

/// Where the licences of what the image is made of are kept.
const LICENCES: &str = "usr/share/doc";

/// Makes the trees.
pub fn trees(inputs: &Inputs, packages: &mut Packages) -> Result<Trees> {
    let mut root = Tree::default();
    for (link, target) in MERGED_USR {
        root.link(link, target)?;
    }
    for (path, mode) in MOUNT_POINTS {
        root.folder(path, mode)?;
    }
    root.copy_folder(inputs.files, "")?;
    let (files, mut used) = package_files(&inputs.definition.packages, packages)?;
    root.merge(files)?;
    for (path, target) in &inputs.definition.links {
        root.link(path, target)?;
    }
    add_certificates(&mut root)?;
    add_modules(&mut root, inputs.kernel, &inputs.kernel.modules)?;
    used.insert(inputs.kernel.package.clone());
    add_own(&mut root, inputs)?;
    for name in &used {
        add_licence(&mut root, &packages.unpacked()[name], packages)?;
    }
    let preload = add_preload(&mut root, inputs)?;
    let initramfs = initramfs(inputs)?;
    let facts = facts(inputs, packages, preload, &root, &initramfs)?;
    let json = serde_json::to_string_pretty(&facts)? + "\n";
    root.file(relative(paths::IMAGE_FACTS), 0o644, Content::Bytes(json.into_bytes()))?;
    Ok(Trees { root, initramfs, facts, packages: used })
}

/// The files picked from packages, by package, with the libraries they need; and the packages that gave something.
pub fn package_files(
    picked: &BTreeMap<String, Vec<Pick>>,
    packages: &mut Packages,
) -> Result<(Tree, BTreeSet<String>)> {
    let mut root = Tree::default();
    let (mut needers, mut used) = (Vec::new(), BTreeSet::new());
    for (name, picks) in picked {
        let package = packages.get(name)?;
        for pick in picks {
            let matches = package.glob(pick.glob())?;
            ensure!(
                !matches.is_empty(),
                "packages.{name}: `{}` matches no file of {name} {}",
                pick.glob(),
                package.version
            );
            for source in matches {
                let place = match pick {
                    Pick::Glob(_) => source.to_owned(),
                    Pick::Into(pick) => {
                        format!("{}/{}", pick.into, source.rsplit('/').next().unwrap_or(source))
                    }
                };
                match &package.entries[source] {
                    Entry::Link { target } => root.link(&place, target)?,
                    Entry::File { host, executable } => {
                        let mode = if *executable { 0o755 } else { 0o644 };
                        root.file(&place, mode, content(package, source, host))?;
                        needers.push(Needer { path: place, host: host.clone(), package: name.clone() });
                    }
                }
            }
        }
        used.insert(name.clone());
    }
    for (path, library) in libraries::resolve(needers, packages)? {
        let package = &packages.unpacked()[&library.package];
        root.file(&path, 0o755, content(package, &library.source, &library.host))?;
        used.insert(library.package);
    }
    Ok((root, used))
}

/// One bundle out of the certificates that were picked, where TLS libraries look for it.
fn add_certificates(root: &mut Tree) -> Result<()> {
    const FOLDER: &str = "usr/share/ca-certificates/";
    let mut bundle = Vec::new();
    for (path, node) in root.iter() {
        if let (true, Node::File { content, .. }) = (path.starts_with(FOLDER) && path.ends_with(".crt"), node)
        {
            bundle.extend(content.read()?);
            if bundle.last() != Some(&b'\n') {
                bundle.push(b'\n');
            }
        }
    }
    match bundle.is_empty() {
        true => Ok(()),
        false => root.file("etc/ssl/certs/ca-certificates.crt", 0o644, Content::Bytes(bundle)),
    }
}

fn add_modules(tree: &mut Tree, kernel: &Kernel, selection: &Selection) -> Result<()> {
    let folder = format!("{}/{}", relative(paths::MODULES), kernel.release);
    for file in &selection.files {
        let content = Content::Host {
            path: kernel.modules_folder.join(file),
            identity: format!("{}:{file}", kernel.sha256),
        };
        tree.file(&format!("{folder}/{file}"), 0o644, content)?;
    }
    let builtin = &kernel.index.builtin;
    let texts = [
        ("dep", &selection.dep),
        ("alias", &selection.alias),
        ("softdep", &selection.softdep),
        ("builtin", builtin),
    ];
    for (name, text) in texts {
        tree.file(&format!("{folder}/modules.{name}"), 0o644, Content::Bytes(text.clone().into_bytes()))?;
    }
    Ok(())
}

/// PID 1 under its names, its helper, the kubelet, and the links of /etc into /run.
fn add_own(root: &mut Tree, inputs: &Inputs) -> Result<()> {
    root.file(relative(paths::INIT), 0o755, Content::of_file(&inputs.programs.init)?)?;
    root.link(relative(paths::MODPROBE), "init")?;
    root.link(relative(paths::DHCP_HOOK), paths::INIT)?;
    root.file(relative(paths::APID), 0o755, Content::of_file(&inputs.programs.apid)?)?;
    let kubelet =
        Content::Host { path: inputs.kubelet.binary.clone(), identity: inputs.kubelet.sha256.clone() };
    root.file("usr/bin/kubelet", 0o755, kubelet)?;
    if let Some(copyright) = &inputs.kubelet.copyright {
        root.file(&format!("{LICENCES}/kubelet/copyright"), 0o644, Content::of_file(copyright)?)?;
    }
    let licences = format!(
        "Podium is under the Apache License 2.0, see /usr/share/common-licenses/Apache-2.0.\n\
         Its programs link the Rust standard library (MIT or Apache-2.0, the Rust Project contributors), the GNU C\n\
         library (LGPL 2.1, see ../libc6) and the crates below. Apache-2.0's text is not repeated for each.\n\n{}",
        inputs.licences
    );
    root.file(&format!("{LICENCES}/podium/copyright"), 0o644, Content::Bytes(licences.into_bytes()))?;
    root.link("etc/resolv.conf", paths::RESOLV_CONF)?;
    root.link("etc/hosts", paths::HOSTS)?;
    root.link("etc/hostname", paths::HOSTNAME)?;
    root.link("etc/mtab", "../proc/self/mounts")
}

/// The licence of a package; its folder may be a link to that of another one.
fn add_licence(root: &mut Tree, package: &Unpacked, packages: &Packages) -> Result<()> {
    let folder = format!("{LICENCES}/{}", package.name);
    let path = format!("{folder}/copyright");
    let mut source = package.file(&path).map(|(host, _)| content(package, &path, host));
    if let (None, Some(Entry::Link { target })) = (&source, package.entries.get(&folder)) {
        let other = format!("{}/copyright", resolve(&folder, target));
        let found = packages.unpacked().values().find_map(|owner| Some((owner, owner.file(&other)?.0)));
        source = found.map(|(owner, host)| content(owner, &other, host));
    }
    let source =
        source.with_context(|| format!("{} {} has no copyright file", package.name, package.version))?;
    root.file(&path, 0o644, source)
}

fn add_preload(root: &mut Tree, inputs: &Inputs) -> Result<Vec<PreloadFacts>> {
    let mut facts = Vec::new();
    let mut add = |file: String, content: Content, images: Vec<String>| -> Result<()> {
        let sha256 = content.sha256()?;
        root.file(&format!("{}/{file}", relative(paths::IMAGE_PRELOAD)), 0o644, content)?;
        facts.push(PreloadFacts { file, sha256, images });
        Ok(())
    };
    let own = |name: &str, program: &Path| -> Result<(String, Content, Vec<String>)> {
        let program = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        let (image, archive) = oci::own_image(name, &program)?;
        Ok((format!("{name}.tar"), Content::Bytes(archive), vec![image]))
    };
    for preload in &inputs.definition.preload {
        let (file, content, images) = match (preload.podium.as_deref(), &preload.path) {
            (Some("pause"), _) => own("pause", &inputs.programs.pause)?,
            (Some(name), _) => own(name, &inputs.programs.hello)?,
            (None, Some(path)) => {
                let path: PathBuf = inputs.folder.join(path);
                let name =
                    path.file_name().context("preload.path has no file name")?.to_string_lossy().into_owned();
                let images = oci::references(&path)?;
                (name, Content::of_file(&path)?, images)
            }
            (None, None) => continue,
        };
        add(file, content, images)?;
    }
    if let Some(extra) = inputs.extra {
        let (file, content, images) = own(&extra.name, &extra.program)?;
        add(file, content, images)?;
    }
    let pause = &inputs.definition.pause;
    ensure!(
        facts.iter().any(|preload| preload.images.contains(pause)),
        "image.yaml: pause is `{pause}`, but no archive under preload holds it"
    );
    Ok(facts)
}

fn initramfs(inputs: &Inputs) -> Result<Tree> {
    let mut tree = Tree::default();
    for (path, mode) in [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("run", 0o755), ("root", 0o700)] {
        tree.folder(path, mode)?;
    }
    tree.file("init", 0o755, Content::of_file(&inputs.programs.init)?)?;
    tree.link(relative(paths::MODPROBE), "/init")?;
    tree.link("lib", "usr/lib")?;
    add_modules(&mut tree, inputs.kernel, &inputs.kernel.initramfs_modules)?;
    Ok(tree)
}

fn facts(
    inputs: &Inputs,
    packages: &Packages,
    preload: Vec<PreloadFacts>,
    root: &Tree,
    initramfs: &Tree,
) -> Result<ImageFacts> {
    let unpacked = packages.unpacked();
    let version = |name: &str| -> Result<String> {
        let package = unpacked.get(name).with_context(|| format!("image.yaml takes nothing from {name}"))?;
        Ok(package.upstream_version().to_owned())
    };
    let all = format!("{}{}{}\n", root.listing(), initramfs.listing(), inputs.kernel.sha256);
    Ok(ImageFacts {
        build_id: hash(all.as_bytes()),
        kernel: inputs.kernel.release.clone(),
        containerd: version("containerd")?,
        runc: version("runc")?,
        kubelet: inputs.kubelet.version.clone(),
        pause_image: inputs.definition.pause.clone(),
        preload,
        // Newest file of any package: fixed by the lock, and the clock of a node cannot honestly be before it.
        built: unpacked.values().map(|package| package.newest).max().unwrap_or(0),
    })
}

fn content(package: &Unpacked, source: &str, host: &Path) -> Content {
    Content::Host { path: host.to_owned(), identity: format!("{}:{source}", package.sha256) }
}

/// A path of a running node as a path in the tree.
fn relative(path: &'static str) -> &'static str {
    path.trim_start_matches('/')
}
