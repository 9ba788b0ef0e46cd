//! What befalls the services of a running node: files that they cannot start with, and a kernel that refuses them
//! processes, watches or a steady clock. What is asked: it is said, the services come back by themselves, the pods of the
//! config run on as the same processes, and the kubelet takes new manifests afterwards.

use super::running::{FOLDER, IN_FORCE, LIMIT, Node, OWN_LIMIT, Row, fault, pod};
use super::support::{SIGKILL, shown};
use anyhow::{Context, Result, ensure};
use podium_tests::console::Line;
use podium_tests::faults::{Fault, Shared};
use podium_tests::hand::Hand;
use podium_tests::react::STORED;
use std::sync::Arc;
use std::time::Duration;

const CPU_STATE: &str = "/var/lib/kubelet/cpu_manager_state";
const KEPT: &str = "/var/lib/podium/damaged";
const PLUGINS: &str = "/opt/cni/bin";
/// Seconds for which the kernel refuses something: several starts fail in that time.
const SHORTLY: u64 = 10;
/// Also what runs may need a new thread, or be started, in that time.
const LONG: u64 = 30;
/// All that are to be up, and not done, on a node of the default config.
pub(super) const SERVICES: [&str; 10] =
    ["log", "devices", "dhcpcd", "chronyd", "pods", "probe", "apid", "api", "kubelet", "containerd"];
const DAY: i64 = 86_400;
/// A service that was up for so many seconds is started at once when it ends.
const CLEAN_SLATE: Duration = Duration::from_secs(61);

const KUBELET: &[Row] = &[
    (
        "a damaged cpu_manager_state",
        "told; the file is kept aside; the kubelet starts without it, our pod is the same process",
        |node| {
            node.hand.change("write in place", CPU_STATE, b"garbage", 0)?;
            let line = node.is_told_after_kill(
                "kubelet",
                "podium: kubelet: cannot use cpu_manager_state, which is now in ",
            )?;
            let kept = node.hand.list(KEPT)?.pop().context("nothing was kept")?;
            ensure!(node.hand.read(&format!("{KEPT}/{kept}/cpu_manager_state"))? == "garbage");
            Ok(format!("{}; {}", shown(&line), node.is_unharmed()?))
        },
    ),
    (
        "the config changes cpuManagerPolicy, and changes it back",
        "told; the kubelet starts with the new policy each time; our pod is the same process",
        |node| {
            let before = node.process("ours-1")?;
            let kubelet =
                "  kubelet:\n    extraConfig: {cpuManagerPolicy: static, kubeReserved: {cpu: 100m}}\n";
            let other = node.config.replacen("machine:\n", &format!("machine:\n{kubelet}"), 1);
            node.takes_policy(&other, "static")?;
            let line = node.takes_policy(&node.config, "none")?;
            ensure!(node.process("ours-1")? == before, "our pod was restarted");
            Ok(format!("{}; {}", shown(&line), node.is_unharmed()?))
        },
    ),
    ("its config file overwritten with garbage", "told and put back; it starts with it", |node| {
        node.hand.change("write in place", "/run/podium/kubelet.json", b"garbage", 0)?;
        let line = node.is_told_after_kill("kubelet", "kubelet.json: changed or removed by somebody else")?;
        Ok(format!("{}; {}", shown(&line), node.is_unharmed()?))
    }),
];

