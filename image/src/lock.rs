//! `image.lock`: the exact version, size and sha256 of each component.
//!
//! It works as Cargo's lock file does: what it names is what is used, a component that it lacks is added, and with
//! [`Mode::Locked`] nothing about it may change. One rule is different, because package mirrors drop a version when
//! they get its successor: a locked version that the mirror no longer has is replaced by the suite's current one,
//! with a warning, and recorded. Refusing would break the first command of every fresh checkout at each security
//! update, and the successor is signed by the same archive key.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What may happen to the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Additions are recorded; a version that the mirror dropped gives way to the current one, with a warning.
    #[default]
    AcceptNewer,
    /// Nothing may change: a missing or dropped version is an error.
    Locked,
    /// Every component moves to the suite's current version.
    Update,
}

/// The lock file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Debian code name that the versions are of.
    pub suite: String,
    /// Binary packages by name.
    pub packages: BTreeMap<String, Package>,
    /// Source packages by name.
    #[serde(default)]
    pub sources: BTreeMap<String, Source>,
}

/// One binary package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Debian version.
    pub version: String,
    /// The archive.
    #[serde(flatten)]
    pub blob: Blob,
}

/// One source package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Debian version.
    pub version: String,
    /// The `.dsc` and what it lists.
    pub files: Vec<Blob>,
}

/// A file known by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// File name on the mirror.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Hex sha256.
    pub sha256: String,
}

/// What is to be done about one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Use the locked one.
    Keep,
    /// Record the mirror's; `warn` when it replaces another.
    Take {
        /// Whether somebody must be told.
        warn: bool,
    },
}

const HEADER: &str =
    "# Written by `cargo xtask`: exact packages, known by their bytes. Commit it; do not edit it.\n";

impl Lock {
    /// An empty lock for a suite.
    pub fn new(suite: &str) -> Lock {
        Lock { suite: suite.to_owned(), packages: BTreeMap::new(), sources: BTreeMap::new() }
    }

    /// Reads the lock; an empty one when there is none or when it is of another suite.
    pub fn read(file: &Path, suite: &str) -> Result<Lock> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Lock::new(suite)),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let lock: Lock = serde_yaml::from_str(&text)
            .with_context(|| format!("{} is damaged; delete it, and it is made anew", file.display()))?;
        Ok(if lock.suite == suite { lock } else { Lock::new(suite) })
    }

    /// The file's text; the same lock gives the same bytes.
    pub fn render(&self) -> Result<String> {
        Ok(format!("{HEADER}{}", serde_yaml::to_string(self)?))
    }

    /// Writes the file when its text changes; whether it did.
    pub fn write(&self, file: &Path) -> Result<bool> {
        let text = self.render()?;
        if std::fs::read_to_string(file).is_ok_and(|have| have == text) {
            return Ok(false);
        }
        crate::cache::write_file(file, text.as_bytes())?;
        Ok(true)
    }
}

/// Decides between the locked and the mirror's version of `name`. `available`: whether the locked one can still be had.
pub fn decide(
    name: &str,
    locked: Option<&str>,
    available: bool,
    offered: &str,
    mode: Mode,
) -> Result<Decision> {
    match (locked, mode) {
        (None, Mode::Locked) => {
            bail!(
                "{name} is not in image.lock, and --locked forbids to add it; run `cargo xtask fetch` and commit image.lock"
            )
        }
        (None, Mode::AcceptNewer | Mode::Update) => Ok(Decision::Take { warn: false }),
        (Some(version), _) if version == offered => Ok(Decision::Keep),
        (Some(_), Mode::Update) => Ok(Decision::Take { warn: true }),
        (Some(_), _) if available => Ok(Decision::Keep),
        (Some(_), Mode::AcceptNewer) => Ok(Decision::Take { warn: true }),
        (Some(version), Mode::Locked) => bail!(
            "{name} {version} is in image.lock, but the mirror has only {offered}; run without --locked to accept it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_and_available_is_kept() {
        for mode in [Mode::AcceptNewer, Mode::Locked] {
            assert_eq!(decide("runc", Some("1"), true, "2", mode).unwrap(), Decision::Keep);
            assert_eq!(decide("runc", Some("2"), true, "2", mode).unwrap(), Decision::Keep);
        }
        assert_eq!(
            decide("runc", Some("1"), true, "2", Mode::Update).unwrap(),
            Decision::Take { warn: true }
        );
    }

    #[test]
    fn a_dropped_version_gives_way_with_a_warning_unless_locked() {
        let decided = decide("runc", Some("1"), false, "2", Mode::AcceptNewer).unwrap();
        assert_eq!(decided, Decision::Take { warn: true });
        let error = decide("runc", Some("1"), false, "2", Mode::Locked).unwrap_err().to_string();
        assert!(
            error.contains("runc 1") && error.contains("only 2") && error.contains("without --locked"),
            "{error}"
        );
    }

    #[test]
    fn a_new_package_is_added_silently_unless_locked() {
        assert_eq!(
            decide("runc", None, false, "2", Mode::AcceptNewer).unwrap(),
            Decision::Take { warn: false }
        );
        assert!(
            decide("runc", None, false, "2", Mode::Locked)
                .unwrap_err()
                .to_string()
                .contains("--locked forbids")
        );
    }

    #[test]
    fn the_file_survives_a_round_trip_and_is_written_only_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image.lock");
        let mut lock = Lock::new("bookworm");
        let blob = Blob { file: "runc_1_amd64.deb".into(), size: 5, sha256: "ab".repeat(32) };
        lock.packages.insert("runc".into(), Package { version: "1:0~1".into(), blob: blob.clone() });
        lock.sources.insert("kubernetes".into(), Source { version: "1".into(), files: vec![blob] });
        assert!(lock.write(&file).unwrap());
        assert!(!lock.write(&file).unwrap());
        assert_eq!(Lock::read(&file, "bookworm").unwrap(), lock);
        assert_eq!(
            Lock::read(&file, "trixie").unwrap(),
            Lock::new("trixie"),
            "versions of another suite are of no use"
        );
    }

    #[test]
    fn a_damaged_file_names_itself_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image.lock");
        std::fs::write(&file, "suite: [").unwrap();
        let error = format!("{:#}", Lock::read(&file, "bookworm").unwrap_err());
        assert!(error.contains("image.lock is damaged; delete it"), "{error}");
    }
}
