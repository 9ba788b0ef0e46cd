//! The licences of the Rust crates that are linked into our own programs, as one text.
//!
//! Static linking makes their code part of the image, so their notices belong into it. Cargo says which crates those
//! are; the texts are the files that each crate ships.

use crate::build::Checkout;
use crate::run;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

/// `kind` is null for what is linked, else `dev` or `build`.
#[derive(Debug, Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// The text for the crates that `roots` (packages of the workspace) link.
pub fn of_programs(checkout: &Checkout, roots: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["metadata", "--locked", "--format-version=1", "--filter-platform", crate::compile::TARGET]);
    let json = run::ask(command.current_dir(&checkout.root))?.context("`cargo metadata` failed")?;
    let metadata: Metadata =
        serde_json::from_str(&json).context("`cargo metadata` said something unexpected")?;
    let mut text = String::new();
    for package in linked(&metadata, roots) {
        let folder = package.manifest_path.parent().context("a manifest has a folder")?;
        if folder.starts_with(&checkout.root) {
            continue;
        }
        let licence = package.license.as_deref().unwrap_or("see below");
        writeln!(text, "{} {}\nLicence: {licence}\n", package.name, package.version)?;
        for file in notices(folder)? {
            writeln!(text, "{}\n", String::from_utf8_lossy(&std::fs::read(&file)?).trim_end())?;
        }
    }
    ensure!(!text.is_empty(), "`cargo metadata` names no crate that {} link", roots.join(", "));
    Ok(text)
}

/// Packages reachable from the roots over links, in the order of name and version.
fn linked<'a>(metadata: &'a Metadata, roots: &[&str]) -> Vec<&'a Package> {
    let edges: BTreeMap<&str, &Vec<Dependency>> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), &node.deps)).collect();
    let is_root = |package: &&Package| roots.contains(&package.name.as_str());
    let mut open: Vec<&str> =
        metadata.packages.iter().filter(is_root).map(|package| package.id.as_str()).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let deps = edges.get(id).into_iter().flat_map(|deps| deps.iter());
            open.extend(
                deps.filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()))
                    .map(|dep| dep.pkg.as_str()),
            );
        }
    }
    let mut found: Vec<&Package> =
        metadata.packages.iter().filter(|package| seen.contains(package.id.as_str())).collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    found
}

/// Licence and notice files of a crate. Where it may be had under Apache's licence, that text is not repeated for each:
/// it is among the common licences.
fn notices(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_notice = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_notice && path.is_file() && !name.contains("APACHE") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_counts() {
        let json = r#"{"packages": [
            {"id": "i", "name": "init", "version": "1", "license": null, "manifest_path": "/p/init/Cargo.toml"},
            {"id": "z", "name": "zlink", "version": "1", "license": "MIT", "manifest_path": "/r/z/Cargo.toml"},
            {"id": "n", "name": "nested", "version": "2", "license": "MIT", "manifest_path": "/r/n/Cargo.toml"},
            {"id": "t", "name": "tested", "version": "1", "license": "MIT", "manifest_path": "/r/t/Cargo.toml"}],
          "resolve": {"nodes": [
            {"id": "i", "deps": [{"pkg": "z", "dep_kinds": [{"kind": null}]}, {"pkg": "t", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "z", "deps": [{"pkg": "n", "dep_kinds": [{"kind": "build"}, {"kind": null}]}]},
            {"id": "n", "deps": []}, {"id": "t", "deps": []}]}}"#;
        let metadata: Metadata = serde_json::from_str(json).unwrap();
        let names: Vec<&str> =
            linked(&metadata, &["init"]).iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["init", "nested", "zlink"]);
    }

    #[test]
    fn notices_are_found_by_name_and_apache_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["LICENSE-MIT", "LICENSE-APACHE", "NOTICE", "src.rs", "Copyright.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = notices(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["Copyright.txt", "LICENSE-MIT", "NOTICE"]);
    }
}
