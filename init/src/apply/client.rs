//! The client of a change: descriptors 0 and 1 are its connection. One JSON object a line, the last one says how it
//! went.
//!
//! A client that is gone, or slow, does not keep a change from being done, nor the next one from its turn: sending and
//! reading have a time each, all in all.

use crate::job;
use crate::load::CONFIG_MAX;
use crate::sys::clock;
use anyhow::{Context, Result, bail};
use podium_init::clock::Time;
use podium_init::config::{Problem, Severity};
use podium_init::live::Change;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a client may take to send its config, all in all: the next change waits for it, and 4 MiB by a socket take
/// milliseconds.
const RECEIVE_LIMIT: Duration = Duration::from_secs(20);
/// How long a client may take to read what it is told, all in all. With [`RECEIVE_LIMIT`] it is well below the time
/// that a change has.
const TELL_LIMIT: Duration = Duration::from_secs(20);
/// From which on the connection is no longer waited for at all.
const LEAST: Duration = Duration::from_millis(1);
const CHUNK: usize = 64 << 10;

/// The client is gone, or has used up its time.
static GONE: AtomicBool = AtomicBool::new(false);
/// Milliseconds that telling it has taken.
static TOLD_FOR: AtomicU64 = AtomicU64::new(0);

/// The client, or nobody.
pub(super) struct Client(Option<RefCell<job::Client>>);

impl Client {
    pub(super) fn new(there: bool) -> Result<Self> {
        if !there {
            return Ok(Self(None));
        }
        Ok(Self(Some(RefCell::new(job::Client::on_stdin()?))))
    }

    /// The first line, where nothing is asked for.
    pub(super) fn begin(&self) {
        self.say(&json!({"ok": true}));
    }

    /// Asks for the config and takes it, up to the client's end of sending.
    pub(super) fn receive(&self) -> Result<Vec<u8>> {
        self.say(&json!({"ok": true, "send": true}));
        let mut bytes = Vec::new();
        if let Some(client) = &self.0 {
            bytes = receive(&*client.borrow(), clock::now() + RECEIVE_LIMIT)?;
            // A client that has sent all shuts down its sending half; one that died has closed both.
            let client = client.borrow();
            let mut fds = [PollFd::new(&*client, PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if matches!(poll(&mut fds, Some(&now)), Ok(1)) {
                bail!("the client has gone before it had sent all");
            }
        }
        Ok(bytes)
    }

    pub(super) fn problems(&self, problems: &[Problem]) {
        for problem in problems {
            let severity = match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            self.say(&json!({
                "problem": problem.to_string(), "severity": severity, "path": problem.path, "line": problem.line,
                "column": problem.column, "pod": problem.pod,
            }));
        }
    }

    pub(super) fn lines(&self, key: &str, lines: &[String]) {
        lines.iter().for_each(|line| self.say(&json!({ key: line })));
    }

    pub(super) fn changes(&self, changes: &[Change]) {
        for change in changes {
            self.say(&json!({"change": change.path, "needs": change.needs.to_string()}));
        }
    }

    /// The last line of a change that was done.
    pub(super) fn done(&self, what: &Value) {
        let mut line = json!({"ok": true});
        if let (Some(line), Some(what)) = (line.as_object_mut(), what.as_object()) {
            line.extend(what.clone());
        }
        self.say(&line);
    }

    /// The last line of one that was not.
    pub(super) fn refuse(&self, error: &str, remedy: &str) {
        self.say(&json!({"ok": false, "error": error, "remedy": remedy}));
    }

    fn say(&self, line: &Value) {
        if let Some(client) = &self.0 {
            tell(|| client.borrow_mut().send(line));
        }
    }
}

/// What is said in the boot log while a change is done is the client's business as well.
pub(super) fn tell_log(level: log::Level, text: &dyn fmt::Display) {
    let line = json!({"log": text.to_string(), "level": level.to_string().to_lowercase()});
    tell(|| Ok(std::io::stdout().write_all(format!("{line}\n").as_bytes())?));
}

/// A client that is gone, or takes nothing for so long, is told nothing more: a change does not wait for it.
fn tell(say: impl FnOnce() -> Result<()>) {
    let left = TELL_LIMIT.saturating_sub(Duration::from_millis(TOLD_FOR.load(Ordering::Relaxed)));
    if GONE.load(Ordering::Relaxed) || left < LEAST {
        return;
    }
    let begin = clock::now();
    let limited = set_socket_timeout(std::io::stdout(), Timeout::Send, Some(left));
    if limited.is_err() || say().is_err() {
        GONE.store(true, Ordering::Relaxed);
    }
    let took = clock::now().saturating_sub(begin).as_millis();
    TOLD_FOR.fetch_add(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Takes what comes up to the end, until then.
fn receive(client: impl AsFd, until: Time) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let left = until.saturating_sub(clock::now()).max(LEAST);
        set_socket_timeout(&client, Timeout::Recv, Some(left)).context("set a limit for the client")?;
        let slow = || format!("the config was not sent within {} s", RECEIVE_LIMIT.as_secs());
        let count = match rustix::io::read(&client, &mut chunk) {
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => bail!(slow()),
            count => count.context("receive the config")?,
        };
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if bytes.len() > CONFIG_MAX {
            bail!("the config is larger than {} MiB", CONFIG_MAX >> 20);
        }
        if count == 0 {
            return Ok(bytes);
        }
        if clock::now() >= until {
            bail!(slow());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_config_has_one_time_limit_however_small_its_parts_are() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"version: ").unwrap();
        let error = receive(&ours, clock::now() + Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().starts_with("the config was not sent within"), "{error}");
        theirs.write_all(b"v1alpha1").unwrap();
        let error = receive(&ours, clock::now()).unwrap_err();
        assert!(error.to_string().starts_with("the config was not sent within"), "it is over: {error}");
        theirs.write_all(b"x").unwrap();
        drop(theirs);
        assert_eq!(receive(&ours, clock::now() + RECEIVE_LIMIT).unwrap(), b"x");
    }
}
