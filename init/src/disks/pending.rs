//! The mark of a reset in STATE: what is to be wiped, from the moment that all services have ended for it.
//!
//! Wiping STATE takes the mark with it, so that STATE comes last; where the other one cannot be wiped, the new STATE gets
//! a mark for that. A boot that finds a mark wipes what it names before that is mounted: neither a power cut nor a disk
//! that was busy makes a node look reset that is not. What was wiped already is blank, and is left as it is.

use super::{Content, probe};
use crate::halt::{self, Outcome};
use crate::sys::block::Block;
use crate::sys::file;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::path::Path;

/// Two labels.
const MARK_MAX: usize = 256;

/// The labels of what is to be wiped; none without a mark.
pub(super) fn read(path: &Path) -> Vec<String> {
    if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Vec::new();
    }
    let read = file::read(path, MARK_MAX).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    read.with_context(|| format!("reset: {}", path.display())).unwrap_or_else(|error| {
        // A mark is written whole or not at all, so this is none of ours.
        log::error!("{error:#}; nothing is wiped: reset the node once more, or remove this file");
        Vec::new()
    })
}

/// Writes the mark so that it survives a power loss.
///
/// # Errors
/// STATE is full, read-only or broken.
pub(crate) fn write(path: &Path, labels: &[&str]) -> Result<()> {
    file::store(path, &serde_json::to_vec(labels)?, 0o600)
}

/// The mark names what is left to do and nothing else, or is gone: what is written to the other partition from now on
/// would be wiped. What cannot be done is said.
pub(super) fn keep(path: &Path, left: Option<&str>) {
    let kept = match left {
        Some(label) => write(path, &[label]),
        None => clear(path),
    };
    if let Err(error) = kept {
        log::error!(
            "reset: {error:#}; the next boot wipes /var once more, and what is written there until then"
        );
    }
}

/// Removes the mark so that it does not come back after a power loss.
///
/// # Errors
/// STATE is read-only or broken.
fn clear(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        // Wiping STATE took it along.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed.with_context(|| format!("remove {}", path.display()))?,
    }
    path.parent().map_or(Ok(()), file::sync_dir)
}

/// What the last life of this node was asked for and may not have done. Nothing of it is mounted. `ours`: the disks of
/// the root and of STATE; on another one a stranger's partition may have that label.
///
/// # Errors
/// Why it is not wiped.
pub(super) fn wipe(label: &str, block: &Block, ours: &[Option<&str>]) -> Result<()> {
    let device = block.device();
    if probe(&device).with_context(|| device.display().to_string())? == Content::Blank {
        return Ok(());
    }
    if !ours.contains(&Some(block.disk.as_str())) {
        bail!("{} is on another disk than the root and STATE: wipe it by hand", device.display());
    }
    log::warn!("reset: the node went down before {label} was wiped");
    let path = device.display().to_string();
    match halt::wipe(label, &path).map_err(anyhow::Error::msg)? {
        // PID 1 would wait for it without a limit as soon as it reads there. The next boot finds it blank.
        Outcome::Hung => bail!("{path} is wiped, and still busy with forgetting what it held"),
        Outcome::Done | Outcome::Failed(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_pending_until_its_mark_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reset");
        assert!(read(&path).is_empty());
        write(&path, &["STATE", "EPHEMERAL"]).unwrap();
        assert_eq!(read(&path), ["STATE", "EPHEMERAL"]);
        write(&path, &["EPHEMERAL"]).unwrap();
        assert_eq!(read(&path), ["EPHEMERAL"]);
        clear(&path).unwrap();
        assert!(read(&path).is_empty());
        keep(&path, Some("EPHEMERAL"));
        assert_eq!(read(&path), ["EPHEMERAL"]);
        keep(&path, None);
        keep(&path, None);
        assert!(read(&path).is_empty());
        std::fs::write(&path, "STATE").unwrap();
        assert!(read(&path).is_empty(), "a mark that is none wipes nothing");
    }
}
