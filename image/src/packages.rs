//! Gets components by name: from the cache when the lock names them, from the mirror otherwise, unpacked on demand.
//!
//! This is the one place where lock, cache and mirror meet. Offline nothing is asked of the network, and what is
//! missing is named.

use crate::apt::Apt;
use crate::cache::Cache;
use crate::deb::{self, Unpacked};
use crate::lock::{self, Decision, Lock, Mode, Package, Source};
use crate::report;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How components may be got.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// What may happen to the lock.
    pub mode: Mode,
    /// Whether the network must not be used.
    pub offline: bool,
}

impl crate::libraries::Source for Packages {
    fn package(&mut self, name: &str) -> Result<&Unpacked> {
        self.get(name)
    }
}

/// The components of one image.
#[derive(Debug)]
pub struct Packages {
    cache: Cache,
    lock: Lock,
    policy: Policy,
    apt: Option<Apt>,
    /// Where packages are unpacked.
    folder: PathBuf,
    unpacked: BTreeMap<String, Unpacked>,
    /// Names decided in this run: asked of the mirror once.
    settled: BTreeSet<String>,
}

impl Packages {
    /// Components by `lock`, unpacked below `folder`.
    pub fn new(cache: Cache, lock: Lock, policy: Policy, folder: &Path) -> Packages {
        let (unpacked, settled) = (BTreeMap::new(), BTreeSet::new());
        Packages { cache, lock, policy, apt: None, folder: folder.to_owned(), unpacked, settled }
    }

    /// The lock with what was added.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// What is unpacked by now.
    pub fn unpacked(&self) -> &BTreeMap<String, Unpacked> {
        &self.unpacked
    }

    /// Decides the versions of binary packages; nothing is downloaded.
    pub fn settle(&mut self, names: &[&str]) -> Result<()> {
        let open: Vec<&str> = names.iter().copied().filter(|name| !self.is_settled(name)).collect();
        if open.is_empty() {
            return Ok(());
        }
        self.online(&open)?;
        let offered = self.apt()?.offered(&open)?;
        for (name, package) in offered {
            let locked = self.lock.packages.get(&name).map(|locked| locked.version.clone());
            let available = match &locked {
                Some(version) if *version != package.version && self.policy.mode != Mode::Update => {
                    self.apt()?.has(&name, version)?
                }
                _ => true,
            };
            match lock::decide(&name, locked.as_deref(), available, &package.version, self.policy.mode)? {
                Decision::Keep => {}
                Decision::Take { warn } => {
                    if warn {
                        let old = locked.unwrap_or_default();
                        report::warn(&format!(
                            "{name}: image.lock has {old}; taking {} from the mirror",
                            package.version
                        ));
                    }
                    self.lock.packages.insert(name.clone(), package);
                }
            }
            self.settled.insert(name);
        }
        Ok(())
    }

    /// Gets binary packages into the cache, all in one download.
    pub fn fetch(&mut self, names: &[&str]) -> Result<()> {
        self.settle(names)?;
        let Err(error) = self.download(names) else { return Ok(()) };
        // The mirror may have replaced a package since its lists were fetched: once more with new ones.
        if self.policy.offline || !self.apt()?.refresh_again()? {
            return Err(error);
        }
        report::note(&format!("{error:#}; once more with new package lists"));
        names.iter().for_each(|name| {
            self.settled.remove(*name);
        });
        self.settle(names)?;
        self.download(names)
    }

