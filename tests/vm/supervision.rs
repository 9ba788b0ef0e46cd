//! Services that hang or take too much memory, with the real prober, kubelet and containerd: they come back, and no
//! pod is touched.

use super::support::{BOOT_LIMIT, HAND, HELLO, POWER_OFF_LIMIT, boot, config, hand_of, hello, on_a_new_disk};
use anyhow::{Context, Result, ensure};
use podium_tests::hand::{Hand, Process};
use podium_tests::inline;
use podium_tests::qemu::Machine;
use serde_json::{Value, json};
use std::time::Duration;

const SIGSTOP: i32 = 19;
/// Three questions that are not answered, the stop's limit, and a start on a busy host without KVM.
const COMES_BACK_LIMIT: Duration = Duration::from_secs(300);

#[test]
fn what_hangs_is_found_and_comes_back_and_pods_live_on() -> Result<()> {
    on_a_new_disk(|disk| {
        let config = config(&[HELLO, HAND]);
        let mut machine = boot(disk, &[inline::gzip(config.as_bytes())?], &[])?;
        let hand = hand_of(&machine)?;
        machine.wait("podium: ready: all 2 pods", BOOT_LIMIT)?;
        let pod = hand.process("hello", "hello")?;
        for name in ["kubelet", "containerd"] {
            hand.wait(&format!("{name} is healthy"), COMES_BACK_LIMIT, |hand| {
                let service = service(hand, name)?;
                Ok((service["health"]["state"] == "healthy").then_some(()))
            })?;
        }
        for name in ["kubelet", "containerd"] {
            stopped_comes_back(&machine, &hand, name).with_context(|| format!("{name} stopped"))?;
            lives_on(&hand, &pod).with_context(|| format!("after {name} was stopped"))?;
            ensure!(hello(&machine)?.contains("hello"));
        }
        one_out_of_memory_is_told(&machine, &hand).context("out of memory")?;
        lives_on(&hand, &pod).context("at the end")?;
        machine.power_off(POWER_OFF_LIMIT)
    })
}

fn service(hand: &Hand, name: &str) -> Result<Value> {
    let printed = hand.ctl(&format!("-o json service {name}"))?;
    ensure!(printed.ok, "{printed:?}");
    Ok(serde_json::from_str::<Value>(&printed.out)?["service"].take())
}

fn stopped_comes_back(machine: &Machine, hand: &Hand, name: &str) -> Result<()> {
    let before = hand.process(name, name)?;
    let from = machine.console.mark();
    hand.kill(before.pid, SIGSTOP)?;
    machine.console.wait(from, &format!("podium: {name}: unhealthy: no answer within "), COMES_BACK_LIMIT)?;
    // A stopped process does not take SIGTERM, and the socket of one that is killed is left behind.
    machine.console.wait(from, &format!("podium: {name}: still there, killed"), COMES_BACK_LIMIT)?;
    machine.console.wait(
        from,
        &format!("podium: {name}: ended, signal 9; next start now"),
        COMES_BACK_LIMIT,
    )?;
    machine.console.wait(from, &format!("podium: {name}: up"), COMES_BACK_LIMIT)?;
    let after = hand.process(name, name)?;
    ensure!(after.pid != before.pid && after.parent == 1, "{before:?} {after:?}");
    let service = hand.wait(&format!("{name} is healthy again"), COMES_BACK_LIMIT, |hand| {
        Ok(Some(service(hand, name)?).filter(|service| service["health"]["state"] == "healthy"))
    })?;
    let death = service["deaths"].as_array().and_then(|deaths| deaths.last()).context("no death")?;
    let reason = death["reason"].as_str().unwrap_or_default();
    ensure!(reason.starts_with("unhealthy: no answer within ") && death["oom"] == false, "{death}");
    Ok(())
}

/// The service with the tightest bound; each start sets it anew.
fn one_out_of_memory_is_told(machine: &Machine, hand: &Hand) -> Result<()> {
    machine.wait("podium: api: up", BOOT_LIMIT)?;
    let before = service(hand, "api")?;
    ensure!(before["memory_bytes"].is_u64() && before["cpu_us"].is_u64(), "{before}");
    let from = machine.console.mark();
    hand.write("/sys/fs/cgroup/podium/api/memory.max", "4096")?;
    machine.console.wait(
        from,
        "podium: api: ended, signal 9, out of memory; next start ",
        COMES_BACK_LIMIT,
    )?;
    machine.console.wait(from, "podium: api: up", COMES_BACK_LIMIT)?;
    let after = service(hand, "api")?;
    let death = after["deaths"].as_array().and_then(|deaths| deaths.last()).context("no death")?;
    ensure!(death["oom"] == true && death["signal"] == json!(9), "{death}");
    Ok(())
}

/// The pod's process is the one that it was.
fn lives_on(hand: &Hand, pod: &Process) -> Result<()> {
    let all = hand.processes()?;
    ensure!(all.contains(pod), "{pod:?} is gone");
    Ok(())
}
