//! A CA as `gen secrets` makes one, and what it signs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ED25519,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// As a config has it.
    pub(crate) fn with_key(&self) -> Value {
        let key = self.issuer.key().serialize_pem().replace("PRIVATE KEY", "ED25519 PRIVATE KEY");
        json!({"crt": STANDARD.encode(&self.pem), "key": STANDARD.encode(key)})
    }

    pub(crate) fn accepted(&self) -> Value {
        json!({"crt": STANDARD.encode(&self.pem)})
    }

    pub(crate) fn client(&self, organizations: &[&str]) -> Identity {
        let (now, usage) = (OffsetDateTime::now_utc(), ExtendedKeyUsagePurpose::ClientAuth);
        self.client_with(organizations, now - Duration::days(2), now + Duration::hours(1), usage)
    }

    pub(crate) fn client_with(
        &self,
        organizations: &[&str],
        from: OffsetDateTime,
        until: OffsetDateTime,
        usage: ExtendedKeyUsagePurpose,
    ) -> Identity {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "somebody");
        for name in organizations {
            params.distinguished_name.push(DnType::OrganizationName, *name);
        }
        params.extended_key_usages = vec![usage];
        params.not_before = from;
        params.not_after = until;
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        Identity { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }
}
