//! The configs that STATE holds: the current one, the last known good one, one that waits for the next boot, the
//! history, and those that were set aside.
//!
//! Which of them a boot tries, and how a file tells that it is whole, are `podium_init::store`'s decisions. Everything
//! is written aside, synced and renamed: after a power loss there is the old config or the new one. What is rejected is
//! moved, never removed, up to a bound. Used at boot by PID 1 and later only by changes, one at a time.

mod history;

pub(crate) use history::Entry;

use crate::sys::file;
use anyhow::{Context, Result};
use podium_init::paths;
use podium_init::store::{BOOTS_TO_PROVE, Holdings, Kept, REJECTED, Seal, Slot, open, seal};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{read_dir, remove_file, rename};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A stored config is a text of the largest size behind its line.
pub(crate) const STORED_MAX: usize = super::load::CONFIG_MAX + 1024;
/// The small notes beside the configs: some digits each.
const NOTE_MAX: usize = 256;

/// The folder of STATE's configs.
#[derive(Debug, Clone)]
pub(crate) struct Vault {
    root: PathBuf,
    folder: PathBuf,
}

/// A config that is on disk and not in force yet.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) generation: u64,
    path: PathBuf,
}

impl Default for Vault {
    fn default() -> Self {
        Self::at(Path::new(paths::STATE_CONFIG), Path::new(paths::STATE_CONFIGS))
    }
}

impl Vault {
    fn at(current: &Path, folder: &Path) -> Self {
        let root = current.parent().unwrap_or(Path::new("/")).to_owned();
        Self { root, folder: folder.to_owned() }
    }

    /// Where that one is kept.
    pub(crate) fn path(&self, slot: Slot) -> PathBuf {
        match slot {
            Slot::Current => self.root.join("config.yaml"),
            Slot::Good => self.folder.join("good.yaml"),
            Slot::Staged => self.folder.join("staged.yaml"),
        }
    }

