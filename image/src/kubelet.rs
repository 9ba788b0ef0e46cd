//! The kubelet: a file of the user's, a download, or built once from Debian's source package and kept in the cache.
//!
//! A build is named by the hash of everything that goes into it: sources, patches, compiler, replaced folders and the
//! recipe. It runs in a folder of its own with an emptied environment; no Go of the host takes part. The binary is
//! asked for its version, since its flags depend on it.

use crate::cache::{self, Cache, hash};
use crate::definition::{DebianSource, Kubelet as Definition};
use crate::lock::{Blob, Lock, Mode};
use crate::packages::{Packages, Policy};
use crate::{progress, report, run};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A kubelet ready to be put into the image.
#[derive(Debug, Clone)]
pub struct Kubelet {
    /// The binary.
    pub binary: PathBuf,
    /// Hex sha256 of the binary.
    pub sha256: String,
    /// Its licences, when known.
    pub copyright: Option<PathBuf>,
    /// e.g. `1.20.2`.
    pub version: String,
}

/// Part of the build's name: raise it when the recipe in this file changes what comes out.
const RECIPE: &str = "go build, GOPATH mode, trimpath, no build id, no cgo, amd64 v1: 1";
/// Import path at which the source tree must lie.
const IMPORT_PATH: &str = "k8s.io/kubernetes";
/// Where a vendored `component-base` keeps its version; without the vendor part `--version` says v0.0.0-master.
const VERSION_PACKAGE: &str = "k8s.io/kubernetes/vendor/k8s.io/component-base/version";

/// Gets the kubelet that a definition asks for. `folder`: what relative paths are relative to.
pub fn obtain(
    definition: &Definition,
    packages: &mut Packages,
    policy: Policy,
    folder: &Path,
) -> Result<Kubelet> {
    if let Some(source) = &definition.debian_source {
        return from_source(source, packages, policy);
    }
    let binary = match (&definition.path, &definition.url, &definition.sha256) {
        (Some(path), _, _) => folder.join(path),
        (None, Some(url), Some(sha256)) => download(url, sha256, packages.cache(), policy)?,
        _ => anyhow::bail!("kubelet: no source is given"),
    };
    let sha256 = cache::hash_file(&binary).context("kubelet.path")?;
    let version = ask_version(&binary, packages.cache())?;
    Ok(Kubelet { binary, sha256, copyright: None, version })
}

fn from_source(source: &DebianSource, packages: &mut Packages, policy: Policy) -> Result<Kubelet> {
    let names = inputs(source);
    if policy.mode == Mode::Update {
        packages.settle(&names)?;
        packages.settle_source(&source.package)?;
    }
    if let Some(found) = key(source, packages.lock()).and_then(|key| find(packages.cache(), &key)) {
        return Ok(found);
    }
    packages.fetch(&names)?;
    let sources = packages.fetch_source(&source.package)?;
    let key = key(source, packages.lock()).context("the kubelet's inputs were just locked")?;
    let _alone = packages.cache().exclusive(&format!("kubelet-{key}"))?;
    if let Some(found) = find(packages.cache(), &key) {
        return Ok(found);
    }
    let home = packages.cache().folder("kubelet")?;
    let scratch = Scratch::new(home.join(format!(".build-{key}")))?;
    let mut archives = Vec::new();
    for name in names {
        let blob = packages.lock().packages[name].blob.clone();
        archives.push((name, packages.cache().checked(&blob)?));
    }
    report::note("the kubelet is built from source now, once: 4 to 8 minutes on two cores");
    let since = Instant::now();
    let made = scratch.0.join("made");
    build(source, &sources, &archives, &scratch.0, &made).context("the kubelet could not be built")?;
    let sha256 = cache::hash_file(&made.join("kubelet"))?;
    let version = ask_version(&made.join("kubelet"), packages.cache())?;
    ensure!(
        version == source.release,
        "the built kubelet says it is {version}, image.yaml says {}",
        source.release
    );
    cache::write_file(&made.join("facts.json"), &serde_json::to_vec(&(&sha256, &version))?)?;
    let place = home.join(&key);
    cache::remove_tree(&place)?;
    std::fs::rename(&made, &place).with_context(|| format!("cannot make {}", place.display()))?;
    report::finished("kubelet build", since.elapsed());
    find(packages.cache(), &key).context("the kubelet was just built")
}

/// The folder of one build, removed when dropped, and before it is used: a build that was killed leaves gigabytes.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> Result<Scratch> {
        cache::remove_tree(&path)?;
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = cache::remove_tree(&self.0) {
            report::warn(&format!("{error:#}"));
        }
    }
}

/// Packages that the kubelet is built with, if it is built.
pub fn inputs_of(definition: &Definition) -> Vec<&str> {
    definition.debian_source.as_ref().map(inputs).unwrap_or_default()
}

