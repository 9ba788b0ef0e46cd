//! Finds the shared libraries that the chosen programs need, by `DT_NEEDED` and the program interpreter.
//!
//! A library is looked for in the package that needs it and then in the packages that this one depends on, as
//! Debian's policy promises. Only libraries that something needs get into the image, each under its soname.

use crate::deb::Unpacked;
use anyhow::{Context, Result, bail};
use goblin::elf::Elf;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

/// Where the dynamic loader looks without configuration, in its order.
pub const FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// A program or library whose needs are to be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needer {
    /// Its path in the image, for messages.
    pub path: String,
    /// Its file.
    pub host: PathBuf,
    /// The package it is from.
    pub package: String,
}

/// A library that goes into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Its file.
    pub host: PathBuf,
    /// The package it is from.
    pub package: String,
    /// Path in that package.
    pub source: String,
}

/// What an ELF file asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// The program interpreter's path without leading slash.
    pub interpreter: Option<String>,
    /// Sonames.
    pub libraries: Vec<String>,
    /// Folders that it has looked through first (`DT_RUNPATH`), merged-usr, without leading slash.
    pub folders: Vec<String>,
}

/// Gives unpacked packages by name.
pub trait Source {
    /// One package; an error when it cannot be had.
    fn package(&mut self, name: &str) -> Result<&Unpacked>;
}

/// Resolves everything that `needers` need: path in the image to library.
pub fn resolve(needers: Vec<Needer>, packages: &mut dyn Source) -> Result<BTreeMap<String, Library>> {
    let mut found: BTreeMap<String, Library> = BTreeMap::new();
    let mut open: VecDeque<Needer> = needers.into();
    while let Some(needer) = open.pop_front() {
        let needs = read_needs(&needer.host).with_context(|| format!("cannot read /{}", needer.path))?;
        let interpreter = needs.interpreter.map(|path| vec![crate::deb::merged_usr(&path)]);
        // Who loads a library from a private folder loads its neighbours from there too.
        let own = needer.path.rsplit_once('/').map(|(folder, _)| folder);
        let folders = || needs.folders.iter().map(String::as_str).chain(FOLDERS).chain(own);
        let libraries =
            needs.libraries.iter().map(|name| folders().map(|folder| format!("{folder}/{name}")).collect());
        for places in interpreter.into_iter().chain(libraries) {
            let places: Vec<String> = places;
            if places.iter().any(|place| found.contains_key(place)) {
                continue;
            }
            let Some((place, library)) = find(&places, &needer.package, packages)? else {
                let name = places[0].rsplit('/').next().unwrap_or_default();
                bail!(
                    "/{} of package {} needs {name}, which is in none of the packages it depends on; \
                     add the package that holds it to image.yaml",
                    needer.path,
                    needer.package
                );
            };
            open.push_back(Needer {
                path: place.clone(),
                host: library.host.clone(),
                package: library.package.clone(),
            });
            found.insert(place, library);
        }
    }
    Ok(found)
}

/// What an ELF file asks for; nothing when it is not one.
pub fn read_needs(file: &Path) -> Result<Needs> {
    let mut magic = [0; 4];
    let bytes = {
        use std::io::Read;
        let mut opened =
            std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        if opened.read(&mut magic)? < magic.len() || magic != *b"\x7fELF" {
            return Ok(Needs::default());
        }
        std::fs::read(file)?
    };
    let elf = Elf::parse(&bytes).with_context(|| format!("{} is a damaged ELF file", file.display()))?;
    Ok(Needs {
        interpreter: elf.interpreter.map(|path| path.trim_start_matches('/').to_owned()),
        libraries: elf.libraries.iter().map(|name| (*name).to_owned()).collect(),
        // `$ORIGIN` and the like are in no package of ours.
        folders: elf
            .runpaths
            .iter()
            .filter_map(|path| path.strip_prefix('/'))
            .map(crate::deb::merged_usr)
            .collect(),
    })
}

