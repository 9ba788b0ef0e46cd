//! A model of the kubelet's file source: which static pods it runs after what was done to its manifest directory.
//!
//! It follows pkg/kubelet/config/{file,file_linux,common,config}.go and what was seen of real kubelets. Operations are
//! data ([`Operation`]): the same list can be applied to the model and, through [`Place`], to a real directory that a
//! real kubelet watches; [`Kubelet::pods`] is then compared with the kubelet's own list. Time is in the operations: what
//! the kubelet does at once follows the operation, what it does every 20 s follows [`Operation::Relist`].
//!
//! It knows no admission, no image pulls and no probes: a pod that is read is a pod that runs. A write in place is seen
//! once, with its last bytes; a real kubelet may also read what stood there in between.

mod directory;
mod manifest;
mod operation;

pub use directory::{Directory, Steps};
pub use manifest::{MAX_FILE, Pod};
pub use operation::{Operation, Place};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What of a container a kubelet compares to decide whether it is to be restarted in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compares {
    /// Everything: up to 1.30.
    Everything,
    /// Name and image: from 1.31.
    Image,
}

/// Something that became of a pod; pods by their UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Its containers were started.
    Created(String),
    /// Its containers were ended.
    Killed(String),
    /// One container was ended and started again, in place.
    Restarted(String, String),
    /// Its manifest changed, and what runs did not.
    Ignored(String),
}

/// A pod's namespace and name, as in its manifest.
pub type Id = (String, String);

/// The model.
#[derive(Debug)]
pub struct Kubelet {
    node: String,
    compares: Compares,
    /// Whether node and file are in a UID that it makes.
    hashes_place: bool,
    /// Directories that exist or did, by number: a path may change hands, and a watch does not.
    directories: Vec<BTreeMap<String, Entry>>,
    at_path: Option<usize>,
    moved_away: Option<usize>,
    process: Option<Process>,
    /// By UID: containers outlive a kubelet.
    running: BTreeMap<String, Pod>,
    happened: Vec<Happened>,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File(Vec<u8>),
    Fifo,
    Link(String),
    Directory,
}

/// What a kubelet knows as long as it lives.
#[derive(Debug, Default)]
struct Process {
    watch: Watch,
    /// It opened a FIFO, and waits for a writer for ever.
    hung: bool,
    /// Pods by ID; of two with one ID the last that was read.
    store: BTreeMap<Id, Pod>,
    /// What a file was when it was last read.
    id_of_file: BTreeMap<String, Id>,
}

/// The inotify watch.
#[derive(Debug, Default, PartialEq, Eq)]
enum Watch {
    /// There was no directory; it is tried again every second.
    #[default]
    Wanted,
    /// On the directory of this number, wherever that is.
    On(usize),
    /// The directory went; nobody notices.
    Dead,
}

impl Kubelet {
    /// A kubelet that is not yet started, with an empty manifest directory.
    #[must_use]
    pub fn new(node: &str, compares: Compares) -> Self {
        Self {
            node: node.to_owned(),
            compares,
            hashes_place: true,
            directories: vec![BTreeMap::new()],
            at_path: Some(0),
            moved_away: None,
            process: None,
            running: BTreeMap::new(),
            happened: Vec::new(),
        }
    }

    /// The same, as 1.20 is: its hash begins anew with the pod, so that node and file, which it was given before, are
    /// not in the UID, and a file that is renamed is the same pod.
    #[must_use]
    pub fn hashing_pods_alone(self) -> Self {
        Self { hashes_place: false, ..self }
    }

    /// Reads a file.
    fn read(&self, bytes: &[u8], file: &str) -> Option<(Id, Pod)> {
        manifest::read(bytes, if self.hashes_place { (&self.node, file) } else { ("", "") })
    }

    /// The pods that it wants, as its list has them; empty while it is stopped. UIDs that it makes itself begin with
    /// `hash-` and say only which are the same.
    #[must_use]
    pub fn pods(&self) -> BTreeMap<Id, Pod> {
        let process = self.process.as_ref();
        let running = |pod: &Pod| self.running.get(&pod.uid).cloned();
        let wanted = process.into_iter().flat_map(|process| &process.store);
        wanted.filter_map(|(id, pod)| Some((id.clone(), running(pod)?))).collect()
    }

    /// Pods whose containers run, by UID; also those that no kubelet looks after.
    #[must_use]
    pub fn running(&self) -> &BTreeMap<String, Pod> {
        &self.running
    }

