//! Clocks that are far off: the battery-backed one of a machine, also while its keys end it, and those that count from
//! the boot.

use super::keys::ctrl_alt_del;
use super::support::{SIGKILL, goes_down, shown, told};
use anyhow::{Context, Result, ensure};
use podium_tests::console::Line;
use podium_tests::disk::Disk;
use podium_tests::faults::Fault;
use podium_tests::hand::Hand;
use podium_tests::inline;
use podium_tests::machine::{BOOT_LIMIT, HAND, HELLO, POWER_OFF_LIMIT, config, hand_of, hello, options};
use podium_tests::markers::UNMOUNTED;
use podium_tests::ns::{LIMIT, Node, Setup};
use podium_tests::qemu::Machine;
use podium_tests::used;
use std::time::Duration;

/// A pod that does not end when it is asked to, and is given ten minutes for it.
const STUBBORN: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: stubborn}
      spec:
        hostNetwork: true
        terminationGracePeriodSeconds: 600
        containers:
          - name: stubborn
            image: podium.local/guest:1
            imagePullPolicy: Never
            args: [sleep, stubborn-1]";
/// What is said of a clock that cannot be right.
const SET: &str = "podium: the clock was before the time this image was built";
/// The hurry's 5 s and the last acts, on a slow machine; the pod has ten minutes.
const WITHOUT_PODS: Duration = Duration::from_secs(60);
/// Where the log writer marks a boot with the wall clock's time.
const LOG: &str = "/var/log/podium/kubelet.log";
const DAY: u64 = 86_400;
/// The kernel lets a clock be ahead by 146 years.
const CENTURY: u64 = 36_500 * DAY;

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    let expected =
        "a killed service is back at once, one that dies often later and later; it goes down in order";
    vec![
        Fault::in_namespace("clock", "the machine has been up for a century", expected, || {
            is_timely([CENTURY, CENTURY])
        }),
        Fault::in_namespace("clock", "the machine has been asleep for a year", expected, || {
            is_timely([DAY, 365 * DAY])
        }),
        Fault::in_machine(
            "clock",
            "the machine's clock is in 1970",
            "told; set to the time the image was built; its pods run, and who asks is answered",
            || {
                let (_disk, machine, hand) = boots_in("1970-01-01T00:00:10", &config(&[HELLO, HAND]))?;
                let line = machine.wait(SET, BOOT_LIMIT)?;
                let year = year_of(&hand)?;
                ensure!(year >= 2020, "the year is {year}");
                Ok(format!("{}; in {year} {}", shown(&line), works(&machine, &hand)?))
            },
        ),
        Fault::in_machine(
            "clock",
            "the machine's clock is in 2069, the last year that this kernel takes from one",
            "its pods run, and who asks is answered",
            || {
                let (_disk, machine, hand) = boots_in("2069-12-01T00:00:00", &config(&[HELLO, HAND]))?;
                let year = year_of(&hand)?;
                ensure!(year == 2069, "the year is {year}");
                Ok(format!("in {year} {}", works(&machine, &hand)?))
            },
        ),
        Fault::in_machine(
            "signals",
            "Ctrl-Alt-Del eight times in 2106, beside a pod that is given ten minutes",
            "the clock is told and set; the machine reboots without waiting for the pod, with its file systems unmounted",
            || {
                let config = config(&[HAND, STUBBORN]) + "  shutdown: {podsLimit: 10m}\n";
                let (_disk, mut machine, hand) = boots_in("2106-02-08T00:00:00", &config)?;
                hand.wait("the pod that does not end", BOOT_LIMIT, |hand| {
                    hand.process("guest", "stubborn-1").map(Some)
                })?;
                // Of which the kernel makes 2006.
                machine.wait(SET, BOOT_LIMIT)?;
                let line = eight_times(&mut machine)?;
                let from = line.number;
                let last = machine.console.wait(from, UNMOUNTED, POWER_OFF_LIMIT)?;
                let took = last.kernel.zip(line.kernel).context("no time")?;
                let took = took.0.saturating_sub(took.1);
                ensure!(took < WITHOUT_PODS, "{took:?} by the guest's clock");
                machine.console.wait(from, ", node stage", BOOT_LIMIT)?;
                Ok(format!("{}; all unmounted {:.1} s later", shown(&line), took.as_secs_f64()))
            },
        ),
    ]
}

/// Restarts with and without a delay, and a shutdown within its limits, in a time namespace of its own.
fn is_timely(uptime: [u64; 2]) -> Result<String> {
    let mut node = Node::up(&Setup { uptime: Some(uptime), ..Setup::default() })?;
    let mut from = 0;
    for (number, delay) in ["next start now", "next start in 0.", "next start in 0."].into_iter().enumerate()
    {
        node.signal_process(node.nth_start("kubelet", number + 1)?.pid, SIGKILL)?;
        let line = told(&node, from, "podium: kubelet: ended, signal 9", &[delay])?;
        from = node.console.wait(line.number, "podium: kubelet: up", LIMIT)?.number;
    }
    let (answer, _) = node.ask(r#"{"version":1,"request":"events"}"#)?;
    let now = answer["now_ms"].as_u64().context("no time")? / 1000;
    ensure!(now >= uptime[1], "by its own clock the node has been up for {now} s");
    goes_down(&mut node)?;
    Ok(format!("{} days by its clock; back three times, then down", now / DAY))
}

/// A node with this config on a machine with this time, in UTC.
fn boots_in(time: &str, config: &str) -> Result<(Disk, Machine, Hand)> {
    let disk = used::copy()?;
    let mut options = options(&disk, &[inline::plain(config.as_bytes())], &[])?;
    options.arguments.extend(["-rtc".to_owned(), format!("base={time}")]);
    let machine = Machine::start(&options)?;
    let hand = hand_of(&machine)?;
    Ok((disk, machine, hand))
}

/// By the clock of the node when it booted.
fn year_of(hand: &Hand) -> Result<u32> {
    let log = hand.read(LOG)?;
    let mark = log.lines().rfind(|line| line.starts_with("-- podium: boot ")).context("no boot is marked")?;
    let year = mark.rsplit(' ').next().and_then(|time| time.split('-').next()).context("no time")?;
    year.parse().with_context(|| mark.to_owned())
}

/// A pod answers, and the kubelet says of its pods over TLS that they run.
fn works(machine: &Machine, hand: &Hand) -> Result<String> {
    ensure!(hello(machine)?.contains("hello"));
    let status = hand.wait("the pod's status", BOOT_LIMIT, |hand| {
        let said = hand.ctl("pods status")?.out;
        let is_it = |line: &&str| line.starts_with("default-hello ") && line.contains("Running");
        Ok(said.lines().find(is_it).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")))
    })?;
    Ok(format!("the pod answers: {status}"))
}

fn eight_times(machine: &mut Machine) -> Result<Line> {
    let from = machine.console.mark();
    for _ in 0..8 {
        ctrl_alt_del(machine)?;
    }
    machine.console.wait(from, "podium: shutdown: asked again by Ctrl-Alt-Del", POWER_OFF_LIMIT)
}
