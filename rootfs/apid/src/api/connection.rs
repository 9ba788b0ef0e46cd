//! One connection: its handshake, its streams, and its end.
//!
//! It ends when its client's certificate does, when the CAs or the mode of the node change under it, and when it has
//! been silent. A stream whose reader takes nothing is reset; the others of the connection go on.

use super::apply::APPLY_LIMIT;
use super::caller::Caller;
use super::facts::Facts;
use super::gate;
use super::limits::Place;
use super::pieces::{self, Pieces};
use super::tls::Epoch;
use super::weight::Scale;
use crate::node::Mode;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::body::Body;

/// A handshake is two packets; a slow link gets this.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Calls at a time on one connection: a dashboard has a dozen streams.
const STREAMS_MAX: u32 = 64;
/// All headers of a call; a client's are some hundred bytes.
const HEADERS_MAX: u32 = 16 << 10;
/// What a client may send before it is read, a stream and a connection.
const WINDOW: u32 = 64 << 10;
/// As [`WINDOW`].
const CONNECTION_WINDOW: u32 = 128 << 10;
/// What h2 has less than of one stream when it is given more: a reader that makes room and takes nothing off its
/// connection leaves the last piece of a message there and hardly more. Where it takes, that piece does not keep the
/// next message waiting.
const SEND_MAX: usize = 2 * pieces::LAST;
/// A client that has vanished without a word is found out by this.
const PING: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const PING_LIMIT: Duration = Duration::from_secs(20);
/// A connection without a call.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// The same in maintenance, where anybody may connect and few may at a time: people give one config and go.
const MAINTENANCE_IDLE_LIMIT: Duration = Duration::from_secs(60);
/// And however busy it is.
const MAINTENANCE_LIMIT: Duration = Duration::from_secs(600);
/// A reader that takes nothing for so long.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// For what is under way when a connection must end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The same of one that began in maintenance, where it is mostly the config that ends it: whoever gave it is told what
/// has become of it, also when services are started and a disk is slow. No other call is taken meanwhile.
pub(super) const MAINTENANCE_LAST_WORDS: Duration = APPLY_LIMIT;
/// Resets that a client may cause and leave: what is beyond is the attack of CVE-2023-44487.
const RESETS_MAX: usize = 32;

/// What the streams of a connection have in common.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) caller: Caller,
    pub(super) place: Place,
    pub(super) facts: Arc<Facts>,
    /// No new call is taken.
    pub(super) over: watch::Sender<bool>,
    /// Its own end, by which a client may call the node.
    pub(super) local: Option<SocketAddr>,
    /// For its calls when it is over.
    last_words: Duration,
    streams: AtomicUsize,
    used: Mutex<Instant>,
}

/// Serves one client.
pub(super) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    place: Place,
    mut epochs: watch::Receiver<Arc<Epoch>>,
    facts: Arc<Facts>,
) {
    let mode = epochs.borrow_and_update().mode;
    // A small answer must not wait for more.
    drop(stream.set_nodelay(true));
    let local = stream.local_addr().ok();
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(stream)) => shaken,
        () = place.evicted() => return,
    };
    let Ok(Ok(stream)) = shaken else { return };
    let (_, state) = stream.get_ref();
    if state.alpn_protocol() != Some(b"h2") {
        return;
    }
    let chain: Vec<CertificateDer<'static>> =
        state.peer_certificates().unwrap_or_default().iter().map(|one| one.clone().into_owned()).collect();
    let caller = match (mode, chain.first()) {
        (Mode::Maintenance, _) => Caller::anybody(peer),
        (Mode::Serving, Some(leaf)) => match Caller::of(leaf, peer) {
            Ok(caller) => caller,
            Err(_) => return,
        },
        (Mode::Serving | Mode::Off, _) => return,
    };
    place.has_shaken();
    let until = caller.until;
    let last_words = if mode == Mode::Maintenance { MAINTENANCE_LAST_WORDS } else { LAST_WORDS };
    let session = Arc::new(Session {
        caller,
        place,
        facts,
        over: watch::Sender::new(false),
        local,
        last_words,
        streams: AtomicUsize::new(0),
        used: Mutex::new(Instant::now()),
    });
    let served = session.clone();
    let service = service_fn(move |request| {
        let session = served.clone();
        async move { Ok::<_, Infallible>(gate::call(&session, request).await) }
    });
    let mut connection = pin!(protocol(&session).serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => {}
        () = end(mode, until, &chain, &mut epochs, &session) => {
            session.over.send_replace(true);
            connection.as_mut().graceful_shutdown();
            drop(timeout(last_words, connection).await);
        }
    }
    session.over.send_replace(true);
}

