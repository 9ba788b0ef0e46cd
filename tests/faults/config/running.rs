//! The same bad configs for a node that runs, by its file and by the control socket; and two changes at once.

use super::bombs::BOMBS;
use super::{HELLO, OTHER, REFUSED, Refused, serves, shown, told};
use anyhow::{Context, Result, ensure};
use podium_tests::faults::Fault;
use podium_tests::ns::{Node, Printed, Setup, eventually};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

const STATE_CONFIG: &str = "/system/state/config.yaml";
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// In the middle of the pod's container.
const CUT: Refused = ("cut off", || OTHER.trim_end().as_bytes()[..OTHER.len() - 12].to_vec(), &["not YAML"]);

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    let bad = REFUSED.iter().chain(BOMBS).chain(std::iter::once(&CUT)).map(|&(name, bytes, parts)| {
        let expected = format!(
            "refused with {parts:?} by file, and by socket; what is in force stays so, manifests are not touched"
        );
        // The client refuses what no packing makes a config, before it has read it all.
        let by_socket: &[&str] = if name == "50 MB" { &["larger than 8 MiB"] } else { parts };
        let name = format!("of a running node: {name}");
        Fault::in_namespace("config", name, expected, move || changes_nothing(&bytes(), parts, by_socket))
    });
    let mut faults: Vec<Fault> = bad.collect();
    faults.push(Fault::in_namespace(
        "config",
        "two applies and a file at once",
        "one after the other, none lost: each client has its generation, the last one is in force",
        at_once,
    ));
    faults
}

/// Manifest name to its inode and text: a file that was not touched has both as before.
fn manifests(node: &Node) -> Result<BTreeMap<String, (u64, String)>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(node.path(MANIFESTS))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            all.insert(name, (entry.metadata()?.ino(), std::fs::read_to_string(entry.path())?));
        }
    }
    Ok(all)
}

fn rename_over(node: &Node, bytes: &[u8]) -> Result<()> {
    let aside = node.path("/system/state/.new");
    std::fs::write(&aside, bytes)?;
    Ok(std::fs::rename(aside, node.path(STATE_CONFIG))?)
}

/// Starts `init ctl config apply` of that config; another thread writes it.
fn apply(node: &Node, bytes: &[u8]) -> Result<(Child, JoinHandle<()>)> {
    let mut command = node.ctl_command()?;
    command
        .args(["config", "apply", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (mut stdin, bytes) = (child.stdin.take().context("no input")?, bytes.to_vec());
    // A client that has seen enough reads no more.
    Ok((child, std::thread::spawn(move || drop(stdin.write_all(&bytes)))))
}

fn printed((child, writer): (Child, JoinHandle<()>)) -> Result<Printed> {
    let done = child.wait_with_output()?;
    writer.join().ok().context("the writer panicked")?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Printed { ok: done.status.success(), out: text(done.stdout), err: text(done.stderr) })
}

fn changes_nothing(bad: &[u8], by_file: &[&str], by_socket: &[&str]) -> Result<String> {
    // A folder of the host: the node's own tmpfs would be too small for the larger ones.
    let node = Node::up(&Setup { volumes: vec!["/system/state"], ..Setup::default() })?;
    let (manifests_before, text) = (manifests(&node)?, std::fs::read(node.path("/run/podium/config.yaml"))?);
    let from = node.console.mark();
    rename_over(&node, bad)?;
    let line = told(&node, from, "podium: config", by_file).context("by file")?;
    let answer = printed(apply(&node, bad)?)?;
    let is_told = |said: &str| said.lines().any(|line| by_socket.iter().all(|part| line.contains(part)));
    ensure!(!answer.ok, "by socket: taken: {answer:?}");
    ensure!(is_told(&answer.out) || is_told(&answer.err), "by socket: {answer:?}");
    ensure!(std::fs::read(node.path("/run/podium/config.yaml"))? == text, "another config is in force");
    serves(&node, &[HELLO])?;
    ensure!(manifests(&node)? == manifests_before, "manifests were touched");
    Ok(format!("by file {}; by socket: {}", shown(&line), answer.err.trim_end()))
}

fn at_once() -> Result<String> {
    let node = Node::up(&Setup::default())?;
    let with = |name: &str| OTHER.replace("other", name).into_bytes();
    let clients = [apply(&node, &with("one"))?, apply(&node, &with("two"))?];
    rename_over(&node, &with("file"))?;
    let said = clients.into_iter().map(printed).collect::<Result<Vec<_>>>()?;
    ensure!(said.iter().all(|printed| printed.ok), "{said:?}");
    let mut generations = Vec::new();
    for printed in &said {
        let (_, rest) =
            printed.out.split_once("applied, generation ").with_context(|| printed.out.clone())?;
        generations.push(rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>()?);
    }
    ensure!(generations[0] != generations[1], "both have generation {}", generations[0]);
    // The file may have been looked at before, between or after them, and may have been written over unseen.
    let settled = || {
        let in_use = node.ctl(&["-o", "json", "config", "get"]).ok()?;
        let in_use: serde_json::Value = serde_json::from_str(&in_use.out).ok()?;
        let idle = node.ctl(&["-o", "json", "config", "status"]).ok()?.out.contains("\"changing\":false");
        let stored = std::fs::read_to_string(node.path(STATE_CONFIG)).ok()?;
        let (generation, text) = (in_use["generation"].as_u64()?, in_use["config"].as_str()?.to_owned());
        let is_whole =
            stored.starts_with(&format!("# podium: generation={generation} ")) && stored.ends_with(&text);
        (idle && is_whole).then_some((generation, text))
    };
    let (generation, text) = eventually("one config, stored and in force", podium_tests::ns::LIMIT, settled)
        .map_err(|error| node.with_console(&error))?;
    ensure!(generation >= *generations.iter().max().context("none")?, "generation {generation} is in force");
    let pod = ["one", "two", "file"].into_iter().find(|name| text.contains(&format!("name: {name}")));
    let pod = pod.with_context(|| format!("in force is {text}"))?;
    serves(&node, &[&format!("podium-default-{pod}.yaml")])?;
    let history = node.ctl(&["config", "history"])?.out;
    ensure!(history.matches("applied by").count() == 2, "{history}");
    Ok(format!("clients have {generations:?}; in force and stored is {generation}, with pod {pod} alone"))
}
