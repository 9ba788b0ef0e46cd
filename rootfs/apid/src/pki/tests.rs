//! The CA and its certificates: kept, set aside when damaged, valid at any time.

use super::*;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

fn node() -> (TempDir, Places) {
    let root = tempfile::tempdir().unwrap();
    let places = Places::below(Some(root.path()));
    (root, places)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn roots(path: &Path) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&std::fs::read(path).unwrap()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[test]
fn both_certificates_are_valid_whatever_the_clock_says() {
    let (_root, places) = node();
    make(&places, "Node-1", None).unwrap();
    let server =
        WebPkiServerVerifier::builder_with_provider(roots(&places.ca_cert()), provider()).build().unwrap();
    let clients = roots(&places.at(paths::KUBELET_CLIENT_CA));
    let client = WebPkiClientVerifier::builder_with_provider(clients, provider()).build().unwrap();
    let kubelet = certificate(&places.at(paths::KUBELET_CERT));
    let apid = certificate(&places.apid().0);
    // 1970, the day this was written, 2106 (32 bits), the year 9000
    for seconds in [0, 1_764_000_000, 4_294_967_295, 221_845_392_000] {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for name in ["127.0.0.1", "::1", "localhost", "node-1"] {
            let name = ServerName::try_from(name).unwrap();
            server.verify_server_cert(&kubelet, &[], &name, &[], now).unwrap();
        }
        client.verify_client_cert(&apid, &[], now).unwrap();
        assert!(client.verify_client_cert(&kubelet, &[], now).is_err(), "a server is no client");
        let other = ServerName::try_from("node-2").unwrap();
        assert!(server.verify_server_cert(&kubelet, &[], &other, &[], now).is_err());
    }
}

#[test]
fn the_ca_is_kept_and_the_leaves_are_new_at_each_boot() {
    let (_root, places) = node();
    make(&places, "n", None).unwrap();
    let state = places.at(paths::STATE_PKI);
    let before = (text(&state.join("ca.key")), text(&places.ca_cert()), text(&places.at(paths::KUBELET_KEY)));
    std::fs::remove_dir_all(places.at(paths::PKI)).unwrap();
    make(&places, "n", None).unwrap();
    assert_eq!(text(&state.join("ca.key")), before.0);
    assert_eq!(text(&places.ca_cert()), before.1);
    assert_ne!(text(&places.at(paths::KUBELET_KEY)), before.2);
    assert!(!places.at(paths::PKI).join("ca.key").exists(), "the key stays in STATE");
}

#[test]
fn everything_is_roots_alone() {
    let (_root, places) = node();
    make(&places, "n", None).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for folder in [places.at(paths::STATE_PKI), places.at(paths::PKI)] {
        assert_eq!(mode(&folder), 0o700);
        for entry in std::fs::read_dir(&folder).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }
}

#[test]
fn a_damaged_ca_is_set_aside_and_made_anew() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 7] = [
        ("no key", |pki| std::fs::remove_file(pki.join("ca.key")).unwrap()),
        ("no certificate", |pki| std::fs::remove_file(pki.join("ca.crt")).unwrap()),
        ("empty key", |pki| std::fs::write(pki.join("ca.key"), "").unwrap()),
        ("half a certificate", |pki| {
            let whole = text(&pki.join("ca.crt"));
            std::fs::write(pki.join("ca.crt"), &whole[..whole.len() / 2]).unwrap();
        }),
        ("a flipped bit", |pki| {
            let mut bytes = std::fs::read(pki.join("ca.crt")).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
            std::fs::write(pki.join("ca.crt"), bytes).unwrap();
        }),
        ("another's key", |pki| {
            std::fs::write(pki.join("ca.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        }),
        ("a folder", |pki| {
            std::fs::remove_file(pki.join("ca.key")).unwrap();
            std::fs::create_dir(pki.join("ca.key")).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let (_root, places) = node();
        make(&places, "n", None).unwrap();
        let state = places.at(paths::STATE_PKI);
        let old = text(&places.ca_cert());
        damage(&state);
        make(&places, "n", None).unwrap();
        assert_ne!(text(&places.ca_cert()), old, "{name}");
        let aside = std::fs::read_dir(&state).unwrap().flatten();
        let aside = aside.filter(|entry| entry.file_name().to_string_lossy().ends_with(".damaged"));
        assert!(aside.count() >= 1, "{name}: nothing was set aside");
        let new = text(&places.ca_cert());
        make(&places, "n", None).unwrap();
        assert_eq!(text(&places.ca_cert()), new, "{name}: the new one is kept");
    }
}

#[test]
fn without_a_state_the_ca_lives_for_this_boot() {
    let (_root, places) = node();
    let state = places.at(paths::STATE_PKI);
    std::fs::create_dir_all(state.parent().unwrap()).unwrap();
    std::fs::write(&state, "no folder").unwrap();
    make(&places, "n", None).unwrap();
    let first = text(&places.ca_cert());
    make(&places, "n", None).unwrap();
    assert_eq!(text(&places.ca_cert()), first, "the step may run twice in a boot");
    assert!(places.at(paths::PKI).join("ca.key").is_file());
}

#[test]
fn the_configs_own_ca_is_trusted_beside_the_nodes_and_a_broken_one_is_left_out() {
    let ((_one, places), (other_root, other)) = (node(), node());
    make(&other, "other", None).unwrap();
    let clients = |places: &Places| roots(&places.at(paths::KUBELET_CLIENT_CA)).len();
    make(&places, "n", Some(&other.ca_cert())).unwrap();
    assert_eq!(clients(&places), 2);
    std::fs::write(other_root.path().join("broken"), "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    for broken in ["missing", "broken"] {
        make(&places, "n", Some(&other_root.path().join(broken))).unwrap();
        assert_eq!(clients(&places), 1, "{broken}");
    }
}

#[test]
fn a_host_name_that_is_none_is_left_out() {
    assert_eq!(names("").len(), 3);
    assert_eq!(names("b\u{fc}cher").len(), 3);
    assert_eq!(names("Node-1").len(), 4);
}
