//! Services of a running node that hang, and what runs out on it: memory, processes, room on its disks. What is asked: it
//! is said, the services come back by themselves, nothing that is stored is lost, and the pods of the config run on as the
//! same processes.

use super::running::{
    FOLDER, IN_FORCE, LIMIT, NEW, Node, OWN_LIMIT, Row, STATE_FILLER, VAR_FILLER, fault, pod,
};
use super::support::{SIGKILL, SIGSTOP, shown};
use anyhow::{Context, Result, ensure};
use podium_tests::console::Line;
use podium_tests::faults::{Fault, Shared};
use podium_tests::hand::Printed;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Three questions that are not answered, the stop's limit, and a start on a busy host without KVM.
const COMES_BACK_LIMIT: Duration = Duration::from_secs(300);
/// What the helpers' descriptions say.
const HELPER_PIDS: u64 = 256;
/// Takes more memory than it may.
const EATER: &str = "
      args: [eat, '256']
      resources: {limits: {memory: 48Mi}}";

/// What is told of a service that does not answer, and what becomes of it.
const HUNG: &str = "found, killed and started anew, with its reason; our pod is the same process";

const KUBELET: &[Row] = &[("it is stopped (SIGSTOP)", HUNG, |node| node.stopped_comes_back("kubelet"))];

const CONTAINERD: &[Row] = &[("it is stopped (SIGSTOP)", HUNG, |node| node.stopped_comes_back("containerd"))];

