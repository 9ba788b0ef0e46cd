//! A CA: made, stored as `ca.crt` and `ca.key`, loaded and checked, and what it signs.
//!
//! ECDSA on P-256, which every kubelet from 1.20 on knows. What the certificate says is fixed, so that only the key
//! must be read back to sign; that both belong together is checked by signing a certificate and verifying it.

use crate::files;
use anyhow::{Context, Result, anyhow, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use std::path::Path;
use std::sync::Arc;

/// The certificate.
const CERTIFICATE: &str = "ca.crt";
/// Its key. Written first: a certificate without its key would be taken for damage, a key without one as well.
const KEY: &str = "ca.key";
/// Ends the name of what was set aside; what was set aside before is replaced.
const DAMAGED: &str = ".damaged";
/// A certificate or key has less than a KiB.
const FILE_MAX: u64 = 64 << 10;

/// What a certificate is for.
#[derive(Debug)]
pub(super) enum Role {
    /// Shown by a server, reached by these names.
    Server {
        /// Common name.
        name: &'static str,
        /// Subject alternative names.
        addresses: Vec<SanType>,
    },
    /// Shown by a client.
    Client {
        /// Common name; the kubelet takes it for the user.
        name: &'static str,
        /// The kubelet takes it for a group.
        organization: &'static str,
    },
}

/// A CA with its key.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// A new one.
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a key")?;
        let certificate = subject().self_signed(&key).context("make the CA")?.pem();
        Ok(Self { issuer: Issuer::new(subject(), key), certificate })
    }

    /// The one in a folder; `None` when there is nothing of one.
    ///
    /// # Errors
    /// One of both files is missing, or they are no CA of ours.
    pub(super) fn load(folder: &Path) -> Result<Option<Self>> {
        let there = |name: &str| folder.join(name).symlink_metadata().is_ok();
        match (there(CERTIFICATE), there(KEY)) {
            (false, false) => return Ok(None),
            (true, false) => bail!("{KEY} is missing"),
            (false, true) => bail!("{CERTIFICATE} is missing"),
            (true, true) => {}
        }
        let read = |name: &str| {
            String::from_utf8(files::read(&folder.join(name), FILE_MAX)?).with_context(|| name.to_owned())
        };
        let key = KeyPair::from_pem(&read(KEY)?).context(KEY)?;
        let authority = Self { issuer: Issuer::new(subject(), key), certificate: read(CERTIFICATE)? };
        authority.check().context(CERTIFICATE)?;
        Ok(Some(authority))
    }

    /// Stores both files, each durably.
    pub(super) fn store(&self, folder: &Path) -> Result<()> {
        files::store(&folder.join(KEY), self.issuer.key().serialize_pem().as_bytes())?;
        files::store(&folder.join(CERTIFICATE), self.certificate.as_bytes())
    }

    /// Its certificate, as PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate and its key, as PEM.
    pub(super) fn issue(&self, role: &Role) -> Result<(String, String)> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a key")?;
        let certificate = leaf(role).signed_by(&key, &self.issuer).context("sign")?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Whether a client with a certificate of this key's is let in by who trusts this certificate.
    fn check(&self) -> Result<()> {
        let (probe, _) = self.issue(&Role::Client { name: "probe", organization: "probe" })?;
        let probe = CertificateDer::from_pem_slice(probe.as_bytes()).map_err(|error| anyhow!("{error}"))?;
        let anchor = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let mut roots = RootCertStore::empty();
        roots.add(anchor.map_err(|error| anyhow!("{error}"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        verifier.verify_client_cert(&probe, &[], UnixTime::now()).context("does not belong to its key")?;
        Ok(())
    }
}

/// Moves what is in the way of a new CA; where it is now, in words.
pub(super) fn set_aside(folder: &Path) -> Result<String> {
    for name in [CERTIFICATE, KEY] {
        let (from, to) = (folder.join(name), folder.join(format!("{name}{DAMAGED}")));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("move {}", from.display()));
            }
            _ => {}
        }
    }
    Ok(format!("{}/*{DAMAGED}", folder.display()))
}

/// What the CA's certificate says.
fn subject() -> CertificateParams {
    let mut params = always_valid();
    params.distinguished_name.push(DnType::CommonName, "podium node CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(role: &Role) -> CertificateParams {
    let mut params = always_valid();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    match role {
        Role::Server { name, addresses } => {
            params.distinguished_name.push(DnType::CommonName, *name);
            params.subject_alt_names.clone_from(addresses);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        Role::Client { name, organization } => {
            params.distinguished_name.push(DnType::CommonName, *name);
            params.distinguished_name.push(DnType::OrganizationName, *organization);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
    }
    params
}

/// See the reason at the top of `pki.rs`. 9999 is what RFC 5280 has for "no end".
fn always_valid() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}
