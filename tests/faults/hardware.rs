//! A machine whose disk fails it, or in which something else hangs in the kernel: what runs goes on, and it goes down in time.

use super::support::{SIGKILL, shown};
use anyhow::{Context, Result, ensure};
use podium_tests::disk::Disk;
use podium_tests::faults::Fault;
use podium_tests::hand::Hand;
use podium_tests::machine::{BOOT_LIMIT, HAND, POWER_OFF_LIMIT, boot, config, hello};
use podium_tests::markers::READY;
use podium_tests::qemu::Machine;
use podium_tests::running::Running;
use serde_json::json;
use std::time::Duration;

/// What the first line of a shutdown promises, and the moment that sync has in any case.
const PROMISED: Duration = Duration::from_millis(60_500);
const MOUNT: &str = "/tmp/fuse";

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::in_machine(
            "shutdown",
            "the disk answers nothing any more",
            "told who hangs (in D state) and what stays mounted; off within the promised 60 s; the next boot is as any other",
            dead_disk,
        ),
        Fault::in_machine(
            "containerd",
            "the power goes as soon as a pod with a network has started",
            "what was not on the disk yet keeps no pod from running: all do after the next boot",
            plug_pulled,
        ),
        Fault::in_machine(
            "resources",
            "the disk is gone",
            "the pods live on, a service that ends is told; off within the promised 60 s; the next boot is as any other",
            lost_disk,
        ),
        Fault::in_machine(
            "resources",
            "the file systems become read-only",
            "a new config is refused with the reason, the pod is the same process; the next boot is as any other",
            read_only,
        ),
        Fault::in_machine(
            "shutdown",
            "a FUSE server is stopped, and a process waits for it (in D state)",
            "both are ended, all is unmounted",
            stopped_server,
        ),
    ]
}

/// The process with that argument, once it waits in the kernel.
fn hangs(hand: &Hand, argument: &str) -> Result<String> {
    hand.wait("a process in D state", BOOT_LIMIT, |hand| {
        let all = hand.processes()?;
        let found = all.into_iter().find(|process| {
            process.state == "D" && process.argv.iter().any(|given| given.contains(argument))
        });
        Ok(found.map(|process| process.name))
    })
}

/// The power button, after which the machine is off in time: how long it took by its own clock, and where to look.
fn goes_off(machine: &mut Machine) -> Result<(usize, Duration)> {
    let from = machine.console.mark();
    machine.press_power_button()?;
    let asked = machine.console.wait(from, "podium: shutdown: power off, asked by", POWER_OFF_LIMIT)?;
    let last = machine.console.wait(from, "podium: halt: power off", POWER_OFF_LIMIT)?;
    machine.wait_exit(POWER_OFF_LIMIT)?;
    let took = last.kernel.zip(asked.kernel).context("no time")?;
    let took = took.0.saturating_sub(took.1);
    ensure!(took <= PROMISED, "{took:?} by the guest's clock");
    Ok((from, took))
}

/// The next boot is as any other.
fn returns(disk: &Disk) -> Result<()> {
    let mut machine = boot(disk, &Running::words(), &[])?;
    machine.wait(READY, BOOT_LIMIT)?;
    ensure!(hello(&machine)?.contains("hello"));
    machine.power_off(POWER_OFF_LIMIT)
}

fn dead_disk() -> Result<String> {
    let Running { disk, mut machine, .. } = Running::resume()?;
    ensure!(hello(&machine)?.contains("hello"));
    // A byte a second: nothing of what is asked for now comes while anybody waits. The hand is not asked for processes
    // any more: to read the words of one that hangs can hang as well.
    let limits =
        json!({"device": "disk0", "bps": 1, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0});
    machine.qmp().execute("block_set_io_throttle", &limits)?;
    ensure!(hello(&machine)?.contains("hello"), "a pod that needs no disk does not answer");
    let (from, took) = goes_off(&mut machine)?;
    let told = |text| machine.console.wait(from, text, POWER_OFF_LIMIT);
    let left = told("podium: halt: going on without the end of ")?;
    ensure!(left.text.contains("(D in "), "{left}");
    told("podium: halt: /var stays mounted")?;
    returns(&disk)?;
    Ok(format!("{}; off after {:.1} s", shown(&left), took.as_secs_f64()))
}

