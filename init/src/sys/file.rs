//! Files: bounded reads, and writes that leave the old content or the new one, never a part.
//!
//! Every error names the path. [`store`] is for what must survive power loss, [`replace`] for what the next boot
//! writes anew, [`set`] for the kernel's own files below /proc and /sys.

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;

/// Opening for reading never blocks on a FIFO or a device, and takes no terminal.
const TO_READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// With less room the standard library looks for the end with small reads.
const READ_AHEAD: usize = 64;

/// How the name of a file that is being written ends; it begins with a dot.
pub(crate) const ASIDE: &str = ".podium-new";

/// Reads a regular file of at most `limit` bytes. Never blocks on a FIFO or a device.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let fd = rustix::fs::open(path, TO_READ, Mode::empty());
    read_all(fd.with_context(|| format!("open {}", path.display()))?.into(), path, limit)
}

/// Like [`read`], with `folder` as the root of `path` and of every link in it: for a file system of somebody else.
pub(crate) fn read_below(folder: &Path, path: &str, limit: usize) -> Result<Vec<u8>> {
    let name = || format!("open {path}");
    let root = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let stay = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = rustix::fs::openat2(root.with_context(name)?, path, TO_READ, Mode::empty(), stay)
        .with_context(name)?;
    read_all(fd.into(), Path::new(path), limit)
}

fn read_all(file: File, path: &Path, limit: usize) -> Result<Vec<u8>> {
    let meta = file.metadata().with_context(|| format!("stat {}", path.display()))?;
    let kind = meta.file_type();
    if kind.is_dir() {
        bail!("{} is a directory, not a file", path.display());
    }
    if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
        bail!("{} is not a regular file", path.display());
    }
    // Room for the size that stat says, and a bit more in which the end is found.
    let room = usize::try_from(meta.len()).unwrap_or(limit).min(limit) + READ_AHEAD;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(room).with_context(|| format!("read {}", path.display()))?;
    // One byte more than allowed tells "too big" without trusting it.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).with_context(|| format!("read {}", path.display()))?;
    if bytes.len() > limit {
        bail!("{} is larger than {}", path.display(), size(limit));
    }
    Ok(bytes)
}

/// A bound as a person says it.
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

/// Like [`read`], as text without its last line feed: for the small files below /proc and /sys.
pub(crate) fn read_line(path: &Path) -> Result<String> {
    let mut text = String::from_utf8_lossy(&read(path, 64 * 1024)?).into_owned();
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// Reads a JSON file that PID 1 or a child of it has written below /run/podium.
pub(crate) fn read_own<T: serde::de::DeserializeOwned>(path: &str) -> Result<T> {
    // The manifests of the largest config, as JSON within JSON.
    const MOST: usize = 64 << 20;
    serde_json::from_slice(&read(Path::new(path), MOST)?).with_context(|| format!("read {path}"))
}

/// Writes a whole file so that it survives power loss: aside, mode before data, all of it, fsync, rename, fsync of
/// the folder. On any error the old file is untouched and nothing is left behind.
pub(crate) fn store(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_aside(path, bytes, mode, true)
}

/// Writes a whole file by rename, without waiting for a disk: for tmpfs and what each boot makes anew.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_aside(path, bytes, mode, false)
}

/// Like [`replace`], but leaves a file alone that already holds these bytes and this mode; whether it was written.
pub(crate) fn update(path: &Path, bytes: &[u8], mode: u32) -> Result<bool> {
    let same_mode = std::fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o7777 == mode);
    if same_mode && read(path, bytes.len()).is_ok_and(|have| have == bytes) {
        return Ok(false);
    }
    replace(path, bytes, mode).map(|()| true)
}

/// Holds a lock file until it is dropped; waits for whoever has it. Without it (told) two of ours may meet.
pub(crate) fn lock(path: &str) -> Option<OwnedFd> {
    let open = || -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).context("open")?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).context("lock")?;
        Ok(file)
    };
    open().map_err(|error| log::warn!("{path}: {error:#}")).ok()
}

/// Writes a value into a file of the kernel in one write, without creating it.
pub(crate) fn set(path: &Path, value: &str) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TRUNC | OFlags::NOCTTY;
    let fd =
        rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))?;
    let name = || format!("write {value:?} to {}", path.display());
    match rustix::io::write(&fd, value.as_bytes()).with_context(name)? {
        count if count == value.len() => Ok(()),
        count => bail!("write {value:?} to {}: only {count} bytes were taken", path.display()),
    }
}

