//! The client of a change: descriptors 0 and 1 are its connection. One JSON object a line, the last one says how it
//! went.
//!
//! A client that is gone or reads nothing does not keep a change from being done: what cannot be told within the
//! connection's time limit is dropped.

use crate::job;
use crate::load::CONFIG_MAX;
use anyhow::{Context, Result, bail};
use podium_init::config::{Problem, Severity};
use podium_init::live::Change;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fmt;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a client may take to send the next part of its config.
const CLIENT_LIMIT: Duration = Duration::from_secs(20);

/// The client took no line within its limit.
static GONE: AtomicBool = AtomicBool::new(false);

/// The client, or nobody.
pub(super) struct Client(Option<RefCell<job::Client>>);

impl Client {
    pub(super) fn new(there: bool) -> Result<Self> {
        if !there {
            return Ok(Self(None));
        }
        let client = job::Client::on_stdin()?;
        set_socket_timeout(&client, Timeout::Recv, Some(CLIENT_LIMIT))
            .context("set a limit for the client")?;
        Ok(Self(Some(RefCell::new(client))))
    }

    /// The first line, where nothing is asked for.
    pub(super) fn begin(&self) {
        self.say(&json!({"ok": true}));
    }

    /// Asks for the config and takes it, up to the client's end of sending.
    pub(super) fn receive(&self) -> Result<Vec<u8>> {
        self.say(&json!({"ok": true, "send": true}));
        let mut bytes = Vec::new();
        let most = u64::try_from(CONFIG_MAX)? + 1;
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).context("receive the config")?;
        if bytes.len() > CONFIG_MAX {
            bail!("the config is larger than {} MiB", CONFIG_MAX >> 20);
        }
        if let Some(client) = &self.0 {
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
            // A client that is gone, or takes nothing for so long, is told nothing more: a change does not wait for it.
            if !GONE.load(Ordering::Relaxed) && client.borrow_mut().send(line).is_err() {
                GONE.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// What is said in the boot log while a change is done is the client's business as well.
pub(super) fn tell_log(level: log::Level, text: &dyn fmt::Display) {
    if GONE.load(Ordering::Relaxed) {
        return;
    }
    let line = json!({"log": text.to_string(), "level": level.to_string().to_lowercase()});
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}
