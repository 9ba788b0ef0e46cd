//! What the node's own services may take, and what nobody can take from them.

use super::support::{BOOT_LIMIT, POWER_OFF_LIMIT, on_a_running_node};
use anyhow::{Context, Result, ensure};
use podium_tests::hand::Hand;

const MIB: u64 = 1 << 20;
/// What the services' descriptions say; the helpers are alike.
const HELPER_PIDS: u64 = 256;

#[test]
fn services_are_bounded_and_protected() -> Result<()> {
    on_a_running_node(|_, mut machine, hand| {
        machine.wait("podium: api: up", BOOT_LIMIT)?;
        for (group, file, value) in [
            ("init", "memory.min", 8 * MIB),
            ("podium", "memory.min", 220 * MIB),
            ("podium/containerd", "memory.min", 96 * MIB),
            ("podium/kubelet", "memory.min", 80 * MIB),
            ("podium/kubelet", "memory.max", 1024 * MIB),
            ("podium/kubelet", "pids.max", 1024),
            ("podium/chronyd", "memory.min", 4 * MIB),
            ("podium/chronyd", "memory.max", 256 * MIB),
            ("podium/chronyd", "pids.max", HELPER_PIDS),
            ("podium/api", "memory.max", 64 * MIB),
        ] {
            let have = of_group(&hand, group, file)?;
            ensure!(have == value.to_string(), "{group}/{file}: {have} and not {value}");
        }
        ensure!(of_group(&hand, "podium/containerd", "pids.max")? == "max", "shims must be able to fork");
        ensure!(of_group(&hand, "init", "cgroup.procs")?.lines().any(|pid| pid == "1"), "PID 1 is elsewhere");
        for (pid, score) in scores(&hand)? {
            let have = hand.read(&format!("/proc/{pid}/oom_score_adj"))?;
            ensure!(have.trim() == score, "{pid}: {} and not {score}", have.trim());
        }
        pods_are_kept_off_what_the_services_need(&hand).context("reservations")?;
        each_has_room(&hand).context("room")?;

        machine.power_off(POWER_OFF_LIMIT)
    })
}

fn of_group(hand: &Hand, group: &str, file: &str) -> Result<String> {
    Ok(hand.read(&format!("/sys/fs/cgroup/{group}/{file}"))?.trim().to_owned())
}

/// A process of each kind, and its `oom_score_adj` as the README has it.
fn scores(hand: &Hand) -> Result<Vec<(String, &'static str)>> {
    // In containerd's group there are the pods' shims, too.
    let containerd = hand.process("containerd", "containerd")?.pid.to_string();
    let mut scores = vec![("1".to_owned(), "-1000"), (containerd, "-999")];
    for (service, score) in [
        ("kubelet", "-999"),
        ("log", "-500"),
        ("devices", "-500"),
        ("chronyd", "-500"),
        ("apid", "-500"),
        ("api", "0"),
    ] {
        // Its own process; programs that it runs come and go.
        let pids = of_group(hand, &format!("podium/{service}"), "cgroup.procs")?;
        let pid = pids.lines().next().with_context(|| format!("{service} is not there"))?;
        scores.push((pid.to_owned(), score));
    }
    Ok(scores)
}

fn pods_are_kept_off_what_the_services_need(hand: &Hand) -> Result<()> {
    let table = hand.read("/proc/meminfo")?;
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB"));
    let total = total.context("no MemTotal")?.trim().parse::<u64>()? << 10;
    let pods = of_group(hand, "kubepods", "memory.max")?.parse::<u64>()?;
    // 76 MiB for the system and 176 for containerd and the kubelet.
    ensure!(total - pods == 252 * MIB, "{} MiB are kept from pods", (total - pods) / MIB);
    of_group(hand, "kubepods", "pids.max")?.parse::<u64>().context("pids")?;
    Ok(())
}

/// Nobody is near a limit, or uses much more than is kept for it: the numbers are those of a running node.
fn each_has_room(hand: &Hand) -> Result<()> {
    for group in hand.list("/sys/fs/cgroup/podium")? {
        let group = format!("podium/{group}");
        let Ok(now) = of_group(hand, &group, "memory.stat") else { continue };
        let anon = now.lines().find_map(|line| line.strip_prefix("anon ")?.parse::<u64>().ok());
        let anon = anon.context("no anon")?;
        let (pids, most) = (
            of_group(hand, &group, "pids.peak").or_else(|_| of_group(hand, &group, "pids.current"))?,
            of_group(hand, &group, "pids.max")?,
        );
        eprintln!("{group}: {} KiB anonymous, {pids} of {most} pids", anon >> 10);
        let least = of_group(hand, &group, "memory.min")?.parse::<u64>()?;
        ensure!(anon <= least * 3 / 2, "{group}: {anon} bytes of its own, {least} are kept for it");
        if let Ok(most) = most.parse::<u64>() {
            ensure!(pids.parse::<u64>()? * 2 <= most, "{group}: {pids} processes of {most}");
        }
    }
    Ok(())
}
