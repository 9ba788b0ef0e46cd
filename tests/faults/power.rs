//! The stored config when the power goes in the middle of a change, when a bit of it flips, and when it cannot be read.
//!
//! What a power cut leaves is what had reached the disk: the machine is stopped between two of its instructions again
//! and again while configs are applied, and each time STATE's partition is looked at as the next boot would find it.
//! The last stop is a real cut, and the machine boots from what is left.

use super::services::SERVICES;
use super::support::shown;
use anyhow::{Context, Result, bail, ensure};
use podium_tests::damage;
use podium_tests::disk::{Disk, Partition, temporary_folder};
use podium_tests::faults::{Fault, Shared};
use podium_tests::hand::{self, Hand};
use podium_tests::inline;
use podium_tests::machine::{BOOT_LIMIT, HAND, boot, config, options};
use podium_tests::markers::READY;
use podium_tests::qemu::Machine;
use podium_tests::used;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Where a config waits for `init ctl`.
const NEW: &str = "/run/podium/new.yaml";
/// The config of the boot is the first generation; the cut comes while a later one than this is applied.
const GENERATIONS: u64 = 6;
/// A service without which pods run.
const CHRONYD: &str = "/usr/sbin/chronyd";
/// As many different states of the disk are enough, however long the changes take.
const STATES: usize = 60;

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    let shared = Shared::new(cut_off);
    let [again, once_more] = [(); 2].map(|()| Arc::clone(&shared));
    vec![
        Fault::in_machine(
            "config",
            "the power goes in the middle of an apply, at many points",
            "STATE always has one whole config, none older than what was acknowledged; the node boots with it",
            move || Ok(shared.get()?.seen.clone()),
        ),
        Fault::in_machine(
            "config",
            "a bit of the stored config flips",
            "told by its checksum and kept for inspection; the last known good one is in force",
            move || flipped(&again.get()?.disk),
        ),
        Fault::in_machine(
            "config",
            "two sectors of the disk cannot be read: of the stored config, and of a program",
            "both are told; the last known good config is in force and its pods run, all other services are up",
            move || unreadable(&once_more.get()?.disk),
        ),
    ]
}

/// What is left after the cut and a boot, with the power off.
struct Left {
    disk: Disk,
    seen: String,
}

/// The config that is to be generation `number`.
fn numbered(number: u64) -> String {
    config(&[HAND]) + &format!("  sysctls: {{vm.swappiness: {number}}}\n")
}

/// The generation of what STATE holds, which is whole: one of ours, under a seal.
fn generation(state: &Partition) -> Result<u64> {
    state.replay()?;
    let stored = String::from_utf8(state.read("/config.yaml")?)?;
    let (line, text) = stored.split_once('\n').context("one line")?;
    let number = line.strip_prefix("# podium: generation=").and_then(|rest| rest.split(' ').next());
    let number: u64 = number.with_context(|| format!("no seal: {line}"))?.parse()?;
    ensure!(text == numbered(number), "generation {number} is not what was applied as that: {text}");
    Ok(number)
}

fn cut_off() -> Result<Left> {
    let disk = used::copy()?;
    let mut machine = boot(&disk, &[inline::plain(numbered(1).as_bytes())], &[])?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    machine.wait("podium: config 1: kubelet and pods are up; it is the last known good one", BOOT_LIMIT)?;
    let acknowledged = Arc::new(AtomicU64::new(1));
    let applier = thread::spawn({
        let acknowledged = Arc::clone(&acknowledged);
        move || applies(hand, &acknowledged)
    });
    let states = watched(&mut machine, &disk, &acknowledged);
    machine.kill();
    // Its last request has lost its machine.
    let ended = applier.join().ok().context("the applier panicked")?;
    let (states, last) = states.with_context(|| format!("applies ended with: {ended:#}"))?;

    let (told, left) = (acknowledged.load(Ordering::SeqCst), generation(&disk.partition("STATE")?)?);
    ensure!(left >= told, "generation {told} was acknowledged and {left} is stored");
    let machine = boot(&disk, &[], &[])?;
    let line = machine.wait("podium: config from STATE: 1 pod", BOOT_LIMIT)?;
    machine.wait(READY, BOOT_LIMIT)?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    let in_use: Value = serde_json::from_str(&hand.ctl("-o json config get")?.out)?;
    ensure!(in_use["generation"] == left && in_use["config"] == numbered(left), "{in_use}");
    machine.kill();
    let seen = format!(
        "{states} different states of the disk during {last} changes, each with a whole config; after the cut \
         generation {left} of {told} acknowledged, {}",
        shown(&line)
    );
    Ok(Left { disk, seen })
}

