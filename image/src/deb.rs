//! Binary packages: unpacked once into a folder named by the archive's hash, and indexed by merged-usr paths.
//!
//! Ownership, modes and times of the unpacked files are not used (an ordinary user cannot set them); the image's tree
//! gets explicit ones.

use crate::{cache, run};
use anyhow::{Context, Result};
use globset::GlobBuilder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An unpacked package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unpacked {
    /// Name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Names in `Depends` and `Pre-Depends`, the first of each alternative, without versions.
    pub depends: Vec<String>,
    /// Newest modification time of a file in it, seconds since 1970.
    pub newest: u64,
    /// Merged-usr path to what is there.
    pub entries: BTreeMap<String, Entry>,
    /// Hex sha256 of the archive.
    pub sha256: String,
}

/// A file or a link of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A regular file.
    File {
        /// Where it was unpacked.
        host: PathBuf,
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Its target as written.
        target: String,
    },
}

/// Unpacks an archive below `folder` unless it is there, and indexes it.
pub fn unpack(archive: &Path, sha256: &str, folder: &Path) -> Result<Unpacked> {
    let home = folder.join(sha256);
    let index = home.join("index.json");
    if let Ok(bytes) = std::fs::read(&index)
        && let Ok(unpacked) = serde_json::from_slice::<Unpacked>(&bytes)
    {
        return Ok(unpacked.at(&home));
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    cache::remove_tree(&home)?;
    let aside = tempfile::Builder::new().prefix(".unpack-").tempdir_in(folder)?;
    let tree = aside.path().join("tree");
    run::quiet(run::command("dpkg-deb").arg("-x").arg(archive).arg(&tree))?;
    let field = |name: &str| -> Result<String> {
        Ok(run::ask(run::command("dpkg-deb").arg("-f").arg(archive).arg(name))?
            .unwrap_or_default()
            .trim()
            .to_owned())
    };
    let mut unpacked = Unpacked {
        name: field("Package")?,
        version: field("Version")?,
        depends: parse_depends(&format!("{}, {}", field("Pre-Depends")?, field("Depends")?)),
        newest: 0,
        entries: BTreeMap::new(),
        sha256: sha256.to_owned(),
    };
    walk(&tree, Path::new("tree"), "", &mut unpacked)?;
    cache::write_file(&aside.path().join("index.json"), &serde_json::to_vec(&unpacked)?)?;
    let aside = aside.keep();
    std::fs::rename(&aside, &home).with_context(|| format!("cannot rename {}", aside.display()))?;
    Ok(unpacked.at(&home))
}

impl Unpacked {
    /// The index holds relative paths, so that a checkout may be moved.
    fn at(mut self, home: &Path) -> Unpacked {
        for entry in self.entries.values_mut() {
            if let Entry::File { host, .. } = entry {
                *host = home.join(&*host);
            }
        }
        self
    }

    /// The paths that a glob matches; `*` stops at slashes.
    pub fn glob(&self, glob: &str) -> Result<Vec<&str>> {
        let matcher = GlobBuilder::new(glob).literal_separator(true).build()?.compile_matcher();
        Ok(self.entries.keys().map(String::as_str).filter(|path| matcher.is_match(path)).collect())
    }

    /// The file at a path, links inside the package followed.
    pub fn file(&self, path: &str) -> Option<(&Path, bool)> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            match self.entries.get(&path)? {
                Entry::File { host, executable } => return Some((host, *executable)),
                Entry::Link { target } => path = resolve(&path, target),
            }
        }
        None
    }

    /// Upstream's part of the version: `1:1.6.20~ds1-1+deb12u3` gives `1.6.20`.
    pub fn upstream_version(&self) -> &str {
        let version = self.version.split_once(':').map_or(self.version.as_str(), |(_, rest)| rest);
        let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
        version[..end].trim_end_matches('.')
    }
}

