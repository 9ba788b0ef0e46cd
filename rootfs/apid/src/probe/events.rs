//! Who is up, by PID 1's events, which come without being asked for: an idle node stays idle.

use crate::say;
use anyhow::{Context, Result, bail, ensure};
use podium_init::control::{OUTPUT_MAX, Request};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc::Sender;

/// From a lost connection to the next: PID 1 is always there, and has no place for us at worst.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing: the connection is lost.
    Nothing,
    /// This one has just come up.
    Up(String),
    /// This one is in another state.
    NotUp(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    service: String,
    state: String,
    text: String,
}

/// Tells what changes until nobody listens.
pub(super) async fn follow(socket: PathBuf, sender: Sender<Seen>) {
    let mut told = false;
    loop {
        let Err(error) = once(&socket, &sender, &mut told).await else { return };
        // Once for each time that it is lost.
        if std::mem::take(&mut told) {
            say::line(&format!("PID 1's events: {error:#}"));
        }
        if sender.send(Seen::Nothing).await.is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// One connection, with all events that PID 1 has: the last of each service says what it is. Ends well when nobody
/// listens.
async fn once(socket: &Path, sender: &Sender<Seen>, works: &mut bool) -> Result<()> {
    let stream = UnixStream::connect(socket).await.context("connect")?;
    let (reader, mut writer) = stream.into_split();
    let request = Request::Events { since: 0, boot: None, follow: true };
    writer.write_all(request.to_line().as_bytes()).await.context("ask")?;
    let mut reader = BufReader::new(reader);
    let limit = u64::try_from(OUTPUT_MAX).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(limit).read_until(b'\n', &mut line).await.context("read")?;
        ensure!(read > 0, "PID 1 has closed");
        ensure!(line.last() == Some(&b'\n'), "a line of more than {limit} bytes");
        if let Some(refused) = refusal(&line) {
            bail!("{refused}");
        }
        *works = true;
        if let Some(seen) = seen(&line)
            && sender.send(seen).await.is_err()
        {
            return Ok(());
        }
    }
}

fn refusal(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        ok: bool,
        #[serde(default)]
        error: String,
    }
    let refusal: Refusal = serde_json::from_slice(line).ok()?;
    (!refusal.ok).then_some(refusal.error)
}

/// What an event says of a service.
fn seen(line: &[u8]) -> Option<Seen> {
    let event: Event = serde_json::from_slice(line).ok()?;
    match event.state.as_str() {
        "" => None,
        // One that is up has more to say than that.
        "up" => (event.text == "up").then_some(Seen::Up(event.service)),
        _ => Some(Seen::NotUp(event.service)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_who_is_up() {
        let line = |state: &str, text: &str| {
            let event = serde_json::json!({"seq": 1, "at_ms": 1, "kind": "service", "service": "a", "state": state,
                "text": text});
            seen(event.to_string().as_bytes())
        };
        assert_eq!(line("up", "up"), Some(Seen::Up("a".into())));
        assert_eq!(line("up", "not healthy: no answer"), None);
        assert_eq!(line("stopping", "stopping"), Some(Seen::NotUp("a".into())));
        assert_eq!(line("starting", "ended, signal 9; next start now"), Some(Seen::NotUp("a".into())));
        assert_eq!(seen(br#"{"seq":1,"at_ms":1,"kind":"node","text":"up"}"#), None);
        assert_eq!(seen(b"{}"), None);
        assert_eq!(seen(b"x"), None);
        assert_eq!(refusal(br#"{"ok":false,"error":"too many"}"#).as_deref(), Some("too many"));
        assert_eq!(refusal(br#"{"ok":true,"last":3}"#), None);
    }
}
