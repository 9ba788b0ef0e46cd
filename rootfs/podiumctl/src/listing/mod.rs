//! Answers of the machine service as lists: the columns of talosctl, in its order, and the same as data.
//!
//! A function a message; the node's name is an argument, since a node need not name itself.

mod events;
mod files;
mod pods;
mod services;
mod system;

pub use events::event;
pub use files::{disk_usage, files};
pub use pods::{containers, stats};
pub use services::{answers, health_word, is_healthy, service, services};
pub use system::{meminfo, memory, mounts, processes, version};

use podium_wire::common::Metadata;

/// The name that a reply gives its node, or the one by which it was asked.
pub fn node_name<'a>(metadata: Option<&'a Metadata>, asked: &'a str) -> &'a str {
    metadata.map(|metadata| metadata.hostname.as_str()).filter(|name| !name.is_empty()).unwrap_or(asked)
}
