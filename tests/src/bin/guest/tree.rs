//! Every file below a folder of the node: what it is, its mode and its owner.

use anyhow::{Context, Result};
use podium_tests::hand::Entry;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The folder itself and everything below it, sorted; `name` is what it is called in the answer.
pub(super) fn tree(folder: &Path, name: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    walk(folder, name, &mut entries)?;
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

/// What goes away meanwhile is left out.
fn walk(path: &Path, name: &str, entries: &mut Vec<Entry>) -> Result<()> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    let kind = meta.file_type();
    let word = match () {
        () if kind.is_dir() => "folder",
        () if kind.is_symlink() => "link",
        () if kind.is_socket() => "socket",
        () if kind.is_fifo() => "FIFO",
        () if kind.is_file() => "file",
        () => "device",
    };
    entries.push(Entry {
        path: name.to_owned(),
        kind: word.to_owned(),
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
    });
    if kind.is_dir() {
        for entry in fs::read_dir(path).with_context(|| name.to_owned())? {
            let entry = entry?;
            walk(&entry.path(), &format!("{name}/{}", entry.file_name().to_string_lossy()), entries)?;
        }
    }
    Ok(())
}
