//! Processes of a node, seen from the host's `/proc`.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One process of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// As the node numbers it.
    pub pid: u32,
    /// As the host numbers it.
    pub host_pid: u32,
    /// The parent, as the host numbers it.
    pub host_parent: u32,
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// The first 15 bytes of its program's name.
    pub name: String,
}

/// The direct children of a process, as the host numbers them.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// All processes in the PID namespace of `init` and in those below it.
pub(super) fn of_namespace(init: u32) -> Vec<Process> {
    let Some(depth) = namespace_pids(init).map(|pids| pids.len()) else { return Vec::new() };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // A zombie has no namespace link any more, so descent tells who belongs to the node.
    let all: BTreeMap<u32, Process> = pids.filter_map(|pid| Some((pid, describe(pid, depth)?))).collect();
    let belongs = |process: &Process| {
        let mut ancestors = std::iter::successors(Some(process), |child| all.get(&child.host_parent));
        ancestors.any(|ancestor| ancestor.host_pid == init)
    };
    all.values().filter(|process| belongs(process)).cloned().collect()
}

/// A process that has `depth` or more numbers, one a namespace.
fn describe(host_pid: u32, depth: usize) -> Option<Process> {
    let status = std::fs::read_to_string(format!("/proc/{host_pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let pids: Vec<u32> = field("NSpid:")?.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    Some(Process {
        pid: *pids.get(depth - 1)?,
        host_pid,
        host_parent: field("PPid:")?.parse().ok()?,
        state: field("State:")?.chars().next()?,
        name: field("Name:")?.to_owned(),
    })
}

fn namespace_pids(pid: u32) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Sends any signal, real-time ones too: those need no name, so kill(1) of procps or util-linux does it.
pub(super) fn kill(host_pid: u32, signal: i32) -> Result<()> {
    let pid = i32::try_from(host_pid).ok().and_then(Pid::from_raw).context("no such PID")?;
    match Signal::from_named_raw(signal) {
        Some(signal) => {
            rustix::process::kill_process(pid, signal).with_context(|| format!("signal {host_pid}"))
        }
        None => {
            let program = find("kill").context("kill(1) is missing: apt-get install procps")?;
            let status = std::process::Command::new(program)
                .args(["-s", &signal.to_string(), &host_pid.to_string()])
                .status()
                .context("run kill(1)")?;
            anyhow::ensure!(status.success(), "kill -s {signal} {host_pid}: {status}");
            Ok(())
        }
    }
}

fn find(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}
