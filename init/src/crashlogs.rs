//! `init crash-logs`: moves what the kernel has kept of a crash, where the machine has a place for that which survives a
//! reboot, to the disk: there it can be read, and the next crash finds room. `init devices` calls it once it has loaded
//! the drivers of such places.
//!
//! A record gets a number in front of its name, as some of these places use the same names again.

use crate::kmsg;
use crate::sys::file;
use anyhow::{Context, Result, bail};
use podium_init::paths;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Until then it is done: flash memory behind firmware takes milliseconds a record. What is left then is the next boot's.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);
/// Where the kernel shows its records.
const PSTORE: &str = "/sys/fs/pstore";
/// The kernel's own bound of a record is 64 KiB, before it is unpacked.
const RECORD_MAX: usize = 256 << 10;
/// `TMPFS_MAGIC` of the kernel's magic.h.
const TMPFS: i64 = 0x0102_1994;
/// So many records are kept, the newest: a crash has some.
const KEPT: usize = 64;

/// Moves all that there is.
///
/// # Errors
/// What could not be moved stays where it is.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("takes no argument, not {arg:?}");
    }
    kmsg::start();
    let from = Path::new(PSTORE);
    let records = names(from)?;
    if records.is_empty() {
        return Ok(());
    }
    let to = Path::new(paths::CRASH_LOGS);
    file::make_dir(to, 0o700)?;
    // What stands in for a disk that is not there ends with this boot.
    if rustix::fs::statfs(to).context("statfs")?.f_type == TMPFS {
        bail!("{} records of a crash stay in {PSTORE}: there is no disk to keep them on", records.len());
    }
    let begins = move_all(from, &records, to)?;
    kmsg::say(&format!(
        "the kernel crashed before this boot: {} records of it are in {}: {begins}",
        records.len(),
        to.display()
    ));
    Ok(())
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

/// Gives the first line of the first record.
fn move_all(from: &Path, records: &[String], to: &Path) -> Result<String> {
    let mut kept = names(to)?;
    let mut begins = None;
    for record in records {
        let source = from.join(record);
        let bytes = file::read(&source, RECORD_MAX)?;
        begins.get_or_insert_with(|| first_line(&bytes));
        // One that could not be removed the last time is there already.
        let is_kept = kept.iter().any(|name| {
            name.split_once('-').is_some_and(|(_, rest)| rest == record)
                && file::read(&to.join(name), RECORD_MAX).is_ok_and(|have| have == bytes)
        });
        if !is_kept {
            let name = format!("{:06}-{record}", next(&kept));
            file::store(&to.join(&name), &bytes, 0o600)?;
            kept.push(name);
        }
        fs::remove_file(&source).with_context(|| format!("remove {}", source.display()))?;
    }
    for name in kept.iter().take(kept.len().saturating_sub(KEPT)) {
        let path = to.join(name);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(begins.unwrap_or_default())
}

/// The number of the next record; `kept` is sorted.
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
        assert_eq!(move_all(from.path(), &first, to).unwrap(), "Panic#2 Part1");
        assert_eq!(names(from.path()).unwrap(), [""; 0]);
        assert_eq!(names(to).unwrap(), ["000001-dmesg-0", "000002-dmesg-1"]);
        let second = put(from.path(), &[("dmesg-0", "Panic#1 Part1\n<0>c")]);
        move_all(from.path(), &second, to).unwrap();
        assert_eq!(fs::read_to_string(to.join("000003-dmesg-0")).unwrap(), "Panic#1 Part1\n<0>c");
        // As after a boot in which it could not be removed.
        let again = put(from.path(), &[("dmesg-0", "Panic#1 Part1\n<0>c")]);
        move_all(from.path(), &again, to).unwrap();
        assert_eq!(names(to).unwrap().len(), 3);
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
    fn one_that_is_none_stays() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("a")).unwrap();
        assert!(move_all(from.path(), &["a".to_owned()], to.path()).is_err());
        assert!(names(from.path().join("none").as_path()).unwrap().is_empty());
    }
}
