//! What waits for its turn, and when that comes: at once, after a rest, or after a delay when it has failed before.
//!
//! Whoever writes manifests or configs in a loop is followed no closer than [`BURST`] changes in [`BURST_SPAN`]. A look
//! at what a change may have stirred up itself (its own renames are seen like those of others) is an *echo* and does
//! not count: there is at most one for each that does. Pure: the time is an argument.

use super::report::Ask;
use crate::clock::Time;
use crate::store::Kept;
use std::collections::BTreeMap;
use std::time::Duration;

/// This many changes that no client asked for are done at once.
const BURST: usize = 10;
/// See [`BURST`].
const BURST_SPAN: Duration = Duration::from_secs(10);
/// From a change that failed to its next try: what kept it (no memory, a disk) may pass. Doubled at each failure in a
/// row, up to [`DOUBLINGS`] times.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(30);
/// Eight minutes: somebody who has mended a disk does not wait for longer.
const DOUBLINGS: u32 = 4;

/// All that waits, each thing at most once.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    revert: Option<(String, Time)>,
    keep: Option<(Kept, Time)>,
    prove: Option<Time>,
    /// At most as many as are watched.
    files: BTreeMap<String, Due>,
    repair: Option<Due>,
    /// When the last changes ended that count, newest first.
    counted: [Option<Time>; BURST],
    /// Changes that failed in a row.
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    at: Time,
    echo: bool,
    counts: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) ask: Ask,
    /// It is an echo.
    pub(super) echo: bool,
    /// It is one of those that are rested from after so many.
    pub(super) counts: bool,
}

impl Waiting {
    /// Back to what was before, not before `at`.
    pub(super) fn revert(&mut self, why: String, at: Time) {
        self.revert = Some((why, at));
    }

    /// The config in force is kept, not before `at`. `None`: not to be done.
    pub(super) fn keep(&mut self, kept: Option<Kept>, at: Time) {
        self.keep = kept.map(|kept| (kept, at));
    }

    /// Another config is in force: what was to be done about the last one is not to be done about this.
    pub(super) fn forget_last(&mut self) {
        (self.revert, self.keep, self.prove) = (None, None, None);
    }

    /// The config in force has proved itself. One that waits for another try goes on to wait.
    pub(super) fn prove(&mut self, at: Time) {
        self.prove.get_or_insert(at);
    }

    /// It has not, after all.
    pub(super) fn prove_no_more(&mut self) {
        self.prove = None;
    }

    /// Whether a proof is still to be stored.
    pub(super) fn has_proof(&self) -> bool {
        self.prove.is_some()
    }

    pub(super) fn file(&mut self, path: String, at: Time, echo: bool) {
        let due = Due { at, echo, counts: !echo };
        merge(self.files.entry(path).or_insert(due), due);
    }

    pub(super) fn repair(&mut self, at: Time, echo: bool) {
        let due = Due { at, echo, counts: !echo };
        merge(self.repair.get_or_insert(due), due);
    }

    /// Something that was held back can be done. There are no more of these than pods that end.
    pub(super) fn freed(&mut self, at: Time) {
        let due = Due { at, echo: false, counts: false };
        merge(self.repair.get_or_insert(due), due);
    }

    /// When something that has failed is tried again.
    pub(super) fn failed(&mut self, now: Time) -> Time {
        let delay = RETRY_DELAY * (1 << self.failures.min(DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        now + delay
    }

    /// Something has worked.
    pub(super) fn worked(&mut self) {
        self.failures = 0;
    }

    /// A change has ended that counts.
    pub(super) fn count(&mut self, now: Time) {
        self.counted.rotate_right(1);
        if let Some(first) = self.counted.first_mut() {
            *first = Some(now);
        }
    }

    /// Takes out the most urgent thing that may begin.
    pub(super) fn next(&mut self, now: Time) -> Option<Next> {
        let once = |ask| Some(Next { ask, echo: false, counts: true });
        if let Some((why, _)) = self.revert.take_if(|(_, at)| *at <= now) {
            return once(Ask::Revert { why });
        }
        if let Some((kept, _)) = self.keep.take_if(|(_, at)| *at <= now) {
            return once(Ask::Keep { kept });
        }
        if now < self.rest_until() {
            return None;
        }
        if self.prove.take_if(|at| *at <= now).is_some() {
            return once(Ask::Prove);
        }
        let first = self.files.iter().find(|(_, due)| due.at <= now).map(|(path, _)| path.clone());
        if let Some((path, due)) = first.and_then(|path| self.files.remove_entry(&path)) {
            return Some(Next { ask: Ask::File { path }, echo: due.echo, counts: due.counts });
        }
        let due = self.repair.take_if(|due| due.at <= now)?;
        Some(Next { ask: Ask::Repair, echo: due.echo, counts: due.counts })
    }

    /// When [`Self::next`] has something, if ever.
    pub(super) fn deadline(&self) -> Option<Time> {
        let rest = self.rest_until();
        let after_rest = self.files.values().chain(&self.repair).map(|due| due.at).chain(self.prove);
        let urgent = self.revert.iter().map(|(_, at)| *at).chain(self.keep.iter().map(|(_, at)| *at));
        after_rest.map(|at| at.max(rest)).chain(urgent).min()
    }

    fn rest_until(&self) -> Time {
        self.counted.last().copied().flatten().map_or(Time::ZERO, |oldest| oldest + BURST_SPAN)
    }
}

/// Whatever asks for it sooner, and whatever makes it count, wins.
fn merge(due: &mut Due, more: Due) {
    due.at = due.at.min(more.at);
    due.echo &= more.echo;
    due.counts |= more.counts;
}
