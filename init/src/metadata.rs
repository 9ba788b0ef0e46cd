//! Whether containerd's metadata can be used: what is on the disk and in its log in, a reason to begin anew out.
//!
//! Beginning anew costs every image that was pulled and a restart of every pod, so the evidence has to be about the
//! database itself: damage that [`crate::bolt`] finds, a database that is gone while what it described is there, or
//! containerd crashing in bolt's own code at start after start. A full or failing disk is neither.

use crate::bolt::Damage;

/// So many starts in a row have to end in a crash in bolt.
pub const CRASHES: usize = 3;
/// As much of the end of containerd's log is looked at, in bytes: a crash of Go tells every goroutine's stack, some
/// hundred lines.
pub const LOG_TAIL: u64 = 512 << 10;

/// What a database's file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// Not there, or without a byte: bolt makes a new one.
    Empty,
    /// Bolt can use it.
    Sound,
    /// It cannot.
    Damaged(Damage),
    /// It could not be read, so nothing is known of it.
    Unknown,
}

/// Why containerd has to begin anew; `None`: it has not. `meta` is containerd's own database, `snapshots` the
/// snapshotter's, and `has_snapshots` says whether there is anything that the two describe.
pub fn reason(meta: &Database, snapshots: &Database, has_snapshots: bool) -> Option<String> {
    let gone = |which: &str| has_snapshots.then(|| format!("{which} is gone, and the snapshots are not"));
    match (meta, snapshots) {
        (Database::Unknown, _) => None,
        (Database::Damaged(damage), _) => Some(format!("meta.db is damaged: {damage}")),
        (Database::Empty, _) => gone("meta.db"),
        (Database::Sound, Database::Damaged(damage)) => Some(format!("metadata.db is damaged: {damage}")),
        (Database::Sound, Database::Empty) => gone("metadata.db"),
        (Database::Sound, Database::Sound | Database::Unknown) => None,
    }
}

/// The line that stands in containerd's log where a life begins. `inode` is that of its database: crashes in another
/// one are no evidence against this one.
pub fn mark(inode: u64) -> String {
    format!("{MARK}{inode}")
}

const MARK: &str = "podium: begins, with meta.db of inode ";
/// What containerd says once it is ready.
const BOOTED: &str = "containerd successfully booted";
/// How Go tells that it gives up. SIGBUS is left out: that is a disk that cannot be read.
const CRASHED: [&str; 2] = ["panic: ", "fatal error: "];
/// Bolt's functions in a stack.
const IN_BOLT: &str = "go.etcd.io/bbolt.";
/// Then the database is not to blame, whatever crashed.
const UNRELATED: [&str; 6] = [
    "no space left on device",
    "input/output error",
    "read-only file system",
    "cannot allocate memory",
    "out of memory",
    "SIGBUS",
];

/// Whether each of the last [`CRASHES`] lives with this database ended by a crash in bolt before it was ready. `log` is
/// the end of containerd's log.
pub fn crashes_in_bolt(log: &str, inode: u64) -> bool {
    let own = mark(inode);
    let mut lives: Vec<Vec<&str>> = Vec::new();
    let mut is_ours = false;
    for line in log.lines() {
        if line.starts_with(MARK) {
            is_ours = line == own;
            if is_ours {
                lives.push(Vec::new());
            } else {
                lives.clear();
            }
        } else if is_ours && let Some(life) = lives.last_mut() {
            life.push(line);
        }
    }
    let last = lives.iter().rev().take(CRASHES);
    lives.len() >= CRASHES && last.into_iter().all(|life| is_crash(life))
}

fn is_crash(life: &[&str]) -> bool {
    let says = |word: &str| life.iter().any(|line| line.contains(word));
    let crashed = life.iter().any(|line| CRASHED.iter().any(|word| line.starts_with(word)));
    crashed && says(IN_BOLT) && !says(BOOTED) && !UNRELATED.into_iter().any(says)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: &str = "time=\"x\" level=info msg=\"starting containerd\"\npanic: invalid page type: 7: 10\n\n\
                         goroutine 1 [running]:\ngo.etcd.io/bbolt.(*Cursor).search(0x1)\n";

    fn lives(all: &[&str]) -> String {
        all.iter().map(|life| format!("{}\n{life}", mark(7))).collect()
    }

    #[test]
    fn damage_and_loss_are_reasons_and_doubt_is_none() {
        let damaged = || Database::Damaged(Damage::NoMeta);
        let cases = [
            (Database::Sound, Database::Sound, true, ""),
            (damaged(), Database::Sound, true, "meta.db is damaged: neither"),
            (damaged(), Database::Unknown, false, "meta.db is damaged: neither"),
            (Database::Sound, damaged(), true, "metadata.db is damaged: neither"),
            (Database::Empty, Database::Sound, true, "meta.db is gone"),
            (Database::Sound, Database::Empty, true, "metadata.db is gone"),
            // A first boot, or one that was cut off.
            (Database::Empty, Database::Empty, false, ""),
            (Database::Sound, Database::Empty, false, ""),
            // A disk that cannot be read.
            (Database::Unknown, damaged(), true, ""),
            (Database::Sound, Database::Unknown, true, ""),
        ];
        for (meta, snapshots, has_snapshots, expected) in cases {
            let reason = reason(&meta, &snapshots, has_snapshots).unwrap_or_default();
            let is_right = if expected.is_empty() { reason.is_empty() } else { reason.starts_with(expected) };
            assert!(is_right, "{meta:?} {snapshots:?} {has_snapshots}: {reason}");
        }
    }

    #[test]
    fn start_after_start_that_crashes_in_bolt_is_evidence() {
        assert!(crashes_in_bolt(&lives(&[CRASH, CRASH, CRASH]), 7));
        assert!(crashes_in_bolt(&format!("cut off\n{}", lives(&["fine\n", CRASH, CRASH, CRASH])), 7));
    }

    #[test]
    fn what_is_not_about_the_database_is_none() {
        let booted = format!("msg=\"containerd successfully booted in 0.1s\"\n{CRASH}");
        let full = format!("write /var/lib/containerd/x: no space left on device\n{CRASH}");
        let unreadable = format!("{CRASH}[signal SIGBUS: bus error code=0x2]\n");
        let elsewhere = "panic: nil map\ngithub.com/containerd/containerd/services/server.New()\n";
        let refused = "containerd: invalid disabled plugin\n";
        for other in [&booted, &full, &unreadable, elsewhere, refused, ""] {
            assert!(!crashes_in_bolt(&lives(&[CRASH, CRASH, other]), 7), "{other}");
            assert!(!crashes_in_bolt(&lives(&[other, CRASH, CRASH]), 7), "{other}");
        }
        assert!(!crashes_in_bolt(&lives(&[CRASH, CRASH]), 7), "two are too few");
        assert!(!crashes_in_bolt(&lives(&[CRASH, CRASH, CRASH]), 8), "of another database");
        let since = format!("{}{}\n{}", lives(&[CRASH, CRASH]), mark(8), lives(&[CRASH]));
        assert!(!crashes_in_bolt(&since, 7), "another database was there meanwhile");
        assert!(!crashes_in_bolt("", 7));
    }
}