const RESOURCES: &[Row] = &[
    ("a service may take no more memory", "the OOM killer is told as the reason; it returns", |node| {
        node.told_in(0, "podium: api: up")?;
        let before = node.service("api")?;
        ensure!(before["memory_bytes"].is_u64() && before["cpu_us"].is_u64(), "{before}");
        let from = node.machine.console.mark();
        // The service with the tightest bound; each start sets it anew.
        node.hand.write("/sys/fs/cgroup/podium/api/memory.max", "4096")?;
        let line = node.told_in(from, "podium: api: ended, signal 9, out of memory; next start ")?;
        node.told_in(line.number, "podium: api: up")?;
        let death = node.last_death("api")?;
        ensure!(death["oom"] == true && death["signal"] == 9, "{death}");
        Ok(format!("{}; {}", shown(&line), node.is_unharmed()?))
    }),
    (
        "a pod takes more memory than it may",
        "the OOM killer ends that pod, which says so; no service loses a process to it",
        |node| {
            let pod = pod("eater", "eater-1").replace("\n      args: [sleep, eater-1]", EATER);
            node.hand.replace(&format!("{FOLDER}/eater.yaml"), pod.as_bytes())?;
            let seen = node.hand.wait("the reason of the pod", LIMIT, |hand| {
                let said = hand.ctl("pods status")?.out;
                let is_it = |line: &&str| line.starts_with("default-eater ") && line.contains("OOMKilled");
                Ok(said.lines().find(is_it).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")))
            })?;
            for group in ["init", "podium/containerd", "podium/kubelet"] {
                let events = node.hand.read(&format!("/sys/fs/cgroup/{group}/memory.events.local"))?;
                ensure!(events.lines().any(|line| line == "oom_kill 0"), "{group}: {events}");
            }
            Ok(format!("{seen}; {}", node.is_unharmed()?))
        },
    ),
    (
        "a fork bomb in a service",
        "it ends at the service's bound; the service and all others live on",
        |node| {
            let of =
                |group: &str, file: &str| node.hand.read(&format!("/sys/fs/cgroup/podium/{group}/{file}"));
            let refusals = || -> Result<Vec<String>> {
                ["log", "kubelet", "containerd"].iter().map(|name| of(name, "pids.events")).collect()
            };
            let (chronyd, before) = (of("chronyd", "cgroup.procs")?, refusals()?);
            let children = node.hand.bomb("podium/chronyd").context("fork bomb")?;
            ensure!((HELPER_PIDS / 2..HELPER_PIDS).contains(&children), "{children} children");
            ensure!(of("chronyd", "pids.events")?.trim() != "max 0", "no fork was refused");
            let now = of("chronyd", "cgroup.procs")?;
            ensure!(now == chronyd, "chronyd was {chronyd:?} and is {now:?}");
            let after = refusals()?;
            ensure!(after == before, "others were refused a fork: {before:?}, {after:?}");
            Ok(format!("refused after {children} children; {}", node.is_unharmed()?))
        },
    ),
    ("/var is full", "a killed containerd says so, and returns once there is room; pods live on", |node| {
        let before = node.process("ours-1")?;
        let from = node.machine.console.mark();
        let containerd = node.hand.process("containerd", "containerd")?;
        // What it says when it starts anew is more than the last block of its log has room for.
        let full = node.hand.fill(VAR_FILLER).and_then(|()| {
            node.hand.kill(containerd.pid, SIGKILL)?;
            let line = node.told_in(from, "No space left on device")?;
            ensure!(
                node.process("ours-1")? == before,
                "our pod was restarted while nothing could be written"
            );
            Ok(line)
        });
        node.hand.remove(VAR_FILLER)?;
        let line = full?;
        node.told_in(line.number, "podium: containerd: up")?;
        Ok(format!("{}; {}", shown(&line), node.is_unharmed()?))
    }),
    ("STATE is full", "a new config is refused with the reason; it is taken once there is room", |node| {
        let refused = node.hand.fill(STATE_FILLER).and_then(|()| node.takes_no_config("41"));
        node.hand.remove(STATE_FILLER)?;
        Ok(format!("{}; {}", refused?, node.takes_config("41")?))
    }),
    (
        "STATE has no inode left",
        "a new config is refused with the reason; it is taken once there is one",
        |node| {
            let used_up = node.hand.change("use up inodes", STATE_FILLER, b"", 0);
            let refused = used_up.and_then(|()| node.takes_no_config("43"));
            node.hand.change("remove all", STATE_FILLER, b"", 0)?;
            Ok(format!("{}; {}", refused?, node.takes_config("43")?))
        },
    ),
];

/// All of this file.
pub(super) fn faults(node: &Arc<Shared<Node>>) -> Vec<Fault> {
    let areas = [("kubelet", KUBELET), ("containerd", CONTAINERD), ("resources", RESOURCES)];
    areas.iter().flat_map(|(area, rows)| rows.iter().map(|row| fault(node, area, row))).collect()
}

impl Node {
    fn service(&self, name: &str) -> Result<Value> {
        let printed = self.hand.ctl(&format!("-o json service {name}"))?;
        ensure!(printed.ok, "{printed:?}");
        Ok(serde_json::from_str::<Value>(&printed.out)?["service"].take())
    }

    fn last_death(&self, name: &str) -> Result<Value> {
        let service = self.service(name)?;
        service["deaths"].as_array().and_then(|deaths| deaths.last()).cloned().context("no death")
    }

    fn told_in(&self, from: usize, text: &str) -> Result<Line> {
        self.hand.reads(&self.machine.console, from, text, COMES_BACK_LIMIT)
    }

    fn is_healthy(&self, name: &str) -> Result<()> {
        self.hand.wait(&format!("{name} is healthy"), COMES_BACK_LIMIT, |_| {
            Ok((self.service(name)?["health"]["state"] == "healthy").then_some(()))
        })
    }

    fn stopped_comes_back(&self, name: &str) -> Result<String> {
        self.is_healthy(name)?;
        let before = self.hand.process(name, name)?;
        let from = self.machine.console.mark();
        self.hand.kill(before.pid, SIGSTOP)?;
        let line = self.told_in(from, &format!("podium: {name}: unhealthy: no answer within "))?;
        // A stopped process does not take SIGTERM, and the socket of one that is killed is left behind.
        self.told_in(from, &format!("podium: {name}: still there, killed"))?;
        self.told_in(from, &format!("podium: {name}: ended, signal 9; next start now"))?;
        self.told_in(from, &format!("podium: {name}: up"))?;
        let after = self.hand.process(name, name)?;
        ensure!(after.pid != before.pid && after.parent == 1, "{before:?} {after:?}");
        self.is_healthy(name)?;
        let death = self.last_death(name)?;
        let reason = death["reason"].as_str().unwrap_or_default();
        ensure!(reason.starts_with("unhealthy: no answer within ") && death["oom"] == false, "{death}");
        Ok(format!("{}; {}", shown(&line), self.is_unharmed()?))
    }

    /// A config whose pods are the same, applied: what `init ctl` says.
    fn applies(&self, value: &str) -> Result<Printed> {
        let setting = format!("machine:\n  sysctls: {{vm.swappiness: {value}}}\n");
        let config = self.config.replacen("machine:\n", &setting, 1);
        self.hand.replace(NEW, config.as_bytes())?;
        self.hand.ctl(&format!("config apply {NEW}"))
    }

    fn takes_no_config(&self, value: &str) -> Result<String> {
        let said = self.applies(value)?;
        ensure!(!said.ok && said.err.contains("No space left on device"), "{said:?}");
        ensure!(self.hand.read(IN_FORCE)? == self.config, "another config is in force");
        Ok(said.err.lines().next().unwrap_or_default().to_owned())
    }

    fn takes_config(&self, value: &str) -> Result<String> {
        let said = self.applies(value)?;
        ensure!(said.ok, "{said:?}");
        self.hand.wait("the setting", OWN_LIMIT, |hand| {
            Ok((hand.read("/proc/sys/vm/swappiness")?.trim() == value).then_some(()))
        })?;
        self.is_unharmed()
    }
}
