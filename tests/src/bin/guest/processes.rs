//! The processes of the node, as `/proc` shows them to a pod that shares its PID namespace: listed, signalled, orphaned.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// One process as `/proc/PID/stat` has it.
struct Process {
    pid: i32,
    parent: i32,
    name: String,
    state: String,
    started: u64,
}

/// Every process of the node. One that ends meanwhile is left out.
pub(super) fn processes() -> Result<Vec<Value>> {
    let all = all_processes()?;
    let list = all.iter().map(|process| {
        let arguments = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        let arguments: Vec<_> = arguments
            .split(|&byte| byte == 0)
            .filter(|word| !word.is_empty())
            .map(String::from_utf8_lossy)
            .collect();
        json!({"pid": process.pid, "parent": process.parent, "name": process.name, "state": process.state,
               "started": process.started, "argv": arguments})
    });
    Ok(list.collect())
}

fn all_processes() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Ok(pid) = name.parse()
            && let Some(process) = process(pid)
        {
            found.push(process);
        }
    }
    Ok(found)
}

fn process(pid: i32) -> Option<Process> {
    // The name stands in brackets and may hold anything, brackets too.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let (state, parent, started) = (fields.first()?, fields.get(1)?, fields.get(19)?);
    Some(Process {
        pid,
        parent: parent.parse().ok()?,
        name,
        state: (*state).to_owned(),
        started: started.parse().ok()?,
    })
}

pub(super) fn signal(pid: i32, signal: i32) -> Result<()> {
    let target = Pid::from_raw(pid).context("pid 0")?;
    let signal = Signal::from_named_raw(signal).with_context(|| format!("no signal {signal}"))?;
    kill_process(target, signal).with_context(|| format!("signal to {pid}"))
}

/// Makes PID 1 the parent of all children of the process `crowd` at once, then ends them at once.
///
/// containerd's shim adopts the orphans of its pod, so it is ended first; containerd, which would clean up after it,
/// is held still meanwhile.
pub(super) fn orphans(crowd: i32) -> Result<Value> {
    let shim = process(crowd).context("no such process")?.parent;
    let containerd =
        all_processes()?.into_iter().find(|process| process.name == "containerd").context("containerd")?;
    let children = || -> Result<Vec<i32>> {
        Ok(all_processes()?
            .iter()
            .filter(|process| process.parent == crowd)
            .map(|process| process.pid)
            .collect())
    };
    let children = children()?;
    signal(containerd.pid, Signal::STOP.as_raw())?;
    let counted = (|| {
        signal(shim, Signal::KILL.as_raw())?;
        wait_until("the crowd is PID 1's", || process(crowd).is_some_and(|process| process.parent == 1))?;
        signal(crowd, Signal::KILL.as_raw())?;
        wait_until("the crowd's parent is gone", || process(crowd).is_none())?;
        let adopted =
            children.iter().filter(|&&pid| process(pid).is_some_and(|child| child.parent == 1)).count();
        for &pid in &children {
            signal(pid, Signal::KILL.as_raw())?;
        }
        let since = Instant::now();
        wait_until("all orphans are reaped", || children.iter().all(|&pid| process(pid).is_none()))?;
        Ok(json!({"children": children.len(), "adopted": adopted, "reaped_ms": since.elapsed().as_millis()}))
    })();
    signal(containerd.pid, Signal::CONT.as_raw())?;
    counted
}

fn wait_until(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        ensure!(Instant::now() < deadline, "{what}: not within 60 s");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
