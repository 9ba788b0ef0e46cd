//! `init pods`: watches which static pods run, and says each change once in the boot log. It ends when it is told to.
//!
//! Looks at the manifests, the pods' cgroups, containerd's bundles (which say what a container is) and the log
//! folders, and decides nothing: that is `podium_init::podstate`. PID 1 has no part in it. A look costs a few system
//! calls a container; looks are quick only while a pod is on its way.

mod look;

use crate::kmsg;
use crate::sys::poll::{self, For};
use crate::sys::{clock, file, mount, notify, reboot, signals};
use anyhow::Result;
use look::Node;
use nix::sys::signal::{SigSet, Signal};
use podium_init::manifests::{MAX_MANIFEST, is_ours};
use podium_init::podstate::{Pod, Watch, memory};
use podium_init::staticpods::{LIST_MAX, StaticPods};
use podium_init::{mounts, notices, paths};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// PID 1's memory as the kernel sums it up.
const MEMORY: &str = "/proc/1/smaps_rollup";
/// What is mounted; some 300 bytes a container.
const MOUNTS: &str = "/proc/self/mountinfo";
const MOUNTS_MAX: usize = 16 << 20;

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
        keeps_cgroups: !reboot::in_pid_namespace(),
    };
    loop {
        let pause = watcher.look();
        if let Err(error) = poll::wait(&[(signals.as_fd(), For::Reading)], Some(pause)) {
            log::warn!("pods: {error}");
            std::thread::sleep(pause);
        }
        if !signals.take().is_empty() {
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
    /// Not in a container, whose cgroups are its runtime's.
    keeps_cgroups: bool,
}

impl Watcher {
    /// Looks, says what is new, and tells how long to rest.
    fn look(&mut self) -> Duration {
        let now = clock::now();
        let list = Path::new(paths::STATIC_PODS);
        if let Some((pods, held)) = self.manifests.changed(Path::new(paths::MANIFESTS), list) {
            self.watch.want(pods, held, now);
        }
        let sights = self.node.look(self.watch.pods());
        let news = self.watch.step(now, self.node.has_kubelet(), &sights);
        for line in &news.lines {
            kmsg::say(line);
        }
        if !news.lines.is_empty() && self.keeps_cgroups {
            self.keeps_cgroups = keep_cgroup_options();
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

/// cgroup2's options are the whole hierarchy's: a privileged pod, for which runc mounts it without any, takes them from
/// the node. False when they cannot be given back.
fn keep_cgroup_options() -> bool {
    let Some(cgroups) = mounts::EARLY.iter().find(|mount| mount.target == mounts::CGROUPS) else {
        return false;
    };
    let Ok(table) = file::read(Path::new(MOUNTS), MOUNTS_MAX) else { return true };
    if !mounts::lacks_options(cgroups, &String::from_utf8_lossy(&table)) {
        return true;
    }
    let given = mount::remount(Path::new(mounts::CGROUPS), cgroups.flags, &cgroups.data);
    given
        .inspect_err(|error| log::warn!("pods: {error}; the cgroups' options stay as a pod has set them"))
        .is_ok()
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
    stamp: Option<[Option<SystemTime>; 2]>,
    /// A folder's time has steps of some milliseconds: what is written within one of them is seen by a second look.
    again: bool,
}

impl Manifests {
    /// The pods of the manifests that are ours, and how many pods of the list have a manifest that is held back, if
    /// these may have changed.
    fn changed(&mut self, dir: &Path, list: &Path) -> Option<(Vec<Pod>, usize)> {
        let stamp = [dir, list].map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok());
        if self.stamp == Some(stamp) && !self.again {
            return None;
        }
        self.again = self.stamp != Some(stamp);
        self.stamp = Some(stamp);
        let list = file::read(list, LIST_MAX).unwrap_or_default();
        let list: StaticPods = serde_json::from_slice(&list).unwrap_or_default();
        let held = list.pods.iter().filter(|pod| !pod.held.is_empty()).count();
        let entries = std::fs::read_dir(dir).ok()?.flatten();
        let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
        let read = |path: &Path| Pod::from_manifest(&file::read(path, MAX_MANIFEST).ok()?);
        Some((ours.filter_map(|entry| read(&entry.path())).collect(), held))
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
        let outside = tempfile::tempdir().unwrap();
        let list = outside.path().join("pods.json");
        let mut changed = || manifests.changed(dir.path(), &list).map(|(pods, held)| (pods.len(), held));
        write("a", "1");
        std::fs::write(dir.path().join("other.yaml"), "not ours").unwrap();
        assert_eq!(changed(), Some((1, 0)));
        write("b", "2");
        assert_eq!(changed(), Some((2, 0)));
        let mut looks = 0;
        while changed().is_some() {
            looks += 1;
            assert!(looks < 3);
        }
        let pod = |held: &str| {
            json!({"id": "n-c", "namespace": "n", "name": "c", "uid": "", "version": 0, "origin": "config",
                "file": "", "digest": "", "valid": true, "problems": [], "held": held})
        };
        let text = json!({"pods": [pod("for a port"), pod("")]}).to_string();
        file::replace(&list, text.as_bytes(), 0o600).unwrap();
        assert_eq!(changed(), Some((2, 1)), "the list alone has changed");
        std::fs::remove_file(dir.path().join("podium-n-a.yaml")).unwrap();
        write("c", "3");
        // As when the last change is long ago.
        std::fs::File::open(dir.path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let (pods, _) = manifests.changed(dir.path(), &list).unwrap();
        let mut names: Vec<_> = pods.iter().map(|pod| pod.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["n/b", "n/c"]);
    }

    #[test]
    fn a_missing_folder_changes_nothing() {
        let none = Path::new("/no/such/folder");
        assert_eq!(Manifests::default().changed(none, none), None);
    }
}
