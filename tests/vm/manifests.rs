//! The stable UID on a real kubelet, field by field: a changed image restarts the container in its pod, every other
//! change is a new pod and takes effect.
//!
//! What a foreign process may do to the manifests of a running node is a matter of faults: `tests/faults/directory.rs`.

use super::support::{HAND, boot, config, hand_of, on_a_new_disk};
use anyhow::{Context, Result, ensure};
use podium_tests::fields::{FIELDS, Field, Shows, pod};
use podium_tests::hand::{Hand, Process};
use podium_tests::inline;
use podium_tests::react::STORED;
use serde_json::Value;
use std::time::Duration;

/// Until a change has reached the process: the old pod ends, the new one starts, on a busy host without KVM.
const LIMIT: Duration = Duration::from_secs(240);

/// A config with the hand and this pod.
fn with(pod: &Value) -> String {
    // JSON is YAML.
    config(&[HAND, &format!("\n    - {pod}")])
}

/// The main process of the pod `field`.
fn process(hand: &Hand) -> Result<Process> {
    let is_main = |word: &String| word.starts_with("field-") && word != "field-more";
    let mut found = hand.processes()?.into_iter().filter(|process| process.argv.iter().any(is_main));
    let first = found.next().context("no process of the pod")?;
    ensure!(found.next().is_none(), "two pods run side by side");
    Ok(first)
}

#[test]
#[ignore = "some fifty new pods take longer than all other tests together where there is no KVM"]
fn every_field_takes_effect_with_a_stable_uid() -> Result<()> {
    on_a_new_disk(|disk| {
        let machine = boot(disk, &[inline::gzip(with(&pod()).as_bytes())?], &[])?;
        let hand = hand_of(&machine)?;
        let mut failed = Vec::new();
        for field in FIELDS {
            hand.replace(STORED, with(&pod()).as_bytes())?;
            if let Err(error) = takes_effect(&hand, field) {
                failed.push(format!("{}: {error:#}", field.path));
            }
        }
        ensure!(failed.is_empty(), "{} of {}:\n{}", failed.len(), FIELDS.len(), failed.join("\n"));
        Ok(())
    })
}

fn takes_effect(hand: &Hand, field: &Field) -> Result<()> {
    let plain = |hand: &Hand| {
        let process = process(hand)?;
        Ok(process.argv.iter().any(|word| word == "field-1").then_some(process))
    };
    let before = hand.pod_uid(hand.wait("the pod before the change", LIMIT, plain)?.pid)?;
    hand.replace(STORED, with(&field.changed()?).as_bytes())?;
    hand.wait("its effect", LIMIT, |hand| {
        let process = process(hand)?;
        let is_new = hand.pod_uid(process.pid)? != before;
        Ok((is_new && shows(hand, &process, field.shows)?).then_some(()))
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

#[test]
fn a_changed_image_restarts_the_container_in_its_pod() -> Result<()> {
    on_a_new_disk(|disk| {
        let machine = boot(disk, &[inline::gzip(with(&pod()).as_bytes())?], &[])?;
        let hand = hand_of(&machine)?;
        hand.tag("podium.local/guest:1", "podium.local/guest:2")?;
        let before = process(&hand)?;
        let uid = hand.pod_uid(before.pid)?;
        let sandbox = |hand: &Hand| -> Result<Vec<Process>> {
            let all = hand.processes()?.into_iter().filter(|process| process.name == "pause");
            Ok(all.filter(|process| hand.pod_uid(process.pid).is_ok_and(|other| other == uid)).collect())
        };
        let pause = sandbox(&hand)?;
        ensure!(pause.len() == 1, "{pause:?}");
        let mut changed = pod();
        changed["spec"]["containers"][0]["image"] = "podium.local/guest:2".into();
        hand.replace(STORED, with(&changed).as_bytes())?;
        let after = hand.wait("the new container", LIMIT, |hand| {
            let now = process(hand)?;
            Ok((now != before).then_some(now))
        })?;
        ensure!(hand.pod_uid(after.pid)? == uid, "the pod has another UID: it was made anew");
        ensure!(sandbox(&hand)? == pause, "the sandbox was made anew");
        Ok(())
    })
}
