//! TLS 1.3, and who may speak it: the server's certificate and the CAs whose clients are let in, both renewed live.
//!
//! A renewed certificate is shown to the next client and touches no connection. Another mode or other CAs begin a new
//! [`Epoch`]: connections of an earlier one end unless the new CAs know their client as well. Sessions are never
//! resumed, since that would let in a client by what an earlier epoch thought of it.

use super::upstream::{Target, Upstream};
use crate::node::{Mode, Setup, san};
use crate::say;
use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::sleep;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Between looks at the clock, which may jump when the node learns the time.
const LOOK: Duration = Duration::from_secs(60);
/// Before the next attempt to get a certificate.
const AGAIN: Duration = Duration::from_secs(1);
/// A self-signed certificate lives as long as the node has no config; its end protects nothing.
const MAINTENANCE_YEARS: i64 = 10;

/// What holds for connections that begin now.
#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) mode: Mode,
    cas: Vec<String>,
    /// None: nobody is let in.
    pub(super) config: Option<Arc<ServerConfig>>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Epoch {
    /// One that lets nobody in.
    pub(super) fn without_cas(mode: Mode) -> Self {
        Self { mode, cas: Vec::new(), config: None, verifier: None }
    }

    /// Whether a client that an earlier epoch let in by this chain is still welcome.
    pub(super) fn knows(&self, mode: Mode, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(verifier), Some((leaf, rest))) = (&self.verifier, chain.split_first()) else {
            return false;
        };
        self.mode == mode && verifier.verify_client_cert(leaf, rest, UnixTime::now()).is_ok()
    }
}

/// The server's certificate; shared with all configs.
#[derive(Debug, Default)]
struct Shown(RwLock<Option<Current>>);

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    from: i64,
    until: i64,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|current| current.key.clone())
    }
}

/// The server as its clients know it. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    upstream: Upstream,
    setup: watch::Receiver<Arc<Setup>>,
    epoch: Arc<watch::Sender<Arc<Epoch>>>,
    shown: Arc<Shown>,
    /// Of a node without a config: whoever has read the fingerprint finds it again, also when the addresses change.
    maintenance: Arc<KeyPair>,
}

impl Identity {
    /// Lets nobody in until [`Self::renew`].
    ///
    /// # Errors
    /// There are no random numbers.
    pub(super) fn new(upstream: Upstream, setup: watch::Receiver<Arc<Setup>>) -> Result<Self> {
        let closed = Epoch::without_cas(Mode::Off);
        let epoch = Arc::new(watch::Sender::new(Arc::new(closed)));
        let maintenance = Arc::new(KeyPair::generate().context("make a key")?);
        Ok(Self { upstream, setup, epoch, shown: Arc::default(), maintenance })
    }

    /// What holds now, and word of what comes.
    pub(super) fn epoch(&self) -> watch::Receiver<Arc<Epoch>> {
        self.epoch.subscribe()
    }

    /// Follows the setup, and renews the certificate at half of its time.
    pub(super) async fn keep(&self) {
        let mut setup = self.setup.clone();
        let mut served = Some(setup.borrow_and_update().clone());
        loop {
            tokio::select! {
                changed = setup.changed() => if changed.is_err() { return std::future::pending().await },
                () = sleep(LOOK) => {}
            }
            let now = setup.borrow_and_update().clone();
            if served.as_ref() == Some(&now) && !self.is_half_over() {
                continue;
            }
            // What is served from here on is known again once all of it is.
            served = None;
            tokio::select! {
                renewed = self.renew() => match renewed {
                    Ok(()) => served = Some(now),
                    Err(error) => {
                        say_unusable(&error);
                        sleep(AGAIN).await;
                        setup.mark_changed();
                    }
                },
                // Whoever is shut out by it must not stay while a helper does not answer.
                changed = async { setup.clone().changed().await } => if changed.is_ok() { setup.mark_changed() },
            }
        }
    }

    /// Makes epoch and certificate what the setup says. Who is not welcome any more is out before this waits.
    pub(super) async fn renew(&self) -> Result<()> {
        let setup = self.setup.borrow().clone();
        let before = self.epoch.borrow().clone();
        if before.mode != setup.mode || before.cas != setup.cas {
            if before.mode != setup.mode {
                *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = None;
            }
            let epoch = epoch(&setup, self.shown.clone()).unwrap_or_else(|error| {
                say::line(&format!("machine.ca: {error:#}; nobody is let in"));
                Epoch { mode: setup.mode, cas: setup.cas.clone(), config: None, verifier: None }
            });
            self.epoch.send_replace(Arc::new(epoch));
        }
        let current = match setup.mode {
            Mode::Off => return Ok(()),
            Mode::Maintenance => current(&self_signed(&setup, &self.maintenance)?, &self.maintenance)?,
            Mode::Serving => {
                let key = KeyPair::generate().context("make a key")?;
                current(&self.signed(&key).await?, &key)?
            }
        };
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
        Ok(())
    }

