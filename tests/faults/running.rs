//! A machine that runs, for all faults that it survives: one after the other, each begins by undoing what the one before
//! it has left.

use anyhow::{Context, Result, ensure};
use podium_tests::disk::Disk;
use podium_tests::faults::{Fault, Shared};
use podium_tests::hand::{Hand, Process};
use podium_tests::machine::{BOOT_LIMIT, HAND, config};
use podium_tests::qemu::Machine;
use podium_tests::react::STORED;
use podium_tests::running::Running;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(super) const FOLDER: &str = "/etc/kubernetes/manifests";
/// The config's pod that is watched, and its manifest.
pub(super) const OURS: &str = "/etc/kubernetes/manifests/podium-default-ours.yaml";
/// The image of `ours`, and the same one under another name: what a kubelet compares is the name.
pub(super) const IMAGES: [&str; 2] = ["podium.local/guest:1", "podium.local/guest:2"];
/// What fills the disks, a file or a folder of them.
pub(super) const STATE_FILLER: &str = "/system/state/filler";
pub(super) const VAR_FILLER: &str = "/var/filler";
/// Where a config waits for `init ctl`.
pub(super) const NEW: &str = "/run/podium/new.yaml";
/// The text of the config in force.
pub(super) const IN_FORCE: &str = "/run/podium/config.yaml";
/// Until the kubelet has acted, on a busy host without KVM; its own relist comes every 20 s.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Until Podium has acted, which takes it milliseconds, on such a host.
pub(super) const OWN_LIMIT: Duration = Duration::from_secs(20);
/// After the first the kubelet waits 10 s, after each further one twice as long; some faults kill it twice.
pub(super) const KILLS: u32 = 2;

/// Does it; gives what was seen.
pub(super) type Act = fn(&Node) -> Result<String>;
/// What is done, what is expected, and the doing.
pub(super) type Row = (&'static str, &'static str, Act);

/// A fault of this node.
pub(super) fn fault(node: &Arc<Shared<Node>>, area: &'static str, &(name, expected, act): &Row) -> Fault {
    Fault::in_shared_machine(area, format!("on a running node: {name}"), expected, node, move |node| {
        node.restore().context("before it")?;
        act(node)
    })
}

/// A node that runs, with the pod `ours` of its config.
pub(super) struct Node {
    pub(super) machine: Machine,
    pub(super) hand: Hand,
    /// Its config.
    pub(super) config: String,
    /// The manifest of `ours` as Podium wrote it.
    pub(super) ours: Vec<u8>,
    others: AtomicU32,
    /// How often `ours` may have been killed since the kubelet was started.
    pub(super) kills: AtomicU32,
    _disk: Disk,
}

impl Node {
    pub(super) fn boot() -> Result<Self> {
        let config = config_with(&pod("ours", "ours-1"));
        let Running { disk, machine, hand } = Running::resume()?;
        let from = machine.console.mark();
        hand.replace(STORED, config.as_bytes())?;
        machine.console.wait(
            from,
            "config 2: kubelet and pods are up; it is the last known good one",
            BOOT_LIMIT,
        )?;
        let ours = hand.read(OURS)?.into_bytes();
        Ok(Self {
            machine,
            hand,
            config,
            ours,
            others: AtomicU32::new(0),
            kills: AtomicU32::new(0),
            _disk: disk,
        })
    }

