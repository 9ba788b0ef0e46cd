//! How long a node takes to act on a changed config, measured inside of it by the tests' hand, and its words.
//!
//! The clock is the guest's own and everything is looked at in a tight loop, so neither the network between host and
//! guest nor the host's scheduling of a request is in the numbers; what is in them is the looking itself, which at
//! 1,000 pods is the kubelet writing and apid reading a list of some megabytes. Only the machine config changes
//! anything: by rename of the stored file, as `config apply` does it.

use crate::http;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The stored config on the node.
pub const STORED: &str = "/system/state/config.yaml";
/// The manifests' folder.
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// The text of the config in force.
const IN_FORCE: &str = "/run/podium/config.yaml";
/// Where apid answers.
const APID: &str = "/run/podium/apid.sock";
/// apid's own reasons for a pod that the kubelet does not have as its manifest says.
const AWAITS: [&str; 4] = ["Updating", "NotSeen", "NoManifest", "KubeletUnreachable"];
/// Until a change has reached the kubelet's list: generous, for a failed wait is no measurement.
const LIMIT: Duration = Duration::from_secs(300);
/// Between two looks at something that costs little.
const LOOK: Duration = Duration::from_micros(500);
/// A node that has done nothing to its config for so long is at rest: what a change leaves to be done (it is sealed and
/// kept, its own events are looked at) follows within that.
const REST: Duration = Duration::from_secs(1);
/// A machine whose processors do nothing for this part of [`REST`] has nothing else to do.
const IDLE: f64 = 0.6;
/// One that has just booted pulls itself together for a minute, without KVM.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// One change on its way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reaction {
    /// Rename of the stored config to the changed manifest, in milliseconds.
    pub file_ms: f64,
    /// Rename of the stored config to the pod's new UID in the kubelet's list, in milliseconds.
    pub kubelet_ms: f64,
    /// How idle the machine's processors were before that, of 1, if somebody has looked; see [`idle`].
    pub idle: Option<f64>,
}

/// No machine has so much, so that the kubelet never starts such a pod, and its list has it all the same. One that ran
/// would have to end before its next version is written: that is measured as an outage.
const REFUSED: &str = "resources: {requests: {cpu: 1k}}";

/// The config with `count` pods behind those of `base`, none of which is ever started, and of which the last is marked by
/// `mark`.
#[must_use]
pub fn crowded(base: &str, count: usize, mark: &str) -> String {
    let mut text = base.trim_end().to_owned() + "\n";
    for number in 1..=count {
        let label = if number == count { mark } else { "none" };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "    - apiVersion: v1\n      kind: Pod\n      metadata: {{name: crowd-{number}, labels: {{mark: {label}}}}}\n      \
             spec: {{containers: [{{name: crowd, image: podium.local/hello:1, imagePullPolicy: Never, {REFUSED}}}]}}\n"
        );
    }
    text
}

/// Changes the last of `count` pods of a node at rest and follows the change; on the node below `root` (`/proc/1/root`).
///
/// # Errors
/// It did not arrive within five minutes, or apid does not answer.
pub fn reaction(root: &Path, base: &str, count: usize, mark: &str) -> Result<Reaction> {
    let id = format!("default-crowd-{count}");
    let before = uid(root, &id)?;
    let (since, file) = store_crowd(root, base, count, mark)?;
    let kubelet = until("the changed pod in the kubelet's list", || {
        let now = uid(root, &id)?;
        Ok((now.is_some() && now != before).then(|| since.elapsed()))
    })?;
    Ok(Reaction { file_ms: milliseconds(file), kubelet_ms: milliseconds(kubelet), idle: None })
}

/// Waits until the machine is mostly idle; how idle it was at last, of 1. One that never is, is measured as it is.
///
/// # Errors
/// The kernel does not say.
pub fn idle() -> Result<f64> {
    let deadline = Instant::now() + IDLE_LIMIT;
    let look = || processors(&fs::read_to_string("/proc/stat").context("/proc/stat")?);
    loop {
        let before = look()?;
        thread::sleep(REST);
        let now = look()?;
        let share = (now.0 - before.0) / (now.1 - before.1).max(1.0);
        if share >= IDLE || Instant::now() > deadline {
            return Ok(share);
        }
    }
}

/// Idle time of all processors and all their time, in the kernel's ticks: see proc_stat(5).
fn processors(stat: &str) -> Result<(f64, f64)> {
    let ticks: Vec<f64> =
        stat.lines().next().unwrap_or_default().split(' ').filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, ...
    let idle = ticks.get(3..5).context("/proc/stat: no such line")?.iter().sum();
    Ok((idle, ticks.iter().sum()))
}

/// The same as far as the manifest, in milliseconds: of a node that has no kubelet.
///
/// # Errors
/// It did not arrive within five minutes.
pub fn written(root: &Path, base: &str, count: usize, mark: &str) -> Result<f64> {
    store_crowd(root, base, count, mark).map(|(_, file)| milliseconds(file))
}

/// When the config was stored, and how long the manifest of the last pod took.
fn store_crowd(root: &Path, base: &str, count: usize, mark: &str) -> Result<(Instant, Duration)> {
    at_rest()?;
    let since = store(root, &crowded(base, count, mark))?;
    let manifest = inside(root, &format!("{MANIFESTS}/podium-default-crowd-{count}.yaml"));
    let file = until("the changed manifest", || {
        let text = fs::read_to_string(&manifest).unwrap_or_default();
        Ok(text.contains(&format!("\"{mark}\"")).then(|| since.elapsed()))
    })?;
    Ok((since, file))
}

