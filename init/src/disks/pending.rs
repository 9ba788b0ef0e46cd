//! The mark of a reset in STATE: what is to be wiped, from the moment that the node goes down for it.
//!
//! Wiping STATE takes the mark with it, so that STATE comes last. A boot that finds one wipes what it names before that
//! is mounted: neither a power cut nor a disk that was busy makes a node look reset that is not.

use crate::sys::file;
use anyhow::{Context, Result};
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

/// Writes the mark so that it survives a power loss; without labels there is none any more.
///
/// # Errors
/// STATE is full, read-only or broken.
pub(crate) fn write(path: &Path, labels: &[&str]) -> Result<()> {
    if !labels.is_empty() {
        return file::store(path, &serde_json::to_vec(labels)?, 0o600);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
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
        write(&path, &[]).unwrap();
        write(&path, &[]).unwrap();
        assert!(read(&path).is_empty());
        std::fs::write(&path, "STATE").unwrap();
        assert!(read(&path).is_empty(), "a mark that is none wipes nothing");
    }
}
