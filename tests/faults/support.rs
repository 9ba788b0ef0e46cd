//! What the areas share: whether a node still does its work, and how a row tells what was seen.

use anyhow::{Context, Result, ensure};
use podium_tests::console::Line;
use podium_tests::ns::{LIMIT, Node};
use std::path::Path;
use std::time::Duration;

/// kill(2)'s number for it.
pub(super) const SIGKILL: i32 = 9;
/// What no process can refuse or notice.
pub(super) const SIGSTOP: i32 = 19;
/// A power off.
pub(super) const SIGTERM: i32 = 15;
/// How a PID namespace's reboot(2) shows to the outside: restart and power off.
pub(super) const SIGHUP: i32 = 1;
/// See [`SIGHUP`].
pub(super) const SIGINT: i32 = 2;
/// A service that ignores SIGTERM is killed within 20 s; this is more than that and less than the whole minute.
pub(super) const STUBBORN_LIMIT: Duration = Duration::from_secs(45);
/// The manifest of the image's own config.
pub(super) const HELLO: &str = "podium-default-hello.yaml";

/// The node does its work: it reaps a killed kubelet, starts it again, and the manifests are still those.
pub(super) fn serves(node: &Node, manifests: &[&str]) -> Result<()> {
    let count = node.starts("kubelet")?.len();
    ensure!(count > 0, "the kubelet was never started");
    let before = node.nth_start("kubelet", count)?;
    node.signal_process(before.pid, SIGKILL)?;
    let after = node.nth_start("kubelet", count + 1)?;
    let have: Vec<&str> = after.manifests.keys().map(String::as_str).collect();
    ensure!(have == manifests, "the kubelet finds {have:?} and not {manifests:?}");
    let init = node.processes().into_iter().find(|process| process.pid == 1).context("PID 1 is gone")?;
    ensure!("SR".contains(init.state), "PID 1 is in state {}", init.state);
    Ok(())
}

/// Ends the node as a power off does, and sees that it went down by itself.
pub(super) fn goes_down(node: &mut Node) -> Result<()> {
    node.signal(SIGTERM)?;
    let signal = node.end(STUBBORN_LIMIT)?;
    ensure!(signal == SIGINT, "PID 1 was ended by signal {signal} and not by a power off");
    Ok(())
}

/// Waits for a line from number `from` on that begins with `start` and holds every one of `parts`.
pub(super) fn told(node: &Node, from: usize, start: &str, parts: &[&str]) -> Result<Line> {
    let what = format!("{start}… {parts:?}");
    node.console.wait_for(from, &what, LIMIT, |line| {
        line.text.starts_with(start) && parts.iter().all(|part| line.text.contains(part))
    })
}

/// A line as a row shows it.
pub(super) fn shown(line: &Line) -> String {
    const MOST: usize = 160;
    let text = line.text.strip_prefix("podium: ").unwrap_or(&line.text);
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("\"{}…\"", &text[..cut]),
        None => format!("\"{text}\""),
    }
}

/// A FIFO.
pub(super) fn make_fifo(path: &Path) -> Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}

/// A symbolic link.
pub(super) fn link(target: &str, path: &Path) -> Result<()> {
    Ok(std::os::unix::fs::symlink(target, path)?)
}
