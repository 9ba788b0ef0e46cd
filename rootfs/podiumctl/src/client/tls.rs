//! TLS of a connection: who the node must be and who we are.
//!
//! With a talosconfig both ends prove themselves by the CA. With --insecure the node's certificate is taken as it is;
//! its key may be pinned by a fingerprint, which `dial.rs` compares before anything is sent. TLS 1.3 alone.

use crate::fault::Fault;
use podium_podiumctl::talosconfig::Credentials;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// For a node whose CA is known.
///
/// # Errors
/// Which part of the context cannot be used.
pub(super) fn mutual(credentials: &Credentials, context: &str) -> Result<ClientConfig, Fault> {
    let broken = |what: String| {
        Fault::new(format!("context {context}: {what}")).remedy(
            "take the talosconfig that was made with the node's CA, or make a new one: podiumctl config new --from MACHINECONFIG",
        )
    };
    let ca = credentials.ca.as_ref().ok_or_else(|| broken("has no ca".to_owned()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| broken(format!("its ca: {error}")))?;
        roots.add(certificate).map_err(|error| broken(format!("its ca: {error}")))?;
    }
    let builder = builder().map_err(|error| broken(error.to_string()))?.with_root_certificates(roots);
    let mut config = match (&credentials.crt, &credentials.key) {
        (Some(crt), Some(key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(crt.as_bytes()).collect();
            let chain = chain.map_err(|error| broken(format!("its crt: {error}")))?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| broken(format!("its key: {error}")))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| broken(error.to_string()))?
        }
        _ => return Err(broken("has no crt and key".to_owned())),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// For a node in maintenance mode: any certificate.
///
/// # Errors
/// When the library cannot do TLS 1.3.
pub(super) fn insecure() -> Result<ClientConfig, Fault> {
    let builder = builder().map_err(|error| Fault::new(error.to_string()))?;
    let verifier = Arc::new(Anybody(ring::default_provider()));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
}

/// Takes any certificate, but the other end must have its key.
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_of_a_broken_context_does_not_need_the_context() {
        let credentials = Credentials { ca: None, crt: None, key: None };
        let fault = mutual(&credentials, "home").unwrap_err();
        assert_eq!(fault.what, "context home: has no ca");
        assert!(fault.remedy.unwrap().ends_with("podiumctl config new --from MACHINECONFIG"));
    }
}
