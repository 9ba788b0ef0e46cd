//! What stands before containerd and the kubelet at each of their starts, as a stage of the chain loader: it puts their
//! config files back if somebody has changed them, looks whether what they keep on disk can be used, and has them begin
//! without it if not.

mod containerd;
mod kept;
mod kubelet;

use crate::boot::Machine;
use crate::child::notify_socket;
use crate::kmsg;
use crate::sys::{At, file, notify};
use crate::token;
use anyhow::Result;
use podium_init::config::{Delivery, InUse};
use podium_init::services::{CONTAINERD, KUBELET, NodeFacts};
use podium_init::{notices, paths, render};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Looks and repairs, with the service's log as standard output. What could not be repaired is said, and the program
/// has its own try.
pub(crate) fn look_after(service: &str) {
    kmsg::start();
    if let Err(error) = put_back(service) {
        log::error!("{service}: {error:#}; its config file stays as it is");
    }
    let (repaired, mark) = match service {
        CONTAINERD => (containerd::repair(), containerd::mark()),
        KUBELET => (kubelet::repair(), kubelet::mark()),
        _ => return log::error!("{service}: nothing is known of what it keeps"),
    };
    if let Err(error) = repaired {
        log::error!("{service}: {error:#}; what it keeps on disk stays as it is");
    }
    // Nobody to tell when the pipe is full or gone.
    drop(writeln!(std::io::stdout(), "{mark}"));
}

/// Writes the config file of a service again where it is not what the config in force makes of it.
fn put_back(service: &str) -> Result<()> {
    let _lock = file::lock(paths::CONFIG_LOCK);
    let in_use: InUse = file::read_own(paths::CONFIG_IN_USE)?;
    let machine: Machine = file::read_own(paths::MACHINE)?;
    let node = NodeFacts {
        container: machine.container,
        // No file of these two is about them.
        interfaces: Vec::new(),
        pod_list_token: match (service, in_use.config.machine.kubelet.static_pod_delivery) {
            (KUBELET, Delivery::Http) => token::there()?,
            _ => String::new(),
        },
    };
    let Some(rendered) = render::file_of(service, &in_use.config, &machine.facts, &node) else {
        return Ok(());
    };
    let path = Path::new(&rendered.path);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).at("make folder", folder)?;
    }
    if file::update(path, &rendered.bytes, rendered.mode)? {
        say(service, &format!("{}: changed or removed by somebody else; put back", rendered.path));
    }
    Ok(())
}

/// The end of a service's log.
fn log_tail(service: &str, most: u64) -> std::io::Result<String> {
    let mut file = File::open(format!("{}/{service}.log", paths::LOGS))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Has PID 1 say a line, which makes an event of it too; it stands in the service's log as well.
fn say(service: &str, line: &str) {
    drop(writeln!(std::io::stdout(), "podium: {line}"));
    if tell(service, &format!("{}{line}", notices::STATUS)).is_err() {
        kmsg::say(&format!("{service}: {line}"));
    }
}

fn tell(service: &str, message: &str) -> Result<()> {
    Ok(notify::send(&notify_socket(service), message)?)
}