    /// What became of pods since the last call, in this order.
    pub fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// Whether it reads nothing any more until it is started again.
    #[must_use]
    pub fn is_hung(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.hung)
    }

    /// The regular files in the directory, with their bytes.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let here = self.at_path.and_then(|number| self.directories.get(number));
        let file = |(name, entry): (&String, &Entry)| match entry {
            Entry::File(bytes) => Some((name.clone(), bytes.clone())),
            Entry::Fifo | Entry::Link(_) | Entry::Directory => None,
        };
        here.into_iter().flatten().filter_map(file).collect()
    }

    /// Puts an entry at the path's directory; the kubelet hears of it.
    fn put(&mut self, name: &str, entry: Entry) -> Result<()> {
        let number = self.at_path.context("there is no directory")?;
        self.directories[number].insert(name.to_owned(), entry);
        self.added(number, name);
        Ok(())
    }

    fn take(&mut self, number: usize, name: &str) -> Result<Entry> {
        let entry = self.directories[number].remove(name).with_context(|| format!("there is no {name}"))?;
        self.removed(number, name);
        Ok(entry)
    }

    /// Removes everything in a directory, and the directory.
    fn remove_directory(&mut self, number: usize) -> Result<()> {
        let names: Vec<String> = self.directories[number].keys().cloned().collect();
        names.iter().try_for_each(|name| self.take(number, name).map(drop))?;
        if let Some(process) = self.process.as_mut().filter(|process| process.watch == Watch::On(number)) {
            process.watch = Watch::Dead;
        }
        Ok(())
    }

    /// The process, if it hears of what happens in this directory under this name.
    fn hearing(&mut self, number: usize, name: &str) -> Option<&mut Process> {
        let process = self.process.as_mut()?;
        (!process.hung && process.watch == Watch::On(number) && !name.starts_with('.')).then_some(process)
    }

    /// consumeWatchEvent, for what was made, written, or got another mode or time. The name is looked up at the path,
    /// wherever the watch is.
    fn added(&mut self, number: usize, name: &str) {
        let resolved = self.at_path.and_then(|number| resolve(&self.directories[number], name)).cloned();
        let read = match &resolved {
            Some(Entry::File(bytes)) => self.read(bytes, name),
            _ => None,
        };
        let Some(process) = self.hearing(number, name) else { return };
        match resolved {
            Some(Entry::Fifo) => process.hung = true,
            Some(Entry::File(_)) => {
                let Some((id, pod)) = read else { return };
                process.id_of_file.insert(name.to_owned(), id.clone());
                process.store.insert(id, pod);
                self.set_from_store();
            }
            Some(Entry::Link(_) | Entry::Directory) | None => {}
        }
    }

    /// consumeWatchEvent, for what went: by what the file was, whether another file has the same pod or not.
    fn removed(&mut self, number: usize, name: &str) {
        let Some(process) = self.hearing(number, name) else { return };
        let Some(id) = process.id_of_file.get(name) else { return };
        if process.store.remove(id).is_some() {
            process.id_of_file.remove(name);
            self.set_from_store();
        }
    }

    /// listConfig.
    fn list(&mut self) {
        let at_path = self.at_path;
        let Some(process) = self.process.as_mut().filter(|process| !process.hung) else { return };
        if process.watch == Watch::Wanted
            && let Some(number) = at_path
        {
            process.watch = Watch::On(number);
        }
        let directory = at_path.and_then(|number| self.directories.get(number));
        let names = directory.into_iter().flat_map(BTreeMap::keys).filter(|name| !name.starts_with('.'));
        let found: Vec<(String, (Id, Pod))> = names
            .filter_map(|name| match directory.and_then(|directory| resolve(directory, name)) {
                Some(Entry::File(bytes)) => Some((name.clone(), self.read(bytes, name)?)),
                _ => None,
            })
            .collect();
        let Some(process) = self.process.as_mut() else { return };
        let mut pods = BTreeMap::new();
        for (name, (id, pod)) in found {
            process.id_of_file.insert(name, id.clone());
            pods.insert(id, pod);
        }
        // With none at all it says so and leaves the store as it was: the next event brings old pods back.
        if pods.is_empty() {
            return self.set(&BTreeMap::new());
        }
        process.store = pods;
        self.set_from_store();
    }

    fn set_from_store(&mut self) {
        let wanted = self.process.as_ref().map(|process| process.store.clone()).unwrap_or_default();
        self.set(&wanted);
    }

    /// podStorage.merge, by UID, and what the kubelet makes of it.
    fn set(&mut self, wanted: &BTreeMap<Id, Pod>) {
        let uids: BTreeSet<&str> = wanted.values().map(|pod| pod.uid.as_str()).collect();
        let gone: Vec<String> =
            self.running.keys().filter(|uid| !uids.contains(uid.as_str())).cloned().collect();
        for uid in gone {
            self.running.remove(&uid);
            self.happened.push(Happened::Killed(uid));
        }
        for pod in wanted.values() {
            if let Some(running) = self.running.get_mut(&pod.uid) {
                update(running, pod, self.compares, &mut self.happened);
            } else {
                self.happened.push(Happened::Created(pod.uid.clone()));
                self.running.insert(pod.uid.clone(), pod.clone());
            }
        }
    }
}

