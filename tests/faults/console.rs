//! The serial port, which is a node's console, when nobody reads it, when it is hung up, and when there is none.

use super::running::{LIMIT, Node, OWN_LIMIT, Row, fault};
use super::support::{SIGKILL, shown};
use anyhow::{Context, Result, ensure};
use podium_tests::faults::{Fault, Shared};
use podium_tests::hand::{self, Hand};
use podium_tests::inline;
use podium_tests::machine::{BOOT_LIMIT, HAND, HELLO, POWER_OFF_LIMIT, config, hello, options};
use podium_tests::markers::READY;
use podium_tests::qemu::{Machine, Options};
use podium_tests::used;
use std::sync::Arc;

/// Seconds after which a console that was left alone is tried again.
const REST: f64 = 61.0;

const RUNNING: &[Row] = &[
    (
        "the console's reader stops, and reads on",
        "told in the kernel's log; the node goes on without the console, and uses it again once it is read",
        |node| {
            let from = node.machine.console.mark();
            node.machine.stops_reading()?;
            let seen = node.goes_on_unread();
            node.machine.reads_on();
            let seen = seen?;
            node.sleeps(REST)?;
            node.asks("service restart chronyd")?;
            node.hand.reads(&node.machine.console, from, "podium: console: takes lines again", OWN_LIMIT)?;
            Ok(format!("{seen}; then \"takes lines again\""))
        },
    ),
    ("the console is hung up", "its lines are still there, and a killed kubelet returns", |node| {
        node.hand.change_there("lead a session", "/dev/ttyS0", b"")?;
        let line = node.is_told_after_kill("kubelet", "podium: kubelet: ended, signal 9")?;
        Ok(format!("{}; {}", shown(&line), node.is_unharmed()?))
    }),
];

/// All of this file.
pub(super) fn faults(node: &Arc<Shared<Node>>) -> Vec<Fault> {
    let mut faults: Vec<Fault> = RUNNING.iter().map(|row| fault(node, "console", row)).collect();
    faults.push(Fault::in_machine(
        "console",
        "the machine has no serial port",
        "its pods run, what was said is in the kernel's log, it powers off in order",
        without,
    ));
    faults
}

impl Node {
    /// Nobody reads the console: a killed kubelet returns, and the kernel's log has what was said of the console.
    fn goes_on_unread(&self) -> Result<String> {
        let before = self.hand.process("kubelet", "kubelet")?;
        self.hand.kill(before.pid, SIGKILL)?;
        let told = self.hand.wait("the kernel's log tells of it", LIMIT, |hand| {
            let log = hand.ctl("dmesg")?.out;
            Ok(log.lines().rfind(|line| line.contains("podium: console: stalled")).map(str::to_owned))
        })?;
        self.hand.wait("another kubelet", LIMIT, |hand| {
            Ok(Some(hand.process("kubelet", "kubelet")?).filter(|now| *now != before))
        })?;
        Ok(format!("{}; {}", told.trim(), self.is_unharmed()?))
    }

    /// By the guest's clock.
    fn sleeps(&self, seconds: f64) -> Result<()> {
        let uptime = |hand: &Hand| -> Result<f64> {
            let text = hand.read("/proc/uptime")?;
            Ok(text.split_whitespace().next().context("no uptime")?.parse()?)
        };
        let until = uptime(&self.hand)? + seconds;
        self.hand.wait("some time", LIMIT, |hand| Ok((uptime(hand)? > until).then_some(())))
    }
}

fn without() -> Result<String> {
    let disk = used::copy()?;
    let words = [inline::plain(config(&[HELLO, HAND]).as_bytes())];
    // The kernel is still told that it has one.
    let mut machine = Machine::start(&Options { serial: false, ..options(&disk, &words, &[])? })?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    let ready = hand.wait("all pods run", BOOT_LIMIT, |hand| {
        let log = hand.ctl("dmesg")?.out;
        Ok(log.lines().find(|line| line.contains(READY)).map(str::to_owned))
    })?;
    ensure!(hello(&machine)?.contains("hello"));
    machine.press_power_button()?;
    machine.wait_exit(POWER_OFF_LIMIT)?;
    disk.partition("EPHEMERAL")?.check_clean()?;
    Ok(ready.trim().to_owned())
}
