//! Certificates that an operator makes: a machine CA and client certificates signed by it. Ed25519 throughout, as
//! Talos's. It makes and reads them; files are the business of the commands.
//!
//! A client's role is an Organization of its subject.

use podium_wire::roles::Role;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, date_time_ymd,
};
use sha2::{Digest, Sha256};
use std::time::Duration;
use time::OffsetDateTime;

/// A CA lives longer than the machines; it is replaced by a second one, not renewed.
const CA_YEARS: u32 = 10;
/// When certificates begin: a node whose clock has stopped, or that has none and no time server yet, takes them too. It
/// would keep its own operator out otherwise.
const BEGIN: (i32, u8, u8) = (1970, 1, 1);

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub crt: String,
    /// PKCS #8.
    pub key: String,
}

/// Never the key.
impl std::fmt::Debug for Pair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pair").field("crt", &self.crt).finish_non_exhaustive()
    }
}

/// What a certificate says, for `config info` and for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Roles, by their Organization.
    pub roles: Vec<String>,
    /// The last moment at which it is accepted.
    pub not_after: OffsetDateTime,
}

/// Makes a new CA for one or several machines.
///
/// # Errors
/// What the library says.
pub fn new_ca(now: OffsetDateTime) -> Result<Pair, String> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(said)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("podium", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(BEGIN.0, BEGIN.1, BEGIN.2);
    params.not_after = now + Duration::from_secs(u64::from(CA_YEARS) * 365 * 86400);
    let certificate = params.self_signed(&key).map_err(said)?;
    Ok(Pair { crt: certificate.pem(), key: key.serialize_pem() })
}

/// Makes a certificate for a client of this role.
///
/// # Errors
/// What is wrong with the CA.
pub fn new_client(ca: &Pair, role: Role, now: OffsetDateTime, valid: Duration) -> Result<Pair, String> {
    let ca_key = KeyPair::from_pem(&crate::talosconfig::plain_label(&ca.key))
        .map_err(|error| format!("the CA's key: {error}"))?;
    let issuer = Issuer::from_ca_cert_pem(&ca.crt, ca_key)
        .map_err(|error| format!("the CA's certificate: {error}"))?;
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(said)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("podiumctl", Some(role.organization()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(BEGIN.0, BEGIN.1, BEGIN.2);
    params.not_after = now + valid;
    let certificate = params.signed_by(&key, &issuer).map_err(said)?;
    Ok(Pair { crt: certificate.pem(), key: key.serialize_pem() })
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// What is wrong with it.
pub fn facts(pem: &str) -> Result<Facts, String> {
    let (_, block) =
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| format!("is no PEM: {error}"))?;
    let certificate = block.parse_x509().map_err(|error| format!("is no certificate: {error}"))?;
    let organizations = certificate.subject().iter_organization();
    let roles = organizations.filter_map(|name| name.as_str().ok()).map(str::to_owned).collect();
    Ok(Facts { roles, not_after: certificate.validity().not_after.to_datetime() })
}

/// What `--cert-fingerprint` compares: base64 of SHA-256 of the certificate's SubjectPublicKeyInfo.
///
/// # Errors
/// When these bytes are no certificate.
pub fn fingerprint(der: &[u8]) -> Result<String, String> {
    use base64::Engine;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|error| format!("is no certificate: {error}"))?;
    let digest = Sha256::digest(certificate.public_key().raw);
    Ok(base64::engine::general_purpose::STANDARD.encode(digest))
}

fn subject(name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, DnValue::Utf8String(organization.to_owned()));
    }
    subject.push(DnType::CommonName, DnValue::Utf8String(name.to_owned()));
    subject
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn said(error: rcgen::Error) -> String {
    format!("cannot make a certificate: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_role_and_its_end() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let ca = new_ca(now).unwrap();
        let client = new_client(&ca, Role::Operator, now, Duration::from_secs(86400)).unwrap();
        let facts = facts(&client.crt).unwrap();
        assert_eq!(facts.roles, ["os:operator"]);
        assert_eq!(facts.not_after, now + Duration::from_secs(86400));
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_node_whose_clock_has_stopped_takes_what_was_made() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let ca = new_ca(now).unwrap();
        let client = new_client(&ca, Role::Admin, now, Duration::from_secs(60)).unwrap();
        for pem in [ca.crt, client.crt] {
            let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            assert_eq!(block.parse_x509().unwrap().validity().not_before.timestamp(), 0);
        }
    }

    #[test]
    fn a_ca_with_talos_label_signs_too() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let ca = new_ca(now).unwrap();
        let talos = Pair { key: ca.key.replace(" PRIVATE", " ED25519 PRIVATE"), ..ca };
        assert!(new_client(&talos, Role::Reader, now, Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn a_fingerprint_is_of_the_key_and_not_of_the_certificate() {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let one = CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        let two = CertificateParams::new(vec!["b".to_owned()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(fingerprint(one.der()).unwrap(), fingerprint(two.der()).unwrap());
        assert_eq!(fingerprint(one.der()).unwrap().len(), 44);
    }
}
