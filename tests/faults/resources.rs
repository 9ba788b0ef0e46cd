//! What PID 1 runs out of.

use super::support::{HELLO, SIGKILL, goes_down, serves};
use anyhow::{Result, ensure};
use podium_tests::faults::Fault;
use podium_tests::ns::{Node, Setup};

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let fault =
        |name, expected, run: fn() -> Result<String>| Fault::in_namespace("resources", name, expected, run);
    vec![
        fault(
            "no descriptor left for PID 1",
            "a killed service comes back, and has more descriptors itself",
            no_descriptor_left,
        ),
        fault(
            "16 descriptors for PID 1 once it runs",
            "a killed service comes back, the node goes down in order",
            sixteen_at_run_time,
        ),
        fault(
            "16 descriptors for the whole node from the start",
            "the node comes up, a killed service comes back, the node goes down in order",
            sixteen_from_the_start,
        ),
    ]
}

fn no_descriptor_left() -> Result<String> {
    let node = Node::up(&Setup::default())?;
    // It has more than these open, so it gets no new one.
    node.limit_files(3)?;
    let pid = node.nth_start("kubelet", 1)?.pid;
    node.signal_process(pid, SIGKILL)?;
    let start = node.nth_start("kubelet", 2)?;
    ensure!(start.nofile > Some(3), "the kubelet may open {:?}", start.nofile);
    Ok(format!("the kubelet came back and may open {:?} files", start.nofile.unwrap_or_default()))
}

fn sixteen_at_run_time() -> Result<String> {
    let mut node = Node::up(&Setup::default())?;
    node.limit_files(16)?;
    serves(&node, &[HELLO])?;
    goes_down(&mut node)?;
    Ok("the kubelet came back; power off in order".to_owned())
}

fn sixteen_from_the_start() -> Result<String> {
    let mut node = Node::up(&Setup { open_files: Some(16), ..Setup::default() })?;
    serves(&node, &[HELLO])?;
    goes_down(&mut node)?;
    Ok("up, the kubelet came back; power off in order".to_owned())
}
