//! `test soak`: the real PID 1 in a namespace does for minutes what a node does in years, and has to come out as it went
//! in: no more memory, no more descriptors, nothing left behind in its folder.
//!
//! Restarts of a service (every second one by SIGKILL), orphans, and applied configs, one kind after the other. What is
//! bounded in PID 1 (events, deaths, history) is filled first, and only then is it looked at for the first time.

use crate::{image, say};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use podium_tests::disk::temporary_folder;
use podium_tests::ns::{LIMIT, Lines, Node, Setup, eventually};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A whole soak: restarts, orphans, applies.
const WHOLE: Counts = Counts { restarts: 10_000, orphans: 1_000_000, applies: 1_000 };
/// Enough that no list in PID 1 grows any more: it remembers 256 events and ten deaths, and ten configs.
const WARM_UP: Counts = Counts { restarts: 150, orphans: 2_000, applies: 15 };
/// What PID 1 may have more at the end: the heap's last pages are not always the same ones. A hundred bytes lost at each
/// apply, or ten at each restart, are more.
const MEMORY_SLACK_KIB: u64 = 64;
const SIGKILL: i32 = 9;
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: usize = 20;
const KUBELET: &str = "kubelet";
const MANIFEST: &str = "/etc/kubernetes/manifests/podium-default-hello.yaml";
/// A thousand orphans on a busy machine.
const STALLED: Duration = Duration::from_secs(120);
/// PID 1's children in a node at rest: seven services, and a helper that comes and goes.
const CHILDREN: usize = 8;

/// The part of a whole soak that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale(u64);

