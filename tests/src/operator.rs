//! An operator with `podiumctl` and files of keys, who reaches a machine by a forwarded port: the real binary, run as
//! a person would type it.
//!
//! Keys are made anew for each operator and live in a temporary folder. Every run has a limit, and ends with this
//! process. Nothing here knows the API: what the node says is what the program prints.

use crate::console::{Console, Echo};
use crate::disk::temporary_folder;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The environment variable that names the program under test.
pub const CTL_VARIABLE: &str = "PODIUM_CTL";

/// The port of the API on the node.
pub const PORT: u16 = 50000;

/// One command without a watch; an emulated node answers within seconds.
const COMMAND_LIMIT: &str = "120";
/// A reboot and the boot after it.
const LONG_LIMIT: &str = "1200";
const PAUSE: Duration = Duration::from_millis(500);

/// What a command has printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Exit code; 124 when the limit has passed.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// The rows of a table below its header, a word a column.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<&str>> {
        self.out.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
    }

    /// Itself, when all went well.
    ///
    /// # Errors
    /// All that was said, when not.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == Some(0), "podiumctl: {self:?}");
        Ok(self)
    }

    /// Itself, when the command failed for a reason that has all of these words.
    ///
    /// # Errors
    /// All that was said, when it did not fail, or for another reason.
    pub fn refused(self, words: &[&str]) -> Result<Self> {
        let is_refused = self.code == Some(1) && words.iter().all(|word| self.err.contains(word));
        ensure!(is_refused, "podiumctl was to fail with {words:?}: {self:?}");
        Ok(self)
    }
}

/// A command that goes on: a followed log, a watch. It ends with its value.
#[derive(Debug)]
pub struct Following {
    child: Child,
    /// What it has printed.
    pub console: Console,
}

impl Drop for Following {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself and been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Somebody with a machine config, its CA, and a talosconfig of an admin.
#[derive(Debug)]
pub struct Operator {
    program: PathBuf,
    folder: TempDir,
    address: String,
}

impl Operator {
    /// Makes the files, for a node that is reached on this port of 127.0.0.1.
    ///
    /// # Errors
    /// The program is not named, or does not work.
    pub fn new(port: u16) -> Result<Self> {
        let program = std::env::var_os(CTL_VARIABLE)
            .with_context(|| format!("{CTL_VARIABLE} is not set: run `cargo xtask test vm`"))?;
        let operator = Self {
            program: program.into(),
            folder: temporary_folder()?,
            address: format!("127.0.0.1:{port}"),
        };
        let folder = operator.folder.path().to_string_lossy().into_owned();
        operator.run(&["gen", "secrets", "--endpoints", &operator.address, "-o", &folder])?.ok()?;
        Ok(operator)
    }

    /// The node's address, as it is typed.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A file of the operator.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The machine config that was made, with these pods.
    ///
    /// # Errors
    /// It is not what was expected.
    pub fn config(&self, pods: &[&str]) -> Result<String> {
        let text = fs::read_to_string(self.path("machineconfig.yaml"))?;
        let (before, after) = text.split_once("  pods: []\n").with_context(|| text.clone())?;
        Ok(format!("{before}  pods:{}\n{after}", pods.concat()))
    }

    /// Writes a file, for a command to read.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Runs a command as the admin.
    ///
    /// # Errors
    /// It cannot be started; that it fails is none.
    pub fn run(&self, words: &[&str]) -> Result<Said> {
        self.run_with(words, &[])
    }

    /// Runs a command as the admin, with these in its environment.
    ///
    /// # Errors
    /// It cannot be started; that it fails is none.
    pub fn run_with(&self, words: &[&str], environment: &[(&str, &str)]) -> Result<Said> {
        self.output(&self.path("talosconfig"), words, environment)
    }

    /// Writes a shell script that can be run, an editor for one, in place of the one before; its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn script(&self, text: &str) -> Result<String> {
        let path = self.write("script", &format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Runs a command by another talosconfig.
    ///
    /// # Errors
    /// It cannot be started; that it fails is none.
    pub fn run_by(&self, talosconfig: &Path, words: &[&str]) -> Result<Said> {
        self.output(talosconfig, words, &[])
    }

    fn output(&self, talosconfig: &Path, words: &[&str], environment: &[(&str, &str)]) -> Result<Said> {
        let limit = if words.contains(&"--wait") { LONG_LIMIT } else { COMMAND_LIMIT };
        let mut command = self.command(limit, talosconfig);
        command.args(words).envs(environment.iter().copied());
        let output = command.output().context("setpriv, timeout or podiumctl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
    }

    /// Gives the node a config.
    ///
    /// # Errors
    /// The file cannot be written, or the command not started; that it is refused is none.
    pub fn apply(&self, config: &str, words: &[&str]) -> Result<Said> {
        let file = self.write("applied.yaml", config)?;
        self.run(&[&["apply-config", "-f", &file], words].concat())
    }

    /// Starts a command that goes on.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn follow(&self, words: &[&str]) -> Result<Following> {
        let mut command = self.command(LONG_LIMIT, &self.path("talosconfig"));
        let mut child = command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (console, since) = (Console::default(), Instant::now());
        if let Some(output) = child.stdout.take() {
            console.follow(output, "", since, Echo::No);
        }
        if let Some(errors) = child.stderr.take() {
            console.follow(errors, "podiumctl: ", since, Echo::No);
        }
        Ok(Following { child, console })
    }

    /// Runs a command again and again until what it says is as wanted.
    ///
    /// # Errors
    /// After `limit`, with what it said last.
    pub fn wait(&self, words: &[&str], limit: Duration, wanted: impl Fn(&Said) -> bool) -> Result<Said> {
        let deadline = Instant::now() + limit;
        loop {
            let said = self.run(words)?;
            if said.code == Some(0) && wanted(&said) {
                return Ok(said);
            }
            if Instant::now() > deadline {
                bail!("podiumctl {}: not as wanted within {} s: {said:?}", words.join(" "), limit.as_secs());
            }
            thread::sleep(PAUSE);
        }
    }

    fn command(&self, limit: &str, talosconfig: &Path) -> Command {
        // None of the three outlives the one before it, and the first not us.
        let bound = ["setpriv", "--pdeathsig", "KILL", "--"];
        let mut command = Command::new(bound[0]);
        command
            .args(&bound[1..])
            .args(["timeout", "--kill-after", "5", limit])
            .args(bound)
            .arg(&self.program);
        command.arg("--talosconfig").arg(talosconfig).stdin(Stdio::null()).env_remove("TALOSCONFIG");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32) -> Said {
        let out = "NODE   ID   VERSION\nn      a    1\nn      b    2\n".to_owned();
        Said { code: Some(code), out, err: "error: n: not you\n hint:  ask\n".to_owned() }
    }

    #[test]
    fn a_tables_rows_are_below_its_header() {
        assert_eq!(said(0).rows(), [["n", "a", "1"], ["n", "b", "2"]]);
    }

    #[test]
    fn a_refusal_is_one_of_the_node_for_the_reason_that_was_expected() {
        assert!(said(0).ok().is_ok() && said(1).ok().is_err());
        assert!(said(1).refused(&["not you", "ask"]).is_ok());
        assert!(said(1).refused(&["not here"]).is_err());
        assert!(said(0).refused(&["not you"]).is_err() && said(124).refused(&[]).is_err());
    }
}
