//! The kubelet's list of pods, over TLS with apid's certificate.
//!
//! One connection is kept and made anew when it breaks, with the certificates as they are then. An answer is bounded
//! in time and size, and of it only the fields of `api` are decoded.

pub(crate) mod api;

use crate::files;
use crate::places::Places;
use anyhow::{Context, Result, anyhow, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where the kubelet listens unless the config says otherwise.
pub(crate) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10250);
/// From the question to the last byte. A kubelet that starts a hundred pods under emulation takes a second; one that
/// is stopped takes for ever.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A pod of usual size has 5 KiB in the list, one of the largest 2 MiB.
const BODY_MAX: usize = 64 << 20;
/// A certificate or key has less than a KiB.
const PEM_MAX: u64 = 64 << 10;
/// The name in the kubelet's certificate, whatever its address is.
const NAME: &str = "localhost";

/// A client of one kubelet.
#[derive(Debug)]
pub(crate) struct Kubelet {
    places: Places,
    address: SocketAddr,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Kubelet {
    /// Connects when it is asked.
    pub(crate) fn new(places: Places, address: SocketAddr) -> Self {
        Self { places, address, connection: None }
    }

    /// Its pods, static ones and others.
    ///
    /// # Errors
    /// It cannot be reached, does not let us in, does not answer in time, or answers what is no list of pods.
    pub(crate) async fn pods(&mut self) -> Result<Vec<api::Pod>> {
        let answer = tokio::time::timeout(ANSWER_LIMIT, self.ask()).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", ANSWER_LIMIT.as_secs())));
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    async fn ask(&mut self) -> Result<Vec<api::Pod>> {
        let reused = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(mut connection) => Some(self.ask_on(&mut connection).await.map(|pods| (pods, connection))),
            None => None,
        };
        // One that was kept may have been closed meanwhile: that says nothing of the kubelet.
        let (pods, connection) = match reused {
            Some(Ok(answered)) => answered,
            Some(Err(_)) | None => {
                let mut connection = self.connect().await?;
                (self.ask_on(&mut connection).await?, connection)
            }
        };
        self.connection = Some(connection);
        Ok(pods)
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>> {
        let config = self.certificates().context("certificates")?;
        let stream =
            TcpStream::connect(self.address).await.with_context(|| format!("connect to {}", self.address))?;
        let name = ServerName::try_from(NAME)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("TLS")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("HTTP")?;
        // Its errors come back from the request.
        tokio::spawn(async { drop(connection.await) });
        Ok(sender)
    }

    fn certificates(&self) -> Result<ClientConfig> {
        let ca = CertificateDer::from_pem_slice(&files::read(&self.places.ca_cert(), PEM_MAX)?)
            .map_err(|error| anyhow!("CA: {error}"))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let (certificate, key) = self.places.apid();
        let certificate = CertificateDer::from_pem_slice(&files::read(&certificate, PEM_MAX)?)
            .map_err(|error| anyhow!("apid.crt: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(&files::read(&key, PEM_MAX)?)
            .map_err(|error| anyhow!("apid.key: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key)?)
    }

    async fn ask_on(&self, connection: &mut SendRequest<Empty<Bytes>>) -> Result<Vec<api::Pod>> {
        let request = Request::get("/pods").header("host", NAME).body(Empty::new())?;
        let answer = connection.send_request(request).await.context("ask")?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|error| anyhow!("read the list of pods: {error}"))?.to_bytes();
        ensure!(status == StatusCode::OK, "{status}: {}", first_line(&body));
        let list: api::PodList = serde_json::from_slice(&body).context("decode the list of pods")?;
        Ok(list.items)
    }
}

/// Of what an error page says.
fn first_line(body: &[u8]) -> String {
    String::from_utf8_lossy(body).lines().next().unwrap_or_default().chars().take(200).collect()
}
