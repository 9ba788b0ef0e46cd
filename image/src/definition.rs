//! `image.yaml`: what the image is made of, typed.
//!
//! Parsing is strict: an unknown key, a value of the wrong kind, or a combination that makes no sense is an error
//! that names the file, the place and the remedy. Nothing here opens a package or touches the network.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The whole definition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Debian code name, e.g. `bookworm`.
    pub suite: String,
    /// Kernel package and modules.
    pub kernel: Kernel,
    /// Package name to the files taken from it.
    pub packages: BTreeMap<String, Vec<Pick>>,
    /// Symbolic links of the root: path without leading slash to target.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Where the kubelet comes from.
    pub kubelet: Kubelet,
    /// OCI archives in the image.
    #[serde(default)]
    pub preload: Vec<Preload>,
    /// Image reference of the pod sandbox.
    pub pause: String,
    /// Sizes.
    pub partitions: Partitions,
}

/// Kernel package and modules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// A `linux-image-…` package; a meta package is followed to the versioned one.
    pub package: String,
    /// Modules of the root file system, by name.
    pub modules: Vec<String>,
    /// Modules of the initramfs, by name.
    pub initramfs: Vec<String>,
}

/// Files of a package: a glob, or a glob with another folder to put the matches into.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a glob, or {from: glob, into: folder}")]
pub enum Pick {
    /// Files keep their path.
    Glob(String),
    /// Files go to another folder under their own name.
    Into(PickInto),
}

/// See [`Pick::Into`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PickInto {
    /// Glob over merged-usr paths without leading slash.
    pub from: String,
    /// Folder in the image, without leading slash.
    pub into: String,
}

impl Pick {
    /// The glob.
    pub fn glob(&self) -> &str {
        match self {
            Pick::Glob(glob) => glob,
            Pick::Into(pick) => &pick.from,
        }
    }
}

/// Where the kubelet comes from; exactly one of the three.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubelet {
    /// Built from a Debian source package.
    pub debian_source: Option<DebianSource>,
    /// A binary on this machine, relative to the folder of `image.yaml`.
    pub path: Option<PathBuf>,
    /// A binary to download.
    pub url: Option<String>,
    /// Hex sha256 of what `url` gives.
    pub sha256: Option<String>,
}

/// How the kubelet is built from source.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DebianSource {
    /// Source package.
    pub package: String,
    /// Release that `kubelet --version` shall report, e.g. `1.20.2`.
    pub release: String,
    /// Packages that together hold the Go compiler.
    pub toolchain: Vec<String>,
    /// GOROOT inside those packages.
    pub goroot: String,
    /// Folders of the source replaced by folders of packages.
    #[serde(default)]
    pub replace: Vec<Replace>,
}

/// A folder of the source that is replaced by one of a package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// Debian package.
    pub package: String,
    /// Folder in it.
    pub from: String,
    /// Folder of the source.
    pub to: String,
}

/// An OCI archive in the image; exactly one of the two.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preload {
    /// One of our own, by the name of its program: image `podium.local/<name>:1`.
    pub podium: Option<String>,
    /// An OCI or docker archive on this machine, relative to the folder of `image.yaml`.
    pub path: Option<PathBuf>,
}

/// Partition sizes in bytes; in the file a number with KiB, MiB or GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// EFI system partition.
    #[serde(deserialize_with = "size")]
    pub esp: u64,
    /// Each of the two root slots.
    #[serde(deserialize_with = "size")]
    pub root: u64,
    /// STATE.
    #[serde(deserialize_with = "size")]
    pub state: u64,
    /// EPHEMERAL, before it grows.
    #[serde(deserialize_with = "size")]
    pub ephemeral: u64,
}

const MIB: u64 = 1024 * 1024;
/// FAT32 with 4 KiB sectors needs 65,525 clusters of one sector, and room for its tables.
const SMALLEST_ESP: u64 = 260 * MIB;
/// The programs of our own that an OCI archive can be made of.
pub const OWN_IMAGES: [&str; 2] = ["pause", "hello"];

