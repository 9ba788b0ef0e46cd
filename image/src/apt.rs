//! A private apt: asks the host's Debian mirror about another suite and downloads from it, as any user, and without
//! touching the host's own lists, cache or status.
//!
//! apt verifies the archive's signature and every hash; what it hands out is named by sha256 from there on.

use crate::cache::{self, Cache};
use crate::lock::{Blob, Package, Source};
use crate::{report, run, sources};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A private apt configuration for one suite.
#[derive(Debug)]
pub struct Apt {
    suite: String,
    folder: PathBuf,
    fresh: bool,
}

/// Lists younger than this are believed without asking the mirror again.
const LISTS_AGE: Duration = Duration::from_secs(6 * 3600);

impl Apt {
    /// Prepares the configuration below the cache. Nothing is asked of the network yet.
    pub fn new(cache: &Cache, suite: &str) -> Result<Apt> {
        let folder = cache.folder(&format!("apt/{suite}"))?;
        for name in ["lists/partial", "cache/archives/partial", "parts"] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let list = sources::render(&host_archives()?, suite);
        replace(&folder.join("sources.list"), &list)?;
        replace(&folder.join("status"), "")?;
        replace(&folder.join("apt.conf"), &configuration(&folder))?;
        Ok(Apt { suite: suite.to_owned(), folder, fresh: false })
    }

    /// What the suite offers for binary packages. Unknown names are an error.
    pub fn offered(&mut self, names: &[&str]) -> Result<Vec<(String, Package)>> {
        self.refresh(false)?;
        let text = match self.print_uris("download", names)? {
            Some(text) => text,
            None => {
                self.refresh(true)?;
                let mut command = self.get("download");
                run::capture(command.arg("--print-uris").args(names)).with_context(|| {
                    format!("the suite {} does not offer all of these packages", self.suite)
                })?
            }
        };
        let offered: Vec<(String, Package)> =
            text.lines().filter_map(parse_uri).map(package).collect::<Result<_>>()?;
        for name in names {
            let name = name.split('=').next().unwrap_or(name);
            ensure!(
                offered.iter().any(|(have, _)| have == name),
                "apt knows no download of {name} in {}",
                self.suite
            );
        }
        Ok(offered)
    }

    /// Whether the mirror still has exactly this version.
    pub fn has(&mut self, name: &str, version: &str) -> Result<bool> {
        self.refresh(false)?;
        Ok(self.print_uris("download", &[&format!("{name}={version}")])?.is_some_and(|text| !text.is_empty()))
    }

    /// What the suite offers for a source package, or a given version of it; `None` when it has none such.
    pub fn offered_source(&mut self, name: &str, version: Option<&str>) -> Result<Option<Source>> {
        self.refresh(false)?;
        let wanted = version.map_or_else(|| name.to_owned(), |version| format!("{name}={version}"));
        let Some(text) = self.print_uris("source", &["--only-source", &wanted])? else { return Ok(None) };
        let files: Vec<Blob> = text.lines().filter_map(parse_uri).collect();
        let Some(dsc) = files.iter().find(|blob| blob.file.ends_with(".dsc")) else { return Ok(None) };
        let version =
            dsc.file.trim_end_matches(".dsc").split_once('_').map(|(_, version)| version.to_owned());
        Ok(Some(Source { version: version.context("a .dsc without a version")?, files }))
    }

    /// Downloads binary packages by name and version into the cache.
    pub fn download(&mut self, cache: &Cache, packages: &[(&str, &Package)]) -> Result<()> {
        let folder = tempfile::tempdir_in(&self.folder)?;
        let wanted = packages.iter().map(|(name, package)| format!("{name}={}", package.version));
        let mut command = self.get("download");
        run::loud(command.args(["-q", "-q"]).args(wanted).current_dir(folder.path()))?;
        for (_, package) in packages {
            cache.insert(&folder.path().join(&package.blob.file), &package.blob)?;
        }
        Ok(())
    }

    /// Downloads the files of a source package into the cache.
    pub fn download_source(&mut self, cache: &Cache, name: &str, source: &Source) -> Result<()> {
        let folder = tempfile::tempdir_in(&self.folder)?;
        let wanted = format!("{name}={}", source.version);
        let mut command = self.get("source");
        command.args(["-q", "-q", "--download-only", "--only-source", &wanted]).current_dir(folder.path());
        run::loud(&mut command)?;
        for blob in &source.files {
            cache.insert(&folder.path().join(&blob.file), blob)?;
        }
        Ok(())
    }

    /// Fetches the lists anew unless that was done in this run; whether it did.
    pub fn refresh_again(&mut self) -> Result<bool> {
        if self.fresh {
            return Ok(false);
        }
        self.refresh(true)?;
        Ok(true)
    }