impl Place for Kubelet {
    fn apply(&mut self, operation: &Operation) -> Result<()> {
        let here = self.at_path.context("there is no directory");
        match operation {
            Operation::Rename { file, bytes } | Operation::Write { file, bytes } => {
                self.put(file, Entry::File(bytes.clone()))?;
            }
            Operation::Move { from, to } => {
                let entry = self.take(here?, from)?;
                self.put(to, entry)?;
            }
            Operation::Delete(name) => drop(self.take(here?, name)?),
            Operation::Touch(name) | Operation::Chmod(name) => {
                let number = here?;
                ensure!(self.directories[number].contains_key(name), "there is no {name}");
                self.added(number, name);
            }
            Operation::Fifo(name) => self.put(name, Entry::Fifo)?,
            Operation::Symlink { file, target } => self.put(file, Entry::Link(target.clone()))?,
            Operation::Subdirectory(name) => self.put(name, Entry::Directory)?,
            Operation::ReplaceDirectory(files) => {
                let files = files.iter().map(|(name, bytes)| (name.clone(), Entry::File(bytes.clone())));
                self.directories.push(files.collect());
                self.moved_away = self.at_path.replace(self.directories.len() - 1);
            }
            Operation::RemoveReplaced => {
                let number = self.moved_away.take().context("none was moved away")?;
                self.remove_directory(number)?;
            }
            Operation::RemoveDirectory => {
                self.remove_directory(here?)?;
                self.at_path = None;
            }
            Operation::Relist => self.list(),
            Operation::StopKubelet => self.process = None,
            Operation::StartKubelet => {
                ensure!(self.process.is_none(), "the kubelet runs");
                self.process = Some(Process::default());
                let before = std::mem::take(&mut self.happened);
                self.list();
                let started = std::mem::replace(&mut self.happened, before);
                // New pods begin before the old ones are found to be nobody's.
                let (ended, begun): (Vec<_>, Vec<_>) =
                    started.into_iter().partition(|happened| matches!(happened, Happened::Killed(_)));
                self.happened.extend(begun.into_iter().chain(ended));
            }
        }
        Ok(())
    }
}

/// What a name leads to; the target of a link is a name in the same directory.
fn resolve<'d>(directory: &'d BTreeMap<String, Entry>, name: &str) -> Option<&'d Entry> {
    // As many links as there are entries: more is a circle.
    let mut entry = directory.get(name)?;
    for _ in 0..directory.len() {
        let Entry::Link(target) = entry else { return Some(entry) };
        entry = directory.get(target)?;
    }
    None
}

/// A changed pod under its old UID: containers that differ in what is compared are restarted, with all that is new.
fn update(running: &mut Pod, pod: &Pod, compares: Compares, happened: &mut Vec<Happened>) {
    if running == pod {
        return;
    }
    let key = |container: &Value| match compares {
        Compares::Everything => container.clone(),
        Compares::Image => container["image"].clone(),
    };
    let mut in_place = Vec::new();
    for (name, container) in &pod.containers {
        if running.containers.get(name).map(key) != Some(key(container)) {
            in_place.push(Happened::Restarted(pod.uid.clone(), name.clone()));
            running.containers.insert(name.clone(), container.clone());
        }
    }
    running.containers.retain(|name, _| pod.containers.contains_key(name));
    if in_place.is_empty() && running.containers != pod.containers {
        in_place.push(Happened::Ignored(pod.uid.clone()));
    }
    happened.append(&mut in_place);
}
