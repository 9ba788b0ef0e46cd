//! From the initramfs to the real root: what switch_root(8) does, step by step.

use super::heap::TUNABLES;
use super::{At, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// File systems that live in memory: `RAMFS_MAGIC` and `TMPFS_MAGIC` of linux/magic.h.
const IN_MEMORY: [i64; 2] = [0x8584_58f6, 0x0102_1994];
/// How deep the initramfs is cleared; ours has less than ten levels.
const DEPTH: u32 = 64;

/// Moves a mount with all that is mounted below it.
pub(crate) fn move_mount(from: &Path, to: &Path) -> Result<()> {
    rustix::mount::mount_move(from, to).at("move the mount to", to)
}

/// A hold on the present root folder, to clear it when it is the root no longer.
pub(crate) fn hold() -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).at("open", "/")
}

/// Makes the file system mounted at `root` the root of this process and of all that it starts.
pub(crate) fn enter(root: &Path) -> Result<()> {
    rustix::process::chdir(root).at("go to", root)?;
    // Over the old root, which thereby goes out of sight; pivot_root(2) does not work on the first rootfs.
    rustix::mount::mount_move(".", "/").at("make the root of", root)?;
    rustix::process::chroot(".").at("change the root to", root)?;
    rustix::process::chdir("/").at("go to", "/")
}

/// Whether what is written there is in memory alone.
///
/// # Errors
/// There is no such path.
pub(crate) fn is_in_memory(path: &Path) -> Result<bool> {
    Ok(IN_MEMORY.contains(&rustix::fs::statfs(path).at("statfs", path)?.f_type))
}

/// Deletes everything in an old root, to give its memory back; never crosses into another file system, and does
/// nothing at all unless the root lives in memory. Gives the number of files and folders deleted.
///
/// # Errors
/// A folder could not be listed; a file that cannot be deleted stays.
pub(crate) fn clear(root: &OwnedFd) -> Result<u32> {
    let kind = rustix::fs::fstatfs(root).at("statfs", "the old root")?.f_type;
    if !IN_MEMORY.contains(&kind) {
        return Ok(0);
    }
    let device = rustix::fs::fstat(root).at("stat", "the old root")?.st_dev;
    clear_folder(root, device, DEPTH)
}

fn clear_folder(folder: &OwnedFd, device: u64, depth: u32) -> Result<u32> {
    let mut deleted = 0;
    for entry in Dir::read_from(folder).at("list", "the old root")? {
        let entry = entry.at("list", "the old root")?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // What is mounted over a folder is what is seen here: its device differs.
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        let is_folder = FileType::from_raw_mode(stat.st_mode).is_dir();
        if is_folder && depth > 0 {
            deleted += clear_folder(&open_folder(folder.as_fd(), name)?, device, depth - 1)?;
        }
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        if unlinkat(folder, name, flags).is_ok() {
            deleted += 1;
        }
    }
    Ok(deleted)
}

fn open_folder(parent: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).at("open", name.to_string_lossy().into_owned())
}

/// Becomes `program`, with its path for `argv[0]` and nothing but [`TUNABLES`] in its environment.
///
/// # Errors
/// It is missing, or no program for this machine.
pub(crate) fn execute(program: &str) -> Result<Infallible> {
    let path = CString::new(program).map_err(Error::from).at("execute", program)?;
    nix::unistd::execve(&path, &[&path], &[TUNABLES]).at("execute", program)
}

/// Whether `program` is a file that may be executed.
pub(crate) fn is_program(program: &Path) -> bool {
    program.is_file() && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_stays_away_from_a_root_on_a_disk() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        std::fs::write(dir.path().join("keep"), b"x").unwrap();
        let kind = rustix::fs::statfs(dir.path()).unwrap().f_type;
        let root =
            open_folder(rustix::fs::CWD, &CString::new(dir.path().to_str().unwrap()).unwrap()).unwrap();
        let deleted = clear(&root).unwrap();
        assert_eq!(dir.path().join("keep").exists(), !IN_MEMORY.contains(&kind), "{deleted} deleted");
    }

    #[test]
    fn clearing_takes_all_but_what_is_on_another_file_system() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), b"x").unwrap();
        std::os::unix::fs::symlink("/proc", dir.path().join("a/link")).unwrap();
        let open =
            || open_folder(rustix::fs::CWD, &CString::new(dir.path().to_str().unwrap()).unwrap()).unwrap();
        let device = rustix::fs::fstat(open()).unwrap().st_dev;
        assert_eq!(clear_folder(&open(), device + 1, DEPTH).unwrap(), 0, "all of it is on another device");
        assert_eq!(clear_folder(&open(), device, DEPTH).unwrap(), 5);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Path::new("/proc/self").exists());
    }
}
