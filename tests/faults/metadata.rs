//! containerd's metadata, damaged while the machine was off or under a running node: found before containerd trips over
//! it, kept for inspection, and pods run again from the image's own archives.

use super::support::shown;
use anyhow::{Context, Result, ensure};
use podium_tests::disk::Disk;
use podium_tests::faults::Fault;
use podium_tests::hand::{self, Hand};
use podium_tests::machine::{BOOT_LIMIT, POWER_OFF_LIMIT, boot, hello};
use podium_tests::markers::READY;
use podium_tests::running::Running;

/// From the root of the node and of EPHEMERAL.
const META: &str = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";
const META_ON_DISK: &str = "/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";
const KEPT_ON_DISK: &str = "/lib/podium/damaged";
const PAGE: usize = 4096;

/// What becomes of the file: its bytes before and after.
type Damage = fn(&[u8]) -> Vec<u8>;

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    let expected = "told; the database is kept; the pod runs again";
    // What else can be wrong with a database is looked at without a machine: `init/src/bolt.rs`, `tests/ns/metadata.rs`.
    let damages: [(&str, Damage, &str); 2] = [
        ("truncated", |bytes| bytes[..3 * PAGE].to_vec(), "is damaged: it is 12288 bytes long"),
        ("with a damaged page", damage_root, "is damaged: page "),
    ];
    let off = damages.into_iter().map(|(name, damage, told)| {
        let name = format!("meta.db {name} while the machine is off");
        Fault::in_machine("containerd", name, expected, move || while_off(damage, told))
    });
    let running = Fault::in_machine(
        "containerd",
        "meta.db overwritten under a running node",
        "told; the old pods and shims are ended; the pods run again",
        running,
    );
    off.chain([running]).collect()
}

/// Overwrites the page where the tree begins.
fn damage_root(bytes: &[u8]) -> Vec<u8> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    // Behind the headers of the two meta pages; the one of the later transaction is in force.
    let (first, second) = (16, PAGE + 16);
    let meta = if number(first + 48) > number(second + 48) { first } else { second };
    let root = usize::try_from(number(meta + 16)).unwrap_or_default() * PAGE;
    let mut damaged = bytes.to_vec();
    damaged[root..root + PAGE].fill(0xA5);
    damaged
}

fn while_off(damage: Damage, told: &str) -> Result<String> {
    // It has snapshots and containers of its pods.
    let Running { disk, mut machine, .. } = Running::resume()?;
    machine.power_off(POWER_OFF_LIMIT)?;
    let complaint = machine.console.lines().into_iter().find(|line| line.text.contains("meta.db"));
    ensure!(complaint.is_none(), "a sound database: {complaint:?}");

    let data = disk.partition("EPHEMERAL")?;
    let bytes = damage(&data.read(META_ON_DISK)?);
    data.replace(META_ON_DISK, &bytes)?;
    let mut machine = boot(&disk, &Running::words(), &[])?;
    let line = machine.wait("podium: containerd: meta.db ", BOOT_LIMIT)?;
    ensure!(line.text.contains(told), "{line}");
    machine.wait(READY, BOOT_LIMIT)?;
    ensure!(hello(&machine)?.contains("hello"));
    machine.power_off(POWER_OFF_LIMIT)?;
    ensure!(kept(&disk)? == bytes, "what was kept is not what was damaged");
    Ok(shown(&line))
}

fn kept(disk: &Disk) -> Result<Vec<u8>> {
    let data = disk.partition("EPHEMERAL")?;
    data.check_clean()?;
    data.read(&format!("{KEPT_ON_DISK}/1/meta.db"))
}

fn running() -> Result<String> {
    let Running { disk: _disk, mut machine, hand } = Running::resume()?;
    ensure!(hello(&machine)?.contains("hello"));
    let before = hand.processes()?;
    let from = machine.console.mark();
    let containerd = hand.process("containerd", "containerd")?;
    hand.change("write in place", META, b"garbage", 0)?;
    // It may have ended by itself already, and then another one is about to end the hand.
    drop(hand.kill(containerd.pid, 9));
    let line = machine.console.wait(from, "podium: containerd: meta.db is damaged", BOOT_LIMIT)?;
    machine.console.wait(line.number, "podium: containerd: up", BOOT_LIMIT)?;
    machine.console.wait(line.number, READY, BOOT_LIMIT)?;
    ensure!(hello(&machine)?.contains("hello"));
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    let now = hand.processes()?;
    let old = before.iter().find(|process| {
        ["containerd-shim", "hello", "pause"].contains(&process.name.as_str()) && now.contains(process)
    });
    ensure!(old.is_none(), "{old:?} is still there");
    let events = hand.ctl("events")?.out;
    ensure!(events.contains("meta.db is damaged"), "no event: {events}");
    machine.power_off(POWER_OFF_LIMIT).context("power off")?;
    Ok(shown(&line))
}
