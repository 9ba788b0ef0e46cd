//! A node's control socket, from outside: by the client of the very binary under test, and as bare bytes.

use super::{LIMIT, Node};
use crate::build::programs;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Between two looks at a service that starts within milliseconds.
const LOOK: Duration = Duration::from_millis(5);

/// What `init ctl` has printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Exit code 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A connection of lines.
#[derive(Debug)]
pub struct Lines(BufReader<UnixStream>);

impl Node {
    /// The socket, as the host sees it.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path("/run/podium/init.sock")
    }

    /// Runs `init ctl` with this node's socket to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ctl(&self, args: &[&str]) -> Result<Printed> {
        let mut command = self.ctl_command()?;
        let done = command.args(args).output().context("init ctl")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Printed { ok: done.status.success(), out: text(done.stdout), err: text(done.stderr) })
    }

    /// The same, not started yet.
    ///
    /// # Errors
    /// There is no binary.
    pub fn ctl_command(&self) -> Result<Command> {
        let mut command = Command::new(&programs()?.init);
        command.arg("ctl").arg("--socket").arg(self.control_socket()).env_clear();
        Ok(command)
    }

    /// Connects; every read has a limit.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> Result<Lines> {
        let stream = UnixStream::connect(self.control_socket()).context("connect")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Lines(BufReader::new(stream)))
    }

    /// Sends one request and gives the first line of its answer, with the connection.
    ///
    /// # Errors
    /// No answer.
    pub fn ask(&self, request: &str) -> Result<(Value, Lines)> {
        let mut lines = self.connect()?;
        lines.send(request)?;
        let first = lines.next()?.context("no answer")?;
        Ok((first, lines))
    }
}

impl Lines {
    /// Sends a line.
    ///
    /// # Errors
    /// The other end is gone or does not read.
    pub fn send(&mut self, line: &str) -> Result<()> {
        Ok(self.0.get_mut().write_all(format!("{line}\n").as_bytes())?)
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// It did not come, or is no JSON.
    #[expect(clippy::should_implement_trait, reason = "a test wants the error, not an iterator")]
    pub fn next(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        if self.0.read_line(&mut line).context("wait for a line")? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).with_context(|| line.clone())
    }

    /// Reads on until a line satisfies.
    ///
    /// # Errors
    /// The end came first.
    pub fn until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value> {
        while let Some(line) = self.next()? {
            if wanted(&line) {
                return Ok(line);
            }
        }
        bail!("the stream has ended")
    }

    /// Asks for what is answered by one line.
    ///
    /// # Errors
    /// The answer is a refusal, or none.
    pub fn answer(&mut self, request: &str) -> Result<Value> {
        self.send(request)?;
        let answer = self.next()?.context("no answer")?;
        ensure!(answer["ok"] == true, "{request}: {answer}");
        Ok(answer)
    }

    /// A service's entry in the list of services.
    ///
    /// # Errors
    /// There is none.
    pub fn service(&mut self, name: &str) -> Result<Value> {
        let mut answer = self.answer(r#"{"version":1,"request":"services"}"#)?;
        let services = answer["services"].as_array_mut().context("no services")?;
        let index = services.iter().position(|one| one["service"] == name).context("no such service")?;
        Ok(services.swap_remove(index))
    }

    /// Asks for the next life of a service, now.
    ///
    /// # Errors
    /// That is refused.
    pub fn restart(&mut self, name: &str) -> Result<()> {
        self.answer(&format!(r#"{{"version":1,"request":"service","name":"{name}","action":"restart"}}"#))
            .map(drop)
    }

    /// Waits until a service is up with another PID than `before`, and gives that. Who has died often is started later
    /// and later; nobody waits for that here, it is asked for.
    ///
    /// # Errors
    /// It does not come.
    pub fn next_life(&mut self, name: &str, before: u64) -> Result<u64> {
        let until = Instant::now() + LIMIT;
        loop {
            let service = self.service(name)?;
            match (service["pid"].as_u64(), service["state"].as_str()) {
                (Some(pid), Some("up")) if pid != before => return Ok(pid),
                (None, Some("backoff")) => self.restart(name)?,
                _ => std::thread::sleep(LOOK),
            }
            ensure!(Instant::now() < until, "{name} did not come back: {service}");
        }
    }

    /// The bare connection.
    #[must_use]
    pub fn stream(&mut self) -> &mut UnixStream {
        self.0.get_mut()
    }
}
