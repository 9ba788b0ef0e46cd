//! The network API's server certificate, signed by the config's CA. The key of the CA never leaves this process.
//!
//! Of the request only the public key counts: names, validity and use are decided here.

use super::output::Fault;
use super::setup::{self, Mode, Setup};
use crate::places::Places;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use std::net::IpAddr;
use time::{Duration, OffsetDateTime};

/// A client whose clock is behind takes it as well.
const BEFORE: Duration = Duration::hours(1);
/// A stolen key is of no use the day after.
const VALID: Duration = Duration::hours(24);
/// How Go's tools, talosctl among them, head a key that others call `PRIVATE KEY`.
const ED25519_LABEL: &str = "ED25519 PRIVATE KEY";

/// Signs a request.
pub(super) fn sign(places: &Places, setup: &Setup, csr: &str) -> Result<Value, Fault> {
    if setup.mode != Mode::Serving {
        return Err(Fault::unavailable("the config has no machine.ca"));
    }
    let (certificate, key) = setup::authority(places)
        .ok_or_else(|| Fault::unavailable("machine.ca of the config has no certificate or no key"))?;
    // What is wrong with a key is not told: it might be the key.
    let key = KeyPair::from_pem(&key.replace(ED25519_LABEL, "PRIVATE KEY"))
        .map_err(|_| Fault::unavailable("machine.ca.key is no Ed25519 or ECDSA key in PKCS #8"))?;
    fits(&certificate, &key)?;
    let issuer = Issuer::from_ca_cert_pem(&certificate, key)
        .map_err(|error| Fault::unavailable(format!("machine.ca.crt: {error}")))?;
    let request =
        CertificateSigningRequestParams::from_pem(csr).map_err(|error| Fault::invalid(error.to_string()))?;
    let signed = params(setup).signed_by(&request.public_key, &issuer);
    let signed = signed.map_err(|error| Fault::internal(format!("sign: {error}")))?;
    Ok(json!({"ok": true, "chain": signed.pem()}))
}

/// A certificate that another key has signed is one that no client takes.
fn fits(certificate: &str, key: &KeyPair) -> Result<(), Fault> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())
        .map_err(|error| Fault::unavailable(format!("machine.ca.crt: {error}")))?;
    let parsed = pem.parse_x509().map_err(|error| Fault::unavailable(format!("machine.ca.crt: {error}")))?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(Fault::unavailable(
            "machine.ca.key is not the key of machine.ca.crt; give both of one CA",
        ));
    }
    Ok(())
}

fn params(setup: &Setup) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, setup.hostname.as_str());
    params.subject_alt_names = setup.sans.iter().filter_map(|name| san(name)).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BEFORE;
    params.not_after = now + VALID;
    params
}

/// One that is neither an address nor a name that a certificate can have is left out.
pub(crate) fn san(name: &str) -> Option<SanType> {
    match name.parse::<IpAddr>() {
        Ok(address) => Some(SanType::IpAddress(address)),
        Err(_) => Some(SanType::DnsName(name.to_ascii_lowercase().try_into().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{BasicConstraints, IsCa, PKCS_ED25519};
    use std::path::Path;

    #[test]
    fn the_request_decides_nothing_but_its_key() {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let crt = ca.self_signed(&key).unwrap().pem();
        // As Go writes it.
        let key = key.serialize_pem().replace("PRIVATE KEY", ED25519_LABEL);
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/podium")).unwrap();
        let config = json!({"source": "x", "config": {"machine": {
            "ca": {"crt": STANDARD.encode(&crt), "key": STANDARD.encode(&key)}, "certSANs": ["vip.example"]}}});
        std::fs::write(root.path().join("run/podium/config.json"), config.to_string()).unwrap();
        let places = Places::below(Some(root.path()));
        let setup = setup::look(&places);
        let own = KeyPair::generate().unwrap();
        let mut asked = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        asked.is_ca = IsCa::NoCa;
        let csr = asked.serialize_request(&own).unwrap().pem().unwrap();
        let chain = sign(&places, &setup, &csr).unwrap()["chain"].as_str().unwrap().to_owned();
        let der = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap().1;
        let signed = der.parse_x509().unwrap();
        let names = format!("{:?}", signed.subject_alternative_name().unwrap().unwrap().value);
        assert!(names.contains("vip.example") && !names.contains("evil"), "{names}");
        assert_eq!(signed.public_key().subject_public_key.data, own.public_key_raw());
        assert!(!signed.is_ca());
        let none = Places::below(Some(Path::new("/no/such/root")));
        assert!(sign(&none, &setup, &csr).is_err() && sign(&places, &setup, "x").is_err());
        let other = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
        let config = json!({"source": "x", "config": {"machine": {
            "ca": {"crt": STANDARD.encode(&crt), "key": STANDARD.encode(other)}}}});
        std::fs::write(root.path().join("run/podium/config.json"), config.to_string()).unwrap();
        let why = sign(&places, &setup, &csr).unwrap_err().text().to_owned();
        assert!(why.contains("not the key of machine.ca.crt"), "{why}");
        let off = Setup { mode: Mode::Off, ..setup };
        assert!(sign(&places, &off, &csr).is_err());
    }
}
