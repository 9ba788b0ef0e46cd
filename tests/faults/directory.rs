//! What a foreign process does to the manifest directory of a running node, with the real kubelet behind it.
//!
//! One machine for all of them, one after the other; what hangs a kubelet comes last. What is asked: the pods of the
//! config run on as the same processes, or where the kubelet has killed one already it is brought back; a manifest
//! of Podium's is put back as it was; and afterwards a new manifest still runs, for a kubelet that hangs looks alive.

use super::support::shown;
use anyhow::{Context, Result, ensure};
use podium_tests::artifacts::Image;
use podium_tests::disk::Disk;
use podium_tests::faults::{Fault, Shared};
use podium_tests::hand::{Hand, Process};
use podium_tests::inline;
use podium_tests::machine::{HAND, boot, config, hand_of};
use podium_tests::qemu::Machine;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const FOLDER: &str = "/etc/kubernetes/manifests";
/// The config's pod that is watched, and its manifest.
const OURS: &str = "/etc/kubernetes/manifests/podium-default-ours.yaml";
/// Until the kubelet has acted, on a busy host without KVM; its own relist comes every 20 s.
const LIMIT: Duration = Duration::from_secs(120);
/// Until Podium has acted, which takes it milliseconds, on such a host.
const OWN_LIMIT: Duration = Duration::from_secs(20);

/// Does it; gives what was seen.
type Act = fn(&Node) -> Result<String>;

/// What is done, what is expected, and the doing.
const ACTS: &[(&str, &str, Act)] = &[
    ("a new manifest of another by rename", "its pod runs, ours is the same process", new_manifest),
    ("ours again with the same bytes", "nothing is restarted", |node| {
        node.hand.replace(OURS, &node.ours)?;
        node.is_unharmed()
    }),
    ("ours touched", "nothing is restarted", |node| {
        node.hand.change("touch", OURS, b"", 0)?;
        node.is_unharmed()
    }),
    ("ours with another mode", "nothing is restarted", |node| {
        node.hand.change("mode", OURS, b"", 0o644)?;
        node.is_unharmed()
    }),
    ("ours with a space more", "put back as it was, nothing is restarted", |node| {
        node.hand.replace(OURS, &[&node.ours[..], b" \n"].concat())?;
        node.is_put_back()?;
        node.is_unharmed()
    }),
    ("a README that parses as a pod", "it runs as a pod of its own, ours is the same process", |node| {
        node.dropped("README.md", pod("readme", "readme-1").as_bytes())
    }),
    ("garbage", "ours is the same process, a new manifest still runs", |node| {
        node.dropped("garbage.yaml", b"\xff\xfe: [")
    }),
    ("a file of 11 MB", "ours is the same process, a new manifest still runs", |node| {
        // Hexadecimal in a query: written in place and made large after it.
        node.hand.change("write in place", &format!("{FOLDER}/large.yaml"), b"# large", 0)?;
        node.hand.change("cut", &format!("{FOLDER}/large.yaml"), b"", 11 << 20)?;
        node.is_unharmed()
    }),
    ("a directory", "ours is the same process, a new manifest still runs", |node| {
        node.hand.change("make folder", &format!("{FOLDER}/folder"), b"", 0)?;
        node.is_unharmed()
    }),
    ("a link that leads nowhere", "ours is the same process, a new manifest still runs", |node| {
        node.hand.change("link to", &format!("{FOLDER}/dangling.yaml"), b"/no/such", 0)?;
        node.is_unharmed()
    }),
    ("two files with one pod's name", "ours is the same process, a new manifest still runs", |node| {
        node.dropped("one.yaml", pod("same", "same-1").as_bytes())?;
        node.dropped("two.yaml", pod("same", "same-2").as_bytes())
    }),
    (
        "the directory removed, or replaced by rename, by a process of the node",
        "the kernel refuses: it is a mount",
        directory_replaced,
    ),
    // It is JSON: what is a comment in YAML is an error there, and the kubelet ends the pod at once.
    ("ours with a comment more", "put back as it was; our pod runs", |node| {
        node.hand.replace(OURS, &[&node.ours[..], b"# more\n"].concat())?;
        node.is_put_back()?;
        node.returns("podium-default-ours.yaml")
    }),
    (
        "ours cut off in place",
        "put back as it was before the kubelet looks again, nothing is restarted",
        |node| {
            node.hand.change("cut", OURS, b"", 40)?;
            node.is_put_back()?;
            node.is_unharmed()
        },
    ),
    (
        "a .bak of ours with another argument",
        "moved out of the kubelet's sight, told; our pod runs",
        |node| {
            let text = String::from_utf8(node.ours.clone())?.replace("ours-1", "ours-bad");
            node.hand.replace(&format!("{FOLDER}/podium-default-ours.yaml.bak"), text.as_bytes())?;
            node.returns("podium-default-ours.yaml.bak")
        },
    ),
    ("a link to ours", "moved out of the kubelet's sight, told; our pod runs", |node| {
        node.hand.change("link to", &format!("{FOLDER}/link.yaml"), OURS.as_bytes(), 0)?;
        node.returns("link.yaml")
    }),
    ("ours renamed", "put back, the other name moved out of sight and told; our pod runs", |node| {
        node.hand.change("rename to", OURS, format!("{FOLDER}/renamed.yaml").as_bytes(), 0)?;
        node.is_put_back()?;
        node.returns("renamed.yaml")
    }),
    ("ours removed", "put back; our pod runs", |node| {
        node.hand.change("remove", OURS, b"", 0)?;
        node.is_put_back()?;
        node.returns("podium-default-ours.yaml")
    }),
    (
        "a FIFO that stays",
        "moved out of sight, told; a kubelet that waits for it is released, and a new manifest runs",
        |node| fifo(node, "pipe.yaml"),
    ),
];

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    let shared = Shared::new(Node::boot);
    let fault = |&(name, expected, act): &(&'static str, &'static str, Act)| {
        let shared = Arc::clone(&shared);
        let name = format!("on a running node: {name}");
        Fault::in_machine("manifests", name, expected, move || {
            let node = shared.get()?;
            node.restore().context("before it")?;
            act(&node)
        })
    };
    ACTS.iter().map(fault).collect()
}

