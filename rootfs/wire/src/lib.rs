//! The node's network API as it is on the wire, for apid, for podiumctl and for the tests: messages and services made
//! from `proto/`, who may call what ([`roles`]), and the names of resources ([`resources`]).
//!
//! The wire is Talos's where the two overlap; `proto/` has the part of it that a Podium node answers. Nothing here
//! connects to anything.

pub mod resources;
pub mod roles;

/// Shared by the replies of all services.
pub mod common {
    tonic::include_proto!("common");
}

/// The machine service.
pub mod machine {
    tonic::include_proto!("machine");
}

/// The state service.
pub mod cosi {
    tonic::include_proto!("cosi.resource");
}

/// What containerd answers on its own socket.
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// The port of the API.
pub const PORT: u16 = 50000;
/// The largest message in either direction, bytes; Talos's bound.
pub const MESSAGE_MAX: usize = 32 << 20;
