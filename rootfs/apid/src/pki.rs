//! `apid pki`: the node's own CA, and the certificates by which the kubelet and apid know each other.
//!
//! The CA is made at the first boot and kept in STATE; without a STATE that can be written it is one of this boot, in
//! `/run`. Below `/run/podium/pki` each boot gets the kubelet's serving certificate, the file of CAs whose clients
//! the kubelet lets in, and apid's client certificate. A CA that is damaged is set aside, said aloud, and made anew:
//! nothing outside of the node knows it. Certificates are valid from 1970 to 9999: a clock may be at 1970, at the
//! image's build date or at 2106, and an end would protect nothing, for whoever can read these keys is root on the
//! node already; the leaves' keys end with the boot.

mod authority;

use crate::files;
use crate::places::Places;
use crate::say;
use anyhow::{Context, Result};
use authority::{Authority, Role};
use podium_init::paths;
use rcgen::SanType;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Of a file of CAs that the config names.
const TRUST_MAX: u64 = 1 << 20;

/// Makes everything, then tells PID 1: the kubelet may start.
pub(crate) fn run(places: &Places, also_trust: Option<&Path>) -> Result<()> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    make(places, &name, also_trust)?;
    say::ready();
    Ok(())
}

fn make(places: &Places, host: &str, also_trust: Option<&Path>) -> Result<()> {
    let run = places.at(paths::PKI);
    files::private_folder(&run)?;
    let authority = authority(&places.at(paths::STATE_PKI), &run)?;
    let (certificate, key) =
        authority.issue(&Role::Server { name: "podium kubelet", addresses: names(host) })?;
    files::store(&places.at(paths::KUBELET_KEY), key.as_bytes())?;
    files::store(&places.at(paths::KUBELET_CERT), certificate.as_bytes())?;
    // The organization is a role of Talos's API: apid only reads.
    let (certificate, key) =
        authority.issue(&Role::Client { name: "podium apid", organization: "os:reader" })?;
    let (cert_path, key_path) = places.apid();
    files::store(&key_path, key.as_bytes())?;
    files::store(&cert_path, certificate.as_bytes())?;
    let mut trusted = authority.certificate().to_owned();
    if let Some(path) = also_trust {
        match others(path) {
            Ok(pem) => trusted += &pem,
            Err(error) => say::loud(&format!("{error:#}; the kubelet knows no clients of that CA")),
        }
    }
    files::store(&places.at(paths::KUBELET_CLIENT_CA), trusted.as_bytes())?;
    files::store(&places.ca_cert(), authority.certificate().as_bytes())
}

/// The CA in `state`, else this boot's in `run`.
fn authority(state: &Path, run: &Path) -> Result<Authority> {
    match stored(state) {
        Ok(authority) => Ok(authority),
        Err(error) => {
            say::loud(&format!("{error:#}; this boot gets a CA of its own in {}", run.display()));
            stored(run)
        }
    }
}

/// The CA in a folder, made there when there is none, or none that can be used.
fn stored(folder: &Path) -> Result<Authority> {
    files::private_folder(folder)?;
    match Authority::load(folder) {
        Ok(Some(authority)) => return Ok(authority),
        Ok(None) => {}
        Err(error) => {
            let aside = authority::set_aside(folder)?;
            say::loud(&format!(
                "the node's CA cannot be used: {error:#}; a new one is made, the old one is in {aside}"
            ));
        }
    }
    let authority = Authority::new()?;
    authority.store(folder)?;
    say::line(&format!("the node's CA was made in {}", folder.display()));
    Ok(authority)
}

/// What the kubelet is called on its own node. A host name that is none in a certificate is left out.
fn names(host: &str) -> Vec<SanType> {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let hosts = ["localhost", host].into_iter().filter(|name| !name.is_empty());
    let hosts = hosts.filter_map(|name| Some(SanType::DnsName(name.to_ascii_lowercase().try_into().ok()?)));
    addresses.map(SanType::IpAddress).into_iter().chain(hosts).collect()
}

/// The certificates in a file that the config names, as PEM.
fn others(path: &Path) -> Result<String> {
    let pem = files::read(path, TRUST_MAX)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.with_context(|| format!("{} holds no certificate", path.display()))?;
        count += 1;
    }
    anyhow::ensure!(count > 0, "{} holds no certificate", path.display());
    String::from_utf8(pem).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
