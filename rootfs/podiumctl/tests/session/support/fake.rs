//! The fake as a peer in the network: its TLS, and whether it takes connections, which is how a node shows from outside
//! that it goes down and comes back.

use super::fixed;
use super::service::{After, Node, Order, Seen};
use podium_podiumctl::pki::{self, Pair};
use podium_podiumctl::talosconfig::{Context, Talosconfig, encode};
use podium_wire::cosi::state_server::StateServer;
use podium_wire::machine::machine_service_server::MachineServiceServer;
use podium_wire::roles::Role;
use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// A node; it lives as long as this.
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) fingerprint: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    _runtime: tokio::runtime::Runtime,
}

/// A machine CA.
pub(crate) fn new_ca() -> Pair {
    pki::new_ca(OffsetDateTime::now_utc()).unwrap()
}

pub(crate) fn talosconfig(ca: &Pair, role: Role, endpoints: &[String]) -> String {
    let client = pki::new_client(ca, role, OffsetDateTime::now_utc(), Duration::from_secs(3600)).unwrap();
    let context = Context {
        endpoints: endpoints.to_vec(),
        ca: encode(&ca.crt),
        crt: encode(&client.crt),
        key: encode(&client.key),
        ..Context::default()
    };
    let contexts = [("home".to_owned(), context)].into();
    Talosconfig { context: "home".into(), contexts, ..Talosconfig::default() }.to_text().unwrap()
}

impl Fake {
    /// Serves with mutual TLS under this CA, or in maintenance mode.
    pub(crate) fn start(ca: Option<&Pair>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tls, fingerprint) = tls(ca);
        let seen = Arc::new(Mutex::new(Seen { config: fixed::CONFIG.to_owned(), ..Seen::default() }));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let node = Node(Arc::clone(&seen), watch::Sender::new(Order::default()));
        runtime.spawn(live(listener, tls, node));
        Self { address, fingerprint, seen, _runtime: runtime }
    }
}

/// From boot to boot.
async fn live(listener: TcpListener, mut config: ServerConfig, node: Node) {
    loop {
        serve(&listener, config.clone(), &node).await;
        let after = node.0.lock().unwrap().after;
        let looks = match after {
            After::Silence => u32::MAX,
            After::Same(looks) | After::Maintenance(looks) => looks,
        };
        for _ in 0..looks {
            drop(listener.accept().await);
        }
        if matches!(after, After::Maintenance(_)) {
            config = tls(None).0;
        }
        node.0.lock().unwrap().boots += 1;
        node.1.send_replace(Order::default());
    }
}

/// Until it is told to end.
async fn serve(listener: &TcpListener, config: ServerConfig, node: &Node) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (sender, receiver) = mpsc::channel(8);
    let accept = async {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    drop(sender.send(Ok::<_, io::Error>(Peer(tls))).await);
                }
            });
        }
    };
    let mut orders = node.1.subscribe();
    let end = async move { drop(orders.wait_for(|order| order.ends()).await) };
    let server = Server::builder()
        .add_service(MachineServiceServer::new(node.clone()))
        .add_service(StateServer::new(node.clone()))
        .serve_with_incoming_shutdown(ReceiverStream::new(receiver), end);
    // What is under way comes to its end: the answer to the order, and the events that tell of it.
    tokio::select! {
        _ = server => {}
        () = accept => {}
    }
}

fn tls(ca: Option<&Pair>) -> (ServerConfig, String) {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let (builder, certificate) = match ca {
        Some(ca) => {
            let issuer = Issuer::from_ca_cert_pem(&ca.crt, KeyPair::from_pem(&ca.key).unwrap()).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.crt.as_bytes()).unwrap()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            (builder.with_client_cert_verifier(verifier), params.signed_by(&key, &issuer).unwrap())
        }
        None => (builder.with_no_client_auth(), params.self_signed(&key).unwrap()),
    };
    let der = certificate.der().clone();
    let fingerprint = pki::fingerprint(&der).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![der], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (config, fingerprint)
}

/// A client's connection, with its role.
struct Peer(TlsStream<TcpStream>);

impl Connected for Peer {
    type ConnectInfo = Option<Role>;

    fn connect_info(&self) -> Option<Role> {
        let certificates = self.0.get_ref().1.peer_certificates()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&certificates[0]).ok()?;
        Role::of(certificate.subject().iter_organization().filter_map(|name| name.as_str().ok()))
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