/// Packages that a build takes.
fn inputs(source: &DebianSource) -> Vec<&str> {
    let replaced = source.replace.iter().map(|replace| replace.package.as_str());
    source.toolchain.iter().map(String::as_str).chain(replaced).collect()
}

/// The name of a build, when the lock knows all of its inputs.
fn key(source: &DebianSource, lock: &Lock) -> Option<String> {
    let mut text = format!("{RECIPE}\n{}\n{source:?}\n", linker_flags(&source.release));
    for blob in &lock.sources.get(&source.package)?.files {
        text += &format!("{} {}\n", blob.file, blob.sha256);
    }
    for name in inputs(source) {
        text += &format!("{name} {}\n", lock.packages.get(name)?.blob.sha256);
    }
    Some(hash(text.as_bytes()))
}

fn find(cache: &Cache, key: &str) -> Option<Kubelet> {
    let place = cache.folder("kubelet").ok()?.join(key);
    let (sha256, version) = serde_json::from_slice(&std::fs::read(place.join("facts.json")).ok()?).ok()?;
    let copyright = place.join("copyright");
    let binary = place.join("kubelet");
    (binary.exists() && copyright.exists()).then_some(Kubelet {
        binary,
        sha256,
        copyright: Some(copyright),
        version,
    })
}

fn build(
    source: &DebianSource,
    sources: &[(String, PathBuf)],
    archives: &[(&str, PathBuf)],
    scratch: &Path,
    made: &Path,
) -> Result<()> {
    let (inbox, root) = (scratch.join("inbox"), scratch.join("root"));
    std::fs::create_dir_all(&inbox)?;
    std::fs::create_dir_all(made)?;
    for (_, archive) in archives {
        run::quiet(run::command("dpkg-deb").arg("-x").arg(archive).arg(&root))?;
    }
    for (name, path) in sources {
        std::os::unix::fs::symlink(path, inbox.join(name))?;
    }
    let dsc =
        sources.iter().find(|(name, _)| name.ends_with(".dsc")).context("the source package has no .dsc")?;
    let gopath = scratch.join("go");
    let tree = gopath.join("src").join(IMPORT_PATH);
    std::fs::create_dir_all(tree.parent().context("a source tree has a parent")?)?;
    // --no-check: the signer's key need not be here; apt has verified the archive's signature over the file.
    run::quiet(run::command("dpkg-source").args(["--no-check", "-x"]).arg(inbox.join(&dsc.0)).arg(&tree))?;
    for replace in &source.replace {
        let to = tree.join(&replace.to);
        ensure!(to.is_dir(), "the source has no folder {}", replace.to);
        std::fs::remove_dir_all(&to)?;
        run::quiet(run::command("cp").arg("-r").arg(root.join(&replace.from)).arg(&to))?;
    }
    std::fs::copy(tree.join("debian/copyright"), made.join("copyright"))
        .context("the source has no debian/copyright")?;
    let go = |verb: &str| {
        let goroot = root.join(&source.goroot);
        let mut go = Command::new(goroot.join("bin/go"));
        go.arg(verb).current_dir(&tree).env_clear().stdin(Stdio::null());
        go.env("GOROOT", &goroot)
            .env("GOPATH", &gopath)
            .env("GOCACHE", scratch.join("gocache"))
            .env("HOME", scratch);
        // The compiler's own temporary files are large; /tmp is often a small tmpfs.
        go.env("TMPDIR", scratch);
        go.envs([("GO111MODULE", "off"), ("CGO_ENABLED", "0"), ("GOOS", "linux"), ("GOARCH", "amd64")]);
        go.envs([("GOAMD64", "v1"), ("GOENV", "off"), ("GOTOOLCHAIN", "local"), ("PATH", "/usr/bin:/bin")]);
        go
    };
    let listed = run::ask(go("list").args(["-deps", "./cmd/kubelet"]))?.unwrap_or_default();
    let mut build = go("build");
    build.args(["-v", "-trimpath", "-ldflags", &linker_flags(&source.release), "-o"]);
    build.arg(made.join("kubelet")).arg("./cmd/kubelet");
    watch(&mut build, listed.lines().count())
}

fn linker_flags(release: &str) -> String {
    let (major, rest) = release.split_once('.').unwrap_or((release, ""));
    let minor = rest.split('.').next().unwrap_or_default();
    let set = |name: &str, value: &str| format!(" -X {VERSION_PACKAGE}.{name}={value}");
    let version =
        [("gitVersion", format!("v{release}")), ("gitMajor", major.into()), ("gitMinor", minor.into())];
    let version: String = version.iter().map(|(name, value)| set(name, value)).collect();
    format!("-s -w -buildid={version}{}", set("gitTreeState", "clean"))
}

