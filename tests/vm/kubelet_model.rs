//! The model of the kubelet's file source (`src/kubelet_model.rs`) held against the kubelet of the image: the same
//! operations on both, then the same pods, of the same UIDs, as processes that were restarted or left alone alike.
//!
//! Many files are changed in one round, each in another way, and the last change of a round is a new manifest: when its
//! process is there, the kubelet has heard of all before it. What Podium itself refuses in its directory (a FIFO, a
//! folder, a link) and what its mount forbids cannot be tried here.

use super::support::on_a_running_node;
use anyhow::{Context, Result, bail, ensure};
use podium_tests::hand::{Hand, Process};
use podium_tests::kubelet_model::{Compares, Happened, Kubelet, Operation, Place};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FOLDER: &str = "/etc/kubernetes/manifests";
/// Until some ten pods have ended and started, on a busy host without KVM.
const LIMIT: Duration = Duration::from_secs(300);
/// How the words begin that tell the pods' processes apart.
const WORD: &str = "model-";
/// The same image under another name.
const OTHER_IMAGE: &str = "podium.local/guest:2";
const IMAGE: &str = "podium.local/guest:1";

/// A manifest; its process has the word `model-<word>`.
fn pod(name: &str, uid: Option<&str>, image: &str, word: &str) -> String {
    let uid = uid.map_or_else(String::new, |uid| format!(", uid: {uid}"));
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}{uid}}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: '{image}', imagePullPolicy: Never, args: [sleep, {WORD}{word}]}}]
"
    )
}

fn hashed(name: &str, word: &str) -> String {
    pod(name, None, IMAGE, word)
}

fn fixed(name: &str, image: &str, word: &str) -> String {
    pod(name, Some(&format!("uid-of-{name}")), image, word)
}

fn rename(file: &str, text: impl Into<String>) -> Operation {
    Operation::Rename { file: file.into(), bytes: text.into().into_bytes() }
}

fn write(file: &str, text: impl Into<String>) -> Operation {
    Operation::Write { file: file.into(), bytes: text.into().into_bytes() }
}

/// The real one: through the tests' hand inside the node.
struct Node {
    hand: Hand,
}

impl Place for Node {
    fn apply(&mut self, operation: &Operation) -> Result<()> {
        let at = |name: &str| format!("{FOLDER}/{name}");
        match operation {
            Operation::Rename { file, bytes } => self.hand.replace(&at(file), bytes),
            Operation::Write { file, bytes } => self.hand.change("write in place", &at(file), bytes, 0),
            Operation::Move { from, to } => self.hand.change("rename to", &at(from), at(to).as_bytes(), 0),
            Operation::Delete(name) => self.hand.remove(&at(name)),
            Operation::Touch(name) => self.hand.change("touch", &at(name), b"", 0),
            Operation::Chmod(name) => self.hand.change("mode", &at(name), b"", 0o640),
            Operation::StopKubelet => self.asks("stop"),
            Operation::StartKubelet => self.asks("start"),
            Operation::Fifo(_)
            | Operation::Symlink { .. }
            | Operation::Subdirectory(_)
            | Operation::ReplaceDirectory(_)
            | Operation::RemoveReplaced
            | Operation::RemoveDirectory
            | Operation::Relist => bail!("{operation:?} cannot be done on a node"),
        }
    }
}

impl Node {
    fn asks(&self, verb: &str) -> Result<()> {
        let said = self.hand.ctl(&format!("service {verb} kubelet"))?;
        ensure!(said.ok, "{verb}: {said:?}");
        self.hand.wait("the kubelet's start or end", LIMIT, |hand| {
            Ok((hand.process("kubelet", "kubelet").is_ok() == (verb == "start")).then_some(()))
        })
    }

    /// What the kubelet's log and containerd's say of a pod: why one was restarted is nowhere else.
    fn said_of(&self, word: &str) -> String {
        let logs = ["kubelet", "containerd"].map(|name| {
            let log = self.hand.read(&format!("/var/log/podium/{name}.log")).unwrap_or_default();
            let lines =
                log.lines().filter(|line| line.contains(word)).map(|line| format!("{name}: {line}\n"));
            lines.collect::<String>()
        });
        logs.concat()
    }

