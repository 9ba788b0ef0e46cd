//! A client over real TLS.

use crate::authority::{Authority, Identity};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::uri::PathAndQuery;
use hyper::http::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use podium_wire::cosi::state_client::StateClient;
use podium_wire::machine::machine_service_client::MachineServiceClient;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

/// For what happens within milliseconds on an idle host.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Channel(SendRequest<Body>);

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Channel {
    /// As this client, of a server that this CA has signed for.
    pub(crate) async fn connect(
        address: SocketAddr,
        ca: &Authority,
        identity: Option<Identity>,
    ) -> Result<Self, String> {
        Self::over(stream(address, config(Some(ca), identity, &TLS13)).await?, None).await
    }

    /// As [`Self::connect`], with room for so many bytes of each answer that it does not read.
    pub(crate) async fn narrow(
        address: SocketAddr,
        ca: &Authority,
        identity: Identity,
        window: u32,
    ) -> Result<Self, String> {
        Self::over(stream(address, config(Some(ca), Some(identity), &TLS13)).await?, Some(window)).await
    }

    /// As [`Self::connect`], from another address.
    pub(crate) async fn connect_from(
        local: SocketAddr,
        address: SocketAddr,
        ca: &Authority,
        identity: Identity,
    ) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(local).unwrap();
        let stream = socket.connect(address).await.map_err(|error| error.to_string())?;
        Self::over(shake(stream, config(Some(ca), Some(identity), &TLS13)).await?, None).await
    }

    /// Whoever the server is.
    pub(crate) async fn insecure(address: SocketAddr) -> Result<Self, String> {
        Self::over(stream(address, config(None, None, &TLS13)).await?, None).await
    }

    async fn over(stream: TlsStream<TcpStream>, window: Option<u32>) -> Result<Self, String> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut channel = Self(sender);
        // A client's certificate is refused after its own handshake is over.
        let version = channel.call_empty("/machine.MachineService/Version", &[]).await;
        match version {
            Err(status) if status.code() != tonic::Code::PermissionDenied => Err(format!("{status:?}")),
            _ => Ok(channel),
        }
    }

    pub(crate) fn machine(&self) -> MachineServiceClient<Self> {
        MachineServiceClient::with_origin(self.clone(), origin()).max_decoding_message_size(32 << 20)
    }

    pub(crate) fn state(&self) -> StateClient<Self> {
        StateClient::with_origin(self.clone(), origin())
    }

    /// Any method with an empty request: its first message, or its status.
    pub(crate) async fn call_empty(
        &mut self,
        path: &'static str,
        metadata: &[(&'static str, &str)],
    ) -> Result<(), Status> {
        let mut grpc = tonic::client::Grpc::with_origin(self.clone(), origin());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let mut request = tonic::Request::new(());
        for (key, value) in metadata {
            request.metadata_mut().append(*key, value.parse().unwrap());
        }
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let call = grpc.server_streaming(request, PathAndQuery::from_static(path), codec);
        let answer = timeout(LIMIT, call).await.expect("an answer")?;
        timeout(LIMIT, answer.into_inner().message()).await.expect("a message").map(|_| ())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Returns when the server has closed.
    pub(crate) async fn closed(&self) {
        let closed = async {
            while !self.is_closed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, closed).await.expect("the connection ends");
    }
}

fn origin() -> Uri {
    Uri::from_static("https://localhost")
}

/// A TLS connection, for those who speak something else on it.
pub(crate) async fn stream(
    address: SocketAddr,
    config: ClientConfig,
) -> Result<TlsStream<TcpStream>, String> {
    shake(TcpStream::connect(address).await.map_err(|error| error.to_string())?, config).await
}

async fn shake(stream: TcpStream, config: ClientConfig) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(LIMIT, connecting).await.expect("a handshake").map_err(|error| error.to_string())
}

pub(crate) fn config(
    ca: Option<&Authority>,
    identity: Option<Identity>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let builder = match ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
            builder.with_root_certificates(roots)
        }
        None => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(ring::default_provider())))
        }
    };
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub(crate) fn tls12(ca: &Authority, identity: Identity) -> ClientConfig {
    config(Some(ca), Some(identity), &TLS12)
}

#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
