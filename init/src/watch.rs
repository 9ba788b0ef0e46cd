//! What PID 1 watches by inotify: the files that a config may be changed in, and the manifest directory.
//!
//! Always the folder and never the file: a rename over it, a write in place and a removal are all seen, and a file that
//! somebody is still writing is not (only its closing is). What an event means is the reactor's and the policy's
//! business; here it only gets a name. Bounded: a turn takes what fits into one buffer.

use anyhow::{Context, Result};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use podium_init::manifests::is_ours;
use podium_init::paths;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Room for some hundred events with short names; more are taken in the next turn.
const BUFFER: usize = 8192;

/// Names that are remembered of things which may hang a kubelet: more at a time are nobody's accident, and whoever
/// makes so many is answered by a look at all of the directory.
const MADE_MAX: usize = 1024;

/// All watches of PID 1.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Inotify,
    configs: Vec<Config>,
    manifests: Option<Folder>,
}

/// The manifest directory.
#[derive(Debug)]
struct Folder {
    watch: WatchDescriptor,
    path: PathBuf,
    /// Names that came and are no file that somebody has written, as far as is known, until they go.
    made: BTreeSet<OsString>,
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
    /// Something that can hang a kubelet stands in the manifest directory.
    Blocking,
    /// The kernel dropped events: anything may have happened in the manifest directory. The configs are told one by one.
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
        if let Err(error) = watch.watch_manifests(Path::new(paths::MANIFESTS)) {
            log::warn!("{} is not watched: {error:#}; what others do there stays", paths::MANIFESTS);
        }
        Ok(watch)
    }

    fn watch_manifests(&mut self, path: &Path) -> Result<()> {
        // A file of ours may also be cut, or written by somebody who does not close it.
        let mask = WatchMask::CREATE | WatchMask::ATTRIB | WatchMask::MODIFY | changes();
        let watch = self.inotify.watches().add(path, mask)?;
        self.manifests = Some(Folder { watch, path: path.to_owned(), made: BTreeSet::new() });
        Ok(())
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
        let mut see = |seen: Seen| {
            if !all.contains(&seen) {
                all.push(seen);
            }
        };
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                self.configs.iter().for_each(|config| see(Seen::Config(config.path.clone())));
                see(Seen::Everything);
            }
            let Some(name) = event.name else { continue };
            match &mut self.manifests {
                Some(folder) if folder.watch == event.wd => {
                    folder.take(event.mask, name).into_iter().for_each(&mut see);
                }
                _ => {
                    let is = |config: &&Config| config.folder == event.wd && config.name == name;
                    let config = self.configs.iter().find(is);
                    config.into_iter().for_each(|config| see(Seen::Config(config.path.clone())));
                }
            }
        }
        all
    }
}

impl Folder {
    /// What one event in it means.
    fn take(&mut self, mask: EventMask, name: &OsStr) -> Vec<Seen> {
        let word = name.to_string_lossy().into_owned();
        // What is being written aside, and what the kubelet does not look at.
        if word.starts_with('.') {
            return Vec::new();
        }
        // A file of others that is still being written is nobody's business; one of ours is cut, or is about to be.
        if mask.contains(EventMask::MODIFY) {
            return if is_ours(&word) { vec![Seen::Manifest(word)] } else { Vec::new() };
        }
        let mut seen = vec![Seen::Manifest(word.clone())];
        if mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_FROM) {
            // Somebody has written a file, or it is moved: we do that with what can hang a kubelet.
            self.made.remove(name);
        } else if mask.contains(EventMask::DELETE) && self.made.remove(name) {
            seen.push(Seen::Vanished(word));
        } else if mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) {
            let kind = self.path.join(name).symlink_metadata().map(|meta| meta.file_type());
            let may_hang = match kind {
                Ok(kind) if kind.is_file() => false,
                Ok(kind) => {
                    seen.push(Seen::Blocking);
                    !kind.is_dir() && !kind.is_symlink()
                }
                // It is gone already: what it was only its next events tell.
                Err(_) => mask.contains(EventMask::CREATE) && !mask.contains(EventMask::ISDIR),
            };
            if may_hang && self.made.len() >= MADE_MAX {
                self.made.clear();
                seen.push(Seen::Everything);
            }
            if may_hang {
                self.made.insert(name.to_owned());
            }
        }
        seen
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

    fn folder() -> (tempfile::TempDir, Watch) {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch { inotify: Inotify::init().unwrap(), configs: Vec::new(), manifests: None };
        watch.watch_manifests(dir.path()).unwrap();
        (dir, watch)
    }

    fn fifo(path: &Path) {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    fn has_vanished(seen: &[Seen]) -> bool {
        seen.iter().any(|seen| matches!(seen, Seen::Vanished(_)))
    }

    #[test]
    fn a_fifo_that_comes_and_goes_is_told_however_its_events_are_read() {
        let (dir, mut watch) = folder();
        let path = dir.path().join("pipe.yaml");
        fifo(&path);
        assert!(watch.seen().contains(&Seen::Blocking));
        std::fs::remove_file(&path).unwrap();
        assert!(has_vanished(&watch.seen()), "in two turns");
        fifo(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(has_vanished(&watch.seen()), "in one turn");
        fifo(&dir.path().join(".aside"));
        std::fs::rename(dir.path().join(".aside"), &path).unwrap();
        assert!(watch.seen().contains(&Seen::Blocking), "by rename");
        std::fs::remove_file(&path).unwrap();
        assert!(has_vanished(&watch.seen()));
        fifo(&path);
        watch.seen();
        std::fs::rename(&path, dir.path().join(".quarantine-pipe.yaml")).unwrap();
        assert!(!has_vanished(&watch.seen()), "moved out of sight, as we do it");
    }

    #[test]
    fn files_links_and_folders_that_come_and_go_restart_nothing() {
        let (dir, mut watch) = folder();
        let path = dir.path().join("x.yaml");
        for round in 0..2 {
            let mut look = || if round == 0 { watch.seen() } else { Vec::new() };
            let mut seen = Vec::new();
            std::fs::write(&path, "text").unwrap();
            seen.extend(look());
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/no/such", &path).unwrap();
            seen.extend(look());
            assert_eq!(seen.contains(&Seen::Blocking), round == 0);
            if round == 0 {
                std::fs::remove_file(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
                seen.extend(look());
                std::fs::remove_dir(&path).unwrap();
                seen.extend(look());
            }
            assert!(!has_vanished(&seen), "{seen:?}");
        }
    }

    #[test]
    fn a_manifest_of_ours_that_is_cut_is_seen_before_it_is_closed() {
        let (dir, mut watch) = folder();
        let (ours, other) = (dir.path().join("podium-default-a.yaml"), dir.path().join("other.yaml"));
        std::fs::write(&ours, "text").unwrap();
        std::fs::write(&other, "text").unwrap();
        watch.seen();
        let mut open = std::fs::OpenOptions::new().append(true).open(&ours).unwrap();
        open.write_all(b"x").unwrap();
        assert_eq!(watch.seen(), [Seen::Manifest("podium-default-a.yaml".into())], "still open");
        nix::unistd::truncate(&ours, 1).unwrap();
        assert_eq!(watch.seen(), [Seen::Manifest("podium-default-a.yaml".into())], "cut, never opened");
        nix::unistd::truncate(&other, 1).unwrap();
        assert_eq!(watch.seen(), []);
    }
}