/// A node that runs, with the pod `ours` of its config.
struct Node {
    machine: Machine,
    hand: Hand,
    /// Its manifest as Podium wrote it.
    ours: Vec<u8>,
    others: AtomicU32,
    _disk: Disk,
}

impl Node {
    fn boot() -> Result<Self> {
        let ours = format!("\n    - {}", pod("ours", "ours-1").trim_end().replace('\n', "\n      "));
        let disk = Disk::temporary(&Image::under_test()?.disk)?;
        let machine = boot(&disk, &[inline::gzip(config(&[HAND, &ours]).as_bytes())?], &[])?;
        let hand = hand_of(&machine)?;
        let ours = hand.read(OURS)?.into_bytes();
        Ok(Self { machine, hand, ours, others: AtomicU32::new(0), _disk: disk })
    }

    /// Undoes what an earlier fault has left, so that one that failed does not spoil the next.
    fn restore(&self) -> Result<()> {
        for name in self.hand.list(FOLDER)? {
            let path = format!("{FOLDER}/{name}");
            let is_foreign = !name.starts_with("podium-default-") || name.ends_with(".bak");
            if is_foreign && !name.starts_with('.') {
                let remove = |what| self.hand.change(what, &path, b"", 0);
                remove("remove").or_else(|_| remove("remove folder"))?;
            }
        }
        if !self.hand.read(OURS).is_ok_and(|text| text.as_bytes() == self.ours) {
            self.hand.replace(OURS, &self.ours)?;
        }
        self.process("ours-1").map(drop)
    }

    fn process(&self, word: &str) -> Result<Process> {
        self.hand.wait(word, LIMIT, |hand| hand.process("guest", word).map(Some))
    }