/// Applies one config after the other until the machine is gone; why it ended.
fn applies(hand: Hand, acknowledged: &AtomicU64) -> anyhow::Error {
    let apply = |number: u64| -> Result<()> {
        hand.replace(NEW, numbered(number).as_bytes())?;
        let said = hand.ctl(&format!("config apply {NEW}"))?;
        ensure!(said.ok && said.out.contains(&format!("applied, generation {number},")), "{said:?}");
        acknowledged.store(number, Ordering::SeqCst);
        Ok(())
    };
    (2..).find_map(|number| apply(number).err()).unwrap_or_else(|| anyhow::anyhow!("no number is left"))
}

/// Stops the machine again and again and looks at STATE; leaves it stopped in the middle of an apply. How many
/// different states there were, and the last generation.
fn watched(machine: &mut Machine, disk: &Disk, acknowledged: &AtomicU64) -> Result<(usize, u64)> {
    let folder = temporary_folder()?;
    let mut hashes = BTreeSet::new();
    let mut newest = 1;
    loop {
        // Before the stop: later ones may be missing.
        let told = acknowledged.load(Ordering::SeqCst);
        machine.qmp().execute("stop", &json!({}))?;
        let (copy, hash) = disk.partition("STATE")?.copy_to(&folder.path().join("state"))?;
        if hashes.insert(hash) {
            let stored = generation(&copy).with_context(|| format!("after generation {told}"))?;
            ensure!(stored >= told, "generation {told} was acknowledged and {stored} is stored");
            ensure!(stored >= newest, "generation {newest} was stored and now {stored} is");
            newest = stored;
        }
        if told >= GENERATIONS || hashes.len() >= STATES && told > 1 {
            return Ok((hashes.len(), newest));
        }
        if machine.exited()?.is_some() {
            bail!("the machine has ended:\n{}", machine.console.tail(20));
        }
        machine.qmp().execute("cont", &json!({}))?;
    }
}

fn flipped(disk: &Disk) -> Result<String> {
    let state = disk.partition("STATE")?;
    state.replay()?;
    let mut bytes = state.read("/config.yaml")?;
    // A digit of the text becomes another one: it is still a config, and not the one that was stored.
    let at = bytes.iter().rposition(u8::is_ascii_digit).context("no digit")?;
    bytes[at] ^= 1;
    state.replace("/config.yaml", &bytes)?;
    let machine = boot(disk, &[], &[])?;
    let line = machine.wait("podium: config from STATE: its checksum does not match", BOOT_LIMIT)?;
    machine
        .wait("config from STATE: kept for inspection as /system/state/config/rejected-1.yaml", BOOT_LIMIT)?;
    machine.wait("podium: config from STATE (last known good config): 1 pod", BOOT_LIMIT)?;
    machine.wait(READY, BOOT_LIMIT)?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    ensure!(hand.read("/system/state/config/rejected-1.yaml")?.as_bytes() == bytes, "it was changed");
    ensure!(hand.read("/run/podium/config.yaml")? == numbered(1), "another one is in force");
    Ok(format!("{}; the first one is in force", shown(&line)))
}

fn unreadable(disk: &Disk) -> Result<String> {
    let state = disk.partition("STATE")?;
    state.replay()?;
    let stored = String::from_utf8(state.read("/config/good.yaml")?)?;
    let places = [state.place("/config.yaml")?, damage::place_in_root(disk, CHRONYD)?];
    let mut options = options(disk, &[], &[])?;
    options.bad_sectors = places.map(|place| place / 512).to_vec();
    let machine = Machine::start(&options)?;
    let told = |text: &str| machine.wait(text, BOOT_LIMIT);
    let of_config = machine.console.wait_for(0, "the config's sector", BOOT_LIMIT, |line| {
        line.text.starts_with("podium: config from STATE: ") && line.text.contains("Input/output error")
    })?;
    told("podium: config from STATE (last known good config): 1 pod")?;
    told(READY)?;
    let of_program = told("podium: chronyd: ended, signal 7; next start ")?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    let in_force = hand.read("/run/podium/config.yaml")?;
    let good = stored.split_once('\n').context("one line")?.1;
    ensure!(in_force == good, "another one is in force: {in_force}");
    for service in SERVICES.iter().filter(|service| **service != "chronyd") {
        told(&format!("podium: {service}: up"))?;
    }
    Ok(format!("{}; {}; its pod runs", shown(&of_config), shown(&of_program)))
}
