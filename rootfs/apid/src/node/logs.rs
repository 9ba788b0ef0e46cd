//! What services and pods have said: service logs as the log writer keeps them, pods' as the kubelet does.
//!
//! Pods' logs are found by their names alone, so this works without containerd and the kubelet. Their lines are the
//! CRI's own, with time and stream; files that the kubelet has compressed are not read.

use super::logfiles::{self, Files};
use super::output::{Fault, Sink};
use super::walk;
use crate::places::Places;
use podium_init::control::is_service_name;
use podium_init::loglines::OLD_FILES;
use podium_init::paths;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the kubelet keeps pods' logs.
const PODS: &str = "/var/log/pods";
/// One link a container, by which its id is found.
const CONTAINERS: &str = "/var/log/containers";
/// Pods, containers of a pod and files of a container that are looked at.
const NAMES_MAX: usize = 10_000;
/// The namespace of services.
const SYSTEM: &str = "system";
/// As in `containers`: so much of an id names a container.
const SHORT_ID: usize = 12;

/// Whose log.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Wanted {
    namespace: String,
    id: String,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    tail: Option<u64>,
}

/// Tells a log.
pub(super) fn tell(places: &Places, wanted: &Wanted, sink: &Sink) -> Result<(), Fault> {
    if wanted.namespace == SYSTEM {
        if !is_service_name(&wanted.id) {
            return Err(Fault::not_found(format!("there is no service {:?}", short(&wanted.id))));
        }
        let known = services(places);
        if !known.contains(&wanted.id) {
            let known = known.join(", ");
            return Err(Fault::not_found(format!(
                "no service has a log {:?}; there are: {known}",
                wanted.id
            )));
        }
        let log = Service { folder: places.at(paths::LOGS), name: wanted.id.clone() };
        return logfiles::tell(&log, wanted.tail, wanted.follow, sink);
    }
    let log = Container::find(places, &wanted.id)?;
    logfiles::tell(&log, wanted.tail, wanted.follow, sink)
}

/// The services that have a log.
pub(super) fn ids(places: &Places) -> Value {
    json!({"ok": true, "ids": services(places)})
}

fn services(places: &Places) -> Vec<String> {
    let entries = std::fs::read_dir(places.at(paths::LOGS)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let ids = names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned));
    let mut ids: Vec<String> = ids.filter(|name| is_service_name(name)).take(NAMES_MAX).collect();
    ids.sort();
    ids
}

/// What somebody asked for, short enough to be said again.
fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

fn folder(path: &Path) -> Result<OwnedFd, Fault> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .map_err(|error| Fault::of(&path.display().to_string(), error))
}

/// A service's: `NAME.log`, and `NAME.log.1` to `.3`, the newest of the old ones first.
struct Service {
    folder: PathBuf,
    name: String,
}

impl Files for Service {
    fn open(&self) -> Result<(u64, Vec<File>), Fault> {
        let folder = folder(&self.folder)?;
        let mut files: Vec<File> = Vec::new();
        // The newest first: one that is put aside meanwhile is met again under its next name, and none is missed.
        for n in 0..=OLD_FILES {
            let name = if n == 0 { format!("{}.log", self.name) } else { format!("{}.log.{n}", self.name) };
            match walk::log_file(&folder, Path::new(&name)) {
                Ok(file) if files.iter().any(|known| is_same(known, &file)) => {}
                Ok(file) => files.push(file),
                Err(fault) if n == 0 => return Err(fault),
                Err(_) => {}
            }
        }
        files.reverse();
        Ok((0, files))
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let inode = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    inode(one) == inode(other)
}

/// A container's, in `<namespace>_<pod>_<uid>/<container>`: `N.log` for its Nth life, `N.log.<time>` put aside.
#[derive(Debug)]
struct Container {
    folder: PathBuf,
    /// From [`Self::folder`] on.
    inner: PathBuf,
    /// Which life; none: the last one.
    life: Option<u64>,
}

impl Container {
    /// By `namespace/pod:container`, with or without the id that `containers` shows behind.
    fn find(places: &Places, id: &str) -> Result<Self, Fault> {
        let none =
            || Fault::not_found(format!("there is no log of {:?}; `containers` lists them", short(id)));
        let (pod, container) = id.split_once(':').ok_or_else(|| {
            Fault::invalid(format!("{:?} names no container; write namespace/pod:container", short(id)))
        })?;
        let (namespace, pod) = pod.split_once('/').ok_or_else(none)?;
        let (container, instance) = match container.split_once(':') {
            Some((container, instance)) => (container, Some(instance)),
            None => (container, None),
        };
        let names = [Some(namespace), Some(pod), Some(container), instance];
        if names.into_iter().flatten().any(|name| !is_name(name)) {
            return Err(Fault::invalid(format!("{:?} names no container", short(id))));
        }
        let root = places.at(PODS);
        let pods = folder(&root)?;
        let prefix = format!("{namespace}_{pod}_");
        let of_pod = walk::names(&pods, NAMES_MAX).into_iter().filter(|name| name.starts_with(&prefix));
        let inner = of_pod.map(|name| PathBuf::from(name).join(container));
        if let Some(instance) = instance {
            let place = by_link(places, &format!("{pod}_{namespace}_{container}-{instance}"), instance.len());
            let (name, life) = place.ok_or_else(none)?;
            let inner = inner.into_iter().find(|inner| *inner == name).ok_or_else(none)?;
            return Ok(Self { folder: root, inner, life: Some(life) });
        }
        // A pod of that name that was there before may have left its logs.
        let newest = inner.filter_map(|inner| {
            let folder = walk::log_folder(&pods, &inner).ok()?;
            Some((rustix::fs::fstat(folder).ok()?.st_mtime, inner))
        });
        let (_, inner) = newest.max().ok_or_else(none)?;
        Ok(Self { folder: root, inner, life: None })
    }
}

/// What the link of a container says: its folder below that of pods, and its life. The link itself is never followed.
fn by_link(places: &Places, prefix: &str, length: usize) -> Option<(PathBuf, u64)> {
    if length < SHORT_ID {
        return None;
    }
    let folder = folder(&places.at(CONTAINERS)).ok()?;
    let name = walk::names(&folder, NAMES_MAX).into_iter().find(|name| name.starts_with(prefix))?;
    let target = rustix::fs::readlinkat(&folder, name.as_str(), Vec::new()).ok()?;
    let target = PathBuf::from(target.to_str().ok()?);
    let inner = target.strip_prefix(PODS).ok()?;
    let life = inner.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
    Some((inner.parent()?.to_owned(), life))
}

/// A name of Kubernetes, or an id: nothing that is a path.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        && !name.starts_with('.')
}