/// Reads and checks a definition. Errors name `file`.
pub fn read(file: &Path) -> Result<Definition> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&text).with_context(|| format!("{} is not a usable image definition", file.display()))
}

/// Parses and checks a definition's text.
pub fn parse(text: &str) -> Result<Definition> {
    let definition: Definition = serde_yaml::from_str(text)?;
    check(&definition)?;
    Ok(definition)
}

fn check(definition: &Definition) -> Result<()> {
    ensure!(is_name(&definition.suite), "suite: `{}` is not a Debian code name", definition.suite);
    ensure!(
        is_name(&definition.kernel.package),
        "kernel.package: `{}` is no package",
        definition.kernel.package
    );
    ensure!(
        !definition.kernel.initramfs.is_empty(),
        "kernel.initramfs is empty: the root could not be mounted"
    );
    for (package, picks) in &definition.packages {
        ensure!(is_name(package), "packages: `{package}` is not a package name");
        ensure!(!picks.is_empty(), "packages.{package}: no files are taken from it; remove it or name some");
        for pick in picks {
            check_path(pick.glob()).with_context(|| format!("packages.{package}"))?;
            if let Pick::Into(into) = pick {
                check_path(&into.into).with_context(|| format!("packages.{package}"))?;
            }
        }
    }
    for (path, target) in &definition.links {
        check_path(path).context("links")?;
        ensure!(!target.is_empty(), "links.{path}: empty target");
    }
    check_kubelet(&definition.kubelet)?;
    for (index, preload) in definition.preload.iter().enumerate() {
        match (&preload.podium, &preload.path) {
            (Some(name), None) if OWN_IMAGES.contains(&name.as_str()) => {}
            (Some(name), None) => {
                bail!("preload[{index}].podium: `{name}` is none of {}", OWN_IMAGES.join(", "))
            }
            (None, Some(_)) => {}
            _ => bail!("preload[{index}]: give exactly one of `podium` and `path`"),
        }
    }
    check_partitions(&definition.partitions)
}

fn check_kubelet(kubelet: &Kubelet) -> Result<()> {
    let sources = [kubelet.debian_source.is_some(), kubelet.path.is_some(), kubelet.url.is_some()];
    ensure!(
        sources.iter().filter(|given| **given).count() == 1,
        "kubelet: give exactly one of `debian-source`, `path`, and `url` with `sha256`"
    );
    match (&kubelet.url, &kubelet.sha256) {
        (Some(_), Some(sha256)) => ensure!(
            sha256.len() == 64
                && sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)),
            "kubelet.sha256: `{sha256}` is not a sha256 in 64 lower case hex digits"
        ),
        (Some(_), None) => bail!("kubelet.url needs `sha256` beside it: what is downloaded must be known"),
        (None, Some(_)) => bail!("kubelet.sha256 is of use beside `url` only"),
        (None, None) => {}
    }
    if let Some(source) = &kubelet.debian_source {
        ensure!(
            !source.toolchain.is_empty(),
            "kubelet.debian-source.toolchain: no compiler package is named"
        );
        ensure!(
            source.release.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3,
            "kubelet.debian-source.release: `{}` is not a version like 1.20.2",
            source.release
        );
    }
    Ok(())
}

fn check_partitions(partitions: &Partitions) -> Result<()> {
    let named = [
        ("esp", partitions.esp),
        ("root", partitions.root),
        ("state", partitions.state),
        ("ephemeral", partitions.ephemeral),
    ];
    for (name, size) in named {
        ensure!(size > 0 && size % MIB == 0, "partitions.{name}: must be whole MiB, at least one");
    }
    ensure!(
        partitions.esp >= SMALLEST_ESP,
        "partitions.esp: at least 260MiB, or 4Kn disks cannot hold it as FAT32"
    );
    Ok(())
}

