//! The ends of connections and streams, by a clock that does not wait.

use super::super::limits::Limits;
use super::super::upstream::Upstream;
use super::super::weight;
use super::*;
use crate::node::Setup;
use crate::places::Places;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2 as client;
use hyper::http::{HeaderMap, Request, Response};
use hyper_util::rt::TokioExecutor;
use std::path::Path;
use tokio::net::TcpListener;

const PEER: &str = "192.0.2.1:5000";

fn facts() -> Arc<Facts> {
    let places = Places::below(Some(Path::new("/no/such/root")));
    let upstream = Upstream::new(&places);
    let (_, setup) = watch::channel(Arc::new(Setup::default()));
    Arc::new(Facts::new(places, upstream, setup))
}

fn place() -> Place {
    let peer: SocketAddr = PEER.parse().unwrap();
    Limits::default().enter(peer.ip(), true).unwrap()
}

fn session() -> Session {
    Session {
        caller: Caller::anybody(PEER.parse().unwrap()),
        place: place(),
        facts: facts(),
        over: watch::Sender::new(false),
        local: None,
        last_words: LAST_WORDS,
        streams: AtomicUsize::new(0),
        used: Mutex::new(Instant::now()),
    }
}

/// After how long a connection with that certificate's end comes to its own.
async fn ends_after(session: &Session, until: Option<i64>) -> Duration {
    let epoch = Epoch::without_cas(Mode::Maintenance);
    let epochs = watch::Sender::new(Arc::new(epoch));
    let begun = Instant::now();
    end(Mode::Maintenance, until, &[], &mut epochs.subscribe(), session).await;
    begun.elapsed()
}