impl Files for Container {
    fn open(&self) -> Result<(u64, Vec<File>), Fault> {
        let pods = folder(&self.folder)?;
        let folder = walk::log_folder(&pods, &self.inner)?;
        let names = walk::names(&folder, NAMES_MAX);
        let life_of = |name: &str| name.split_once(".log").and_then(|(life, _)| life.parse::<u64>().ok());
        let life = self.life.or_else(|| names.iter().filter_map(|name| life_of(name)).max());
        let Some(life) = life else {
            return Err(Fault::not_found("the container has not begun its log"));
        };
        let current = format!("{life}.log");
        // Times in names sort as text; the one that is written has none and comes last.
        let old = names.iter().filter(|name| {
            let rest = name.strip_prefix(&current).and_then(|rest| rest.strip_prefix('.'));
            rest.is_some_and(|rest| !rest.ends_with(".gz") && !rest.ends_with(".tmp"))
        });
        let mut files: Vec<File> =
            old.filter_map(|name| walk::log_file(&folder, Path::new(name)).ok()).collect();
        let last = walk::log_file(&folder, Path::new(&current))?;
        // Put aside between both looks.
        files.retain(|file| !is_same(file, &last));
        files.push(last);
        Ok((life, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn node() -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("var/log/podium/kubelet.log", "c\n"),
            ("var/log/podium/kubelet.log.1", "b\n"),
            ("var/log/podium/kubelet.log.2", "a\n"),
            ("var/log/pods/default_web-node_1/c/0.log", "first\n"),
            ("var/log/pods/default_web-node_1/c/1.log.20260101-000000", "old\n"),
            ("var/log/pods/default_web-node_1/c/1.log.20260101-000001.gz", "?"),
            ("var/log/pods/default_web-node_1/c/1.log", "new\n"),
            ("secret", "secret"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let places = Places::below(Some(root.path()));
        (root, places)
    }

    fn text(log: &impl Files) -> Result<String, Fault> {
        let mut text = String::new();
        log.open()?.1.into_iter().for_each(|mut file| {
            file.read_to_string(&mut text).unwrap();
        });
        Ok(text)
    }

    #[test]
    fn logs_are_told_from_the_oldest_file_on() {
        let (root, places) = node();
        let service = Service { folder: places.at(paths::LOGS), name: "kubelet".to_owned() };
        assert_eq!(text(&service).unwrap(), "a\nb\nc\n");
        let find = |id: &str| Container::find(&places, id).and_then(|log| text(&log));
        assert_eq!(find("default/web-node:c").unwrap(), "old\nnew\n");
        std::fs::create_dir_all(root.path().join("var/log/containers")).unwrap();
        let link = root.path().join("var/log/containers/web-node_default_c-0123456789abcdef.log");
        std::os::unix::fs::symlink("/var/log/pods/default_web-node_1/c/0.log", link).unwrap();
        assert_eq!(find("default/web-node:c:0123456789ab").unwrap(), "first\n");
        for none in
            ["default/web:c", "default/web-node:d", "other/web-node:c", "default/web-node:c:ffffffffffff"]
        {
            assert!(find(none).is_err(), "{none}");
        }
    }

    #[test]
    fn neither_a_path_nor_a_link_leads_out_of_the_logs() {
        let (root, places) = node();
        for id in [
            "../web:c",
            "default/..:c",
            "default/web-node:../c",
            "default/web-node:c:../../../secret",
            "x",
            "a/b",
        ] {
            assert!(Container::find(&places, id).and_then(|log| text(&log)).is_err(), "{id}");
        }
        let pod = root.path().join("var/log/pods/default_web-node_1");
        std::os::unix::fs::symlink("../../../../../secret", pod.join("c/2.log")).unwrap();
        assert!(Container::find(&places, "default/web-node:c").and_then(|log| text(&log)).is_err());
        std::fs::create_dir_all(root.path().join("elsewhere/l")).unwrap();
        std::fs::write(root.path().join("elsewhere/l/0.log"), "secret").unwrap();
        std::os::unix::fs::symlink(root.path().join("elsewhere/l"), pod.join("l")).unwrap();
        assert!(Container::find(&places, "default/web-node:l").and_then(|log| text(&log)).is_err());
        std::os::unix::fs::symlink(root.path().join("secret"), root.path().join("var/log/podium/x.log"))
            .unwrap();
        let service = Service { folder: places.at(paths::LOGS), name: "x".to_owned() };
        assert!(text(&service).is_err());
    }
}