/// HTTP/2 as it is spoken here.
fn protocol(session: &Arc<Session>) -> http2::Builder<Streams> {
    let mut protocol = http2::Builder::new(Streams(session.clone()));
    protocol
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING_LIMIT);
    protocol
}

/// Returns when the connection must end.
async fn end(
    mode: Mode,
    until: Option<i64>,
    chain: &[CertificateDer<'_>],
    epochs: &mut watch::Receiver<Arc<Epoch>>,
    session: &Session,
) {
    let begun = Instant::now();
    let idle_limit = if mode == Mode::Maintenance { MAINTENANCE_IDLE_LIMIT } else { IDLE_LIMIT };
    loop {
        // The handshake may have been longer than the epoch.
        let epoch = epochs.borrow_and_update().clone();
        let is_welcome =
            if mode == Mode::Maintenance { epoch.mode == mode } else { epoch.knows(mode, chain) };
        let is_expired = until.is_some_and(|until| OffsetDateTime::now_utc().unix_timestamp() > until);
        let is_idle = session.streams.load(Ordering::Relaxed) == 0
            && session.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > idle_limit;
        let is_old = mode == Mode::Maintenance && begun.elapsed() > MAINTENANCE_LIMIT;
        if !is_welcome || is_expired || is_idle || is_old {
            return;
        }
        tokio::select! {
            changed = epochs.changed() => if changed.is_err() { return },
            () = sleep(PING) => {}
        }
    }
}

/// Runs the streams of a connection, each as a task of its own that ends when its reader has stopped.
#[derive(Clone)]
struct Streams(Arc<Session>);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let session = self.0.clone();
        session.streams.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(session.clone());
        let progress = Arc::new(Progress::default());
        tokio::spawn(PROGRESS.scope(progress.clone(), async move {
            let mut over = session.over.subscribe();
            tokio::select! {
                _ = stream => {}
                () = progress.stalled() => {}
                // After the last words the connection is gone; what is left is only a task.
                () = async {
                    drop(over.wait_for(|over| *over).await);
                    sleep(session.last_words).await;
                } => {}
            }
            drop(counted);
        }));
    }
}

/// A stream that is counted until this is dropped.
struct Counted(Arc<Session>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

tokio::task_local! {
    /// Of the stream whose task this is.
    static PROGRESS: Arc<Progress>;
}

/// Since when a piece of an answer has been given that nobody has asked to continue: hyper asks for the next one when
/// the reader has taken all that came before this one, and has room for its first byte.
#[derive(Debug, Default)]
struct Progress(Mutex<Option<Instant>>);

impl Progress {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    async fn stalled(&self) {
        loop {
            sleep(STALL_LIMIT / 4).await;
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_some_and(|since| since.elapsed() > STALL_LIMIT) {
                return;
            }
        }
    }
}

/// A call that counts among those of its address until this is dropped.
#[derive(Debug)]
pub(super) struct Call {
    session: Arc<Session>,
    content: bool,
}

impl Call {
    /// None: its address has too many. `content`: it reads a log, a list or a file.
    pub(super) fn begin(session: &Arc<Session>, content: bool) -> Option<Self> {
        session.place.begin_call(content).then(|| Self { session: session.clone(), content })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.session.place.end_call(self.content);
    }
}

/// The body of an answer, in pieces, watched for readers that have stopped; with it the call ends.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    /// Of the message that is being given.
    rest: Pieces,
    _call: Option<Call>,
    _scale: Scale,
}

impl Watched {
    pub(super) fn new(body: Body, call: Option<Call>, scale: Scale) -> Self {
        Self { body, rest: Pieces::default(), _call: call, _scale: scale }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.rest.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let frame = match frame.into_data() {
            Ok(message) => {
                self.rest = Pieces::new(message);
                Frame::data(self.rest.next().unwrap_or_default())
            }
            Err(trailers) => trailers,
        };
        Poll::Ready(Some(Ok(frame)))
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = self.poll_piece(context);
        let since = matches!(frame, Poll::Ready(Some(_))).then(Instant::now);
        // Outside of a stream's task nobody watches.
        PROGRESS.try_with(|progress| progress.set(since)).ok();
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.bytes() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.bytes() as u64, self.body.size_hint());
        let (least, most) = (hint.lower(), hint.upper());
        // The upper end first: it may never be below the lower one.
        if let Some(most) = most {
            hint.set_upper(most.saturating_add(rest));
        }
        hint.set_lower(least.saturating_add(rest));
        hint
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
