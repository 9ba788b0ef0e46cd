//! The keys that end a machine, in the hands of whoever stands before it.

use super::support::shown;
use anyhow::{Result, ensure};
use podium_tests::console::Line;
use podium_tests::faults::Fault;
use podium_tests::machine::{BOOT_LIMIT, POWER_OFF_LIMIT, hello};
use podium_tests::markers::UNMOUNTED;
use podium_tests::qemu::Machine;
use podium_tests::running::Running;
use serde_json::json;
use std::time::Duration;

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::in_machine(
            "signals",
            "Ctrl-Alt-Del once",
            "a reboot in order: its pods end, its file systems are unmounted, the next boot begins",
            once,
        ),
        Fault::in_machine(
            "signals",
            "the power button",
            "the machine is off, with its pods ended and its file systems clean",
            power_button,
        ),
    ]
}

/// Presses the three keys.
pub(super) fn ctrl_alt_del(machine: &mut Machine) -> Result<()> {
    let keys = ["ctrl", "alt", "delete"].map(|key| json!({"type": "qcode", "data": key}));
    machine.qmp().execute("send-key", &json!({"keys": keys, "hold-time": 50})).map(drop)
}

/// What is said from here on until all is unmounted: why it goes down, and that its pods have ended by then.
fn goes_down(machine: &Machine, from: usize, asked: &str) -> Result<(Line, usize)> {
    let why = machine.console.wait(from, asked, POWER_OFF_LIMIT)?;
    let last = machine.console.wait(why.number, UNMOUNTED, POWER_OFF_LIMIT)?.number;
    let pods =
        machine.console.wait(why.number, "podium: shutdown: pods done: no pod is left", Duration::ZERO)?;
    ensure!(pods.number < last, "unmounted before the pods' end");
    Ok((why, last))
}

fn once() -> Result<String> {
    let Running { disk: _disk, mut machine, .. } = Running::resume()?;
    ensure!(hello(&machine)?.contains("hello"));
    let from = machine.console.mark();
    ctrl_alt_del(&mut machine)?;
    let (why, last) = goes_down(&machine, from, "podium: shutdown: reboot, asked by Ctrl-Alt-Del")?;
    machine.console.wait(last, ", node stage", BOOT_LIMIT)?;
    Ok(shown(&why))
}

fn power_button() -> Result<String> {
    let Running { disk, mut machine, .. } = Running::resume()?;
    ensure!(hello(&machine)?.contains("hello"));
    let from = machine.console.mark();
    machine.press_power_button()?;
    let (why, _) = goes_down(&machine, from, "podium: shutdown: power off, asked by signal PWR")?;
    machine.wait_exit(POWER_OFF_LIMIT)?;
    for label in ["STATE", "EPHEMERAL"] {
        disk.partition(label)?.check_clean()?;
    }
    Ok(shown(&why))
}
