//! The files of services' logs: appended to, put aside when they are full, and what is lost when that cannot be done.

use crate::kmsg;
use crate::sys::At;
use anyhow::{Context, Result};
use podium_init::loglines::{Health, Taken, room, rotation, too_fast};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One service's log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    file: Option<Open>,
    health: Health,
}

/// The file, with what the decisions need to know of it.
#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    at_line_start: bool,
}

impl Log {
    /// A file that cannot be opened yet is tried again with each write.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, health: Health::default() }
    }

    /// Writes what came out of the queue, with a line about what fell out of it.
    pub(super) fn write(&mut self, taken: &Taken) {
        if taken.lost > 0
            && let Err(error) = self.write_own_line(&too_fast(taken.lost))
        {
            self.failed(&error, usize::try_from(taken.lost).unwrap_or(usize::MAX));
        }
        self.take(&taken.bytes);
    }

    /// Counts what is lost, for the line that tells of the gap once there can be one.
    fn failed(&mut self, error: &anyhow::Error, lost: usize) {
        // Opened anew next time: it may have been removed, or be on a disk that came back.
        self.file = None;
        if let Some(line) = self.health.failed(&self.path.display().to_string(), &format!("{error:#}"), lost)
        {
            kmsg::say(&line);
        }
    }

    /// Writes `bytes`, or counts them as lost.
    fn take(&mut self, bytes: &[u8]) {
        let mut written = 0;
        let done = self.health.gap().map_or(Ok(()), |gap| self.write_own_line(&gap));
        match done.and_then(|()| self.write_all(bytes, &mut written)) {
            Ok(()) => {
                if let Some(line) = self.health.worked(&self.path.display().to_string()) {
                    kmsg::say(&line);
                }
            }
            Err(error) => self.failed(&error, bytes.len().saturating_sub(written)),
        }
    }

    /// Writes a line of ours, also when the service's last one has no end (yet).
    pub(super) fn write_own_line(&mut self, line: &str) -> Result<()> {
        if !self.open()?.at_line_start {
            self.write_all(b"\n", &mut 0)?;
        }
        self.write_all(line.as_bytes(), &mut 0)
    }

    /// The file, opened if it is not.
    fn open(&mut self) -> Result<&mut Open> {
        // What is written to a file that somebody has removed is seen by nobody.
        if self.file.as_ref().is_some_and(Open::is_removed) {
            self.file = None;
        }
        match &mut self.file {
            Some(open) => Ok(open),
            none => Ok(none.insert(open_file(&self.path)?)),
        }
    }

    /// Writes all of it, over as many files as it takes; `written` counts what got there.
    fn write_all(&mut self, mut bytes: &[u8], written: &mut usize) -> Result<()> {
        while !bytes.is_empty() {
            let open = self.open()?;
            let (now, rest) = bytes.split_at(room(open.size, open.at_line_start, bytes).min(bytes.len()));
            open.write(now, written).at("write to", &self.path)?;
            bytes = rest;
            if !bytes.is_empty() {
                self.file = None;
                rotate(&self.path)?;
            }
        }
        Ok(())
    }
}

impl Open {
    fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    fn write(&mut self, mut bytes: &[u8], written: &mut usize) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.file.write(bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let (done, rest) = bytes.split_at(count.min(bytes.len()));
            self.size = self.size.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            self.at_line_start = done.last() == Some(&b'\n');
            *written += count;
            bytes = rest;
        }
        Ok(())
    }
}

/// Opens a log to append to it, with its folder when that is missing.
fn open_file(path: &Path) -> Result<Open> {
    let open = || File::options().append(true).read(true).create(true).open(path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().context("a log has a folder")?;
            std::fs::create_dir_all(folder).at("make folder", folder)?;
            open()
        }
        file => file,
    };
    let file = file.at("open", path)?;
    let size = file.metadata().at("stat", path)?.len();
    Ok(Open { at_line_start: ends_a_line(&file, size), file, size })
}

/// Whether the last byte is a line feed. When it cannot be read, a mark in the middle of a line is the worst of it.
fn ends_a_line(file: &File, size: u64) -> bool {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    size == 0 || (file.read_exact_at(&mut last, size - 1).is_ok() && last == *b"\n")
}

/// Puts a full file aside; a gap in the row of old ones is no error.
fn rotate(path: &Path) -> Result<()> {
    for (from, to) in rotation(&path.to_string_lossy()) {
        match std::fs::rename(&from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("rename", from)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_init::loglines::FILE_MAX;

    fn world() -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(dir.path().join("logs/demo.log"));
        (dir, log)
    }

    #[test]
    fn what_fell_out_of_the_queue_has_its_line() {
        let (dir, mut log) = world();
        log.write(&Taken { lost: 0, bytes: b"one\nin the mid".to_vec() });
        log.write(&Taken { lost: 70_000, bytes: b"dle\n".to_vec() });
        assert_eq!(
            std::fs::read_to_string(dir.path().join("logs/demo.log")).unwrap(),
            "one\nin the mid\n-- podium: 70000 bytes are missing here, they came faster than they could be written\ndle\n"
        );
    }

    #[test]
    fn files_are_bounded_in_size_and_number_and_the_newest_lines_are_there() {
        let (dir, mut log) = world();
        for n in 0..90_000 {
            log.take(format!("{n:079}\n").as_bytes());
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path().join("logs")).unwrap().flatten().collect();
        names.sort_by_key(std::fs::DirEntry::file_name);
        let sizes: Vec<_> = names.iter().map(|entry| entry.metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 4);
        assert!(sizes.iter().all(|size| *size <= FILE_MAX && size % 80 == 0), "{sizes:?}");
        let newest = std::fs::read_to_string(dir.path().join("logs/demo.log")).unwrap();
        assert!(newest.ends_with("089999\n"));
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_lines_and_tells_of_the_gap() {
        let (dir, mut log) = world();
        let logs = dir.path().join("logs");
        std::fs::write(&logs, b"in the way").unwrap();
        log.take(b"lost\n");
        std::fs::remove_file(&logs).unwrap();
        log.take(b"kept\n");
        let text = std::fs::read_to_string(logs.join("demo.log")).unwrap();
        assert!(text.starts_with("-- podium: 5 bytes are missing"), "{text}");
        assert!(text.ends_with("\nkept\n"), "{text}");
    }

    #[test]
    fn a_file_that_somebody_removes_is_made_anew() {
        let (dir, mut log) = world();
        log.take(b"gone\n");
        std::fs::remove_dir_all(dir.path().join("logs")).unwrap();
        log.take(b"here\n");
        assert_eq!(std::fs::read(dir.path().join("logs/demo.log")).unwrap(), b"here\n");
    }

    #[test]
    fn a_full_device_loses_bytes_and_not_the_service() {
        let (_dir, mut log) = world();
        log.path = "/dev/full".into();
        log.take(b"lost\n");
        log.take(b"lost too\n");
        assert!(log.health.gap().unwrap().contains(" 14 bytes"));
        // Nor is forgotten what fell out of the queue.
        log.write(&Taken { lost: 100, bytes: b"more\n".to_vec() });
        assert!(log.health.gap().unwrap().contains(" 119 bytes"));
    }
}
