//! What `apid serve` tells the network API: the node's facts that only root may see, over two unix sockets.
//!
//! One socket is for readers, the other for admins, so that a broken server of the network (`apid api`) cannot give a
//! reader what is an admin's. A request is one JSON object a line; the answer begins with a line that has `ok`. Bytes
//! follow as `{"data":…}` lines, and `{"ok":true,"end":true}` is their regular end. Nothing here changes the node.

mod addresses;
mod browse;
mod containers;
mod dmesg;
mod logfiles;
mod logs;
mod mounts;
mod output;
mod pods;
mod setup;
mod sign;
mod usage;
mod walk;

pub(crate) use setup::{Mode, Setup};
pub(crate) use sign::san;

use crate::changes::Changes;
use crate::places::Places;
use crate::say;
use crate::serve::Asker;
use anyhow::{Context, Result, bail, ensure};
use output::{Fault, Sink, Writer};
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// User and group of `apid api`.
const API_USER: u32 = 52;
/// `apid api` watches a handful of things for all of its clients; the rest are followed logs, of which it has a bound
/// of its own below this one.
const MOST_CLIENTS: usize = 64;
/// A certificate request has a KiB, a list of paths some.
const REQUEST_MAX: u64 = 64 << 10;
/// A client says what it wants at once.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Who may ask on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Reader,
    Admin,
}

/// What a client wants; the shape of each is in the network API's own words.
#[derive(Debug, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
enum Request {
    Setup {
        #[serde(default)]
        watch: bool,
    },
    Certificate {
        csr: String,
    },
    #[serde(rename = "pod status")]
    PodStatus {
        #[serde(default)]
        watch: bool,
        #[serde(default)]
        refresh: bool,
    },
    #[serde(rename = "static pods")]
    StaticPods {
        #[serde(default)]
        watch: bool,
    },
    Containers,
    Stats,
    Mounts,
    #[serde(rename = "log ids")]
    LogIds,
    Logs(logs::Wanted),
    Dmesg {
        #[serde(default)]
        follow: bool,
        #[serde(default)]
        tail: bool,
    },
    List(browse::Wanted),
    #[serde(rename = "disk usage")]
    DiskUsage(usage::Wanted),
    Read {
        path: String,
    },
}

/// What answers need.
#[derive(Debug)]
struct Node {
    places: Places,
    asker: Asker,
    setup: watch::Receiver<Arc<Setup>>,
    /// Of the static pods.
    changes: Changes,
}

/// Serves both sockets until it cannot; for ever silent where nobody made their folder.
pub(crate) async fn serve(places: Places, asker: Asker) -> Result<()> {
    let [reader, admin] = places.node_sockets();
    if reader.parent().is_none_or(|folder| !folder.is_dir()) {
        say::line(&format!("{} has no folder: the network API is not served", reader.display()));
        return std::future::pending().await;
    }
    let (reader, admin) = (listen(&reader)?, listen(&admin)?);
    let (changes, setup) = watch::channel(Arc::new(setup::look(&places)));
    let node = Arc::new(Node { places: places.clone(), asker, setup, changes: pods::changes(&places) });
    tokio::select! {
        never = setup::follow(&places, changes) => Ok(never),
        ended = accept(reader, Rank::Reader, node.clone()) => ended,
        ended = accept(admin, Rank::Admin, node.clone()) => ended,
    }
}

/// The socket for root and the network API's user.
fn listen(path: &Path) -> Result<UnixListener> {
    let listener = crate::socket::listen(path)?;
    let group = rustix::fs::Gid::from_raw(API_USER);
    let opened = rustix::fs::chown(path, None, Some(group))
        .and_then(|()| rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o660)));
    // Not being root is a test's; root alone can ask then.
    if let Err(error) = opened {
        say::line(&format!("{}: {error}; only this user may ask", path.display()));
    }
    Ok(listener)
}

async fn accept(listener: UnixListener, rank: Rank, node: Arc<Node>) -> Result<()> {
    let places = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        let place = places.clone().acquire_owned().await?;
        let (stream, _) = listener.accept().await.context("accept")?;
        let node = node.clone();
        tokio::spawn(async move {
            if let Err(error) = client(stream, rank, &node).await {
                say::line(&format!("network API: {error:#}"));
            }
            drop(place);
        });
    }
}

