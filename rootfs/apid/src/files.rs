//! Files: bounded reads of regular files, and durable writes that leave the old content or the new one.

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Opens a file for reading. Never blocks on a FIFO or a device, follows no link at the end of the path.
pub(crate) fn open(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let file = File::from(
        rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))?,
    );
    let kind = file.metadata().with_context(|| format!("stat {}", path.display()))?.file_type();
    if !kind.is_file() {
        bail!("{} is not a regular file", path.display());
    }
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells "too large" without trusting the size that stat says.
    let read = open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.with_context(|| format!("read {}", path.display()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        bail!("{} is larger than {limit} bytes", path.display());
    }
    Ok(bytes)
}

/// Writes a file for root alone: aside, fsync, rename, fsync of the folder. On an error the old file is still there.
pub(crate) fn store(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    let name = path.file_name().context("a file has a name")?.to_string_lossy();
    let aside = folder.join(format!(".{name}.new"));
    let stored = write_and_rename(path, &aside, bytes).and_then(|()| File::open(folder)?.sync_all());
    if stored.is_err() {
        // It is in nobody's way, and the next attempt removes it too.
        drop(std::fs::remove_file(&aside));
    }
    stored.with_context(|| format!("write {}", path.display()))
}

fn write_and_rename(path: &Path, aside: &Path, bytes: &[u8]) -> std::io::Result<()> {
    match std::fs::remove_file(aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(aside, path)
}

/// Makes a folder for root alone, or makes one that is there root's alone; those above it are 0755.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    let made = match path.parent() {
        Some(above) => std::fs::create_dir_all(above),
        None => Ok(()),
    };
    let made = made.and_then(|()| match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::set_permissions(path, Permissions::from_mode(0o700))
        }
        made => made,
    });
    made.with_context(|| format!("make the folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_whole_and_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/pki");
        private_folder(&folder).unwrap();
        private_folder(&folder).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700);
        let path = folder.join("f");
        std::fs::write(folder.join(".f.new"), "left by a power cut").unwrap();
        store(&path, b"one").unwrap();
        store(&path, b"two").unwrap();
        assert_eq!((read(&path, 3).unwrap(), mode(&path)), (b"two".to_vec(), 0o600));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert!(read(&path, 2).unwrap_err().to_string().contains("larger"));
    }

    #[test]
    fn what_is_no_file_is_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), 9).is_err());
        assert!(read(Path::new("/dev/zero"), 9).unwrap_err().to_string().contains("not a regular file"));
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(read(&dir.path().join("link"), 1 << 20).is_err());
    }
}