    /// The pods' processes by their word; two of one word are an error.
    fn processes(&self) -> Result<BTreeMap<String, Process>> {
        let mut found = BTreeMap::new();
        for process in self.hand.processes()? {
            let word = process.argv.iter().find_map(|word| word.strip_prefix(WORD)).map(str::to_owned);
            if let Some(word) = word.filter(|_| process.name == "guest") {
                ensure!(found.insert(word.clone(), process).is_none(), "two processes of {word}");
            }
        }
        Ok(found)
    }
}

/// The model's UIDs, and the kubelet's.
type Uids = BTreeMap<String, String>;
/// The pods' words, with the model's UID and the process.
type Pods = BTreeMap<String, (String, Process)>;

/// Both, and which of the model's UIDs is which of the kubelet's.
struct Pair {
    model: Kubelet,
    node: Node,
    uids: Uids,
    before: Pods,
    rounds: u32,
}

impl Pair {
    /// Does all of it to both, and a new manifest after it; then both must have the same.
    fn round(&mut self, operations: Vec<Operation>) -> Result<()> {
        self.rounds += 1;
        let last = format!("last-{}", self.rounds);
        let probe = rename(&format!("{last}.yaml"), hashed(&last, &last));
        for operation in operations.into_iter().chain([probe]) {
            self.model.apply(&operation).with_context(|| format!("model: {operation:?}"))?;
            self.node.apply(&operation).with_context(|| format!("node: {operation:?}"))?;
        }
        self.compare().with_context(|| format!("round {}", self.rounds))
    }

    /// What only the list of its directory tells the kubelet, which it makes every 20 s. It may come at once, so that
    /// nothing happens before it is the model's word alone.
    fn listed(&mut self, operation: &Operation) -> Result<()> {
        let before = self.model.running().len();
        self.model.apply(operation)?;
        ensure!(self.model.running().len() == before, "{operation:?}: seen before the list");
        self.node.apply(operation)?;
        self.model.apply(&Operation::Relist)?;
        ensure!(self.model.running().len() != before, "{operation:?}: not seen in the list");
        self.compare().context("after the kubelet's list")
    }

    fn compare(&mut self) -> Result<()> {
        let word = |container: &serde_json::Value| {
            container["args"][1].as_str().and_then(|word| word.strip_prefix(WORD)).map(str::to_owned)
        };
        let mut wanted = BTreeMap::new();
        for (uid, pod) in self.model.running() {
            let word = pod.containers.get("c").and_then(word).with_context(|| format!("{pod:?}"))?;
            wanted.insert(word, uid.clone());
        }
        let happened = self.model.take_happened();
        let last = Cell::new(String::new());
        let (uids, after) = self
            .node
            .hand
            .wait("the kubelet's pods", LIMIT, |_| {
                let now = self.node.processes()?;
                let is_same = now.keys().eq(wanted.keys());
                last.set(format!("the model has {wanted:?}, the node {:?}", now.keys().collect::<Vec<_>>()));
                if is_same { self.matched(&wanted, &happened, now) } else { Ok(None) }
            })
            .with_context(|| last.take())?;
        for (word, (uid, process)) in &after {
            if let Some((before, old)) = self.before.get(word)
                && !happened.iter().any(|what| is_of(what, before) || is_of(what, uid))
            {
                ensure!(
                    old == process,
                    "{word} was restarted, and in the model nothing happened to it: {old:?}, {process:?}; {}",
                    self.node.said_of(word)
                );
            }
        }
        (self.uids, self.before) = (uids, after);
        Ok(())
    }