async fn client(stream: UnixStream, rank: Rank, node: &Node) -> Result<()> {
    let peer = stream.peer_cred().context("who it is")?.uid();
    let is_known = [0, API_USER, rustix::process::geteuid().as_raw()].contains(&peer);
    ensure!(is_known, "user {peer} is neither root nor the network API");
    let (reader, writer) = stream.into_split();
    let (mut reader, mut writer) = (BufReader::new(reader), Writer::new(writer));
    while let Some(line) = timeout(REQUEST_LIMIT, request(&mut reader)).await.context("no request came")?? {
        match serde_json::from_slice::<Request>(&line) {
            Ok(Request::Read { .. }) if rank == Rank::Reader => {
                writer.refuse(&Fault::denied("only an admin may read files")).await?;
            }
            Ok(Request::Setup { watch: true }) => return watch_setup(reader, writer, node).await,
            Ok(Request::PodStatus { watch: true, refresh }) => {
                return watch_status(reader, writer, node, refresh).await;
            }
            Ok(Request::StaticPods { watch: true }) => {
                return pods::watch(&node.places, node.changes.clone(), reader, writer).await;
            }
            Ok(request) => {
                let is_stream = streams(&request);
                match once(request, node).await {
                    Answer::Line(Ok(line)) => writer.send(&line).await?,
                    Answer::Line(Err(fault)) => writer.refuse(&fault).await?,
                    Answer::Job(job) => return output::run(job, reader, writer).await,
                }
                ensure!(!is_stream, "a stream has no one line");
            }
            Err(error) => writer.refuse(&Fault::invalid(format!("no request: {error}"))).await?,
        }
    }
    Ok(())
}

/// Whether its answer ends with the connection.
fn streams(request: &Request) -> bool {
    matches!(
        request,
        Request::Logs(_)
            | Request::Dmesg { .. }
            | Request::List(_)
            | Request::DiskUsage(_)
            | Request::Read { .. }
    )
}

/// How a request is answered.
enum Answer {
    /// By one line.
    Line(Result<serde_json::Value, Fault>),
    /// By a thread of its own, as it waits for disks.
    Job(Box<dyn FnOnce(Sink) -> Result<(), Fault> + Send>),
}

async fn once(request: Request, node: &Node) -> Answer {
    let places = node.places.clone();
    Answer::Line(match request {
        Request::Setup { .. } => Ok(node.setup.borrow().to_line()),
        Request::Certificate { csr } => sign::sign(&places, &node.setup.borrow(), &csr),
        Request::PodStatus { refresh, .. } => match node.asker.ask(refresh).await {
            Ok(snapshot) => Ok(json!({"ok": true, "pods": snapshot.pods, "kubelet": snapshot.kubelet})),
            Err(error) => Err(Fault::internal(format!("{error:#}"))),
        },
        Request::StaticPods { .. } => pods::list(&places),
        Request::Containers => containers::list(&places).await,
        Request::Stats => containers::stats(&places).await,
        Request::Mounts => blocking(move || mounts::list(&places)).await,
        Request::LogIds => Ok(logs::ids(&places)),
        Request::Logs(wanted) => {
            return Answer::Job(Box::new(move |sink| logs::tell(&places, &wanted, &sink)));
        }
        Request::Dmesg { follow, tail } => {
            return Answer::Job(Box::new(move |sink| dmesg::tell(&places, follow, tail, &sink)));
        }
        Request::List(wanted) => {
            return Answer::Job(Box::new(move |sink| browse::list(&places, &wanted, &sink)));
        }
        Request::DiskUsage(wanted) => {
            return Answer::Job(Box::new(move |sink| usage::tell(&places, &wanted, &sink)));
        }
        Request::Read { path } => {
            return Answer::Job(Box::new(move |sink| browse::read(&places, &path, &sink)));
        }
    })
}

/// Off the loop: a file system may be slow to say how full it is.
async fn blocking(
    work: impl FnOnce() -> Result<serde_json::Value, Fault> + Send + 'static,
) -> Result<serde_json::Value, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Fault::internal(error.to_string())))
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

async fn watch_setup(mut reader: BufReader<OwnedReadHalf>, mut writer: Writer, node: &Node) -> Result<()> {
    let mut setup = node.setup.clone();
    loop {
        let now = setup.borrow_and_update().to_line();
        writer.send(&now).await?;
        tokio::select! {
            changed = setup.changed() => changed.context("the setup is not looked at any more")?,
            gone = output::gone(&mut reader) => return gone,
        }
    }
}

async fn watch_status(
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: Writer,
    node: &Node,
    refresh: bool,
) -> Result<()> {
    let mut changes = node.asker.watch();
    let mut told = node.asker.ask(refresh).await?;
    loop {
        writer.send(&json!({"ok": true, "pods": told.pods, "kubelet": told.kubelet})).await?;
        loop {
            tokio::select! {
                changed = changes.changed() => changed.context("the looking task has ended")?,
                gone = output::gone(&mut reader) => return gone,
            }
            let now = changes.borrow_and_update().clone();
            if now != told {
                told = now;
                break;
            }
        }
    }
}
