//! One node from power on to power off, and what befalls it in between.

use super::status::told;
use super::support::{BOOT_LIMIT, HAND, HELLO, POWER_OFF_LIMIT, boot, config, hand_of, hello, on_a_new_disk};
use anyhow::{Context, Result, ensure};
use podium_tests::hand::{Hand, Process};
use podium_tests::inline;
use podium_tests::qemu::Machine;
use std::time::Duration;

const KILL: i32 = 9;
/// What is asked of a service that was killed: the first restart comes at once, then it needs its own time.
const RESTART_LIMIT: Duration = Duration::from_secs(90);

/// A process with a thousand children, never started again once it is gone.
const CROWD: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: crowd}
      spec:
        hostPID: true
        restartPolicy: Never
        containers:
          - name: crowd
            image: podium.local/guest:1
            imagePullPolicy: Never
            args: [crowd, '1000']";

/// A pod whose field is misspelt.
const INVALID: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: invalid}
      spec:
        containers: [{name: invalid, imgae: podium.local/hello:1}]";

/// Refused as well: there is nobody to ask for a secret.
const NEEDLESS: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: api-server}
      spec: {containers: [{name: c, image: 'i', envFrom: [{secretRef: {name: s}}]}]}";

#[test]
fn a_node_survives_what_may_befall_it() -> Result<()> {
    on_a_new_disk(|disk| {
        let config = config(&[HELLO, INVALID, NEEDLESS, HAND, CROWD]);
        let mut machine = boot(disk, &[inline::gzip(config.as_bytes())?], &[])?;
        let hand = hand_of(&machine)?;

        an_invalid_pod_is_told_and_stops_no_other(&machine, &hand).context("an invalid pod")?;
        the_cgroups_have_their_options(&hand).context("cgroups")?;
        ensure!(hello(&machine)?.contains("hello"));
        let pod = hand.process("hello", "hello")?;
        a_killed_service_returns(&machine, &hand, "containerd").context("containerd killed")?;
        lives_on(&hand, &pod).context("after containerd was killed")?;
        hello(&machine).context("after containerd")?;
        a_killed_service_returns(&machine, &hand, "kubelet").context("kubelet killed")?;
        hand.wait("the kubelet is healthy", RESTART_LIMIT, |hand| Ok(hand.get(10248, "/healthz").ok()))?;
        lives_on(&hand, &pod).context("after the kubelet was killed")?;
        orphans_are_reaped(&hand).context("1,000 orphans")?;
        lives_on(&hand, &pod).context("at the end")?;

        machine.power_off(POWER_OFF_LIMIT)?;
        let state = disk.partition("STATE")?;
        state.check_clean()?;
        // A config with an error in it is used as far as it goes, but not kept.
        ensure!(!state.list("/")?.contains(&"config.yaml".to_owned()), "a faulty config was kept");
        let data = disk.partition("EPHEMERAL")?;
        data.check_clean()?;
        ensure!(data.bytes > 4 << 30, "/var was not grown to the disk: {} bytes", data.bytes);
        let log = String::from_utf8_lossy(&data.read("/log/podium/kubelet.log")?).into_owned();
        ensure!(log.lines().count() > 10, "the kubelet's log is short:\n{log}");
        Ok(())
    })
}

fn an_invalid_pod_is_told_and_stops_no_other(machine: &Machine, hand: &Hand) -> Result<()> {
    let line = machine.wait("imgae", BOOT_LIMIT)?.text;
    ensure!(line.contains("config from kernel command line (inline)") && line.contains("image"), "{line}");
    machine.wait("podium: ready: all 3 pods", BOOT_LIMIT)?;
    let expected = ["podium-default-crowd.yaml", "podium-default-hand.yaml", "podium-default-hello.yaml"];
    ensure!(hand.list("/etc/kubernetes/manifests")? == expected);
    let answer = hello(machine)?;
    ensure!(answer.contains("hello"), "{answer}");
    for (id, field) in [("default-invalid", "imgae"), ("default-api-server", "secretRef")] {
        let pod = told(hand, id, &["Invalid"])?;
        ensure!(pod["message"].as_str().is_some_and(|message| message.contains(field)), "{pod:#}");
    }
    Ok(())
}

/// The hand is privileged: runc took them for its sake.
fn the_cgroups_have_their_options(hand: &Hand) -> Result<()> {
    hand.wait("the cgroups' own options", RESTART_LIMIT, |hand| {
        let table = hand.read("/proc/1/mountinfo")?;
        let line = table.lines().find(|line| line.contains(" - cgroup2 ")).context("no cgroup2")?;
        Ok(["nsdelegate", "memory_recursiveprot"].iter().all(|option| line.contains(option)).then_some(()))
    })
}

/// The pod's process is the one that it was.
fn lives_on(hand: &Hand, pod: &Process) -> Result<()> {
    let all = hand.processes()?;
    ensure!(
        all.contains(pod),
        "{pod:?} is gone; there is {:?}",
        all.iter().find(|process| process.name == pod.name)
    );
    Ok(())
}

fn a_killed_service_returns(machine: &Machine, hand: &Hand, name: &str) -> Result<()> {
    let before = hand.process(name, name)?;
    let from = machine.console.mark();
    hand.kill(before.pid, KILL)?;
    hand.reads(&machine.console, from, &format!("podium: {name}: ended, signal 9"), RESTART_LIMIT)?;
    hand.reads(&machine.console, from, &format!("podium: {name}: up"), RESTART_LIMIT)?;
    let after = hand.process(name, name)?;
    ensure!(after.pid != before.pid && after.parent == 1, "{before:?} {after:?}");
    Ok(())
}

fn orphans_are_reaped(hand: &Hand) -> Result<()> {
    let crowd = hand.wait("the crowd is there", BOOT_LIMIT, |hand| {
        let crowd = hand.process("guest", "crowd")?;
        let children = hand.processes()?.iter().filter(|process| process.parent == crowd.pid).count();
        Ok((children == 1000).then_some(crowd))
    })?;
    let orphans = hand.orphan(crowd.pid)?;
    ensure!(orphans.children == 1000 && orphans.adopted == 1000, "{orphans:?}");
    eprintln!("1,000 orphans reaped within {} ms", orphans.reaped_ms);
    let is_left = |process: &&Process| process.parent == 1 && process.state == "Z";
    hand.wait("no zombie is left", RESTART_LIMIT, |hand| {
        Ok((hand.processes()?.iter().filter(is_left).count() == 0).then_some(()))
    })
}
