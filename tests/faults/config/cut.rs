//! A config that was cut off: at every 64th byte through the parsing child, at some places through whole nodes.
//!
//! A text that ends early may still be YAML, and then nothing in it tells that something is missing: what came from
//! a kernel command line or was stored is protected by other means (base64, checksums, rename). What is asked here
//! is that a cut never does more harm than that: no part of what stands before the cut is lost or changed, nothing
//! that is half written runs, and what is refused says where.

use super::{BAD, FROM_BAD, is_refused};
use crate::support::{serves, shown, told};
use anyhow::{Context, Result, bail, ensure};
use podium_tests::build::programs;
use podium_tests::faults::Fault;
use podium_tests::ns::{Node, Setup};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// Three pods with what pods have, then other parts of a machine.
const WHOLE: &str = include_str!("cut.yaml");
const STEP: usize = 64;

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::in_namespace(
            "config",
            "cut off at every 64th byte",
            "refused, or what stands before the cut is as in the whole: all pods but the last are the same bytes",
            every_64th,
        ),
        Fault::in_namespace(
            "config",
            "cut off in its first key",
            "refused with line 1; the node serves",
            || is_refused(&WHOLE.as_bytes()[..5], &["no machine config"]),
        ),
        Fault::in_namespace(
            "config",
            "cut off within quotes",
            "refused with its line; the node serves",
            || {
                let cut = WHOLE.find("cluster first").context("no such word")?;
                is_refused(&WHOLE.as_bytes()[..cut + 3], &["line ", "not YAML"])
            },
        ),
        Fault::in_namespace(
            "config",
            "cut off in its second pod",
            "the second is told and left out, the first runs",
            within_second,
        ),
    ]
}

fn every_64th() -> Result<String> {
    let whole = manifests(&outcome(WHOLE.as_bytes())?)?;
    ensure!(whole.len() == 3, "the whole config has {} pods", whole.len());
    let (mut refused, mut cut, mut pods) = (0, 0, 0);
    for end in (0..WHOLE.len()).step_by(STEP) {
        let result = outcome(&WHOLE.as_bytes()[..end]).with_context(|| format!("cut after {end} bytes"))?;
        let problems = result["problems"].as_array().context("no problems")?;
        if result["config"].is_null() {
            let said =
                problems.iter().any(|problem| !problem["message"].as_str().unwrap_or_default().is_empty());
            ensure!(said, "cut after {end} bytes: refused without a word");
            refused += 1;
            continue;
        }
        cut += 1;
        let have = manifests(&result)?;
        let names: Vec<&String> = have.keys().collect();
        for (place, (id, manifest)) in have.iter().enumerate() {
            let whole = whole.get(id).with_context(|| format!("cut after {end} bytes: {id} is new"))?;
            ensure!(
                manifest == whole || place + 1 == names.len(),
                "cut after {end} bytes: {id} is another, and not the last"
            );
        }
        pods = pods.max(have.len());
    }
    ensure!(refused > 0 && pods == 3, "{refused} refused, {pods} pods at most");
    Ok(format!("{refused} refused with a reason, {cut} taken as far as they go"))
}

fn within_second() -> Result<String> {
    let cut = WHOLE.find("name: second").context("no such word")? + "name: second".len();
    let text = WHOLE[..cut].to_owned();
    let setup = Setup::default().word("podium.config=/cfg/bad.yaml").file(BAD, text.into());
    let node = Node::up(&setup)?;
    let line = told(&node, 0, FROM_BAD, &["machine.pods[1]"])?;
    told(&node, 0, FROM_BAD, &["1 pod"])?;
    serves(&node, &["podium-default-first.yaml"])?;
    Ok(shown(&line))
}

/// What the parsing child says of a text.
fn outcome(text: &[u8]) -> Result<Value> {
    let mut command = Command::new(&programs()?.init);
    command.arg("parse").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // A few KiB fit into the pipe, whether it reads or not.
    child.stdin.take().context("no input")?.write_all(text)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("the parsing child: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Its manifests by the pods' places in the config.
fn manifests(outcome: &Value) -> Result<BTreeMap<String, Value>> {
    let list = outcome["manifests"].as_array().context("no manifests")?;
    list.iter()
        .map(|manifest| Ok((manifest["id"].as_str().context("no id")?.to_owned(), manifest.clone())))
        .collect()
}
