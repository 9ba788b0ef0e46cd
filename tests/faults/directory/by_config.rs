//! The rows of what a config does: what it changes in a pod, and a pod that never gets ready.

use super::super::running::{FOLDER, IMAGES, IN_FORCE, LIMIT, NEW, Node, OWN_LIMIT, Row, config_with, pod};
use super::shown;
use anyhow::{Context, Result, ensure};
use podium_tests::hand::Process;
use podium_tests::machine::BOOT_LIMIT;
use podium_tests::react::STORED;
use std::cell::Cell;
use std::time::Duration;

/// How often is looked for two processes side by side.
const LOOK: Duration = Duration::from_millis(200);
/// What is expected when a pod becomes another one.
const ANEW: &str = "a new pod, which has it; the old process ends before the new one starts";
/// It runs, and is never ready.
const NEVER: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: never}
      spec:
        hostNetwork: true
        terminationGracePeriodSeconds: 1
        containers:
          - name: never
            image: podium.local/guest:1
            imagePullPolicy: Never
            args: [sleep, never-1]
            readinessProbe: {exec: {command: [/guest, exit, '1']}, periodSeconds: 1}";

/// Of the area `manifests`.
pub(super) const MANIFESTS: &[Row] = &[
    (
        "the config changes the image alone",
        "restarted in place: another process in the same pod and sandbox",
        |node| {
            let (before, uid) = node.ours_and_uid()?;
            let pause = node.sandbox(&uid)?;
            node.takes_image(1)?;
            let after = node.replaced(&before, "ours-1")?;
            ensure!(node.hand.pod_uid(after.pid)? == uid, "the pod has another UID: it was made anew");
            ensure!(node.sandbox(&uid)? == pause, "the sandbox was made anew");
            Ok(format!("process {} is now {}, in the same pod and sandbox", before.pid, after.pid))
        },
    ),
    ("the config changes anything else", ANEW, |node| {
        let (before, uid) = node.ours_and_uid()?;
        node.stores(&config_with(&pod("ours", "ours-2")))?;
        node.is_anew(&before, &uid)
    }),
    ("the config changes anything else while the kubelet is down", ANEW, |node| {
        let (before, uid) = node.ours_and_uid()?;
        node.stops_kubelet()?;
        node.stores(&config_with(&pod("ours", "ours-2")))?;
        // For longer than an old version has to end once there is who ends it.
        node.lets_pass(Duration::from_secs(20))?;
        ensure!(node.process("ours-1")? == before, "ended without a kubelet");
        node.starts_kubelet()?;
        node.is_anew(&before, &uid)
    }),
    ("the config changes a pod and the kubelet's own settings", ANEW, |node| {
        let (before, uid) = node.ours_and_uid()?;
        let kubelet = node.hand.process("kubelet", "kubelet")?;
        let config = config_with(&pod("ours", "ours-2"));
        node.stores(&config.replace("machine:\n", "machine:\n  kubelet: {extraConfig: {maxPods: 20}}\n"))?;
        let seen = node.is_anew(&before, &uid)?;
        ensure!(node.hand.process("kubelet", "kubelet")? != kubelet, "the kubelet was not restarted");
        Ok(seen)
    }),
    (
        "the config changes the image while the kubelet is down",
        "nothing happens until it returns; then the old process ends before the new one starts",
        |node| {
            let (before, uid) = node.ours_and_uid()?;
            node.stops_kubelet()?;
            node.takes_image(1)?;
            ensure!(node.process("ours-1")? == before, "restarted without a kubelet");
            node.starts_kubelet()?;
            let after = node.replaced(&before, "ours-1")?;
            ensure!(node.hand.pod_uid(after.pid)? == uid, "the pod has another UID: it was made anew");
            Ok(format!("process {} is now {}, in the same pod", before.pid, after.pid))
        },
    ),
];

