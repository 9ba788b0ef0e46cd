//! One look at the pods of a node: cgroups, containerd's bundles, log folders.
//!
//! The kubelet puts a pod below `kubepods/`, by its QoS class perhaps one folder deeper, with one cgroup for each
//! container and for the sandbox, named by the container's id. What an id is stands in its bundle's `config.json`;
//! whether a container has started shows by its processes: before that there is only runc itself. Both stay true of
//! an id, so they are asked once.

use crate::sys::cgroup::POD_FOLDERS;
use crate::sys::file;
use podium_init::podstate::{Pod, Sight};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A bundle's `config.json`; with every capability and mount listed it has about 10 KiB.
const BUNDLE_MAX: usize = 1 << 20;
/// A kernel file of a cgroup: PIDs of a container with thousands of processes.
const CGROUP_MAX: usize = 1 << 18;

/// Where a node has what, and what is known of the containers already.
#[derive(Debug)]
pub(super) struct Node {
    groups: PathBuf,
    bundles: PathBuf,
    logs: PathBuf,
    proc: PathBuf,
    containers: BTreeMap<String, Known>,
}

/// What a look at an id has shown.
#[derive(Debug, Clone, Default)]
struct Known {
    role: Option<Role>,
    started: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Sandbox,
    Container(String),
}

/// The little of an OCI runtime config that matters here.
#[derive(Deserialize)]
struct Bundle {
    annotations: BTreeMap<String, String>,
}

impl Default for Node {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl Node {
    fn at(root: &Path) -> Self {
        Self {
            groups: root.join("sys/fs/cgroup"),
            bundles: root.join("run/containerd/io.containerd.runtime.v2.task/k8s.io"),
            logs: root.join("var/log/pods"),
            proc: root.join("proc"),
            containers: BTreeMap::new(),
        }
    }

    /// A kubelet has begun to work since the machine started: it has made the cgroup of all pods.
    pub(super) fn has_kubelet(&self) -> bool {
        self.groups.join("kubepods").is_dir()
    }

    /// Looks at each of `pods`, by UID. A pod of which there is nothing is left out.
    pub(super) fn look<'p>(&mut self, pods: impl Iterator<Item = &'p Pod>) -> BTreeMap<String, Sight> {
        let before = std::mem::take(&mut self.containers);
        pods.map(|pod| (pod.uid.clone(), self.look_at(pod, &before))).collect()
    }

    fn look_at(&mut self, pod: &Pod, before: &BTreeMap<String, Known>) -> Sight {
        let mut sight = Sight::default();
        for folder in POD_FOLDERS {
            let group = self.groups.join(folder).join(format!("pod{}", pod.uid));
            if !is_populated(&group) {
                continue;
            }
            sight.populated = true;
            for id in folders(&group) {
                let cgroup = group.join(&id);
                if !is_populated(&cgroup) {
                    continue;
                }
                let known = self.know(&id, &cgroup, before.get(&id));
                match (&known.role, known.started) {
                    (_, false) => {}
                    (Some(Role::Sandbox), true) => sight.sandbox = true,
                    (Some(Role::Container(name)), true) => {
                        sight.running.insert(name.clone());
                    }
                    (None, true) => sight.unknown += 1,
                }
                self.containers.insert(id, known);
            }
        }
        if pod.may_finish {
            sight.logged = self.logged(&pod.uid);
        }
        sight
    }

    /// What is known of a container that has a process.
    fn know(&self, id: &str, cgroup: &Path, before: Option<&Known>) -> Known {
        let mut known = before.cloned().unwrap_or_default();
        known.role = known.role.or_else(|| self.role(id));
        known.started = known.started || self.has_started(cgroup);
        known
    }

    fn role(&self, id: &str) -> Option<Role> {
        let text = file::read(&self.bundles.join(id).join("config.json"), BUNDLE_MAX).ok()?;
        let Bundle { mut annotations } = serde_json::from_slice(&text).ok()?;
        match annotations.get("io.kubernetes.cri.container-type")?.as_str() {
            "sandbox" => Some(Role::Sandbox),
            _ => annotations.remove("io.kubernetes.cri.container-name").map(Role::Container),
        }
    }

    /// Whether a process in the cgroup is the container's own. runc is the first one in it, until it becomes the
    /// container's program; one that holds none directly has moved them into groups of its own.
    fn has_started(&self, cgroup: &Path) -> bool {
        let Ok(text) = file::read(&cgroup.join("cgroup.procs"), CGROUP_MAX) else { return false };
        let text = String::from_utf8_lossy(&text);
        let mut names = text.lines().map(|pid| file::read_line(&self.proc.join(pid).join("comm")));
        // A process that has ended meanwhile shows nothing; the next look does.
        text.trim().is_empty()
            || names.any(|name| name.is_ok_and(|name| name != "runc" && !name.starts_with("runc:[")))
    }

    /// Containers of a pod that have a log file: `<namespace>_<name>-<node>_<uid>/<container>/<n>.log`.
    fn logged(&self, uid: &str) -> BTreeSet<String> {
        let suffix = format!("_{uid}");
        let pods = folders(&self.logs).into_iter().filter(|name| name.ends_with(&suffix));
        let containers = pods.flat_map(|name| {
            let folder = self.logs.join(name);
            folders(&folder).into_iter().map(move |container| (folder.join(&container), container))
        });
        let with_log = containers
            .filter(|(path, _)| std::fs::read_dir(path).is_ok_and(|mut files| files.next().is_some()));
        with_log.map(|(_, container)| container).collect()
    }
}

