//! From an address to a TLS connection on which the node has proved who it is, and to a gRPC channel over it.

use super::wire::{Heard, Listened};
use crate::fault::{self, Asker, Fault};
use crate::say;
use hyper_util::rt::TokioIo;
use podium_podiumctl::endpoint::Endpoint;
use podium_podiumctl::pki;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Uri};
use tower::service_fn;

/// A node on the other side of the world answers within this; one that does not is down or behind a firewall.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How often a silent connection is asked whether it lives: a followed log may be silent for hours, and a node whose
/// power was cut says nothing.
const ALIVE_EVERY: Duration = Duration::from_secs(20);
/// A connection that does not answer that for so long is gone.
const ALIVE_LIMIT: Duration = Duration::from_secs(10);

/// How nodes are dialled: the same for all of one command.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) asker: Asker,
    /// With --insecure: keys that are accepted; none: any.
    pub(super) fingerprints: Vec<String>,
    /// The fingerprint of a node that is not pinned is said once.
    pub(super) said: AtomicBool,
}

impl Dialer {
    /// A channel to the first of these that can be reached.
    ///
    /// # Errors
    /// Why none can.
    pub(super) async fn channel(self: &Arc<Self>, endpoints: &[Endpoint]) -> Result<(Channel, Heard), Fault> {
        let mut last = Fault::new("there is no endpoint");
        for endpoint in endpoints {
            match self.one(endpoint).await {
                Ok(channel) => return Ok(channel),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn one(self: &Arc<Self>, endpoint: &Endpoint) -> Result<(Channel, Heard), Fault> {
        let place = endpoint.to_string();
        let uri = |scheme: &str| {
            format!("{scheme}://{place}")
                .parse::<Uri>()
                .map_err(|error| Fault::new(format!("{place}: {error}")))
        };
        let channel = Channel::builder(uri("http")?)
            .origin(uri("https")?)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_LIMIT)
            .keep_alive_while_idle(true);
        let heard = Heard::default();
        let (dialer, endpoint, kept) = (Arc::clone(self), endpoint.clone(), heard.clone());
        let connector = service_fn(move |_: Uri| {
            let (dialer, endpoint, heard) = (Arc::clone(&dialer), endpoint.clone(), kept.clone());
            async move {
                let stream = dialer.stream(&endpoint).await;
                stream.map(|stream| TokioIo::new(Listened::new(stream, heard))).map_err(std::io::Error::other)
            }
        });
        channel
            .connect_with_connector(connector)
            .await
            .map(|channel| (channel, heard))
            .map_err(|error| fault::of_transport(&place, &error, &self.asker))
    }

    async fn stream(&self, endpoint: &Endpoint) -> Result<TlsStream<TcpStream>, Fault> {
        let place = endpoint.to_string();
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let tcp = timeout(CONNECT_LIMIT, connect).await.unwrap_or_else(|_| Err(late()));
        let tcp = tcp.map_err(|error| fault::of_connect(endpoint, &error))?;
        // Small requests, each waits for its answer.
        tcp.set_nodelay(true).map_err(|error| fault::of_connect(endpoint, &error))?;
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| Fault::new(format!("{place}: {:?} is no name of a server", endpoint.host)))?;
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp);
        let tls = timeout(CONNECT_LIMIT, handshake).await.unwrap_or_else(|_| Err(late()));
        let tls = tls.map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => fault::of_connect(endpoint, &error),
            _ => fault::of_transport(&place, &error, &self.asker),
        })?;
        if self.asker.insecure {
            self.compare(&place, &tls)?;
        }
        Ok(tls)
    }

    /// Before anything is sent: is it the node whose fingerprint was read from its console?
    fn compare(&self, place: &str, tls: &TlsStream<TcpStream>) -> Result<(), Fault> {
        let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate =
            certificates.first().ok_or_else(|| Fault::new(format!("{place}: has no certificate")))?;
        let seen = pki::fingerprint(certificate).map_err(|error| Fault::new(format!("{place}: {error}")))?;
        if self.fingerprints.is_empty() {
            if !self.said.swap(true, Ordering::Relaxed) {
                say::note(&format!(
                    "{place}: fingerprint {seen} (not checked; compare it with the node's console and give it by --cert-fingerprint)"
                ));
            }
            return Ok(());
        }
        if self.fingerprints.contains(&seen) {
            return Ok(());
        }
        Err(Fault::new(format!("{place}: its fingerprint is {seen}, which is none of --cert-fingerprint"))
            .remedy("read the fingerprint on the node's console; if it differs from this one, something stands between you and the node"))
    }
}