/// Makes a folder and those above it; `mode` is for the last one, and is set on one that is there.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let name = || format!("make folder {}", path.display());
    DirBuilder::new().recursive(true).mode(0o755).create(path).with_context(name)?;
    let have = std::fs::metadata(path).with_context(name)?.permissions().mode() & 0o7777;
    if have != mode {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).with_context(name)?;
    }
    Ok(())
}

/// As [`make_dir`], for a group too.
pub(crate) fn make_dir_for(path: &Path, mode: u32, group: u32) -> Result<()> {
    // Root's alone before it is the group's.
    make_dir(path, 0o700)?;
    std::os::unix::fs::chown(path, None, Some(group))
        .with_context(|| format!("set the group of {}", path.display()))?;
    make_dir(path, mode)
}

fn write_aside(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} names no file", path.display());
    };
    // The leading dot keeps it out of the kubelet's and containerd's sight.
    let aside = folder.join(format!(".{}{ASIDE}", name.to_string_lossy()));
    let result = write_and_rename(&aside, path, bytes, mode, durable)
        .and_then(|()| if durable { sync_dir(folder) } else { Ok(()) })
        .with_context(|| format!("write {}", path.display()));
    if result.is_err()
        && let Err(error) = std::fs::remove_file(&aside)
        && error.kind() != ErrorKind::NotFound
    {
        log::warn!("{} is left behind: {error}", aside.display());
    }
    result
}

fn write_and_rename(aside: &Path, path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<()> {
    let mut file = create_new(aside)?;
    file.set_permissions(Permissions::from_mode(mode)).context("set the mode")?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all().context("fsync")?;
    }
    drop(file);
    std::fs::rename(aside, path).context("rename")
}

/// A new file that nobody else has open, 0600. What an earlier attempt left behind is removed.
fn create_new(aside: &Path) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(aside, flags, Mode::RUSR | Mode::WUSR);
    let fd = match open() {
        Err(Errno::EXIST) => {
            std::fs::remove_file(aside).context("remove what an earlier attempt left")?;
            open()
        }
        other => other,
    };
    Ok(File::from(fd.context("create")?))
}

/// Makes what was renamed into or out of a folder survive power loss.
pub(crate) fn sync_dir(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|dir| dir.sync_all()).with_context(|| format!("fsync {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn read_takes_up_to_the_limit_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("is larger than"));
    }

    #[test]
    fn read_refuses_what_is_no_file_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), 9).unwrap_err().to_string().contains("is a directory"));
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&fifo, 9).unwrap_err().to_string().contains("not a regular file"));
        assert!(read(Path::new("/dev/zero"), 9).unwrap_err().to_string().contains("not a regular file"));
        assert!(read(&dir.path().join("none"), 9).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn read_below_does_not_leave_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), b"outside").unwrap();
        std::fs::write(inside.join("f"), b"inside").unwrap();
        symlink("../secret", inside.join("up")).unwrap();
        symlink("/f", inside.join("absolute")).unwrap();
        assert_eq!(read_below(&inside, "/f", 9).unwrap(), b"inside");
        assert_eq!(read_below(&inside, "/absolute", 9).unwrap(), b"inside");
        assert!(read_below(&inside, "/up", 9).is_err());
        assert!(read_below(&inside, "/../secret", 9).is_err());
    }

    #[test]
    fn store_replaces_whole_files_with_their_mode_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        store(&path, b"old", 0o644).unwrap();
        store(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn store_takes_over_after_an_attempt_that_was_cut_off_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, b"keep").unwrap();
        symlink(&victim, dir.path().join(".f.podium-new")).unwrap();
        store(&dir.path().join("f"), b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"keep");
        assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"new");
    }

    #[test]
    fn a_write_that_fails_keeps_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        std::fs::create_dir_all(path.join("full")).unwrap();
        assert!(replace(&path, b"x", 0o600).is_err(), "a file cannot take the place of a folder");
        assert!(path.join("full").is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn update_writes_nothing_when_nothing_changes() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        update(&path, b"a", 0o600).unwrap();
        let first = inode(&path);
        update(&path, b"a", 0o600).unwrap();
        assert_eq!(inode(&path), first);
        update(&path, b"a", 0o640).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        update(&path, b"b", 0o640).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"b");
    }

    #[test]
    fn set_never_creates() {
        let dir = tempfile::tempdir().unwrap();
        assert!(set(&dir.path().join("missing"), "1").is_err());
        assert!(!dir.path().join("missing").exists());
    }

    #[test]
    fn make_dir_gives_the_mode_to_the_last_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        make_dir(&path, 0o700).unwrap();
        make_dir(&path, 0o700).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o755));
    }
}
