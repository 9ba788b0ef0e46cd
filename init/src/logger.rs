//! `init log`: takes what services write to stdout and stderr out of their pipes and into `/var/log/podium`.
//!
//! One process for all of them, so that PID 1 reads no service's output. It is supervised like the others; while it
//! is away the pipes hold 64 KiB a service, because PID 1 keeps them open. This thread does nothing but empty the pipes,
//! one read of each in turn, into bounded queues; another one writes these to the files (`files.rs`). So a disk that is
//! full, broken, slow or hangs costs lines, the oldest that wait, which are counted and told of; never the service, nor
//! the lines of another one. SIGTERM makes it empty all pipes and end.

mod files;

use crate::kmsg;
use crate::sys::poll::{self, For};
use crate::sys::{At, clock, signals};
use anyhow::{Context, Result};
use files::Log;
use podium_init::clock::Time;
use podium_init::loglines::{Queue, boot_mark};
use podium_init::paths;
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As much as a pipe holds, taken in one read.
const CHUNK: usize = 64 * 1024;
/// At the end each pipe is read this often at most: a service that still writes must not keep us.
const LAST_READS: usize = 64;
/// At the end the files have so long to be written, which is less than the supervisor waits for us, unless the node goes
/// down in a hurry.
const LAST_WRITES_LIMIT: Duration = Duration::from_secs(3);
/// A rest after a poll that failed (no memory).
const REST: Duration = Duration::from_millis(100);
/// A write that takes longer is told of: the disk hangs, or is close to it.
const SLOW: Duration = Duration::from_secs(5);
/// Exists once this boot is marked in the files, so that a restart of the writer is not taken for a boot.
const MARKED: &str = "/run/podium/logs.marked";

/// Writes until SIGTERM.
///
/// # Errors
/// The pipes cannot be listed, or no descriptor or thread is to be had; the supervisor starts us again.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    let mut ends = nix::sys::signal::SigSet::empty();
    ends.add(nix::sys::signal::Signal::SIGTERM);
    // Before the other thread begins, which thus does not hear it either.
    let signals = signals::receive(&ends)?;
    let mut pipes = open_pipes(Path::new(paths::LOG_PIPES))?;
    let logs =
        pipes.iter().map(|pipe| Log::new(Path::new(paths::LOGS).join(format!("{}.log", pipe.service))));
    let logs: Vec<Log> = logs.collect();
    let shared = Arc::new(Shared::new(pipes.len()));
    let of_writer = Arc::clone(&shared);
    let writer = std::thread::Builder::new().name("files".to_owned());
    writer.spawn(move || write(logs, &of_writer)).context("start a thread")?;
    let mut chunk = vec![0; CHUNK];
    let mut slow = Slow::default();
    loop {
        let mut fds: Vec<(BorrowedFd<'_>, For)> =
            pipes.iter().map(|pipe| (pipe.file.as_fd(), For::Reading)).collect();
        fds.push((signals.as_fd(), For::Reading));
        let ready = match poll::wait(&fds, shared.is_busy().then_some(SLOW)) {
            Ok(ready) => ready,
            Err(error) => {
                log::warn!("log: {error}");
                std::thread::sleep(REST);
                continue;
            }
        };
        // The order of `fds`: pipes first. One read a turn, so that no service starves the others.
        for (place, pipe) in pipes.iter_mut().enumerate() {
            if ready.get(place) == Some(&true) {
                shared.pump(place, &mut pipe.file, &mut chunk);
            }
        }
        if let Some(line) = slow.look(shared.busy_since(), clock::now()) {
            kmsg::say(&line);
        }
        if !signals.take().is_empty() {
            for (place, pipe) in pipes.iter_mut().enumerate() {
                (0..LAST_READS).take_while(|_| shared.pump(place, &mut pipe.file, &mut chunk)).for_each(drop);
            }
            shared.wait_until_written(LAST_WRITES_LIMIT);
            return Ok(());
        }
    }
}

/// One service's pipe.
#[derive(Debug)]
struct Pipe {
    service: String,
    file: File,
}

/// What the two threads share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// In the order of the pipes.
    queues: Vec<Queue>,
    /// The file that is being written, and since when.
    busy_since: Option<Time>,
}

