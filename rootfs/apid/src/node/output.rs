//! What goes back over a node socket: lines, refusals, and streams that a thread of its own makes.
//!
//! Such a thread is held back by a bounded channel while its client does not read, and ends when the client is gone.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// `apid api` itself ends a stream whose client takes nothing for a minute; whoever is slower has stopped.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a stream's piece: a few system calls for a page of text, and small enough to be held for many clients.
pub(super) const PIECE: usize = 16 << 10;
/// Pieces on their way to a client: one that is written and those that are read meanwhile.
const PIECES_MAX: usize = 4;

/// Why there is no answer, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    error: String,
    code: &'static str,
}

impl Fault {
    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self { error: error.into(), code: "not_found" }
    }

    pub(super) fn invalid(error: impl Into<String>) -> Self {
        Self { error: error.into(), code: "invalid" }
    }

    pub(super) fn denied(error: impl Into<String>) -> Self {
        Self { error: error.into(), code: "denied" }
    }

    pub(super) fn unavailable(error: impl Into<String>) -> Self {
        Self { error: error.into(), code: "unavailable" }
    }

    pub(super) fn internal(error: impl Into<String>) -> Self {
        Self { error: error.into(), code: "internal" }
    }

    /// In words.
    pub(super) fn text(&self) -> &str {
        &self.error
    }

    /// What the kernel said of `what`.
    pub(super) fn of(what: &str, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let text = format!("{what}: {error}");
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::not_found(text),
            std::io::ErrorKind::PermissionDenied => Self::denied(text),
            std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory => Self::invalid(text),
            // A link where none may be, or a path that leaves the place it must stay in.
            _ if [Some(40), Some(18)].contains(&error.raw_os_error()) => {
                Self::denied(format!("{text} (no links are followed)"))
            }
            _ => Self::internal(text),
        }
    }
}

/// A client's end that is written to.
#[derive(Debug)]
pub(super) struct Writer(OwnedWriteHalf);

impl Writer {
    pub(super) fn new(half: OwnedWriteHalf) -> Self {
        Self(half)
    }

    pub(super) async fn send(&mut self, line: &impl Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.write(&bytes).await
    }

    pub(super) async fn refuse(&mut self, fault: &Fault) -> Result<()> {
        self.send(&json!({"ok": false, "error": fault.error, "code": fault.code})).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(WRITE_LIMIT, self.0.write_all(bytes)).await.context("it does not read")?.context("write")
    }
}

/// Where a job's thread puts its answer.
#[derive(Debug)]
pub(super) struct Sink(mpsc::Sender<Vec<u8>>);

impl Sink {
    /// The first line; what went wrong until then is the job's error.
    pub(super) fn begin(&self) -> Result<(), Fault> {
        self.line(&json!({"ok": true}))
    }

    /// A line of an answer that is lines.
    pub(super) fn line(&self, line: &impl Serialize) -> Result<(), Fault> {
        let mut bytes = serde_json::to_vec(line).map_err(|error| Fault::internal(error.to_string()))?;
        bytes.push(b'\n');
        self.0.blocking_send(bytes).map_err(|_| Fault::internal(GONE))
    }

    /// Bytes of an answer that is bytes.
    pub(super) fn data(&self, bytes: &[u8]) -> Result<(), Fault> {
        bytes.chunks(PIECE).try_for_each(|piece| self.line(&json!({"data": STANDARD.encode(piece)})))
    }

    /// Nobody takes more.
    pub(super) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// What a job ends with whose client has left: it is nobody's error.
const GONE: &str = "the client is gone";

/// Runs a job on a thread of its own and relays what it says.
pub(super) async fn run(
    job: Box<dyn FnOnce(Sink) -> Result<(), Fault> + Send>,
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: Writer,
) -> Result<()> {
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    let job = tokio::task::spawn_blocking(move || job(Sink(sender)));
    let mut has_begun = false;
    loop {
        tokio::select! {
            piece = pieces.recv() => match piece {
                Some(piece) => {
                    writer.write(&piece).await?;
                    has_begun = true;
                }
                None => break,
            },
            gone = gone(&mut reader) => return gone,
        }
    }
    match job.await {
        // By this alone a client knows that the answer is whole.
        Ok(Ok(())) => writer.send(&json!({"ok": true, "end": true})).await,
        Ok(Err(fault)) if has_begun => writer.send(&fault).await,
        Ok(Err(fault)) => writer.refuse(&fault).await,
        Err(error) => writer.refuse(&Fault::internal(error.to_string())).await,
    }
}

/// Returns when the client has closed; who is told something may only listen.
pub(super) async fn gone(reader: &mut BufReader<OwnedReadHalf>) -> Result<()> {
    let mut word = [0; 64];
    match reader.read(&mut word).await {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => bail!("a client that is being answered may only listen"),
    }
}
