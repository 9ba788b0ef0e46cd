//! The ends of connections and streams, by a clock that does not wait.

use super::super::limits::Limits;
use super::super::upstream::Upstream;
use super::*;
use crate::node::Setup;
use crate::places::Places;
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