/// A path as it is in a merged-usr system: `bin/mount` gives `usr/bin/mount`.
pub fn merged_usr(path: &str) -> String {
    let top = path.split('/').next().unwrap_or(path);
    match top {
        "bin" | "sbin" | "lib" | "lib64" => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

/// The path that a link at `path` with this target points to, without leading slash and dots.
pub fn resolve(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => path.split('/').collect(),
    };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    merged_usr(&parts.join("/"))
}

fn parse_depends(text: &str) -> Vec<String> {
    let first = |clause: &str| {
        let name = clause.split('|').next()?.split(['(', ':', '[']).next()?.trim();
        (!name.is_empty()).then(|| name.to_owned())
    };
    text.split(',').filter_map(first).collect()
}

fn walk(folder: &Path, home: &Path, prefix: &str, unpacked: &mut Unpacked) -> Result<()> {
    let read = |path: &Path| format!("cannot read {}", path.display());
    for entry in std::fs::read_dir(folder).with_context(|| read(folder))? {
        let path = entry.with_context(|| read(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let meta = path.symlink_metadata().with_context(|| read(&path))?;
        let place = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        if meta.is_dir() {
            walk(&path, &home.join(&name), &place, unpacked)?;
            continue;
        }
        let entry = if meta.is_symlink() {
            Entry::Link { target: std::fs::read_link(&path)?.to_string_lossy().into_owned() }
        } else {
            unpacked.newest = unpacked.newest.max(u64::try_from(meta.mtime()).unwrap_or(0));
            Entry::File { host: home.join(&name), executable: meta.mode() & 0o111 != 0 }
        };
        unpacked.entries.insert(merged_usr(&place), entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(version: &str, links: &[(&str, &str)]) -> Unpacked {
        let link = |target: &str| Entry::Link { target: target.to_owned() };
        let mut entries: BTreeMap<String, Entry> =
            links.iter().map(|(path, target)| ((*path).to_owned(), link(target))).collect();
        entries.insert(
            "usr/lib/x/liba.so.1.2".into(),
            Entry::File { host: "/u/liba".into(), executable: false },
        );
        entries.insert("usr/lib/x/deep/b".into(), Entry::File { host: "/u/b".into(), executable: true });
        Unpacked {
            name: "a".into(),
            version: version.into(),
            depends: vec![],
            newest: 0,
            entries,
            sha256: String::new(),
        }
    }

    #[test]
    fn globs_stop_at_slashes_and_know_alternatives() {
        let package = package("1", &[]);
        assert_eq!(package.glob("usr/lib/x/*").unwrap(), ["usr/lib/x/liba.so.1.2"]);
        assert_eq!(package.glob("usr/lib/x/{deep/b,none}").unwrap(), ["usr/lib/x/deep/b"]);
    }

    #[test]
    fn links_are_followed_inside_the_package_and_loops_end() {
        let package = package(
            "1",
            &[("usr/lib/x/liba.so.1", "liba.so.1.2"), ("usr/lib64/l", "/lib/x/liba.so.1"), ("usr/a", "a")],
        );
        assert_eq!(package.file("usr/lib64/l"), Some((Path::new("/u/liba"), false)));
        assert_eq!(package.file("usr/a"), None);
    }

    #[test]
    fn upstream_versions_lose_epoch_and_debian_parts() {
        for (debian, upstream) in [
            ("1.6.20~ds1-1+deb12u3", "1.6.20"),
            ("1.1.5+ds1-1+deb12u1", "1.1.5"),
            ("1:9.4.1-24~deb12u5", "9.4.1"),
            ("20250419~deb12u2", "20250419"),
        ] {
            assert_eq!(package(debian, &[]).upstream_version(), upstream);
        }
    }

    #[test]
    fn dependencies_lose_versions_alternatives_and_architectures() {
        let text = "libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, perl:any, , a [amd64]";
        assert_eq!(parse_depends(text), ["libc6", "debconf", "perl", "a"]);
    }

    #[test]
    fn paths_are_merged_and_links_resolved() {
        assert_eq!(merged_usr("lib/x86_64-linux-gnu/libc.so.6"), "usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(merged_usr("library/x"), "library/x");
        assert_eq!(
            resolve("usr/lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so"),
            "usr/lib/x86_64-linux-gnu/ld.so"
        );
        assert_eq!(resolve("usr/bin/runc", "../sbin/runc"), "usr/sbin/runc");
    }
}
