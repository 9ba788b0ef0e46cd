//! What goes wrong between an operator and a node, in words, each with what to do next.
//!
//! Causes come as a chain of errors of several libraries; what a person can act on is looked for in it.

use podium_podiumctl::endpoint::Endpoint;
use podium_wire::PORT;
use podium_wire::roles::{self, Role};
use rustls::{AlertDescription, CertificateError};
use std::error::Error;
use std::io::ErrorKind;
use tonic::{Code, Status};

/// One thing that went wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Fault {
    /// With its place, without a full stop.
    pub(crate) what: String,
    /// What to do next.
    pub(crate) remedy: Option<String>,
    /// The words were wrong: exit code 2.
    pub(crate) usage: bool,
    /// The node is of another CA than the one that is asked for.
    pub(crate) stranger: bool,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: None, usage: false, stranger: false }
    }

    /// Words that mean nothing together.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(what) }
    }

    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Who asks: what an error needs to know to say what to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asker {
    /// Name of the talosconfig's context.
    pub(crate) context: String,
    /// The role in its certificate.
    pub(crate) role: Option<Role>,
    /// Asks without a certificate.
    pub(crate) insecure: bool,
}

/// The lowest role that may call a method of this name, of whichever service: `List` is one of both.
fn needed(method: &str) -> Option<Role> {
    let named = roles::METHODS.iter().filter(|(path, ..)| path.rsplit('/').next() == Some(method));
    named.map(|(_, role, _)| *role).min()
}

/// What a node has answered instead of a reply.
pub(crate) fn of_status(node: &str, method: &str, status: &Status, asker: &Asker) -> Fault {
    if let Some(fault) = of_cause(node, status.source(), asker) {
        return fault;
    }
    let said = status.message();
    let fault = |what: String| Fault::new(format!("{node}: {what}"));
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => {
            match (needed(method), asker.role) {
                (Some(needed), Some(role)) if role < needed => {
                    let (needed, role) = (needed.organization(), role.organization());
                    fault(format!("{method} needs {needed}, the certificate of context {} is {role}", asker.context))
                        .remedy(format!("use a context with that role, or let an admin make one: podiumctl config new --roles {needed}"))
                }
                _ if asker.insecure => fault(format!("not allowed without a certificate: {said}"))
                    .remedy("the node has a config: leave out --insecure and use its talosconfig"),
                _ => fault(format!("permission denied: {said}"))
                    .remedy("podiumctl config info shows the role of the certificate; one node answers for itself alone, so --nodes must name it or stand in --endpoints"),
            }
        }
        Code::Unimplemented => fault(format!("does not answer {method}: {said}"))
            .remedy("podiumctl version shows what the node runs"),
        Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            fault(said.to_owned())
        }
        Code::ResourceExhausted => {
            fault(format!("has no room for another request: {said}")).remedy("close other clients and try again")
        }
        Code::Unavailable => fault(format!("does not answer: {said}"))
            .remedy("it may be starting or going down: try again, or look at its console"),
        Code::Cancelled => fault(format!("the connection has ended before the answer: {said}"))
            .remedy("the node may be going down, or it does not know the certificate: try again"),
        Code::DeadlineExceeded => fault(format!("did not answer in time: {said}")),
        Code::Ok | Code::Unknown | Code::AlreadyExists | Code::Aborted | Code::Internal | Code::DataLoss => {
            fault(format!("{method}: {said}"))
        }
    }
}

