//! The history: the last generations, each a file of its own, and which of them have been good.

use super::{Proposal, Slot, Vault, read_if_there, remove_if_there};
use crate::sys::file;
use anyhow::{Context, Result, bail};
use podium_init::store::{HISTORY, again_of, open};
use std::fs::read_dir;
use std::path::PathBuf;

/// The note that names the generations which have proved themselves.
const PROVEN: &str = "proven";

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) generation: u64,
    pub(crate) source: String,
    /// Seconds since 1970, by the node's clock.
    pub(crate) stored: u64,
}

impl Vault {
    /// All generations that can be gone back to, newest first.
    pub(crate) fn history(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            self.remembered().into_iter().filter_map(|generation| self.entry(generation)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.generation));
        entries
    }

    /// The text of one generation.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub(crate) fn recall(&self, generation: u64) -> Result<Vec<u8>> {
        let bytes = read_if_there(&self.remembered_path(generation))?.with_context(|| {
            format!("the history has no generation {generation}; `init ctl config history` lists it")
        })?;
        match open(&bytes) {
            Ok(stored) => Ok(stored.text.to_vec()),
            Err(damaged) => bail!("generation {generation}: {damaged}"),
        }
    }

    /// The newest generation before the current one that has proved itself and says something else. One that was itself
    /// gone back to counts as the one that it repeats, so that each step back leads further back.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn before(&self) -> Result<u64> {
        let current = self.read(Slot::Current)?.unwrap_or_default();
        let stored = open(&current).ok();
        let seal = stored.as_ref().and_then(|stored| stored.seal.as_ref());
        let place = seal.map_or(u64::MAX, |seal| again_of(&seal.source).unwrap_or(seal.generation));
        let text = stored.as_ref().map(|stored| stored.text);
        let proven = self.proven();
        let mut older = self.history().into_iter().map(|entry| entry.generation).filter(|one| *one < place);
        older.find(|one| proven.contains(one) && self.recall(*one).ok().as_deref() != text).context(
            "no config before this one has proved itself; `init ctl config history` lists all: name one",
        )
    }

    /// Counts the current generation among those that have proved themselves.
    pub(super) fn count_proven(&self) -> Result<()> {
        let Some(generation) = self.generation(Slot::Current) else { return Ok(()) };
        let mut proven = self.proven();
        proven.retain(|one| *one != generation);
        proven.push(generation);
        // The oldest are no longer in the history.
        let surplus = proven.len().saturating_sub(HISTORY);
        let words: Vec<String> = proven.into_iter().skip(surplus).map(|one| one.to_string()).collect();
        self.write_note(PROVEN, &words.join(" "))
    }

    fn proven(&self) -> Vec<u64> {
        let note = self.note(PROVEN).unwrap_or_default();
        note.split(' ').filter_map(|word| word.parse().ok()).collect()
    }

    /// Copies a proposal into the history; the oldest makes room first.
    pub(super) fn remember(&self, proposal: &Proposal) -> Result<()> {
        let bytes = read_if_there(&proposal.path)?.context("the proposal is gone")?;
        let path = self.remembered_path(proposal.generation);
        file::make_dir(&self.folder.join("history"), 0o700)?;
        if read_if_there(&path)?.as_deref() == Some(bytes.as_slice()) {
            return Ok(());
        }
        let mut all = self.remembered();
        all.sort_unstable();
        let surplus = (all.len() + 1).saturating_sub(HISTORY);
        all.into_iter()
            .take(surplus)
            .try_for_each(|oldest| remove_if_there(&self.remembered_path(oldest)))?;
        file::store(&path, &bytes, 0o600)
    }

    fn remembered_path(&self, generation: u64) -> PathBuf {
        self.folder.join(format!("history/{generation}.yaml"))
    }

    pub(super) fn remembered(&self) -> Vec<u64> {
        let entries = read_dir(self.folder.join("history")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".yaml")?.parse().ok()).collect()
    }

    fn entry(&self, generation: u64) -> Option<Entry> {
        let path = self.remembered_path(generation);
        let bytes = read_if_there(&path).ok()??;
        let seal = open(&bytes).ok()?.seal?;
        let stored = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
        let stored = stored.duration_since(std::time::UNIX_EPOCH).map_or(0, |span| span.as_secs());
        Some(Entry { generation, source: seal.source, stored })
    }
}