    async fn signed(&self, key: &KeyPair) -> Result<String> {
        let csr = CertificateParams::default().serialize_request(key).context("make a request")?.pem()?;
        let request = json!({"request": "certificate", "csr": csr});
        let answer =
            self.upstream.ask(Target::NodeReader, &request).await.map_err(|error| anyhow!("{error}"))?;
        let chain = answer.get("chain").and_then(Value::as_str).context("the answer has no certificate")?;
        Ok(chain.to_owned())
    }

    fn is_half_over(&self) -> bool {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let current = self.shown.0.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_none_or(|current| now < current.from || now > (current.from + current.until) / 2)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn epoch(setup: &Setup, shown: Arc<Shown>) -> Result<Epoch> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let (verifier, builder) = match setup.mode {
        Mode::Off => (None, None),
        Mode::Maintenance => (None, Some(builder.with_no_client_auth())),
        Mode::Serving => {
            let mut roots = RootCertStore::empty();
            for (place, pem) in setup.cas.iter().enumerate() {
                // One that cannot be used lets nobody in; that is no reason to shut out the clients of the others.
                if let Err(error) = add(&mut roots, pem) {
                    let which = match place.checked_sub(1) {
                        None => "machine.ca.crt".to_owned(),
                        Some(place) => format!("machine.acceptedCAs[{place}].crt"),
                    };
                    say::line(&format!("{which}: {error:#}; none of its clients is let in; mend it"));
                }
            }
            ensure!(!roots.is_empty(), "there is no certificate in it");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
            (Some(verifier.clone()), Some(builder.with_client_cert_verifier(verifier)))
        }
    };
    let config = builder.map(|builder| {
        let mut config = builder.with_cert_resolver(shown);
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Arc::new(config)
    });
    Ok(Epoch { mode: setup.mode, cas: setup.cas.clone(), config, verifier })
}

/// On the console too: without a certificate nobody gets in who could read it elsewhere.
pub(super) fn say_unusable(error: &anyhow::Error) {
    let text = format!("certificate: {error:#}; nobody gets in");
    say::line(&text);
    say::status(&text);
}

/// All certificates of a PEM, or none.
fn add(roots: &mut RootCertStore, pem: &str) -> Result<()> {
    ensure!(!pem.is_empty(), "it is not base64 of PEM");
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|error| anyhow!("{error}"))?;
    ensure!(!all.is_empty(), "there is no certificate in it");
    let mut more = RootCertStore::empty();
    all.into_iter().try_for_each(|certificate| more.add(certificate))?;
    roots.roots.append(&mut more.roots);
    Ok(())
}

/// For a node without a config. Its fingerprint is said where only who stands at the machine sees it.
fn self_signed(setup: &Setup, key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "podium maintenance");
    params.subject_alt_names = setup.sans.iter().filter_map(|name| san(name)).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::hours(24);
    params.not_after = now + time::Duration::days(365 * MAINTENANCE_YEARS);
    let chain = params.self_signed(key).context("make a certificate")?.pem();
    let der = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(|error| anyhow!("{error}"))?;
    let (_, parsed) = X509Certificate::from_der(&der)?;
    let fingerprint = STANDARD.encode(Sha256::digest(parsed.public_key().raw));
    let text = format!("there is no config; give one with --insecure --cert-fingerprint {fingerprint}");
    say::line(&text);
    say::status(&text);
    Ok(chain)
}

fn current(chain: &str, key: &KeyPair) -> Result<Current> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.map_err(|error| anyhow!("{error}"))?;
    let (_, leaf) = X509Certificate::from_der(chain.first().context("no certificate")?)?;
    let validity = leaf.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow!("{error}"))?;
    let key = ring::sign::any_supported_type(&private)?;
    Ok(Current { key: Arc::new(CertifiedKey::new(chain, key)), from, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with a certificate that holds from and until so many seconds from now.
    fn showing(from: i64, until: i64) -> Identity {
        let (_, setup) = watch::channel(Arc::new(Setup::default()));
        let places = crate::places::Places::below(Some(std::path::Path::new("/no/such/root")));
        let identity = Identity::new(Upstream::new(&places), setup).unwrap();
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::now_utc();
        params.not_before = now + time::Duration::seconds(from);
        params.not_after = now + time::Duration::seconds(until);
        let chain = params.self_signed(&*identity.maintenance).unwrap().pem();
        let shown = current(&chain, &identity.maintenance).unwrap();
        *identity.shown.0.write().unwrap() = Some(shown);
        identity
    }

    #[tokio::test]
    async fn a_certificate_is_renewed_at_half_of_its_time_and_when_the_clock_was_set_back() {
        const HOUR: i64 = 3600;
        assert!(!showing(-HOUR, 23 * HOUR).is_half_over(), "as it is made: an hour back, a day ahead");
        assert!(!showing(-11 * HOUR, 12 * HOUR).is_half_over());
        assert!(showing(-12 * HOUR, 11 * HOUR).is_half_over());
        assert!(showing(-25 * HOUR, -HOUR).is_half_over(), "its end is over");
        assert!(showing(HOUR, 25 * HOUR).is_half_over(), "it does not hold yet");
        let none = showing(-HOUR, HOUR);
        *none.shown.0.write().unwrap() = None;
        assert!(none.is_half_over(), "there is none");
    }
}
