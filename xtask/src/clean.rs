//! `clean`: removes what the other commands made in the repository, and says how much.

use crate::say;
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::path::Path;

/// Remove what was built in this repository; downloaded components stay unless --all is given.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Remove the cache of downloaded and built components too (the kubelet takes minutes to build again)
    #[arg(long)]
    all: bool,
}

/// Removes the folders that exist.
///
/// # Errors
/// When one cannot be removed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut folders = vec![crate::top().join("out"), crate::top().join("target")];
    if arguments.all {
        folders.push(podium_image::cache::Cache::open()?.folder("")?);
    }
    for folder in folders.iter().filter(|folder| folder.exists()) {
        let bytes = size(folder)?;
        say::note(&format!("removing {} ({} MB)", folder.display(), bytes / 1_000_000));
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Bytes that the files below `folder` take on the disk: a sparse disk image is less than it is long.
fn size(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_through_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), vec![1; 100_000]).unwrap();
        let bytes = size(folder.path()).unwrap();
        assert!((100_000..300_000).contains(&bytes), "{bytes}");
    }
}