/// A connection that did not come about.
pub(crate) fn of_transport(node: &str, error: &(dyn Error + 'static), asker: &Asker) -> Fault {
    of_cause(node, Some(error), asker).unwrap_or_else(|| {
        let mut what = format!("{node}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            what.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Fault::new(what)
    })
}

/// A TCP connection that could not be made.
pub(crate) fn of_connect(endpoint: &Endpoint, error: &std::io::Error) -> Fault {
    let fault = |what: &str| Fault::new(format!("{endpoint}: {what}"));
    match error.kind() {
        ErrorKind::ConnectionRefused => fault("connection refused").remedy(
            "is the node up, and is this its address? It listens once its config has machine.ca, or in maintenance mode",
        ),
        ErrorKind::TimedOut => fault("no answer in time")
            .remedy("is this the node's address, and does a firewall let TCP to this port pass?"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            fault("cannot be reached from here").remedy("check the address and the routes of this machine")
        }
        _ if error.raw_os_error().is_none() => {
            fault(&format!("the name cannot be looked up: {error}")).remedy("write the node's IP address instead")
        }
        _ => fault(&error.to_string()),
    }
}

/// What the two ends do not like of each other's certificates.
pub(crate) fn of_tls(place: &str, error: &rustls::Error, asker: &Asker) -> Fault {
    let fault = |what: String| Fault::new(format!("{place}: {what}"));
    let context = &asker.context;
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Fault {
            stranger: true,
            ..fault(format!("the node's certificate is not signed by the CA of context {context}")).remedy(
                "does the context belong to this node? A node in maintenance mode signs its own: use --insecure",
            )
        },
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => fault("the node's certificate is for other names and addresses".to_owned())
            .remedy("use one of the node's own addresses, or add this one to machine.certSANs"),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => fault("the node's certificate is not valid now".to_owned())
            .remedy("compare the clocks of this machine and the node"),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            fault("the node wants a client certificate".to_owned())
                .remedy("the node has a config: leave out --insecure and use its talosconfig")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            fault(format!("by the node's clock the client certificate of context {context} has expired"))
                .remedy("make a new one: podiumctl config new --from MACHINECONFIG; or is the node's clock wrong?")
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied,
        ) => fault(format!("the node does not accept the client certificate of context {context}"))
            .remedy("its machine.ca is another one: use the talosconfig that was made with it"),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(_) => {
            fault("does not speak TLS 1.3".to_owned()).remedy(is_it_the_port())
        }
        rustls::Error::InvalidMessage(_) => {
            fault("does not speak TLS".to_owned()).remedy(is_it_the_port())
        }
        other => fault(other.to_string()),
    }
}

fn is_it_the_port() -> String {
    format!("is this the node's API port ({PORT})?")
}

/// The first cause in a chain that a person can act on.
fn of_cause(node: &str, mut cause: Option<&(dyn Error + 'static)>, asker: &Asker) -> Option<Fault> {
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(fault.clone());
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(of_tls(node, error, asker));
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            // The chain leaves the error inside out.
            let inner: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
            if let Some(fault) = inner.and_then(|_| of_cause(node, inner, asker)) {
                return Some(fault);
            }
            if matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
            ) {
                return Some(
                    Fault::new(format!("{node}: the node has closed the connection"))
                        .remedy("it may be going down, or it does not know the certificate: try again"),
                );
            }
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(role: Role) -> Asker {
        Asker { context: "home".into(), role: Some(role), insecure: false }
    }

    #[test]
    fn a_role_too_low_says_which_one_is_needed() {
        let status = Status::permission_denied("not authorized");
        let fault = of_status("n", "Reboot", &status, &asker(Role::Reader));
        assert_eq!(fault.what, "n: Reboot needs os:operator, the certificate of context home is os:reader");
        assert!(fault.remedy.unwrap().contains("config new --roles os:operator"));
        let fault = of_status("n", "Reboot", &status, &asker(Role::Admin));
        assert_eq!(fault.what, "n: permission denied: not authorized");
    }

    #[test]
    fn a_methods_name_is_enough_to_know_its_role() {
        for (path, role, _) in roles::METHODS {
            assert_eq!(needed(path.rsplit('/').next().unwrap()), Some(role), "{path}");
        }
        assert_eq!(needed("Upgrade"), None);
    }

    #[test]
    fn a_cause_deep_in_the_chain_is_found() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = std::io::Error::other(std::io::Error::other(tls));
        let fault = of_transport("n", &error, &asker(Role::Admin));
        assert!(fault.what.contains("not signed by the CA of context home"), "{fault}");
        assert!(fault.remedy.unwrap().contains("--insecure"));
    }
}