fn plug_pulled() -> Result<String> {
    let Running { disk, machine, .. } = Running::resume()?;
    ensure!(hello(&machine)?.contains("hello"));
    machine.kill();
    returns(&disk)?;
    Ok("its pods run again".to_owned())
}

fn lost_disk() -> Result<String> {
    let Running { disk, mut machine, hand } = Running::resume()?;
    ensure!(hello(&machine)?.contains("hello"));
    let device = hand.link("/sys/block/vda/device")?;
    let device = device.rsplit('/').next().context("no device")?;
    let from = machine.console.mark();
    hand.write("/sys/bus/virtio/drivers/virtio_blk/unbind", device)?;
    machine.console.wait(from, "I/O error", BOOT_LIMIT)?;
    ensure!(hello(&machine)?.contains("hello"), "a pod that needs no disk does not answer");
    hand.kill(hand.process("kubelet", "kubelet")?.pid, SIGKILL)?;
    let line = machine.console.wait(from, "podium: kubelet: ended, signal 9", BOOT_LIMIT)?;
    ensure!(hello(&machine)?.contains("hello"), "the pod died with the kubelet");
    let (_, took) = goes_off(&mut machine)?;
    returns(&disk)?;
    Ok(format!("{}; off after {:.1} s", shown(&line), took.as_secs_f64()))
}

fn read_only() -> Result<String> {
    let Running { disk, mut machine, hand } = Running::resume()?;
    // Once it answers it is executed.
    ensure!(hello(&machine)?.contains("hello"));
    let pod = hand.process("hello", "hello").context("before it")?;
    // What a kernel does to a file system in which it has found an error.
    hand.write("/proc/sysrq-trigger", "u")?;
    hand.wait("STATE is read-only", BOOT_LIMIT, |hand| {
        let table = hand.read("/proc/1/mountinfo")?;
        // The last part of a line is the file system's own options.
        let is_it = |line: &str| {
            let is_read_only = line.rsplit(' ').next().is_some_and(|options| options.starts_with("ro"));
            line.contains(" /system/state ") && is_read_only
        };
        Ok(table.lines().any(is_it).then_some(()))
    })?;
    hand.replace("/run/other.yaml", config(&[HAND]).as_bytes())?;
    let said = hand.ctl("config apply /run/other.yaml")?;
    ensure!(!said.ok && said.err.contains("Read-only file system"), "{said:?}");
    let refused = said.err;
    ensure!(hand.process("hello", "hello")? == pod, "the pod was restarted");
    ensure!(hello(&machine)?.contains("hello"));
    let (_, took) = goes_off(&mut machine)?;
    returns(&disk)?;
    Ok(format!("\"{}\"; off after {:.1} s", refused.trim(), took.as_secs_f64()))
}

fn stopped_server() -> Result<String> {
    let Running { disk, mut machine, hand } = Running::resume()?;
    hand.change("make folder", MOUNT, b"", 0)?;
    hand.change_there("mount FUSE", MOUNT, b"")?;
    let table = hand.read("/proc/1/mountinfo")?;
    ensure!(table.contains(&format!(" {MOUNT} ")), "not mounted:\n{table}");
    let name = hangs(&hand, MOUNT)?;
    let from = machine.console.mark();
    machine.power_off(POWER_OFF_LIMIT)?;
    let line = machine.console.wait(from, "podium: halt: all processes ended", POWER_OFF_LIMIT)?;
    disk.partition("EPHEMERAL")?.check_clean()?;
    Ok(format!("{name} hung; {}, all unmounted", shown(&line)))
}
