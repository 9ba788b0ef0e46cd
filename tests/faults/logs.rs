//! What services write, when it is too much or cannot be kept: the service and the node go on, and what is lost is told.

use super::support::{SIGKILL, goes_down, shown};
use anyhow::{Context, Result, ensure};
use podium_tests::console::Line;
use podium_tests::faults::Fault;
use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use std::path::PathBuf;

/// The largest file of a log, and how many there are of one.
const FILE_MAX: u64 = 1 << 20;
const FILES: u64 = 4;

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let fault =
        |name, expected, run: fn() -> Result<String>| Fault::in_namespace("logs", name, expected, run);
    vec![
        fault(
            "a service that writes as fast as it can",
            "PID 1 answers meanwhile, another service's line is written, the files are bounded; the node goes down in order",
            flood,
        ),
        fault(
            "a log folder that is full",
            "told once, the service goes on; told what was lost once there is room",
            || unwritable("tmpfs /var/log/podium 64k\n", "", make_room),
        ),
        fault(
            "a log folder that is read-only",
            "told once, the service goes on; told what was lost once it can be written",
            || {
                let before = "tmpfs /var/log/podium 16m\nremount /var/log/podium ro\n";
                unwritable(before, "remount /var/log/podium rw\n", |_| Ok(()))
            },
        ),
        fault("a log folder that is removed", "made anew, with the lines that follow", removed),
    ]
}

fn log(node: &Node, name: &str) -> PathBuf {
    node.path(&format!("/var/log/podium/{name}"))
}

fn flood() -> Result<String> {
    let setup = Setup::default()
        .script("kubelet", "ready\npour /fake/enough\n")
        .script("containerd", "ready\nuntil /fake/speak\nsay one line of containerd\n");
    let mut node = Node::up(&setup)?;
    // It has begun: there is a second file.
    eventually("a full file", LIMIT, || log(&node, "kubelet.log.1").exists().then_some(()))?;
    for _ in 0..20 {
        let (answer, _) = node.ask(r#"{"version":1,"request":"services"}"#)?;
        ensure!(answer["ok"] == true, "{answer}");
    }
    node.touch("/fake/speak")?;
    let spoken =
        || std::fs::read_to_string(log(&node, "containerd.log")).ok()?.contains("one line").then_some(());
    eventually("another service's line", LIMIT, spoken)?;
    ensure!(node.starts("kubelet")?.len() == 1, "the one that writes has ended meanwhile");
    let sizes = || -> u64 {
        let entries = std::fs::read_dir(node.path("/var/log/podium")).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("kubelet.log"));
        ours.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
    };
    let size = sizes();
    ensure!(size <= FILES * FILE_MAX, "{size} bytes");
    goes_down(&mut node)?;
    Ok(format!("20 answers, one line of containerd beside it, {size} bytes kept"))
}

/// `before`, `after`: what is done to the folder; the log writer begins anew in between, so that it sees that.
fn unwritable(before: &str, after: &str, mend: fn(&Node) -> Result<()>) -> Result<String> {
    let setup = Setup::default()
        .script("containerd", &format!("{before}ready\nuntil /fake/mend\n{after}mark /fake/mended\n"))
        .script(
            "kubelet",
            "ready\nuntil /fake/go\nprint 20000\nmark /fake/done\nuntil /fake/mended\nprint 10\n",
        );
    let mut node = Node::up(&setup)?;
    let start = node.wait("podium: log: starting, pid ")?;
    let pid = start.text.rsplit(' ').next().and_then(|pid| pid.parse().ok()).context("its PID")?;
    node.signal_process(pid, SIGKILL)?;
    // The killed one may have told too.
    let anew = node.console.wait(start.number + 1, "podium: log: starting, pid ", LIMIT)?.number;
    node.touch("/fake/go")?;
    eventually("that the service goes on", LIMIT, || node.root("/fake/done").exists().then_some(()))?;
    let told = node.console.wait(anew, "podium: log: /var/log/podium/kubelet.log: ", LIMIT)?;
    ensure!(told.text.contains("lines are dropped until it can be written again"), "{told}");
    mend(&node)?;
    node.touch("/fake/mend")?;
    let again =
        node.console.wait(told.number, "podium: log: /var/log/podium/kubelet.log: written again, ", LIMIT)?;
    let mut lines = node.console.lines();
    lines.retain(|line| line.text.contains("log: "));
    let is_told = |line: &&Line| line.text.contains("kubelet.log: ") && line.text.contains("dropped until");
    let (of_killed, of_next): (Vec<_>, Vec<_>) =
        lines.iter().filter(is_told).partition(|line| line.number < anew);
    ensure!(of_killed.len() <= 1 && of_next.len() == 1, "not told once by each: {lines:#?}");
    goes_down(&mut node)?;
    Ok(format!("{}; {}", shown(&told), shown(&again)))
}

fn make_room(node: &Node) -> Result<()> {
    for entry in std::fs::read_dir(node.path("/var/log/podium"))? {
        std::fs::File::options().write(true).open(entry?.path())?.set_len(0)?;
    }
    Ok(())
}

fn removed() -> Result<String> {
    let setup = Setup::default().script("kubelet", "say before\nready\nuntil /fake/go\nsay after\n");
    let node = Node::up(&setup)?;
    let has =
        |text: &str| std::fs::read_to_string(log(&node, "kubelet.log")).ok()?.contains(text).then_some(());
    eventually("the first line", LIMIT, || has("before"))?;
    std::fs::remove_dir_all(node.path("/var/log/podium"))?;
    node.touch("/fake/go")?;
    eventually("the next line", LIMIT, || has("after"))?;
    Ok("the line that followed is there".to_owned())
}