    /// Undoes what an earlier fault has left, so that one that failed does not spoil the next.
    fn restore(&self) -> Result<()> {
        for filler in [STATE_FILLER, VAR_FILLER] {
            let remove = |what| self.hand.change(what, filler, b"", 0);
            // Mostly there is none; one that stays makes the fault fail by what it does to the node.
            drop(remove("remove all").or_else(|_| remove("remove")));
        }
        for name in self.hand.list(FOLDER)? {
            let path = format!("{FOLDER}/{name}");
            let is_foreign = !name.starts_with("podium-default-") || name.ends_with(".bak");
            if is_foreign && !name.starts_with('.') {
                let remove = |what| self.hand.change(what, &path, b"", 0);
                remove("remove").or_else(|_| remove("remove folder"))?;
            }
        }
        let in_force = self.hand.read(IN_FORCE)?;
        if in_force != self.config {
            // With another image it is the same pod, whose process the kubelet replaces some time after this.
            let other = self.hand.process("guest", "ours-1").ok().filter(|_| in_force.contains(IMAGES[1]));
            self.hand.replace(STORED, self.config.as_bytes())?;
            self.hand.wait("the first config again", OWN_LIMIT, |hand| {
                Ok((hand.read(IN_FORCE)? == self.config).then_some(()))
            })?;
            self.starts_kubelet()?;
            self.hand.wait("our pod with the first image", LIMIT, |hand| {
                Ok(Some(hand.process("guest", "ours-1")?).filter(|now| other.as_ref() != Some(now)))
            })?;
        }
        if !self.hand.read(OURS).is_ok_and(|text| text.as_bytes() == self.ours) {
            self.hand.replace(OURS, &self.ours)?;
        }
        // A container that is killed again and again has to wait, minutes in the end; a new kubelet has forgotten it.
        if self.kills.load(Ordering::Relaxed) >= KILLS {
            self.stops_kubelet()?;
            self.kills.store(0, Ordering::Relaxed);
        }
        self.starts_kubelet()?;
        self.process("ours-1").map(drop)
    }

    /// Ends the kubelet, which stays down; pods live on.
    pub(super) fn stops_kubelet(&self) -> Result<()> {
        self.asks("service stop kubelet")?;
        let is_gone = |hand: &Hand| Ok(hand.process("kubelet", "kubelet").is_err().then_some(()));
        self.hand.wait("the kubelet's end", LIMIT, is_gone)
    }

    /// Has it started, if it is down.
    pub(super) fn starts_kubelet(&self) -> Result<()> {
        self.asks("service start kubelet")
    }

    /// `init ctl` does it.
    pub(super) fn asks(&self, words: &str) -> Result<()> {
        let said = self.hand.ctl(words)?;
        ensure!(said.ok, "{words}: {said:?}");
        Ok(())
    }

    pub(super) fn process(&self, word: &str) -> Result<Process> {
        self.hand.wait(word, LIMIT, |hand| hand.process("guest", word).map(Some))
    }

    /// The kubelet still takes new manifests, and our pod has been the same process all the time.
    pub(super) fn is_unharmed(&self) -> Result<String> {
        let before = self.process("ours-1")?;
        let seen = self.takes_more()?;
        let after = self.process("ours-1")?;
        ensure!(before == after, "our pod was restarted: {before:?}, {after:?}");
        Ok(format!("our pod is process {} as before, {seen}", after.pid))
    }

    /// The kubelet has read a new manifest: it rejects its pod, which is for another node. To start one in each fault
    /// would take minutes.
    pub(super) fn takes_more(&self) -> Result<String> {
        let word = format!("other-{}", self.others.fetch_add(1, Ordering::Relaxed));
        let path = format!("{FOLDER}/{word}.yaml");
        let elsewhere = pod(&word, &word).replace("spec:\n", "spec:\n  nodeSelector: {on: another-node}\n");
        let since = Instant::now();
        self.hand.replace(&path, elsewhere.as_bytes())?;
        self.hand
            .wait(&word, LIMIT, |hand| {
                let said = hand.ctl("pods status")?;
                let is_it = |line: &str| {
                    line.starts_with(&format!("default-{word} ")) && line.contains("NodeAffinity")
                };
                Ok(said.out.lines().any(is_it).then_some(()))
            })
            .context("the kubelet takes no more manifests")?;
        let took = since.elapsed();
        self.hand.remove(&path)?;
        Ok(format!("a new manifest reached the kubelet after {:.1} s", took.as_secs_f64()))
    }
}

/// The config of the node: the hand and this pod.
pub(super) fn config_with(pod: &str) -> String {
    config(&[HAND, &format!("\n    - {}", pod.trim_end().replace('\n', "\n      "))])
}

/// A pod that does nothing, told from others by `word`.
pub(super) fn pod(name: &str, word: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
    - name: {name}
      image: podium.local/guest:1
      imagePullPolicy: Never
      args: [sleep, {word}]
"
    )
}
