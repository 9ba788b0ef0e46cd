//! `init log`: takes what services write to stdout and stderr out of their pipes and into `/var/log/podium`.
//!
//! One process for all of them, so that PID 1 reads no service's output. It is supervised like the others; while it
//! is away the pipes hold 64 KiB a service, because PID 1 keeps them open. A full or broken disk costs lines, which
//! are counted and told of, never the service: bytes are always taken out of the pipe. SIGTERM makes it empty all
//! pipes and end.

use crate::kmsg;
use crate::sys::poll::{self, For};
use crate::sys::{At, signals};
use anyhow::{Context, Result};
use podium_init::loglines::{Health, boot_mark, room, rotation};
use podium_init::paths;
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As much as a pipe holds, taken in one read.
const CHUNK: usize = 64 * 1024;
/// At the end each pipe is read this often at most: a service that still writes must not keep us.
const LAST_READS: usize = 64;
/// A rest after a poll that failed (no memory).
const REST: Duration = Duration::from_millis(100);
/// Exists once this boot is marked in the files, so that a restart of the writer is not taken for a boot.
const MARKED: &str = "/run/podium/logs.marked";

/// Writes until SIGTERM.
///
/// # Errors
/// The pipes cannot be listed, or no descriptor is left; the supervisor starts us again.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    let mut ends = nix::sys::signal::SigSet::empty();
    ends.add(nix::sys::signal::Signal::SIGTERM);
    let signals = signals::receive(&ends)?;
    let mut logs = open_logs(Path::new(paths::LOG_PIPES), Path::new(paths::LOGS))?;
    mark_boot(&mut logs);
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut fds: Vec<(BorrowedFd<'_>, For)> =
            logs.iter().map(|log| (log.pipe.as_fd(), For::Reading)).collect();
        fds.push((signals.as_fd(), For::Reading));
        let ready = match poll::wait(&fds, None) {
            Ok(ready) => ready,
            Err(error) => {
                log::warn!("log: {error}");
                std::thread::sleep(REST);
                continue;
            }
        };
        // The order of `fds`: pipes first. One read a turn, so that no service starves the others.
        for (log, _) in logs.iter_mut().zip(&ready).filter(|(_, ready)| **ready) {
            log.pump(&mut chunk);
        }
        if signals.next().is_some() {
            for log in &mut logs {
                (0..LAST_READS).take_while(|_| log.pump(&mut chunk)).for_each(drop);
            }
            return Ok(());
        }
    }
}

/// One service's pipe and file.
#[derive(Debug)]
struct Log {
    pipe: File,
    path: PathBuf,
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
    /// Moves what the pipe holds, up to the size of `chunk`, into the file. False when the pipe was empty.
    fn pump(&mut self, chunk: &mut [u8]) -> bool {
        match self.pipe.read(chunk) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.take(chunk.get(..length).unwrap_or_default());
                true
            }
        }
    }

    /// Writes `bytes`, or counts them as lost.
    fn take(&mut self, bytes: &[u8]) {
        let name = self.path.display().to_string();
        let mut written = 0;
        let done = self.health.gap().map_or(Ok(()), |gap| self.write_own_line(&gap));
        let said = match done.and_then(|()| self.write_all(bytes, &mut written)) {
            Ok(()) => self.health.worked(&name),
            Err(error) => {
                // Opened anew next time: it may have been removed, or be on a disk that came back.
                self.file = None;
                self.health.failed(&name, &format!("{error:#}"), bytes.len().saturating_sub(written))
            }
        };
        if let Some(line) = said {
            kmsg::say(&line);
        }
    }

    /// Writes a line of ours, also when the service's last one has no end (yet).
    fn write_own_line(&mut self, line: &str) -> Result<()> {
        if !self.open()?.at_line_start {
            self.write_all(b"\n", &mut 0)?;
        }
        self.write_all(line.as_bytes(), &mut 0)
    }

    /// The file, opened if it is not.
    fn open(&mut self) -> Result<&mut Open> {
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

/// Opens every pipe of the folder. A file that cannot be opened yet is tried again with each chunk.
fn open_logs(pipes: &Path, files: &Path) -> Result<Vec<Log>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(pipes).at("list", pipes)? {
        let entry = entry.at("list", pipes)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(entry.path(), flags, Mode::empty()).at("open", entry.path())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&pipe).at("stat", entry.path())?.st_mode);
        if kind == FileType::Fifo {
            let path = files.join(format!("{}.log", entry.file_name().to_string_lossy()));
            logs.push(Log { pipe: pipe.into(), path, file: None, health: Health::default() });
        }
    }
    logs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(logs)
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

/// Writes a line for this boot into each log that is there or can be made, once a boot.
fn mark_boot(logs: &mut [Log]) {
    if Path::new(MARKED).exists() {
        return;
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mark = boot_mark(id.trim(), now);
    for log in logs {
        // The error is said with the service's first line, which is then lost.
        drop(log.write_own_line(&mark));
    }
    if let Err(error) = File::create(MARKED) {
        log::warn!("log: {MARKED}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_init::loglines::FILE_MAX;

    /// A pipe in a folder of its own, its writing end, and the logs folder.
    fn world() -> (tempfile::TempDir, File, Log) {
        let dir = tempfile::tempdir().unwrap();
        let pipes = dir.path().join("pipes");
        std::fs::create_dir(&pipes).unwrap();
        std::fs::write(pipes.join("no-pipe"), b"x").unwrap();
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&pipes.join("demo"), mode).unwrap();
        let both = File::options().read(true).write(true).open(pipes.join("demo")).unwrap();
        let mut logs = open_logs(&pipes, &dir.path().join("logs")).unwrap();
        assert_eq!(logs.len(), 1, "only pipes count");
        (dir, both, logs.remove(0))
    }

    #[test]
    fn output_lands_in_its_file_and_an_empty_pipe_does_not_block() {
        let (dir, mut pipe, mut log) = world();
        let mut chunk = vec![0; CHUNK];
        assert!(!log.pump(&mut chunk));
        pipe.write_all(b"one\ntwo").unwrap();
        assert!(log.pump(&mut chunk));
        assert_eq!(std::fs::read(dir.path().join("logs/demo.log")).unwrap(), b"one\ntwo");
    }

    #[test]
    fn files_are_bounded_in_size_and_number_and_the_newest_lines_are_there() {
        let (dir, _pipe, mut log) = world();
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
        let (dir, _pipe, mut log) = world();
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
    fn a_full_device_loses_bytes_and_not_the_service() {
        let (_dir, _pipe, mut log) = world();
        log.path = "/dev/full".into();
        log.take(b"lost\n");
        log.take(b"lost too\n");
        assert!(log.health.gap().unwrap().contains(" 14 bytes"));
    }
}
