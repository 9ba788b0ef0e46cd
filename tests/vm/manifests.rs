//! The stable UID on a real kubelet, field by field: every change but the image's is a new pod and takes effect.
//!
//! That a changed image restarts the container in its pod, and what a foreign process may do to the manifests of a
//! running node, is with the faults: `tests/faults/directory.rs`.

use super::support::{HAND, boot, config, hand_of, on_a_new_disk};
use anyhow::{Context, Result, ensure};
use podium_tests::fields::{FIELDS, Field, Shows, pod};
use podium_tests::hand::{Hand, Process};
use podium_tests::inline;
use podium_tests::react::STORED;
use serde_json::Value;
use std::time::Duration;

/// Until a change has reached the last process of a round: old pods end, new ones start, on a busy host without KVM.
const LIMIT: Duration = Duration::from_secs(900);

/// Fields of one round: each is a pod, and while they change each is there twice. More would not fit into the machine.
const ROUND: usize = 17;

/// The pod of one field, told from the others by its name and by a word of its process.
struct Case {
    field: &'static Field,
    word: String,
}

impl Case {
    fn new((number, field): (usize, &'static Field)) -> Self {
        Self { field, word: format!("case-{number}") }
    }

    /// The pod of the table under this case's name.
    fn named(&self, mut pod: Value) -> Result<Value> {
        pod["metadata"]["name"] = format!("field-{}", self.word).into();
        let arguments = pod["spec"]["containers"][0]["args"].as_array_mut().context("no arguments")?;
        arguments.push(self.word.as_str().into());
        Ok(pod)
    }

    /// Its main processes: two while an old pod ends beside its successor.
    fn processes<'a>(&self, all: &'a [Process]) -> Vec<&'a Process> {
        all.iter().filter(|process| process.argv.contains(&self.word)).collect()
    }
}

/// A config with the hand and these pods.
fn with(pods: &[Value]) -> String {
    // JSON is YAML.
    let pods: String = pods.iter().map(|pod| format!("\n    - {pod}")).collect();
    config(&[HAND, &pods]).replace("machine:\n", "machine:\n  kubelet: {extraConfig: {maxPods: 250}}\n")
}

/// All fields of a round at once: their pods, then each with its field changed.
#[test]
#[ignore = "some fifty new pods take longer than all other tests together where there is no KVM"]
fn every_field_takes_effect_with_a_stable_uid() -> Result<()> {
    on_a_new_disk(|disk| {
        let machine = boot(disk, &[inline::gzip(with(&[]).as_bytes())?], &[])?;
        let hand = hand_of(&machine)?;
        let cases: Vec<Case> = FIELDS.iter().enumerate().map(Case::new).collect();
        let mut failed = Vec::new();
        for round in cases.chunks(ROUND) {
            failed.extend(take_effect(&hand, round)?);
        }
        ensure!(failed.is_empty(), "{} of {}:\n{}", failed.len(), FIELDS.len(), failed.join("\n"));
        Ok(())
    })
}

/// What is wrong with the fields of a round.
fn take_effect(hand: &Hand, round: &[Case]) -> Result<Vec<String>> {
    let plain = round.iter().map(|case| case.named(pod())).collect::<Result<Vec<_>>>()?;
    hand.replace(STORED, with(&plain).as_bytes())?;
    let mut before = Vec::new();
    for case in round {
        let process = hand.wait("the pod before the change", LIMIT, |hand| {
            Ok(case.processes(&hand.processes()?).first().copied().cloned())
        });
        before.push(hand.pod_uid(process.with_context(|| case.field.path)?.pid)?);
    }
    let changed = round.iter().map(|case| case.named(case.field.changed()?)).collect::<Result<Vec<_>>>()?;
    hand.replace(STORED, with(&changed).as_bytes())?;
    let mut failed = Vec::new();
    for (case, before) in round.iter().zip(&before) {
        let seen = hand.wait("its effect", LIMIT, |hand| {
            for process in case.processes(&hand.processes()?) {
                if hand.pod_uid(process.pid)? != *before && shows(hand, process, case.field.shows)? {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        });
        failed.extend(seen.err().map(|error| format!("{}: {error:#}", case.field.path)));
    }
    Ok(failed)
}

fn shows(hand: &Hand, process: &Process, effect: Shows) -> Result<bool> {
    let proc = |file: &str| hand.read(&format!("/proc/{}/{file}", process.pid));
    Ok(match effect {
        Shows::NewPod => true,
        Shows::Word(word) => process.argv.iter().any(|given| given == word),
        Shows::Environment(pair) => proc("environ")?.split('\0').any(|given| given == pair),
        Shows::Status(name, value) => {
            let start = format!("{name}:\t{value}");
            proc("status")?.lines().any(|line| line.trim_end() == start)
        }
        Shows::Proc(file, text) => proc(file)?.contains(text),
        Shows::File(path, text) => proc(&format!("root{path}"))?.contains(text),
        Shows::Link(name, target) => hand.link(&format!("/proc/{}/{name}", process.pid))? == target,
        Shows::SharesWithNode(space) => {
            let of = |pid: i32| hand.link(&format!("/proc/{pid}/ns/{space}"));
            of(process.pid)? == of(1)?
        }
        Shows::Cgroup(file, text) => {
            let groups = proc("cgroup")?;
            let group = groups.lines().find_map(|line| line.strip_prefix("0::")).context("no cgroup2")?;
            hand.read(&format!("/sys/fs/cgroup{group}/{file}"))?.trim_end() == text
        }
        Shows::Beside(word) => {
            let uid = hand.pod_uid(process.pid)?;
            hand.pod_uid(hand.process("guest", word)?.pid)? == uid
        }
    })
}
