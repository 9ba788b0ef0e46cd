//! apid's unix socket: one JSON object a line, for root alone.
//!
//! `{"request":"pod status"}`, with `"refresh":true` for a look that begins now and `"watch":true` for a line at each
//! change until the client closes. Clients, the length of a request, the wait for it and for a client that does not
//! read are bounded.

use crate::say;
use crate::serve::{Asker, Snapshot};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// `init ctl` in some terminals, PID 1's probation, and later the API's watchers.
const MOST_CLIENTS: usize = 32;
/// A request has some dozen bytes.
const REQUEST_MAX: u64 = 4096;
/// A client says what it wants at once; one that has its answer may ask again within this.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// A client that does not take its answer for so long has stopped.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What a client wants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    request: String,
    #[serde(default)]
    watch: bool,
    #[serde(default)]
    refresh: bool,
    /// Of the control socket's requests, which have the same form.
    #[serde(default, rename = "version")]
    _version: u32,
}

/// What a client gets that is not understood.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    ok: bool,
    error: &'a str,
    remedy: &'a str,
}

/// Makes the socket, in place of one that an earlier apid left.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    // The mode is there from the first moment on.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()));
    rustix::process::umask(before);
    listener
}

/// Serves clients until no more can be taken.
pub(crate) async fn serve(listener: UnixListener, asker: Asker) -> Result<()> {
    let places = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        let place = places.clone().acquire_owned().await?;
        let (stream, _) = listener.accept().await.context("accept")?;
        let asker = asker.clone();
        tokio::spawn(async move {
            if let Err(error) = client(stream, &asker).await {
                say::line(&format!("client: {error:#}"));
            }
            drop(place);
        });
    }
}

async fn client(stream: UnixStream, asker: &Asker) -> Result<()> {
    let peer = stream.peer_cred().context("who it is")?;
    // Root; or, in a test, the same user.
    ensure!(peer.uid() == rustix::process::geteuid().as_raw(), "user {} is not root", peer.uid());
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(line) = timeout(REQUEST_LIMIT, request(&mut reader)).await.context("no request came")?? {
        let wanted = match serde_json::from_slice::<Request>(&line) {
            Ok(wanted) if wanted.request == "pod status" => wanted,
            Ok(other) => {
                refuse(&mut writer, &format!("{:?} is no request of apid", other.request)).await?;
                continue;
            }
            Err(error) => {
                refuse(&mut writer, &format!("no request: {error}")).await?;
                continue;
            }
        };
        if wanted.watch {
            return watch(reader, writer, asker, wanted.refresh).await;
        }
        send(&mut writer, &*asker.ask(wanted.refresh).await?).await?;
    }
    Ok(())
}

/// The next line; none when the client has closed.
async fn request(reader: &mut BufReader<OwnedReadHalf>) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(REQUEST_MAX).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        bail!("a request without an end, or of more than {REQUEST_MAX} bytes");
    }
    Ok(Some(line))
}

/// A line now and at each change, until the client closes. What changes faster than it reads is left out.
async fn watch(
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    asker: &Asker,
    refresh: bool,
) -> Result<()> {
    let mut changes = asker.watch();
    let mut told = asker.ask(refresh).await?;
    send(&mut writer, &told).await?;
    loop {
        let mut word = [0; 64];
        tokio::select! {
            changed = changes.changed() => changed.context("the looking task has ended")?,
            read = reader.read(&mut word) => match read? {
                0 => return Ok(()),
                _ => bail!("a watching client may only listen"),
            },
        }
        let now = changes.borrow_and_update().clone();
        if now != told {
            send(&mut writer, &now).await?;
            told = now;
        }
    }
}

async fn refuse(writer: &mut OwnedWriteHalf, error: &str) -> Result<()> {
    let remedy = "write {\"request\":\"pod status\"}, with \"watch\":true or \"refresh\":true, as one line";
    write(writer, &serde_json::to_vec(&Refusal { ok: false, error, remedy })?).await
}

async fn send(writer: &mut OwnedWriteHalf, snapshot: &Snapshot) -> Result<()> {
    write(writer, &serde_json::to_vec(snapshot)?).await
}

async fn write(writer: &mut OwnedWriteHalf, line: &[u8]) -> Result<()> {
    let written = async {
        writer.write_all(line).await?;
        writer.write_all(b"\n").await
    };
    timeout(WRITE_LIMIT, written).await.context("it does not read")?.context("write")
}
