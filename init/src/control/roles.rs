//! Who may ask what: root everything, a client of the network API what its role may.
//!
//! PID 1 listens on one socket a role, so that the process which speaks to the network can never do more than the
//! socket it has used. Each role may all that the ones before it may, but maintenance, which is a matter of its own.

use super::{Refusal, Request};
use crate::paths;
use crate::shutdown::Shutdown;

/// Who asks, by the socket that he has come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The network API for anybody, while the node has never had a config.
    Maintenance,
    /// The network API for somebody who looks.
    Reader,
    /// The network API for somebody who runs the node.
    Operator,
    /// The network API for somebody who changes the node.
    Admin,
    /// Root, on the node itself.
    Root,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Maintenance, Self::Reader, Self::Operator, Self::Admin, Self::Root];

    /// Where PID 1 listens to it.
    pub fn socket(self) -> &'static str {
        match self {
            Self::Maintenance => paths::API_INIT_MAINTENANCE,
            Self::Reader => paths::API_INIT_READER,
            Self::Operator => paths::API_INIT_OPERATOR,
            Self::Admin => paths::API_INIT_ADMIN,
            Self::Root => paths::CONTROL_SOCKET,
        }
    }

    /// `maintenance`, `reader`, `operator`, `admin` or `root`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Root => "root",
        }
    }
}

/// Whether somebody of this role may ask that.
///
/// # Errors
/// He may not: names the role that may.
pub fn allowed(role: Role, request: &Request) -> Result<(), Refusal> {
    let needed = needed(request);
    let is_allowed = match role {
        // That there must be no config before it is for the change itself to see, which no other one can overtake.
        Role::Maintenance => matches!(request, Request::ConfigApply { .. }),
        Role::Reader | Role::Operator | Role::Admin | Role::Root => role >= needed,
    };
    if is_allowed {
        return Ok(());
    }
    let error = format!("this needs the role {}, and the socket is that of {}", needed.word(), role.word());
    Err(Refusal::new(error, "ask as somebody who has that role"))
}

/// The least role that may ask it.
fn needed(request: &Request) -> Role {
    match request {
        Request::Version
        | Request::Services
        | Request::ServiceStatus { .. }
        | Request::Events { .. }
        | Request::ConfigStatus
        | Request::Pods
        | Request::PodStatus { .. } => Role::Reader,
        Request::Service { .. } | Request::Shutdown(Shutdown::Reboot | Shutdown::PowerOff) => Role::Operator,
        Request::ConfigGet
        | Request::ConfigApply { .. }
        | Request::ConfigHistory
        | Request::ConfigRollback { .. }
        | Request::Shutdown(Shutdown::Reset(_)) => Role::Admin,
        // The network API has these from `apid serve`, by its own roles; nobody asks for a machine that stays halted.
        Request::Logs { .. } | Request::Dmesg { .. } | Request::Shutdown(Shutdown::Halt) => Role::Root,
    }
}
