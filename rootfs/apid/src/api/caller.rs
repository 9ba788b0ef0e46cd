//! Who calls: the role and name that a client's certificate gives.

use super::upstream::Target;
use anyhow::{Result, anyhow};
use podium_wire::roles::Role;
use std::net::SocketAddr;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names in a line of the log.
const NAME_MAX: usize = 64;

/// Whoever is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// None: a certificate that grants nothing, or no certificate.
    pub(super) role: Option<Role>,
    /// The certificate's common name; empty without one.
    pub(super) name: String,
    /// Its serial number in hex.
    pub(super) serial: String,
    pub(super) peer: SocketAddr,
    /// Seconds since 1970 when its certificate ends.
    pub(super) until: Option<i64>,
    /// Came while the node had no config: what it may is another list.
    pub(super) maintenance: bool,
}

impl Caller {
    /// Somebody on the maintenance port.
    pub(super) fn anybody(peer: SocketAddr) -> Self {
        Self { role: None, name: String::new(), serial: String::new(), peer, until: None, maintenance: true }
    }

    /// By a certificate that has been verified.
    pub(super) fn of(certificate: &[u8], peer: SocketAddr) -> Result<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| anyhow!("{error}"))?;
        let subject = parsed.subject();
        let organizations = subject.iter_organization().filter_map(|name| name.as_str().ok());
        let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = name.unwrap_or_default().chars().take(NAME_MAX);
        Ok(Self {
            role: Role::of(organizations),
            name: name.map(|letter| if letter.is_control() { '?' } else { letter }).collect(),
            serial: parsed.raw_serial_as_string().chars().take(NAME_MAX).collect(),
            peer,
            until: Some(parsed.validity().not_after.timestamp()),
            maintenance: false,
        })
    }

    /// The role by which PID 1 and the helper are asked. Whether the call is allowed is decided before.
    pub(super) fn acts_as(&self) -> Role {
        self.role.unwrap_or(Role::Reader)
    }

    /// Who takes a config from it.
    pub(super) fn gives_config_to(&self) -> Target {
        if self.maintenance { Target::InitMaintenance } else { Target::init(self.acts_as()) }
    }
}
