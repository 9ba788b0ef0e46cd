//! `machine.files`: the config's own files, written before any service starts.
//!
//! A file is replaced as a whole and durably, or left alone; the same bytes are not written again. One that cannot be
//! written is said with its place in the config, and the others are.

use crate::sys::file;
use anyhow::{Context, Result, bail};
use podium_init::config::{File, FileOp};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The largest file that is appended to: it is rewritten as a whole.
const LARGEST: usize = 16 << 20;

/// Writes all of them.
pub(crate) fn write(files: &[File]) {
    for (index, file) in files.iter().enumerate() {
        if let Err(error) = write_one(file) {
            log::error!("machine.files[{index}] {}: {error:#}; {}", file.path, remedy(&error));
        }
    }
}

fn write_one(file: &File) -> Result<()> {
    let path = Path::new(&file.path);
    if !path.is_absolute() || file.path.split('/').any(|part| part == "..") {
        bail!("the path is not absolute and plain");
    }
    let have = existing(path)?;
    let want = match (file.op, &have) {
        (FileOp::Create, Some(have)) if have.as_slice() != file.content.as_bytes() => {
            bail!("it is there already, with another content")
        }
        (FileOp::Append, Some(have)) => appended(have, file.content.as_bytes()),
        (FileOp::Create | FileOp::Append | FileOp::Overwrite, _) => file.content.as_bytes().to_vec(),
    };
    let mode = file.permissions & 0o7777;
    if have.as_ref() == Some(&want) && std::fs::metadata(path)?.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make folder {}", folder.display()))?;
    }
    file::store(path, &want, mode)
}

fn existing(path: &Path) -> Result<Option<Vec<u8>>> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotADirectory => bail!("something above it is a file"),
        _ => file::read(path, LARGEST).map(Some),
    }
}

/// Once: a later boot finds its text there.
fn appended(have: &[u8], text: &[u8]) -> Vec<u8> {
    let is_there = text.is_empty() || have.windows(text.len()).any(|part| part == text);
    if is_there { have.to_vec() } else { [have, text].concat() }
}

fn remedy(error: &anyhow::Error) -> &'static str {
    let read_only = error.chain().any(|cause| {
        let os = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        os == Some(ErrorKind::ReadOnlyFilesystem)
            || cause.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::ROFS)
    });
    if read_only {
        "the root is read-only: choose a path below /var, /opt, /etc/kubernetes, /etc/cni or /run"
    } else {
        "the node goes on without it"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, content: &str, op: FileOp) -> File {
        File { content: content.into(), permissions: 0o640, path: path.display().to_string(), op }
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn create_makes_folders_and_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/f");
        write_one(&file(&path, "one", FileOp::Create)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        write_one(&file(&path, "one", FileOp::Create)).unwrap();
        let error = write_one(&file(&path, "two", FileOp::Create)).unwrap_err();
        assert!(error.to_string().contains("there already"));
        assert_eq!(text(&path), "one");
    }

    #[test]
    fn append_adds_once_and_overwrite_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_one(&file(&path, "a\n", FileOp::Append)).unwrap();
        write_one(&file(&path, "b\n", FileOp::Append)).unwrap();
        write_one(&file(&path, "a\n", FileOp::Append)).unwrap();
        assert_eq!(text(&path), "a\nb\n");
        write_one(&file(&path, "c", FileOp::Overwrite)).unwrap();
        assert_eq!(text(&path), "c");
    }

    #[test]
    fn a_changed_mode_alone_is_applied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_one(&file(&path, "a", FileOp::Create)).unwrap();
        let other = File { permissions: 0o600, ..file(&path, "a", FileOp::Create) };
        write_one(&other).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_path_that_is_no_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write_one(&file(dir.path(), "x", FileOp::Overwrite)).is_err());
        assert!(write_one(&file(Path::new("relative"), "x", FileOp::Overwrite)).is_err());
        assert!(write_one(&file(&dir.path().join("../x"), "x", FileOp::Overwrite)).is_err());
        std::fs::write(dir.path().join("f"), "f").unwrap();
        assert!(write_one(&file(&dir.path().join("f/g"), "x", FileOp::Overwrite)).is_err());
    }

    #[test]
    fn a_read_only_root_is_named_as_the_reason() {
        let error =
            anyhow::Error::from(std::io::Error::from(ErrorKind::ReadOnlyFilesystem)).context("write /x");
        assert!(remedy(&error).contains("read-only"));
        assert!(remedy(&anyhow::anyhow!("other")).contains("goes on"));
    }
}
