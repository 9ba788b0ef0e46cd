//! `init repair PROGRAM ARGS`: what stands before containerd and the kubelet at each of their starts. It puts their
//! config files back if somebody has changed them, looks whether what they keep on disk can be used, has them begin
//! without it if not, and becomes PROGRAM.

mod containerd;
mod kept;
mod kubelet;

use crate::boot::Machine;
use crate::child::leave;
use crate::kmsg;
use crate::sys::{At, file, notify, signals};
use crate::token;
use anyhow::{Context, Result, bail};
use podium_init::config::{Delivery, InUse};
use podium_init::services::{CONTAINERD, KUBELET, NodeFacts};
use podium_init::{notices, paths, render};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Looks, repairs, and becomes the program in `args`.
///
/// # Errors
/// Returns only when that cannot be executed. What could not be repaired is said, and the program has its own try.
pub(crate) fn run(args: &[String]) -> Result<()> {
    kmsg::start();
    let program = args.first().context("usage: init repair PROGRAM ARGS")?;
    let service = program.rsplit('/').next().unwrap_or(program);
    if let Err(error) = put_back(service) {
        log::error!("{service}: {error:#}; its config files stay as they are");
    }
    let (repaired, mark) = match service {
        CONTAINERD => (containerd::repair(), containerd::mark()),
        KUBELET => (kubelet::repair(), kubelet::mark()),
        _ => bail!("{service}: nothing is known of it"),
    };
    if let Err(error) = repaired {
        log::error!("{service}: {error:#}; what it keeps on disk stays as it is");
    }
    // Nobody to tell when the pipe is full or gone.
    drop(writeln!(std::io::stdout(), "{mark}"));
    signals::reset()?;
    let argv = args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<Vec<_>, _>>()?;
    let pairs = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec())
    });
    let env = pairs.collect::<Result<Vec<_>, _>>()?;
    let path = CString::new(program.as_str())?;
    let Err(error) = nix::unistd::execve(&path, &argv, &env).at("exec", program);
    let text = format!("{error:#}");
    tell(&format!("{}{text}", notices::FAILED)).context(text)?;
    leave()
}

/// Writes the config files of a service again where they are not what the config in force makes of them.
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
    for rendered in render::files(&in_use.config, &machine.facts, &node) {
        if render::reader(&rendered.path) != Some(service) {
            continue;
        }
        let path = Path::new(&rendered.path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).at("make folder", folder)?;
        }
        if file::update(path, &rendered.bytes, rendered.mode)? {
            say(service, &format!("{}: changed or removed by somebody else; put back", rendered.path));
        }
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
    if tell(&format!("{}{line}", notices::STATUS)).is_err() {
        kmsg::say(&format!("{service}: {line}"));
    }
}

fn tell(message: &str) -> Result<()> {
    let socket = std::env::var("NOTIFY_SOCKET").context("NOTIFY_SOCKET is not set: not started by PID 1")?;
    Ok(notify::send(&socket, message)?)
}