    /// `Some`: the processes are those of the model's pods, each UID of the model is one of the kubelet's, and what was
    /// restarted in the model is another process. What is still under way is none of it.
    fn matched(
        &self,
        wanted: &BTreeMap<String, String>,
        happened: &[Happened],
        now: BTreeMap<String, Process>,
    ) -> Result<Option<(Uids, Pods)>> {
        let (mut uids, mut after) = (self.uids.clone(), BTreeMap::new());
        for (word, process) in now {
            let (ours, theirs) = (&wanted[&word], self.node.hand.pod_uid(process.pid)?);
            let restarted = Happened::Restarted(ours.clone(), "c".to_owned());
            let is_old = self.before.get(&word).is_some_and(|(_, old)| *old == process);
            let is_known = uids.entry(ours.clone()).or_insert_with(|| theirs.clone()) == &theirs;
            let is_given = ours.starts_with("hash-") || *ours == theirs;
            if !is_known || !is_given || is_old && happened.contains(&restarted) {
                return Ok(None);
            }
            after.insert(word, (ours.clone(), process));
        }
        let different: BTreeSet<&String> = uids.values().collect();
        Ok((different.len() == uids.len()).then_some((uids, after)))
    }
}

fn is_of(happened: &Happened, uid: &str) -> bool {
    match happened {
        Happened::Created(of) | Happened::Killed(of) | Happened::Ignored(of) | Happened::Restarted(of, _) => {
            of == uid
        }
    }
}

#[test]
fn the_kubelet_does_what_its_model_does() -> Result<()> {
    on_a_running_node(|_, _machine, hand| {
        hand.tag(IMAGE, OTHER_IMAGE)?;
        // The image's kubelet is 1.20.
        let mut model = Kubelet::new("node", Compares::Everything).hashing_pods_alone();
        model.apply(&Operation::StartKubelet)?;
        let (uids, before) = (BTreeMap::new(), BTreeMap::new());
        let mut pair = Pair { model, node: Node { hand }, uids, before, rounds: 0 };

        pair.round(vec![
            rename("same.yaml", hashed("same", "same")),
            rename("argument.yaml", hashed("argument", "argument-1")),
            rename("image.yaml", fixed("image", IMAGE, "image")),
            rename("fixed.yaml", fixed("fixed", IMAGE, "fixed-1")),
            rename("cut.yaml", hashed("cut", "cut")),
            rename("name.yaml", hashed("name", "name")),
            rename("README", hashed("readme", "readme")),
            rename("again.yaml.bak", fixed("again", IMAGE, "again")),
            rename(".hidden.yaml", hashed("hidden", "hidden")),
            rename("documents.yaml", hashed("first", "first") + "---\n" + &hashed("second", "second")),
            rename("keys.yaml", hashed("once", "twice") + "metadata: {name: twice}\n"),
            rename("list.yaml", "apiVersion: v1\nkind: PodList\nitems: []\n"),
            rename("garbage.yaml", "{: \n\t"),
        ])?;
        // A file that was there, and nothing that a kubelet could see in it; then what it does see.
        pair.round(vec![
            rename("same.yaml", "# a comment\n".to_owned() + &hashed("same", "same")),
            Operation::Touch("same.yaml".into()),
            Operation::Chmod("README".into()),
            rename("argument.yaml", hashed("argument", "argument-2")),
            rename("image.yaml", fixed("image", OTHER_IMAGE, "image")),
            rename("fixed.yaml", fixed("fixed", IMAGE, "fixed-2")),
            Operation::Move { from: "name.yaml".into(), to: "other-name.yaml".into() },
            Operation::Delete("again.yaml.bak".into()),
            Operation::Delete("documents.yaml".into()),
        ])?;
        pair.listed(&write("cut.yaml", ""))?;
        // Of two files with one pod the last one wins.
        pair.round(vec![
            rename("again.yaml", fixed("again", IMAGE, "again")),
            rename("one.yaml", hashed("double", "double-1")),
            rename("two.yaml", hashed("double", "double-2")),
        ])?;
        pair.round(vec![
            Operation::StopKubelet,
            rename("image.yaml", fixed("image", IMAGE, "image")),
            rename("argument.yaml", hashed("argument", "argument-3")),
            Operation::Delete("two.yaml".into()),
            Operation::Delete("README".into()),
            Operation::StartKubelet,
        ])?;
        ensure!(pair.before.len() >= 10, "{:?}", pair.before.keys());
        Ok(())
    })
}
