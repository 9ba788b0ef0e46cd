//! `init pods`: watches which static pods run, and says each change once in the boot log. It ends when it is told to.
//!
//! Looks at the manifests, the pods' cgroups, containerd's bundles (which say what a container is) and the log
//! folders, and decides nothing: that is `podium_init::podstate`. PID 1 has no part in it. A look costs a few system
//! calls a container; looks are quick only while a pod is on its way.

mod look;

use crate::kmsg;
use crate::sys::poll::{self, For};
use crate::sys::{clock, file, notify, signals};
use anyhow::Result;
use look::Node;
use nix::sys::signal::{SigSet, Signal};
use podium_init::manifests::{MAX_MANIFEST, is_ours};
use podium_init::podstate::{Pod, Watch, memory};
use podium_init::{notices, paths};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// PID 1's memory as the kernel sums it up.
const MEMORY: &str = "/proc/1/smaps_rollup";

/// Watches until SIGTERM, and then looks once more: at shutdown it comes as soon as the last pod is gone.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    kmsg::start();
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    let signals = signals::receive(&ends)?;
    let mut watcher = Watcher {
        watch: Watch::new(clock::now()),
        manifests: Manifests::default(),
        node: Node::default(),
        told: None,
    };
    loop {
        let pause = watcher.look();
        if let Err(error) = poll::wait(&[(signals.as_fd(), For::Reading)], Some(pause)) {
            log::warn!("pods: {error}");
            std::thread::sleep(pause);
        }
        if signals.next().is_some() {
            watcher.look();
            return Ok(());
        }
    }
}

/// What is kept from one look to the next.
#[derive(Debug)]
struct Watcher {
    watch: Watch,
    manifests: Manifests,
    node: Node,
    /// What PID 1 was told last.
    told: Option<bool>,
}

impl Watcher {
    /// Looks, says what is new, and tells how long to rest.
    fn look(&mut self) -> Duration {
        let now = clock::now();
        if let Some(pods) = self.manifests.changed(Path::new(paths::MANIFESTS)) {
            self.watch.want(pods, now);
        }
        let sights = self.node.look(self.watch.pods());
        let news = self.watch.step(now, self.node.has_kubelet(), &sights);
        for line in &news.lines {
            kmsg::say(line);
        }
        let ready = self.watch.is_well();
        if self.told != Some(ready) {
            self.told = tell(ready).then_some(ready);
        }
        if news.first_ready {
            say_memory();
        }
        self.watch.pause(now)
    }
}

/// Tells PID 1 whether all pods run; whether that was heard.
fn tell(ready: bool) -> bool {
    let socket = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
    let said = notify::send(&socket, &format!("{}{}", notices::PODS, u8::from(ready)));
    said.inspect_err(|error| log::warn!("pods: {error}; a new config cannot prove itself")).is_ok()
}

fn say_memory() {
    match file::read(Path::new(MEMORY), 1 << 16) {
        Ok(text) => match memory(&String::from_utf8_lossy(&text)) {
            Some(line) => kmsg::say(&line),
            None => log::warn!("memory: {MEMORY} has no Pss and Pss_Anon"),
        },
        Err(error) => log::warn!("memory: {error:#}"),
    }
}

/// The manifests as they were last read.
#[derive(Debug, Default)]
struct Manifests {
    stamp: Option<SystemTime>,
    /// A folder's time has steps of some milliseconds: what is written within one of them is seen by a second look.
    again: bool,
}

impl Manifests {
    /// The pods of the manifests that are ours, if these may have changed.
    fn changed(&mut self, dir: &Path) -> Option<Vec<Pod>> {
        let stamp = std::fs::metadata(dir).and_then(|meta| meta.modified()).ok();
        if stamp == self.stamp && !self.again && self.stamp.is_some() {
            return None;
        }
        self.again = stamp != self.stamp;
        self.stamp = stamp;
        let entries = std::fs::read_dir(dir).ok()?.flatten();
        let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
        let read = |path: &Path| Pod::from_manifest(&file::read(path, MAX_MANIFEST).ok()?);
        Some(ours.filter_map(|entry| read(&entry.path())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn manifests_are_read_when_the_folder_changes_and_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, uid: &str| {
            let text =
                json!({"metadata": {"name": name, "namespace": "n", "uid": uid}, "spec": {"containers": []}});
            file::replace(
                &dir.path().join(format!("podium-n-{name}.yaml")),
                text.to_string().as_bytes(),
                0o600,
            )
            .unwrap();
        };
        let mut manifests = Manifests::default();
        write("a", "1");
        std::fs::write(dir.path().join("other.yaml"), "not ours").unwrap();
        assert_eq!(manifests.changed(dir.path()).map(|pods| pods.len()), Some(1));
        write("b", "2");
        assert_eq!(manifests.changed(dir.path()).map(|pods| pods.len()), Some(2));
        let mut looks = 0;
        while manifests.changed(dir.path()).is_some() {
            looks += 1;
            assert!(looks < 3);
        }
        std::fs::remove_file(dir.path().join("podium-n-a.yaml")).unwrap();
        write("c", "3");
        // As when the last change is long ago.
        std::fs::File::open(dir.path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let pods = manifests.changed(dir.path()).unwrap();
        let mut names: Vec<_> = pods.iter().map(|pod| pod.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["n/b", "n/c"]);
    }

    #[test]
    fn a_missing_folder_changes_nothing() {
        assert_eq!(Manifests::default().changed(Path::new("/no/such/folder")), None);
    }
}
