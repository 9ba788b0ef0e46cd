//! The stable UID on a real kubelet: every change but the image's is a new pod, and every field takes effect in it.
//!
//! That each field alone gives another UID is in `tests/ns/fields.rs`. That a changed image restarts the container in
//! its pod, and what a foreign process may do to the manifests of a running node, is with the faults:
//! `tests/faults/directory/`.

use super::support::{HAND, config, on_a_running_node};
use anyhow::{Context, Result, ensure};
use podium_tests::fields::{FIELDS, Field, Shows, pod, together};
use podium_tests::hand::{Hand, Process};
use podium_tests::react::STORED;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Until a change has reached the last process: old pods end, new ones start, on a busy host without KVM.
const LIMIT: Duration = Duration::from_secs(600);

/// A pod with several fields that change, told from the others by its name and by a word of its process.
struct Case {
    fields: Vec<&'static Field>,
    word: String,
}

impl Case {
    fn new((number, fields): (usize, Vec<&'static Field>)) -> Self {
        Self { fields, word: format!("case-{number}") }
    }

    /// The pod of the table under this case's name, before the change and after it.
    fn pod(&self, is_changed: bool) -> Result<Value> {
        let mut pod = pod();
        for field in self.fields.iter().filter(|_| is_changed) {
            field.change(&mut pod)?;
        }
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
    config(&[HAND, &pods])
}

#[test]
fn every_field_takes_effect_with_a_stable_uid() -> Result<()> {
    on_a_running_node(|_, _machine, hand| {
        let cases: Vec<Case> = together().into_iter().enumerate().map(Case::new).collect();
        let pods = |is_changed| cases.iter().map(|case| case.pod(is_changed)).collect::<Result<Vec<_>>>();
        hand.replace(STORED, with(&pods(false)?).as_bytes())?;
        // A container counts as running before its process has its arguments.
        let uid = |case: &Case| {
            hand.wait(&case.word, LIMIT, |hand| {
                let all = hand.processes()?;
                case.processes(&all).first().map(|process| hand.pod_uid(process.pid)).transpose()
            })
        };
        let before = cases.iter().map(uid).collect::<Result<Vec<_>>>()?;

        hand.replace(STORED, with(&pods(true)?).as_bytes())?;
        let since = Instant::now();
        let mut failed = Vec::new();
        for (case, before) in cases.iter().zip(&before) {
            for field in &case.fields {
                // What has not come when all others have does not come any more.
                let limit = LIMIT.saturating_sub(since.elapsed());
                let seen = take_effect(&hand, case, field, before, limit);
                failed.extend(seen.err().map(|error| format!("{error:#}")));
            }
        }
        ensure!(failed.is_empty(), "{} of {}:\n{}", failed.len(), FIELDS.len(), failed.join("\n"));
        Ok(())
    })
}

/// Waits for a process of the case's new pod that shows the field.
fn take_effect(hand: &Hand, case: &Case, field: &Field, before: &str, limit: Duration) -> Result<()> {
    hand.wait(field.path, limit, |hand| {
        for process in case.processes(&hand.processes()?) {
            if hand.pod_uid(process.pid)? != before && shows(hand, process, field.shows)? {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
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
        Shows::InGroup(group) => {
            let status = proc("status")?;
            let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).context("no groups")?;
            groups.split_whitespace().any(|given| given == group)
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