/// Stores `config` and measures how long nobody answers on `port` of the node: from the last answer before to the
/// first one after, in milliseconds.
///
/// # Errors
/// The answers never stopped, or did not come again, within five minutes.
pub fn gap(root: &Path, config: &str, port: u16) -> Result<f64> {
    http::try_get(port, "/").context("before the change")?;
    store(root, config)?;
    let mut last = Instant::now();
    until("the end of the old container", || {
        let answered = http::try_get(port, "/").is_ok();
        if answered {
            last = Instant::now();
        }
        Ok((!answered).then_some(()))
    })?;
    let gap =
        until("the new container's answer", || Ok(http::try_get(port, "/").is_ok().then(|| last.elapsed())))?;
    Ok(milliseconds(gap))
}

/// Stores `config` and waits until the pod `updated` of it is ready and answers on `port`.
///
/// # Errors
/// It was not within five minutes, or apid does not answer.
pub fn settle(root: &Path, config: &str, port: u16) -> Result<()> {
    store(root, config)?;
    until("the pod of the stored config", || {
        // It may still be a compressed one.
        if fs::read(inside(root, IN_FORCE))? != config.as_bytes() {
            return Ok(None);
        }
        let text = fs::read_to_string(inside(root, &format!("{MANIFESTS}/podium-default-updated.yaml")))?;
        let manifest: Value = serde_json::from_str(&text).context("our manifest")?;
        let want = manifest["metadata"]["uid"].as_str().map(str::to_owned);
        let is_there = uid(root, "default-updated")? == want;
        Ok((is_there && http::try_get(port, "/").is_ok()).then_some(()))
    })
}

/// The UID of a pod in the kubelet's list, asked for now.
fn uid(root: &Path, id: &str) -> Result<Option<String>> {
    let mut stream = UnixStream::connect(inside(root, APID)).context(APID)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"{\"request\":\"pod status\",\"refresh\":true}\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line).with_context(|| format!("apid's answer: {line:.200}"))?;
    ensure!(answer["kubelet"] == "ok", "the kubelet does not answer apid: {}", answer["kubelet"]);
    let pods = answer["pods"].as_array().context("no list of pods")?;
    // Until the kubelet has the pod of the manifest, apid says so.
    let awaits = |pod: &Value| AWAITS.iter().any(|reason| pod["reason"] == *reason);
    let pod = pods.iter().find(|pod| pod["id"] == id && !awaits(pod));
    Ok(pod.and_then(|pod| pod["uid"].as_str()).map(str::to_owned))
}

/// Waits until no change of the config has been under way for [`REST`].
fn at_rest() -> Result<()> {
    let mut since = Instant::now();
    until("the end of the last change", || {
        if changes_now() {
            since = Instant::now();
        }
        thread::sleep(REST / 20);
        Ok((since.elapsed() >= REST).then_some(()))
    })
}

/// Whether one of PID 1's children changes the config: `init apply`.
fn changes_now() -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| {
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|name| name.ends_with(b"exe") || name.ends_with(b"init"))
            && words.next() == Some(b"apply")
    })
}

/// Replaces the stored config by rename; the moment just before it.
fn store(root: &Path, config: &str) -> Result<Instant> {
    let path = inside(root, STORED);
    let aside = path.with_extension("new");
    fs::write(&aside, config).with_context(|| aside.display().to_string())?;
    let since = Instant::now();
    fs::rename(&aside, &path).with_context(|| path.display().to_string())?;
    Ok(since)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {} s", LIMIT.as_secs());
        }
        thread::sleep(LOOK);
    }
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const BASE: &str = "version: v1alpha1\nmachine:\n  pods:\n    - x\n";

    #[test]
    fn processors_have_been_idle_for_a_part_of_their_time() {
        let stat = "cpu  10 2 30 400 5 6 7 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(processors(stat).unwrap(), (405.0, 460.0));
        assert!(processors("").is_err());
    }

    #[test]
    fn the_last_pod_alone_is_marked() {
        let text = crowded(BASE, 3, "m7");
        assert_eq!(text.matches("kind: Pod").count(), 3);
        assert_eq!(text.matches("mark: none").count(), 2);
        assert!(text.lines().any(|line| line.contains("crowd-3") && line.contains("mark: m7")), "{text}");
    }

    /// A node that acts at once: it writes the manifest when it sees the config, and lists what is in the manifest.
    #[test]
    fn a_change_is_followed_to_the_file_and_to_the_list() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["system/state", "etc/kubernetes/manifests", "run/podium"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let listener = UnixListener::bind(inside(root.path(), APID)).unwrap();
        let node = root.path().to_owned();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let config = fs::read_to_string(inside(&node, STORED)).unwrap_or_default();
                let uid = if config.contains("mark: m1") { "new" } else { "old" };
                let manifest = inside(&node, &format!("{MANIFESTS}/podium-default-crowd-1.yaml"));
                fs::write(manifest, if uid == "new" { "\"m1\"" } else { "\"none\"" }).unwrap();
                let pods =
                    serde_json::json!({"kubelet": "ok", "pods": [{"id": "default-crowd-1", "uid": uid}]});
                writeln!(stream, "{pods}").unwrap();
            }
        });
        // The file is only written when the list is asked for, so it is there after the first question.
        let path = root.path().to_owned();
        let asker = thread::spawn(move || {
            until("asked", || Ok((uid(&path, "default-crowd-1")?.as_deref() == Some("new")).then_some(())))
        });
        let seen = reaction(root.path(), BASE, 1, "m1").unwrap();
        asker.join().unwrap().unwrap();
        assert!(seen.file_ms > 0.0 && seen.kubelet_ms >= seen.file_ms, "{seen:?}");
    }
}