impl FromStr for Scale {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let divisor =
            word.strip_prefix("1/").and_then(|divisor| divisor.parse().ok()).filter(|divisor| *divisor > 0);
        match (word, divisor) {
            ("1", _) => Ok(Self(1)),
            (_, Some(divisor)) => Ok(Self(divisor)),
            _ => Err("1, or a part of it such as 1/100".to_owned()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Counts {
    restarts: u64,
    orphans: u64,
    applies: u64,
}

impl Counts {
    fn scaled(self, Scale(divisor): Scale) -> Self {
        let part = |count: u64| (count / divisor).max(1);
        Self { restarts: part(self.restarts), orphans: part(self.orphans), applies: part(self.applies) }
    }
}

/// PID 1 at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Sample {
    pss_anon_kib: u64,
    descriptors: usize,
    /// Everything below /run/podium.
    #[serde(skip)]
    files: BTreeSet<String>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
struct Outcome {
    succeeded: bool,
    done: Counts,
    seconds: f64,
    before: Sample,
    after: Sample,
    left_behind: Vec<String>,
    zombies: usize,
}

/// Soaks a node and tells what it has kept.
///
/// # Errors
/// The node did not do what it was to do; that it has kept something is a failure, and no error.
pub(crate) fn run(scale: Scale, json: bool) -> Result<ExitCode> {
    let init = say::phase("building PID 1", || image::static_binary("podium-init", "init"))?;
    let setup = Setup {
        copies: BTreeMap::from([("/usr/sbin/init", init)]),
        volumes: vec!["/system/state"],
        ..Setup::default()
    };
    let node = say::phase("starting a node", || Node::up(&setup.script("containerd", "ready\nrain\n")))?;
    let outcome = soak(&node, WHOLE.scaled(scale)).map_err(|error| node.with_console(&error))?;
    if json {
        say::json(&outcome)?;
    } else {
        print!("{}", table(&outcome));
    }
    Ok(if outcome.succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn soak(node: &Node, counts: Counts) -> Result<Outcome> {
    let mut work = Work::new(node)?;
    say::note("filling what is bounded");
    work.all(WARM_UP)?;
    let before = sample(node)?;
    let since = Instant::now();
    work.all(counts)?;
    let seconds = since.elapsed().as_secs_f64();
    let zombies = node.processes().iter().filter(|process| process.state == 'Z').count();
    let after = sample(node)?;
    let left_behind = after.files.difference(&before.files).cloned().collect();
    let mut outcome =
        Outcome { succeeded: false, done: counts, seconds, before, after, left_behind, zombies };
    outcome.succeeded = verdicts(&outcome).iter().all(|verdict| verdict.flat);
    Ok(outcome)
}

/// PID 1 at rest: with no more children and descriptors than its services need, as far as that comes true.
fn sample(node: &Node) -> Result<Sample> {
    let at_rest = || (children(node) <= CHILDREN).then_some(());
    eventually("a node at rest", LIMIT, at_rest)?;
    let descriptors = || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{}/fd", node.init()))?.count()) };
    // A client that has just left is noticed in the next turn: the lowest of some looks is the one at rest.
    let looks = (0..LOOKS).map(|_| {
        std::thread::sleep(LOOK);
        descriptors()
    });
    let descriptors = looks.collect::<Result<Vec<_>>>()?.into_iter().min().unwrap_or_default();
    let mut files = BTreeSet::new();
    list(&node.path("/run/podium"), "", &mut files)?;
    Ok(Sample { pss_anon_kib: node.pss_anon()?, descriptors, files })
}

fn children(node: &Node) -> usize {
    node.processes().iter().filter(|process| process.host_parent == node.init()).count()
}

/// Every path below a folder.
fn list(folder: &Path, prefix: &str, files: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{path}/"), files)?;
        }
        files.insert(path);
    }
    Ok(())
}

/// What is done to the node, one after the other.
struct Work<'a> {
    node: &'a Node,
    /// To PID 1's own socket.
    lines: Lines,
    /// Holds the config that is applied next.
    folder: TempDir,
    /// Orphans so far.
    fallen: u64,
    /// Configs so far.
    applied: u64,
}

impl<'a> Work<'a> {
    fn new(node: &'a Node) -> Result<Self> {
        Ok(Self { node, lines: node.connect()?, folder: temporary_folder()?, fallen: 0, applied: 0 })
    }

    fn all(&mut self, counts: Counts) -> Result<()> {
        let bar = say::progress("restarts", counts.restarts);
        self.lines = self.node.connect()?;
        for number in 0..counts.restarts {
            self.restart(number % 2 == 1).with_context(|| format!("restart {number}"))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let bar = say::progress("orphans", counts.orphans);
        self.orphans(counts.orphans, &bar)?;
        bar.finish_and_clear();
        let bar = say::progress("applies", counts.applies);
        for _ in 0..counts.applies {
            self.apply()?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Ends the kubelet, by its stop rule or by SIGKILL, and waits for its next life.
    fn restart(&mut self, kill: bool) -> Result<()> {
        let before = self.lines.service(KUBELET)?["pid"].as_u64().context("the kubelet is down")?;
        if kill {
            self.node.signal_process(u32::try_from(before)?, SIGKILL)?;
        } else {
            self.lines.restart(KUBELET)?;
        }
        self.lines.next_life(KUBELET, before).map(drop)
    }

    /// Has containerd's fake make some, and waits until PID 1 has buried them.
    fn orphans(&mut self, count: u64, bar: &ProgressBar) -> Result<()> {
        let before = self.fallen;
        self.fallen += count;
        fs::write(self.node.root("/fake/rain"), self.fallen.to_string())?;
        let fallen = || fs::read_to_string(self.node.root("/fake/rain.fallen")).ok()?.parse::<u64>().ok();
        let mut last = (before, Instant::now());
        while last.0 < self.fallen {
            let now = fallen().unwrap_or(before).max(before);
            if now > last.0 {
                last = (now, Instant::now());
                bar.set_position(now - before);
            }
            ensure!(last.1.elapsed() < STALLED, "no more orphans after {}", last.0);
            std::thread::sleep(LOOK);
        }
        eventually("all orphans buried", LIMIT, || (children(self.node) <= CHILDREN).then_some(()))
    }

    /// Another image for the one pod.
    fn apply(&mut self) -> Result<()> {
        self.applied += 1;
        let config = format!(
            "version: v1alpha1
machine:
  pods: [{{apiVersion: v1, kind: Pod, metadata: {{name: hello}}, spec: {{containers: [{{name: c, image: 'i:{}'}}]}}}}]
",
            self.applied
        );
        let file = self.folder.path().join("config.yaml");
        fs::write(&file, config)?;
        let printed = self.node.ctl(&["config", "apply", &file.to_string_lossy()])?;
        ensure!(printed.ok, "apply {}: {printed:?}", self.applied);
        let manifest = fs::read_to_string(self.node.path(MANIFEST))?;
        ensure!(manifest.contains(&format!("i:{}\"", self.applied)), "apply {}: {manifest}", self.applied);
        Ok(())
    }
}

/// One thing that is to be as it was.
struct Verdict {
    what: &'static str,
    before: String,
    after: String,
    flat: bool,
}

fn verdicts(outcome: &Outcome) -> [Verdict; 4] {
    let Outcome { before, after, left_behind, zombies, .. } = outcome;
    let grown = after.pss_anon_kib.saturating_sub(before.pss_anon_kib);
    let verdict = |what, before: &dyn ToString, after: &dyn ToString, flat| Verdict {
        what,
        before: before.to_string(),
        after: after.to_string(),
        flat,
    };
    [
        verdict(
            "Pss_Anon of PID 1, KiB",
            &before.pss_anon_kib,
            &after.pss_anon_kib,
            grown <= MEMORY_SLACK_KIB,
        ),
        verdict(
            "its descriptors",
            &before.descriptors,
            &after.descriptors,
            after.descriptors <= before.descriptors,
        ),
        verdict("files below /run/podium", &before.files.len(), &after.files.len(), left_behind.is_empty()),
        verdict("zombies", &0, zombies, *zombies == 0),
    ]
}

fn table(outcome: &Outcome) -> String {
    let Outcome { done: Counts { restarts, orphans, applies }, seconds, .. } = outcome;
    let mut cells = vec![["", "after the warm-up", "at the end", ""].map(str::to_owned).to_vec()];
    for Verdict { what, before, after, flat } in verdicts(outcome) {
        let word = if flat { "flat" } else { "GROWN" };
        cells.push(vec![what.to_owned(), before, after, word.to_owned()]);
    }
    let left: String = outcome.left_behind.iter().map(|path| format!("left behind: {path}\n")).collect();
    format!(
        "{restarts} restarts, {orphans} orphans, {applies} applies in {}\n{}{left}",
        say::seconds(Duration::from_secs_f64(*seconds)),
        say::table(&cells)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pss_anon_kib: u64, descriptors: usize) -> Sample {
        Sample { pss_anon_kib, descriptors, files: BTreeSet::from(["init.sock".to_owned()]) }
    }

    #[test]
    fn what_grows_is_told() {
        let mut outcome = Outcome {
            succeeded: true,
            done: WHOLE,
            seconds: 1.0,
            before: sample(200, 30),
            after: sample(264, 30),
            left_behind: Vec::new(),
            zombies: 0,
        };
        assert!(!table(&outcome).contains("GROWN"), "{}", table(&outcome));
        outcome.after = sample(265, 31);
        outcome.left_behind.push("services/x.json".to_owned());
        let table = table(&outcome);
        assert_eq!(table.matches("GROWN").count(), 3, "{table}");
        assert!(table.ends_with("left behind: services/x.json\n"), "{table}");
    }

    #[test]
    fn a_scale_is_a_part_of_the_whole() {
        let scaled = |word: &str| word.parse().map(|scale| WHOLE.scaled(scale));
        assert_eq!(scaled("1"), Ok(WHOLE));
        assert_eq!(scaled("1/100"), Ok(Counts { restarts: 100, orphans: 10_000, applies: 10 }));
        assert_eq!(scaled("1/100000").map(|counts| counts.applies), Ok(1));
        for word in ["0", "1/0", "2", "1/x", ""] {
            assert!(word.parse::<Scale>().is_err(), "{word}");
        }
    }
}
