//! The config of a running node with the real kubelet: what changes, what does not, and the way back.

use super::support::{BOOT_LIMIT, HAND, HELLO, config, hello, on_a_running_node};
use anyhow::{Context, Result, ensure};
use podium_tests::hand::{self, Hand, Printed, Process};
use podium_tests::markers::READY;
use podium_tests::qemu::Machine;
use podium_tests::react::STORED;

const SECOND: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: second}
      spec:
        containers: [{name: second, image: podium.local/hello:1, imagePullPolicy: Never}]";

/// Its image is nowhere.
const BROKEN: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: broken}
      spec:
        containers: [{name: broken, image: podium.local/nowhere:1, imagePullPolicy: Never}]";

/// Where a config waits for `init ctl`.
const NEW: &str = "/run/podium/new.yaml";

fn apply(hand: &Hand, text: &str, words: &str) -> Result<Printed> {
    hand.replace(NEW, text.as_bytes())?;
    hand.ctl(&format!("config apply {NEW}{words}"))
}

/// The pod's process, of which the node has two when `second` runs as well.
fn processes(hand: &Hand) -> Result<Vec<Process>> {
    let mut all = hand.processes()?;
    all.retain(|process| process.name == "hello");
    Ok(all)
}

fn proved(machine: &Machine, from: usize, generation: u64) -> Result<()> {
    let line = format!("config {generation}: kubelet and pods are up; it is the last known good one");
    machine.console.wait(from, &line, BOOT_LIMIT).map(drop)
}

#[test]
fn a_config_changes_on_a_running_node_and_a_bad_one_is_taken_back() -> Result<()> {
    on_a_running_node(|_, machine, hand| {
        // Until it answers, its process may still be the one that becomes it.
        ensure!(hello(&machine)?.contains("hello"));
        let pod = processes(&hand)?.pop().context("no pod")?;
        proved(&machine, 0, 1).context("the config of the boot")?;

        let from = machine.console.mark();
        hand.replace(STORED, config(&[HELLO, HAND, SECOND]).as_bytes())?;
        machine.console.wait(from, "podium: pod default/second: running", BOOT_LIMIT)?;
        ensure!(processes(&hand)?.contains(&pod), "a pod that did not change was restarted");
        let pods = hand.ctl("pods")?.out;
        ensure!(pods.contains("default-second"), "{pods}");
        proved(&machine, from, 2).context("a changed file")?;

        let running = processes(&hand)?;
        let kubelet = hand.process("kubelet", "kubelet")?;
        let settings = "machine:\n  kubelet: {extraConfig: {maxPods: 42}}\n  env: {A: b}\n";
        let with_setting = config(&[HELLO, HAND, SECOND]).replace("machine:\n", settings);
        let from = machine.console.mark();
        let done = apply(&hand, &with_setting, "")?;
        ensure!(done.ok && done.out.contains("applied, generation 3, pods 3"), "{done:?}");
        machine.console.wait(from, "podium: containerd: up", BOOT_LIMIT)?;
        machine.console.wait(from, "podium: kubelet: up", BOOT_LIMIT)?;
        ensure!(hand.process("kubelet", "kubelet")? != kubelet, "the kubelet was not restarted");
        ensure!(processes(&hand)? == running, "pods were restarted with the kubelet");
        proved(&machine, from, 3).context("other settings")?;

        let from = machine.console.mark();
        let bad = config(&[HELLO, HAND, BROKEN]).replace("machine:\n", settings);
        let done = apply(&hand, &bad, " --timeout 45")?;
        ensure!(done.ok && done.out.contains("on-proof for 45 s"), "{done:?}");
        machine.console.wait(from, "podium: pod default/second: stopped", BOOT_LIMIT)?;
        let why = "podium: config: not all pods came up, or stayed up within its limit; going back";
        machine.console.wait(from, why, BOOT_LIMIT)?;
        machine.console.wait(from, "podium: back to config 3 in force: 3 pods", BOOT_LIMIT)?;
        machine.console.wait(from, "podium: pod default/second: running", BOOT_LIMIT)?;
        ensure!(processes(&hand)?.contains(&pod), "the pod that was in all of them was restarted");
        let history = hand.ctl("config history")?.out;
        ensure!(history.contains("current, good"), "{history}");
        let aside = hand.read("/system/state/config/rejected-1.yaml")?;
        ensure!(aside.contains("broken"), "{aside}");

        // The port changes hands: who gets it waits until the real portmap has taken it from the other.
        let from = machine.console.mark();
        let handed = config(&[
            &HELLO.replace("hostPort: 8080", "hostPort: 8081"),
            HAND,
            &SECOND.replace("Never}", "Never, ports: [{containerPort: 8080, hostPort: 8080}]}"),
        ]);
        hand.replace(STORED, handed.replace("machine:\n", settings).as_bytes())?;
        for told in [
            "podium: pod default/second: held: ",
            "podium: pod default/second: no longer held",
            "podium: pod default/second: running",
        ] {
            machine.console.wait(from, told, BOOT_LIMIT)?;
        }
        let answer = hello(&machine)?;
        ensure!(answer.contains("second"), "port 8080 is not the second pod's: {answer}");
        machine.console.wait(from, "kubelet and pods are up; it is the last known good one", BOOT_LIMIT)?;

        let from = machine.console.mark();
        ensure!(hand.ctl("reboot")?.ok);
        // The words of the kernel command line are older than what was applied over them.
        machine.console.wait(from, "taken before; what is stored goes before it", BOOT_LIMIT)?;
        machine.console.wait(from, "podium: config from STATE: 3 pods", BOOT_LIMIT)?;
        machine.console.wait(from, READY, BOOT_LIMIT)?;
        ensure!(hello(&machine)?.contains("second"));
        Ok(())
    })
}

fn hostname(hand: &Hand) -> Result<String> {
    Ok(hand.read("/proc/sys/kernel/hostname")?.trim().to_owned())
}

#[test]
fn what_a_bad_config_has_brought_by_a_reboot_goes_by_one() -> Result<()> {
    on_a_running_node(|_, machine, hand| {
        proved(&machine, 0, 1).context("the config of the boot")?;
        let before = hostname(&hand)?;
        ensure!(before != "bad");
        let bad =
            config(&[HELLO, HAND, BROKEN]).replace("machine:\n", "machine:\n  network: {hostname: bad}\n");
        let from = machine.console.mark();
        let done = apply(&hand, &bad, "")?;
        ensure!(done.ok && done.out.contains("reboot"), "{done:?}");
        let boot = machine.console.wait(from, ", node stage", BOOT_LIMIT)?.number;
        machine.console.wait(boot, "podium: pod default/hand: running", BOOT_LIMIT)?;
        let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
        ensure!(hostname(&hand)? == "bad", "the config came without its host name");

        let why = "podium: config: not all pods came up, or stayed up within its limit; going back";
        let back = machine.console.wait(boot, why, 2 * BOOT_LIMIT)?.number;
        machine.console.wait(back, "machine.network.hostname needs a reboot", BOOT_LIMIT)?;
        let boot = machine.console.wait(back, ", node stage", BOOT_LIMIT)?.number;
        machine.console.wait(boot, "podium: config from STATE: 2 pods", BOOT_LIMIT)?;
        machine.console.wait(boot, READY, BOOT_LIMIT)?;
        let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
        ensure!(hostname(&hand)? == before, "{} after the way back", hostname(&hand)?);
        ensure!(hand.ctl("config status")?.out.contains("settled"), "{:?}", hand.ctl("config status")?);
        Ok(())
    })
}
