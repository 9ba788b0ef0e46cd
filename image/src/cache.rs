//! The cache of downloaded and built components: one file a content, named by its sha256.
//!
//! It lives in `$PODIUM_CACHE`, else `$XDG_CACHE_HOME/podium`, else `~/.cache/podium`, is shared by all checkouts of
//! a user, and may be deleted at any time. A file appears in it whole or not at all, and is checked when it is used.

use crate::lock::Blob;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The cache's folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Finds the folder by the environment and makes it.
    pub fn open() -> Result<Cache> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("PODIUM_CACHE")
            .or_else(|| Some(set("XDG_CACHE_HOME")?.join("podium")))
            .or_else(|| Some(set("HOME")?.join(".cache/podium")))
            .context("no place for the cache: set HOME or PODIUM_CACHE")?;
        Cache::at(&root)
    }

    /// A cache in a given folder, which is made.
    pub fn at(root: &Path) -> Result<Cache> {
        let root = std::path::absolute(root)?;
        std::fs::create_dir_all(root.join("sha256"))
            .with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Cache { root })
    }

    /// A folder of the cache, made if need be.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Waits until this process alone does the work called `name`; until the value is dropped.
    pub fn exclusive(&self, name: &str) -> Result<File> {
        lock_file(&self.folder("locks")?.join(name))
    }

    /// Where a content lies or would lie.
    pub fn path(&self, sha256: &str) -> PathBuf {
        self.root.join("sha256").join(sha256)
    }

    /// Whether a content of that size is there. Its bytes are checked by [`Cache::checked`].
    pub fn has(&self, blob: &Blob) -> bool {
        self.path(&blob.sha256).metadata().is_ok_and(|found| found.len() == blob.size)
    }

    /// The path of a content, after its bytes were compared with their hash. A damaged file is removed.
    pub fn checked(&self, blob: &Blob) -> Result<PathBuf> {
        let path = self.path(&blob.sha256);
        let found = hash_file(&path)?;
        if found != blob.sha256 {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            bail!(
                "{} was damaged in the cache ({}) and has been removed; run the command again",
                blob.file,
                path.display()
            );
        }
        Ok(path)
    }

    /// Takes a file in whose hash is known beforehand. The file is moved when it is on the same file system.
    pub fn insert(&self, file: &Path, blob: &Blob) -> Result<()> {
        let found = hash_file(file)?;
        ensure!(
            found == blob.sha256,
            "{} has sha256 {found}, expected {}: the download was damaged or the file replaced; try again",
            blob.file,
            blob.sha256
        );
        let path = self.path(&blob.sha256);
        if std::fs::rename(file, &path).is_err() {
            let aside = tempfile::NamedTempFile::new_in(self.root.join("sha256"))?;
            std::fs::copy(file, aside.path()).with_context(|| format!("cannot copy {}", file.display()))?;
            aside.persist(&path)?;
        }
        Ok(())
    }
}

/// Takes the lock on a file, which is made; held until the value is dropped.
pub fn lock_file(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        crate::report::note(&format!("waiting for another run that holds {}", path.display()));
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Removes a folder and what is in it, if it is there.
pub fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what a run that was killed has left in a folder: entries whose name starts so. The caller holds its lock.
pub fn remove_leftovers(folder: &Path, prefix: &str) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Hex sha256 of bytes.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hex sha256 of a file.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Replaces a file whole: written aside in the same folder, then renamed. Mode 0644.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        aside.write_all(bytes)?;
        publish(aside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Gives a finished temporary file its name and mode 0644.
pub fn publish(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(bytes: &[u8]) -> Blob {
        Blob { file: "some.deb".into(), size: bytes.len() as u64, sha256: hash(bytes) }
    }

    #[test]
    fn what_was_inserted_is_found_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("cache")).unwrap();
        let file = folder.path().join("download");
        std::fs::write(&file, b"abc").unwrap();
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(!cache.has(&blob(b"abc")));
        cache.insert(&file, &blob(b"abc")).unwrap();
        assert!(cache.has(&blob(b"abc")));
        assert_eq!(std::fs::read(cache.checked(&blob(b"abc")).unwrap()).unwrap(), b"abc");
    }

    #[test]
    fn another_content_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("cache")).unwrap();
        let file = folder.path().join("download");
        std::fs::write(&file, b"abd").unwrap();
        assert!(cache.insert(&file, &blob(b"abc")).unwrap_err().to_string().contains("expected ba7816bf"));
        assert!(!cache.has(&blob(b"abc")));
    }

    #[test]
    fn a_file_damaged_in_the_cache_is_removed_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        std::fs::write(cache.path(&blob(b"abc").sha256), b"abd").unwrap();
        assert!(cache.has(&blob(b"abc")), "same size");
        assert!(cache.checked(&blob(b"abc")).unwrap_err().to_string().contains("some.deb was damaged"));
        assert!(!cache.has(&blob(b"abc")));
    }
}