const CONTAINERD: &[Row] = &[
    ("its config file removed", "told and put back; it starts with it, pods live on", |node| {
        node.hand.remove("/run/podium/containerd/config.toml")?;
        let line =
            node.is_told_after_kill("containerd", "config.toml: changed or removed by somebody else")?;
        Ok(format!("{}; {}", shown(&line), node.is_unharmed()?))
    }),
    ("killed while it starts pods", "it returns; those pods run, ours is the same process", |node| {
        let before = node.process("ours-1")?;
        let shims = |hand: &Hand| -> Result<usize> {
            let all = hand.processes()?;
            Ok(all.iter().filter(|process| process.name.starts_with("containerd-shim")).count())
        };
        let few = shims(&node.hand)?;
        let words = ["load-1", "load-2", "load-3"];
        for word in words {
            node.hand.replace(&format!("{FOLDER}/{word}.yaml"), pod(word, word).as_bytes())?;
        }
        let is_begun = |hand: &Hand| Ok((shims(hand)? > few).then_some(()));
        node.hand.wait_every(Duration::from_millis(20), "one of them is under way", LIMIT, is_begun)?;
        let running = words.iter().filter(|word| node.hand.process("guest", word).is_ok()).count();
        ensure!(running < words.len(), "all of them ran before it could be killed");
        let line = node.is_told_after_kill("containerd", "podium: containerd: ended, signal 9")?;
        for word in words {
            node.process(word)?;
        }
        ensure!(node.process("ours-1")? == before, "our pod was restarted");
        Ok(format!("{}; {running} of 3 pods ran by then, all do now; {}", shown(&line), node.is_unharmed()?))
    }),
    ("the CNI plugins are gone", "the pod says why it does not run, and runs once they are back", |node| {
        node.hand.change_there("cover", PLUGINS, b"")?;
        let seen = node.wants_network();
        node.hand.change_there("uncover", PLUGINS, b"")?;
        let seen = seen?;
        node.process("netted-1").context("once the plugins are back")?;
        Ok(format!("{seen}; then it ran; {}", node.is_unharmed()?))
    }),
];

const PROCESSES: &[Row] = &[(
    "kill -9 of each service, one after the other",
    "all are told and back, our pod is the same process",
    |node| {
        for service in SERVICES {
            let from = node.machine.console.mark();
            node.hand.kill(node.pid_of(service)?, SIGKILL)?;
            let ended = node.says(service, from, &[&format!("podium: {service}: ended, signal 9")])?;
            node.says(service, ended.number, &[&format!("podium: {service}: up")])?;
        }
        Ok(format!("{} services; {}", SERVICES.len(), node.is_unharmed()?))
    },
)];

const RESOURCES: &[Row] = &[
    ("PID 1 cannot fork", "told; a killed kubelet returns once it can", |node| {
        node.is_refused("/sys/fs/cgroup/init/pids.max", "1", LONG, "kubelet: not started: ")
    }),
    ("no service can fork", "each that ends for it returns once it can, pods live on", |node| {
        node.is_refused("/sys/fs/cgroup/podium/pids.max", "1", LONG, "kubelet: ended, code ")
    }),
    ("pid_max is 301", "each that ends for it returns once there is room, pods live on", |node| {
        node.is_refused("/proc/sys/kernel/pid_max", "301", SHORTLY, "kubelet: ")
    }),
    ("no inotify instance is left", "a killed kubelet ends again, and returns once there are some", |node| {
        node.is_refused("/proc/sys/fs/inotify/max_user_instances", "0", SHORTLY, "kubelet: ended, code ")
    }),
];

const CLOCK: &[Row] = &[
    ("a day forward, and back again", "our pod is the same process, a killed kubelet returns", |node| {
        node.steps_clock(DAY)?;
        let there = node.kubelet_returns();
        node.steps_clock(-DAY)?;
        there.context("a day ahead")?;
        node.kubelet_returns().context("back again")
    }),
    ("a day back, and forward again", "our pod is the same process, a killed kubelet returns", |node| {
        node.steps_clock(-DAY)?;
        let there = node.kubelet_returns();
        node.steps_clock(DAY)?;
        there.context("a day behind")?;
        node.kubelet_returns().context("forward again")
    }),
];

/// All of this file.
pub(super) fn faults(node: &Arc<Shared<Node>>) -> Vec<Fault> {
    let areas = [
        ("processes", PROCESSES),
        ("kubelet", KUBELET),
        ("containerd", CONTAINERD),
        ("resources", RESOURCES),
        ("clock", CLOCK),
    ];
    areas.iter().flat_map(|(area, rows)| rows.iter().map(|row| fault(node, area, row))).collect()
}

impl Node {
    /// Kills a service; the line that tells what is asked for, after which the service is up again.
    pub(super) fn is_told_after_kill(&self, service: &str, told: &str) -> Result<Line> {
        let from = self.machine.console.mark();
        self.hand.kill(self.hand.process(service, service)?.pid, SIGKILL)?;
        let line = self.says(service, from, &[told])?;
        self.says(service, line.number, &[&format!("podium: {service}: up")])?;
        Ok(line)
    }

