//! Mounts: make one, and say what is mounted.

use super::{At, Result};
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxAttributes, StatxFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::CString;
use std::io::{Error, ErrorKind};
use std::path::Path;

/// Mounts a file system; `data` is its own options, comma separated.
pub(crate) fn mount(source: &str, target: &Path, kind: &str, flags: MountFlags, data: &str) -> Result<()> {
    let data = CString::new(data).map_err(Error::from).at("mount", target)?;
    rustix::mount::mount(source, target, kind, flags, Some(data.as_c_str())).at("mount", target)
}

/// Gives what is mounted at `target` these flags and options of its own.
pub(crate) fn remount(target: &Path, flags: MountFlags, data: &str) -> Result<()> {
    let data = CString::new(data).map_err(Error::from).at("remount", target)?;
    rustix::mount::mount_remount(target, flags, data.as_c_str()).at("remount", target)
}

/// Makes the folder or file `source` appear at `target` too.
pub(crate) fn bind(source: &Path, target: &Path, recursive: bool) -> Result<()> {
    let result = match recursive {
        true => rustix::mount::mount_bind_recursive(source, target),
        false => rustix::mount::mount_bind(source, target),
    };
    result.at("bind mount", target)
}

/// Sets the per-mount flags of what is mounted at `target`; the file system's own options stay.
pub(crate) fn set_flags(target: &Path, flags: MountFlags) -> Result<()> {
    rustix::mount::mount_remount(target, MountFlags::BIND | flags, c"").at("remount", target)
}

/// Sets how mounts below `target` are seen elsewhere.
pub(crate) fn set_propagation(target: &Path, propagation: MountPropagationFlags) -> Result<()> {
    rustix::mount::mount_change(target, propagation).at("set the propagation of", target)
}

/// Unmounts `target` at once; fails when it is in use.
pub(crate) fn unmount(target: &Path) -> Result<()> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW).at("unmount", target)
}

/// Whether something is mounted exactly here. A path that is not there is no mount point.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool> {
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(statx) => Ok(statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(error) if Error::from(error).kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("stat", path),
    }
}

/// Whether something is mounted below this path, which a mount on it would hide.
pub(crate) fn has_mounts_below(path: &Path) -> bool {
    // Without /proc nothing is known to be there, and the kernel's first process has no mounts.
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = |line: &str| {
        line.split(' ').nth(4).map(Path::new).is_some_and(|point| point != path && point.starts_with(path))
    };
    table.lines().any(below)
}

/// The per-mount flags of the mount that `path` lies on, as far as [`MountFlags`] of the mount table go.
pub(crate) fn flags(path: &Path) -> Result<MountFlags> {
    let have = rustix::fs::statvfs(path).at("statvfs", path)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
    ];
    Ok(pairs.into_iter().filter(|(have_flag, _)| have.contains(*have_flag)).map(|(_, flag)| flag).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_told_from_a_folder() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
        assert!(!is_mount_point(Path::new("/no/such/folder")).unwrap());
    }

    #[test]
    fn what_a_mount_would_hide_is_found() {
        assert!(has_mounts_below(Path::new("/")));
        assert!(!has_mounts_below(Path::new("/proc/self")));
        assert!(!has_mounts_below(Path::new("/no/such/folder")));
    }

    #[test]
    fn an_error_names_what_was_tried_and_where() {
        let error =
            mount("none", Path::new("/no/such/folder"), "tmpfs", MountFlags::empty(), "").unwrap_err();
        assert!(error.to_string().starts_with("mount /no/such/folder: "), "{error}");
    }
}