/// It is looked for that often.
fn is_about(took: Duration, limit: Duration) -> bool {
    (limit..=limit + PING).contains(&took)
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_call_ends_and_one_with_a_call_goes_on() {
    let took = ends_after(&session(), None).await;
    assert!(is_about(took, MAINTENANCE_IDLE_LIMIT), "{took:?}");
    let busy = session();
    busy.streams.store(1, Ordering::Relaxed);
    let took = ends_after(&busy, None).await;
    assert!(is_about(took, MAINTENANCE_LIMIT), "in maintenance nobody stays for ever: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_clients_certificate() {
    let busy = session();
    busy.streams.store(1, Ordering::Relaxed);
    let now = OffsetDateTime::now_utc().unix_timestamp();
    assert_eq!(ends_after(&busy, Some(now - 1)).await, Duration::ZERO);
    let took = ends_after(&busy, Some(now + 86_400)).await;
    assert!(is_about(took, MAINTENANCE_LIMIT), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_the_mode_it_came_in() {
    let session = session();
    let epochs = watch::Sender::new(Arc::new(Epoch::without_cas(Mode::Maintenance)));
    let mut seen = epochs.subscribe();
    let mut ended = std::pin::pin!(end(Mode::Maintenance, None, &[], &mut seen, &session));
    assert!(timeout(PING, ended.as_mut()).await.is_err());
    epochs.send_replace(Arc::new(Epoch::without_cas(Mode::Serving)));
    timeout(Duration::from_millis(1), ended).await.expect("at once");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_reader_takes_nothing_is_given_up() {
    let progress = Progress::default();
    let patience = STALL_LIMIT * 10;
    assert!(timeout(patience, progress.stalled()).await.is_err(), "nothing was given yet");
    let begun = Instant::now();
    progress.set(Some(begun));
    timeout(patience, progress.stalled()).await.expect("its end");
    let took = begun.elapsed();
    assert!((STALL_LIMIT..=STALL_LIMIT * 3 / 2).contains(&took), "{took:?}");
    progress.set(None);
    assert!(timeout(patience, progress.stalled()).await.is_err(), "it was asked for more");
}

/// An answer of one message, as a call has it.
fn answer(message: &Bytes, call: Option<Call>) -> Watched {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let body = Full::new(message.clone()).with_trailers(async { Some(Ok(trailers)) });
    Watched::new(Body::new(body), call, Scale::new(weight::room(), [192, 0, 2, 1].into()))
}

#[tokio::test]
async fn an_answer_comes_in_pieces_and_its_trailers_last() {
    let message = Bytes::from(vec![7; 100_000]);
    let mut answer = answer(&message, None);
    let mut taken = Vec::new();
    let trailers = loop {
        let left = (message.len() - taken.len()) as u64;
        assert_eq!(answer.size_hint().exact(), Some(left));
        assert!(!answer.is_end_stream());
        match answer.frame().await.unwrap().unwrap().into_data() {
            Ok(piece) => taken.extend_from_slice(&piece),
            Err(trailers) => break trailers,
        }
    };
    assert!(trailers.is_trailers() && taken == message);
    assert!(answer.frame().await.is_none());
}

/// Serves calls that count, each with an answer of so many bytes.
fn answers(session: &Arc<Session>, stream: tokio::io::DuplexStream, size: usize) {
    let message = Bytes::from(vec![7; size]);
    let served = session.clone();
    let service = service_fn(move |_| {
        let answer = answer(&message, Call::begin(&served, true));
        async { Ok::<_, Infallible>(Response::new(answer)) }
    });
    tokio::spawn(protocol(session).serve_connection(TokioIo::new(stream), service));
}

/// Whether its address has as many calls as it may.
fn is_full(session: &Arc<Session>) -> bool {
    Call::begin(session, true).is_none()
}

fn request() -> Request<Full<Bytes>> {
    Request::new(Full::default())
}

/// HTTP/2 lets a client have a window of one byte, by which h2 takes whatever it is given next.
#[tokio::test(start_paused = true)]
async fn calls_whose_reader_has_room_for_one_byte_count_until_they_are_given_up() {
    let session = Arc::new(session());
    let (near, far) = tokio::io::duplex(1 << 20);
    answers(&session, far, 1 << 10);
    let mut builder = client::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let (mut sender, connection) = builder.handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let mut unread = Vec::new();
    while !is_full(&session) {
        assert!(unread.len() < 64, "as many as it likes");
        unread.push(sender.send_request(request()).await.unwrap());
        sleep(Duration::from_millis(1)).await;
    }
    sleep(STALL_LIMIT - Duration::from_secs(1)).await;
    assert!(is_full(&session), "they count while they are borne");
    sleep(STALL_LIMIT).await;
    assert!(!is_full(&session), "and no longer");
    for answer in unread {
        assert!(answer.into_body().collect().await.is_err(), "half an answer does not look whole");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_on_a_connection_that_nobody_reads_count_until_it_ends() {
    let session = Arc::new(session());
    let (near, far) = tokio::io::duplex(16 << 10);
    answers(&session, far, 60 << 10);
    let (_unread, writes) = tokio::io::split(near);
    let (silent, _far_end) = tokio::io::duplex(1);
    let io = TokioIo::new(tokio::io::join(silent, writes));
    let (mut sender, connection) = client::Builder::new(TokioExecutor::new()).handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut unread = Vec::new();
    while !is_full(&session) {
        assert!(unread.len() < 64, "as many as it likes");
        unread.push(tokio::spawn(sender.send_request(request())));
        sleep(Duration::from_millis(1)).await;
    }
    sleep(PING - Duration::from_secs(1)).await;
    assert!(is_full(&session), "their answers are not on their way");
    sleep(STALL_LIMIT * 2).await;
    assert!(!is_full(&session), "and no longer");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_to_its_end_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
    let config = config.with_cert_resolver(Arc::new(Nobody));
    let epochs = watch::Sender::new(Arc::new(Epoch::without_cas(Mode::Maintenance)));
    let begun = Instant::now();
    run(stream, peer, Arc::new(config), place(), epochs.subscribe(), facts()).await;
    assert_eq!(begun.elapsed().as_secs(), HANDSHAKE_LIMIT.as_secs());
    drop(silent);
}

#[derive(Debug)]
struct Nobody;

impl rustls::server::ResolvesServerCert for Nobody {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}