/// Of the area `config`.
pub(super) const CONFIG: &[Row] = &[(
    "pods that never get ready, in try mode",
    "goes back by itself when its time is over; what ran before is the same process",
    |node| {
        let before = node.process("ours-1")?;
        let from = node.machine.console.mark();
        node.hand.replace(
            NEW,
            (config_with(&pod("ours", "ours-1")).trim_end().to_owned() + NEVER + "\n").as_bytes(),
        )?;
        let tried = node.hand.ctl(&format!("config apply {NEW} --mode try --timeout 40"))?;
        ensure!(tried.ok && tried.out.contains("tried for 40 s"), "{tried:?}");
        let manifest = "podium-default-never.yaml".to_owned();
        ensure!(node.hand.list(FOLDER)?.contains(&manifest), "the tried pod has no manifest");
        let line = node.machine.console.wait(
            from,
            "config: going back: its time in try mode is over",
            BOOT_LIMIT,
        )?;
        node.hand.wait("the end of the tried pod", LIMIT, |hand| {
            let is_gone = hand.process("guest", "never-1").is_err();
            Ok((is_gone && !hand.list(FOLDER)?.contains(&manifest)).then_some(()))
        })?;
        ensure!(node.hand.read(IN_FORCE)? == node.config, "another config is in force");
        ensure!(node.process("ours-1")? == before, "our pod was restarted");
        Ok(format!("{}; our pod is process {} as before", shown(&line), before.pid))
    },
)];

impl Node {
    fn ours_and_uid(&self) -> Result<(Process, String)> {
        let process = self.process("ours-1")?;
        let uid = self.hand.pod_uid(process.pid)?;
        Ok((process, uid))
    }

    /// The pause process of a pod.
    fn sandbox(&self, uid: &str) -> Result<Process> {
        let is_it = |process: &Process| {
            process.name == "pause" && self.hand.pod_uid(process.pid).is_ok_and(|other| other == uid)
        };
        let mut found = self.hand.processes()?.into_iter().filter(is_it);
        let first = found.next().context("no sandbox")?;
        ensure!(found.next().is_none(), "two sandboxes of one pod");
        Ok(first)
    }

    /// Stores the config with another image for `ours`.
    fn takes_image(&self, number: usize) -> Result<()> {
        let (old, new) = (IMAGES[0], IMAGES[number]);
        // It has that name already when it was given before.
        self.hand.tag(old, new).ok();
        self.stores(&config_with(&pod("ours", "ours-1").replace(old, new)))
    }

    /// Stores a config, which then is in force.
    fn stores(&self, config: &str) -> Result<()> {
        self.hand.replace(STORED, config.as_bytes())?;
        self.hand
            .wait("the config in force", OWN_LIMIT, |hand| Ok((hand.read(IN_FORCE)? == config).then_some(())))
    }

    /// Waits for so long by the guest's clock.
    fn lets_pass(&self, span: Duration) -> Result<()> {
        let until = self.hand.uptime()? + span;
        self.hand.wait("some time", LIMIT, |hand| Ok((hand.uptime()? >= until).then_some(())))
    }

    /// A pod of another UID runs as `ours-2` in place of the process `before`; the two were never side by side.
    fn is_anew(&self, before: &Process, uid: &str) -> Result<String> {
        let after = self.replaced(before, "ours-2")?;
        let now = self.hand.pod_uid(after.pid)?;
        ensure!(now != uid, "the pod has kept its UID: newer kubelets would ignore the change");
        Ok(format!("pod {uid} is now {now}, process {} is {}", before.pid, after.pid))
    }

    /// Another process in place of `before`, with this word; the two were never seen side by side.
    fn replaced(&self, before: &Process, word: &str) -> Result<Process> {
        let overlap = Cell::new(false);
        let after = self.hand.wait_every(LOOK, "the new process", LIMIT, |hand| {
            let all = hand.processes()?;
            let is_new = |process: &&Process| {
                process.name == "guest"
                    && process.argv.iter().any(|given| given == word)
                    && *process != before
            };
            let new = all.iter().find(is_new);
            overlap.set(overlap.get() || new.is_some() && all.contains(before));
            Ok(new.cloned())
        })?;
        ensure!(!overlap.get(), "the old process still runs beside the new one");
        Ok(after)
    }
}