fn is_populated(cgroup: &Path) -> bool {
    let events = file::read(&cgroup.join("cgroup.events"), CGROUP_MAX).unwrap_or_default();
    String::from_utf8_lossy(&events).lines().any(|line| line == "populated 1")
}

/// Names of the folders in a folder; none when it is not there.
fn folders(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs::{create_dir_all, remove_dir_all, write};
    use tempfile::TempDir;

    /// A root folder with what a node has.
    struct World(TempDir, Node);

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let node = Node::at(root.path());
            World(root, node)
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            create_dir_all(path.parent().unwrap()).unwrap();
            write(path, text).unwrap();
        }

        /// A container whose one process has that name.
        fn container(&self, group: &str, id: &str, role: Option<serde_json::Value>, pid: u32, comm: &str) {
            let group = format!("sys/fs/cgroup/kubepods/{group}");
            self.put(&format!("{group}/cgroup.events"), "populated 1\nfrozen 0\n");
            self.put(&format!("{group}/{id}/cgroup.events"), "populated 1\nfrozen 0\n");
            self.put(&format!("{group}/{id}/cgroup.procs"), &format!("{pid}\n"));
            self.put(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
            if let Some(annotations) = role {
                let path = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/config.json");
                self.put(&path, &json!({"ociVersion": "1", "annotations": annotations}).to_string());
            }
        }

        fn look(&mut self) -> Sight {
            let pod =
                Pod { uid: "u".into(), name: "n/a".into(), containers: vec!["x".into()], may_finish: true };
            self.1.look([&pod].into_iter()).remove("u").unwrap()
        }
    }

    fn sandbox() -> Option<serde_json::Value> {
        Some(json!({"io.kubernetes.cri.container-type": "sandbox"}))
    }

    fn named(name: &str) -> Option<serde_json::Value> {
        let kind = "io.kubernetes.cri.container-type";
        Some(json!({kind: "container", "io.kubernetes.cri.container-name": name}))
    }

    #[test]
    fn nothing_is_seen_of_a_pod_that_is_not_there() {
        let mut world = World::new();
        assert_eq!(world.look(), Sight::default());
        assert!(!world.1.has_kubelet());
    }

    #[test]
    fn a_pod_is_found_in_each_class() {
        for class in ["podu", "burstable/podu", "besteffort/podu"] {
            let mut world = World::new();
            world.container(class, "1", sandbox(), 11, "pause");
            world.container(class, "2", named("x"), 12, "nginx");
            let sight = world.look();
            assert!(sight.sandbox && sight.populated && world.1.has_kubelet(), "{class}");
            assert_eq!(sight.running, BTreeSet::from(["x".to_owned()]), "{class}");
        }
    }

    #[test]
    fn runc_is_not_the_container_yet() {
        let mut world = World::new();
        for comm in ["runc", "runc:[2:INIT]"] {
            world.container("podu", "2", named("x"), 12, comm);
            assert!(world.look().running.is_empty(), "{comm}");
        }
        world.container("podu", "2", named("x"), 12, "runcible");
        assert_eq!(world.look().running.len(), 1);
        world.container("podu", "2", named("x"), 12, "runc");
        assert_eq!(
            world.look().running.len(),
            1,
            "what has started does not become runc again: this is an exec"
        );
    }

    #[test]
    fn a_container_with_groups_of_its_own_has_started() {
        let mut world = World::new();
        world.container("podu", "2", named("x"), 12, "runc");
        world.put("sys/fs/cgroup/kubepods/podu/2/cgroup.procs", "");
        assert_eq!(world.look().running.len(), 1);
    }

    #[test]
    fn one_that_has_ended_is_not_seen_and_its_successor_is() {
        let mut world = World::new();
        world.container("podu", "1", sandbox(), 11, "pause");
        world.container("podu", "2", named("x"), 12, "nginx");
        assert_eq!(world.look().running.len(), 1);
        world.put("sys/fs/cgroup/kubepods/podu/2/cgroup.events", "populated 0\n");
        assert_eq!((world.look().running.len(), world.look().sandbox), (0, true));
        world.container("podu", "3", named("x"), 13, "nginx");
        assert_eq!(world.look().running.len(), 1);
        remove_dir_all(world.0.path().join("sys/fs/cgroup/kubepods/podu")).unwrap();
        assert_eq!(world.look(), Sight::default());
        assert!(world.1.containers.is_empty(), "what is gone is forgotten");
    }

    #[test]
    fn a_container_without_a_bundle_is_counted_until_it_has_one() {
        let mut world = World::new();
        world.container("podu", "2", None, 12, "nginx");
        assert_eq!((world.look().unknown, world.look().running.len()), (1, 0));
        world.container("podu", "2", named("x"), 12, "nginx");
        assert_eq!((world.look().unknown, world.look().running.len()), (0, 1));
    }

    #[test]
    fn logs_are_found_by_the_pods_uid() {
        let mut world = World::new();
        world.put("var/log/pods/n_a-node_u/x/0.log", "");
        world.put("var/log/pods/n_a-node_other/y/0.log", "");
        create_dir_all(world.0.path().join("var/log/pods/n_a-node_u/z")).unwrap();
        assert_eq!(world.look().logged, BTreeSet::from(["x".to_owned()]));
    }
}