    /// The stored bytes of one, if it is there.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub(crate) fn read(&self, slot: Slot) -> Result<Option<Vec<u8>>> {
        read_if_there(&self.path(slot))
    }

    /// What there is.
    pub(crate) fn holdings(&self) -> Holdings {
        let staged = self.generation(Slot::Staged);
        let current = self.generation(Slot::Current);
        let good = self.generation(Slot::Good);
        // Both are of one generation, and say nothing of another.
        let of_current = |note: &str| {
            let text = self.note(note)?;
            let (generation, word) = text.split_once(' ')?;
            (generation.parse().ok() == Some(current?)).then(|| word.to_owned())
        };
        let unproven_boots =
            of_current("unproven").map_or(0, |boots| boots.parse().unwrap_or(BOOTS_TO_PROVE));
        let kept = of_current("kept").and_then(|word| Kept::named(&word));
        Holdings { staged, current, good, unproven_boots, kept }
    }

    /// Whether this node has, or has had, a config. What cannot be read counts: it may be one. What waits for its commit
    /// does not, nor does the history, which is written before it.
    pub(crate) fn has_had_one(&self) -> bool {
        let slots = [Slot::Staged, Slot::Current, Slot::Good];
        if slots.into_iter().any(|slot| self.generation(slot).is_some()) {
            return true;
        }
        // What e2fsck has found may be anything.
        let (configs, found) = (&self.folder, self.root.join("lost+found"));
        holds(configs, |name| name.starts_with("rejected-") || name.starts_with("by-hand-"))
            || holds(&found, |_| true)
    }

    /// `Some(0)`: there is one, without a seal or damaged.
    pub(crate) fn generation(&self, slot: Slot) -> Option<u64> {
        match self.read(slot) {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                Some(open(&bytes).ok().and_then(|stored| stored.seal).map_or(0, |seal| seal.generation))
            }
            Err(_) => Some(0),
        }
    }

    /// Writes a config beside the others, so that it is on disk before anything is changed for it.
    ///
    /// # Errors
    /// STATE is full, read-only or broken; nothing has changed.
    pub(crate) fn propose(&self, text: &[u8], source: &str) -> Result<Proposal> {
        let generation = self.next();
        self.write_candidate(&seal(text, &Seal { generation, source: source.to_owned() }), generation)
    }

    /// The generation that the next proposal gets.
    pub(crate) fn next(&self) -> u64 {
        self.newest().saturating_add(1)
    }

    /// Makes a proposal the current config, or the one that waits for the next boot.
    ///
    /// # Errors
    /// As [`Self::propose`]; the old one is still there.
    pub(crate) fn commit(&self, proposal: &Proposal, slot: Slot) -> Result<u64> {
        self.commit_by(proposal, slot, file::sync_dir)
    }

    fn commit_by(&self, proposal: &Proposal, slot: Slot, sync: impl Fn(&Path) -> Result<()>) -> Result<u64> {
        let to = self.path(slot);
        if slot == Slot::Current {
            // Before anything is replaced: what cannot be kept is not acknowledged.
            self.remember(proposal)?;
        }
        if slot == Slot::Current
            && let Ok(Some(bytes)) = self.read(Slot::Current)
            && open(&bytes).is_ok_and(|stored| stored.seal.is_none())
        {
            // A person's file is about to be replaced; what they wrote is the proposal, or is kept here.
            self.keep_aside("by-hand", &bytes)?;
        }
        self.put(&proposal.path, &to, sync)?;
        // What waited for the next boot is older than this.
        if slot == Slot::Current
            && let Err(error) = remove_if_there(&self.path(Slot::Staged))
        {
            log::warn!("config {}: {error:#}; the next boot takes the staged one", proposal.generation);
        }
        Ok(proposal.generation)
    }

    /// Renames into place and waits until that is on disk. What cannot be kept is not acknowledged, so a disk that
    /// fails here gets the old one back.
    fn put(&self, from: &Path, to: &Path, sync: impl Fn(&Path) -> Result<()>) -> Result<()> {
        let had = to.symlink_metadata().is_ok();
        let flags = if had { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let name = || format!("rename to {}", to.display());
        renameat_with(CWD, from, CWD, to, flags).with_context(name)?;
        if let Err(error) = sync(&self.root).and_then(|()| sync(&self.folder)) {
            let undone = if had {
                renameat_with(CWD, from, CWD, to, flags)
            } else {
                renameat_with(CWD, to, CWD, from, flags)
            };
            return Err(match undone {
                Ok(()) => error.context("the disk does not keep it, so the one before is there again"),
                Err(_) => {
                    error.context("the disk does not keep it; the next boot finds it or the one before")
                }
            });
        }
        if had { remove_if_there(from) } else { Ok(()) }
    }

    /// Seals a text that somebody has put in the current one's place. `None`: there is a newer one by now, and it stays.
    ///
    /// # Errors
    /// As [`Self::propose`], or the file is one of its own that cannot be renamed (a container's single file).
    pub(crate) fn seal_current(&self, text: &[u8], source: &str) -> Result<Option<u64>> {
        let proposal = self.propose(text, source)?;
        self.remember(&proposal)?;
        let to = self.path(Slot::Current);
        // By exchange, so that what was there is still there to be looked at, and can be put back.
        let exchange = || {
            renameat_with(CWD, &proposal.path, CWD, &to, RenameFlags::EXCHANGE)
                .with_context(|| format!("exchange with {}", to.display()))
        };
        exchange()?;
        // One whose line does not match was edited below it.
        let is_it = read_if_there(&proposal.path)?.is_some_and(|bytes| bytes.ends_with(text));
        if !is_it {
            exchange()?;
        }
        remove_if_there(&proposal.path)?;
        if is_it {
            remove_if_there(&self.path(Slot::Staged))?;
        }
        file::sync_dir(&self.root).and_then(|()| file::sync_dir(&self.folder))?;
        Ok(is_it.then_some(proposal.generation))
    }

    /// Makes one of the others the current one, as it is.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(crate) fn make_current(&self, slot: Slot) -> Result<()> {
        let bytes = self.read(slot)?.with_context(|| format!("there is no {slot}"))?;
        let generation = open(&bytes).ok().and_then(|stored| stored.seal).map_or(0, |seal| seal.generation);
        let proposal = self.write_candidate(&bytes, generation)?;
        self.commit(&proposal, Slot::Current)?;
        if slot == Slot::Staged {
            remove_if_there(&self.path(slot))?;
        }
        Ok(())
    }

    /// The current config has proved itself.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub(crate) fn prove(&self) -> Result<()> {
        let bytes = self.read(Slot::Current)?.context("there is no stored config")?;
        file::store(&self.path(Slot::Good), &bytes, 0o600)?;
        self.count_proven()?;
        remove_if_there(&self.folder.join("kept"))?;
        remove_if_there(&self.folder.join("unproven"))
    }

    /// The current config is kept though it has not proved itself, or never will.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub(crate) fn keep(&self, kept: Kept) -> Result<()> {
        let generation = self.generation(Slot::Current).context("there is no stored config")?;
        self.write_note("kept", &format!("{generation} {}", kept.word()))?;
        remove_if_there(&self.folder.join("unproven"))
    }

    /// Counts a boot of a config that has not proved itself.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub(crate) fn count_boot(&self, holdings: &Holdings) -> Result<()> {
        let Some(generation) = holdings.current else { return Ok(()) };
        self.write_note("unproven", &format!("{generation} {}", holdings.unproven_boots.saturating_add(1)))
    }

    /// Moves one out of the way, for inspection; where it is now.
    ///
    /// # Errors
    /// It cannot be moved.
    pub(crate) fn set_aside(&self, slot: Slot) -> Result<PathBuf> {
        self.prune("rejected", REJECTED)?;
        let from = self.path(slot);
        let to = self.free_name("rejected")?;
        rename(&from, &to).with_context(|| format!("move {} to {}", from.display(), to.display()))?;
        file::sync_dir(&self.folder)?;
        Ok(to)
    }

    /// What a note beside the configs says, e.g. which kernel word was taken last.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        let bytes = file::read(&self.folder.join(name), NOTE_MAX).ok()?;
        String::from_utf8(bytes).ok().map(|text| text.trim_end().to_owned())
    }

    /// Writes a note.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub(crate) fn write_note(&self, name: &str, text: &str) -> Result<()> {
        if self.note(name).as_deref() == Some(text) {
            return Ok(());
        }
        self.make_folder()?;
        file::store(&self.folder.join(name), format!("{text}\n").as_bytes(), 0o600)
    }

    fn make_folder(&self) -> Result<()> {
        file::make_dir(&self.folder, 0o700)
    }

    fn write_candidate(&self, bytes: &[u8], generation: u64) -> Result<Proposal> {
        self.make_folder()?;
        let path = self.folder.join("candidate.yaml");
        file::store(&path, bytes, 0o600)?;
        Ok(Proposal { generation, path })
    }

    /// The newest generation that any of them has.
    fn newest(&self) -> u64 {
        let slots =
            [Slot::Current, Slot::Good, Slot::Staged].into_iter().filter_map(|slot| self.generation(slot));
        slots.chain(self.remembered()).max().unwrap_or(0)
    }

    /// Keeps bytes under a name of their own, unless the history or another such file has them.
    fn keep_aside(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let proposed = read_if_there(&self.folder.join("candidate.yaml"))?.unwrap_or_default();
        let is_proposed = open(&proposed).is_ok_and(|stored| stored.text == bytes);
        if is_proposed {
            return Ok(());
        }
        self.prune(name, REJECTED)?;
        file::store(&self.free_name(name)?, bytes, 0o600)
    }

    fn numbered(&self, name: &str) -> Vec<(u64, PathBuf)> {
        let entries = read_dir(&self.folder).into_iter().flatten().flatten();
        let number = |path: &Path| {
            path.file_name()?
                .to_str()?
                .strip_prefix(name)?
                .strip_prefix('-')?
                .strip_suffix(".yaml")?
                .parse()
                .ok()
        };
        entries.filter_map(|entry| Some((number(&entry.path())?, entry.path()))).collect()
    }

    fn free_name(&self, name: &str) -> Result<PathBuf> {
        self.make_folder()?;
        let next =
            self.numbered(name).into_iter().map(|(number, _)| number).max().unwrap_or(0).saturating_add(1);
        Ok(self.folder.join(format!("{name}-{next}.yaml")))
    }

    /// Makes room for one more.
    fn prune(&self, name: &str, most: usize) -> Result<()> {
        let mut all = self.numbered(name);
        all.sort_unstable();
        let surplus = (all.len() + 1).saturating_sub(most);
        all.into_iter().take(surplus).try_for_each(|(_, path)| remove_if_there(&path))
    }
}

/// Whether a folder has such a name in it, or cannot be looked at.
fn holds(folder: &Path, is_one: impl Fn(&str) -> bool) -> bool {
    match read_dir(folder) {
        Ok(mut entries) => {
            entries.any(|entry| entry.map_or(true, |entry| is_one(&entry.file_name().to_string_lossy())))
        }
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => file::read(path, STORED_MAX).map(Some),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