fn check_path(path: &str) -> Result<()> {
    ensure!(
        !path.is_empty()
            && !path.starts_with('/')
            && path.split('/').all(|part| !part.is_empty() && part != ".."),
        "`{path}`: paths have no leading slash, no empty part and no `..`"
    );
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_size(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is not a size; write a number with KiB, MiB or GiB"))
    })
}

fn parse_size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let unit = match unit.trim() {
        "KiB" => 1024,
        "MiB" => MIB,
        "GiB" => 1024 * MIB,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../image.yaml");

    fn error_of(from: &str, to: &str) -> String {
        assert!(SHIPPED.contains(from), "the shipped definition no longer holds `{from}`");
        format!("{:#}", parse(&SHIPPED.replacen(from, to, 1)).unwrap_err())
    }

    #[test]
    fn the_shipped_definition_is_valid() {
        let definition = parse(SHIPPED).unwrap();
        assert_eq!(definition.suite, "bookworm");
        assert_eq!(definition.partitions.esp, 260 * MIB);
    }

    #[test]
    fn unknown_keys_are_errors_with_their_place() {
        assert!(error_of("suite: bookworm", "suite: bookworm\nsweet: yes").contains("unknown field `sweet`"));
        let error = error_of("  state: 128MiB", "  sate: 128MiB");
        assert!(error.contains("partitions: unknown field `sate`") && error.contains("line"), "{error}");
        let error = error_of("kubelet:\n", "kubelet:\n  pfad: x\n");
        assert!(error.contains("kubelet: unknown field `pfad`"), "{error}");
    }

    #[test]
    fn a_pick_is_a_glob_or_from_and_into() {
        let error = error_of("- usr/sbin/runc", "- {from: usr/sbin/runc, to: usr/bin}");
        assert!(error.contains("expected a glob, or {from: glob, into: folder}"), "{error}");
    }

    #[test]
    fn paths_that_leave_the_image_are_refused() {
        assert!(error_of("- usr/sbin/runc", "- /usr/sbin/runc").contains("no leading slash"));
        assert!(error_of("- usr/sbin/runc", "- usr/../runc").contains("`..`"));
    }

    #[test]
    fn the_kubelet_has_exactly_one_source() {
        assert!(error_of("kubelet:\n", "kubelet:\n  path: x\n").contains("exactly one of"));
        let only = |lines: &str| {
            let mut text = SHIPPED.split("kubelet:\n").next().unwrap().to_owned();
            text += &format!("kubelet:\n{lines}");
            text += "pause: a\npartitions: {esp: 260MiB, root: 1MiB, state: 1MiB, ephemeral: 1MiB}\n";
            parse(&text).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(only("  path: x\n"), Ok(()));
        assert_eq!(only(&format!("  url: x\n  sha256: {}\n", "a".repeat(64))), Ok(()));
        assert!(only("  url: x\n").unwrap_err().contains("needs `sha256`"));
        assert!(only("  url: x\n  sha256: AB\n").unwrap_err().contains("64 lower case hex digits"));
    }

    #[test]
    fn sizes_have_units_and_lower_bounds() {
        assert_eq!(parse_size("3 GiB"), Some(3 * 1024 * MIB));
        assert_eq!(
            [parse_size("12"), parse_size("MiB"), parse_size("5MB"), parse_size("99999999999999GiB")],
            [None; 4]
        );
        assert!(error_of("esp: 260MiB", "esp: 100MiB").contains("at least 260MiB"));
        assert!(error_of("state: 128MiB", "state: 1000KiB").contains("whole MiB"));
        assert!(error_of("state: 128MiB", "state: 128").contains("KiB, MiB or GiB"));
    }

    #[test]
    fn own_images_are_known_by_name() {
        assert!(error_of("podium: hello", "podium: hallo").contains("none of pause, hello"));
        assert!(error_of("- podium: hello", "- {podium: hello, path: x}").contains("exactly one of"));
    }
}