    fn download(&mut self, names: &[&str]) -> Result<()> {
        let lacking: Vec<(String, Package)> = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.lock.packages.get(*name)?.clone())))
            .filter(|(_, package)| !self.cache.has(&package.blob))
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let bytes: u64 = lacking.iter().map(|(_, package)| package.blob.size).sum();
        let cache = self.cache.clone();
        let wanted: Vec<(&str, &Package)> =
            lacking.iter().map(|(name, package)| (name.as_str(), package)).collect();
        let name = format!("download of {} packages, {:.1} MB", wanted.len(), megabytes(bytes));
        let apt = self.apt()?;
        report::phase(&name, || apt.download(&cache, &wanted))
    }

    /// Gets in one download what an earlier run has locked, but for `others`. What fails is asked for again, alone,
    /// when it is needed, so a library that the suite has renamed does no harm.
    pub fn prefetch(&mut self, others: &[&str]) {
        let wanted = |name: &&String| !others.contains(&name.as_str()) && !self.is_settled(name);
        let names: Vec<String> = self.lock.packages.keys().filter(wanted).cloned().collect();
        if names.is_empty() || self.policy.offline {
            return;
        }
        if let Err(error) = self.fetch(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
            report::note(&format!("not all locked packages at once: {error:#}"));
        }
    }

    /// An unpacked package.
    pub fn get(&mut self, name: &str) -> Result<&Unpacked> {
        if !self.unpacked.contains_key(name) {
            self.fetch(&[name])?;
            let blob = &self.lock.packages.get(name).with_context(|| format!("{name} was not locked"))?.blob;
            // An unpacked folder was made from checked bytes; only new ones need the check again.
            let archive = match self.folder.join(&blob.sha256).exists() {
                true => self.cache.path(&blob.sha256),
                false => self.cache.checked(blob)?,
            };
            let unpacked = deb::unpack(&archive, &blob.sha256, &self.folder)?;
            self.unpacked.insert(name.to_owned(), unpacked);
        }
        Ok(&self.unpacked[name])
    }

    /// Decides the version of a source package; nothing is downloaded.
    pub fn settle_source(&mut self, name: &str) -> Result<Source> {
        let locked = self.lock.sources.get(name).cloned();
        let there =
            locked.as_ref().is_some_and(|source| source.files.iter().all(|blob| self.cache.has(blob)));
        if let Some(source) = &locked
            && self.policy.mode != Mode::Update
            && (there || self.policy.offline)
        {
            return Ok(source.clone());
        }
        self.online(&[name])?;
        let offered = self.apt()?.offered_source(name, None)?;
        let offered = offered.with_context(|| format!("the mirror has no source package {name}"))?;
        let available = match &locked {
            Some(source) if source.version != offered.version => {
                let version = source.version.clone();
                self.apt()?.offered_source(name, Some(&version))?.is_some()
            }
            _ => true,
        };
        let version = locked.as_ref().map(|source| source.version.as_str());
        match (lock::decide(name, version, available, &offered.version, self.policy.mode)?, locked) {
            (Decision::Keep, Some(source)) => Ok(source),
            (Decision::Take { warn: true }, Some(old)) => {
                report::warn(&format!(
                    "{name}: image.lock has {}; taking {} from the mirror",
                    old.version, offered.version
                ));
                self.lock.sources.insert(name.to_owned(), offered.clone());
                Ok(offered)
            }
            _ => {
                self.lock.sources.insert(name.to_owned(), offered.clone());
                Ok(offered)
            }
        }
    }

    /// Gets the files of a source package into the cache; checked paths with their names.
    pub fn fetch_source(&mut self, name: &str) -> Result<Vec<(String, PathBuf)>> {
        let mut source = self.settle_source(name)?;
        if let Err(error) = self.download_source(name, &source) {
            if self.policy.offline || !self.apt()?.refresh_again()? {
                return Err(error);
            }
            report::note(&format!("{error:#}; once more with new package lists"));
            source = self.settle_source(name)?;
            self.download_source(name, &source)?;
        }
        source.files.iter().map(|blob| Ok((blob.file.clone(), self.cache.checked(blob)?))).collect()
    }

    fn download_source(&mut self, name: &str, source: &Source) -> Result<()> {
        if source.files.iter().all(|blob| self.cache.has(blob)) {
            return Ok(());
        }
        self.online(&[name])?;
        let cache = self.cache.clone();
        let bytes: u64 = source.files.iter().map(|blob| blob.size).sum();
        let apt = self.apt()?;
        report::phase(&format!("download of the source of {name}, {:.1} MB", megabytes(bytes)), || {
            apt.download_source(&cache, name, source)
        })
    }

    /// Drops what this run did not use from the lock; `kernel` and `kept` are used without being unpacked.
    pub fn forget_unused(&mut self, kernel: &str, kept: &[&str]) {
        let unpacked = &self.unpacked;
        self.lock
            .packages
            .retain(|name, _| unpacked.contains_key(name) || name == kernel || kept.contains(&name.as_str()));
    }

    /// Whether the lock's entry of a package can be used without asking the mirror.
    fn is_settled(&self, name: &str) -> bool {
        let cached = self.lock.packages.get(name).is_some_and(|package| self.cache.has(&package.blob));
        self.settled.contains(name) || (cached && self.policy.mode != Mode::Update)
    }

    fn online(&self, names: &[&str]) -> Result<()> {
        if self.policy.offline {
            let list: Vec<String> = names
                .iter()
                .map(|name| match self.lock.packages.get(*name) {
                    Some(package) => format!("{} (sha256 {})", package.blob.file, package.blob.sha256),
                    None => format!("{name} (not in image.lock)"),
                })
                .collect();
            bail!(
                "--offline, but the cache lacks {}; run `cargo xtask fetch` once with a network",
                list.join(", ")
            );
        }
        Ok(())
    }

    fn apt(&mut self) -> Result<&mut Apt> {
        if self.apt.is_none() {
            self.apt = Some(Apt::new(&self.cache, &self.lock.suite)?);
        }
        self.apt.as_mut().context("apt was just prepared")
    }
}

fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0 * 1.048_576
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Blob;

    fn packages(mode: Mode, held: &[&str]) -> (tempfile::TempDir, Packages) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let mut lock = Lock::new("bookworm");
        for name in ["runc", "zstd"] {
            let blob = Blob {
                file: format!("{name}_1_amd64.deb"),
                size: 4,
                sha256: crate::cache::hash(name.as_bytes()),
            };
            if held.contains(&name) {
                std::fs::write(cache.path(&blob.sha256), name).unwrap();
            }
            lock.packages.insert(name.into(), Package { version: "1".into(), blob });
        }
        let policy = Policy { mode, offline: true };
        let packages = Packages::new(cache, lock, policy, &folder.path().join("unpacked"));
        (folder, packages)
    }

    #[test]
    fn offline_uses_what_is_cached_and_names_what_is_not() {
        let (_folder, mut packages) = packages(Mode::AcceptNewer, &["runc"]);
        packages.fetch(&["runc"]).unwrap();
        let error = packages.fetch(&["runc", "zstd", "chrony"]).unwrap_err().to_string();
        assert!(
            error.contains("zstd_1_amd64.deb (sha256 ") && error.contains("chrony (not in image.lock)"),
            "{error}"
        );
        assert!(!error.contains("runc") && error.contains("cargo xtask fetch"), "{error}");
    }

    #[test]
    fn an_update_asks_the_mirror_even_for_what_is_cached() {
        let (_folder, mut packages) = packages(Mode::Update, &["runc"]);
        assert!(packages.fetch(&["runc"]).unwrap_err().to_string().contains("--offline"));
    }
}
