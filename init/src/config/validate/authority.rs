//! Who the network API trusts: `machine.ca`, `machine.acceptedCAs`, `machine.certSANs`.
//!
//! Whether a value is base64 of PEM is asked here, whether a certificate is any good by `apid`, which has the means.
//! Nothing of a value is ever said again: one that is in the wrong place may be a key.

use super::super::report::Report;
use super::super::{Authority, Machine};
use super::words::is_host;
use crate::base64;

/// A certificate or key has a few KiB; a chain of some is no more than this.
const MOST: usize = 64 << 10;
const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";
/// What `apid` can sign with, by their labels: PKCS #8, and Go's name for the same of Ed25519.
const KEYS: [&str; 2] = [PRIVATE_KEY, "ED25519 PRIVATE KEY"];
const WRITE_CERTIFICATE: &str = "write the PEM file as one line of base64: base64 -w0 ca.crt";
const WRITE_KEY: &str = "write the PEM file as one line of base64: base64 -w0 ca.key";

pub(super) fn check(machine: &Machine, report: &mut Report<'_>) {
    if let Some(Authority { crt, key }) = &machine.ca {
        certificate("machine.ca.crt", crt, report);
        private_key("machine.ca.key", &key.0, report);
    } else if !machine.accepted_cas.is_empty() {
        report.error_with(
            "machine.acceptedCAs",
            "without machine.ca there is no API that could accept one",
            "write machine.ca as well",
        );
    }
    for (index, accepted) in machine.accepted_cas.iter().enumerate() {
        certificate(&format!("machine.acceptedCAs[{index}].crt"), &accepted.crt, report);
    }
    for (index, name) in machine.cert_sans.iter().enumerate() {
        if !is_host(name) {
            let path = format!("machine.certSANs[{index}]");
            let remedy = "write a name or an address, no port";
            report.error_with(&path, format!("{name:?} is no host name"), remedy);
        }
    }
}

fn certificate(path: &str, text: &str, report: &mut Report<'_>) {
    match labels(text) {
        Err(what) => report.error_with(path, what, WRITE_CERTIFICATE),
        Ok(labels) if labels.iter().any(|label| label != CERTIFICATE) => {
            report.error_with(path, "holds something that is no certificate", WRITE_CERTIFICATE);
        }
        Ok(_) => {}
    }
}

fn private_key(path: &str, text: &str, report: &mut Report<'_>) {
    match labels(text).as_deref() {
        Err(what) => report.error_with(path, *what, WRITE_KEY),
        Ok([one]) if one.starts_with("ENCRYPTED") => {
            report.error_with(path, "is encrypted", "nobody can type its password at a boot: decrypt it");
        }
        Ok([one]) if KEYS.contains(&one.as_str()) => {}
        Ok([one]) if one.ends_with(PRIVATE_KEY) => report.error_with(
            path,
            "is a key in a form that the node cannot sign with",
            "write it as PKCS #8: openssl pkcs8 -topk8 -nocrypt -in ca.key",
        ),
        Ok(_) => report.error_with(path, "is not one private key", WRITE_KEY),
    }
}

/// What the PEM blocks in a base64 text are, at least one.
fn labels(text: &str) -> Result<Vec<String>, &'static str> {
    if text.is_empty() {
        return Err("is missing");
    }
    if text.len() > MOST {
        return Err("is larger than 64 KiB");
    }
    if text.contains("-----BEGIN ") {
        return Err("is PEM, and belongs here as base64");
    }
    let pem = base64::decode(text.as_bytes()).map_err(|_| "is not base64")?;
    let pem = String::from_utf8(pem).map_err(|_| "is base64 of something that is not PEM")?;
    let mut labels = Vec::new();
    let mut rest = pem.as_str();
    while let Some((_, block)) = rest.split_once("-----BEGIN ") {
        let Some((label, block)) = block.split_once("-----\n").or_else(|| block.split_once("-----\r\n"))
        else {
            return Err("holds a PEM block without a beginning");
        };
        let Some((body, after)) = block.split_once(&format!("-----END {label}-----")) else {
            return Err("holds a PEM block without its end: was it cut off?");
        };
        if base64::decode(body.as_bytes()).map_or(true, |body| body.is_empty()) {
            return Err("holds a PEM block whose content is not base64");
        }
        labels.push(label.to_owned());
        rest = after;
    }
    if labels.is_empty() { Err("is base64 of something that is not PEM") } else { Ok(labels) }
}
