//! `init crash-logs`: moves what the kernel has kept of a crash, where the machine has a place for that which survives a
//! reboot, to the disk: there it can be read, and the next crash finds room. `init devices` starts it once it has loaded
//! the drivers of such places.
//!
//! A record gets a number in front of its name, as some of these places use the same names again.

use crate::kmsg;
use crate::sys::{file, root};
use anyhow::{Context, Result, bail};
use podium_init::paths;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Where the kernel shows its records.
const PSTORE: &str = "/sys/fs/pstore";
/// Firmware gives a record some KiB; who gives `ramoops` larger ones has them left where they are.
const RECORD_MAX: usize = 256 << 10;
/// So many records are kept, the newest: a crash has some.
const KEPT: usize = 64;

/// Moves all that there is, and says so. What cannot be moved stays where it is, and is said as well.
///
/// # Errors
/// An argument, or the records cannot be listed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("takes no argument, not {arg:?}");
    }
    kmsg::start();
    let (from, to) = (Path::new(PSTORE), Path::new(paths::CRASH_LOGS));
    if names(from)?.is_empty() {
        return Ok(());
    }
    let alone = alone(from);
    if matches!(alone, Ok(None)) {
        return Ok(());
    }
    if let Err(error) = &alone {
        kmsg::say(&format!("crash logs: {error:#}; two of us may meet"));
    }
    let records = names(from)?;
    let Some(first) = records.first() else { return Ok(()) };
    // Before the disk is touched, which may be what has failed.
    let begins =
        file::read(&from.join(first), RECORD_MAX).map(|bytes| first_line(&bytes)).unwrap_or_default();
    kmsg::say(&format!("the kernel has kept {} records of a crash: {begins}", records.len()));
    let is_in_memory = file::make_dir(to, 0o700).and_then(|()| Ok(root::is_in_memory(to)?));
    match is_in_memory.and_then(|is_in_memory| match is_in_memory {
        // What stands in for a disk that is not there ends with this boot.
        true => bail!("there is no disk to keep them on"),
        false => move_all(from, &records, to),
    }) {
        Ok(()) => kmsg::say(&format!("crash logs: they are in {} now", to.display())),
        Err(error) => kmsg::say(&format!("crash logs: {error:#}; what was not moved stays in {PSTORE}")),
    }
    Ok(())
}

/// Keeps others from the folder until it is dropped. `None`: one is at it, as when `devices` was killed and has come back
/// while its first one was busy.
fn alone(folder: &Path) -> Result<Option<OwnedFd>> {
    let opened =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {}", folder.display()))?;
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(None),
        locked => locked.map(|()| Some(opened)).with_context(|| format!("lock {}", folder.display())),
    }
}

/// The names in a folder, sorted; none when there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list {}", folder.display()))?,
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<String>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// One that cannot be moved keeps no other from it; the first error is the answer.
fn move_all(from: &Path, records: &[String], to: &Path) -> Result<()> {
    // The oldest first, as they are numbered.
    let mut kept = names(to)?;
    let mut result = Ok(());
    for record in records {
        if let Err(error) = move_one(&from.join(record), record, to, &mut kept) {
            result = result.and(Err(error));
        }
    }
    for name in kept.iter().take(kept.len().saturating_sub(KEPT)) {
        let path = to.join(name);
        if let Err(error) = fs::remove_file(&path).with_context(|| format!("remove {}", path.display())) {
            result = result.and(Err(error));
        }
    }
    result
}

fn move_one(source: &Path, record: &str, to: &Path, kept: &mut Vec<String>) -> Result<()> {
    let bytes = file::read(source, RECORD_MAX)?;
    // One that could not be removed the last time is there already.
    let is_kept = kept.iter().any(|name| {
        name.split_once('-').is_some_and(|(_, rest)| rest == record)
            && file::read(&to.join(name), RECORD_MAX).is_ok_and(|have| have == bytes)
    });
    if !is_kept {
        let name = format!("{:06}-{record}", next(kept));
        file::store(&to.join(&name), &bytes, 0o600)?;
        kept.push(name);
    }
    fs::remove_file(source).with_context(|| format!("remove {}", source.display()))
}

/// The number of the next record.
fn next(kept: &[String]) -> u32 {
    let numbers = kept.iter().filter_map(|name| name.split('-').next()?.parse::<u32>().ok());
    numbers.max().unwrap_or(0).saturating_add(1)
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().next().unwrap_or_default().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = alone(dir.path()).unwrap();
        assert!(first.is_some() && alone(dir.path()).unwrap().is_none());
        drop(first);
        assert!(alone(dir.path()).unwrap().is_some());
        assert!(alone(&dir.path().join("none")).is_err());
    }

    fn put(folder: &Path, records: &[(&str, &str)]) -> Vec<String> {
        for (name, text) in records {
            fs::write(folder.join(name), text).unwrap();
        }
        names(folder).unwrap()
    }

    #[test]
    fn records_are_moved_and_the_same_names_come_again() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let to = to.path();
        let first =
            put(from.path(), &[("dmesg-1", "Oops#1 Part1\n<4>b"), ("dmesg-0", "Panic#2 Part1\n<0>a")]);
        move_all(from.path(), &first, to).unwrap();
        assert_eq!(names(from.path()).unwrap(), [""; 0]);
        assert_eq!(names(to).unwrap(), ["000001-dmesg-0", "000002-dmesg-1"]);
        let second = put(from.path(), &[("dmesg-0", "Panic#1 Part1\n<0>c")]);
        move_all(from.path(), &second, to).unwrap();
        assert_eq!(fs::read_to_string(to.join("000003-dmesg-0")).unwrap(), "Panic#1 Part1\n<0>c");
        // As after a boot in which it could not be removed.
        let again = put(from.path(), &[("dmesg-0", "Panic#1 Part1\n<0>c")]);
        move_all(from.path(), &again, to).unwrap();
        assert_eq!(names(to).unwrap().len(), 3);
        assert_eq!(first_line(b"Panic#2 Part1\n<0>a"), "Panic#2 Part1");
    }

    #[test]
    fn the_newest_are_kept() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for number in 0..KEPT + 2 {
            let records = put(from.path(), &[("dmesg-0", &format!("{number}"))]);
            move_all(from.path(), &records, to.path()).unwrap();
        }
        let kept = names(to.path()).unwrap();
        assert_eq!((kept.len(), kept[0].as_str()), (KEPT, "000003-dmesg-0"));
    }

    #[test]
    fn one_that_cannot_be_read_stays_and_keeps_no_other_from_being_moved() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("a")).unwrap();
        let records = put(from.path(), &[("b", "text")]);
        let error = move_all(from.path(), &records, to.path()).unwrap_err();
        assert!(error.to_string().contains("is a directory"), "{error:#}");
        assert_eq!(names(from.path()).unwrap(), ["a"]);
        assert_eq!(names(to.path()).unwrap(), ["000001-b"]);
        assert!(names(&from.path().join("none")).unwrap().is_empty());
    }
}