fn find(places: &[String], needer: &str, packages: &mut dyn Source) -> Result<Option<(String, Library)>> {
    let depends = packages.package(needer)?.depends.clone();
    let mut candidates: Vec<String> = std::iter::once(needer.to_owned()).chain(depends).collect();
    // Those that look like the library's own package come first: others need not even be downloaded.
    let stem = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let wanted = stem(places[0].rsplit('/').next().unwrap_or_default().replace(".so.", "").as_str());
    candidates[1..].sort_by_key(|name| {
        let (name, wanted) = (stem(name), wanted.as_str());
        match () {
            () if name == wanted => 0,
            () if name.starts_with(wanted) || wanted.starts_with(&name) => 1,
            () if name == "libc6" => 2,
            () if name.starts_with("lib") || name.starts_with("zlib") => 3,
            () => 4,
        }
    });
    let mut refused = None;
    for name in candidates {
        // A dependency may be a virtual package, which cannot be had; that matters only when nobody has the library.
        let package = match packages.package(&name) {
            Ok(package) => package,
            Err(error) => {
                refused.get_or_insert(error);
                continue;
            }
        };
        for place in places {
            if let Some((host, _)) = package.file(place) {
                return Ok(Some((
                    place.clone(),
                    Library { host: host.to_owned(), package: name, source: place.clone() },
                )));
            }
        }
    }
    refused.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::Entry;

    /// Packages made of copies of this machine's own programs, so that real ELF files are read.
    struct World(BTreeMap<String, Unpacked>);

    impl Source for World {
        fn package(&mut self, name: &str) -> Result<&Unpacked> {
            self.0.get(name).with_context(|| format!("no package {name}"))
        }
    }

    impl World {
        fn add(&mut self, name: &str, depends: &[&str], files: &[(&str, &Path)]) {
            let file = |host: &Path| Entry::File { host: host.to_owned(), executable: true };
            let entries = files.iter().map(|(path, host)| ((*path).to_owned(), file(host))).collect();
            let depends = depends.iter().map(|name| (*name).to_owned()).collect();
            let (version, sha256) = ("1".to_owned(), String::new());
            self.0.insert(
                name.into(),
                Unpacked { name: name.into(), version, depends, newest: 0, entries, sha256 },
            );
        }
    }

    fn needer() -> Needer {
        Needer { path: "usr/bin/me".into(), host: std::env::current_exe().unwrap(), package: "me".into() }
    }

    const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

    #[test]
    fn needs_are_met_by_the_packages_that_the_needer_depends_on() {
        let needs = read_needs(&needer().host).unwrap();
        assert_eq!(needs.interpreter.as_deref(), Some("lib64/ld-linux-x86-64.so.2"));
        assert!(needs.libraries.contains(&"libc.so.6".to_owned()), "{needs:?}");
        let mut world = World(BTreeMap::new());
        let empty = tempfile::NamedTempFile::new().unwrap();
        let paths: Vec<String> =
            needs.libraries.iter().map(|name| format!("{}/{name}", FOLDERS[0])).collect();
        let mut files: Vec<(&str, &Path)> = paths.iter().map(|path| (path.as_str(), empty.path())).collect();
        files.push((LOADER, empty.path()));
        world.add("me", &["virtual-thing", "libc6"], &[]);
        world.add("libc6", &[], &files);
        let found = resolve(vec![needer()], &mut world).unwrap();
        assert_eq!(found.len(), files.len());
        assert!(
            found.contains_key(LOADER) && found.values().all(|library| library.package == "libc6"),
            "{found:?}"
        );
    }

    #[test]
    fn a_neighbour_in_a_private_folder_is_found() {
        let needs = read_needs(&needer().host).unwrap();
        let (last, others) = needs.libraries.split_last().unwrap();
        let mut world = World(BTreeMap::new());
        let empty = tempfile::NamedTempFile::new().unwrap();
        let paths: Vec<String> = others.iter().map(|name| format!("{}/{name}", FOLDERS[0])).collect();
        let private = format!("usr/bin/{last}");
        let mut files: Vec<(&str, &Path)> = paths.iter().map(|path| (path.as_str(), empty.path())).collect();
        files.extend([(LOADER, empty.path()), (private.as_str(), empty.path())]);
        world.add("me", &[], &files);
        let found = resolve(vec![needer()], &mut world).unwrap();
        assert!(found.contains_key(&private), "{found:?}");
    }

    #[test]
    fn a_missing_library_is_named_with_who_needs_it() {
        let mut world = World(BTreeMap::new());
        let empty = tempfile::NamedTempFile::new().unwrap();
        world.add("me", &["libc6"], &[]);
        world.add("libc6", &[], &[(LOADER, empty.path())]);
        let error = resolve(vec![needer()], &mut world).unwrap_err().to_string();
        assert!(error.starts_with("/usr/bin/me of package me needs lib"), "{error}");
    }

    #[test]
    fn what_is_no_elf_file_needs_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        assert_eq!(read_needs(file.path()).unwrap(), Needs::default());
    }
}
