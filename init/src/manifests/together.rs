//! Rules that need two pods: IDs and ports of the host belong to one pod each.
//!
//! In Kubernetes: pkg/kubelet/config/config.go, filterInvalidPods, and validation.go, checkHostPortConflicts, for one
//! pod; pkg/scheduler/framework/plugins/nodeports, by which the kubelet refuses the second of two pods.

use super::path::Path;
use super::{HostPort, Manifest, Protocol};
use crate::config::Problem;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Gives the place of a path.
type Locate<'a> = &'a dyn Fn(&str) -> Option<(usize, usize)>;

/// One of the config's pods on its way through a plan.
pub(super) struct Draft {
    /// Its place in `machine.pods`.
    pub(super) index: usize,
    /// Static pod ID, or what stands for it.
    pub(super) id: String,
    /// It has a namespace and a name, so that `id` is an ID.
    pub(super) named: bool,
    /// `None` once it is refused.
    pub(super) manifest: Option<Manifest>,
}

/// Refuses all pods that share an ID, also with one that is refused already: it may be the one that was meant.
pub(super) fn refuse_shared_ids(
    drafts: &mut [Draft],
    list: &Path<'_>,
    locate: Locate<'_>,
    problems: &mut Vec<Problem>,
) {
    let mut first = BTreeMap::new();
    let mut shared = Vec::new();
    for draft in drafts.iter().filter(|draft| draft.named) {
        match first.entry(draft.id.as_str()) {
            Entry::Vacant(entry) => {
                entry.insert(draft.index);
            }
            Entry::Occupied(entry) => shared.push((*entry.get(), draft.index)),
        }
    }
    for (one, other) in shared {
        if let Some(draft) = drafts.get_mut(one) {
            draft.manifest = None;
        }
        let Some(draft) = drafts.get_mut(other) else { continue };
        draft.manifest = None;
        let path = list.index(other).key("metadata").key("name").to_string();
        let place = locate(&path);
        let message =
            format!("pods[{one}] and pods[{other}] both have the ID {}, so neither is run", draft.id);
        let remedy = "give one of them another name or namespace";
        problems.push(Problem::error(path, message).at(place).remedy(remedy).pod(draft.id.as_str()));
    }
}

/// Refuses a pod that wants a port of the host which it, or a pod before it, has already.
pub(super) fn refuse_shared_ports(
    drafts: &mut [Draft],
    list: &Path<'_>,
    locate: Locate<'_>,
    problems: &mut Vec<Problem>,
) {
    let mut taken: Taken = BTreeMap::new();
    for draft in drafts {
        let Some(manifest) = draft.manifest.take() else { continue };
        let mut own: Taken = BTreeMap::new();
        let clash = manifest.host_ports.iter().find_map(|port| {
            let other = holder(&taken, port).or_else(|| holder(&own, port));
            let clash = other.map(|other| (*port, other.to_owned()));
            own.entry(port.key()).or_default().push((*port, draft.id.clone()));
            clash
        });
        if let Some((port, other)) = clash {
            let path = list.index(draft.index).key("spec").to_string();
            let place = locate(&path);
            let message = if other == draft.id {
                format!("{other} wants {port} twice")
            } else {
                format!("{} wants {port}, which {other} has", draft.id)
            };
            let remedy = "give one of them another hostPort";
            problems.push(Problem::error(path, message).at(place).remedy(remedy).pod(draft.id.as_str()));
            continue;
        }
        for (key, mut ports) in own {
            taken.entry(key).or_default().append(&mut ports);
        }
        draft.manifest = Some(manifest);
    }
}

/// Ports that are taken, each with the ID of the pod that has it.
type Taken = BTreeMap<(u16, Protocol), Vec<(HostPort, String)>>;

/// The pod that has a port already, on an address that this one would need.
fn holder<'t>(taken: &'t Taken, port: &HostPort) -> Option<&'t str> {
    let same = taken.get(&port.key())?;
    same.iter().find(|(other, _)| port.collides(other)).map(|(_, id)| id.as_str())
}