/// Runs `go build -v`, which names each package that it compiles, as a progress bar.
fn watch(build: &mut Command, packages: usize) -> Result<()> {
    eprintln!("$ {}", run::line(build));
    let mut child =
        build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot run the Go compiler")?;
    let stderr = child.stderr.take().context("the Go compiler's stderr is a pipe")?;
    let mut bar = progress::Bar::new("kubelet", "packages", packages);
    let mut last = Vec::new();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        bar.advance();
        last.push(line);
        if last.len() > 20 {
            last.remove(0);
        }
    }
    bar.finish();
    let status = child.wait()?;
    ensure!(status.success(), "`go build` failed ({status}):\n{}", last.join("\n"));
    Ok(())
}

/// Downloads by curl, which knows proxies and certificates of the host.
fn download(url: &str, sha256: &str, cache: &Cache, policy: Policy) -> Result<PathBuf> {
    let path = cache.path(sha256);
    if path.exists() && cache::hash_file(&path)? == sha256 {
        return Ok(path);
    }
    ensure!(!policy.offline, "--offline, but the cache lacks the kubelet of {url} (sha256 {sha256})");
    let folder = tempfile::tempdir_in(cache.folder("downloads")?)?;
    let file = folder.path().join("kubelet");
    run::loud(
        run::command("curl").args(["--fail", "--location", "--progress-bar", "--output"]).arg(&file).arg(url),
    )?;
    let blob = Blob { file: url.to_owned(), size: file.metadata()?.len(), sha256: sha256.to_owned() };
    cache.insert(&file, &blob)?;
    Ok(path)
}

/// What `kubelet --version` says, asked of a copy, since a downloaded file need not be executable.
fn ask_version(binary: &Path, cache: &Cache) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir_in(cache.folder("downloads")?)?;
    let copy = folder.path().join("kubelet");
    std::fs::copy(binary, &copy).with_context(|| format!("cannot read the kubelet {}", binary.display()))?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))?;
    let said = run::capture(run::command(&copy.to_string_lossy()).arg("--version"))?;
    parse_version(&said)
        .with_context(|| format!("{} does not say `Kubernetes v1.x.y` but `{said}`", binary.display()))
}

fn parse_version(said: &str) -> Option<String> {
    let version = said.trim().strip_prefix("Kubernetes v")?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Package, Source};

    fn shipped() -> DebianSource {
        crate::definition::parse(include_str!("../image.yaml")).unwrap().kubelet.debian_source.unwrap()
    }

    fn lock(source: &DebianSource) -> Lock {
        let blob = |name: &str| Blob { file: name.into(), size: 1, sha256: hash(name.as_bytes()) };
        let mut lock = Lock::new("bookworm");
        for name in inputs(source) {
            lock.packages.insert(name.into(), Package { version: "1".into(), blob: blob(name) });
        }
        lock.sources.insert(
            source.package.clone(),
            Source { version: "1".into(), files: vec![blob("a.dsc"), blob("a.orig")] },
        );
        lock
    }

    #[test]
    fn every_input_is_part_of_the_name_of_a_build() {
        let source = shipped();
        let first = key(&source, &lock(&source)).unwrap();
        let mut seen = vec![first.clone()];
        for name in inputs(&source) {
            let mut lock = lock(&source);
            lock.packages.get_mut(name).unwrap().blob.sha256 = hash(b"other");
            seen.push(key(&source, &lock).unwrap());
        }
        let mut other = lock(&source);
        other.sources.get_mut("kubernetes").unwrap().files[1].sha256 = hash(b"other");
        seen.push(key(&source, &other).unwrap());
        let mut release = source.clone();
        release.release = "1.20.3".into();
        seen.push(key(&release, &lock(&source)).unwrap());
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
        assert_eq!(key(&source, &lock(&source)).unwrap(), first);
    }

    #[test]
    fn a_build_without_locked_inputs_has_no_name() {
        assert_eq!(key(&shipped(), &Lock::new("bookworm")), None);
    }

    #[test]
    fn linker_flags_tell_the_release() {
        let flags = linker_flags("1.20.2");
        for part in ["-s -w -buildid= -X k8s", "version.gitVersion=v1.20.2 ", "gitMajor=1 ", "gitMinor=20 "] {
            assert!(flags.contains(part), "{part} in {flags}");
        }
    }

    #[test]
    fn versions_are_taken_from_what_the_binary_says() {
        assert_eq!(parse_version("Kubernetes v1.36.2\n").as_deref(), Some("1.36.2"));
        assert_eq!(parse_version("v1.36.2"), None);
        assert_eq!(parse_version("Kubernetes vX"), None);
    }
}