impl Shared {
    fn new(count: usize) -> Self {
        let queues = (0..count).map(|_| Queue::default()).collect();
        Self { state: Mutex::new(State { queues, busy_since: Some(clock::now()) }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what a pipe holds, up to the size of `chunk`, into its queue. False when the pipe was empty.
    fn pump(&self, place: usize, pipe: &mut File, chunk: &mut [u8]) -> bool {
        match pipe.read(chunk) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                let mut state = self.lock();
                if let Some(queue) = state.queues.get_mut(place) {
                    queue.push(chunk.get(..length).unwrap_or_default());
                }
                drop(state);
                self.changed.notify_all();
                true
            }
        }
    }

    fn busy_since(&self) -> Option<Time> {
        self.lock().busy_since
    }

    /// Something is being written, or is about to be.
    fn is_busy(&self) -> bool {
        let state = self.lock();
        state.busy_since.is_some() || state.queues.iter().any(|queue| !queue.is_empty())
    }

    /// Waits until every queue is empty and nothing is being written.
    fn wait_until_written(&self, limit: Duration) {
        let is_left = |state: &mut State| {
            state.busy_since.is_some() || state.queues.iter().any(|queue| !queue.is_empty())
        };
        let waited = self.changed.wait_timeout_while(self.lock(), limit, is_left);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let left: usize = state.queues.iter().map(Queue::len).sum();
        if is_left(&mut state) {
            kmsg::say(&format!("log: {left} bytes were not written at the end"));
        }
    }
}

/// The thread that writes: a part of each queue in turn. It ends with the process.
fn write(mut logs: Vec<Log>, shared: &Shared) {
    mark_boot(&mut logs);
    loop {
        for (place, log) in logs.iter_mut().enumerate() {
            let taken = {
                let mut state = shared.lock();
                let taken = state.queues.get_mut(place).and_then(Queue::pop);
                state.busy_since = taken.as_ref().map(|_| clock::now());
                taken
            };
            if let Some(taken) = taken {
                log.write(&taken);
            }
        }
        let mut state = shared.lock();
        state.busy_since = None;
        shared.changed.notify_all();
        let is_idle = |state: &mut State| state.queues.iter().all(Queue::is_empty);
        // Nothing panics while it holds the lock, and if it did, the state would still be whole.
        drop(shared.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether it was told that a write hangs.
#[derive(Debug, Default)]
struct Slow {
    since: Option<Time>,
}

impl Slow {
    /// The line for the console when that begins or ends. `busy_since`: of the write that is under way.
    fn look(&mut self, busy_since: Option<Time>, now: Time) -> Option<String> {
        match (self.since, busy_since) {
            (None, Some(since)) if now.saturating_sub(since) >= SLOW => {
                self.since = Some(since);
                Some(
                    "log: a write hangs; new lines are kept as far as they have room, older ones dropped"
                        .to_owned(),
                )
            }
            (Some(since), busy) if busy != Some(since) => {
                self.since = None;
                let took = now.saturating_sub(since).as_secs();
                Some(format!("log: the write that hung is over after {took} s"))
            }
            _ => None,
        }
    }
}

/// Opens every pipe of the folder.
fn open_pipes(folder: &Path) -> Result<Vec<Pipe>> {
    let mut pipes = Vec::new();
    for entry in std::fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(entry.path(), flags, Mode::empty()).at("open", entry.path())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&pipe).at("stat", entry.path())?.st_mode);
        if kind == FileType::Fifo {
            let service = entry.file_name().to_string_lossy().into_owned();
            pipes.push(Pipe { service, file: pipe.into() });
        }
    }
    pipes.sort_by(|a, b| a.service.cmp(&b.service));
    Ok(pipes)
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
    use std::io::Write;

    #[test]
    fn a_pipe_is_emptied_into_its_queue_and_an_empty_one_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("no-pipe"), b"x").unwrap();
        nix::unistd::mkfifo(&dir.path().join("demo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut both = File::options().read(true).write(true).open(dir.path().join("demo")).unwrap();
        let mut pipes = open_pipes(dir.path()).unwrap();
        assert_eq!(pipes.len(), 1, "only pipes count");
        let (shared, mut chunk) = (Shared::new(1), vec![0; CHUNK]);
        assert!(!shared.pump(0, &mut pipes[0].file, &mut chunk));
        both.write_all(b"one\ntwo").unwrap();
        assert!(shared.pump(0, &mut pipes[0].file, &mut chunk));
        assert_eq!(shared.lock().queues[0].pop().unwrap().bytes, b"one\ntwo");
    }

    #[test]
    fn a_write_that_hangs_is_told_once_and_its_end_too() {
        let at = Duration::from_secs;
        let mut slow = Slow::default();
        assert_eq!(slow.look(Some(at(10)), at(14)), None);
        assert!(slow.look(Some(at(10)), at(15)).unwrap().contains("hangs"));
        assert_eq!(slow.look(Some(at(10)), at(60)), None);
        assert_eq!(slow.look(None, at(70)).unwrap(), "log: the write that hung is over after 60 s");
        assert_eq!(slow.look(Some(at(70)), at(71)), None);
    }
}
