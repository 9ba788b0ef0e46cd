//! The client's side of the control socket: a line out, lines in.

use anyhow::{Context, Result, bail};
use podium_init::control::Refusal;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The longest line that is taken: a whole config, or the state of a thousand pods.
const LINE_MAX: u64 = 128 << 20;
/// PID 1 answers at once, and a job begins within moments; a machine under load gets this.
const FIRST_LIMIT: Duration = Duration::from_secs(120);

/// One line of an answer.
#[derive(Debug)]
pub(super) struct Line {
    /// As it came, without its line feed.
    pub(super) text: String,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects to the socket at `path`.
    pub(super) fn open(path: &str) -> Result<Self> {
        let stream = UnixStream::connect(path).map_err(|error| {
            let remedy = match error.kind() {
                ErrorKind::NotFound => "is this a Podium node? `--socket` names another place",
                ErrorKind::PermissionDenied => "only root may ask: run it as root",
                ErrorKind::ConnectionRefused => "PID 1 does not listen there",
                _ => "is the path right?",
            };
            Refusal::new(format!("{path}: {error}"), remedy)
        })?;
        stream.set_read_timeout(Some(FIRST_LIMIT)).context("set a limit")?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.0.get_mut().write_all(bytes) {
            // It has said why, and that is read next.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Ok(())
            }
            done => done.context("send the request"),
        }
    }

    /// Sends bytes and says that there are no more.
    pub(super) fn send_last(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(bytes)?;
        match self.0.get_ref().shutdown(Shutdown::Write) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            done => done.context("end the request"),
        }
    }

    /// The first line of the answer. What comes after it may take its time.
    pub(super) fn first(&mut self) -> Result<Line> {
        let Some(line) = self.next()? else {
            bail!("the node has closed the connection without an answer; its boot log may tell why")
        };
        self.0.get_ref().set_read_timeout(None).context("take the limit away")?;
        Ok(line)
    }

    /// The next line, if there is one more. One that says `"ok":false` is an error.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        let mut bytes = Vec::new();
        match self.0.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            // It was let go with something of ours unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("no answer within {} s", FIRST_LIMIT.as_secs())
            }
            Err(error) => return Err(error).context("read the answer"),
        }
        if bytes.pop_if(|last| *last == b'\n').is_none() {
            bail!("the answer was cut off");
        }
        let text = String::from_utf8(bytes).context("the answer")?;
        let value: Value = serde_json::from_str(&text).context("the answer is no JSON")?;
        if value.get("ok") == Some(&Value::Bool(false)) {
            let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            return Err(Refusal::new(field("error"), field("remedy")).into());
        }
        Ok(Some(Line { text, value }))
    }
}