    fn refresh(&mut self, force: bool) -> Result<()> {
        let stamp = self.folder.join("updated");
        let list = std::fs::read_to_string(self.folder.join("sources.list"))?;
        let known = std::fs::read_to_string(&stamp).is_ok_and(|have| have == list);
        let age = stamp
            .metadata()
            .and_then(|found| found.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        let young = known && age.is_some_and(|age| age < LISTS_AGE);
        if self.fresh || (young && !force) {
            return Ok(());
        }
        report::phase("package lists", || {
            let mut command = self.get("update");
            run::loud(command.args(["-q", "-q"]))
                .context("the package lists cannot be fetched; without a network use --offline")
        })?;
        cache::write_file(&stamp, list.as_bytes())?;
        self.fresh = true;
        Ok(())
    }

    fn print_uris(&self, verb: &str, words: &[&str]) -> Result<Option<String>> {
        let mut command = self.get(verb);
        run::ask(command.args(["-q", "-q", "--print-uris"]).args(words))
    }

    fn get(&self, verb: &str) -> Command {
        let mut command = run::command("apt-get");
        command.arg("-c").arg(self.folder.join("apt.conf")).arg(verb);
        command
    }
}

/// The host's Debian archives; `$PODIUM_APT_SOURCES` names one file to read in place of /etc/apt.
fn host_archives() -> Result<Vec<sources::Archive>> {
    let files = match std::env::var_os("PODIUM_APT_SOURCES").filter(|value| !value.is_empty()) {
        Some(file) => vec![PathBuf::from(file)],
        None => {
            let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
            if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
                files.extend(entries.flatten().map(|entry| entry.path()));
            }
            files.sort();
            files.retain(|file| file.exists());
            files
        }
    };
    let mut archives = Vec::new();
    for file in &files {
        let read =
            || std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => archives.extend(sources::parse_deb822(&read()?)),
            Some("list") => archives.extend(sources::parse_list(&read()?)),
            _ => {}
        }
    }
    if archives.is_empty() {
        bail!(
            "no Debian mirror is configured in /etc/apt on this machine; name a file with one (ending in .list or .sources) in PODIUM_APT_SOURCES"
        );
    }
    Ok(archives)
}

/// Proxies and credentials of the host's configuration stay in force; its hooks, pins and paths do not.
fn configuration(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture \"amd64\";
APT::Architectures {{ \"amd64\"; }};
APT::Sandbox::User \"root\";
Acquire::Languages \"none\";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";
Acquire::IndexTargets::deb::CNF::DefaultEnabled \"false\";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";
Acquire::IndexTargets::deb-src::Contents-dsc::DefaultEnabled \"false\";
Dir::Etc::SourceList \"{}\";
Dir::Etc::SourceParts \"{parts}\";
Dir::Etc::Preferences \"/dev/null\";
Dir::Etc::PreferencesParts \"{parts}\";
Dir::State::Lists \"{}\";
Dir::State::Status \"{}\";
Dir::Cache \"{}\";
",
        path("sources.list"),
        path("lists"),
        path("status"),
        path("cache"),
        parts = path("parts"),
    )
}

fn replace(file: &Path, text: &str) -> Result<()> {
    match std::fs::read_to_string(file) {
        Ok(have) if have == text => Ok(()),
        _ => cache::write_file(file, text.as_bytes()),
    }
}

/// A line of `--print-uris`: `'uri' file size SHA256:hash`.
fn parse_uri(line: &str) -> Option<Blob> {
    let rest = line.strip_prefix('\'')?.split_once("' ")?.1;
    let mut words = rest.split_whitespace();
    let (file, size, hash) = (words.next()?, words.next()?, words.next()?);
    Some(Blob {
        file: file.to_owned(),
        size: size.parse().ok()?,
        sha256: hash.strip_prefix("SHA256:")?.to_owned(),
    })
}

/// Name and version of a package by the name of its file: `mount_1%3a2.38.1-5_amd64.deb`.
fn package(blob: Blob) -> Result<(String, Package)> {
    let mut parts = blob.file.split('_');
    let (Some(name), Some(version), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("`{}` is not the file name of a Debian package", blob.file);
    };
    Ok((name.to_owned(), Package { version: version.replace("%3a", ":"), blob }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_print_uris_gives_name_version_size_and_hash() {
        let line = format!(
            "'http://m/pool/i/iproute2_6.1_amd64.deb' iproute2_1%3a6.1.0-3_amd64.deb 1046 SHA256:{}",
            "0".repeat(64)
        );
        let (name, have) = package(parse_uri(&line).unwrap()).unwrap();
        assert_eq!((name.as_str(), have.version.as_str(), have.blob.size), ("iproute2", "1:6.1.0-3", 1046));
        assert_eq!(parse_uri("Reading package lists..."), None);
        assert_eq!(parse_uri("'http://m/a' a_1_all.deb 10 MD5Sum:abc"), None, "a weak hash is no hash");
    }

    #[test]
    fn a_file_name_of_another_shape_is_an_error() {
        let blob = Blob { file: "README".into(), size: 1, sha256: String::new() };
        assert!(package(blob).is_err());
    }

    #[test]
    fn the_configuration_leaves_the_host_alone() {
        let text = configuration(Path::new("/cache/apt/bookworm"));
        for key in ["Dir::Etc::SourceList", "Dir::State::Lists", "Dir::State::Status", "Dir::Cache"] {
            assert!(text.contains(&format!("{key} \"/cache/apt/bookworm/")), "{key}");
        }
    }
}