    /// A manifest of somebody else's, in one step; then all is as before.
    fn dropped(&self, name: &str, text: &[u8]) -> Result<String> {
        self.hand.replace(&format!("{FOLDER}/{name}"), text)?;
        self.is_unharmed()
    }

    /// The kubelet still takes new manifests, and our pod has been the same process all the time.
    fn is_unharmed(&self) -> Result<String> {
        let before = self.process("ours-1")?;
        let seen = self.takes_more()?;
        let after = self.process("ours-1")?;
        ensure!(before == after, "our pod was restarted: {before:?}, {after:?}");
        Ok(format!("our pod is process {} as before, {seen}", after.pid))
    }

    /// A new manifest runs.
    fn takes_more(&self) -> Result<String> {
        let word = format!("other-{}", self.others.fetch_add(1, Ordering::Relaxed));
        let path = format!("{FOLDER}/{word}.yaml");
        let since = Instant::now();
        self.hand.replace(&path, pod(&word, &word).as_bytes())?;
        self.process(&word).context("the kubelet takes no more manifests")?;
        let took = since.elapsed();
        self.hand.remove(&path)?;
        Ok(format!("a new manifest runs after {:.1} s", took.as_secs_f64()))
    }

    /// Podium has put its own manifest back.
    fn is_put_back(&self) -> Result<()> {
        self.hand.wait("our manifest is as it was", OWN_LIMIT, |hand| {
            Ok((hand.read(OURS)?.as_bytes() == self.ours).then_some(()))
        })
    }

    /// What was at `name` is out of the kubelet's sight or ours again, and our pod runs as the config has it.
    fn returns(&self, name: &str) -> Result<String> {
        let is_ours = OURS.ends_with(name);
        self.hand.wait("it is out of the kubelet's sight", OWN_LIMIT, |hand| {
            Ok((is_ours || !hand.list(FOLDER)?.iter().any(|each| each == name)).then_some(()))
        })?;
        let line = self.machine.wait(name, OWN_LIMIT)?;
        let more = self.takes_more()?;
        self.process("ours-1")?;
        let other = self.hand.process("guest", "ours-bad").ok();
        ensure!(other.is_none(), "the other pod runs in place of ours: {other:?}");
        Ok(format!("{}; our pod runs, {more}", shown(&line)))
    }
}

/// A pod that does nothing, told from others by `word`.
fn pod(name: &str, word: &str) -> String {
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

fn new_manifest(node: &Node) -> Result<String> {
    let before = node.process("ours-1")?;
    let since = Instant::now();
    node.hand.replace(&format!("{FOLDER}/new.yaml"), pod("new", "new-1").as_bytes())?;
    node.process("new-1")?;
    let took = since.elapsed();
    ensure!(node.process("ours-1")? == before, "our pod was restarted");
    Ok(format!("it runs after {:.1} s", took.as_secs_f64()))
}

fn directory_replaced(node: &Node) -> Result<String> {
    let mut seen = Vec::new();
    for (what, text) in [("remove folder", ""), ("rename to", "/etc/kubernetes/old")] {
        let refused = node.hand.change_there(what, FOLDER, text.as_bytes()).err();
        seen.push(format!("{:#}", refused.with_context(|| format!("{what} succeeded"))?));
    }
    ensure!(seen.iter().all(|error| error.contains("busy")), "{seen:?}");
    node.is_unharmed()
}

fn fifo(node: &Node, name: &str) -> Result<String> {
    let path = format!("{FOLDER}/{name}");
    let before = node.process("ours-1")?;
    let from = node.machine.console.mark();
    node.hand.change("make FIFO", &path, b"", 0)?;
    let line = node.machine.console.wait(from, name, OWN_LIMIT);
    // First what matters more: a kubelet that hangs.
    let more = node.takes_more()?;
    ensure!(node.process("ours-1")? == before, "our pod was restarted");
    Ok(format!("{}; {more}", shown(&line?)))
}
