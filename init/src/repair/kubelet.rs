//! The kubelet's checkpoints: moved aside when it has said that it cannot start with one. What it keeps there (which pod
//! has which processors, memory and resources) it works out anew from its pods. Otherwise it would end at once, start
//! after start, until somebody removed a file on a node that has no shell. It decides nothing: that is
//! `podium_init::checkpoints`.

use super::kept::keep;
use super::{log_tail, say};
use anyhow::Result;
use podium_init::checkpoints::{self, Checkpoint, FILES, LOG_TAIL};
use podium_init::paths;
use podium_init::services::KUBELET;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The line for the log where a life begins.
pub(super) fn mark() -> String {
    checkpoints::mark(&present())
}

/// Moves aside what the last life could not use.
///
/// # Errors
/// A file could not be moved; the kubelet has its own try.
pub(super) fn repair() -> Result<()> {
    // Before the first start, and on a disk that cannot be read, there is nothing to go by.
    let Ok(log) = log_tail(KUBELET, LOG_TAIL) else { return Ok(()) };
    let Some(refusal) = checkpoints::refused(&log, &present()) else { return Ok(()) };
    let paths: Vec<PathBuf> = refusal.files.iter().map(|name| path(name)).collect();
    let kept = keep(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    let names = refusal.files.join(", ");
    // PID 1 says the same line only once, and this may happen again.
    let line =
        format!("cannot use {names}, which is now in {}: {}; it begins without", kept.display(), refusal.why);
    say(KUBELET, &line);
    Ok(())
}

fn path(name: &str) -> PathBuf {
    Path::new(paths::KUBELET_ROOT).join(name)
}

/// Those that are there.
fn present() -> Vec<Checkpoint> {
    let there = FILES.into_iter().filter_map(|name| {
        let inode = fs::symlink_metadata(path(name)).ok()?.ino();
        Some(Checkpoint { name, inode })
    });
    there.collect()
}
