//! `/var/lib/podium/damaged`: what was moved out of a service's way, kept for inspection.

use crate::sys::{At, file};
use anyhow::Result;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Numbered folders, one a repair, the newest with the highest number.
pub(super) const KEPT: &str = "/var/lib/podium/damaged";
/// So many of them are kept, the newest.
const KEPT_MAX: usize = 6;

/// Moves files into a new folder below [`KEPT`], whose path it gives, and removes the oldest ones there. A file that is
/// not there is passed over.
pub(super) fn keep(files: &[&Path]) -> Result<PathBuf> {
    let mut before: Vec<u64> = match fs::read_dir(KEPT) {
        Ok(all) => all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => Vec::new(),
    };
    before.sort_unstable();
    let folder = Path::new(KEPT).join((before.last().copied().unwrap_or_default() + 1).to_string());
    fs::create_dir_all(&folder).at("make", &folder)?;
    for each in files {
        let kept = folder.join(each.file_name().unwrap_or_default());
        let moved = match fs::rename(each, &kept) {
            // A container may have a volume of its own for containerd.
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                fs::copy(each, &kept).and_then(|_| fs::remove_file(each))
            }
            other => other,
        };
        match moved {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at("move aside", *each)?,
            _ => {}
        }
    }
    file::sync_dir(&folder)?;
    for old in before.iter().rev().skip(KEPT_MAX - 1) {
        remove(&Path::new(KEPT).join(old.to_string()))?;
    }
    file::sync_dir(Path::new(KEPT))?;
    Ok(folder)
}

/// Removes a file or a folder with all that is in it; one that is not there is gone already.
pub(super) fn remove(path: &Path) -> Result<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Ok(Err(error).at("remove", path)?),
        _ => Ok(()),
    }
}
