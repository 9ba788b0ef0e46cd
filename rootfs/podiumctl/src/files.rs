//! Files of the operator's machine: where the talosconfig is, and files with secrets that are never overwritten by
//! accident.

use crate::cli::Global;
use crate::fault::Fault;
use anyhow::{Context, Result};
use podium_podiumctl::talosconfig::Talosconfig;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The largest file that is read: a machine config with room to spare.
const FILE_MAX: u64 = 8 << 20;

/// Where the talosconfig is: flag, environment, home.
///
/// # Errors
/// When there is no home either.
pub(crate) fn talosconfig_path(global: &Global) -> Result<PathBuf> {
    if let Some(path) = &global.talosconfig {
        return Ok(path.clone());
    }
    match std::env::var_os("TALOSCONFIG").filter(|path| !path.is_empty()) {
        Some(path) => Ok(path.into()),
        None => match std::env::home_dir().filter(|home| !home.as_os_str().is_empty()) {
            Some(home) => Ok(home.join(".talos/config")),
            None => Err(Fault::new("no talosconfig: there is no home directory")
                .remedy("give one by --talosconfig FILE or TALOSCONFIG")
                .into()),
        },
    }
}

/// Reads the talosconfig.
///
/// # Errors
/// There is none, or it is none.
pub(crate) fn read_talosconfig(global: &Global) -> Result<Talosconfig> {
    let path = talosconfig_path(global)?;
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let where_from = if global.talosconfig.is_some() {
                ""
            } else {
                " (nor is --talosconfig or TALOSCONFIG given)"
            };
            Err(Fault::new(format!("no talosconfig: {} does not exist{where_from}", path.display()))
                .remedy("podiumctl gen secrets makes one with a new CA; a node that has no config yet is reached by --insecure")
                .into())
        }
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// The talosconfig to change, an empty one when there is none yet, and its place.
///
/// # Errors
/// What is there cannot be read.
pub(crate) fn open_talosconfig(global: &Global) -> Result<(PathBuf, Talosconfig)> {
    let path = talosconfig_path(global)?;
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path.clone(), parse(&path, &text)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((path, Talosconfig::default())),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Writes the talosconfig: whole or not at all, for its owner alone.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn save_talosconfig(path: &Path, file: &Talosconfig) -> Result<()> {
    let text = file.to_text().map_err(Fault::new)?;
    write_secret(path, &text, true)
}

/// Writes a file that only its owner may read; one that is there is replaced only with `force`.
///
/// # Errors
/// It is there, or cannot be written.
pub(crate) fn write_secret(path: &Path, text: &str, force: bool) -> Result<()> {
    // A link is followed, so that what it points to stays in its place.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    // Temporary files are their owner's alone from the first moment on.
    let mut file = NamedTempFile::new_in(folder).with_context(|| format!("write in {}", folder.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .with_context(|| format!("write {}", path.display()))?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(exists(path).into()),
        Err(error) => Err(error.error).with_context(|| format!("write {}", path.display())),
    }
}

/// What is said of a file that would be overwritten.
pub(crate) fn exists(path: &Path) -> Fault {
    Fault::new(format!("{} exists", path.display()))
        .remedy("it may hold the only copy of a key: move it away, or overwrite it with --force")
}

/// Reads a text of a person: a file, or standard input for `-`.
///
/// # Errors
/// It cannot be read, is too large or is no text.
pub(crate) fn read_text(path: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let most = FILE_MAX + 1;
    if path == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).context("read standard input")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("open {path}"))?;
        file.take(most).read_to_end(&mut bytes).with_context(|| format!("read {path}"))?;
    }
    if bytes.len() as u64 >= most {
        return Err(Fault::new(format!("{path} is larger than {} MiB", FILE_MAX >> 20)).into());
    }
    String::from_utf8(bytes).map_err(|_| Fault::new(format!("{path} is no text in UTF-8")).into())
}

/// Reads patches: each is written out, or `@FILE`.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read_patches(patches: &[String]) -> Result<Vec<String>> {
    let read = |patch: &String| match patch.strip_prefix('@') {
        Some(path) => read_text(path),
        None => Ok(patch.clone()),
    };
    patches.iter().map(read).collect()
}

fn parse(path: &Path, text: &str) -> Result<Talosconfig> {
    Talosconfig::parse(text).map_err(|error| Fault::new(format!("{}: {error}", path.display())).into())
}