    /// The process that PID 1 has started last for a service.
    fn pid_of(&self, service: &str) -> Result<i32> {
        let start = format!("podium: {service}: starting, pid ");
        let lines = self.machine.console.lines();
        let pid = lines.iter().rev().find_map(|line| line.text.strip_prefix(&start)?.parse().ok());
        pid.with_context(|| format!("{service} was never started"))
    }

    /// Waits for a line of the console with all these parts; without it the end of the service's log is told.
    fn says(&self, service: &str, from: usize, parts: &[&str]) -> Result<Line> {
        let found = self.hand.wait(&parts.concat(), LIMIT, |_| {
            let mut lines = self.machine.console.lines().into_iter().skip(from);
            Ok(lines.find(|line| parts.iter().all(|part| line.text.contains(part))))
        });
        found.with_context(|| {
            let log = self.hand.read(&format!("/var/log/podium/{service}.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        })
    }

    /// Stores a config and waits until the kubelet runs with this policy; how it was told.
    fn takes_policy(&self, config: &str, policy: &str) -> Result<Line> {
        let from = self.machine.console.mark();
        self.hand.replace(STORED, config.as_bytes())?;
        let told = ["podium: kubelet: cannot use cpu_manager_state", ": configured policy"];
        let line = self.says("kubelet", from, &told)?;
        self.hand.wait("the policy in the kubelet's own file", LIMIT, |hand| {
            Ok(hand.read(CPU_STATE)?.contains(&format!("\"policyName\":\"{policy}\"")).then_some(()))
        })?;
        self.says("kubelet", line.number, &["podium: kubelet: up"])?;
        self.hand.wait("the config in force", OWN_LIMIT, |hand| {
            Ok((hand.read(IN_FORCE)? == config).then_some(()))
        })?;
        Ok(line)
    }

    /// A pod with a network of its own, which cannot have it: what the node says of it.
    fn wants_network(&self) -> Result<String> {
        let netted = pod("netted", "netted-1").replace("  hostNetwork: true\n", "");
        self.hand.replace(&format!("{FOLDER}/netted.yaml"), netted.as_bytes())?;
        self.hand.wait("the reason of the pod", LIMIT, |hand| {
            let said = hand.ctl("pods status")?.out;
            let is_it = |line: &&str| line.starts_with("default-netted ") && line.contains("plugin");
            Ok(said.lines().find(is_it).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")))
        })
    }

    /// Kills the kubelet while the kernel refuses something for some time: its next start, which comes at once, fails, so
    /// that there is one more after a delay. How that was told, and that all is well afterwards.
    fn is_refused(&self, limit: &str, value: &str, seconds: u64, told: &str) -> Result<String> {
        self.has_a_clean_slate()?;
        let from = self.machine.console.mark();
        let kubelet = self.hand.process("kubelet", "kubelet")?;
        let words = format!("{value} {}", kubelet.pid);
        self.hand.change("set for seconds and kill", limit, words.as_bytes(), seconds)?;
        let killed = self.says("kubelet", from, &["podium: kubelet: ended, signal 9; next start now"])?;
        let line = self.says("kubelet", killed.number + 1, &[told, "; next start in "])?;
        Ok(format!("{}; {}", shown(&line), self.is_unharmed()?))
    }

    /// The kubelet has been up for so long that its next start comes at once.
    fn has_a_clean_slate(&self) -> Result<()> {
        self.hand.wait("a minute without an end", LIMIT, |hand| {
            let now = hand.uptime()?;
            let lines = self.machine.console.lines();
            let up = lines.iter().rfind(|line| line.text.starts_with("podium: kubelet: up"));
            let up = up.and_then(|line| line.kernel).context("the kubelet was never up")?;
            Ok((now.saturating_sub(up) > CLEAN_SLATE).then_some(()))
        })
    }

    fn steps_clock(&self, seconds: i64) -> Result<()> {
        self.hand.change("step the clock", "/", seconds.to_string().as_bytes(), 0)
    }

    fn kubelet_returns(&self) -> Result<String> {
        self.is_told_after_kill("kubelet", "podium: kubelet: ended, signal 9")?;
        self.is_unharmed()
    }
}
