//! A client of QEMU's machine protocol (QMP): one JSON object a line over a unix socket.
//!
//! Commands are sent one at a time and their answer awaited within a limit; events in between are dropped.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// QEMU answers at once unless the host is badly overloaded.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// An open connection after the greeting.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to `socket` and greets.
    ///
    /// # Errors
    /// When nothing listens there (yet), or it does not speak QMP.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("{}", socket.display()))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.read().context("QMP greeting")?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes one command and gives what it returned.
    ///
    /// # Errors
    /// QEMU's own words when it refused, or the connection's error.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = json!({"execute": command, "arguments": arguments}).to_string() + "\n";
        self.reader.get_mut().write_all(line.as_bytes()).with_context(|| format!("QMP {command}"))?;
        loop {
            let mut answer = self.read().with_context(|| format!("QMP {command}"))?;
            if let Some(returned) = answer.get_mut("return") {
                return Ok(returned.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("QMP {command}: {}", error.get("desc").and_then(Value::as_str).unwrap_or("refused"));
            }
        }
    }

    /// Executes one line of QEMU's human monitor and gives its output.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let output = self.execute("human-monitor-command", &json!({"command-line": line}))?;
        Ok(output.as_str().unwrap_or_default().to_owned())
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU closed the connection");
        }
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Answers each line that it reads with the next of `answers`, after a greeting.
    fn server(answers: &'static [&'static str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            writeln!(&stream, r#"{{"QMP": {{}}}}"#).unwrap();
            for answer in answers {
                reader.read_line(&mut String::new()).unwrap();
                writeln!(&stream, "{answer}").unwrap();
            }
        });
        (folder, socket)
    }

    #[test]
    fn events_between_command_and_answer_are_skipped() {
        let (_folder, socket) =
            server(&[r#"{"return": {}}"#, "{\"event\": \"RESUME\"}\n{\"return\": \"text\"}"]);
        assert_eq!(Qmp::connect(&socket).unwrap().monitor("info usernet").unwrap(), "text");
    }

    #[test]
    fn a_refusal_carries_qemus_words() {
        let (_folder, socket) = server(&[r#"{"return": {}}"#, r#"{"error": {"desc": "no such device"}}"#]);
        let error = Qmp::connect(&socket).unwrap().execute("device_add", &json!({})).unwrap_err();
        assert!(error.to_string().contains("no such device"), "{error}");
    }
}
