//! What PID 1 watches by inotify: the files that a config may be changed in, and the manifest directory.
//!
//! Always the folder and never the file: a rename over it, a write in place and a removal are all seen, and a file that
//! somebody is still writing is not (only its closing is). What an event means is the reactor's and the policy's
//! business; here it only gets a name. Bounded: a turn takes what fits into one buffer.

use anyhow::{Context, Result};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use podium_init::paths;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Room for some hundred events with short names; more are taken in the next turn.
const BUFFER: usize = 8192;

/// All watches of PID 1.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Inotify,
    configs: Vec<Config>,
    manifests: Option<WatchDescriptor>,
}

#[derive(Debug)]
struct Config {
    folder: WatchDescriptor,
    name: OsString,
    path: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// This file was written, put in its place, or removed.
    Config(String),
    /// Something of this name came, went or changed in the manifest directory.
    Manifest(String),
    /// Something of this name was made in the manifest directory and is gone again, and it was no file that somebody
    /// wrote: a FIFO does that, and a kubelet that has opened it waits for ever.
    Vanished(String),
    /// The kernel dropped events: anything may have happened.
    Everything,
}

impl Watch {
    /// Watches these configs and the manifest directory. What cannot be watched is said.
    ///
    /// # Errors
    /// No inotify instance is left.
    pub(crate) fn new(configs: &[String]) -> Result<Self> {
        let inotify = Inotify::init().context("inotify")?;
        let mut watch = Self { inotify, configs: Vec::new(), manifests: None };
        for path in configs {
            if let Err(error) = watch.add_config(path) {
                log::warn!("{path} is not watched: {error:#}; changes of it are taken at the next boot");
            }
        }
        let mask = WatchMask::CREATE | WatchMask::ATTRIB | changes();
        match watch.inotify.watches().add(paths::MANIFESTS, mask) {
            Ok(folder) => watch.manifests = Some(folder),
            Err(error) => {
                log::warn!("{} is not watched: {error}; what others do there stays", paths::MANIFESTS);
            }
        }
        Ok(watch)
    }

    fn add_config(&mut self, path: &str) -> Result<()> {
        let file = Path::new(path);
        let folder = file.parent().context("it has no folder")?;
        let name = file.file_name().context("it has no name")?.to_owned();
        let folder = self.inotify.watches().add(folder, changes())?;
        self.configs.push(Config { folder, name, path: path.to_owned() });
        Ok(())
    }

    /// What has happened since it was asked last, each thing once.
    pub(crate) fn seen(&mut self) -> Vec<Seen> {
        let mut buffer = [0; BUFFER];
        // An error is that nothing waits.
        let Ok(events) = self.inotify.read_events(&mut buffer) else { return Vec::new() };
        let mut all = Vec::new();
        // Names of which nobody has seen more than that they came.
        let mut only_made = BTreeSet::new();
        for event in events {
            if Some(&event.wd) == self.manifests.as_ref()
                && let Some(name) = event.name
            {
                let made = EventMask::CREATE | EventMask::ISDIR;
                if event.mask & made == EventMask::CREATE {
                    only_made.insert(name.to_owned());
                } else if event.mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_FROM) {
                    only_made.remove(name);
                }
            }
            let seen = if event.mask.contains(EventMask::Q_OVERFLOW) {
                Some(Seen::Everything)
            } else if Some(&event.wd) == self.manifests.as_ref() {
                event.name.map(|name| Seen::Manifest(name.to_string_lossy().into_owned()))
            } else {
                let is = |config: &&Config| {
                    config.folder == event.wd && event.name == Some(config.name.as_os_str())
                };
                self.configs.iter().find(is).map(|config| Seen::Config(config.path.clone()))
            };
            all.extend(seen.filter(|seen| !all.contains(seen)));
        }
        let is_gone = |name: &OsString| {
            let path = Path::new(paths::MANIFESTS).join(name);
            path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        let gone = only_made.into_iter().filter(is_gone);
        all.extend(gone.map(|name| Seen::Vanished(name.to_string_lossy().into_owned())));
        all
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// A file whose writer is done, came by rename, or went.
fn changes() -> WatchMask {
    WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn watch(dir: &Path) -> Watch {
        let inotify = Inotify::init().unwrap();
        let mut watch = Watch { inotify, configs: Vec::new(), manifests: None };
        watch.add_config(dir.join("config.yaml").to_str().unwrap()).unwrap();
        watch
    }

    #[test]
    fn a_config_is_seen_when_it_is_whole_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let mut watch = watch(dir.path());
        let seen = vec![Seen::Config(path.to_str().unwrap().to_owned())];
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"version: ").unwrap();
        assert_eq!(watch.seen(), [], "half of it is there");
        file.write_all(b"v1alpha1").unwrap();
        drop(file);
        assert_eq!(watch.seen(), seen);
        std::fs::write(dir.path().join(".new"), "x").unwrap();
        assert_eq!(watch.seen(), [], "another name");
        std::fs::rename(dir.path().join(".new"), &path).unwrap();
        assert_eq!(watch.seen(), seen);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(watch.seen(), seen);
        assert_eq!(watch.seen(), []);
    }
}
